"""What callers may ask of a lane beyond what its queue allows: how often, or not at all.

An operator changes it while the process runs. What workers do passes no lane, so that settlements
and refunds go on whatever is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from strongroom.clock import monotonic
from strongroom.core.commands.command import Command, Overloaded
from strongroom.errors import Busy


class LaneClosed(Busy):
    """Requests of this kind are not accepted for now. Try again later, with the same key."""

    retry_after_s = 5


class Pace:
    """So many in each second, a second's worth at once."""

    __slots__ = ("_at", "_left", "per_s")

    def __init__(self, per_s: int, at: float) -> None:
        self.per_s, self._left, self._at = per_s, float(per_s), at

    def left(self, at: float) -> bool:
        """Whether one more fits now."""
        passed_s, self._at = at - self._at, at
        self._left = min(float(self.per_s), self._left + passed_s * self.per_s)
        return self._left >= 1

    def take(self) -> None:
        self._left -= 1


class Admission:
    """Which lanes of this process are closed, and how fast the others may be asked. Knows nothing
    at first, which lets everything in."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._closed: frozenset[str] = frozenset()
        self._paces: dict[str, Pace] = {}

    def change(self, closed: frozenset[str], per_s: Mapping[str, int]) -> None:
        """Takes on what holds from now on, by the names of commands. A pace that stays the same
        goes on where it is."""
        at = self._clock()
        self._closed = closed
        self._paces = {
            name: kept
            if (kept := self._paces.get(name)) is not None and kept.per_s == most
            else Pace(most, at)
            for name, most in per_s.items()
        }

    def admit(self, kind: type[Command]) -> None:
        """Lets one of this kind in, or LaneClosed, or Overloaded when as many came as may."""
        name = kind.__name__
        if name in self._closed:
            raise LaneClosed()
        pace = self._paces.get(name)
        if pace is not None:
            if not pace.left(self._clock()):
                raise Overloaded()
            pace.take()

    def spent(self, kind: type[Command]) -> bool:
        """Whether one of this kind would be Overloaded now."""
        pace = self._paces.get(kind.__name__)
        return pace is not None and not pace.left(self._clock())
