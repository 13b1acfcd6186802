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
-- I1: a transfer answers one request; two keys that got the same one moved too little, and money
-- that moved without an answer, as far back as answers are kept, was asked for by nobody.
WITH reach AS (
    -- The oldest answers are forgotten first, and none that is younger than a day; a day may have
    -- 23 hours.
    SELECT least(min(created_at), now() - interval '22 hours') AS since FROM commands.answers
), told AS (
    SELECT subject AS id, count(*) AS answers
    FROM commands.answers WHERE refused IS NULL AND subject IS NOT NULL
    GROUP BY subject
), listed AS (
    SELECT DISTINCT item ->> 'transferId' AS id
    FROM (
        SELECT encode(body, 'escape') AS body FROM commands.answers
        WHERE command = 'TransferBatch' AND refused IS NULL
    ) a
    CROSS JOIN LATERAL jsonb_path_query(
        CASE WHEN pg_input_is_valid(body, 'jsonb') THEN body::jsonb END, '$.results[*]'
    ) AS item
)
SELECT t.id AS transfer_id, t.key, 1 AS expected, coalesce(a.answers, 0) AS found
FROM ledger.transfers t
LEFT JOIN told a ON a.id = t.id
LEFT JOIN listed l ON l.id = t.id::text
WHERE a.answers > 1
    OR (a.answers IS NULL AND l.id IS NULL AND t.created_at > (SELECT since FROM reach)
        AND split_part(t.key, ':', 1) IN ('DEPOSIT', 'WITHDRAWAL', 'TRANSFER', 'REVERSAL'))
ORDER BY 1 LIMIT 10;

-- name: answers_say_what_was_done
-- I1: the answer to who moved money names the transfer, and the balances that it left.
WITH said AS (
    SELECT id, command, principal, subject, body,
        CASE WHEN pg_input_is_valid(body, 'jsonb') THEN body::jsonb END AS told
    FROM (
        -- As text whatever was done to it: a body in UTF-8 is read by nobody else here.
        SELECT id, command, principal, subject, encode(body, 'escape') AS body
        FROM commands.answers
        WHERE refused IS NULL
            AND command IN ('Deposit', 'Withdraw', 'Transfer', 'ReverseTransfer')
    ) a
), due AS (
    SELECT a.id, a.command, a.principal, a.subject, a.body, a.told,
        jsonb_build_object('transferId', a.subject) || CASE a.command
            WHEN 'ReverseTransfer' THEN jsonb_build_object('reverses', t.reverses)
            WHEN 'Transfer' THEN jsonb_build_object(
                CASE WHEN e.amount < 0 THEN 'fromBalance' ELSE 'toBalance' END, e.balance_after)
            ELSE jsonb_build_object('balance', e.balance_after, 'seq', e.seq)
        END AS expected
    FROM said a
    LEFT JOIN ledger.transfers t ON t.id = a.subject
    LEFT JOIN (
        SELECT e.transfer_id, e.amount, e.balance_after, e.seq
        FROM ledger.entries e
        JOIN ledger.accounts w ON w.id = e.account_id AND w.purpose = 'wallet'
    ) e ON e.transfer_id = a.subject
)
SELECT id AS answer_id, command, principal, subject AS transfer_id, expected::text AS expected,
    left(body, 200) AS found
FROM due WHERE told @> expected IS NOT TRUE
ORDER BY id LIMIT 10;

-- name: answers_belong_to_who_asked
-- I3: what an answer tells of was done for the principal it is kept for.
SELECT a.id AS answer_id, a.command, a.subject AS transfer_id,
    t.created_by AS expected, a.principal AS found
FROM commands.answers a
JOIN ledger.transfers t ON t.id = a.subject
WHERE a.refused IS NULL AND a.principal <> t.created_by
ORDER BY a.created_at, a.id LIMIT 10;
