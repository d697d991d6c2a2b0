//! What the executor writes down: signed records and signed audit events.

use std::collections::BTreeMap;

use countersign_domain::{
    ActionId, AuditEvent, Author, Decision, Digest, EventName, ExecutionRecord, Reason, RecordKind,
    Sealed, Signed, StateName,
};
use countersign_store::SignedStep;
use jiff::Timestamp;

use crate::executor::{Executor, Failure};

/// The actor of all events that this process writes.
const ACTOR: &str = "countersign-executor";

/// What was seen, by key.
pub type Details = BTreeMap<String, String>;

impl Executor {
    /// An audit event with a reason.
    pub fn event(
        &self,
        name: EventName,
        action: ActionId,
        reason: &Reason,
        details: &Details,
    ) -> Result<Signed<AuditEvent>, Failure> {
        let mut event = AuditEvent::new(
            self.clock.now(),
            &*self.entropy,
            Author::Executor,
            name,
            ACTOR,
        )
        .about(action)
        .with("code", reason.code.as_str())
        .with("message", reason.message.clone())
        .with("executor", self.instance.clone());
        for (key, value) in details {
            event
                .details
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
        Ok(Signed::sign(event, &self.signer)?)
    }

    /// The statement was made. Tells what the approver will be shown, in short.
    pub fn admitted_event(
        &self,
        action: ActionId,
        digest: &Digest,
        rule: &str,
    ) -> Result<Signed<AuditEvent>, Failure> {
        let event = AuditEvent::new(
            self.clock.now(),
            &*self.entropy,
            Author::Executor,
            EventName::Admitted,
            ACTOR,
        )
        .about(action)
        .with("statement", digest.to_string())
        .with("rule", rule)
        .with("executor", self.instance.clone());
        Ok(Signed::sign(event, &self.signer)?)
    }

    /// A record of the given moment and the event that tells of it. `at`: when it happened.
    pub fn step(
        &self,
        action: ActionId,
        statement: Digest,
        record: RecordKind,
        state: StateName,
        reason: &Reason,
        details: Details,
        at: Timestamp,
    ) -> Result<SignedStep, Failure> {
        let event = self.event(event_of(state), action, reason, &Details::new())?;
        let record = ExecutionRecord {
            v: "1".to_owned(),
            record,
            action_id: action,
            statement,
            state: state.as_str().to_owned(),
            code: reason.code.as_str().to_owned(),
            message: reason.message.clone(),
            details,
            executor: self.instance.clone(),
            at,
        };
        Ok(SignedStep {
            record: Signed::sign(record, &self.signer)?,
            event,
        })
    }

    /// A stored record, if this executor signed it. Which action it is about stands in its body.
    pub fn own_record(&self, sealed: &Sealed) -> Option<ExecutionRecord> {
        // The key must have been valid when it signed; the body tells when, and is only believed once
        // the signature fits.
        let told: ExecutionRecord = serde_json::from_str(&sealed.json).ok()?;
        let signed = sealed.open::<ExecutionRecord>(&self.own_keys, told.at);
        signed.ok().map(|signed| signed.body().clone())
    }

    /// Signs a decision that this executor derived itself.
    pub fn derived(&self, decision: &Decision) -> Result<Signed<Decision>, Failure> {
        Ok(Signed::sign(decision.clone(), &self.signer)?)
    }
}

const fn event_of(state: StateName) -> EventName {
    match state {
        StateName::Executing => EventName::Executing,
        StateName::Succeeded => EventName::Succeeded,
        StateName::Failed => EventName::Failed,
        StateName::Indeterminate => EventName::Indeterminate,
        // The executor writes no record of any other state.
        _ => EventName::Refused,
    }
}
