-- name: look
-- What may grow where nobody tidies up: connections, and rows that nobody sees any more.
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
    (SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables) AS dead_tuples;
