-- name: events_are_numbered
-- E3: the events of a key count 1, 2, 3 … without a gap.
SELECT key, seq, id AS event_id, type, seq_before + 1 AS expected, seq AS found
FROM (
    SELECT key, seq, id, type,
        lag(seq, 1, 0::bigint) OVER (PARTITION BY key ORDER BY seq) AS seq_before
    FROM events.log
) l
WHERE seq <> seq_before + 1
ORDER BY key, seq LIMIT 10;

-- name: queues_are_bound
-- E2: a queue hears every type its subscriber named.
SELECT q.queue, q.pattern, 'bound' AS expected,
    CASE WHEN to_regclass(format('pgmq.%I', 'q_' || q.queue)) IS NULL THEN 'no such queue'
        ELSE 'not bound' END AS found
FROM events.queues q
LEFT JOIN pgmq.topic_bindings b ON b.queue_name = q.queue AND b.pattern = q.pattern
WHERE b.queue_name IS NULL OR to_regclass(format('pgmq.%I', 'q_' || q.queue)) IS NULL
ORDER BY 1, 2 LIMIT 10;

-- name: queues_balance
-- E6: of each queue's events, all were consumed, wait, or lie in the dead letters. The log is
-- matched type by type: there are few types, and a pattern is slow to match.
WITH kinds AS (
    SELECT DISTINCT type FROM events.log
), heard AS (
    SELECT q.queue, k.type, min(q.since) AS since
    FROM events.queues q
    JOIN pgmq.topic_bindings b ON b.queue_name = q.queue AND b.pattern = q.pattern
    JOIN kinds k ON k.type ~ b.compiled_regex
    GROUP BY q.queue, k.type
), written AS (
    SELECT h.queue, count(*) AS messages
    FROM events.log l JOIN heard h ON h.type = l.type AND l.xid >= h.since
    GROUP BY h.queue
), consumed AS (
    SELECT queue, sum(messages) AS messages FROM events.consumed GROUP BY queue
), dead AS (
    SELECT queue, count(*) FILTER (WHERE ending IS NULL) AS messages,
        count(*) FILTER (WHERE ending = 'discarded') AS discarded
    FROM events.dead_letters GROUP BY queue
)
SELECT q.queue, coalesce(w.messages, 0) AS expected,
    coalesce(c.messages, 0) + coalesce(l.waiting, 0) + coalesce(d.messages, 0)
        + coalesce(d.discarded, 0) AS found,
    coalesce(c.messages, 0) AS consumed, coalesce(l.waiting, 0) AS waiting,
    coalesce(d.messages, 0) AS dead, coalesce(d.discarded, 0) AS discarded
FROM (SELECT DISTINCT queue FROM events.queues) q
LEFT JOIN written w USING (queue)
LEFT JOIN consumed c USING (queue)
LEFT JOIN audit.queue_lengths() l USING (queue)
LEFT JOIN dead d USING (queue)
WHERE coalesce(w.messages, 0) <> coalesce(c.messages, 0) + coalesce(l.waiting, 0)
    + coalesce(d.messages, 0) + coalesce(d.discarded, 0)
ORDER BY 1 LIMIT 10;

-- name: dead_letters_were_written
-- E1: what lies in the dead letters is in the log; nothing was made up on the way.
SELECT d.id AS dead_letter, d.queue, (d.event ->> 'id') AS event_id, d.died_at
FROM events.dead_letters d
LEFT JOIN events.log l ON l.key = (d.event ->> 'key')::uuid
    AND l.seq = (d.event ->> 'seq')::bigint AND l.id = (d.event ->> 'id')::uuid
WHERE l.id IS NULL
ORDER BY d.id LIMIT 10;
