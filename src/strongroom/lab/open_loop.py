"""Load at a constant rate, whatever the server does: arrivals are planned ahead, and a latency
begins at the planned instant, not when a connection was free to send (no coordinated omission).

Several streams, each with its own rate, share the connections; who finds none free waits for one,
and waits on the clock. HTTP/1.1 as `client` reads it: answers with a content-length. Runs in a
process of its own, `drive` starts it; `behind_us` tells how late that process itself was: beyond
some milliseconds it is the client that was measured.

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
from collections.abc import Iterator, Mapping
from typing import cast

import msgspec
import uvloop
from hdrh.histogram import HdrHistogram

from strongroom.errors import StrongroomError
from strongroom.lab.client import CONNECT_S, RECONNECT_PAUSE_S, ServerUnreachable, UnreadableAnswer
from strongroom.lab.client_process import in_process
from strongroom.lab.figures import DIGITS, HOUR_US, US_PER_MS, US_PER_S
from strongroom.lab.scenarios import Job, requests_of

CONNECTIONS = 256
"""At a thousand a second and 200 ms each none has to wait for another: people bring connections of
their own, and a quick read is not to be measured behind slow writes."""

LAST_ANSWERS_S = 10.0
"""How long after the last arrival answers are waited for; what is open then is an error, and its
latency what it has waited so far."""

BEHIND_MS = 10.0
"""A generator whose p99 is later than this has measured itself as well."""

_clock = time.perf_counter


class Stream(msgspec.Struct, frozen=True):
    """Requests of one job's scenario at a constant rate."""

    name: str
    per_second: float
    job: Job


class Plan(msgspec.Struct, frozen=True):
    """What arrives in the first `warmup_s` counts nowhere; `duration_s` begins after it."""

    host: str
    port: int
    streams: list[Stream]
    duration_s: float
    warmup_s: float = 0.0
    connections: int = CONNECTIONS


class Answered(msgspec.Struct):
    """What came of a stream's arrivals: each counts once in `counted_us`, errors too."""

    counted_us: dict[int, int]
    statuses: dict[int, int]
    errors: int

    @property
    def count(self) -> int:
        return sum(self.counted_us.values())

    @property
    def failed(self) -> int:
        """Not answered with 2xx, or not at all."""
        return self.errors + sum(
            times for status, times in self.statuses.items() if not 200 <= status < 300
        )


class OpenResult(msgspec.Struct):
    """By stream. `most_waiting`: arrivals that found no connection free, at the worst."""

    streams: dict[str, Answered]
    behind_us: dict[int, int]
    most_waiting: int
    client_cpu_share: float

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


class _Source:
    """A stream's requests and what came of them."""

    def __init__(self, stream: Stream) -> None:
        self.requests: Iterator[bytes] = requests_of(stream.job)
        self.every_s = 1 / stream.per_second
        self.counted_us: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.errors = 0


class _Arrival:
    """One request that is due."""

    __slots__ = ("at", "counts", "request", "source")

    def __init__(self, source: _Source, request: bytes, at: float, counts: bool) -> None:
        self.source, self.request, self.at, self.counts = source, request, at, counts

    def end(self, status: int | None) -> None:
        if self.counts:
            self.source.counted_us[int((_clock() - self.at) * US_PER_S)] += 1
            if status is None:
                self.source.errors += 1
            else:
                self.source.statuses[status] += 1


