//! One kind of object, listed and then watched: the loop that keeps a shelf equal to the cluster.
//!
//! The rules of the protocol: list in pages, watch from the list's resource version, remember the
//! version of each change and bookmark, resume from there; after 410 list again. The watch is asked
//! to end after half a minute or so: a stream that shows no life by then is frozen, however alive
//! its connection looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use countersign_domain::{Clock, Entropy};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::error::KubeError;
use super::super::reader::{KubeReader, collection, encode};
use super::super::watch::{Identified as _, IdentityMeta, Told, WatchLine, WatchStream};
use super::super::wire::Meta;
use super::shelf::Shelf;
use super::{Scope, Settings};

/// A kind as it stands in paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resource {
    pub group: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Between attempts at what our account may not read.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A change that happens while a watch ends may be told by the next one only.
const LAST_MOMENT: SignedDuration = SignedDuration::from_secs(1);
/// A watch that ends sooner than this did not work.
const SHORTEST_WATCH: Duration = Duration::from_millis(500);

/// What all feeds of a cluster need.
pub(super) struct Supply {
    pub reader: KubeReader,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub settings: Settings,
    /// One page at a time is in memory.
    pub turn: Semaphore,
}

pub(super) struct Feed<S> {
    resource: Resource,
    /// Only this namespace.
    namespace: Option<String>,
    state: RwLock<State<S>>,
}

struct State<S> {
    shelf: S,
    filled: bool,
    link: Link,
    /// The shelf was right for every namespace at this time: of the list, or of a bookmark.
    confirmed: Timestamp,
    /// The last change in a namespace since then. Separate, so that the age of an answer about one
    /// namespace does not tell of changes in another.
    heard: BTreeMap<Box<str>, Timestamp>,
    /// A watch was cut off and goes on from where it was: what arrives may be long past, and says
    /// nothing about now.
    behind: bool,
    /// Objects that do not decode, by namespace and name.
    unreadable: BTreeSet<Key>,
}

impl<S> State<S> {
    /// An object decodes. Moves `version` along; hands out the object's namespace.
    fn arrives(&mut self, meta: &Meta, version: &mut String) -> Box<str> {
        version.clone_from(&meta.resource_version);
        if !self.unreadable.is_empty() {
            let key = (meta.namespace.as_str().into(), meta.name.as_str().into());
            self.unreadable.remove(&key);
        }
        meta.namespace.as_str().into()
    }
}

/// Namespace and name.
type Key = (Box<str>, Box<str>);

fn key(identity: &IdentityMeta) -> Key {
    (
        identity.namespace.as_str().into(),
        identity.name.as_str().into(),
    )
}

/// Whether changes arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Link {
    Up,
    Down(KubeError),
}

/// What a shelf was asked, and how much that is worth.
#[derive(Clone, Debug)]
pub(in super::super) struct Looked<T> {
    pub data: T,
    pub as_of: Timestamp,
    /// The watch works and showed life not long ago.
    pub fresh: bool,
    pub unreadable: usize,
}

impl<T: Default> Looked<T> {
    /// Nothing, known for certain at `now`.
    pub(in super::super) fn certain(now: Timestamp) -> Self {
        Self {
            data: T::default(),
            as_of: now,
            fresh: true,
            unreadable: 0,
        }
    }
}

