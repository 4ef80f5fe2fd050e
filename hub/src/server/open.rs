//! Opening what a hub starts on.

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::options::{DataDir, HubOptions};
use crate::store::{HubDir, PostgresStore, SqliteStore, Store, StoreError};

/// The store and its directory, and the process that the hub is in a cluster.
pub(crate) struct Opened {
    pub(crate) dir: Option<Arc<HubDir>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cluster: Cluster,
    /// The store, if it is one that several hubs can have.
    pub(super) postgres: Option<Arc<PostgresStore>>,
}

impl Opened {
    /// Opened for a hub alone.
    pub(crate) fn alone(dir: Option<Arc<HubDir>>, store: Arc<dyn Store>) -> Self {
        Self { dir, store, cluster: Cluster::Alone, postgres: None }
    }
}

pub(super) async fn store(options: &HubOptions) -> Result<Opened, StoreError> {
    let dir = match &options.data {
        DataDir::Memory => None,
        DataDir::Path(path) => Some(Arc::new(HubDir::open(path)?)),
    };
    if let Some(cluster) = &options.cluster {
        let store = Arc::new(Box::pin(PostgresStore::open(cluster)).await?);
        let joined = Cluster::Joined(store.process());
        return Ok(Opened { dir, store: store.clone(), cluster: joined, postgres: Some(store) });
    }
    let store = match &dir {
        Some(dir) => SqliteStore::open(dir.clone())?,
        None => SqliteStore::in_memory()?,
    };
    Ok(Opened::alone(dir, Arc::new(store)))
}
