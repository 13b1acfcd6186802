"""Seats under contention: never one too many, never one lost, and given back to the instant."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from boxoffice import (
    Bought,
    complete,
    deadlocks,
    earned,
    free,
    new_event,
    news,
    order_now,
    ordered,
    payment_now,
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
    somebody_waits,
    ticket,
)
from strongroom.apps.ticketing import INVARIANTS
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import CancelEvent, EditTicketType
from strongroom.apps.ticketing.flow import commands_due
from strongroom.apps.ticketing.orders import CancelOrders, CompleteBooking
from strongroom.apps.ticketing.reservations import (
    SWEPT_TOGETHER,
    ExpireReservations,
    ReleaseReservation,
    ReserveSeats,
)
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.errors import StrongroomError
from strongroom.ids import uuid7
from strongroom.main import Strongroom

HOLD_RESERVATION = "SELECT FROM ticketing.reservations WHERE id = $1 FOR UPDATE"

PATIENT = 60_000
"""A deadline that no queue of these tests comes near."""


@pytest.fixture
async def pair(houses: Houses) -> tuple[Strongroom, Strongroom]:
    """Two houses on one database."""
    return await houses(write_deadline_ms=PATIENT), await houses(write_deadline_ms=PATIENT)


# Never one too many --------------------------------------------------------------------------------


@pytest.mark.parametrize("seats", [1, 100, 499])
async def test_two_hundred_and_forty_buyers_get_exactly_the_seats_there_are(
    pair: tuple[Strongroom, Strongroom], seats: int
) -> None:
    chance = random.Random(seats)
    show = await new_event(pair[0], seats)
    wanted = [chance.randint(1, 4) for _ in range(240)]
    calls = [
        pair[n % 2].run(ReserveSeats(uuid7(), ((show.type, count),), 600))
        for n, count in enumerate(wanted)
    ]
    codes = await codes_of(calls)
    assert set(codes) == {None, "sold_out"}
    got = sum(count for count, code in zip(wanted, codes, strict=True) if code is None)
    [(left, held, sold)] = await seats_of(pair[0], show.types)
    assert (left, held, sold) == (seats - got, got, 0)
    refused = [count for count, code in zip(wanted, codes, strict=True) if code]
    assert left < min(refused), "somebody was refused what was there"
    for _ in range(left):
        await reserve(pair[0], uuid7(), (show.type, 1))
    assert await code_of(reserve(pair[1], uuid7(), (show.type, 1))) == "sold_out"
    await assert_clean(pair[0])


async def test_carts_in_opposite_order_neither_deadlock_nor_oversell(
    pair: tuple[Strongroom, Strongroom], owner: Database
) -> None:
    show = await new_event(pair[0], 60, 40, 50)
    a, b, c = show.types
    orders = [(a, b, c), (c, b, a), (b, a, c), (c, a, b)]
    calls: list[Awaitable[Any]] = []
    for n in range(120):
        lines = tuple((type, 1 + n % 2) for type in orders[n % 4])
        calls.append(pair[n % 2].run(ReserveSeats(uuid7(), lines, 600)))
        if n % 10 == 0:
            edit = EditTicketType(show.id, orders[n % 4][0], per_user_limit=4)
            calls.append(pair[n // 10 % 2].run(edit))
    codes = await codes_of(calls)
    assert set(codes) == {None, "sold_out"}
    (_, held_a, _), (left_b, held_b, _), (_, held_c, _) = await seats_of(pair[0], show.types)
    assert held_a == held_b == held_c and left_b < 2
    await assert_clean(pair[0])
    assert await deadlocks(owner) == 0


async def test_a_deadlock_would_be_counted(owner: Database, house: Strongroom) -> None:
    show = await new_event(house, 1, 1)
    lock = "SELECT FROM ticketing.ticket_types WHERE id = $1 FOR UPDATE"
    async with owner.transaction() as one, house.database.connection() as spare:
        other = spare.transaction()
        await other.start()
        await one.fetch(lock, show.types[0])
        await spare.fetch(lock, show.types[1])
        waiting = asyncio.create_task(spare.fetch(lock, show.types[0]))
        results = await asyncio.gather(
            one.fetch(lock, show.types[1]), waiting, return_exceptions=True
        )
        await other.rollback()
        assert sum(isinstance(result, Exception) for result in results) == 1
    assert await deadlocks(owner) == 1


# To the instant ------------------------------------------------------------------------------------


async def expires_in(owner: Database, reservation: UUID, ms: float) -> datetime:
    """Sets the end of a reservation this far from now."""
    ends: datetime = await owner.fetchval(
        "UPDATE ticketing.reservations SET expires_at ="
        " clock_timestamp() + make_interval(secs => $2::float8 / 1000)"
        " WHERE id = $1 RETURNING expires_at",
        reservation,
        ms,
    )
    return ends


async def db_now(owner: Database) -> datetime:
    at: datetime = await owner.fetchval("SELECT clock_timestamp()")
    return at


async def test_around_its_end_a_seat_has_one_taker_at_every_millisecond(
    pair: tuple[Strongroom, Strongroom], owner: Database
) -> None:
    """Completing, expiring, paying and another's reserving, all begun within milliseconds of the
    end; whoever asks after it gets the seat unless it was sold."""
    house, other = pair
    for ms in (-30, -1, 0, 1, 2, 3, 5, 8, 12, 20, 40, 90):
        show = await new_event(house, 1)
        ann = await ordered(house, (show.type, 1))
        ends = await expires_in(owner, ann.reservation, ms)

        async def bob(type: UUID = show.type, ends: datetime = ends) -> str | None:
            """Asks until he has the seat, or was refused after the end."""
            while True:
                after = await db_now(owner) >= ends
                code = await code_of(reserve(other, uuid7(), (type, 1)))
                if code is None or after:
                    return code

        async def sweep(dead: UUID = ann.reservation, ends: datetime = ends) -> None:
            while await db_now(owner) < ends:
                await swept(house, dead)
            await swept(house, dead)

        async def pay(ann: Bought = ann, ms: int = ms) -> None:
            await asyncio.sleep(0 if ms % 2 else 2 * abs(ms) / 1000)
            await tell(house, ann)

        completing = code_of(complete(other, ann.user, ann.reservation))
        code, *_ = await asyncio.gather(bob(), sweep(), completing, pay())
        status, _ = await order_now(house, ann.order)
        assert (status, code) in [("PAID", "sold_out"), ("CANCELLED", None)], ms
        [(left, held, sold)] = await seats_of(house, show.types)
        assert (left, held, sold) == ((0, 0, 1) if code else (0, 1, 0))
        refund = 0 if code else ann.amount
        assert await payment_now(house, ann.payment) == ("SUCCESS", ann.amount, refund)
    await assert_clean(house)


async def test_who_asks_after_the_end_gets_the_seat_though_nobody_has_swept(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 3)
    for ended in range(3):
        ann = await ordered(house, (show.type, 3))
        await time_out(owner, ann.reservation)
        assert await code_of(reserve(house, uuid7(), (show.type, 1 + ended))) is None
        assert await order_now(house, ann.order) == ("TIMEOUT", None)
        assert await code_of(complete(house, ann.user, ann.reservation)) == "reservation_expired"
        await time_out(owner)
    await assert_clean(house)


async def test_the_dead_are_given_back_with_all_their_ticket_types(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 2, 6, 4)
    a, b, c = show.types
    both, other = await ordered(house, (a, 2), (b, 3)), await ordered(house, (b, 3), (c, 4))
    await time_out(owner, both.reservation)
    await reserve(house, uuid7(), (a, 1))
    assert await seats_of(house, show.types) == [(1, 1, 0), (3, 3, 0), (0, 4, 0)]
    await time_out(owner, other.reservation)
    await reserve(house, uuid7(), (a, 1), (b, 4), (c, 1))
    assert await seats_of(house, show.types) == [(0, 2, 0), (2, 4, 0), (3, 1, 0)]
    assert await order_now(house, other.order) == ("TIMEOUT", None)
    await assert_clean(house)


async def test_nobody_is_told_sold_out_over_three_hundred_dead_reservations(
    pair: tuple[Strongroom, Strongroom], owner: Database
) -> None:
    show = await new_event(pair[0], 300, 300)
    wishes = [
        ticket(ReserveSeats(uuid7(), tuple((type, 1) for type in show.types), 600), f"key-{n}")
        for n in range(300)
    ]
    await pair[0].executor.run(wishes)
    assert await free(pair[0], show.types) == [0, 0]
    await time_out(owner)
    calls = [
        pair[n % 2].run(ReserveSeats(uuid7(), ((show.types[n % 2], n),), 600))
        for n in (1, 2, 120, 150)
    ]
    assert await codes_of(calls) == [None] * 4
    assert await code_of(reserve(pair[0], uuid7(), (show.types[0], 300))) == "sold_out"
    await reserve(pair[0], uuid7(), (show.types[0], 300 - 2 - 120 - 150))
    await reserve(pair[0], uuid7(), (show.types[1], 299))
    assert await free(pair[0], show.types) == [0, 0]
    await assert_clean(pair[0])


async def test_the_living_are_not_given_back_with_the_dead(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 2)
    dead, alive = await ordered(house, (show.type, 1)), await ordered(house, (show.type, 1))
    await time_out(owner, dead.reservation)
    await swept(house, dead.reservation, alive.reservation, uuid7())
    assert await seats_of(house, show.types) == [(1, 1, 0)]
    assert await code_of(reserve(house, uuid7(), (show.type, 2))) == "sold_out"
    await tell(house, alive)
    assert await order_now(house, alive.order) == ("PAID", None)
    await assert_clean(house)


async def test_the_sweep_takes_what_is_due_in_portions(house: Strongroom, owner: Database) -> None:
    count = SWEPT_TOGETHER + 20
    show = await new_event(house, count)
    wishes = [ticket(ReserveSeats(uuid7(), ((show.type, 1),), 600), f"k{n}") for n in range(count)]
    await house.executor.run(wishes)
    assert await commands_due(house.database) == []
    await time_out(owner)
    due = await commands_due(house.database)
    assert [len(one.ids) for one in due if isinstance(one, ExpireReservations)] == [500, 20]
    await drained(house)
    assert await free(house, show.types) == [count]
    assert await commands_due(house.database) == []
    await assert_clean(house)


async def test_seats_go_back_once_whoever_gives_them_back(
    pair: tuple[Strongroom, Strongroom], owner: Database
) -> None:
    house, other = pair
    for n in range(10):
        show = await new_event(house, 4, 2)
        lines = [(show.types[0], 2), (show.types[1], 1)]
        one, two = await ordered(house, *lines), await ordered(house, *lines)
        for each in (one, two):
            await expires_in(owner, each.reservation, n)
        release = ReleaseReservation(two.user, two.reservation)
        calls = [
            swept(house, one.reservation, two.reservation),
            swept(other, two.reservation, one.reservation),
            reserve(other, uuid7(), (show.types[1], 2)),
            reserve(house, uuid7(), (show.types[0], 4)),
            house.run(release),
            tell(other, one),
            tell(house, one),
        ]
        codes = await codes_of(calls)
        assert set(codes) <= {None, "sold_out", "reservation_expired", "wrong_state"}
        for (left, held, sold), quantity in zip(
            await seats_of(house, show.types), (4, 2), strict=True
        ):
            assert left + held + sold == quantity
    await time_out(owner)
    await drained(house)
    await assert_clean(house)


# Who comes while an event is called off --------------------------------------------------------------


async def test_whoever_buys_while_an_event_is_called_off_is_refused_or_refunded(
    pair: tuple[Strongroom, Strongroom],
) -> None:
    house, other = pair
    for n in range(5):
        show = await new_event(house, 60)
        waiting = [await ordered(house, (show.type, 1)) for _ in range(6)]
        users = [uuid7() for _ in range(4)]
        held = [await reserve(house, user, (show.type, 1)) for user in users]
        calls: list[Awaitable[Any]] = [tell(pair[i % 2], one) for i, one in enumerate(waiting)]
        calls += [
            complete(other, user, one.reservation_id) for user, one in zip(users, held, strict=True)
        ]
        calls += [reserve(pair[i % 2], uuid7(), (show.type, 1)) for i in range(6)]
        calls.insert(n * 3 % len(calls), other.run(CancelEvent(show.id)))
        codes = await codes_of(calls)
        assert set(codes) <= {None, "not_on_sale", "event_cancelled"}
        await asyncio.gather(worked(house), worked(other))
        await worked(house)
        assert await seats_of(house, show.types) == [(60, 0, 0)]
        assert await earned(house, show.id) == 0
        for one in waiting:
            assert (await order_now(house, one.order))[0] == "CANCELLED"
            assert await payment_now(house, one.payment) == ("SUCCESS", one.amount, one.amount)
    await assert_clean(house)


@pytest.mark.parametrize("step", ["reserve", "complete", "pay"])
async def test_an_event_is_called_off_before_a_step_or_after_it_but_not_within(
    pair: tuple[Strongroom, Strongroom], owner: Database, step: str
) -> None:
    house, other = pair
    show = await new_event(house, 2)
    one = await ordered(house, (show.type, 2))
    if step == "reserve":
        await time_out(owner)
    if step == "complete":
        await tell(house, one, "FAILED")
    steps: dict[str, Awaitable[Any]] = {
        "reserve": reserve(house, uuid7(), (show.type, 1)),
        "complete": complete(house, one.user, one.reservation),
        "pay": tell(house, one),
    }
    async with owner.transaction() as db:
        await db.fetch(HOLD_RESERVATION, one.reservation)
        taken = asyncio.ensure_future(steps.pop(step))
        await somebody_waits(owner)
        cancelled = asyncio.ensure_future(other.run(CancelEvent(show.id)))
        # Whoever has seen the event on sale keeps it so until that step is committed.
        await somebody_waits(owner, 2)
        assert not cancelled.done()
    for left in steps.values():
        left.close()  # type: ignore[attr-defined]
    await asyncio.gather(taken, cancelled)
    await worked(house)
    assert await seats_of(house, show.types) == [(2, 0, 0)]
    assert await earned(house, show.id) == 0
    await assert_clean(house)


# Seen from outside, at any moment --------------------------------------------------------------------


async def test_a_run_that_began_before_a_hold_ended_does_not_count_its_successor_as_well(
    house: Strongroom, owner: Database
) -> None:
    """A transaction's time is that of its beginning; what it sees is later."""
    show = await new_event(house, 9, per_user_limit=2)
    ann = uuid7()
    held = await reserve(house, ann, (show.type, 2))
    ends = await expires_in(owner, held.reservation_id, 30)
    async with (
        house.audit.connection() as db,
        db.transaction(isolation="repeatable_read", readonly=True),
    ):
        while await db_now(owner) < ends:
            await asyncio.sleep(0.002)
        await reserve(house, ann, (show.type, 2))
        assert await db.fetch(INVARIANTS.sql["users_keep_to_their_limit"]) == []


