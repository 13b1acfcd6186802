"""Commands commit in groups: claim, fetch, decide, write, commit, then answer.

Requests that arrive while a group is under way form the next one: no timer, no delay when quiet,
hundreds of commands per fsync when busy. A refused command leaves its neighbours untouched; a
group that fails is run again, then halved, so that a poisonous command fails alone. A row that
somebody else holds is left out, so that only who needs it has to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

import msgspec
import structlog

from strongroom.clock import monotonic
from strongroom.core.commands.command import (
    Command,
    IdempotencyKeyReused,
    LookAgain,
    OutcomeUnknown,
    Overloaded,
    RequestInProgress,
)
from strongroom.core.commands.course import SLOW_S, Course, Tracing
from strongroom.core.commands.ticket import ANSWERS, Outcome, Ticket
from strongroom.core.commands.work import Sources, Work, sql
from strongroom.core.db import Connection, Database, DatabaseDown
from strongroom.core.db.database import LOCK_WAIT, RETRYABLE, TOO_SLOW, UNWRITABLE
from strongroom.core.db.held import SHORT_MS, Held, Locks, RowHeld, wait_at_most
from strongroom.core.events import Publish
from strongroom.errors import Refused, StrongroomError
from strongroom.tally import Tally

log = structlog.get_logger(__name__)

RETRIES = 5
"""Lost races are run again this often, then the group is halved."""

RECONNECTS = 7
"""With doubling pauses this bridges about 6 s: a restart of Postgres after a crash."""

VAIN_TRIES = 2
"""Who does not learn what it waits for, because others wait before it, tries this often to be the
first, then the group is halved."""

ANSWERS_TASK = "answers"

KEY_POLL_S = 0.02
"""A group takes about this long, so its keys are free by then."""

ANSWERED_TOGETHER = 2
"""Callers woken in one turn of the event loop. Woken all at once, a hundred of them held up the
next group's statements for 9 of its 22 ms; two by two a process places a third more bets."""

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
"""Bounds of group sizes; 512 is the most by default, settlements take thousands."""

Also = Callable[[Connection, Sequence[Ticket]], Awaitable[None]]
"""Work of the caller's inside the group's transaction: a worker deletes its messages there."""


class CommitUnknown(Exception):
    """The connection broke while COMMIT was under way."""


class Poison(Exception):
    """A decision raised something that is no refusal: a bug. Its neighbours go on without it."""

    def __init__(self, ticket: Ticket, error: Exception) -> None:
        super().__init__(repr(error))
        self.ticket, self.error = ticket, error


class TakenOut(Exception):
    """Some need a row that somebody holds, and the group cannot go on with them: it is run again
    without. No bug."""

    def __init__(self, tickets: list[Ticket], error: RowHeld) -> None:
        super().__init__(repr(error))
        self.tickets, self.error = tickets, error


class Groups:
    """The groups of one command type that were committed: how large they were, and how long each
    took from its BEGIN to its COMMIT."""

    __slots__ = ("seconds", "sizes")

    def __init__(self) -> None:
        self.sizes, self.seconds = Tally(SIZES), Tally()


