"""Invariants of orders against real history: silent when all is well, and not when it is not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import get_args
from uuid import UUID

import psycopg
import pytest

import boxoffice
from orders_corruptions import ORDER, ROLLUPS, SPOILED, TOOLS
from playing import Houses, assert_clean, code_of
from serving import Clones, Server, copied, lived
from storefront import buyer, new_product, payment_of, place, take, tell, time_out
from strongroom.apps.orders import INVARIANTS, commands_due
from strongroom.apps.orders.orders import PayOrder, PlaceOrder
from strongroom.apps.orders.products import MoveStock
from strongroom.apps.orders.rollups import roll_day
from strongroom.apps.orders.rows import Method, OrderStatus
from strongroom.apps.orders.steps import MOVES, RecordPayment, Step, TakeStep
from strongroom.apps.ticketing.reservations import ReleaseReservation
from strongroom.core.audit import Reconciler
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.errors import StrongroomError
from strongroom.ids import uuid7
from strongroom.main import INVARIANTS as ALL
from strongroom.main import Strongroom
from strongroom.settings import Settings

GUARDED = ("ledger.entries", "ledger.transfers", "events.log")
KEPT = ("orders.history", "orders.codes")


async def _lapse(house: Strongroom, owner: Database, order: UUID) -> None:
    await time_out(owner, order)
    for command in await commands_due(house.database):
        await house.run(command)


async def _roll(database: Database) -> None:
    """All days on which there were orders, today too: nothing else happens on it."""
    for (day,) in await database.fetch(
        "SELECT DISTINCT orders.day_of(created_at) FROM orders.orders"
    ):
        assert await roll_day(database, day)


async def _sell(house: Strongroom, owner: Database) -> dict[str, UUID]:
    """Orders by what becomes of them."""
    shirt = await new_product(house, 100, sku="shirt")
    hat = await new_product(house, 50, price=7_000, sku="hat")
    gift = await new_product(house, 10, price=0, sku="gift")
    await house.run(MoveStock(shirt, "adjust", -3, "moths"))
    await house.run(MoveStock(shirt, "adjust", 2, "found"))
    named: dict[str, UUID] = {}

    async def order(name: str, *lines: tuple[UUID, int], method: str = "COD") -> UUID:
        placed = await place(house, *lines, customer=buyer(len(named)), method=method)
        named[name] = placed.order_id
        return placed.order_id

    await order("pending", (shirt, 2))
    await take(house, await order("confirmed", (shirt, 1), (hat, 1)), "confirm")
    await take(house, await order("shipped", (hat, 3)), "confirm", "ship")
    done = await order("delivered", (shirt, 1), (hat, 1))
    await take(house, done, "confirm", "ship", "deliver")
    back = await order("returned", (shirt, 4))
    await take(house, back, "confirm", "ship", "deliver", "return")
    await take(house, await order("refused", (hat, 2)), "confirm", "ship", "return")
    await take(house, await order("cancelled", (hat, 1)), "confirm", "cancel")
    await _lapse(house, owner, await order("lapsed", (shirt, 1)))
    await tell(house, await order("prepaid", (shirt, 3), method="MOMO"))
    await take(house, named["prepaid"], "ship")
    await order("waiting", (hat, 1), method="ZALOPAY")
    await tell(house, await order("failed", (hat, 1), method="BANKING"), "FAILED")
    second = await order("second", (shirt, 1), method="MOMO")
    await tell(house, second, "FAILED")
    await house.run(PayOrder(second, None, "CARD"))
    await tell(house, second)
    await tell(house, await order("refunded", (hat, 2), method="CARD"))
    await take(house, named["refunded"], "cancel")
    await _lapse(house, owner, await order("late", (shirt, 1), method="MOMO"))
    await tell(house, named["late"])
    await tell(house, await order("wrong", (shirt, 1), method="MOMO"), amount=1)
    await take(house, await order("gift", (gift, 1)), "confirm", "ship", "deliver")
    await take(house, await order("gift sent back", (gift, 2)), "confirm", "ship", "return")
    return named


async def _sell_seats(house: Strongroom) -> None:
    """Another room's keys of the same kinds."""
    show = await boxoffice.new_event(house, 10, price=boxoffice.PAGE)
    await boxoffice.bought(house, (show.type, 2))
    user = uuid7()
    held = await boxoffice.reserve(house, user, (show.type, 1))
    await house.run(ReleaseReservation(user, held.reservation_id))


