"""What is shown of bookings, and to operators of their events; the queries that read it."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from strongroom.apps.ticketing.rows import (
    EventSeen,
    Language,
    LineSeen,
    OrderStatus,
    PaymentSeen,
    TicketStatus,
)
from strongroom.core.commands import Reply
from strongroom.core.db import Queries

sql = Queries(__package__, "reading.sql")


class Events(Reply, frozen=True):
    """A page of events, the next ones first; of a search, the best matches first."""

    items: list[EventSeen]
    next_cursor: str | None


class TicketSeen(Reply, frozen=True):
    """A ticket in its owner's hand; `qr` is the signed text of its QR."""

    code: str
    ticket_type_id: UUID
    status: TicketStatus
    qr: str


class BookingSeen(Reply, frozen=True, kw_only=True):
    """An order with its payment and its tickets, which are there once it is paid."""

    order_id: UUID
    status: OrderStatus
    total_amount: int
    items: list[LineSeen]
    payment: PaymentSeen
    tickets: list[TicketSeen]
    created_at: datetime


class OrderSeen(BookingSeen, frozen=True, kw_only=True):
    """One order in full. `late` says what was decided when its payment came too late."""

    event_id: UUID
    reservation_id: UUID
    user_id: UUID
    owner_name: str | None
    language: Language
    late: str | None
    paid_at: datetime | None


class Bookings(Reply, frozen=True):
    """A page of one's own bookings, newest first."""

    items: list[BookingSeen]
    next_cursor: UUID | None


class Attendee(Reply, frozen=True, kw_only=True):
    """A ticket and who holds it; `buyer_` is who paid."""

    ticket_id: UUID
    code: str
    ticket_type_id: UUID
    ticket_type: str
    owner_name: str | None
    status: TicketStatus
    checked_in_at: datetime | None
    gate: str | None
    order_id: UUID
    buyer_name: str | None
    buyer_email: str | None


class Attendees(Reply, frozen=True):
    """A page of an event's tickets, in the order they were sold."""

    items: list[Attendee]
    next_cursor: UUID | None


class TypeSales(Reply, frozen=True):
    """What became of a ticket type's seats, and what it has earned."""

    ticket_type_id: UUID
    name: str
    price: int
    quantity: int
    free: int
    held: int
    sold: int
    checked_in: int
    revenue: int


class SalesTotals(Reply, frozen=True):
    """The sums over all ticket types."""

    quantity: int
    free: int
    held: int
    sold: int
    checked_in: int
    revenue: int


class Refunds(Reply, frozen=True):
    """How many payments went back, and how much."""

    payments: int
    amount: int


class DaySales(Reply, frozen=True):
    """What was paid on a day, by the clocks of Vietnam, and was not cancelled since."""

    day: date
    orders: int
    seats: int
    revenue: int


class Sales(Reply, frozen=True, kw_only=True):
    """An event's sales in one snapshot. `revenue` is added up from paid orders, `earned` is the
    organiser's account in the ledger; `agrees` says that they are equal."""

    event_id: UUID
    as_of: datetime
    items: list[TypeSales]
    totals: SalesTotals
    refunds: Refunds
    days: list[DaySales]
    earned: int
    agrees: bool


class Entrance(Reply, frozen=True):
    """One entry with a ticket."""

    gate: str | None
    scanned_at: datetime
    offline: bool
    scanned_by: str


class DoubleEntry(Reply, frozen=True):
    """A ticket that let somebody in more than once, the first entry first."""

    ticket_id: UUID
    code: str
    ticket_type_id: UUID
    owner_name: str | None
    entries: list[Entrance]


class DoubleEntries(Reply, frozen=True):
    """A page of tickets that let somebody in more than once."""

    items: list[DoubleEntry]
    next_cursor: UUID | None


class PublicKey(Reply, frozen=True):
    """The key that passes are verified with: `key` in base64url, `pem` for other programs."""

    algorithm: str
    key_id: str
    key: str
    pem: str
