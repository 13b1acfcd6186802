-- Who may do what, where 0001 to 0007 left a gap.

-- A month of the history can be emptied by its own name, past the guard of the whole: a trigger for
-- a statement is not handed down to partitions, as those for rows are. Whoever makes months
-- guards them, and those that came another way with the next call.
CREATE FUNCTION orders.guard_months() RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part regclass;
    guarded integer := 0;
BEGIN
    FOR part IN
        SELECT i.inhrelid::regclass FROM pg_inherits i
        WHERE i.inhparent = 'orders.history'::regclass AND NOT EXISTS (
            SELECT FROM pg_trigger t
            WHERE t.tgrelid = i.inhrelid AND t.tgname = 'not_emptied' AND t.tgenabled = 'A'
                AND t.tgfoid = 'ledger.refuse_change'::regproc
        )
    LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER not_emptied BEFORE TRUNCATE ON %s
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', part);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER not_emptied', part);
        guarded := guarded + 1;
    END LOOP;
    RETURN guarded;
END
$$;
REVOKE ALL ON FUNCTION orders.guard_months FROM PUBLIC;

-- As in 0005, with two differences. It guards the months; and pg_temp stands in its path, at the
-- end: where it is not named it is searched first, and a domain `date` of the caller's own, with a
-- function in its check, would have run in the owner's name.
CREATE OR REPLACE FUNCTION orders.make_partitions(since date, until date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $$
DECLARE
    month date := date_trunc('month', since);
    parent text;
    part text;
    made integer := 0;
BEGIN
    IF until > since + 24000 THEN
        RAISE EXCEPTION 'partitions of more than 65 years are asked for';
    END IF;
    WHILE month <= until LOOP
        FOREACH parent IN ARRAY ARRAY['orders', 'lines', 'history'] LOOP
            part := parent || to_char(month, '_YYYY_MM');
            IF to_regclass(format('orders.%I', part)) IS NULL THEN
                EXECUTE format('CREATE TABLE orders.%I (LIKE orders.%I INCLUDING ALL)
                    WITH (fillfactor = %s)', part, parent,
                    CASE parent WHEN 'orders' THEN 85 ELSE 100 END);
                EXECUTE format('ALTER TABLE orders.%I ATTACH PARTITION orders.%I
                    FOR VALUES FROM (%L) TO (%L)', parent, part,
                    orders.first_id(month::timestamp AT TIME ZONE 'UTC'),
                    orders.first_id((month + interval '1 month') AT TIME ZONE 'UTC'));
                made := made + 1;
            END IF;
        END LOOP;
        month := month + interval '1 month';
    END LOOP;
    PERFORM orders.guard_months();
    RETURN made;
END
$$;

SELECT orders.guard_months();
