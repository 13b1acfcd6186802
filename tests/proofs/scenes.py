"""An act on its world: done once to its end to see what it comes to, then broken in the middle."""

from __future__ import annotations

import asyncio
import faulthandler
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from proofs.acts import Act, Doing
from proofs.books import Books, World, but_for_what_is_said, difference
from strongroom.core.commands import Lanes, Outcome
from strongroom.core.commands.work import Sources
from strongroom.core.db import Database
from strongroom.core.db.steps import Step
from strongroom.errors import Busy
from strongroom.lab.statements import DIED, Side, Statements, die
from strongroom.main import Strongroom
from strongroom.settings import Settings

DIED_ANSWERED = DIED + 1
"""The exit status of a process that died when its caller had the answer."""

PATIENCE_S = 30.0
"""What has not happened by then does not happen."""

UNGUARDED = {"append_only_triggers_stand"}

ALWAYS_MOVED = (
    "events.consumed",
    "events.dead_letters",
    "commands.answers",
    "payments.payments",
    "payments.sandbox_charges",
    "payments.callbacks",
    "events.log",
)
"""What a broken act may leave other than a whole one does; and all queues."""


class Kind(NamedTuple):
    """What kind of fault it is: one that is `overcome` by trying again; or one whose error is an
    answer that says so; or one that may come out `bare`, as an error of the server's. `in_doubt`:
    the COMMIT arrived and nobody was told, so that what has no key is run again at once. It finds
    nothing to do, but may say once more that it was done."""

    overcome: bool
    bare: bool
    in_doubt: bool = False

    def may_raise(self, error: BaseException) -> bool:
        return self.bare or isinstance(error, Busy)


DEATH = Kind(overcome=False, bare=False)
"""Nobody is left to be told anything."""


