-- name: read_account
-- An account with its version, nobody kept from it.
SELECT id, balance, seq FROM ledger.accounts
WHERE owner_id = $1 AND purpose = $2 AND unit = 'VND';

-- name: update_version
-- One balance, if the account is still of the version that was read.
UPDATE ledger.accounts SET balance = $2, seq = seq + 1 WHERE id = $1 AND seq = $3 RETURNING true;
