//! The hub's paths with their methods, and the canonical form of paths that clients spell differently. Pure.

use std::borrow::Cow;
use std::sync::LazyLock;

use actix_web::http::Method;
use percent_encoding::percent_decode_str;

use crate::http;

/// Every path with its methods in the form of `Allow`. `{…}` matches one segment; the first match counts, as in the router.
pub(super) static PATHS: LazyLock<Vec<(Cow<'static, str>, String)>> = LazyLock::new(|| {
    let routes = http::registered_routes();
    let mut paths: Vec<Cow<'static, str>> = CHECKED.iter().map(|path| (*path).into()).collect();
    for (_, path) in &routes {
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }
    let methods = |path: &Cow<'static, str>| {
        let has = |method: &&Method| match **method {
            Method::HEAD => routes.contains(&(Method::GET, path.clone())),
            Method::OPTIONS => CHECKED.contains(&&**path),
            _ => routes.contains(&((*method).clone(), path.clone())),
        };
        METHODS.iter().filter(has).map(Method::as_str).collect::<Vec<_>>().join(", ")
    };
    paths.into_iter().map(|path| (path.clone(), methods(&path))).collect()
});

/// Methods in the order of `Allow`.
const METHODS: &[Method] =
    &[Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Paths of health checks, some of which ask with `OPTIONS`: that of `HAProxy` is `OPTIONS /` by default.
const CHECKED: &[&str] = &["/", "/healthz", "/readyz"];

/// The methods of a path in the form of `Allow`; `None` for an unknown path.
pub(crate) fn methods(path: &str) -> Option<&'static str> {
    // The whole server, which has no routes.
    if path == "*" {
        return methods("/");
    }
    PATHS.iter().find(|(pattern, _)| matches(pattern, path)).map(|(_, methods)| &**methods)
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if pattern == segment => (),
            (Some(pattern), Some(segment)) if pattern.starts_with('{') && !segment.is_empty() => (),
            _ => return false,
        }
    }
}

/// Whether `methods`, a value of [`methods`], contains `method`.
pub(crate) fn allows(methods: &str, method: &Method) -> bool {
    methods.split(", ").any(|known| known == method.as_str())
}

/// The canonical form of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Canonical {
    pub(super) path: String,
    /// The model in the path of Azure's SDK.
    pub(super) model: Option<String>,
}

/// Extension of a request: the model that its path names.
#[derive(Debug, Clone)]
pub(crate) struct PathModel(pub(crate) String);

