//! Writes `docs/api.md` from `/openapi.json` and the table of routes in `access.rs`.

use std::fmt::Write as _;

use super::routes::shape;
use super::*;
use crate::tests::support::hub;

const ABOUT: &str = "# The hub's routes

Generated from `/openapi.json` of a hub and from the table by which the tests call each route as each role
(`BLESS=1 cargo test --workspace --lib access::page` writes this page). `/openapi.json` has the bodies, parameters and codes of errors;
[SPEC.md](../SPEC.md), section 5, has the rules.

Who may: *anybody* needs no token; *every user* has a token of any role, and lists contain what that user may see; *who sees it*
is its owner, an admin, or every user if it is public; others get the same 404 as for an unknown name. Paths below `/v1` also work
without `/v1`, with two of it and below `/openai`. Each `GET` answers `HEAD`. A method that is not listed is 405 with `Allow`.
";

/// The users who get an answer other than 403 and 404.
fn who(allowed: Option<&Allowed>) -> &'static str {
    let Some(&Allowed(hidden, shown, owner, admin)) = allowed else { return "anybody" };
    if [hidden, shown, owner, admin] == [400; 4] {
        return "nobody: 400";
    }
    match [hidden, shown, owner, admin].map(|status| !matches!(status, 403 | 404)) {
        [true, true, true, true] => "every user",
        [false, true, true, true] => "who sees it",
        [false, false, true, true] => "its owner, admins",
        [false, false, true, false] => "its owner",
        [false, false, false, true] => "admins",
        [false, false, false, false] => "nobody: 404",
        other => panic!("no words for {other:?}"),
    }
}

fn statuses(operation: &Value) -> BTreeSet<String> {
    operation["responses"].as_object().unwrap().keys().cloned().collect()
}

/// One line a route, under the heading of its section.
fn render(document: &Value) -> String {
    let allowed = |method: &str, path: &str| {
        let row = TABLE.iter().find(|(known, pattern, ..)| *known == method && shape(pattern) == shape(path));
        row.map(|(.., allowed)| allowed)
    };
    let paths = document["paths"].as_object().unwrap();
    let routes: Vec<_> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
        })
        .collect();
    // Those of every route, and those of every route with a token.
    let (mut always, mut common) = (None, None);
    for (method, path, operation) in &routes {
        let own = statuses(operation);
        let meet = |all: Option<BTreeSet<String>>| Some(all.map_or_else(|| own.clone(), |all| &all & &own));
        always = meet(always);
        if allowed(method, path).is_some() {
            common = meet(common);
        }
    }
    let (always, common) = (always.unwrap(), common.unwrap());
    let mut page = ABOUT.to_owned();
    let listed = |statuses: &BTreeSet<String>| statuses.iter().cloned().collect::<Vec<_>>().join(", ");
    writeln!(
        page,
        "Left out are {} of every route, and of every route with a token also {}.",
        listed(&always),
        listed(&(&common - &always))
    )
    .unwrap();
    for section in document["tags"].as_array().unwrap() {
        let heading = section["name"].as_str().unwrap();
        write!(page, "\n## {heading}\n\n| route | who may | what | statuses |\n| --- | --- | --- | --- |\n")
            .unwrap();
        for (method, path, operation) in &routes {
            if operation["tags"][0] != heading {
                continue;
            }
            let who_may = allowed(method, path);
            let mut own = &statuses(operation) - if who_may.is_some() { &common } else { &always };
            let is_passed = own.remove("4XX") & own.remove("5XX");
            let own = listed(&own) + if is_passed { " and the backend's own" } else { "" };
            let (who, what) = (who(who_may), operation["summary"].as_str().unwrap());
            writeln!(page, "| `{method} {path}` | {who} | {what} | {own} |").unwrap();
        }
    }
    page
}

#[actix_rt::test]
async fn the_page_of_routes_is_up_to_date() {
    let hub = hub().await;
    let page = render(&hub.ask("GET", "/openapi.json").json().await.1);
    hub.stop().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, page).unwrap();
        return;
    }
    let current = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        current == page,
        "docs/api.md is out of date: BLESS=1 cargo test --workspace --lib access::page writes it"
    );
}
