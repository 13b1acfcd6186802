-- name: read_by
-- What reads whole tables joins by hashing; ranges of entries are read by their keys, a portion at
-- a time, where the planner knows nothing of the arrays and would read whole tables each time.
SELECT set_config('enable_nestloop', $1::text, true), set_config('enable_seqscan', $2::text, true);

-- name: keys_stand
-- Without these every range would read the whole ledger.
SELECT count(*) = 5 FROM pg_index i
JOIN unnest(ARRAY['ledger.entries_pkey', 'ledger.transfers_pkey', 'ledger.entries_transfer',
    'audit.sealed_pkey', 'audit.sealed_turn']) AS wanted (name)
    ON i.indexrelid = to_regclass(wanted.name)
WHERE i.indisvalid AND i.indisready AND i.indislive;

-- name: newest_seal
-- What the next seal follows, and where reading again goes on.
SELECT number, digest, turn, began_at FROM audit.seals ORDER BY number DESC LIMIT 1;

-- name: read_tips
-- Every account beside its newest seal and its last entry, one look into an index each. Those that
-- agree have not moved; an entry that the account does not count shows as well.
SELECT a.id, a.owner_id, a.purpose, a.unit, a.balance, a.seq,
    coalesce(s.to_seq, 0) AS sealed_seq, coalesce(s.balance, 0) AS sealed_balance,
    coalesce(e.seq, 0) AS last_seq
FROM ledger.accounts a
LEFT JOIN LATERAL (
    SELECT to_seq, balance FROM audit.sealed
    WHERE account_id = a.id ORDER BY from_seq DESC LIMIT 1
) s ON true
LEFT JOIN LATERAL (
    SELECT seq FROM ledger.entries WHERE account_id = a.id ORDER BY seq DESC LIMIT 1
) e ON true
WHERE a.id > $1 AND (a.seq <> coalesce(s.to_seq, 0) OR a.balance <> coalesce(s.balance, 0)
    OR a.seq <> coalesce(e.seq, 0))
ORDER BY a.id LIMIT $2;

-- name: read_tips_of
-- The accounts that somebody asks for, from their first entry on, sealed or not.
SELECT a.id, a.owner_id, a.purpose, a.unit, a.balance, a.seq,
    0::bigint AS sealed_seq, 0::bigint AS sealed_balance, coalesce(e.seq, 0) AS last_seq
FROM ledger.accounts a
LEFT JOIN LATERAL (
    SELECT seq FROM ledger.entries WHERE account_id = a.id ORDER BY seq DESC LIMIT 1
) e ON true
WHERE a.id > $1 AND (a.unit = $3 OR $3 IS NULL) AND (a.id = $4 OR $4 IS NULL)
ORDER BY a.id LIMIT $2;

-- name: find_account
-- Somebody names an account by what it is: whose, what for, what it counts.
SELECT id FROM ledger.accounts WHERE owner_id = $1 AND purpose = $2 AND unit = $3;

-- name: unit_is_there
-- Somebody names a unit: a slip of the pen would read nothing and find nothing.
SELECT EXISTS (SELECT FROM ledger.accounts WHERE unit = $1);

-- name: account_of_number
-- Or by the number that findings show.
SELECT id FROM ledger.accounts WHERE id = $1;

-- name: read_ranges
-- The digest of a range is that of its account and of every entry with its transfer, in order, each
-- in the binary form that Postgres sends a row in: nothing in it can be read in two ways.
SELECT r.entries, r.amount, r.digest, (
        SELECT balance_after FROM ledger.entries
        WHERE account_id = w.account_id AND seq = w.to_seq LIMIT 1
    ) AS balance
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
    WITH ORDINALITY AS w (account_id, from_seq, to_seq, place)
LEFT JOIN ledger.accounts a ON a.id = w.account_id
CROSS JOIN LATERAL (
    SELECT count(*) AS entries, coalesce(sum(amount), 0) AS amount,
        sha256(record_send(ROW(w.account_id, a.owner_id, a.purpose, a.unit, a.floor))
            || coalesce(string_agg(line, ''::bytea ORDER BY seq), ''::bytea)) AS digest
    FROM (
        SELECT e.seq, e.amount, record_send(ROW(e.seq, e.transfer_id, e.amount, e.balance_after,
            e.type::text, t.key, t.unit, t.reference, t.reverses, t.created_by, t.created_at))
            AS line
        FROM ledger.entries e
        LEFT JOIN ledger.transfers t ON t.id = e.transfer_id
        WHERE e.account_id = w.account_id AND e.seq BETWEEN w.from_seq AND w.to_seq
        ORDER BY e.seq
    ) e
) r
ORDER BY w.place;

