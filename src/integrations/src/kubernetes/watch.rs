//! The watch protocol: one JSON document per line, each a change, a bookmark or an error.
//!
//! Bytes come in pieces of any size. A line has an upper bound: the API server stores nothing that
//! large, so a longer one is not a change that could be applied.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::connection::Chunks;
use super::error::KubeError;
use super::pod_detail::WireDetail;
use super::wire::{List, Meta};
use super::wire_pod::WirePod;

/// etcd refuses objects above 1.5 MiB; escaping may make them larger on the wire.
const LONGEST_LINE: usize = 8 << 20;
/// What is kept of the line buffer between lines.
const KEPT: usize = 64 << 10;

/// One line of a watch.
#[derive(Debug)]
pub(super) enum WatchLine<W> {
    Added(W),
    Modified(W),
    Deleted(W),
    Bookmark(Bookmark),
    Error(WatchError),
}

/// A line before it is known what it is about. The object stays text, so that each shape has one
/// decoder only: serde's enums would make further ones, for objects that come before their type.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Debug, Deserialize)]
pub(super) struct Bookmark {
    pub metadata: BookmarkMeta,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BookmarkMeta {
    pub resource_version: String,
}

/// A Status, sent in place of a change; the stream ends after it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchError {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

impl WatchError {
    /// The resource version is too old: only a new list helps.
    pub(super) fn is_expired(&self) -> bool {
        self.code == 410 || matches!(self.reason.as_str(), "Expired" | "Gone")
    }
}

/// What an object or a page of them is decoded into.
pub(super) trait Decode: Sized {
    fn list(body: &[u8]) -> serde_json::Result<List<Self>>;
    fn object(object: &RawValue) -> serde_json::Result<Self>;
}

impl<W: DeserializeOwned> Decode for W {
    fn list(body: &[u8]) -> serde_json::Result<List<Self>> {
        serde_json::from_slice(body)
    }

    fn object(object: &RawValue) -> serde_json::Result<Self> {
        serde_json::from_slice(object.get().as_bytes())
    }
}

/// A pod with its details: both shapes of one text. Reading it twice costs less than any copy.
pub(super) struct WirePodInFull {
    pub pod: WirePod,
    pub detail: WireDetail,
}

impl Decode for WirePodInFull {
    fn list(body: &[u8]) -> serde_json::Result<List<Self>> {
        let pods: List<WirePod> = serde_json::from_slice(body)?;
        let details: List<WireDetail> = serde_json::from_slice(body)?;
        let both = pods.items.into_iter().zip(details.items);
        Ok(List {
            metadata: pods.metadata,
            items: both.map(|(pod, detail)| Self { pod, detail }).collect(),
        })
    }

    fn object(object: &RawValue) -> serde_json::Result<Self> {
        Ok(Self {
            pod: Decode::object(object)?,
            detail: Decode::object(object)?,
        })
    }
}

impl Identified for WirePodInFull {
    fn meta(&self) -> &Meta {
        self.pod.meta()
    }
}

/// Objects that say who they are.
pub(super) trait Identified {
    fn meta(&self) -> &Meta;
}

/// Just the identity: of an object whose rest does not decode.
#[derive(Debug, Deserialize)]
pub(super) struct Identity {
    pub metadata: IdentityMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdentityMeta {
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    pub resource_version: Option<String>,
}

impl IdentityMeta {
    /// Of an object as it came; blank where it does not even say who it is.
    pub(super) fn of(object: &RawValue) -> Self {
        Identity::object(object)
            .map(|identity| identity.metadata)
            .unwrap_or_default()
    }
}

/// A line that was read.
#[derive(Debug)]
pub(super) enum Told<W> {
    Line(WatchLine<W>),
    /// A change of an object that does not decode.
    Unreadable {
        identity: IdentityMeta,
        /// It was deleted.
        gone: bool,
    },
    /// Not even an identity, or longer than any object.
    Garbled,
}

/// Cuts a watch's body into lines.
pub(super) struct WatchStream {
    chunks: Chunks,
    /// Read and not yet handed out, from `from` on.
    pending: Vec<u8>,
    from: usize,
    /// Up to here there is no line end.
    searched: usize,
    /// The rest of a line that is too long is being skipped.
    skipping: bool,
}

impl WatchStream {
    pub(super) fn new(chunks: Chunks) -> Self {
        Self {
            chunks,
            pending: Vec::new(),
            from: 0,
            searched: 0,
            skipping: false,
        }
    }

