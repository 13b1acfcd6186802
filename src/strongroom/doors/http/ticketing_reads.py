"""How ticketing's reads are asked and answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, get_args
from urllib.parse import unquote
from uuid import UUID

import msgspec
from msgspec import Meta

from strongroom.apps.ticketing.catalogue import ALL, PUBLIC, Asked, place_of
from strongroom.apps.ticketing.codes import normalise
from strongroom.apps.ticketing.door import TicketCancelled
from strongroom.apps.ticketing.papers import (
    Booking,
    calendar_entry,
    html_tickets,
    qr_png,
    qr_svg,
)
from strongroom.apps.ticketing.reading import Paper
from strongroom.apps.ticketing.rows import EventSeen, EventStatus, ReservationSeen
from strongroom.apps.ticketing.seen import (
    Attendee,
    Attendees,
    Bookings,
    DoubleEntries,
    Events,
    OrderSeen,
    PublicKey,
    Sales,
)
from strongroom.doors.http.policies import OPENER, page_policy, style_of
from strongroom.doors.http.questions import is_operator, words
from strongroom.doors.http.routing import Call, OperatorOnly, Raw
from strongroom.doors.http.sheets import MEDIA, sheet
from strongroom.doors.http.ticketing_bodies import CALENDAR
from strongroom.errors import NotFound, invalid

MOMENT = Annotated[datetime, Meta(tz=True)]

PRIVATE = ((b"cache-control", b"private, no-store"),)
"""A ticket admits whoever shows it."""

COLUMNS = (
    "ticket_id",
    "code",
    "ticket_type",
    "owner_name",
    "status",
    "checked_in_at",
    "gate",
    "order_id",
    "buyer_name",
    "buyer_email",
)
"""Of the attendee list as a file."""


# Events -----------------------------------------------------------------------------------------


def _moment(call: Call, name: str) -> datetime | None:
    """A moment in the query. A plus sign that was not encoded has come as a space."""
    text = call.query.get(name)
    if text is None:
        return None
    try:
        moment = msgspec.convert(text.replace(" ", "+"), MOMENT)
    except msgspec.ValidationError:
        raise invalid(name, "is a time with a zone, as 2026-09-01T00:00:00Z") from None
    if not CALENDAR[0] <= moment < CALENDAR[1]:
        raise invalid(name, "lies too far away")
    return moment.astimezone(UTC)


def _statuses(call: Call) -> tuple[EventStatus, ...]:
    status = call.query.get("status")
    if status is None:
        return ALL if is_operator(call) else PUBLIC
    for one in ALL:
        if one == status:
            if one not in PUBLIC and not is_operator(call):
                raise OperatorOnly()
            return (one,)
    raise invalid("status", f"is one of {', '.join(get_args(EventStatus))}")


async def events(call: Call) -> Events:
    cursor = call.query.get("cursor")
    asked = Asked(
        words=words(call),
        since=_moment(call, "from"),
        until=_moment(call, "to"),
        statuses=_statuses(call),
        after=None if cursor is None else place_of(cursor),
        limit=call.number("limit", 50, 1, 200),
    )
    return await call.house.ticketing.catalogue.page(asked)


async def event(call: Call) -> EventSeen:
    """A draft is there for operators alone."""
    found = await call.house.ticketing.catalogue.event(call.params["id"])
    if found.status == "DRAFT" and not is_operator(call):
        raise NotFound()
    return found


# Bookings ---------------------------------------------------------------------------------------


async def bookings(call: Call) -> Bookings:
    limit = call.number("limit", 20, 1, 200)
    items = await call.house.ticketing.bookings(call.user_id, call.cursor(), limit)
    return Bookings(items, items[-1].order_id if len(items) == limit else None)


async def order(call: Call) -> OrderSeen:
    return await call.house.ticketing.order(call.id("orderId"), _owner(call))


async def reservation(call: Call) -> ReservationSeen:
    return await call.house.ticketing.reservation(call.user_id, call.id("reservationId"))


def _owner(call: Call) -> UUID | None:
    """Whose things are shown: one's own, an operator anybody's."""
    return None if is_operator(call) else call.user_id


# For operators ----------------------------------------------------------------------------------


async def attendees(call: Call) -> Attendees | Raw:
    event_id, kind = call.id("id"), call.query.get("format", "json")
    if kind == "csv":
        return await _attendees_file(call, event_id)
    if kind != "json":
        raise invalid("format", "is json or csv")
    limit = call.number("limit", 50, 1, 200)
    items = await call.house.ticketing.reports.attendees(event_id, call.cursor(), limit)
    return Attendees(items, items[-1].ticket_id if len(items) == limit else None)


async def _attendees_file(call: Call, event_id: UUID) -> Raw:
    reports = call.house.ticketing.reports
    name = await reports.slug(event_id)
    headings = [Attendee.__struct_encode_fields__[_place(column)] for column in COLUMNS]

    async def portions() -> AsyncIterator[bytes]:
        yield sheet([headings], first=True)
        async for page in reports.all_attendees(event_id):
            yield sheet([getattr(one, column) for column in COLUMNS] for one in page)

    disposition = f'attachment; filename="attendees-{name}.csv"'.encode()
    return Raw(MEDIA, portions(), (*PRIVATE, (b"content-disposition", disposition)))


def _place(column: str) -> int:
    return Attendee.__struct_fields__.index(column)


async def sales(call: Call) -> Sales:
    return await call.house.ticketing.reports.sales(call.id("id"))


async def double_entries(call: Call) -> DoubleEntries:
    limit = call.number("limit", 50, 1, 200)
    reports = call.house.ticketing.reports
    items = await reports.double_entries(call.id("id"), call.cursor(), limit)
    return DoubleEntries(items, items[-1].ticket_id if len(items) == limit else None)


# Papers -----------------------------------------------------------------------------------------


async def public_key(call: Call) -> PublicKey:
    return call.house.ticketing.public_key


Draw = Callable[[Call, Booking], Awaitable[bytes]]


async def _paper(call: Call) -> Paper:
    code = normalise(unquote(call.params["code"]))
    if code is None:
        raise NotFound()
    return await call.house.ticketing.paper(code, _owner(call))


async def _file(call: Call, *, media: str, ending: str, draw: Draw) -> Raw:
    """A paper that admits; there is none of a ticket that was called off."""
    paper = await _paper(call)
    if paper.ticket_status == "CANCELLED":
        raise TicketCancelled()
    code = paper.booking.admissions[0].code
    drawn = await draw(call, paper.booking)
    disposition = f'inline; filename="ticket-{code}.{ending}"'.encode()
    headers = [*PRIVATE, (b"content-disposition", disposition)]
    if ending == "html":  # its banner may lie anywhere
        headers += (page_policy(style_of(drawn), images="https:"), OPENER)
    return Raw(media, drawn, headers)


async def _svg(_: Call, booking: Booking) -> bytes:
    drawn = await asyncio.to_thread(qr_svg, booking.admissions[0].qr)
    # On its own it has to say what it is; within a page it does not.
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).encode()


async def _png(_: Call, booking: Booking) -> bytes:
    return await asyncio.to_thread(qr_png, booking.admissions[0].qr)


async def _html(_: Call, booking: Booking) -> bytes:
    return (await asyncio.to_thread(html_tickets, booking)).encode()


async def _pdf(call: Call, booking: Booking) -> bytes:
    return await call.house.ticketing.pdf(booking)


async def _calendar(call: Call) -> Raw:
    """Of a ticket that was called off too: it crosses the entry out."""
    paper = await _paper(call)
    off = "CANCELLED" in (paper.ticket_status, paper.event_status)
    entry = calendar_entry(paper.booking, paper.changed_at, cancelled=off)
    named = (b"content-disposition", b'attachment; filename="event.ics"')
    return Raw("text/calendar; charset=utf-8", entry, (*PRIVATE, named))


FILES: dict[str, tuple[str, Callable[[Call], Awaitable[Raw]]]] = {
    "svg": ("The QR", partial(_file, media="image/svg+xml", ending="svg", draw=_svg)),
    "png": ("The QR as a picture", partial(_file, media="image/png", ending="png", draw=_png)),
    "html": (
        "The page",
        partial(_file, media="text/html; charset=utf-8", ending="html", draw=_html),
    ),
    "pdf": (
        "The page for printing",
        partial(_file, media="application/pdf", ending="pdf", draw=_pdf),
    ),
    "ics": ("The calendar entry", _calendar),
}
"""What there is of a ticket, by the ending of its path."""
