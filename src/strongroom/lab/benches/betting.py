"""Placing bets over HTTP, draining them, and what a bet costs as the ledger grows."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Self
from uuid import UUID, uuid4

from strongroom.apps.betting import CloseRound, PlaceBet, RecordResult
from strongroom.apps.betting.rows import Side
from strongroom.clock import monotonic
from strongroom.core.db import Database, Queries
from strongroom.doors.worker import Worker, worker_of
from strongroom.ids import uuid7
from strongroom.lab.arena import WARMUP_S, Api, Arena
from strongroom.lab.baselines.workers import match_all, settle_all
from strongroom.lab.bench import Bench, Turn
from strongroom.lab.benches.wallets import ArenaBench
from strongroom.lab.client import CONNECTIONS
from strongroom.lab.figures import Figures

sql = Queries(__package__, "growth.sql")

WARMUP_SHARE = 0.2
"""Of a turn, at most: a quick one is shorter than the usual warm-up."""


class Bets(ArenaBench):
    """POST /api/bets, 256 connections, one API process each, many users."""

    name = "bets"
    claim = "Bets placed over HTTP by many users, against a row at a time"
    figure = "bets_per_s"
    seconds = 10.0
    bettors = 1000

    async def ours(self, turn: Turn) -> Figures:
        return await bets(self.arena, self.our_api, turn, self.bettors)

    async def baseline(self, turn: Turn) -> Figures:
        return await bets(self.arena, self.their_api, turn, self.bettors)


class BetsHot(Bets):
    """The same with a single user: every bet meets the same two accounts."""

    name = "bets-hot"
    claim = "Bets placed over HTTP by one user, against a row at a time"
    bettors = 1


class Drain(Bench):
    """Matching and settlement by a worker alone, nothing else running."""

    name = "drain"
    claim = "Bets matched and matches paid by one worker, against the specification's workers"
    figure = "bets_matched_per_s"
    seconds = 6.0
    people = 1000

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        self.arena = await self.stack.enter_async_context(Arena(self.people))
        self.dsn = self.arena.house.place.app
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def ours(self, turn: Turn) -> Figures:
        count = 10_000 if turn.quick else 40_000
        round_id = await self._placed(count)
        worker = worker_of(self.arena.house)
        began = monotonic()
        await drain(worker)
        matched_s = monotonic() - began
        house = self.arena.house
        await house.run(CloseRound(round_id))
        await house.run(RecordResult(round_id, "A"))
        began = monotonic()
        await drain(worker)
        paid_s = monotonic() - began
        round = await house.betting.round(round_id)
        assert round.status == "SETTLED", round
        matches = round.matched / 1000
        return {"bets_matched_per_s": count / matched_s, "matches_paid_per_s": matches / paid_s}

    async def baseline(self, turn: Turn) -> Figures:
        count = 1000 if turn.quick else 4000
        round_id = await self._placed(count)
        began = monotonic()
        matches = await match_all(self.arena.house.database, round_id)
        matched_s = monotonic() - began
        began = monotonic()
        paid = await settle_all(self.arena.house.database, round_id)
        paid_s = monotonic() - began
        await discard(self.arena)
        return {
            "bets_matched_per_s": 2 * matches / matched_s,
            "matches_paid_per_s": paid / paid_s,
            "bets_left_unmatched": float(count - 2 * matches),
        }

    async def _placed(self, count: int) -> UUID:
        """A round with `count` bets of 1000, the sides by turns."""
        round_id = await self.arena.round()
        await place(self.arena, round_id, count)
        return round_id


async def bets(
    arena: Arena, api: Api, turn: Turn, bettors: int, connections: int = CONNECTIONS
) -> Figures:
    """Bets over HTTP by so many people, in a round of their own."""
    warmup_s = min(WARMUP_S, WARMUP_SHARE * turn.seconds)
    before = api.program.cpu_s()
    result = await api.load(
        "bets",
        [person.token for person in arena.people[:bettors]],
        {"round_id": str(await arena.round())},
        duration_s=turn.seconds - warmup_s,
        warmup_s=warmup_s,
        connections=connections,
        seed=turn.seed,
    )
    spent = api.program.cpu_s() - before
    # The warm-up is spent on bets as well, which nobody has counted.
    share = result.seconds / (result.seconds + warmup_s)
    return {
        "bets_per_s": result.per_second,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
        "api_cpu_us_per_bet": spent * share / max(result.count, 1) * 1e6,
    }


async def place(arena: Arena, round_id: UUID, count: int) -> None:
    people = arena.people
    sides: tuple[Side, Side] = ("A", "B")
    for start in range(0, count, 5000):
        await asyncio.gather(
            *(
                arena.house.run(
                    PlaceBet(people[n % len(people)].user_id, round_id, sides[n % 2], 1000),
                    key=str(uuid4()),
                )
                for n in range(start, min(start + 5000, count))
            )
        )


async def drain(worker: Worker) -> None:
    """Works until no queue has a message."""
    while sum([await worker.work_once(queue) for queue in worker.queues]):
        pass


async def discard(arena: Arena) -> None:
    """Takes the messages away that the baseline's workers do not read."""
    transport = arena.house.transport
    while messages := await transport.receive("betting_match", 5000, 30):
        async with arena.house.database.transaction() as db:
            await transport.acknowledge(db, "betting_match", [one.id for one in messages])


class Growth(Bench):
    """Ours is a ledger with 10 million entries (quick: 1 million), the baseline one with 100,000:
    the ratio is how much cheaper a bet is on the large one, so 1 means that size costs nothing."""

    name = "growth"
    claim = "Cost of a bet with 10 million entries in the ledger, against 100,000"
    figure = "us_per_bet"
    better = "lower"
    seconds = 6.0
    small, large, large_quick = 100_000, 10_000_000, 1_000_000

    def __init__(self) -> None:
        self.grown: dict[str, Arena] = {}

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        for name in ("small", "large"):
            self.grown[name] = await self.stack.enter_async_context(Arena(1000))
        self.dsn = self.grown["large"].house.place.app
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def ours(self, turn: Turn) -> Figures:
        return await self._cost("large", self.large_quick if turn.quick else self.large, turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._cost("small", self.small, turn)

    async def _cost(self, name: str, entries: int, turn: Turn) -> Figures:
        arena = self.grown[name]
        async with Database(arena.house.place.owner, pool_size=1) as owner:
            if await owner.fetchval(sql.count_entries) < entries / 2:
                await grow(owner, arena, entries)
            there = await owner.fetchval(sql.count_entries)
        count = 5000
        await place(arena, await arena.round(), count)
        costs: list[float] = []
        end = monotonic() + turn.seconds
        while monotonic() < end or len(costs) < 3:
            round_id = await arena.round()
            began = monotonic()
            await place(arena, round_id, count)
            costs.append((monotonic() - began) / count * 1e6)
        costs.sort()
        return {"us_per_bet": costs[len(costs) // 2], "entries": float(there)}


async def grow(owner: Database, arena: Arena, entries: int) -> None:
    """Fills the tables that a bet writes as if `entries` had been posted before."""
    each = entries // (2 * len(arena.people))
    half = entries // 2
    async with owner.connection() as db:
        await db.execute("SET statement_timeout = 0")
        await db.execute(sql.grow_entries, each)
        await db.execute(sql.grow_accounts, each)
        await db.execute(sql.grow_transfers, 1, half)
        await db.execute(sql.grow_answers, half)
        await db.execute(sql.grow_bets, uuid7(), half)
        await db.execute(sql.grow_events, half)
        await db.execute(sql.settle_down)
