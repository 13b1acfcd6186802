-- name: catalogue_version
-- Under which version events and ticket types stand: every change of them raises it.
SELECT version FROM ticketing.catalogue;

-- name: events_ahead
-- A page by time: each status is read along its index, and only as far as the page goes.
SELECT found.id, found.starts_at, 0 AS rank
FROM unnest($1::text[]) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT e.id, e.starts_at FROM ticketing.events e
    WHERE e.status = wanted.status::ticketing.event_status
        AND e.starts_at >= coalesce($2, '-infinity'::timestamptz)
        AND e.starts_at < coalesce($3, 'infinity'::timestamptz)
        AND (e.starts_at, e.id) > (coalesce($4, '-infinity'::timestamptz),
            coalesce($5, '00000000-0000-0000-0000-000000000000'::uuid))
    ORDER BY e.starts_at, e.id LIMIT $6
) found
ORDER BY found.starts_at, found.id LIMIT $6;

-- name: events_found
-- A page by how well the words fit, then by time; the rank is a number that a cursor can name.
SELECT id, starts_at, rank FROM (
    SELECT e.id, e.starts_at, (ts_rank(e.search, asked.words) * 1000000)::integer AS rank
    FROM (SELECT ticketing.asked($7) AS words) asked
    JOIN ticketing.events e ON e.search @@ asked.words
    WHERE e.status = ANY($1::text[]::ticketing.event_status[])
        AND e.starts_at >= coalesce($2, '-infinity'::timestamptz)
        AND e.starts_at < coalesce($3, 'infinity'::timestamptz)
) found
WHERE $5::uuid IS NULL
    OR (-rank, starts_at, id) > (-$8::integer, $4::timestamptz, $5::uuid)
ORDER BY -rank, starts_at, id LIMIT $6;

-- name: event_named
-- A path names an event by its slug or by its id.
SELECT id FROM ticketing.events WHERE slug = $1 OR id = $2;

-- name: events_seen
-- What a page says of its events.
SELECT id, slug, name, description, banner_url, location, starts_at, ends_at, status, created_by
FROM ticketing.events WHERE id = ANY($1::uuid[]);

-- name: free_seats
-- What is available of a page's ticket types, in one statement, with its time.
SELECT owner_id AS ticket_type_id, balance AS available, clock_timestamp() AS as_of
FROM ledger.accounts
WHERE owner_id = ANY($1::uuid[]) AND purpose = 'free' AND unit = 'SEAT:' || owner_id;

-- name: reservation_seen
-- A reservation is over the instant its time is, whether or not the sweep has seen it.
SELECT id, user_id, event_id,
    CASE WHEN status = 'ACTIVE' AND expires_at <= clock_timestamp() THEN 'EXPIRED'
        ELSE status::text END AS status,
    total_amount, expires_at
FROM ticketing.reservations WHERE id = $1;

-- name: orders_of_user
-- A buyer's orders, newest first; an unpaid one is over with its reservation.
SELECT o.id, o.user_id, o.reservation_id, o.event_id, o.total_amount, o.owner_name, o.language,
    o.payment_id, o.late, o.created_at, o.paid_at,
    CASE WHEN o.status = 'PENDING' AND r.status = 'ACTIVE' AND r.expires_at <= clock_timestamp()
        THEN 'TIMEOUT' ELSE o.status::text END AS status
FROM ticketing.orders o LEFT JOIN ticketing.reservations r ON r.id = o.reservation_id
WHERE o.user_id = $1 AND o.id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ORDER BY o.id DESC LIMIT $3;

-- name: order_seen
-- One order; an unpaid one is over with its reservation.
SELECT o.id, o.user_id, o.reservation_id, o.event_id, o.total_amount, o.owner_name, o.language,
    o.payment_id, o.late, o.created_at, o.paid_at,
    CASE WHEN o.status = 'PENDING' AND r.status = 'ACTIVE' AND r.expires_at <= clock_timestamp()
        THEN 'TIMEOUT' ELSE o.status::text END AS status
FROM ticketing.orders o LEFT JOIN ticketing.reservations r ON r.id = o.reservation_id
WHERE o.id = $1;

-- name: items_of_orders
-- What a page of orders is for, at the prices that were promised.
SELECT order_id, ticket_type_id, quantity, unit_price FROM ticketing.order_items
WHERE order_id = ANY($1::uuid[]) ORDER BY order_id, ticket_type_id;

-- name: tickets_seen
-- The tickets of a page of orders.
SELECT order_id, event_id, ticket_type_id, code, status FROM ticketing.tickets
WHERE order_id = ANY($1::uuid[]) ORDER BY id;

-- name: ticket_paper
-- All that the papers of one ticket say.
SELECT k.code, k.status, k.owner_name, k.ticket_type_id, o.id AS order_id, o.user_id, o.language,
    t.name AS type_name, i.unit_price, e.id AS event_id, e.name, e.location, e.starts_at,
    e.ends_at, e.banner_url, e.status AS event_status, e.updated_at
