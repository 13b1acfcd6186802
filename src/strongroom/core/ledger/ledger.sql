-- name: lock_accounts
-- Whoever moves something holds the accounts, always in the order of their ids.
SELECT a.id, a.owner_id, a.purpose, a.unit, a.floor, a.balance, a.seq
FROM ledger.accounts a
JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS wanted (owner_id, purpose, unit)
    USING (owner_id, purpose, unit)
ORDER BY a.id
FOR NO KEY UPDATE OF a;

-- name: open_accounts
-- Accounts come into being when they are first needed, without a race.
INSERT INTO ledger.accounts (owner_id, purpose, unit, floor)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[])
ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING;

-- name: update_accounts
-- One statement for every balance that a group changed.
UPDATE ledger.accounts a SET balance = new.balance, seq = new.seq
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS new (id, balance, seq)
WHERE a.id = new.id;

-- name: find_transfers
-- A key that has moved something already must not move it again.
SELECT t.key, t.id, t.unit, e.amount, a.owner_id, a.purpose
FROM ledger.transfers t
JOIN ledger.entries e ON e.transfer_id = t.id
JOIN ledger.accounts a ON a.id = e.account_id
WHERE t.key = ANY($1::text[]);

-- name: legs_of
-- A reversal negates exactly what is written.
SELECT a.owner_id, a.purpose, a.unit, e.amount
FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id
WHERE e.transfer_id = $1 ORDER BY e.amount;

-- name: balances
-- Many wallets in one statement, so that they are one consistent snapshot.
SELECT owner_id, purpose, unit, balance, seq, clock_timestamp() AS as_of
FROM ledger.accounts
WHERE owner_id = ANY($1::uuid[]) AND unit = $2 AND purpose = ANY($3::text[]);

-- name: entries
-- A statement is read forward by seq, so that a page never shifts.
SELECT seq, amount, balance_after, type, reference, idempotent_key, created_by, created_at
FROM ledger.statement
WHERE account_id = (
    SELECT id FROM ledger.accounts WHERE owner_id = $1 AND purpose = $2 AND unit = $3
) AND seq > $4
ORDER BY seq LIMIT $5;

-- name: balance_at
-- The balance at a past time is what the entries until then come to.
SELECT ledger.balance_at(id, $4) FROM ledger.accounts
WHERE owner_id = $1 AND purpose = $2 AND unit = $3;

-- name: trial_balance
-- All that is owed and held, by unit and purpose: each unit sums to zero over the world.
SELECT unit, CASE WHEN owner_id = $1 AND purpose <> 'world' THEN 'house:' || purpose
    ELSE purpose END AS purpose,
    count(*) AS accounts, sum(balance)::bigint AS balance, now() AS as_of
FROM ledger.accounts
GROUP BY 1, 2 ORDER BY 1, 2;
