"""Bugs that other ticket and stock systems had, by the issue that told of them. None may be ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from boxoffice import (
    PRICE,
    bought,
    complete,
    deadlocks,
    earned,
    free,
    new_event,
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
from playing import (
    Houses,
    assert_clean,
    code_of,
    codes_of,
    drained,
    outcome_of,
    somebody_waits,
    ticket,
)
from strongroom.apps.ticketing.door import CheckIn, OfflineScan, RecordScans
from strongroom.apps.ticketing.events import CancelEvent, EditEvent, EditTicketType
from strongroom.apps.ticketing.flow import commands_due
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReleaseReservation, ReserveSeats
from strongroom.clock import now
from strongroom.core.commands.command import IdempotencyKeyReused
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

HOLD_SEATS = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'free' FOR UPDATE"
HOLD_RESERVATION = "SELECT FROM ticketing.reservations WHERE id = $1 FOR UPDATE"
HOLD_PAYMENT = "SELECT FROM payments.payments WHERE order_id = $1 FOR UPDATE"


@asynccontextmanager
async def held_up(
    owner: Database, query: str, id: UUID, calls: int
) -> AsyncIterator[list[asyncio.Future[str | None]]]:
    """What is begun in here waits for a row until so many wait; then they all go on at once."""
    begun: list[asyncio.Future[str | None]] = []
    async with owner.transaction() as db:
        await db.fetch(query, id)
        yield begun
        await somebody_waits(owner, calls)
    await asyncio.gather(*begun)


def begin(call: Awaitable[Any]) -> asyncio.Future[str | None]:
    return asyncio.ensure_future(code_of(call))


# Check, then act, without a lock ------------------------------------------------------------------


async def test_saleor_543_two_who_saw_the_last_seat_do_not_both_get_it(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    pair = (house, await houses())
    for _ in range(3):
        show = await new_event(house, 1)
        async with held_up(owner, HOLD_SEATS, show.type, 2) as begun:
            begun += [begin(reserve(one, uuid7(), (show.type, 1))) for one in pair]
        assert {one.result() for one in begun} == {None, "sold_out"}
    await assert_clean(house)


async def test_medusa_16569_a_seat_that_is_taken_off_sale_is_not_sold_as_well(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    other = await houses()
    for _ in range(3):
        show = await new_event(house, 1)
        lower = EditTicketType(show.id, show.type, quantity=0)
        async with held_up(owner, HOLD_SEATS, show.type, 2) as begun:
            begun += [begin(reserve(house, uuid7(), (show.type, 1))), begin(other.run(lower))]
        codes = tuple(one.result() for one in begun)
        assert codes in [(None, "seats_taken"), ("sold_out", None)]
    await assert_clean(house)


async def test_inventree_12478_a_decision_is_made_on_what_the_lock_showed(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    other, show = await houses(), await new_event(house, 5)
    edit = EditTicketType(show.id, show.type, price=7 * PRICE, per_user_limit=1)
    ann = uuid7()
    async with held_up(owner, HOLD_SEATS, show.type, 2) as begun:
        begun.append(begin(other.run(edit)))
        await somebody_waits(owner)
        begun += [begin(reserve(house, ann, (show.type, n))) for n in (2, 1)]
    assert [one.result() for one in begun] == [None, "per_user_limit", None]
    total = await owner.fetchval("SELECT total_amount FROM ticketing.reservations")
    assert total == 7 * PRICE
    await assert_clean(house)


# A lock skipped, or taken in any order ---------------------------------------------------------------


async def test_eventyay_1359_a_hold_that_ends_while_its_checkout_waits_is_not_bought(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 1)
    ann = uuid7()
    held = (await reserve(house, ann, (show.type, 1))).reservation_id
    async with owner.transaction() as db:
        await db.fetch(HOLD_RESERVATION, held)
        checkout = begin(complete(house, ann, held))
        await somebody_waits(owner)
        await db.fetch(
            "UPDATE ticketing.reservations SET expires_at = clock_timestamp() WHERE id = $1", held
        )
    assert await checkout == "reservation_expired"
    assert await code_of(reserve(house, uuid7(), (show.type, 1))) is None
    await assert_clean(house)


async def test_saleor_17123_all_that_moves_seats_moves_them_in_one_order(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    """Every command of the room on the same ticket types, in opposite order, from two houses."""
    pair = (house, await houses())
    for turn in range(4):
        show = await new_event(house, 60, 60, per_user_limit=50)
        forward = [(type, 1) for type in show.types]
        backward = forward[::-1]
        ones = [await ordered(house, *(forward if n % 2 else backward)) for n in range(12)]
        await time_out(owner, *(one.reservation for one in ones[:4]))
        calls: list[Awaitable[Any]] = []
        for n, one in enumerate(ones):
            home, other = pair[n % 2], pair[1 - n % 2]
            cart = forward if n % 3 else backward
            calls += [
                tell(home, one),
                other.run(ReleaseReservation(one.user, one.reservation)),
                other.run(ReserveSeats(uuid7(), tuple(cart), 600, one_per_event=bool(n % 2))),
                swept(home, *(each.reservation for each in ones[:: 1 if n % 2 else -1])),
                other.run(EditTicketType(show.id, cart[0][0], quantity=55 + n)),
                complete(other, one.user, one.reservation),
            ]
        calls.insert(len(calls) // (turn + 1), house.run(CancelEvent(show.id)))
        refused = {
            None, "reservation_expired", "wrong_state", "not_on_sale", "event_cancelled",
        }  # fmt: skip
        assert set(await codes_of(calls)) <= refused
        await asyncio.gather(worked(house), worked(pair[1]))
    await assert_clean(house)
    assert await deadlocks(owner) == 0


async def test_cala_779_buyers_reclaiming_the_same_dead_seats_do_not_deadlock(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    pair = (house, await houses())
    for _ in range(4):
        show = await new_event(house, 10, 10)
        for n in range(10):
            lines = [(type, 1) for type in show.types]
            await reserve(house, uuid7(), *(lines if n % 2 else lines[::-1]))
        await time_out(owner)
        calls = [reserve(pair[n % 2], uuid7(), (show.types[n // 2 % 2], 5)) for n in range(4)]
        assert await codes_of(calls) == [None] * 4
        assert await free(house, show.types) == [0, 0]
    await assert_clean(house)
    assert await deadlocks(owner) == 0


# The same thing twice ------------------------------------------------------------------------------


async def test_medusa_16502_the_same_ticket_type_on_two_lines_is_one_wish(
    house: Strongroom,
) -> None:
    show = await new_event(house, 3)
    assert await code_of(reserve(house, uuid7(), (show.type, 2), (show.type, 2))) == "sold_out"
    held = await reserve(house, uuid7(), (show.type, 2), (show.type, 1))
    assert held.total_amount == 3 * PRICE
    assert await free(house, show.types) == [0]
    await assert_clean(house)


async def test_formance_1633_one_scan_twice_in_one_upload_is_no_error(house: Strongroom) -> None:
    show = await new_event(house, 1)
    one = await bought(house, (show.type, 1))
    [code] = await tickets_of(house, one.order)
    scans = tuple(OfflineScan("scan-1", each, now()) for each in (code, code.lower()))
    recorded = await house.run(RecordScans(scans))
    assert [each.result for each in recorded.results] == ["ADMITTED"] * 2
    assert [each.replayed for each in recorded.results] == [False, True]
    await assert_clean(house)


async def test_midaz_a_key_that_comes_with_another_wish_is_refused(house: Strongroom) -> None:
    show = await new_event(house, 5)
    ann = uuid7()
    await outcome_of(house, ticket(ReserveSeats(ann, ((show.type, 1),), 600), "key"))
    other = await outcome_of(house, ticket(ReserveSeats(ann, ((show.type, 2),), 600), "key"))
    assert isinstance(other.error, IdempotencyKeyReused)
    assert await free(house, show.types) == [4]


# Payment, and what it pays for ---------------------------------------------------------------------


async def test_vendure_3508_a_seat_is_taken_before_it_is_paid_and_not_after(
    house: Strongroom,
) -> None:
    show = await new_event(house, 2)
    one = await ordered(house, (show.type, 1))
    await bought(house, (show.type, 1))
    assert await code_of(reserve(house, uuid7(), (show.type, 1))) == "sold_out"
    await tell(house, one)
    assert await order_now(house, one.order) == ("PAID", None)
    await assert_clean(house)


async def test_saleor_12652_a_callback_that_overtakes_the_answer_finds_its_order(
    house: Strongroom, owner: Database
) -> None:
    """The provider has told us before we have noted that it was asked; the buyer never heard."""
    show = await new_event(house, 2)
    ann = uuid7()
    held = (await reserve(house, ann, (show.type, 1))).reservation_id
    wish = CompleteBooking(ann, held, "MOMO")
    first = await outcome_of(house, ticket(wish, "key"))
    order = await owner.fetchval("SELECT id FROM ticketing.orders")
    await worked(house)
    payment = await payment_of(house, order)
    await drained(house)
    assert await order_now(house, order) == ("PAID", None)
    again = await outcome_of(house, ticket(wish, "key"))
    assert (again.body, again.replayed) == (first.body, True)
    assert await payment_now(house, payment) == ("SUCCESS", PRICE, 0)
    await assert_clean(house)


async def test_medusa_3556_money_that_races_the_end_of_its_hold_has_seats_or_goes_back(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    other = await houses()
    for _ in range(4):
        show = await new_event(house, 1)
        one = await ordered(house, (show.type, 1))
        await time_out(owner, one.reservation)
        async with held_up(owner, HOLD_SEATS, show.type, 3) as begun:
            begun += [
                begin(tell(house, one)),
                begin(swept(other, one.reservation)),
                begin(reserve(other, uuid7(), (show.type, 1))),
            ]
        status = await order_now(house, one.order)
        assert (status, begun[2].result()) in [
            (("PAID", "SEATS_AGAIN"), "sold_out"),
            (("CANCELLED", "REFUNDED"), None),
        ]
    await assert_clean(house)


async def test_alf_io_1421_an_order_whose_provider_says_nothing_does_not_wait_for_ever(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 1, price=54_009)
    one = await ordered(house, (show.type, 1))
    await drained(house)
    await time_out(owner)
    await drained(house)
    assert await order_now(house, one.order) == ("TIMEOUT", None)
    assert await free(house, show.types) == [1]
    await assert_clean(house)


async def test_midaz_1519_of_two_captures_of_one_order_one_is_kept(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    other = await houses()
    for _ in range(3):
        show = await new_event(house, 1)
        first = await ordered(house, (show.type, 1))
        await tell(house, first, "FAILED")
        await complete(house, first.user, first.reservation, "CARD")
        second = first._replace(payment=await payment_of(house, first.order))
        async with held_up(owner, HOLD_PAYMENT, first.order, 2) as begun:
            begun += [begin(tell(house, first)), begin(tell(other, second))]
        refunds = [(await payment_now(house, one.payment))[2] for one in (first, second)]
        assert sorted(refunds) == [0, PRICE]
        assert await earned(house, show.id) == PRICE
    await assert_clean(house)


async def test_blnk_374_a_refund_that_is_asked_for_again_moves_nothing(
    houses: Houses, house: Strongroom
) -> None:
    pair = (house, await houses())
    show = await new_event(house, 3)
    ones = [await bought(house, (show.type, 1)) for _ in range(3)]
    await house.run(CancelEvent(show.id))
    assert await code_of(house.run(CancelEvent(show.id))) == "wrong_state"
    for _ in range(2):
        await asyncio.gather(*(worked(one) for one in pair))
        for one in ones:
            await asyncio.gather(tell(house, one), tell(pair[1], one))
    rows = await house.database.fetch("SELECT amount FROM payments.refunds")
    assert [row[0] for row in rows] == [PRICE] * 3
    assert await earned(house, show.id) == 0
    await assert_clean(house)


# Giving back ---------------------------------------------------------------------------------------


async def test_hi_events_466_whatever_ends_a_hold_gives_back_what_it_took(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 6, 6)
    lines = [(show.types[0], 2), (show.types[1], 1)]
    for ending in ("released", "swept", "reclaimed", "refused", "called off"):
        one = await ordered(house, *lines)
        assert await free(house, show.types) == [4, 5]
        if ending == "released":
            await house.run(ReleaseReservation(one.user, one.reservation))
        elif ending == "called off":
            await tell(house, one)
            await house.run(CancelEvent(show.id))
            await worked(house)
        else:
            if ending == "refused":
                await tell(house, one, "FAILED")
            await time_out(owner)
            if ending == "reclaimed":
                other = await reserve(house, user := uuid7(), (show.types[0], 6))
                await house.run(ReleaseReservation(user, other.reservation_id))
            await swept(house, one.reservation)
        assert await seats_of(house, show.types) == [(6, 0, 0), (6, 0, 0)], ending
    await assert_clean(house)


async def test_pretix_4227_sales_go_on_though_no_worker_does(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 2)
    for _ in range(5):
        one = await ordered(house, (show.type, 2))
        await time_out(owner)
    await bought(house, (show.type, 1))
    assert await order_now(house, one.order) == ("TIMEOUT", None)
    assert len(await commands_due(house.database)) == 0, "nothing was left for the sweep"
    await assert_clean(house)


async def test_blnk_181_what_is_held_is_not_shown_as_available(house: Strongroom) -> None:
    show = await new_event(house, 5)
    await reserve(house, uuid7(), (show.type, 2))
    await bought(house, (show.type, 1))
    [seen] = (await house.run(EditEvent(show.id))).ticket_types
    assert (seen.available, seen.quantity) == (2, 5)


async def test_check_then_act_a_ticket_admits_one_though_two_gates_saw_it_unused(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    pair = (house, await houses())
    show = await new_event(house, 1)
    one = await bought(house, (show.type, 1))
    [code] = await tickets_of(house, one.order)
    id = await owner.fetchval("SELECT id FROM ticketing.tickets")
    query = "SELECT FROM ticketing.tickets WHERE id = $1 FOR UPDATE"
    async with held_up(owner, query, id, 2) as begun:
        begun += [
            begin(each.run(CheckIn(code, gate))) for each, gate in zip(pair, "AB", strict=True)
        ]
    assert {each.result() for each in begun} == {None, "already_checked_in"}
    await assert_clean(house)
