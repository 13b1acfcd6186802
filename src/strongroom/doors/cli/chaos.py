"""`chaos`: faults on a scratch instance, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

import msgspec
import typer

from strongroom.clock import monotonic
from strongroom.doors.cli.flags import (
    FINE,
    REFUSED,
    AsJson,
    UnusedDataDir,
    aside,
    say,
    shown,
    tell,
)

EVERY_S = 5.0
"""Where no terminal shows how it goes, a line is written so often."""

WORDS = 20
"""Violations that are shown; --json has them all."""


def chaos(
    scenario: Annotated[
        str | None, typer.Argument(help="A scenario; without one, they are listed.")
    ] = None,
    faults: Annotated[
        int | None,
        typer.Option("--faults", "--kills", "--cuts", min=1, help="Faults to deliver."),
    ] = None,
    acknowledged: Annotated[
        int | None,
        typer.Option(min=1000, help="Answers to wait for, at least; fewer are no trial."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="How long, where a scenario goes by time.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the schedule of faults and wishes.")] = None,
    data_dir: UnusedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delivers faults to a scratch instance under load, and holds every answer against the books.

    Without a scenario, lists them with what each must hold. No running instance is touched.
    """
    # By name, and only here: no other part of the program loads the lab.
    catalogue = importlib.import_module("strongroom.lab.chaos.catalogue")
    if scenario is None:
        for name, one in catalogue.scenarios().items():
            tell({"name": name, "holds": one.holds}) if as_json else say(f"{name:<14} {one.holds}")
        return
    found = catalogue.scenario_of(scenario)
    wanted = catalogue.Wanted(
        seed=catalogue.SEED if seed is None else seed,
        faults=faults,
        acknowledged=acknowledged,
        seconds=seconds,
    )
    found.check(wanted)
    with _progress(scenario) as progress:
        trial = asyncio.run(_run(found.run(wanted, progress)))
    if as_json:
        verdict = {"held": trial.held, "invalid": trial.invalid, "bound": trial.bound}
        tell(msgspec.to_builtins(trial) | verdict)
    else:
        _show(trial, found.holds)
    raise typer.Exit(FINE if trial.held else REFUSED)


async def _run(trial: Awaitable[Any]) -> Any:
    task = asyncio.current_task()
    assert task is not None
    # Ended in order by SIGTERM too, or the scratch instance would be left behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await trial


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[str], None]]:
    """What is told how it goes: a line that changes on a terminal, else one now and then."""
    if aside.is_terminal:
        with aside.status(name) as status:
            yield lambda line: status.update(f"{name}: {line}")
        return
    told = [-EVERY_S]

    def now_and_then(line: str) -> None:
        if monotonic() - told[0] >= EVERY_S:
            told[0] = monotonic()
            say(f"{name}: {line}")

    yield now_and_then


def _show(trial: Any, holds: str) -> None:
    from rich.table import Table

    table = Table(title=f"{trial.name}, seed {trial.seed}", title_justify="left", show_header=False)
    for name, value in _rows(trial):
        table.add_row(name, value)
    shown.print(table)
    for line in trial.violations[:WORDS]:
        say(f"  {line}")
    if len(trial.violations) > WORDS:
        say(f"  … and {len(trial.violations) - WORDS} more: --json has them all")
    holds = holds.rstrip(".") + "."
    if trial.held:
        say(f"Held. {holds}")
    elif trial.invalid:
        say(f"INVALID, which is not passed: {trial.invalid}.")
    else:
        say(f"VIOLATED. What must hold: {holds}")


def _rows(trial: Any) -> Iterator[tuple[str, str]]:
    done: list[str] = []
    kinds: list[str] = []
    for name, value in trial.what.items():
        of, _, what = name.partition(": ")
        (done if of == "done" else kinds).append(f"{what or name} {value:,g}")
    yield "faults", f"{trial.faults}"
    yield "acknowledged", f"{trial.acknowledged}"
    yield "lost", f"{trial.lost}"
    yield "doubled", f"{trial.doubled}"
    yield "unknown", f"{trial.unknown} at first, {trial.unknown - trial.unresolved} resolved"
    if trial.recovery_ms:
        ordered = sorted(trial.recovery_ms)
        middle = ordered[len(ordered) // 2]
        yield "recovery", f"p50 {middle:.0f} ms, longest {ordered[-1]:.0f} ms"
    yield "violations", f"{len(trial.violations)}" if trial.violations else "none: all hold"
    if trial.held:
        yield "bound", f"below {trial.bound:.2%} of faults at 95 % (3/N)"
    yield "among it", ", ".join(kinds)
    if done:
        yield "done", ", ".join(done)
    yield "took", f"{trial.seconds:.0f} s"
