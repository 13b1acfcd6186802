-- name: moment
-- Backups are ordered by the database's clock, which is the one that stamps commits.
SELECT clock_timestamp() AS now;

-- name: last_commit
-- The newest commit that recovery has brought back; it stays known until the server ends.
SELECT pg_last_xact_replay_timestamp() AS at;

-- name: replayed_to
-- Where recovery came to the end of the log, or of what it could read.
SELECT pg_last_wal_replay_lsn()::text AS position;

-- name: keep_for_archive
-- A restored database has no slot, and what it writes before somebody archives would be missing.
SELECT pg_create_physical_replication_slot($1, immediately_reserve => true)::text AS slot;

-- name: archiving
-- How far the archive is behind, and whether the server still keeps what it has not got.
SELECT s.active, s.wal_status,
    pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint AS behind
FROM (VALUES ($1::text)) AS wanted (slot)
LEFT JOIN pg_replication_slots s ON s.slot_name = wanted.slot;
