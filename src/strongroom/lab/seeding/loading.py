"""Loading the story: the ledger and all small tables in one transaction, the months of the orders
beside it, in tables that belong to nothing until that transaction attaches them.

So the seed appears at one COMMIT, or never. What dies in the middle leaves tables that nobody
reads, in a schema of their own; the next seed clears them away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
import numpy as np

from strongroom.clock import monotonic
from strongroom.core.db import Connection, Database, Queries
from strongroom.core.db.tables import copy_packed
from strongroom.core.ledger import clearing, open_accounts, revenue
from strongroom.errors import Busy, Refused
from strongroom.ids import HOUSE as HOUSE_ID
from strongroom.lab.seeding import rows
from strongroom.lab.seeding.books import HOUSE, PURPOSES, Books, House
from strongroom.lab.seeding.columns import columns_of
from strongroom.lab.seeding.packing import SECOND_US, Numbers
from strongroom.lab.seeding.rollups import rollups
from strongroom.lab.seeding.shop import Calendar
from strongroom.lab.seeding.story import Story, tell
from strongroom.money import VND

T = TypeVar("T")

sql = Queries(__package__, "seeding.sql")

TOGETHER = 50_000
"""Rows that are packed at once: some tens of megabytes, whatever the table."""

LOCK_NOT_AVAILABLE = "55P03"


class NotEmpty(Refused):
    """The shop is not empty. Seed a new instance: `strongroom up --data-dir FOLDER`, then
    `strongroom orders seed --data-dir FOLDER`."""


class InUse(Busy):
    """Orders are being placed or seeded just now. Try again when that is over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made. `now` is the end of the story; the database's clock without."""

    orders: int = 5_000_000
    months: int = 36
    products: int = 2_000
    seed: int = 20_260_101
    now: datetime | None = None


class Seeded(msgspec.Struct, frozen=True, rename="camel"):
    """What was made. `bytes` is the size of the whole database."""

    orders: int
    lines: int
    customers: int
    products: int
    payments: int
    transfers: int
    entries: int
    seed: int
    seconds: float
    bytes: int


Progress = Callable[[int, int], None]
"""Told after each batch: the rows written, and about how many there will be."""

OF_A_MONTH = (("orders", rows.orders), ("lines", rows.lines), ("history", rows.history))


class _Count:
    """How far the seed is."""

    def __init__(self, told: Progress | None) -> None:
        self._told, self._done, self._of = told, 0, 0

    def expect(self, story: Story) -> None:
        """Nearly: a line moves twice, an order's money once, each with two entries."""
        orders, lines = len(story), len(story.line_product)
        transfers = round(lines * 1.98 + orders * 0.93)
        steps = round(orders * 3.65)
        self._of = transfers * 3 + orders * 2 + lines + steps + 2 * len(story.payer)
        self.add(0)

    def add(self, count: int) -> None:
        self._done += count
        if self._told:
            self._told(min(self._done, self._of), self._of)

    def finish(self) -> None:
        self.add(self._of)


async def seed(dsn: str, plan: Plan | None = None, told: Progress | None = None) -> Seeded:
    """Fills the shop of the owner's database. NotEmpty, InUse; when it is interrupted, nothing
    has been made."""
    plan = plan or Plan()
    began, count = monotonic(), _Count(told)
    async with Database(dsn, pool_size=3) as owner:
        async with owner.transaction() as db:
            calendar = await _begin(db, plan)
            story = await asyncio.to_thread(tell, plan.orders, plan.products, calendar, plan.seed)
            count.expect(story)
            async with _room(owner), asyncio.TaskGroup() as tasks:
                tasks.create_task(_fill_months(owner, story, count))
                books = await _fill(db, story, plan.seed, count)
            await _end(db, books)
        async with owner.connection() as patient:
            await patient.fetch(sql.begin_months)
            await patient.execute(sql.analyse)
        count.finish()
        size = await owner.fetchval(sql.size)
    transfers = int(books.transfers_by_hour.sum())
    return Seeded(
        orders=len(story),
        lines=len(story.line_product),
        customers=len(story.customers),
        products=len(story.products),
        payments=len(story.payer),
        transfers=transfers,
        entries=2 * transfers,
        seed=plan.seed,
        seconds=round(monotonic() - began, 1),
        bytes=size,
    )


@contextlib.asynccontextmanager
async def _room(owner: Database) -> AsyncIterator[None]:
    """Where the months are filled. Only under the lock on the shop: another seed's is not ours."""
    await owner.fetch(sql.clear_away)
    await owner.fetch(sql.make_room)
    try:
        yield
    except BaseException:
        with contextlib.suppress(Busy):
            await owner.fetch(sql.clear_away)
        raise


