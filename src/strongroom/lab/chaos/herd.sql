-- name: make_due
-- A herd: all reservations of the trial expire at one instant.
UPDATE ticketing.reservations SET expires_at = clock_timestamp() + make_interval(secs => $1)
WHERE status = 'ACTIVE' RETURNING expires_at;

-- name: not_given_back
-- Seats of these are still held.
SELECT count(*) FROM ticketing.reservations WHERE status = 'ACTIVE';

-- name: given_back
-- Each reservation gives its seats back once.
SELECT count(*) FROM ticketing.reservations WHERE status = 'EXPIRED';

-- name: connections
-- Whoever opens more than the pools allow takes connections from everybody else.
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend';
