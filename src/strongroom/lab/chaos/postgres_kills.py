"""Postgres is killed at random instants under mixed load, and started again (C5).

Mostly the postmaster, with SIGKILL: its children end when they notice, and the next start recovers
from the log. Now and then one of the children: the postmaster then ends all the others and recovers
by itself. API and worker processes live on through all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter

from strongroom.clock import monotonic
from strongroom.lab.chaos.accounting import tried
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.crowd import Crowd
from strongroom.lab.chaos.field import Field
from strongroom.lab.programs import family
from strongroom.lab.trial import ENOUGH_ACKNOWLEDGED, Trial

KILLS = 10
APIS, WORKERS = 2, 2

PER_SECOND = 120.0
"""As many wishes as two processes answer while others use the machine: all are replayed."""

PAUSE_S = 0.8
"""Of load between two kills, on average."""

CHILDS_TURN = 4
"""Every so many kills hit a child."""

WORKED = 25
"""Acknowledged again before the next kill, or Postgres would die idle."""

BACK_S = 30.0
ENOUGH_S = 120.0
LOOK_S = 0.02


class PostgresKiller:
    """Kills at Poisson instants; the schedule comes from the seed."""

    def __init__(self, field: Field, crowd: Crowd, seed: int) -> None:
        self._field, self._crowd = field, crowd
        self._chance = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.under_way = 0
        """Requests that had no answer yet when Postgres died."""
        self.recovery_ms: list[float] = []
        self.violations: list[str] = []

    async def deliver(self, count: int, say: Say) -> None:
        """So many kills; returns when work goes on after the last one."""
        for number in range(1, count + 1):
            await asyncio.sleep(self._chance.expovariate(1 / PAUSE_S))
            self.under_way += sum(one.reply is None for one in self._crowd.notes.asked)
            if number % CHILDS_TURN:
                await self._kill_postmaster()
            else:
                self._kill_child()
            if not await self._crowd.acknowledge(self._acknowledged + WORKED, BACK_S):
                self.violations.append(f"not at work within {BACK_S:g} s of kill {number}")
            notes = self._crowd.notes
            say(
                f"{number} of {count} kills, {notes.acknowledged} acknowledged, "
                f"{notes.unknown} unknown at first"
            )

    @property
    def _acknowledged(self) -> int:
        return self._crowd.notes.acknowledged

    async def _kill_postmaster(self) -> None:
        await self._field.kill_postgres()
        down_at = monotonic()
        await self._field.start_postgres()
        up_at = monotonic()
        self.killed["postmaster"] += 1
        # Answers that were on their way when it died are no recovery: only those since it is back.
        patience = up_at + BACK_S
        while (waited := self._crowd.notes.recovered_ms(up_at)) is None:
            if monotonic() > patience:
                return
            await asyncio.sleep(LOOK_S)
        self.recovery_ms.append((up_at - down_at) * 1000 + waited)

    def _kill_child(self) -> None:
        pid = self._field.postgres.pid
        assert pid is not None, "Postgres does not run"
        child = self._chance.choice(family(pid)[1:])
        with contextlib.suppress(ProcessLookupError):  # a backend may have ended by itself
            os.kill(child, signal.SIGKILL)
            self.killed["child"] += 1


@scenario(
    "postgres-kill",
    "Postgres is killed (SIGKILL, the postmaster or one of its children) under mixed load and "
    "recovers: every acknowledged effect is there exactly once, unknown outcomes resolve to one "
    "answer, API and worker processes live on, and all invariants hold.",
    takes=("faults", "acknowledged"),
)
async def postgres_kills(wanted: Wanted, say: Say) -> Trial:
    """`wanted.faults` kills."""
    count, enough = wanted.faults or KILLS, wanted.acknowledged or ENOUGH_ACKNOWLEDGED
    say("starting: Postgres, two API processes, two workers")
    async with Field(apis=APIS, workers=WORKERS) as field:
        crowd = Crowd(field, seed=wanted.seed, per_second=PER_SECOND)
        killer = PostgresKiller(field, crowd, wanted.seed)
        await crowd.gather()
        began = monotonic()
        async with crowd.at_work():
            await killer.deliver(count, say)
            await crowd.acknowledge(enough, ENOUGH_S)
        seconds = monotonic() - began
        say("replaying every answer, and looking at the books")
        return await tried(
            crowd,
            row="C5",
            name="postgres-kills",
            faults=killer.killed.total(),
            seconds=seconds,
            recovery_ms=killer.recovery_ms,
            what={**killer.killed, "under way": killer.under_way},
            violations=killer.violations,
            enough=enough,
        )
