//! Reads what the executor signed, and believes nothing else about the change or its outcome. One
//! verifier for pages, MCP, tickets and notifications: whoever can write to the database can write
//! rows, but not these signatures.

use countersign_domain::{
    Action, AuditEvent, Author, EventName, ExecutionRecord, KeyRing, RecordKind, Sealed, Signed,
    StateName, Statement, VerifyError,
};
use countersign_store::{ActionDetail, AuditRow};
use jiff::Timestamp;

/// The code of an outcome that nobody vouches for, beside the domain's own codes.
pub const UNSIGNED: &str = "outcome_unsigned";

/// Why something stored is not the executor's word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Genuine, and put where it does not belong.
    #[error("it belongs to another action or moment")]
    Misplaced,
    #[error("it names another key than the one that signed it")]
    OtherKey,
}

/// The action's statement, verified. `None`: it was never admitted.
pub fn statement(
    action: &Action,
    keys: &KeyRing,
    now: Timestamp,
) -> Option<Result<Signed<Statement>, NotSigned>> {
    let sealed = action.state.statement()?;
    // The key must have been valid when it signed; the body tells when, and is believed only once
    // the signature fits.
    let at = serde_json::from_str::<Statement>(&sealed.json)
        .map_or(now, |statement| statement.admitted_at);
    let opened = sealed.open::<Statement>(keys, at).map_err(NotSigned::from);
    Some(opened.and_then(|signed| {
        if signed.body().action_id != action.id {
            Err(NotSigned::Misplaced)
        } else if signed.body().kid != sealed.kid {
            Err(NotSigned::OtherKey)
        } else {
            Ok(signed)
        }
    }))
}

/// The executor's latest record that tells of this state; `Err` when the stored one is not its own.
pub fn record(
    detail: &ActionDetail,
    state: StateName,
    keys: &KeyRing,
) -> Option<Result<ExecutionRecord, NotSigned>> {
    let (record, sealed) = detail
        .records
        .iter()
        .rev()
        .find(|(record, _)| record.state == state.as_str())?;
    Some(open_record(detail, record, sealed, keys))
}

fn open_record(
    detail: &ActionDetail,
    told: &ExecutionRecord,
    sealed: &Sealed,
    keys: &KeyRing,
) -> Result<ExecutionRecord, NotSigned> {
    let signed = sealed.open::<ExecutionRecord>(keys, told.at)?;
    let body = signed.body();
    let kind = match body.state.parse() {
        Ok(StateName::Executing) => RecordKind::Intent,
        Ok(StateName::Refused) => RecordKind::Refusal,
        _ => RecordKind::Outcome,
    };
    if body == told && body.action_id == detail.action.id && body.record == kind {
        Ok(body.clone())
    } else {
        Err(NotSigned::Misplaced)
    }
}

/// Whether a state is the executor's to tell, by a record of its own.
pub const fn is_executors(state: StateName) -> bool {
    matches!(
        state,
        StateName::Executing
            | StateName::Succeeded
            | StateName::Failed
            | StateName::Refused
            | StateName::Indeterminate
    )
}

/// What vouches for the state in which an action is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The state is not one of the executor's.
    Servers,
    Signed(Box<ExecutionRecord>),
    /// The row says so, and nothing that the executor signed does.
    Unsigned,
}

impl Standing {
    pub fn of(detail: &ActionDetail, keys: &KeyRing) -> Self {
        let state = detail.action.state.name();
        if !is_executors(state) {
            return Self::Servers;
        }
        match record(detail, state, keys) {
            Some(Ok(record)) => Self::Signed(Box::new(record)),
            Some(Err(_)) | None => Self::Unsigned,
        }
    }

    pub const fn signed(&self) -> Option<&ExecutionRecord> {
        match self {
            Self::Signed(record) => Some(record),
            Self::Servers | Self::Unsigned => None,
        }
    }

    pub const fn is_unsigned(&self) -> bool {
        matches!(self, Self::Unsigned)
    }
}

/// What people and programs are told of a state that nothing signed vouches for.
pub fn unsigned_sentence(state: StateName) -> String {
    format!(
        "The database says `{state}`, but holds no record of that signed by the executor. Do not \
         rely on it: look at the cluster, and tell whoever runs Countersign."
    )
}

/// What the executor signed that the stored state denies: another end (the row was changed
/// afterwards, or two executors came to different ends), or, where the row has an end that nothing
/// signed tells, that it had begun. The latest.
pub fn contradiction(detail: &ActionDetail, keys: &KeyRing) -> Option<ExecutionRecord> {
    let stored = detail.action.state.name();
    let latest = |wanted: &dyn Fn(StateName) -> bool| {
        let told = detail.records.iter().rev().filter(|(record, _)| {
            let state = record.state.parse::<StateName>();
            state.is_ok_and(|state| state != stored && wanted(state))
        });
        told.map(|(record, sealed)| open_record(detail, record, sealed, keys))
            .find_map(Result::ok)
    };
    // What has begun ends by the executor's word only. A row that is under way is no
    // contradiction: its record may have come between two reads.
    let unvouched = || stored.is_terminal() && Standing::of(detail, keys).signed().is_none();
    latest(&|state| state.is_terminal())
        .or_else(|| unvouched().then(|| latest(&|_| true)).flatten())
}

/// The sentence about a [`contradiction`].
pub fn contradiction_sentence(record: &ExecutionRecord) -> String {
    let message = countersign_domain::one_line(record.message.trim_end_matches('.'), 600);
    if record.record == RecordKind::Outcome || record.record == RecordKind::Refusal {
        return format!(
            "The executor signed another end at {}: {}: {message}. Look at the cluster: somebody \
             may have altered the database.",
            record.at, record.state
        );
    }
    format!(
        "The executor signed at {} that it began to carry this out, and signed no end: the change \
         may have been made. Look at the cluster: somebody may have altered the database.",
        record.at
    )
}

/// Who stands behind a row of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The server wrote it. Unsigned: as good as the database.
    Server,
    /// The executor signed it.
    Executor,
    /// It is told as the executor's, and the executor did not sign it.
    Nobody,
}

/// Verifies one row of the audit log.
pub fn voucher(row: &AuditRow, keys: &KeyRing) -> Voucher {
    let event = &row.event;
    match (&row.sealed, event.author) {
        (Some(sealed), Author::Executor) => match sealed.open::<AuditEvent>(keys, event.at) {
            Ok(signed) if signed.body() == event => Voucher::Executor,
            Ok(_) | Err(_) => Voucher::Nobody,
        },
        (None, Author::Server) if !only_the_executor_tells(event.event) => Voucher::Server,
        _ => Voucher::Nobody,
    }
}

const fn only_the_executor_tells(event: EventName) -> bool {
    matches!(
        event,
        EventName::Admitted
            | EventName::Held
            | EventName::Refused
            | EventName::Executing
            | EventName::Succeeded
            | EventName::Failed
            | EventName::Indeterminate
    )
}
