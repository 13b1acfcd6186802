"""Tallies: how many, how much together, and how they spread. Plain numbers that any room may keep
at the price of a list's index; a door turns them into what a monitoring system reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds of times. 0.5 and 1 are among them, because promises are made about them."""


class Tally:
    """Values, counted by the least bound that is not below them; the last count is of those above
    every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Counts a value, which was met so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    @property
    def count(self) -> int:
        return sum(self.counts)

    @classmethod
    def sum_of(cls, tallies: Iterable[Tally]) -> Tally:
        """All of them as one; they count times."""
        found = cls()
        for one in tallies:
            found.counts = [sum(pair) for pair in zip(found.counts, one.counts, strict=True)]
            found.total += one.total
        return found
