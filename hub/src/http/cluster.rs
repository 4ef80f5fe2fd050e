//! `GET /api/v1/cluster`, for admins: the processes of the cluster, and the database that they share (SPEC.md section 5, cluster).

use std::collections::HashMap;
use std::time::Duration;

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Serialize;
use wire::row::Timestamp;

use super::openapi::{Routes, about, shape};
use crate::auth::Admin;
use crate::clock;
use crate::cluster::{Cluster, Heard, Process, State};
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::store::{ClusterRecord, ProcessRecord};

/// The state of a process that has the lease.
const SERVING: &str = "serving";

pub(super) fn register(routes: &mut Routes<'_>) {
    routes.get(
        "/api/v1/cluster",
        show,
        about("The hubs of the cluster as they see themselves, and its database, for admins")
            .returns(200, shape::<ClusterView>)
            .refuses(&[ErrorKind::Forbidden, ErrorKind::StoreUnavailable]),
    );
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ClusterView {
    /// The cluster's name; null for a hub alone.
    cluster: Option<String>,
    /// The database, as the hub that answers sees it; null for a hub alone, and while it is away.
    database: Option<DatabaseView>,
    /// The newest first. While the database is away, those that are heard.
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
    /// The hub's id; null for a hub alone. So are the other keys of a lease, also while the database is away.
    id: Option<String>,
    boot: Option<String>,
    /// Number of the lease among those of the hub.
    term: Option<i64>,
    /// `serving`, `draining`, `suspect` (it is silent), `stopped`, `superseded` by a newer process of the hub, or `lost`.
    state: String,
    version: String,
    started_at: Option<Timestamp>,
    renewed_at: Option<Timestamp>,
    lease_until: Option<Timestamp>,
    /// Whether it is the one that answers.
    here: bool,
    #[serde(flatten)]
    said: OwnWords,
}

/// What a process said last of itself. All is null for one that has ended, and for a hub alone.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct OwnWords {
    /// When it said this.
    said_at: Option<Timestamp>,
    /// `ok` or `away`, as that hub sees it.
    nats: Option<&'static str>,
    /// `ok` or `away`, as that hub sees it.
    store: Option<&'static str>,
    /// Control channels of registrars.
    channels: Option<u64>,
    /// Inferences that run or wait.
    calls: Option<u64>,
    /// Digest of its rows, agents and aliases: hubs of a version that have the same have the same one.
    table: Option<String>,
}

impl From<Heard> for OwnWords {
    fn from(Heard { report, age }: Heard) -> Self {
        let seen = |has| Some(if has { "ok" } else { "away" });
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        Self {
            said_at: Some(clock::now().plus_millis(-age)),
            nats: seen(report.has_nats),
            store: seen(report.has_database),
            channels: Some(report.channels),
            calls: Some(report.calls),
            table: report.table,
        }
    }
}

async fn show(hub: HubData, _: Admin) -> Result<HttpResponse, ApiError> {
    let Cluster::Joined(here) = hub.cluster else {
        let alone = ClusterView { cluster: None, database: None, hubs: vec![alone(hub.clock.started_at())] };
        return Ok(HttpResponse::Ok().json(alone));
    };
    let mut heard = hub.shared.as_ref().map(|shared| shared.heard()).unwrap_or_default();
    if let Some(shared) = &hub.shared {
        heard.insert(here, (None, Heard { report: hub.report(shared), age: Duration::ZERO }));
    }
    let is_away = hub.shared.as_ref().is_some_and(|shared| shared.without().database.is_some());
    let record = if is_away { Ok(None) } else { hub.store.cluster().await };
    let view = match record {
        Ok(Some(ClusterRecord { name, address, server, schema, processes })) => ClusterView {
            cluster: Some(name),
            database: Some(DatabaseView { address, server, schema }),
            hubs: processes.into_iter().map(|process| joined(process, here, &mut heard)).collect(),
        },
        // Of several hubs it is known what they say.
        _ if hub.shared.is_some() => ClusterView {
            cluster: hub.options.cluster.as_ref().map(|of| of.cluster.clone()),
            database: None,
            hubs: heard.into_iter().map(|(of, said)| heard_alone(of, here, said)).collect(),
        },
        found => return Err(found.err().map_or_else(|| ApiError::internal("no cluster"), Into::into)),
    };
    Ok(HttpResponse::Ok().json(view))
}

/// What a process that has the lease does, by what it said.
fn state(seen: Option<State>, said: &Heard) -> &'static str {
    match seen {
        Some(State::Suspect | State::Dead) => "suspect",
        _ if said.report.is_draining => "draining",
        _ => "serving",
    }
}

fn joined(
    process: ProcessRecord,
    here: Process,
    heard: &mut HashMap<Process, (Option<State>, Heard)>,
) -> ProcessView {
    let said = Process::parse(&format!("{}.{}", process.hub, process.boot)).and_then(|of| heard.remove(&of));
    let said = said.filter(|_| process.state == SERVING);
    ProcessView {
        here: process.boot == here.boot(),
        id: Some(process.hub),
        boot: Some(process.boot),
        term: Some(process.term),
        state: said.as_ref().map_or(process.state, |(seen, said)| state(*seen, said).to_owned()),
        version: process.version,
        started_at: Some(process.started_at),
        renewed_at: Some(process.renewed_at),
        lease_until: Some(process.lease_until),
        said: said.map(|(_, said)| said.into()).unwrap_or_default(),
    }
}

/// A process of which only is known what it says.
fn heard_alone(of: Process, here: Process, (seen, said): (Option<State>, Heard)) -> ProcessView {
    ProcessView {
        here: of == here,
        id: Some(of.hub().to_owned()),
        boot: Some(of.boot().to_owned()),
        term: None,
        state: state(seen, &said).to_owned(),
        version: said.report.version.clone(),
        started_at: None,
        renewed_at: None,
        lease_until: None,
        said: said.into(),
    }
}

fn alone(started_at: Timestamp) -> ProcessView {
    ProcessView {
        id: None,
        boot: None,
        term: None,
        state: SERVING.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Some(started_at),
        renewed_at: None,
        lease_until: None,
        here: true,
        said: OwnWords::default(),
    }
}
