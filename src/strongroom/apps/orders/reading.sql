-- name: catalogue_version
-- Under which version products stand: every change of them raises it.
SELECT version FROM orders.catalogue;

-- name: plain
-- Words as they lie in the columns that are searched: one rule for both, and it lies here.
SELECT search.plain($1);

-- name: products_newest
-- A page of products; those on sale and those that are not are read along an index each.
SELECT id FROM (
    (SELECT id FROM orders.products
    WHERE active AND $1::boolean AND id < $3 ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT id FROM orders.products
    WHERE NOT active AND $2::boolean AND id < $3 ORDER BY id DESC LIMIT $4)
) found
ORDER BY id DESC LIMIT $4;

-- name: products_found
-- A page of the products that words are found in.
SELECT p.id FROM orders.products p
WHERE p.search LIKE $5 AND p.search LIKE $6 AND p.search LIKE $7 AND p.search LIKE ALL($8::text[])
    AND CASE WHEN p.active THEN $1::boolean ELSE $2::boolean END AND p.id < $3
ORDER BY p.id DESC LIMIT $4;

-- name: products_seen
-- What a page says of its products.
SELECT id AS product_id, sku, name, price, active, low_stock_at
FROM orders.products WHERE id = ANY($1::uuid[]);

-- name: free_pieces
-- What is available of a page's products, in one statement, with its time.
SELECT owner_id AS product_id, balance AS available, clock_timestamp() AS as_of
FROM ledger.accounts
WHERE owner_id = ANY($1::uuid[]) AND purpose = 'free' AND unit = 'PIECE:' || owner_id;

-- name: stock
-- Where the pieces of a product are, in one snapshot.
SELECT p.active, free.balance AS available, held.balance AS held, sold.balance AS sold
FROM orders.products p
JOIN ledger.accounts free ON free.owner_id = $1 AND free.purpose = 'free' AND free.unit = $2
JOIN ledger.accounts held ON held.owner_id = $1 AND held.purpose = 'held' AND held.unit = $2
JOIN ledger.accounts sold ON sold.owner_id = $1 AND sold.purpose = 'sold' AND sold.unit = $2
WHERE p.id = $1;

-- name: stock_at
-- Where the pieces of a product were, in one snapshot, and whether that is past.
SELECT p.active, $3::timestamptz <= clock_timestamp() AS is_past,
    ledger.balance_at(free.id, $3) AS available, ledger.balance_at(held.id, $3) AS held,
    ledger.balance_at(sold.id, $3) AS sold
FROM orders.products p
JOIN ledger.accounts free ON free.owner_id = $1 AND free.purpose = 'free' AND free.unit = $2
JOIN ledger.accounts held ON held.owner_id = $1 AND held.purpose = 'held' AND held.unit = $2
JOIN ledger.accounts sold ON sold.owner_id = $1 AND sold.purpose = 'sold' AND sold.unit = $2
WHERE p.id = $1;

-- name: product_active
-- Whether there is a product, and whether everybody may see it.
SELECT active FROM orders.products WHERE id = $1;

-- name: customers_newest
-- A page of customers; of those looked at, which the words are found in.
SELECT id, phone, name, email, address FROM (
    SELECT id, phone, name, email, address, search FROM orders.customers
    WHERE id < $1 ORDER BY id DESC LIMIT $2
) c
WHERE c.search LIKE ALL($3::text[]) ORDER BY c.id DESC LIMIT $4;

-- name: customers_found
-- Words that are seldom are found by the index, where a look at the newest did not fill a page.
SELECT c.id, c.phone, c.name, c.email, c.address FROM orders.customers c
WHERE c.search LIKE $4 AND c.search LIKE $5 AND c.search LIKE $6 AND c.search LIKE ALL($2::text[])
    AND c.id < $1
ORDER BY c.id DESC LIMIT $3;

-- name: customer_seen
-- One customer.
SELECT id, phone, name, email, address FROM orders.customers WHERE id = $1;

-- name: customer_of_phone
-- A phone number names one customer.
SELECT id, phone, name, email, address FROM orders.customers WHERE phone = $1;

-- name: order_named
-- Which order a code is of; that never changes.
SELECT order_id FROM orders.codes WHERE number = $1;

-- name: orders_newest
-- A page of orders along their ids, month after month; with words, those of the looked at that fit.
SELECT id, code, status, total_amount, customer_id, customer_name, phone, payment_method,
    payment_status, created_at
FROM (
    SELECT o.* FROM orders.orders o
    WHERE o.id >= $1 AND o.id < $2 AND o.created_at >= $3 AND o.created_at < $4
    ORDER BY o.id DESC LIMIT $5
) o
WHERE o.search LIKE ALL($6::text[]) ORDER BY o.id DESC LIMIT $7;

-- name: orders_of_status
-- The same along the index of one status, which only this order makes the planner take: it believes
-- the ids to be as good, and would read the years in which no order has that status.
SELECT id, code, status, total_amount, customer_id, customer_name, phone, payment_method,
    payment_status, created_at
FROM (
    SELECT o.* FROM orders.orders o
    WHERE o.status = ANY(ARRAY[$8::text::orders.status])
        AND o.id >= $1 AND o.id < $2 AND o.created_at >= $3 AND o.created_at < $4
    ORDER BY o.status DESC, o.id DESC LIMIT $5
) o
WHERE o.search LIKE ALL($6::text[]) ORDER BY o.id DESC LIMIT $7;

