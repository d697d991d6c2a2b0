//! Reading what a stranger sends.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use tokio::time::timeout;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomplete {
    /// It is larger, or its sender broke off.
    TooLarge,
    TooSlow,
}

/// A body of at most so many bytes, if it arrives within that time: a sender that drips it is let go.
///
/// # Errors
/// Which of the two bounds it passed.
pub async fn whole(body: Body, largest: usize, within: Duration) -> Result<Bytes, Incomplete> {
    match timeout(within, to_bytes(body, largest)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(Incomplete::TooLarge),
        Err(_) => Err(Incomplete::TooSlow),
    }
}
