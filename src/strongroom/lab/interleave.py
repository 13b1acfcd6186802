"""Every interleaving of two operations on a real Postgres, statement by statement.

Each operation is cut by gates; `orders(6, 6)` are all 924 ways in which their gates may follow one
another. Between two gates one operation alone moves: to its next gate, to its end, or until the
database says that it waits for a lock of the other. Then its turns pass, and it comes back when
the lock is free; so a schedule never waits for time to go by, and no order is left out.

    interleaver = Interleaver(watch)
    for order in orders():
        played = await interleaver.play(order, first, second)

The statements reach the gates through the `step` of a `Player`: see `core.db.steps`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Any

from strongroom.clock import monotonic
from strongroom.core.commands.work import sql as commands
from strongroom.core.db import Database, Queries

sql = Queries(__package__, "interleave.sql")

GATES = 6
"""Of each operation: C(12, 6) = 924 orders."""

LOOK_S = 0.002
"""Nearly every statement is done by then; who is not may be waiting for a lock."""

PATIENCE_S = 30.0
"""Beyond any timeout of the database: who has not moved by then never will."""

Order = tuple[int, ...]
"""Whose turn it is, one after the other."""


def orders(first: int = GATES, second: int = GATES) -> Iterator[Order]:
    """All orders of so many turns of operation 0 and so many of operation 1."""
    turns = range(first + second)
    for chosen in combinations(turns, first):
        yield tuple(0 if turn in chosen else 1 for turn in turns)


def count_of_orders(first: int = GATES, second: int = GATES) -> int:
    """How many orders there are, without listing them."""
    return comb(first + second, first)


class Stuck(Exception):
    """Nobody moves any more, and nobody waits for a lock."""


class Rule:
    """Where the gates of one operation stand: before every statement."""

    def opens(self, statement: str, begins: bool) -> bool:
        """Whether a gate stands before this statement, the next one of the operation; `begins`:
        it begins a transaction."""
        return statement != "ROLLBACK"


LOCKS = re.compile(r"\bFOR (NO KEY )?UPDATE\b|\bFOR SHARE\b|advisory_xact_lock")

LOOKS = 3
"""Gates in a command's fetch, where it finds out what others have done."""


class CommandRule(Rule):
    """The gates of a command, six: BEGIN with the claim of its key, three in its fetch, its
    writes, COMMIT.

    In a fetch a gate stands before the first statement, before the first that takes a lock, and
    before the statement after that: what is read before any lock, the first lock, all the rest.
    Writes stay together: until COMMIT nobody sees them, and who they keep waiting waited for the
    locks already. A command that fetches less has fewer gates. An attempt that begins anew has one
    only, and its turn comes after the schedule.
    """

    def __init__(self) -> None:
        self._begun = self._looks = 0
        self._locked = self._decided = self._writes = False

    @property
    def again(self) -> bool:
        """The operation is at another attempt."""
        return self._begun > 1

    def opens(self, statement: str, begins: bool) -> bool:
        if begins:
            self._begun += 1
            return True
        if self.again or statement in ("ROLLBACK", commands.claim):
            return False
        if statement == "COMMIT":
            return True
        if self._decided:
            first, self._writes = not self._writes, True
            return first
        self._decided = statement == commands.now
        locks = LOCKS.search(statement) is not None
        opens = self._looks < LOOKS and (self._looks == 0 or self._locked or locks)
        self._locked = self._locked or locks
        self._looks += opens
        return opens


