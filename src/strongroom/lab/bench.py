"""The frame of every bench: ours and a baseline by turns, the ratio of each pair, the noise.

Two measurements minutes apart differ by what else the machine did. So ours and the baseline run
side by side in pairs, A B, B A, A B, and the claim is the median of the pairs' ratios; how far
the pairs lie apart is the noise, and is shown beside it. A series does so at each of its settings,
and may have more sides than two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from strongroom.clock import now
from strongroom.errors import Invalid
from strongroom.lab.figures import Better, Comparison, Figures, compare, medians
from strongroom.lab.machine import Machine, commit, machine, postgres_version

PAIRS = 3
"""Fewer have no median that one disturbed pair cannot move."""

QUICK_BUDGET_S = 40.0
"""What a quick run may measure for: with starting and stopping it ends within a minute."""

SEED = 20_260_101

WIDE = 140
"""Of a table of details: a file has no width, and a terminal can be made wider."""


@dataclass(frozen=True)
class Turn:
    """One measurement: how long it may take (warm-up included), and the seed of its pair, which
    ours and the baseline share; of a series, at which of its settings."""

    seconds: float
    seed: int
    quick: bool
    setting: int | None = None


@dataclass(frozen=True)
class Shops:
    """What a bench of a filled database may be given: how many orders there shall be, a data folder
    to fill or to find filled, and one for what it is compared with. They are kept; without one the
    bench fills a scratch folder of its own."""

    orders: int | None = None
    at: Path | None = None
    beside: Path | None = None


@dataclass(frozen=True)
class Verdict:
    """A figure beside what was promised of it, both in `unit`: at most that, or `at_least`."""

    what: str
    measured: float
    promised: float
    unit: str
    at_least: bool = False

    @property
    def kept(self) -> bool:
        if self.at_least:
            return self.measured >= self.promised
        return self.measured <= self.promised

    @property
    def line(self) -> str:
        sign, said = "≥" if self.at_least else "≤", "pass" if self.kept else "FAIL"
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{said}  {self.what}: {number(self.measured)}{unit}, promised {sign} "
            f"{number(self.promised)}{unit}"
        )


class TakesNoShops(Invalid):
    """This bench fills a scratch instance of its own: it takes no orders and no folders."""


class Bench(ABC):
    """A claim that can be measured. Entering its context starts what it needs, leaving stops it.

    `figure` names the figure that the ratio is made of. `dsn`, once set, tells whose Postgres
    version to record. `most_pairs` bounds those that take minutes a turn. `say` is told what takes
    long outside of the turns.
    """

    name: ClassVar[str]
    claim: ClassVar[str]
    figure: ClassVar[str]
    better: ClassVar[Better] = "higher"
    seconds: ClassVar[float] = 10.0
    most_pairs: ClassVar[int | None] = None
    dsn: str | None = None
    say: Callable[[str], None] = print

    def take(self, shops: Shops) -> None:
        """Takes what was chosen on the command line; TakesNoShops when anything was."""
        if shops != Shops():
            raise TakesNoShops()

    def verdicts(self, figures: Figures, baseline: Figures) -> list[Verdict]:
        """How the medians stand to what was promised, where anything was."""
        return []

    def details(self, figures: Figures, baseline: Figures) -> Table | None:
        """The figures named `of what: which`, for people; nothing else shows those."""
        return None

    @abstractmethod
    async def ours(self, turn: Turn) -> Figures:
        """Measures Strongroom."""

    @abstractmethod
    async def baseline(self, turn: Turn) -> Figures:
        """Measures what it is compared with, under the same load."""

    @property
    def sides(self) -> tuple[str, ...]:
        """Who is measured, ours first."""
        return ("ours", "baseline")

    async def side(self, name: str, turn: Turn) -> Figures:
        return await (self.ours(turn) if name == "ours" else self.baseline(turn))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class Series(Bench):
    """The same claim at several `settings`, numbers of what `setting` names ("connections"), by
    two `rows` or more, ours first. What its report says in one line is of the last setting, and
    of ours against the second row.
    """

    setting: ClassVar[str]
    settings: ClassVar[tuple[int, ...]]
    rows: ClassVar[tuple[str, ...]]
    beside: ClassVar[tuple[str, ...]] = ()
    """Figures that are drawn besides the one of the claim."""

    @property
    def sides(self) -> tuple[str, ...]:
        return self.rows

    @abstractmethod
    async def side(self, name: str, turn: Turn) -> Figures:
        """Measures one of the rows at the turn's setting."""

    async def ours(self, turn: Turn) -> Figures:
        return await self.side(self.rows[0], turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self.side(self.rows[1], turn)


@dataclass(frozen=True)
class Point:
    """A series at one setting: the medians of each side, and the pairs' ratios to each rival."""

    setting: int
    figures: dict[str, dict[str, float]]
    ratios: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Report:
    """What a bench found. `figures` and `baseline` are medians over the pairs; `points` are those
    of a series."""

    name: str
    claim: str
    figure: str
    better: Better
    figures: dict[str, float]
    baseline: dict[str, float]
    comparison: Comparison
    pairs: list[tuple[Figures, Figures]]
    verdicts: list[Verdict]
    machine: Machine
    seed: int
    quick: bool
    seconds_a_turn: float
    began_at: datetime
    commit: str | None
    setting: str = ""
    points: list[Point] = field(default_factory=list)

    def line(self) -> str:
        """The one line of `--json`."""
        told: dict[str, object] = {
            "name": self.name,
            "figures": self.figures,
            "baseline": self.baseline,
            "ratio": self.comparison.ratio,
        }
        if self.verdicts:
            told["verdicts"] = [verdict.line for verdict in self.verdicts]
        return msgspec.json.encode(told).decode()

    def record(self, folder: Path) -> Path:
        """Writes everything to `<name>-<utc>.json` in `folder`, and answers that path."""
        found = self.comparison
        told = {
            **msgspec.to_builtins(self),
            "pairs": [{"ours": ours, "baseline": baseline} for ours, baseline in self.pairs],
            "ratio": found.ratio,
            "ratios": found.ratios,
            "lowest": found.lowest,
            "highest": found.highest,
            "noise": found.noise,
        }
        for verdict, one in zip(self.verdicts, told["verdicts"], strict=True):
            one["kept"] = verdict.kept
        del told["comparison"]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}-{self.began_at:%Y%m%dT%H%M%SZ}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
        return path

    def table(self) -> Table:
        """For people: each figure beside the baseline's, then the pairs."""
        table = Table(title=self.claim, title_justify="left", caption_justify="left")
        if self.points:
            self._fill_series(table)
        else:
            self._fill(table)
        found, facts = self.comparison, self.machine
        pairs = " ".join(f"{ratio:.2f}" for ratio in found.ratios)
        last = f"at {self.points[-1].setting:,} {self.setting}: " if self.points else ""
        table.caption = (
            f"{self.figure}: {last}{found.ratio:.2f} times better "
            f"({found.lowest:.2f} to {found.highest:.2f}; pairs {pairs}; noise {found.noise:.0%})\n"
            f"{facts.cores} cores of {facts.cpu}, {facts.memory_bytes / 2**30:.1f} GiB, "
            f"Python {facts.python}, Postgres {facts.postgres or 'none'}, "
            f"load {facts.load_average:.2f} before, seed {self.seed}"
        )
        return table

    def _fill_series(self, table: Table) -> None:
        table.add_column(self.setting)
        for side in self.points[0].figures:
            table.add_column(side, justify="right")
        for rival in self.points[0].ratios:
            table.add_column(f"/ {rival}", justify="right")
        for point in self.points:
            compared = map(Comparison, point.ratios.values())
            table.add_row(
                f"{point.setting:,}",
                *(number(one.get(self.figure)) for one in point.figures.values()),
                *(f"{one.ratio:.2f} ({one.lowest:.2f} to {one.highest:.2f})" for one in compared),
            )

    def _fill(self, table: Table) -> None:
        table.add_column("figure")
        table.add_column("ours", justify="right")
        table.add_column("baseline", justify="right")
        plain = (name for name in [*self.figures, *self.baseline] if ": " not in name)
        for name in dict.fromkeys(plain):
            texts = [number(side.get(name)) for side in (self.figures, self.baseline)]
            table.add_row(name, *texts, style="bold" if name == self.figure else None)


