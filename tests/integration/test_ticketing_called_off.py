"""Events that are called off, and what is forgotten."""

from __future__ import annotations

import asyncio

from boxoffice import (
    PRICE,
    REFUNDED,
    Bought,
    Show,
    bought,
    cleared,
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
from playing import Houses, assert_clean, code_of, ticket
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import CancelEvent
from strongroom.apps.ticketing.flow import forget_reservations
from strongroom.apps.ticketing.orders import CANCELLED_TOGETHER, CompleteBooking
from strongroom.apps.ticketing.reservations import ReleaseReservation, ReserveSeats
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

# Events called off -----------------------------------------------------------------------------------


async def test_every_paid_order_of_an_event_that_is_called_off_goes_back_once(
    houses: Houses, house: Strongroom
) -> None:
    """More of them than one transaction takes, with whatever else such an event has."""
    count = CANCELLED_TOGETHER + 30
    pair = (house, await houses())
    show, other = await new_event(house, 300, 300), await new_event(house, 5)
    paid = await many_bought(house, show, count)
    waiting = [await ordered(house, (show.types[0], 1)) for _ in range(3)]
    await reserve(house, uuid7(), (show.types[1], 5))
    kept = await bought(house, (other.type, 1))
    codes = await tickets_of(house, paid[0].order)
    await house.run(CheckIn(next(iter(codes)), "A"))
    await house.run(CancelEvent(show.id))
    await asyncio.gather(worked(pair[0]), worked(pair[1]))
    await worked(house)
    assert await seats_of(house, show.types) == [(300, 0, 0), (300, 0, 0)]
    assert await earned(house, show.id) == 0
    assert await earned(house, other.id) == await cleared(house) == PRICE
    rows = await house.database.fetch("SELECT payment_id, amount FROM payments.refunds")
    assert sorted(map(tuple, rows)) == sorted((one.payment, one.amount) for one in paid)
    statuses = await house.database.fetch(
        "SELECT status::text, count(*) FROM ticketing.orders GROUP BY 1 ORDER BY 1"
    )
    assert sorted(map(tuple, statuses)) == [("CANCELLED", count + len(waiting)), ("PAID", 1)]
    assert set((await tickets_of(house, paid[0].order)).values()) == {"CANCELLED"}
    assert await code_of(house.run(CheckIn(next(iter(codes)), "B"))) == "ticket_cancelled"
    [good] = await tickets_of(house, kept.order)
    assert (await house.run(CheckIn(good))).status == "CHECKED_IN"
    assert await mails_of(house, paid[0].order) == [("TICKETS", PRICE), ("CANCELLED", PRICE)]
    assert await mails_of(house, waiting[0].order) == [("CANCELLED", 0)]
    await assert_clean(house)


async def many_bought(house: Strongroom, show: Show, count: int) -> list[Bought]:
    """So many paid orders of one seat of the first type, in a group a step."""
    users = [uuid7() for _ in range(count)]
    wishes = [ticket(ReserveSeats(one, ((show.types[0], 1),), 600), str(one)) for one in users]
    await house.executor.run(wishes)
    held = [(await one.future).reply.reservation_id for one in wishes]  # type: ignore[union-attr]
    orders = [
        ticket(CompleteBooking(*pair, "MOMO"), str(pair[0]))
        for pair in zip(users, held, strict=True)
    ]
    await house.executor.run(orders)
    made = [(await one.future).reply for one in orders]
    found = [
        Bought(user, reservation, one.order_id, await payment_of(house, one.order_id), PRICE)  # type: ignore[union-attr]
        for user, reservation, one in zip(users, held, made, strict=True)
    ]
    await house.executor.run([ticket(news(one.payment, PRICE), None) for one in found])
    return found


async def test_money_that_comes_after_the_event_was_called_off_goes_back(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 9)
    before, after, late = [await ordered(house, (show.type, 1)) for _ in range(3)]
    await time_out(owner, late.reservation)
    await swept(house, late.reservation)
    await house.run(CancelEvent(show.id))
    await tell(house, before)
    await worked(house)
    await tell(house, after)
    await tell(house, late)
    for one in (before, after, late):
        assert (await order_now(house, one.order))[0] == "CANCELLED"
        assert await payment_now(house, one.payment) == ("SUCCESS", PRICE, PRICE)
        told = [amount for _, amount in await mails_of(house, one.order) if amount]
        assert told == [PRICE], "a buyer whose money goes back is told so, once"
    assert await seats_of(house, show.types) == [(9, 0, 0)]
    await assert_clean(house)


async def test_seats_sold_again_to_late_money_go_back_when_the_event_is_called_off(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 3)
    one = await ordered(house, (show.type, 3))
    await time_out(owner)
    await tell(house, one)
    await house.run(CancelEvent(show.id))
    for _ in range(2):
        await worked(house)
    assert await order_now(house, one.order) == ("CANCELLED", "SEATS_AGAIN")
    assert await payment_now(house, one.payment) == ("SUCCESS", one.amount, one.amount)
    assert await seats_of(house, show.types) == [(3, 0, 0)]
    await assert_clean(house)


# Forgetting ------------------------------------------------------------------------------------------


async def left(house: Strongroom) -> list[str]:
    """The statuses of the reservations that are still known."""
    await forget_reservations(house.database, 5000)
    rows = await house.database.fetch("SELECT status::text FROM ticketing.reservations ORDER BY 1")
    return sorted(row[0] for row in rows)


async def test_what_ended_long_ago_is_forgotten_and_nothing_is_missed(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 20)
    paid, late, dead, missed = [await ordered(house, (show.type, 1)) for _ in range(4)]
    free_of_order = await reserve(house, uuid7(), (show.type, 1))
    released = await ordered(house, (show.type, 1))
    await tell(house, paid)
    await house.run(ReleaseReservation(released.user, released.reservation))
    await time_out(owner)
    await swept(house, free_of_order.reservation_id, dead.reservation)
    await tell(house, late)
    await ordered(house, (show.type, 18))
    await tell(house, missed)
    assert await order_now(house, missed.order) == REFUNDED
    await older(owner, 29.9)
    assert len(await left(house)) == 7
    await older(owner, 0.2)
    assert await left(house) == ["ACTIVE", "COMPLETED", "COMPLETED"]
    await assert_clean(house)
    await time_out(owner)
    await swept(house, *[row[0] for row in await house.database.fetch(
        "SELECT id FROM ticketing.reservations WHERE status = 'ACTIVE'")])  # fmt: skip
    await older(owner, 60)
    assert await left(house) == []
    lines = "SELECT count(*) FROM ticketing.reservation_lines"
    assert await house.database.fetchval(lines) == 0
    await assert_clean(house)


async def test_an_order_that_is_younger_than_its_forgotten_reservation_is_no_finding(
    house: Strongroom, owner: Database
) -> None:
    """Completed at the last moment, it is up to the reservation's time younger."""
    show = await new_event(house, 5)
    one = await ordered(house, (show.type, 1))
    await time_out(owner)
    await swept(house, one.reservation)
    await older(owner, 30)
    await owner.fetch("UPDATE ticketing.orders SET created_at = created_at + interval '590 s'")
    assert await left(house) == []
    await assert_clean(house)
