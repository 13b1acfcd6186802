-- name: lock_events
-- Whoever changes an event holds its row, so that nobody sells its seats meanwhile.
SELECT id, slug, name, description, banner_url, location, starts_at, ends_at, status, created_by
FROM ticketing.events WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: read_events
-- What an event is before anything is locked; decisions look again.
SELECT id, status, ends_at FROM ticketing.events WHERE id = ANY($1::uuid[]);

-- name: share_events
-- Whoever sells or pays shares the event, so that it is not called off meanwhile.
SELECT id, slug, name, description, banner_url, location, starts_at, ends_at, status, created_by
FROM ticketing.events WHERE id = ANY($1::uuid[]) ORDER BY id FOR SHARE;

-- name: update_events
-- All that an operator may change of an event.
UPDATE ticketing.events e SET slug = new.slug, name = new.name, description = new.description,
    banner_url = new.banner_url, location = new.location, starts_at = new.starts_at,
    ends_at = new.ends_at, status = new.status::ticketing.event_status, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
    $7::timestamptz[], $8::timestamptz[], $9::text[])
    AS new (id, slug, name, description, banner_url, location, starts_at, ends_at, status)
WHERE e.id = new.id;

-- name: slugs_taken
-- A slug names one event for ever.
SELECT slug FROM ticketing.events WHERE slug = ANY($1::text[]);

-- name: catalogue_changed
-- Pages read under an older version are not shown again, on any process.
UPDATE ticketing.catalogue SET version = version + 1;

-- name: events_to_end
-- Events that are over by the database's clock.
SELECT id FROM ticketing.events WHERE status = 'PUBLISHED' AND ends_at <= clock_timestamp()
ORDER BY ends_at LIMIT 100;

-- name: read_ticket_types
-- Where a ticket type belongs never changes, so this may be read before anything is locked.
SELECT id, event_id FROM ticketing.ticket_types WHERE id = ANY($1::uuid[]);

-- name: share_ticket_types
-- The `free` account guards a ticket type; its event is shared against being called off.
SELECT t.id, t.event_id, t.name, t.price, t.quantity, t.supplies, t.sale_starts_at,
    t.sale_ends_at, t.per_user_limit, e.status AS event_status, e.ends_at AS event_ends_at
FROM ticketing.ticket_types t JOIN ticketing.events e ON e.id = t.event_id
WHERE t.id = ANY($1::uuid[]) ORDER BY e.id FOR SHARE OF e;

-- name: update_ticket_types
-- All that an operator may change of a ticket type.
UPDATE ticketing.ticket_types t SET name = new.name, price = new.price, quantity = new.quantity,
    supplies = new.supplies, sale_starts_at = new.sale_starts_at,
    sale_ends_at = new.sale_ends_at, per_user_limit = new.per_user_limit
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::integer[],
    $6::timestamptz[], $7::timestamptz[], $8::integer[])
    AS new (id, name, price, quantity, supplies, sale_starts_at, sale_ends_at, per_user_limit)
WHERE t.id = new.id;

-- name: types_of_events
-- Ticket types with what is free of them, for an event's answer.
SELECT t.event_id, t.id, t.name, t.price, t.quantity, t.sale_starts_at, t.sale_ends_at,
    t.per_user_limit, a.balance AS available, clock_timestamp() AS as_of
FROM ticketing.ticket_types t
JOIN ledger.accounts a ON a.owner_id = t.id AND a.purpose = 'free' AND a.unit = 'SEAT:' || t.id
WHERE t.event_id = ANY($1::uuid[]) ORDER BY t.price, t.id;

-- name: seats_of_users
-- How many seats of a ticket type a user has, held or bought: the per-user limit is against it.
SELECT l.ticket_type_id, l.user_id, sum(l.quantity)::bigint AS quantity
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (ticket_type_id, user_id)
JOIN ticketing.reservation_lines l USING (ticket_type_id, user_id)
JOIN ticketing.reservations r ON r.id = l.reservation_id
WHERE r.status = 'COMPLETED' OR (r.status = 'ACTIVE' AND r.expires_at > clock_timestamp())
GROUP BY 1, 2;

-- name: holders
-- Who holds a reservation of an event already, where one at a time is allowed.
SELECT r.event_id, r.user_id FROM ticketing.reservations r
JOIN ticketing.ticket_types t ON t.event_id = r.event_id
WHERE t.id = ANY($1::uuid[]) AND r.user_id = ANY($2::uuid[])
    AND r.status = 'ACTIVE' AND r.expires_at > clock_timestamp();

-- name: lock_reservations
-- A reservation is completed, released or expired by who holds it, and by one of them.
SELECT id, user_id, event_id, status, total_amount, expires_at, ended_at
FROM ticketing.reservations WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: update_reservations
-- How reservations ended.
UPDATE ticketing.reservations r SET status = new.status::ticketing.reservation_status,
    ended_at = new.ended_at
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS new (id, status, ended_at)
WHERE r.id = new.id;

-- name: lines_of
-- The lines of reservations never change.
SELECT reservation_id, ticket_type_id, user_id, quantity, unit_price, per_user_limit
FROM ticketing.reservation_lines WHERE reservation_id = ANY($1::uuid[])
ORDER BY reservation_id, ticket_type_id;

-- name: reservations_due
-- Whose time is over, by the database's clock.
SELECT id FROM ticketing.reservations
WHERE status = 'ACTIVE' AND expires_at <= clock_timestamp() ORDER BY expires_at LIMIT $1;

