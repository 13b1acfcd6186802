"""What a measurement becomes: percentiles of latencies, ratios of pairs, growth of samples.

Latencies live in HDR histograms of 3 significant digits between 1 µs and 1 hour: a percentile
names the upper end of its bucket, at most 0.1 % above the true value. The maximum is exact.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hdrh.histogram import HdrHistogram

from strongroom.errors import Invalid

Figures = Mapping[str, float]
"""Named numbers of one measurement; the unit stands last in the name (`p99_ms`)."""

Better = Literal["higher", "lower"]

HOUR_US = 3_600_000_000
DIGITS = 3
US_PER_S = 1_000_000
US_PER_MS = 1000

EDGE = 4
"""Growth compares the first quarter of the samples with the last: one odd sample moves neither."""


class NoSuchFigure(Invalid):
    """The measurement lacks the figure that its ratio is made of, or it is zero."""


@dataclass(frozen=True)
class Percentiles:
    """In milliseconds; zeros when nothing was answered."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    max_ms: float = 0.0


def percentiles(counted_us: Mapping[int, int]) -> Percentiles:
    """Reads the percentiles of latencies that were counted by whole microseconds.

    Counting in a dict costs 0.1 µs, recording in the histogram 0.7: so that waits until the clock
    has stopped. A dict stays small, however long the run.
    """
    if not counted_us:
        return Percentiles()
    histogram = HdrHistogram(1, HOUR_US, DIGITS)
    for value_us, times in counted_us.items():
        histogram.record_value(min(value_us, HOUR_US), times)
    at = histogram.get_percentile_to_value_dict([50.0, 99.0, 99.9])
    return Percentiles(
        p50_ms=at[50.0] / US_PER_MS,
        p99_ms=at[99.0] / US_PER_MS,
        p999_ms=at[99.9] / US_PER_MS,
        max_ms=max(counted_us) / US_PER_MS,
    )


@dataclass(frozen=True)
class Comparison:
    """How many times better ours is, pair by pair; above 1 speaks for ours."""

    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median pair: one disturbed pair of three does not move it."""
        return statistics.median(self.ratios)

    @property
    def lowest(self) -> float:
        return min(self.ratios)

    @property
    def highest(self) -> float:
        return max(self.ratios)

    @property
    def noise(self) -> float:
        """The spread of the pairs, as a share of their median: 0.1 is 10 %."""
        return (self.highest - self.lowest) / self.ratio


def times_better(ours: Figures, baseline: Figures, figure: str, better: Better) -> float:
    """One pair's ratio, so turned that above 1 speaks for ours."""
    a, b = ours.get(figure, 0.0), baseline.get(figure, 0.0)
    if a <= 0 or b <= 0:
        raise NoSuchFigure(f"`{figure}` must be above zero on both sides: {a} and {b}.")
    return a / b if better == "higher" else b / a


def compare(
    pairs: Sequence[tuple[Figures, Figures]], figure: str, better: Better = "higher"
) -> Comparison:
    """The ratios of (ours, baseline) pairs in one figure."""
    return Comparison(tuple(times_better(a, b, figure, better) for a, b in pairs))


def medians(measured: Sequence[Figures]) -> dict[str, float]:
    """Each figure's median over the measurements that have it."""
    names = dict.fromkeys(name for figures in measured for name in figures)
    return {
        name: statistics.median(figures[name] for figures in measured if name in figures)
        for name in names
    }


def growth(samples: Sequence[float]) -> float:
    """The median of the last quarter over that of the first: 1.0 is flat."""
    assert samples, "growth of nothing"
    edge = max(1, len(samples) // EDGE)
    return statistics.median(samples[-edge:]) / statistics.median(samples[:edge])
