"""Groups against row locks and versions: by connections, by hot rows; and what size costs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import ClassVar, Self

from strongroom.clock import monotonic
from strongroom.core.db import Database, Queries
from strongroom.lab.arena import Arena
from strongroom.lab.bench import Series, Turn
from strongroom.lab.benches.betting import bets, place
from strongroom.lab.client import CONNECTIONS
from strongroom.lab.figures import Figures

sql = Queries(__package__, "growth.sql")

GROUPS, LOCKS, VERSIONS = "group commit", "row lock", "optimistic"


class Contended(Series):
    """POST /api/bets to three API processes on one database, of which one is asked at a time."""

    figure = "bets_per_s"
    rows = (GROUPS, LOCKS, VERSIONS)
    beside = ("p99_ms",)
    seconds = 6.0
    people: ClassVar[int] = 1000

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        try:
            self.arena = await self.stack.enter_async_context(Arena(self.people))
            self.dsn = self.arena.house.place.app
            self.apis = {
                GROUPS: await self.arena.api(),
                LOCKS: await self.arena.api(baseline=True),
                VERSIONS: await self.arena.api(baseline=True, app=["optimistic-bets"]),
            }
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def load(self, name: str, turn: Turn, bettors: int, connections: int) -> Figures:
        return await bets(self.arena, self.apis[name], turn, bettors, connections)


class Concurrency(Contended):
    """Bets of 1,000 people, who meet at no row: what a group saves is commits and round trips."""

    name = "concurrency"
    claim = "Bets of 1,000 people by the number of connections: groups, row locks, versions"
    setting = "connections"
    settings = (1, 4, 16, 64, 256)

    async def side(self, name: str, turn: Turn) -> Figures:
        assert turn.setting is not None
        return await self.load(name, turn, self.people, turn.setting)


class Hotness(Contended):
    """Bets over 256 connections by ever fewer people: each meets the others at the same wallet."""

    name = "hotness"
    claim = "Bets over 256 connections by the number of people: groups, row locks, versions"
    setting = "people"
    settings = (1000, 100, 10, 1)

    async def side(self, name: str, turn: Turn) -> Figures:
        assert turn.setting is not None
        return await self.load(name, turn, turn.setting, CONNECTIONS)


HERE, SMALLEST = "at this size", "at the smallest"

BATCH = 500
"""Bets placed at once: few enough that measuring them hardly makes a small ledger larger."""

FEWEST = 4
"""Batches a turn: their median forgets one that met a checkpoint."""


class Size(Series):
    """A bet and a reconciliation on ledgers that real bets filled, against the smallest of them:
    the first setting measures it against itself, so its distance from 1 is noise."""

    name = "size"
    claim = "Cost of a bet by entries in the ledger, against the smallest ledger"
    figure = "us_per_bet"
    better = "lower"
    setting = "entries"
    settings = (10_000, 100_000, 1_000_000)
    rows = (HERE, SMALLEST)
    beside = ("reconcile_ms",)
    seconds = 4.0

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        self.filled: dict[int, Arena] = {}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def side(self, name: str, turn: Turn) -> Figures:
        assert turn.setting is not None
        entries = turn.setting if name == HERE else self.settings[0]
        arena = await self._filled(entries // 10 if turn.quick else entries)
        costs: list[float] = []
        end = monotonic() + turn.seconds / 2
        while len(costs) < FEWEST or (monotonic() < end and len(costs) < 2 * FEWEST):
            round_id = await arena.round()
            began = monotonic()
            await place(arena, round_id, BATCH)
            costs.append((monotonic() - began) / BATCH * 1e6)
        began = monotonic()
        report = await arena.house.reconcile()
        reconciled_s = monotonic() - began
        assert report.clean, "\n".join(map(str, report.findings))
        async with Database(arena.house.place.owner, pool_size=1) as owner:
            there = await owner.fetchval(sql.count_entries)
        return {
            "us_per_bet": sorted(costs)[len(costs) // 2],
            "reconcile_ms": 1000 * reconciled_s,
            "entries": float(there),
        }

    async def _filled(self, entries: int) -> Arena:
        """An instance of its own with so many entries, made when it is first asked for."""
        if entries not in self.filled:
            arena = await self.stack.enter_async_context(Arena(1000))
            self.filled[entries], self.dsn = arena, arena.house.place.app
            self.say(f"placing {entries // 2:,} bets")
            for start in range(0, entries // 2, 10 * BATCH):
                round_id = await arena.round()
                await place(arena, round_id, min(10 * BATCH, entries // 2 - start))
            async with Database(arena.house.place.owner, pool_size=1) as owner:
                await owner.fetch(sql.settle_down)
        return self.filled[entries]
