//! `GET /openapi.json`: one document for all routes, in OpenAPI 3.1.
//!
//! Each route is registered with its description, by [`Routes`]: `routes.get(path, handler, about("…").returns(…))`. The schemas
//! are those of the types that serde reads and writes.

mod document;
mod operation;
mod routes;
pub(super) mod shapes;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use actix_web::HttpResponse;
use actix_web::web::Data;
use bytes::Bytes;

pub(super) use operation::{Operation, Shape, about, shape};
use routes::Described;
pub(super) use routes::Routes;

use super::pieces::Pieces;

/// The document. Its text is made for the first caller: most hubs are never asked.
#[derive(Default)]
struct Document {
    routes: Vec<Described>,
    text: OnceLock<Bytes>,
}

/// Registers the document of all routes that were registered so far, and of itself.
pub(super) fn register(routes: &mut Routes<'_>) {
    let about = about("This document").returns(200, shapes::any_object);
    routes.get("/openapi.json", respond, about);
    let document = Document { routes: routes.described.clone(), text: OnceLock::new() };
    routes.data(Data::new(document));
}

async fn respond(document: Data<Document>) -> HttpResponse {
    let text = document.text.get_or_init(|| document::text(&document.routes).into());
    HttpResponse::Ok()
        .content_type("application/json")
        // As the console's files: an upgraded hub shows its new document at once.
        .insert_header(("cache-control", "no-cache"))
        .body(Pieces::new(text.clone()))
}

/// All routes, as the hub registers them.
pub(super) fn described_routes() -> Vec<Described> {
    let mut described = Vec::new();
    let _ = actix_web::App::new().configure(|config| {
        let mut routes = Routes::new(config);
        super::add_routes(&mut routes);
        described = routes.described;
    });
    described
}