-- name: expired_of_types
-- Dead reservations whose seats somebody wants now, before the sweep has given them back.
SELECT dead.id
FROM unnest($1::uuid[], $2::bigint[]) AS wanted (ticket_type_id, quantity)
CROSS JOIN LATERAL (
    SELECT r.id FROM ticketing.reservations r
    JOIN ticketing.reservation_lines l ON l.reservation_id = r.id
    WHERE r.status = 'ACTIVE' AND r.expires_at <= clock_timestamp()
        AND l.ticket_type_id = wanted.ticket_type_id
    ORDER BY r.expires_at LIMIT wanted.quantity
) dead;

-- name: reservations_read
-- Where a reservation belongs never changes, so this may be read before anything is locked.
SELECT r.id, r.event_id, r.total_amount, o.id AS order_id
FROM ticketing.reservations r LEFT JOIN ticketing.orders o ON o.reservation_id = r.id
WHERE r.id = ANY($1::uuid[]);

-- name: open_reservations
-- What an event that was called off still holds.
SELECT id FROM ticketing.reservations WHERE event_id = $1 AND status = 'ACTIVE'
ORDER BY id LIMIT $2;

-- name: lock_orders
-- An order is paid, cancelled or timed out by who holds it.
SELECT id, reservation_id, user_id, event_id, status, total_amount, owner_name, language,
    payment_id, late, paid_at, created_at
FROM ticketing.orders WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: update_orders
-- What becomes of orders.
UPDATE ticketing.orders o SET status = new.status::ticketing.order_status,
    payment_id = new.payment_id, late = new.late, paid_at = new.paid_at
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::timestamptz[])
    AS new (id, status, payment_id, late, paid_at)
WHERE o.id = new.id;

-- name: read_orders
-- Where an order belongs never changes, so this may be read before anything is locked.
SELECT id, reservation_id, event_id FROM ticketing.orders WHERE id = ANY($1::uuid[]);

-- name: orders_to_cancel
-- Orders of an event that was called off, paid or still waiting.
SELECT id, reservation_id, payment_id FROM ticketing.orders
WHERE event_id = $1 AND status IN ('PAID', 'PENDING') ORDER BY id LIMIT $2;

-- name: ticket_ids_of_orders
-- Which tickets an order has is known before they are locked.
SELECT id FROM ticketing.tickets WHERE order_id = ANY($1::uuid[]);

-- name: ticket_ids_of_codes
-- A code leads to its ticket for ever.
SELECT id, code FROM ticketing.tickets WHERE code = ANY($1::text[]);

-- name: lock_tickets
-- A ticket is checked in by one scan: whoever holds the row while it is unused.
SELECT id, order_id, event_id, ticket_type_id, code, owner_name, status, checked_in_at, gate
FROM ticketing.tickets WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: update_tickets
-- Used, or called off.
UPDATE ticketing.tickets t SET status = new.status::ticketing.ticket_status,
    checked_in_at = new.checked_in_at, gate = new.gate
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[])
    AS new (id, status, checked_in_at, gate)
WHERE t.id = new.id;

-- name: scans_known
-- An offline scan that was uploaded before counts once.
SELECT scan_key, result FROM ticketing.scans WHERE scan_key = ANY($1::text[]);

-- name: mails_due
-- All that a mail says of its order and its event, in one trip for many mails.
SELECT m.id AS mail_id, m.kind, m.amount, m.created_at, m.sent_at, o.id AS order_id, o.user_id,
    o.status, o.language, e.id AS event_id, e.name, e.location, e.starts_at, e.ends_at, e.banner_url
FROM ticketing.mails m
JOIN ticketing.orders o ON o.id = m.order_id
JOIN ticketing.events e ON e.id = o.event_id
WHERE m.id = ANY($1::uuid[]);

-- name: tickets_of_orders
-- The tickets of many orders as their papers show them.
SELECT k.order_id, k.event_id, k.ticket_type_id, k.code, k.owner_name, t.name AS type_name,
    i.unit_price AS price
FROM ticketing.tickets k
JOIN ticketing.ticket_types t ON t.id = k.ticket_type_id
JOIN ticketing.order_items i ON i.order_id = k.order_id AND i.ticket_type_id = k.ticket_type_id
WHERE k.order_id = ANY($1::uuid[]) ORDER BY k.order_id, k.id;

-- name: lock_mails
-- A mail is marked as sent by who sent it.
SELECT id, order_id, kind, amount, sent_at FROM ticketing.mails
WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: update_mails
-- Sent, and when.
UPDATE ticketing.mails m SET sent_at = new.sent_at
FROM unnest($1::uuid[], $2::timestamptz[]) AS new (id, sent_at)
WHERE m.id = new.id;

-- name: forget_reservations
-- Ended reservations are kept 30 days, those that were completed until their event is long over.
WITH old AS (
    SELECT r.id FROM ticketing.reservations r JOIN ticketing.events e ON e.id = r.event_id
    WHERE r.status <> 'ACTIVE' AND r.created_at < now() - make_interval(days => $1)
        AND (r.status <> 'COMPLETED' OR e.ends_at < now() - make_interval(days => $1))
    ORDER BY r.created_at LIMIT $2
), lines AS (
    DELETE FROM ticketing.reservation_lines l USING old WHERE l.reservation_id = old.id
)
DELETE FROM ticketing.reservations r USING old WHERE r.id = old.id;
