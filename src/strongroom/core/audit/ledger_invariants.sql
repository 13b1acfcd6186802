-- name: transfers_sum_to_zero
-- L1: every transfer sums to zero in its unit.
SELECT e.transfer_id, t.key, 0 AS expected, e.found
FROM (
    SELECT transfer_id, sum(amount) AS found FROM ledger.entries
    GROUP BY transfer_id HAVING sum(amount) <> 0
    ORDER BY transfer_id LIMIT 10
) e
LEFT JOIN ledger.transfers t ON t.id = e.transfer_id
ORDER BY e.transfer_id;

-- name: transfers_have_their_entries
-- L2: a transfer has two entries or more, and an entry has a transfer.
SELECT coalesce(t.id, e.transfer_id) AS transfer_id, t.key,
    CASE WHEN t.id IS NULL THEN 'a transfer' ELSE 'two entries or more' END AS expected,
    coalesce(e.found, 0) AS found
FROM ledger.transfers t
FULL JOIN (
    SELECT transfer_id, count(*) AS found FROM ledger.entries GROUP BY transfer_id
) e ON e.transfer_id = t.id
WHERE t.id IS NULL OR e.found IS NULL OR e.found < 2
ORDER BY 1 LIMIT 10;

-- name: units_sum_to_zero
-- L3: each unit sums to zero over the world; what users own, the world's account owes.
SELECT unit, 0 AS expected, sum(balance) AS found
FROM ledger.accounts GROUP BY unit HAVING sum(balance) <> 0
ORDER BY unit LIMIT 10;

-- name: accounts_equal_their_entries
-- L4: balance and seq of an account are the sum and the count of its entries.
SELECT coalesce(a.id, e.account_id) AS account_id, a.owner_id, a.purpose, a.unit,
    coalesce(e.balance, 0) AS expected, a.balance AS found,
    coalesce(e.seq, 0) AS expected_seq, a.seq AS found_seq
FROM ledger.accounts a
FULL JOIN (
    SELECT account_id, sum(amount) AS balance, count(*) AS seq
    FROM ledger.entries GROUP BY account_id
) e ON e.account_id = a.id
WHERE a.id IS NULL OR a.balance <> coalesce(e.balance, 0) OR a.seq <> coalesce(e.seq, 0)
ORDER BY 1 LIMIT 10;

-- name: entries_chain
-- L5: an account's entries count 1, 2, 3 … without gap or fork, and each balance follows from
-- the one before.
SELECT account_id, seq, transfer_id, seq_before + 1 AS expected_seq,
    balance_before + amount AS expected, balance_after AS found
FROM (
    SELECT account_id, seq, transfer_id, amount, balance_after,
        lag(seq, 1, 0::bigint) OVER entries AS seq_before,
        lag(balance_after, 1, 0::bigint) OVER entries AS balance_before
    FROM ledger.entries
    WINDOW entries AS (PARTITION BY account_id ORDER BY seq)
) e
WHERE seq <> seq_before + 1 OR balance_after <> balance_before + amount
ORDER BY account_id, seq LIMIT 10;

-- name: entries_stay_above_the_floor
-- L6: no entry ever left its account below the floor.
SELECT e.account_id, e.seq, e.transfer_id, a.floor AS expected, e.balance_after AS found
FROM ledger.entries e
JOIN ledger.accounts a ON a.id = e.account_id
WHERE e.balance_after < a.floor
ORDER BY 1, 2 LIMIT 10;

-- name: entries_share_their_unit
-- L7: an entry's account and its transfer count the same unit.
SELECT e.account_id, e.seq, e.transfer_id, t.unit AS expected, a.unit AS found
FROM ledger.entries e
JOIN ledger.accounts a ON a.id = e.account_id
JOIN ledger.transfers t ON t.id = e.transfer_id
WHERE a.unit <> t.unit
ORDER BY 1, 2 LIMIT 10;

