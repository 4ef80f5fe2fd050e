//! The web console at `/`, from files in the binary. Their paths are relative, so that a proxy may add a prefix.
//!
//! The files need no token and contain no data; the page requests the API with the token that its user enters.

use actix_web::HttpResponse;
use actix_web::web::Path;

use super::openapi::{Routes, about};
use crate::error::{ApiError, ErrorKind};

/// Allows scripts and styles of the hub only: nothing inline, no frames, no forms.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const PAGE: &str = include_str!("../console/index.html");
const ICON: &str = include_str!("../console/icon.svg");

macro_rules! files {
    ($($name:literal $kind:ident),+ $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("../console/", $name)))),+]
    };
}

/// The name, media type and text of each file under `/console/`.
const FILES: &[(&str, &str, &str)] = files![
    "answer.js" SCRIPT,
    "api.js" SCRIPT,
    "app.js" SCRIPT,
    "chart.js" SCRIPT,
    "chat.js" SCRIPT,
    "dom.js" SCRIPT,
    "format.js" SCRIPT,
    "icon.svg" SVG,
    "live.js" SCRIPT,
    "llm.js" SCRIPT,
    "overview.js" SCRIPT,
    "style.css" CSS,
    "tokens.js" SCRIPT,
];

pub(super) fn register(routes: &mut Routes<'_>) {
    let files = about("A file of the console").returns_media(200, SCRIPT);
    let files = files.returns_media(200, CSS).returns_media(200, SVG).refuses(&[ErrorKind::NotFound]);
    routes
        .get("/", async || file(HTML, PAGE), about("The console").returns_media(200, HTML))
        .get("/favicon.ico", async || file(SVG, ICON), about("The console's icon").returns_media(200, SVG))
        .get("/console/{file}", respond, files);
}

async fn respond(name: Path<String>) -> Result<HttpResponse, ApiError> {
    let known = FILES.iter().find(|(known, ..)| *known == *name);
    known.map(|(_, kind, text)| file(kind, text)).ok_or_else(|| ApiError::not_found("file", &name))
}

fn file(kind: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header(("content-security-policy", CSP))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header(("x-frame-options", "DENY"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"))
        .insert_header(("permissions-policy", "camera=(), microphone=(), geolocation=()"))
        // The files are some 40 KB; without a cache an upgraded hub shows its new page at once.
        .insert_header(("cache-control", "no-cache"))
        .body(text)
}
