-- name: sleep
-- The fault: the statement after it comes late, on the same connection, with all its locks held.
SELECT pg_sleep($1::float8);

-- name: hold_round
-- A hot row: whoever bets on this round waits until the transaction around this ends.
SELECT id FROM betting.rounds WHERE id = $1 FOR UPDATE;

-- name: hold_wallet
-- A hot row: whoever moves this user's money waits until the transaction around this ends.
SELECT id FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'wallet' FOR UPDATE;

-- name: bets_by_key
-- What became of the keys that a throng sent: the bet of each that was accepted, once.
SELECT a.key, count(b.id) AS bets FROM commands.answers a
LEFT JOIN betting.bets b ON b.id = a.subject
WHERE a.command = 'PlaceBet' AND a.refused IS NULL AND starts_with(a.key, $1)
GROUP BY a.key;