async def test_nothing_is_amiss_at_any_moment_of_a_rush(
    pair: tuple[Strongroom, Strongroom], owner: Database
) -> None:
    house, other = pair
    chance = random.Random(7)
    show = await new_event(house, 12, 8, per_user_limit=3)
    users = [uuid7() for _ in range(6)]
    over, turns = asyncio.Event(), 0

    async def customer(home: Strongroom, user: UUID) -> None:
        nonlocal turns
        while not over.is_set():
            lines = [(type, chance.randint(1, 2)) for type in show.types[: chance.randint(1, 2)]]
            call = ReserveSeats(user, tuple(lines), 600)
            turns += 1
            try:
                held = await home.run(call)
            except StrongroomError:
                continue
            await expires_in(owner, held.reservation_id, chance.randint(1, 40))
            fate = chance.randint(0, 3)
            if fate == 0:
                release = ReleaseReservation(user, held.reservation_id)
                await code_of(home.run(release))
            elif fate == 1:
                await code_of(complete(home, user, held.reservation_id))

    async def sweep() -> None:
        while not over.is_set():
            for command in await commands_due(house.database):
                await house.run(command)
            await asyncio.sleep(0.01)

    begun = [asyncio.ensure_future(customer(pair[n % 2], user)) for n, user in enumerate(users)]
    sweeping = asyncio.ensure_future(sweep())
    while turns < 120:
        report = await other.reconcile()
        assert report.clean, "\n".join(map(str, report.findings))
    over.set()
    await asyncio.gather(*begun, sweeping)
    await assert_clean(house)


