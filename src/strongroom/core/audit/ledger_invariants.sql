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

-- name: unique_indexes_stand
-- L9: the unique indexes that refuse a second effect exist as defined, valid and in use.
SELECT wanted.name AS index, wanted.definition AS expected,
    CASE WHEN i.indexrelid IS NULL THEN 'missing'
        WHEN NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'not valid'
        ELSE pg_get_indexdef(i.indexrelid) END AS found
FROM (VALUES
    ('ledger.transfers_key',
        'CREATE UNIQUE INDEX transfers_key ON ledger.transfers USING btree (key)'),
    ('ledger.transfers_reverses',
        'CREATE UNIQUE INDEX transfers_reverses ON ledger.transfers USING btree (reverses)'
        ' WHERE (reverses IS NOT NULL)'),
    ('ledger.transfers_pkey',
        'CREATE UNIQUE INDEX transfers_pkey ON ledger.transfers USING btree (id)'),
    ('ledger.entries_pkey',
        'CREATE UNIQUE INDEX entries_pkey ON ledger.entries USING btree (account_id, seq)'),
    ('commands.answers_pkey',
        'CREATE UNIQUE INDEX answers_pkey ON commands.answers USING btree (id)'),
    ('events.log_pkey',
        'CREATE UNIQUE INDEX log_pkey ON events.log USING btree (key, seq)')
) AS wanted (name, definition)
LEFT JOIN pg_index i ON i.indexrelid = to_regclass(wanted.name)
WHERE i.indexrelid IS NULL OR NOT (i.indisvalid AND i.indisready AND i.indislive)
    OR pg_get_indexdef(i.indexrelid) <> wanted.definition
ORDER BY 1 LIMIT 10;

-- name: the_past_cannot_be_changed
-- A3: the application's role may add to what happened, and neither change nor remove it.
SELECT guarded.name AS "table", 'not granted' AS expected, privilege AS found
FROM (VALUES ('ledger.entries'), ('ledger.transfers'), ('events.log')) AS guarded (name)
CROSS JOIN unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'OWNERSHIP', 'TABLE'])
    AS privilege
JOIN pg_roles app ON app.rolname = 'strongroom_app'
LEFT JOIN pg_class c ON c.oid = to_regclass(guarded.name)
WHERE CASE privilege
    WHEN 'TABLE' THEN c.oid IS NULL
    WHEN 'OWNERSHIP' THEN pg_has_role(app.oid, c.relowner, 'MEMBER')
    WHEN 'UPDATE' THEN has_any_column_privilege(app.oid, c.oid, privilege)
    ELSE has_table_privilege(app.oid, c.oid, privilege) END
ORDER BY 1, 3 LIMIT 10;

-- name: append_only_triggers_stand
-- A3: nobody's UPDATE, DELETE or TRUNCATE passes, not even the owner's: the triggers are there,
-- fire always and without condition, and call the function that refuses.
SELECT guarded.name AS "table", wanted.name AS "trigger",
    'enabled always, calls ledger.refuse_change' AS expected,
    CASE WHEN t.oid IS NULL THEN 'missing'
        ELSE format('enabled %s, calls %s', t.tgenabled, t.tgfoid::regproc) END AS found
FROM (VALUES ('ledger.entries'), ('ledger.transfers'), ('events.log')) AS guarded (name)
-- The kinds are bits: 1 each row, 2 before, 8 delete, 16 update, 32 truncate.
CROSS JOIN (VALUES ('append_only', 1 + 2 + 8 + 16), ('not_emptied', 2 + 32))
    AS wanted (name, kind)
LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass(guarded.name) AND t.tgname = wanted.name
LEFT JOIN pg_proc f ON f.oid = t.tgfoid
WHERE t.oid IS NULL OR t.tgenabled <> 'A' OR t.tgtype <> wanted.kind
    OR t.tgqual IS NOT NULL OR t.tgattr <> ''::int2vector
    OR t.tgfoid <> to_regproc('ledger.refuse_change') OR f.prosrc !~ '^\s*BEGIN\s+RAISE EXCEPTION'
ORDER BY 1, 2 LIMIT 10;
