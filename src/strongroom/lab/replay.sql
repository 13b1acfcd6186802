-- name: subjects
-- What commands can be about. In the order of ids, which a seed has made, so that drawing from
-- them comes out the same each time.
SELECT 'bet' AS kind, id, user_id AS whose, NULL AS code, amount FROM betting.bets
UNION ALL SELECT 'round', id, NULL, NULL, 0 FROM betting.rounds
UNION ALL SELECT 'event', id, NULL, NULL, 0 FROM ticketing.events
UNION ALL SELECT 'reservation', id, user_id, NULL, 0 FROM ticketing.reservations
UNION ALL SELECT 'ticket', id, NULL, code, 0 FROM ticketing.tickets
UNION ALL SELECT payee, id, NULL, NULL, amount FROM payments.payments
UNION ALL SELECT 'order', id, NULL, NULL, 0 FROM orders.orders
UNION ALL SELECT 'transfer', id, NULL, NULL, 0 FROM ledger.transfers WHERE key LIKE 'TRANSFER:%'
UNION ALL SELECT type, key, NULL, concat_ws(':', payload ->> 'first', payload ->> 'last'), 0
FROM events.log WHERE type IN ('betting.SettlementDue', 'betting.UndoDue')
ORDER BY 1, 2, 4;

-- name: contents
-- All that was moved, answered and said, but for when. Answers and events carry a few times of
-- rows that the database dated.
SELECT md5(coalesce(string_agg(line, chr(10) ORDER BY line), ''))
FROM (
    SELECT concat_ws('|', t.id, t.key, t.created_by, a.owner_id, a.purpose, a.unit, e.seq,
        e.amount, e.balance_after, e.type) AS line
    FROM ledger.entries e
    JOIN ledger.accounts a ON a.id = e.account_id
    JOIN ledger.transfers t ON t.id = e.transfer_id
    UNION ALL
    SELECT concat_ws('|', id, principal, command, key, refused, encode(fingerprint, 'hex'),
        regexp_replace(convert_from(body, 'UTF8'), '\d{4}-\d\d-\d\dT[0-9:.]+Z', '', 'g'))
    FROM commands.answers
    UNION ALL
    SELECT concat_ws('|', key, seq, id, type, causation, correlation,
        regexp_replace(payload::text, '\d{4}-\d\d-\d\dT[0-9:.]+Z', '', 'g'))
    FROM events.log
) lines;

-- name: alive
-- A connection that was cut holds its locks until its server process has noticed.
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1);

-- name: patient
-- Who is chosen to move, and when, is the seed's; a timeout would be chance.
SELECT set_config('lock_timeout', '0', true);

-- name: next_month
-- Orders find their month by their id: a seed's time begins in one that is there, and ahead of
-- the database's clock, which no seed turns.
SELECT date_trunc('month', now() + interval '1 month');
