//! Which paths are those of inference, for a proxy that passes on nothing else. Pure.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::front::LONGEST_PATH;
use super::paths::{Canonical, canonical, methods};

/// The canonical form of a path of the inference APIs: those of OpenAI, Anthropic and Ollama, and `/healthz`. `None` for all
/// others, such as `/api/v1` and the console. A path that names a model as Azure's SDK does is returned as it is.
///
/// A segment that a reverse proxy could take for a part of another path, such as `..%2f`, is refused.
pub fn inference_path(path: &str) -> Option<Cow<'_, str>> {
    if path.len() > LONGEST_PATH || !path.split('/').all(is_plain_segment) {
        return None;
    }
    let found = canonical(path);
    let known = found.as_ref().map_or(path, |canonical| &canonical.path);
    let is_inference = known == "/healthz"
        || known.starts_with("/v1/")
        || known.starts_with("/api/") && !known.starts_with("/api/v1/");
    methods(known).filter(|_| is_inference)?;
    Some(match found {
        Some(Canonical { path, model: None }) => Cow::Owned(path),
        _ => Cow::Borrowed(path),
    })
}

/// Whether a segment, decoded once, contains nothing that leads out of its place in the path.
fn is_plain_segment(segment: &str) -> bool {
    let Ok(decoded) = percent_decode_str(segment).decode_utf8() else { return false };
    let is_odd = |c: char| c.is_control() || "\\%?#;".contains(c);
    !decoded.contains(is_odd) && decoded.split('/').all(|part| part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::super::paths::PATHS;
    use super::*;

    #[test]
    fn paths_of_the_inference_apis_are_told_from_all_others() {
        for (written, path) in [
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/chat/completions/", "/v1/chat/completions"),
            ("/v1/v1/messages", "/v1/messages"),
            ("/models", "/v1/models"),
            ("/v1/models/a%2Fb", "/v1/models/a%2Fb"),
            ("/v1/models/qwen%3A7b", "/v1/models/qwen%3A7b"),
            ("/openai/deployments/m/embeddings", "/openai/deployments/m/embeddings"),
            ("/healthz", "/healthz"),
        ] {
            assert_eq!(inference_path(written).as_deref(), Some(path), "{written}");
        }
        let others = PATHS.iter().map(|(pattern, _)| pattern.replace(['{', '}'], ""));
        for path in others.filter(|path| !path.starts_with("/v1/")) {
            let is_open = path == "/healthz" || path.starts_with("/api/") && !path.starts_with("/api/v1/");
            assert_eq!(inference_path(&path).is_some(), is_open, "{path}");
        }
        for path in [
            "",
            "//api/v1/tokens",
            "/api//v1/tokens",
            "/api/./v1/tokens",
            "/v1/../api/v1/tokens",
            "/v1/models/..%2f..%2fapi%2fv1%2ftokens",
            "/v1/models/%2e%2e",
            "/v1/models/..%5c..%5capi",
            "/v1/models/..;a",
            "/v1/models/%252e%252e%252fapi",
            "/v1/models/a%00",
            "/v1/models/%ff",
            "/v1/models/a?b%3f",
            "/openai/deployments/..%2f..%2fapi%2fv1%2ftokens%3f/chat/completions",
            "/console/app.js",
            "/v1",
            "/v1/unknown/thing",
        ] {
            assert_eq!(inference_path(path), None, "{path}");
        }
    }
}
