//! `countersign`: serves the AI (MCP), the people (web pages) and the ticket. It proposes, shows,
//! collects answers and reports. It never writes to a cluster: no code here could.

pub mod app;
pub mod cli;
pub mod config;
pub mod crash;
pub mod evidence;
pub mod http;
pub mod mcp;
pub mod peer;
pub mod rules;
pub mod web;
pub mod workers;
