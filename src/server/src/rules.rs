//! Re-reading.
