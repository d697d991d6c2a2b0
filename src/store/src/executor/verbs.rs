//! The executor's verbs as SQL.

use std::sync::LazyLock;

use crate::Topic;
use crate::rows::{ACTION, OPEN};
use crate::server::{BEGUN, TELL};
use crate::sql::{Follow, Write};

const FREE: &str = "cluster = $1 AND (lease_until IS NULL OR lease_until <= $2)";

/// $1 cluster, $2 now, $3 token, $4 holder, $5 until. Who has been due for longest comes first: a row
/// that is held again and again goes behind those that came meanwhile.
fn pick_due(condition: &str) -> String {
    format!(
        "SELECT id FROM actions WHERE {OPEN} AND {condition} AND {FREE} \
         AND (retry_at IS NULL OR retry_at <= $2) \
         ORDER BY COALESCE(retry_at, created_at), id LIMIT 1"
    )
}

/// What was begun and has no end. A row that is `pending` or `approved` again although its intent is
/// stored was changed by hand, and is still one of them; nor can a time to retry hide one. Who was
/// looked at least often comes first.
fn pick_begun() -> String {
    format!(
        "SELECT id FROM actions WHERE {OPEN} \
         AND state IN ('executing', 'indeterminate', 'pending', 'approved') AND (state IN ('executing', 'indeterminate') OR {BEGUN}) AND {FREE} ORDER BY fence, id LIMIT 1"
    )
}

/// One kind of work: what is picked, and how it is leased.
pub(super) struct Work {
    pub(super) pick: String,
    pub(super) claim: Write,
}

impl Work {
    fn new(pick: String) -> Self {
        let set = "lease_token = $3, lease_holder = $4, lease_until = $5, fence = fence + 1";
        let claim = Write::claim("actions", &pick, set, ACTION);
        Self { pick, claim }
    }
}

pub(super) static TO_ADMIT: LazyLock<Work> =
    LazyLock::new(|| Work::new(pick_due("state = 'checking'")));
pub(super) static APPROVED: LazyLock<Work> =
    LazyLock::new(|| Work::new(pick_due(&format!("state = 'approved' AND NOT {BEGUN}"))));
pub(super) static ORPHANS: LazyLock<Work> = LazyLock::new(|| Work::new(pick_begun()));

const MOVED: &str = "version = version + 1, held_code = NULL, held_message = NULL, \
     held_since = NULL, retry_at = NULL";
const UNLEASED: &str = "lease_token = NULL, lease_holder = NULL, lease_until = NULL";

/// $1-$10 event; $11 id, $12 version, $13 token, $14 now: every transition here begins with these.
const GUARD: &str = "id = $11 AND version = $12 AND lease_token = $13";

/// $15 digest, $16 json, $17 kid, $18 signature, $19 admitted_at, $20 decide_by, $21 execute_by,
/// $22 new version.
pub(super) static ADMIT: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'pending', updated_at = $14, decide_by = $20, \
             execute_by = $21, {MOVED}, {UNLEASED} WHERE {GUARD} AND state = 'checking'"
        ),
        ACTION,
        &[
            Follow::audit(1),
            Follow::values(
                "admissions (action_id, digest, json, kid, signature, admitted_at)",
                "$11, $15, $16, $17, $18, $19",
            ),
            Follow::outbox(
                &[Topic::TicketOpen, Topic::NotifyWebhook, Topic::NotifySlack],
                "'asked'",
                "$11",
                "$22",
                "$14",
            ),
        ],
    )
});

/// $15 code, $16 message.
pub(super) static DENY: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'denied', updated_at = $14, ended_at = $14, \
             end_code = $15, end_message = $16, {MOVED}, {UNLEASED} \
             WHERE {GUARD} AND state = 'checking'"
        ),
        ACTION,
        &[Follow::audit(1)],
    )
});

/// $15 record kind, $16 json, $17 kid, $18 signature.
fn execution() -> Follow {
    Follow::values(
        "executions (action_id, recorded_at, record, json, kid, signature)",
        "$11, $14, $15, $16, $17, $18",
    )
}

/// The lease must be alive: otherwise the row would be an orphan in the moment in which it begins.
pub(super) static BEGIN: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = 'executing', updated_at = $14, started_at = $14, {MOVED} \
             WHERE {GUARD} AND state = 'approved' AND lease_until > $14 AND NOT {BEGUN}"
        ),
        ACTION,
        &[Follow::audit(1), execution()],
    )
});

