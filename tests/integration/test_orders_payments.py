"""How orders are paid: at once, late, twice, wrongly, in cash; and how money goes back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from playing import assert_clean, code_of, come_back, drained
from storefront import (
    PAGE,
    PRICE,
    everything,
    group,
    history,
    lapsed,
    money,
    new_product,
    open_tills,
    payment_now,
    payment_of,
    place,
    status,
    stock,
    take,
    tell,
    time_out,
)
from strongroom.apps.orders.orders import PayOrder
from strongroom.apps.orders.rows import Method
from strongroom.apps.orders.steps import RecordPayment, Step, TakeStep
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom


def news(payment: UUID, amount: int = PRICE, result: str = "SUCCESS") -> RecordPayment:
    return RecordPayment(payment, result, amount, f"REF-{payment}")  # type: ignore[arg-type]


async def ordered(
    house: Strongroom, method: Method = "MOMO", *, price: int = PRICE
) -> tuple[UUID, UUID, UUID]:
    """(product, order, payment) of an order that waits for its money."""
    shirt = await new_product(house, 10, price=price)
    order = (await place(house, (shirt, 1), method=method)).order_id
    return shirt, order, await payment_of(house, order)


async def again(house: Strongroom, order: UUID, method: Method) -> UUID:
    """Another payment of the order; None comes of cash."""
    await house.run(PayOrder(order, None, method))
    return await payment_of(house, order)


async def kept(house: Strongroom, order: UUID) -> tuple[str, str, int]:
    """How an order was paid, what became of that, and its version."""
    row = await house.database.fetchrow(
        "SELECT payment_method::text, payment_status::text, version FROM orders.orders"
        " WHERE id = $1",
        order,
    )
    assert row is not None
    return row[0], row[1], row[2]


# Told once or often --------------------------------------------------------------------------------


async def test_midaz_1519_one_payment_told_of_often_is_captured_once(
    house: Strongroom, owner: Database
) -> None:
    _, order, payment = await ordered(house)
    told = [news(payment), news(payment), news(payment, PRICE - 1), news(payment, 0, "FAILED")]
    assert [code for code, _ in await group(house, *told)] == [None] * 4
    once = await everything(owner)
    for one in told:
        await house.run(one)
    assert await everything(owner) == once
    assert await payment_now(house, payment) == ("SUCCESS", PRICE, 0)
    assert await status(house, order) == ("CONFIRMED", "SUCCESS")
    assert [entry[1] for entry in await history(house, order)] == ["PENDING", "CONFIRMED"]
    assert await money(house) == (PRICE, PRICE, 0)
    await assert_clean(house)


async def test_a_failure_told_after_the_money_came_changes_nothing(
    house: Strongroom, owner: Database
) -> None:
    _, order, payment = await ordered(house)
    await tell(house, order)
    await take(house, order, "ship")
    before = await everything(owner)
    await house.run(news(payment, 0, "FAILED"))
    await house.run(news(payment, PRICE, "FAILED"))
    assert await everything(owner) == before


async def test_money_of_a_payment_that_was_said_to_have_failed_is_taken_all_the_same(
    house: Strongroom,
) -> None:
    _, order, payment = await ordered(house)
    await tell(house, order, "FAILED")
    assert await status(house, order) == ("PENDING", "FAILED")
    assert await payment_now(house, payment) == ("FAILED", None, 0)
    await house.run(news(payment, 0, "FAILED"))
    assert (await kept(house, order))[2] == 2
    await house.run(news(payment))
    assert await kept(house, order) == ("MOMO", "SUCCESS", 3)
    assert await money(house) == (PRICE, PRICE, 0)
    await assert_clean(house)


async def test_a_wrong_amount_goes_back_whole_and_the_right_one_may_come_after_it(
    house: Strongroom,
) -> None:
    for amount in (1, PRICE - 1, PRICE + 1, 2 * PRICE):
        _, order, payment = await ordered(house)
        await house.run(news(payment, amount))
        assert await payment_now(house, payment) == ("FAILED", amount, amount)
        assert await status(house, order) == ("PENDING", "FAILED")
        assert await money(house) == (0, 0, 0)
        # What this payment had to say it has said.
        await house.run(news(payment))
        assert await status(house, order) == ("PENDING", "FAILED")
        second = await again(house, order, "CARD")
        await house.run(news(second))
        assert await kept(house, order) == ("CARD", "SUCCESS", 4)
        await take(house, order, "cancel")
        assert await payment_now(house, second) == ("SUCCESS", PRICE, PRICE)
        assert await money(house) == (0, 0, 0)
    await assert_clean(house)


async def test_what_is_said_of_no_payment_at_all_is_not_found(
    house: Strongroom, owner: Database
) -> None:
    await open_tills(house)
    before = await everything(owner)
    assert await code_of(house.run(news(uuid7()))) == "not_found"
    assert await everything(owner) == before


# Another attempt -----------------------------------------------------------------------------------


async def test_after_a_failure_another_method_pays_and_the_first_ones_late_money_goes_back(
    house: Strongroom,
) -> None:
    _, order, first = await ordered(house)
    await tell(house, order, "FAILED")
    second = await again(house, order, "BANKING")
    assert await kept(house, order) == ("BANKING", "PENDING", 3)
    # The first one failing once more says nothing about the second.
    await house.run(news(first, 0, "FAILED"))
    assert await status(house, order) == ("PENDING", "PENDING")
    await house.run(news(second))
    await house.run(news(first))
    assert await kept(house, order) == ("BANKING", "SUCCESS", 4)
    assert await payment_now(house, first) == ("SUCCESS", PRICE, PRICE)
    assert await payment_now(house, second) == ("SUCCESS", PRICE, 0)
    assert await money(house) == (PRICE, PRICE, 0)
    await take(house, order, "ship", "return")
    assert (await payment_now(house, second))[2] == PRICE
    assert await money(house) == (0, 0, 0)
    await assert_clean(house)


async def test_the_first_payment_counts_when_its_money_comes_before_that_of_the_second(
    house: Strongroom,
) -> None:
    _, order, first = await ordered(house)
    await tell(house, order, "FAILED")
    second = await again(house, order, "CARD")
    codes = [code for code, _ in await group(house, news(first), news(second))]
    assert codes == [None, None]
    assert await kept(house, order) == ("MOMO", "SUCCESS", 4)
    assert await payment_of(house, order) == first
    assert await payment_now(house, second) == ("SUCCESS", PRICE, PRICE)
    await take(house, order, "cancel")
    assert (await payment_now(house, first))[2] == PRICE
    assert await money(house) == (0, 0, 0)
    await assert_clean(house)


async def test_cash_may_follow_a_failed_payment_and_is_collected_with_the_delivery(
    house: Strongroom,
) -> None:
    shirt, order, first = await ordered(house)
    await tell(house, order, "FAILED")
    assert await code_of(take(house, order, "confirm")) == "not_paid"
    await house.run(PayOrder(order, None, "COD"))
    assert await kept(house, order) == ("COD", "PENDING", 3)
    assert await payment_of(house, order) is None
    await take(house, order, "confirm", "ship")
    await house.run(news(first))
    assert await payment_now(house, first) == ("SUCCESS", PRICE, PRICE)
    assert await money(house) == (0, 0, 0)
    await take(house, order, "deliver")
    assert (await payment_of(house, order), await money(house)) == (order, (PRICE, 0, PRICE))
    await take(house, order, "return")
    assert await status(house, order) == ("RETURNED", "REFUNDED")
    assert (await money(house), await stock(house, shirt)) == ((0, 0, 0), (10, 0, 0))
    await assert_clean(house)


async def test_who_paid_after_all_owes_the_courier_nothing(house: Strongroom) -> None:
    _, order, first = await ordered(house)
    await tell(house, order, "FAILED")
    await house.run(PayOrder(order, None, "COD"))
    await house.run(news(first))
    assert await kept(house, order) == ("MOMO", "SUCCESS", 4)
    await take(house, order, "ship", "deliver")
    assert await money(house) == (PRICE, PRICE, 0)
    await assert_clean(house)


async def test_cash_may_become_a_payment_while_the_order_waits(house: Strongroom) -> None:
    shirt = await new_product(house)
    user = uuid7()
    order = (await place(house, (shirt, 1), user=user)).order_id
    asked = await house.run(PayOrder(order, user, "ZALOPAY"))
    payment = await payment_of(house, order)
    assert (asked.payment.method, asked.payment.redirect_url) == ("ZALOPAY", f"/pay/{payment}")
    row = await house.database.fetchrow(
        "SELECT p.user_id, p.amount, p.payee, p.expires_at = o.expires_at FROM payments.payments p"
        " JOIN orders.orders o ON o.id = p.order_id"
    )
    assert row is not None
    assert tuple(row) == (user, PRICE, "orders", True)
    await tell(house, order)
    assert await status(house, order) == ("CONFIRMED", "SUCCESS")
    await assert_clean(house)


async def test_a_payment_is_asked_for_only_while_one_is_due_and_none_is_under_way(
    house: Strongroom, owner: Database
) -> None:
    _, waiting, _ = await ordered(house)
    _, paid, _ = await ordered(house)
    await tell(house, paid)
    _, off, _ = await ordered(house)
    await take(house, off, "cancel")
    shirt, sent, _ = await ordered(house)
    await tell(house, sent, "FAILED")
    await house.run(PayOrder(sent, None, "COD"))
    await take(house, sent, "confirm")
    before = await everything(owner)
    for order in (waiting, paid, off, sent):
        for wish in (PayOrder(order, None, "MOMO"), PayOrder(order, None, "COD")):
            assert await code_of(house.run(wish)) == "wrong_state"
    assert await code_of(take(house, waiting, "confirm")) == "not_paid"
    assert await everything(owner) == before
    # Two wishes in one group: one is under way when the other is decided.
    order = (await place(house, (shirt, 1))).order_id
    answers = await group(house, *(PayOrder(order, None, "CARD") for _ in range(2)))
    assert [code for code, _ in answers] == [None, "wrong_state"]
    await assert_clean(house)


# After the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["cancel", "lapse"])
async def test_money_that_comes_when_the_order_is_off_goes_back_whole(
    house: Strongroom, owner: Database, end: str
) -> None:
    shirt, order, payment = await ordered(house)
    if end == "cancel":
        await take(house, order, "cancel")
    else:
        await time_out(owner)
        await lapsed(house)
    assert await status(house, order) == ("CANCELLED", "VOID")
    for _ in range(2):
        await house.run(news(payment))
    assert await payment_now(house, payment) == ("SUCCESS", PRICE, PRICE)
    assert await status(house, order) == ("CANCELLED", "REFUNDED")
    assert (await money(house), await stock(house, shirt)) == ((0, 0, 0), (10, 0, 0))
    assert len(await history(house, order)) == 2
    # And what failed after the end leaves the order as it is.
    _, other, late = await ordered(house)
    await take(house, other, "cancel")
    version = (await kept(house, other))[2]
    await house.run(news(late, 0, "FAILED"))
    assert await kept(house, other) == ("MOMO", "VOID", version)
    await assert_clean(house)


async def test_a_wrong_amount_after_the_end_goes_back_whole(house: Strongroom) -> None:
    for amount in (PRICE - 1, PRICE + 1):
        _, order, payment = await ordered(house)
        await take(house, order, "cancel")
        await house.run(news(payment, amount))
        assert await payment_now(house, payment) == ("FAILED", amount, amount)
        assert await status(house, order) == ("CANCELLED", "VOID")
        assert await money(house) == (0, 0, 0)
    await assert_clean(house)


STEPS: list[tuple[Method, tuple[Step, ...], tuple[str, str], int]] = [
    ("MOMO", ("cancel",), ("CANCELLED", "REFUNDED"), 1),
    ("MOMO", ("ship", "return"), ("RETURNED", "REFUNDED"), 1),
    ("MOMO", ("ship", "deliver", "return"), ("RETURNED", "REFUNDED"), 1),
    ("COD", ("cancel",), ("CANCELLED", "VOID"), 0),
    ("COD", ("confirm", "cancel"), ("CANCELLED", "VOID"), 0),
    ("COD", ("confirm", "ship", "return"), ("RETURNED", "VOID"), 0),
    ("COD", ("confirm", "ship", "deliver", "return"), ("RETURNED", "REFUNDED"), 0),
]


async def test_hi_events_466_what_was_taken_is_given_back_from_wherever_an_order_ends(
    house: Strongroom, owner: Database
) -> None:
    shirt, hat = await new_product(house, 10), await new_product(house, 10, price=1)
    refunds = 0
    for method, steps, end, sent_back in STEPS:
        order = (await place(house, (shirt, 2), (hat, 3), method=method)).order_id
        if method == "MOMO":
            await tell(house, order)
        await take(house, order, *steps)
        assert await status(house, order) == end
        assert (await stock(house, shirt), await stock(house, hat)) == ((10, 0, 0), (10, 0, 0))
        assert await money(house) == (0, 0, 0)
        refunds += sent_back
        assert await owner.fetchval("SELECT count(*) FROM payments.refunds") == refunds
        before = await everything(owner)
        last: list[Step] = ["cancel", "return"]
        answers = await group(house, *(TakeStep(order, step) for step in last * 2))
        assert [code for code, _ in answers] == ["wrong_state"] * 4
        assert await everything(owner) == before
    await assert_clean(house)


async def test_each_coin_that_moves_is_in_the_ledger_with_its_order(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 10)
    cash = await place(house, (shirt, 1))
    await take(house, cash.order_id, "confirm", "ship", "deliver", "return")
    momo = await place(house, (shirt, 2), method="MOMO")
    payment = await tell(house, momo.order_id)
    await take(house, momo.order_id, "cancel")
    rows = await owner.fetch(
        "SELECT t.key, t.reference, min(e.type::text) || ' ' || max(e.type::text),"
        " string_agg(a.purpose || ' ' || e.amount, ', ' ORDER BY e.amount)"
        " FROM ledger.transfers t JOIN ledger.entries e ON e.transfer_id = t.id"
        " JOIN ledger.accounts a ON a.id = e.account_id"
        " WHERE t.unit = 'VND' GROUP BY t.id ORDER BY t.id"
    )
    took, gave = "PAYMENT PAYMENT", "REFUND REFUND"
    assert [tuple(row) for row in rows] == [
        (f"PAYMENT:{cash.order_id}", cash.code, took, "clearing:cod -50000, revenue 50000"),
        (f"PAYBACK:{cash.order_id}", cash.code, gave, "revenue -50000, clearing:cod 50000"),
        (f"PAYMENT:{payment}", momo.code, took, "clearing:sandbox -100000, revenue 100000"),
        (f"PAYBACK:{payment}", momo.code, gave, "revenue -100000, clearing:sandbox 100000"),
    ]


async def test_each_change_of_an_order_is_told_once(house: Strongroom, owner: Database) -> None:
    shirt = await new_product(house, 10)
    cash = (await place(house, (shirt, 1))).order_id
    await take(house, cash, "confirm", "ship", "deliver", "return")
    momo = (await place(house, (shirt, 1), method="MOMO")).order_id
    await tell(house, momo, "FAILED")
    await house.run(PayOrder(momo, None, "CARD"))
    for _ in range(2):
        await tell(house, momo)
    await take(house, momo, "cancel")
    off = (await place(house, (shirt, 1))).order_id
    await time_out(owner)
    await lapsed(house)

    async def told(order: UUID) -> list[str]:
        query = "SELECT type FROM events.log WHERE key = $1 ORDER BY id"
        return [row[0].removeprefix("orders.") for row in await owner.fetch(query, order)]

    assert await told(cash) == [
        "OrderPlaced",
        "OrderConfirmed",
        "OrderShipped",
        "OrderPaid",
        "OrderDelivered",
        "MoneyReturned",
        "OrderReturned",
    ]
    assert await told(momo) == [
        "OrderPlaced",
        "PaymentFailed",
        "PaymentAsked",
        "OrderPaid",
        "OrderConfirmed",
        "MoneyReturned",
        "OrderCancelled",
    ]
    assert await told(off) == ["OrderPlaced", "OrderCancelled"]


# Through the sandbox -------------------------------------------------------------------------------


async def bank(owner: Database) -> tuple[int, int]:
    """What the bank has taken, and sent back."""
    sums = "SELECT sum(captured)::bigint, sum(refunded)::bigint FROM payments.sandbox_charges"
    taken, returned = (await owner.fetch(sums))[0]
    return taken or 0, returned or 0


async def later(house: Strongroom, owner: Database) -> None:
    """The time of whatever the sandbox and we have put off has come."""
    for table, column in (
        ("payments.sandbox_charges", "due_at"),
        ("payments.payments", "next_query_at"),
    ):
        await owner.fetch(
            f"UPDATE {table} SET {column} = now() - interval '1 s' WHERE {column} IS NOT NULL"
        )
    await come_back(owner)
    await drained(house)


ENDS: dict[int, Any] = {
    500_000: ("CONFIRMED", "SUCCESS"),
    54_001: ("PENDING", "FAILED"),  # refused
    54_002: ("CONFIRMED", "SUCCESS"),  # slow
    54_004: ("CONFIRMED", "SUCCESS"),  # told twice
    54_005: ("CONFIRMED", "SUCCESS"),  # told out of order
    54_006: ("PENDING", "FAILED"),  # a wrong amount
    54_007: ("PENDING", "PENDING"),  # forged
    54_008: ("CONFIRMED", "SUCCESS"),  # silent until asked
    PAGE: ("PENDING", "PENDING"),
}


async def test_whatever_the_bank_does_an_order_that_is_off_keeps_none_of_its_money(
    house: Strongroom, owner: Database
) -> None:
    orders = {price: (await ordered(house, price=price))[1] for price in ENDS}
    await drained(house)
    for _ in range(2):
        await later(house, owner)
        assert {price: await status(house, orders[price]) for price in orders} == ENDS
    by = [entry[2] for entry in await history(house, orders[500_000])]
    assert by == ["library", "worker:orders_pay"]
    confirmed = sum(price for price in ENDS if ENDS[price][0] == "CONFIRMED")
    assert await money(house) == (confirmed, confirmed, 0)
    await assert_clean(house)
    for order in orders.values():
        await take(house, order, "cancel")
    await drained(house)
    taken, returned = await bank(owner)
    assert taken == returned > confirmed
    assert await money(house) == (0, 0, 0)
    await assert_clean(house)


async def test_late_money_of_an_order_that_lapsed_goes_back_to_the_bank(
    house: Strongroom, owner: Database
) -> None:
    shirt, order, _ = await ordered(house, price=54_003)
    _, page, payment = await ordered(house, price=PAGE)
    await drained(house)
    await time_out(owner)
    await drained(house)
    await house.payments.sandbox.decide(
        await house.payments.payment(payment), "9704 0000 0000 4000"
    )
    await later(house, owner)
    for each in (order, page):
        assert await status(house, each) == ("CANCELLED", "REFUNDED")
    assert await bank(owner) == (54_003 + PAGE, 54_003 + PAGE)
    assert (await money(house), await stock(house, shirt)) == ((0, 0, 0), (10, 0, 0))
    await assert_clean(house)
