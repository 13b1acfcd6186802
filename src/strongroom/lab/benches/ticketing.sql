-- name: free_seats
-- What is left of ticket types in our accounts.
SELECT coalesce(sum(balance), 0)::bigint FROM ledger.accounts
WHERE owner_id = ANY($1::uuid[]) AND purpose = 'free';

-- name: reserved
-- Who reserved what of ticket types, line by line.
SELECT reservation_id AS id, user_id, quantity FROM ticketing.reservation_lines
WHERE ticket_type_id = ANY($1::uuid[]);

-- name: tickets_made
-- Tickets of a ticket type, and the mails of their orders.
SELECT count(*) AS tickets, count(DISTINCT m.id) AS mails
FROM ticketing.tickets t
LEFT JOIN ticketing.mails m ON m.order_id = t.order_id AND m.kind = 'TICKETS'
WHERE t.ticket_type_id = ANY($1::uuid[]);

-- name: make_due
-- The time of all reservations of an event is over at this instant.
UPDATE ticketing.reservations r SET expires_at = now() FROM ticketing.ticket_types t
WHERE t.event_id = r.event_id AND t.id = $1 AND r.status = 'ACTIVE';

-- name: deadlocks
-- How many there have been in this database, ever.
SELECT deadlocks FROM pg_stat_database WHERE datname = current_database();
