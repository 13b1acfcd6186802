CREATE SCHEMA ticketing;

CREATE TYPE ticketing.event_status AS ENUM ('DRAFT', 'PUBLISHED', 'ENDED', 'CANCELLED');
CREATE TYPE ticketing.reservation_status AS ENUM ('ACTIVE', 'COMPLETED', 'EXPIRED', 'RELEASED');
CREATE TYPE ticketing.order_status AS ENUM ('PENDING', 'PAID', 'CANCELLED', 'TIMEOUT');
CREATE TYPE ticketing.ticket_status AS ENUM ('UNUSED', 'CHECKED_IN', 'CANCELLED');

-- Search ---------------------------------------------------------------------------------------

-- Every word of the question has to begin a word of the text.
CREATE FUNCTION ticketing.asked(words text) RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (
    SELECT string_agg(quote_literal(lexeme) || ':*', ' & ')::tsquery
    FROM unnest(to_tsvector('simple', search.plain(words)))
);

-- Events ---------------------------------------------------------------------------------------

CREATE TABLE ticketing.events (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    description text,
    banner_url text,
    location text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    status ticketing.event_status NOT NULL DEFAULT 'DRAFT',
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    search tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', search.plain(name)), 'A')
        || setweight(to_tsvector('simple', search.plain(location)), 'B')
        || setweight(to_tsvector('simple', search.plain(coalesce(description, ''))), 'C')
    ) STORED,
    CHECK (ends_at > starts_at)
);
CREATE INDEX events_search ON ticketing.events USING gin (search);
CREATE INDEX events_ahead ON ticketing.events (status, starts_at, id);
CREATE INDEX events_running ON ticketing.events (ends_at) WHERE status = 'PUBLISHED';

CREATE TABLE ticketing.ticket_types (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL REFERENCES ticketing.events,
    name text NOT NULL,
    price bigint NOT NULL CHECK (price >= 0),
    quantity bigint NOT NULL CHECK (quantity >= 0),
    supplies integer NOT NULL DEFAULT 0,
    sale_starts_at timestamptz,
    sale_ends_at timestamptz,
    per_user_limit integer CHECK (per_user_limit > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (sale_ends_at > sale_starts_at)
);
CREATE INDEX ticket_types_event ON ticketing.ticket_types (event_id);
COMMENT ON COLUMN ticketing.ticket_types.supplies IS
    'How often the quantity was set; numbers the transfers that brought or took seats.';

-- Counts the changes of events and ticket types: what was read under a version stays true under it.
CREATE TABLE ticketing.catalogue (
    version bigint NOT NULL,
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
) WITH (fillfactor = 10);
INSERT INTO ticketing.catalogue (version) VALUES (1);

-- Reservations and orders ------------------------------------------------------------------------

CREATE TABLE ticketing.reservations (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    event_id uuid NOT NULL,
    status ticketing.reservation_status NOT NULL DEFAULT 'ACTIVE',
    total_amount bigint NOT NULL CHECK (total_amount >= 0),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((status = 'ACTIVE') = (ended_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX reservations_due ON ticketing.reservations (expires_at) WHERE status = 'ACTIVE';
CREATE INDEX reservations_held ON ticketing.reservations (event_id) WHERE status = 'ACTIVE';
CREATE INDEX reservations_old ON ticketing.reservations (created_at) WHERE status <> 'ACTIVE';

CREATE TABLE ticketing.reservation_lines (
    reservation_id uuid NOT NULL,
    ticket_type_id uuid NOT NULL,
    user_id uuid NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL CHECK (unit_price >= 0),
    per_user_limit integer,
    PRIMARY KEY (reservation_id, ticket_type_id)
);
CREATE INDEX reservation_lines_user ON ticketing.reservation_lines (user_id, ticket_type_id);
COMMENT ON COLUMN ticketing.reservation_lines.per_user_limit IS
    'The limit that the reservation was accepted under.';

CREATE TABLE ticketing.orders (
    id uuid PRIMARY KEY,
    reservation_id uuid NOT NULL UNIQUE,
    user_id uuid NOT NULL,
    event_id uuid NOT NULL,
    status ticketing.order_status NOT NULL DEFAULT 'PENDING',
    total_amount bigint NOT NULL CHECK (total_amount >= 0),
    owner_name text,
    language text NOT NULL CHECK (language IN ('vi', 'en')),
    payment_id uuid NOT NULL,
    late text CHECK (late IN ('SEATS_AGAIN', 'REFUNDED')),
    created_at timestamptz NOT NULL DEFAULT now(),
    paid_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX orders_user ON ticketing.orders (user_id, id);
CREATE INDEX orders_event ON ticketing.orders (event_id, id);
COMMENT ON COLUMN ticketing.orders.payment_id IS
    'The newest payment; once PAID, the one that paid.';
COMMENT ON COLUMN ticketing.orders.late IS 'What was decided when its payment came too late.';

CREATE TABLE ticketing.order_items (
    order_id uuid NOT NULL,
    ticket_type_id uuid NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (order_id, ticket_type_id)
);

-- Tickets and the door ---------------------------------------------------------------------------

CREATE TABLE ticketing.tickets (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    event_id uuid NOT NULL,
    ticket_type_id uuid NOT NULL,
    code text NOT NULL UNIQUE,
    owner_name text,
    status ticketing.ticket_status NOT NULL DEFAULT 'UNUSED',
    checked_in_at timestamptz,
    gate text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (status <> 'CHECKED_IN' OR checked_in_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX tickets_order ON ticketing.tickets (order_id);
CREATE INDEX tickets_event ON ticketing.tickets (event_id, id);

-- Every scan, also the refused: who came twice, where and when.
CREATE TABLE ticketing.scans (
    id uuid PRIMARY KEY,
    scan_key text NOT NULL,
    ticket_id uuid,
    event_id uuid,
    code text NOT NULL,
    gate text,
    result text NOT NULL CHECK (
        result IN ('ADMITTED', 'ALREADY_CHECKED_IN', 'CANCELLED', 'UNKNOWN', 'FORGED')
    ),
    offline boolean NOT NULL,
    scanned_at timestamptz NOT NULL,
    scanned_by text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX scans_key ON ticketing.scans (scan_key);
CREATE INDEX scans_ticket ON ticketing.scans (ticket_id);
CREATE INDEX scans_event ON ticketing.scans (event_id, ticket_id);
COMMENT ON COLUMN ticketing.scans.scan_key IS
    'Made by the gate for an offline scan: uploaded twice, it counts once.';

CREATE TABLE ticketing.mails (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('TICKETS', 'CANCELLED', 'REFUNDED')),
    amount bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX mails_tickets ON ticketing.mails (order_id) WHERE kind = 'TICKETS';
CREATE INDEX mails_order ON ticketing.mails (order_id);

GRANT USAGE ON SCHEMA ticketing TO strongroom_app, strongroom_audit;
GRANT SELECT ON ALL TABLES IN SCHEMA ticketing TO strongroom_app, strongroom_audit;
GRANT INSERT, UPDATE ON ticketing.events, ticketing.ticket_types, ticketing.reservations,
    ticketing.orders, ticketing.tickets, ticketing.mails TO strongroom_app;
GRANT INSERT ON ticketing.reservation_lines, ticketing.order_items, ticketing.scans
    TO strongroom_app;
GRANT UPDATE ON ticketing.catalogue TO strongroom_app;
GRANT DELETE ON ticketing.reservations, ticketing.reservation_lines TO strongroom_app;
