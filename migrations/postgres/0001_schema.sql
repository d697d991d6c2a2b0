-- Tables by author. The server inserts actions, decisions, tickets, sessions and webhooks; the executor
-- inserts admissions, executions, derived_decisions and heartbeats; both insert audit and outbox
-- rows. Signed objects are kept as their exact text. Times are milliseconds since 1970 UTC.
-- migrations/sqlite holds the same schema; the numbers go in pairs. What an index holds compares as
-- bytes: ids then sort by creation time in every locale, and comparing costs least.

-- What is checked with each insert (domains, CHECKs, generated columns, what an index is made of) is
-- prepared anew for each statement: a proposal's row is guarded by what its role may insert instead
-- (deploy/postgres/roles.sql), and by a trigger when its state changes.

CREATE TABLE actions (
    id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- The server may not insert these two: an action begins here.
    version         BIGINT  NOT NULL DEFAULT 1,
    state           TEXT COLLATE "C" NOT NULL DEFAULT 'checking',
    kind            TEXT COLLATE "C"    NOT NULL,
    cluster         TEXT COLLATE "C"    NOT NULL,
    namespace       TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    uid             TEXT COLLATE "C"    NOT NULL,
    params          TEXT    NOT NULL,
    -- `sha256:` and a digest of kind, cluster, uid and params: what would be done to what.
    change          TEXT COLLATE "C"    NOT NULL,
    agent           TEXT COLLATE "C"    NOT NULL,
    session         TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    idempotency_key TEXT COLLATE "C",
    -- Copies of what the statement says, for queries only: the executor reads its statement.
    decide_by       BIGINT,
    execute_by      BIGINT,
    -- Why nothing moves, and when to look again.
    held_code       TEXT,
    held_message    TEXT,
    held_since      BIGINT,
    retry_at        BIGINT,
    -- Who works on the row now. fence grows with each claim.
    lease_token     TEXT COLLATE "C",
    lease_holder    TEXT,
    lease_until     BIGINT,
    fence           BIGINT  NOT NULL DEFAULT 0,
    started_at      BIGINT,
    end_code        TEXT,
    end_message     TEXT,
    ended_at        BIGINT,
    created_at      BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL,
    -- What follows from the state: 1 until it ends, then 0; the change until then, then the id. By a
    -- trigger when the state changes, since a generated column costs each insert more than its index.
    open            BIGINT  NOT NULL DEFAULT 1,
    slot            TEXT COLLATE "C" NOT NULL
);

