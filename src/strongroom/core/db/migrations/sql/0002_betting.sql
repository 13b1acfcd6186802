CREATE SCHEMA betting;

CREATE TYPE betting.kind AS ENUM ('oracle', 'coinflip');
CREATE TYPE betting.status AS ENUM ('OPEN', 'CLOSED', 'SETTLED', 'VOIDED');
CREATE TYPE betting.side AS ENUM ('A', 'B');
CREATE TYPE betting.outcome AS ENUM ('A', 'B', 'VOID');

-- The accepting side of a round: who places a bet or closes holds this row.
CREATE TABLE betting.rounds (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    kind betting.kind NOT NULL,
    status betting.status NOT NULL DEFAULT 'OPEN',
    fee_bps integer NOT NULL CHECK (fee_bps BETWEEN 0 AND 1000),
    closes_at timestamptz,
    winner betting.outcome,
    seed bytea,
    seed_hash bytea,
    bets bigint NOT NULL DEFAULT 0 CHECK (bets >= 0),
    staked_a bigint NOT NULL DEFAULT 0 CHECK (staked_a >= 0),
    staked_b bigint NOT NULL DEFAULT 0 CHECK (staked_b >= 0),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    CHECK ((kind = 'coinflip') = (seed IS NOT NULL)),
    CHECK ((kind = 'coinflip') = (seed_hash IS NOT NULL)),
    CHECK ((status = 'OPEN') = (closed_at IS NULL)),
    CHECK (status <> 'OPEN' OR winner IS NULL)
) WITH (fillfactor = 50);
CREATE INDEX rounds_due ON betting.rounds (closes_at) WHERE status = 'OPEN';
CREATE INDEX rounds_unfinished ON betting.rounds (id) WHERE status IN ('OPEN', 'CLOSED');

-- The matching side of a round: who matches, refunds or undoes holds this row.
CREATE TABLE betting.books (
    round_id uuid PRIMARY KEY REFERENCES betting.rounds,
    upto bigint NOT NULL DEFAULT 0,
    ticks bigint NOT NULL DEFAULT 0,
    matches bigint NOT NULL DEFAULT 0,
    matched bigint NOT NULL DEFAULT 0 CHECK (matched >= 0),
    refunded bigint NOT NULL DEFAULT 0 CHECK (refunded >= 0)
) WITH (fillfactor = 50);
COMMENT ON COLUMN betting.books.upto IS 'Bets up to this number have met all earlier ones.';
COMMENT ON COLUMN betting.books.ticks IS 'Counts matches and refunds, in the order they happened.';

CREATE TABLE betting.bets (
    id uuid PRIMARY KEY,
    round_id uuid NOT NULL,
    number bigint NOT NULL,
    user_id uuid NOT NULL,
    side betting.side NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    matched bigint NOT NULL DEFAULT 0 CHECK (matched >= 0),
    refunded bigint NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    settled bigint NOT NULL DEFAULT 0 CHECK (settled BETWEEN 0 AND matched),
    payout bigint NOT NULL DEFAULT 0 CHECK (payout >= 0),
    done_at_tick bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (matched + refunded <= amount),
    CHECK ((matched + refunded = amount) = (done_at_tick IS NOT NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX bets_number ON betting.bets (round_id, number);
CREATE INDEX bets_user ON betting.bets (user_id, id);
CREATE INDEX bets_open ON betting.bets (round_id, side, number) WHERE done_at_tick IS NULL;
COMMENT ON COLUMN betting.bets.number IS 'The order in which the round accepted its bets.';
COMMENT ON COLUMN betting.bets.settled IS 'How much of `matched` has been paid or lost.';

CREATE TABLE betting.matches (
    id uuid PRIMARY KEY,
    round_id uuid NOT NULL,
    tick bigint NOT NULL,
    number bigint NOT NULL,
    bet_a uuid NOT NULL,
    bet_b uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    winner betting.outcome,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX matches_number ON betting.matches (round_id, number);
CREATE INDEX matches_bet_a ON betting.matches (bet_a);
CREATE INDEX matches_bet_b ON betting.matches (bet_b);
CREATE INDEX matches_unpaid ON betting.matches (round_id) WHERE winner IS NULL;
COMMENT ON COLUMN betting.matches.number IS '1, 2, 3 … within the round; chunks go by it.';
COMMENT ON COLUMN betting.matches.winner IS 'Null until paid; VOID when undone.';

CREATE FUNCTION betting.bet_status(open bigint, matched bigint, settled bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN open > 0 THEN 'PENDING' WHEN matched = 0 THEN 'REFUNDED'
        WHEN settled < matched THEN 'MATCHED' ELSE 'SETTLED' END
$$;
CREATE VIEW betting.bets_seen AS
SELECT *, betting.bet_status(amount - matched - refunded, matched, settled) AS status
FROM betting.bets;

-- HMAC for who reads alone, as pgcrypto may not be there: the key, padded to a block of SHA-256
-- with zeros, and each 8 bytes of it mixed with `pad` (invariant B12).
CREATE FUNCTION betting.padded_key(key bytea, pad bigint) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_agg(int8send(('x' || substr(hex, n, 16))::bit(64)::bigint # pad), '' ORDER BY n)
    FROM rpad(encode(key, 'hex'), 128, '0') AS hex, generate_series(1, 113, 16) AS n
$$;

GRANT USAGE ON SCHEMA betting TO strongroom_app, strongroom_audit;
GRANT SELECT ON ALL TABLES IN SCHEMA betting TO strongroom_app, strongroom_audit;
GRANT INSERT, UPDATE ON betting.rounds, betting.books, betting.bets, betting.matches
    TO strongroom_app;
