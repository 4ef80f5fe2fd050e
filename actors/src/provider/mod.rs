//! `ProviderActor`: one published LLM.

pub mod messages;
