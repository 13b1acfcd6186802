-- name: wait_at_most
-- Who has waited in vain once waits less for what comes next.
SELECT set_config('lock_timeout', $1, true);

-- name: words_of_row
-- The error of a vain wait says where the row lies, and not which it is: all its values, to be
-- found among what was asked for. ts_stat reads whatever relation it is told to.
SELECT c.oid, (
    SELECT array_agg(s.word) FROM ts_stat(format(
        'SELECT array_to_tsvector(array_agg(left(e.value, 500))) FROM %s t,'
        ' jsonb_each_text(to_jsonb(t)) e WHERE t.ctid = %L AND e.value <> ''''',
        c.oid::regclass, $2::text
    )) s
) AS words
FROM pg_class c
WHERE c.relname = $1 AND c.relkind = 'r' AND c.relpersistence = 'p'
    AND has_table_privilege(c.oid, 'SELECT');
