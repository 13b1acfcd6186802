"""When requests arrive: shapes of load as data, and the instants that they mean.

Instants are seconds after the measured begin; what comes before it is warm-up. They come from the
shape alone: a slow server changes none of them (except in the closed form, which is no open loop).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import msgspec


class Stretch(msgspec.Struct, frozen=True):
    """A rate that goes linearly from `begin` to `end` requests a second."""

    begin: float
    end: float
    seconds: float

    @property
    def arrivals(self) -> float:
        return (self.begin + self.end) / 2 * self.seconds


class Paced(msgspec.Struct, frozen=True, tag="paced"):
    """Stretches one after the other, from `at_s` on."""

    stretches: list[Stretch]
    at_s: float = 0.0


class Once(msgspec.Struct, frozen=True, tag="once"):
    """So many at the same instant."""

    count: int
    at_s: float = 0.0


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """So many in all, `together` of them under way at any time: who has an answer asks again. It
    is asked less the slower it answers, so its latencies tell little."""

    count: int
    together: int


Shape = Paced | Once | Closed


def paced(rates: list[float], seconds: float, *, smooth: bool = False) -> Paced:
    """Rates in equal steps over `seconds`; `smooth` goes from each to the next in a line."""
    if smooth and len(rates) > 1:
        each = seconds / (len(rates) - 1)
        return Paced([Stretch(a, b, each) for a, b in pairwise(rates)])
    return Paced([Stretch(one, one, seconds / len(rates)) for one in rates])


def warmed(shape: Shape, seconds: float) -> Shape:
    """The same, with its first rate for so long before it."""
    if not isinstance(shape, Paced) or seconds <= 0:
        return shape
    first = shape.stretches[0].begin
    return Paced([Stretch(first, first, seconds), *shape.stretches], shape.at_s - seconds)


def instants(
    shape: Shape, *, phase: float = 0.5, share: int = 0, shares: int = 1
) -> Iterator[float]:
    """The instants of one share: of all arrivals counted from 0, each `shares`-th from number
    `share` on. The n-th comes when n + `phase` are due, so that streams can begin apart."""
    assert 0 <= share < shares
    if isinstance(shape, Once):
        yield from (shape.at_s for _ in range(share, shape.count, shares))
    elif isinstance(shape, Paced):
        at_s, before, number = shape.at_s, 0.0, share
        for stretch in shape.stretches:
            while number + phase < before + stretch.arrivals:
                yield at_s + _reached(stretch, number + phase - before)
                number += shares
            at_s, before = at_s + stretch.seconds, before + stretch.arrivals


def _reached(stretch: Stretch, arrivals: float) -> float:
    """When, within the stretch, so many are due: N = begin·t + (end - begin)·t²/(2·seconds)."""
    slope = (stretch.end - stretch.begin) / stretch.seconds
    if slope == 0:
        return arrivals / stretch.begin
    # In this form nothing cancels out when the slope is small.
    root = math.sqrt(max(0.0, stretch.begin**2 + 2 * slope * arrivals))
    return 2 * arrivals / (stretch.begin + root)


def part_of(count: int, share: int, shares: int) -> int:
    """How many of `count` fall to a share, dealt in turn."""
    return len(range(share, count, shares))


def lasts_s(shape: Shape) -> float:
    """Until its last arrival is due; the closed form ends when it ends."""
    if isinstance(shape, Paced):
        return shape.at_s + sum(one.seconds for one in shape.stretches)
    return shape.at_s if isinstance(shape, Once) else 0.0


def said_of(shape: Shape) -> str:
    """For people: what comes, and how."""
    if isinstance(shape, Once):
        return f"{shape.count:,} at once"
    if isinstance(shape, Closed):
        return f"{shape.count:,}, {shape.together:,} at a time"
    rates = [f"{one.begin:,.6g}" for one in shape.stretches]
    last = shape.stretches[-1]
    if last.end != last.begin:
        rates.append(f"{last.end:,.6g}")
    return f"{' → '.join(rates)} a second"
