"""What ticketing's writes take, and how it becomes commands."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import unquote
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from strongroom.apps.ticketing.codes import PREFIX, BadPass, Verifier, normalise
from strongroom.apps.ticketing.door import CheckIn, OfflineScan, RecordScans
from strongroom.apps.ticketing.events import (
    MOST_SEATS,
    AddTicketType,
    CreateEvent,
    EditEvent,
    EditTicketType,
)
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReserveSeats
from strongroom.apps.ticketing.rows import Language, Method
from strongroom.doors.http.bodies import Body
from strongroom.doors.http.fields import PRINTABLE, ItemKey, Moment, Name
from strongroom.doors.http.payment_routes import preferred
from strongroom.doors.http.routing import Call
from strongroom.errors import invalid
from strongroom.money import MAX_AMOUNT

MOST_LINES = 20
"""Ticket types in one reservation: an event's page rarely has more."""

MOST_SCANS = 5_000
"""In one upload; a gate that was cut off for an evening has scanned fewer."""

CALENDAR = (datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
"""Moments outside lie beyond what some time zone, or the database's epoch, can say."""

LONGEST_CODE = 100
"""Kept of what was scanned and is no code."""

_TEXT = (
    r"[^<>\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

Description = Annotated[str, Meta(max_length=10_000, pattern=rf"^(?![=+@]){_TEXT}*$")]
"""As a name, with line breaks and tabs."""

# `$` alone also matches before a last line break.
Slug = Annotated[str, Meta(max_length=100, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*(?!\n)$")]
# `/{2}`: what looks like an address on the reference page would be one to load from.
BannerUrl = Annotated[
    str,
    Meta(
        max_length=500, pattern=r"^https:/{2}[A-Za-z0-9.-]+(:[0-9]{1,5})?([/?#][!#-;=?-~]*)?(?!\n)$"
    ),
]
Price = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
Seats = Annotated[int, Meta(ge=0, le=MOST_SEATS)]
Wanted = Annotated[int, Meta(ge=1, le=MOST_SEATS)]
Gate = Annotated[str, Meta(min_length=1, max_length=100, pattern=PRINTABLE)]
Scanned = Annotated[str, Meta(min_length=1, max_length=300, pattern=r"^[ -~]*(?!\n)$")]
"""A code or a pass: plain letters, whatever was read."""


class EventBody(Body):
    name: Name
    location: Name
    starts_at: Moment
    ends_at: Moment
    slug: Slug | None = None
    description: Description | None = None
    banner_url: BannerUrl | None = None


class EventChange(Body):
    """What is given changes; null clears what may be missing."""

    name: Name | UnsetType = UNSET
    location: Name | UnsetType = UNSET
    starts_at: Moment | UnsetType = UNSET
    ends_at: Moment | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    banner_url: BannerUrl | UnsetType | None = UNSET


class TicketTypeBody(Body):
    name: Name
    price: Price
    quantity: Seats
    sale_starts_at: Moment | None = None
    sale_ends_at: Moment | None = None
    per_user_limit: Wanted | None = None


class TicketTypeChange(Body):
    """What is given changes; null lifts a limit or a window."""

    name: Name | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    quantity: Seats | UnsetType = UNSET
    sale_starts_at: Moment | UnsetType | None = UNSET
    sale_ends_at: Moment | UnsetType | None = UNSET
    per_user_limit: Wanted | UnsetType | None = UNSET


class LineBody(Body):
    ticket_type_id: UUID
    quantity: Wanted


class ReserveBody(Body):
    """Either one ticket type, or `items` of one event."""

    ticket_type_id: UUID | UnsetType = UNSET
    quantity: Wanted | UnsetType = UNSET
    items: Annotated[list[LineBody], Meta(min_length=1, max_length=MOST_LINES)] | UnsetType = UNSET


class CompleteBody(Body):
    payment_method: Method
    owner_name: Name | None = None
    language: Language | None = None


class CheckInBody(Body):
    gate: Gate | None = None


class ScanBody(Body):
    """`code` as it was typed, or `qr` as it was read."""

    scan_key: ItemKey
    scanned_at: Moment
    code: Scanned | UnsetType = UNSET
    qr: Scanned | UnsetType = UNSET
    gate: Gate | None = None


class ScansBody(Body):
    scans: Annotated[list[ScanBody], Meta(min_length=1, max_length=MOST_SCANS)]


# Checked beyond the schema --------------------------------------------------------------------


def _fields(body: Body) -> dict[str, Any]:
    """The body's fields by their names here, its moments in UTC and within the calendar."""
    found = msgspec.structs.asdict(body)
    for name, field in zip(body.__struct_fields__, body.__struct_encode_fields__, strict=True):
        if isinstance(found[name], datetime):
            found[name] = _moment(found[name], field)
    return found


def _moment(moment: datetime, field: str) -> datetime:
    if not CALENDAR[0] <= moment < CALENDAR[1]:
        raise invalid(field, "lies too far away")
    return moment.astimezone(UTC)


# Commands ---------------------------------------------------------------------------------------


def create_event(call: Call) -> CreateEvent:
    return CreateEvent(**_fields(call.body))


def edit_event(call: Call) -> EditEvent:
    return EditEvent(call.id("id"), **_fields(call.body))


def add_ticket_type(call: Call) -> AddTicketType:
    return AddTicketType(call.id("id"), **_fields(call.body))


def edit_ticket_type(call: Call) -> EditTicketType:
    return EditTicketType(call.id("id"), call.id("ticketTypeId"), **_fields(call.body))


def reserve(call: Call) -> ReserveSeats:
    settings = call.house.settings
    return ReserveSeats(
        call.user_id,
        _wanted(call.body),
        settings.reservation_ttl_s,
        settings.reservations_per_event == "one",
    )


def _wanted(body: ReserveBody) -> tuple[tuple[UUID, int], ...]:
    one = body.ticket_type_id, body.quantity
    if isinstance(body.items, list) and one == (UNSET, UNSET):
        return tuple((line.ticket_type_id, line.quantity) for line in body.items)
    type, quantity = one
    if body.items is UNSET and isinstance(type, UUID) and isinstance(quantity, int):
        return ((type, quantity),)
    raise invalid("items", "stand alone; else there are ticketTypeId and quantity, both")


def complete(call: Call) -> CompleteBooking:
    body: CompleteBody = call.body
    call.house.payments.check_method(body.payment_method)
    return CompleteBooking(
        call.user_id,
        call.id("reservationId"),
        body.payment_method,
        body.owner_name,
        body.language or _language(call),
    )


def _language(call: Call) -> Language:
    """What the caller prefers, Vietnamese when that says neither."""
    accepted = call.headers.get(b"accept-language", b"").decode("latin-1")
    return preferred(f"{accepted},vi;q=0.001")


# The door ---------------------------------------------------------------------------------------


def check_in(call: Call) -> CheckIn:
    """Takes a code in any spelling, or a pass, which has to be genuine."""
    scanned = unquote(call.params["code"])
    try:
        return CheckIn(_code(call.house.verifier, scanned), call.body.gate)
    except BadPass as error:
        return CheckIn(_plain(scanned), call.body.gate, error.code)


async def record_scans(call: Call) -> RecordScans:
    """Signatures are checked beside the event loop: a full upload takes a second of a core."""
    body: ScansBody = call.body
    for scan in body.scans:
        if (scan.code is UNSET) == (scan.qr is UNSET):
            raise invalid("scans", "have either code or qr")
    return RecordScans(await asyncio.to_thread(_offline, call.house.verifier, body.scans))


def _code(verifier: Verifier, scanned: str) -> str:
    """The code that was typed or read; what is none is looked up as well, and kept as a scan."""
    if scanned.strip().upper().startswith(PREFIX):
        return verifier.verify(scanned).code
    code = normalise(scanned)
    return code or _plain(scanned)


def _plain(scanned: str) -> str:
    return "".join(filter(str.isprintable, scanned))[:LONGEST_CODE]


def _offline(verifier: Verifier, scans: Sequence[ScanBody]) -> tuple[OfflineScan, ...]:
    return tuple(_scan(verifier, scan) for scan in scans)


def _scan(verifier: Verifier, scan: ScanBody) -> OfflineScan:
    at = _moment(scan.scanned_at, "scannedAt")
    read = scan.code if isinstance(scan.code, str) else str(scan.qr)
    if isinstance(scan.code, str) and not read.strip().upper().startswith(PREFIX):
        return OfflineScan(scan.scan_key, read, at, scan.gate)
    try:
        code, forged = verifier.verify(read).code, False
    except BadPass:
        code, forged = read[:LONGEST_CODE], True
    return OfflineScan(scan.scan_key, code, at, scan.gate, forged)
