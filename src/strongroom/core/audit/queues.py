"""Queues as an operator handles them: paused, resumed, their dead letters ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from strongroom.core.audit.limits import sql
from strongroom.core.commands import Command, Reply, Work
from strongroom.core.db import Database, Record
from strongroom.errors import NotFound
from strongroom.ids import digest_id

ENDED_TOGETHER = 1000
"""Dead letters that one command ends: a retry of more is a retry of the next thousand."""


class QueueSeen(Reply, frozen=True):
    """How a queue's switch stands; `since` is null when it was never turned."""

    queue: str
    paused: bool
    since: datetime | None
    by: str
    reason: str


class QueueStanding(msgspec.Struct, frozen=True, rename="camel"):
    """A queue: all that waits in it, of that what is delayed, what a worker has, and what came
    back at least once; what died, and how much was done since the beginning."""

    queue: str
    waiting: int
    delayed: int
    leased: int
    stalled: int
    oldest_s: int
    dead: int
    done: int
    paused: bool
    since: datetime | None
    by: str | None
    reason: str | None


async def queue_standings(database: Database) -> list[QueueStanding]:
    """All queues, by name; `since`, `by` and `reason` of those that are paused."""
    return [QueueStanding(*row) for row in await database.fetch(sql.queues)]


def _seen(row: Record) -> QueueSeen:
    reason, by = row["reason"] or "", row["by_whom"] or ""
    return QueueSeen(row["queue"], row["paused"], row["since"], by, reason)


def _no_such(name: str, known: Iterable[str]) -> NotFound:
    return NotFound(f"There is no queue {name[:100]!r}, but {', '.join(sorted(known))}.")


async def require_queue(database: Database, name: str) -> None:
    """NotFound, with the names that there are, unless there is such a queue."""
    known = [row["queue"] for row in await database.fetch(sql.read_queues)]
    if name not in known:
        raise _no_such(name, known)


async def _hold(work: Work) -> None:
    await work.db.execute(sql.hold_controls)
    rows = await work.db.fetch(sql.read_queues)
    work.noted["queues"] = {row["queue"]: _seen(row) for row in rows}


def _turn(work: Work, queue: str, paused: bool, reason: str) -> QueueSeen:
    """Keeps the first time, name and reason when it stands so already."""
    seen: dict[str, QueueSeen] = work.noted["queues"]
    before = seen.get(queue)
    if before is None:
        raise _no_such(queue, seen)
    if before.paused == paused:
        return before
    now = QueueSeen(queue, paused, work.now, work.by, reason)
    work.run_at_end(sql.turn_queue, queue, paused, work.now, work.by, reason)
    if paused:
        work.emit("audit.QueuePaused", digest_id("queue", queue), now)
    else:
        work.run_at_end(sql.wake_workers)
        work.emit("audit.QueueResumed", digest_id("queue", queue), now)
    seen[queue] = now
    return now


@dataclass(frozen=True, slots=True)
class PauseQueue(Command):
    """No worker receives from the queue once this has committed; what waits is not counted as
    tried. What was received before is finished. NotFound."""

    queue: str
    reason: str

    reply = QueueSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[PauseQueue]) -> None:
        await _hold(work)

    def decide(self, work: Work) -> QueueSeen:
        return _turn(work, self.queue, True, self.reason)


@dataclass(frozen=True, slots=True)
class ResumeQueue(Command):
    """Workers go on with the queue at once. NotFound."""

    queue: str
    reason: str

    reply = QueueSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[ResumeQueue]) -> None:
        await _hold(work)

    def decide(self, work: Work) -> QueueSeen:
        return _turn(work, self.queue, False, self.reason)


class DeadLettersEnded(Reply, frozen=True):
    """How many were retried or discarded, the first and the last of them."""

    ending: str
    count: int
    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class EndDeadLetters(Command):
    """Sends dead letters to their queues again, or gives them up, oldest first: those of a queue,
    of a type of event, that died before a moment, with an error that has these words in it. None
    takes any. At most ENDED_TOGETHER. NotFound for a queue that is none and has no letters."""

    ending: Literal["retried", "discarded"]
    queue: str | None = None
    type: str | None = None
    before: datetime | None = None
    error_like: str | None = None
    limit: int = ENDED_TOGETHER
    reason: str = ""

    reply = DeadLettersEnded
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[EndDeadLetters]) -> None:
        (command,) = batch
        work.noted["dead"] = await work.db.fetch(
            sql.hold_dead_letters,
            command.queue,
            command.type,
            command.before,
            command.error_like,
            min(command.limit, ENDED_TOGETHER),
        )
        known = await work.db.fetch(sql.read_queues)
        work.noted["known"] = [row["queue"] for row in known]

    def decide(self, work: Work) -> DeadLettersEnded:
        rows: list[Record] = work.noted["dead"]
        known: list[str] = work.noted["known"]
        ids = [row["id"] for row in rows]
        if not ids:
            if self.queue is not None and self.queue not in known:
                raise _no_such(self.queue, known)
            return DeadLettersEnded(self.ending, 0, None, None)
        work.run_at_end(sql.act_as, work.by, self.reason)
        work.run_at_end(sql.end_dead_letters, ids, self.ending)
        if self.ending == "retried":
            by_queue: dict[str, list[str]] = {}
            for row in rows:
                by_queue.setdefault(row["queue"], []).append(row["event"])
            for queue, events in sorted(by_queue.items()):
                work.run_at_end(sql.send_to_queue, queue, events)
            work.run_at_end(sql.wake_workers)
        return DeadLettersEnded(self.ending, len(ids), ids[0], ids[-1])
