-- name: server
-- What presses on the database just now, seen as its owner, who may look at every session.
SELECT current_setting('max_connections')::integer AS most,
    count(*) FILTER (WHERE backend_type = 'client backend') AS connections,
    count(*) FILTER (WHERE wait_event_type = 'Lock' AND datname = current_database()) AS lock_waits,
    coalesce(max(extract(epoch FROM clock_timestamp() - xact_start))
        FILTER (WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()), 0)::float8
        AS oldest_transaction_s,
    pg_database_size(current_database()) AS bytes,
    extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::bigint AS up_s,
    (SELECT active FROM pg_replication_slots WHERE slot_name = 'strongroom_archive') AS archiving
FROM pg_stat_activity;

-- name: held
-- Seats that nobody else can have for now; dead by the clock is not held any more.
SELECT count(DISTINCT r.id) AS reservations, coalesce(sum(l.quantity), 0)::bigint AS seats
FROM ticketing.reservations r JOIN ticketing.reservation_lines l ON l.reservation_id = r.id
WHERE r.status = 'ACTIVE' AND r.expires_at > now();
