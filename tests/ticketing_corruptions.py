"""What a hand on ticketing's tables may do, and the invariant that must notice."""

from __future__ import annotations

TYPE = "(SELECT id FROM ticketing.ticket_types WHERE name = '{}')"
ORDER = "(SELECT order_id FROM named WHERE name = '{}')"
PAYMENT = "(SELECT payment_id FROM named WHERE name = '{}')"
RESERVATION = "(SELECT reservation_id FROM named WHERE name = '{}')"

SPOILED: dict[str, tuple[str, str]] = {
    "a seat more than there is": (
        "seats_add_up",
        "UPDATE ticketing.ticket_types SET quantity = quantity + 1 WHERE name = 'stalls'",
    ),
    "negative stock": (
        "seats_add_up",
        "ALTER TABLE ledger.accounts DROP CONSTRAINT balance_not_below_floor;"
        "SELECT seats_move('SALE:x', 'stalls', 'free', 'sold', 1000)",
    ),
    "seats of a ticket type that is not there": (
        "seats_add_up",
        f"DELETE FROM ticketing.ticket_types WHERE id = {TYPE.format('box')}",
    ),
    "a ticket type without its accounts": (
        "seats_add_up",
        "UPDATE ledger.accounts SET purpose = 'stolen' WHERE purpose = 'sold'"
        f" AND owner_id = {TYPE.format('stalls')}",
    ),
    "seats moved to another ticket type": (
        "seats_add_up",
        "UPDATE ledger.accounts SET balance = balance + CASE WHEN owner_id ="
        f" {TYPE.format('stalls')} THEN 1 ELSE -1 END WHERE purpose = 'free' AND owner_id IN"
        f" ({TYPE.format('stalls')}, {TYPE.format('circle')})",
    ),
    "an orphan hold": (
        "held_seats_are_reserved",
        f"DELETE FROM ticketing.reservations WHERE id = {RESERVATION.format('held')}",
    ),
    "a hold that was forgotten": (
        "held_seats_are_reserved",
        "UPDATE ticketing.reservations SET status = 'EXPIRED', ended_at = now()"
        f" WHERE id = {RESERVATION.format('held')}",
    ),
    "a reservation without its seats": (
        "held_seats_are_reserved",
        "SELECT seats_move('RELEASE:x', 'stalls', 'held', 'free', 1)",
    ),
    "a ticket from nowhere": (
        "sold_seats_have_tickets",
        "INSERT INTO ticketing.tickets (id, order_id, event_id, ticket_type_id, code)"
        " SELECT gen_random_uuid(), order_id, event_id, ticket_type_id, 'from nowhere'"
        " FROM ticketing.tickets LIMIT 1",
    ),
    "a ticket that vanished": (
        "sold_seats_have_tickets",
        f"DELETE FROM ticketing.tickets WHERE order_id = {ORDER.format('free')}",
    ),
    "a ticket called off by itself": (
        "sold_seats_have_tickets",
        "UPDATE ticketing.tickets SET status = 'CANCELLED'"
        f" WHERE order_id = {ORDER.format('free')}",
    ),
    "a ticket of another order": (
        "tickets_are_paid_lines",
        f"UPDATE ticketing.tickets SET order_id = {ORDER.format('again')}"
        f" WHERE order_id = {ORDER.format('free')}",
    ),
    "a ticket of an order that was never paid": (
        "tickets_are_paid_lines",
        f"UPDATE ticketing.tickets SET order_id = {ORDER.format('pending')}"
        f" WHERE order_id = {ORDER.format('again')}",
    ),
    "a good ticket of a cancelled order": (
        "tickets_are_paid_lines",
        "UPDATE ticketing.tickets SET status = 'UNUSED'"
        f" WHERE order_id = {ORDER.format('called off')}",
    ),
    "an order at another price": (
        "orders_are_their_reservations",
        "UPDATE ticketing.order_items SET unit_price = unit_price + 1"
        f" WHERE order_id = {ORDER.format('paid')}",
    ),
    "a line that was added up wrongly": (
        "orders_are_their_reservations",
        "UPDATE ticketing.reservations SET total_amount = total_amount - 1"
        f" WHERE id = {RESERVATION.format('released')}",
    ),
    "an order with a line too few": (
        "orders_are_their_reservations",
        f"DELETE FROM ticketing.order_items WHERE order_id = {ORDER.format('pending')}",
    ),
    "an order in another's name": (
        "orders_are_their_reservations",
        "UPDATE ticketing.orders SET user_id = gen_random_uuid()"
        f" WHERE id = {ORDER.format('paid')}",
    ),
    "a ticket from an expired reservation": (
        "tickets_come_from_completed_reservations",
        "UPDATE ticketing.reservations SET status = 'EXPIRED'"
        f" WHERE id = {RESERVATION.format('paid')}",
    ),
    "a reservation completed without money": (
        "tickets_come_from_completed_reservations",
        "UPDATE ticketing.reservations SET status = 'COMPLETED', ended_at = now()"
        f" WHERE id = {RESERVATION.format('pending')}",
    ),
    "an order that waits for what is gone": (
        "tickets_come_from_completed_reservations",
        f"UPDATE ticketing.orders SET status = 'PENDING' WHERE id = {ORDER.format('refunded')}",
    ),
    "a lost reservation": (
        "tickets_come_from_completed_reservations",
        f"DELETE FROM ticketing.reservations WHERE id = {RESERVATION.format('paid')}",
    ),
    "a hold given back twice": (
        "holds_end_once",
        "SELECT seats_move('EXPIRE:' || reservation_id || ':' || t.id || ':again', 'stalls',"
        " 'held', 'free', 1) FROM named n, ticketing.ticket_types t"
        " WHERE n.name = 'expired' AND t.name = 'stalls'",
    ),
    "a hold both released and expired": (
        "holds_end_once",
        "SELECT seats_move('RELEASE:' || reservation_id || ':' || t.id, 'stalls',"
        " 'held', 'free', 1) FROM named n, ticketing.ticket_types t"
        " WHERE n.name = 'expired' AND t.name = 'stalls'",
    ),
    "a hold that is not in the ledger": (
        "holds_end_once",
        "UPDATE ledger.transfers SET key = 'HOLD:' || gen_random_uuid() || ':' ||"
        " split_part(key, ':', 3) WHERE key LIKE 'HOLD:' ||"
        f" {RESERVATION.format('held')} || ':%'",
    ),
    "a sale of seats that were given back": (
        "holds_end_once",
        f"UPDATE ticketing.orders SET late = NULL WHERE id = {ORDER.format('again')}",
    ),
    "a captured payment that bought nothing": (
        "captured_money_has_tickets_or_goes_back",
        f"UPDATE payments.payments SET captured = amount WHERE id = {PAYMENT.format('pending')}",
    ),
    "money taken twice": (
        "captured_money_has_tickets_or_goes_back",
        "SELECT money_moves('PAYMENT:' || payment_id || ':again', 1000) FROM named"
        " WHERE name = 'paid'",
    ),
    "a doubled refund": (
        "captured_money_has_tickets_or_goes_back",
        "SELECT money_moves('PAYBACK:' || payment_id || ':again', -1000) FROM named"
        " WHERE name = 'refunded'",
    ),
    "a refund of what was kept": (
        "captured_money_has_tickets_or_goes_back",
        "INSERT INTO payments.refunds (id, payment_id, amount, reason)"
        " SELECT gen_random_uuid(), payment_id, 1, 'hand' FROM named WHERE name = 'paid'",
    ),
    "a refund that was never sent": (
        "captured_money_has_tickets_or_goes_back",
        f"DELETE FROM payments.refunds WHERE payment_id = {PAYMENT.format('refunded')}",
    ),
    "a refund of a little": (
        "captured_money_has_tickets_or_goes_back",
        "UPDATE payments.refunds SET amount = amount - 1"
        f" WHERE payment_id = {PAYMENT.format('called off')}",
    ),
    "a payment that vanished": (
        "captured_money_has_tickets_or_goes_back",
        f"DELETE FROM payments.payments WHERE id = {PAYMENT.format('paid')}",
    ),
    "an organiser's till with a hole": (
        "organisers_earn_what_is_paid",
        "SELECT money_moves('TRANSFER:x', -1)",
    ),
    "a paid order that earned nothing": (
        "organisers_earn_what_is_paid",
        "UPDATE ticketing.orders SET status = 'PAID', paid_at = now()"
        f" WHERE id = {ORDER.format('pending')}",
    ),
    "a user with too many seats": (
        "users_keep_to_their_limit",
        "UPDATE ticketing.reservation_lines SET per_user_limit = 1"
        f" WHERE reservation_id = {RESERVATION.format('paid')} AND quantity > 1",
    ),
    "two users' seats in one hand": (
        "users_keep_to_their_limit",
        "UPDATE ticketing.reservation_lines SET user_id = (SELECT user_id FROM"
        f" ticketing.reservations WHERE id = {RESERVATION.format('paid')})",
    ),
    "a second check-in": (
        "tickets_admit_once",
        "INSERT INTO ticketing.scans (id, scan_key, ticket_id, event_id, code, gate, result,"
        " offline, scanned_at, scanned_by) SELECT gen_random_uuid(), 'again', ticket_id,"
        " event_id, code, gate, result, offline, scanned_at, scanned_by FROM ticketing.scans"
        " WHERE result = 'ADMITTED' LIMIT 1",
    ),
    "a ticket used without a scan": (
        "tickets_admit_once",
        "UPDATE ticketing.tickets SET status = 'CHECKED_IN', checked_in_at = now()"
        f" WHERE order_id = {ORDER.format('free')}",
    ),
    "a used ticket made good again": (
        "tickets_admit_once",
        "UPDATE ticketing.tickets SET status = 'UNUSED', checked_in_at = NULL, gate = NULL"
        " WHERE checked_in_at IS NOT NULL",
    ),
    "a check-in at another time": (
        "tickets_admit_once",
        "UPDATE ticketing.tickets SET checked_in_at = checked_in_at - interval '1 minute'",
    ),
    "a check-in at another gate": (
        "tickets_admit_once",
        "UPDATE ticketing.scans SET gate = 'Z' WHERE result = 'ADMITTED'",
    ),
    "an event called off behind the orders' backs": (
        "cancelled_events_are_refunded",
        "UPDATE ticketing.events SET status = 'CANCELLED'",
    ),
    "a buyer who was passed over": (
        "cancelled_events_are_refunded",
        f"UPDATE ticketing.orders SET status = 'PAID' WHERE id = {ORDER.format('called off')}",
    ),
    "a hold on an event that was called off": (
        "cancelled_events_are_refunded",
        "UPDATE ticketing.reservations r SET status = 'ACTIVE', ended_at = NULL"
        " FROM ticketing.events e WHERE e.id = r.event_id AND e.status = 'CANCELLED'",
    ),
    "tickets that nobody was sent": (
        "paid_orders_have_their_mail",
        f"DELETE FROM ticketing.mails WHERE order_id = {ORDER.format('paid')}",
    ),
    "tickets that are sent twice": (
        "paid_orders_have_their_mail",
        "DROP INDEX ticketing.mails_tickets;"
        "INSERT INTO ticketing.mails (id, order_id, kind, amount) SELECT gen_random_uuid(),"
        " order_id, kind, amount FROM ticketing.mails WHERE kind = 'TICKETS' LIMIT 1",
    ),
}
"""By name: the invariant that finds it, and the statements. They suit the history that
`test_ticketing_invariants.py` writes; `named` are its orders, by what became of them."""

