"""A throng that comes at its own pace and remembers each request: when it was due, how long it took
from then, what was answered. From this is read what the means of a load run hide: how quick the
refusals were, what happened while a fault lasted, which keys were acknowledged.

Open loop as `open_loop`, but people bring connections of their own, as many as wait at once. Runs
in a process of its own, `gathered` starts it:

    echo '{"port": 8000, "flows": [{"name": "bets", "per_second": 100, "job": {…}}], "seconds": 10}' |
        python -m strongroom.lab.chaos.throng
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import sys
import time
from collections import Counter, deque
from typing import cast

import msgspec
import uvloop

from strongroom.lab.client_process import in_process, tell
from strongroom.lab.figures import US_PER_S
from strongroom.lab.open_loop import quantiles
from strongroom.lab.scenarios import Job, requests_of

HOST = "127.0.0.1"

READY_CONNECTIONS = 64
"""More come as they are needed."""

LAST_ANSWERS_S = 35.0
"""Longer than any lock or statement may take, so that nothing stays open that had an answer."""

REFUSED = (429, 503)

LET_IN_US = 1_900_000
"""A refusal this late came of having waited for the 2 s that a write may wait."""

CONNECTING_AT_ONCE = 64
"""More than a few under way would be a flood of SYNs, which is another trial."""

TURN_S = 0.001

_clock = time.monotonic


class Flow(msgspec.Struct, frozen=True):
    """Requests of one job's scenario at a constant rate."""

    name: str
    per_second: float
    job: Job


class Plan(msgspec.Struct, frozen=True):
    """Who comes, and for how long."""

    port: int
    flows: list[Flow]
    seconds: float
    at: float = 0.0
    """The instant of the first request, by the machine's monotonic clock; at once if it is over."""
    ready: int = READY_CONNECTIONS
    """Connections that are open before the first request is due. Who has to open one first is late
    by what the server takes to accept it, and comes to its door later than it was due."""


class Met(msgspec.Struct, array_like=True):
    """One request: the number of its key, when it was due (the machine's monotonic clock), how long
    the answer took from then, and its status; 0 for none."""

    number: int
    at: float
    took_us: int
    status: int
    retry_after: bool

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    @property
    def answered_at(self) -> float:
        return self.at + self.took_us / US_PER_S


class Recalled(msgspec.Struct):
    """What a throng remembers, by flow. `behind_ms`: how late it was itself, at the 99th
    percentile."""

    began: float
    flows: dict[str, list[Met]]
    behind_ms: float
    connections: int
    cpu_share: float

    def of(self, *names: str) -> list[Met]:
        """What the flows of these names met; of none, all."""
        return [one for name in names or self.flows for one in self.flows[name]]


def p99_ms(met: list[Met]) -> float:
    """The 99th percentile of their latencies; 0 of nothing."""
    return quantiles(Counter(one.took_us for one in met), 99)[0]


def refused(met: list[Met]) -> list[Met]:
    return [one for one in met if one.status in REFUSED]


def at_once_ms(met: list[Met]) -> float:
    """The 99th percentile of what refusals took. Who was let in and told at the deadline is none
    of these: to wait as long as everybody may is not to be turned away."""
    return p99_ms([one for one in refused(met) if one.took_us < LET_IN_US])


def good_per_s(met: list[Met], since: float, until: float) -> float:
    """Successes a second among what was answered in this time."""
    good = sum(one.succeeded and since <= one.answered_at < until for one in met)
    return good / (until - since)


class _Due:
    """A request that is due."""

    __slots__ = ("at", "into", "number", "request")

    def __init__(self, into: list[Met], number: int, request: bytes, at: float) -> None:
        self.into, self.number, self.request, self.at = into, number, request, at

    def end(self, status: int, retry_after: bool = False) -> None:
        took_us = max(0, int((_clock() - self.at) * US_PER_S))
        self.into.append(Met(self.number, self.at, took_us, status, retry_after))


