//! The paths of OpenAI's and Anthropic's APIs for stored objects: responses, completions, conversations, files and batches. The
//! hub stores none, and refuses them in words, so that a client's developer does not look for a wrong address.

use std::future::{Ready, ready};

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, delete, get, post};

use crate::error::{ApiError, ErrorKind};

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/v1/chat/completions", get().to(refuse))
        .route("/v1/chat/completions/{id}", get().to(refuse))
        .route("/v1/chat/completions/{id}", post().to(refuse))
        .route("/v1/chat/completions/{id}", delete().to(refuse))
        .route("/v1/chat/completions/{id}/messages", get().to(refuse))
        .route("/v1/responses/compact", post().to(refuse))
        .route("/v1/responses/{id}", get().to(refuse))
        .route("/v1/responses/{id}", delete().to(refuse))
        .route("/v1/responses/{id}/cancel", post().to(refuse))
        .route("/v1/responses/{id}/input_items", get().to(refuse))
        .route("/v1/conversations", post().to(refuse))
        .route("/v1/conversations/{id}", get().to(refuse))
        .route("/v1/conversations/{id}", post().to(refuse))
        .route("/v1/conversations/{id}", delete().to(refuse))
        .route("/v1/conversations/{id}/items", get().to(refuse))
        .route("/v1/conversations/{id}/items", post().to(refuse))
        .route("/v1/conversations/{id}/items/{item}", get().to(refuse))
        .route("/v1/conversations/{id}/items/{item}", delete().to(refuse))
        .route("/v1/files", get().to(refuse))
        .route("/v1/files", post().to(refuse))
        .route("/v1/files/{id}", get().to(refuse))
        .route("/v1/files/{id}", delete().to(refuse))
        .route("/v1/files/{id}/content", get().to(refuse))
        .route("/v1/batches", get().to(refuse))
        .route("/v1/batches", post().to(refuse))
        .route("/v1/batches/{id}", get().to(refuse))
        .route("/v1/batches/{id}/cancel", post().to(refuse))
        .route("/v1/messages/batches", get().to(refuse))
        .route("/v1/messages/batches", post().to(refuse))
        .route("/v1/messages/batches/{id}", get().to(refuse))
        .route("/v1/messages/batches/{id}", delete().to(refuse))
        .route("/v1/messages/batches/{id}/cancel", post().to(refuse))
        .route("/v1/messages/batches/{id}/results", get().to(refuse));
}

fn refuse() -> Ready<Result<HttpResponse, ApiError>> {
    let text = "this hub stores no responses, completions, conversations, files and batches: send all of a conversation with \
                each call";
    ready(Err(ApiError::new(ErrorKind::NothingStored, text)))
}
