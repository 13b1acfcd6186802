-- name: share_switch
-- Who pays holds the switch shared until it commits. The gate comes first because row locks are
-- unfair: while payers overlap, a pause waiting for the bare row was measured to wait for ever.
SELECT s.paused
FROM (SELECT pg_advisory_xact_lock_shared(1346458457, 1) OFFSET 0) gate, audit.switches s
WHERE s.name = $1 FOR SHARE OF s;

-- name: hold_switch
-- Who pauses or resumes waits for all who pay, and lets nobody start meanwhile.
SELECT s.paused, s.since, s.by_whom, s.reason
FROM (SELECT pg_advisory_xact_lock(1346458457, 1) OFFSET 0) gate, audit.switches s
WHERE s.name = $1 FOR UPDATE OF s;

-- name: end_hanging_payers
-- A process that stops while it pays would keep the switch from being turned for as long as the
-- server bears it, half a minute, and others would go on to pay. Nobody thinks for half a second
-- between two statements; what is undone here is asked for again under the same key.
SELECT pg_terminate_backend(a.pid)
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND (l.classid, l.objid, l.objsubid) = (1346458457, 1, 2)
    AND l.granted AND a.datname = current_database() AND a.usename = current_user
    AND l.database = a.datid AND a.pid <> pg_backend_pid() AND a.state = 'idle in transaction'
    AND a.state_change < clock_timestamp() - interval '500 milliseconds';

-- name: set_switch
-- The row may be gone, which means paused; setting it brings it back.
INSERT INTO audit.switches AS s (name, paused, since, by_whom, reason)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, since = excluded.since,
    by_whom = excluded.by_whom, reason = excluded.reason;

-- name: begin_pause
-- The snapshot is taken by the switch's holder: all who paid before are seen by it.
INSERT INTO audit.pauses (began_snapshot, began_at) VALUES (pg_current_snapshot(), $1)
ON CONFLICT DO NOTHING;

-- name: end_pause
-- Who pays after this is not seen by the closing snapshot.
UPDATE audit.pauses SET ended_snapshot = pg_current_snapshot(), ended_at = $1
WHERE ended_snapshot IS NULL;

-- name: read_switch
-- How things stand, for an operator's eyes.
SELECT paused, since, by_whom, reason FROM audit.switches WHERE name = $1;

-- name: newest_verdict
-- What the last full reconciliation begun after the pause said, unless a later run of whatever mode
-- has findings: a clean run that does not ask all proves nothing about what was found or feared.
SELECT clean FROM audit.reconciliations
WHERE began_at > $1 AND (mode = 'full' OR NOT clean)
ORDER BY began_at DESC LIMIT 1;

-- name: verdict
-- What the newest full run found, or one since: a later look at a part of the books does not clear
-- what was found in the whole, and a scoped one is no look at them, whenever it was. And how many
-- rows of it say that something is there twice.
WITH run AS (
    SELECT began_at, duration_ms, mode, findings FROM audit.reconciliations
    WHERE began_at >= coalesce(
        (SELECT max(began_at) FROM audit.reconciliations WHERE mode = 'full'), '-infinity'
    )
), looked AS (
    SELECT began_at, duration_ms FROM run WHERE mode <> 'scoped' ORDER BY began_at DESC LIMIT 1
)
SELECT looked.began_at, looked.duration_ms,
    extract(epoch FROM clock_timestamp() - looked.began_at)::double precision AS age_s,
    ARRAY(
        SELECT f ->> 'invariant'
        FROM run, jsonb_array_elements(findings) WITH ORDINALITY AS found (f, n)
        GROUP BY 1 ORDER BY min(n)
    ) AS violated,
    (SELECT coalesce(max((
        SELECT sum(jsonb_array_length(f -> 'rows')) FROM jsonb_array_elements(findings) AS f
        WHERE f ->> 'invariant' IN (
            'transfer_keys_are_unique', 'transfers_are_reversed_once', 'effects_have_one_answer',
            'matches_are_paid_once', 'refunds_are_posted_once', 'holds_end_once',
            'held_pieces_end_once'
        )
    )), 0)::bigint FROM run) AS duplicates
FROM (VALUES (1)) AS always LEFT JOIN looked ON true;

-- name: ran_since
-- A run of all accounts that is there already need not be made again.
SELECT EXISTS (SELECT FROM audit.reconciliations WHERE began_at > $1 AND mode = ANY($2::text[]));

-- name: full_run_ms
-- What the next full run will take, as far as one can know.
SELECT duration_ms FROM audit.reconciliations WHERE mode = 'full' ORDER BY began_at DESC LIMIT 1;

-- name: record_reconciliation
-- Kept for ever: the history of having been checked.
INSERT INTO audit.reconciliations (id, requested_by, began_at, duration_ms, clean, findings, mode,
    head, head_digest)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9);

-- name: find_reconciliation
-- One report, as it was recorded.
SELECT id, clean, findings::text AS findings, duration_ms FROM audit.reconciliations WHERE id = $1;

-- name: begin_reading
-- A reconciliation reads everything, so it takes longer and sorts more than a request may, and it
-- joins by hashing: whatever the planner believes, that is linear, where looking rows up one by
-- one or going back in a filtered index was measured to take minutes. The transaction's time
-- precedes its snapshot, so whatever committed before it is seen.
SELECT now() AS began_at, set_config('statement_timeout', '0', true),
    set_config('work_mem', '64MB', true), set_config('enable_nestloop', 'off', true),
    set_config('enable_mergejoin', 'off', true);
