"""What the browser draws of load runs: lines as data, their colours and dashes as numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

from strongroom.lab.load.result import LoadRun, Sample, Second

MOST_RUNS = 6
"""As many lines as a chart has colours that all eyes tell apart."""

LETTERS = "ABCDEF"

MOST_NINES = 6.0
"""The percentile axis ends at 99.9999 at the latest: one of a million requests."""


@dataclass(frozen=True)
class Chart:
    """What the browser draws, `data` being None when nothing was sampled for it."""

    id: str
    title: str
    says: str
    data: dict[str, Any] | None

    @property
    def log(self) -> bool:
        return bool(self.data and self.data.get("log"))


SAMPLED: tuple[tuple[str, str, str, tuple[tuple[str, Callable[[Sample], float | None]], ...]], ...]
SAMPLED = (
    (
        "queued",
        "Messages waiting",
        "Work that was accepted and is still to be done, in all queues together.",
        (("waiting", lambda one: one.queued),),
    ),
    (
        "connections",
        "Database connections",
        "Opened by anybody, and those of them that were executing something.",
        (("open", lambda one: one.connections), ("busy", lambda one: one.busy_connections)),
    ),
    (
        "cpu",
        "Processor cores used by the system",
        "API, workers and Postgres together, the generator left out.",
        (("cores", lambda one: one.server_cpu),),
    ),
    (
        "memory",
        "Memory of the system, MiB",
        "Resident memory of API, workers and Postgres; shared pages count in each process.",
        (("MiB", lambda one: None if one.server_rss_bytes is None else _mib(one)),),
    ),
)


def _mib(one: Sample) -> float:
    assert one.server_rss_bytes is not None
    return round(one.server_rss_bytes / 2**20, 1)


def charts_of(runs: Sequence[LoadRun]) -> list[Chart]:
    """All charts, those without data too."""
    return [_rate(runs), _latency(runs), _curves(runs), *_samples(runs)]


def _whole_seconds(run: LoadRun) -> list[Second]:
    """All but a last one of which the run saw only the beginning: it would look like a collapse."""
    there = run.timeline
    if len(there) > 2 and there[-1].at_s + 1 > run.seconds + 0.5:
        return there[:-1] if there[-1].intended < there[-2].intended / 2 else there
    return there


def _rate(runs: Sequence[LoadRun]) -> Chart:
    tables = [
        [
            [one.at_s for one in _whole_seconds(run)],
            [one.intended for one in _whole_seconds(run)],
            [one.answered for one in _whole_seconds(run)],
            [one.failed for one in _whole_seconds(run)],
        ]
        for run in runs
    ]
    return Chart(
        "rate",
        "Requests a second",
        "What was due, what was answered, and what of it was refused or failed.",
        _data("rate", tables, ["intended", "answered", "failed"], [6, 0, 1], [2, 0, 1]),
    )


def _latency(runs: Sequence[LoadRun]) -> Chart:
    tables: list[list[list[Any]]] = [
        [
            [one.at_s for one in _whole_seconds(run)],
            [one.p50_ms for one in _whole_seconds(run)],
            [one.p99_ms for one in _whole_seconds(run)],
        ]
        for run in runs
    ]
    data = _data("latency", tables, ["p50", "p99"])
    return Chart(
        "latency",
        "Latency over time, ms",
        "Of the answers that came in each second, from the instant each was due.",
        data and data | {"log": _steep(tables), "limits": _limits(runs)},
    )


def _limits(runs: Sequence[LoadRun]) -> list[dict[str, Any]]:
    """The thresholds on latency, as lines."""
    found: dict[float, dict[str, Any]] = {}
    for run in runs:
        for one in run.thresholds:
            if fits := re.fullmatch(
                r"(?:[\w-]+\.)?p(?:50|95|99|999)_ms\s*<=?\s*([\d.]+)", one.asked
            ):
                found[float(fits[1])] = {"at": float(fits[1]), "says": one.asked}
    return list(found.values())


def _curves(runs: Sequence[LoadRun]) -> Chart:
    """By percentile: each stream of each run a line, on an axis that gives each nine its width."""
    series, tables = [], []
    for place, run in enumerate(runs):
        for number, stream in enumerate(one for one in run.streams if one.curve):
            # The slowest of a thousand stands at 99.9: there is no percentile beyond it.
            last = round(min(log10(max(stream.intended, 10)), MOST_NINES), 4)
            points = {
                min(_nines(percentile), last): value for percentile, value in sorted(stream.curve)
            }
            tables.append([list(points), list(points.values())])
            several = len(runs) > 1
            series.append(
                {
                    "label": f"{LETTERS[place]}: {stream.name}" if several else stream.name,
                    "colour": (place if several else number) % MOST_RUNS,
                    "dash": number if several else 0,
                }
            )
    data = {
        "id": "percentiles",
        "tables": tables,
        "series": series,
        "percentiles": True,
        "log": _steep(tables),
    }
    return Chart(
        "percentiles",
        "Latency by percentile, ms",
        "So much of the requests was answered within so long; each step to the right is a nine.",
        data if tables else None,
    )


def _nines(percentile: float) -> float:
    """0 → 0, 90 → 1, 99 → 2, 99.9 → 3."""
    left = 1 - percentile / 100
    return round(min(-log10(left), MOST_NINES), 4) if left > 0 else MOST_NINES


def _samples(runs: Sequence[LoadRun]) -> list[Chart]:
    found = []
    for id, title, says, asked in SAMPLED:
        tables: list[list[list[Any]]] = [
            [
                [one.at_s for one in run.samples],
                *([ask(one) for one in run.samples] for _, ask in asked),
            ]
            for run in runs
        ]
        names = [name for name, _ in asked]
        found.append(Chart(id, title, says, _data(id, tables, names)))
    return found


def _data(
    id: str,
    tables: list[list[list[Any]]],
    names: list[str],
    colours: Sequence[int] = (0, 1),
    dashes: Sequence[int] = (0, 1),
) -> dict[str, Any] | None:
    """One run's lines differ by colour; of several, each run has a colour and each line a dash."""
    if all(value is None for table in tables for line in table[1:] for value in line):
        return None
    several = len(tables) > 1
    series = [
        {
            "label": f"{LETTERS[run]}: {name}" if several else name,
            "colour": run if several else colours[number],
            "dash": dashes[number],
        }
        for run in range(len(tables))
        for number, name in enumerate(names)
    ]
    return {"id": id, "tables": tables, "series": series}


STEEP = 30
"""From here on the smaller values would lie on the axis: it becomes logarithmic."""


def _steep(tables: list[list[list[Any]]]) -> bool:
    values = [value for table in tables for line in table[1:] for value in line if value]
    return bool(values) and max(values) > STEEP * min(values)