/// The canonical form of a path: clients have base URLs without `/v1`, with two of them, with a slash too many, and those of
/// Azure. `None` if the path is canonical or unknown.
pub(super) fn canonical(path: &str) -> Option<Canonical> {
    // The paths of nearly all calls are canonical: the table is not searched for them.
    let is_tidy = !path.ends_with('/') && !path.contains("//");
    if is_tidy && (path.starts_with("/api/") || path == "/v1/chat/completions") {
        return None;
    }
    let mut tidy = Cow::Borrowed(path);
    while tidy.contains("//") {
        tidy = tidy.replace("//", "/").into();
    }
    if tidy.len() > 1 && tidy.ends_with('/') && tidy != "/console/" {
        tidy = tidy[..tidy.len() - 1].to_owned().into();
    }
    let mut model = None;
    let mut rest: &str = &tidy;
    if let Some(azure) = rest.strip_prefix("/openai/") {
        rest = &rest["/openai".len()..];
        if let Some((name, _)) = azure.strip_prefix("deployments/").and_then(|tail| tail.split_once('/')) {
            rest = &azure["deployments/".len() + name.len()..];
            model = Some(percent_decode_str(name).decode_utf8_lossy().into_owned());
        }
    }
    while let Some(tail) = rest.strip_prefix("/v1/").filter(|_| rest.starts_with("/v1/v1/")) {
        rest = &rest[rest.len() - tail.len() - 1..];
    }
    let name = rest.strip_prefix("/v1").filter(|tail| tail.starts_with('/')).unwrap_or(rest);
    let name = if name == "/reranking" { "/rerank" } else { name };
    let versioned = format!("/v1{name}");
    let known = methods(&versioned).is_some();
    match known {
        true if versioned != path => Some(Canonical { path: versioned, model }),
        false if tidy != path => Some(Canonical { path: tidy.into_owned(), model: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET, HEAD";
    const POST: &str = "POST";

    #[test]
    fn a_path_has_the_methods_of_the_first_pattern_that_matches() {
        for (path, expected) in [
            ("/", Some("GET, HEAD, OPTIONS")),
            ("*", Some("GET, HEAD, OPTIONS")),
            ("/openapi.json", Some(GET)),
            ("/v1/chat/completions", Some("GET, HEAD, POST")),
            ("/v1/models/a.b", Some(GET)),
            ("/v1/models/", None),
            ("/v1/responses/input_tokens", Some(POST)),
            ("/v1/responses/resp_1", Some("GET, HEAD, DELETE")),
            ("/v1/messages/batches/b/results", Some(GET)),
            ("/v1/models/a/b", None),
            ("/api/v1/llms/_provider-drain", Some(POST)),
            ("/api/v1/llms/x", Some("GET, HEAD, PUT, DELETE")),
            ("/api/v1/llms/_provider-task/t/result", Some(POST)),
            ("/api/v1/llms/_provider-task/t/stream", None),
            ("/api/v1/tokens/1", Some("DELETE")),
            ("/api/v1/tokens/1/limits", Some("PATCH")),
            ("/v2/models", None),
            ("", None),
        ] {
            assert_eq!(methods(path), expected, "{path}");
        }
        assert!(allows("GET, HEAD", &Method::HEAD) && !allows("GET, HEAD", &Method::POST));
    }

    #[test]
    fn each_spelling_of_a_path_has_one_canonical_form() {
        for (written, path) in [
            ("/chat/completions", "/v1/chat/completions"),
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("//v1//chat/completions", "/v1/chat/completions"),
            ("/v1/v1/v1/messages", "/v1/messages"),
            ("/v1/v1/models/x", "/v1/models/x"),
            ("/models/x/", "/v1/models/x"),
            ("/models", "/v1/models"),
            ("/reranking", "/v1/rerank"),
            ("/v1/reranking", "/v1/rerank"),
            ("/v1/v1/reranking/", "/v1/rerank"),
            ("/rerank", "/v1/rerank"),
            ("/messages/count_tokens", "/v1/messages/count_tokens"),
            ("/openai/v1/responses/input_tokens", "/v1/responses/input_tokens"),
            ("/openai/v1/responses", "/v1/responses"),
            ("/openai/embeddings", "/v1/embeddings"),
            ("/api/v1/llms/", "/api/v1/llms"),
            ("/healthz/", "/healthz"),
            ("/api/v1//llms/a", "/api/v1/llms/a"),
        ] {
            let expected = Canonical { path: path.into(), model: None };
            assert_eq!(canonical(written), Some(expected), "{written}");
        }
    }

    #[test]
    fn canonical_and_unknown_paths_are_not_changed() {
        for path in [
            "/",
            "/v1/models",
            "/v1/models/x",
            "/v1",
            "/v1/v1",
            "/chat",
            "/openai",
            "/openai/x",
            "/console/",
            "/console/app.js",
            "/api/v1/llms/models",
            "/api/v1/chat/completions",
            "*",
        ] {
            assert_eq!(canonical(path), None, "{path}");
        }
    }

    #[test]
    fn the_path_of_azures_sdk_names_the_model() {
        let of = |path: &str| canonical(path).map(|canonical| (canonical.path, canonical.model));
        for name in ["embeddings", "chat/completions"] {
            let found = of(&format!("/openai/deployments/my%2Emodel/{name}"));
            assert_eq!(found, Some((format!("/v1/{name}"), Some("my.model".into()))));
        }
        assert_eq!(of("/openai/deployments/x"), None);
        assert_eq!(of("/openai/deployments/x/"), Some(("/openai/deployments/x".into(), None)));
    }
}
