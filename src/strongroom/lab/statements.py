"""One statement of a program, picked out by its number, and something that happens beside it.

The step of `core.db.steps` that proofs use who must crash or fail a program at each of its
statements: run once it counts them, run again it strikes at the k-th.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Literal

Side = Literal["before", "after"]

Strike = Callable[[Any, str], Awaitable[None]]
"""`await strike(connection, statement)`: raises, ends the process, or only looks."""

DIED = 77
"""The exit status of a process that died at its statement, and of no other."""


async def die(connection: Any, statement: str) -> None:
    """The death of the process: no rollback, no goodbye, as with kill -9."""
    os._exit(DIED)


async def look_on(connection: Any, statement: str) -> None:
    """Nothing happens."""


class Statements:
    """A step that numbers statements from 1 while `counting`, and strikes at one of them: before
    it, so that it is not run unless the strike lets it, or after it. `at` None strikes at all;
    `again`: also at each later one with the same text, as a retry meets it."""

    def __init__(
        self,
        strike: Strike = look_on,
        *,
        at: int | None = 0,
        side: Side = "before",
        again: bool = False,
    ) -> None:
        self.counting = False
        self.seen: list[str] = []
        self.struck = 0
        self._strike, self._at, self._side, self._again = strike, at, side, again
        self._text: str | None = None
        self._striking = False

    async def __call__(
        self, connection: Any, statement: str, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        if self._striking or not self.counting:
            return await run()
        self.seen.append(statement)
        meant = self._meant(statement)
        if meant and self._side == "before":
            await self._do(connection, statement)
        done = await run()
        if meant and self._side == "after":
            await self._do(connection, statement)
        return done

    def _meant(self, statement: str) -> bool:
        if self._at is None:
            return True
        if len(self.seen) == self._at:
            self._text = statement
            return True
        return self._again and statement == self._text

    async def _do(self, connection: Any, statement: str) -> None:
        """A strike may have statements of its own, which are not counted."""
        self.struck += 1
        self._striking = True
        try:
            await self._strike(connection, statement)
        finally:
            self._striking = False
