//! Somebody with every right on the database and none of the keys. Shared by the tests of pages and
//! of MCP.

use std::collections::BTreeMap;

use countersign_domain::{
    ActionId, AuditEvent, Author, Clock as _, Code, Digest, EventName, ExecutionRecord, OsEntropy,
    RecordKind, Sealed, Signed, SignedObject, Signer, SystemClock,
};
use countersign_store::testing::Tamper;

/// What a forger would like people to read.
pub const LIE: &str = "All went well, look no further";

/// Makes an action look as if it had succeeded: state, record and audit event, signed with a key
/// made up here under the name of the real one.
pub async fn forge_success(database: &str, id: ActionId, real_kid: &str) {
    let tamper = Tamper::open(database).await.unwrap();
    let now = SystemClock.now();
    let millis = now.as_millisecond();
    let set = format!(
        "UPDATE actions SET state = 'succeeded', version = version + 1, started_at = {millis}, \
         end_code = 'verified', end_message = '{LIE}', ended_at = {millis} WHERE id = '{id}'"
    );
    assert_eq!(tamper.execute(&set).await.unwrap(), 1);

    let record = ExecutionRecord {
        v: "1".into(),
        record: RecordKind::Outcome,
        action_id: id,
        statement: Digest::of("x", b"x"),
        state: "succeeded".into(),
        code: Code::Verified.as_str().into(),
        message: LIE.into(),
        details: BTreeMap::from([("replacement".into(), LIE.into())]),
        executor: "executor-1".into(),
        at: now,
    };
    let Sealed {
        json,
        kid,
        signature,
    } = seal(record, real_kid);
    let insert = format!(
        "INSERT INTO executions (action_id, record, json, kid, signature, recorded_at) \
         VALUES ('{id}', 'outcome', '{json}', '{kid}', '{signature}', {millis})"
    );
    tamper.execute(&insert).await.unwrap();

    let (author, name) = (Author::Executor, EventName::Succeeded);
    let event = AuditEvent::new(now, &OsEntropy, author, name, "executor-1")
        .about(id)
        .with("message", LIE);
    let event_id = event.id.clone();
    let Sealed {
        json,
        kid,
        signature,
    } = seal(event, real_kid);
    let insert = format!(
        "INSERT INTO audit (id, at, author, event, actor, action_id, outcome, json, kid, signature) \
         VALUES ('{event_id}', {millis}, 'executor', 'action.succeeded', 'executor-1', '{id}', '', \
         '{json}', '{kid}', '{signature}')"
    );
    tamper.execute(&insert).await.unwrap();
}

fn seal<T: SignedObject>(body: T, real_kid: &str) -> Sealed {
    let thief = Signer::generate(&OsEntropy);
    let mut sealed = Signed::sign(body, &thief).unwrap().sealed().clone();
    sealed.kid = real_kid.into();
    sealed
}