class Executor:
    """Runs groups of one command type to their end; every ticket gets its outcome.

    Ids, secrets, the time and the length of pauses come from `sources`, statements go where the
    database's `step` lets them: the executor has no chance of its own.
    """

    def __init__(
        self, database: Database, publish: Publish, *, sources: Sources | None = None
    ) -> None:
        self._db = database
        self._publish = publish
        self._sources = sources or Sources()
        self._answering: set[asyncio.Task[None]] = set()
        self.held = Held(database, self._sources.pause)
        self.groups = 0
        self.commands = 0
        self.by_command: dict[type[Command], Groups] = {}
        self.replays = 0
        self.entries = 0
        self.races = 0
        self.connections_lost = 0
        self.slow_s = SLOW_S
        self.tracing: Tracing | None = None

    @property
    def idle(self) -> bool:
        """Everybody has been answered, also who waits for a key that is worked on elsewhere."""
        return not self._answering

    async def run(self, tickets: Sequence[Ticket], also: Also | None = None) -> None:
        """Commits the tickets and waits until they are answered, all but those whose key is
        worked on elsewhere."""
        await self.commit(tickets, also)
        if answers := [task for task in self._answering if task.get_name() == ANSWERS_TASK]:
            await asyncio.wait(answers)

    async def commit(self, tickets: Sequence[Ticket], also: Also | None = None) -> None:
        """Commits the tickets, which are of one command type; their answers follow. Never raises:
        outcomes and errors are on the tickets. Whoever cancels this has a crash, no rollback."""
        pending = [ticket for ticket in tickets if not ticket.done]
        if not pending:
            return
        course = Course(pending)
        try:
            await self._run(pending, also, course)
        except Exception as error:
            log.exception("group failed", command=pending[0].name, size=len(pending))
            for ticket in pending:
                ticket.fail(error)
        course.ended = monotonic()
        if course.seconds > self.slow_s:
            course.explain()
        if self.tracing is not None:
            self.tracing.group(course)

    async def _run(
        self, group: list[Ticket], also: Also | None, course: Course, *, part: bool = False
    ) -> None:
        lost = races = vain = 0
        looked = False
        # Of a part of a group somebody has waited in vain already; who is alone may wait.
        wait_ms = SHORT_MS if part and len(group) > 1 else None
        while group:
            locks = Locks(self.held)
            try:
                await self._attempt(group, also, course, locks, lost_race=looked, wait_ms=wait_ms)
                return
            except TakenOut as out:
                for ticket in out.tickets:
                    self.held.met(type(ticket.command), out.error)
                    ticket.fail(out.error)
                group = [ticket for ticket in group if ticket not in out.tickets]
            except Poison as poison:
                log.error("poisonous command", command=poison.ticket.name, exc_info=poison.error)
                poison.ticket.fail(poison.error)
                group = [ticket for ticket in group if ticket is not poison.ticket]
            except LookAgain:
                looked = True
            except RETRYABLE as error:
                looked = True
                races += 1
                self.races += 1
                course.races += 1
                if races > RETRIES:
                    await self._halve(group, also, course, error)
                    return
                await self._pause(0, 0.005 * 2**races)
            except LOCK_WAIT as error:
                # A row is held for longer than any group takes: the others go on without it, and
                # where it stays unknown who can still wait is tried apart.
                group = _still_waiting(group)
                course.lock_waits += 1
                if await self.held.learn(locks, error):
                    wait_ms = SHORT_MS
                elif locks.asked is None or len(group) == 1 or vain == VAIN_TRIES:
                    await self._halve(group, also, course, error)
                    return
                else:
                    wait_ms, vain = SHORT_MS, vain + 1
            except (CommitUnknown, DatabaseDown) as error:
                lost += 1
                self.connections_lost += 1
                course.lost += 1
                late = lost > RECONNECTS
                for ticket in group:
                    ticket.in_doubt = ticket.in_doubt or isinstance(error, CommitUnknown)
                    if late or monotonic() > ticket.deadline:
                        ticket.fail(OutcomeUnknown() if ticket.in_doubt else DatabaseDown())
                group = [ticket for ticket in group if not ticket.done]
                log.warning("connection lost", attempt=lost, error=repr(error.__cause__ or error))
                await self._pause(0.015 * 2**lost, 0.03 * 2**lost)
            except Exception as error:
                await self._halve(group, also, course, error)
                return

    async def _pause(self, least_s: float, most_s: float) -> None:
        await self._sources.pause(self._sources.between(least_s, most_s))

    async def _halve(
        self, group: list[Ticket], also: Also | None, course: Course, error: Exception
    ) -> None:
        """A group that cannot commit whole: each half alone, down to the one that is at fault."""
        if len(group) > 1:
            middle = len(group) // 2
            part = isinstance(error, LOCK_WAIT)
            course.halved += 1
            await self._run(group[:middle], also, course, part=part)
            await self._run(group[middle:], also, course, part=part)
        elif group:
            group[0].fail(_told(error, group[0]))

    async def _attempt(
        self,
        group: list[Ticket],
        also: Also | None,
        course: Course,
        locks: Locks,
        *,
        lost_race: bool,
        wait_ms: int | None,
    ) -> None:
        """One transaction. Outcomes reach the tickets after COMMIT, and only then."""
        began, committing = monotonic(), False
        course.attempts += 1
        try:
            async with self._db.transaction(trail=course.trail) as db:
                if wait_ms:
                    await wait_at_most(db, wait_ms)
                work = Work(db, self._publish, self._sources, locks=locks, lost_race=lost_race)
                outcomes = await self._decide(work, group, also)
                committing = True
        except DatabaseDown as error:
            if committing:
                raise CommitUnknown() from error.__cause__
            raise
        self._count(group, outcomes, work.books.entries, monotonic() - began)
        course.entries += work.books.entries
        course.left_out += len(locks.left_out)
        course.events += work.outbox.events
        self._aside(self._answer(outcomes, also), ANSWERS_TASK)

    def _count(
        self,
        group: list[Ticket],
        outcomes: list[tuple[Ticket, Outcome]],
        entries: int,
        seconds: float,
    ) -> None:
        """What was committed, and nothing that was not."""
        self.groups += 1
        self.commands += len(group)
        self.entries += entries
        self.replays += sum([outcome.replayed for _, outcome in outcomes])
        kind = type(group[0].command)
        groups = self.by_command.get(kind)
        if groups is None:
            groups = self.by_command[kind] = Groups()
        groups.sizes.add(len(group))
        groups.seconds.add(seconds)

    def _aside(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, outcomes: list[tuple[Ticket, Outcome]], also: Also | None) -> None:
        """Hands out the outcomes, a few at a time: each wakes a caller with work of its own, and
        the next group's statements must not queue behind all of that."""
        waiting: list[Ticket] = []
        for number, (ticket, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome.error, RequestInProgress) and monotonic() < ticket.deadline:
                waiting.append(ticket)
            elif isinstance(outcome.error, RequestInProgress) and ticket.in_doubt:
                # It is our own earlier transaction that still holds the key.
                ticket.fail(OutcomeUnknown())
            else:
                ticket.end(outcome)
            if number % ANSWERED_TOGETHER == 0:
                await asyncio.sleep(0)
        if waiting:
            self._aside(self._again(waiting, also), "waiting for keys")

    async def _again(self, waiting: list[Ticket], also: Also | None) -> None:
        """Keys that another group works on: asked again, until their deadline."""
        await self._sources.pause(KEY_POLL_S)
        await self.commit(waiting, also)

    async def _decide(
        self, work: Work, group: list[Ticket], also: Also | None
    ) -> list[tuple[Ticket, Outcome]]:
        db = work.db
        outcomes: list[tuple[Ticket, Outcome]] = []
        todo = await self._claim(db, group, outcomes)
        if todo:
            commands = [ticket.command for ticket in todo]
            work.asked = [(ticket.principal, ticket.key) for ticket in todo]
            try:
                await type(commands[0]).fetch(work, commands)
                await work.read_clock()
            except RowHeld as error:
                needing = [one for one in todo if error.is_about(one.command)]
                if needing or len(todo) == 1:
                    raise TakenOut(needing or todo, error) from error
                raise
            except StrongroomError as error:
                # Not now for any of them, as while payouts are paused.
                outcomes += [(ticket, Outcome(error=error)) for ticket in todo]
                todo = []
        decided: dict[UUID, tuple[Ticket, Outcome]] = {}
        answers: list[tuple[Any, ...]] = []
        for ticket in todo:
            id = ticket.id
            earlier = decided.get(id) if id else None
            if earlier is not None:
                # The same key twice in one group: the second is the first's replay.
                first, outcome = earlier
                outcomes.append((ticket, _replay(ticket, first.fingerprint, outcome)))
                continue
            outcome = _decide_one(work, ticket)
            if isinstance(outcome.error, RowHeld):
                self.held.met(type(ticket.command), outcome.error)
            outcomes.append((ticket, outcome))
            if id and outcome.stored:
                decided[id] = ticket, outcome
                answers.append(ticket.answer_row(outcome))
        await work.write()
        await ANSWERS.append(db, answers)
        if also:
            await also(db, [ticket for ticket, outcome in outcomes if outcome.final])
        return outcomes

    async def _claim(
        self, db: Connection, group: list[Ticket], outcomes: list[tuple[Ticket, Outcome]]
    ) -> list[Ticket]:
        """Claims all keys of the group in one statement; replays and waits are outcomes already,
        what is left has to be decided."""
        ids = sorted({ticket.id for ticket in group if ticket.id})
        if not ids:
            return list(group)
        locks = [id.int >> 64 & 0x7FFF_FFFF_FFFF_FFFF ^ id.int & 0xFFFF_FFFF for id in ids]
        found = {row[0]: row for row in await db.fetch(sql.claim, ids, locks)}
        todo: list[Ticket] = []
        for ticket in group:
            row = found.get(ticket.id) if ticket.id else None
            if row is None:
                # The key is ours and has no answer: an earlier COMMIT did not arrive.
                ticket.in_doubt = False
                todo.append(ticket)
            elif row["fingerprint"] is None:
                outcomes.append((ticket, Outcome(error=RequestInProgress())))
            else:
                outcome = Outcome(body=row["body"], refused=row["refused"])
                outcomes.append((ticket, _replay(ticket, row["fingerprint"], outcome)))
        return todo


