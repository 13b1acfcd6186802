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
WITH guarded AS (
    SELECT name, to_regclass(name) AS id
    FROM unnest(ARRAY['ledger.entries', 'ledger.transfers', 'events.log', 'payments.callbacks',
        'orders.history', 'orders.codes', 'audit.seals', 'audit.sealed', 'audit.actions']) AS name
    UNION ALL
    SELECT i.inhrelid::regclass::text, i.inhrelid
    FROM pg_inherits i WHERE i.inhparent = to_regclass('orders.history')
)
SELECT guarded.name AS "table", 'not granted' AS expected, privilege AS found
FROM guarded
CROSS JOIN unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'OWNERSHIP', 'TABLE'])
    AS privilege
JOIN pg_roles app ON app.rolname = 'strongroom_app'
LEFT JOIN pg_class c ON c.oid = guarded.id
WHERE CASE privilege
    WHEN 'TABLE' THEN c.oid IS NULL
    WHEN 'OWNERSHIP' THEN pg_has_role(app.oid, c.relowner, 'MEMBER')
    WHEN 'UPDATE' THEN has_any_column_privilege(app.oid, c.oid, privilege)
    ELSE has_table_privilege(app.oid, c.oid, privilege) END
ORDER BY 1, 3 LIMIT 10;

-- name: append_only_triggers_stand
-- A3: nobody's UPDATE, DELETE or TRUNCATE passes, not even the owner's: the triggers are there,
-- fire always and without condition, and call the function that refuses. After a look at what was
-- changed meanwhile, `repair` puts them back. Months have those for rows from the whole, and the
-- chore that makes months sees to the other.
WITH guarded AS (
    SELECT name, to_regclass(name) AS id, false AS part
    FROM unnest(ARRAY['ledger.entries', 'ledger.transfers', 'events.log', 'payments.callbacks',
        'orders.history', 'orders.codes', 'audit.seals', 'audit.sealed', 'audit.actions']) AS name
    UNION ALL
    SELECT i.inhrelid::regclass::text, i.inhrelid, true
    FROM pg_inherits i WHERE i.inhparent = to_regclass('orders.history')
)
SELECT guarded.name AS "table", wanted.name AS "trigger",
    'enabled always, calls ledger.refuse_change' AS expected,
    CASE WHEN t.oid IS NULL THEN 'missing'
        ELSE format('%s, calls %s', CASE t.tgenabled WHEN 'A' THEN 'enabled always'
            WHEN 'O' THEN 'enabled, but not in a session that plays a replica'
            WHEN 'R' THEN 'enabled only in a session that plays a replica'
            ELSE 'disabled' END, t.tgfoid::regproc) END AS found,
    CASE WHEN t.tgfoid = to_regproc('ledger.refuse_change')
                AND f.prosrc !~ '^\s*BEGIN\s+RAISE EXCEPTION [^;]+;\s*END;?\s*$'
            THEN 'CREATE OR REPLACE FUNCTION ledger.refuse_change() as it was migrated;'
        WHEN t.tgtype = wanted.kind AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
                AND t.tgfoid = to_regproc('ledger.refuse_change')
            THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %s;', guarded.name, wanted.name)
        ELSE format('CREATE OR REPLACE TRIGGER %2$s BEFORE %3$s ON %1$s FOR EACH %4$s EXECUTE'
            ' FUNCTION ledger.refuse_change(); ALTER TABLE %1$s ENABLE ALWAYS TRIGGER %2$s;',
            guarded.name, wanted.name, wanted.events, wanted.each)
    END AS repair
FROM guarded
-- The kinds are bits: 1 each row, 2 before, 8 delete, 16 update, 32 truncate.
CROSS JOIN (VALUES
    ('append_only', 1 + 2 + 8 + 16, 'UPDATE OR DELETE', 'ROW'),
    ('not_emptied', 2 + 32, 'TRUNCATE', 'STATEMENT')
) AS wanted (name, kind, events, each)
LEFT JOIN pg_trigger t ON t.tgrelid = guarded.id AND t.tgname = wanted.name
LEFT JOIN pg_proc f ON f.oid = t.tgfoid
WHERE NOT (guarded.part AND wanted.each = 'STATEMENT') AND (
    t.oid IS NULL OR t.tgenabled <> 'A' OR t.tgtype <> wanted.kind
    OR t.tgqual IS NOT NULL OR t.tgattr <> ''::int2vector
    OR t.tgfoid <> to_regproc('ledger.refuse_change')
    -- Nothing but the refusal: a handler behind it would take it back.
    OR f.prosrc !~ '^\s*BEGIN\s+RAISE EXCEPTION [^;]+;\s*END;?\s*$'
)
ORDER BY 1, 2 LIMIT 10;

-- name: switches_stand_as_noted
-- A4: a switch and a limit stand as the newest act about them left them, and a reconciliation found
-- what was noted of it: nobody has turned one past the triggers that note acts. Payouts may never
-- have been turned since acts are noted.
WITH standing AS (
    SELECT CASE WHEN starts_with(name, 'queue:') THEN 'queue' ELSE name END AS matter,
        CASE WHEN starts_with(name, 'queue:') THEN substr(name, length('queue:') + 1)
            ELSE name END AS subject, to_jsonb(s) - 'name' AS stands
    FROM audit.switches s
    UNION ALL
    SELECT 'limit', name, to_jsonb(l) - 'name' FROM audit.limits l
), noted AS (
    SELECT DISTINCT ON (1, subject) split_part(action, '.', 1) AS matter, subject, id, after
    FROM audit.actions
    WHERE split_part(action, '.', 1) IN ('payouts', 'queue', 'limit')
    ORDER BY 1, subject, id DESC
), turned AS (
    SELECT coalesce(s.matter, n.matter) AS matter, coalesce(s.subject, n.subject) AS subject,
        n.id AS act, n.after, s.stands
    FROM standing s FULL JOIN noted n ON n.matter = s.matter AND n.subject = s.subject
    WHERE CASE
        WHEN n.id IS NULL AND s.matter = 'payouts'
            THEN s.stands ->> 'by_whom' = 'migration' AND (s.stands ->> 'paused')::boolean
        ELSE n.id IS NULL OR s.stands - 'since' IS DISTINCT FROM n.after - 'since'
            -- One moment is written in as many ways as there are zones.
            OR (s.stands ->> 'since')::timestamptz
                IS DISTINCT FROM (n.after ->> 'since')::timestamptz
        END
), told AS (
    SELECT id, subject, after, min(at) OVER () AS since
    FROM audit.actions WHERE action = 'reconciliation.record'
), kept AS (
    SELECT id::text AS subject, began_at, jsonb_build_object('clean', clean,
        'violated', jsonb_path_query_array(findings, '$[*].invariant')) AS stands
    FROM audit.reconciliations
), judged AS (
    SELECT 'reconciliation' AS matter, coalesce(k.subject, t.subject) AS subject, t.id AS act,
        t.after, k.stands
    FROM kept k FULL JOIN told t ON t.subject = k.subject
    WHERE k.stands IS DISTINCT FROM t.after
        AND NOT (t.id IS NULL AND k.began_at < coalesce((SELECT min(since) FROM told), 'infinity'))
)
SELECT matter, subject, act, after::text AS expected, stands::text AS found FROM turned
UNION ALL
SELECT matter, subject, act, after::text, stands::text FROM judged
ORDER BY 1, 2 LIMIT 10;
