"""The queue in front of the door: how many of a crowd are let in in one turn of the event loop.

A loop hands out all that has arrived before it looks at anything else. When thousands of requests
come at once, each statement of a group that is under way waits until all of them are read; the
group takes longer than anybody may wait, so that the next ones are refused, and it stays like that
for as long as people keep coming. So only some are let in in a turn, and between two turns the
database is listened to. How long the queue stands for is part of what admission goes by.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from strongroom.clock import monotonic

AT_ONCE = 32
"""Five milliseconds of work. A group has a dozen statements, each of which waits for a turn."""

SMOOTHING = 0.1
"""Weight of the newest turn in the estimate of what one takes."""


class Intake:
    """First come, first let in; so many in a turn."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = self._left = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._turning = False
        self._turned_at = 0.0
        self._each_s = 0.0

    @property
    def wait_s(self) -> float:
        """How long who comes now would wait."""
        return len(self._waiting) * self._each_s

    def put(self, enter: Callable[[], None]) -> bool:
        """Calls `enter` now or in its turn; whether it was now."""
        if not self._turning:
            self._turning, self._turned_at = True, monotonic()
            asyncio.get_running_loop().call_soon(self._turn)
        if not self._left:
            self._waiting.append(enter)
            return False
        self._left -= 1
        enter()
        return True

    def _turn(self) -> None:
        now, before = monotonic(), self._at_once - self._left
        if before:
            each_s = (now - self._turned_at) / before
            self._each_s += SMOOTHING * (each_s - self._each_s)
        self._turned_at = now
        todo = min(len(self._waiting), self._at_once)
        self._left = self._at_once - todo
        try:
            for _ in range(todo):
                self._waiting.popleft()()
        finally:  # whatever happens to one of them, those behind it have their turn
            self._turning = bool(todo or before)
            if self._turning:
                asyncio.get_running_loop().call_soon(self._turn)
