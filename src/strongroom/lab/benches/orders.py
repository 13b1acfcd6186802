"""Placing orders for hot products: many lines on few stock rows."""

from __future__ import annotations

import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from strongroom.apps.orders.products import CreateProduct, MoveStock
from strongroom.core.db import Database, Queries
from strongroom.lab.arena import Api, Arena, free_port
from strongroom.lab.baselines.row_at_a_time import sql as rows
from strongroom.lab.bench import Bench, Turn, Verdict
from strongroom.lab.client import CONNECTIONS, LoadResult
from strongroom.lab.client_process import drive
from strongroom.lab.figures import Figures
from strongroom.lab.programs import Program, cpu_s, family
from strongroom.lab.scenarios import Job

sql = Queries(__package__, "orders.sql")

PRICE = 100_000

KNOWN = 2000
"""Customers who have ordered before, once the bench has warmed up."""

LATE_COMERS = 256
"""Who asks after the last piece is gone: one on each connection, and each is refused."""

WARMUP = 512
"""Orders of another product, so that connections, plans and some customers are there."""

PROMISED = 5.0
"""Times as many orders as under row locks."""

ENVIRONMENT = {"STRONGROOM_WRITE_DEADLINE_MS": "30000", "STRONGROOM_RATE_LIMITS": "off"}

Cart = list[tuple[UUID, int]]


@dataclass(frozen=True)
class Side:
    """One of the two who take orders, and its API process."""

    name: str
    api: Api


class Oversold(Exception):
    """What was ordered is not what there was."""


