//! Support for tests, the demo and the walkthrough: the whole product as separate processes, the
//! people around it (an AI client, approvers in a browser's stead, Jira users), each speaking only
//! the real protocols, and the scenarios of the main story.

pub mod scenarios;
pub mod stack;
