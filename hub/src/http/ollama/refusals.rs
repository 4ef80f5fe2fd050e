//! What Ollama does with models and accounts, and the hub does not: each path says why.

use actix_web::HttpResponse;

use crate::error::{ApiError, ErrorKind};
use crate::http::openapi::{Routes, about};

pub(super) fn register(routes: &mut Routes<'_>) {
    let none = || about("Not offered: the hub has no models of its own").refuses(&[ErrorKind::BadRequest]);
    let nothing = |summary| about(summary).refuses(&[ErrorKind::NotFound]);
    routes
        .post("/api/pull", pull, none())
        .post("/api/push", push, none())
        .post("/api/create", create, none())
        .post("/api/copy", copy, none())
        .delete("/api/delete", remove, none())
        .post("/api/blobs/{digest}", create, none())
        .get("/api/blobs/{digest}", blob, nothing("Not offered: the hub stores no blobs"))
        .post("/api/me", account, nothing("Not offered: the hub has no accounts at ollama.com"))
        .post("/api/signout", account, nothing("Not offered: the hub has no accounts at ollama.com"));
}

fn refused(text: &'static str) -> Result<HttpResponse, ApiError> {
    Err(ApiError::bad_request(text))
}

async fn pull() -> Result<HttpResponse, ApiError> {
    refused("this hub pulls no models: it serves those that its users publish, and lists them at /api/tags")
}

async fn push() -> Result<HttpResponse, ApiError> {
    refused("this hub pushes no models: it has none of its own")
}

async fn create() -> Result<HttpResponse, ApiError> {
    refused("this hub creates no models: publish one with 'virtual-llm up'")
}

async fn copy() -> Result<HttpResponse, ApiError> {
    refused("this hub copies no models: 'virtual-llm alias set' adds a name")
}

async fn remove() -> Result<HttpResponse, ApiError> {
    refused("this hub deletes no models: its publisher withdraws it")
}

async fn blob() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(ErrorKind::NotFound, "this hub stores no blobs"))
}

async fn account() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(ErrorKind::NotFound, "this hub has no accounts at ollama.com"))
}
