"""The demo's load: bets over HTTP from many connections, each remembered until it is proved."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from strongroom.clock import monotonic
from strongroom.doors.cli.client import Answer, Connection

RETRIED = (429, 503)
"""Not now: the same request with the same key comes again. So does what is still under way."""

RETRY_PAUSE_S = 0.1
TRIES = 300
"""With the pause this outlasts every restart."""

SMALLEST, LARGEST = 1_000, 50_000
STEP = 1_000

RECENT = 4_000
"""Latencies that the percentiles are taken of: the last second or two."""


class Bettor(NamedTuple):
    """A user and the token that speaks for it."""

    user_id: UUID
    token: str


class Accepted(NamedTuple):
    """A bet that was acknowledged, and all that is needed to ask for it again."""

    token: str
    key: str
    body: bytes
    answer: bytes


class Asked(NamedTuple):
    """The answer that stays, None when none was to be had; how long its try took, and how many
    came before it."""

    answer: Answer | None
    took_ms: float
    retries: int


async def until_answered(
    connection: Connection, method: str, path: str, token: str, body: bytes = b"", key: str = ""
) -> Asked:
    """Asks again, with the same key, until there is an answer that stays."""
    for retries in range(TRIES):
        began = monotonic()
        try:
            answer = await connection.ask(method, path, token, body, key)
        except OSError:
            answer = None
        if answer is not None and not _comes_again(answer):
            return Asked(answer, (monotonic() - began) * 1000, retries)
        await asyncio.sleep(RETRY_PAUSE_S)
    return Asked(None, 0.0, TRIES)


def _comes_again(answer: Answer) -> bool:
    if answer.status in RETRIED:
        return True
    return answer.status == 409 and bool(answer.json()["code"] == "request_in_progress")


class Burst:
    """What the connections of the demo share: whom to bet for, where, and what came of it."""

    def __init__(
        self, address: tuple[str, int], bettors: Sequence[Bettor], rounds: Sequence[str], seed: int
    ) -> None:
        self._address, self._bettors, self._rounds = address, bettors, rounds
        self._random = random.Random(seed)
        self.accepted: dict[UUID, Accepted] = {}
        self.refused: dict[str, int] = {}
        self.unresolved = 0
        self.retries = 0
        self.replayed = 0
        self.different = 0
        self._latencies_ms: deque[float] = deque(maxlen=RECENT)
        self.all_ms: list[float] = []

    async def run(self, connections: int, seconds: float) -> None:
        """Places bets for so long, each connection one after the other."""
        end = monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._place(end))

    async def _place(self, end: float) -> None:
        connection = Connection(*self._address)
        while monotonic() < end:
            bettor = self._random.choice(self._bettors)
            wish = {
                "roundId": self._random.choice(self._rounds),
                "side": self._random.choice("AB"),
                "amount": self._random.randrange(SMALLEST, LARGEST + STEP, STEP),
            }
            body, key = msgspec.json.encode(wish), secrets.token_hex(12)
            answer = await self._ask(connection, bettor.token, body, key)
            if answer is None:
                self.unresolved += 1
            elif answer.status == 202:
                bet_id = UUID(answer.json()["betId"])
                self.accepted[bet_id] = Accepted(bettor.token, key, body, answer.body)
            else:
                code = answer.json()["code"]
                self.refused[code] = self.refused.get(code, 0) + 1
        connection.close()

    async def _ask(
        self, connection: Connection, token: str, body: bytes, key: str
    ) -> Answer | None:
        """A bet's answer that stays; None when there is none to be had."""
        asked = await until_answered(connection, "POST", "/api/bets", token, body, key)
        self.retries += asked.retries
        if asked.answer is not None:
            self._latencies_ms.append(asked.took_ms)
            self.all_ms.append(asked.took_ms)
        return asked.answer

    async def storm(self, connections: int, count: int) -> None:
        """Sends accepted bets again, with their keys, all at once: each gets its first answer."""
        chosen = self._random.sample(list(self.accepted.values()), min(count, len(self.accepted)))
        waiting = iter(chosen)

        async def again() -> None:
            connection = Connection(*self._address)
            for one in waiting:
                answer = await self._ask(connection, one.token, one.body, one.key)
                replayed = answer is not None and "idempotency-replayed" in answer.headers
                if replayed and answer is not None and answer.body == one.answer:
                    self.replayed += 1
                else:
                    self.different += 1
            connection.close()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(again())

    def recent_ms(self) -> tuple[float, float]:
        """p50 and p99 of the last answers."""
        return percentiles_ms(self._latencies_ms)


def percentiles_ms(latencies: Sequence[float] | deque[float]) -> tuple[float, float]:
    """(p50, p99); zeros when there are none."""
    ordered = sorted(latencies)
    if not ordered:
        return 0.0, 0.0
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
