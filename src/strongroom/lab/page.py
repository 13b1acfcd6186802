"""The page of benches: `docs/benchmarks.md` and its charts, written from recorded results.

`strongroom bench --page docs/benchmarks.md --results results` writes it. Of each bench the newest
record counts; quick ones are trials and never shown. What has no record yet is named as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from strongroom.lab.bench import Bench, Point, Series, number
from strongroom.lab.figures import Better, Comparison
from strongroom.lab.machine import Machine
from strongroom.lab.svg import Bar, bars, lines

ABBREVIATED = 10
"""Letters of a commit that tell it from all others."""


class Kept(msgspec.Struct):
    """A figure beside what was promised of it, as recorded."""

    what: str
    measured: float
    promised: float
    unit: str
    at_least: bool
    kept: bool


class Record(msgspec.Struct):
    """What the page reads of a bench's record."""

    name: str
    claim: str
    figure: str
    better: Better
    figures: dict[str, float]
    baseline: dict[str, float]
    ratios: tuple[float, ...]
    machine: Machine
    seed: int
    quick: bool
    seconds_a_turn: float
    began_at: datetime
    commit: str | None
    verdicts: list[Kept] = []
    setting: str = ""
    points: list[Point] = []

    @property
    def compared(self) -> Comparison:
        return Comparison(self.ratios)


def records_of(folder: Path) -> dict[str, Record]:
    """The newest record of each bench in `folder`, where other results lie too."""
    newest: dict[str, Record] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            found = msgspec.json.decode(file.read_bytes(), type=Record)
        except msgspec.DecodeError:
            continue
        before = newest.get(found.name)
        if not found.quick and (before is None or before.began_at <= found.began_at):
            newest[found.name] = found
    return newest


def write(path: Path, results: Path, benches: Mapping[str, type[Bench]]) -> list[Path]:
    """Writes the page and, in a folder beside it that is named like it, its charts; answers what
    was written. Charts that no record calls for any more are removed."""
    records = records_of(results)
    folder = path.with_suffix("")
    drawn = charts(records, benches)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        if old.name not in drawn:
            old.unlink()
    for name, text in drawn.items():
        (folder / name).write_text(text, "utf8")
    path.write_text(page(records, benches, folder.name), "utf8")
    return [path, *(folder / name for name in drawn)]


# The page ----------------------------------------------------------------------------------------

HEAD = """\
# Benchmarks

Written from `results/` by `strongroom bench --page`; every figure here was recorded by
`strongroom bench`, with its commit, machine and seed.

```sh
strongroom bench --all --results results --page docs/benchmarks.md   # measures all, then writes
strongroom bench --results results --page docs/benchmarks.md         # writes from what is recorded
```
"""

READING = """\
## How to read this

- **Ratios first.** Every claim is a comparison, made on one machine within minutes: Strongroom and
  a baseline by turns, A B, B A, A B, under the same load with the same seed. A ratio above 1 speaks
  for Strongroom, whichever way the figure points. Absolute figures are of this machine; take them
  as an order of magnitude.
- **The median pair counts.** Beside it stand the lowest and the highest pair. One pair that was
  disturbed moves the spread, and not the claim.
- **Noise** is that spread as a share of the median. Where the spread reaches across 1, this
  measurement tells no difference, and the table says so. A claim of 1.1× with a noise of 30 %
  is no claim.
- **The load generator shares the machine.** Client, API, workers and Postgres ran on the cores
  named below; on a larger machine both sides are faster, and their ratio may differ.
- **The baselines are written to be fair**: the same HTTP door, tables, guarantees and Postgres;
  only the grouping is taken out. They stand in `src/strongroom/lab/baselines`.
"""


