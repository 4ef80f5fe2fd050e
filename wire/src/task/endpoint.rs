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
        }
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
}
