"""Buying: the order, every news of its payment in every order, refunds, events called off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import permutations
from typing import Any

import pytest

from boxoffice import (
    PRICE,
    REFUNDED,
    Bought,
    cleared,
    complete,
    earned,
    mails_of,
    new_event,
    news,
    older,
    order_now,
    ordered,
    payment_now,
    payment_of,
    reserve,
    seats_of,
    swept,
    tell,
    tickets_of,
    time_out,
    worked,
)
from playing import Houses, assert_clean, code_of, codes_of, drained, outcome_of, ticket
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import CancelEvent, EditTicketType, EndEvent
from strongroom.apps.ticketing.flow import forget_reservations
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReleaseReservation, ReserveSeats
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

AGAIN = ("PAID", "SEATS_AGAIN")


async def paid_again(house: Strongroom, one: Bought) -> Bought:
    """Another payment of an order whose last one failed."""
    order = await complete(house, one.user, one.reservation, "CARD")
    assert order.order_id == one.order
    return one._replace(payment=await payment_of(house, one.order))


# Completing ------------------------------------------------------------------------------------------


async def test_an_order_has_the_price_that_was_promised(house: Strongroom) -> None:
    show = await new_event(house, 5, 5)
    ann = uuid7()
    held = await reserve(house, ann, (show.types[0], 2), (show.types[1], 1))
    await house.run(EditTicketType(show.id, show.types[0], price=9 * PRICE))
    order = await complete(house, ann, held.reservation_id, owner_name="Ánh")
    assert order.total_amount == held.total_amount == 3 * PRICE
    rows = await house.database.fetch("SELECT quantity, unit_price FROM ticketing.order_items")
    assert sorted(map(tuple, rows)) == [(1, PRICE), (2, PRICE)]
    payment = await payment_of(house, order.order_id)
    await house.run(news(payment, 3 * PRICE))
    assert await order_now(house, order.order_id) == ("PAID", None)
    assert await earned(house, show.id) == 3 * PRICE
    await assert_clean(house)


async def test_what_costs_nothing_is_paid_at_once_and_its_cancellation_moves_no_money(
    house: Strongroom,
) -> None:
    show = await new_event(house, 3, price=0)
    ann = uuid7()
    held = await reserve(house, ann, (show.type, 2))
    order = await complete(house, ann, held.reservation_id)
    assert (order.status, order.payment.status, order.total_amount) == ("PAID", "SUCCESS", 0)
    assert len(await tickets_of(house, order.order_id)) == 2
    assert await seats_of(house, show.types) == [(1, 0, 2)]
    assert await mails_of(house, order.order_id) == [("TICKETS", 0)]
    assert await code_of(complete(house, ann, held.reservation_id)) == "wrong_state"
    await assert_clean(house)
    await house.run(CancelEvent(show.id))
    await worked(house)
    assert await seats_of(house, show.types) == [(3, 0, 0)]
    assert await house.database.fetchval("SELECT count(*) FROM payments.refunds") == 0
    await assert_clean(house)


async def test_free_and_priced_seats_of_one_cart_are_paid_together(house: Strongroom) -> None:
    show = await new_event(house, 3)
    await house.run(EditTicketType(show.id, show.type, price=0))
    ann = uuid7()
    held = await reserve(house, ann, (show.type, 1))
    await house.run(EditTicketType(show.id, show.type, price=PRICE))
    order = await complete(house, ann, held.reservation_id)
    assert (order.status, order.total_amount) == ("PAID", 0)
    await assert_clean(house)


async def test_a_booking_is_completed_once(houses: Houses, house: Strongroom) -> None:
    pair = (house, await houses())
    show = await new_event(house, 5)
    ann = uuid7()
    held = await reserve(house, ann, (show.type, 1))
    wish = CompleteBooking(ann, held.reservation_id, "MOMO")
    same = await asyncio.gather(*(outcome_of(one, ticket(wish, "key")) for one in pair))
    assert len({one.body for one in same}) == 1
    assert await code_of(house.run(wish)) == "wrong_state"
    both = [ticket(wish, f"key-{n}") for n in range(2)]
    await house.executor.run(both)
    assert [(await one.future).refused for one in both] == ["wrong_state"] * 2
    counts = (
        "SELECT (SELECT count(*) FROM ticketing.orders), (SELECT count(*) FROM payments.payments)"
    )
    assert tuple((await house.database.fetch(counts))[0]) == (1, 1)
    await assert_clean(house)


async def test_of_two_completions_in_one_group_or_in_two_houses_one_wins(
    houses: Houses, house: Strongroom
) -> None:
    pair = (house, await houses())
    show = await new_event(house, 9)
    ann = uuid7()
    for together in (True, False):
        held = await reserve(house, ann, (show.type, 1))
        wishes = [CompleteBooking(ann, held.reservation_id, "MOMO") for _ in pair]
        if together:
            group = [ticket(one, f"group-{n}") for n, one in enumerate(wishes)]
            await house.executor.run(group)
            codes = [(await one.future).refused for one in group]
        else:
            codes = await codes_of([h.run(one) for h, one in zip(pair, wishes, strict=True)])
        assert set(codes) == {None, "wrong_state"}
    await assert_clean(house)


async def test_a_strangers_reservation_is_not_there(house: Strongroom) -> None:
    show = await new_event(house, 5)
    held = await reserve(house, uuid7(), (show.type, 1))
    assert await code_of(complete(house, uuid7(), held.reservation_id)) == "not_found"
    assert await code_of(complete(house, uuid7(), uuid7())) == "not_found"


async def test_what_has_ended_cannot_be_completed(house: Strongroom, owner: Database) -> None:
    show = await new_event(house, 5)
    dead, released = await ordered(house, (show.type, 1)), await ordered(house, (show.type, 1))
    off = await new_event(house, 5)
    cancelled = await ordered(house, (off.type, 1))
    await time_out(owner, dead.reservation)
    await house.run(ReleaseReservation(released.user, released.reservation))
    await house.run(CancelEvent(off.id))
    expected = {
        dead: "reservation_expired",
        released: "wrong_state",
        cancelled: "event_cancelled",
    }
    for one, code in expected.items():
        assert await code_of(complete(house, one.user, one.reservation)) == code
    await swept(house, dead.reservation)
    assert await code_of(complete(house, dead.user, dead.reservation)) == "reservation_expired"


async def test_after_a_payment_that_failed_the_same_order_takes_another(
    house: Strongroom,
) -> None:
    show = await new_event(house, 5)
    first = await ordered(house, (show.type, 1))
    await tell(house, first, "FAILED")
    assert await payment_now(house, first.payment) == ("FAILED", None, 0)
    assert await seats_of(house, show.types) == [(4, 1, 0)]
    second = await paid_again(house, first)
    assert second.payment != first.payment
    assert await code_of(complete(house, first.user, first.reservation)) == "wrong_state"
    await tell(house, first, "FAILED")
    await tell(house, second)
    assert await order_now(house, first.order) == ("PAID", None)
    assert await mails_of(house, first.order) == [("TICKETS", PRICE)]
    await assert_clean(house)


# News of a payment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
async def test_news_in_every_order_and_number_come_to_the_same(
    house: Strongroom, together: bool
) -> None:
    """SUCCESS twice and FAILED twice, in every order, alone and in one group."""
    for order in sorted(set(permutations(["SUCCESS", "SUCCESS", "FAILED", "FAILED"]))):
        show = await new_event(house, 2)
        one = await ordered(house, (show.type, 2))
        said = [
            ticket(news(one.payment, one.amount if result == "SUCCESS" else 0, result), None)
            for result in order
        ]
        if together:
            await house.executor.run(said)
        else:
            for each in said:
                await house.executor.run([each])
        assert [(await each.future).error for each in said] == [None] * 4
        assert await order_now(house, one.order) == ("PAID", None), order
        assert await payment_now(house, one.payment) == ("SUCCESS", one.amount, 0)
        assert len(await tickets_of(house, one.order)) == 2
        assert await mails_of(house, one.order) == [("TICKETS", one.amount)]
        assert await earned(house, show.id) == one.amount
    await assert_clean(house)


async def test_news_that_come_to_two_houses_at_once_pay_once(
    houses: Houses, house: Strongroom
) -> None:
    pair = (house, await houses())
    show = await new_event(house, 20)
    buyers = [await ordered(house, (show.type, 1)) for _ in range(10)]
    calls: list[Awaitable[Any]] = [
        tell(pair[(n + turn) % 2], one, "FAILED" if turn == 1 else "SUCCESS")
        for turn in range(4)
        for n, one in enumerate(buyers)
    ]
    await asyncio.gather(*calls)
    assert await seats_of(house, show.types) == [(10, 0, 10)]
    assert await cleared(house) == await earned(house, show.id) == 10 * PRICE
    await assert_clean(house)


async def test_money_that_comes_late_takes_the_seats_again_while_there_are_any(
    house: Strongroom, owner: Database
) -> None:
    for seen in ("unseen", "swept"):
        show = await new_event(house, 2, 1)
        one = await ordered(house, (show.types[0], 2), (show.types[1], 1))
        await time_out(owner, one.reservation)
        if seen == "swept":
            await swept(house, one.reservation)
            assert await order_now(house, one.order) == ("TIMEOUT", None)
        await tell(house, one)
        await tell(house, one)
        assert await order_now(house, one.order) == AGAIN, seen
        assert await seats_of(house, show.types) == [(0, 0, 2), (0, 0, 1)]
        assert await payment_now(house, one.payment) == ("SUCCESS", one.amount, 0)
        assert await mails_of(house, one.order) == [("TICKETS", one.amount)]
    await assert_clean(house)


async def test_money_that_comes_late_goes_back_whole_and_once_where_a_seat_is_missing(
    house: Strongroom, owner: Database
) -> None:
    for seen in ("unseen", "swept"):
        show = await new_event(house, 2, 1)
        one = await ordered(house, (show.types[0], 1), (show.types[1], 1))
        await time_out(owner, one.reservation)
        if seen == "swept":
            await swept(house, one.reservation)
        other = await reserve(house, uuid7(), (show.types[1], 1))
        await tell(house, one)
        await tell(house, one)
        assert await order_now(house, one.order) == REFUNDED, seen
        assert await payment_now(house, one.payment) == ("SUCCESS", one.amount, one.amount)
        assert await seats_of(house, show.types) == [(2, 0, 0), (0, 1, 0)]
        assert await mails_of(house, one.order) == [("REFUNDED", one.amount)]
        assert other.status == "ACTIVE"
        assert await tickets_of(house, one.order) == {}
        assert await earned(house, show.id) == await cleared(house) == 0
    await assert_clean(house)


async def test_money_that_comes_after_the_event_is_over_buys_nothing(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 2)
    late, in_time = [await ordered(house, (show.type, 1)) for _ in range(2)]
    await time_out(owner, late.reservation)
    await house.run(EndEvent(show.id))
    await tell(house, late)
    await tell(house, in_time)
    assert await order_now(house, late.order) == REFUNDED
    assert await order_now(house, in_time.order) == ("PAID", None)
    assert await seats_of(house, show.types) == [(1, 0, 1)]
    await assert_clean(house)


async def test_late_payments_of_one_group_share_what_is_left(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 6)
    late = [await ordered(house, (show.type, 2)) for _ in range(3)]
    await time_out(owner)
    await reserve(house, uuid7(), (show.type, 2))
    said = [ticket(news(one.payment, one.amount), None) for one in late]
    await house.executor.run(said)
    assert [(await one.future).error for one in said] == [None] * 3
    decided = sorted([await order_now(house, one.order) for one in late])
    assert decided == [REFUNDED, AGAIN, AGAIN]
    assert await seats_of(house, show.types) == [(0, 2, 4)]
    assert await earned(house, show.id) == 4 * PRICE
    await assert_clean(house)


async def test_money_after_a_release_goes_back(house: Strongroom) -> None:
    show = await new_event(house, 2)
    one = await ordered(house, (show.type, 2))
    await house.run(ReleaseReservation(one.user, one.reservation))
    assert await order_now(house, one.order) == ("CANCELLED", None)
    await tell(house, one)
    await tell(house, one, "FAILED")
    await tell(house, one)
    assert await order_now(house, one.order) == ("CANCELLED", None)
    assert await payment_now(house, one.payment) == ("SUCCESS", one.amount, one.amount)
    assert await seats_of(house, show.types) == [(2, 0, 0)]
    assert await mails_of(house, one.order) == [("REFUNDED", one.amount)]
    await assert_clean(house)


async def test_late_money_does_not_lift_a_user_above_the_limit(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 20, per_user_limit=3)
    ann = uuid7()
    first, second = (
        await ordered(house, (show.type, 1), user=ann),
        await ordered(house, (show.type, 2), user=ann),
    )
    await time_out(owner)
    await reserve(house, ann, (show.type, 1))
    said = [ticket(news(one.payment, one.amount), None) for one in (first, second)]
    await house.executor.run(said)
    assert await order_now(house, first.order) == AGAIN
    assert await order_now(house, second.order) == REFUNDED
    await assert_clean(house)


async def test_late_money_of_two_houses_does_not_lift_a_user_above_the_limit(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    pair = (house, await houses())
    for _ in range(4):
        show = await new_event(house, 20, per_user_limit=2)
        ann = uuid7()
        late = await ordered(house, (show.type, 2), user=ann)
        await time_out(owner)
        wish = ReserveSeats(ann, ((show.type, 2),), 600)
        code, _ = await asyncio.gather(code_of(pair[0].run(wish)), tell(pair[1], late))
        decided = await order_now(house, late.order)
        assert (code, decided) in [(None, REFUNDED), ("per_user_limit", AGAIN)]
    await assert_clean(house)


@pytest.mark.parametrize("wrong", [-1, 1, PRICE])
async def test_a_wrong_amount_buys_nothing_and_goes_back_whole(
    house: Strongroom, wrong: int
) -> None:
    show = await new_event(house, 2)
    one = await ordered(house, (show.type, 1))
    for _ in range(2):
        await house.run(news(one.payment, PRICE + wrong))
    assert await payment_now(house, one.payment) == ("FAILED", PRICE + wrong, PRICE + wrong)
    assert await order_now(house, one.order) == ("PENDING", None)
    assert await mails_of(house, one.order) == [("REFUNDED", PRICE + wrong)]
    await tell(house, one)
    assert await order_now(house, one.order) == ("PENDING", None)
    second = await paid_again(house, one)
    await tell(house, second)
    assert await order_now(house, one.order) == ("PAID", None)
    assert await earned(house, show.id) == PRICE
    await assert_clean(house)


async def test_success_without_an_amount_is_no_payment(house: Strongroom) -> None:
    show = await new_event(house, 2)
    one = await ordered(house, (show.type, 1))
    await house.run(news(one.payment, 0))
    assert await payment_now(house, one.payment) == ("FAILED", None, 0)
    assert await order_now(house, one.order) == ("PENDING", None)
    await assert_clean(house)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_of_two_payments_of_one_order_the_second_money_goes_back(
    house: Strongroom, newest_first: bool
) -> None:
    show = await new_event(house, 2)
    first = await ordered(house, (show.type, 1))
    await tell(house, first, "FAILED")
    second = await paid_again(house, first)
    winner, loser = (second, first) if newest_first else (first, second)
    await tell(house, winner)
    assert await order_now(house, first.order) == ("PAID", None)
    await tell(house, loser)
    await tell(house, winner)
    assert await order_now(house, first.order) == ("PAID", None)
    assert await payment_of(house, first.order) == winner.payment
    assert await payment_now(house, winner.payment) == ("SUCCESS", PRICE, 0)
    assert await payment_now(house, loser.payment) == ("SUCCESS", PRICE, PRICE)
    assert await mails_of(house, first.order) == [("TICKETS", PRICE), ("REFUNDED", PRICE)]
    assert await earned(house, show.id) == await cleared(house) == PRICE
    await assert_clean(house)
    await house.run(CancelEvent(show.id))
    await worked(house)
    assert await payment_now(house, winner.payment) == ("SUCCESS", PRICE, PRICE)
    assert await earned(house, show.id) == await cleared(house) == 0
    await assert_clean(house)


async def test_two_payments_of_one_order_in_one_group_pay_once(house: Strongroom) -> None:
    show = await new_event(house, 2)
    first = await ordered(house, (show.type, 1))
    await tell(house, first, "FAILED")
    second = await paid_again(house, first)
    said = [ticket(news(one.payment, PRICE), None) for one in (first, second)]
    await house.executor.run(said)
    refunds = sorted([(await payment_now(house, one.payment))[2] for one in (first, second)])
    assert refunds == [0, PRICE]
    assert await seats_of(house, show.types) == [(1, 0, 1)]
    await assert_clean(house)


async def test_money_for_a_reservation_that_was_forgotten_goes_back(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 2)
    one = await ordered(house, (show.type, 1))
    await time_out(owner)
    await swept(house, one.reservation)
    await older(owner, 31)
    await forget_reservations(house.database, 5000)
    assert await house.database.fetchval("SELECT count(*) FROM ticketing.reservations") == 0
    await tell(house, one)
    assert await payment_now(house, one.payment) == ("SUCCESS", PRICE, PRICE)
    assert await seats_of(house, show.types) == [(2, 0, 0)]
    await assert_clean(house)


async def test_a_whole_booking_goes_through_by_itself(house: Strongroom, owner: Database) -> None:
    show = await new_event(house, 10, 5)
    user = uuid7()
    held = await reserve(house, user, (show.types[0], 2), (show.types[1], 1))
    order = await complete(house, user, held.reservation_id, owner_name="Nguyễn Văn A")
    assert (order.status, order.payment.status) == ("PENDING", "PENDING")
    assert order.payment.redirect_url == f"/pay/{await payment_of(house, order.order_id)}"
    await drained(house)
    assert await order_now(house, order.order_id) == ("PAID", None)
    assert await earned(house, show.id) == 3 * PRICE
    codes = await tickets_of(house, order.order_id)
    assert len(codes) == 3
    assert (await house.run(CheckIn(next(iter(codes)), "A"))).owner_name == "Nguyễn Văn A"
    await assert_clean(house)
    await house.run(CancelEvent(show.id))
    await drained(house)
    assert await seats_of(house, show.types) == [(10, 0, 0), (5, 0, 0)]
    assert await earned(house, show.id) == 0
    refunds = await owner.fetch("SELECT status::text, amount FROM payments.refunds")
    assert [tuple(row) for row in refunds] == [("DONE", 3 * PRICE)]
    await assert_clean(house)