class Orders(Bench):
    """POST /api/orders for one to three of ten products in random order, 256 connections, 2,000
    users, known customers and one new of eight, until nothing is left: what there is of each
    product is what the carts ask for, and whoever comes later is refused."""

    name = "orders"
    claim = "Orders of hot products placed over HTTP, against rows locked in a sorted order"
    figure = "orders_per_s"
    seconds = 30.0

    people, products, most_lines = 2000, 10, 3
    carts = 500
    placed, placed_quick = 15_000, 4_000
    theirs, theirs_quick = 4_000, 1_000

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        try:
            self.arena = await self.stack.enter_async_context(Arena(self.people))
            self.dsn = self.arena.house.place.app
            async with Database(self.arena.house.place.owner, pool_size=1) as owner:
                await owner.fetch(rows.allow_answering)
            (noted,) = self.arena.folder.rglob("postmaster.pid")
            self._postgres = int(noted.read_text().split()[0])
            self.us = Side("ours", await self.arena.api())
            self.them = Side("row locks", await self._row_locks())
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def _row_locks(self) -> Api:
        port, data = free_port(), str(self.arena.house.settings.data_dir)
        program = Program(
            [sys.executable, "-m", "strongroom.lab.baselines.orders", str(port), data],
            ready=("127.0.0.1", port),
            ready_path="/readyz",
            environment=ENVIRONMENT,
        )
        await self.stack.enter_async_context(program)
        return Api(port, program)

    async def ours(self, turn: Turn) -> Figures:
        return await self._sell(self.us, self.placed_quick if turn.quick else self.placed, turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._sell(self.them, self.theirs_quick if turn.quick else self.theirs, turn)

    def verdicts(self, figures: Figures, baseline: Figures) -> list[Verdict]:
        ratio = figures[self.figure] / baseline[self.figure]
        return [
            Verdict("orders per second, of row locks'", ratio, PROMISED, "times", at_least=True),
            Verdict("pieces oversold", figures["oversold"] + baseline["oversold"], 0, ""),
        ]

    async def on_sale(self, *quantities: int) -> list[UUID]:
        """New products, with so much of each in stock."""
        house, ids = self.arena.house, []
        for quantity in quantities:
            number = int(await house.database.fetchval(sql.products_made))
            made = await house.run(CreateProduct(f"HOT-{number:04}", "Áo dài", PRICE))
            await house.run(MoveStock(made.product_id, "receive", quantity, "bench"))
            ids.append(made.product_id)
        return ids

    async def place(
        self, side: Side, carts: list[Cart], asked: int, seed: int, **more: Any
    ) -> LoadResult:
        """`asked` orders, the carts in turn."""
        job = Job(
            "127.0.0.1",
            side.api.port,
            "orders",
            [person.token for person in self.arena.people],
            count=asked,
            connections=min(CONNECTIONS, asked),
            seed=seed,
            options={
                "carts": [[(str(id), quantity) for id, quantity in cart] for cart in carts],
                "phones": [f"+8490{number:07}" for number in range(KNOWN)],
            },
            **more,
        )
        result = await drive(job)
        assert not result.errors, f"{side.name}: not a clean run: {result.errors} errors"
        return result

    async def _sell(self, side: Side, asked: int, turn: Turn) -> Figures:
        """Takes orders until nothing is left, is refused after that, and checks what the database
        says of it."""
        assert asked % self.carts == 0, "whole rounds of carts"
        (warm,) = await self.on_sale(WARMUP)
        await self.place(side, [[(warm, 1)]], WARMUP, turn.seed)
        carts, wanted = self._baskets(random.Random(turn.seed), asked // self.carts)
        ids = await self.on_sale(*wanted)
        named = [[(ids[place], quantity) for place, quantity in cart] for cart in carts]
        spent = self._spent(side)
        result = await self.place(side, named, asked, turn.seed)
        used = [after - before for before, after in zip(spent, self._spent(side), strict=True)]
        assert set(result.statuses) == {201}, f"{side.name}: {result.statuses}"
        late = await self.place(side, named, LATE_COMERS, turn.seed)
        assert set(late.statuses) == {409}, f"{side.name}, sold out: {late.statuses}"
        oversold = await self._oversold(side, dict(zip(ids, wanted, strict=True)), asked)
        return {
            "orders_per_s": result.per_second,
            "lines_per_s": result.per_second * sum(map(len, carts)) / len(carts),
            "p50_ms": result.p50_ms,
            "p99_ms": result.p99_ms,
            "api_cpu_us_per_order": used[0] / asked * 1e6,
            "postgres_cpu_us_per_order": used[1] / asked * 1e6,
            "placed": float(asked),
            "oversold": float(oversold),
        }

    def _baskets(
        self, dice: random.Random, rounds: int
    ) -> tuple[list[list[tuple[int, int]]], list[int]]:
        """Carts of products by their places, and how much of each so many rounds of them want."""
        places = range(self.products)
        carts = [
            [(place, dice.randint(1, 2)) for place in dice.sample(places, lines)]
            for lines in (dice.randint(1, self.most_lines) for _ in range(self.carts))
        ]
        wanted = Counter[int]()
        for cart in carts:
            for place, quantity in cart:
                wanted[place] += quantity * rounds
        return carts, [wanted[place] for place in places]

    def _spent(self, side: Side) -> tuple[float, float]:
        """CPU seconds of the side's API process and of Postgres."""
        return side.api.program.cpu_s(), sum(cpu_s(pid) for pid in family(self._postgres))

    async def _oversold(self, side: Side, stock: dict[UUID, int], orders: int) -> int:
        """Pieces ordered beyond those that there were: 0. Raises when the sums do not come out."""
        database, ids = self.arena.house.database, list(stock)
        left = await database.fetchval(sql.stock_left, ids)
        ordered = {row[0]: row[1] for row in await database.fetch(sql.ordered, ids)}
        counted = await database.fetchrow(sql.codes_given, ids)
        assert counted is not None
        if left or ordered != stock or set(counted) != {orders}:
            raise Oversold(f"{side.name}: {left} left, {ordered} of {stock}, {dict(counted)}")
        return sum(max(0, ordered[id] - there) for id, there in stock.items())
