-- name: last_seqs
-- An event's number continues that of its key; the group holds the key's row, so none is missed.
SELECT k.key, (SELECT l.seq FROM events.log l WHERE l.key = k.key ORDER BY l.seq DESC LIMIT 1)
FROM unnest($1::uuid[]) AS k (key);

-- name: publish
-- Messages are sent in the transaction of the change, to every queue bound to the type.
SELECT count(*), pg_notify('strongroom_events', $1)
FROM pgmq.send_batch_topic($1, $2::text[]::jsonb[]);

-- name: lease_lightly
-- A lease that a crash forgets is only read again. And a queue that was empty when it was last
-- looked at is planned as if it were empty still, and every message compared with every other:
-- both sides stand in the order of their ids, so a merge is never slow.
SET LOCAL synchronous_commit = off;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_nestloop = off;
SET LOCAL enable_hashjoin = off;

-- name: receive
-- A message is leased, not taken: who dies leaves it to the next. The read counts the attempt.
-- Of a queue that is paused nothing is read, so that what waits in it is not counted as tried.
SELECT m.msg_id, m.read_ct, m.message::text
FROM (
    SELECT $1::text AS queue
    WHERE NOT EXISTS (SELECT FROM audit.paused_queues p WHERE p.queue = $1)
) working, LATERAL pgmq.read(working.queue, $2, $3) m;

-- name: acknowledge
-- Done in the transaction of the effect: a message is gone exactly when its effect is there.
SELECT count(*) FROM pgmq.delete($1, $2::bigint[]);

-- name: count_consumed
-- E6 holds what was written against what was consumed, waits or is dead.
INSERT INTO events.consumed AS c (queue, slot, messages) VALUES ($1, $2, $3)
ON CONFLICT (queue, slot) DO UPDATE SET messages = c.messages + excluded.messages;

-- name: postpone
-- After a failure the message waits longer each time.
SELECT count(*) FROM pgmq.set_vt($1, $2::bigint[], $3::integer);

-- name: send_again
-- A message that was not at fault starts over later, its attempts forgotten.
SELECT pgmq.send($1, $2::text::jsonb, $3::integer);

-- name: bury
-- After its last attempt a message is kept with its error, out of the others' way.
INSERT INTO events.dead_letters (queue, event, error, attempts)
VALUES ($1, $2::text::jsonb, $3, $4);

-- name: dead_letters
-- What waits for a human.
SELECT id, queue, event::text AS event, error, attempts, died_at FROM events.dead_letters
WHERE ended_at IS NULL AND ($1::text IS NULL OR queue = $1)
    AND ($3::text IS NULL OR event ->> 'type' = $3)
    AND ($4::timestamptz IS NULL OR died_at < $4)
    AND ($5::text IS NULL OR position(lower($5) IN lower(error)) > 0)
ORDER BY id LIMIT $2;

-- name: end_as
-- For the trigger that notes who ended a dead letter.
SELECT set_config('strongroom.by', $1, true);

-- name: end_dead_letter
-- Retried or discarded once: the row is held, so two operators cannot both do it.
UPDATE events.dead_letters SET ended_at = now(), ending = $2
WHERE id = $1 AND ended_at IS NULL RETURNING queue, event::text AS event;

-- name: depths
-- How much waits, how long the oldest has, and whether it is meant to.
SELECT queue_name AS queue, queue_length AS waiting,
    coalesce(oldest_msg_age_sec, 0) AS oldest_s,
    EXISTS (SELECT FROM audit.paused_queues p WHERE p.queue = queue_name) AS paused
FROM pgmq.metrics_all() ORDER BY 1;

-- name: read_tail
-- Below the oldest running transaction nothing can appear any more, so no late commit is skipped.
SELECT xid::text AS xid, position, id, type, key, seq, payload::text AS payload, causation,
    correlation, created_at
FROM events.log
WHERE (xid, position) > ($1::text::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, position LIMIT $3;

-- name: create_queue
-- Queues belong to the owner; creating one twice does nothing.
SELECT pgmq.create($1) WHERE to_regclass('pgmq.q_' || $1) IS NULL;

-- name: bound
-- What is bound already needs no lock.
SELECT EXISTS (SELECT FROM events.queues WHERE queue = $1 AND pattern = $2);

-- name: hold_log
-- While a queue is bound nobody writes events: each is either heard and counted, or neither.
LOCK TABLE events.log IN SHARE ROW EXCLUSIVE MODE;

-- name: bind_queue
-- A queue hears the types its subscriber names, from now on.
WITH noted AS (
    INSERT INTO events.queues (queue, pattern) VALUES ($1, $2) ON CONFLICT DO NOTHING
)
SELECT pgmq.bind_topic($2, $1);

-- name: grant_queues
-- The application sends, reads and deletes messages; it never drops a queue.
DO $$
DECLARE found text;
BEGIN
    FOR found IN SELECT queue_name FROM pgmq.meta LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON pgmq.%I, pgmq.%I
            TO strongroom_app', 'q_' || found, 'a_' || found);
        EXECUTE format('GRANT SELECT ON pgmq.%I, pgmq.%I TO strongroom_audit',
            'q_' || found, 'a_' || found);
    END LOOP;
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA pgmq TO strongroom_app;
    GRANT SELECT ON ALL SEQUENCES IN SCHEMA pgmq TO strongroom_audit;
END
$$;
