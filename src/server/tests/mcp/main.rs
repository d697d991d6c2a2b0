//! The MCP endpoint as clients meet it: rmcp's own client and raw HTTP against a real listener.

mod cluster;
mod proposals;
mod reads;
mod transport;
mod world;