-- name: odd_entries
-- What L5, L6, L7 and L11 ask of all entries, asked of some ranges: each says which it breaks.
WITH moves (prefix, counts, source, source_type, target, target_type) AS (VALUES
    ('DEPOSIT', 'money', 'world', 'DEBIT', 'wallet', 'DEPOSIT'),
    ('WITHDRAWAL', 'money', 'wallet', 'WITHDRAWAL', 'world', 'CREDIT'),
    ('TRANSFER', 'money', 'wallet', 'DEBIT', 'wallet', 'CREDIT'),
    ('REVERSAL', 'money', 'wallet', 'REVERSAL', 'wallet', 'REVERSAL'),
    ('REVERSAL', 'money', 'world', 'REVERSAL', 'world', 'REVERSAL'),
    ('BET', 'money', 'wallet', 'DEBIT', 'stake', 'STAKE'),
    ('REFUND', 'money', 'stake', 'STAKE', 'wallet', 'REFUND'),
    ('VOID', 'money', 'stake', 'STAKE', 'wallet', 'REFUND'),
    ('SETTLE', 'money', 'stake', 'STAKE', 'wallet', 'PAYOUT'),
    ('SETTLE', 'money', 'stake', 'STAKE', 'fees', 'FEE'),
    ('PAYMENT', 'money', 'clearing', 'PAYMENT', 'organiser', 'PAYMENT'),
    ('PAYBACK', 'money', 'organiser', 'REFUND', 'clearing', 'REFUND'),
    ('PAYMENT', 'money', 'clearing', 'PAYMENT', 'revenue', 'PAYMENT'),
    ('PAYBACK', 'money', 'revenue', 'REFUND', 'clearing', 'REFUND'),
    ('SUPPLY', 'stock', 'world', 'SUPPLY', 'free', 'SUPPLY'),
    ('SUPPLY', 'stock', 'free', 'SUPPLY', 'world', 'SUPPLY'),
    ('ADJUST', 'stock', 'world', 'ADJUSTMENT', 'free', 'ADJUSTMENT'),
    ('ADJUST', 'stock', 'free', 'ADJUSTMENT', 'world', 'ADJUSTMENT'),
    ('HOLD', 'stock', 'free', 'HOLD', 'held', 'HOLD'),
    ('RELEASE', 'stock', 'held', 'RELEASE', 'free', 'RELEASE'),
    ('EXPIRE', 'stock', 'held', 'EXPIRY', 'free', 'EXPIRY'),
    ('SALE', 'stock', 'held', 'SALE', 'sold', 'SALE'),
    ('SALE', 'stock', 'free', 'SALE', 'sold', 'SALE'),
    ('RETURN', 'stock', 'sold', 'RETURN', 'free', 'RETURN')
), kinds AS MATERIALIZED (
    SELECT DISTINCT m.prefix, m.counts, leg.purpose, leg.gains, leg.type::ledger.entry_type AS type
    FROM moves m
    CROSS JOIN LATERAL (VALUES
        (m.source, false, m.source_type), (m.target, true, m.target_type)
    ) AS leg (purpose, gains, type)
), fresh AS MATERIALIZED (
    SELECT e.account_id, e.seq, e.transfer_id, e.amount, e.balance_after, e.type, e.seq_before,
        e.balance_before, a.floor, a.unit, a.purpose AS account, t.key, t.unit AS unit_moved,
        split_part(t.key, ':', 1) AS prefix, split_part(a.purpose, ':', 1) AS purpose,
        CASE WHEN strpos(a.unit, ':') > 0 THEN 'stock' ELSE 'money' END AS counts
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (account_id, from_seq, to_seq)
    JOIN ledger.accounts a ON a.id = w.account_id
    CROSS JOIN LATERAL (
        SELECT e.account_id, e.seq, e.transfer_id, e.amount, e.balance_after, e.type,
            lag(e.seq, 1, w.from_seq - 1) OVER entries AS seq_before,
            lag(e.balance_after, 1, coalesce((
                SELECT p.balance_after FROM ledger.entries p
                WHERE p.account_id = w.account_id AND p.seq = w.from_seq - 1 LIMIT 1
            ), 0)) OVER entries AS balance_before
        FROM ledger.entries e
        WHERE e.account_id = w.account_id AND e.seq BETWEEN w.from_seq AND w.to_seq
        WINDOW entries AS (ORDER BY e.seq)
    ) e
    LEFT JOIN ledger.transfers t ON t.id = e.transfer_id
)
(
    SELECT 'entries_chain' AS invariant, account_id, seq, transfer_id, key, amount,
        format('seq %s, balance %s', seq_before + 1, balance_before + amount) AS expected,
        format('seq %s, balance %s', seq, balance_after) AS found
    FROM fresh
    WHERE seq <> seq_before + 1 OR balance_after <> balance_before + amount
    ORDER BY account_id, seq LIMIT 10
) UNION ALL (
    SELECT 'entries_stay_above_the_floor', account_id, seq, transfer_id, key, amount,
        floor::text, balance_after::text
    FROM fresh WHERE balance_after < floor
    ORDER BY account_id, seq LIMIT 10
) UNION ALL (
    SELECT 'entries_share_their_unit', account_id, seq, transfer_id, key, amount, unit_moved, unit
    FROM fresh WHERE unit <> unit_moved
    ORDER BY account_id, seq LIMIT 10
) UNION ALL (
    SELECT 'entries_fit_their_keys', account_id, seq, transfer_id, key, amount, (
            SELECT string_agg(k.type::text, ' or ' ORDER BY k.type) FROM kinds k
            WHERE k.prefix = f.prefix AND k.purpose = f.purpose AND k.counts = f.counts
                AND k.gains = (f.amount > 0)
        ), type::text
    FROM fresh f
    WHERE key IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM kinds k
            WHERE k.prefix = f.prefix AND k.purpose = f.purpose AND k.counts = f.counts
                AND k.gains = (f.amount > 0) AND k.type = f.type
        )
        AND (prefix IN (SELECT k.prefix FROM kinds k)
            OR purpose IN (SELECT k.purpose FROM kinds k) AND NOT (account = 'wallet'
                AND type = CASE WHEN amount > 0 THEN 'CREDIT' ELSE 'DEBIT' END::ledger.entry_type))
    ORDER BY account_id, seq LIMIT 10
);

