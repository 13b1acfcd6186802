"""The report of load runs: one HTML file that needs nothing from elsewhere, and a comparison.

What stands in tables is written here, so that it is there without JavaScript; the charts are drawn
by the browser, with uPlot, from data that the file carries. Several runs are shown side by side,
and each figure as a ratio to the first run's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table

from strongroom.errors import Invalid
from strongroom.lab.load.charts import LETTERS, MOST_RUNS, charts_of
from strongroom.lab.load.result import LoadRun, Sample, StreamResult, Threshold

MOST_SECONDS = 300
"""Of a run, listed one by one; of a longer one only the charts tell."""

OK = range(200, 300)

MS = ("p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")

_pages = Environment(
    loader=PackageLoader("strongroom", "lab/load/templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class UnreadableRun(Invalid):
    """This file holds no load run."""


class RunsUnfit(Invalid):
    """A report is of one to six runs."""


def read_run(path: Path) -> LoadRun:
    """The run that was written to `path` as JSON; UnreadableRun when it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LoadRun)
    except OSError as error:
        raise UnreadableRun(f"{path}: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise UnreadableRun(f"{path} holds no load run: {error}.") from error


def write_html(runs: list[LoadRun], path: Path) -> None:
    """Writes the report of one to six runs; RunsUnfit."""
    text = page(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf8")


def page(runs: Sequence[LoadRun]) -> str:
    """The whole HTML."""
    _check(runs)
    charts = charts_of(runs)
    shown = [Shown(run, letter) for run, letter in zip(runs, LETTERS, strict=False)]
    return _pages.get_template("report.html.j2").render(
        runs=shown,
        several=len(runs) > 1,
        lines=comparison(runs) if len(runs) > 1 else [],
        charts=charts,
        data=_embedded([chart.data for chart in charts if chart.data]),
        library=_file("uPlot.iife.min.js"),
        library_style=_file("uPlot.min.css"),
        library_licence=_file("uPlot.LICENSE"),
        style=_file("report.css"),
        script=_file("report.js"),
    )


def _check(runs: Sequence[LoadRun]) -> None:
    if not 1 <= len(runs) <= MOST_RUNS:
        raise RunsUnfit(f"A report is of one to {MOST_RUNS} runs, not of {len(runs)}.")


def _file(name: str) -> str:
    loader = _pages.loader
    assert loader is not None
    text, _, _ = loader.get_source(_pages, name)
    return text


def _embedded(found: object) -> str:
    """JSON within a script element: nothing in it can end that, or begin a comment."""
    text = msgspec.json.encode(found).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


# Figures as text -------------------------------------------------------------------------------


def whole(value: float | None) -> str:
    """A count, its digits in groups."""
    return "–" if value is None else f"{value:,.0f}"


def ms(value: float | None) -> str:
    """Milliseconds, in as many digits as matter."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def share(part: float, of: float) -> str:
    """Per cent; never 100 % of what is not all, nor 0 % of what is some."""
    if not of:
        return "–"
    percent = 100 * part / of
    if 0 < part < of and not 0.01 <= percent <= 99.99:
        return "< 0.01 %" if percent < 1 else "> 99.99 %"
    return f"{percent:.2f}".rstrip("0").rstrip(".") + " %"


def measured(one: Threshold) -> str:
    """What a threshold met, in the unit of what was asked."""
    if "_ms" in one.asked:
        return ms(one.measured)
    return whole(one.measured) if one.measured >= 1000 else f"{one.measured:.4g}"


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} s"


def plain(value: float | str) -> str:
    """A setting, as it was given."""
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}" if _int(value) else value


def _int(value: object) -> bool:
    return isinstance(value, int)


# A run, as it is shown ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """Whether the run held, in one line. `limited`: its latencies say nothing."""

    kind: Literal["held", "broken", "limited"]
    line: str

    @property
    def word(self) -> str:
        return {"held": "Held", "broken": "Not held", "limited": "Generator limited"}[self.kind]


def verdict(run: LoadRun) -> Verdict:
    """One line: what was missed or violated, else how much was asked; the generator last."""
    missed = [f"{one.asked} was {measured(one)}" for one in run.thresholds if not one.kept]
    untrue = [sentence for sentence, held in run.expected.items() if not held]
    violated = [one.name for one in run.invariants if one.findings]
    limit = ""
    if run.generator_limited:
        limit = f" The generator was the limit: {run.generator_limited.rstrip('.')}."
    if not run.held:
        parts = [
            f"{_counted(len(found), of, noun)} {how}: {_first(found)}."
            for found, of, noun, how in (
                (violated, len(run.invariants), "invariant", "violated"),
                (untrue, len(run.expected), "expectation", "not met"),
                (missed, len(run.thresholds), "threshold", "missed"),
            )
            if found
        ]
        return Verdict("broken", " ".join(parts) + limit)
    asked = [
        f"{count:,} {noun}{'s' * (count != 1)}"
        for count, noun in (
            (len(run.thresholds), "threshold"),
            (len(run.expected), "expectation"),
            (len(run.invariants), "invariant"),
        )
        if count
    ]
    said = f"{', '.join(asked)}: all hold." if asked else "Nothing was asked of this run."
    return Verdict("limited" if limit else "held", said + limit)


def _counted(count: int, of: int, noun: str) -> str:
    return f"{count} of {of} {noun}{'s' * (of != 1)}"


def _first(found: Sequence[str], most: int = 3) -> str:
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more


@dataclass(frozen=True)
class Stream:
    """A row of the table of streams."""

    found: StreamResult

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def answered(self) -> int:
        return sum(self.found.statuses.values())

    @property
    def succeeded(self) -> int:
        return sum(times for status, times in self.found.statuses.items() if status in OK)

    @property
    def failed(self) -> int:
        return self.found.intended - self.succeeded

    @property
    def statuses(self) -> list[tuple[str, str, str]]:
        """Status, how often, and the kind that it is coloured by."""
        rows = [
            (str(status), whole(times), _kind(status))
            for status, times in sorted(self.found.statuses.items())
        ]
        if self.found.unanswered:
            rows.append(("no answer", whole(self.found.unanswered), "bad"))
        return rows

    @property
    def codes(self) -> list[tuple[str, str]]:
        """Codes of problem documents, the most frequent first."""
        ranked = sorted(self.found.codes.items(), key=lambda one: (-one[1], one[0]))
        return [(code, whole(times)) for code, times in ranked]

    @property
    def latencies(self) -> list[str]:
        return [ms(getattr(self.found, name)) if self.answered else "–" for name in MS]


def _kind(status: int) -> str:
    return "good" if status in OK else "warn" if status < 500 else "bad"


class Shown:
    """A run with what the template asks of it."""

    def __init__(self, run: LoadRun, letter: str) -> None:
        self.run, self.letter = run, letter
        self.verdict = verdict(run)
        self.streams = [Stream(one) for one in run.streams]
        self.violated = [one for one in run.invariants if one.findings]
        self.keeping = [one for one in run.invariants if not one.findings]
        self.listed = run.timeline if len(run.timeline) <= MOST_SECONDS else []
        self.whole, self.ms, self.measured = whole, ms, measured

    @property
    def tiles(self) -> list[tuple[str, str, str]]:
        """Name, figure and what stands beneath it."""
        run = self.run
        unanswered = sum(one.unanswered for one in run.streams)
        return [
            ("Intended", whole(run.intended), f"{seconds(run.seconds)} at a set rate"),
            ("Answered", whole(run.answered), f"{whole(unanswered)} not answered"),
            ("Succeeded", whole(run.succeeded), f"{share(run.succeeded, run.intended)} of them"),
            ("Answers a second", whole(run.per_second), "on average"),
            self.slowest,
            ("Queues empty after", seconds(run.drained_s), "from the last request on"),
        ]

    @property
    def slowest(self) -> tuple[str, str, str]:
        """The p99 of the stream that it is worst in."""
        asked = [one for one in self.streams if one.answered]
        worst = max(asked, key=lambda one: one.found.p99_ms, default=None)
        if worst is None:
            return "p99", "–", "nothing was answered"
        return "p99", f"{ms(worst.found.p99_ms)} ms", f"of {worst.name}, the slowest stream"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was run, and on what."""
        run, on = self.run, self.run.machine
        commit = run.commit or "outside a checkout"
        if commit.endswith("-dirty"):
            commit = f"{commit.removesuffix('-dirty')}, with uncommitted changes"
        return [
            ("Began", f"{run.began_at:%Y-%m-%d %H:%M:%S %Z}".strip()),
            ("Measured", f"{seconds(run.seconds)}, after {seconds(run.warmup_s)} of warm-up"),
            ("Target", run.target),
            ("Load", f"{whole(run.users)} users, {whole(run.connections)} connections"),
            ("Generator", self.generator),
            ("Seed", str(run.seed)),
            ("Commit", commit),
            ("Machine", f"{on.cores} cores of {on.cpu}, {on.memory_bytes / 2**30:.1f} GiB"),
            ("System", f"{on.system}, Python {on.python}, Postgres {on.postgres or 'not asked'}"),
            ("Load before", f"{on.load_average:.2f} (one-minute average)"),
        ]

    @property
    def generator(self) -> str:
        run = self.run
        processes = f"{run.processes} process{'es' * (run.processes != 1)}"
        return (
            f"{processes}, {run.generator_cpu:.0%} of a core at most, "
            f"p99 {ms(run.behind_p99_ms)} ms behind its schedule"
        )

    @property
    def settings(self) -> list[tuple[str, str]]:
        return [(name, plain(value)) for name, value in self.run.settings.items()]


# Runs compared -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A figure in each run, and each of them as a ratio to the first."""

    what: str
    values: list[float | None]
    text: Callable[[float | None], str]

    @property
    def texts(self) -> list[str]:
        return [self.text(value) for value in self.values]

    @property
    def ratios(self) -> list[float | None]:
        first = self.values[0]
        return [value / first if value is not None and first else None for value in self.values]

    @property
    def ratio_texts(self) -> list[str]:
        return ["" if one is None else f"{one:.2f}×" for one in self.ratios]


def comparison(runs: Sequence[LoadRun]) -> list[Line]:
    """The totals, then the latencies of each stream that any run has."""
    _check(runs)
    totals: list[tuple[str, Callable[[LoadRun], float | None], Callable[[float | None], str]]] = [
        ("intended", lambda run: run.intended, whole),
        ("answered", lambda run: run.answered, whole),
        ("succeeded", lambda run: run.succeeded, whole),
        ("answers a second", lambda run: run.per_second, whole),
        ("no answer", lambda run: sum(one.unanswered for one in run.streams), whole),
        ("most messages waiting", lambda run: _most(run, lambda one: one.queued), whole),
        ("most connections", lambda run: _most(run, lambda one: one.connections), whole),
        ("cores used by the system", lambda run: _mean(run, lambda one: one.server_cpu), ms),
        ("queues empty after, s", lambda run: run.drained_s, ms),
    ]
    lines = [Line(what, [ask(run) for run in runs], text) for what, ask, text in totals]
    for name in dict.fromkeys(one.name for run in runs for one in run.streams):
        there = [next((one for one in run.streams if one.name == name), None) for run in runs]
        for figure in MS:
            said = figure.removesuffix("_ms").replace("p999", "p99.9")
            values = [getattr(one, figure) if one and one.statuses else None for one in there]
            lines.append(Line(f"{name}: {said}, ms", values, ms))
    return [line for line in lines if any(value is not None for value in line.values)]


def _asked(run: LoadRun, ask: Callable[[Sample], float | None]) -> list[float]:
    return [value for one in run.samples if (value := ask(one)) is not None]


def _most(run: LoadRun, ask: Callable[[Sample], float | None]) -> float | None:
    return max(_asked(run, ask), default=None)


def _mean(run: LoadRun, ask: Callable[[Sample], float | None]) -> float | None:
    found = _asked(run, ask)
    return sum(found) / len(found) if found else None


def comparison_table(runs: Sequence[LoadRun]) -> Table:
    """For the terminal."""
    table = Table(title="Load runs", title_justify="left", caption_justify="left")
    table.add_column("figure")
    for place, (run, letter) in enumerate(zip(runs, LETTERS, strict=False)):
        table.add_column(f"{letter}: {run.scenario}", justify="right")
        if place:
            table.add_column(f"{letter} / A", justify="right")
    for line in comparison(runs):
        cells = [line.texts[0]]
        for text, ratio in zip(line.texts[1:], line.ratio_texts[1:], strict=True):
            cells += [text, ratio]
        table.add_row(line.what, *cells)
    table.caption = "\n".join(
        f"{letter}: {one.word}. {one.line}"
        for letter, one in zip(LETTERS, map(verdict, runs), strict=False)
    )
    return table


def told(runs: Sequence[LoadRun]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "runs": [
            {
                "scenario": run.scenario,
                "beganAt": run.began_at,
                "commit": run.commit,
                "held": run.held,
                "generatorLimited": run.generator_limited,
                "verdict": verdict(run).line,
            }
            for run in runs
        ],
        "figures": [
            {"figure": line.what, "values": line.values, "ratios": line.ratios}
            for line in comparison(runs)
        ],
    }
