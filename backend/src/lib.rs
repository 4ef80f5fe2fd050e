//! What runs a model, over HTTP: one client, the dialects of backends, and the translation between them.

pub mod translate;
