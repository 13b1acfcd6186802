-- name: begin_seeding
-- All is written in one transaction, which takes minutes, and waits for the months meanwhile.
SELECT now() AS now, set_config('statement_timeout', '0', true),
    set_config('idle_in_transaction_session_timeout', '0', true),
    set_config('maintenance_work_mem', '512MB', true);

-- name: hold_shop
-- Nobody places an order before the seed has its numbers, and of two seeds one is refused.
LOCK TABLE orders.orders, orders.lines, orders.history, orders.codes, orders.products,
    orders.customers IN SHARE ROW EXCLUSIVE MODE;

-- name: what_is_there
-- A shop that has something already is nobody's to fill.
SELECT CASE
    WHEN EXISTS (SELECT FROM orders.codes) OR EXISTS (SELECT FROM orders.orders) THEN 'orders'
    WHEN EXISTS (SELECT FROM orders.products) THEN 'products'
    WHEN EXISTS (SELECT FROM orders.customers) THEN 'customers' END;

-- name: take_account_ids
-- Entries name their accounts before these are written, with the balances of the end.
SELECT nextval(pg_get_serial_sequence('ledger.accounts', 'id')) AS id
FROM generate_series(1, $1::integer);

-- name: put_indexes_aside
-- An empty ledger gets its indexes when it is full, which takes a third of the time. Whoever has
-- entries already keeps them, and waits.
DO $$
DECLARE index record;
BEGIN
    LOCK TABLE ledger.transfers, ledger.entries IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM ledger.transfers) OR EXISTS (SELECT FROM ledger.entries) THEN
        RETURN;
    END IF;
    CREATE TEMPORARY TABLE put_aside ON COMMIT DROP AS
        SELECT i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS "table",
            k.conname AS constraint, CASE WHEN k.oid IS NULL THEN pg_get_indexdef(i.indexrelid)
                ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', i.indrelid::regclass, k.conname,
                    pg_get_constraintdef(k.oid)) END AS definition
        FROM pg_index i
        LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
        WHERE i.indrelid IN ('ledger.transfers'::regclass, 'ledger.entries'::regclass);
    FOR index IN SELECT * FROM put_aside LOOP
        IF index.constraint IS NULL THEN
            EXECUTE format('DROP INDEX %s', index.name);
        ELSE
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', index.table, index.constraint);
        END IF;
    END LOOP;
END
$$;

-- name: put_indexes_back
-- In the same transaction, as they were: nobody ever sees the ledger without them.
DO $$
DECLARE definition text;
BEGIN
    IF to_regclass('pg_temp.put_aside') IS NULL THEN
        RETURN;
    END IF;
    FOR definition IN SELECT p.definition FROM put_aside p LOOP
        EXECUTE definition;
    END LOOP;
END
$$;

-- name: hold_house
-- Other rooms use the house's accounts too: their entries go on where they are, and wait.
SELECT a.id, a.balance, a.seq
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (purpose, place)
JOIN ledger.accounts a ON a.purpose = wanted.purpose AND a.unit = $2 AND a.owner_id = $3
ORDER BY wanted.place FOR NO KEY UPDATE OF a;

-- name: settle_house
-- Balance and count of what was held, after all its entries.
UPDATE ledger.accounts a SET balance = new.balance, seq = new.seq
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS new (id, balance, seq)
WHERE a.id = new.id;

-- name: set_numbers
-- The next order goes on behind the last; a sequence keeps it even when all else is undone.
SELECT setval('orders.numbers', $1);

-- name: set_gapless
-- The other way to number orders goes on from there too.
UPDATE orders.gapless SET last = $1;

-- name: change_catalogue
-- Whoever remembers that there are no products looks again.
UPDATE orders.catalogue SET version = version + 1;

-- name: clear_away
-- What a seed left that died; and after one that is done nothing lies there any more.
DROP SCHEMA IF EXISTS seeding CASCADE;