-- One open action for one caller and one change; all that are open; and a caller's ended ones in the
-- order of their ids: one index to write for a proposal instead of three.
CREATE UNIQUE INDEX actions_slot ON actions (open, agent, slot);
-- Written at an end only. Not by the same words as `open = 0`: it must not serve who looks for one caller.
CREATE INDEX actions_ended ON actions (state, id) WHERE open < 1;
CREATE UNIQUE INDEX actions_idempotency ON actions (agent, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX actions_rejected ON actions (agent, uid, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX actions_leased ON actions (lease_token) WHERE lease_token IS NOT NULL;

CREATE FUNCTION slot_of_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IN ('checking', 'pending', 'approved', 'executing', 'indeterminate') THEN
        NEW.open := 1;
        NEW.slot := NEW.change;
    ELSIF NEW.state IN (
        'succeeded', 'failed', 'denied', 'rejected', 'cancelled', 'expired', 'refused') THEN
        NEW.open := 0;
        NEW.slot := NEW.id;
    ELSE
        RAISE EXCEPTION 'an action has no state "%"', NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER actions_slot_of_state BEFORE UPDATE OF state, open, slot ON actions
    FOR EACH ROW EXECUTE FUNCTION slot_of_state();

-- Whether a caller's caps leave room for a proposal. One proposer after the other, until its commit:
-- each looks with a snapshot of its own, taken after the one before it was stored.
CREATE FUNCTION may_propose(whose TEXT, waiting BIGINT, hourly BIGINT, lowest TEXT) RETURNS boolean
    LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- Always a text: a condition, unlike a statement, costs nothing beside the lock.
    IF pg_advisory_xact_lock(hashtextextended('countersign.may_propose', 0))::text IS NULL THEN
        RETURN false;
    END IF;
    -- One look for both: a digest, the slot of what is open, is above every id. Rows of two columns:
    -- without OFFSET all of them would be made ready.
    RETURN count(*) FILTER (WHERE state = 'checking' OR state = 'pending') < waiting
        AND count(*) FILTER (WHERE id >= lowest COLLATE "C") < hourly
        FROM (SELECT state, id FROM actions
              WHERE open IN (0, 1) AND agent = whose COLLATE "C" AND slot >= lowest COLLATE "C"
              OFFSET 0) AS mine;
END
$$;

CREATE TABLE decisions (
    id         BIGINT  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    action_id  TEXT COLLATE "C" NOT NULL REFERENCES actions (id),
    person     TEXT    NOT NULL,
    verb       TEXT    NOT NULL CHECK (verb IN ('approve', 'reject', 'withdraw')),
    channel    TEXT    NOT NULL CHECK (channel IN ('web', 'jira')),
    reason     TEXT    NOT NULL,
    -- The attested decision. A Jira row is a pointer and has none.
    json       TEXT,
    kid        TEXT,
    signature  TEXT,
    decided_at BIGINT  NOT NULL,
    CHECK ((json IS NULL) = (kid IS NULL) AND (json IS NULL) = (signature IS NULL))
);
CREATE INDEX decisions_by_action ON decisions (action_id, id);
CREATE UNIQUE INDEX decisions_once ON decisions (action_id, person, verb) WHERE channel = 'web';

CREATE TABLE tickets (
    action_id  TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES actions (id),
    issue_id   TEXT    NOT NULL UNIQUE,
    issue_key  TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    created_at BIGINT  NOT NULL
);

CREATE TABLE outbox (
    id          BIGINT  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    action_id   TEXT COLLATE "C" NOT NULL REFERENCES actions (id),
    topic       TEXT    NOT NULL CHECK (topic IN (
        'ticket_open', 'ticket_update', 'notify_webhook', 'notify_slack')),
    -- Rows of one action and family are sent one after the other; each receiver of
    -- notifications is a family, so that none waits for another.
    family      TEXT    NOT NULL CHECK (family IN ('ticket', 'notify_webhook', 'notify_slack')),
    moment      TEXT    NOT NULL,
    -- The action's version that the row tells of; 0 for rows that no transition made.
    version     BIGINT  NOT NULL,
    created_at  BIGINT  NOT NULL,
    not_before  BIGINT  NOT NULL,
    attempts    BIGINT  NOT NULL DEFAULT 0,
    last_error  TEXT,
    lease_token TEXT,
    lease_until BIGINT,
    done_at     BIGINT,
    UNIQUE (action_id, topic, moment, version)
);
CREATE INDEX outbox_open ON outbox (id) WHERE done_at IS NULL;
CREATE INDEX outbox_order ON outbox (action_id, family, id) WHERE done_at IS NULL;

CREATE TABLE sessions (
    token_hash TEXT    NOT NULL PRIMARY KEY,
    person     TEXT    NOT NULL,
    csrf       TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE webhooks (
    id          BIGINT  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    identifier  TEXT    NOT NULL UNIQUE,
    body        BYTEA   NOT NULL,
    received_at BIGINT  NOT NULL,
    done_at     BIGINT
);
CREATE INDEX webhooks_open ON webhooks (id) WHERE done_at IS NULL;
CREATE INDEX webhooks_done ON webhooks (done_at) WHERE done_at IS NOT NULL;

CREATE TABLE admissions (
    action_id   TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES actions (id),
    digest      TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    kid         TEXT    NOT NULL,
    signature   TEXT    NOT NULL,
    admitted_at BIGINT  NOT NULL
);

CREATE TABLE executions (
    id          BIGINT  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    action_id   TEXT COLLATE "C" NOT NULL REFERENCES actions (id),
    record      TEXT    NOT NULL CHECK (record IN ('intent', 'outcome', 'refusal')),
    json        TEXT    NOT NULL,
    kid         TEXT    NOT NULL,
    signature   TEXT    NOT NULL,
    recorded_at BIGINT  NOT NULL
);
CREATE INDEX executions_by_action ON executions (action_id, id);
-- One intent for one action, whatever else goes wrong.
CREATE UNIQUE INDEX executions_one_intent ON executions (action_id) WHERE record = 'intent';

CREATE TABLE derived_decisions (
    id          BIGINT  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    action_id   TEXT COLLATE "C" NOT NULL REFERENCES actions (id),
    person      TEXT    NOT NULL,
    verb        TEXT    NOT NULL CHECK (verb IN ('approve', 'reject', 'withdraw')),
    channel     TEXT    NOT NULL CHECK (channel IN ('web', 'jira')),
    reason      TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    kid         TEXT    NOT NULL,
    signature   TEXT    NOT NULL,
    decided_at  BIGINT  NOT NULL,
    UNIQUE (action_id, person, verb, channel)
);

CREATE TABLE heartbeats (
    cluster      TEXT    NOT NULL,
    executor     TEXT    NOT NULL,
    at           BIGINT  NOT NULL,
    status       TEXT    NOT NULL,
    policy_hash  TEXT    NOT NULL,
    cluster_lock TEXT    NOT NULL,
    PRIMARY KEY (cluster, executor)
);

CREATE TABLE audit (
    seq       BIGINT  NOT NULL PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id        TEXT COLLATE "C" NOT NULL,
    at        BIGINT  NOT NULL,
    author    TEXT    NOT NULL,
    event     TEXT COLLATE "C"    NOT NULL,
    actor     TEXT COLLATE "C"    NOT NULL,
    -- NULL: about no action.
    action_id TEXT COLLATE "C",
    outcome   TEXT    NOT NULL,
    -- The whole event; the columns above are copies for filters.
    json      TEXT    NOT NULL,
    -- The executor's events are signed. Each role inserts what is its own: see roles.sql.
    kid       TEXT,
    signature TEXT
);
CREATE INDEX audit_by_action ON audit (action_id, seq) WHERE action_id IS NOT NULL;
CREATE INDEX audit_by_actor ON audit (actor, seq);
-- Not the calls: most rows are calls, and who looks for them finds them by walking.
CREATE INDEX audit_by_event ON audit (event, seq) WHERE event <> 'tool.called';
-- Rows come in nearly the order of their times: a range of pages for each range of times is enough.
CREATE INDEX audit_by_time ON audit USING brin (at) WITH (pages_per_range = 16);

-- What was said stays said.
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER decisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decisions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER derived_decisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON derived_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER admissions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admissions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER executions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON executions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
