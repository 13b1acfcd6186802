"""Load that comes when it is due, whatever the server does: arrivals are planned ahead, and a
latency begins at the planned instant, not when a connection was free to send (no coordinated
omission).

Several streams, each with its own shape, share the connections; who finds none free waits for one,
and waits on the clock. HTTP/1.1 as `client` reads it: answers with a content-length. Runs in a
process of its own, `drive` starts it; `behind_us` tells how late that process itself was: beyond
some milliseconds it is the client that was measured. The event loop's clock ticks in milliseconds:
up to one of them is part of every latency.

    echo '{"host": …, "streams": [{"name": "reads", "per_second": 100, "job": {…}}], …}' |
        python -m strongroom.lab.open_loop
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import msgspec
import uvloop
from hdrh.histogram import HdrHistogram

from strongroom.errors import StrongroomError
from strongroom.lab.client import CONNECT_S, RECONNECT_PAUSE_S, ServerUnreachable, UnreadableAnswer
from strongroom.lab.client_process import in_process, tell
from strongroom.lab.figures import DIGITS, HOUR_US, US_PER_MS, US_PER_S
from strongroom.lab.load.arrivals import Closed, Shape, instants, paced, part_of, warmed
from strongroom.lab.scenarios import Job, requests_of

CONNECTIONS = 256
"""At a thousand a second and 200 ms each none has to wait for another: people bring connections of
their own, and a quick read is not to be measured behind slow writes."""

AT_ONCE = 64
"""Connections that are opened together: below any server's backlog."""

LAST_ANSWERS_S = 10.0
"""How long after the last arrival answers are waited for; what is open then is an error, and its
latency what it has waited so far."""

BEHIND_MS = 10.0
"""A generator whose p99 is later than this has measured itself as well."""

FINE_US = 2048
"""Up to here whole microseconds are kept, above it 11 bits: the buckets of an HDR histogram of
three digits."""

_clock = time.perf_counter
"""Of the whole system: several processes agree on it (CLOCK_MONOTONIC)."""


class Stream(msgspec.Struct, frozen=True):
    """Requests of one job's scenario: at a constant rate from the warm-up to the plan's end, or in
    the shape that is given. The bodies of the first `keep` successes are kept."""

    name: str
    per_second: float
    job: Job
    shape: Shape | None = None
    keep: int = 0


class Plan(msgspec.Struct, frozen=True):
    """What arrives in the first `warmup_s` counts nowhere; `duration_s` begins after it. Of all
    arrivals those of one share are sent: see `instants`."""

    host: str
    port: int
    streams: list[Stream]
    duration_s: float
    warmup_s: float = 0.0
    connections: int = CONNECTIONS
    share: int = 0
    shares: int = 1


class Answered(msgspec.Struct):
    """What came of a stream's arrivals: each counts once in `counted_us`, errors too. `codes` are
    those of problem documents. `early` counts the warm-up by status, 0 for what was not
    answered: it may have had its effect."""

    counted_us: dict[int, int]
    statuses: dict[int, int]
    errors: int
    codes: dict[str, int] = {}
    early: dict[int, int] = {}
    bodies: list[bytes] = []

    @property
    def count(self) -> int:
        return sum(self.counted_us.values())

    @property
    def failed(self) -> int:
        """Not answered with 2xx, or not at all."""
        return self.errors + sum(
            times for status, times in self.statuses.items() if not 200 <= status < 300
        )


class Spell(msgspec.Struct):
    """One second: how many were due in it; how many ended in it, with what latencies (in buckets
    of an HDR histogram), and how many of these failed, by code, status or `unanswered`."""

    intended: int = 0
    ended_us: dict[int, int] = {}
    failed: dict[str, int] = {}


class OpenResult(msgspec.Struct):
    """By stream. `most_waiting`: arrivals that found no connection free, at the worst; `waited`:
    how many did in all. `took_s`: from the measured begin to the last answer."""

    streams: dict[str, Answered]
    behind_us: dict[int, int]
    most_waiting: int
    client_cpu_share: float
    waited: int = 0
    reconnects: int = 0
    took_s: float = 0.0
    seconds: list[Spell] = []

    @property
    def behind_ms(self) -> float:
        """At the 99th percentile, how late the generator was with what it had to send."""
        return quantiles(self.behind_us, 99)[0]


