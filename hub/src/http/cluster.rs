//! `GET /api/v1/cluster`, for admins: the processes of the cluster, and the database that they share (SPEC.md section 5, cluster).

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Serialize;
use wire::row::Timestamp;

use super::openapi::{Routes, about, shape};
use crate::auth::Admin;
use crate::cluster::Cluster;
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::store::{ClusterRecord, ProcessRecord};

pub(super) fn register(routes: &mut Routes<'_>) {
    routes.get(
        "/api/v1/cluster",
        show,
        about("The processes of the cluster and its database, for admins")
            .returns(200, shape::<ClusterView>)
            .refuses(&[ErrorKind::Forbidden, ErrorKind::StoreUnavailable]),
    );
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ClusterView {
    /// The cluster's name; null for a hub alone.
    cluster: Option<String>,
    /// The database, as the hub that answers sees it; null for a hub alone.
    database: Option<DatabaseView>,
    /// The newest first. One of them serves.
    hubs: Vec<ProcessView>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DatabaseView {
    /// Name and hosts, without user and password.
    address: String,
    /// The server's version.
    server: String,
    /// Number of migrations that it has.
    schema: i64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProcessView {
    /// The hub's id; null for a hub alone. So are the other keys of a lease.
    id: Option<String>,
    boot: Option<String>,
    /// Number of the lease among those of the hub.
    term: Option<i64>,
    /// `serving`, `stopped`, `superseded` by a newer process of the hub, or `lost`.
    state: String,
    version: String,
    started_at: Timestamp,
    renewed_at: Option<Timestamp>,
    lease_until: Option<Timestamp>,
    /// Whether it is the one that answers.
    here: bool,
}

async fn show(hub: HubData, _: Admin) -> Result<HttpResponse, ApiError> {
    let view = match (hub.store.cluster().await?, hub.cluster) {
        (Some(ClusterRecord { name, address, server, schema, processes }), Cluster::Joined(here)) => {
            ClusterView {
                cluster: Some(name),
                database: Some(DatabaseView { address, server, schema }),
                hubs: processes.into_iter().map(|process| joined(process, here.boot())).collect(),
            }
        }
        _ => ClusterView { cluster: None, database: None, hubs: vec![alone(hub.clock.started_at())] },
    };
    Ok(HttpResponse::Ok().json(view))
}

fn joined(process: ProcessRecord, here: &str) -> ProcessView {
    ProcessView {
        here: process.boot == here,
        id: Some(process.hub),
        boot: Some(process.boot),
        term: Some(process.term),
        state: process.state,
        version: process.version,
        started_at: process.started_at,
        renewed_at: Some(process.renewed_at),
        lease_until: Some(process.lease_until),
    }
}

fn alone(started_at: Timestamp) -> ProcessView {
    ProcessView {
        id: None,
        boot: None,
        term: None,
        state: "serving".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        renewed_at: None,
        lease_until: None,
        here: true,
    }
}
