-- name: seats_add_up
-- T1: the free, held and sold seats of a ticket type are its quantity, none of them negative, and
-- there are no seats of a ticket type that is not there.
SELECT coalesce(t.id, a.owner_id) AS ticket_type_id, t.quantity AS expected, a.seats AS found,
    a.accounts, a.least
FROM ticketing.ticket_types t
FULL JOIN (
    SELECT owner_id, count(*) AS accounts, sum(balance) AS seats, min(balance) AS least
    FROM ledger.accounts
    WHERE unit = 'SEAT:' || owner_id AND purpose IN ('free', 'held', 'sold')
    GROUP BY owner_id
) a ON a.owner_id = t.id
WHERE (a.accounts = 3 AND a.least >= 0 AND a.seats = t.quantity) IS NOT TRUE
    AND NOT (t.id IS NULL AND a.seats = 0 AND a.least = 0)
ORDER BY 1 LIMIT 10;

-- name: held_seats_are_reserved
-- T1: what a ticket type holds is what its active reservations wait for.
SELECT coalesce(a.owner_id, r.ticket_type_id) AS ticket_type_id,
    coalesce(r.seats, 0) AS expected, a.balance AS found
FROM (SELECT owner_id, balance FROM ledger.accounts WHERE purpose = 'held' AND unit LIKE 'SEAT:%') a
FULL JOIN (
    SELECT l.ticket_type_id, sum(l.quantity) AS seats
    FROM ticketing.reservations r
    JOIN ticketing.reservation_lines l ON l.reservation_id = r.id
    WHERE r.status = 'ACTIVE' GROUP BY l.ticket_type_id
) r ON r.ticket_type_id = a.owner_id
WHERE coalesce(r.seats, 0) IS DISTINCT FROM a.balance
ORDER BY 1 LIMIT 10;

-- name: sold_seats_have_tickets
-- T2: a sold seat is a ticket that was not called off, and such a ticket is a sold seat.
SELECT coalesce(a.owner_id, k.ticket_type_id) AS ticket_type_id,
    coalesce(a.balance, 0) AS expected, coalesce(k.tickets, 0) AS found
FROM (SELECT owner_id, balance FROM ledger.accounts WHERE purpose = 'sold' AND unit LIKE 'SEAT:%') a
FULL JOIN (
    SELECT ticket_type_id, count(*) AS tickets FROM ticketing.tickets
    WHERE status <> 'CANCELLED' GROUP BY ticket_type_id
) k ON k.ticket_type_id = a.owner_id
WHERE coalesce(a.balance, 0) <> coalesce(k.tickets, 0)
ORDER BY 1 LIMIT 10;

-- name: tickets_are_paid_lines
-- T2: as many tickets as each line of a paid order says, good while the order is PAID and called
-- off with it; no ticket of an order that was never paid.
SELECT coalesce(i.order_id, k.order_id) AS order_id, o.status,
    coalesce(i.ticket_type_id, k.ticket_type_id) AS ticket_type_id,
    i.quantity AS expected, k.tickets AS found, k.called_off
FROM (
    SELECT i.order_id, i.ticket_type_id, i.quantity FROM ticketing.order_items i
    JOIN ticketing.orders o ON o.id = i.order_id WHERE o.paid_at IS NOT NULL
) i
FULL JOIN (
    SELECT order_id, ticket_type_id, count(*) AS tickets,
        count(*) FILTER (WHERE status = 'CANCELLED') AS called_off
    FROM ticketing.tickets GROUP BY order_id, ticket_type_id
) k ON k.order_id = i.order_id AND k.ticket_type_id = i.ticket_type_id
LEFT JOIN ticketing.orders o ON o.id = coalesce(i.order_id, k.order_id)
WHERE (k.tickets = i.quantity AND CASE o.status WHEN 'PAID' THEN k.called_off = 0
    WHEN 'CANCELLED' THEN k.called_off = k.tickets ELSE false END) IS NOT TRUE
ORDER BY 1, 3 LIMIT 10;

-- name: orders_are_their_reservations
-- T2: an order has the lines, the prices and the sum that its reservation was promised.
SELECT r.id AS reservation_id, o.id AS order_id, l.promised AS expected, i.ordered AS found,
    r.total_amount AS reserved_total, o.total_amount AS ordered_total
FROM ticketing.reservations r
LEFT JOIN (
    SELECT reservation_id, sum(quantity * unit_price::numeric) AS total,
        array_agg((ticket_type_id, quantity, unit_price)::text ORDER BY ticket_type_id) AS promised
    FROM ticketing.reservation_lines GROUP BY reservation_id
) l ON l.reservation_id = r.id
LEFT JOIN ticketing.orders o ON o.reservation_id = r.id
LEFT JOIN (
    SELECT order_id,
        array_agg((ticket_type_id, quantity, unit_price)::text ORDER BY ticket_type_id) AS ordered
    FROM ticketing.order_items GROUP BY order_id
) i ON i.order_id = o.id
WHERE l.total IS DISTINCT FROM r.total_amount
    OR (o.id IS NOT NULL AND (i.ordered = l.promised AND o.total_amount = r.total_amount
        AND o.user_id = r.user_id AND o.event_id = r.event_id) IS NOT TRUE)
