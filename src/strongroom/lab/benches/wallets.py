"""Transfers by the thousand, and reading one's wallet."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Self

from strongroom.lab.arena import WARMUP_S, Api, Arena
from strongroom.lab.bench import Bench, Turn
from strongroom.lab.figures import Figures

BATCH = 8000
SENDERS = 2
"""Requests under way at once: one is being committed while the next is being read."""

SMALL_BATCH = 200
"""The baseline needs a transaction's worth of statements an item: more would time out."""


class ArenaBench(Bench):
    """A bench on an arena, with an API process for each side."""

    people = 1000

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        try:
            self.arena = await self.stack.enter_async_context(Arena(self.people))
            self.dsn = self.arena.house.place.app
            self.our_api: Api = await self.arena.api()
            self.their_api: Api = await self.arena.api(baseline=True)
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()


class Transfers(ArenaBench):
    """POST /api/transfers/batch."""

    name = "transfers"
    claim = "Transfers posted over HTTP, 8,000 a request, against a row at a time"
    figure = "transfers_per_s"
    seconds = 30.0

    async def ours(self, turn: Turn) -> Figures:
        return await self._load(self.our_api, BATCH, turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._load(self.their_api, SMALL_BATCH, turn)

    async def _load(self, api: Api, batch: int, turn: Turn) -> Figures:
        users = [str(person.user_id) for person in self.arena.people]
        options = {"user_ids": users, "batch": batch}
        async with api.program.watch_memory() as samples:
            result = await api.load(
                "transfers",
                [self.arena.operator.token],
                options,
                duration_s=turn.seconds - WARMUP_S,
                warmup_s=WARMUP_S,
                connections=SENDERS,
                seed=turn.seed,
            )
        half = len(samples) // 2
        return {
            "transfers_per_s": result.per_second * batch,
            "transfers": float(result.count * batch),
            "p50_ms": result.p50_ms,
            "p99_ms": result.p99_ms,
            "memory_mb": max(samples[half:]) / 1e6,
            "memory_growth_mb": (max(samples[half:]) - max(samples[:half])) / 1e6,
        }


class WalletRead(ArenaBench):
    """GET /api/wallets/me."""

    name = "wallet-read"
    claim = "Wallets read over HTTP from one API process, against a query each"
    figure = "reads_per_s"
    seconds = 8.0

    async def ours(self, turn: Turn) -> Figures:
        return await self._load(self.our_api, turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._load(self.their_api, turn)

    async def _load(self, api: Api, turn: Turn) -> Figures:
        tokens = [person.token for person in self.arena.people]
        result = await api.load(
            "wallet-read", tokens, {}, duration_s=turn.seconds - WARMUP_S, warmup_s=WARMUP_S
        )
        return {
            "reads_per_s": result.per_second,
            "p50_ms": result.p50_ms,
            "p99_ms": result.p99_ms,
        }
