-- name: lead
-- Held by the session, so that it is given up in the moment its process dies, and not before.
SELECT pg_try_advisory_lock($1, $2);

-- name: still_there
-- The lock lives exactly as long as this connection, so an answer on it is proof.
SELECT 1;