impl<T> Looked<T> {
    pub(in super::super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Looked<U> {
        Looked {
            data: change(self.data),
            as_of: self.as_of,
            fresh: self.fresh,
            unreadable: self.unreadable,
        }
    }

    /// As old as the older of both.
    pub(in super::super) fn and<U>(self, other: &Looked<U>) -> Self {
        Self {
            as_of: self.as_of.min(other.as_of),
            fresh: self.fresh && other.fresh,
            ..self
        }
    }
}

/// How a watch ended.
enum End {
    /// As asked, or early: go on from where it was.
    Resume,
    /// Only a new list helps.
    Expired,
    /// The server said that it failed.
    Failed(KubeError),
}

impl<S: Shelf> Feed<S> {
    pub(super) fn new(resource: Resource, namespace: Option<String>) -> Self {
        let state = State {
            shelf: S::default(),
            filled: false,
            link: Link::Up,
            confirmed: Timestamp::UNIX_EPOCH,
            heard: BTreeMap::new(),
            behind: false,
            unreadable: BTreeSet::new(),
        };
        Self {
            resource,
            namespace,
            state: RwLock::new(state),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State<S>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, State<S>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// It holds a part of `scope`.
    pub(super) fn concerns(&self, scope: &Scope) -> bool {
        let namespace = self.namespace.as_deref();
        namespace.is_none_or(|namespace| scope.covers(namespace))
    }

    /// Asks the shelf, for answers about `scope`; nothing before the first list.
    pub(super) fn look<T>(
        &self,
        scope: &Scope,
        now: Timestamp,
        fresh_for: SignedDuration,
        read: impl FnOnce(&S) -> T,
    ) -> Option<Looked<T>> {
        let state = self.state();
        if !state.filled {
            return None;
        }
        let heard = match scope {
            Scope::All => state.heard.values().max(),
            Scope::Namespaces(names) => names
                .iter()
                .filter_map(|name| state.heard.get(name.as_str()))
                .max(),
        };
        let as_of = heard.map_or(state.confirmed, |heard| state.confirmed.max(*heard));
        Some(Looked {
            data: read(&state.shelf),
            as_of,
            fresh: state.link == Link::Up && now.duration_since(as_of) <= fresh_for,
            unreadable: state
                .unreadable
                .iter()
                .filter(|(namespace, _)| scope.covers(namespace))
                .count(),
        })
    }

    /// Our account may not read this: so the answers of the API would be refused, too.
    pub(super) fn is_refused(&self) -> bool {
        matches!(
            self.state().link,
            Link::Down(KubeError::Forbidden { .. } | KubeError::NotFound { .. })
        )
    }

    /// It was listed, or cannot be.
    pub(super) fn is_settled(&self) -> bool {
        self.state().filled || self.is_refused()
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self: Arc<Self>, supply: Arc<Supply>) {
        let mut version: Option<String> = None;
        let mut failures: u32 = 0;
        loop {
            let error = match &mut version {
                None => match self.fill(&supply).await {
                    Ok(listed) => {
                        version = Some(listed);
                        continue;
                    }
                    Err(error) => error,
                },
                Some(reached) => {
                    let (began, before) = (Instant::now(), reached.clone());
                    let end = self.follow(&supply, reached).await;
                    let worked = *reached != before || began.elapsed() > SHORTEST_WATCH;
                    if worked {
                        failures = 0;
                    }
                    match end {
                        Ok(End::Resume) if worked => continue,
                        Ok(End::Resume) => unavailable("the watch ended as soon as it began"),
                        Ok(End::Expired) => {
                            version = None;
                            let what = self.resource.plural.to_owned();
                            KubeError::Gone { what }
                        }
                        Ok(End::Failed(error)) => {
                            // What fails twice at the same place would fail there for ever.
                            if !worked && failures > 0 {
                                version = None;
                            }
                            error
                        }
                        Err(error) => error,
                    }
                }
            };
            // A new list helps at once, if it helps; after that nobody is hurried.
            let at_once = version.is_none() && failures == 0 && error.is_transient();
            let pause = match self.broke(error) {
                true => REFUSED_PAUSE,
                false => LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(failures.min(10))),
            };
            failures = failures.saturating_add(1);
            if !at_once {
                sleep(supply.jitter(pause)).await;
            }
        }
    }

    /// Notes that changes no longer arrive. True where that is for lack of rights.
    fn broke(&self, error: KubeError) -> bool {
        let mut state = self.change();
        let refused = matches!(
            error,
            KubeError::Forbidden { .. } | KubeError::NotFound { .. }
        );
        if state.link == Link::Up {
            let (what, namespace) = (self.resource.plural, self.namespace.as_deref());
            tracing::warn!(what, namespace, %error, "a watch broke; reads go to the API meanwhile");
        }
        state.link = Link::Down(error);
        state.behind = true;
        refused
    }

    /// Lists everything anew, aside, and puts it in the place of what was held.
    async fn fill(&self, supply: &Supply) -> Result<String, KubeError> {
        let Resource {
            group,
            plural,
            kind,
        } = self.resource;
        let path = collection(group, self.namespace.as_deref(), plural)?;
        let begun = supply.clock.now();
        let (mut shelf, mut unreadable) = (S::default(), BTreeSet::new());
        let mut version = None;
        let mut pages = supply.reader.pages(&path, &[], plural);
        loop {
            let _turn = supply.turn.acquire().await;
            let Some(page) = pages.read::<S::Wire>(supply.settings.page).await? else {
                break;
            };
            unreadable.extend(page.unreadable.iter().map(key));
            // Later pages may be of a later version: what changed in between comes again.
            version = version.or(page.resource_version);
            for wire in page.items {
                shelf.put(wire, kind);
            }
        }
        let version = version.ok_or_else(|| KubeError::Unexpected {
            what: plural.to_owned(),
            problem: "the list has no resource version".to_owned(),
        })?;
        *self.change() = State {
            shelf,
            filled: true,
            link: Link::Up,
            confirmed: begun,
            heard: BTreeMap::new(),
            behind: false,
            unreadable,
        };
        Ok(version)
    }

    /// Watches from `version` on, and moves it along.
    async fn follow(&self, supply: &Supply, version: &mut String) -> Result<End, KubeError> {
        let Resource { group, plural, .. } = self.resource;
        let path = collection(group, self.namespace.as_deref(), plural)?;
        let lasting = supply.settings.watch_for;
        let seconds = supply.jitter(lasting).as_secs().max(1);
        let query = encode([
            ("watch", Some("true".to_owned())),
            ("allowWatchBookmarks", Some("true".to_owned())),
            ("resourceVersion", Some(version.clone())),
            ("timeoutSeconds", Some(seconds.to_string())),
        ]);
        let opened = supply
            .reader
            .connection
            .open(&format!("{path}?{query}"), plural)
            .await;
        let chunks = match opened {
            Err(KubeError::Gone { .. }) => return Ok(End::Expired),
            opened => opened?,
        };
        let mut stream = WatchStream::new(chunks);
        // By then the server has ended the watch, or it is not listening any more.
        let asked_for = Instant::now() + Duration::from_secs(seconds);
        // By the wall: a process that slept finds the end in its socket, long after it was sent.
        let lasts = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
        let opened = supply.clock.now();
        let ends = opened.saturating_add(lasts).unwrap_or(opened);
        let until = asked_for + supply.settings.grace;
        self.reached();
        loop {
            let told = timeout_at(until, stream.next::<S::Wire>(plural))
                .await
                .unwrap_or_else(|_| Err(unavailable("the watch is frozen")))?;
            match told {
                None => {
                    // Ended as asked. Where nothing happens there is not even a bookmark: real
                    // servers send one only when the version has moved.
                    if Instant::now() >= asked_for {
                        self.vouched_for(ends);
                    } else {
                        self.change().behind = true;
                    }
                    return Ok(End::Resume);
                }
                Some(Told::Line(WatchLine::Error(error))) if error.is_expired() => {
                    return Ok(End::Expired);
                }
                Some(Told::Line(WatchLine::Error(error))) => {
                    let message = crate::untrusted::line(&error.message, 200);
                    let error = unavailable(&format!("{} {message}", error.code));
                    return Ok(End::Failed(error));
                }
                Some(Told::Garbled) => {
                    // What it was about is unknown, so any object may be wrong now.
                    tracing::warn!(what = plural, "a line of a watch cannot be read");
                    return Ok(End::Expired);
                }
                Some(told) => self.apply(told, version, supply.clock.now()),
            }
        }
    }

    /// The API server answered.
    fn reached(&self) {
        if self.state().link != Link::Up {
            tracing::info!(what = self.resource.plural, "the watch works again");
            self.change().link = Link::Up;
        }
    }

    /// A watch has run its time: what it had to say has been said, but for its last moment.
    fn vouched_for(&self, now: Timestamp) {
        let mut state = self.change();
        let until = now.checked_sub(LAST_MOMENT).unwrap_or(now);
        state.confirmed = state.confirmed.max(until);
        state.behind = false;
    }

    fn apply(&self, told: Told<S::Wire>, version: &mut String, now: Timestamp) {
        let mut state = self.change();
        let namespace: Box<str> = match told {
            Told::Line(WatchLine::Bookmark(bookmark)) => {
                *version = bookmark.metadata.resource_version;
                state.confirmed = now;
                state.heard.clear();
                state.behind = false;
                return;
            }
            Told::Line(WatchLine::Added(wire)) => {
                let namespace = state.arrives(wire.meta(), version);
                state.shelf.put(wire, self.resource.kind);
                namespace
            }
            Told::Line(WatchLine::Modified(wire)) => {
                let namespace = state.arrives(wire.meta(), version);
                state.shelf.change(wire, self.resource.kind);
                namespace
            }
            Told::Line(WatchLine::Deleted(wire)) => {
                let meta = wire.meta();
                state.shelf.remove(&meta.namespace, &meta.name);
                state.arrives(meta, version)
            }
            Told::Unreadable { identity, gone } => {
                let key = key(&identity);
                if let Some(reached) = identity.resource_version {
                    *version = reached;
                }
                state.shelf.remove(&key.0, &key.1);
                if gone {
                    state.unreadable.remove(&key);
                } else {
                    state.unreadable.insert(key.clone());
                }
                key.0
            }
            Told::Line(WatchLine::Error(_)) | Told::Garbled => return,
        };
        if state.behind {
            return;
        }
        match state.heard.get_mut(&namespace) {
            Some(heard) => *heard = now,
            None => {
                state.heard.insert(namespace, now);
            }
        }
    }
}

fn unavailable(problem: &str) -> KubeError {
    KubeError::Unavailable {
        problem: problem.to_owned(),
    }
}

impl Supply {
    /// Between two thirds of `pause` and all of it: many watches must not come back in step.
    fn jitter(&self, pause: Duration) -> Duration {
        let mut byte = [0];
        self.entropy.fill(&mut byte);
        pause.mul_f64(2.0 / 3.0 + f64::from(byte[0]) / 765.0)
    }
}
