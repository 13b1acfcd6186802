-- name: hold_rollups
-- Two that roll would overwrite newer figures with older ones: whoever comes second leaves.
SELECT pg_try_advisory_xact_lock($1::integer, $2::integer);

-- name: forget_unrolled
-- A day without rollups is read from its orders whatever is noted; today's notes are the most.
DELETE FROM orders.restated s
WHERE NOT EXISTS (SELECT FROM orders.rolled_days r WHERE r.day = s.day);

-- name: stale_days
-- Days that are over and have no rollups, the latest first, then those restated since theirs.
SELECT stale.day FROM (
    SELECT oldest.day + n AS day, NULL::timestamptz AS rolled_at
    FROM (
        SELECT orders.day_of(created_at) - 2 AS day FROM orders.orders ORDER BY id LIMIT 1
    ) oldest
    CROSS JOIN LATERAL generate_series(0, orders.day_of(now()) - 1 - oldest.day) AS n
    WHERE NOT EXISTS (SELECT FROM orders.rolled_days r WHERE r.day = oldest.day + n)
    UNION ALL
    SELECT r.day, r.rolled_at FROM orders.rolled_days r
    WHERE r.rolled_at <= now() - make_interval(secs => $2::float8)
        AND EXISTS (SELECT FROM orders.restated s WHERE s.day = r.day)
) stale
ORDER BY stale.rolled_at NULLS FIRST, stale.day DESC LIMIT $1;

-- name: clear_day
-- The first half of rolling a day: a change that is noted here and seen by this statement is seen
-- by the next one too, which sums the day up; a later one stays noted.
WITH noted AS (DELETE FROM orders.restated WHERE day = $1),
by_status AS (DELETE FROM orders.order_days WHERE day = $1),
by_product AS (DELETE FROM orders.product_days WHERE day = $1)
DELETE FROM orders.customer_days WHERE day = $1;

-- name: sum_day
-- The second half: the day's orders as they stand now. Ids and times are of two clocks, which a
-- day's slack forgives.
WITH placed AS MATERIALIZED (
    SELECT o.id, o.status, o.customer_id, o.total_amount FROM orders.orders o
    WHERE o.id >= orders.first_id(orders.begin_of($1::date) - interval '1 day')
        AND o.id < orders.first_id(orders.begin_of($1) + interval '2 days')
        AND o.created_at >= orders.begin_of($1)
        AND o.created_at < orders.begin_of($1 + 1)
),
bought AS MATERIALIZED (
    SELECT order_id, product_id, quantity, quantity * unit_price AS amount FROM orders.lines
    WHERE order_id >= (SELECT id FROM placed ORDER BY id LIMIT 1)
        AND order_id <= (SELECT id FROM placed ORDER BY id DESC LIMIT 1)
),
sold AS MATERIALIZED (
    SELECT l.order_id, l.product_id, l.quantity, l.amount, o.status
    FROM placed o JOIN bought l ON l.order_id = o.id
),
by_status AS (
    INSERT INTO orders.order_days (day, status, orders, pieces, amount)
    SELECT $1, o.status, count(*), coalesce(sum(l.pieces), 0)::bigint, sum(o.total_amount)::bigint
    FROM placed o
    LEFT JOIN (
        SELECT order_id, sum(quantity) AS pieces FROM sold GROUP BY order_id
    ) l ON l.order_id = o.id
    GROUP BY o.status
),
by_product AS (
    INSERT INTO orders.product_days (day, product_id, orders, pieces, amount)
    SELECT $1, product_id, count(*), sum(quantity)::bigint, sum(amount)::bigint FROM sold
    WHERE status NOT IN ('CANCELLED', 'RETURNED') GROUP BY product_id
),
by_customer AS (
    INSERT INTO orders.customer_days (day, customer_id, orders, amount)
    SELECT $1, customer_id, count(*), sum(total_amount)::bigint FROM placed
    WHERE status NOT IN ('CANCELLED', 'RETURNED') GROUP BY customer_id
)
INSERT INTO orders.rolled_days (day) VALUES ($1)
ON CONFLICT (day) DO UPDATE SET rolled_at = now();

