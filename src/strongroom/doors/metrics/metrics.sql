-- name: connections
-- Whoever runs out of connections wants to know what they do. Of other logins' the server says
-- only that they are there, neither their state nor their type: only clients have a login and a
-- database.
SELECT replace(coalesce(state, 'unknown'), ' ', '_') AS state, count(*) AS connections
FROM pg_stat_activity
WHERE coalesce(backend_type, 'client backend') = 'client backend'
    AND usesysid IS NOT NULL AND datid IS NOT NULL
GROUP BY 1;

-- name: standing
-- How the house stands, in one question. Other databases may share the server, and not every lock
-- says of which one it is, but every session does. A switch that cannot be found means paused; an
-- event is read once no transaction older than its own is running, and the first that is not is the
-- oldest.
SELECT
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - current_setting('reserved_connections', true)::integer AS connections_max,
    (SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND datname = current_database()) AS lock_waits,
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks,
    (SELECT active FROM pg_replication_slots WHERE slot_name = 'strongroom_archive') AS archiving,
    coalesce((SELECT paused FROM audit.switches WHERE name = 'payouts'), true) AS payouts_paused,
    (SELECT count(*) FROM ticketing.reservations
        WHERE status = 'ACTIVE' AND expires_at > now()) AS reservations_held,
    coalesce(extract(epoch FROM clock_timestamp() - (
        SELECT created_at FROM events.log WHERE xid >= pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY xid, position LIMIT 1
    ))::double precision, 0) AS event_tail_lag_s;

-- name: dead_letters
-- Each queue of whose messages some lie dead.
SELECT queue, count(*) AS letters FROM events.dead_letters WHERE ended_at IS NULL GROUP BY queue;

-- name: queues
-- How much waits where. The longest question, so it comes last: a queue that is too long to be
-- looked at in time must not hide the rest. Every process asks, with every scrape, so it is counted
-- no further than anybody needs to be warned.
SELECT s.queue, s.waiting, s.delayed, s.stalled, s.oldest_s, p.queue IS NOT NULL AS paused
FROM events.queue_states(100000) s LEFT JOIN audit.paused_queues p USING (queue);
