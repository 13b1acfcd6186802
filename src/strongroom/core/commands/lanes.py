"""Lanes: one queue per command type, and the groups that form in it.

A lane's group is whatever has gathered while the last one was under way. Admission is by the wait
that the queue stands for: who would wait past the deadline is turned away at once, before any
database work. Who was let in is told at the deadline, by the clock, though nothing may move.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Literal

from strongroom.clock import monotonic
from strongroom.core.commands.admission import Admission
from strongroom.core.commands.command import Command, Draining, Overloaded
from strongroom.core.commands.executor import Executor
from strongroom.core.commands.ticket import Outcome, Ticket
from strongroom.core.db.held import RowHeld
from strongroom.errors import Busy
from strongroom.tally import Tally

QUEUE_LIMIT = 10_000
"""Beyond this a lane holds more memory than patience, whatever its rate."""

SMOOTHING = 0.2
"""Weight of the newest group in the estimate of how long one takes."""

LOOK_S = 0.02
"""At least this long between two looks at the queue for who waited too long: it may be full of
deadlines a moment apart, and each look reads all of it."""

NEVER = float("inf")


Rejected = Literal["full", "held", "late", "limit"]
"""Why a command did not get into a group: it would have waited too long, it needs what somebody
holds, it has waited too long, an operator has closed or slowed the lane."""


class Lane:
    """The queue of one command type. `width` groups may be under way at once.

    `waits` has how long those waited that got into a group, `rejected` who did not get into one.
    """

    def __init__(self, executor: Executor, limit: int, width: int) -> None:
        self._executor, self._limit = executor, limit
        self.waits = Tally()
        self.rejected: Counter[Rejected] = Counter()
        self._queue: deque[Ticket] = deque()
        self._ready = asyncio.Event()
        self._began: list[float] = []  # of the groups under way, the oldest first
        self._group_s = 0.0
        self._stuck = False  # nobody of the last group was served: all were told to come again
        self._look_at = NEVER
        self._look: asyncio.TimerHandle | None = None
        self._tasks = [asyncio.create_task(self._work()) for _ in range(width)]

    @property
    def idle(self) -> bool:
        return not self._queue and not self._began

    @property
    def wait_s(self) -> float:
        """How long a command that comes now would wait for its group to begin; nothing when the
        lane is idle, so that one slow group does not close the lane for good. A group that is not
        done takes at least as long again as it took so far, on average: when the database stalls,
        those that ended before it say nothing. And while nobody is served there is no telling."""
        if self.idle:
            return 0.0
        if self._stuck:
            return NEVER
        group_s = self._group_s
        if self._began:
            group_s = max(group_s, monotonic() - self._began[0])
        return (len(self._queue) // self._limit + 1) * group_s

    def full(self, deadline: float) -> bool:
        """Whether one that comes now would be served too late."""
        return len(self._queue) >= QUEUE_LIMIT or monotonic() + self.wait_s > deadline

    def put(self, ticket: Ticket) -> None:
        """Joins the group that is forming; Overloaded when that would be too late, RowHeld when
        it needs what somebody holds."""
        held = self._executor.held
        if held and held.turns_away(ticket.command):
            self.rejected["held"] += 1
            raise RowHeld()
        if self.full(ticket.deadline):
            self.rejected["full"] += 1
            raise Overloaded()
        self._queue.append(ticket)
        self._ready.set()
        if ticket.deadline < self._look_at:
            self._look_again(ticket.deadline)

    def _look_again(self, at: float) -> None:
        """One timer a lane, mostly for a deadline whose ticket has long been answered."""
        if self._look is not None:
            self._look.cancel()
        self._look_at = at
        after_s = max(at - monotonic(), LOOK_S)
        self._look = asyncio.get_running_loop().call_later(after_s, self._tell_the_late)

    def _tell_the_late(self) -> None:
        """Who has waited past the deadline is told so now, whenever the next group may begin."""
        self._look, self._look_at = None, NEVER
        now = monotonic()
        waiting: deque[Ticket] = deque()
        for ticket in self._queue:
            if now > ticket.deadline:
                self._end_late(ticket)
            elif not ticket.done:
                waiting.append(ticket)
        self._queue = waiting
        soonest = min((ticket.deadline for ticket in waiting), default=NEVER)
        if soonest < NEVER:
            self._look_again(soonest)

    def _end_late(self, ticket: Ticket) -> None:
        if not ticket.done:
            self.rejected["late"] += 1
            ticket.end(Outcome(error=Overloaded()))

    async def _work(self) -> None:
        while True:
            await self._ready.wait()
            group = self._take()
            if not group:
                continue
            began = monotonic()
            self._began.append(began)
            try:
                await self._executor.commit(group)
            finally:
                self._began.remove(began)
            self._stuck = all(map(_told_to_come_again, group))
            self._group_s += SMOOTHING * (monotonic() - began - self._group_s)

    def _take(self) -> list[Ticket]:
        """The next group; who waited past the deadline is told so instead. While nobody is served
        one command tries for all: what is in a group is not told at its deadline any more."""
        queue, now = self._queue, monotonic()
        limit = 1 if self._stuck else self._limit
        group: list[Ticket] = []
        while queue and len(group) < limit:
            ticket = queue.popleft()
            if now > ticket.deadline:
                self._end_late(ticket)
            elif not ticket.done:
                self.waits.add(now - ticket.since)
                group.append(ticket)
        if not queue:
            self._ready.clear()
        return group

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._look is not None:
            self._look.cancel()
        for ticket in self._queue:
            ticket.end(Outcome(error=Draining()))


def _told_to_come_again(ticket: Ticket) -> bool:
    """Answers follow a COMMIT a moment later, so who has one by the end of its group failed. Who
    needs a row that somebody holds says nothing of the others."""
    future = ticket.future
    if not future.done() or future.cancelled() or future.exception() is not None:
        return False
    error = future.result().error
    return isinstance(error, Busy) and not isinstance(error, RowHeld)


class Lanes:
    """All lanes of a process: where commands of callers go, as far as `admission` lets them."""

    def __init__(
        self,
        executor: Executor,
        *,
        group_limit: int = 512,
        width: int = 1,
        admission: Admission | None = None,
    ) -> None:
        self._executor, self._limit, self._width = executor, group_limit, width
        self._admission = admission
        self._lanes: dict[type[Command], Lane] = {}
        self._draining = False

    async def run(self, ticket: Ticket) -> Outcome:
        """Runs a command in its lane's next group and waits for its outcome. A caller that gives
        up before the group begins withdraws the command, later it leaves it to its group."""
        if self._draining:
            raise Draining()
        kind = type(ticket.command)
        lane = self._lanes.get(kind)
        if lane is None:
            limit = kind.group_limit or self._limit
            lane = self._lanes[kind] = Lane(self._executor, limit, self._width)
        if self._admission is not None:
            try:
                self._admission.admit(kind)
            except Busy:
                lane.rejected["limit"] += 1
                raise
        lane.put(ticket)
        return await ticket.future

    def full(self, kind: type[Command], within_s: float) -> bool:
        """Whether a command of this kind that has so long would be turned away now; one that is
        counts as such."""
        lane = self._lanes.get(kind)
        if lane is None:
            return False
        if self._admission is not None and self._admission.spent(kind):
            lane.rejected["limit"] += 1
        elif lane.full(monotonic() + within_s):
            lane.rejected["full"] += 1
        else:
            return False
        return True

    @property
    def by_command(self) -> dict[type[Command], Lane]:
        """The lanes that were ever used."""
        return dict(self._lanes)

    @property
    def _idle(self) -> bool:
        return self._executor.idle and all(lane.idle for lane in self._lanes.values())

    async def drain(self, within_s: float) -> bool:
        """Takes nothing more and finishes what was accepted; False when time ran out."""
        self._draining = True
        end = monotonic() + within_s
        while not self._idle and monotonic() < end:
            await asyncio.sleep(0.01)
        finished = self._idle
        for lane in self._lanes.values():
            lane.stop()
        return finished