async def _live(dsn: str, place: Path) -> None:
    settings = Settings(database_url=dsn, data_dir=place, rate_limits="off")
    async with Strongroom(settings) as house, Database(dsn, pool_size=3) as owner:
        named = await _sell(house, owner)
        await _sell_seats(house)
        await _roll(house.database)
        await owner.fetch("CREATE TABLE named (name text, order_id uuid, payment_id uuid)")
        for name, order in named.items():
            payment = await payment_of(house, order)
            await owner.fetch("INSERT INTO named VALUES ($1, $2, $3)", name, order, payment)


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
        for table in (*GUARDED, *KEPT):
            db.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        db.execute(statements)
        for table in GUARDED:
            db.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only")
        for table in KEPT:
            db.execute(f"ALTER TABLE {table} ENABLE TRIGGER append_only")


@pytest.fixture
async def auditing(copy: str) -> AsyncIterator[Database]:
    async with Database(copy, role="strongroom_audit", pool_size=1) as database:
        yield database


async def broken(auditing: Database) -> set[str]:
    """The room's invariants that do not hold; each names ten rows at most."""
    found = {name: await auditing.fetch(query) for name, query in INVARIANTS.sql.items()}
    assert all(len(rows) <= 10 for rows in found.values())
    return {name for name, rows in found.items() if rows}


async def test_a_consistent_history_of_orders_has_no_findings(auditing: Database) -> None:
    asked: list[str] = []
    report = await Reconciler(auditing, ALL).run(lambda name, *_: asked.append(name))
    assert report.findings == []
    assert INVARIANTS.sql.keys() <= set(asked)


@pytest.mark.parametrize("corruption", SPOILED)
async def test_a_corruption_of_orders_is_found_by_its_invariants_and_no_others(
    copy: str, auditing: Database, corruption: str
) -> None:
    invariants, statements = SPOILED[corruption]
    spoil(copy, statements)
    assert await broken(auditing) == set(invariants)


async def test_every_invariant_of_orders_has_a_corruption_that_it_finds() -> None:
    found = {invariant for invariants, _ in SPOILED.values() for invariant in invariants}
    assert found == set(INVARIANTS.sql)


# Paths -------------------------------------------------------------------------------------------


def _allowed(path: Iterable[OrderStatus]) -> bool:
    """Whether the room's own table of steps leads this way."""
    before, *after = path
    for status in after:
        if not any(before in move.before and status == move.after for move in MOVES.values()):
            return False
        before = status
    return True


async def test_of_all_paths_of_five_steps_exactly_the_allowed_ones_are_silent(
    copy: str, auditing: Database
) -> None:
    statuses: tuple[OrderStatus, ...] = get_args(OrderStatus)
    paths = [path for steps in range(1, 6) for path in product(statuses, repeat=steps)]
    ids = [uuid7() for _ in paths]
    with psycopg.connect(copy, autocommit=True) as db:
        db.execute("DELETE FROM orders.orders")
        db.execute("ALTER TABLE orders.history DISABLE TRIGGER append_only")
        db.execute("DELETE FROM orders.history")
        db.execute(
            "INSERT INTO orders.orders (id, code, customer_id, customer_name, phone, status,"
            " total_amount, payment_method, version, expires_at)"
            " SELECT id, 'SON', id, '', '', status::orders.status, 0, 'COD', 5, now()"
            " FROM unnest(%s::uuid[], %s::text[]) AS o (id, status)",
            (ids, [path[-1] for path in paths]),
        )
        steps = [
            (id, n, s) for id, path in zip(ids, paths, strict=True) for n, s in enumerate(path)
        ]
        db.execute(
            "INSERT INTO orders.history (order_id, version, status, by_whom)"
            " SELECT id, version, status::orders.status, 'import'"
            " FROM unnest(%s::uuid[], %s::integer[], %s::text[]) AS h (id, version, status)",
            ([s[0] for s in steps], [s[1] + 1 for s in steps], [s[2] for s in steps]),
        )
    query = INVARIANTS.sql["orders_take_allowed_steps"]
    all_of_them, cut = query.replace("LIMIT 10", ""), " LIMIT 10"
    assert all_of_them != query and cut in query
    found = {row["order_id"] for row in await auditing.fetch(all_of_them)}
    silent = {path for id, path in zip(ids, paths, strict=True) if id not in found}
    assert silent == {path for path in paths if path[0] == "PENDING" and _allowed(path)}
    assert len(silent) == 8


