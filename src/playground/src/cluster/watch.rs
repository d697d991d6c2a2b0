//! Watches: one JSON document per line, from a resource version or from the current state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::kinds::Kind;
use super::object;
use super::request::Asked;
use super::rest::namespace_of;
use super::selector::Filter;
use super::state::Shared;
use super::status::Refusal;
use super::store::{Change, ChangeKind};

/// A real server ends a watch after a random 30 to 60 minutes.
const LONGEST: u64 = 1800;
/// Bookmarks come about once a minute, and this long before the end of a watch.
const BOOKMARKS: Duration = Duration::from_secs(60);
const LAST_WORDS: Duration = Duration::from_secs(2);

struct Watch {
    shared: Arc<Shared>,
    kind: &'static Kind,
    namespace: String,
    filter: Filter,
    written: tokio::sync::watch::Receiver<u64>,
    /// Changes up to this version were reported.
    seen: u64,
    ready: VecDeque<Bytes>,
    until: Instant,
    /// When the next bookmark is due, for a client that wants them.
    bookmark: Option<Instant>,
    ended: bool,
}

pub fn watch(
    shared: &Arc<Shared>,
    kind: &'static Kind,
    asked: &Asked,
) -> Result<Response<Body>, Refusal> {
    let filter = Filter::parse(
        kind,
        asked.query("labelSelector"),
        asked.query("fieldSelector"),
    )?;
    let seconds = match asked.query("timeoutSeconds") {
        Some(text) => text.parse().map_err(|_| {
            Refusal::bad_request(&format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        })?,
        None => LONGEST,
    };
    let from: u64 = match asked.query("resourceVersion") {
        Some(text) => text
            .parse()
            .map_err(|_| Refusal::bad_request(&format!("invalid resource version {text:?}")))?,
        None => 0,
    };
    let initial = asked.flag("sendInitialEvents");
    if initial && asked.query("resourceVersionMatch") != Some("NotOlderThan") {
        let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                       sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(Refusal::bad_request(message));
    }
    let cluster = shared.read();
    let mut watch = Watch {
        shared: shared.clone(),
        kind,
        namespace: namespace_of(kind, asked).to_owned(),
        filter,
        written: cluster.store.subscribe(),
        seen: from,
        ready: VecDeque::new(),
        until: Instant::now() + Duration::from_secs(seconds.min(LONGEST)),
        bookmark: None,
        ended: false,
    };
    if asked.flag("allowWatchBookmarks") {
        watch.bookmark = watch.next_bookmark();
    }
    if from == 0 || initial {
        watch.seen = cluster.store.version();
        for object in cluster.store.list(kind, &watch.namespace) {
            if watch.filter.lets_through(object) {
                watch.ready.push_back(line("ADDED", object));
            }
        }
        if initial && asked.flag("allowWatchBookmarks") {
            watch
                .ready
                .push_back(line("BOOKMARK", &initial_events_end(kind, watch.seen)));
        }
    } else if from < cluster.store.oldest_watchable() {
        // After the request was accepted, errors travel as events: HTTP stays 200.
        let message = format!(
            "too old resource version: {from} ({})",
            cluster.store.oldest_watchable()
        );
        watch
            .ready
            .push_back(line("ERROR", Refusal::expired(&message).body()));
        watch.ended = true;
    }
    drop(cluster);
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        watch
            .next()
            .await
            .map(|line| (Ok::<_, std::convert::Infallible>(line), watch))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.collect();
            if !self.ready.is_empty() {
                continue;
            }
            let bookmark = self.bookmark;
            tokio::select! {
                changed = self.written.changed() => self.ended = changed.is_err(),
                () = tokio::time::sleep_until(self.until) => self.ended = true,
                () = at(bookmark) => {
                    let mark = line("BOOKMARK", &bookmark_at(self.kind, self.seen));
                    self.ready.push_back(mark);
                    self.bookmark = self.next_bookmark();
                }
            }
        }
    }

    /// In a minute or just before the end, as the API server does it; none after that.
    fn next_bookmark(&self) -> Option<Instant> {
        let now = Instant::now();
        let last = self.until.checked_sub(LAST_WORDS)?;
        (now < last).then(|| last.min(now + BOOKMARKS))
    }

    /// Takes what happened since the last look.
    fn collect(&mut self) {
        let shared = self.shared.clone();
        let cluster = shared.read();
        self.written.mark_unchanged();
        if self.seen < cluster.store.oldest_watchable() {
            // A reader so slow that changes were forgotten must list again.
            let message = format!("too old resource version: {}", self.seen);
            self.ready
                .push_back(line("ERROR", Refusal::expired(&message).body()));
            self.ended = true;
            return;
        }
        for change in cluster.store.changes_after(self.seen) {
            self.seen = change.version;
            if let Some(event) = self.event(change) {
                self.ready.push_back(line(event, &change.object));
            }
        }
    }

    fn event(&self, change: &Change) -> Option<&'static str> {
        let mine = change.plural == self.kind.plural
            && (self.namespace.is_empty() || object::namespace(&change.object) == self.namespace);
        if !mine {
            return None;
        }
        let was = change
            .before
            .as_ref()
            .is_some_and(|before| self.filter.lets_through(before));
        let is = change.kind != ChangeKind::Deleted && self.filter.lets_through(&change.object);
        match (was, is) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }
}

/// At that time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn bookmark_at(kind: &Kind, version: u64) -> Value {
    json!({
        "kind": kind.kind, "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
    })
}

fn initial_events_end(kind: &Kind, version: u64) -> Value {
    let mut bookmark = bookmark_at(kind, version);
    bookmark["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    bookmark
}

fn line(event: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{event}\",\"object\":{object}}}\n"))
}
