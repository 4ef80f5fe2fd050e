//! The paths of the hub: which there are, which methods each knows, and the other ways in which clients write them.

use std::borrow::Cow;

use actix_web::http::Method;
use percent_encoding::percent_decode_str;

/// Every path with its methods, as `Allow` names them. `{…}` stands for one segment; the first that fits counts. A path
/// that is missing here works, but tells nobody what its methods are.
const PATHS: &[(&str, &str)] = &[
    ("/", OPEN),
    ("*", OPEN),
    ("/healthz", OPEN),
    ("/readyz", OPEN),
    ("/favicon.ico", GET),
    ("/console/{file}", GET),
    ("/metrics", GET),
    ("/v1/chat/completions", POST),
    ("/v1/completions", POST),
    ("/v1/embeddings", POST),
    ("/v1/responses", POST),
    ("/v1/messages", POST),
    ("/v1/rerank", POST),
    ("/v1/models", GET),
    ("/v1/models/{id}", GET),
    ("/api/v1/llms", "GET, HEAD, POST"),
    ("/api/v1/llms/_provider-register", POST),
    ("/api/v1/llms/_provider-stream", GET),
    ("/api/v1/llms/_provider-heartbeat", POST),
    ("/api/v1/llms/_provider-drain", POST),
    ("/api/v1/llms/_provider-task/{id}/result", POST),
    ("/api/v1/llms/_provider-task/{id}/stream", POST),
    ("/api/v1/llms/{name}", "GET, HEAD, PUT, DELETE"),
    ("/api/v1/llms/{name}/members", GET),
    ("/api/v1/llms/{name}/tasks", GET),
    ("/api/v1/llms/{name}/infer", POST),
    ("/api/v1/agents", "GET, HEAD, POST"),
    ("/api/v1/agents/{name}", "GET, HEAD, PUT, DELETE"),
    ("/api/v1/agents/{name}/infer", POST),
    ("/api/v1/pools", GET),
    ("/api/v1/pools/{pool}", GET),
    ("/api/v1/pools/{pool}/members/{llm}", "PUT, DELETE"),
    ("/api/v1/names", GET),
    ("/api/v1/names/{name}", "GET, HEAD, PUT, DELETE"),
    ("/api/v1/inference-tasks", "GET, HEAD, POST"),
    ("/api/v1/inference-tasks/{id}", "GET, HEAD, DELETE"),
    ("/api/v1/inference-tasks/{id}/stream", GET),
    ("/api/v1/tokens", "GET, HEAD, POST"),
    ("/api/v1/tokens/{id}", "DELETE"),
    ("/api/v1/sessions", GET),
    ("/api/v1/whoami", GET),
    ("/api/v1/audit", GET),
    ("/api/v1/events", GET),
];

const GET: &str = "GET, HEAD";
const POST: &str = "POST";
/// Of what load balancers ask: `HAProxy`'s check is `OPTIONS /` unless it is told another.
const OPEN: &str = "GET, HEAD, OPTIONS";

/// The methods of a path, as `Allow` names them; `None` for one that there is not.
pub(crate) fn methods(path: &str) -> Option<&'static str> {
    PATHS.iter().find(|(pattern, _)| fits(pattern, path)).map(|(_, methods)| *methods)
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given => (),
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => (),
            _ => return false,
        }
    }
}

/// Whether `methods`, as [`methods`] gives them, have this one.
pub(crate) fn allows(methods: &str, method: &Method) -> bool {
    methods.split(", ").any(|known| known == method.as_str())
}

/// A path of the hub's that was written another way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Canonical {
    /// As the routes have it.
    pub(crate) path: String,
    /// The model that the path names, where it does (Azure's SDK).
    pub(crate) model: Option<String>,
}

/// The model that a request's path names.
#[derive(Debug, Clone)]
pub(crate) struct PathModel(pub(crate) String);

/// What clients mean by a path: base URLs with and without `/v1`, with two of them, with a slash too many, and Azure's.
/// `None` where it is the hub's own already.
pub(crate) fn canonical(path: &str) -> Option<Canonical> {
    // What nearly all calls have costs no look at the table.
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
    let path_is = |path: String| Canonical { path, model };
    match known {
        true if versioned != path => Some(path_is(versioned)),
        false if tidy != path => Some(Canonical { path: tidy.into_owned(), model: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_of_a_path_are_those_of_its_first_pattern() {
        for (path, expected) in [
            ("/", Some(OPEN)),
            ("/v1/models/a.b", Some(GET)),
            ("/v1/models/", None),
            ("/v1/models/a/b", None),
            ("/api/v1/llms/_provider-drain", Some(POST)),
            ("/api/v1/llms/x", Some("GET, HEAD, PUT, DELETE")),
            ("/api/v1/llms/_provider-task/t/stream", Some(POST)),
            ("/api/v1/tokens/1", Some("DELETE")),
            ("/v2/models", None),
            ("", None),
        ] {
            assert_eq!(methods(path), expected, "{path}");
        }
        assert!(allows("GET, HEAD", &Method::HEAD) && !allows("GET, HEAD", &Method::POST));
    }

    #[test]
    fn every_way_to_write_a_path_leads_to_the_one_that_there_is() {
        for (written, meant) in [
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
            ("/openai/v1/responses", "/v1/responses"),
            ("/openai/embeddings", "/v1/embeddings"),
            ("/api/v1/llms/", "/api/v1/llms"),
            ("/healthz/", "/healthz"),
            ("/api/v1//llms/a", "/api/v1/llms/a"),
        ] {
            let expected = Canonical { path: meant.into(), model: None };
            assert_eq!(canonical(written), Some(expected), "{written}");
        }
    }

    #[test]
    fn a_path_of_the_hubs_own_and_one_that_means_nothing_stay() {
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
    fn azures_sdk_names_the_model_in_the_path() {
        let of = |path: &str| canonical(path).map(|found| (found.path, found.model));
        for name in ["embeddings", "chat/completions"] {
            let found = of(&format!("/openai/deployments/my%2Emodel/{name}"));
            assert_eq!(found, Some((format!("/v1/{name}"), Some("my.model".into()))));
        }
        assert_eq!(of("/openai/deployments/x"), None);
        assert_eq!(of("/openai/deployments/x/"), Some(("/openai/deployments/x".into(), None)));
    }
}
