//! The executor's own process against the playground's cluster and a real database file. The test
//! plays the server: it proposes through the server's port and signs with the server's key.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod crashes;
mod leaving;
mod several;
mod story;
mod tampered;
mod ticket;
mod world;
