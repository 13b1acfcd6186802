-- name: guards
-- What a schema forbids and what makes it fast, a line each: the program relies on all of it.
SELECT CASE WHEN i.indisunique THEN 'unique ' ELSE 'index ' END
    || regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX ', '') AS line
FROM pg_index i
JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY($1) AND NOT c.relispartition AND c.relkind IN ('r', 'p', 'm')
UNION ALL
SELECT 'check ' || c.conrelid::regclass || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
FROM pg_constraint c
JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE c.contype IN ('c', 'f', 'x') AND n.nspname = ANY($1) AND NOT t.relispartition
UNION ALL
SELECT 'trigger ' || t.tgenabled::text || ' '
    || regexp_replace(pg_get_triggerdef(t.oid), '^CREATE ', '')
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND n.nspname = ANY($1) AND NOT c.relispartition
UNION ALL
-- Its text as a digest: of one written in SQL alone the server keeps a tree, and no text.
SELECT 'function ' || p.oid::regprocedure || ' ' || md5(p.prosrc)
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY($1)
UNION ALL
SELECT 'table ' || c.oid::regclass
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname = ANY($1) AND NOT c.relispartition;
