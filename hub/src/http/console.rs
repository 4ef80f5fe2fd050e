//! The web console at `/`, from files in the binary. Their paths are relative, so that a proxy may add a prefix.
//!
//! The files need no token and contain no data; the page requests the API with the token that its user enters.

use std::sync::LazyLock;

use actix_web::http::header::{ETAG, IF_NONE_MATCH};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::openapi::{Operation, Routes, about};
use super::pieces::Pieces;
use crate::error::{ApiError, ErrorKind};
use crate::random;

/// Allows scripts, workers and styles of the hub only: nothing inline, no frames, no forms, no images of other hosts.
const CSP: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; \
                   img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// How long browsers keep a file.
#[derive(Clone, Copy)]
enum Cached {
    /// Asked for again with each use, so an upgraded hub shows its new page at once.
    Asked,
    /// A year: the name has the version.
    Kept,
}

/// A file in the binary.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    cached: Cached,
    /// The entity tag: half of the text's SHA-256 is more than enough to tell versions apart.
    tag: String,
}

impl File {
    fn new(name: &'static str, kind: &'static str, text: &'static str, cached: Cached) -> Self {
        let tag = format!("\"{}\"", random::hex(&Sha256::digest(text)[..16]));
        Self { name, kind, text, cached, tag }
    }
}

macro_rules! files {
    ($cached:ident, $($name:literal $kind:ident),+ $(,)?) => {
        LazyLock::new(|| vec![
            $(File::new($name, $kind, include_str!(concat!("../console/", $name)), Cached::$cached)),+
        ])
    };
}

static PAGE: LazyLock<Vec<File>> = files![Asked, "index.html" HTML];

/// The files at `/console/`.
static FILES: LazyLock<Vec<File>> = files![
    Asked,
    "advice.js" SCRIPT,
    "answer.js" SCRIPT,
    "api.js" SCRIPT,
    "app.js" SCRIPT,
    "chart.js" SCRIPT,
    "chat.css" CSS,
    "chat.js" SCRIPT,
    "composer.js" SCRIPT,
    "conversation.js" SCRIPT,
    "dom.js" SCRIPT,
    "format.js" SCRIPT,
    "highlight.js" SCRIPT,
    "icon.svg" SVG,
    "images.js" SCRIPT,
    "limits.js" SCRIPT,
    "live.js" SCRIPT,
    "llm.js" SCRIPT,
    "markdown-worker.js" SCRIPT,
    "markdown.js" SCRIPT,
    "models.js" SCRIPT,
    "overview.js" SCRIPT,
    "render.js" SCRIPT,
    "run.js" SCRIPT,
    "settings.js" SCRIPT,
    "signin.js" SCRIPT,
    "store.js" SCRIPT,
    "style.css" CSS,
    "talks.js" SCRIPT,
    "tokens.js" SCRIPT,
    "tree.js" SCRIPT,
    "turns.js" SCRIPT,
    "usage.js" SCRIPT,
];

/// Libraries, each with its version in its name; vendor/NOTICE.md says where they are from.
static LIBRARIES: LazyLock<Vec<File>> = files![
    Kept,
    "vendor/highlight-11.12.0.js" SCRIPT,
    "vendor/marked-18.2.1.js" SCRIPT,
];

pub(super) fn register(routes: &mut Routes<'_>) {
    let file = |summary: &'static str, kinds: &[&'static str]| -> Operation {
        let about = kinds.iter().fold(about(summary), |about, kind| about.returns_media(200, *kind));
        about.returns_nothing(304)
    };
    let missing = [ErrorKind::NotFound];
    routes
        .get("/", async |req: HttpRequest| find(&req, &PAGE, "index.html"), file("The console", &[HTML]))
        .get(
            "/favicon.ico",
            async |req: HttpRequest| find(&req, &FILES, "icon.svg"),
            file("The console's icon", &[SVG]),
        )
        .get(
            "/console/{file}",
            async |req: HttpRequest, name: Path<String>| find(&req, &FILES, &name),
            file("A file of the console", &[SCRIPT, CSS, SVG]).refuses(&missing),
        )
        .get(
            "/console/vendor/{file}",
            async |req: HttpRequest, name: Path<String>| find(&req, &LIBRARIES, &format!("vendor/{name}")),
            file("A library of the console", &[SCRIPT]).refuses(&missing),
        );
}

fn find(req: &HttpRequest, files: &'static [File], name: &str) -> Result<HttpResponse, ApiError> {
    let file = files.iter().find(|file| file.name == name);
    file.map(|file| respond(req, file)).ok_or_else(|| ApiError::not_found("file", name))
}

fn respond(req: &HttpRequest, file: &'static File) -> HttpResponse {
    let tag = file.tag.as_str();
    // A proxy that compresses may have made the tag a weak one, which still contains it.
    let mut tags = req.headers().get_all(IF_NONE_MATCH);
    let known = tags.any(|tags| tags.to_str().is_ok_and(|tags| tags.contains(tag)));
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, tag))
        .insert_header(("content-security-policy", CSP))
        .insert_header(("x-content-type-options", "nosniff"))
        .insert_header(("x-frame-options", "DENY"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"))
        .insert_header(("permissions-policy", "camera=(), microphone=(), geolocation=()"))
        .insert_header((
            "cache-control",
            match file.cached {
                Cached::Asked => "no-cache",
                Cached::Kept => "public, max-age=31536000, immutable",
            },
        ));
    if known { response.finish() } else { response.content_type(file.kind).body(Pieces::new(file.text)) }
}
