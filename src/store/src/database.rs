//! Opening a database: which engine, which schema version, and the two ports.

use tokio::sync::watch;

use crate::{ExecutorStore, ServerStore, StoreError};

/// How to open.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Create the SQLite file (mode 0600) when it is missing. PostgreSQL databases are never created.
    pub create: bool,
    /// Bring the schema up to date first. Without it an old schema is an error.
    pub migrate: bool,
    /// Connections for calls; SQLite uses them for reading. Watching for changes takes two more.
    pub max_connections: u32,
    /// Shown in `pg_stat_activity`.
    pub app_name: String,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: false,
            migrate: false,
            max_connections: 8,
            app_name: "countersign".into(),
        }
    }
}

/// An open database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {}

impl Database {
    /// Opens `sqlite:///path/file.db` or `postgres://user:password@host/name`.
    pub async fn open(_url: &str, _options: OpenOptions) -> Result<Self, StoreError> {
        Err(StoreError::NotYet("open"))
    }

    /// The server's port.
    pub fn server(&self) -> ServerStore {
        ServerStore { db: self.clone() }
    }

    /// The executor's port.
    pub fn executor(&self) -> ExecutorStore {
        ExecutorStore { db: self.clone() }
    }

    /// Brings the schema up to date. Safe when several processes do it at once.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        Err(StoreError::NotYet("migrate"))
    }

    /// The schema version found, 0 for an empty database.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        Err(StoreError::NotYet("schema_version"))
    }

    /// Finishes what was begun, writes SQLite's log back and closes. Calls after it fail with
    /// [`StoreError::Closed`].
    pub async fn close(&self) {}

    /// Grows whenever this or another process committed something, and now and then without a
    /// cause. A hint: look again. Whoever writes on every wake wakes itself.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
