//! The MCP endpoint as clients meet it: rmcp's own client and raw HTTP against a real listener.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod cluster;
#[path = "../web/forger.rs"]
mod forger;
mod logs;
mod playground;
mod proposals;
mod reads;
mod safety;
mod transport;
mod workloads;
mod world;
