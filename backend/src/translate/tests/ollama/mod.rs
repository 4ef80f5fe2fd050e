//! Ollama's API: requests to OpenAI's endpoints, and the answers back.

mod answers;
mod requests;

use super::super::ollama::{OllamaApi, OllamaRequest, translate};

const AT: &str = "2026-01-02T03:04:05.678Z";

fn request(api: OllamaApi, body: &str) -> OllamaRequest {
    translate(api, body.as_bytes()).unwrap()
}