-- name: odd_transfers
-- What L1, L2, L8 and L9 ask of all transfers, asked of those that some ranges tell of.
WITH touched AS MATERIALIZED (
    SELECT DISTINCT e.transfer_id
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS w (account_id, from_seq, to_seq)
    CROSS JOIN LATERAL (
        SELECT transfer_id FROM ledger.entries
        WHERE account_id = w.account_id AND seq BETWEEN w.from_seq AND w.to_seq
    ) e
), known AS MATERIALIZED (
    SELECT x.transfer_id, l.legs, l.amount, t.key, t.reverses
    FROM touched x
    CROSS JOIN LATERAL (
        SELECT count(*) AS legs, sum(amount) AS amount FROM ledger.entries
        WHERE transfer_id = x.transfer_id
    ) l
    LEFT JOIN ledger.transfers t ON t.id = x.transfer_id
), odd AS (
    SELECT 'transfers_sum_to_zero' AS invariant, transfer_id, key, '0' AS expected,
        amount::text AS found
    FROM known WHERE amount <> 0
    UNION ALL
    SELECT 'transfers_have_their_entries', transfer_id, key,
        CASE WHEN key IS NULL THEN 'a transfer' ELSE 'two entries or more' END, legs::text
    FROM known WHERE key IS NULL OR legs < 2
    UNION ALL
    SELECT 'reversals_negate', k.transfer_id, k.key, '0', b.amount::text
    FROM known k
    CROSS JOIN LATERAL (
        SELECT sum(e.amount) AS amount FROM ledger.entries e
        WHERE e.transfer_id IN (k.transfer_id, k.reverses)
        GROUP BY e.account_id HAVING sum(e.amount) <> 0
        ORDER BY e.account_id LIMIT 1
    ) b
    WHERE k.reverses IS NOT NULL
    UNION ALL
    SELECT 'transfers_are_reversed_once', k.transfer_id, k.key, '1', r.found::text
    FROM known k
    CROSS JOIN LATERAL (
        SELECT CASE WHEN o.id IS NULL THEN 0 ELSE n.others END AS found
        FROM (SELECT count(*) AS others FROM ledger.transfers WHERE reverses = k.reverses) n
        LEFT JOIN ledger.transfers o ON o.id = k.reverses
    ) r
    WHERE k.reverses IS NOT NULL AND r.found <> 1
    UNION ALL
    SELECT 'transfer_keys_are_unique', k.transfer_id, k.key, '1', n.found::text
    FROM known k
    CROSS JOIN LATERAL (SELECT count(*) AS found FROM ledger.transfers WHERE key = k.key) n
    WHERE n.found > 1
)
SELECT invariant, transfer_id, key, expected, found
FROM (
    SELECT odd.*, row_number() OVER (PARTITION BY invariant ORDER BY transfer_id) AS place FROM odd
) o
WHERE place <= 10
ORDER BY invariant, transfer_id;