FROM ticketing.tickets k
JOIN ticketing.orders o ON o.id = k.order_id
JOIN ticketing.order_items i ON i.order_id = k.order_id AND i.ticket_type_id = k.ticket_type_id
JOIN ticketing.ticket_types t ON t.id = k.ticket_type_id
JOIN ticketing.events e ON e.id = k.event_id
WHERE k.code = $1;

-- name: slug_of_event
-- Whether there is an event, and what its files are called.
SELECT slug FROM ticketing.events WHERE id = $1;

-- name: attendees
-- Who comes to an event, in pages that do not shift while more tickets are sold.
SELECT k.id, k.code, k.ticket_type_id, t.name AS type_name, k.owner_name, k.status,
    k.checked_in_at, k.gate, k.order_id, o.user_id
FROM ticketing.tickets k
JOIN ticketing.ticket_types t ON t.id = k.ticket_type_id
JOIN ticketing.orders o ON o.id = k.order_id
WHERE k.event_id = $1 AND k.id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
ORDER BY k.id LIMIT $3;

-- name: sales_by_type
-- What became of the seats of an event: seats by their accounts, money by paid orders.
SELECT t.id, t.name, t.price, t.quantity, a.free, a.held, a.sold,
    coalesce(k.checked_in, 0) AS checked_in, coalesce(i.revenue, 0) AS revenue
FROM ticketing.ticket_types t
JOIN (
    SELECT owner_id, (sum(balance) FILTER (WHERE purpose = 'free'))::bigint AS free,
        (sum(balance) FILTER (WHERE purpose = 'held'))::bigint AS held,
        (sum(balance) FILTER (WHERE purpose = 'sold'))::bigint AS sold
    FROM ledger.accounts
    WHERE owner_id IN (SELECT id FROM ticketing.ticket_types WHERE event_id = $1)
        AND unit = 'SEAT:' || owner_id
    GROUP BY owner_id
) a ON a.owner_id = t.id
LEFT JOIN (
    SELECT ticket_type_id, count(*) AS checked_in FROM ticketing.tickets
    WHERE event_id = $1 AND status = 'CHECKED_IN' GROUP BY ticket_type_id
) k ON k.ticket_type_id = t.id
LEFT JOIN (
    SELECT i.ticket_type_id, sum(i.quantity * i.unit_price)::bigint AS revenue
    FROM ticketing.orders o JOIN ticketing.order_items i ON i.order_id = o.id
    WHERE o.event_id = $1 AND o.status = 'PAID' GROUP BY i.ticket_type_id
) i ON i.ticket_type_id = t.id
ORDER BY t.price, t.id;

-- name: sales_by_day
-- Paid orders by the day they were paid, by the clocks of the given zone.
SELECT (o.paid_at AT TIME ZONE $2)::date AS day, count(DISTINCT o.id) AS orders,
    sum(i.quantity)::bigint AS seats, sum(i.quantity * i.unit_price)::bigint AS revenue
FROM ticketing.orders o JOIN ticketing.order_items i ON i.order_id = o.id
WHERE o.event_id = $1 AND o.status = 'PAID'
GROUP BY 1 ORDER BY 1;

-- name: money_of_event
-- What the organiser's account has taken in and given back: the report has to agree with it.
SELECT coalesce(sum(amount) FILTER (WHERE type = 'PAYMENT'), 0)::bigint AS taken,
    coalesce(-sum(amount) FILTER (WHERE type = 'REFUND'), 0)::bigint AS returned,
    count(*) FILTER (WHERE type = 'REFUND') AS refunds,
    coalesce(sum(amount), 0)::bigint AS balance, now() AS as_of
FROM ledger.statement
WHERE account_id = (
    SELECT id FROM ledger.accounts WHERE owner_id = $1 AND purpose = $2 AND unit = $3
);

-- name: double_entries
-- Tickets that let somebody in twice: gates that were cut off could not know of each other.
SELECT k.id, k.code, k.ticket_type_id, k.owner_name, s.gate, s.scanned_at, s.offline,
    s.scanned_by
FROM (
    SELECT ticket_id FROM ticketing.scans
    WHERE event_id = $1 AND ticket_id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
        AND (result = 'ADMITTED' OR (offline AND result = 'ALREADY_CHECKED_IN'))
    GROUP BY ticket_id HAVING count(*) > 1 ORDER BY ticket_id LIMIT $3
) twice
JOIN ticketing.tickets k ON k.id = twice.ticket_id
JOIN ticketing.scans s ON s.ticket_id = k.id
    AND (s.result = 'ADMITTED' OR (s.offline AND s.result = 'ALREADY_CHECKED_IN'))
ORDER BY k.id, s.scanned_at, s.id;
