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

-- name: written_ahead
-- Nothing was written later than now, unless the clock was set back since.
SELECT extract(epoch FROM created_at - clock_timestamp())::float8 AS seconds
FROM events.log ORDER BY xid DESC, position DESC LIMIT 1;

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

-- name: auditor_privileges
-- The auditor changes nothing, wherever it lies.
SELECT c.oid::regclass::text AS name, privilege
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname !~ '^(pg_|information_schema)'
JOIN pg_roles r ON r.rolname = 'strongroom_audit'
CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
WHERE c.relkind IN ('r', 'p')
AND CASE WHEN privilege IN ('INSERT', 'UPDATE')
    THEN has_any_column_privilege(r.oid, c.oid, privilege)
    ELSE has_table_privilege(r.oid, c.oid, privilege) END
ORDER BY 1, 2;

-- name: broken_indexes
-- An index that is not valid enforces nothing and helps nobody.
SELECT indexrelid::regclass::text AS name FROM pg_index
WHERE NOT (indisvalid AND indisready AND indislive) ORDER BY 1;

-- name: switch
-- While payouts are paused, settlements wait and withdrawals are turned away.
SELECT paused, since, by_whom, reason FROM audit.switches WHERE name = 'payouts';

-- name: bloat
-- What was deleted and not cleaned away makes every read longer; small tables are none the worse.
SELECT relid::regclass::text AS name, n_dead_tup AS dead, n_live_tup AS live
FROM pg_stat_user_tables
WHERE n_dead_tup > 100000 AND n_dead_tup > n_live_tup / 2
ORDER BY n_dead_tup DESC LIMIT 10;

-- name: swollen_indexes
-- An index that is much larger than its table holds mostly entries of rows long gone.
SELECT i.indexrelid::regclass::text AS name, pg_relation_size(i.indexrelid) AS bytes,
    pg_relation_size(i.indrelid) AS of_table
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relkind = 'r' AND pg_relation_size(i.indexrelid) > 100 * 1024 * 1024
AND pg_relation_size(i.indexrelid) > 2 * pg_relation_size(i.indrelid)
ORDER BY 2 DESC LIMIT 10;

-- name: sequences
-- A sequence that has come to its end refuses every insert.
SELECT format('%I.%I', n.nspname, c.relname) AS name,
    coalesce(100.0 * v.last_value / least(s.seqmax, CASE t.typname
        WHEN 'int2' THEN 32767 WHEN 'int4' THEN 2147483647 END), 0)::float8 AS used
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequences v ON v.schemaname = n.nspname AND v.sequencename = c.relname
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refobjsubid > 0
    AND d.deptype IN ('a', 'i')
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_type t ON t.oid = a.atttypid
WHERE NOT s.seqcycle
ORDER BY 2 DESC LIMIT 10;

-- name: wraparound
-- Numbers of transactions come around; rows older than two thousand million of them must be frozen.
SELECT age(datfrozenxid) AS transactions, mxid_age(datminmxid) AS multixacts
FROM pg_database WHERE datname = current_database();

-- name: long_transactions
-- Whoever stays in a transaction keeps every dead row of all tables, and what it has locked.
SELECT coalesce(application_name, '') || ' ' || pid AS who, state,
    extract(epoch FROM clock_timestamp() - xact_start)::integer AS seconds
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
AND xact_start < clock_timestamp() - make_interval(secs => $1)
UNION ALL
SELECT 'prepared ' || gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::integer
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => $1)
ORDER BY seconds DESC LIMIT 10;

-- name: settings
-- Settings that decide whether the log and the data can be trusted, and whether tables are cleaned.
SELECT name, setting FROM pg_settings
WHERE name IN ('wal_level', 'zero_damaged_pages', 'ignore_checksum_failure', 'autovacuum',
    'track_counts', 'superuser_reserved_connections');

-- name: time_zone
-- Days of reports are days of a place, which the server must know.
SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = $1);
