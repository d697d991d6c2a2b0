//! Texts that many records share (label values, images, condition types), each held once.

use std::collections::HashMap;
use std::sync::Arc;

/// Numbers for texts. Numbers are small and dense, so that they pack into a byte or two.
///
/// A text stays until the whole table is made anew: whoever owns the table does that when it has
/// grown to a multiple of what is in use.
#[derive(Default)]
pub(super) struct Symbols {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Symbols {
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let text: Arc<str> = text.into();
        // 4 billion different texts do not fit in memory.
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// The text of a number that this table gave out.
    pub(super) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
}
