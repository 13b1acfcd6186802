-- name: stock_left
-- What is free of products: both sides count it there.
SELECT coalesce(sum(balance), 0)::bigint FROM ledger.accounts
WHERE owner_id = ANY($1::uuid[]) AND purpose = 'free';

-- name: ordered
-- Pieces of products that orders have taken, by product.
SELECT l.product_id, sum(l.quantity)::bigint AS pieces FROM orders.lines l
WHERE l.product_id = ANY($1::uuid[]) GROUP BY l.product_id;

-- name: codes_given
-- Orders of products, their codes and their first states: as many of each, or something is wrong.
SELECT count(DISTINCT o.id) AS orders, count(DISTINCT o.code) AS codes,
    count(DISTINCT h.order_id) AS begun
FROM orders.orders o
LEFT JOIN orders.history h ON h.order_id = o.id AND h.status = 'PENDING'
WHERE EXISTS (
    SELECT FROM orders.lines l WHERE l.order_id = o.id AND l.product_id = ANY($1::uuid[])
);

-- name: products_made
-- Numbers the next one's SKU.
SELECT count(*) FROM orders.products;

-- name: how_many
-- Orders, by the highest of their numbers, and the ids of the first and the last.
SELECT coalesce((SELECT max(number) FROM orders.codes), 0) AS orders,
    (SELECT id FROM orders.orders ORDER BY id LIMIT 1) AS first,
    (SELECT id FROM orders.orders ORDER BY id DESC LIMIT 1) AS last;

-- name: some_orders
-- The first order from each of these ids on.
SELECT o.id, o.code, o.phone, o.customer_name AS name, o.created_at
FROM unnest($1::uuid[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT id, code, phone, customer_name, created_at FROM orders.orders
    WHERE id >= wanted.id ORDER BY id LIMIT 1
) o;

-- name: some_products
-- Products that may be ordered.
SELECT id, sku, name FROM orders.products WHERE active ORDER BY id LIMIT $1;

-- name: orders_overdue
-- Orders whose time to be paid is over, and which nobody has called off yet.
SELECT count(*) FROM orders.orders WHERE status = 'PENDING' AND expires_at <= now();

-- name: begin_of_newest
-- When the oldest of so many newest orders was placed; the first of all, if there are fewer.
SELECT coalesce(
    (SELECT created_at FROM orders.orders ORDER BY id DESC OFFSET $1::bigint LIMIT 1),
    (SELECT created_at FROM orders.orders ORDER BY id LIMIT 1)
);

-- name: files_of_orders
-- Where the room's tables and indexes lie, below the cluster's folder.
SELECT pg_relation_filepath(c.oid) AS path, pg_relation_size(c.oid) AS bytes
FROM pg_class c
WHERE c.relnamespace = to_regnamespace('orders') AND c.relkind IN ('r', 'i')
    AND pg_relation_size(c.oid) > 0;
