-- Tables by author. The server inserts actions, decisions, tickets, sessions and webhooks; the executor
-- inserts admissions, executions, derived_decisions and heartbeats; both insert audit and outbox
-- rows. Signed objects are kept as their exact text. Times are milliseconds since 1970 UTC.
-- migrations/postgres holds the same schema; the numbers go in pairs.

CREATE TABLE actions (
    id              TEXT    NOT NULL PRIMARY KEY,
    version         INTEGER NOT NULL CHECK (version >= 1),
    -- Of `IN` and more than two words a tree is made for each row that is written.
    state           TEXT    NOT NULL CHECK (
        state = 'checking' OR state = 'pending' OR state = 'approved' OR state = 'executing'
        OR state = 'indeterminate' OR state = 'succeeded' OR state = 'failed' OR state = 'denied'
        OR state = 'rejected' OR state = 'cancelled' OR state = 'expired' OR state = 'refused'),
    kind            TEXT    NOT NULL,
    cluster         TEXT    NOT NULL,
    namespace       TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    uid             TEXT    NOT NULL,
    params          TEXT    NOT NULL,
    -- `sha256:` and a digest of kind, cluster, uid and params: what would be done to what.
    change          TEXT    NOT NULL,
    agent           TEXT    NOT NULL,
    session         TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    idempotency_key TEXT,
    -- Copies of what the statement says, for queries only: the executor reads its statement.
    decide_by       INTEGER,
    execute_by      INTEGER,
    -- Why nothing moves, and when to look again.
    held_code       TEXT,
    held_message    TEXT,
    held_since      INTEGER,
    retry_at        INTEGER,
    -- Who works on the row now. fence grows with each claim.
    lease_token     TEXT,
    lease_holder    TEXT,
    lease_until     INTEGER,
    fence           INTEGER NOT NULL DEFAULT 0,
    started_at      INTEGER,
    end_code        TEXT,
    end_message     TEXT,
    ended_at        INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    -- What follows from the state: 1 until it ends, then 0; the change until then, then the id.
    open            INTEGER NOT NULL AS (CASE state WHEN 'checking' THEN 1 WHEN 'pending' THEN 1
        WHEN 'approved' THEN 1 WHEN 'executing' THEN 1 WHEN 'indeterminate' THEN 1 ELSE 0 END),
    slot            TEXT    NOT NULL AS (CASE state WHEN 'checking' THEN change WHEN 'pending' THEN change
        WHEN 'approved' THEN change WHEN 'executing' THEN change WHEN 'indeterminate' THEN change
        ELSE id END)
    -- Rows are kept in the order of their ids, which is that of creation: one tree less to write.
) STRICT, WITHOUT ROWID;

