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

-- name: transfers_are_announced
-- E1: whoever moves something says what happened in the same transaction. A transaction's rows
-- share its time, so a transfer that no event shares its time with was made by no command.
SELECT t.id AS transfer_id, t.key, t.created_by, t.created_at, 'an event' AS expected,
    NULL AS found
FROM ledger.transfers t
WHERE NOT EXISTS (SELECT FROM events.log l WHERE l.created_at = t.created_at)
ORDER BY t.created_at, t.id LIMIT 10;

-- name: moves_have_their_events
-- E1: a deposit, withdrawal, transfer or reversal was announced once, for its amount and its
-- user, and only such as happened were; a batch announces together how many it posted.
WITH kinds (prefix, gains, type) AS (VALUES
    ('DEPOSIT', true, 'wallets.FundsDeposited'),
    ('WITHDRAWAL', false, 'wallets.FundsWithdrawn'),
    ('TRANSFER', true, 'wallets.FundsTransferred')
), moved AS (
    SELECT s.transfer_id, s.idempotent_key AS key, k.type, abs(s.amount) AS amount,
        s.owner_id::text AS user_id, s.created_at
    FROM ledger.statement s
    JOIN kinds k ON k.prefix = split_part(s.idempotent_key, ':', 1) AND k.gains = (s.amount > 0)
    WHERE s.purpose = 'wallet'
    UNION ALL
    SELECT id, key, 'wallets.TransferReversed', NULL, NULL, created_at
    FROM ledger.transfers WHERE key LIKE 'REVERSAL:%'
), told AS (
    SELECT payload ->> 'transferId' AS transfer_id, type, count(*) AS events,
        min((payload ->> 'amount')::bigint) AS amount,
        min(coalesce(payload ->> 'toUserId', payload ->> 'userId')) AS user_id,
        min(created_at) AS created_at
    FROM events.log
    WHERE type IN ('wallets.FundsDeposited', 'wallets.FundsWithdrawn', 'wallets.FundsTransferred',
        'wallets.TransferReversed')
    GROUP BY 1, 2
), batches AS (
    SELECT created_at, sum((payload ->> 'posted')::bigint) AS posted
    FROM events.log WHERE type = 'wallets.BatchPosted'
    GROUP BY 1
), odd AS (
    SELECT coalesce(m.transfer_id::text, t.transfer_id) AS transfer_id, m.key, m.created_at,
        m.amount AS expected, t.amount AS found, m.user_id AS expected_user,
        t.user_id AS found_user, t.events AS announced,
        m.key LIKE 'TRANSFER:%' AND t.events IS NULL AS of_a_batch,
        count(*) OVER (PARTITION BY m.created_at) AS together
    FROM moved m
    FULL JOIN told t ON t.transfer_id = m.transfer_id::text AND t.type = m.type
    WHERE (t.events = 1 AND t.created_at = m.created_at
        AND t.amount IS NOT DISTINCT FROM m.amount
        AND t.user_id IS NOT DISTINCT FROM m.user_id) IS NOT TRUE
)
SELECT o.transfer_id, o.key, o.expected, o.found, o.expected_user, o.found_user, o.announced,
    CASE WHEN o.of_a_batch THEN o.together END AS moved_together,
    CASE WHEN o.of_a_batch THEN coalesce(b.posted, 0) END AS announced_together
FROM odd o
LEFT JOIN batches b ON b.created_at = o.created_at
WHERE NOT coalesce(o.of_a_batch AND o.together <= b.posted, false)
ORDER BY o.created_at, 1 LIMIT 10;

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
