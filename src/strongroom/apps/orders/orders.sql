-- name: read_products
-- The `free` account guards a product: whoever holds that may read it without a lock.
SELECT id, sku, name, price, active, low_stock_at, supplies
FROM orders.products WHERE id = ANY($1::uuid[]) ORDER BY id;

-- name: update_products
-- All that an operator may change of a product, and the count of its supplies.
UPDATE orders.products p SET sku = new.sku, name = new.name, price = new.price,
    active = new.active, low_stock_at = new.low_stock_at, supplies = new.supplies
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::boolean[], $6::bigint[],
    $7::integer[])
    AS new (id, sku, name, price, active, low_stock_at, supplies)
WHERE p.id = new.id;

-- name: skus_taken
-- A SKU names one product.
SELECT sku FROM orders.products WHERE sku = ANY($1::text[]);

-- name: catalogue_changed
-- Lists read under an older version are not shown again, on any process.
UPDATE orders.catalogue SET version = version + 1;

-- name: hold_phones
-- Two who order for the same new phone number wait for each other: a customer is made once.
SELECT pg_advisory_xact_lock(hashtextextended('orders.customers:' || phone, 0))
FROM unnest($1::text[]) AS phone;

-- name: customers_of_phones
-- Who is known by these phone numbers.
SELECT id, phone, name, email, address, created_by
FROM orders.customers WHERE phone = ANY($1::text[]);

-- name: lock_customers
-- Who changes a customer holds the row.
SELECT id, phone, name, email, address, created_by
FROM orders.customers WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: read_customers
-- What an order copies of its customer.
SELECT id, phone, name, email, address, created_by
FROM orders.customers WHERE id = ANY($1::uuid[]);

-- name: update_customers
-- What an operator may change of a customer.
UPDATE orders.customers c SET name = new.name, email = new.email, address = new.address
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS new (id, name, email, address)
WHERE c.id = new.id;

-- name: customers_of_users
-- For whom these users have ordered before, and what they said then: a phone number alone must not
-- lead to what others have said of it.
SELECT w.customer_id, w.user_id, newest.customer_name, newest.address
FROM unnest($1::uuid[], $2::uuid[]) AS w (customer_id, user_id)
CROSS JOIN LATERAL (
    SELECT o.customer_name, o.address FROM orders.orders o
    WHERE o.customer_id = w.customer_id AND o.user_id = w.user_id ORDER BY o.id DESC LIMIT 1
) newest;

-- name: take_numbers
-- A block of numbers for a group, without a lock; and the last one that was given without a gap.
SELECT nextval('orders.numbers') AS number, (SELECT last FROM orders.gapless) AS gapless
FROM generate_series(1, $1);

-- name: pass_gapless
-- Numbers that were given without a gap are not given again: the sequence goes on behind them.
SELECT setval('orders.numbers', g.last)
FROM orders.gapless g, orders.numbers s WHERE s.last_value <= g.last;

-- name: hold_gapless
-- Without gaps numbers are given one group after the other; the sequence may have given some.
SELECT greatest(last, (SELECT last_value FROM orders.numbers WHERE is_called))
FROM orders.gapless FOR NO KEY UPDATE;

-- name: update_gapless
-- The last number that this group has given.
UPDATE orders.gapless SET last = (SELECT max(number) FROM orders.codes);

-- name: lock_orders
-- A step is taken by who holds the order, and by one of them.
-- Joined by id, each is looked for in its own month alone.
SELECT o.id, o.code, o.user_id, o.customer_id, o.customer_name, o.phone, o.address, o.note,
    o.status, o.total_amount, o.payment_method, o.payment_status, o.payment_id, o.version,
    o.expires_at, o.created_at
FROM unnest($1::uuid[]) AS wanted (id) JOIN orders.orders o ON o.id = wanted.id
ORDER BY o.id FOR NO KEY UPDATE OF o;

-- name: update_orders
-- What becomes of orders.
UPDATE orders.orders o SET status = new.status::orders.status,
    payment_method = new.payment_method::orders.payment_method,
    payment_status = new.payment_status::orders.payment_status,
    payment_id = new.payment_id, version = new.version
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::integer[])
    AS new (id, status, payment_method, payment_status, payment_id, version)
WHERE o.id = new.id;

-- name: lines_of
-- The lines of orders never change.
SELECT l.order_id, l.product_id, l.quantity, l.unit_price
FROM unnest($1::uuid[]) AS wanted (id) JOIN orders.lines l ON l.order_id = wanted.id
ORDER BY l.order_id, l.product_id;

-- name: orders_due
-- Unpaid and unconfirmed orders whose time is over, by the database's clock.
SELECT id FROM orders.orders
WHERE status = 'PENDING' AND expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1;

-- name: restate
-- These days are read from their orders again until they are rolled up anew.
INSERT INTO orders.restated (day)
SELECT DISTINCT orders.day_of(at) FROM unnest($1::timestamptz[]) AS at;

-- name: payments_of_orders
-- Where money may have to go back to is known before anything is locked.
SELECT o.payment_id FROM unnest($1::uuid[]) AS wanted (id) JOIN orders.orders o ON o.id = wanted.id
WHERE o.payment_id IS NOT NULL;
