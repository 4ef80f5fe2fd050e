//! The backend paths that a task can name.

/// A backend path (feature `endpoints`). The list is closed, so that a hub cannot reach an administrative path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `chat/completions`, the default.
    ChatCompletions,
    /// `completions`.
    Completions,
    /// `embeddings`.
    Embeddings,
    /// `responses`.
    Responses,
    /// `messages`.
    Messages,
    /// `rerank`.
    Rerank,
    /// `messages/count_tokens`.
    CountTokens,
    /// `responses/input_tokens`.
    InputTokens,
}

impl Endpoint {
    /// Parses the endpoint of a task; `None` for an unknown one.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None | Some("chat/completions") => Self::ChatCompletions,
            Some("completions") => Self::Completions,
            Some("embeddings") => Self::Embeddings,
            Some("responses") => Self::Responses,
            Some("messages") => Self::Messages,
            Some("rerank") => Self::Rerank,
            Some("messages/count_tokens") => Self::CountTokens,
            Some("responses/input_tokens") => Self::InputTokens,
            Some(_) => return None,
        })
    }

    /// Returns the path below `/v1/`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Rerank => "rerank",
            Self::CountTokens => "messages/count_tokens",
            Self::InputTokens => "responses/input_tokens",
        }
    }

    /// Whether the endpoint counts the tokens of a request without running it.
    pub const fn is_count(self) -> bool {
        matches!(self, Self::CountTokens | Self::InputTokens)
    }

    /// Whether the endpoint can stream its answer. The others do not have the key `stream`.
    pub const fn can_stream(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Rerank | Self::CountTokens | Self::InputTokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_endpoint_is_rejected() {
        assert_eq!(Endpoint::parse(Some("../slots")), None);
        assert_eq!(Endpoint::parse(None), Some(Endpoint::ChatCompletions));
    }

    #[test]
    fn a_count_is_parsed_from_its_path_and_has_no_stream() {
        for endpoint in [Endpoint::CountTokens, Endpoint::InputTokens] {
            assert_eq!(Endpoint::parse(Some(endpoint.as_str())), Some(endpoint));
            assert!(endpoint.is_count() && !endpoint.can_stream());
        }
        assert!(!Endpoint::Messages.is_count() && Endpoint::Messages.can_stream());
    }
}
