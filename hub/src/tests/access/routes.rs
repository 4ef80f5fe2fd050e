//! Compares the registered routes with the table of routes in `access.rs`.

use super::*;
use crate::http;

/// A02: fails if a route is registered and not in the table, or in the table and not registered.
#[test]
fn the_table_contains_exactly_the_registered_routes() {
    let known = TABLE.iter().map(|(method, path, ..)| (*method, *path)).chain(OPEN.iter().copied());
    let known: BTreeSet<_> = known.map(|(method, path)| (method.to_owned(), shape(path))).collect();
    let registered = http::registered_routes();
    let registered: BTreeSet<_> =
        registered.iter().map(|(method, path)| (method.to_string(), shape(path))).collect();
    let missing: Vec<_> = registered.difference(&known).collect();
    let unregistered: Vec<_> = known.difference(&registered).collect();
    assert!(
        missing.is_empty() && unregistered.is_empty(),
        "not in the table: {missing:?}; in the table, not registered: {unregistered:?}"
    );
    assert!(registered.len() > 40);
}

/// A route that is not registered through `Routes` would be in neither list.
#[test]
fn all_routes_are_registered_with_a_description() {
    let mut files = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    for (path, source) in files {
        // `.service()` of a client and `.scope()` of a task-local value add no route.
        let source = source.replace(".service()", "").replace("CURRENT.scope(", "");
        for other in [
            ".route(",
            ".service(",
            ".resource(",
            ".scope(",
            "web::resource",
            "web::scope",
            "#[get(",
            "#[post(",
        ] {
            assert!(!source.contains(other), "{path} adds a route by {other}");
        }
    }
}

/// Reads the crate's sources below `folder`, without tests and without the file that registers routes.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") && !path.ends_with("console") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path.ends_with("tests.rs")
            && !path.ends_with("openapi/routes.rs")
        {
            let source = std::fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap().to_owned();
            found.push((path.display().to_string(), code));
        }
    }
}

/// `path` with `{}` in place of each variable.
pub(super) fn shape(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}