-- One open action for one caller and one change; all that are open; and a caller's ended ones in the
-- order of their ids: one index to write for a proposal instead of three.
CREATE UNIQUE INDEX actions_slot ON actions (open, agent, slot);
-- Written at an end only. Not by the same words as `open = 0`: it must not serve who looks for one caller.
CREATE INDEX actions_ended ON actions (state, id) WHERE open < 1;
CREATE UNIQUE INDEX actions_idempotency ON actions (agent, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX actions_rejected ON actions (agent, uid, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX actions_leased ON actions (lease_token) WHERE lease_token IS NOT NULL;

CREATE TABLE decisions (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    action_id  TEXT    NOT NULL REFERENCES actions (id),
    person     TEXT    NOT NULL,
    verb       TEXT    NOT NULL CHECK (verb IN ('approve', 'reject', 'withdraw')),
    channel    TEXT    NOT NULL CHECK (channel IN ('web', 'jira')),
    reason     TEXT    NOT NULL,
    -- The attested decision. A Jira row is a pointer and has none.
    json       TEXT,
    kid        TEXT,
    signature  TEXT,
    decided_at INTEGER NOT NULL,
    CHECK ((json IS NULL) = (kid IS NULL) AND (json IS NULL) = (signature IS NULL))
) STRICT;
CREATE INDEX decisions_by_action ON decisions (action_id, id);
CREATE UNIQUE INDEX decisions_once ON decisions (action_id, person, verb) WHERE channel = 'web';

CREATE TABLE tickets (
    action_id  TEXT    NOT NULL PRIMARY KEY REFERENCES actions (id),
    issue_id   TEXT    NOT NULL UNIQUE,
    issue_key  TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    action_id   TEXT    NOT NULL REFERENCES actions (id),
    topic       TEXT    NOT NULL CHECK (topic IN (
        'ticket_open', 'ticket_update', 'notify_webhook', 'notify_slack')),
    -- Rows of one action and family are sent one after the other; each receiver of
    -- notifications is a family, so that none waits for another.
    family      TEXT    NOT NULL CHECK (family IN ('ticket', 'notify_webhook', 'notify_slack')),
    moment      TEXT    NOT NULL,
    -- The action's version that the row tells of; 0 for rows that no transition made.
    version     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    not_before  INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    last_error  TEXT,
    lease_token TEXT,
    lease_until INTEGER,
    done_at     INTEGER,
    UNIQUE (action_id, topic, moment, version)
) STRICT;
CREATE INDEX outbox_open ON outbox (id) WHERE done_at IS NULL;
CREATE INDEX outbox_order ON outbox (action_id, family, id) WHERE done_at IS NULL;

CREATE TABLE sessions (
    token_hash TEXT    NOT NULL PRIMARY KEY,
    person     TEXT    NOT NULL,
    csrf       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE webhooks (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    identifier  TEXT    NOT NULL UNIQUE,
    body        BLOB    NOT NULL,
    received_at INTEGER NOT NULL,
    done_at     INTEGER
) STRICT;
CREATE INDEX webhooks_open ON webhooks (id) WHERE done_at IS NULL;
CREATE INDEX webhooks_done ON webhooks (done_at) WHERE done_at IS NOT NULL;

CREATE TABLE admissions (
    action_id   TEXT    NOT NULL PRIMARY KEY REFERENCES actions (id),
    digest      TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    kid         TEXT    NOT NULL,
    signature   TEXT    NOT NULL,
    admitted_at INTEGER NOT NULL
) STRICT;

CREATE TABLE executions (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    action_id   TEXT    NOT NULL REFERENCES actions (id),
    record      TEXT    NOT NULL CHECK (record IN ('intent', 'outcome', 'refusal')),
    json        TEXT    NOT NULL,
    kid         TEXT    NOT NULL,
    signature   TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX executions_by_action ON executions (action_id, id);
-- One intent for one action, whatever else goes wrong.
CREATE UNIQUE INDEX executions_one_intent ON executions (action_id) WHERE record = 'intent';

CREATE TABLE derived_decisions (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    action_id   TEXT    NOT NULL REFERENCES actions (id),
    person      TEXT    NOT NULL,
    verb        TEXT    NOT NULL CHECK (verb IN ('approve', 'reject', 'withdraw')),
    channel     TEXT    NOT NULL CHECK (channel IN ('web', 'jira')),
    reason      TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    kid         TEXT    NOT NULL,
    signature   TEXT    NOT NULL,
    decided_at  INTEGER NOT NULL,
    UNIQUE (action_id, person, verb, channel)
) STRICT;

CREATE TABLE heartbeats (
    cluster      TEXT    NOT NULL,
    executor     TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    status       TEXT    NOT NULL,
    policy_hash  TEXT    NOT NULL,
    cluster_lock TEXT    NOT NULL,
    PRIMARY KEY (cluster, executor)
) STRICT;

CREATE TABLE audit (
    -- Grows without AUTOINCREMENT, since no row is ever deleted.
    seq       INTEGER NOT NULL PRIMARY KEY,
    id        TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    author    TEXT    NOT NULL,
    event     TEXT    NOT NULL,
    actor     TEXT    NOT NULL,
    -- NULL: about no action.
    action_id TEXT,
    outcome   TEXT    NOT NULL,
    -- The whole event; the columns above are copies for filters.
    json      TEXT    NOT NULL,
    -- The executor's events are signed.
    kid       TEXT,
    signature TEXT,
    CHECK (author = CASE WHEN signature IS NULL THEN 'server' ELSE 'executor' END
        AND (kid IS NULL) = (signature IS NULL))
) STRICT;
-- The index of the log: which rows have `action ID`, `actor NAME` or `event NAME`. Filled for 256 rows at
-- once, since a page of it that is written for one row costs as much as the row. Not the event of
-- calls: most rows are calls, and who looks for them finds them by walking.
CREATE TABLE audit_index (
    word TEXT    NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (word, seq)
) STRICT, WITHOUT ROWID;
-- What the index covers. Rows after the last block are few: they are looked at one by one. With the
-- times, whatever the clock did: the earliest of the block, the latest of it and all before it.
CREATE TABLE audit_blocks (
    last     INTEGER NOT NULL PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest   INTEGER NOT NULL
) STRICT;
CREATE TRIGGER audit_block AFTER INSERT ON audit WHEN NEW.seq % 256 = 0
BEGIN
    INSERT INTO audit_index
        SELECT 'action ' || action_id, seq FROM audit WHERE action_id IS NOT NULL
            AND seq > (SELECT COALESCE(max(last), 0) FROM audit_blocks)
        UNION ALL SELECT 'actor ' || actor, seq FROM audit
            WHERE seq > (SELECT COALESCE(max(last), 0) FROM audit_blocks)
        UNION ALL SELECT 'event ' || event, seq FROM audit WHERE event <> 'tool.called'
            AND seq > (SELECT COALESCE(max(last), 0) FROM audit_blocks)
        ORDER BY 1, 2;
    INSERT INTO audit_blocks
        SELECT max(seq), min(at), max(max(at), (SELECT COALESCE(max(latest), 0) FROM audit_blocks))
        FROM audit WHERE seq > (SELECT COALESCE(max(last), 0) FROM audit_blocks);
END;

-- A proposal as one statement, or any number of them: a row of a statement costs less than a statement.
-- What a cap forbids, or what is there already, is left out and does not come back; numbered -1 it is
-- alone, and fails.
CREATE VIEW proposals (event_id, event_at, author, event, actor, about, outcome, json, kid, signature,
    id, kind, cluster, namespace, name, uid, params, change, agent, session, reason, idempotency_key,
    at, waiting, hourly, lowest, n)
AS SELECT '', 0, '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', 0, 0, 0, '', 0;
CREATE TRIGGER propose INSTEAD OF INSERT ON proposals
BEGIN
    -- A statement of its own: one that reads what it writes keeps a copy.
    SELECT CASE WHEN NEW.n < 0 THEN RAISE(ABORT, 'left out') ELSE RAISE(IGNORE) END
    WHERE NOT (
        SELECT count(*) FILTER (WHERE state = 'checking' OR state = 'pending') < NEW.waiting
            AND count(*) FILTER (WHERE id >= NEW.lowest)
              + (SELECT count(*) FROM actions
                 WHERE open = 0 AND agent = NEW.agent AND slot >= NEW.lowest) < NEW.hourly
        FROM actions WHERE open = 1 AND agent = NEW.agent);
    INSERT INTO actions (id, version, state, kind, cluster, namespace, name, uid, params, change,
        agent, session, reason, idempotency_key, created_at, updated_at)
    VALUES (NEW.id, 1, 'checking', NEW.kind, NEW.cluster, NEW.namespace, NEW.name, NEW.uid,
        NEW.params, NEW.change, NEW.agent, NEW.session, NEW.reason, NEW.idempotency_key, NEW.at, NEW.at)
    ON CONFLICT DO NOTHING;
    SELECT CASE WHEN NEW.n < 0 THEN RAISE(ABORT, 'left out') ELSE RAISE(IGNORE) END
        WHERE changes() = 0;
    INSERT INTO audit (id, at, author, event, actor, action_id, outcome, json, kid, signature)
    VALUES (NEW.event_id, NEW.event_at, NEW.author, NEW.event, NEW.actor, NEW.about, NEW.outcome,
        NEW.json, NEW.kid, NEW.signature);
END;

-- What was said stays said.
CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are append-only'); END;
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are append-only'); END;
CREATE TRIGGER derived_decisions_no_update BEFORE UPDATE ON derived_decisions
BEGIN SELECT RAISE(ABORT, 'derived_decisions are append-only'); END;
CREATE TRIGGER derived_decisions_no_delete BEFORE DELETE ON derived_decisions
BEGIN SELECT RAISE(ABORT, 'derived_decisions are append-only'); END;
CREATE TRIGGER admissions_no_update BEFORE UPDATE ON admissions
BEGIN SELECT RAISE(ABORT, 'admissions are append-only'); END;
CREATE TRIGGER admissions_no_delete BEFORE DELETE ON admissions
BEGIN SELECT RAISE(ABORT, 'admissions are append-only'); END;
CREATE TRIGGER executions_no_update BEFORE UPDATE ON executions
BEGIN SELECT RAISE(ABORT, 'executions are append-only'); END;
CREATE TRIGGER executions_no_delete BEFORE DELETE ON executions
BEGIN SELECT RAISE(ABORT, 'executions are append-only'); END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_index_no_update BEFORE UPDATE ON audit_index
BEGIN SELECT RAISE(ABORT, 'audit_index is append-only'); END;
CREATE TRIGGER audit_index_no_delete BEFORE DELETE ON audit_index
BEGIN SELECT RAISE(ABORT, 'audit_index is append-only'); END;
CREATE TRIGGER audit_blocks_no_update BEFORE UPDATE ON audit_blocks
BEGIN SELECT RAISE(ABORT, 'audit_blocks are append-only'); END;
CREATE TRIGGER audit_blocks_no_delete BEFORE DELETE ON audit_blocks
BEGIN SELECT RAISE(ABORT, 'audit_blocks are append-only'); END;
