"""Events as everybody sees them: found, listed, shown, and kept in the process.

What an event says is kept under the version of the catalogue, so a change is seen by whoever asks
after it was committed, on every process. What is available is read once a second for a page; it
is shown with its time and decides nothing. While the database is down what was kept is shown on.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta

from strongroom.apps.ticketing.events import event_seen
from strongroom.apps.ticketing.rows import Event, EventSeen, EventStatus
from strongroom.apps.ticketing.rows import sql as rows_sql
from strongroom.apps.ticketing.seen import Events, sql
from strongroom.core.db import Database, Record
from strongroom.core.guard import Cache, Version
from strongroom.errors import NotFound, invalid

KEPT_S = 300.0
"""How long an event may be shown while the database is down, and how long it lies unasked for."""

AVAILABILITY_S = 1.0
"""How old what is available may be."""

EVENTS_KEPT, LISTS_KEPT, PAGES_KEPT = 4_000, 1_000, 1_000
"""Some tens of megabytes where descriptions are long; lists and pages share the events."""

LONGEST_CURSOR = 200

SLUG = re.compile(r"[a-z0-9-]{1,120}")
"""All that is ever a slug: anything else is not looked for."""

PUBLIC: tuple[EventStatus, ...] = ("PUBLISHED",)
ALL: tuple[EventStatus, ...] = ("DRAFT", "PUBLISHED", "ENDED", "CANCELLED")


class Place(NamedTuple):
    """Where a page ended; the next one begins behind it, whatever was added meanwhile."""

    rank: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    starts_at: Annotated[datetime, Meta(tz=True)]
    id: UUID


class Asked(NamedTuple):
    """What is asked of a list: words, `starts_at` within [since, until), which statuses."""

    words: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    statuses: tuple[EventStatus, ...] = PUBLIC
    after: Place | None = None
    limit: int = 50


class Found(NamedTuple):
    """A list without what its events say."""

    ids: tuple[UUID, ...]
    last: Place | None


def cursor_of(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode("ascii").rstrip("=")


def place_of(cursor: str) -> Place:
    """The reverse; Invalid for what is no cursor of ours."""
    try:
        if len(cursor) > LONGEST_CURSOR:
            raise ValueError("too long")
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = msgspec.json.decode(text, type=Place)
        return place._replace(starts_at=place.starts_at.astimezone(UTC))
    except (ValueError, OverflowError, msgspec.MsgspecError):
        raise invalid("cursor", "is none of ours; take it from nextCursor") from None


class Catalogue:
    """Lists of events, and single ones."""

    def __init__(self, database: Database, *, deadline_s: float) -> None:
        self._db = database
        self.version = Version(self._read_version, deadline_s=deadline_s)
        self.events: Cache[EventSeen] = Cache(size=EVENTS_KEPT, ttl_s=KEPT_S)
        self.lists: Cache[Found] = Cache(size=LISTS_KEPT, ttl_s=KEPT_S)
        self.pages: Cache[list[EventSeen]] = Cache(
            size=PAGES_KEPT, ttl_s=KEPT_S, fresh_s=AVAILABILITY_S
        )

    @property
    def caches(self) -> Mapping[str, Cache[Any]]:
        return {"events": self.events, "event_lists": self.lists, "event_pages": self.pages}

    async def page(self, asked: Asked) -> Events:
        """A page of events, the next ones first; with words, the best matches first."""
        version = await self.version.now()
        key = f"{version}:{msgspec.json.encode(asked).decode()}"
        found = await self.lists.get(key, partial(self._find, asked))
        items = await self.pages.get(key, partial(self._shown, version, found.ids))
        more = found.last if len(found.ids) == asked.limit else None
        return Events(items, cursor_of(more) if more else None)

    async def event(self, named: str) -> EventSeen:
        """An event by its slug or its id, whatever its status; NotFound."""
        if not SLUG.fullmatch(named.lower()):
            raise NotFound()
        version = await self.version.now()
        found = await self.lists.get(f"{version}:{named}", partial(self._name, named))
        key = f"{version}:{found.ids[0]}"
        (event,) = await self.pages.get(key, partial(self._shown, version, found.ids))
        return event

    async def _read_version(self) -> int:
        found: int = await self._db.fetchval(sql.catalogue_version)
        return found

    async def _find(self, asked: Asked) -> Found:
        place = asked.after or (None, None, None)
        rank, starts_at, id = place
        args = [list(asked.statuses), asked.since, asked.until, starts_at, id, asked.limit]
        if asked.words:
            rows = await self._db.fetch(sql.events_found, *args, asked.words, rank)
        else:
            rows = await self._db.fetch(sql.events_ahead, *args)
        last = Place(rows[-1]["rank"], rows[-1]["starts_at"], rows[-1]["id"]) if rows else None
        return Found(tuple(row["id"] for row in rows), last)

    async def _name(self, named: str) -> Found:
        try:
            id = UUID(named)
        except ValueError:
            id = None
        found = await self._db.fetchval(sql.event_named, named, id)
        if found is None:
            raise NotFound()
        return Found((found,), None)

    async def _shown(self, version: int, ids: Sequence[UUID]) -> list[EventSeen]:
        """The events with what is available of them now."""
        events = await self._events(version, ids)
        types = [type.ticket_type_id for event in events for type in event.ticket_types]
        rows = await self._db.fetch(sql.free_seats, types) if types else ()
        free = {row["ticket_type_id"]: row for row in rows}
        return [_with(event, free) for event in events]

    async def _events(self, version: int, ids: Sequence[UUID]) -> list[EventSeen]:
        """The events, read in one go where they are not kept under this version."""
        found = await self.events.many({id: f"{version}:{id}" for id in ids}, self._read)
        return [found[id] for id in ids if id in found]

    async def _read(self, ids: list[UUID]) -> dict[UUID, EventSeen]:
        types: dict[UUID, list[object]] = {id: [] for id in ids}
        async with self._db.connection() as db:
            rows = await db.fetch(sql.events_seen, ids)
            for type in await db.fetch(rows_sql.types_of_events, ids):
                types[type["event_id"]].append(type)
        return {row["id"]: event_seen(Event(**row), types[row["id"]]) for row in rows}


def _with(event: EventSeen, free: Mapping[UUID, Record]) -> EventSeen:
    """The event with its seats as they are now. A ticket type that came meanwhile has its own."""
    replace = msgspec.structs.replace
    types = []
    for type in event.ticket_types:
        now = free[type.ticket_type_id]
        types.append(replace(type, available=now["available"], as_of=now["as_of"]))
    return replace(event, ticket_types=types)


__all__ = ["ALL", "PUBLIC", "Asked", "Catalogue", "Place", "cursor_of", "place_of"]
