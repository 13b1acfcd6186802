"""Filled shops under measurement: an instance with so many orders, its API and its worker."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self
from uuid import UUID

from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.apps.orders.products import MoveStock
from strongroom.clock import monotonic
from strongroom.core.db import Database
from strongroom.doors.cli.reach import reached
from strongroom.errors import Busy
from strongroom.lab.arena import Person, free_port
from strongroom.lab.benches.betting import sql as growth
from strongroom.lab.benches.orders import Cart, sql
from strongroom.lab.programs import Program, cpu_s, family
from strongroom.main import Strongroom
from strongroom.settings import Settings

USERS, OWN_ORDERS = 100, 10
"""Who reads their own orders, and how many each has from the beginning."""

ON_SALE = 200
"""Products that are ordered during the measurement."""

PLENTY = 20_000
"""Pieces of each that come in before it: more than a run takes."""

CARTS = 400

DUE_S = 60.0
"""A shop that was filled days ago has orders that lapse when its worker starts; they are waited
for, but not for ever."""

LOOK_S = 0.5

MEMORY_SHARE = 0.6
"""Orders that take no more of the free memory are read into it before the measurement."""

PORTION = 4 << 20


class ShopLate(Busy):
    """The worker of this shop has more to catch up on than the bench waits for. Let `strongroom up`
    run on it for a while, then try again."""


@dataclass(frozen=True)
class Known:
    """An order there is."""

    id: UUID
    code: str
    phone: str
    name: str
    created_at: datetime


@dataclass(frozen=True)
class Sold:
    """A product there is."""

    id: UUID
    sku: str
    name: str


class Shop:
    """An open house on a filled instance. Entering fills it unless it is filled, and starts API and
    worker with all defaults but rate limits; a folder that was given is kept, a scratch one goes."""

    def __init__(self, orders: int, folder: Path | None, say: Callable[[str], None]) -> None:
        self._wanted, self._kept, self._say = orders, folder, say
        self._stack = AsyncExitStack()
        self.house: Strongroom
        self.api: Program
        self.worker: Program
        self._postgres = 0
        self.port = 0
        self.orders = 0
        self.users: list[Person] = []
        self.operator: Person
        self.products: list[Sold] = []

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _enter(self) -> None:
        folder = self._kept.absolute() if self._kept else self._scratch()
        settings = Settings(data_dir=folder, database_url=None, rate_limits="off")
        await self._stack.enter_async_context(reached(settings, new=True))
        self.house = await self._stack.enter_async_context(Strongroom(settings))
        await self._fill()
        await self._open(settings)
        await self._start(folder)
        noted = folder / "postgres" / "cluster" / "postmaster.pid"
        if noted.exists():
            self._postgres = int(noted.read_text().split()[0])
        await self._until_settled()
        await self._warm(folder)

    def _scratch(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="strongroom-bench-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # The database's own user must reach its folder.
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        return folder / "data"

    async def _fill(self) -> None:
        # Only here: no other bench needs what the seed is made with.
        from strongroom.lab.seeding import Plan, seed

        found = await self.house.database.fetchrow(sql.how_many)
        assert found is not None
        if not found["orders"]:

            def told(done: int, of: int) -> None:
                self._say(f"seeding {self._wanted:,} orders: {done / max(of, 1):.0%}")

            await seed(self.house.place.owner, Plan(orders=self._wanted), told)
        self._say("vacuuming")
        async with Database(self.house.place.owner, pool_size=1) as owner, owner.connection() as db:
            await db.execute("SET statement_timeout = 0")
            await db.execute(growth.settle_down)

    async def _open(self, settings: Settings) -> None:
        """People with orders of their own, and products of which there is plenty."""
        self._say("users, stock and their own orders")
        made = await self.house.identity.create_users(USERS, "user")
        self.users = [Person(*one) for one in made]
        ((id, token),) = await self.house.identity.create_users(1, "operator")
        self.operator = Person(id, token)
        rows = await self.house.database.fetch(sql.some_products, ON_SALE)
        self.products = [Sold(*row) for row in rows]
        run, ttl_s = self.house.run, settings.order_payment_ttl_s
        await asyncio.gather(
            *(run(MoveStock(one.id, "receive", PLENTY, "bench")) for one in self.products)
        )
        dice = random.Random(USERS)
        known = await self.some_orders(dice, USERS)
        for _ in range(OWN_ORDERS):
            await asyncio.gather(
                *(
                    run(PlaceOrder(user.user_id, Recipient(one.phone, one.name), cart, ttl_s))
                    for user, one, cart in zip(
                        self.users, known, map(tuple, self.carts(dice, USERS)), strict=True
                    )
                )
            )
        found = await self.house.database.fetchrow(sql.how_many)
        assert found is not None
        self.orders = found["orders"]

    async def _start(self, folder: Path) -> None:
        self.port = free_port()
        program, where = [sys.executable, "-m", "strongroom"], ["--data-dir", str(folder)]
        environment = {"STRONGROOM_RATE_LIMITS": "off"}
        self.worker = Program([*program, "worker", *where], environment=environment)
        await self._stack.enter_async_context(self.worker)
        self.api = Program(
            [*program, "serve", "--port", str(self.port), *where],
            ready=("127.0.0.1", self.port),
            ready_path="/readyz",
            environment=environment,
        )
        await self._stack.enter_async_context(self.api)

    async def _until_settled(self) -> None:
        """Until nothing is left that came due while nobody worked here."""
        patience = monotonic() + DUE_S
        while left := await self.house.database.fetchval(sql.orders_overdue):
            self._say(f"{left:,} orders lapse")
            if monotonic() > patience:
                raise ShopLate()
            await asyncio.sleep(LOOK_S)

    async def _warm(self, folder: Path) -> None:
        """Reads the files of products, customers and orders, all that a reader is shown, so that
        neither shop is measured on its disk; those of the ledger stay where they are."""
        cluster = folder / "postgres" / "cluster"
        files = await self.house.database.fetch(sql.files_of_orders)
        size = sum(row["bytes"] for row in files)
        if size > MEMORY_SHARE * _free_bytes() or not cluster.exists():
            self._say("too large for the memory: the disk is measured as well")
            return
        self._say(f"reading {size / 1e9:,.1f} GB into memory")
        for row in files:
            # A gigabyte to a file; the others have a number behind the name.
            for file in cluster.glob(f"{row['path']}*"):
                await asyncio.to_thread(_read, file)

    async def some_orders(self, dice: random.Random, count: int) -> list[Known]:
        """Orders of random moments between the first one and the last."""
        found = await self.house.database.fetchrow(sql.how_many)
        assert found is not None and found["first"] is not None
        first, last = found["first"].int >> 80, found["last"].int >> 80
        wanted = [UUID(int=dice.randint(first, last) << 80) for _ in range(count)]
        rows = await self.house.database.fetch(sql.some_orders, wanted)
        return [Known(*row) for row in rows]

    async def begin_of_newest(self, orders: int) -> datetime:
        """When the oldest of so many newest orders was placed; of all, if there are no more."""
        newest = max(0, min(orders, self.orders) - 1)
        begin: datetime = await self.house.database.fetchval(sql.begin_of_newest, newest)
        return begin

    def spent_s(self) -> dict[str, float]:
        """CPU seconds so far, by who spent them."""
        postgres = sum(cpu_s(pid) for pid in family(self._postgres)) if self._postgres else 0.0
        return {"api": self.api.cpu_s(), "worker": self.worker.cpu_s(), "postgres": postgres}

    def carts(self, dice: random.Random, count: int = CARTS) -> list[Cart]:
        """One to three products each."""
        return [
            [(one.id, dice.randint(1, 2)) for one in dice.sample(self.products, dice.randint(1, 3))]
            for _ in range(count)
        ]


def _read(file: Path) -> None:
    with open(file, "rb", buffering=0) as opened:
        while opened.read(PORTION):
            pass


def _free_bytes() -> int:
    """Memory that is free or only caches files."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
