-- name: where_from
-- Evidence says which database it is of, at which moment and state.
SELECT current_database() AS database, version() AS postgres, now() AS read_at,
    pg_current_snapshot()::text AS snapshot, (SELECT version_num FROM public.alembic_version)
        AS schema, pg_is_in_recovery() AS standby;

-- name: entries_around
-- A wrong entry is understood from its neighbours.
SELECT e.account_id, e.seq, e.transfer_id, e.amount, e.balance_after, e.type::text AS type, t.key,
    t.reference, t.reverses, t.created_by, t.created_at, e.xmin::text AS written_by
FROM ledger.entries e
LEFT JOIN ledger.transfers t ON t.id = e.transfer_id
WHERE e.account_id = $1 AND e.seq BETWEEN $2::bigint AND $3::bigint
ORDER BY e.seq LIMIT 100;

-- name: entries_of
-- A wrong transfer is understood from all its legs.
SELECT t.id AS transfer_id, t.key, t.unit, t.reference, t.reverses, t.created_by, t.created_at,
    e.account_id, a.owner_id, a.purpose, e.seq, e.amount, e.balance_after, e.type::text AS type
FROM ledger.entries e
LEFT JOIN ledger.transfers t ON t.id = e.transfer_id
LEFT JOIN ledger.accounts a ON a.id = e.account_id
WHERE e.transfer_id = $1::text::uuid
ORDER BY e.account_id, e.seq LIMIT 100;