def quantiles(counted_us: Mapping[int, int], *percents: float) -> list[float]:
    """In milliseconds, of latencies counted by whole microseconds; zeros of nothing. 100 is exact."""
    if not counted_us:
        return [0.0 for _ in percents]
    histogram = HdrHistogram(1, HOUR_US, DIGITS)
    for value_us, times in counted_us.items():
        histogram.record_value(min(max(value_us, 1), HOUR_US), times)
    most = max(counted_us) / US_PER_MS
    return [
        most if one == 100 else min(histogram.get_value_at_percentile(one) / US_PER_MS, most)
        for one in percents
    ]


def folded(counted_us: Mapping[int, int]) -> dict[int, int]:
    """The same in buckets, at most 0.1 % below the true values: few, however many were counted."""
    found: dict[int, int] = {}
    for value_us, times in counted_us.items():
        shift = max(0, value_us.bit_length() - FINE_US.bit_length() + 1)
        bucket = value_us >> shift << shift
        found[bucket] = found.get(bucket, 0) + times
    return found


Hear = Callable[[int, Spell], None]
"""Told a second's number, from the measured begin on, and what happened in it."""


class _Source:
    """A stream's requests and what came of them."""

    def __init__(self, plan: Plan, number: int) -> None:
        stream = plan.streams[number]
        self.requests: Iterator[bytes] = requests_of(stream.job)
        self.counted_us: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.early: Counter[int] = Counter()
        self.bodies: list[bytes] = []
        self.keep = stream.keep
        self.errors = 0
        self.shape = stream.shape or warmed(
            paced([stream.per_second], plan.duration_s), plan.warmup_s
        )
        # Streams begin apart from each other, or the first of all would come in one burst.
        phase = (number + 0.5) / len(plan.streams)
        self.due = instants(self.shape, phase=phase, share=plan.share, shares=plan.shares)
        self.closed = isinstance(self.shape, Closed)
        self.left = self.together = 0
        if isinstance(self.shape, Closed):
            self.left = part_of(self.shape.count, plan.share, plan.shares)
            self.together = part_of(self.shape.together, plan.share, plan.shares)


class _Arrival:
    """One request that is due."""

    __slots__ = ("at", "counts", "request", "source")

    def __init__(self, source: _Source, request: bytes, at: float, counts: bool) -> None:
        self.source, self.request, self.at, self.counts = source, request, at, counts


