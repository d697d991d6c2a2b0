//! The loop: approved work first, then what a predecessor left, then admissions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_domain::{Clock as _, OsEntropy, SystemClock};
use countersign_store::{Claimed, ExecutorStore, Heartbeat, Orphan, StoreError, ToAdmit};
use countersign_telemetry::Metrics;
use jiff::SignedDuration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admitting::{Admitting, PLACES, Taken};
use crate::config::{ClusterLock, Config};
use crate::executor::{Executor, Failure};
use crate::health::{self, Part, Status};
use crate::looks::Looks;
use crate::rules::Watched;
use crate::sightings::Sightings;
use crate::ticket_look::TicketLook;
use crate::timing::{LEASE, PerMinute};
use crate::{admit, cluster, connect, crash, execute, keys, resolve};

/// Pieces of work at once, watching not counted. More than admissions can take: approved work must
/// never wait behind them.
const SLOTS: usize = PLACES + 1;
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Kubernetes kills after 30 s by default.
const LEAVE_WITHIN: Duration = Duration::from_secs(18);

/// Runs until stopped.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let metrics = Metrics::install()?;
    let status = Arc::new(Status::default());
    status.set(Part::Starting, Some("the executor is starting".to_owned()));
    if let Some(http) = &config.http {
        let listener = tokio::net::TcpListener::bind(http.listen)
            .await
            .map_err(|error| {
                anyhow::anyhow!("cannot listen on {} (`http.listen`): {error}", http.listen)
            })?;
        tracing::info!(address = %listener.local_addr()?, "health and metrics");
        tokio::spawn(health::serve(
            listener,
            Arc::clone(&status),
            metrics,
            stop.clone(),
        ));
    }
    let entropy = OsEntropy;
    let files = &config.keys;
    let pin = keys::pin_path(&files.file, &config.cluster.id);
    let signer = keys::read_or_make(&files.file, &files.public_file, &pin, &entropy)?;
    let own_keys = keys::own_ring(&signer, &files.former_public_files)?;
    tracing::info!(
        kid = signer.kid(),
        instance = config.instance(),
        "countersign-executor"
    );
    let attestation = tokio::select! {
        keys = keys::wait_for_attestation_keys(&config.keys.attestation_public_key_file) => keys?,
        () = stop.cancelled() => return Ok(()),
    };
    let watched = Arc::new(Watched::start(Arc::clone(&config), attestation)?);
    let tickets = config.jira.as_ref().map(TicketLook::new).transpose()?;
    let reader = connect::reader(&config);
    let capabilities =
        cluster::capabilities(connect::access(&config), &config.cluster.register_namespace).await?;
    // Last of what may fail: from here on it is closed whatever happens.
    let database = connect::database(&config, &stop).await?;
    let store = database.executor();
    let beat = Beat {
        store: store.clone(),
        watched: Arc::clone(&watched),
        status: Arc::clone(&status),
        cluster: config.cluster.id.clone(),
        lock: config.cluster.cluster_lock,
        instance: config.instance(),
    };
    let beating = CancellationToken::new();
    let beats = tokio::spawn(beat.clone().every(beating.clone()));

    let result = match connect::identify(&config, &reader, &status, &stop).await {
        Ok(Some(cluster)) => {
            let executor = Arc::new(Executor {
                clock: Arc::new(SystemClock),
                entropy: Arc::new(entropy),
                store,
                reader,
                cluster,
                capabilities,
                tickets,
                own_keys,
                signer,
                watched,
                status: Arc::clone(&status),
                looks: Looks::default(),
                sightings: Sightings::default(),
                instance: config.instance(),
                stop: stop.clone(),
                tasks: TaskTracker::new(),
            });
            // Nothing is claimed by a clock that was not held against the API server's.
            if !probe(&executor).await {
                let sentence = "the API server's clock was not read yet".to_owned();
                status.set(Part::Clock, Some(sentence));
            }
            status.set(Part::Starting, None);
            tokio::spawn(probe_cluster(Arc::clone(&executor)));
            work(&executor, &config).await;
            leave(&executor).await;
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    beating.cancel();
    let _ = beats.await;
    status.set(Part::Starting, Some("the executor was stopped".to_owned()));
    beat.once().await;
    database.close().await;
    tracing::info!("stopped");
    result
}

/// What the loop found to do.
enum Work {
    Approved(Box<Claimed>),
    Orphan(Box<Orphan>),
    Proposal(Box<ToAdmit>, Taken),
}

async fn work(executor: &Arc<Executor>, config: &Config) {
    let poll = config.poll_interval().unwrap_or(Duration::from_millis(250));
    let slots = Arc::new(Semaphore::new(SLOTS));
    let admitting = Admitting::new();
    let mut limit = PerMinute::new(config.admissions_per_minute);
    let mut changes = executor.store.changes();
    let mut watching = true;
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            () = executor.stop.cancelled() => return,
        };
        // Only a closed semaphore fails, and nobody closes it.
        let Ok(slot) = slot else { return };
        if executor.stop.is_cancelled() {
            return;
        }
        changes.borrow_and_update();
        let pause = match next(executor, &admitting, &mut limit).await {
            Ok(Some(work)) => {
                executor.status.set(Part::Database, None);
                executor
                    .tasks
                    .spawn(handle(Arc::clone(executor), work, slot));
                continue;
            }
            Ok(None) => {
                executor.status.set(Part::Database, None);
                poll
            }
            Err(error) => {
                executor.status.set(Part::Database, Some(error.to_string()));
                Duration::from_secs(1)
            }
        };
        drop(slot);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = changes.changed(), if watching => watching = changed.is_ok(),
            () = executor.stop.cancelled() => return,
        }
    }
}

