-- Roles: the owner migrates, the application works, the auditor reads.
DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['strongroom_app', 'strongroom_audit'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
        IF NOT pg_has_role(current_user, wanted, 'SET') AND EXISTS (
            SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreaterole)
        ) THEN
            EXECUTE format('GRANT %I TO %I', wanted, current_user);
        END IF;
    END LOOP;
END
$$;

CREATE SCHEMA ledger;
CREATE SCHEMA commands;
CREATE SCHEMA events;
CREATE SCHEMA identity;
CREATE SCHEMA audit;
CREATE SCHEMA search;
CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA public;

-- Search ---------------------------------------------------------------------------------------

-- Vietnamese is found with and without its diacritics, however the letters were composed.
CREATE FUNCTION search.plain(words text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN lower(public.unaccent('public.unaccent'::regdictionary, normalize(words, NFC)));

-- Ledger ---------------------------------------------------------------------------------------

CREATE TABLE ledger.accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id uuid NOT NULL,
    purpose text NOT NULL,
    unit text NOT NULL,
    floor bigint,
    balance bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0 CHECK (seq >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner_id, purpose, unit),
    CONSTRAINT balance_not_below_floor CHECK (floor IS NULL OR balance >= floor)
) WITH (fillfactor = 50);
COMMENT ON COLUMN ledger.accounts.seq IS 'The number of the account''s entries.';

CREATE TYPE ledger.entry_type AS ENUM (
    'DEBIT', 'CREDIT', 'DEPOSIT', 'WITHDRAWAL', 'STAKE', 'PAYOUT', 'FEE', 'REFUND', 'REVERSAL',
    'PAYMENT', 'SUPPLY', 'HOLD', 'RELEASE', 'EXPIRY', 'SALE', 'RETURN', 'ADJUSTMENT'
);

CREATE TABLE ledger.transfers (
    id uuid PRIMARY KEY,
    key text NOT NULL,
    unit text NOT NULL,
    reference text,
    reverses uuid,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX transfers_key ON ledger.transfers (key);
CREATE UNIQUE INDEX transfers_reverses ON ledger.transfers (reverses) WHERE reverses IS NOT NULL;

-- No foreign keys here: accounts and transfers cannot be deleted, and the writer holds the
-- accounts' locks. Invariant L2 watches it (decision 0003).
CREATE TABLE ledger.entries (
    account_id bigint NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    transfer_id uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount <> 0),
    balance_after bigint NOT NULL,
    type ledger.entry_type NOT NULL,
    PRIMARY KEY (account_id, seq)
);
CREATE INDEX entries_transfer ON ledger.entries (transfer_id);

CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % is refused, post a reversal instead',
        TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE VIEW ledger.statement AS
SELECT e.account_id, a.owner_id, a.purpose, a.unit, e.seq, e.transfer_id, e.amount,
    e.balance_after, e.type, t.reference, t.key AS idempotent_key, t.created_by, t.created_at
FROM ledger.entries e
JOIN ledger.accounts a ON a.id = e.account_id
JOIN ledger.transfers t ON t.id = e.transfer_id;

CREATE VIEW ledger.wallet_ledger AS
SELECT owner_id AS user_id, amount, type, reference AS reference_id, idempotent_key,
    balance_after - amount AS balance_before, balance_after, created_at, created_by
FROM ledger.statement WHERE purpose = 'wallet';

