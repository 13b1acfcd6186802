-- name: stock_adds_up
-- O1: the free, held and sold pieces of a product are what was received and adjusted, none of them
-- negative, and there are no pieces of a product that is not there.
SELECT coalesce(p.id, a.owner_id) AS product_id, coalesce(s.pieces, 0) AS expected,
    a.pieces AS found, a.accounts, a.least
FROM orders.products p
FULL JOIN (
    SELECT owner_id, count(*) AS accounts, sum(balance) AS pieces, min(balance) AS least
    FROM ledger.accounts
    WHERE unit = 'PIECE:' || owner_id AND purpose IN ('free', 'held', 'sold')
    GROUP BY owner_id
) a ON a.owner_id = p.id
LEFT JOIN (
    SELECT f.owner_id, sum(e.amount) AS pieces
    FROM ledger.accounts f
    JOIN ledger.entries e ON e.account_id = f.id AND e.type IN ('SUPPLY', 'ADJUSTMENT')
    WHERE f.purpose = 'free' AND f.unit = 'PIECE:' || f.owner_id
    GROUP BY f.owner_id
) s ON s.owner_id = coalesce(p.id, a.owner_id)
WHERE (a.accounts = 3 AND a.least >= 0 AND a.pieces = coalesce(s.pieces, 0)
    AND p.id IS NOT NULL) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: supplies_are_counted
-- O1: a product's receipts and adjustments are numbered 1, 2, 3 … up to how many it had.
SELECT coalesce(p.id::text, s.product) AS product_id, p.supplies AS expected, s.supplies AS found,
    s.first, s.last, s.of_others
