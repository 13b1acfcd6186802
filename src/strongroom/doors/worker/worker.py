"""Reads messages in batches, runs their commands in groups, deletes them with the effect."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import structlog

from strongroom.clock import monotonic
from strongroom.core.commands import Command, Errand, Executor, Ticket
from strongroom.core.commands.ticket import Origin
from strongroom.core.db import Connection, Database, DatabaseDown, Leader
from strongroom.core.db.database import UNWRITABLE
from strongroom.core.events import NOTIFY_CHANNEL, Message, Subscriber, Transport
from strongroom.core.events.subscribers import LEASE_S
from strongroom.doors.worker.errands import Performers, chunks, perform
from strongroom.doors.worker.upkeep import UPKEEP_S, Upkeep
from strongroom.errors import Busy
from strongroom.main import SUBSCRIBERS, Strongroom
from strongroom.tally import Tally

log = structlog.get_logger(__name__)

IDLE_S = 1.0
"""A NOTIFY wakes a queue at once; this finds what came due or was missed."""

LONGEST_DELAY_S = 600
"""Backing off further would only make the message forgotten."""

PAUSED_S = 5
"""How soon something paused is tried again."""

CHORE_S = 1.0
"""Rounds close and bets lapse on the second."""

SPARE_S = 5.0
"""Between the end of the last call outside and that of the lease: time to commit what came of it."""

CHORES_TOGETHER = 500
"""Commands that chores commit together, where the command says nothing else."""

Chore = Callable[[], Awaitable[Sequence[Command | Errand]]]

Commands = dict[Command, list[Message]]
Errands = dict[Errand, list[Message]]
"""What is to be done, and the messages that led to it."""


class Jobs:
    """What one process did with the messages of a queue: how many came to their end and how many
    attempts failed, how many messages were buried, and how long one took from its lease to its
    end."""

    __slots__ = ("_leased_at", "buried", "failed", "processed", "seconds")

    def __init__(self) -> None:
        self.processed = self.failed = self.buried = 0
        self.seconds = Tally()
        self._leased_at = monotonic()

    def leased(self) -> None:
        """A batch of messages came; a process works on one batch of a queue at a time."""
        self._leased_at = monotonic()

    def ended(self, messages: int) -> None:
        """So many of them are done, and that is committed."""
        self.processed += messages
        self.seconds.add(monotonic() - self._leased_at, messages)


class Worker:
    """All subscribers of a process; chores and upkeep while it leads, or where there is no
    leader to be. `stop()` finishes what was begun."""

    def __init__(
        self,
        database: Database,
        executor: Executor,
        transport: Transport,
        subscribers: Sequence[Subscriber],
        chores: Sequence[Chore] = (),
        *,
        max_attempts: int = 8,
        performers: Performers | None = None,
        leader: Leader | None = None,
        upkeep: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._db, self._executor, self._transport = database, executor, transport
        self._subscribers = {subscriber.queue: subscriber for subscriber in subscribers}
        self._chores = chores
        self._max_attempts = max_attempts
        self._performers = performers or {}
        self._leader = leader
        self._upkeep = upkeep
        self._wake = {queue: asyncio.Event() for queue in self._subscribers}
        self._stopping = asyncio.Event()
        self.done = 0
        self.jobs = {queue: Jobs() for queue in self._subscribers}
        # Of the batch that each queue works on: the spans of its messages, and who comes again.
        self._origins: dict[str, Mapping[int, Origin]] = {}
        self._again: dict[str, set[int]] = {}

    async def run(self) -> None:
        """Works until `stop()`; then ends after the batches under way."""
        listener = await self._db.listen([NOTIFY_CHANNEL], self._heard)
        try:
            async with asyncio.TaskGroup() as tasks:
                for queue in self._subscribers:
                    tasks.create_task(self._forever(queue))
                # Each by itself: one that has much to do does not keep the others waiting.
                for chore in self._chores:
                    act = partial(self._chore_once, chore)
                    tasks.create_task(self._forever_every(CHORE_S, act))
                if self._upkeep:
                    tasks.create_task(self._forever_every(UPKEEP_S, self._upkeep))
        finally:
            await listener.stop()
            if self._leader:
                await self._leader.close()

    @property
    def queues(self) -> list[str]:
        return list(self._subscribers)

    def stop(self) -> None:
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        for event in self._wake.values():
            event.set()

    def _heard(self, _: str, type: str) -> None:
        """Events of a type were published: wakes the queues that hear it. All of them where the
        type is not said, as after a break, and those that do not say what they hear."""
        for queue, subscriber in self._subscribers.items():
            said = subscriber.patterns
            known = bool(said) and not any("*" in pattern for pattern in said)
            if not (type and known) or type in said:
                self._wake[queue].set()

    async def _forever(self, queue: str) -> None:
        event = self._wake[queue]
        while not self._stopping.is_set():
            event.clear()
            try:
                if await self.work_once(queue):
                    continue
            except (DatabaseDown, *UNWRITABLE):
                log.warning("database down", queue=queue)
            except Exception:
                log.exception("batch failed", queue=queue)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S * random.uniform(0.8, 1.2)):
                    await event.wait()

    async def work_once(self, queue: str) -> int:
        """One batch of a queue; how many messages it had."""
        subscriber = self._subscribers[queue]
        messages = await self._transport.receive(queue, subscriber.batch, _lease_s(subscriber))
        if messages:
            self.jobs[queue].leased()
            await self._work(subscriber, messages)
        return len(messages)

    async def _work(self, subscriber: Subscriber, messages: list[Message]) -> None:
        tracing, queue = self._executor.tracing, subscriber.queue
        if tracing is None:
            await self._act(subscriber, messages)
            return
        began = monotonic()
        origins = self._origins[queue] = tracing.takes(queue, messages)
        failed = self._again[queue] = set()
        try:
            await self._act(subscriber, messages)
        except BaseException:
            failed.update(message.id for message in messages)
            raise
        finally:
            del self._origins[queue], self._again[queue]
            tracing.took(queue, messages, origins, began, failed)

    async def _act(self, subscriber: Subscriber, messages: list[Message]) -> None:
        until = monotonic() + _lease_s(subscriber) - SPARE_S
        commands: Commands = {}
        errands: Errands = {}
        done: list[Message] = []
        for message in messages:
            try:
                act = subscriber.react(message.event)
            except Exception as error:
                await self._failed(subscriber.queue, [message], error)
                continue
            if act is None:
                done.append(message)
            elif isinstance(act, Errand):
                errands.setdefault(act, []).append(message)
            else:
                # Equal commands are one: a thousand bets of a round need one matching.
                commands.setdefault(act, []).append(message)
        await self._done(subscriber.queue, done)
        await self._groups(subscriber.queue, commands)
        for chunk in chunks(list(errands)):
            await self._perform(subscriber.queue, {one: errands[one] for one in chunk}, until)

    async def _perform(self, queue: str, wanted: Errands, until: float) -> None:
        """One call outside; what comes of it commits with the end of the messages."""
        follows: Commands = {}
        done: list[Message] = []
        began = monotonic()
        results = await perform(self._performers, list(wanted), until)
        if self._executor.tracing is not None:
            spans = self._traced(queue, [one for same in wanted.values() for one in same])
            self._executor.tracing.errand(type(next(iter(wanted))), len(wanted), spans, began)
        for messages, result in zip(wanted.values(), results, strict=True):
            if result is None:
                done += messages
            elif isinstance(result, Exception):
                await self._not_done(queue, messages, result)
            else:
                follows.setdefault(result, []).extend(messages)
        await self._done(queue, done)
        await self._groups(queue, follows)

    async def _done(self, queue: str, messages: list[Message]) -> None:
        """Messages that lead to nothing more."""
        if messages:
            async with self._db.transaction() as db:
                await self._acknowledge(db, queue, messages)
            self.jobs[queue].ended(len(messages))

    async def _groups(self, queue: str, wanted: Commands) -> None:
        groups: dict[type[Command], list[tuple[Command, list[Message]]]] = {}
        for command, of in wanted.items():
            groups.setdefault(type(command), []).append((command, of))
        for kind, pairs in groups.items():
            limit = kind.group_limit or len(pairs)
            for start in range(0, len(pairs), limit):
                await self._group(queue, pairs[start : start + limit])

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
                origins=self._traced(queue, messages) if self._origins else (),
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
            if outcome.error:
                await self._not_done(queue, messages, outcome.error)
            else:
                self.jobs[queue].ended(len(messages))

    def _traced(self, queue: str, messages: Sequence[Message]) -> list[Origin]:
        """The spans of those messages of the batch that are traced."""
        origins = self._origins.get(queue, {})
        return [origins[message.id] for message in messages if message.id in origins]

    async def _not_done(self, queue: str, messages: list[Message], error: Exception) -> None:
        """What is only not possible now comes again and is not counted; all else has failed."""
        if isinstance(error, Busy):
            for message in messages:
                delay = max(PAUSED_S, error.retry_after_s) if error.retry_after_s else 0
                await self._transport.send_again(queue, message, delay)
        else:
            await self._failed(queue, messages, error)

    async def _acknowledge(self, db: Connection, queue: str, messages: Sequence[Message]) -> None:
        if messages:
            ids = sorted(message.id for message in messages)
            await self._transport.acknowledge(db, queue, ids)
            self.done += len(ids)

    async def _failed(self, queue: str, messages: list[Message], error: Exception) -> None:
        """Later and later, then never again: with its error into the dead letters."""
        jobs = self.jobs[queue]
        if self._executor.tracing is not None:
            self._again[queue].update(message.id for message in messages)
        for message in messages:
            jobs.failed += 1
            log.warning(
                "message failed",
                queue=queue,
                event_id=str(message.event.id),
                request_id=str(message.event.correlation),
                attempt=message.attempt,
                error=repr(error),
            )
            if message.attempt >= self._max_attempts:
                await self._transport.bury(queue, message, repr(error))
                jobs.buried += 1
            else:
                delay = min(2**message.attempt, LONGEST_DELAY_S)
                jittered = max(1, round(delay * random.uniform(0.5, 1)))
                await self._transport.postpone(queue, [message.id], jittered)

    async def _forever_every(self, seconds: float, act: Callable[[], Awaitable[object]]) -> None:
        while not self._stopping.is_set():
            try:
                await self._led(act)
            except (DatabaseDown, *UNWRITABLE):
                log.warning("database down, chores wait")
            except Exception:
                log.exception("chore failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()

    async def chores_once(self) -> int:
        """Runs what the clock has made due, whoever leads; how much that was."""
        return sum([await self._chore_once(chore) for chore in self._chores])

    async def _chore_once(self, chore: Chore) -> int:
        due = await chore()
        commands = [act for act in due if isinstance(act, Command)]
        for chunk in chunks([act for act in due if isinstance(act, Errand)]):
            results = await perform(self._performers, chunk)
            commands += [result for result in results if isinstance(result, Command)]
        groups: dict[type[Command], dict[Command, Ticket]] = {}
        for command in commands:
            key = None if command.idempotent else f"chore:{command!r}"
            ticket = Ticket(command, principal="worker:chores", key=key)
            groups.setdefault(type(command), {})[command] = ticket
        for kind, same in groups.items():
            tickets = list(same.values())
            limit = kind.group_limit or CHORES_TOGETHER
            for start in range(0, len(tickets), limit):
                await self._executor.run(tickets[start : start + limit])
            await asyncio.gather(*(one.future for one in tickets), return_exceptions=True)
        return len(due)

    async def _led(self, act: Callable[[], Awaitable[object]]) -> None:
        if self._leader is None or await self._leader.leads():
            await act()


def _lease_s(subscriber: Subscriber) -> int:
    return LEASE_S if subscriber.lease_s is None else subscriber.lease_s


def worker_of(house: Strongroom) -> Worker:
    """The worker of a house: all its subscribers and chores."""
    return Worker(
        house.database,
        house.executor,
        house.transport,
        SUBSCRIBERS,
        house.chores,
        max_attempts=house.settings.max_attempts,
        performers=house.performers,
        leader=Leader(house.database.dsn),
        upkeep=Upkeep(house).once,
    )