-- The balance after the last entry, by seq, that was made until a moment; 0 before the first.
--
-- The last entry that is dated until `bound`, where dates only nearly rise: the one behind it is
-- dated later. Found by halving.
CREATE FUNCTION ledger.seq_near(account bigint, bound timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    low bigint := 0;
    high bigint := (SELECT max(e.seq) + 1 FROM ledger.entries e WHERE e.account_id = account);
    middle bigint;
BEGIN
    WHILE high - low > 1 LOOP
        middle := (low + high) / 2;
        IF (SELECT t.created_at > bound
            FROM ledger.entries e JOIN ledger.transfers t ON t.id = e.transfer_id
            WHERE e.account_id = account AND e.seq = middle) THEN
            high := middle;
        ELSE
            low := middle;
        END IF;
    END LOOP;
    RETURN low;
END
$$;

-- What the entries dated until a moment come to. A transfer is dated when its transaction began,
-- its entries are numbered when that held the account: along seq the dates only nearly rise. The
-- date is one for all accounts of a transfer, so that together they are as they were; taken by seq
-- they would not be. No transaction waits longer than two minutes between the two (the server ends
-- each of two pauses and two statements after 30 s): all until an entry that is dated that much
-- before the moment counts, and nothing behind one that is dated that much after it.
CREATE FUNCTION ledger.balance_at(account bigint, moment timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    settled bigint := ledger.seq_near(account, moment - interval '2 minutes');
    beyond bigint := ledger.seq_near(account, moment + interval '2 minutes');
BEGIN
    RETURN coalesce((
        SELECT e.balance_after FROM ledger.entries e
        WHERE e.account_id = account AND e.seq = settled
    ), 0) + coalesce((
        SELECT sum(e.amount)
        FROM ledger.entries e JOIN ledger.transfers t ON t.id = e.transfer_id
        WHERE e.account_id = account AND e.seq > settled AND e.seq <= beyond
            AND t.created_at <= moment
    ), 0);
END
$$;

-- Commands -------------------------------------------------------------------------------------

CREATE TABLE commands.answers (
    id uuid PRIMARY KEY,
    principal text NOT NULL,
    command text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    refused text,
    body bytea NOT NULL,
    subject uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE commands.answers ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX answers_age ON commands.answers USING brin (created_at);
COMMENT ON COLUMN commands.answers.id IS 'A digest of principal, path and key.';
COMMENT ON COLUMN commands.answers.refused IS 'The refusal''s code; null when it was done.';
COMMENT ON COLUMN commands.answers.subject IS 'What the command made: the bet, the transfer …';

-- Events ---------------------------------------------------------------------------------------

CREATE TABLE events.log (
    key uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    id uuid NOT NULL,
    type text NOT NULL,
    payload jsonb NOT NULL,
    causation uuid,
    correlation uuid,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position bigint GENERATED ALWAYS AS IDENTITY,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key, seq)
);
CREATE INDEX log_tail ON events.log (xid, position);

CREATE TABLE events.queues (
    queue text NOT NULL,
    pattern text NOT NULL,
    since xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (queue, pattern)
);
CREATE TABLE events.consumed (
    queue text NOT NULL,
    slot smallint NOT NULL,
    messages bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, slot)
) WITH (fillfactor = 50);
COMMENT ON COLUMN events.consumed.slot IS 'Workers count in different rows, to not wait.';

CREATE TABLE events.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    event jsonb NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL,
    died_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    ending text CHECK (ending IN ('retried', 'discarded')),
    CHECK ((ended_at IS NULL) = (ending IS NULL))
);
CREATE INDEX dead_letters_open ON events.dead_letters (queue, id) WHERE ended_at IS NULL;

-- Identity -------------------------------------------------------------------------------------

CREATE TABLE identity.users (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE CHECK (email = lower(email)),
    full_name text NOT NULL,
    role text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'operator')),
    password_hash text,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz
);
CREATE TABLE identity.sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES identity.users,
    refresh_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_because text
) WITH (fillfactor = 80);
CREATE INDEX sessions_user ON identity.sessions (user_id);
CREATE INDEX sessions_revoked ON identity.sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE TABLE identity.used_refresh_tokens (
    refresh_hash bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES identity.sessions,
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX used_refresh_tokens_age ON identity.used_refresh_tokens USING brin (used_at);
CREATE TABLE identity.api_keys (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'operator')),
    secret_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- Audit ----------------------------------------------------------------------------------------

CREATE TABLE audit.switches (
    name text PRIMARY KEY,
    paused boolean NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    by_whom text NOT NULL,
    reason text NOT NULL
);
INSERT INTO audit.switches (name, paused, by_whom, reason)
VALUES ('payouts', false, 'migration', 'never paused');

