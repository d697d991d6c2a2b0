-- Three roles, so that neither process can write what only the other may say.
--
--   countersign_migrator  owns the tables; used by `countersign migrate` alone
--   countersign_server    proposals, people's decisions, tickets, sessions
--   countersign_executor  statements and execution records
--
-- Run it as an administrator, connected to the database, twice: before the first migration (it makes
-- the roles) and after each migration (it grants exactly what follows). It may be repeated at will.
-- Then give each role its password: ALTER ROLE countersign_server PASSWORD '...';

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['countersign_migrator', 'countersign_server', 'countersign_executor']
    LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', role);
        END IF;
    END LOOP;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO countersign_migrator;
GRANT USAGE ON SCHEMA public TO countersign_server, countersign_executor;

DO $$
BEGIN
    IF to_regclass('public.actions') IS NULL THEN
        RAISE NOTICE 'no tables yet: run `countersign migrate`, then this file again';
        RETURN;
    END IF;

    -- From nothing, so that a right that an older version of this file gave does not stay.
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM countersign_server, countersign_executor;
    -- Table rights do not take column rights along.
    REVOKE ALL (id, version, state, kind, cluster, namespace, name, uid, params, change, agent,
        session, reason, idempotency_key, decide_by, execute_by, held_code, held_message, held_since,
        retry_at, lease_token, lease_holder, lease_until, fence, started_at, end_code, end_message,
        ended_at, created_at, updated_at, open, slot)
        ON actions FROM countersign_server, countersign_executor;

    -- Both check the schema's version, read what they show or verify, and append to the log.
    GRANT SELECT ON _sqlx_migrations, actions, decisions, derived_decisions, tickets, admissions,
        executions, heartbeats, audit TO countersign_server;
    GRANT SELECT ON _sqlx_migrations, actions, decisions, tickets, admissions, executions, audit
        TO countersign_executor;
    GRANT INSERT ON audit TO countersign_server, countersign_executor;

    -- The server: what people and AIs say. It never says what was admitted or executed, and its
    -- proposals begin as `checking`.
    GRANT INSERT (id, kind, cluster, namespace, name, uid, params, change, agent,
        session, reason, idempotency_key, created_at, updated_at, slot) ON actions TO countersign_server;
    GRANT UPDATE (version, state, held_code, held_message, held_since, retry_at, lease_token,
        lease_holder, lease_until, end_code, end_message, ended_at, updated_at)
        ON actions TO countersign_server;
    GRANT INSERT ON decisions, tickets TO countersign_server;
    GRANT SELECT, INSERT, UPDATE ON outbox TO countersign_server;
    GRANT SELECT, INSERT, DELETE ON sessions TO countersign_server;
    GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks TO countersign_server;

    -- The executor: what it saw, signed and did. It never proposes, decides, or reads a session.
    GRANT UPDATE (version, state, decide_by, execute_by, held_code, held_message, held_since, retry_at,
        lease_token, lease_holder, lease_until, fence, started_at, end_code, end_message, ended_at,
        updated_at) ON actions TO countersign_executor;
    GRANT INSERT ON admissions, executions TO countersign_executor;
    GRANT SELECT, INSERT ON derived_decisions TO countersign_executor;
    GRANT INSERT ON outbox TO countersign_executor;
    GRANT SELECT, INSERT, UPDATE ON heartbeats TO countersign_executor;

    -- Each appends to the log in its own name only, and the executor signs.
    ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
    DROP POLICY IF EXISTS audit_read ON audit;
    DROP POLICY IF EXISTS audit_server ON audit;
    DROP POLICY IF EXISTS audit_executor ON audit;
    CREATE POLICY audit_read ON audit FOR SELECT
        TO countersign_server, countersign_executor USING (true);
    CREATE POLICY audit_server ON audit FOR INSERT
        TO countersign_server WITH CHECK (author = 'server' AND kid IS NULL AND signature IS NULL);
    CREATE POLICY audit_executor ON audit FOR INSERT
        TO countersign_executor WITH CHECK (author = 'executor' AND kid IS NOT NULL AND signature IS NOT NULL);
END
$$;
