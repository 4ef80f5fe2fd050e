//! The paths of OpenAI's and Anthropic's APIs for stored objects: responses, completions, conversations, files and batches. The
//! hub stores none, and refuses them in words, so that a client's developer does not look for a wrong address.

use std::future::{Ready, ready};

use actix_web::HttpResponse;

use super::openapi::{Routes, about};
use crate::error::{ApiError, ErrorKind};

pub(super) fn register(routes: &mut Routes<'_>) {
    let none = || about("Not offered: the hub stores nothing").refuses(&[ErrorKind::NothingStored]);
    routes
        .get("/v1/chat/completions", refuse, none())
        .get("/v1/chat/completions/{id}", refuse, none())
        .post("/v1/chat/completions/{id}", refuse, none())
        .delete("/v1/chat/completions/{id}", refuse, none())
        .get("/v1/chat/completions/{id}/messages", refuse, none())
        .post("/v1/responses/compact", refuse, none())
        .get("/v1/responses/{id}", refuse, none())
        .delete("/v1/responses/{id}", refuse, none())
        .post("/v1/responses/{id}/cancel", refuse, none())
        .get("/v1/responses/{id}/input_items", refuse, none())
        .post("/v1/conversations", refuse, none())
        .get("/v1/conversations/{id}", refuse, none())
        .post("/v1/conversations/{id}", refuse, none())
        .delete("/v1/conversations/{id}", refuse, none())
        .get("/v1/conversations/{id}/items", refuse, none())
        .post("/v1/conversations/{id}/items", refuse, none())
        .get("/v1/conversations/{id}/items/{item}", refuse, none())
        .delete("/v1/conversations/{id}/items/{item}", refuse, none())
        .get("/v1/files", refuse, none())
        .post("/v1/files", refuse, none())
        .get("/v1/files/{id}", refuse, none())
        .delete("/v1/files/{id}", refuse, none())
        .get("/v1/files/{id}/content", refuse, none())
        .get("/v1/batches", refuse, none())
        .post("/v1/batches", refuse, none())
        .get("/v1/batches/{id}", refuse, none())
        .post("/v1/batches/{id}/cancel", refuse, none())
        .get("/v1/messages/batches", refuse, none())
        .post("/v1/messages/batches", refuse, none())
        .get("/v1/messages/batches/{id}", refuse, none())
        .delete("/v1/messages/batches/{id}", refuse, none())
        .post("/v1/messages/batches/{id}/cancel", refuse, none())
        .get("/v1/messages/batches/{id}/results", refuse, none());
}

fn refuse() -> Ready<Result<HttpResponse, ApiError>> {
    let text = "this hub stores no responses, completions, conversations, files and batches: send all of a conversation with \
                each call";
    ready(Err(ApiError::new(ErrorKind::NothingStored, text)))
}
