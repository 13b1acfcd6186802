CREATE SCHEMA orders;
CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;

CREATE TYPE orders.status AS ENUM (
    'PENDING', 'CONFIRMED', 'SHIPPED', 'DELIVERED', 'CANCELLED', 'RETURNED'
);
CREATE TYPE orders.payment_method AS ENUM ('COD', 'MOMO', 'ZALOPAY', 'BANKING', 'CARD');
CREATE TYPE orders.payment_status AS ENUM ('PENDING', 'SUCCESS', 'FAILED', 'REFUNDED', 'VOID');

-- The smallest UUIDv7 of a moment: a range of time is a range of ids.
CREATE FUNCTION orders.first_id(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;

-- The day of a moment by the clocks of Vietnam, which know no summer time.
CREATE FUNCTION orders.day_of(at timestamptz) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (at AT TIME ZONE interval '7 hours')::date;

CREATE FUNCTION orders.begin_of(day date) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN day::timestamp AT TIME ZONE interval '7 hours';

-- Products -------------------------------------------------------------------------------------

CREATE TABLE orders.products (
    id uuid PRIMARY KEY,
    sku text NOT NULL UNIQUE,
    name text NOT NULL,
    price bigint NOT NULL CHECK (price >= 0),
    active boolean NOT NULL DEFAULT true,
    low_stock_at bigint NOT NULL CHECK (low_stock_at >= 0),
    supplies integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    search text GENERATED ALWAYS AS (' ' || search.plain(sku || ' ' || name) || ' ') STORED
) WITH (fillfactor = 80);
CREATE INDEX products_search ON orders.products USING gin (search gin_trgm_ops);
CREATE INDEX products_active ON orders.products (id) WHERE active;
COMMENT ON COLUMN orders.products.supplies IS
    'How often stock was received or adjusted; numbers those transfers.';
COMMENT ON COLUMN orders.products.low_stock_at IS 'As few as this are worth a warning.';

-- Counts the changes of products: what was read under a version stays true under it.
CREATE TABLE orders.catalogue (
    version bigint NOT NULL,
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
) WITH (fillfactor = 10);
INSERT INTO orders.catalogue (version) VALUES (1);

-- Customers ------------------------------------------------------------------------------------

CREATE TABLE orders.customers (
    id uuid PRIMARY KEY,
    phone text NOT NULL UNIQUE CHECK (phone ~ '^\+[1-9][0-9]{6,14}$'),
    name text NOT NULL,
    email text,
    address text,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    search text GENERATED ALWAYS AS (
        ' ' || regexp_replace(phone, '^\+84', '0') || ' ' || search.plain(name) || ' '
    ) STORED
) WITH (fillfactor = 90);
CREATE INDEX customers_search ON orders.customers USING gin (search gin_trgm_ops);

-- Orders, by month -------------------------------------------------------------------------------

-- Ids are UUIDv7, so a range of ids is a range of time: the id is the whole partition key, and
-- unique over all partitions.
CREATE TABLE orders.orders (
    id uuid PRIMARY KEY,
    code text NOT NULL,
    user_id uuid,
    customer_id uuid NOT NULL,
    customer_name text NOT NULL,
    phone text NOT NULL,
    address text,
    note text,
    status orders.status NOT NULL DEFAULT 'PENDING',
    total_amount bigint NOT NULL CHECK (total_amount >= 0),
    payment_method orders.payment_method NOT NULL,
    payment_status orders.payment_status NOT NULL DEFAULT 'PENDING',
    payment_id uuid,
    version integer NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    search text GENERATED ALWAYS AS (
        ' ' || lower(code) || ' ' || regexp_replace(phone, '^\+84', '0') || ' '
        || search.plain(customer_name) || ' '
    ) STORED
) PARTITION BY RANGE (id);
CREATE INDEX orders_status ON orders.orders (status, id);
CREATE INDEX orders_user ON orders.orders (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX orders_customer ON orders.orders (customer_id, id);
-- A short list of what is still to be indexed: every search reads it, and whoever fills it works it
-- off. Without one, an order takes half as much again of the server's time.
CREATE INDEX orders_search ON orders.orders USING gin (search gin_trgm_ops)
    WITH (gin_pending_list_limit = 128);
CREATE INDEX orders_due ON orders.orders (expires_at) WHERE status = 'PENDING';
COMMENT ON COLUMN orders.orders.customer_name IS 'As the order said it; so are phone and address.';
COMMENT ON COLUMN orders.orders.payment_id IS
    'The newest payment; once paid, the one that paid: of cash on delivery the order itself.';
COMMENT ON COLUMN orders.orders.version IS 'Raised by every change of it.';

CREATE TABLE orders.lines (
    order_id uuid NOT NULL,
    product_id uuid NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (order_id, product_id)
) PARTITION BY RANGE (order_id);

CREATE TABLE orders.history (
    order_id uuid NOT NULL,
    version integer NOT NULL,
    status orders.status NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    by_whom text NOT NULL,
    reason text,
    PRIMARY KEY (order_id, version)
) PARTITION BY RANGE (order_id);
COMMENT ON TABLE orders.history IS 'Every state that an order came into; never changed.';

-- Attaching takes a lock that neither reads nor writes wait for; creating as a partition would not.
CREATE FUNCTION orders.make_partitions(since date, until date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '2s' AS $$
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
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION orders.make_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION orders.make_partitions TO strongroom_app;

-- A month back, for a clock that is behind; a year ahead, for a worker that is down.
SELECT orders.make_partitions(
    (now() - interval '1 month')::date, (now() + interval '1 year')::date
);

-- Codes ------------------------------------------------------------------------------------------

-- A number is given to one order for ever, whatever the partitions: this key says so.
CREATE TABLE orders.codes (
    number bigint PRIMARY KEY CHECK (number > 0),
    order_id uuid NOT NULL
);
CREATE SEQUENCE orders.numbers AS bigint;
CREATE TABLE orders.gapless (
    last bigint NOT NULL,
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
) WITH (fillfactor = 10);
INSERT INTO orders.gapless (last) VALUES (0);
COMMENT ON TABLE orders.gapless IS 'The last number given without a gap, where that is wanted.';

-- Rollups ----------------------------------------------------------------------------------------

-- As sum(), which makes a bigint's sum a numeric: by value it takes a third of the time and memory
-- where there are hundreds of thousands of groups. What does not fit is an error.
CREATE AGGREGATE orders.total (bigint) (
    sfunc = int8pl, combinefunc = int8pl, stype = bigint, initcond = '0', parallel = safe
);

-- Days are those on which orders were placed; figures are of the orders as they stand now.
CREATE TABLE orders.order_days (
    day date NOT NULL,
    status orders.status NOT NULL,
    orders bigint NOT NULL,
    pieces bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (day, status)
);
-- Orders that were not called off, by product and by customer.
CREATE TABLE orders.product_days (
    day date NOT NULL,
    product_id uuid NOT NULL,
    orders bigint NOT NULL,
    pieces bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (day, product_id)
);
CREATE TABLE orders.customer_days (
    day date NOT NULL,
    customer_id uuid NOT NULL,
    orders bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (day, customer_id)
);
CREATE INDEX customer_days_customer ON orders.customer_days (customer_id, day)
    INCLUDE (orders, amount);
CREATE TABLE orders.rolled_days (
    day date PRIMARY KEY,
    rolled_at timestamptz NOT NULL DEFAULT now()
);
-- Whoever places or changes orders leaves their days here, in the same transaction. A rolled-up
-- day that stands here is read from its orders until it is rolled up again.
CREATE TABLE orders.restated (
    day date NOT NULL
);
COMMENT ON TABLE orders.rolled_days IS 'Days whose rollups are there; all others are live.';

-- Days of a range that have to be read from their orders, within those of the first and last one.
CREATE FUNCTION orders.live_days(since date, until date) RETURNS SETOF date
LANGUAGE sql STABLE AS $$
    SELECT greatest(since, near.first) + n
    FROM (
        SELECT (
                SELECT orders.day_of(created_at) - 2 FROM orders.orders ORDER BY id LIMIT 1
            ) AS first, (
                SELECT orders.day_of(created_at) + 2 FROM orders.orders ORDER BY id DESC LIMIT 1
            ) AS last
    ) near
    CROSS JOIN generate_series(0, least(until, near.last) - greatest(since, near.first)) AS n
    EXCEPT
    SELECT r.day FROM orders.rolled_days r
    WHERE NOT EXISTS (SELECT FROM orders.restated s WHERE s.day = r.day)
$$;

-- Days in a row are one range of times and, with a day's slack for two clocks, of ids.
CREATE FUNCTION orders.runs_of(days date[])
RETURNS TABLE (begin_at timestamptz, end_at timestamptz, low uuid, high uuid)
LANGUAGE sql STABLE AS $$
    SELECT orders.begin_of(min(run.day)), orders.begin_of(max(run.day) + 1),
        orders.first_id(orders.begin_of(min(run.day)) - interval '1 day'),
        orders.first_id(orders.begin_of(max(run.day)) + interval '2 days')
    FROM (
        SELECT day, day - row_number() OVER (ORDER BY day)::integer AS first
        FROM unnest(days) AS day
    ) run
    GROUP BY run.first
$$;

-- So many orders before an id and not before another, newest first, with what was bought: what a
-- file is made of.
CREATE FUNCTION orders.portion(before uuid, since uuid, most integer)
RETURNS TABLE (
    id uuid, code text, created_at timestamptz, status orders.status, customer_name text,
    phone text, address text, total_amount bigint, payment_method orders.payment_method,
    payment_status orders.payment_status, search text, user_id uuid, customer_id uuid,
    pieces bigint, items text
)
LANGUAGE sql STABLE AS $$
    WITH looked_at AS MATERIALIZED (
        SELECT o.* FROM orders.orders o WHERE o.id < before AND o.id >= since
        ORDER BY o.id DESC LIMIT most
    ),
    sold AS (
        SELECT l.order_id, sum(l.quantity)::bigint AS pieces,
            string_agg(l.quantity || ' × ' || p.sku, '; ' ORDER BY p.sku) AS items
        FROM orders.lines l JOIN orders.products p ON p.id = l.product_id
        WHERE l.order_id >= (SELECT f.id FROM looked_at f ORDER BY f.id LIMIT 1)
            AND l.order_id <= (SELECT f.id FROM looked_at f ORDER BY f.id DESC LIMIT 1)
        GROUP BY l.order_id
    )
    SELECT o.id, o.code, o.created_at, o.status, o.customer_name, o.phone, o.address,
        o.total_amount, o.payment_method, o.payment_status, o.search, o.user_id, o.customer_id,
        coalesce(s.pieces, 0), s.items
    FROM looked_at o LEFT JOIN sold s ON s.order_id = o.id
$$;

DO $$
DECLARE guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY['orders.history', 'orders.codes'] LOOP
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s
            FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', guarded);
        EXECUTE format('CREATE TRIGGER not_emptied BEFORE TRUNCATE ON %s
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', guarded);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', guarded);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER not_emptied', guarded);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA orders TO strongroom_app, strongroom_audit;
GRANT SELECT ON ALL TABLES IN SCHEMA orders TO strongroom_app, strongroom_audit;
GRANT INSERT, UPDATE ON orders.products, orders.customers, orders.orders TO strongroom_app;
GRANT INSERT ON orders.lines, orders.history, orders.codes TO strongroom_app;
GRANT UPDATE ON orders.catalogue, orders.gapless TO strongroom_app;
GRANT USAGE, SELECT, UPDATE ON SEQUENCE orders.numbers TO strongroom_app;
GRANT SELECT ON SEQUENCE orders.numbers TO strongroom_audit;
GRANT INSERT, UPDATE, DELETE ON orders.order_days, orders.product_days, orders.customer_days,
    orders.rolled_days TO strongroom_app;
GRANT INSERT, DELETE ON orders.restated TO strongroom_app;