@dataclass
class Scene:
    """`states[k]` are the books after statement k of an undisturbed run, `states[0]` before all;
    `states[-1]` is what the act comes to."""

    act: Act
    world: World
    settings: Settings
    doing: Doing
    statements: list[str] = field(default_factory=list)
    states: list[Books] = field(default_factory=list)
    outcome: Outcome | None = None
    covered: set[object] = field(default_factory=set)

    @classmethod
    def open(cls, act: Act, url: str, folder: Path) -> Scene:
        """Prepares the world and does the act once; the world is then as before it."""
        settings = Settings(database_url=url, data_dir=folder, rate_limits="off")
        doing = asyncio.run(_prepared(act, settings, url))
        world = World(url)
        world.come_due()
        world.keep()
        scene = cls(act, world, settings, doing)
        asyncio.run(scene._done_once())
        scene.restore()
        return scene

    def close(self) -> None:
        self.world.close()

    @property
    def refused(self) -> str | None:
        """How a rule refuses the act, if one does."""
        return self.outcome.refused if self.outcome else None

    @property
    def keyed(self) -> bool:
        """Whether its answer is kept with a key."""
        return any(table == "commands.answers" for table, _ in self.effect)

    @property
    def effect(self) -> Books:
        return self.states[-1] - self.states[0]

    async def _done_once(self) -> None:
        """The states are read by another session: they are what has been committed."""
        counted = Statements()

        async def look(connection: Any, statement: str, run: Any) -> Any:
            done = await counted(connection, statement, run)
            if counted.counting:
                self.states.append(self.world.read())
            return done

        self.states = [self.world.before]
        async with opened(self.settings, look) as house:
            self._note_what_is_done(house)
            counted.counting = True
            self.outcome = await self.doing(house)
            counted.counting = False
        self.statements = counted.seen
        self.states.append(self.world.read())

    def _note_what_is_done(self, house: Strongroom) -> None:
        commit = house.executor.commit

        async def noted(tickets: Any, also: Any = None) -> None:
            self.covered |= {type(ticket.command) for ticket in tickets}
            await commit(tickets, also)

        house.executor.commit = noted  # type: ignore[method-assign]
        for kind, performer in house.performers.items():

            async def performed(errands: Any, kind: Any = kind, performer: Any = performer) -> Any:
                self.covered.add(kind)
                return await performer(errands)

            house.performers[kind] = performed

    def restore(self) -> None:
        moved = {table for state in self.states for table, _ in (state - self.world.before)}
        moved |= {table for state in self.states for table, _ in (self.world.before - state)}
        moved |= {table for table, _ in self.world.before if table.startswith("pgmq.q_")}
        self.world.restore(sorted({*moved, *ALWAYS_MOVED}))

    # Breaking it ----------------------------------------------------------------------------

    def die_at(self, at: int, side: Side) -> int:
        """A process does the act and dies at a statement; its exit status. It is forked from one
        that has neither a loop nor a connection of the program's own."""
        child = os.fork()
        if child == 0:
            status = 1
            # Whoever waits for it waits without end: one that hangs shows where, and is over.
            faulthandler.dump_traceback_later(2 * PATIENCE_S, exit=True)
            try:
                asyncio.run(self._die(at, side))
                status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    async def _die(self, at: int, side: Side) -> None:
        answered = False

        async def fall(connection: Any, statement: str) -> None:
            # Whoever has been told by now hears it before the end.
            for _ in range(5):
                await asyncio.sleep(0)
            if answered:
                os._exit(DIED_ANSWERED)
            await die(connection, statement)

        step = Statements(fall, at=at, side=side)
        async with opened(self.settings, step) as house:
            step.counting = True
            await self.doing(house)
            answered = True

    def crash(self, at: int, side: Side) -> list[str]:
        """What is wrong after a crash at a statement, and after the act was done again."""
        where = f"{self.act.name}: died {side} statement {at} ({self.statements[at - 1][:60]!r})"
        status = self.die_at(at, side)
        if status == DIED_ANSWERED:
            return [f"{where}: it had answered already"]
        if status != DIED:
            return [f"{where}: it did not, it ended with {status}"]
        if not self.world.alone():
            return [f"{where}: its session is still there"]
        expected = self.states[at - 1 if side == "before" else at]
        wrong = []
        if found := difference(left := self.world.read(), expected):
            wrong.append(f"{where}: it left something else than what was committed:\n{found}")
        committed = self.effect <= left - self.states[0]
        self.world.come_due()
        wrong += [f"{where}: {one}" for one in asyncio.run(self._newly(committed=committed))]
        return wrong

    async def _newly(self, *, committed: bool) -> list[str]:
        """The act is done again in a new house."""
        async with opened(self.settings) as house:
            return await self.again(house, committed=committed)

    async def again(self, house: Strongroom, *, committed: bool, kind: Kind = DEATH) -> list[str]:
        """The act is done again with the same key, and once more: what is wrong with that."""
        first = await self.doing(house)
        wrong = self.end(first, kind)
        if first is not None and self.keyed:
            if first.replayed != committed:
                wrong.append(f"replayed: {first.replayed}, committed before: {committed}")
            second = await self.doing(house)
            if second is None or not second.replayed or second.body != first.body:
                wrong.append("a replay that is not the first answer")
            wrong += self.end(second, kind)
        return wrong

    def end(self, outcome: Outcome | None, kind: Kind) -> list[str]:
        """What is wrong with the world in which the act was done, and with its answer."""
        wrong = []
        if told := self._difference(self.world.read(), self.states[-1], kind):
            wrong.append(f"not the effect, exactly once:\n{told}")
        if outcome is not None and (outcome.error or outcome.refused != self.refused):
            wrong.append(f"answered {outcome.error or outcome.refused!r}")
        return wrong

    def _difference(self, found: Books, expected: Books, kind: Kind) -> str:
        if self.act.said_again or (kind.in_doubt and not self.keyed):
            found, expected = but_for_what_is_said(found), but_for_what_is_said(expected)
        return difference(found, expected)

    # Failing it -----------------------------------------------------------------------------

    async def fail(self, house: Strongroom, fault: Statements, kind: Kind) -> list[str]:
        """What is wrong after statements have failed in a house that goes on, and after the act
        was done again there."""
        outcome, error = None, None
        fault.counting = True
        try:
            async with asyncio.timeout(PATIENCE_S):
                outcome = await self.doing(house)
        except Exception as raised:
            error = raised
        fault.counting = False
        wrong = [] if fault.struck else ["no statement failed"]
        wrong += leaks(house, self.world)
        left = self.world.read()
        committed = self.effect <= left - self.states[0]
        if outcome is not None:
            error = outcome.error
        if self.outcome is not None:
            wrong += self._answer(outcome, error, kind)
            expected = self.states[0] if error else self.states[-1]
            if found := self._difference(left, expected, kind):
                wrong.append(f"answered {error or 'well'!r}, but in the world:\n{found}")
        # Whatever a worker raises, its loop says so and it comes again.
        self.world.come_due()
        wrong += await self.again(house, committed=committed, kind=kind)
        return wrong + leaks(house, self.world)

    def _answer(
        self, outcome: Outcome | None, error: BaseException | None, kind: Kind
    ) -> list[str]:
        """What is wrong with an answer, given what failed."""
        if error is None:
            assert outcome is not None
            same = outcome.refused == self.refused
            return [] if same else [f"refused with {outcome.refused!r}"]
        if kind.overcome:
            return [f"answered {error!r} to what is overcome by trying again"]
        if not kind.may_raise(error):
            return [f"answered {error!r}, which does not say: try again"]
        return []

    def violations(self) -> list[str]:
        """The invariants that do not hold now, and did in the world as it was prepared, which is
        as it was then again. The guards that the world does without are not missed."""
        found = asyncio.run(self._violated()) - UNGUARDED - set(self.act.breaks)
        self.restore()
        if found:
            found -= asyncio.run(self._violated())
        return sorted(found)

    async def _violated(self) -> set[str]:
        async with opened(self.settings) as house:
            report = await house.reconcile()
        return {finding.invariant for finding in report.findings}


def leaks(house: Strongroom, world: World) -> list[str]:
    """What a house that has nothing to do holds on to."""
    wrong = [] if world.quiet() else ["a transaction or a lock was left open"]
    pool = house.database.pool
    if pool.get_size() != pool.get_idle_size():
        wrong.append(f"{pool.get_size() - pool.get_idle_size()} connections did not come back")
    return wrong


async def _prepared(act: Act, settings: Settings, url: str) -> Doing:
    async with Database(url, pool_size=3) as owner, Strongroom(settings) as house:
        return await act.prepare(house, owner)


async def _at_once(_: float) -> None:
    """A pause between two tries, which nothing here has to wait for."""
    await asyncio.sleep(0)


@asynccontextmanager
async def opened(settings: Settings, step: Step | None = None) -> AsyncIterator[Strongroom]:
    """A house with its database and its lanes: nobody logs in here, so it hears of nothing."""
    house = Strongroom(settings, step=step, sources=Sources(pause=_at_once))
    async with house.database, house.audit:
        house.lanes = Lanes(house.executor)
        try:
            yield house
        finally:
            await house.lanes.drain(PATIENCE_S)
            house.post.close()