-- name: reversals_negate
-- L8: a reversal negates its transfer exactly, account by account.
SELECT both_of.transfer_id, both_of.reverses, both_of.account_id, 0 AS expected,
    sum(both_of.amount) AS found
FROM (
    SELECT r.id AS transfer_id, r.reverses, e.account_id, e.amount
    FROM ledger.transfers r JOIN ledger.entries e ON e.transfer_id = r.id
    WHERE r.reverses IS NOT NULL
    UNION ALL
    SELECT r.id, r.reverses, e.account_id, e.amount
    FROM ledger.transfers r JOIN ledger.entries e ON e.transfer_id = r.reverses
) both_of
GROUP BY 1, 2, 3 HAVING sum(both_of.amount) <> 0
ORDER BY 1, 3 LIMIT 10;

-- name: transfers_are_reversed_once
-- L8: what was reversed is not reversed again, and a reversal has something to reverse.
SELECT r.reverses AS transfer_id, min(r.key) AS first_key, 1 AS expected,
    CASE WHEN min(t.id::text) IS NULL THEN 0 ELSE count(*) END AS found
FROM ledger.transfers r
LEFT JOIN ledger.transfers t ON t.id = r.reverses
WHERE r.reverses IS NOT NULL
GROUP BY r.reverses HAVING count(*) > 1 OR min(t.id::text) IS NULL
ORDER BY 1 LIMIT 10;

-- name: transfer_keys_are_unique
-- L9: a key moved something once. Grouped under another collation, so that the table answers and
-- not the index, which may be what is broken.
SELECT key COLLATE "C" AS key, 1 AS expected, count(*) AS found
FROM ledger.transfers GROUP BY 1 HAVING count(*) > 1
ORDER BY 1 LIMIT 10;

-- name: entries_fit_their_keys
-- L11: a transfer's key says what was done, and with it which accounts it moves, in which
-- direction and under which type; a key of no known kind leaves the accounts of the known alone,
-- but for moving money between wallets.
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
), kinds AS (
    SELECT DISTINCT m.prefix, m.counts, leg.purpose, leg.gains, leg.type::ledger.entry_type AS type
    FROM moves m
    CROSS JOIN LATERAL (VALUES
        (m.source, false, m.source_type), (m.target, true, m.target_type)
    ) AS leg (purpose, gains, type)
), posted AS (
    SELECT e.account_id, e.seq, e.transfer_id, t.key, a.purpose AS account, e.amount, e.type,
        split_part(t.key, ':', 1) AS prefix, split_part(a.purpose, ':', 1) AS purpose,
        -- A unit of stock names what it counts: `SEAT:…`.
        CASE WHEN strpos(a.unit, ':') > 0 THEN 'stock' ELSE 'money' END AS counts
    FROM ledger.entries e
    JOIN ledger.accounts a ON a.id = e.account_id
    JOIN ledger.transfers t ON t.id = e.transfer_id
)
SELECT p.account_id, p.seq, p.transfer_id, p.key, p.account, p.amount, (
        SELECT string_agg(w.type::text, ' or ' ORDER BY w.type) FROM kinds w
        WHERE w.prefix = p.prefix AND w.purpose = p.purpose AND w.counts = p.counts
            AND w.gains = (p.amount > 0)
    ) AS expected, p.type AS found
FROM posted p
LEFT JOIN kinds k ON k.prefix = p.prefix AND k.purpose = p.purpose AND k.counts = p.counts
    AND k.gains = (p.amount > 0) AND k.type = p.type
WHERE k.prefix IS NULL AND (p.prefix IN (SELECT prefix FROM kinds)
    OR p.purpose IN (SELECT purpose FROM kinds) AND NOT (p.account = 'wallet'
        AND p.type = CASE WHEN p.amount > 0 THEN 'CREDIT' ELSE 'DEBIT' END::ledger.entry_type))
ORDER BY 1, 2 LIMIT 10;