ORDER BY 1 LIMIT 10;

-- name: tickets_come_from_completed_reservations
-- T3: a reservation is COMPLETED exactly when its order was paid: an expired or a released one has
-- no ticket. Those that ended are forgotten after 30 days, completed ones after their event; the
-- order is younger by the time that the reservation had.
SELECT coalesce(r.id, o.reservation_id) AS reservation_id, o.id AS order_id,
    r.status AS reservation_status, o.status AS order_status, o.paid_at
FROM ticketing.orders o
FULL JOIN ticketing.reservations r ON r.id = o.reservation_id
WHERE (r.status = 'COMPLETED' AND o.paid_at IS NULL)
    OR (o.status = 'PAID' AND o.paid_at IS NULL)
    OR (o.paid_at IS NOT NULL AND r.status <> 'COMPLETED')
    OR (o.status = 'PENDING' AND r.status IS DISTINCT FROM 'ACTIVE')
    OR (r.id IS NULL AND o.created_at > now() - interval '29 days')
ORDER BY 1 LIMIT 10;

-- name: holds_end_once
-- T4: the seats of a reservation were held once, and gave way once: expired, released or sold,
-- as the reservation says. Late money sells what had expired; a cancelled event gives back.
WITH moves AS (
    SELECT coalesce(o.reservation_id, m.subject) AS reservation_id, m.ticket_type_id,
        sum(m.seats) FILTER (WHERE m.kind = 'HOLD') AS held,
        coalesce(sum(m.seats) FILTER (WHERE m.kind = 'EXPIRE'), 0) AS expired,
        coalesce(sum(m.seats) FILTER (WHERE m.kind = 'RELEASE'), 0) AS released,
        coalesce(sum(m.seats) FILTER (WHERE m.kind = 'SALE'), 0) AS sold,
        coalesce(sum(m.seats) FILTER (WHERE m.kind = 'RETURN'), 0) AS returned
    FROM (
        SELECT split_part(t.key, ':', 1) AS kind, split_part(t.key, ':', 2)::uuid AS subject,
            split_part(t.key, ':', 3)::uuid AS ticket_type_id, e.amount AS seats
        FROM ledger.transfers t
        JOIN ledger.entries e ON e.transfer_id = t.id AND e.amount > 0
        WHERE t.unit LIKE 'SEAT:%' AND t.key NOT LIKE 'SUPPLY:%'
    ) m
    LEFT JOIN ticketing.orders o ON o.id = m.subject
    GROUP BY 1, 2
)
SELECT coalesce(m.reservation_id, l.reservation_id) AS reservation_id,
    coalesce(m.ticket_type_id, l.ticket_type_id) AS ticket_type_id, r.status,
    l.quantity AS expected, m.held, m.expired, m.released, m.sold, m.returned
FROM moves m
FULL JOIN ticketing.reservation_lines l
    ON l.reservation_id = m.reservation_id AND l.ticket_type_id = m.ticket_type_id
LEFT JOIN ticketing.reservations r ON r.id = l.reservation_id
LEFT JOIN ticketing.orders o ON o.reservation_id = r.id
WHERE (CASE
    WHEN l.reservation_id IS NULL THEN
        m.held = greatest(m.sold, m.expired + m.released) AND m.returned <= m.sold
    ELSE m.held = l.quantity
        AND m.released = CASE r.status WHEN 'RELEASED' THEN l.quantity ELSE 0 END
        AND m.expired = CASE WHEN r.status = 'EXPIRED' OR o.late = 'SEATS_AGAIN'
            THEN l.quantity ELSE 0 END
        AND m.sold = CASE r.status WHEN 'COMPLETED' THEN l.quantity ELSE 0 END
        AND m.returned = CASE WHEN o.status = 'CANCELLED' THEN m.sold ELSE 0 END
    END) IS NOT TRUE
ORDER BY 1, 2 LIMIT 10;

-- name: captured_money_has_tickets_or_goes_back
-- T5: money that a provider took is in the ledger once; it paid the order that has the tickets, or
-- all of it goes back, once.
WITH posted AS (
    SELECT split_part(t.key, ':', 2)::uuid AS payment_id,
        coalesce(sum(e.amount) FILTER (WHERE t.key LIKE 'PAYMENT:%'), 0) AS taken,
        coalesce(-sum(e.amount) FILTER (WHERE t.key LIKE 'PAYBACK:%'), 0) AS given_back
    FROM ledger.transfers t
    JOIN ledger.entries e ON e.transfer_id = t.id
    JOIN ledger.accounts a ON a.id = e.account_id AND a.purpose = 'organiser'
    WHERE t.key LIKE 'PAYMENT:%' OR t.key LIKE 'PAYBACK:%'
    GROUP BY 1
)
SELECT coalesce(p.id, m.payment_id) AS payment_id, p.order_id, p.status, o.status AS order_status,
    p.captured AS expected, m.taken AS found, m.given_back, r.amount AS refund
