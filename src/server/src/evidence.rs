//! Reads what the executor signed, and believes nothing else about the change or its outcome.

use countersign_domain::{
    Action, ExecutionRecord, KeyRing, Signed, StateName, Statement, VerifyError,
};
use countersign_store::ActionDetail;
use jiff::Timestamp;

/// The action's statement, verified. `None`: it was never admitted.
pub fn statement(
    action: &Action,
    keys: &KeyRing,
    now: Timestamp,
) -> Option<Result<Signed<Statement>, VerifyError>> {
    let sealed = action.state.statement()?;
    // The key must have been valid when it signed; the body tells when, and is believed only once
    // the signature fits.
    let at = serde_json::from_str::<Statement>(&sealed.json)
        .map_or(now, |statement| statement.admitted_at);
    Some(sealed.open::<Statement>(keys, at).and_then(|signed| {
        // A genuine statement of another action, put into this row, is a forgery too.
        if signed.body().action_id == action.id {
            Ok(signed)
        } else {
            Err(VerifyError::Malformed)
        }
    }))
}

/// The executor's latest record that tells of this state; `Err` when the stored one is not its own.
pub fn record(
    detail: &ActionDetail,
    state: StateName,
    keys: &KeyRing,
) -> Option<Result<ExecutionRecord, VerifyError>> {
    let (record, sealed) = detail
        .records
        .iter()
        .rev()
        .find(|(record, _)| record.state == state.as_str())?;
    Some(
        sealed
            .open::<ExecutionRecord>(keys, record.at)
            .and_then(|signed| {
                let body = signed.body();
                if body.action_id == detail.action.id && body.state == state.as_str() {
                    Ok(body.clone())
                } else {
                    Err(VerifyError::Malformed)
                }
            }),
    )
}
