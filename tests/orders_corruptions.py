"""What a hand on the tables of orders may do, and the invariants that must notice."""

from __future__ import annotations

ORDER = "(SELECT order_id FROM named WHERE name = '{}')"
PAYMENT = "(SELECT payment_id FROM named WHERE name = '{}')"
PRODUCT = "(SELECT id FROM orders.products WHERE sku = '{}')"

ROLLUPS = (
    "status_rollups_equal_their_orders",
    "product_rollups_equal_their_orders",
    "customer_rollups_equal_their_orders",
)

SPOILED: dict[str, tuple[tuple[str, ...], str]] = {
    "a piece more than was received": (
        ("stock_adds_up",),
        "UPDATE ledger.accounts SET balance = balance + 1 WHERE purpose = 'free'"
        f" AND owner_id = {PRODUCT.format('shirt')}",
    ),
    "negative stock": (
        ("stock_adds_up", "pieces_are_where_orders_say", "held_pieces_end_once"),
        "ALTER TABLE ledger.accounts DROP CONSTRAINT balance_not_below_floor;"
        "SELECT pieces_move('SALE:x', 'shirt', 'free', 'sold', 1000)",
    ),
    "pieces of a product that is not there": (
        ("stock_adds_up", "supplies_are_counted"),
        "DELETE FROM orders.products WHERE sku = 'hat'",
    ),
    "a product without a shelf": (
        ("stock_adds_up", "pieces_are_where_orders_say"),
        "UPDATE ledger.accounts SET purpose = 'stolen' WHERE purpose = 'sold'"
        f" AND owner_id = {PRODUCT.format('shirt')}",
    ),
    "pieces of one product among another's": (
        ("stock_adds_up",),
        "UPDATE ledger.accounts SET balance = balance + CASE WHEN owner_id ="
        f" {PRODUCT.format('shirt')} THEN 1 ELSE -1 END WHERE purpose = 'free' AND owner_id IN"
        f" ({PRODUCT.format('shirt')}, {PRODUCT.format('hat')})",
    ),
    "a receipt that was made smaller": (
        ("stock_adds_up",),
        "UPDATE ledger.entries e SET amount = e.amount - sign(e.amount) FROM ledger.transfers t"
        f" WHERE t.id = e.transfer_id AND t.key = 'SUPPLY:' || {PRODUCT.format('hat')} || ':1'",
    ),
    "a receipt that nobody counted": (
        ("supplies_are_counted",),
        "UPDATE orders.products SET supplies = supplies - 1 WHERE sku = 'shirt'",
    ),
    "two receipts of one number": (
        ("supplies_are_counted",),
        f"UPDATE ledger.transfers SET key = 'ADJUST:' || {PRODUCT.format('shirt')} || ':1'"
        f" WHERE key = 'ADJUST:' || {PRODUCT.format('shirt')} || ':2'",
    ),
    "a receipt without a number": (
        ("supplies_are_counted",),
        f"UPDATE ledger.transfers SET key = 'ADJUST:' || {PRODUCT.format('shirt')} || ':two'"
        f" WHERE key = 'ADJUST:' || {PRODUCT.format('shirt')} || ':2'",
    ),
    "a receipt in another product's name": (
        ("supplies_are_counted",),
        f"UPDATE ledger.transfers SET key = 'ADJUST:' || {PRODUCT.format('hat')} || ':2'"
        f" WHERE key = 'ADJUST:' || {PRODUCT.format('shirt')} || ':2'",
    ),
    "pieces that changed shelves unseen": (
        ("pieces_are_where_orders_say",),
        "UPDATE ledger.accounts SET balance = balance + CASE purpose WHEN 'sold' THEN 1 ELSE -1"
        " END WHERE purpose IN ('held', 'sold') AND owner_id ="
        f" {PRODUCT.format('shirt')}",
    ),
    "pieces held for nobody": (
        ("pieces_are_where_orders_say", "held_pieces_end_once"),
        "SELECT pieces_move('HOLD:' || gen_random_uuid() || ':x', 'shirt', 'free', 'held', 1)",
    ),
    "an order that vanished": (
        (
            "pieces_are_where_orders_say",
            "held_pieces_end_once",
            "totals_are_their_lines",
            "orders_take_allowed_steps",
            "orders_have_their_codes",
            *ROLLUPS,
        ),
        f"DELETE FROM orders.orders WHERE id = {ORDER.format('pending')}",
    ),
    "a hold of a piece too few": (
        ("held_pieces_end_once",),
        "UPDATE ledger.entries e SET amount = e.amount - sign(e.amount) FROM ledger.transfers t"
        " WHERE t.id = e.transfer_id AND t.key LIKE 'HOLD:' ||"
        f" {ORDER.format('pending')} || ':%'",
    ),
    "a sale of a piece too many": (
        ("held_pieces_end_once",),
        "UPDATE ledger.entries e SET amount = e.amount + sign(e.amount) FROM ledger.transfers t"
        " WHERE t.id = e.transfer_id AND t.key LIKE 'SALE:' ||"
        f" {ORDER.format('shipped')} || ':%'",
    ),
    "pieces given back twice": (
        ("held_pieces_end_once", "pieces_are_where_orders_say"),
        f"SELECT pieces_move('EXPIRE:' || {ORDER.format('lapsed')} || ':' ||"
        f" {PRODUCT.format('shirt')} || ':again', 'shirt', 'held', 'free', 1)",
    ),
    "pieces both released and expired": (
        ("held_pieces_end_once", "pieces_are_where_orders_say"),
        f"SELECT pieces_move('RELEASE:' || {ORDER.format('lapsed')} || ':' ||"
        f" {PRODUCT.format('shirt')}, 'shirt', 'held', 'free', 1)",
    ),
    "a hold that is not in the ledger": (
        ("held_pieces_end_once",),
        "UPDATE ledger.transfers SET key = 'HOLD:' || gen_random_uuid() || ':' ||"
        f" {PRODUCT.format('shirt')} WHERE key LIKE 'HOLD:' || {ORDER.format('pending')} || ':%'",
    ),
    "a hold in another product's name": (
        ("held_pieces_end_once",),
        f"UPDATE ledger.transfers SET key = 'HOLD:' || {ORDER.format('pending')} || ':' ||"
        f" {PRODUCT.format('hat')} WHERE key LIKE 'HOLD:' || {ORDER.format('pending')} || ':%'",
    ),
    "a hold whose key names nothing": (
        ("held_pieces_end_once",),
        f"UPDATE ledger.transfers SET key = 'HOLD:' WHERE key LIKE 'HOLD:' ||"
        f" {ORDER.format('pending')} || ':%'",
    ),
    "an order called off that keeps its pieces": (
        ("held_pieces_end_once", "pieces_are_where_orders_say", *ROLLUPS),
        "INSERT INTO orders.history (order_id, version, status, by_whom) VALUES"
        f" ({ORDER.format('pending')}, 2, 'CANCELLED', 'import');"
        "UPDATE orders.orders SET status = 'CANCELLED', payment_status = 'VOID', version = 2"
        f" WHERE id = {ORDER.format('pending')}",
    ),
    "an order shipped that sold nothing": (
        (
            "held_pieces_end_once",
            "pieces_are_where_orders_say",
            "orders_take_allowed_steps",
            ROLLUPS[0],
        ),
        f"UPDATE orders.orders SET status = 'SHIPPED' WHERE id = {ORDER.format('confirmed')}",
    ),
    "a total that is not its lines": (
        ("totals_are_their_lines", ROLLUPS[0], ROLLUPS[2]),
        "UPDATE orders.orders SET total_amount = total_amount + 1"
        f" WHERE id = {ORDER.format('pending')}",
    ),
    "a line at another price": (
        ("totals_are_their_lines", ROLLUPS[1]),
        "UPDATE orders.lines SET unit_price = unit_price - 1"
        f" WHERE order_id = {ORDER.format('confirmed')} AND unit_price > 10000",
    ),
    "an order without lines": (
        (
            "totals_are_their_lines",
            "held_pieces_end_once",
            "pieces_are_where_orders_say",
            ROLLUPS[0],
            ROLLUPS[1],
        ),
        f"DELETE FROM orders.lines WHERE order_id = {ORDER.format('gift')}",
    ),
    "a step that was left out": (
        ("orders_take_allowed_steps", "order_steps_have_their_events"),
        "DELETE FROM orders.history WHERE status = 'CONFIRMED'"
        f" AND order_id = {ORDER.format('delivered')}",
    ),
    "a step taken twice": (
        ("orders_take_allowed_steps",),
        "INSERT INTO orders.history (order_id, version, status, by_whom) SELECT order_id,"
        " version + 10, status, 'import' FROM orders.history"
        f" WHERE order_id = {ORDER.format('shipped')} AND status = 'CONFIRMED';"
        "UPDATE orders.orders SET version = version + 10"
        f" WHERE id = {ORDER.format('shipped')}",
    ),
    "steps in the wrong order": (
        ("orders_take_allowed_steps",),
        "UPDATE orders.history SET version = version + 10 WHERE status = 'CONFIRMED'"
        f" AND order_id = {ORDER.format('shipped')};"
        f"UPDATE orders.orders SET version = version + 10 WHERE id = {ORDER.format('shipped')}",
    ),
    "a beginning that was cut off": (
        ("orders_take_allowed_steps",),
        f"UPDATE orders.orders SET version = 2 WHERE id = {ORDER.format('pending')};"
        f"UPDATE orders.history SET version = 2 WHERE order_id = {ORDER.format('pending')}",
    ),
    "a version that was set back": (
        ("orders_take_allowed_steps",),
        f"UPDATE orders.orders SET version = 1 WHERE id = {ORDER.format('shipped')}",
    ),
    "an order that stands elsewhere": (
        ("orders_take_allowed_steps", ROLLUPS[0]),
        f"UPDATE orders.orders SET status = 'PENDING' WHERE id = {ORDER.format('confirmed')}",
    ),
    "a history of nobody": (
        ("orders_take_allowed_steps",),
        "INSERT INTO orders.history (order_id, version, status, by_whom) VALUES"
        " (orders.first_id(now()), 1, 'PENDING', 'import')",
    ),
    "two orders of one code": (
        ("codes_are_unique", "orders_have_their_codes"),
        "UPDATE orders.orders SET code = (SELECT code FROM orders.orders"
        f" WHERE id = {ORDER.format('shipped')}) WHERE id = {ORDER.format('pending')}",
    ),
    "one number for two orders": (
        ("codes_are_unique",),
        "ALTER TABLE orders.codes DROP CONSTRAINT codes_pkey;"
        "UPDATE orders.codes SET number = (SELECT number FROM orders.codes"
        f" WHERE order_id = {ORDER.format('shipped')}) WHERE order_id = {ORDER.format('pending')};"
        "UPDATE orders.orders SET code = (SELECT code FROM orders.orders"
        f" WHERE id = {ORDER.format('shipped')}) WHERE id = {ORDER.format('pending')}",
    ),
    "two numbers for one order": (
        ("orders_have_their_codes",),
        f"INSERT INTO orders.codes (number, order_id) VALUES (999, {ORDER.format('pending')})",
    ),
    "a number for no order": (
        ("orders_have_their_codes",),
        "INSERT INTO orders.codes (number, order_id) VALUES (999, gen_random_uuid())",
    ),
    "an order without a number": (
        ("orders_have_their_codes",),
        f"DELETE FROM orders.codes WHERE order_id = {ORDER.format('pending')}",
    ),
    "a code without its zeros": (
        ("orders_have_their_codes",),
        "UPDATE orders.orders SET code = regexp_replace(code, '0+', '')"
        f" WHERE id = {ORDER.format('pending')}",
    ),
    "pieces both sold and given back": (
        ("orders_are_cancelled_or_shipped", "held_pieces_end_once"),
        "UPDATE ledger.transfers SET key = replace(key, 'RETURN:', 'RELEASE:')"
        f" WHERE key LIKE 'RETURN:' || {ORDER.format('returned')} || ':%'",
    ),
    "an order shipped and then called off": (
        ("orders_are_cancelled_or_shipped", "orders_take_allowed_steps"),
        "INSERT INTO orders.history (order_id, version, status, by_whom) VALUES"
        f" ({ORDER.format('shipped')}, 99, 'CANCELLED', 'import');"
        f"UPDATE orders.orders SET version = 99 WHERE id = {ORDER.format('shipped')}",
    ),
    "a rollup by status that counts too much": (
        (ROLLUPS[0],),
        "UPDATE orders.order_days SET orders = orders + 1 WHERE status = 'PENDING'",
    ),
    "a rollup by status with a piece too few": (
        (ROLLUPS[0],),
        "UPDATE orders.order_days SET pieces = pieces - 1 WHERE status = 'SHIPPED'",
    ),
    "a rollup by status at another amount": (
        (ROLLUPS[0],),
        "UPDATE orders.order_days SET amount = amount + 1 WHERE status = 'RETURNED'",
    ),
    "a rollup by status that was lost": (
        (ROLLUPS[0],),
        "DELETE FROM orders.order_days WHERE status = 'CANCELLED'",
    ),
    "a rollup of a day that has none": (
        (ROLLUPS[0],),
        "INSERT INTO orders.order_days VALUES ('2001-01-01', 'PENDING', 1, 1, 1)",
    ),
    "a rollup by product at another amount": (
        (ROLLUPS[1],),
        "UPDATE orders.product_days SET amount = amount + 1"
        f" WHERE product_id = {PRODUCT.format('shirt')}",
    ),
    "a rollup by product with a piece too many": (
        (ROLLUPS[1],),
        "UPDATE orders.product_days SET pieces = pieces + 1"
        f" WHERE product_id = {PRODUCT.format('gift')}",
    ),
    "a rollup by product that was lost": (
        (ROLLUPS[1],),
        f"DELETE FROM orders.product_days WHERE product_id = {PRODUCT.format('hat')}",
    ),
    "a rollup of a product that nobody bought": (
        (ROLLUPS[1],),
        "INSERT INTO orders.product_days SELECT day, gen_random_uuid(), 1, 1, 1"
        " FROM orders.rolled_days LIMIT 1",
    ),
    "a rollup by customer at another amount": (
        (ROLLUPS[2],),
        "UPDATE orders.customer_days SET amount = amount - 1",
    ),
    "a rollup by customer that was lost": (
        (ROLLUPS[2],),
        "DELETE FROM orders.customer_days WHERE customer_id = (SELECT customer_id FROM"
        f" orders.orders WHERE id = {ORDER.format('prepaid')})",
    ),
    "a rollup of a customer who bought nothing": (
        (ROLLUPS[2],),
        "INSERT INTO orders.customer_days SELECT day, gen_random_uuid(), 1, 1"
        " FROM orders.rolled_days LIMIT 1",
    ),
    "an order that changed days unnoticed": (
        ROLLUPS,
        "UPDATE orders.orders SET created_at = created_at - interval '3 days'"
        f" WHERE id = {ORDER.format('pending')}",
    ),
    "a paid order that nobody paid": (
        ("orders_are_paid_as_they_say", "revenue_is_what_is_paid"),
        f"UPDATE orders.orders SET payment_status = 'SUCCESS' WHERE id = {ORDER.format('waiting')}",
    ),
    "cash for what was not delivered": (
        (
            "orders_are_paid_as_they_say",
            "order_money_is_in_the_ledger",
            "revenue_is_what_is_paid",
        ),
        "UPDATE orders.orders SET payment_status = 'SUCCESS', payment_id = id"
        f" WHERE id = {ORDER.format('shipped')}",
    ),
    "a delivery that nobody paid for": (
        (
            "orders_are_paid_as_they_say",
            "order_money_is_in_the_ledger",
            "revenue_is_what_is_paid",
        ),
        "UPDATE orders.orders SET payment_status = 'PENDING', payment_id = NULL"
        f" WHERE id = {ORDER.format('delivered')}",
    ),
    "a failed payment on the courier's list": (
        ("orders_are_paid_as_they_say",),
        "UPDATE orders.orders SET payment_status = 'FAILED'"
        f" WHERE id = {ORDER.format('confirmed')}",
    ),
    "an order void while it waits": (
        ("orders_are_paid_as_they_say",),
        f"UPDATE orders.orders SET payment_status = 'VOID' WHERE id = {ORDER.format('pending')}",
    ),
    "an order that is off and still to be paid": (
        ("orders_are_paid_as_they_say",),
        "UPDATE orders.orders SET payment_status = 'PENDING'"
        f" WHERE id = {ORDER.format('cancelled')}",
    ),
    "an order refunded while it stands": (
        (
            "orders_are_paid_as_they_say",
            "captured_money_pays_or_goes_back",
            "revenue_is_what_is_paid",
        ),
        "UPDATE orders.orders SET payment_status = 'REFUNDED'"
        f" WHERE id = {ORDER.format('prepaid')}",
    ),
    "an order paid by another method": (
        ("orders_are_paid_as_they_say",),
        f"UPDATE orders.orders SET payment_method = 'BANKING' WHERE id = {ORDER.format('prepaid')}",
    ),
    "an order paid by another's payment": (
        ("orders_are_paid_as_they_say", "captured_money_pays_or_goes_back"),
        f"UPDATE orders.orders SET payment_id = {PAYMENT.format('second')}"
        f" WHERE id = {ORDER.format('prepaid')}",
    ),
    "a captured payment that bought nothing": (
        ("captured_money_pays_or_goes_back", "order_money_is_in_the_ledger"),
        f"UPDATE payments.payments SET captured = amount WHERE id = {PAYMENT.format('waiting')}",
    ),
    "a payment of more than the order": (
        ("captured_money_pays_or_goes_back",),
        f"UPDATE payments.payments SET amount = amount + 1 WHERE id = {PAYMENT.format('waiting')}",
    ),
    "a payment for an order that is not there": (
        ("captured_money_pays_or_goes_back",),
        "UPDATE payments.payments SET order_id = gen_random_uuid()"
        f" WHERE id = {PAYMENT.format('waiting')}",
    ),
    "a wrong amount that was never sent back": (
        ("captured_money_pays_or_goes_back", "order_money_is_in_the_ledger"),
        f"DELETE FROM payments.refunds WHERE payment_id = {PAYMENT.format('wrong')}",
    ),
    "a late payment that was never sent back": (
        (
            "orders_are_paid_as_they_say",
            "captured_money_pays_or_goes_back",
            "order_money_is_in_the_ledger",
        ),
        f"DELETE FROM payments.refunds WHERE payment_id = {PAYMENT.format('late')}",
    ),
    "a refund of a little": (
        (
            "orders_are_paid_as_they_say",
            "captured_money_pays_or_goes_back",
            "order_money_is_in_the_ledger",
        ),
        "UPDATE payments.refunds SET amount = amount - 1"
        f" WHERE payment_id = {PAYMENT.format('refunded')}",
    ),
    "a refund of what was kept": (
        (
            "orders_are_paid_as_they_say",
            "captured_money_pays_or_goes_back",
            "order_money_is_in_the_ledger",
        ),
        "INSERT INTO payments.refunds (id, payment_id, amount, reason) VALUES"
        f" (gen_random_uuid(), {PAYMENT.format('prepaid')}, 1, 'hand')",
    ),
    "a payment that vanished": (
        ("orders_are_paid_as_they_say", "order_money_is_in_the_ledger"),
        f"DELETE FROM payments.payments WHERE id = {PAYMENT.format('prepaid')}",
    ),
    "money taken twice": (
        ("order_money_is_in_the_ledger", "revenue_is_what_is_paid"),
        f"SELECT money_moves('PAYMENT:' || {PAYMENT.format('prepaid')} || ':again', 1000)",
    ),
    "money given back twice": (
        ("order_money_is_in_the_ledger", "revenue_is_what_is_paid"),
        f"SELECT money_moves('PAYBACK:' || {PAYMENT.format('refunded')} || ':again', -1000)",
    ),
    "money that a key takes which gives back": (
        ("order_money_is_in_the_ledger",),
        "UPDATE ledger.transfers SET key = replace(key, 'PAYMENT', 'PAYBACK')"
        f" WHERE key = 'PAYMENT:' || {PAYMENT.format('prepaid')}",
    ),
    "a payment whose key names nothing": (
        ("order_money_is_in_the_ledger",),
        f"UPDATE ledger.transfers SET key = 'PAYMENT:x'"
        f" WHERE key = 'PAYMENT:' || {PAYMENT.format('prepaid')}",
    ),
    "cash that never reached the books": (
        ("order_money_is_in_the_ledger",),
        "UPDATE ledger.entries e SET amount = e.amount - sign(e.amount) FROM ledger.transfers t"
        f" WHERE t.id = e.transfer_id AND t.key = 'PAYMENT:' || {ORDER.format('delivered')}",
    ),
    "a till with a hole": (
        ("revenue_is_what_is_paid",),
        "UPDATE ledger.accounts SET balance = balance - 1 WHERE purpose = 'revenue'",
    ),
    "a courier who owes too little": (
        ("revenue_is_what_is_paid",),
        "UPDATE ledger.accounts SET balance = balance + 1 WHERE purpose = 'clearing:cod'",
    ),
    "a step that nobody heard of": (
        ("order_steps_have_their_events",),
        "DELETE FROM events.log WHERE type = 'orders.OrderShipped'"
        f" AND key = {ORDER.format('shipped')}",
    ),
    "a step that was told as another": (
        ("order_steps_have_their_events",),
        "UPDATE events.log SET type = 'orders.OrderReturned' WHERE type = 'orders.OrderCancelled'"
        f" AND key = {ORDER.format('lapsed')}",
    ),
    "news of what never happened": (
        ("order_steps_have_their_events",),
        "INSERT INTO events.log (key, seq, id, type, payload) VALUES"
        f" ({ORDER.format('pending')}, 99, gen_random_uuid(), 'orders.OrderDelivered', '{{}}')",
    ),
    "an order that was never announced": (
        ("order_steps_have_their_events",),
        "DELETE FROM events.log WHERE type = 'orders.OrderPlaced'"
        f" AND key = {ORDER.format('gift')}",
    ),
    "a receipt that nobody heard of": (
        ("supplies_have_their_events",),
        "DELETE FROM events.log WHERE type = 'orders.StockMoved'"
        f" AND key = {PRODUCT.format('gift')}",
    ),
    "news of a receipt that never came": (
        ("supplies_have_their_events",),
        "INSERT INTO events.log (key, seq, id, type, payload) VALUES"
        f" ({PRODUCT.format('hat')}, 99, gen_random_uuid(), 'orders.StockMoved', '{{}}')",
    ),
    "pieces that came by hand": (
        ("supplies_have_their_events", "supplies_are_counted", "stock_adds_up"),
        f"SELECT pieces_move('SUPPLY:' || {PRODUCT.format('hat')} || ':2', 'hat', 'world', 'free',"
        " 5)",
    ),
}
"""By name: the invariants that find it, all others of the room being silent, and the statements.
They suit the history that `test_orders_invariants.py` writes; `named` are its orders, by what
became of them."""

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
CREATE FUNCTION pieces_move(key text, of text, source text, target text, pieces bigint)
RETURNS void LANGUAGE sql AS $$
    SELECT move(key, a.unit, ARRAY[a.id, b.id], ARRAY[-pieces, pieces])
    FROM orders.products p
    JOIN ledger.accounts a ON a.unit = 'PIECE:' || p.id AND a.purpose = source
    JOIN ledger.accounts b ON b.unit = a.unit AND b.purpose = target
    WHERE p.sku = of;
$$;
CREATE FUNCTION money_moves(key text, amount bigint) RETURNS void LANGUAGE sql AS $$
    SELECT move(key, 'VND', ARRAY[c.id, r.id], ARRAY[-amount, amount])
    FROM ledger.accounts c, ledger.accounts r
    WHERE c.purpose = 'clearing:sandbox' AND r.purpose = 'revenue';
$$;
"""
"""What the statements call: pieces and money that move by a transfer that chains."""
