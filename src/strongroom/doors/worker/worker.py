"""Reads messages in batches, runs their commands in groups, deletes them with the effect."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from strongroom.core.commands import Command, Executor, Ticket
from strongroom.core.db import Connection, Database, DatabaseDown
from strongroom.core.events import NOTIFY_CHANNEL, Message, Subscriber, Transport
from strongroom.core.events.subscribers import LEASE_S
from strongroom.doors.worker.upkeep import UPKEEP_S, Upkeep
from strongroom.errors import Busy
from strongroom.main import SUBSCRIBERS, Strongroom

log = structlog.get_logger(__name__)

IDLE_S = 1.0
"""A NOTIFY wakes a queue at once; this finds what came due or was missed."""

LONGEST_DELAY_S = 600
"""Backing off further would only make the message forgotten."""

PAUSED_S = 5
"""How soon something paused is tried again."""

CHORE_S = 1.0
"""Rounds close and bets lapse on the second."""

Chore = Callable[[], Awaitable[Sequence[Command]]]


class Worker:
    """All subscribers of a process, and the chores. `stop()` finishes what was begun."""

    def __init__(
        self,
        database: Database,
        executor: Executor,
        transport: Transport,
        subscribers: Sequence[Subscriber],
        chores: Sequence[Chore] = (),
        *,
        max_attempts: int = 8,
        upkeep: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._db, self._executor, self._transport = database, executor, transport
        self._subscribers = {subscriber.queue: subscriber for subscriber in subscribers}
        self._chores = chores
        self._max_attempts = max_attempts
        self._upkeep = upkeep
        self._wake = {queue: asyncio.Event() for queue in self._subscribers}
        self._stopping = asyncio.Event()
        self.done = 0

    async def run(self) -> None:
        """Works until `stop()`; then ends after the batches under way."""
        listener = await self._db.listen([NOTIFY_CHANNEL], lambda *_: self.wake())
        try:
            async with asyncio.TaskGroup() as tasks:
                for queue in self._subscribers:
                    tasks.create_task(self._forever(queue))
                tasks.create_task(self._forever_every(CHORE_S, self.chores_once))
                if self._upkeep:
                    tasks.create_task(self._forever_every(UPKEEP_S, self._upkeep))
        finally:
            await listener.stop()

    @property
    def queues(self) -> list[str]:
        return list(self._subscribers)

    def stop(self) -> None:
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        for event in self._wake.values():
            event.set()

    async def _forever(self, queue: str) -> None:
        event = self._wake[queue]
        while not self._stopping.is_set():
            event.clear()
            try:
                if await self.work_once(queue):
                    continue
            except DatabaseDown:
                log.warning("database down", queue=queue)
            except Exception:
                log.exception("batch failed", queue=queue)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), IDLE_S * random.uniform(0.8, 1.2))

    async def work_once(self, queue: str) -> int:
        """One batch of a queue; how many messages it had."""
        subscriber = self._subscribers[queue]
        messages = await self._transport.receive(queue, subscriber.batch, LEASE_S)
        if messages:
            await self._work(subscriber, messages)
        return len(messages)

    async def _work(self, subscriber: Subscriber, messages: list[Message]) -> None:
        wanted: dict[Command, list[Message]] = {}
        done: list[Message] = []
        for message in messages:
            try:
                command = subscriber.react(message.event)
            except Exception as error:
                await self._failed(subscriber.queue, [message], error)
                continue
            if command is None:
                done.append(message)
            else:
                # Equal commands are one: a thousand bets of a round need one matching.
                wanted.setdefault(command, []).append(message)
        if done:
            async with self._db.transaction() as db:
                await self._acknowledge(db, subscriber.queue, done)
        groups: dict[type[Command], list[tuple[Command, list[Message]]]] = {}
        for command, of in wanted.items():
            groups.setdefault(type(command), []).append((command, of))
        for kind, pairs in groups.items():
            limit = kind.group_limit or len(pairs)
            for start in range(0, len(pairs), limit):
                await self._group(subscriber.queue, pairs[start : start + limit])

    async def _group(self, queue: str, pairs: list[tuple[Command, list[Message]]]) -> None:
        tickets: dict[Ticket, list[Message]] = {}
        for command, messages in pairs:
            event = messages[0].event
            ticket = Ticket(
                command,
                principal=f"worker:{queue}",
                key=None if command.idempotent else str(event.id),
                cause=event.id,
                request=event.correlation,
            )
            tickets[ticket] = messages

        async def acknowledge(db: Connection, ended: Sequence[Ticket]) -> None:
            await self._acknowledge(db, queue, [m for ticket in ended for m in tickets[ticket]])

        await self._executor.run(list(tickets), also=acknowledge)
        for ticket, messages in tickets.items():
            try:
                outcome = await ticket.future
            except Exception as error:
                await self._failed(queue, messages, error)
                continue
            if isinstance(outcome.error, Busy):
                for message in messages:
                    await self._transport.send_again(queue, message, PAUSED_S)
            elif outcome.error:
                await self._failed(queue, messages, outcome.error)

    async def _acknowledge(self, db: Connection, queue: str, messages: Sequence[Message]) -> None:
        if messages:
            ids = sorted(message.id for message in messages)
            await self._transport.acknowledge(db, queue, ids)
            self.done += len(ids)

    async def _failed(self, queue: str, messages: list[Message], error: Exception) -> None:
        """Later and later, then never again: with its error into the dead letters."""
        for message in messages:
            log.warning(
                "message failed",
                queue=queue,
                event_id=str(message.event.id),
                attempt=message.attempt,
                error=repr(error),
            )
            if message.attempt >= self._max_attempts:
                await self._transport.bury(queue, message, repr(error))
            else:
                delay = min(2**message.attempt, LONGEST_DELAY_S)
                jittered = max(1, round(delay * random.uniform(0.5, 1)))
                await self._transport.postpone(queue, [message.id], jittered)

    async def _forever_every(self, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
        while not self._stopping.is_set():
            try:
                await act()
            except DatabaseDown:
                log.warning("database down", chore=getattr(act, "__name__", "?"))
            except Exception:
                log.exception("chore failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    async def chores_once(self) -> int:
        """Runs what the clock has made due; how many commands that were."""
        count = 0
        for chore in self._chores:
            for command in await chore():
                key = None if command.idempotent else f"chore:{command!r}"
                ticket = Ticket(command, principal="worker:chores", key=key)
                await self._executor.run([ticket])
                await asyncio.gather(ticket.future, return_exceptions=True)
                count += 1
        return count


def worker_of(house: Strongroom) -> Worker:
    """The worker of a house: all its subscribers and chores."""
    return Worker(
        house.database,
        house.executor,
        house.transport,
        SUBSCRIBERS,
        house.chores,
        max_attempts=house.settings.max_attempts,
        upkeep=Upkeep(house).once,
    )
