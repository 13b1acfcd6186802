"""Ticketing's invariants against real history: silent when all is well, and not when it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from boxoffice import (
    PAGE,
    Bought,
    bought,
    complete,
    new_event,
    news,
    ordered,
    payment_of,
    reserve,
    swept,
    tell,
    tickets_of,
    time_out,
    worked,
)
from playing import code_of
from serving import Clones, Server, copied, lived
from strongroom.apps.ticketing import INVARIANTS
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import AddTicketType, CancelEvent, PublishEvent
from strongroom.apps.ticketing.reservations import ReleaseReservation
from strongroom.core.audit import Reconciler
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import INVARIANTS as ALL
from strongroom.main import Strongroom
from strongroom.settings import Settings
from ticketing_corruptions import SPOILED, TOOLS

GUARDED = ("ledger.entries", "ledger.transfers")


async def _late(house: Strongroom, owner: Database, one: Bought) -> None:
    """The money comes after the reservation was swept."""
    await time_out(owner, one.reservation)
    await swept(house, one.reservation)
    await house.run(news(one.payment, one.amount))


async def _sell(house: Strongroom, owner: Database) -> dict[str, Bought]:
    """Orders of one event, by what becomes of them."""
    show = await new_event(house, price=PAGE, publish=False)
    stalls, circle, box, gifts = [
        (
            await house.run(AddTicketType(show.id, name, price, seats, None, None, limit))
        ).ticket_type_id
        for name, price, seats, limit in (
            ("stalls", PAGE, 20, 4),
            ("circle", 300_000, 5, None),
            ("box", PAGE, 1, 2),
            ("gift", 0, 3, 1),
        )
    ]
    await house.run(PublishEvent(show.id))
    paid = await bought(house, (stalls, 2), (circle, 1))
    code = next(iter(await tickets_of(house, paid.order)))
    await house.run(CheckIn(code, "A"))
    assert await code_of(house.run(CheckIn(code, "B"))) == "already_checked_in"
    refunded, again = await ordered(house, (box, 1)), await ordered(house, (stalls, 1))
    await time_out(owner, refunded.reservation)
    await bought(house, (box, 1))
    await _late(house, owner, refunded)
    await _late(house, owner, again)
    pending = await ordered(house, (stalls, 1))
    wrong = await ordered(house, (stalls, 1))
    await house.run(news(wrong.payment, wrong.amount - 1))
    failed = await ordered(house, (stalls, 1))
    await tell(house, failed, "FAILED")
    second = await complete(house, failed.user, failed.reservation, "CARD")
    failed = failed._replace(payment=await payment_of(house, second.order_id))
    await tell(house, failed)
    held = await _waiting(house, stalls, 2)
    released, expired = await _waiting(house, stalls, 1), await _waiting(house, stalls, 1)
    await house.run(ReleaseReservation(released.user, released.reservation))
    await time_out(owner, expired.reservation)
    await swept(house, expired.reservation)
    gift = await ordered(house, (gifts, 1))
    return {
        "paid": paid, "refunded": refunded, "again": again, "pending": pending, "wrong": wrong,
        "failed": failed, "held": held, "released": released, "expired": expired, "free": gift,
    }  # fmt: skip


async def _waiting(house: Strongroom, type: UUID, seats: int) -> Bought:
    user = uuid7()
    held = await reserve(house, user, (type, seats))
    return Bought(user, held.reservation_id, uuid7(), uuid7(), held.total_amount)


async def _live(dsn: str, place: Path) -> None:
    """A little of everything that can become of seats and of money."""
    settings = Settings(database_url=dsn, data_dir=place, rate_limits="off")
    async with Strongroom(settings) as house, Database(dsn, pool_size=3) as owner:
        named = await _sell(house, owner)
        off = await new_event(house, 5)
        named["called off"] = await bought(house, (off.type, 2))
        await ordered(house, (off.type, 1))
        await _waiting(house, off.type, 1)
        await house.run(CancelEvent(off.id))
        await worked(house)
        await owner.fetch(
            "CREATE TABLE named (name text, user_id uuid, reservation_id uuid, order_id uuid,"
            " payment_id uuid)"
        )
        for name, one in named.items():
            await owner.fetch("INSERT INTO named VALUES ($1, $2, $3, $4, $5)", name, *one[:4])


@pytest.fixture(scope="session")
def history(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database in which all that has happened; only to be copied."""
    with lived(server, clones, tmp_path_factory.mktemp("history"), _live) as name:
        yield name


@pytest.fixture
def copy(server: Server, history: str) -> Iterator[str]:
    """The history again, to be spoiled."""
    with copied(server, history) as dsn:
        yield dsn


def spoil(dsn: str, statements: str) -> None:
    """Does to the tables what only their owner can, and leaves the guards as they were."""
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(TOOLS)
        for table in GUARDED:
            db.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        db.execute(statements)
        for table in GUARDED:
            db.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")


@pytest.fixture
async def auditing(copy: str) -> AsyncIterator[Database]:
    async with Database(copy, role="strongroom_audit", pool_size=1) as database:
        yield database


async def test_a_consistent_history_of_ticketing_has_no_findings(auditing: Database) -> None:
    asked: list[str] = []
    report = await Reconciler(auditing, ALL).run(lambda name, *_: asked.append(name))
    assert report.findings == []
    assert INVARIANTS.sql.keys() <= set(asked)


@pytest.mark.parametrize("corruption", SPOILED)
async def test_a_corruption_of_ticketing_is_found_by_its_invariant(
    copy: str, auditing: Database, corruption: str
) -> None:
    invariant, statements = SPOILED[corruption]
    spoil(copy, statements)
    rows = await auditing.fetch(INVARIANTS.sql[invariant])
    assert 1 <= len(rows) <= 10


async def test_every_invariant_of_ticketing_has_a_corruption_that_it_finds() -> None:
    assert {invariant for invariant, _ in SPOILED.values()} == set(INVARIANTS.sql)
