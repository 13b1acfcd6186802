"""What the ticket benches compare sells the same seats correctly: ours and both baselines."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from playing import PATIENCE_S, Houses, code_of, codes_of, ticket
from strongroom.apps.ticketing.events import AddTicketType, CreateEvent, PublishEvent
from strongroom.apps.ticketing.flow import commands_due
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReserveSeats
from strongroom.clock import now
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.lab.baselines.ticketing import (
    LOCKING,
    SpecifiedTicketing,
    create_tables,
    release_expired,
    sell_also,
)
from strongroom.main import Strongroom

TTL_S = 600

OURS = {
    "free": "SELECT balance FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'free'",
    "holds": """
        SELECT l.reservation_id, l.user_id, l.quantity FROM ticketing.reservation_lines l
        JOIN ticketing.reservations r ON r.id = l.reservation_id
        WHERE l.ticket_type_id = $1 AND r.status = 'ACTIVE'
    """,
    "expire": "UPDATE ticketing.reservations SET expires_at = now() - interval '1 second'",
}
THEIRS = {
    "free": "SELECT available_quantity FROM specified.ticket_types WHERE id = $1",
    "holds": """
        SELECT id, user_id, quantity FROM specified.order_reservations
        WHERE ticket_type_id = $1 AND status = 'ACTIVE'
    """,
    "expire": "UPDATE specified.order_reservations SET expires_at = now() - interval '1 second'",
}
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


class Shop:
    """One of the three, and what its database says of its seats."""

    def __init__(self, house: Strongroom, ours: bool) -> None:
        self.house, self.ours = house, ours
        self._queries = OURS if ours else THEIRS

    async def types(self, *quantities: int, limit: int | None = None) -> list[UUID]:
        """Ticket types of one published event, on sale."""
        begins = now() + timedelta(days=30)
        made = []
        event = CreateEvent("a concert", "a hall", begins, begins + timedelta(hours=3))
        event_id = (await self._operate(event)).event_id
        for number, quantity in enumerate(quantities):
            type = AddTicketType(event_id, f"rank {number}", 1000, quantity, per_user_limit=limit)
            made.append((await self._operate(type)).ticket_type_id)
        await self._operate(PublishEvent(event_id))
        if not self.ours:
            await sell_also(self.house.database, made)
        return made

    async def _operate(self, command: Command) -> Any:
        """What an operator does goes past the lanes, which a baseline replaces."""
        one = ticket(command, str(uuid7()))
        await self.house.executor.run([one])
        outcome = await asyncio.wait_for(one.future, PATIENCE_S)
        outcome.check()
        return outcome.reply

    async def reserve(self, user: UUID, *lines: tuple[UUID, int], key: str | None = None) -> UUID:
        """The reservation's id; raises what it is refused with."""
        made = await self.house.run(ReserveSeats(user, lines, TTL_S), key=key)
        return UUID(str(made.reservation_id))

    async def free(self, type: UUID) -> int:
        return int(await self.house.database.fetchval(self._queries["free"], type))

    async def held(self, type: UUID) -> Counter[UUID]:
        """Seats in active reservations, by user."""
        held: Counter[UUID] = Counter()
        for row in await self.house.database.fetch(self._queries["holds"], type):
            held[row[1]] += row[2]
        return held

    async def reservations(self, type: UUID) -> set[UUID]:
        return {row[0] for row in await self.house.database.fetch(self._queries["holds"], type)}

    async def let_expire(self) -> None:
        """The time of every reservation is over, and what sweeps them has run."""
        await self.house.database.fetch(self._queries["expire"])
        if not self.ours:
            await release_expired(self.house.database)
            return
        for command in await commands_due(self.house.database):
            await self.house.run(command)