-- name: orders_of_user
-- The same along the index of one user's orders.
SELECT id, code, status, total_amount, customer_id, customer_name, phone, payment_method,
    payment_status, created_at
FROM (
    SELECT o.* FROM orders.orders o
    WHERE o.user_id = $9 AND ($8::text IS NULL OR o.status = $8::text::orders.status)
        AND o.id >= $1 AND o.id < $2 AND o.created_at >= $3 AND o.created_at < $4
    ORDER BY o.id DESC LIMIT $5
) o
WHERE o.search LIKE ALL($6::text[]) ORDER BY o.id DESC LIMIT $7;

-- name: orders_of_customer
-- The same along the index of one customer's orders; of one user, if that is asked.
SELECT id, code, status, total_amount, customer_id, customer_name, phone, payment_method,
    payment_status, created_at
FROM (
    SELECT o.* FROM orders.orders o
    WHERE o.customer_id = $10 AND ($9::uuid IS NULL OR o.user_id = $9)
        AND ($8::text IS NULL OR o.status = $8::text::orders.status)
        AND o.id >= $1 AND o.id < $2 AND o.created_at >= $3 AND o.created_at < $4
    ORDER BY o.id DESC LIMIT $5
) o
WHERE o.search LIKE ALL($6::text[]) ORDER BY o.id DESC LIMIT $7;

-- name: oldest_order
-- How far back a search has to go.
SELECT id FROM orders.orders WHERE id >= $1 ORDER BY id LIMIT 1;

-- name: orders_found
-- A page by the index of words, month after month until it is full. Said as an OR, the range of a
-- month still picks its partition, and does not tempt the planner to read all of it by id.
SELECT found.* FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS month (low, high, number)
CROSS JOIN LATERAL (
    SELECT o.id, o.code, o.status, o.total_amount, o.customer_id, o.customer_name, o.phone,
        o.payment_method, o.payment_status, o.created_at
    FROM orders.orders o
    WHERE (o.id = month.low OR (o.id > month.low AND o.id < month.high))
        AND o.search LIKE $3 AND o.search LIKE $4 AND o.search LIKE $5
        AND o.search LIKE ALL($6::text[]) AND o.created_at >= $7 AND o.created_at < $8
    ORDER BY o.id DESC LIMIT $9
) found
ORDER BY month.number, found.id DESC LIMIT $9;

-- name: orders_found_of_status
-- The same of one status. Where a month has few orders of it, these are read instead, along its
-- index: a frequent word would be found in a hundred times as many.
SELECT found.* FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS month (low, high, number)
CROSS JOIN LATERAL (
    SELECT count(*) < $11 AS are_few FROM (
        SELECT FROM orders.orders o
        WHERE o.status = ANY(ARRAY[$10::text::orders.status])
            AND o.id >= month.low AND o.id < month.high
        ORDER BY o.status DESC, o.id DESC LIMIT $11
    ) counted
) those
CROSS JOIN LATERAL (
    SELECT id, code, status, total_amount, customer_id, customer_name, phone, payment_method,
        payment_status, created_at
    FROM (
        (SELECT o.* FROM orders.orders o
        WHERE those.are_few AND o.status = ANY(ARRAY[$10::text::orders.status])
            AND o.id >= month.low AND o.id < month.high
        ORDER BY o.status DESC, o.id DESC LIMIT $11)
        UNION ALL
        (SELECT o.* FROM orders.orders o
        WHERE NOT those.are_few AND o.status = $10::text::orders.status
            AND (o.id = month.low OR (o.id > month.low AND o.id < month.high))
            AND o.search LIKE $3 AND o.search LIKE $4 AND o.search LIKE $5)
    ) o
    WHERE o.search LIKE ALL($6::text[]) AND o.created_at >= $7 AND o.created_at < $8
    ORDER BY o.id DESC LIMIT $9
) found
ORDER BY month.number, found.id DESC LIMIT $9;

-- name: orders_standing
-- Whether what is kept of these orders, and of the products in them, is still true.
SELECT wanted.id, o.version, c.version AS catalogue
FROM unnest($1::uuid[]) AS wanted (id)
JOIN orders.orders o ON o.id = wanted.id
CROSS JOIN orders.catalogue c;

-- name: order_seen
-- An order with its lines and its history, and what they were read under. All by the parameter, so
-- that partitions are chosen before anything is opened.
SELECT o.id, o.code, o.user_id, o.customer_id, o.customer_name, o.phone, o.address, o.note,
    o.status, o.total_amount, o.payment_method, o.payment_status, o.payment_id, o.version,
    o.expires_at, o.created_at, c.version AS catalogue,
    (SELECT array_agg(
            ROW(l.product_id, p.sku, p.name, l.quantity, l.unit_price) ORDER BY l.product_id)
        FROM orders.lines l JOIN orders.products p ON p.id = l.product_id
        WHERE l.order_id = $1) AS lines,
    (SELECT array_agg(ROW(h.status::text, h.at, h.by_whom, h.reason) ORDER BY h.version)
        FROM orders.history h WHERE h.order_id = $1) AS history
FROM orders.orders o CROSS JOIN orders.catalogue c
WHERE o.id = $1;
