//! Who looks at what became of an action, in this process: the latest claim, and nobody else. A run
//! that lost its row goes on to its verdict, since nobody may be left who would; only a later claim
//! with the same intent takes its place.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use countersign_domain::ActionId;
use tokio_util::sync::CancellationToken;

/// The looks that are going on.
#[derive(Default)]
pub struct Looks(Mutex<Going>);

#[derive(Default)]
struct Going {
    count: u64,
    by_action: HashMap<ActionId, (u64, CancellationToken)>,
}

/// One of them; over when dropped.
pub struct Looking<'a> {
    looks: &'a Looks,
    action: ActionId,
    number: u64,
    replaced: CancellationToken,
}

impl Looks {
    /// Takes the place of an earlier look at the same action.
    pub fn begin(&self, action: ActionId) -> Looking<'_> {
        let replaced = CancellationToken::new();
        let mut going = self.going();
        going.count += 1;
        let number = going.count;
        let earlier = going.by_action.insert(action, (number, replaced.clone()));
        if let Some((_, earlier)) = earlier {
            earlier.cancel();
        }
        Looking {
            looks: self,
            action,
            number,
            replaced,
        }
    }

    fn going(&self) -> std::sync::MutexGuard<'_, Going> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Looking<'_> {
    /// Comes when a later claim of this process looks instead.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        let mut going = self.looks.going();
        let own = going.by_action.get(&self.action);
        if own.is_some_and(|(number, _)| *number == self.number) {
            going.by_action.remove(&self.action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_look_is_the_one() {
        let looks = Looks::default();
        let action: ActionId = "01939c5e-7b1a-7c44-9d1e-2f6a0c4b8d10".parse().unwrap();
        let first = looks.begin(action);
        let second = looks.begin(action);
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        // The end of the first is not that of the second.
        drop(first);
        let third = looks.begin(action);
        assert!(second.replaced.is_cancelled());
        drop((second, third));
        assert!(looks.going().by_action.is_empty());
    }
}
