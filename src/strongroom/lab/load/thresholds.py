"""What is asked of a run's figures: `p99_ms<=500`, `bets.p99_ms<=500`, `per_second>=1000`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from strongroom.errors import Invalid
from strongroom.lab.load.result import Threshold

FIGURES = {
    "p50_ms": "latency of the median request, from its intended start",
    "p95_ms": "of the 95th percentile",
    "p99_ms": "of the 99th percentile",
    "p999_ms": "of the 99.9th percentile",
    "max_ms": "of the slowest",
    "failed_share": "share of arrivals that failed or were not answered (0.01 is 1 %)",
    "failed": "how many that are",
    "unanswered": "how many were not answered at all",
    "succeeded": "how many were answered with 2xx",
    "per_second": "answers a second",
    "queued_peak": "most messages waiting in the queues",
    "connections_peak": "most connections of the database",
    "connections_share": "the same as a share of those it allows",
    "server_cpu_peak": "most cores used by the system under load",
    "drained_s": "from the last arrival until the queues were empty",
    "behind_p99_ms": "how late the generator was",
}
"""What a threshold may be about. Those of latency, failures and answers also of one stream."""

OF_STREAMS: tuple[str, ...] = (
    *("p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms"),
    *("failed_share", "failed", "unanswered", "succeeded", "per_second"),
)

_FORM = re.compile(
    r"\s*(?:(?P<stream>[\w-]+)\.)?(?P<figure>[a-z0-9_]+)\s*(?P<sign><=|>=|<|>|==)\s*"
    r"(?P<value>-?\d+(?:\.\d+)?)\s*"
)

SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}


class ThresholdUnfit(Invalid):
    """A threshold is written like p99_ms<=500."""


class Limit(NamedTuple):
    """One threshold, read."""

    asked: str
    stream: str
    figure: str
    sign: str
    value: float

    @property
    def name(self) -> str:
        return f"{self.stream}.{self.figure}" if self.stream else self.figure

    def of(self, figures: Mapping[str, float]) -> Threshold | None:
        """How a run stands to it; None for what could not be measured there."""
        measured = figures.get(self.name)
        if measured is None:
            return None
        return Threshold(self.asked, measured, SIGNS[self.sign](measured, self.value))


def limit_of(text: str) -> Limit:
    """Reads a threshold; ThresholdUnfit says what may be asked."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ThresholdUnfit(f"{text!r}: a threshold is written like p99_ms<=500.")
    stream, figure = found["stream"] or "", found["figure"]
    known = OF_STREAMS if stream else tuple(FIGURES)
    if figure not in known:
        raise ThresholdUnfit(
            f"{text!r}: there is no figure {figure}. There are: {', '.join(known)}."
        )
    value = float(found["value"])
    asked = f"{stream + '.' if stream else ''}{figure} {found['sign']} {value:g}"
    return Limit(asked, stream, figure, found["sign"], value)
