"""`status`: the whole instance on one screen, whatever of it still answers."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.doors.cli.flags import (
    FINE,
    REFUSED,
    UNREACHABLE,
    AsJson,
    DataDir,
    settings_of,
    shown,
    tell,
)

if TYPE_CHECKING:
    from strongroom.doors.cli.standing import Look, Standing
    from strongroom.settings import Settings

REFRESHED_S = 1.0
"""Between two looks; also what rates are measured over."""


def status(
    once: Annotated[bool, typer.Option("--once", help="Look once, also in a terminal.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Shows the whole instance on one screen, each second anew in a terminal, until Ctrl-C.

    Works while the API is down, and says what is left while the database is. Exit code 0 when all
    is well, 1 when something is wrong, 3 when nothing answers.
    """
    settings = settings_of(data_dir=data_dir)
    if as_json or once or not sys.stdout.isatty():
        found = asyncio.run(_once(settings))
        if as_json:
            tell(found)
        else:
            from strongroom.doors.cli.screen import screen

            shown.print(screen(found))
    else:
        found = asyncio.run(_live(settings))
    raise typer.Exit(exit_code(found))


def exit_code(found: Standing) -> int:
    """3 when nothing answers, 1 when something is wrong, 0 when all is well."""
    if not found.answers:
        return UNREACHABLE
    return REFUSED if found.wrong else FINE


async def _once(settings: Settings) -> Standing:
    """Two looks, a second apart: rates need both."""
    from strongroom.doors.cli.standing import look, standing

    before = await look(settings)
    if not before.answers:
        return standing(before, before)
    await asyncio.sleep(REFRESHED_S)
    return standing(before, await look(settings))


async def _live(settings: Settings) -> Standing:
    """Until Ctrl-C; what was seen last."""
    from rich.live import Live

    from strongroom.doors.cli.screen import screen
    from strongroom.doors.cli.standing import look, standing

    before: Look = await look(settings)
    found = standing(before, before)
    with (
        contextlib.suppress(asyncio.CancelledError),
        Live(screen(found), console=shown, screen=True, auto_refresh=False) as live,
    ):
        while True:
            await asyncio.sleep(REFRESHED_S)
            now = await look(settings)
            found, before = standing(before, now), now
            live.update(screen(found), refresh=True)
    return found