class Player:
    """One operation at a time, its statements let through gate by gate. `step` is handed to the
    database that the operation uses; while nothing is played, it lets everything through."""

    def __init__(self) -> None:
        self.pid = 0
        self.blocked = False
        self.statement = ""
        self._rule: Rule | None = None
        self._gate: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._rests = asyncio.Event()

    async def step(self, connection: Any, statement: str, run: Callable[[], Awaitable[Any]]) -> Any:
        """Stands in for a statement: waits at its gate, if it has one."""
        if self._rule is not None:
            self.pid, self.statement = connection.get_server_pid(), statement
            if self._rule.opens(statement, not connection.is_in_transaction()):
                await self._stop()
        return await run()

    async def _stop(self) -> None:
        self._gate = asyncio.get_running_loop().create_future()
        self._rests.set()
        await self._gate

    def begin(self, rule: Rule, operation: Callable[[], Awaitable[Any]]) -> None:
        """The operation goes to its first gate."""
        self._rule, self.blocked, self.pid = rule, False, 0
        self._rests.clear()
        self._task = asyncio.ensure_future(operation())
        self._task.add_done_callback(lambda _: self._rests.set())

    def go(self) -> None:
        """Through the gate at which it stands, to the next."""
        assert self._gate is not None
        gate, self._gate = self._gate, None
        self._rests.clear()
        gate.set_result(None)

    @property
    def waits(self) -> bool:
        """It stands at a gate."""
        return self._gate is not None

    @property
    def again(self) -> bool:
        """It stands before another attempt."""
        return self.waits and isinstance(self._rule, CommandRule) and self._rule.again

    @property
    def done(self) -> bool:
        return self._task is not None and self._task.done()

    @property
    def rests(self) -> bool:
        """It stands at a gate, or is done."""
        return self.waits or self.done

    async def rested(self, within_s: float) -> bool:
        """Whether it comes to rest in that time."""
        try:
            async with asyncio.timeout(within_s):
                await self._rests.wait()
        except TimeoutError:
            return self.rests
        return True

    def end(self) -> Any:
        """What came of the operation: its answer, or what it raised."""
        assert self._task is not None and self.done
        self._rule = None
        return self._task.exception() or self._task.result()


@dataclass
class Played:
    """What came of one schedule. `passed`: turns of who waited or was done; `waited`: times an
    operation was found waiting for a lock; `again`: attempts after the first."""

    ends: list[Any] = field(default_factory=list)
    taken: int = 0
    passed: int = 0
    waited: int = 0
    again: int = 0
    deadlocks: int = 0


class Interleaver:
    """Plays schedules of operations, of which one at a time moves. `watch` asks who waits."""

    def __init__(self, watch: Database, players: Sequence[Player]) -> None:
        self._watch = watch
        self.players = players

    async def settle(self, played: Played) -> None:
        """Returns when everybody rests, or waits for a lock of another."""
        freed = True
        while freed:
            freed = False
            # Who was found waiting comes last: what the others have done may have freed it.
            for player in sorted(self.players, key=lambda one: one.blocked):
                waited = player.blocked
                await self._settle(player)
                played.waited += player.blocked and not waited
                freed = freed or (waited and not player.blocked)
        if all(player.blocked or player.done for player in self.players):
            played.deadlocks += any(player.blocked for player in self.players)

    async def _settle(self, player: Player) -> None:
        end = monotonic() + PATIENCE_S
        while not player.rests:
            if player.blocked or not await player.rested(LOOK_S):
                player.blocked = bool(player.pid) and await self._blocked(player)
                if player.blocked:
                    return
            if monotonic() > end:
                raise Stuck(player.statement)
        player.blocked = False

    async def _blocked(self, player: Player) -> bool:
        others = [one.pid for one in self.players if one is not player and not one.done]
        return bool(await self._watch.fetchval(sql.blocked, player.pid, others))

    async def move(self, player: Player, played: Played) -> None:
        """One turn: to the next gate, and whoever that frees to theirs."""
        player.go()
        await self.settle(played)

    async def play(
        self,
        order: Order,
        operations: Sequence[Callable[[], Awaitable[Any]]],
        rule: Callable[[], Rule] = CommandRule,
    ) -> Played:
        """Plays the operations, one of each player, in this order of turns."""
        played = Played()
        for player, operation in zip(self.players, operations, strict=True):
            player.begin(rule(), operation)
        await self.settle(played)
        for turn in order:
            player = self.players[turn]
            if player.waits and not player.again:
                played.taken += 1
                await self.move(player, played)
            else:
                played.passed += 1
        await self._finish(played)
        played.ends = [player.end() for player in self.players]
        return played

    async def _finish(self, played: Played) -> None:
        """Turns that had passed, and further attempts: one after the other, to the end."""
        end = monotonic() + PATIENCE_S
        while not all(player.done for player in self.players):
            for player in self.players:
                if player.waits:
                    played.again += player.again
                    await self.move(player, played)
                elif not player.done:
                    await player.rested(LOOK_S)
                    await self.settle(played)
            if monotonic() > end:
                raise Stuck("; ".join(player.statement for player in self.players))
