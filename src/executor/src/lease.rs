//! A claimed row: its lease, kept alive while somebody works on it, given back when nobody does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_domain::{ActionId, Clock};
use countersign_store::{ExecutorStore, Lease};
use jiff::Timestamp;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::executor::Executor;
use crate::timing::LEASE;

const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Dropping it gives the row back, unless a transition ended the lease ([`Claim::settled`]).
pub struct Claim {
    action: ActionId,
    state: Arc<Mutex<State>>,
    renewer: AbortHandle,
    store: ExecutorStore,
    tasks: TaskTracker,
}

struct State {
    lease: Lease,
    /// Somebody else may have the row, or the store ended the lease with a transition.
    over: bool,
}

impl Claim {
    /// Takes over a lease and keeps it alive.
    pub fn keep(executor: &Executor, action: ActionId, lease: Lease) -> Self {
        let state = Arc::new(Mutex::new(State { lease, over: false }));
        let renewing = renew(
            executor.store.clone(),
            Arc::clone(&executor.clock),
            action,
            Arc::clone(&state),
        );
        Self {
            action,
            state,
            renewer: tokio::spawn(renewing).abort_handle(),
            store: executor.store.clone(),
            tasks: executor.tasks.clone(),
        }
    }

    pub fn lease(&self) -> Lease {
        lock(&self.state).lease.clone()
    }

    pub fn until(&self) -> Timestamp {
        lock(&self.state).lease.until
    }

    /// Somebody else may work on the row now.
    pub fn lost(&self) -> bool {
        lock(&self.state).over
    }

    /// The store ended the lease together with a transition or a hold.
    pub fn settled(self) {
        lock(&self.state).over = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.renewer.abort();
        let state = lock(&self.state);
        if state.over {
            return;
        }
        let (store, action, lease) = (self.store.clone(), self.action, state.lease.clone());
        // The lease runs out by itself if this fails or if there is no runtime any more.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.tasks.spawn(async move {
                if let Err(error) = store.release(action, &lease).await {
                    tracing::warn!(%action, %error, "a claim could not be given back");
                }
            });
        }
    }
}

async fn renew(
    store: ExecutorStore,
    clock: Arc<dyn Clock>,
    action: ActionId,
    state: Arc<Mutex<State>>,
) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let lease = lock(&state).lease.clone();
        match store.renew(action, &lease, clock.now() + LEASE).await {
            Ok(Some(renewed)) => lock(&state).lease = renewed,
            Ok(None) => {
                lock(&state).over = true;
                return;
            }
            // Tried again; whoever writes under this lease looks at its end first.
            Err(error) => tracing::warn!(%action, %error, "a lease could not be renewed"),
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
