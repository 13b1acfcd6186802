"""Subscribers: which queue hears which events, and what each event leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from strongroom.core.db import Database, Record
from strongroom.core.events.log import Event, sql
from strongroom.errors import NotFound

LEASE_S = 10
"""A dead worker's messages wait this long. Far longer than a group takes; one that takes longer
still is only run twice, and its second run finds nothing left to do."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A queue, the event types it hears (`betting.BetPlaced`, or a pattern `betting.*`), and
    `react`, which turns one event into a command, an errand, or None. Equal ones of one batch run
    once. `lease_s`: how long a dead worker's messages wait; None takes LEASE_S, errands need more
    than the outside may take."""

    queue: str
    patterns: tuple[str, ...]
    react: Callable[[Event], Any | None]
    batch: int = 500
    lease_s: int | None = None


async def bind(owner: Database, subscribers: Sequence[Subscriber]) -> None:
    """Creates the queues and their bindings; done by the owner, after the migrations."""
    async with owner.transaction() as db:
        for subscriber in subscribers:
            await db.execute(sql.create_queue, subscriber.queue)
            for pattern in subscriber.patterns:
                if not await db.fetchval(sql.bound, subscriber.queue, pattern):
                    await db.execute(sql.hold_log)
                    await db.execute(sql.bind_queue, subscriber.queue, pattern)
        await db.execute(sql.grant_queues)


class DeadLetters:
    """Messages that were buried after their last attempt: listed, retried or discarded."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def list(
        self,
        queue: str | None = None,
        limit: int = 100,
        *,
        type: str | None = None,
        before: datetime | None = None,
        error_like: str | None = None,
    ) -> list[Record]:
        """Those that nobody has ended, oldest first; None takes any. `error_like` is found
        anywhere in the error, in any case."""
        return await self._db.fetch(sql.dead_letters, queue, limit, type, before, error_like)

    async def end(
        self, id: int, ending: Literal["retried", "discarded"], *, by: str = "library"
    ) -> None:
        """Sends the event to its queue again, or gives it up. NotFound when that was done."""
        async with self._db.transaction() as db:
            await db.execute(sql.end_as, by)
            row = await db.fetchrow(sql.end_dead_letter, id, ending)
            if row is None:
                raise NotFound(f"There is no open dead letter {id}.")
            if ending == "retried":
                await db.execute(sql.send_again, row["queue"], row["event"], 0)


async def depths(database: Database) -> list[Record]:
    """(queue, waiting, oldest_s, paused) of every queue."""
    return await database.fetch(sql.depths)