TOOLS = """
CREATE FUNCTION move(named text, counted text, accounts bigint[], amounts bigint[]) RETURNS void
LANGUAGE sql AS $$
    WITH transfer AS (
        INSERT INTO ledger.transfers (id, key, unit, created_by)
        VALUES (gen_random_uuid(), named, counted, 'hand') RETURNING id
    ), moved AS (
        UPDATE ledger.accounts a SET balance = balance + leg.amount, seq = seq + 1
        FROM unnest(accounts, amounts) AS leg (account, amount) WHERE a.id = leg.account
        RETURNING a.id, a.seq, leg.amount, a.balance
    )
    INSERT INTO ledger.entries
    SELECT m.id, m.seq, t.id, m.amount, m.balance, 'CREDIT' FROM moved m, transfer t;
$$;
CREATE FUNCTION seats_move(key text, of text, source text, target text, seats bigint)
RETURNS void LANGUAGE sql AS $$
    SELECT move(key, a.unit, ARRAY[a.id, b.id], ARRAY[-seats, seats])
    FROM ticketing.ticket_types t
    JOIN ledger.accounts a ON a.owner_id = t.id AND a.purpose = source
    JOIN ledger.accounts b ON b.owner_id = t.id AND b.purpose = target
    WHERE t.name = of;
$$;
CREATE FUNCTION money_moves(key text, amount bigint) RETURNS void LANGUAGE sql AS $$
    SELECT move(key, 'VND', ARRAY[c.id, o.id], ARRAY[-amount, amount])
    FROM ledger.accounts c, ledger.accounts o
    WHERE c.purpose = 'clearing:sandbox' AND o.purpose = 'organiser' AND o.balance > 10000
    LIMIT 1;
$$;
"""
"""What the statements call: seats and money that move by a transfer that chains."""
