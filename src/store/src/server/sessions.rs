//! Web sessions, and webhooks on their way in.

use std::sync::LazyLock;

use jiff::Timestamp;

use super::{ServerStore, before};
use crate::rows::time;
use crate::sql::{Write, args};
use crate::{Session, StoreError};

static SESSION_CREATE: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "INSERT INTO sessions (token_hash, person, csrf, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .quiet()
});
static SESSION_DELETE: LazyLock<Write> =
    LazyLock::new(|| Write::plain("DELETE FROM sessions WHERE token_hash = $1").quiet());
static SESSIONS_END: LazyLock<Write> =
    LazyLock::new(|| Write::plain("DELETE FROM sessions").quiet());
static SESSIONS_SWEEP: LazyLock<Write> = LazyLock::new(|| {
    Write::plain("DELETE FROM sessions WHERE expires_at <= $1 RETURNING token_hash").quiet()
});
static WEBHOOK_STORE: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "INSERT INTO webhooks (identifier, body, received_at) VALUES ($1, $2, $3) \
         ON CONFLICT DO NOTHING RETURNING id",
    )
});
static WEBHOOK_DONE: LazyLock<Write> = LazyLock::new(|| {
    Write::plain("UPDATE webhooks SET done_at = $2 WHERE id = $1 AND done_at IS NULL").quiet()
});
static WEBHOOKS_SWEEP: LazyLock<Write> =
    LazyLock::new(|| Write::plain("DELETE FROM webhooks WHERE done_at <= $1").quiet());

const WEEK: i64 = 7 * 24 * 3600;

impl ServerStore {
    pub async fn session_create(&self, session: &Session) -> Result<(), StoreError> {
        let Session {
            token_hash,
            person,
            csrf,
            created_at,
            expires_at,
        } = session;
        let values = args![token_hash, person, csrf, *created_at, *expires_at];
        self.db.write::<()>(&SESSION_CREATE, values).await.map(drop)
    }

    /// A session that has not run out.
    pub async fn session_get(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Session>, StoreError> {
        let text = "SELECT person, csrf, created_at, expires_at FROM sessions \
             WHERE token_hash = $1 AND expires_at > $2";
        let rows: Vec<(String, String, i64, i64)> =
            self.db.read(text, args![token_hash, now]).await?;
        let Some((person, csrf, created_at, expires_at)) = rows.into_iter().next() else {
            return Ok(None);
        };
        Ok(Some(Session {
            token_hash: token_hash.to_owned(),
            person,
            csrf,
            created_at: time("sessions", created_at)?,
            expires_at: time("sessions", expires_at)?,
        }))
    }

    pub async fn session_delete(&self, token_hash: &str) -> Result<(), StoreError> {
        self.db
            .write::<()>(&SESSION_DELETE, args![token_hash])
            .await
            .map(drop)
    }

    /// Deletes all sessions.
    pub async fn sessions_end(&self) -> Result<(), StoreError> {
        self.db.write::<()>(&SESSIONS_END, args![]).await.map(drop)
    }

    /// Deletes sessions that ran out and webhooks that were done a week ago. Returns how many
    /// sessions went.
    pub async fn sessions_sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        let gone: Vec<(String,)> = self.db.write(&SESSIONS_SWEEP, args![now]).await?;
        self.db
            .write::<()>(&WEBHOOKS_SWEEP, args![before(now, WEEK)])
            .await?;
        Ok(gone.len() as u64)
    }

    /// Stores a webhook before it is answered. `false`: this identifier came before.
    pub async fn webhook_store(
        &self,
        identifier: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let rows: Vec<(i64,)> = self
            .db
            .write(&WEBHOOK_STORE, args![identifier, body, now])
            .await?;
        Ok(!rows.is_empty())
    }

    /// Webhooks not yet done, oldest first. Without a lease: they are hints, and doing one twice
    /// is harmless.
    pub async fn webhook_take(&self, limit: u32) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let text = "SELECT id, body FROM webhooks WHERE done_at IS NULL ORDER BY id LIMIT $1";
        self.db.read(text, args![limit]).await
    }

    pub async fn webhook_done(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        self.db
            .write::<()>(&WEBHOOK_DONE, args![id, now])
            .await
            .map(drop)
    }
}