@pytest.fixture(params=["ours", *LOCKING])
async def shop(
    request: pytest.FixtureRequest,
    owner: Database,
    houses: Houses,
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[Shop]:
    """Ours, and the specification's two, each on a database of its own."""
    if request.param == "ours":
        yield Shop(await houses(), ours=True)
        return
    await create_tables(owner)
    options = {
        "database_url": database_url,
        "data_dir": tmp_path,
        "rate_limits": "off",
        "write_deadline_ms": PATIENCE_S * 1000,
    }
    async with SpecifiedTicketing(request.param, **options) as house:
        yield Shop(house, ours=False)


async def test_three_hundred_buyers_get_exactly_a_hundred_seats(shop: Shop) -> None:
    (type,) = await shop.types(100)
    buyers = [uuid7() for _ in range(300)]
    codes = Counter(await codes_of([shop.reserve(buyer, (type, 1)) for buyer in buyers]))
    assert codes == {None: 100, "sold_out": 200}
    assert await shop.free(type) == 0
    held = await shop.held(type)
    assert held.total() == len(held) == 100


async def test_carts_in_opposite_orders_neither_deadlock_nor_oversell(
    shop: Shop, owner: Database
) -> None:
    a, b = await shop.types(60, 40)
    deadlocks = await owner.fetchval(DEADLOCKS)
    dice = random.Random(7)
    carts = [[(a, 1), (b, 1)] for _ in range(120)]
    for cart in carts:
        dice.shuffle(cart)
    codes = Counter(await codes_of([shop.reserve(uuid7(), *cart) for cart in carts]))
    assert codes == {None: 40, "sold_out": 80}
    assert (await shop.free(a), await shop.free(b)) == (20, 0)
    assert (await shop.held(a)) == (await shop.held(b))
    assert await owner.fetchval(DEADLOCKS) == deadlocks


async def test_the_same_key_twenty_times_is_one_reservation(shop: Shop) -> None:
    (type,) = await shop.types(100)
    buyer = uuid7()
    made = await asyncio.gather(
        *(shop.reserve(buyer, (type, 2), key="one wish") for _ in range(20))
    )
    assert set(made) == await shop.reservations(type)
    assert len(set(made)) == 1
    assert await shop.free(type) == 98


async def test_seats_of_expired_reservations_come_back_once(shop: Shop) -> None:
    a, b = await shop.types(10, 10)
    for _ in range(5):
        await shop.reserve(uuid7(), (a, 2), (b, 1))
    assert await code_of(shop.reserve(uuid7(), (a, 1))) == "sold_out"
    await shop.let_expire()
    await shop.let_expire()
    assert (await shop.free(a), await shop.free(b)) == (10, 10)
    await shop.reserve(uuid7(), (a, 10))
    assert await shop.free(a) == 0


async def test_a_user_never_gets_more_than_the_limit_of_a_ticket_type(shop: Shop) -> None:
    (type,) = await shop.types(100, limit=4)
    buyer = uuid7()
    codes = Counter(await codes_of([shop.reserve(buyer, (type, 1)) for _ in range(20)]))
    assert codes == {None: 4, "per_user_limit": 16}
    assert await shop.held(type) == {buyer: 4}
    assert await shop.free(type) == 96


async def test_a_refused_cart_takes_nothing(shop: Shop) -> None:
    a, b = await shop.types(5, 0)
    assert await code_of(shop.reserve(uuid7(), (a, 1), (b, 1))) == "sold_out"
    assert await shop.free(a) == 5
    assert await shop.reservations(a) == set()


@pytest.mark.parametrize("locking", LOCKING)
async def test_a_baseline_completes_a_reservation_once_and_makes_its_tickets(
    locking: str, owner: Database, database_url: str, tmp_path: Path
) -> None:
    await create_tables(owner)
    options = {"database_url": database_url, "data_dir": tmp_path, "rate_limits": "off"}
    async with SpecifiedTicketing(locking, **options) as house:
        shop = Shop(house, ours=False)
        a, b = await shop.types(10, 10)
        buyer = uuid7()
        reservation = await shop.reserve(buyer, (a, 2), (b, 1))
        wishes = [house.run(CompleteBooking(buyer, reservation, "MOMO")) for _ in range(10)]
        codes = Counter(await codes_of(wishes))
        assert codes == {None: 1, "reservation_expired": 9}
        foreign = CompleteBooking(uuid7(), reservation, "MOMO")
        assert await code_of(house.run(foreign)) == "not_found"
    told = await owner.fetch(
        "SELECT o.status, o.total_amount, count(t), count(DISTINCT m) FROM specified.orders o"
        " JOIN specified.tickets t ON t.order_id = o.id"
        " JOIN specified.mails m ON m.order_id = o.id GROUP BY o.id"
    )
    assert [tuple(row) for row in told] == [("PAID", 3000, 3, 1)]