-- name: arrivals
-- A transfer that was made since without an entry stands in no range: it is found by its age. One
-- that began before the seal may have committed behind it.
SELECT t.id AS transfer_id, t.key, 'two entries or more' AS expected, 0 AS found
FROM ledger.transfers t
LEFT JOIN LATERAL (
    SELECT e.transfer_id FROM ledger.entries e WHERE e.transfer_id = t.id LIMIT 1
) e ON true
WHERE t.created_at > $1::timestamptz - interval '15 minutes' AND e.transfer_id IS NULL
ORDER BY t.created_at, t.id LIMIT 10;

-- name: sealed_again
-- S5: what was sealed is read again, a share in each run, and has the digest it had: nobody has
-- changed it since.
SELECT s.account_id, s.from_seq, s.to_seq, s.seal, s.balance, s.digest,
    coalesce(b.to_seq, 0) + 1 AS expected_from
FROM audit.sealed s
LEFT JOIN LATERAL (
    SELECT to_seq FROM audit.sealed
    WHERE account_id = s.account_id AND from_seq < s.from_seq ORDER BY from_seq DESC LIMIT 1
) b ON true
WHERE s.digest > $1::bytea AND s.digest <= $2::bytea
ORDER BY s.digest LIMIT $3;

-- name: sealed_in_order
-- All of what was sealed, in the order in which it was written.
SELECT s.account_id, s.from_seq, s.to_seq, s.seal, s.balance, s.digest,
    s.from_seq AS expected_from
FROM audit.sealed s
WHERE (s.seal, s.account_id, s.from_seq) > ($1::bigint, $2::bigint, $3::bigint)
ORDER BY s.seal, s.account_id, s.from_seq LIMIT $4;

-- name: seals_again
-- A share of the seals is compared with its ranges, and always the newest.
SELECT s.number AS seal, s.ranges AS expected_ranges, r.ranges AS found_ranges,
    s.entries AS expected_entries, r.entries AS found_entries,
    encode(s.content, 'hex') AS expected, encode(r.content, 'hex') AS found
FROM audit.seals s
CROSS JOIN LATERAL (
    SELECT count(*) AS ranges, coalesce(sum(to_seq - from_seq + 1), 0) AS entries,
        sha256(coalesce(string_agg(int8send(account_id) || int8send(from_seq) || int8send(to_seq)
            || int8send(balance) || digest, ''::bytea ORDER BY account_id, from_seq), ''::bytea))
            AS content
    FROM audit.sealed WHERE seal = s.number
) r
WHERE ((s.digest > $1::bytea AND s.digest <= $2::bytea) OR s.number = $3)
    AND (s.ranges <> r.ranges OR s.entries <> r.entries OR s.content <> r.content)
ORDER BY s.number LIMIT 10;

-- name: count_sealed
-- How much there is, for the words of a report.
SELECT coalesce(max(number), 0) AS seals, coalesce(sum(entries), 0)::bigint AS entries
FROM audit.seals;

-- name: add_seal
-- A seal is added behind the one that its maker has read; the key refuses a second one there.
INSERT INTO audit.seals (number, reconciliation_id, began_at, ranges, entries, turn, content,
    previous, digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: add_ranges
-- All ranges of the seal, with it.
INSERT INTO audit.sealed (seal, account_id, from_seq, to_seq, balance, digest)
SELECT $1::bigint, r.* FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::bytea[]) AS r;
