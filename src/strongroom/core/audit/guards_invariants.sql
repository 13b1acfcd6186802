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
-- fire always and without condition, and call the function that refuses. After a look at what was
-- changed meanwhile, `repair` puts them back.
SELECT guarded.name AS "table", wanted.name AS "trigger",
    'enabled always, calls ledger.refuse_change' AS expected,
    CASE WHEN t.oid IS NULL THEN 'missing'
        ELSE format('%s, calls %s', CASE t.tgenabled WHEN 'A' THEN 'enabled always'
            WHEN 'O' THEN 'enabled, but not in a session that plays a replica'
            WHEN 'R' THEN 'enabled only in a session that plays a replica'
            ELSE 'disabled' END, t.tgfoid::regproc) END AS found,
    CASE WHEN t.tgfoid = to_regproc('ledger.refuse_change')
                AND f.prosrc !~ '^\s*BEGIN\s+RAISE EXCEPTION'
            THEN 'CREATE OR REPLACE FUNCTION ledger.refuse_change() as it was migrated;'
        WHEN t.tgtype = wanted.kind AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
                AND t.tgfoid = to_regproc('ledger.refuse_change')
            THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %s;', guarded.name, wanted.name)
        ELSE format('CREATE OR REPLACE TRIGGER %2$s BEFORE %3$s ON %1$s FOR EACH %4$s EXECUTE'
            ' FUNCTION ledger.refuse_change(); ALTER TABLE %1$s ENABLE ALWAYS TRIGGER %2$s;',
            guarded.name, wanted.name, wanted.events, wanted.each)
    END AS repair
FROM (VALUES ('ledger.entries'), ('ledger.transfers'), ('events.log')) AS guarded (name)
-- The kinds are bits: 1 each row, 2 before, 8 delete, 16 update, 32 truncate.
CROSS JOIN (VALUES
    ('append_only', 1 + 2 + 8 + 16, 'UPDATE OR DELETE', 'ROW'),
    ('not_emptied', 2 + 32, 'TRUNCATE', 'STATEMENT')
) AS wanted (name, kind, events, each)
LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass(guarded.name) AND t.tgname = wanted.name
LEFT JOIN pg_proc f ON f.oid = t.tgfoid
WHERE t.oid IS NULL OR t.tgenabled <> 'A' OR t.tgtype <> wanted.kind
    OR t.tgqual IS NOT NULL OR t.tgattr <> ''::int2vector
    OR t.tgfoid <> to_regproc('ledger.refuse_change') OR f.prosrc !~ '^\s*BEGIN\s+RAISE EXCEPTION'
ORDER BY 1, 2 LIMIT 10;
