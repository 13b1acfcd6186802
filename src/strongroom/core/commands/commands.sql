-- name: claim
-- Who holds a key's lock works on it; what was answered before is answered again. Keys that are
-- new and ours, nearly all, are not sent back.
SELECT * FROM (
    SELECT k.id, pg_try_advisory_xact_lock(k.lock) AS mine, a.fingerprint, a.refused, a.body
    FROM unnest($1::uuid[], $2::bigint[]) AS k (id, lock)
    LEFT JOIN commands.answers a ON a.id = k.id
    OFFSET 0
) claimed
WHERE NOT mine OR fingerprint IS NOT NULL;

-- name: now
-- Rules about time read the database's clock, after the locks were won.
SELECT clock_timestamp();

-- name: forget_answers
-- A stored answer is for retries, and nobody retries after a month; the unique effect stays. The
-- oldest go first: all that are younger than the oldest one must be there (I1).
DELETE FROM commands.answers WHERE id IN (
    SELECT id FROM commands.answers WHERE created_at < now() - make_interval(days => $1)
    ORDER BY created_at LIMIT $2
);
