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
-- What the last reconciliation begun after the pause said; an older one proves nothing about it.
SELECT clean FROM audit.reconciliations WHERE began_at > $1 ORDER BY began_at DESC LIMIT 1;

-- name: record_reconciliation
-- Kept for ever: the history of having been checked.
INSERT INTO audit.reconciliations (id, requested_by, began_at, duration_ms, clean, findings)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb);

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
