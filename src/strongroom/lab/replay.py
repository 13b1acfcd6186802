"""Schedules that a seed makes: the same seed, the same run, statement by statement.

A few houses on one database each work through commands that the seed draws. At each moment one of
them moves, by one statement, and the seed says which; it also says where a statement fails, where
a connection breaks before or after its COMMIT, and where a house dies and its caller asks again.
Ids, secrets, the time and pauses are the seed's, through `Sources`; so a schedule that went wrong
goes wrong again, to be looked at, and is kept in `tests/simulation/seeds.toml`.

    python -m strongroom.lab.replay --seeds 1000 --from 0

A seed is its own only on a database of its own: then also what is stored is the same. In an
exploration many share one, and keep apart by their ids.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import structlog

from strongroom.clock import monotonic
from strongroom.core.commands import Outcome, Ticket
from strongroom.core.commands.work import Sources
from strongroom.core.db.database import LOST, RETRYABLE
from strongroom.core.db.queries import loaded
from strongroom.doors.cli.reach import reached
from strongroom.lab.interleave import PATIENCE_S, Interleaver, Played, Player, Rule, Stuck
from strongroom.lab.repertoire import Asked, Repertoire, sql
from strongroom.main import Strongroom
from strongroom.settings import Settings

HOUSES = 3

OPERATIONS = 8
"""Groups of commands that each house works through."""

FAULTS = 0.03
"""Of all statements: with some ten to a command, a third of the commands meets one."""

JUMPS = 0.002
"""Moments at which much time goes by, so that what is held expires."""

JUMP = timedelta(minutes=11)

FAILURES = ("serialization", "deadlock")
CUTS = ("cut before", "cut after", "crash before", "crash after")

PRINCIPAL = "seed"

NEXT, PAUSE = "next", "a pause"
"""Moves that are no statements."""

OpenHouse = Callable[..., Awaitable[Strongroom]]
"""Opens a house with this `step` and these `sources`."""


class Actor(Player):
    """A house that moves when the seed says so, and meets the fault that it says."""

    def __init__(self, number: int, alive: Callable[[int], Awaitable[bool]]) -> None:
        super().__init__()
        self.number, self.fault, self.label = number, "", ""
        self.crashed: asyncio.Future[None] | None = None
        self.overlapped = self.begins = False
        self._alive = alive
        self._aside = False

    async def step(self, connection: Any, statement: str, run: Callable[[], Awaitable[Any]]) -> Any:
        """Every statement has its gate; behind it stands the fault that was chosen for it."""
        if self._rule is None or self._aside:
            return await run()
        self.pid = connection.get_server_pid()
        self.begins = not connection.is_in_transaction()
        await self.at(statement)
        fault, self.fault = self.fault, ""
        if self.begins:
            begun = await run()
            await self._by_the_way(connection.fetchval(sql.patient))
            return begun
        if fault in FAILURES:
            if statement == "COMMIT":
                # A COMMIT that fails has ended its transaction.
                await self._by_the_way(connection.execute("ROLLBACK"))
            raise RETRYABLE[FAILURES.index(fault)](fault)
        if fault in CUTS:
            if fault.endswith("after"):
                await run()
            await self._cut(connection)
            if fault.startswith("crash"):
                assert self.crashed is not None
                self.crashed.set_result(None)
                # To a house whose caller asks again this is as good as being killed.
                raise asyncio.CancelledError()
            raise LOST[0](fault)
        return await run()

    async def _by_the_way(self, call: Awaitable[Any]) -> None:
        """Runs something of ours on the house's connection."""
        self._aside = True
        try:
            await call
        finally:
            self._aside = False

    async def _cut(self, connection: Any) -> None:
        connection.terminate()
        while await self._alive(self.pid):
            await asyncio.sleep(0.001)

    async def at(self, statement: str) -> None:
        """Stands there until it is this house's turn."""
        self.overlapped = self.overlapped or self.waits
        self.statement = statement
        await self._stop()

    async def pause(self, _: float) -> None:
        """The seed says how long a pause is."""
        if self._rule is not None:
            await self.at(PAUSE)