FROM (SELECT * FROM payments.payments WHERE payee = 'ticketing') p
FULL JOIN posted m ON m.payment_id = p.id
LEFT JOIN ticketing.orders o ON o.id = p.order_id
LEFT JOIN payments.refunds r ON r.payment_id = p.id
WHERE (coalesce(m.taken, 0) = coalesce(p.captured, 0) AND p.id IS NOT NULL AND CASE
    WHEN o.status = 'PAID' AND o.payment_id = p.id THEN p.status = 'SUCCESS'
        AND p.captured = o.total_amount AND coalesce(m.given_back, 0) = 0 AND r.id IS NULL
    ELSE coalesce(m.given_back, 0) = coalesce(p.captured, 0)
        AND coalesce(r.amount, 0) = coalesce(p.captured, 0)
    END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: organisers_earn_what_is_paid
-- T5: what an event has earned is what its paid orders come to.
SELECT coalesce(a.owner_id, o.event_id) AS event_id, coalesce(o.total, 0) AS expected,
    coalesce(a.balance, 0) AS found
FROM (SELECT owner_id, balance FROM ledger.accounts WHERE purpose = 'organiser') a
FULL JOIN (
    SELECT event_id, sum(total_amount) AS total FROM ticketing.orders
    WHERE status = 'PAID' GROUP BY event_id
) o ON o.event_id = a.owner_id
WHERE coalesce(o.total, 0) <> coalesce(a.balance, 0)
ORDER BY 1 LIMIT 10;

-- name: users_keep_to_their_limit
-- T6: nobody has more seats of a ticket type than the limit they were accepted under. By the clock,
-- not the time of this transaction: that was before what it sees, and a hold may have ended since.
SELECT l.ticket_type_id, l.user_id, max(l.per_user_limit) AS expected, sum(l.quantity) AS found
FROM ticketing.reservation_lines l
JOIN ticketing.reservations r ON r.id = l.reservation_id
WHERE r.status = 'COMPLETED' OR (r.status = 'ACTIVE' AND r.expires_at > clock_timestamp())
GROUP BY l.ticket_type_id, l.user_id
-- Who was accepted without a limit once may have any number.
HAVING sum(l.quantity) > max(l.per_user_limit) AND count(*) = count(l.per_user_limit)
ORDER BY 1, 2 LIMIT 10;

-- name: tickets_admit_once
-- T7: a ticket that was used has one scan that admitted, when and where the ticket says; an unused
-- one has none.
SELECT coalesce(k.id, s.ticket_id) AS ticket_id, k.status, k.checked_in_at AS expected,
    s.scanned_at AS found, k.gate, s.gate AS scanned_at_gate, s.scans
FROM ticketing.tickets k
FULL JOIN (
    SELECT ticket_id, count(*) AS scans, min(scanned_at) AS scanned_at, min(gate) AS gate
    FROM ticketing.scans WHERE result = 'ADMITTED' GROUP BY ticket_id
) s ON s.ticket_id = k.id
WHERE (CASE WHEN k.checked_in_at IS NULL THEN s.scans IS NULL AND k.status <> 'CHECKED_IN'
    ELSE s.scans = 1 AND s.scanned_at = k.checked_in_at AND k.status <> 'UNUSED'
        AND s.gate IS NOT DISTINCT FROM k.gate END) IS NOT TRUE
ORDER BY 1 LIMIT 10;

-- name: cancelled_events_are_refunded
-- T8: once its queue is empty, a cancelled event has no order that is paid or waits, and no seat
-- that is held. That each payment went back once is T5.
SELECT e.id AS event_id, o.id AS order_id, o.status, r.id AS reservation_id
FROM ticketing.events e
LEFT JOIN ticketing.orders o ON o.event_id = e.id AND o.status IN ('PAID', 'PENDING')
LEFT JOIN ticketing.reservations r ON r.event_id = e.id AND r.status = 'ACTIVE'
WHERE e.status = 'CANCELLED' AND (o.id IS NOT NULL OR r.id IS NOT NULL)
    AND NOT EXISTS (
        SELECT FROM audit.queue_lengths() q WHERE q.queue = 'ticketing_cancel' AND q.waiting > 0
    )
    AND NOT EXISTS (
        SELECT FROM events.dead_letters d
        WHERE d.queue = 'ticketing_cancel' AND d.ended_at IS NULL
            AND d.event -> 'payload' ->> 'eventId' = e.id::text
    )
ORDER BY 1, 2 LIMIT 10;

-- name: paid_orders_have_their_mail
-- E1: the mail with the tickets was queued with the payment, once.
SELECT o.id AS order_id, count(m.id) AS found
FROM ticketing.orders o
LEFT JOIN ticketing.mails m ON m.order_id = o.id AND m.kind = 'TICKETS'
WHERE o.paid_at IS NOT NULL
GROUP BY o.id HAVING count(m.id) <> 1
ORDER BY 1 LIMIT 10;