class Load:
    """Sends what is due on connections that are free."""

    def __init__(self, plan: Plan, hear: Hear | None = None) -> None:
        self.plan = plan
        self.sources = [_Source(plan, number) for number in range(len(plan.streams))]
        self.open: set[_Connection] = set()
        self.idle: list[_Connection] = []
        self.waiting: deque[_Arrival] = deque()
        self.behind_us: Counter[int] = Counter()
        self.most_waiting = self.under_way = self.waited = self.reconnects = 0
        self.ended = False
        self.fault: Exception | None = None
        self.begin = self.last_end = 0.0
        self.seconds: list[Spell] = []
        self._hear, self._heard = hear, 0
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def connect_all(self) -> None:
        """Opens every connection before the first request: connecting is not what is measured."""
        left = self.plan.connections
        while left > 0:
            await asyncio.gather(*(self.connect() for _ in range(min(left, AT_ONCE))))
            left -= AT_ONCE

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        patience = _clock() + CONNECT_S
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, made = await loop.create_connection(
                        lambda: _Connection(self), self.plan.host, self.plan.port
                    )
                self.open.add(made)
                self.free(made)
                return
            except OSError as error:
                if _clock() > patience:
                    raise ServerUnreachable(f"Nobody accepts connections: {error}") from error
                await asyncio.sleep(RECONNECT_PAUSE_S)

    def free(self, connection: _Connection) -> None:
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if not self.ended:
            self.reconnects += 1
            task = asyncio.create_task(self._reconnect())
            self._reconnecting.add(task)
            task.add_done_callback(self._reconnecting.discard)

    async def _reconnect(self) -> None:
        try:
            await self.connect()
        except ServerUnreachable as error:
            self.fault = self.fault or error

    def arrive(self, arrival: _Arrival) -> None:
        self.under_way += 1
        if arrival.counts:
            self.second(arrival.at).intended += 1
        if self.idle:
            self.idle.pop().send(arrival)
        else:
            self.waiting.append(arrival)
            self.waited += arrival.counts
            self.most_waiting = max(self.most_waiting, len(self.waiting))

    def second(self, at: float) -> Spell:
        place = max(0, int(at - self.begin))
        while place >= len(self.seconds):
            self.seconds.append(Spell())
        return self.seconds[place]

    def end(self, arrival: _Arrival, status: int, code: str = "") -> None:
        """Of one arrival; status 0 when nobody answered."""
        source, now = arrival.source, _clock()
        if not arrival.counts:
            source.early[status] += 1
        else:
            us = int((now - arrival.at) * US_PER_S)
            source.counted_us[us] += 1
            self.last_end = now
            second = self.second(now)
            second.ended_us[us] = second.ended_us.get(us, 0) + 1
            if status:
                source.statuses[status] += 1
            else:
                source.errors += 1
            if not 200 <= status < 300:
                said = code or str(status or "unanswered")
                second.failed[said] = second.failed.get(said, 0) + 1
                if code:
                    source.codes[code] += 1
        if source.closed:
            self.ask_again(source)

    def ask_again(self, source: _Source) -> None:
        if source.left > 0 and not self.ended:
            source.left -= 1
            self.arrive(_Arrival(source, next(source.requests), _clock(), True))

    async def run(self, begin: float | None = None) -> float:
        """Sends until all has arrived and is answered; the seconds from the first arrival on.
        `begin` is the measured begin, for processes that begin together."""
        first = _clock()
        self.begin = self.last_end = first + self.plan.warmup_s if begin is None else begin
        due = [
            (self.begin + at, number)
            for number, one in enumerate(self.sources)
            if (at := next(one.due, None)) is not None
        ]
        heapq.heapify(due)
        begun = False
        while due or not begun:
            now = _clock()
            if not begun and now >= self.begin:
                begun = True
                self._begin_closed()
            self._send(due, now)
            self._check()
            self._tell(now)
            following = due[0][0] if due else self.begin
            if not begun:
                following = min(following, self.begin)
            await asyncio.sleep(max(0.0, following - _clock()))
        patience = _clock() + LAST_ANSWERS_S
        while self.under_way and _clock() < patience:
            if any(one.left for one in self.sources):
                patience = _clock() + LAST_ANSWERS_S
            self._check()
            self._tell(_clock())
            await asyncio.sleep(RECONNECT_PAUSE_S)
        self._check()  # a fault may have ended all that was under way
        return _clock() - first

    def _begin_closed(self) -> None:
        for source in self.sources:
            for _ in range(source.together):
                self.ask_again(source)

    def _send(self, due: list[tuple[float, int]], now: float) -> None:
        """All that is due by now."""
        while due and due[0][0] <= now:
            at, number = due[0]
            source = self.sources[number]
            following = next(source.due, None)
            if following is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (self.begin + following, number))
            counts = at >= self.begin
            if counts:
                self.behind_us[int((_clock() - at) * US_PER_S)] += 1
            self.arrive(_Arrival(source, next(source.requests), at, counts))

    def _check(self) -> None:
        if self.fault:
            raise self.fault

    def _tell(self, now: float) -> None:
        """Each second that is over, to whoever listens."""
        over = min(int(max(0.0, now - self.begin)), len(self.seconds))
        self._tell_until(over)

    def _tell_until(self, over: int) -> None:
        while self._heard < over:
            spell = self.seconds[self._heard]
            spell.ended_us = folded(spell.ended_us)
            if self._hear:
                self._hear(self._heard, spell)
            self._heard += 1

    def result(self, cpu_share: float) -> OpenResult:
        """Whatever is still open has waited until now."""
        self.ended = True
        for arrival in [*self.waiting, *(one.asked for one in self.open if one.asked)]:
            self.end(arrival, 0)
        self._tell_until(len(self.seconds))
        for spell in self.seconds:
            spell.ended_us = folded(spell.ended_us)
        named = zip(self.plan.streams, self.sources, strict=True)
        return OpenResult(
            streams={
                stream.name: Answered(
                    dict(one.counted_us),
                    dict(one.statuses),
                    one.errors,
                    dict(one.codes),
                    dict(one.early),
                    one.bodies,
                )
                for stream, one in named
            },
            behind_us=dict(self.behind_us),
            most_waiting=self.most_waiting,
            client_cpu_share=cpu_share,
            waited=self.waited,
            reconnects=self.reconnects,
            took_s=self.last_end - self.begin,
            seconds=self.seconds,
        )


