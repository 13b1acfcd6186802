-- name: grow_transfers
-- A ledger as years of bets leave it: each transfer with its key, each bet with its answer.
INSERT INTO ledger.transfers (id, key, unit, reference, created_by)
SELECT uuidv7(), 'SEED:' || $1::bigint || ':' || n, 'VND', NULL, 'seed'
FROM generate_series(1, $2::bigint) n;

-- name: grow_entries
-- Two entries a transfer, spread over the people's wallets and stakes.
INSERT INTO ledger.entries (account_id, seq, transfer_id, amount, balance_after, type)
SELECT a.id, a.seq + n, uuidv7(), CASE WHEN a.purpose = 'wallet' THEN -1 ELSE 1 END,
    a.balance + CASE WHEN a.purpose = 'wallet' THEN -n ELSE n END, 'DEBIT'
FROM ledger.accounts a, generate_series(1, $1::bigint) n
WHERE a.purpose IN ('wallet', 'stake');

-- name: grow_accounts
-- The accounts follow their entries.
UPDATE ledger.accounts SET seq = seq + $1::bigint,
    balance = balance + CASE WHEN purpose = 'wallet' THEN -$1::bigint ELSE $1::bigint END
WHERE purpose IN ('wallet', 'stake');

-- name: grow_answers
-- The stored answers of as many requests, under random keys as clients make them.
INSERT INTO commands.answers (id, principal, command, key, fingerprint, body)
SELECT gen_random_uuid(), 'seed', 'PlaceBet', n::text, '\x00', '\x7b7d'
FROM generate_series(1, $1::bigint) n;

-- name: grow_bets
-- The bets themselves, in rounds long over.
INSERT INTO betting.bets (id, round_id, number, user_id, side, amount, refunded, done_at_tick)
SELECT uuidv7(), $1::uuid, n, a.owner_id, 'A', 1, 1, n
FROM generate_series(1, $2::bigint) n
JOIN (
    SELECT owner_id, row_number() OVER () - 1 AS place, count(*) OVER () AS people
    FROM ledger.accounts WHERE purpose = 'wallet'
) a ON a.place = n % a.people;

-- name: grow_events
-- What happened then.
INSERT INTO events.log (key, seq, id, type, payload)
SELECT uuidv7(), 1, uuidv7(), 'betting.BetPlaced', '{"seed": true}'
FROM generate_series(1, $1::bigint) n;

-- name: count_entries
-- How large the ledger is now.
SELECT count(*) FROM ledger.entries;

-- name: settle_down
-- Statistics, visibility and a checkpoint, so that the measurement does not pay for the seeding.
VACUUM ANALYZE;
