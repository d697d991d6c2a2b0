//! Chunks become lines. A line longer than the bound is cut while it streams by.

/// Bytes of one line that are held. Far more than is shown, so that a secret across the place
/// where the line is cut for show is still seen whole.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    dropped: usize,
    /// The last break was a carriage return: a line feed after it belongs to it.
    returned: bool,
    /// The line that is being read follows a lone carriage return: what begins it is the program's,
    /// not the kubelet's time.
    continued: bool,
}

impl Lines {
    /// Calls `each` with every line that is complete, and with how many of its bytes are missing,
    /// and whether it is the continuation of one. A carriage return ends a line too: progress bars
    /// are lines of their own.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8], usize, bool)) {
        let mut rest = chunk;
        while !rest.is_empty() {
            if std::mem::take(&mut self.returned) && rest[0] == b'\n' {
                rest = &rest[1..];
                self.continued = false;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.hold(rest);
                return;
            };
            self.returned = rest[end] == b'\r';
            if self.held.is_empty() && end <= LONGEST {
                each(&rest[..end], 0, self.continued);
            } else {
                self.hold(&rest[..end]);
                self.end(&mut each);
            }
            self.continued = self.returned;
            rest = &rest[end + 1..];
        }
    }

    /// What is left when the log ends without a line break.
    pub fn end(&mut self, mut each: impl FnMut(&[u8], usize, bool)) {
        if !self.held.is_empty() {
            each(
                &self.held,
                std::mem::take(&mut self.dropped),
                self.continued,
            );
            self.held.clear();
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        let room = LONGEST.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }
}