-- name: make_partitions
-- Orders of a month that has no partition could not be placed.
SELECT orders.make_partitions(now()::date, (now() + interval '1 year')::date);

-- name: as_of
-- Of which moment a snapshot is; the database's clock says also which day it is in Vietnam. A
-- report takes one core, and leaves the others to those who buy.
SELECT now() AS as_of, orders.day_of(now()) AS today,
    set_config('max_parallel_workers_per_gather', '0', true);

-- name: orders_by_period
-- Rollups of clean days and the orders of all others: runs of live days are read as one range of
-- ids, so that only their partitions are touched. Days before $4 are one period without a name.
WITH live AS MATERIALIZED (
    SELECT day FROM orders.live_days($1, $2) AS day
),
runs AS MATERIALIZED (
    SELECT begin_at, end_at, low, high FROM orders.runs_of(ARRAY (SELECT day FROM live))
),
figures AS (
    SELECT r.day, r.status, r.orders, r.pieces, r.amount FROM orders.order_days r
    WHERE r.day BETWEEN $1 AND $2 AND NOT EXISTS (SELECT FROM live WHERE live.day = r.day)
    UNION ALL
    SELECT fresh.* FROM runs CROSS JOIN LATERAL (
        SELECT orders.day_of(o.created_at) AS day, o.status, count(*) AS orders,
            coalesce(sum(l.pieces), 0) AS pieces, sum(o.total_amount) AS amount
        FROM orders.orders o
        LEFT JOIN (
            SELECT order_id, sum(quantity) AS pieces FROM orders.lines
            WHERE order_id >= runs.low AND order_id < runs.high GROUP BY order_id
        ) l ON l.order_id = o.id
        WHERE o.id >= runs.low AND o.id < runs.high
            AND o.created_at >= runs.begin_at AND o.created_at < runs.end_at
        GROUP BY 1, 2
    ) fresh
)
SELECT CASE WHEN day >= $4::date THEN date_trunc($3, day::timestamp)::date END AS period,
    status::text AS status, sum(orders)::bigint AS orders, sum(pieces)::bigint AS pieces,
    sum(amount)::bigint AS amount
FROM figures GROUP BY 1, 2;

-- name: products_by_revenue
-- What sold best, of orders that stand; live days as in orders_by_period.
WITH live AS MATERIALIZED (
    SELECT day FROM orders.live_days($1, $2) AS day
),
runs AS MATERIALIZED (
    SELECT begin_at, end_at, low, high FROM orders.runs_of(ARRAY (SELECT day FROM live))
),
figures AS (
    SELECT r.product_id, sum(r.orders) AS orders, sum(r.pieces) AS pieces,
        sum(r.amount) AS revenue
    FROM orders.product_days r
    WHERE r.day BETWEEN $1 AND $2 AND NOT EXISTS (SELECT FROM live WHERE live.day = r.day)
    GROUP BY r.product_id
    UNION ALL
    SELECT fresh.* FROM runs CROSS JOIN LATERAL (
        SELECT l.product_id, count(*) AS orders, sum(l.quantity) AS pieces,
            sum(l.quantity * l.unit_price) AS revenue
        FROM orders.orders o JOIN orders.lines l ON l.order_id = o.id
        WHERE o.id >= runs.low AND o.id < runs.high
            AND l.order_id >= runs.low AND l.order_id < runs.high
            AND o.created_at >= runs.begin_at AND o.created_at < runs.end_at
            AND o.status NOT IN ('CANCELLED', 'RETURNED')
        GROUP BY l.product_id
    ) fresh
)
SELECT best.product_id, p.sku, p.name, best.orders, best.pieces, best.revenue
FROM (
    SELECT product_id, sum(orders)::bigint AS orders, sum(pieces)::bigint AS pieces,
        sum(revenue)::bigint AS revenue
    FROM figures GROUP BY product_id ORDER BY 4 DESC, 3 DESC, 1 LIMIT $3
) best
JOIN orders.products p ON p.id = best.product_id
ORDER BY best.revenue DESC, best.pieces DESC, best.product_id;

