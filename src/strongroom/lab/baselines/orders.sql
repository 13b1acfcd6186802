-- name: customer_of_phone
-- Who is known by this phone number, and the copy of them that the order keeps.
SELECT id, address FROM orders.customers WHERE phone = $1;

-- name: add_customer
-- One customer; who comes second with a new number finds nothing here and looks again.
INSERT INTO orders.customers (id, phone, name, email, address, created_by)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (phone) DO NOTHING RETURNING id, address;

-- name: lock_stock
-- The stock rows of a cart, sorted, held to COMMIT: whoever comes second waits here. The counter
-- is the balance of the `free` account.
SELECT p.id, p.sku, p.price, p.active, a.id AS account, a.balance AS available
FROM ledger.accounts a JOIN orders.products p ON p.id = a.owner_id
WHERE a.owner_id = ANY($1::uuid[]) AND a.purpose = 'free' ORDER BY a.id FOR UPDATE OF a;

-- name: take_stock
-- Of a row that is locked; the counter alone, no entry says why.
UPDATE ledger.accounts SET balance = balance - $2 WHERE id = $1;

-- name: add_code
-- One number of the sequence, the order's from now on.
INSERT INTO orders.codes (number, order_id) VALUES (nextval('orders.numbers'), $1)
RETURNING number;

-- name: add_order
-- One order.
INSERT INTO orders.orders (id, code, user_id, customer_id, customer_name, phone, address, note,
    total_amount, payment_method, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::orders.payment_method,
    now() + make_interval(secs => $11::float8));

-- name: add_line
-- One line of an order.
INSERT INTO orders.lines (order_id, product_id, quantity, unit_price) VALUES ($1, $2, $3, $4);

-- name: add_history
-- The first state of an order.
INSERT INTO orders.history (order_id, version, status, by_whom) VALUES ($1, 1, 'PENDING', $2);

-- name: add_event
-- The event of one order.
INSERT INTO events.log (key, seq, id, type, payload)
VALUES ($1, 1, $2, 'orders.OrderPlaced', $3::text::jsonb);
