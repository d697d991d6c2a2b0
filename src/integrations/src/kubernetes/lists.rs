//! Lists of the API, read page by page.
//!
//! The pages of a list are of one snapshot, which its `continue` token leads through. Where the
//! cluster has compacted the snapshot away meanwhile (410), what was read is worth nothing: the
//! list is begun anew, once.

use serde_json::value::RawValue;

use super::connection::decode;
use super::error::KubeError;
use super::reader::{KubeReader, encode};
use super::watch::{Decode, IdentityMeta};
use super::wire::List;

/// Objects asked for at once: pages of 500 keep a list of 10,000 pods near 35 MB at the peak.
pub(super) const PAGE: usize = 500;
/// Where reading a list ends although the cluster has more. [`Listing::complete`] says so.
pub(super) const LONGEST_LIST: usize = 50_000;

/// A page of a list.
pub(super) struct Page<W> {
    pub items: Vec<W>,
    pub resource_version: Option<String>,
    /// Objects that do not decode.
    pub unreadable: Vec<IdentityMeta>,
    next: Option<String>,
}

/// A list that was read.
pub(super) struct Listing<R> {
    pub items: Vec<R>,
    /// The cluster has no more of them.
    pub complete: bool,
    /// How many do not decode and are missing in `items`.
    pub unreadable: usize,
    pub resource_version: Option<String>,
}

/// A list that is being read.
pub(super) struct Pages<'a> {
    reader: &'a KubeReader,
    path: &'a str,
    query: &'a [(&'a str, Option<&'a str>)],
    what: &'a str,
    place: Place,
    /// The page that was read last, as it came. Megabytes: not asked for anew for each page.
    body: Vec<u8>,
}

enum Place {
    Start,
    /// Behind the page that came with this token.
    After(String),
    End,
}

impl KubeReader {
    /// Begins to read a list. `what` names it in errors.
    pub(super) fn pages<'a>(
        &'a self,
        path: &'a str,
        query: &'a [(&'a str, Option<&'a str>)],
        what: &'a str,
    ) -> Pages<'a> {
        Pages {
            reader: self,
            path,
            query,
            what,
            place: Place::Start,
            body: Vec::new(),
        }
    }

    /// Reads a whole list, at most `max` of it, and converts each page before the next is read.
    pub(super) async fn list<W: Decode, R>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        what: &str,
        max: usize,
        convert: impl Fn(W) -> R,
    ) -> Result<Listing<R>, KubeError> {
        let max = max.clamp(1, LONGEST_LIST);
        let convert = &convert;
        anew_once(|| async move {
            let mut list = Listing {
                items: Vec::new(),
                complete: true,
                unreadable: 0,
                resource_version: None,
            };
            let mut pages = self.pages(path, query, what);
            while list.items.len() < max
                && let Some(page) = pages.read::<W>(PAGE.min(max - list.items.len())).await?
            {
                list.items.extend(page.items.into_iter().map(convert));
                list.unreadable += page.unreadable.len();
                list.resource_version = page.resource_version;
            }
            list.items.truncate(max);
            list.complete = pages.at_end();
            Ok(list)
        })
        .await
    }

    /// Reads all pages of a list, however many, and lets `take` keep of each what it wants.
    pub(super) async fn fold_pages<W: Decode, K: Default>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        what: &str,
        take: impl Fn(&mut K, Page<W>),
    ) -> Result<K, KubeError> {
        let take = &take;
        anew_once(|| async move {
            let mut kept = K::default();
            let mut pages = self.pages(path, query, what);
            while let Some(page) = pages.read::<W>(PAGE).await? {
                take(&mut kept, page);
            }
            Ok(kept)
        })
        .await
    }

    /// One page of a list. An object that does not decode is left out and told: one such object
    /// must not hide all the others.
    async fn page<W: Decode>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        what: &str,
        limit: usize,
        next: Option<&str>,
        body: &mut Vec<u8>,
    ) -> Result<Page<W>, KubeError> {
        let asked = query
            .iter()
            .map(|(key, value)| (*key, value.map(str::to_owned)));
        let query = encode(
            [("limit", Some(limit.to_string()))]
                .into_iter()
                .chain(asked)
                .chain([("continue", next.map(str::to_owned))]),
        );
        self.connection
            .get_into(&format!("{path}?{query}"), what, body)
            .await?;
        let mut unreadable = Vec::new();
        let (metadata, items) = match W::list(body) {
            Ok(page) => (page.metadata, page.items),
            Err(error) => {
                let page: List<&RawValue> = decode(body, what)?;
                let mut items = Vec::new();
                for object in page.items {
                    let identity = IdentityMeta::of(object);
                    match W::object(object) {
                        Ok(item) => items.push(item),
                        Err(_) => unreadable.push(identity),
                    }
                }
                let unreadable = unreadable.len();
                tracing::warn!(%error, unreadable, "objects of a list cannot be read");
                (page.metadata, items)
            }
        };
        Ok(Page {
            items,
            next: metadata.next.filter(|token| !token.is_empty()),
            resource_version: metadata.resource_version,
            unreadable,
        })
    }
}

impl Pages<'_> {
    /// The next page, of at most `limit` objects, or nothing behind the last one.
    ///
    /// # Errors
    /// [`KubeError::Gone`] where the list has to be begun anew; [`KubeError::Unexpected`] where
    /// the API leads back to where we are, which would go on for ever.
    pub(super) async fn read<W: Decode>(
        &mut self,
        limit: usize,
    ) -> Result<Option<Page<W>>, KubeError> {
        let sent = match &self.place {
            Place::Start => None,
            Place::After(token) => Some(token.as_str()),
            Place::End => return Ok(None),
        };
        let reading = self.reader.page(
            self.path,
            self.query,
            self.what,
            limit,
            sent,
            &mut self.body,
        );
        let page: Page<W> = reading.await?;
        if page.next.is_some() && page.next.as_deref() == sent {
            return Err(KubeError::Unexpected {
                what: self.what.to_owned(),
                problem: "a page of it leads to itself".to_owned(),
            });
        }
        self.place = match &page.next {
            Some(token) => Place::After(token.clone()),
            None => Place::End,
        };
        Ok(Some(page))
    }

    fn at_end(&self) -> bool {
        matches!(self.place, Place::End)
    }
}

/// Reads a list, and once more from its beginning where its snapshot was gone before its end.
pub(super) async fn anew_once<T, F: Future<Output = Result<T, KubeError>>>(
    read: impl Fn() -> F,
) -> Result<T, KubeError> {
    match read().await {
        Err(KubeError::Gone { .. }) => read().await,
        result => result,
    }
}