class _Connection(asyncio.Protocol):
    """One request at a time. Its methods run for every request, so they are few and plain."""

    transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        self._load = load
        self.asked: _Arrival | None = None
        self._received = b""
        self._parts: list[bytes] = []
        self._missing = 0
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports behave as this class but do not inherit from it.
        self.transport = cast(asyncio.Transport, transport)

    def send(self, arrival: _Arrival) -> None:
        self.asked = arrival
        self.transport.write(arrival.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.asked is not None:
            self._end(0)
        self._load.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
            self._parts.append(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts, self._missing = [], 0
        elif self._received:
            data, self._received = self._received + data, b""
        try:
            whole = self._length(data)
        except UnreadableAnswer as error:
            self._load.fault = error
            self.transport.abort()
            return
        if not whole:
            self._received = data
        elif len(data) < whole:
            self._missing = whole - len(data)
            self._parts = [data]
        else:
            self._answered(data)

    def _answered(self, data: bytes) -> None:
        status, code, arrival = int(data[9:12]), "", self.asked
        if status >= 300:
            code = code_in(data)
        elif arrival is not None and arrival.source.keep and arrival.counts:
            arrival.source.keep -= 1
            arrival.source.bodies.append(data[data.find(b"\r\n\r\n") + 4 :])
        self._end(status, code)
        if self._closing:
            self.transport.close()
        elif not self.transport.is_closing() and self.asked is None:
            self._load.free(self)

    def _end(self, status: int, code: str = "") -> None:
        arrival, self.asked = self.asked, None
        if arrival is None:
            self._load.fault = UnreadableAnswer("The server answered what nobody asked.")
            return
        self._load.under_way -= 1
        self._load.end(arrival, status, code)

    def _length(self, data: bytes) -> int:
        """Of the whole answer; 0 while its head is not there."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = data[:end].lower()
        self._closing = b"\r\nconnection: close" in head
        at = head.find(b"\r\ncontent-length:")
        if not head.startswith(b"http/1.1 ") or (at < 0 and data[9:12] not in (b"204", b"304")):
            raise UnreadableAnswer(f"The answer has no content-length: {head[:200]!r}.")
        if at < 0:
            return end + 4
        stop = head.find(b"\r", at + 2)
        return end + 4 + int(head[at + 17 : stop if stop > 0 else end])


def code_in(answer: bytes) -> str:
    """The code of a problem document, without reading all of it; empty when there is none."""
    at = answer.find(b'"code":"')
    return answer[at + 8 : answer.find(b'"', at + 8)].decode("ascii", "replace") if at > 0 else ""


async def carry_out(plan: Plan) -> OpenResult:
    """Runs the plan in this process."""
    return await carried_out(await connected(plan))


async def connected(plan: Plan, hear: Hear | None = None) -> Load:
    """All that has to be done before the clock starts. `hear` is told each second that is over."""
    load = Load(plan, hear)
    await load.connect_all()
    return load


async def carried_out(load: Load, begin: float | None = None) -> OpenResult:
    """Runs what is connected, from the agreed instant or at once."""
    # What was prepared lives until the end; a collection that walks it would look like latency.
    gc.collect()
    gc.freeze()
    began_s = time.process_time()
    seconds = await load.run(begin)
    return load.result((time.process_time() - began_s) / seconds)


async def drive(plan: Plan) -> OpenResult:
    """Runs the plan in a new process and waits for it; ends that process when cancelled."""
    return await in_process("strongroom.lab.open_loop", plan, OpenResult)


def main() -> int:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    try:
        result = uvloop.run(carry_out(plan))
    except StrongroomError as error:
        print(f"{error.code}: {error.detail}", file=sys.stderr)
        return 1
    tell(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