# Cut off in the middle -------------------------------------------------------------------------------


class Cut:
    """Runs a command, cut off after so many turns of the loop, then again with the same key."""

    def __init__(self, house: Strongroom, other: Strongroom) -> None:
        self._house, self._other = house, other
        self.cuts = 0

    async def __call__(self, command: Command, turns: int) -> Any:
        key = None if command.idempotent else str(uuid7())
        first = asyncio.create_task(self._house.executor.run([ticket(command, key)]))
        for _ in range(turns):
            await asyncio.sleep(0.0003)
        self.cuts += not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        again = ticket(command, key)
        await self._other.executor.run([again])
        outcome = await asyncio.wait_for(again.future, 30)
        outcome.check()
        return outcome


async def test_a_step_that_was_cut_off_and_is_done_again_is_done_once(
    pair: tuple[Strongroom, Strongroom], owner: Database
) -> None:
    house, other = pair
    run = Cut(house, other)
    for turns in range(0, 26, 2):
        show = await new_event(house, 2)
        ann, bob = uuid7(), uuid7()
        await run(ReserveSeats(ann, ((show.type, 1),), 600), turns)
        await run(ReserveSeats(bob, ((show.type, 1),), 600), turns)
        rows = await owner.fetch(
            "SELECT user_id, id FROM ticketing.reservations WHERE event_id = $1", show.id
        )
        held = dict(map(tuple, rows))
        assert len(rows) == len(held) == 2
        await run(CompleteBooking(ann, held[ann], "MOMO"), turns)
        order, payment, amount = tuple(
            (await owner.fetch(
                "SELECT id, payment_id, total_amount FROM ticketing.orders WHERE event_id = $1",
                show.id,
            ))[0]
        )  # fmt: skip
        await run(news(payment, amount), turns)
        [code] = await tickets_of(house, order)
        await run(CheckIn(code, "A"), turns)
        await time_out(owner, held[bob])
        await run(ExpireReservations((held[bob],)), turns)
        assert await seats_of(house, show.types) == [(1, 0, 1)]
        await run(CancelEvent(show.id), turns)
        await run(CancelOrders(show.id), turns)
        assert await seats_of(house, show.types) == [(2, 0, 0)]
        assert await payment_now(house, payment) == ("SUCCESS", amount, amount)
    assert run.cuts > 16, "the executor was never cut off in the middle"
    await worked(other)
    await assert_clean(other)
