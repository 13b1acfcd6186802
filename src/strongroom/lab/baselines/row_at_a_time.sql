-- name: claim
-- The key's row is written first: who comes second waits for it here.
INSERT INTO commands.answers (id, principal, command, key, fingerprint, body)
VALUES ($1, $2, $3, $4, $5, '') ON CONFLICT DO NOTHING RETURNING true;

-- name: allow_answering
-- Writing the answer after the key takes a privilege that the application otherwise lacks.
GRANT UPDATE ON commands.answers TO strongroom_app;

-- name: answered
-- What was answered under this key before.
SELECT fingerprint, refused, body FROM commands.answers WHERE id = $1;

-- name: answer
-- The answer goes into the key's row.
UPDATE commands.answers SET refused = $2, body = $3, subject = $4 WHERE id = $1;

-- name: share_round
-- A bet reads its round so that a close waits for it.
SELECT status, closes_at, clock_timestamp() AS now FROM betting.rounds WHERE id = $1 FOR SHARE;

-- name: lock_account
-- The specification's SELECT … FOR UPDATE of a wallet.
SELECT id, balance, seq FROM ledger.accounts
WHERE owner_id = $1 AND purpose = $2 AND unit = 'VND' FOR UPDATE;

-- name: add_transfer
-- One transfer, one statement.
INSERT INTO ledger.transfers (id, key, unit, reference, created_by)
VALUES ($1, $2, 'VND', $3, $4);

-- name: add_entries
-- Both sides of one transfer.
INSERT INTO ledger.entries (account_id, seq, transfer_id, amount, balance_after, type)
VALUES ($1, $2, $3, $4, $5, $6::text::ledger.entry_type),
    ($7, $8, $3, -$4::bigint, $9, $10::text::ledger.entry_type);

-- name: update_account
-- One balance, one statement.
UPDATE ledger.accounts SET balance = $2, seq = $3 WHERE id = $1;

-- name: add_bet
-- One bet; a sequence numbers it, since no round is held.
INSERT INTO betting.bets (id, round_id, number, user_id, side, amount)
VALUES ($1, $2, $3, $4, $5::text::betting.side, $6);

-- name: add_event
-- The event of one bet.
INSERT INTO events.log (key, seq, id, type, payload)
VALUES ($1, 1, $2, 'betting.BetPlaced', $3::text::jsonb);

-- name: send
-- The message of one bet.
SELECT pgmq.send('betting_match', $1::text::jsonb);

-- name: wallet
-- One wallet, one query.
SELECT w.balance, s.balance AS locked, w.seq, clock_timestamp() AS as_of
FROM ledger.accounts w JOIN ledger.accounts s USING (owner_id, unit)
WHERE w.owner_id = $1 AND w.purpose = 'wallet' AND s.purpose = 'stake' AND w.unit = 'VND';

-- name: next_bet
-- A matcher's job: the next bet that nobody else is at.
SELECT id, user_id, side::text AS side, amount - matched - refunded AS open FROM betting.bets
WHERE round_id = $1 AND done_at_tick IS NULL AND number > $2
ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: opponent
-- The specification's search for an opponent.
SELECT id, user_id, amount - matched - refunded AS open FROM betting.bets
WHERE round_id = $1 AND side = $2::text::betting.side AND done_at_tick IS NULL AND user_id <> $3
ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: fill
-- One bet of a match.
UPDATE betting.bets SET matched = matched + $2,
    done_at_tick = CASE WHEN amount = matched + refunded + $2 THEN 1 END WHERE id = $1;

-- name: add_match
-- One match.
INSERT INTO betting.matches (id, round_id, tick, number, bet_a, bet_b, amount)
VALUES ($1, $2, $3, $3, $4, $5, $6);

-- name: unpaid_match
-- A settler's job: the next match that nobody else is at.
SELECT m.id, m.amount, m.bet_a, m.bet_b, a.user_id AS user_a, b.user_id AS user_b
FROM betting.matches m JOIN betting.bets a ON a.id = m.bet_a JOIN betting.bets b ON b.id = m.bet_b
WHERE m.round_id = $1 AND m.winner IS NULL LIMIT 1 FOR UPDATE OF m SKIP LOCKED;

-- name: pay_match
-- One match is paid.
UPDATE betting.matches SET winner = 'A' WHERE id = $1;

-- name: settle_bet
-- One bet of a paid match.
UPDATE betting.bets SET settled = settled + $2, payout = payout + $3 WHERE id = $1;
