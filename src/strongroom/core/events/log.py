"""The event log: what happened, written in the transaction of what happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from strongroom.core.db import Connection, Database, Queries, Record, Table

sql = Queries(__package__, "events.sql")

LOG = Table(
    "events.log",
    {
        "key": "uuid",
        "seq": "bigint",
        "id": "uuid",
        "type": "text",
        "payload": "jsonb",
        "causation": "uuid?",
        "correlation": "uuid?",
    },
)


class Event(msgspec.Struct):
    """Something that happened. `key` names the aggregate, `seq` counts its events from 1 without
    a gap; `causation` is the event that led here, `correlation` the request it all began with."""

    id: UUID
    type: str
    key: UUID
    payload: Any
    seq: int = 0
    causation: UUID | None = None
    correlation: UUID | None = None


Publish = Callable[[Connection, Sequence[Event]], Awaitable[None]]
"""How events leave with their transaction; see `transport.py`."""


class Outbox:
    """The events of one group: numbered, logged and published with its transaction."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._events: list[Event] = []
        self._next: dict[UUID, int] = {}

    def __len__(self) -> int:
        return len(self._events)

    @property
    def events(self) -> Sequence[Event]:
        return self._events

    def add(self, event: Event, *, first: bool) -> None:
        """`first`: the key is new in this transaction, so its numbers start at 1."""
        if first:
            event.seq = self._next.get(event.key, 1)
            self._next[event.key] = event.seq + 1
        self._events.append(event)

    async def write(self, db: Connection) -> None:
        if not self._events:
            return
        open_keys = {event.key for event in self._events if not event.seq}
        if open_keys:
            for key, last in await db.fetch(sql.last_seqs, sorted(open_keys)):
                self._next[key] = (last or 0) + 1
            for event in self._events:
                if not event.seq:
                    event.seq = self._next[event.key]
                    self._next[event.key] += 1
        encode = msgspec.json.encode
        await LOG.append(
            db,
            [
                (e.key, e.seq, e.id, e.type, encode(e.payload), e.causation, e.correlation)
                for e in self._events
            ],
        )
        await self._publish(db, self._events)


class Position(NamedTuple):
    """A place in the log: all events up to here have been read."""

    xid: str = "0"
    position: int = 0


class Tail:
    """Reads the log in an order that never changes, without skipping a late commit."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def read(self, after: Position, limit: int = 1000) -> tuple[list[Record], Position]:
        """Up to `limit` events after a place, and the place behind them. What a transaction
        still running may yet write stays unread, and all behind it."""
        rows = await self._db.fetch(sql.read_tail, after.xid, after.position, limit)
        last = Position(rows[-1]["xid"], rows[-1]["position"]) if rows else after
        return rows, last
