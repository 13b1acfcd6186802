-- name: bets
-- Each bet as its placing asked for it.
SELECT id::text AS id, concat_ws('|', user_id, round_id, side, amount) AS said
FROM betting.bets;

-- name: moves
-- Transfers, deposits and withdrawals by the key that asked for them; not what the lab put in.
SELECT t.id::text AS id, lower(split_part(t.key, ':', 1)) AS kind,
    concat_ws('|', split_part(t.key, ':', 3), max(e.amount)) AS said
FROM ledger.transfers t JOIN ledger.entries e ON e.transfer_id = t.id
WHERE t.key ~ '^(TRANSFER|DEPOSIT|WITHDRAWAL):' AND t.created_by <> $1
GROUP BY t.id;

-- name: rounds
-- Each round, and how far it came.
SELECT id::text AS id, kind::text AS said, status::text AS status, winner::text AS winner
FROM betting.rounds;

-- name: reservations
-- Each reservation as it was asked for, and what became of it.
SELECT r.id::text AS id, concat_ws('|', r.user_id, l.ticket_type_id, l.quantity) AS said,
    r.status::text AS status
FROM ticketing.reservations r JOIN ticketing.reservation_lines l ON l.reservation_id = r.id;

-- name: bookings
-- Each order of seats, by the reservation that it completes.
SELECT id::text AS id, concat_ws('|', user_id, reservation_id) AS said FROM ticketing.orders;

-- name: orders
-- Each order of goods, with the code and the total that its buyer was told.
SELECT concat_ws('|', id, code, total_amount) AS id, user_id::text AS said FROM orders.orders;

-- name: steps
-- What people have done to orders; what workers did, nobody was told of.
SELECT order_id::text AS id, concat_ws('|', order_id, status) AS said FROM orders.history
WHERE version > 1 AND by_whom NOT LIKE 'worker:%';

-- name: pieces
-- Pieces of each product wherever they are: as many as were delivered.
SELECT owner_id::text AS id, concat_ws('|', owner_id, sum(balance)) AS said
FROM ledger.accounts WHERE owner_id = ANY($1::uuid[]) AND purpose IN ('free', 'held', 'sold')
GROUP BY owner_id;

-- name: returned
-- Bets of which something went back.
SELECT id::text AS id FROM betting.bets WHERE refunded > 0;

-- name: paid
-- Payments that were made.
SELECT id::text AS id FROM payments.payments WHERE status = 'SUCCESS';

-- name: staked
-- Where every round is over, nothing is at stake.
SELECT coalesce(sum(balance), 0)::bigint FROM ledger.accounts WHERE purpose = 'stake';
