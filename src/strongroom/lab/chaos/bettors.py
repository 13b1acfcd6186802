"""People who bet, as many at once as a trial asks: what they reach, what was acknowledged to them,
and whether that is what the books say."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from strongroom.apps.betting import CreateRound
from strongroom.clock import monotonic
from strongroom.core.db import Queries
from strongroom.lab.arena import FUNDS, Person
from strongroom.lab.chaos.field import Field
from strongroom.lab.chaos.throng import Flow, Met, Plan, Recalled, gathered, p99_ms, refused
from strongroom.lab.client_process import drive
from strongroom.lab.scenarios import Job
from strongroom.lab.trial import Trial

sql = Queries(__package__, "slow.sql")

WARMUP_S = 1.0

START_S = 3.0
"""A process of the lab is there after one second, on a crowded machine after two."""

OPEN_S, MOST_OPEN, OPENED_PER_S = 0.7, 12_000, 2_000
"""A throng has as many connections open as people come in this time: of three times the load a
third waits for two seconds, and the others are told at once."""

DRAIN_S = 90.0
"""Two cores match some thousands of bets a second, beside whatever else runs on them."""


class Bounds(NamedTuple):
    """What is asked of a trial: a share of the possible goodput, refusals as quick as this at the
    99th percentile, and work as usual so soon after a fault: a second with such a share of the
    successes there were before, as quick as this at the 99th percentile."""

    goodput: float
    refusal_ms: float
    recovery_s: float
    usual: float
    usual_ms: float


STRICT = Bounds(0.8, 50, 10, 0.8, 4000)
"""What is promised, on a machine that does nothing else."""

LOOSE = Bounds(0.5, 1000, 30, 0.3, float("inf"))
"""Below this something is broken, however crowded the machine."""


class Bettors:
    """A field's people and rounds, and the port of the API that they ask."""

    def __init__(self, field: Field, port: int, people: list[Person], rounds: list[UUID]) -> None:
        self.field, self.port, self.people, self.rounds = field, port, people, rounds
        self.prefixes: dict[str, str] = {}
        self.recalled: list[Recalled] = []
        self.acknowledged = 0

    @classmethod
    async def of(cls, field: Field, port: int, *, people: int, rounds: int) -> Bettors:
        found = await field.people(people, FUNDS)
        made = [
            await field.house.run(CreateRound(f"trial {n}", "oracle", None, 0))
            for n in range(rounds)
        ]
        return cls(field, port, found, [one.round_id for one in made])

    def _job(self, round: UUID, people: Sequence[Person], prefix: str, seconds: float) -> Job:
        return Job(
            "127.0.0.1",
            self.port,
            "bets",
            [one.token for one in people],
            duration_s=seconds,
            warmup_s=WARMUP_S,
            key_prefix=prefix,
            options={"round_id": str(round), "amount": 1000},
        )

    async def capacity(self, seconds: float, round: int = 0) -> float:
        """Bets a second that a closed loop gets accepted, with as many connections as keep every
        group large."""
        job = self._job(self.rounds[round], self.people, "", seconds)
        result = await drive(job)
        good = sum(n for status, n in result.statuses.items() if status < 300)
        self.acknowledged += good
        return good / result.seconds

    def flow(
        self, name: str, per_second: float, round: int = 0, people: Sequence[Person] | None = None
    ) -> Flow:
        """Bets that arrive so often; the keys are remembered under the name."""
        prefix = self.prefixes[name] = secrets.token_hex(6)
        job = self._job(self.rounds[round], people or self.people, prefix, 1)
        return Flow(name, per_second, job)

    async def throng(self, flows: list[Flow], seconds: float, at: float = 0.0) -> Recalled:
        found = await gathered(Plan(self.port, flows, seconds, at, _open(flows)))
        self.recalled.append(found)
        return found

    @asynccontextmanager
    async def thronging(
        self, flows: list[Flow], seconds: float
    ) -> AsyncIterator[asyncio.Task[Recalled]]:
        """A throng that begins with the context, while whose own acts are done; await the task for
        what it met."""
        at = monotonic() + START_S + _open(flows) / OPENED_PER_S
        task = asyncio.create_task(self.throng(flows, seconds, at))
        try:
            await asyncio.sleep(at - monotonic())
            yield task
        finally:
            if not task.done():
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settle(self, trial: Trial) -> None:
        """Into the trial: what was acknowledged, lost, doubled, and whether the books agree."""
        trial.acknowledged += self.acknowledged
        for found in self.recalled:
            for name, met in found.flows.items():
                if name in self.prefixes:
                    await self._account(trial, name, met)
        silent = [one for found in self.recalled for one in refused(found.of())]
        if bare := sum(not one.retry_after for one in silent):
            trial.violations.append(f"{bare} refusals say no Retry-After")
        if not await self.field.drained(DRAIN_S):
            trial.violations.append(f"the queues were not empty {DRAIN_S:g} s after the last bet")
        trial.violations += await self.field.reconcile()
        trial.violations += self.field.bugs()

    async def _account(self, trial: Trial, name: str, met: list[Met]) -> None:
        prefix = self.prefixes[name]
        rows = await self.field.rows(sql.bets_by_key, prefix)
        bets = {row["key"]: row["bets"] for row in rows}
        for one in met:
            there = bets.get(f"{prefix}-{one.number}", 0)
            if one.succeeded:
                trial.acknowledged += 1
                trial.lost += there == 0
            elif one.status in (0, 500):
                trial.unknown += 1
            elif there:
                trial.violations.append(f"{name} {one.number} was refused, and there is a bet")
            trial.doubled += there > 1
        odd = Counter(one.status for one in met if one.status not in (0, 202, 429, 503))
        if odd:
            trial.violations.append(f"{name} was answered with {dict(odd)}")


def _open(flows: Sequence[Flow]) -> int:
    return min(int(sum(one.per_second for one in flows) * OPEN_S), MOST_OPEN)


def normal_after_s(
    met: list[Met], ended: float, usual_per_s: float, bounds: Bounds
) -> float | None:
    """From the fault's end until the end of a second with work as usual; None when there was none.
    Seconds begin every tenth of one."""
    last = max((one.at for one in met), default=ended)
    begin = ended
    while begin + 1 <= last:
        within = [one for one in met if one.succeeded and begin <= one.answered_at < begin + 1]
        enough = len(within) >= max(1.0, bounds.usual * usual_per_s)
        if enough and p99_ms(within) <= bounds.usual_ms:
            return begin + 1 - ended
        begin += 0.1
    return None


def judge(trial: Trial, bounds: Bounds, *, goodput: float | None, refusal_ms: float) -> None:
    """Notes the figures, and as violations what is not within its bounds."""
    trial.what["refusal_p99_ms"] = refusal_ms
    if refusal_ms > bounds.refusal_ms:
        trial.violations.append(f"refusals took {refusal_ms:.0f} ms at p99")
    if goodput is not None:
        trial.what["goodput_share"] = goodput
        if goodput < bounds.goodput:
            trial.violations.append(f"goodput was {goodput:.0%} of what is possible")


def judge_recovery(trial: Trial, bounds: Bounds, after_s: float | None) -> None:
    """The same of how long it took to be normal again; None is never."""
    if after_s is not None:
        trial.recovery_ms.append(after_s * 1000)
        trial.what["recovery_s"] = after_s
    elif bounds.recovery_s < float("inf"):
        trial.violations.append("normal again not at all")
    if after_s is not None and after_s > bounds.recovery_s:
        trial.violations.append(f"normal again only after {after_s:.1f} s")