async def _begin(db: Connection, plan: Plan) -> Calendar:
    now = (await db.fetch(sql.begin_seeding))[0]["now"]
    try:
        await db.execute(sql.hold_shop)
        await db.execute(sql.put_indexes_aside)
    except Exception as error:
        if getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise InUse() from error
        raise
    there = await db.fetchval(sql.what_is_there)
    if there:
        raise NotEmpty(f"There are {there} already. {NotEmpty().detail}")
    return Calendar.of(plan.now or now, plan.months)


async def _fill(db: Connection, story: Story, seed: int, count: _Count) -> Books:
    """Everything but the months."""
    books = Books(story, *await _accounts(db, len(story.products)), seed=seed)
    async for written in _ahead(books.walk()):
        await _copy(db, "ledger.transfers", written.transfers)
        await _copy(db, "ledger.entries", written.entries)
        count.add(3 * written.rows)
    await db.execute(sql.put_indexes_back)
    async for table, packed, made in _ahead(_others(books, seed)):
        await _copy(db, table, packed)
        count.add(made)
    return books


async def _accounts(db: Connection, products: int) -> tuple[Numbers, list[House]]:
    """The ids that the accounts get, and how the house's are."""
    keys = [revenue(), clearing("sandbox"), clearing("cod")]
    assert tuple(key.purpose for key in keys) == HOUSE
    await open_accounts(db, keys)
    found = await db.fetch(sql.hold_house, list(HOUSE), VND, HOUSE_ID)
    house = [House(*row) for row in found]
    ids = [row["id"] for row in await db.fetch(sql.take_account_ids, products * len(PURPOSES))]
    return np.array([*ids, *(one.id for one in house)]), house


def _others(books: Books, seed: int) -> Iterator[tuple[str, bytes, int]]:
    """Table, packed rows, and how many of them are counted."""
    story, noise = books.story, np.random.default_rng([seed, 11])
    yield "orders.products", rows.products(story, books.supplies), 0
    yield "ledger.accounts", rows.accounts(books), 0
    yield "events.log", rows.events(books, noise), 0
    for part in _parts(0, len(story.customers)):
        yield "orders.customers", rows.customers(story, part), 0
    for part in _parts(0, len(story)):
        yield "orders.codes", rows.codes(story, part), part.stop - part.start
    for part in _parts(0, len(story.payer)):
        yield "payments.payments", rows.payments(story, part), part.stop - part.start
        yield "payments.sandbox_charges", rows.charges(story, part), part.stop - part.start
    yield "payments.refunds", rows.refunds(story), 0
    for rolled in rollups(story):
        for table, packed in rolled.tables():
            yield table, packed, 0


async def _fill_months(owner: Database, story: Story, count: _Count) -> None:
    """The months one after the other, each with its indexes; they belong to nothing yet."""
    async with owner.connection() as db:
        await db.fetch(sql.begin_months)
        for name, part in _months(story):
            await db.fetch(sql.name_month, name)
            await db.execute(sql.make_month)
            for table, pack in OF_A_MONTH:
                async for packed in _ahead(
                    pack(story, one) for one in _parts(part.start, part.stop)
                ):
                    await copy_packed(
                        db, f"seeding.{table}_{name}", columns_of(f"orders.{table}"), packed
                    )
            lines = story.lines(part.start, part.stop)
            await db.execute(sql.index_month)
            count.add(round(4.65 * (part.stop - part.start)) + lines.stop - lines.start)


async def _end(db: Connection, books: Books) -> None:
    """The house's balances, and the months; then all there is to do is to commit."""
    house = slice(-len(HOUSE), None)
    await db.execute(
        sql.settle_house,
        books.accounts[house].tolist(),
        books.balances[house].tolist(),
        books.seqs[house].tolist(),
    )
    await db.execute(sql.attach_months)
    await db.execute(sql.clear_away)
    await db.execute(sql.change_catalogue)
    await db.execute(sql.set_gapless, len(books.story))
    await db.fetch(sql.set_numbers, len(books.story))


async def _copy(db: Connection, table: str, packed: bytes) -> None:
    await copy_packed(db, table, columns_of(table), packed)


def _parts(first: int, last: int) -> Iterator[slice]:
    for begin in range(first, last, TOGETHER):
        yield slice(begin, min(begin + TOGETHER, last))


def _months(story: Story) -> Iterator[tuple[str, slice]]:
    """The months in which orders were placed, by the clocks of the partitions, as `2026_11`."""
    created = story.created_us
    at = datetime.fromtimestamp(int(created[0]) // SECOND_US, UTC)
    month = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    first = 0
    while first < len(created):
        after = (month + timedelta(days=32)).replace(day=1)
        last = int(np.searchsorted(created, round(after.timestamp()) * SECOND_US))
        if last > first:
            yield f"{month:%Y_%m}", slice(first, last)
        month, first = after, last


async def _ahead(pieces: Iterator[T]) -> AsyncIterator[T]:
    """The pieces, each made in a thread while the one before it is used."""
    coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, None))
    try:
        while (piece := await coming) is not None:
            coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, None))
            yield piece
    finally:
        coming.cancel()
