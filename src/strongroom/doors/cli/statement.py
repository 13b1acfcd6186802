"""`statement`: what a day began with, what moved, what it ended with."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from strongroom.doors.cli.flags import AsJson, DataDir, say, settings_of, shown, tell
from strongroom.errors import Invalid

if TYPE_CHECKING:
    from strongroom.core.audit.daybook import DayStatement
    from strongroom.settings import Settings

ZONE = "Asia/Ho_Chi_Minh"
"""Where the shop's reports have their days, too."""

YEARS = range(2000, 2200)
"""Nothing lies earlier or later, as over HTTP; a day at the end of time has no next one."""

COLUMNS = ("unit", "purpose", "what", "gained", "given", "entries", "balance")
NAMES = 2
"""Of the columns so many say whose the figures are."""


class NoSuchDay(Invalid):
    """A day is written like 2026-11-21, and lies in the years 2000 to 2199."""


class NoSuchZone(Invalid):
    """There is no such time zone. They are written like Asia/Ho_Chi_Minh, or UTC."""


class OneForm(Invalid):
    """Choose one of --json and --csv."""


def statement(
    day: Annotated[
        str | None, typer.Option(help="As 2026-11-21.", show_default="today", metavar="DAY")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Only this unit, as VND.")] = None,
    account: Annotated[
        str | None,
        typer.Option(help="Only this account: its number, or OWNER/PURPOSE/UNIT (`house` too)."),
    ] = None,
    zone: Annotated[str, typer.Option(help="Where the day is.")] = ZONE,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line each, for sheets.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Prints the statement of a day: opening, movements by type, closing, by unit and purpose."""
    if as_csv and as_json:
        raise OneForm()
    where = _zone(zone)
    asked = _day(day) if day is not None else datetime.now(where).date()
    settings = settings_of(data_dir=data_dir)
    found = asyncio.run(_read(settings, asked, where, unit, account))
    if as_json:
        tell(found)
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([COLUMNS, *_rows(found)])
    else:
        _show(found)


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise NoSuchDay() from None
    if day.year not in YEARS:
        raise NoSuchDay()
    return day


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NoSuchZone() from None


async def _read(
    settings: Settings, day: date, zone: ZoneInfo, unit: str | None, account: str | None
) -> DayStatement:
    from strongroom.core.audit.daybook import Daybook
    from strongroom.doors.cli.reach import house_of

    async with house_of(settings) as house:
        return await Daybook(house.audit).day(day, zone, unit=unit, account=account)


def _rows(found: DayStatement) -> list[tuple[str | int, ...]]:
    """A line for the opening, one for each type, one for the closing."""
    rows: list[tuple[str | int, ...]] = []
    for line in found.lines:
        named = line.unit, line.purpose
        rows.append((*named, "opening", "", "", "", line.opening))
        rows += [(*named, one.type, one.gained, one.given, one.entries, "")
                 for one in line.movements]  # fmt: skip
        rows.append((*named, "closing", "", "", "", line.closing))
    return rows


def _show(found: DayStatement) -> None:
    """Whose figures they are stands above them: names are long, and no digit may be left out."""
    if not found.lines:
        say("Nothing was held on that day.")
        return
    rows = [
        [f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in _rows(found)
    ]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)][NAMES:]
    told = [f"{found.day}, {found.begin.tzinfo}", _columns(COLUMNS[NAMES:], widths)]
    for row in rows:
        if row[NAMES] == "opening":
            told += ["", " ".join(row[:NAMES])]
        told.append(_columns(row[NAMES:], widths))
    shown.print("\n".join(told), markup=False, highlight=False, soft_wrap=True)
    if found.as_of and found.as_of < found.end:
        say("The day is not over: its closing is how things stand now.")


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    what, *figures = cells
    aligned = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
    return "  ".join(["  " + what.ljust(widths[0]), *aligned]).rstrip()