-- name: make_room
-- Months are filled where nobody sees them, to belong to the orders all at once or not at all.
CREATE SCHEMA seeding;

-- name: begin_months
-- Sorting a month's index in memory is what makes it quick.
SELECT set_config('statement_timeout', '0', false),
    set_config('maintenance_work_mem', '256MB', false);

-- name: name_month
-- A DO takes no parameters.
SELECT set_config('seeding.month', $1, false);

-- name: make_month
-- Tables like the partitions, but without their indexes, which are cheaper to build than to keep.
DO $$
DECLARE
    month text := nullif(current_setting('seeding.month', true), '');
    parent text;
BEGIN
    IF month IS NULL THEN
        RETURN;
    END IF;
    FOREACH parent IN ARRAY ARRAY['orders', 'lines', 'history'] LOOP
        EXECUTE format('CREATE TABLE seeding.%I (LIKE orders.%I INCLUDING ALL EXCLUDING INDEXES)
            WITH (fillfactor = %s)', parent || '_' || month, parent,
            CASE parent WHEN 'orders' THEN 85 ELSE 100 END);
    END LOOP;
END
$$;

-- name: index_month
-- The same indexes as the parent's, so that attaching finds them there.
DO $$
DECLARE
    month text := nullif(current_setting('seeding.month', true), '');
    parent text;
    part text;
    wanted record;
BEGIN
    IF month IS NULL THEN
        RETURN;
    END IF;
    FOREACH parent IN ARRAY ARRAY['orders', 'lines', 'history'] LOOP
        part := parent || '_' || month;
        FOR wanted IN
            SELECT pg_get_indexdef(i.indexrelid) AS definition, k.oid AS key
            FROM pg_index i
            LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype = 'p'
            WHERE i.indrelid = format('orders.%I', parent)::regclass
        LOOP
            IF wanted.key IS NOT NULL THEN
                EXECUTE format('ALTER TABLE seeding.%I ADD %s', part,
                    pg_get_constraintdef(wanted.key));
            ELSE
                EXECUTE regexp_replace(wanted.definition, 'INDEX \S+ ON (ONLY )?\S+',
                    format('INDEX ON seeding.%I', part));
            END IF;
        END LOOP;
    END LOOP;
END
$$;

-- name: attach_months
-- The moment at which all months appear. Empty ones that were made ahead give way.
DO $$
DECLARE
    part record;
    taken boolean;
BEGIN
    FOR part IN
        SELECT relname AS name, split_part(relname, '_', 1) AS parent,
            to_date(substr(relname, length(relname) - 6), 'YYYY_MM') AS month
        FROM pg_class WHERE relnamespace = to_regnamespace('seeding') AND relkind = 'r'
        ORDER BY relname
    LOOP
        IF to_regclass(format('orders.%I', part.name)) IS NOT NULL THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM orders.%I)', part.name) INTO taken;
            IF taken THEN
                RAISE EXCEPTION 'orders.% holds rows', part.name;
            END IF;
            EXECUTE format('DROP TABLE orders.%I', part.name);
        END IF;
        EXECUTE format('ALTER TABLE seeding.%I SET SCHEMA orders', part.name);
        EXECUTE format('ALTER TABLE orders.%I ATTACH PARTITION orders.%I FOR VALUES FROM (%L)
            TO (%L)', part.parent, part.name,
            orders.first_id(part.month::timestamp AT TIME ZONE 'UTC'),
            orders.first_id((part.month + interval '1 month') AT TIME ZONE 'UTC'));
    END LOOP;
END
$$;

-- name: analyse
-- The planner knows what is there, before anybody asks.
ANALYZE orders.orders, orders.lines, orders.history, orders.codes, orders.products,
    orders.customers, orders.order_days, orders.product_days, orders.customer_days,
    ledger.accounts, ledger.transfers, ledger.entries, payments.payments, events.log;

-- name: size
-- How much of the disk it takes.
SELECT pg_database_size(current_database());
