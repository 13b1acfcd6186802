"""The life of an event: DRAFT → PUBLISHED → ENDED or CANCELLED, and its ticket types."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from msgspec import UNSET, UnsetType

from strongroom.apps.ticketing.rows import (
    EVENTS,
    TICKET_TYPES,
    Event,
    EventSeen,
    TicketType,
    TicketTypeSeen,
    organiser,
    seats,
    sql,
    unit,
)
from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.ledger import open_accounts, world
from strongroom.errors import NotFound, Refused, invalid, wrong_state

MOST_SEATS = 1_000_000
"""Of one ticket type: ten times the largest stadium."""

MOST_TICKET_TYPES = 100
"""Of one event; its page shows them all."""

FAR = datetime(9999, 1, 1, tzinfo=UTC)
"""Beyond this a time zone leads out of the calendar."""

SUFFIX_BYTES = 3
"""Tells events of the same name apart."""


class SlugTaken(Refused):
    """Another event has this slug. Choose another, or leave it out."""


class NoTicketTypes(Refused):
    """An event needs a ticket type before it can be published."""


class TooManyTicketTypes(Refused):
    """An event has a hundred ticket types at most."""


class SeatsTaken(Refused):
    """More seats are held and sold than would be left."""


class EventMoved(Reply, frozen=True):
    """An event took a step, or was edited."""

    event_id: UUID


class TicketTypeMoved(Reply, frozen=True):
    """A ticket type was added or edited."""

    event_id: UUID
    ticket_type_id: UUID
    quantity: int


def slug_of(name: str) -> str:
    """The name in plain letters, words joined by hyphens; may be empty.

    >>> slug_of("Đêm nhạc Trịnh, Hà Nội")
    'dem-nhac-trinh-ha-noi'
    """
    plain = unicodedata.normalize("NFKD", name.lower().replace("đ", "d"))
    return (
        re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode())
        .strip("-")[:80]
        .strip("-")
    )


def _check_times(work: Work, starts_at: datetime, ends_at: datetime) -> None:
    if not starts_at < ends_at < FAR:
        raise invalid("endsAt", "lies before startsAt, or too far ahead")
    if ends_at <= work.now:
        raise invalid("endsAt", "lies in the past")


def _is_id(slug: str) -> bool:
    """An event is found by its slug or its id, in any form: one must not be taken for the other."""
    try:
        UUID(slug)
    except ValueError:
        return False
    return True


def _check_slug(work: Work, slug: str) -> None:
    if _is_id(slug):
        raise invalid("slug", "must not look like an id")
    if slug in work.noted["slugs"]:
        raise SlugTaken()


def event_seen(event: Event, types: Iterable[Any]) -> EventSeen:
    """An event with its ticket types, rows of `types_of_events`."""
    return EventSeen(
        event_id=event.id,
        slug=event.slug,
        name=event.name,
        description=event.description,
        banner_url=event.banner_url,
        location=event.location,
        starts_at=event.starts_at.astimezone(UTC),
        ends_at=event.ends_at.astimezone(UTC),
        status=event.status,
        ticket_types=[
            TicketTypeSeen(
                ticket_type_id=row["id"],
                name=row["name"],
                price=row["price"],
                quantity=row["quantity"],
                available=row["available"],
                as_of=row["as_of"],
                sale_starts_at=row["sale_starts_at"],
                sale_ends_at=row["sale_ends_at"],
                per_user_limit=row["per_user_limit"],
            )
            for row in types
        ],
    )


@dataclass(frozen=True, slots=True)
class CreateEvent(Command):
    """Drafts an event. Without a slug it gets one from its name."""

    name: str
    location: str
    starts_at: datetime
    ends_at: datetime
    slug: str | None = None
    description: str | None = None
    banner_url: str | None = None

    reply = EventSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CreateEvent]) -> None:
        wanted = sorted({new.slug or slug_of(new.name) for new in batch})
        work.noted["slugs"] = {row[0] for row in await work.db.fetch(sql.slugs_taken, wanted)}

    def decide(self, work: Work) -> EventSeen:
        _check_times(work, self.starts_at, self.ends_at)
        id = work.new_id()
        slug = self._free_slug(work)
        event = Event(
            id=id,
            slug=slug,
            name=self.name,
            description=self.description,
            banner_url=self.banner_url,
            location=self.location,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            status="DRAFT",
            created_by=work.by,
        )
        work.noted["slugs"].add(slug)
        work.add(EVENTS, event)
        work.run_at_end(sql.catalogue_changed)
        work.emit("ticketing.EventDrafted", id, EventMoved(id))
        return event_seen(event, ())

    def _free_slug(self, work: Work) -> str:
        taken: set[str] = work.noted["slugs"]
        if self.slug:
            _check_slug(work, self.slug)
            return self.slug
        slug = slug_of(self.name)
        if _is_id(slug):
            slug = f"event-{slug}"
        if slug and slug not in taken:
            return slug
        return f"{slug or 'event'}-{work.new_secret(SUFFIX_BYTES).hex()}"


class _Change(Command):
    """A change of events that are there: holds the event, and shows its ticket types."""

    event_id: UUID

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Self]) -> None:
        ids = sorted({change.event_id for change in batch})
        await work.lock(EVENTS, ids)
        types: dict[UUID, list[Any]] = {}
        for row in await work.db.fetch(sql.types_of_events, ids):
            types.setdefault(row["event_id"], []).append(row)
        work.noted["types"] = types

    def types(self, work: Work) -> list[Any]:
        found: dict[UUID, list[Any]] = work.noted["types"]
        return found.get(self.event_id, [])

    def changed(self, work: Work, event: Event, what: str) -> EventSeen:
        work.change(EVENTS, event)
        work.run_at_end(sql.catalogue_changed)
        work.emit(f"ticketing.{what}", event.id, EventMoved(event.id))
        return event_seen(event, self.types(work))


@dataclass(frozen=True, slots=True)
class EditEvent(_Change):
    """Changes what is given of an event that is not over."""

    event_id: UUID
    slug: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    banner_url: str | UnsetType | None = UNSET
    location: str | UnsetType = UNSET
    starts_at: datetime | UnsetType = UNSET
    ends_at: datetime | UnsetType = UNSET

    reply = EventSeen
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[EditEvent]) -> None:
        await super(EditEvent, cls).fetch(work, batch)
        wanted = sorted({edit.slug for edit in batch if isinstance(edit.slug, str)})
        work.noted["slugs"] = {row[0] for row in await work.db.fetch(sql.slugs_taken, wanted)}

    def decide(self, work: Work) -> EventSeen:
        event = work.get(EVENTS, self.event_id)
        if event.status not in ("DRAFT", "PUBLISHED"):
            raise wrong_state(event.status)
        starts_at = event.starts_at if self.starts_at is UNSET else self.starts_at
        ends_at = event.ends_at if self.ends_at is UNSET else self.ends_at
        if self.starts_at is not UNSET or self.ends_at is not UNSET:
            _check_times(work, starts_at, ends_at)
        if self.slug is not UNSET and self.slug != event.slug:
            _check_slug(work, self.slug)
            work.noted["slugs"].add(self.slug)
            event.slug = self.slug
        event.starts_at, event.ends_at = starts_at, ends_at
        if self.name is not UNSET:
            event.name = self.name
        if self.description is not UNSET:
            event.description = self.description
        if self.banner_url is not UNSET:
            event.banner_url = self.banner_url
        if self.location is not UNSET:
            event.location = self.location
        return self.changed(work, event, "EventEdited")


@dataclass(frozen=True, slots=True)
class PublishEvent(_Change):
    """Shows an event to everybody; its seats are on sale in their windows."""

    event_id: UUID

    reply = EventSeen

    def decide(self, work: Work) -> EventSeen:
        event = work.get(EVENTS, self.event_id)
        if event.status != "DRAFT":
            raise wrong_state(event.status)
        if not self.types(work):
            raise NoTicketTypes()
        if event.ends_at <= work.now:
            raise invalid("endsAt", "lies in the past")
        event.status = "PUBLISHED"
        return self.changed(work, event, "EventPublished")


@dataclass(frozen=True, slots=True)
class CancelEvent(_Change):
    """Calls an event off. Its orders are cancelled and refunded by what follows."""

    event_id: UUID

    reply = EventSeen

    def decide(self, work: Work) -> EventSeen:
        event = work.get(EVENTS, self.event_id)
        if event.status not in ("DRAFT", "PUBLISHED"):
            raise wrong_state(event.status)
        event.status = "CANCELLED"
        return self.changed(work, event, "EventCancelled")


@dataclass(frozen=True, slots=True)
class EndEvent(_Change):
    """Ends a published event: nothing more is sold. Tickets stay good at the door."""

    event_id: UUID

    reply = EventSeen

    def decide(self, work: Work) -> EventSeen:
        event = work.get(EVENTS, self.event_id)
        if event.status != "PUBLISHED":
            raise wrong_state(event.status)
        event.status = "ENDED"
        return self.changed(work, event, "EventEnded")


@dataclass(frozen=True, slots=True)
class EndWhenOver(_Change):
    """Ends a published event whose time is over; any other it leaves as it is."""

    event_id: UUID

    reply = Nothing
    idempotent = True

    def decide(self, work: Work) -> Nothing:
        event = work.get(EVENTS, self.event_id)
        if event.status == "PUBLISHED" and event.ends_at <= work.now:
            event.status = "ENDED"
            self.changed(work, event, "EventEnded")
        return Nothing()


def _check_window(starts_at: datetime | None, ends_at: datetime | None) -> None:
    if starts_at and ends_at and not starts_at < ends_at < FAR:
        raise invalid("saleEndsAt", "lies before saleStartsAt, or too far ahead")


def _ticket_type_seen(work: Work, type: TicketType) -> TicketTypeSeen:
    return TicketTypeSeen(
        ticket_type_id=type.id,
        name=type.name,
        price=type.price,
        quantity=type.quantity,
        available=work.books[seats(type.id, "free")].balance,
        as_of=work.now,
        sale_starts_at=type.sale_starts_at,
        sale_ends_at=type.sale_ends_at,
        per_user_limit=type.per_user_limit,
    )


def _supply(work: Work, type: TicketType, quantity: int) -> None:
    """Brings seats into being, or takes free ones away, until there are `quantity`."""
    delta = quantity - type.quantity
    type.supplies += 1
    type.quantity = quantity
    free, outside = work.books[seats(type.id, "free")], work.books[world(unit(type.id))]
    source, target = (outside, free) if delta > 0 else (free, outside)
    work.books.move(
        work.new_id(),
        f"SUPPLY:{type.id}:{type.supplies}",
        source,
        target,
        abs(delta),
        ("SUPPLY", "SUPPLY"),
        by=work.by,
        reference=str(type.id),
    )


def _published(work: Work, type: TicketType, what: str) -> TicketTypeSeen:
    work.run_at_end(sql.catalogue_changed)
    moved = TicketTypeMoved(type.event_id, type.id, type.quantity)
    work.emit(f"ticketing.{what}", type.id, moved)
    return _ticket_type_seen(work, type)


@dataclass(frozen=True, slots=True)
class AddTicketType(Command):
    """Adds a ticket type to an event, with `quantity` seats."""

    event_id: UUID
    name: str
    price: int
    quantity: int
    sale_starts_at: datetime | None = None
    sale_ends_at: datetime | None = None
    per_user_limit: int | None = None

    reply = TicketTypeSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[AddTicketType]) -> None:
        events = sorted({new.event_id for new in batch})
        there = {row["id"] for row in await work.db.fetch(sql.read_events, events)}
        ids = [work.new_id() for new in batch if new.event_id in there]
        keys = [seats(id, "free") for id in ids]
        others = [seats(id, purpose) for id in ids for purpose in ("held", "sold")]
        if ids:
            earned = [organiser(event) for event in there]
            await open_accounts(work.db, keys + others + earned)
        await work.books.lock(work.db, keys + [world(unit(id)) for id in ids])
        await work.lock(EVENTS, events)
        rows = await work.db.fetch(sql.types_of_events, events)
        work.noted["counts"] = {
            event: sum(row["event_id"] == event for row in rows) for event in events
        }
        work.noted["ids"] = ids

    def decide(self, work: Work) -> TicketTypeSeen:
        event = work.get(EVENTS, self.event_id)
        if event.status not in ("DRAFT", "PUBLISHED"):
            raise wrong_state(event.status)
        _check_window(self.sale_starts_at, self.sale_ends_at)
        if work.noted["counts"][event.id] >= MOST_TICKET_TYPES:
            raise TooManyTicketTypes()
        work.noted["counts"][event.id] += 1
        type = TicketType(
            id=work.noted["ids"].pop(),
            event_id=event.id,
            name=self.name,
            price=self.price,
            quantity=0,
            supplies=0,
            sale_starts_at=self.sale_starts_at,
            sale_ends_at=self.sale_ends_at,
            per_user_limit=self.per_user_limit,
        )
        if self.quantity:
            _supply(work, type, self.quantity)
        work.add(TICKET_TYPES, type)
        return _published(work, type, "TicketTypeAdded")


@dataclass(frozen=True, slots=True)
class EditTicketType(Command):
    """Changes what is given of a ticket type. A new price or limit holds for reservations to
    come; the quantity never falls below what is held and sold."""

    event_id: UUID
    ticket_type_id: UUID
    name: str | UnsetType = UNSET
    price: int | UnsetType = UNSET
    quantity: int | UnsetType = UNSET
    sale_starts_at: datetime | UnsetType | None = UNSET
    sale_ends_at: datetime | UnsetType | None = UNSET
    per_user_limit: int | UnsetType | None = UNSET

    reply = TicketTypeSeen
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[EditTicketType]) -> None:
        ids = sorted({edit.ticket_type_id for edit in batch})
        known = [row["id"] for row in await work.db.fetch(sql.read_ticket_types, ids)]
        keys = [seats(id, "free") for id in known] + [world(unit(id)) for id in known]
        await work.books.lock(work.db, keys)
        await work.lock(TICKET_TYPES, known)

    def decide(self, work: Work) -> TicketTypeSeen:
        type = work.get(TICKET_TYPES, self.ticket_type_id)
        if type.event_id != self.event_id:
            raise NotFound()
        if type.event_status not in ("DRAFT", "PUBLISHED"):
            raise wrong_state(type.event_status)
        starts_at = type.sale_starts_at if self.sale_starts_at is UNSET else self.sale_starts_at
        ends_at = type.sale_ends_at if self.sale_ends_at is UNSET else self.sale_ends_at
        _check_window(starts_at, ends_at)
        if self.quantity is not UNSET and self.quantity != type.quantity:
            free = work.books[seats(type.id, "free")].balance
            taken = type.quantity - free
            if self.quantity < taken:
                raise SeatsTaken(f"{taken} seats are held or sold; it cannot be fewer.")
            _supply(work, type, self.quantity)
        type.sale_starts_at, type.sale_ends_at = starts_at, ends_at
        if self.name is not UNSET:
            type.name = self.name
        if self.price is not UNSET:
            type.price = self.price
        if self.per_user_limit is not UNSET:
            type.per_user_limit = self.per_user_limit
        work.change(TICKET_TYPES, type)
        return _published(work, type, "TicketTypeEdited")