# No false alarm ----------------------------------------------------------------------------------


async def test_a_restated_day_may_say_anything_until_it_is_rolled_again(
    copy: str, auditing: Database
) -> None:
    spoil(
        copy,
        "UPDATE orders.order_days SET orders = 7; DELETE FROM orders.product_days;"
        "UPDATE orders.customer_days SET amount = 7",
    )
    assert await broken(auditing) == set(ROLLUPS)
    async with Database(copy, role="strongroom_app", pool_size=1) as app:
        await app.fetch("INSERT INTO orders.restated SELECT day FROM orders.rolled_days")
        assert await broken(auditing) == set()
        await _roll(app)
    assert await broken(auditing) == set()


async def test_steps_that_were_imported_need_no_events_of_their_own(
    copy: str, auditing: Database
) -> None:
    order = ORDER.format("delivered")
    spoil(
        copy,
        f"UPDATE orders.history SET by_whom = 'import' WHERE order_id = {order};"
        f"DELETE FROM events.log WHERE key = {order}",
    )
    assert await broken(auditing) == set()


async def _shop(house: Strongroom, products: list[UUID], chance: random.Random) -> None:
    """A customer buys something, and whatever can become of it does."""
    lines = tuple((id, chance.randint(1, 2)) for id in chance.sample(products, 2))
    method: Method = chance.choice(("COD", "MOMO"))
    customer = buyer(chance.randrange(20))
    placed = await house.run(PlaceOrder(None, customer, lines, 3600, method))
    order = placed.order_id
    for _ in range(5):
        acts: list[Command] = [TakeStep(order, step) for step in MOVES]
        acts.append(PayOrder(order, None, chance.choice(("COD", "CARD"))))
        payment = await payment_of(house, order)
        if payment and payment != order:
            amount = placed.total_amount - chance.randint(0, 1)
            acts.append(RecordPayment(payment, "SUCCESS", amount, None))
            acts.append(RecordPayment(payment, "FAILED", 0, None))
        await code_of(house.run(chance.choice(acts)))


async def test_no_alarm_while_orders_are_placed_changed_lapse_and_are_rolled_up(
    houses: Houses, owner: Database
) -> None:
    house, other = pair = [await houses(), await houses()]
    products = [await new_product(house, 60, price=price) for price in (5_000, 7_000, 0)]
    over, turns = asyncio.Event(), 0
    chance = random.Random(7)

    async def customer(home: Strongroom) -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            try:
                await _shop(home, products, chance)
            except StrongroomError:
                await home.run(MoveStock(products[0], "receive", 20, "more"))

    async def worker() -> None:
        """The clock, the stock and the roller."""
        while not over.is_set():
            if chance.random() < 0.2:
                await time_out(owner)
            for command in await commands_due(house.database):
                await house.run(command)
            await code_of(house.run(MoveStock(chance.choice(products), "adjust", 3, "found")))
            await _roll(other.database)

    # What chance may leave out.
    steps: tuple[tuple[Step, ...], ...] = (("cancel",), ("confirm", "ship", "deliver", "return"))
    for path in steps:
        placed = await place(house, (await new_product(house, 1), 1))
        await take(house, placed.order_id, *path)
    begun = [asyncio.ensure_future(customer(pair[n % 2])) for n in range(6)]
    begun.append(asyncio.ensure_future(worker()))
    reports = 0
    while turns < 150 or reports < 10:
        report = await other.reconcile()
        assert report.clean, "\n".join(map(str, report.findings))
        reports += 1
    over.set()
    await asyncio.gather(*begun)
    await _roll(house.database)
    await assert_clean(house)
    statuses = await owner.fetch("SELECT DISTINCT status FROM orders.history")
    assert len(statuses) == len(get_args(OrderStatus))
