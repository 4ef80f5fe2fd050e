//! `pool`: whose LLMs serve a pool.

use actix_web::http::Method;

use crate::{
    cli::{Global, PoolCommand, PoolMember},
    client::encoded,
    exit::Outcome,
    output,
};

/// Runs it.
pub(crate) async fn run(global: &Global, command: &PoolCommand) -> Outcome {
    let (method, PoolMember { pool, llm }, done) = match command {
        PoolCommand::Admit(member) => (Method::PUT, member, "serves"),
        PoolCommand::Remove(member) => (Method::DELETE, member, "no longer serves"),
    };
    let hub = super::hub_client(global)?;
    hub.call(method, &format!("/api/v1/pools/{}/members/{}", encoded(pool), encoded(llm)), None).await?;
    output::line(format!("llm/{llm} {done} the pool {pool}"))
}