@dataclass
class Performance:
    """What came of a seed. `trace` has a line for each move; `statements` and `contents` are the
    digests of all moves, and of all that is stored in the end."""

    seed: int
    trace: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    asked: int = 0
    answered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    waited: int = 0
    deadlocks: int = 0
    contents: str = ""
    seconds: float = 0.0

    @property
    def statements(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def _names() -> dict[str, str]:
    """Query by its text."""
    return {text: name for queries in loaded.values() for name, text in queries.sql.items()}


class Ids:
    """UUIDs of version 7 out of a seed, and all that were given out."""

    def __init__(self, chance: Random, at: datetime) -> None:
        self._chance, self._ms = chance, int(at.timestamp() * 1000)
        self.made: set[UUID] = set()

    def __call__(self) -> UUID:
        self._ms += 1
        number = self._ms << 80 | 0x7 << 76 | self._chance.getrandbits(12) << 64
        made = UUID(int=number | 0b10 << 62 | self._chance.getrandbits(62))
        self.made.add(made)
        return made


class Stage:
    """One seed's houses, and what they are asked."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.performance = Performance(seed)
        self.answers: dict[str, tuple[Asked, set[tuple[str | None, bytes]]]] = {}
        self.houses: list[Strongroom] = []
        self.actors: list[Actor] = []
        self.interleaver: Interleaver
        self.repertoire: Repertoire
        self._now: datetime

    async def open(self, open_house: OpenHouse, look: Strongroom) -> None:
        """Opens the houses, and brings about what they share."""
        self._now = await look.audit.fetchval(sql.next_month)
        ids = Ids(self.chance, self._now)

        async def alive(pid: int) -> bool:
            return bool(await look.audit.fetchval(sql.alive, pid))

        for number in range(HOUSES):
            actor = Actor(number, alive)
            sources = Sources(
                new_id=ids,
                new_secret=self.chance.randbytes,
                clock=self._clock,
                pause=actor.pause,
                between=self.chance.uniform,
            )
            self.houses.append(await open_house(step=actor.step, sources=sources))
            self.actors.append(actor)
        self.interleaver = Interleaver(look.audit, self.actors)
        self.repertoire = Repertoire(self.chance, ids.made, ids, self._now)
        await self.repertoire.furnish(self.houses[0])

    def _clock(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    async def play(self) -> None:
        """Moves one house after the other until all have done what they were asked."""
        performance, played, names = self.performance, Played(), _names()
        for actor, house in zip(self.actors, self.houses, strict=True):
            actor.begin(Rule(), partial(self._work, actor, house))
        end = monotonic() + PATIENCE_S
        while not all(actor.done for actor in self.actors):
            await self.interleaver.settle(played)
            ready = [actor for actor in self.actors if actor.waits]
            if not ready:
                # All that are left wait for each other: the server chooses whom to undo.
                await asyncio.sleep(0.01)
                if monotonic() > end:
                    raise Stuck(performance.trace[-1])
                continue
            end = monotonic() + PATIENCE_S
            actor = self.chance.choice(ready)
            actor.fault = self._fault(actor)
            if self.chance.random() < JUMPS:
                self._now += JUMP
            said = names.get(actor.statement, actor.statement.split("\n")[0])
            line = f"house {actor.number}: {actor.label}: {said}"
            performance.trace.append(f"{line} !! {actor.fault}" if actor.fault else line)
            actor.go()
        performance.waited, performance.deadlocks = played.waited, played.deadlocks
        for actor in self.actors:
            if isinstance(ended := actor.end(), BaseException):
                performance.violations.append(f"house {actor.number} raised {ended!r}")
            if actor.overlapped:
                performance.violations.append(f"house {actor.number} did two things at once")

    def _fault(self, actor: Actor) -> str:
        """What goes wrong with the statement before which this house stands; mostly nothing."""
        fault = ""
        if self.chance.random() < FAULTS:
            fault = self.chance.choice((*FAILURES, *CUTS))
        if actor.begins or actor.statement in ("ROLLBACK", PAUSE, NEXT):
            return ""
        if fault:
            self.performance.faults[fault] += 1
        return fault

    async def _work(self, actor: Actor, house: Strongroom) -> None:
        for _ in range(OPERATIONS):
            actor.label = "chooses"
            await actor.at(NEXT)
            group = await self.repertoire.draw(house)
            actor.label = ", ".join(asked.name for asked in group)
            await self._ask(actor, house, group)

    async def _ask(self, actor: Actor, house: Strongroom, group: Sequence[Asked]) -> None:
        """Asks until there is an answer: when the house dies, its caller asks again."""
        while True:
            actor.crashed = asyncio.get_running_loop().create_future()
            tickets = [Ticket(one.command, principal=PRINCIPAL, key=one.key) for one in group]
            self.performance.asked += len(tickets)
            asking = asyncio.ensure_future(_answered(house, tickets))
            await asyncio.wait((asking, actor.crashed), return_when=asyncio.FIRST_COMPLETED)
            if not actor.crashed.done():
                break
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        for asked, end in zip(group, asking.result(), strict=True):
            self._note(asked, end)

    def _note(self, asked: Asked, end: Outcome | BaseException) -> None:
        if not isinstance(end, Outcome):
            self.performance.violations.append(f"{asked.name} raised {end!r}")
            return
        if end.stored:
            self.performance.answered += 1
            if asked.key:
                _, bodies = self.answers.setdefault(asked.key, (asked, set()))
                bodies.add((end.refused, end.body))

    async def check(self, look: Strongroom) -> None:
        """Asks everything again, which changes nothing; then the invariants."""
        violations = self.performance.violations
        for key, (asked, bodies) in self.answers.items():
            ticket = Ticket(asked.command, principal=PRINCIPAL, key=key)
            (again,) = await _answered(self.houses[0], [ticket])
            if isinstance(again, BaseException) or not again.replayed:
                violations.append(f"{asked.name} was answered, and then forgotten: {again!r}")
                continue
            bodies.add((again.refused, again.body))
            if len(bodies) > 1:
                violations.append(f"{asked.name} was answered in two ways: {bodies}")
        for house in self.houses:
            pool = house.database.pool
            if pool.get_idle_size() != pool.get_size():
                violations.append("a connection was not given back")
        report = await look.reconcile()
        violations += map(str, report.findings)
        self.performance.contents = str(await look.audit.fetchval(sql.contents))


async def _answered(house: Strongroom, tickets: Sequence[Ticket]) -> list[Outcome | BaseException]:
    await house.executor.run(tickets)
    return await asyncio.gather(*(ticket.future for ticket in tickets), return_exceptions=True)


async def perform(seed: int, open_house: OpenHouse, look: Strongroom) -> Performance:
    """Plays one seed on a migrated database; `look` is a house that only looks."""
    began = monotonic()
    stage = Stage(seed)
    await stage.open(open_house, look)
    await stage.play()
    await stage.check(look)
    stage.performance.seconds = monotonic() - began
    return stage.performance


async def explore(
    seeds: Sequence[int], settings: Settings, say: Callable[[str], None]
) -> list[int]:
    """Plays seeds on an instance of their own; those that found something, which is said."""
    failing: list[int] = []
    async with reached(settings, new=True), Strongroom(settings) as look:
        for number, seed in enumerate(seeds, 1):
            async with AsyncExitStack() as opened:
                enter = opened.enter_async_context

                async def open_house(enter: Any = enter, **more: Any) -> Strongroom:
                    house: Strongroom = await enter(Strongroom(settings, **more))
                    return house

                performance = await perform(seed, open_house, look)
            if performance.violations:
                failing.append(seed)
                say("\n".join([f"seed {seed}", *performance.trace, *performance.violations]))
            elif number % 50 == 0:
                say(f"{number} seeds; the last had {len(performance.trace)} moves")
    return failing


def main() -> None:
    """Explores seeds; exit code 1 when one found something."""
    parser = argparse.ArgumentParser(prog="python -m strongroom.lab.replay")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.seeds)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="strongroom-replay-") as folder:
        # The database's own user must reach its folder.
        Path(folder).chmod(0o711)
        settings = Settings(data_dir=Path(folder) / "data", database_url=None, rate_limits="off")
        failing = asyncio.run(explore(seeds, settings, print))
    print(f"{len(seeds)} seeds, failing: {failing or 'none'}")
    sys.exit(bool(failing))


if __name__ == "__main__":
    main()
