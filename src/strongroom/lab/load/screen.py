"""What a load run looks like in a terminal: while it runs, and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from strongroom.lab.bench import number
from strongroom.lab.load.result import LoadRun
from strongroom.lab.load.running import Seen
from strongroom.lab.open_loop import quantiles

LINE_S = 1.0
"""Between two lines where there is no terminal."""

PER_S = 5

MOST_CODES = 6
"""Kinds of failures that are shown; all are in the result."""

OK, WRONG, UNSURE = "[green]✓[/]", "[red]✗[/]", "[yellow]![/]"


async def show(seen: Seen, console: Console) -> None:
    """Until cancelled: a live view, or in a log a line whenever there is something new."""
    if console.is_terminal:
        with Live(console=console, get_renderable=lambda: _table(seen), refresh_per_second=PER_S):
            await asyncio.Event().wait()
    said = ""
    while True:
        line = _line(seen)
        if line != said:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            said = line
        await asyncio.sleep(LINE_S)


def _line(seen: Seen) -> str:
    elapsed = seen.elapsed_s
    if elapsed is None or elapsed < 0 or not seen.spells or seen.step != "under load":
        return f"{seen.name}: {seen.step} …"
    last, (p50, p99) = seen.last, quantiles(seen.last.ended_us, 50, 99)
    line = (
        f"{seen.name}: {elapsed:.0f} s, {seen.answered:,} answered "
        f"({sum(last.ended_us.values()):,}/s), p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )
    if seen.failed:
        line += ", " + ", ".join(f"{code} {times:,}" for code, times in _failures(seen.failed))
    if seen.sample and seen.sample.queued is not None:
        line += f", {seen.sample.queued:,} queued"
    return line


def _failures(failed: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(failed.items(), key=lambda one: -one[1])[:MOST_CODES]


def _table(seen: Seen) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(f"[bold]{seen.name}[/]", f"{seen.step} [dim]({_escaped(seen.target)})[/]")
    elapsed = seen.elapsed_s
    if elapsed is not None:
        if elapsed < 0:
            table.add_row("", f"warming up, {-elapsed:.0f} s")
        elif seen.plan.seconds:
            done = min(elapsed, seen.plan.seconds)
            table.add_row(
                f"{done:.0f} of {seen.plan.seconds:g} s",
                ProgressBar(total=seen.plan.seconds, completed=done, width=40),
            )
    last = seen.last
    p50, p99 = quantiles(last.ended_us, 50, 99)
    table.add_row("answered", f"{seen.answered:,}")
    table.add_row("due in the last second", f"{last.intended:,}")
    table.add_row("answered in it", f"{sum(last.ended_us.values()):,}")
    table.add_row("p50 / p99 of these", f"{p50:,.1f} / {p99:,.1f} ms")
    for code, times in _failures(seen.failed):
        usual = code in seen.plan.refusals
        table.add_row(_escaped(code), f"[{'dim' if usual else 'red'}]{times:,}[/]")
    sample = seen.sample
    if sample:
        rows = (
            ("messages in queues", sample.queued),
            ("database connections", sample.connections),
            ("cores used by the system", sample.server_cpu),
        )
        for name, value in rows:
            if value is not None:
                table.add_row(name, number(value))
    return table


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


# Afterwards --------------------------------------------------------------------------------------


def tables(run: LoadRun) -> Iterator[Table]:
    """What a run found, for people."""
    yield _streams(run)
    yield _system(run)
    yield _verdicts(run)


def _ruled(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def _streams(run: LoadRun) -> Table:
    table = _ruled(f"[bold]{run.scenario}[/]: {run.says}")
    table.add_column("requests", no_wrap=True)
    for name in ("due", "2xx", "other", "none", "p50", "p95", "p99", "p99.9", "max"):
        table.add_column(name, justify="right")
    for one in run.streams:
        fine = sum(times for status, times in one.statuses.items() if 200 <= status < 300)
        other = sum(one.statuses.values()) - fine
        counts = [f"{count:,}" for count in (one.intended, fine, other, one.unanswered)]
        latencies = (one.p50_ms, one.p95_ms, one.p99_ms, one.p999_ms, one.max_ms)
        table.add_row(one.name, *counts, *map(number, latencies))
        for code, times in one.codes.items():
            table.add_row(f"[dim]  {_escaped(code)}[/]", "", "", f"[dim]{times:,}[/]")
    table.caption = (
        "latencies in ms from the intended start; `none`: not answered\n"
        f"{run.per_second:,.0f} answers a second in {run.seconds:.1f} s, {run.users:,} users, "
        f"{run.connections:,} connections; generator: {run.processes} "
        f"process{'es' if run.processes > 1 else ''}, {run.generator_cpu:.0%} of a core, "
        f"{run.behind_p99_ms:.1f} ms late (p99)"
    )
    return table


def _system(run: LoadRun) -> Table:
    table = _ruled(_escaped(run.target))
    table.add_column("while it ran", no_wrap=True)
    table.add_column("median", justify="right")
    table.add_column("peak", justify="right")
    rows = (
        ("messages in queues", [one.queued for one in run.samples], 1.0),
        ("database connections", [one.connections for one in run.samples], 1.0),
        ("of these busy", [one.busy_connections for one in run.samples], 1.0),
        ("cores used", [one.server_cpu for one in run.samples], 1.0),
        ("memory, MB", [one.server_rss_bytes for one in run.samples], 1e6),
    )
    for name, values, unit in rows:
        known = sorted(one / unit for one in values if one is not None)
        if known:
            table.add_row(name, number(known[len(known) // 2]), number(known[-1]))
    if run.drained_s is not None:
        table.add_row("queues empty, s after the last arrival", "", f"{run.drained_s:.1f}")
    return table


def _verdicts(run: LoadRun) -> Table:
    table = Table.grid(padding=(0, 1))
    for one in run.thresholds:
        table.add_row(OK if one.kept else WRONG, f"{one.asked}: {_measured(one.measured)}")
    for sentence, held in run.expected.items():
        table.add_row(OK if held else WRONG, _escaped(sentence))
    broken = [one for one in run.invariants if one.findings]
    for invariant in broken:
        table.add_row(WRONG, _escaped("\n".join(invariant.findings)))
    if not broken:
        table.add_row(OK, f"all {len(run.invariants)} invariants hold")
    if any("rate_limited" in one.codes for one in run.streams):
        said = "the target limits how often one may ask: start it with STRONGROOM_RATE_LIMITS=off"
        table.add_row(UNSURE, said)
    if run.generator_limited:
        said = f"the generator was the limit, not the server: {run.generator_limited}"
        table.add_row(UNSURE, _escaped(said))
    return table


def _measured(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.4g}"
