-- name: count_ring
-- A smaller ring grows into the next one.
SELECT count(*) FROM ledger.accounts WHERE purpose = 'wallet';

-- name: open_ring
-- Accounts that pay each other in a ring, empty.
INSERT INTO ledger.accounts (owner_id, purpose, unit, floor)
SELECT gen_random_uuid(), 'wallet', 'VND', 0 FROM generate_series(1, $1::bigint);

-- name: turn_ring
-- Rounds in which each account gets one from the account before and gives it to the next: books as
-- the program would have left them, with an event for their time, so that every invariant holds.
WITH ring AS MATERIALIZED (
    SELECT id, balance, seq, row_number() OVER (ORDER BY id) - 1 AS place,
        count(*) OVER () AS people
    FROM ledger.accounts WHERE purpose = 'wallet'
), made AS MATERIALIZED (
    SELECT uuidv7() AS id, r.place, r.people, round
    FROM generate_series(1, $1::bigint) AS round CROSS JOIN ring r
), kept AS (
    INSERT INTO ledger.transfers (id, key, unit, created_by, created_at)
    SELECT id, 'SEED:' || id, 'VND', 'bench', now() - make_interval(hours => $2::integer) FROM made
), posted AS (
    INSERT INTO ledger.entries (account_id, seq, transfer_id, amount, balance_after, type)
    SELECT a.id, a.seq + 2 * (m.round - 1) + leg.step, m.id, leg.amount, a.balance + leg.after,
        leg.type::ledger.entry_type
    FROM made m
    CROSS JOIN (VALUES (1, 1, 1, 1, 'CREDIT'), (0, 2, -1, 0, 'DEBIT'))
        AS leg (ahead, step, amount, after, type)
    JOIN ring a ON a.place = (m.place + leg.ahead) % m.people
), told AS (
    INSERT INTO events.log (key, seq, id, type, payload, created_at)
    VALUES (uuidv7(), 1, uuidv7(), 'bench.RingTurned', '{}',
        now() - make_interval(hours => $2::integer))
)
UPDATE ledger.accounts a SET seq = a.seq + 2 * $1::bigint FROM ring WHERE ring.id = a.id;