    /// The next line, or nothing when the server has ended the watch.
    ///
    /// Cancelling the future loses nothing.
    pub(super) async fn next<W: Decode>(
        &mut self,
        what: &str,
    ) -> Result<Option<Told<W>>, KubeError> {
        loop {
            let line_end = self.pending[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|at| self.searched + at);
            if let Some(end) = line_end {
                let line = &self.pending[self.from..end];
                let told = match line.trim_ascii() {
                    _ if self.skipping => Some(Told::Garbled),
                    [] => None,
                    line => Some(decode(line)),
                };
                self.skipping = false;
                self.from = end + 1;
                self.searched = self.from;
                if told.is_some() {
                    return Ok(told);
                }
                continue;
            }
            self.pending.drain(..self.from);
            self.from = 0;
            if self.pending.len() > LONGEST_LINE {
                self.skipping = true;
            }
            if self.skipping {
                self.pending.clear();
            }
            if self.pending.is_empty() {
                self.pending.shrink_to(KEPT);
            }
            self.searched = self.pending.len();
            match self.chunks.next(what).await? {
                Some(chunk) => self.pending.extend_from_slice(&chunk),
                // Half a line at the end was cut off: what it said comes again after a resume.
                None => return Ok(None),
            }
        }
    }
}

fn decode<W: Decode>(line: &[u8]) -> Told<W> {
    let Ok(Envelope { kind, object }) = serde_json::from_slice(line) else {
        return Told::Garbled;
    };
    let told = match kind.as_ref() {
        "ADDED" => W::object(object).map(WatchLine::Added),
        "MODIFIED" => W::object(object).map(WatchLine::Modified),
        "DELETED" => W::object(object).map(WatchLine::Deleted),
        "BOOKMARK" => {
            return Bookmark::object(object)
                .map_or(Told::Garbled, |mark| Told::Line(WatchLine::Bookmark(mark)));
        }
        "ERROR" => {
            return WatchError::object(object)
                .map_or(Told::Garbled, |error| Told::Line(WatchLine::Error(error)));
        }
        _ => return Told::Garbled,
    };
    match told {
        Ok(line) => Told::Line(line),
        Err(_) => Identity::object(object).map_or(Told::Garbled, |it| Told::Unreadable {
            identity: it.metadata,
            gone: kind == "DELETED",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_for_what_it_says() {
        let told = |line: &str| decode::<Identity>(line.as_bytes());
        let pod = r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}"#;
        assert!(matches!(told(pod), Told::Line(WatchLine::Added(pod)) if pod.metadata.name == "a"));
        let swapped = r#"{"object":{"metadata":{"name":"a"}},"type":"DELETED"}"#;
        assert!(matches!(told(swapped), Told::Line(WatchLine::Deleted(_))));
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":
            {"resourceVersion":"12","creationTimestamp":null}}}"#;
        assert!(
            matches!(told(bookmark), Told::Line(WatchLine::Bookmark(mark))
                if mark.metadata.resource_version == "12")
        );
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#;
        assert!(matches!(told(gone), Told::Line(WatchLine::Error(error)) if error.is_expired()));
        for garbled in ["{", "[]", r#"{"type":"NEW","object":{}}"#, "\u{0}"] {
            assert!(matches!(told(garbled), Told::Garbled), "{garbled}");
        }
    }

    #[test]
    fn an_object_that_does_not_decode_still_says_who_it_is() {
        #[derive(Debug, Deserialize)]
        struct Strict {
            #[expect(dead_code, reason = "only its absence matters")]
            spec: u32,
        }
        let line = br#"{"type":"MODIFIED","object":{"metadata":{"name":"a","namespace":"b"}}}"#;
        assert!(
            matches!(decode::<Strict>(line), Told::Unreadable { identity, gone: false }
            if identity.name == "a" && identity.namespace == "b")
        );
        let line = br#"{"type":"DELETED","object":{"metadata":{"name":"a"}}}"#;
        assert!(matches!(
            decode::<Strict>(line),
            Told::Unreadable { gone: true, .. }
        ));
    }
}
