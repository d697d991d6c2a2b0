//! Jira Cloud: tickets for actions, and the look at who moved one.
//!
//! [`JiraReader`] only reads and is all that the executor gets, with a token of its own;
//! [`JiraWriter`] adds what the outbox needs. Jira has no idempotency keys, so every write here
//! either looks first or says [`JiraError::Ambiguous`] when it cannot know what happened.
//!
//! Who may approve is decided elsewhere; a webhook is never more than a hint to look.

pub mod adf;
mod connection;
mod error;
pub mod look;
mod reader;
mod records;
pub mod ticket;
pub mod webhook;
mod writer;

pub use error::JiraError;
pub use look::{Edit, StatusMove, edited_after_creation, latest_status_move, status_moves};
pub use reader::JiraReader;
pub use records::{
    Account, ChangeEntry, ChangeItem, Comment, CreatedIssue, IssueRecord, IssueType, NewIssue,
    RemoteLink,
};
pub use writer::{CommentOutcome, JiraWriter, TransitionOutcome};
