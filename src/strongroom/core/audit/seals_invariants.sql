-- name: seals_chain
-- S1: seals count 1, 2, 3 …, the digest of each follows from the one before and from what it says
-- itself, and none that was announced, or that a clean reconciliation has seen, is gone or another
-- one. What a run has seen that found something, or asked nothing of seals, may have been forged.
SELECT number AS seal, expected_number, encode(expected, 'hex') AS expected,
    encode(digest, 'hex') AS found, NULL::uuid AS seen_by
FROM (
    SELECT number, digest, previous, lag(number, 1, 0::bigint) OVER seals + 1 AS expected_number,
        lag(digest, 1, decode(repeat('00', 32), 'hex')) OVER seals AS expected_previous,
        sha256(previous || content || int8send(number) || int8send(ranges) || int8send(entries)
            || int8send(turn) || uuid_send(reconciliation_id) || timestamptz_send(began_at))
            AS expected
    FROM audit.seals
    WINDOW seals AS (ORDER BY number)
) s
WHERE number <> expected_number OR previous <> expected_previous OR digest <> expected
UNION ALL
SELECT r.head, r.head, encode(r.head_digest, 'hex'), encode(s.digest, 'hex'), r.id
FROM audit.reconciliations r
LEFT JOIN audit.seals s ON s.number = r.head
WHERE r.head IS NOT NULL AND s.digest IS DISTINCT FROM r.head_digest
    AND r.clean AND r.mode <> 'scoped'
UNION ALL
SELECT (l.payload ->> 'number')::bigint, (l.payload ->> 'number')::bigint, l.payload ->> 'digest',
    encode(s.digest, 'hex'), l.id
FROM events.log l
LEFT JOIN audit.seals s ON s.number = (l.payload ->> 'number')::bigint
WHERE l.key = '00e2b542-46b6-884b-9c02-cde08e996b61'
    AND encode(s.digest, 'hex') IS DISTINCT FROM l.payload ->> 'digest'
ORDER BY 1 LIMIT 10;

-- name: seals_keep_their_ranges
-- S2: the ranges of a seal are those it was made over: as many, with as many entries, with the same
-- balances and digests.
SELECT coalesce(s.number, r.seal) AS seal, s.ranges AS expected_ranges, r.ranges AS found_ranges,
    s.entries AS expected_entries, r.entries AS found_entries,
    encode(s.content, 'hex') AS expected, encode(r.content, 'hex') AS found
FROM audit.seals s
FULL JOIN (
    SELECT seal, count(*) AS ranges, sum(to_seq - from_seq + 1) AS entries,
        sha256(string_agg(int8send(account_id) || int8send(from_seq) || int8send(to_seq)
            || int8send(balance) || digest, ''::bytea ORDER BY account_id, from_seq)) AS content
    FROM audit.sealed GROUP BY seal
) r ON r.seal = s.number
WHERE (s.ranges = coalesce(r.ranges, 0) AND s.entries = coalesce(r.entries, 0)
    AND s.content = coalesce(r.content, sha256(''::bytea))) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: sealed_ranges_follow_each_other
-- S3: the sealed ranges of an account begin with its first entry and leave none out, and no later
-- one is in an older seal.
SELECT account_id, from_seq, to_seq, seal, ended_at + 1 AS expected, from_seq AS found
FROM (
    SELECT account_id, from_seq, to_seq, seal, lag(to_seq, 1, 0::bigint) OVER ranges AS ended_at,
        lag(seal, 1, 0::bigint) OVER ranges AS seal_before
    FROM audit.sealed
    WINDOW ranges AS (PARTITION BY account_id ORDER BY from_seq)
) r
WHERE from_seq <> ended_at + 1 OR seal < seal_before
ORDER BY 1, 2 LIMIT 10;

-- name: sealed_accounts_are_there
-- S4: an account whose entries were sealed has not gone.
SELECT s.account_id, s.seal, 'an account' AS expected, NULL AS found
FROM audit.sealed s
LEFT JOIN ledger.accounts a ON a.id = s.account_id
WHERE s.from_seq = 1 AND a.id IS NULL
ORDER BY 1 LIMIT 10;
