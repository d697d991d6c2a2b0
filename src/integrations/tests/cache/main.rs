//! The watch cache over real HTTP, against an API server that can freeze, die, forget and lie.

#![expect(clippy::unwrap_used, reason = "a failure here is the test failing")]

mod agreement;
mod api;
mod faults;
mod namespaces;
mod warm;
