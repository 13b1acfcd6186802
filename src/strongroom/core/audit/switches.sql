-- name: hold_controls
-- Operators change queues and limits one after the other: each sees what the one before left.
SELECT pg_advisory_xact_lock(1346458457, 2);

-- name: read_queues
-- How the queues stand; one never paused has no switch.
SELECT m.queue_name AS queue, coalesce(s.paused, false) AS paused, s.since, s.by_whom, s.reason
FROM pgmq.meta m LEFT JOIN audit.switches s ON s.name = 'queue:' || m.queue_name;

-- name: turn_queue
-- The switch that every receive of the queue reads; its trigger notes who turned it.
INSERT INTO audit.switches (name, paused, since, by_whom, reason)
VALUES ('queue:' || $1::text, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, since = excluded.since,
    by_whom = excluded.by_whom, reason = excluded.reason;

-- name: wake_workers
-- With no type, so that all queues look at once for what has waited.
SELECT pg_notify('strongroom_events', '');

-- name: queues
-- All that an operator asks of queues, in one snapshot.
SELECT q.queue, q.waiting, q.delayed, q.leased, q.stalled, q.oldest_s::bigint AS oldest_s,
    coalesce(d.dead, 0) AS dead, coalesce(c.done, 0)::bigint AS done,
    p.queue IS NOT NULL AS paused, p.since, p.by_whom, p.reason
FROM events.queue_states() q
LEFT JOIN (
    SELECT queue, count(*) AS dead FROM events.dead_letters WHERE ended_at IS NULL GROUP BY queue
) d USING (queue)
LEFT JOIN (
    SELECT queue, sum(messages) AS done FROM events.consumed GROUP BY queue
) c USING (queue)
LEFT JOIN audit.paused_queues p USING (queue)
ORDER BY q.queue;

-- name: limits
-- What operators changed and did not put back.
SELECT name, value::text AS value, since, by_whom, reason FROM audit.limits
WHERE value IS NOT NULL ORDER BY name;

-- name: read_limits
-- The limits that a group is about to change, also those that were put back.
SELECT name, value::text AS value, since, by_whom, reason FROM audit.limits
WHERE name = ANY($1::text[]);

-- name: set_limit
-- Told to every process in the transaction of the change; without a value the setting counts.
WITH told AS (
    SELECT pg_notify('strongroom_limits', '')
)
INSERT INTO audit.limits (name, value, since, by_whom, reason)
SELECT $1, $2::text::jsonb, $3, $4, $5 FROM told
ON CONFLICT (name) DO UPDATE SET value = excluded.value, since = excluded.since,
    by_whom = excluded.by_whom, reason = excluded.reason;

-- name: actions
-- What operators did, newest first, from behind the page before.
SELECT id, at, by_whom, action, subject, before::text AS before, after::text AS after, reason
FROM audit.actions WHERE id < $1 ORDER BY id DESC LIMIT $2;

-- name: hold_dead_letters
-- Those an operator means, held, so that two operators cannot both end one.
SELECT id, queue, event::text AS event FROM events.dead_letters
WHERE ended_at IS NULL AND ($1::text IS NULL OR queue = $1)
    AND ($2::text IS NULL OR event ->> 'type' = $2)
    AND ($3::timestamptz IS NULL OR died_at < $3)
    AND ($4::text IS NULL OR position(lower($4) IN lower(error)) > 0)
ORDER BY id LIMIT $5 FOR UPDATE SKIP LOCKED;

-- name: act_as
-- For the triggers that note what was done in this transaction.
SELECT set_config('strongroom.by', $1, true), set_config('strongroom.reason', $2, true);

-- name: end_dead_letters
-- All in one statement, which is noted as one action a queue.
UPDATE events.dead_letters SET ended_at = now(), ending = $2
WHERE id = ANY($1::bigint[]) AND ended_at IS NULL;

-- name: send_to_queue
-- As new messages of their queue, their attempts forgotten.
SELECT count(*) FROM pgmq.send_batch($1, $2::text[]::jsonb[]);