FROM orders.products p
FULL JOIN (
    SELECT product, count(*) AS supplies, count(DISTINCT number) AS numbers,
        min(number) AS first, max(number) AS last,
        count(*) FILTER (WHERE named <> product) AS of_others
    FROM (
        SELECT substr(unit, 7) AS product, split_part(key, ':', 2) AS named,
            CASE WHEN pg_input_is_valid(split_part(key, ':', 3), 'integer')
                THEN split_part(key, ':', 3)::integer END AS number
        FROM ledger.transfers
        WHERE unit LIKE 'PIECE:%' AND (key LIKE 'SUPPLY:%' OR key LIKE 'ADJUST:%')
    ) t
    GROUP BY product
) s ON s.product = p.id::text
WHERE (CASE p.supplies WHEN 0 THEN s.supplies IS NULL ELSE s.supplies = p.supplies
    AND s.numbers = p.supplies AND s.first = 1 AND s.last = p.supplies AND s.of_others = 0
    END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: pieces_are_where_orders_say
-- O1: what a product holds is in orders that will be shipped, and what it has sold is in those
-- that were and did not come back.
SELECT coalesce(a.owner_id, l.product_id) AS product_id, coalesce(l.held, 0) AS expected,
    a.held AS found, coalesce(l.sold, 0) AS expected_sold, a.sold AS found_sold
FROM (
    SELECT owner_id, sum(balance) FILTER (WHERE purpose = 'held') AS held,
        sum(balance) FILTER (WHERE purpose = 'sold') AS sold
    FROM ledger.accounts
    WHERE unit = 'PIECE:' || owner_id AND purpose IN ('held', 'sold')
    GROUP BY owner_id
) a
FULL JOIN (
    SELECT l.product_id,
        sum(l.quantity) FILTER (WHERE o.status IN ('PENDING', 'CONFIRMED')) AS held,
        sum(l.quantity) FILTER (WHERE o.status IN ('SHIPPED', 'DELIVERED')) AS sold
    FROM orders.lines l JOIN orders.orders o ON o.id = l.order_id
    GROUP BY l.product_id
) l ON l.product_id = a.owner_id
WHERE (a.held = coalesce(l.held, 0) AND a.sold = coalesce(l.sold, 0)) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: held_pieces_end_once
-- O1: the pieces of each line were held once, and then moved once as the order's status says: sold,
-- and perhaps returned; or given back, released or expired. Two moves of two kinds are each of them
-- once, and of the least and the most pieces all.
WITH moves AS (
    SELECT t.order_id, CASE WHEN t.as_keyed THEN a.owner_id END AS product_id,
        count(*) AS moves, bit_or(t.kind) AS kinds, min(e.amount) AS least, max(e.amount) AS most
    FROM (
        SELECT id, CASE split_part(key, ':', 1) WHEN 'HOLD' THEN 1 WHEN 'RELEASE' THEN 2
                WHEN 'EXPIRE' THEN 2 WHEN 'SALE' THEN 4 WHEN 'RETURN' THEN 8 ELSE 16 END AS kind,
            CASE WHEN pg_input_is_valid(split_part(key, ':', 2), 'uuid')
                THEN split_part(key, ':', 2)::uuid END AS order_id,
            unit = 'PIECE:' || split_part(key, ':', 3) AS as_keyed
        FROM ledger.transfers
        WHERE unit LIKE 'PIECE:%' AND key NOT LIKE 'SUPPLY:%' AND key NOT LIKE 'ADJUST:%'
        -- Some forty bytes of each transfer are joined and grouped, not its texts.
        OFFSET 0
    ) t
    JOIN ledger.entries e ON e.transfer_id = t.id AND e.amount > 0
    JOIN ledger.accounts a ON a.id = e.account_id
    GROUP BY 1, 2
)
SELECT coalesce(l.order_id, m.order_id) AS order_id,
    coalesce(l.product_id, m.product_id) AS product_id, o.status, l.quantity AS expected,
    m.least AS found, m.most, m.moves,
    concat_ws(', ', CASE WHEN m.kinds & 1 > 0 THEN 'HOLD' END,
        CASE WHEN m.kinds & 2 > 0 THEN 'RELEASE' END, CASE WHEN m.kinds & 4 > 0 THEN 'SALE' END,
        CASE WHEN m.kinds & 8 > 0 THEN 'RETURN' END, CASE WHEN m.kinds & 16 > 0 THEN 'others' END
    ) AS kinds
FROM orders.lines l
FULL JOIN moves m ON m.order_id = l.order_id AND m.product_id = l.product_id
LEFT JOIN orders.orders o ON o.id = l.order_id
WHERE (m.least = l.quantity AND m.most = l.quantity AND CASE
    WHEN o.status IN ('PENDING', 'CONFIRMED') THEN m.moves = 1 AND m.kinds = 1
    WHEN o.status = 'CANCELLED' THEN m.moves = 2 AND m.kinds = 1 + 2
    WHEN o.status IN ('SHIPPED', 'DELIVERED') THEN m.moves = 2 AND m.kinds = 1 + 4
    WHEN o.status = 'RETURNED' THEN m.moves = 3 AND m.kinds = 1 + 4 + 8
    END) IS NOT TRUE
ORDER BY 1, 2 LIMIT 10;

-- name: totals_are_their_lines
-- O2: an order has lines, and they make its total.
SELECT coalesce(o.id, l.order_id) AS order_id, o.code, l.total AS expected,
    o.total_amount AS found, l.lines
FROM orders.orders o
FULL JOIN (
    SELECT order_id, count(*) AS lines, sum(quantity * unit_price::numeric) AS total
    FROM orders.lines GROUP BY order_id
) l ON l.order_id = o.id
WHERE o.total_amount IS DISTINCT FROM l.total
ORDER BY 1 LIMIT 10;

-- name: orders_take_allowed_steps
-- O3: an order begins PENDING and takes one allowed step after the other, each of them once, its
-- version rising; the last step is where it stands.
SELECT coalesce(o.id, h.order_id) AS order_id, o.status AS expected, h.steps, o.version,
    concat_ws(', ', 'PENDING ' || h.placed, 'CONFIRMED ' || h.confirmed, 'SHIPPED ' || h.shipped,
        'DELIVERED ' || h.delivered, 'CANCELLED ' || h.cancelled, 'RETURNED ' || h.returned
    ) AS found
FROM orders.orders o
FULL JOIN (
    SELECT order_id, count(*) AS steps, max(version) AS last,
        min(version) FILTER (WHERE status = 'PENDING') AS placed,
        min(version) FILTER (WHERE status = 'CONFIRMED') AS confirmed,
        min(version) FILTER (WHERE status = 'SHIPPED') AS shipped,
        min(version) FILTER (WHERE status = 'DELIVERED') AS delivered,
        min(version) FILTER (WHERE status = 'CANCELLED') AS cancelled,
        min(version) FILTER (WHERE status = 'RETURNED') AS returned
    FROM orders.history GROUP BY order_id
) h ON h.order_id = o.id
WHERE (h.placed = 1 AND h.last <= o.version AND CASE o.status
    WHEN 'PENDING' THEN h.steps = 1
    WHEN 'CONFIRMED' THEN h.steps = 2 AND h.placed < h.confirmed
    WHEN 'SHIPPED' THEN h.steps = 3 AND h.placed < h.confirmed AND h.confirmed < h.shipped
    WHEN 'DELIVERED' THEN h.steps = 4 AND h.placed < h.confirmed AND h.confirmed < h.shipped
        AND h.shipped < h.delivered
    WHEN 'CANCELLED' THEN h.steps = num_nonnulls(h.placed, h.confirmed, h.cancelled)
        AND h.placed < coalesce(h.confirmed, h.cancelled)
        AND coalesce(h.confirmed, h.placed) < h.cancelled
    WHEN 'RETURNED' THEN
        h.steps = num_nonnulls(h.placed, h.confirmed, h.shipped, h.delivered, h.returned)
        AND h.placed < h.confirmed AND h.confirmed < h.shipped
        AND h.shipped < coalesce(h.delivered, h.returned)
        AND coalesce(h.delivered, h.shipped) < h.returned
    END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: codes_are_unique
-- O4: no two orders have the same code, whatever their months. Grouped under another collation, so
-- that the tables answer and no index.
SELECT code COLLATE "C" AS code, 1 AS expected, count(*) AS found, min(id::text) AS first_order_id
FROM orders.orders GROUP BY 1 HAVING count(*) > 1
ORDER BY 1 LIMIT 10;

-- name: orders_have_their_codes
-- O4: an order was given one number, which its code says, and a number one order.
SELECT coalesce(o.id, c.order_id) AS order_id, c.number, c.numbers, o.code AS found,
    'SON' || lpad(c.number::text, greatest(6, length(c.number::text)), '0') AS expected
FROM orders.orders o
FULL JOIN (
    SELECT order_id, min(number) AS number, count(*) AS numbers
    FROM orders.codes GROUP BY order_id
) c ON c.order_id = o.id
WHERE (c.numbers = 1 AND o.code
    = 'SON' || lpad(c.number::text, greatest(6, length(c.number::text)), '0')) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: orders_are_cancelled_or_shipped
-- O5: the pieces of an order were sold or given back, never both, and so says its history.
SELECT 'ledger' AS found_in, s.order_id, s.key AS first, g.key AS second
FROM (
    SELECT split_part(key, ':', 2) AS order_id, min(key) AS key
    FROM ledger.transfers
    WHERE unit LIKE 'PIECE:%' AND (key LIKE 'RELEASE:%' OR key LIKE 'EXPIRE:%')
    GROUP BY 1
) g
JOIN (
    SELECT split_part(key, ':', 2) AS order_id, key
    FROM ledger.transfers WHERE unit LIKE 'PIECE:%' AND key LIKE 'SALE:%'
) s ON s.order_id = g.order_id
UNION ALL
SELECT 'history', s.order_id::text, 'SHIPPED', 'CANCELLED'
FROM orders.history s
JOIN orders.history c ON c.order_id = s.order_id AND c.status = 'CANCELLED'
WHERE s.status = 'SHIPPED'
ORDER BY 2, 1, 3 LIMIT 10;

-- name: status_rollups_equal_their_orders
-- O6: what a day's rollup says by status is what its orders come to, unless the day was restated;
-- a day without rollups has none.
WITH made AS (
    SELECT c.day, c.status, c.orders, coalesce(l.pieces, 0) AS pieces, c.amount
    FROM (
        SELECT orders.day_of(created_at) AS day, status, count(*) AS orders,
            sum(total_amount) AS amount
        FROM orders.orders GROUP BY 1, 2
    ) c
    LEFT JOIN (
        SELECT orders.day_of(o.created_at) AS day, o.status, sum(l.quantity) AS pieces
        FROM orders.orders o JOIN orders.lines l ON l.order_id = o.id GROUP BY 1, 2
    ) l ON l.day = c.day AND l.status = c.status
    WHERE c.day IN (SELECT day FROM orders.rolled_days)
)
SELECT coalesce(m.day, r.day) AS day, coalesce(m.status, r.status) AS status,
    m.orders AS expected, r.orders AS found, m.pieces AS expected_pieces,
    r.pieces AS found_pieces, m.amount AS expected_amount, r.amount AS found_amount
FROM made m
FULL JOIN orders.order_days r ON r.day = m.day AND r.status = m.status
LEFT JOIN (SELECT DISTINCT day FROM orders.restated) s ON s.day = coalesce(m.day, r.day)
WHERE s.day IS NULL
    AND (r.orders = m.orders AND r.pieces = m.pieces AND r.amount = m.amount) IS NOT TRUE
ORDER BY 1, 2 LIMIT 10;

-- name: product_rollups_equal_their_orders
-- O6: what a day's rollup says by product is what its orders that stand come to, in the same way.
WITH made AS (
    SELECT orders.day_of(o.created_at) AS day, l.product_id, count(*) AS orders,
        sum(l.quantity) AS pieces, sum(l.quantity * l.unit_price) AS amount
    FROM orders.orders o JOIN orders.lines l ON l.order_id = o.id
    WHERE o.status NOT IN ('CANCELLED', 'RETURNED')
        AND orders.day_of(o.created_at) IN (SELECT day FROM orders.rolled_days)
    GROUP BY 1, 2
)
SELECT coalesce(m.day, r.day) AS day, coalesce(m.product_id, r.product_id) AS product_id,
    m.orders AS expected, r.orders AS found, m.pieces AS expected_pieces,
    r.pieces AS found_pieces, m.amount AS expected_amount, r.amount AS found_amount
FROM made m
FULL JOIN orders.product_days r ON r.day = m.day AND r.product_id = m.product_id
LEFT JOIN (SELECT DISTINCT day FROM orders.restated) s ON s.day = coalesce(m.day, r.day)
WHERE s.day IS NULL
    AND (r.orders = m.orders AND r.pieces = m.pieces AND r.amount = m.amount) IS NOT TRUE
ORDER BY 1, 2 LIMIT 10;

-- name: customer_rollups_equal_their_orders
-- O6: what a day's rollup says by customer is what its orders that stand come to, in the same way.
WITH made AS (
    SELECT orders.day_of(created_at) AS day, customer_id, count(*) AS orders,
        sum(total_amount) AS amount
    FROM orders.orders
    WHERE status NOT IN ('CANCELLED', 'RETURNED')
        AND orders.day_of(created_at) IN (SELECT day FROM orders.rolled_days)
    GROUP BY 1, 2
)
SELECT coalesce(m.day, r.day) AS day, coalesce(m.customer_id, r.customer_id) AS customer_id,
    m.orders AS expected, r.orders AS found, m.amount AS expected_amount, r.amount AS found_amount
FROM made m
FULL JOIN orders.customer_days r ON r.day = m.day AND r.customer_id = m.customer_id
LEFT JOIN (SELECT DISTINCT day FROM orders.restated) s ON s.day = coalesce(m.day, r.day)
WHERE s.day IS NULL AND (r.orders = m.orders AND r.amount = m.amount) IS NOT TRUE
ORDER BY 1, 2 LIMIT 10;

-- name: orders_are_paid_as_they_say
-- O7: an order is paid by one payment of its own, in full, or in cash when it is delivered; it is
-- refunded when it is off, and what nobody paid for is not shipped but for cash.
SELECT o.id AS order_id, o.code, o.status, o.payment_method, o.payment_status, o.payment_id,
    o.total_amount AS expected, p.captured AS found, p.status AS told, r.amount AS refund
FROM orders.orders o
LEFT JOIN payments.payments p ON p.id = o.payment_id
LEFT JOIN payments.refunds r ON r.payment_id = o.payment_id
WHERE (CASE o.payment_status
    WHEN 'SUCCESS' THEN CASE
        WHEN o.total_amount = 0 THEN
            o.payment_id IS NULL AND o.status NOT IN ('CANCELLED', 'RETURNED')
        WHEN o.payment_id = o.id THEN o.payment_method = 'COD' AND o.status = 'DELIVERED'
        ELSE o.status IN ('CONFIRMED', 'SHIPPED', 'DELIVERED') AND p.payee = 'orders'
            AND p.order_id = o.id AND p.status = 'SUCCESS' AND p.captured = o.total_amount
            AND p.method::text = o.payment_method::text AND r.id IS NULL
        END
    WHEN 'REFUNDED' THEN o.total_amount > 0 AND CASE
        WHEN o.payment_id = o.id THEN o.payment_method = 'COD' AND o.status = 'RETURNED'
        ELSE o.status IN ('CANCELLED', 'RETURNED') AND p.payee = 'orders'
            AND p.order_id = o.id AND p.status = 'SUCCESS' AND p.captured = o.total_amount
            AND p.method::text = o.payment_method::text AND r.amount = o.total_amount
        END
    WHEN 'VOID' THEN
        o.payment_id IS DISTINCT FROM o.id AND o.status IN ('CANCELLED', 'RETURNED')
    WHEN 'FAILED' THEN o.total_amount > 0 AND o.status = 'PENDING'
        AND o.payment_method <> 'COD' AND p.order_id = o.id AND p.status = 'FAILED'
    ELSE o.total_amount > 0 AND o.payment_id IS DISTINCT FROM o.id AND (o.status = 'PENDING'
        OR o.payment_method = 'COD' AND o.status IN ('CONFIRMED', 'SHIPPED'))
    END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: captured_money_pays_or_goes_back
-- O7: money that a provider took has paid the order it was asked for, in full, or all of it goes
-- back.
SELECT p.id AS payment_id, p.order_id, p.status, o.status AS order_status, o.payment_status,
    p.captured AS expected, r.amount AS found
FROM payments.payments p
LEFT JOIN orders.orders o ON o.id = p.order_id
LEFT JOIN payments.refunds r ON r.payment_id = p.id
WHERE p.payee = 'orders' AND (p.amount = o.total_amount
    AND (p.status = 'SUCCESS') = coalesce(p.captured = p.amount, false)
    AND coalesce(r.amount, 0) = CASE
        WHEN o.payment_id = p.id AND o.payment_status = 'SUCCESS' THEN 0
        ELSE coalesce(p.captured, 0) END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: order_money_is_in_the_ledger
-- O7: what was captured, or collected by a courier, is in the ledger once, and so is what goes
-- back; nothing else is.
WITH posted AS (
    SELECT payment_id, coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS taken,
        coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS given_back, count(*) AS moves
    FROM (
        SELECT CASE WHEN split_part(t.key, ':', 1)
                    = CASE WHEN e.amount > 0 THEN 'PAYMENT' ELSE 'PAYBACK' END
                AND pg_input_is_valid(split_part(t.key, ':', 2), 'uuid')
                THEN split_part(t.key, ':', 2)::uuid END AS payment_id, e.amount
        FROM ledger.accounts a
        JOIN ledger.entries e ON e.account_id = a.id
        JOIN ledger.transfers t ON t.id = e.transfer_id AND t.unit = 'VND'
        WHERE a.purpose = 'revenue' AND a.unit = 'VND'
    ) m
    GROUP BY payment_id
), due AS (
    SELECT p.id AS payment_id, p.order_id, p.captured AS taken, coalesce(r.amount, 0) AS given_back
    FROM payments.payments p
    LEFT JOIN payments.refunds r ON r.payment_id = p.id
    WHERE p.payee = 'orders' AND (p.captured IS NOT NULL OR r.id IS NOT NULL)
    UNION ALL
    SELECT id, id, total_amount, CASE payment_status WHEN 'REFUNDED' THEN total_amount ELSE 0 END
    FROM orders.orders WHERE payment_id = id
)
SELECT coalesce(d.payment_id, m.payment_id) AS payment_id, d.order_id, d.taken AS expected,
    m.taken AS found, d.given_back AS expected_back, m.given_back AS found_back, m.moves
FROM due d
FULL JOIN posted m ON m.payment_id = d.payment_id
WHERE (m.taken = d.taken AND m.given_back = d.given_back
    AND m.moves = CASE d.given_back WHEN 0 THEN 1 ELSE 2 END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: revenue_is_what_is_paid
-- O7: what the shop has earned is what its paid orders come to, and couriers owe what was paid in
-- cash.
SELECT w.purpose, w.expected, coalesce(a.balance, 0) AS found
FROM (
    SELECT coalesce(sum(total_amount), 0) AS total,
        coalesce(sum(total_amount) FILTER (WHERE payment_id = id), 0) AS in_cash
    FROM orders.orders WHERE payment_status = 'SUCCESS'
) o
CROSS JOIN LATERAL (VALUES ('revenue', o.total), ('clearing:cod', -o.in_cash))
    AS w (purpose, expected)
LEFT JOIN (
    SELECT purpose, sum(balance) AS balance FROM ledger.accounts
    WHERE purpose IN ('revenue', 'clearing:cod') GROUP BY purpose
) a ON a.purpose = w.purpose
WHERE coalesce(a.balance, 0) <> w.expected
ORDER BY 1 LIMIT 10;

-- name: order_steps_have_their_events
-- E1: each step of an order that was not imported was announced once, and only such as were taken.
SELECT coalesce(h.order_id, l.key) AS order_id, coalesce(h.status, l.status) AS status,
    h.steps AS expected, l.events AS found
FROM (
    SELECT order_id, status, count(*) AS steps FROM orders.history
    WHERE by_whom <> 'import' GROUP BY order_id, status
) h
FULL JOIN (
    SELECT key, CASE type WHEN 'orders.OrderPlaced' THEN 'PENDING'
            WHEN 'orders.OrderConfirmed' THEN 'CONFIRMED' WHEN 'orders.OrderShipped' THEN 'SHIPPED'
            WHEN 'orders.OrderDelivered' THEN 'DELIVERED'
            WHEN 'orders.OrderCancelled' THEN 'CANCELLED' ELSE 'RETURNED'
        END::orders.status AS status, count(*) AS events
    FROM events.log
    WHERE type IN ('orders.OrderPlaced', 'orders.OrderConfirmed', 'orders.OrderShipped',
        'orders.OrderDelivered', 'orders.OrderCancelled', 'orders.OrderReturned')
    GROUP BY 1, 2
) l ON l.key = h.order_id AND l.status = h.status
WHERE h.steps IS DISTINCT FROM l.events
ORDER BY 1, 2 LIMIT 10;

-- name: supplies_have_their_events
-- E1: each receipt and adjustment that was not imported was announced, for its product.
SELECT coalesce(t.product, l.product) AS product_id, coalesce(t.supplies, 0) AS expected,
    coalesce(l.events, 0) AS found
FROM (
    SELECT substr(unit, 7) AS product, count(*) AS supplies FROM ledger.transfers
    WHERE unit LIKE 'PIECE:%' AND (key LIKE 'SUPPLY:%' OR key LIKE 'ADJUST:%')
        AND created_by <> 'import'
    GROUP BY 1
) t
FULL JOIN (
    SELECT key::text AS product, count(*) AS events
    FROM events.log WHERE type = 'orders.StockMoved' GROUP BY 1
) l ON l.product = t.product
WHERE coalesce(t.supplies, 0) <> coalesce(l.events, 0)
ORDER BY 1 LIMIT 10;
