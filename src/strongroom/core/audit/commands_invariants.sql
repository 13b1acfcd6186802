-- name: answers_have_their_effect
-- I1: an answer that says something was done is there because it was: the transfer or the event
-- exists.
SELECT a.id AS answer_id, a.command, a.principal, a.key, a.subject AS expected,
    NULL AS found
FROM commands.answers a
WHERE a.refused IS NULL AND a.subject IS NOT NULL
    AND NOT EXISTS (SELECT FROM ledger.transfers t WHERE t.id = a.subject)
    AND NOT EXISTS (SELECT FROM events.log l WHERE l.key = a.subject)
ORDER BY a.created_at, a.id LIMIT 10;

-- name: effects_have_one_answer
-- I1: a transfer answers one request; two keys that got the same one moved too little.
SELECT a.subject AS transfer_id, min(a.command) AS command, 1 AS expected, count(*) AS found
FROM commands.answers a
JOIN ledger.transfers t ON t.id = a.subject
WHERE a.refused IS NULL
GROUP BY a.subject HAVING count(*) > 1
ORDER BY 1 LIMIT 10;

-- name: answers_belong_to_who_asked
-- I3: what an answer tells of was done for the principal it is kept for.
SELECT a.id AS answer_id, a.command, a.subject AS transfer_id,
    t.created_by AS expected, a.principal AS found
FROM commands.answers a
JOIN ledger.transfers t ON t.id = a.subject
WHERE a.refused IS NULL AND a.principal <> t.created_by
ORDER BY a.created_at, a.id LIMIT 10;