def turns_of(bench: type[Bench] | Bench, pairs: int) -> int:
    """How many measurements a run is made of."""
    if isinstance(bench, Series) or (isinstance(bench, type) and issubclass(bench, Series)):
        return len(bench.settings) * len(bench.rows) * pairs
    return 2 * pairs


def turn_seconds(bench: type[Bench] | Bench, pairs: int, quick: bool) -> float:
    """How long one measurement is; quick ones are half as long, or less when there are many."""
    if not quick:
        return bench.seconds
    return min(bench.seconds / 2, QUICK_BUDGET_S / turns_of(bench, pairs))


async def measure(
    bench: Bench,
    *,
    pairs: int = PAIRS,
    quick: bool = False,
    seed: int = SEED,
    step: Callable[[str], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Runs the pairs. `step` hears, in words, what is measured next, `say` what takes long."""
    assert pairs >= PAIRS, f"{PAIRS} pairs at least"
    pairs = min(pairs, bench.most_pairs or pairs)
    bench.say = say
    began_at = now()
    facts = machine()
    turn = Turn(seconds=turn_seconds(bench, pairs, quick), seed=seed, quick=quick)
    points: list[Point] = []
    async with bench:
        if isinstance(bench, Series):
            for setting in bench.settings:
                found = await _taken(bench, replace(turn, setting=setting), pairs, step)
                points.append(_point(bench, setting, found))
        else:
            found = await _taken(bench, turn, pairs, step)
        if bench.dsn is not None:
            facts = replace(facts, postgres=await postgres_version(bench.dsn))
    ours, theirs = bench.sides[:2]
    measured = [(one[ours], one[theirs]) for one in found]
    figures, baseline = (medians([one[side] for one in found]) for side in (ours, theirs))
    return Report(
        name=bench.name,
        claim=bench.claim,
        figure=bench.figure,
        better=bench.better,
        figures=figures,
        baseline=baseline,
        comparison=compare(measured, bench.figure, bench.better),
        pairs=measured,
        verdicts=bench.verdicts(figures, baseline),
        machine=facts,
        seed=seed,
        quick=quick,
        seconds_a_turn=turn.seconds,
        began_at=began_at,
        commit=commit(),
        setting=bench.setting if isinstance(bench, Series) else "",
        points=points,
    )


async def _taken(
    bench: Bench, turn: Turn, pairs: int, step: Callable[[str], None]
) -> list[dict[str, Figures]]:
    """All sides by turns, each pair in the other direction than the one before."""
    at = f"{turn.setting:,} {bench.setting}, " if isinstance(bench, Series) else ""
    measured = []
    for place in range(pairs):
        found: dict[str, Figures] = {}
        for side in bench.sides if place % 2 == 0 else reversed(bench.sides):
            step(f"{at}pair {place + 1} of {pairs}: {side}")
            found[side] = await bench.side(side, replace(turn, seed=turn.seed + place))
        measured.append(found)
    return measured


def _point(bench: Series, setting: int, found: list[dict[str, Figures]]) -> Point:
    ours, *rivals = bench.rows
    return Point(
        setting=setting,
        figures={side: medians([one[side] for one in found]) for side in bench.rows},
        ratios={
            rival: compare(
                [(one[ours], one[rival]) for one in found], bench.figure, bench.better
            ).ratios
            for rival in rivals
        },
    )


async def show(
    bench: Bench,
    *,
    as_json: bool = False,
    quick: bool = False,
    pairs: int = PAIRS,
    seed: int = SEED,
    results: Path | None = None,
) -> Report:
    """Measures with a progress bar on stderr and shows the outcome: the table on stdout, or with
    `as_json` one line there and the table on stderr. With `results` it is also recorded."""
    loud = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=loud, transient=True) as progress:
        task = progress.add_task(
            bench.name, total=turns_of(bench, min(pairs, bench.most_pairs or pairs))
        )
        started = 0

        def step(words: str) -> None:
            nonlocal started
            progress.update(task, completed=started, description=f"{bench.name}, {words}")
            started += 1

        def say(words: str) -> None:
            progress.update(task, description=f"{bench.name}, {words}")

        report = await measure(bench, pairs=pairs, quick=quick, seed=seed, step=step, say=say)
    aloud = loud if as_json else Console()
    aloud.print(report.table())
    details = bench.details(report.figures, report.baseline)
    if details is not None:
        Console(stderr=as_json, width=max(aloud.width, WIDE)).print(details)
    for verdict in report.verdicts:
        aloud.print(verdict.line, highlight=False, soft_wrap=True)
    if as_json:
        print(report.line())
    if results is not None:
        loud.print(f"recorded in {report.record(results)}")
    return report


def number(value: float | None) -> str:
    """In as many digits as matter."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
