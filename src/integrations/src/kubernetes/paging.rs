//! Pages of an answer that begins with problems. Only the first page has the order of the answer;
//! what follows is in the order of names, so that nothing is lost or repeated while objects come,
//! go, break and heal between two calls.

use super::page_cursor::{BadCursor, Cursor, GroupId, Place};

/// A part of an answer. [`Page::total`] covers all pages.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub total: usize,
    pub next_cursor: Option<String>,
}

/// The first `limit` of `items`, which are in the order of the answer, or the `limit` that follow
/// `cursor`. `name` must tell items apart; `question` holds the filters that made `items`.
///
/// # Errors
/// A cursor that was not made here, or for another question.
pub fn page<T>(
    mut items: Vec<T>,
    name: impl Fn(&T) -> String,
    question: &str,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Page<T>, BadCursor> {
    let cursor = Cursor::decode(question, cursor)?;
    let place = |item: &T| Place {
        mildness: 0,
        group: GroupId(name(item)),
    };
    let total = items.len();
    if !cursor.is_start() {
        items.retain(|item| cursor.leads_to(&place(item)));
        items.sort_by_cached_key(&name);
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = more.then(|| cursor.behind(items.iter().map(place)).encode());
    Ok(Page {
        items,
        total,
        next_cursor: next.flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(items: &[&'static str], cursor: Option<&str>) -> Page<&'static str> {
        page(items.to_vec(), |name| (*name).to_owned(), "all", 2, cursor).unwrap()
    }

    #[test]
    fn a_cursor_stays_right_while_items_come_go_and_change_places() {
        let first = names(&["d", "b", "c", "a", "e"], None);
        assert_eq!((first.items, first.total), (vec!["d", "b"], 5));
        // "b", where the page ended, is gone; "e" has become the worst.
        let second = names(&["e", "d", "c", "a"], first.next_cursor.as_deref());
        assert_eq!(second.items, ["a", "c"]);
        let third = names(&["e", "d", "c", "a"], second.next_cursor.as_deref());
        assert_eq!((third.items, third.next_cursor), (vec!["e"], None));
    }

    #[test]
    fn a_cursor_of_another_question_is_refused() {
        let first = names(&["a", "b", "c"], None).next_cursor;
        let named = |name: &&str| (*name).to_owned();
        let other = page(vec!["a"], named, "other", 2, first.as_deref());
        assert_eq!(other.unwrap_err(), BadCursor::OtherQuestion);
        let other = page(vec!["a"], named, "all", 2, Some("zz"));
        assert_eq!(other.unwrap_err(), BadCursor::Unreadable);
    }
}