-- name: customers_by_revenue
-- Who bought most, of orders that stand, and how many bought; live days as in orders_by_period.
-- Who is new is told by the id, which is a time. Where the range is years, rollups are read along
-- their customers, so that nothing is hashed or sorted.
WITH live AS MATERIALIZED (
    SELECT day FROM orders.live_days($1, $2) AS day
),
runs AS MATERIALIZED (
    SELECT begin_at, end_at, low, high FROM orders.runs_of(ARRAY (SELECT day FROM live))
),
summed AS (
    SELECT along.customer_id, orders.total(along.orders) AS orders,
        orders.total(along.amount) AS amount
    FROM (
        SELECT r.customer_id, r.orders, r.amount FROM orders.customer_days r
        WHERE r.day BETWEEN $1 AND $2 AND r.day <> ALL (ARRAY (SELECT day FROM live))
        ORDER BY r.customer_id
    ) along
    GROUP BY along.customer_id
),
fresh AS (
    SELECT o.customer_id, count(*) AS orders, orders.total(o.total_amount) AS amount
    FROM runs CROSS JOIN LATERAL (
        SELECT o.customer_id, o.total_amount FROM orders.orders o
        WHERE o.id >= runs.low AND o.id < runs.high
            AND o.created_at >= runs.begin_at AND o.created_at < runs.end_at
            AND o.status NOT IN ('CANCELLED', 'RETURNED')
    ) o
    GROUP BY o.customer_id
),
bought AS MATERIALIZED (
    SELECT customer_id, coalesce(s.orders, 0) + coalesce(f.orders, 0) AS orders,
        coalesce(s.amount, 0) + coalesce(f.amount, 0) AS revenue
    FROM summed s FULL JOIN fresh f USING (customer_id)
)
SELECT best.customer_id, c.name, c.phone, best.orders, best.revenue, c.created_at,
    counted.buyers, counted.newcomers
FROM (
    SELECT customer_id, orders, revenue FROM bought
    ORDER BY revenue DESC, orders DESC, customer_id LIMIT $3
) best
JOIN orders.customers c ON c.id = best.customer_id
CROSS JOIN (
    SELECT count(*) AS buyers, count(*) FILTER (WHERE b.customer_id >= begun.id) AS newcomers
    FROM bought b, (SELECT orders.first_id(orders.begin_of($1)) AS id OFFSET 0) begun
) counted
ORDER BY best.revenue DESC, best.orders DESC, best.customer_id;

-- name: low_stock
-- What runs out next: active products of which few pieces are free, fewest first.
SELECT p.id, p.sku, p.name, a.balance AS available, p.low_stock_at
FROM orders.products p
JOIN ledger.accounts a ON a.owner_id = p.id AND a.purpose = 'free' AND a.unit = 'PIECE:' || p.id
WHERE p.active AND a.balance <= p.low_stock_at
ORDER BY a.balance, p.sku LIMIT $1;

-- name: shelves_and_customers
-- How many there are of each: a count of rows, asked at most every half minute.
SELECT stock.active, stock.low, stock.gone, (SELECT count(*) FROM orders.customers) AS customers
FROM (
    SELECT count(*) AS active, count(*) FILTER (WHERE a.balance <= p.low_stock_at) AS low,
        count(*) FILTER (WHERE a.balance = 0) AS gone
    FROM orders.products p
    LEFT JOIN ledger.accounts a
        ON a.owner_id = p.id AND a.purpose = 'free' AND a.unit = 'PIECE:' || p.id
    WHERE p.active
) stock;

