"""What operators ask of an event: who comes, what was sold, who came in twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from uuid import UUID

from strongroom.apps.ticketing.papers import ZONE
from strongroom.apps.ticketing.rows import organiser
from strongroom.apps.ticketing.seen import (
    Attendee,
    DaySales,
    DoubleEntry,
    Entrance,
    Refunds,
    Sales,
    SalesTotals,
    TypeSales,
    sql,
)
from strongroom.core.db import Database, Record
from strongroom.core.identity import User
from strongroom.errors import NotFound

PAGE = 1_000
"""Attendees read at a time for a file: some hundred kilobytes, however many there are."""

People = Callable[[list[UUID]], Awaitable[Mapping[UUID, User]]]


class Reports:
    """Reads committed rows, holds no lock. An event that is not there is NotFound."""

    def __init__(self, database: Database, people: People) -> None:
        self._db, self._people = database, people

    async def slug(self, event_id: UUID) -> str:
        """What an event's files are called."""
        slug: str | None = await self._db.fetchval(sql.slug_of_event, event_id)
        if slug is None:
            raise NotFound()
        return slug

    async def attendees(self, event_id: UUID, after: UUID | None, limit: int) -> list[Attendee]:
        """The event's tickets in the order they were sold, those behind `after`."""
        await self.slug(event_id)
        return await self._attendees(event_id, after, limit)

    async def all_attendees(self, event_id: UUID) -> AsyncIterator[list[Attendee]]:
        """All of them, a portion at a time."""
        after: UUID | None = None
        while page := await self._attendees(event_id, after, PAGE):
            yield page
            after = page[-1].ticket_id

    async def _attendees(self, event_id: UUID, after: UUID | None, limit: int) -> list[Attendee]:
        rows = await self._db.fetch(sql.attendees, event_id, after, limit)
        people = await self._people(sorted({row["user_id"] for row in rows}))
        return [_attendee(row, people.get(row["user_id"])) for row in rows]

    async def sales(self, event_id: UUID) -> Sales:
        """What was sold, in one snapshot of rows and ledger."""
        await self.slug(event_id)
        async with (
            self._db.connection() as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            types = await db.fetch(sql.sales_by_type, event_id)
            days = await db.fetch(sql.sales_by_day, event_id, ZONE.key)
            money = await db.fetchrow(sql.money_of_event, *organiser(event_id))
        assert money is not None
        items = [TypeSales(*row) for row in types]
        totals = SalesTotals(
            *(sum(getattr(item, name) for item in items) for name in SalesTotals.__struct_fields__)
        )
        return Sales(
            event_id=event_id,
            as_of=money["as_of"],
            items=items,
            totals=totals,
            refunds=Refunds(money["refunds"], money["returned"]),
            days=[DaySales(*row) for row in days],
            earned=money["balance"],
            agrees=totals.revenue == money["balance"],
        )

    async def double_entries(
        self, event_id: UUID, after: UUID | None, limit: int
    ) -> list[DoubleEntry]:
        """Tickets that let somebody in more than once, those behind `after`."""
        await self.slug(event_id)
        rows = await self._db.fetch(sql.double_entries, event_id, after, limit)
        return [_double_entry(list(scans)) for _, scans in groupby(rows, lambda row: row["id"])]


def _attendee(row: Record, buyer: User | None) -> Attendee:
    return Attendee(
        ticket_id=row["id"],
        code=row["code"],
        ticket_type_id=row["ticket_type_id"],
        ticket_type=row["type_name"],
        owner_name=row["owner_name"],
        status=row["status"],
        checked_in_at=row["checked_in_at"],
        gate=row["gate"],
        order_id=row["order_id"],
        buyer_name=buyer.full_name if buyer else None,
        buyer_email=buyer.email if buyer else None,
    )


def _double_entry(scans: Sequence[Record]) -> DoubleEntry:
    first = scans[0]
    return DoubleEntry(
        first["id"],
        first["code"],
        first["ticket_type_id"],
        first["owner_name"],
        [
            Entrance(scan["gate"], scan["scanned_at"], scan["offline"], scan["scanned_by"])
            for scan in scans
        ],
    )