async fn next(
    executor: &Executor,
    admitting: &Admitting,
    limit: &mut PerMinute,
) -> Result<Option<Work>, StoreError> {
    // Leases would be judged by a wrong clock: others' as run out, our own as valid for too long.
    if executor.status.is_set(Part::Clock) {
        return Ok(None);
    }
    let Executor {
        store,
        cluster,
        instance,
        clock,
        ..
    } = executor;
    let now = || clock.now();
    crash::point("claim.before");
    if let Some(claimed) = store
        .next_approved(&cluster.id, instance, LEASE, now())
        .await?
    {
        return Ok(Some(Work::Approved(Box::new(claimed))));
    }
    if let Some(orphan) = store
        .next_orphan(&cluster.id, instance, LEASE, now())
        .await?
    {
        return Ok(Some(Work::Orphan(Box::new(orphan))));
    }
    let Some(mut place) = admitting.place() else {
        return Ok(None);
    };
    while limit.allows(Instant::now()) {
        let found = store.next_to_admit(&cluster.id, instance, LEASE, now());
        let Some(work) = found.await? else {
            return Ok(None);
        };
        match admitting.take(place, &work.action.proposal.agent, Instant::now()) {
            Ok(taken) => {
                limit.take();
                return Ok(Some(Work::Proposal(Box::new(work), taken)));
            }
            Err((back, wait)) => {
                place = back;
                let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO);
                admit::park(executor, &work, wait).await?;
            }
        }
    }
    Ok(None)
}

async fn handle(executor: Arc<Executor>, work: Work, slot: OwnedSemaphorePermit) {
    let (action, done): (_, Result<(), Failure>) = match work {
        Work::Approved(claimed) => (
            claimed.action.id,
            execute::execute(&executor, *claimed, slot).await,
        ),
        Work::Orphan(orphan) => {
            // Only looks, and may look for long.
            drop(slot);
            (orphan.action.id, resolve::adopt(&executor, *orphan).await)
        }
        Work::Proposal(work, _taken) => {
            let id = work.action.id;
            let done = admit::admit(&executor, *work).await;
            drop(slot);
            (id, done)
        }
    };
    if let Err(error) = done {
        tracing::error!(%action, %error, "could not be finished now; offered again");
    }
}

/// No new claims; the running ones end by themselves or give their rows back.
async fn leave(executor: &Executor) {
    tracing::info!("stopping: no new claims");
    executor.tasks.close();
    if tokio::time::timeout(LEAVE_WITHIN, executor.tasks.wait())
        .await
        .is_err()
    {
        tracing::error!("work did not end in time; its leases run out by themselves");
    }
}

/// Tells now and then whether approved work could run.
async fn probe_cluster(executor: Arc<Executor>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
            () = executor.stop.cancelled() => return,
        }
        probe(&executor).await;
    }
}

/// One look at the cluster's identity and clock. Whether the clock could be read.
async fn probe(executor: &Executor) -> bool {
    let (uid, time) = tokio::join!(executor.reader.kube_system_uid(), executor.api_time());
    let read = time.is_ok();
    let problem = match (uid, time) {
        (Err(error), _) | (_, Err(error)) => Some(format!("the cluster cannot be read: {error}")),
        (Ok(uid), _) if uid != executor.cluster.kube_system_uid => {
            Some("the cluster behind this executor is another one now".to_owned())
        }
        (Ok(_), Ok(_)) => None,
    };
    executor.status.set(Part::Cluster, problem);
    read
}

#[derive(Clone)]
struct Beat {
    store: ExecutorStore,
    watched: Arc<Watched>,
    status: Arc<Status>,
    cluster: String,
    lock: ClusterLock,
    instance: String,
}

impl Beat {
    async fn every(self, stop: CancellationToken) {
        loop {
            self.watched.refresh();
            self.status.set(Part::Rules, self.watched.problem());
            let freeze = self.watched.rules().policy.freeze.clone();
            self.status.set(
                Part::Freeze,
                freeze.map(|freeze| format!("frozen: {}", freeze.reason)),
            );
            self.once().await;
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn once(&self) {
        let heartbeat = Heartbeat {
            cluster: self.cluster.clone(),
            executor: self.instance.clone(),
            at: SystemClock.now(),
            status: self.status.sentence(),
            policy_hash: self.watched.rules().policy.hash().to_string(),
            cluster_lock: self.lock.as_str().to_owned(),
        };
        // The loop tells of a database that is gone.
        if let Err(error) = self.store.heartbeat(&heartbeat).await {
            tracing::debug!(%error, "no heartbeat");
        }
    }
}