-- name: orders_as_csv
-- A portion of a file, as lines: so many orders are looked at, newest first, however few fit. The
-- server writes the text, so that the process that sends it has time for others. A text that a
-- spreadsheet would compute gets an apostrophe.
WITH looked_at AS MATERIALIZED (
    SELECT * FROM orders.portion($1, $2, $3)
),
fitting AS (
    SELECT o.id, o.code || ','
            || to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z",')
            || o.status || ',' || texts.said || ',' || o.pieces
            || ',' || o.total_amount || ',' || o.payment_method
            || ',' || o.payment_status || ',' || o.id || E'\r\n' AS line
    FROM looked_at o
    CROSS JOIN LATERAL (
        SELECT string_agg(
            '"' || replace(regexp_replace(
                coalesce(cell, ''),
                '^([\s\u001c-\u001f\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*'
                || '[-=+@|\uff1d\uff0b\uff0d\uff20]|[\t\r\n])',
                '''\1'
            ), '"', '""') || '"', ',' ORDER BY place) AS said
        FROM unnest(ARRAY[o.customer_name, o.phone, o.address, o.items])
            WITH ORDINALITY AS cells (cell, place)
    ) texts
    WHERE o.status = coalesce($4::text::orders.status, o.status)
        AND o.created_at >= $5 AND o.created_at < $6 AND o.search LIKE ALL ($7::text[])
        AND ($8::uuid IS NULL OR o.user_id = $8) AND ($9::uuid IS NULL OR o.customer_id = $9)
)
SELECT (SELECT id FROM looked_at ORDER BY id LIMIT 1) AS reached, count(*) AS rows,
    convert_to(string_agg(line, '' ORDER BY id DESC), 'UTF8') AS portion
FROM fitting;

-- name: orders_as_sheet
-- The same as rows of a worksheet (ECMA-376, part 1, 18.3.1.73). Texts are texts there whatever
-- they begin with; what XML cannot hold is left out, and what reads as an escape is escaped. Times
-- are days since 1899-12-30 by the clocks of Vietnam, in the style $10.
WITH looked_at AS MATERIALIZED (
    SELECT * FROM orders.portion($1, $2, $3)
),
fitting AS (
    SELECT o.id, '<row><c t="inlineStr"><is><t>' || o.code || '</t></is></c><c s="' || $10::text
            || '"><v>' || round(extract(epoch FROM o.created_at) / 86400 + 25569 + 7.0 / 24, 9)
            || '</v></c><c t="inlineStr"><is><t>' || o.status || '</t></is></c>' || texts.said
            || '<c><v>' || o.pieces || '</v></c><c><v>' || o.total_amount
            || '</v></c><c t="inlineStr"><is><t>' || o.payment_method
            || '</t></is></c><c t="inlineStr"><is><t>' || o.payment_status
            || '</t></is></c><c t="inlineStr"><is><t>' || o.id || '</t></is></c></row>' AS line
    FROM looked_at o
    CROSS JOIN LATERAL (
        SELECT string_agg(
            '<c t="inlineStr"><is><t xml:space="preserve">' || replace(replace(replace(
                regexp_replace(
                    translate(left(coalesce(cell, ''), 32767), $11::text, ''),
                    '_(x[0-9A-Fa-f]{4}_)', '_x005F_\1', 'g'
                ), '&', '&amp;'), '<', '&lt;'), '>', '&gt;') || '</t></is></c>', '' ORDER BY place
        ) AS said
        FROM unnest(ARRAY[o.customer_name, o.phone, o.address, o.items])
            WITH ORDINALITY AS cells (cell, place)
    ) texts
    WHERE o.status = coalesce($4::text::orders.status, o.status)
        AND o.created_at >= $5 AND o.created_at < $6 AND o.search LIKE ALL ($7::text[])
        AND ($8::uuid IS NULL OR o.user_id = $8) AND ($9::uuid IS NULL OR o.customer_id = $9)
)
SELECT (SELECT id FROM looked_at ORDER BY id LIMIT 1) AS reached, count(*) AS rows,
    convert_to(string_agg(line, '' ORDER BY id DESC), 'UTF8') AS portion
FROM fitting;