class _Load:
    """Sends what is due on connections that are free."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sources = [_Source(one) for one in plan.streams]
        self.open: set[_Connection] = set()
        self.idle: list[_Connection] = []
        self.waiting: deque[_Arrival] = deque()
        self.behind_us: Counter[int] = Counter()
        self.most_waiting = self.under_way = 0
        self.ended = False
        self.fault: Exception | None = None
        self._reconnecting: set[asyncio.Task[None]] = set()

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
        if self.idle:
            self.idle.pop().send(arrival)
        else:
            self.waiting.append(arrival)
            self.most_waiting = max(self.most_waiting, len(self.waiting))

    async def run(self) -> float:
        """Sends until all has arrived and is answered; the seconds from the first arrival on."""
        plan = self.plan
        for _ in range(plan.connections):
            await self.connect()
        begin = _clock()
        counted, end = begin + plan.warmup_s, begin + plan.warmup_s + plan.duration_s
        # Streams begin apart from each other, or the first of all would come in one burst.
        shares = enumerate(self.sources)
        due = [(begin + one.every_s * (n + 1) / len(self.sources), n) for n, one in shares]
        heapq.heapify(due)
        while due[0][0] < end:
            now = _clock()
            while due[0][0] <= now and due[0][0] < end:
                at, number = due[0]
                source = self.sources[number]
                heapq.heapreplace(due, (at + source.every_s, number))
                if at >= counted:
                    self.behind_us[int((_clock() - at) * US_PER_S)] += 1
                self.arrive(_Arrival(source, next(source.requests), at, at >= counted))
            self._check()
            await asyncio.sleep(max(0.0, min(due[0][0], end) - _clock()))
        patience = _clock() + LAST_ANSWERS_S
        while self.under_way and _clock() < patience:
            self._check()
            await asyncio.sleep(RECONNECT_PAUSE_S)
        return _clock() - begin

    def _check(self) -> None:
        if self.fault:
            raise self.fault

    def result(self, cpu_share: float) -> OpenResult:
        """Whatever is still open has waited until now."""
        self.ended = True
        for arrival in [*self.waiting, *(one.asked for one in self.open if one.asked)]:
            arrival.end(None)
        named = zip(self.plan.streams, self.sources, strict=True)
        return OpenResult(
            streams={
                stream.name: Answered(dict(one.counted_us), dict(one.statuses), one.errors)
                for stream, one in named
            },
            behind_us=dict(self.behind_us),
            most_waiting=self.most_waiting,
            client_cpu_share=cpu_share,
        )


class _Connection(asyncio.Protocol):
    """One request at a time."""

    transport: asyncio.Transport

    def __init__(self, load: _Load) -> None:
        self._load = load
        self.asked: _Arrival | None = None
        self._received = bytearray()
        self._whole = 0
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports behave as this class but do not inherit from it.
        self.transport = cast(asyncio.Transport, transport)

    def send(self, arrival: _Arrival) -> None:
        self.asked = arrival
        self.transport.write(arrival.request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.asked is not None:
            self._end(None)
        self._load.lost(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            if not self._whole:
                self._whole = self._length()
        except UnreadableAnswer as error:
            self._load.fault = error
            self.transport.abort()
            return
        if not self._whole or len(self._received) < self._whole:
            return
        status = int(self._received[9:12])
        self._received.clear()
        self._whole = 0
        self._end(status)
        if self._closing:
            self.transport.close()
        elif not self.transport.is_closing():
            self._load.free(self)

    def _end(self, status: int | None) -> None:
        arrival, self.asked = self.asked, None
        if arrival is None:
            self._load.fault = UnreadableAnswer("The server answered what nobody asked.")
            return
        self._load.under_way -= 1
        arrival.end(status)

    def _length(self) -> int:
        """Of the whole answer; 0 while its head is not there."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = bytes(self._received[:end]).lower()
        self._closing = b"\r\nconnection: close" in head
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if not head.startswith(b"http/1.1 ") or not found:
            raise UnreadableAnswer(f"The answer has no content-length: {head[:200]!r}.")
        return end + 4 + int(rest.partition(b"\r")[0])


async def carry_out(plan: Plan) -> OpenResult:
    """Runs the plan in this process."""
    load = _Load(plan)
    # What was prepared lives until the end; a collection that walks it would look like latency.
    gc.collect()
    gc.freeze()
    began_s = time.process_time()
    seconds = await load.run()
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
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
