"""Lanes: one queue per command type, and the groups that form in it.

A lane's group is whatever has gathered while the last one was under way. Admission is by the wait
that the queue stands for: who would wait past the deadline is turned away at once, before any
database work.
"""

from __future__ import annotations

import asyncio
from collections import deque

from strongroom.clock import monotonic
from strongroom.core.commands.command import Command, Draining, Overloaded
from strongroom.core.commands.executor import Executor
from strongroom.core.commands.ticket import Outcome, Ticket

QUEUE_LIMIT = 10_000
"""Beyond this a lane holds more memory than patience, whatever its rate."""

SMOOTHING = 0.2
"""Weight of the newest group in the estimate of how long one takes."""


class Lane:
    """The queue of one command type. `width` groups may be under way at once."""

    def __init__(self, executor: Executor, limit: int, width: int) -> None:
        self._executor, self._limit = executor, limit
        self._queue: deque[Ticket] = deque()
        self._ready = asyncio.Event()
        self._running = 0
        self._group_s = 0.0
        self._tasks = [asyncio.create_task(self._work()) for _ in range(width)]

    @property
    def idle(self) -> bool:
        return not self._queue and not self._running

    @property
    def wait_s(self) -> float:
        """How long a command that comes now would wait for its group to begin; nothing when the
        lane is idle, so that one slow group does not close the lane for good."""
        if self.idle:
            return 0.0
        return (len(self._queue) // self._limit + 1) * self._group_s

    def put(self, ticket: Ticket) -> None:
        """Joins the group that is forming; Overloaded when that would be too late."""
        waiting = len(self._queue)
        if waiting >= QUEUE_LIMIT or monotonic() + self.wait_s > ticket.deadline:
            raise Overloaded()
        self._queue.append(ticket)
        self._ready.set()

    async def _work(self) -> None:
        while True:
            await self._ready.wait()
            group = self._take()
            if not group:
                continue
            began = monotonic()
            self._running += 1
            try:
                await self._executor.commit(group)
            finally:
                self._running -= 1
            self._group_s += SMOOTHING * (monotonic() - began - self._group_s)

    def _take(self) -> list[Ticket]:
        """The next group; who waited past the deadline is told so instead."""
        queue, now = self._queue, monotonic()
        group: list[Ticket] = []
        while queue and len(group) < self._limit:
            ticket = queue.popleft()
            if now > ticket.deadline:
                ticket.end(Outcome(error=Overloaded()))
            elif not ticket.done:
                group.append(ticket)
        if not queue:
            self._ready.clear()
        return group

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


class Lanes:
    """All lanes of a process: where commands of callers go."""

    def __init__(self, executor: Executor, *, group_limit: int = 512, width: int = 1) -> None:
        self._executor, self._limit, self._width = executor, group_limit, width
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
        lane.put(ticket)
        return await ticket.future

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