/// $19 next state, $20 code, $21 message, $22 new version. What was begun can end only as begun,
/// also where somebody set the row back.
pub(super) static END: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET state = $19, updated_at = $14, ended_at = $14, end_code = $20, \
             end_message = $21, started_at = CASE WHEN $19 = 'refused' THEN started_at \
                 ELSE COALESCE(started_at, $14) END, {MOVED}, {UNLEASED} WHERE {GUARD} \
             AND ((state = 'approved' AND $19 = 'refused' AND NOT {BEGUN}) \
               OR (state IN ('pending', 'approved') AND {BEGUN} \
                   AND $19 IN ('succeeded', 'failed', 'indeterminate')) \
               OR (state = 'executing' AND $19 IN ('succeeded', 'failed', 'indeterminate')) \
               OR (state = 'indeterminate' AND $19 IN ('succeeded', 'failed')))"
        ),
        ACTION,
        &[
            Follow::audit(1),
            execution(),
            Follow::outbox(&TELL, "$19", "$11", "$22", "$14"),
        ],
    )
});

/// $1-$10 event; $11 id, $12 record kind, $13 json, $14 kid, $15 signature, $16 at, $17 state. Once
/// for one record, and the telling once for one state.
pub(super) static APPEND: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        "INSERT INTO executions (action_id, recorded_at, record, json, kid, signature) \
         SELECT id, $16, $12, $13, $14, $15 FROM actions WHERE id = $11 AND NOT EXISTS \
             (SELECT 1 FROM executions WHERE executions.action_id = $11 AND executions.json = $13)",
        "action_id",
        &[
            Follow::audit(1),
            Follow::outbox(&TELL, "$17", "$11", "0", "$16"),
        ],
    )
});

/// $1-$10 event or nulls; $11 id, $12 token, $13 code, $14 message, $15 since, $16 retry_at.
pub(super) static HOLD: LazyLock<Write> = LazyLock::new(|| {
    Write::guarded(
        &format!(
            "UPDATE actions SET \
             held_since = CASE WHEN held_code = $13 THEN held_since ELSE $15 END, \
             held_code = $13, held_message = $14, retry_at = $16, {UNLEASED} \
             WHERE id = $11 AND lease_token = $12"
        ),
        "id",
        &[Follow::audit(1).only_if("$1 IS NOT NULL")],
    )
});

/// $1 id, $2 token, $3 fence, $4 until.
pub(super) static RENEW: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "UPDATE actions SET lease_until = $4 WHERE id = $1 AND lease_token = $2 AND fence = $3 \
         RETURNING id",
    )
    .quiet()
});

pub(super) static RELEASE: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(&format!(
        "UPDATE actions SET {UNLEASED} WHERE id = $1 AND lease_token = $2 AND fence = $3 \
         RETURNING id"
    ))
});

/// $1 id, $2 token, $3 person, $4 verb, $5 channel, $6 reason, $7 json, $8 kid, $9 signature,
/// $10 decided_at.
pub(super) static DERIVED: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "INSERT INTO derived_decisions \
             (action_id, person, verb, channel, reason, json, kid, signature, decided_at) \
         SELECT id, $3, $4, $5, $6, $7, $8, $9, $10 FROM actions \
         WHERE id = $1 AND lease_token = $2 ON CONFLICT DO NOTHING RETURNING id",
    )
});

pub(super) static HEARTBEAT: LazyLock<Write> = LazyLock::new(|| {
    Write::plain(
        "INSERT INTO heartbeats (cluster, executor, at, status, policy_hash, cluster_lock) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (cluster, executor) DO UPDATE SET \
         at = excluded.at, status = excluded.status, policy_hash = excluded.policy_hash, \
         cluster_lock = excluded.cluster_lock",
    )
    .quiet()
});

/// Those whose plans are tested.
#[cfg(test)]
pub(crate) fn picks() -> [&'static str; 3] {
    [&TO_ADMIT.pick, &APPROVED.pick, &ORPHANS.pick]
}
#[cfg(test)]
pub(crate) const VERBS: &[&LazyLock<Write>] = &[
    &ADMIT, &DENY, &BEGIN, &END, &APPEND, &HOLD, &RENEW, &RELEASE, &DERIVED, &HEARTBEAT,
];
