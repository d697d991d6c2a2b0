//! Thin clients for the systems around us. They read, or they talk to people; none of them can
//! change a cluster.
//!
//! No type of a client library appears in the public API, so nobody can borrow the connection
//! for something else. Time is passed in; text from outside goes through [`untrusted`].

pub mod jira;
pub mod kubernetes;
pub mod logs;
pub mod masking;
pub mod near_matches;
pub mod untrusted;
