"""API and worker processes are killed at random instants under mixed load (C1)."""

from __future__ import annotations

import asyncio
import random
from typing import Literal, NamedTuple

from strongroom.clock import monotonic
from strongroom.lab.chaos.accounting import tried
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.crowd import Crowd
from strongroom.lab.chaos.field import Field, Member
from strongroom.lab.trial import ENOUGH_ACKNOWLEDGED, Trial

APIS, WORKERS = 3, 2
"""So many that some are up while others come back, and load goes on."""

KILLS, ACKNOWLEDGED = 20, ENOUGH_ACKNOWLEDGED
PAUSE_S = 0.9
"""Between two kills, on average; a killed process is back at work in about two seconds."""

WORKERS_SHARE = 1 / 3

PER_SECOND = 110.0
"""What all clients want together: more than is needed, less than takes the processes' time to
come back from them."""

SLOWEST = 4.0
"""A machine that is shared takes so many times longer; beyond that it is stuck."""

LOOK_S = 0.02


class Kill(NamedTuple):
    """One kill: of whom, and when."""

    kind: str
    port: int
    at_s: float


class Due(NamedTuple):
    """A kill to come: so long after the one before, and of what kind of process."""

    pause_s: float
    kind: Literal["api", "worker"]


def schedule(seed: int, count: int, pause_s: float = PAUSE_S) -> list[Due]:
    """Instants that are independent of what the processes do (Poisson); of one seed always the
    same."""
    chance = random.Random(seed)
    return [
        Due(
            chance.expovariate(1 / pause_s),
            "worker" if chance.random() < WORKERS_SHARE else "api",
        )
        for _ in range(count)
    ]


class Killer:
    """Kills members of a field by a schedule, and has each come back at once. Which of several is
    taken also depends on who is up by then."""

    def __init__(self, field: Field, *, seed: int) -> None:
        self._field, self._seed, self._chance = field, seed, random.Random(seed)
        self.kills: list[Kill] = []
        self._returning: set[asyncio.Task[None]] = set()

    async def deliver(self, count: int, say: Say) -> None:
        """Kills so often; returns when the last one is dead, and `back` when all are up."""
        for due in schedule(self._seed, count):
            await asyncio.sleep(due.pause_s)
            workers = due.kind == "worker"
            target = await self._pick(self._field.workers if workers else self._field.apis)
            await target.kill()
            self.kills.append(Kill(target.kind, target.port, monotonic()))
            self._returning.add(asyncio.create_task(target.start()))
            say(f"{len(self.kills)} of {count} kills")

    async def _pick(self, members: list[Member]) -> Member:
        """Only who is at work is worth killing; who starts holds nothing yet."""
        while True:
            self._raise_failures()
            up = [one for one in members if one.alive and one.up]
            self._chance.shuffle(up)
            for one in up:
                if await one.ready():
                    return one
            await asyncio.sleep(LOOK_S)

    def _raise_failures(self) -> None:
        for task in [one for one in self._returning if one.done()]:
            self._returning.discard(task)
            task.result()

    async def back(self) -> None:
        """Returns when everyone is up again."""
        await asyncio.gather(*self._returning)
        self._returning.clear()

    def of(self, kind: str) -> list[Kill]:
        return [one for one in self.kills if one.kind == kind]


@scenario(
    "kills",
    "API and worker processes are killed (SIGKILL) at random instants under mixed load: every "
    "acknowledged effect is there exactly once, refusals leave no trace, unknown outcomes resolve "
    "to one answer, and all invariants hold.",
    takes=("faults", "acknowledged"),
)
async def kills(wanted: Wanted, say: Say) -> Trial:
    count, enough = wanted.faults or KILLS, wanted.acknowledged or ACKNOWLEDGED
    longest_s = SLOWEST * max(count * PAUSE_S, enough / PER_SECOND)
    say("starting: Postgres, three API processes, two workers")
    async with Field(apis=APIS, workers=WORKERS) as field:
        crowd = Crowd(field, seed=wanted.seed, per_second=PER_SECOND)
        killer = Killer(field, seed=wanted.seed)
        await crowd.gather()
        began = monotonic()

        def heard(line: str) -> None:
            notes = crowd.notes
            say(f"{line}, {notes.acknowledged} acknowledged, {notes.unknown} unknown at first")

        async with crowd.at_work() as notes:
            await killer.deliver(count, heard)
            await crowd.acknowledge(enough, longest_s)
            await killer.back()
        seconds = monotonic() - began
        say("replaying every answer, and looking at the books")
        recovered = [notes.recovered_ms(one.at_s, one.port) for one in killer.of("api")]
        return await tried(
            crowd,
            row="C1",
            name="kills",
            faults=len(killer.kills),
            seconds=seconds,
            recovery_ms=[one for one in recovered if one is not None],
            what={"api": len(killer.of("api")), "worker": len(killer.of("worker"))},
            violations=_one_sided(killer, notes.unknown),
            enough=enough,
        )


def _one_sided(killer: Killer, unknown: int) -> list[str]:
    """Why a run says less than it seems to: asked of long ones only, short ones may miss."""
    if len(killer.kills) < KILLS:
        return []
    missed = [kind for kind in ("api", "worker") if not killer.of(kind)]
    if not unknown:
        missed.append("request under way")
    return [f"no {one} was hit by {len(killer.kills)} kills" for one in missed]
