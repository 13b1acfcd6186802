"""How events reach their subscribers: queues with leases, at least once.

`Transport` is the seam; `tests/integration/test_transport.py` is what each one has to pass.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from strongroom.core.db import Connection, Database
from strongroom.core.events.log import Event, sql

NOTIFY_CHANNEL = "strongroom_events"


class Message(NamedTuple):
    """A leased event: `attempt` counts from 1 and includes attempts that died unheard."""

    id: int
    attempt: int
    event: Event
    raw: str


UNREADABLE = Event(UUID(int=0), "unreadable", UUID(int=0), None)
"""Stands for the event of a message that is none."""

_decode = msgspec.json.Decoder(Event).decode


class Transport(Protocol):
    """Delivery at least once, in leases; a message that is not acknowledged comes again."""

    async def publish(self, db: Connection, events: Sequence[Event]) -> None:
        """Sends within the transaction of `db`, to every queue bound to the event's type."""

    async def receive(self, queue: str, limit: int, lease_s: int) -> list[Message]:
        """Leases up to `limit` messages for `lease_s` seconds, oldest first."""

    async def acknowledge(self, db: Connection, queue: str, ids: Sequence[int]) -> None:
        """Removes messages within the transaction of `db`."""

    async def postpone(self, queue: str, ids: Sequence[int], delay_s: int) -> None:
        """Gives messages back, to come again after `delay_s`."""

    async def send_again(self, queue: str, message: Message, delay_s: int) -> None:
        """Replaces a message by a new one whose attempts start over."""

    async def bury(self, queue: str, message: Message, error: str) -> None:
        """Moves a message to the dead letters."""


class PgmqTransport:
    """Queues in the same Postgres: sent and deleted in the transaction of the change."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._slot = os.getpid() % 16

    async def publish(self, db: Connection, events: Sequence[Event]) -> None:
        by_type: dict[str, list[str]] = {}
        for event in events:
            by_type.setdefault(event.type, []).append(msgspec.json.encode(event).decode())
        for type, messages in sorted(by_type.items()):
            await db.execute(sql.publish, type, messages)

    async def receive(self, queue: str, limit: int, lease_s: int) -> list[Message]:
        async with self._db.connection() as db, db.transaction():
            await db.execute(sql.lease_lightly)
            rows = await db.fetch(sql.receive, queue, lease_s, limit)
        messages = []
        for id, attempt, raw in rows:
            try:
                messages.append(Message(id, attempt, _decode(raw), raw))
            except msgspec.MsgspecError as error:
                # No later attempt will read it either.
                await self.bury(queue, Message(id, attempt, UNREADABLE, raw), repr(error))
        return messages

    async def acknowledge(self, db: Connection, queue: str, ids: Sequence[int]) -> None:
        deleted = await db.fetchval(sql.acknowledge, queue, list(ids))
        await db.execute(sql.count_consumed, queue, self._slot, deleted)

    async def postpone(self, queue: str, ids: Sequence[int], delay_s: int) -> None:
        async with self._db.connection() as db:
            await db.execute(sql.postpone, queue, list(ids), delay_s)

    async def send_again(self, queue: str, message: Message, delay_s: int) -> None:
        async with self._db.transaction() as db:
            if await db.fetchval(sql.acknowledge, queue, [message.id]):
                await db.execute(sql.send_again, queue, message.raw, delay_s)

    async def bury(self, queue: str, message: Message, error: str) -> None:
        async with self._db.transaction() as db:
            if await db.fetchval(sql.acknowledge, queue, [message.id]):
                await db.execute(sql.bury, queue, message.raw, error, message.attempt)
