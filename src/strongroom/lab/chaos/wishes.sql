-- name: effects
-- What wishes of each kind have left in the books, whoever was told of it: the other half of the
-- account.
SELECT lower(split_part(key, ':', 1)) AS kind, id FROM ledger.transfers
WHERE key ~ '^(DEPOSIT|WITHDRAWAL|TRANSFER):'
UNION ALL SELECT 'bet', id FROM betting.bets
UNION ALL SELECT 'cancel', substr(key, 8)::uuid FROM ledger.transfers WHERE key LIKE 'REFUND:%'
UNION ALL SELECT 'reservation', id FROM ticketing.reservations
UNION ALL SELECT 'release', split_part(key, ':', 2)::uuid FROM ledger.transfers
WHERE key LIKE 'RELEASE:%' AND unit LIKE 'SEAT:%'
UNION ALL SELECT 'booking', id FROM ticketing.orders
UNION ALL SELECT 'order', id FROM orders.orders
UNION ALL SELECT 'confirmation', order_id FROM orders.history WHERE status = 'CONFIRMED';

-- name: stored
-- How many of these keys have been decided, as the database has it at this instant.
SELECT count(*) FROM commands.answers WHERE key = ANY($1::text[]);

-- name: queued
-- How many messages a queue holds, leased ones included.
SELECT coalesce(sum(waiting), 0)::bigint FROM audit.queue_lengths() WHERE queue = $1;