def _told(error: Exception, ticket: Ticket) -> Exception:
    """What the caller of the one command that failed is told."""
    if isinstance(error, RowHeld):
        return error
    if isinstance(error, TOO_SLOW):
        log.warning("not served", command=ticket.name, error=repr(error))
        return Overloaded()
    if isinstance(error, UNWRITABLE):
        log.warning("not written", command=ticket.name, error=repr(error))
        return DatabaseDown()
    log.error("command failed", command=ticket.name, exc_info=error)
    return error


def _still_waiting(group: list[Ticket]) -> list[Ticket]:
    """Those whose deadline has not passed; the others are told."""
    for ticket in group:
        if monotonic() > ticket.deadline:
            ticket.fail(Overloaded())
    return [ticket for ticket in group if not ticket.done]


def _replay(ticket: Ticket, fingerprint: bytes, earlier: Outcome) -> Outcome:
    if fingerprint != ticket.fingerprint:
        return Outcome(error=IdempotencyKeyReused())
    return Outcome(body=earlier.body, refused=earlier.refused, replayed=True)


def _decide_one(work: Work, ticket: Ticket) -> Outcome:
    mark = work.mark
    work.by, work.key = ticket.principal, ticket.key
    work.cause, work.request = ticket.cause, ticket.request
    try:
        reply = ticket.command.decide(work)
        return Outcome(body=msgspec.json.encode(reply), reply=reply)
    except LookAgain:
        raise
    except StrongroomError as error:
        if work.mark != mark:
            if isinstance(error, RowHeld):
                raise TakenOut([ticket], error) from error
            raise Poison(ticket, AssertionError(f"refused after a change: {error!r}")) from error
        if isinstance(error, Refused):
            request = str(ticket.request) if ticket.request else None
            said: dict[str, Any] = {"detail": error.detail, "requestId": request}
            if error.facts:
                said["facts"] = error.facts
            body = msgspec.json.encode(said)
            return Outcome(body=body, refused=error.code)
        return Outcome(error=error)
    except Exception as error:
        raise Poison(ticket, error) from error