def page(
    records: Mapping[str, Record], benches: Mapping[str, type[Bench]], folder: str = "benchmarks"
) -> str:
    """The page in Markdown, its charts in `folder`."""
    there = [records[name] for name in benches if name in records]
    missing = [name for name in benches if name not in records]
    parts = [HEAD]
    if there:
        parts += [_overview(there, folder), READING]
        parts += [_section(one, benches[one.name], folder) for one in there]
    else:
        parts += ["Nothing has been recorded yet.\n", READING]
    if missing:
        rows = [f"| `{name}` | {_cell(benches[name].claim)} |" for name in missing]
        parts.append(
            "## No record yet\n\nThese can be measured, and have not been with the full quantity:\n\n"
            "| bench | claim |\n|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _overview(there: Sequence[Record], folder: str) -> str:
    rows = []
    for one in there:
        found = one.compared
        rows.append(
            f"| [`{one.name}`](#{one.name}) | **{times(found.ratio)}** "
            f"| {times(found.lowest)} to {times(found.highest)} | {found.noise:.0%} "
            f"| {_cell(one.claim)}{_doubt(found)} |"
        )
    return (
        "## At a glance\n\n"
        f"![Ratios of all benches, with their spread]({folder}/ratios.svg)\n\n"
        "| bench | ratio | pairs | noise | claim |\n|---|--:|--:|--:|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _doubt(found: Comparison) -> str:
    if found.lowest <= 1 <= found.highest:
        return ". *The pairs reach across 1: no difference can be told.*"
    return ""


def _section(one: Record, bench: type[Bench], folder: str) -> str:
    parts = [f"## {one.name}\n", f"{one.claim}.\n"]
    if one.points:
        parts += _series(one, bench, folder)
    else:
        found = one.compared
        parts.append(
            f"Ratio of `{one.figure}`: **{times(found.ratio)}** "
            f"({times(found.lowest)} to {times(found.highest)}, noise {found.noise:.0%})."
            f"{_doubt(found).removeprefix('.')}\n"
        )
        parts.append(_figures(one))
    if one.verdicts:
        rows = [
            f"| {_cell(said.what)} | {number(said.measured)} | {'≥' if said.at_least else '≤'} "
            f"{number(said.promised)} | {said.unit} | {'yes' if said.kept else '**no**'} |"
            for said in one.verdicts
        ]
        parts.append(
            "| promised | measured | bound | unit | kept |\n|---|--:|--:|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    parts.append(_where(one))
    return "\n".join(parts)


def _figures(one: Record) -> str:
    """Those of a kind of its own, as `product list: p99_ms`, are left to the record."""
    names = [name for name in dict.fromkeys([*one.figures, *one.baseline]) if ": " not in name]
    rows = [
        f"| {_cell(name)} | {number(one.figures.get(name))} | {number(one.baseline.get(name))} |"
        for name in names
    ]
    return "| figure (median) | ours | baseline |\n|---|--:|--:|\n" + "\n".join(rows) + "\n"


def _series(one: Record, bench: type[Bench], folder: str) -> list[str]:
    sides, rivals = list(one.points[0].figures), list(one.points[0].ratios)
    head = [one.setting, *(f"against {name}" for name in rivals), *(f"{name}" for name in sides)]
    rows = []
    for point in one.points:
        compared = [Comparison(point.ratios[rival]) for rival in rivals]
        cells = [
            f"**{times(found.ratio)}** ({times(found.lowest)} to {times(found.highest)})"
            for found in compared
        ]
        cells += [number(point.figures[side].get(one.figure)) for side in sides]
        rows.append(f"| {point.setting:,} | " + " | ".join(map(_cell, cells)) + " |")
    table = (
        f"Ratios of `{one.figure}`, then its medians:\n\n"
        f"| {' | '.join(head)} |\n|{'--:|' * len(head)}\n" + "\n".join(rows) + "\n"
    )
    pictures = [
        f"![{figure} by {one.setting}]({folder}/{_chart(one.name, figure)})\n"
        for figure in _charted(one, bench)
    ]
    return [*pictures, table, _others(one, sides)]


def _others(one: Record, sides: Sequence[str]) -> str:
    """What was measured besides."""
    names = dict.fromkeys(
        name for point in one.points for side in sides for name in point.figures[side]
    )
    rows = [
        f"| {point.setting:,} | {side} | "
        + " | ".join(number(point.figures[side].get(name)) for name in names)
        + " |"
        for point in one.points
        for side in sides
    ]
    head = f"| {one.setting} | by | {' | '.join(map(_cell, names))} |"
    return (
        "<details><summary>All medians</summary>\n\n"
        + f"{head}\n|--:|---|{'--:|' * len(names)}\n"
        + "\n".join(rows)
        + "\n\n</details>\n"
    )


def _where(one: Record) -> str:
    on, commit = one.machine, one.commit or "outside a checkout"
    name, _, dirty = commit.partition("-")
    changed = ", with uncommitted changes" if dirty else ""
    short = f"`{name[:ABBREVIATED]}`" if one.commit else commit
    return (
        f"*{one.began_at:%Y-%m-%d %H:%M} UTC, commit {short}{changed}; "
        f"{on.cores} cores of {_cell(on.cpu)}, {on.memory_bytes / 2**30:.1f} GiB, {on.system}, "
        f"Python {on.python}, Postgres {on.postgres or 'none'}; "
        f"load {on.load_average:.2f} before; seed {one.seed}, "
        f"{len(one.ratios)} pairs of {one.seconds_a_turn:g} s a turn.*\n"
    )


def times(ratio: float) -> str:
    """A ratio, in as many digits as noise leaves it."""
    return f"{ratio:.0f}×" if ratio >= 100 else f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# Charts ------------------------------------------------------------------------------------------


def charts(records: Mapping[str, Record], benches: Mapping[str, type[Bench]]) -> dict[str, str]:
    """The pictures by file name."""
    there = [records[name] for name in benches if name in records]
    if not there:
        return {}
    drawn = {"ratios.svg": _ratios(there)}
    for one in there:
        for figure in _charted(one, benches[one.name]):
            drawn[_chart(one.name, figure)] = _lines(one, figure)
    return drawn


def _ratios(there: Sequence[Record]) -> str:
    shown = [
        Bar(one.name, found.ratio, found.lowest, found.highest, times(found.ratio))
        for one in there
        for found in [one.compared]
    ]
    says = "Times better than the baseline; the thin line is from the lowest to the highest pair."
    return bars("Strongroom beside its baselines", says, shown)


def _lines(one: Record, figure: str) -> str:
    sides = [side for side in one.points[0].figures if _has(one, side, figure)]
    return lines(
        one.claim,
        f"{figure} by {one.setting}, median of {len(one.ratios)} measurements.",
        [f"{point.setting:,}" for point in one.points],
        {side: [point.figures[side][figure] for point in one.points] for side in sides},
        number,
    )


def _has(one: Record, side: str, figure: str) -> bool:
    return all(figure in point.figures[side] for point in one.points)


def _charted(one: Record, bench: type[Bench]) -> list[str]:
    if not one.points or not issubclass(bench, Series):
        return []
    figures = dict.fromkeys([one.figure, *bench.beside])
    sides = one.points[0].figures
    return [figure for figure in figures if any(_has(one, side, figure) for side in sides)]


def _chart(name: str, figure: str) -> str:
    return f"{name}-{figure}.svg"
