"""The statement of a day: what was held at its begin, what moved, what was held at its end."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from strongroom.core.audit import seals
from strongroom.core.audit.accounts import account_named, require_unit
from strongroom.core.audit.reconcile import FEW
from strongroom.core.audit.reconcile import sql as reading
from strongroom.core.db import Database, Queries, Record
from strongroom.ids import HOUSE

sql = Queries(__package__, "daybook.sql")


class Movement(msgspec.Struct, frozen=True, rename="camel"):
    """All entries of one type in a day: what they brought, what they took, how many they were."""

    type: str
    gained: int
    given: int
    entries: int


def _movement(row: Record) -> Movement:
    # Sums of bigints come as numeric, yet are whole.
    return Movement(row["type"], int(row["gained"]), int(row["given"]), row["entries"])


class DayLine(msgspec.Struct, frozen=True, rename="camel"):
    """All accounts of one unit and purpose, or one account."""

    unit: str
    purpose: str
    opening: int
    movements: list[Movement]
    closing: int

    @property
    def moved(self) -> int:
        """What the day changed."""
        return sum(one.gained - one.given for one in self.movements)


class DayStatement(msgspec.Struct, frozen=True, rename="camel"):
    """A day from `begin` until before `end`, as it stood `as_of`: a day that is not over yet closes
    there. A transfer belongs to the day in which its transaction began."""

    day: date
    begin: datetime
    end: datetime
    as_of: datetime | None
    lines: list[DayLine]


class Daybook:
    """Reads statements of days. All of it is one snapshot; it takes as long as what moved since the
    day's begin."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def day(
        self,
        day: date,
        zone: ZoneInfo,
        *,
        unit: str | None = None,
        account: str | None = None,
    ) -> DayStatement:
        """The statement of a day in a zone; NoSuchAccount, NoSuchUnit. Lines in which nothing was
        ever held are left out."""
        begin = datetime.combine(day, time(), zone)
        end = datetime.combine(day + timedelta(days=1), time(), zone)
        async with (
            self._db.connection() as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            await db.fetch(reading.begin_reading)
            await db.fetch(seals.sql.read_by, *FEW)
            if unit is not None:
                await require_unit(db, unit)
            if account is None:
                rows = await db.fetch(sql.day_by_purpose, begin, end, unit, HOUSE)
            else:
                found = await account_named(db, account)
                rows = await db.fetch(sql.day_of_account, begin, end, found)
        lines: dict[tuple[str, str], DayLine] = {}
        for row in rows:
            named = row["unit"], row["purpose"]
            if named not in lines:
                lines[named] = DayLine(*named, int(row["opening"]), [], int(row["closing"]))
            if row["type"] is not None:
                lines[named].movements.append(_movement(row))
        told = [line for line in lines.values() if line.opening or line.closing or line.movements]
        return DayStatement(day, begin, end, rows[0]["as_of"] if rows else None, told)
