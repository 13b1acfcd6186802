"""`orders`: a shop to try things in."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.doors.cli.flags import AsJson, DataDir, aside, say, settings_of, shown, tell
from strongroom.errors import Forbidden

if TYPE_CHECKING:
    from strongroom.settings import Settings

MOST_ORDERS, MOST_MONTHS, MOST_PRODUCTS = 50_000_000, 84, 16_000
"""Hours and accounts are counted in 16 bits by the seed; the rest is the disk's limit."""

BYTES_PER_GB = 10**9


class NoSeedInProduction(Forbidden):
    """What is made up does not go where STRONGROOM_ENVIRONMENT is production."""


def seed(
    orders: Annotated[
        int, typer.Option(min=1, max=MOST_ORDERS, help="How many orders.")
    ] = 5_000_000,
    months: Annotated[
        int, typer.Option(min=1, max=MOST_MONTHS, help="Over how many months until now.")
    ] = 36,
    products: Annotated[
        int, typer.Option(min=1, max=MOST_PRODUCTS, help="How many products.")
    ] = 2_000,
    seed: Annotated[
        int, typer.Option(min=0, help="The same one draws the same shop.")
    ] = 20_260_101,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Fills an empty shop with orders of years, stock, money and rollups, so that every invariant
    holds: all of them, or none when it is interrupted. Takes about 5 GB of disk for a million."""
    settings = settings_of(data_dir=data_dir)
    if settings.environment == "production":
        raise NoSeedInProduction()
    plan = {"orders": orders, "months": months, "products": products, "seed": seed}
    made = asyncio.run(_seed(settings, plan))
    if as_json:
        tell(made)
    else:
        _show(made)


async def _seed(settings: Settings, plan: dict[str, int]) -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from strongroom.doors.cli.reach import known_schema, reached

    # By name: nothing but a command loads the lab.
    seeding = importlib.import_module("strongroom.lab.seeding")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    async with reached(settings) as place:
        await known_schema(place)
        with Progress(*columns, console=aside, transient=True) as bar:
            task = bar.add_task("drawing the shop", total=None)

            def told(done: int, total: int) -> None:
                said = f"{done:,} of {total:,} rows"
                bar.update(task, completed=done, total=total, description=said)

            return await seeding.seed(place.owner, seeding.Plan(**plan), told)


def _show(made: Any) -> None:
    from rich.table import Table

    table = Table("made", "", title="Seeded", title_justify="left")
    table.columns[1].justify = "right"
    for name in (
        "orders",
        "lines",
        "customers",
        "products",
        "payments",
        "transfers",
        "entries",
    ):
        table.add_row(name, f"{getattr(made, name):,}")
    table.add_row("seconds", f"{made.seconds:,.1f}")
    table.add_row("size of the database", f"{made.bytes / BYTES_PER_GB:,.2f} GB")
    shown.print(table)
    say(f"Drawn from seed {made.seed}. `strongroom reconcile` checks all of it.")
