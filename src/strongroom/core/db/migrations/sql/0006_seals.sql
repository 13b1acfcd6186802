-- Seals: what a clean reconciliation has read, closed, so that the next one need not read it.
CREATE TABLE audit.seals (
    number bigint PRIMARY KEY CHECK (number > 0),
    reconciliation_id uuid NOT NULL,
    began_at timestamptz NOT NULL,
    ranges bigint NOT NULL CHECK (ranges >= 0),
    entries bigint NOT NULL CHECK (entries >= 0),
    turn bigint NOT NULL CHECK (turn >= 0 AND turn < 4294967296),
    content bytea NOT NULL CHECK (octet_length(content) = 32),
    previous bytea NOT NULL CHECK (octet_length(previous) = 32),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    sealed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN audit.seals.began_at IS 'When the reading began that this seals.';
COMMENT ON COLUMN audit.seals.turn IS
    'How far sealed ranges were read again, by the first four bytes of their digests.';
COMMENT ON COLUMN audit.seals.content IS 'The SHA-256 of its ranges, in order.';
COMMENT ON COLUMN audit.seals.digest IS 'The SHA-256 of the one before and of all of this.';

-- The newest range of an account is one look into the key, backwards.
CREATE TABLE audit.sealed (
    account_id bigint NOT NULL,
    from_seq bigint NOT NULL CHECK (from_seq > 0),
    to_seq bigint NOT NULL CHECK (to_seq >= from_seq),
    seal bigint NOT NULL REFERENCES audit.seals,
    balance bigint NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    PRIMARY KEY (account_id, from_seq)
);
COMMENT ON COLUMN audit.sealed.balance IS 'The balance after its last entry.';
CREATE INDEX sealed_seal ON audit.sealed (seal, account_id, from_seq);
-- A digest is as good as a die: a part of this index is a fair share of all that is sealed.
CREATE INDEX sealed_turn ON audit.sealed (digest);
-- Each account that was ever sealed, once.
CREATE INDEX sealed_first ON audit.sealed (account_id) WHERE from_seq = 1;

-- Rows lie nearly in the order of their time, so this takes next to nothing, and finds what is new
-- whatever the ids look like.
CREATE INDEX transfers_age ON ledger.transfers USING brin (created_at)
    WITH (autosummarize = on, pages_per_range = 32);

ALTER TABLE audit.reconciliations
    ADD COLUMN mode text NOT NULL DEFAULT 'full' CHECK (mode IN ('full', 'incremental', 'scoped')),
    ADD COLUMN head bigint,
    ADD COLUMN head_digest bytea;
COMMENT ON COLUMN audit.reconciliations.head IS
    'The newest seal that the run has seen: one that goes missing is missed.';

DO $$
DECLARE guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY['audit.seals', 'audit.sealed'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s
            FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', guarded);
        EXECUTE format('CREATE TRIGGER not_emptied BEFORE TRUNCATE ON %s
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', guarded);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', guarded);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER not_emptied', guarded);
    END LOOP;
END
$$;

GRANT SELECT ON audit.seals, audit.sealed TO strongroom_app, strongroom_audit;
GRANT INSERT ON audit.seals, audit.sealed TO strongroom_app;
