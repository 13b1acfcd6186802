"""The rows of the ticketing room, its accounts, and what others see of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from strongroom.core.commands import Kept, Reply
from strongroom.core.db import Queries, Table
from strongroom.core.ledger import AccountKey
from strongroom.money import VND

sql = Queries(__package__, "ticketing.sql")

EventStatus = Literal["DRAFT", "PUBLISHED", "ENDED", "CANCELLED"]
ReservationStatus = Literal["ACTIVE", "COMPLETED", "EXPIRED", "RELEASED"]
OrderStatus = Literal["PENDING", "PAID", "CANCELLED", "TIMEOUT"]
TicketStatus = Literal["UNUSED", "CHECKED_IN", "CANCELLED"]
Language = Literal["vi", "en"]
Method = Literal["MOMO", "ZALOPAY", "BANKING", "CARD"]
ScanResult = Literal["ADMITTED", "ALREADY_CHECKED_IN", "CANCELLED", "UNKNOWN", "FORGED"]
MailKind = Literal["TICKETS", "CANCELLED", "REFUNDED"]


@lru_cache(maxsize=4096)
def seats(ticket_type_id: UUID, purpose: Literal["free", "held", "sold"]) -> AccountKey:
    """Where the seats of a ticket type are; together always its quantity."""
    return AccountKey(ticket_type_id, purpose, unit(ticket_type_id))


def unit(ticket_type_id: UUID) -> str:
    return f"SEAT:{ticket_type_id}"


def organiser(event_id: UUID) -> AccountKey:
    """What an event has earned."""
    return AccountKey(event_id, "organiser", VND)


@dataclass(slots=True)
class Event:
    """An event. Held to change it; shared by whoever sells its seats."""

    id: UUID
    slug: str
    name: str
    description: str | None
    banner_url: str | None
    location: str
    starts_at: datetime
    ends_at: datetime
    status: EventStatus
    created_by: str


@dataclass(slots=True)
class TicketType:
    """A ticket type; its `free` account guards it. What it knows of its event is read with the
    event shared."""

    id: UUID
    event_id: UUID
    name: str
    price: int
    quantity: int
    supplies: int
    sale_starts_at: datetime | None
    sale_ends_at: datetime | None
    per_user_limit: int | None
    event_status: EventStatus = "DRAFT"
    event_ends_at: datetime | None = None

    def on_sale(self, now: datetime) -> bool:
        begun = self.sale_starts_at is None or self.sale_starts_at <= now
        over = self.sale_ends_at is not None and self.sale_ends_at <= now
        return begun and not over


class Line(NamedTuple):
    """So many seats of one ticket type in a reservation, at the price they were promised for."""

    reservation_id: UUID
    ticket_type_id: UUID
    user_id: UUID
    quantity: int
    unit_price: int
    per_user_limit: int | None


@dataclass(slots=True)
class Reservation:
    """Seats held for a user until `expires_at`, by the database's clock."""

    id: UUID
    user_id: UUID
    event_id: UUID
    status: ReservationStatus
    total_amount: int
    expires_at: datetime
    ended_at: datetime | None = None
    lines: list[Line] = field(default_factory=list)

    def alive(self, now: datetime) -> bool:
        """Dead the instant its time is over, whether or not the sweep has seen it."""
        return self.status == "ACTIVE" and self.expires_at > now


@dataclass(slots=True)
class Order:
    """What a reservation is bought with. `payment_id` is its newest payment."""

    id: UUID
    reservation_id: UUID
    user_id: UUID
    event_id: UUID
    status: OrderStatus
    total_amount: int
    owner_name: str | None
    language: Language
    payment_id: UUID
    late: Literal["SEATS_AGAIN", "REFUNDED"] | None = None
    paid_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(slots=True)
class AdmissionTicket:
    """One seat's ticket."""

    id: UUID
    order_id: UUID
    event_id: UUID
    ticket_type_id: UUID
    code: str
    owner_name: str | None
    status: TicketStatus = "UNUSED"
    checked_in_at: datetime | None = None
    gate: str | None = None


@dataclass(slots=True)
class Mail:
    """A mail that an order's buyer gets once. `amount` was paid, or goes back."""

    id: UUID
    order_id: UUID
    kind: MailKind
    amount: int
    sent_at: datetime | None = None


