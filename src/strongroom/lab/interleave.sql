-- name: blocked
-- Who waits for a lock of one of the others has not moved, however long it is given.
SELECT pg_blocking_pids($1) && $2::integer[];

-- name: deadlocks
-- Undone by the server, since each waited for the other.
SELECT deadlocks FROM pg_stat_database WHERE datname = current_database();