class _Throng:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.met: dict[str, list[Met]] = {one.name: [] for one in plan.flows}
        self.idle: list[_Person] = []
        self.open: set[_Person] = set()
        self.waiting: deque[_Due] = deque()
        self.under_way = self.most = 0
        self.behind_us: Counter[int] = Counter()
        self._connecting: set[asyncio.Task[None]] = set()

    async def run(self) -> float:
        """Sends all that becomes due and waits for the last answers; when it began."""
        flows = self.plan.flows
        requests = [requests_of(one.job) for one in flows]
        for opened in range(0, self.plan.ready, CONNECTING_AT_ONCE):
            left = min(CONNECTING_AT_ONCE, self.plan.ready - opened)
            await asyncio.gather(*(self._connect() for _ in range(left)))
        await asyncio.sleep(max(0.0, self.plan.at - _clock()))
        begin = _clock()
        end = begin + self.plan.seconds
        # Flows begin apart from each other, or the first of all would come in one burst; and in the
        # middle of their steps, or whether the last is due at the end would be left to rounding.
        steps = [(n + 0.5) / len(flows) for n in range(len(flows))]
        due = [(begin + steps[n] / one.per_second, n, 0) for n, one in enumerate(flows)]
        heapq.heapify(due)
        while due[0][0] < end:
            now = _clock()
            while due[0][0] <= now and due[0][0] < end:
                at, n, number = due[0]
                heapq.heapreplace(due, (at + 1 / flows[n].per_second, n, number + 1))
                self.behind_us[int((_clock() - at) * US_PER_S)] += 1
                self._arrive(_Due(self.met[flows[n].name], number, next(requests[n]), at))
            await asyncio.sleep(max(TURN_S, min(due[0][0], end) - _clock()))
        patience = _clock() + LAST_ANSWERS_S
        while self.under_way and _clock() < patience:
            await asyncio.sleep(TURN_S)
        for one in [*self.waiting, *(person.asked for person in self.open if person.asked)]:
            one.end(0)
        return begin

    def _arrive(self, due: _Due) -> None:
        self.under_way += 1
        if self.idle:
            self.idle.pop().ask(due)
            return
        self.waiting.append(due)
        if len(self._connecting) < min(CONNECTING_AT_ONCE, len(self.waiting)):
            task = asyncio.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(lambda: _Person(self), HOST, self.plan.port)
        except OSError:
            # Nobody listens: who waits is unanswered, as anybody who comes now.
            if self.waiting:
                self.under_way -= 1
                self.waiting.popleft().end(0)
            return
        self.open.add(made)
        self.most = max(self.most, len(self.open))
        self.free(made)

    def free(self, person: _Person) -> None:
        if self.waiting:
            person.ask(self.waiting.popleft())
        else:
            self.idle.append(person)

    def lost(self, person: _Person) -> None:
        self.open.discard(person)
        if person in self.idle:
            self.idle.remove(person)


class _Person(asyncio.Protocol):
    """One connection, one request at a time."""

    transport: asyncio.Transport

    def __init__(self, throng: _Throng) -> None:
        self._throng = throng
        self.asked: _Due | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports behave as this class but do not inherit from it.
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, due: _Due) -> None:
        self.asked = due
        self.transport.write(due.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.asked is not None:
            self._throng.under_way -= 1
            self.asked.end(0)
            self.asked = None
        self._throng.lost(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        said = head.lower()
        _, _, rest = said.partition(b"\r\ncontent-length:")
        if len(body) < int(rest.partition(b"\r")[0]):
            return
        self._received = b""
        due, self.asked = self.asked, None
        assert due is not None, "the server answered what nobody asked"
        self._throng.under_way -= 1
        due.end(int(head[9:12]), b"\r\nretry-after:" in said)
        if b"\r\nconnection: close" in said:
            self.transport.close()
        elif not self.transport.is_closing():
            self._throng.free(self)


async def carry_out(plan: Plan) -> Recalled:
    """Runs the plan in this process."""
    throng = _Throng(plan)
    gc.disable()  # what is remembered lives until the end, and a collection looks like latency
    cpu_s, wall_s = time.process_time(), _clock()
    began = await throng.run()
    share = (time.process_time() - cpu_s) / (_clock() - wall_s)
    (behind_ms,) = quantiles(throng.behind_us, 99)
    return Recalled(began, throng.met, behind_ms, throng.most, share)


async def gathered(plan: Plan) -> Recalled:
    """Runs the plan in a new process and waits for it; ends that process when cancelled."""
    return await in_process("strongroom.lab.chaos.throng", plan, Recalled)


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    tell(uvloop.run(carry_out(plan)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
