"""The audit from outside."""

from __future__ import annotations

import asyncio
import importlib
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from strongroom.doors.cli.flags import REFUSED, AsJson, UnusedDataDir, aside, shown, tell


def audit(
    url: Annotated[
        list[str], typer.Option("--url", help="Where it listens; again for each process.")
    ],
    token: Annotated[
        str, typer.Option(envvar="STRONGROOM_TOKEN", help="An operator's access token.")
    ],
    operations: Annotated[int, typer.Option(min=1, max=10**6, help="How many in all.")] = 1000,
    clients: Annotated[int, typer.Option(min=1, max=1000, help="How many at once.")] = 16,
    accounts: Annotated[int, typer.Option(min=2, max=100, help="Among so many accounts.")] = 6,
    seed: Annotated[int, typer.Option(help="Of what the clients wish for.")] = 0,
    data_dir: UnusedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Lives through a history over HTTP, with clients that repeat themselves and hang up, and
    checks that it can have happened in one order and in real time.

    Registers accounts of its own, pays a little in, and takes all of it out again. It keeps to rate
    limits where they are on, and takes minutes then. Exit code 1 when what was seen cannot have
    been, or when the house's own reconciliation finds something.
    """
    # By name, and only here: no other part of the program loads the lab.
    room = importlib.import_module("strongroom.lab.audit")
    wire = importlib.import_module("strongroom.lab.wire")
    plan = room.Audit(
        addresses=[wire.Address.of(one) for one in url],
        token=token,
        operations=operations,
        clients=clients,
        accounts=accounts,
        seed=seed,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=aside, disable=as_json) as bar:
        task = bar.add_task("living through a history", total=operations)
        found = asyncio.run(room.audit(plan, lambda count: bar.advance(task, count)))
    if as_json:
        tell({**{name: getattr(found, name) for name in found.__struct_fields__},
              "sound": found.sound})  # fmt: skip
    else:
        shown.print(_table(found))
    if not found.sound:
        raise typer.Exit(REFUSED)


def _table(found: Any) -> Table:
    verdict = "[green]sound[/]" if found.sound else "[red]NOT SOUND[/]"
    table = Table(
        title=f"What the clients saw is {verdict}", title_justify="left", show_header=False
    )
    table.add_column("what")
    table.add_column("found", overflow="fold")
    for name in ("done", "refused", "snapshots", "hung_up", "repeated", "broken", "seconds"):
        value = getattr(found, name)
        told = f"{value:.1f}" if isinstance(value, float) else f"{value:,}"
        table.add_row(name.replace("_", " "), told)
    for said in found.violations[:20]:
        table.add_row("[red]violation[/]", escape(said))
    for said in found.findings[:20]:
        table.add_row("[red]reconciliation[/]", escape(said))
    return table