EVENTS = Kept(
    Event,
    Table(
        "ticketing.events",
        {
            "id": "uuid",
            "slug": "text",
            "name": "text",
            "description": "text",
            "banner_url": "text",
            "location": "text",
            "starts_at": "timestamptz",
            "ends_at": "timestamptz",
            "created_by": "text",
        },
    ),
    lock=sql.lock_events,
    update=sql.update_events,
    changes=(
        "slug",
        "name",
        "description",
        "banner_url",
        "location",
        "starts_at",
        "ends_at",
        "status",
    ),
)
TICKET_TYPES = Kept(
    TicketType,
    Table(
        "ticketing.ticket_types",
        {
            "id": "uuid",
            "event_id": "uuid",
            "name": "text",
            "price": "bigint",
            "quantity": "bigint",
            "supplies": "integer",
            "sale_starts_at": "timestamptz",
            "sale_ends_at": "timestamptz",
            "per_user_limit": "integer?",
        },
    ),
    lock=sql.share_ticket_types,
    update=sql.update_ticket_types,
    changes=(
        "name",
        "price",
        "quantity",
        "supplies",
        "sale_starts_at",
        "sale_ends_at",
        "per_user_limit",
    ),
)
RESERVATIONS = Kept(
    Reservation,
    Table(
        "ticketing.reservations",
        {
            "id": "uuid",
            "user_id": "uuid",
            "event_id": "uuid",
            "total_amount": "bigint",
            "expires_at": "timestamptz",
        },
    ),
    lock=sql.lock_reservations,
    update=sql.update_reservations,
    changes=("status", "ended_at"),
)
LINES = Table(
    "ticketing.reservation_lines",
    {
        "reservation_id": "uuid",
        "ticket_type_id": "uuid",
        "user_id": "uuid",
        "quantity": "bigint",
        "unit_price": "bigint",
        "per_user_limit": "integer?",
    },
)
ORDERS = Kept(
    Order,
    Table(
        "ticketing.orders",
        {
            "id": "uuid",
            "reservation_id": "uuid",
            "user_id": "uuid",
            "event_id": "uuid",
            "status": "text",
            "total_amount": "bigint",
            "owner_name": "text",
            "language": "text",
            "payment_id": "uuid",
            "paid_at": "timestamptz",
        },
    ),
    lock=sql.lock_orders,
    update=sql.update_orders,
    changes=("status", "payment_id", "late", "paid_at"),
)
ITEMS = Table(
    "ticketing.order_items",
    {"order_id": "uuid", "ticket_type_id": "uuid", "quantity": "bigint", "unit_price": "bigint"},
)
TICKETS = Kept(
    AdmissionTicket,
    Table(
        "ticketing.tickets",
        {
            "id": "uuid",
            "order_id": "uuid",
            "event_id": "uuid",
            "ticket_type_id": "uuid",
            "code": "text",
            "owner_name": "text",
        },
    ),
    lock=sql.lock_tickets,
    update=sql.update_tickets,
    changes=("status", "checked_in_at", "gate"),
)
SCANS = Table(
    "ticketing.scans",
    {
        "id": "uuid",
        "scan_key": "text",
        "ticket_id": "uuid?",
        "event_id": "uuid?",
        "code": "text",
        "gate": "text",
        "result": "text",
        "offline": "boolean",
        "scanned_at": "timestamptz",
        "scanned_by": "text",
    },
)
MAILS = Kept(
    Mail,
    Table(
        "ticketing.mails", {"id": "uuid", "order_id": "uuid", "kind": "text", "amount": "bigint"}
    ),
    lock=sql.lock_mails,
    update=sql.update_mails,
    changes=("sent_at",),
)


class TicketTypeSeen(Reply, frozen=True, kw_only=True):
    """A ticket type as everybody sees it; `available` as of `as_of`, and never a promise."""

    ticket_type_id: UUID
    name: str
    price: int
    quantity: int
    available: int
    as_of: datetime
    sale_starts_at: datetime | None = None
    sale_ends_at: datetime | None = None
    per_user_limit: int | None = None

    @property
    def subject(self) -> UUID:
        return self.ticket_type_id


class EventSeen(Reply, frozen=True, kw_only=True):
    """An event with its ticket types, the cheapest first."""

    event_id: UUID
    slug: str
    name: str
    description: str | None
    banner_url: str | None
    location: str
    starts_at: datetime
    ends_at: datetime
    status: EventStatus
    ticket_types: list[TicketTypeSeen]

    @property
    def subject(self) -> UUID:
        return self.event_id


class LineSeen(Reply, frozen=True):
    """So many seats of a ticket type, at the price that holds for them."""

    ticket_type_id: UUID
    quantity: int
    unit_price: int


class ReservationSeen(Reply, frozen=True, kw_only=True):
    """Seats held until `expires_at`."""

    reservation_id: UUID
    event_id: UUID
    status: ReservationStatus
    expires_at: datetime
    total_amount: int
    items: list[LineSeen]

    @property
    def subject(self) -> UUID:
        return self.reservation_id


def reservation_seen(reservation: Reservation) -> ReservationSeen:
    return ReservationSeen(
        reservation_id=reservation.id,
        event_id=reservation.event_id,
        status=reservation.status,
        expires_at=reservation.expires_at,
        total_amount=reservation.total_amount,
        items=[LineSeen(x.ticket_type_id, x.quantity, x.unit_price) for x in reservation.lines],
    )


class PaymentSeen(Reply, frozen=True, kw_only=True, omit_defaults=True):
    """How an order is paid. `redirect_url` leads to the provider while that is open; `refunded`
    is what went back, or is on its way."""

    method: Method
    status: Literal["PENDING", "SUCCESS", "FAILED", "REFUNDED"]
    redirect_url: str | msgspec.UnsetType = msgspec.UNSET
    refunded: int | msgspec.UnsetType = msgspec.UNSET


class OrderAccepted(Reply, frozen=True):
    """An order waits for its payment, or is paid where nothing is due."""

    order_id: UUID
    status: OrderStatus
    total_amount: int
    payment: PaymentSeen

    @property
    def subject(self) -> UUID:
        return self.order_id
