-- name: create_tables
-- The specification's tables in a schema of their own, with the indexes that its queries use.
-- Its other indexes, one of them on the counter that every sale moves, its foreign keys and its
-- triggers are left out: what is compared is how rows are locked, not what a table weighs.
CREATE SCHEMA IF NOT EXISTS specified;
CREATE TABLE IF NOT EXISTS specified.events (
    id uuid PRIMARY KEY,
    status varchar(20) NOT NULL CHECK (status IN ('DRAFT', 'PUBLISHED', 'CANCELLED', 'ENDED'))
);
CREATE TABLE IF NOT EXISTS specified.ticket_types (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL,
    price bigint NOT NULL CHECK (price >= 0),
    initial_quantity integer NOT NULL,
    available_quantity integer NOT NULL CHECK (available_quantity >= 0),
    start_sale_time timestamptz,
    end_sale_time timestamptz,
    per_user_limit integer,
    version integer NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (available_quantity <= initial_quantity)
) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS specified.order_reservations (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    ticket_type_id uuid NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    status varchar(20) NOT NULL DEFAULT 'ACTIVE'
        CHECK (status IN ('ACTIVE', 'COMPLETED', 'EXPIRED')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, ticket_type_id)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS order_reservations_user ON specified.order_reservations (user_id);
CREATE INDEX IF NOT EXISTS order_reservations_due ON specified.order_reservations (expires_at)
    WHERE status = 'ACTIVE';
CREATE TABLE IF NOT EXISTS specified.orders (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    total_amount bigint NOT NULL CHECK (total_amount >= 0),
    status varchar(20) NOT NULL DEFAULT 'PENDING'
        CHECK (status IN ('PENDING', 'PAID', 'CANCELLED', 'TIMEOUT')),
    reservation_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS orders_user ON specified.orders (user_id);
CREATE TABLE IF NOT EXISTS specified.order_items (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    ticket_type_id uuid NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL CHECK (unit_price >= 0)
);
CREATE INDEX IF NOT EXISTS order_items_order ON specified.order_items (order_id);
CREATE TABLE IF NOT EXISTS specified.payments (
    id uuid PRIMARY KEY,
    order_id uuid UNIQUE NOT NULL,
    transaction_id varchar(255) UNIQUE,
    payment_method varchar(50) NOT NULL,
    amount bigint NOT NULL CHECK (amount >= 0),
    status varchar(20) NOT NULL DEFAULT 'PENDING'
        CHECK (status IN ('PENDING', 'SUCCESS', 'FAILED')),
    payment_time timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS specified.tickets (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    ticket_type_id uuid NOT NULL,
    ticket_code varchar(50) UNIQUE NOT NULL,
    owner_name varchar(255),
    status varchar(20) NOT NULL DEFAULT 'UNUSED'
        CHECK (status IN ('UNUSED', 'CHECKED_IN', 'CANCELLED')),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS tickets_order ON specified.tickets (order_id);
CREATE TABLE IF NOT EXISTS specified.mails (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
GRANT USAGE ON SCHEMA specified TO strongroom_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA specified TO strongroom_app;

-- name: copy_events
-- The baseline sells the same events, under the same ids.
INSERT INTO specified.events (id, status)
SELECT e.id, e.status::text FROM ticketing.events e
JOIN ticketing.ticket_types t ON t.event_id = e.id WHERE t.id = ANY($1::uuid[])
ON CONFLICT DO NOTHING;

-- name: copy_ticket_types
-- A ticket type of the house as the specification keeps it, all of its seats free.
INSERT INTO specified.ticket_types (id, event_id, price, initial_quantity, available_quantity,
    start_sale_time, end_sale_time, per_user_limit)
SELECT id, event_id, price, quantity, quantity, sale_starts_at, sale_ends_at, per_user_limit
FROM ticketing.ticket_types WHERE id = ANY($1::uuid[]);

-- name: lock_ticket_type
-- The specification's pessimistic_write: who comes second waits here for the first's COMMIT.
SELECT t.id, t.event_id, t.price, t.available_quantity, t.version, t.start_sale_time,
    t.end_sale_time, t.per_user_limit, e.status, clock_timestamp() AS now
FROM specified.ticket_types t JOIN specified.events e ON e.id = t.event_id
WHERE t.id = $1 FOR UPDATE OF t;

-- name: read_ticket_type
-- The specification's optimistic read: nothing is locked, the version tells later.
SELECT t.id, t.event_id, t.price, t.available_quantity, t.version, t.start_sale_time,
    t.end_sale_time, t.per_user_limit, e.status, clock_timestamp() AS now
FROM specified.ticket_types t JOIN specified.events e ON e.id = t.event_id WHERE t.id = $1;

-- name: take_seats
-- Of a row that is locked.
UPDATE specified.ticket_types SET available_quantity = $2, updated_at = now() WHERE id = $1;

-- name: take_seats_of_version
-- Of a row that nobody has changed since it was read; else nothing comes back.
UPDATE specified.ticket_types
SET available_quantity = $2, version = version + 1, updated_at = now()
WHERE id = $1 AND version = $3 RETURNING version;

-- name: seats_of_user
-- How many seats of a limited ticket type a user has.
SELECT coalesce(sum(quantity), 0)::bigint FROM specified.order_reservations
WHERE user_id = $1 AND ticket_type_id = $2
    AND (status = 'COMPLETED' OR (status = 'ACTIVE' AND expires_at > clock_timestamp()));

-- name: add_reservation
-- One line of a cart, one row; a reservation of one ticket type is one row, as specified.
INSERT INTO specified.order_reservations (id, user_id, ticket_type_id, quantity, expires_at)
VALUES ($1, $2, $3, $4, $5);

-- name: lock_reservation
-- The specification reads it without a lock, and two requests then complete it twice.
SELECT r.ticket_type_id, r.quantity, r.status, t.event_id, t.price,
    r.expires_at <= clock_timestamp() AS over
FROM specified.order_reservations r JOIN specified.ticket_types t ON t.id = r.ticket_type_id
WHERE r.id = $1 AND r.user_id = $2 ORDER BY r.ticket_type_id FOR UPDATE OF r;

-- name: add_order
-- One order.
INSERT INTO specified.orders (id, user_id, total_amount, reservation_id)
VALUES ($1, $2, $3, $4);

-- name: add_item
-- One line of an order.
INSERT INTO specified.order_items (id, order_id, ticket_type_id, quantity, unit_price)
VALUES ($1, $2, $3, $4, $5);

-- name: add_payment
-- The specification asks no provider: what is written down is paid.
INSERT INTO specified.payments (id, order_id, amount, payment_method, status, payment_time,
    transaction_id)
VALUES ($1, $2, $3, $4, 'SUCCESS', now(), $5);

-- name: complete_reservation
-- All lines of one reservation.
UPDATE specified.order_reservations SET status = 'COMPLETED' WHERE id = $1;

-- name: items_of_order
-- What tickets are made for.
SELECT i.ticket_type_id, i.quantity FROM specified.orders o
JOIN specified.order_items i ON i.order_id = o.id WHERE o.id = $1;

-- name: pay_order
-- The order is PAID together with its tickets.
UPDATE specified.orders SET status = 'PAID', updated_at = now() WHERE id = $1;

-- name: add_ticket
-- One ticket, one statement.
INSERT INTO specified.tickets (id, order_id, ticket_type_id, ticket_code, owner_name)
VALUES ($1, $2, $3, $4, $5);

-- name: add_mail
-- The mail that is to be sent; committed with the tickets, so that it is not forgotten.
INSERT INTO specified.mails (id, order_id) VALUES ($1, $2);

-- name: add_event
-- One event of the log.
INSERT INTO events.log (key, seq, id, type, payload) VALUES ($1, $2, $3, $4, $5::text::jsonb);

-- name: lock_expired
-- The specification's job begins with all that is due.
SELECT id, ticket_type_id, quantity FROM specified.order_reservations
WHERE status = 'ACTIVE' AND expires_at < now() FOR UPDATE;

-- name: expire
-- The reservations are marked together.
UPDATE specified.order_reservations SET status = 'EXPIRED' WHERE id = ANY($1::uuid[]);

-- name: give_back
-- The seats go back one reservation at a time.
UPDATE specified.ticket_types SET available_quantity = available_quantity + $1,
    version = version + 1, updated_at = now() WHERE id = $2;

-- name: free_seats
-- What is left of ticket types in the specification's counters.
SELECT coalesce(sum(available_quantity), 0)::bigint FROM specified.ticket_types
WHERE id = ANY($1::uuid[]);

-- name: reserved
-- Who reserved what of ticket types, line by line.
SELECT id, user_id, quantity FROM specified.order_reservations
WHERE ticket_type_id = ANY($1::uuid[]);

-- name: tickets_made
-- Tickets of a ticket type, and the mails of their orders.
SELECT count(*) AS tickets, count(DISTINCT m.id) AS mails
FROM specified.tickets t LEFT JOIN specified.mails m ON m.order_id = t.order_id
WHERE t.ticket_type_id = ANY($1::uuid[]);

-- name: reserve_many
-- Reservations of one seat each that are due, of different users.
INSERT INTO specified.order_reservations (id, user_id, ticket_type_id, quantity, expires_at)
SELECT uuidv7(), uuidv7(), $1, 1, now() - interval '1 second'
FROM generate_series(1, $2::integer);

-- name: all_taken
-- No seat of a ticket type is left.
UPDATE specified.ticket_types SET available_quantity = 0 WHERE id = $1;