-- Snapshots, not times: which payout came first is a question of order (invariant B9).
CREATE TABLE audit.pauses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_snapshot pg_snapshot NOT NULL,
    ended_snapshot pg_snapshot,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    CHECK ((ended_snapshot IS NULL) = (ended_at IS NULL))
);
CREATE UNIQUE INDEX pauses_open ON audit.pauses ((true)) WHERE ended_snapshot IS NULL;
COMMENT ON COLUMN audit.pauses.began_snapshot IS
    'Taken by the holder of the switch: a payout it does not see commits after the pause.';

CREATE TABLE audit.reconciliations (
    id uuid PRIMARY KEY,
    requested_by text NOT NULL,
    began_at timestamptz NOT NULL,
    duration_ms bigint NOT NULL,
    clean boolean NOT NULL,
    findings jsonb NOT NULL
);
CREATE INDEX reconciliations_began ON audit.reconciliations (began_at);

-- Each queue is a table of its own, so counting what waits takes dynamic SQL.
CREATE FUNCTION audit.queue_lengths() RETURNS TABLE (queue text, waiting bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    FOR queue IN SELECT m.queue_name FROM pgmq.meta m ORDER BY 1 LOOP
        EXECUTE format('SELECT count(*) FROM pgmq.%I', 'q_' || queue) INTO waiting;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Of values that belong to somebody: the greatest, whose it is, and the greatest of all others.
-- Over a window this answers "was any other user's bet still open then?" in one pass (B10).
CREATE TYPE audit.two_latest AS (latest bigint, whose uuid, next bigint);
CREATE FUNCTION audit.keep_latest(kept audit.two_latest, value bigint, owner uuid)
RETURNS audit.two_latest LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF kept IS NULL THEN
        RETURN (value, owner, NULL)::audit.two_latest;
    ELSIF owner = kept.whose THEN
        kept.latest := greatest(kept.latest, value);
    ELSIF value > kept.latest THEN
        RETURN (value, owner, kept.latest)::audit.two_latest;
    ELSE
        kept.next := greatest(kept.next, value);
    END IF;
    RETURN kept;
END
$$;
CREATE AGGREGATE audit.two_latest (value bigint, owner uuid) (
    sfunc = audit.keep_latest, stype = audit.two_latest, parallel = safe
);
CREATE FUNCTION audit.latest_but(kept audit.two_latest, owner uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN kept.whose = owner THEN kept.next ELSE kept.latest END;

-- Append-only, and who may do what ---------------------------------------------------------------

DO $$
DECLARE guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY['ledger.entries', 'ledger.transfers', 'events.log'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s
            FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', guarded);
        EXECUTE format('CREATE TRIGGER not_emptied BEFORE TRUNCATE ON %s
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', guarded);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', guarded);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER not_emptied', guarded);
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public, pgmq TO strongroom_app, strongroom_audit;
GRANT SELECT ON public.alembic_version TO strongroom_app, strongroom_audit;
GRANT SELECT ON pgmq.meta, pgmq.topic_bindings TO strongroom_app, strongroom_audit;
GRANT USAGE ON SCHEMA ledger, commands, events, identity, audit, search
    TO strongroom_app, strongroom_audit;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger, commands, events, audit
    TO strongroom_app, strongroom_audit;
GRANT SELECT (id, email, full_name, role, created_at, disabled_at) ON identity.users
    TO strongroom_audit;
GRANT INSERT ON ledger.accounts, ledger.transfers, ledger.entries, events.log TO strongroom_app;
GRANT UPDATE (balance, seq) ON ledger.accounts TO strongroom_app;
GRANT INSERT, DELETE ON commands.answers TO strongroom_app;
GRANT INSERT, UPDATE ON events.consumed, events.dead_letters TO strongroom_app;
GRANT SELECT, INSERT, UPDATE ON identity.users, identity.sessions, identity.api_keys
    TO strongroom_app;
GRANT SELECT, INSERT, DELETE ON identity.used_refresh_tokens TO strongroom_app;
GRANT INSERT, UPDATE ON audit.switches TO strongroom_app;
GRANT INSERT ON audit.pauses, audit.reconciliations TO strongroom_app;
GRANT UPDATE (ended_snapshot, ended_at) ON audit.pauses TO strongroom_app;
