-- name: server
-- What the server is and how it keeps what it has acknowledged.
SELECT current_setting('server_version_num')::integer AS version,
    current_setting('server_version') AS version_text,
    current_setting('data_checksums') AS data_checksums,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('max_connections')::integer AS max_connections,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    clock_timestamp() AS now;

-- name: overrides
-- A role or a database may have a setting of its own, which the server's own value hides.
SELECT coalesce(r.rolname, 'every role') AS role, coalesce(d.datname, 'every database') AS database,
    setting
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN unnest(s.setconfig) AS setting
WHERE (s.setdatabase = 0 OR d.datname = current_database())
AND setting ~ '^(fsync|full_page_writes|synchronous_commit|session_replication_role)='
AND setting NOT IN ('fsync=on', 'full_page_writes=on', 'synchronous_commit=on',
    'synchronous_commit=remote_apply', 'session_replication_role=origin')
ORDER BY 1, 2, 3;

-- name: roles
-- The application and the auditor are roles of their own, and neither is above the rules.
SELECT wanted.name, r.rolname IS NOT NULL AS there,
    coalesce(r.rolsuper OR r.rolbypassrls OR r.rolcreaterole, false) AS too_strong
FROM (VALUES ('strongroom_app'), ('strongroom_audit')) AS wanted (name)
LEFT JOIN pg_roles r ON r.rolname = wanted.name
ORDER BY 1;

-- name: forbidden_privileges
-- What happened cannot be changed by the application, nor anything by the auditor.
SELECT r.rolname AS role, c.oid::regclass::text AS name, privilege
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.rolname IN ('strongroom_app', 'strongroom_audit')
CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
WHERE c.relkind IN ('r', 'p')
AND CASE r.rolname
    WHEN 'strongroom_app' THEN (n.nspname, c.relname) IN (
        ('ledger', 'entries'), ('ledger', 'transfers'), ('events', 'log')
    ) AND privilege <> 'INSERT'
    ELSE n.nspname IN ('ledger', 'commands', 'events', 'audit', 'betting', 'identity') END
AND CASE WHEN privilege IN ('INSERT', 'UPDATE')
    THEN has_any_column_privilege(r.oid, c.oid, privilege)
    ELSE has_table_privilege(r.oid, c.oid, privilege) END
ORDER BY 1, 2, 3;

-- name: broken_indexes
-- An index that is not valid enforces nothing and helps nobody.
SELECT indexrelid::regclass::text AS name FROM pg_index
WHERE NOT (indisvalid AND indisready AND indislive) ORDER BY 1;

-- name: switch
-- While payouts are paused, settlements wait and withdrawals are turned away.
SELECT paused, since, by_whom, reason FROM audit.switches WHERE name = 'payouts';

-- name: verdict
-- What the last reconciliation found stands until another one finds nothing.
SELECT began_at, clean,
    ARRAY(SELECT finding ->> 'invariant' FROM jsonb_array_elements(findings) AS finding) AS violated
FROM audit.reconciliations ORDER BY began_at DESC LIMIT 1;
