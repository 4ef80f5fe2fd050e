//! Compares the routes in the crate's sources with the table of routes in `access.rs`.

use super::*;

/// A02: fails if a route is registered and not in the table, or in the table and not registered.
#[test]
fn the_table_contains_exactly_the_registered_routes() {
    let known = TABLE.iter().map(|(method, path, ..)| (*method, *path)).chain(OPEN.iter().copied());
    let known: BTreeSet<_> = known.map(|(method, path)| (method.to_owned(), shape(path))).collect();
    let registered = registered();
    let missing: Vec<_> = registered.difference(&known).collect();
    let unregistered: Vec<_> = known.difference(&registered).collect();
    assert!(
        missing.is_empty() && unregistered.is_empty(),
        "not in the table: {missing:?}; in the table, not registered: {unregistered:?}"
    );
    assert!(registered.len() > 40);
    // `http/middleware/paths.rs` answers preflights and 405 from its own list of methods.
    for (method, path) in &registered {
        let known = methods(path).is_some_and(|methods| methods.split(", ").any(|one| one == method));
        assert!(known, "{method} {path} is not in http/middleware/paths.rs");
    }
}

/// Reads the crate's sources below `folder`, without tests.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") && !path.ends_with("console") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            let source = std::fs::read_to_string(path).unwrap();
            found.push(source.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

const SCOPE: &str = r#"config.service(scope("/api/v1/llms/_provider-task").default_service(to(route)));"#;

/// Every `.route(path, method().to(…))` in the sources.
fn registered() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut files = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    for source in files {
        // Removes `.service()` of a client and `.scope()` of a task-local value, which add no route.
        let mut source = source.replace(".service()", "").replace("CURRENT.scope(", "");
        if source.contains(SCOPE) {
            // This scope has one handler, which matches the rest of the path itself.
            for arm in source.split("Some((id, \"").skip(1) {
                let last = arm.split('"').next().unwrap();
                let path = format!("/api/v1/llms/_provider-task/{{id}}/{last}");
                found.insert(("POST".to_owned(), shape(&path)));
            }
            source = source.replace(SCOPE, "");
        }
        for others in [
            ".service(",
            ".resource(",
            ".scope(",
            "web::resource",
            "web::scope",
            "default_service",
            "#[get(",
            "#[post(",
        ] {
            assert!(!source.contains(others), "this test does not understand routes added by {others}");
        }
        for call in source.split(".route(").skip(1) {
            if call.starts_with(r#"&format!("/v1/{}", endpoint.as_str()), post()"#) {
                // This loop adds one route for each endpoint of OpenAI's API.
                found.extend(endpoints().map(|endpoint| ("POST".to_owned(), format!("/v1/{endpoint}"))));
                continue;
            }
            let (path, rest) = call.split_once(',').unwrap();
            let rest = rest.trim_start();
            let method = rest.split("()").next().unwrap().to_uppercase();
            assert!(["GET", "POST", "PUT", "DELETE"].contains(&method.as_str()), "{call:.80}");
            let path = path.trim().strip_prefix('"').and_then(|path| path.strip_suffix('"'));
            found.insert((method, shape(path.expect("the path is a string literal"))));
        }
    }
    found
}

fn endpoints() -> [&'static str; 8] {
    use wire::task::Endpoint::{
        ChatCompletions, Completions, CountTokens, Embeddings, InputTokens, Messages, Rerank, Responses,
    };
    let all =
        [ChatCompletions, Completions, Embeddings, Responses, Messages, Rerank, CountTokens, InputTokens];
    all.map(wire::task::Endpoint::as_str)
}

/// `path` with `{}` in place of each variable.
fn shape(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}
