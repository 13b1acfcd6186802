"""A load client that costs little: HTTP/1.1 on raw sockets, closed loop, one process.

Each of N kept connections sends its next request as soon as the answer to the last one is
complete. A closed loop measures what a server can do, not how long people wait when they keep
coming: a slow server is asked less (coordinated omission). Its latencies also hold the wait for
this client's own turn, so read them beside `client_cpu_s`: near one CPU second per second, the
client is what was measured.

Understands what Strongroom's doors send: a status line, a content-length, a body. Chunked
answers are an error, said clearly. Use `client_process` to keep the load out of the caller's
event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NoReturn, cast

import msgspec

from strongroom.errors import Busy, StrongroomError
from strongroom.lab.figures import US_PER_S, percentiles

Requests = Iterator[bytes] | Callable[[], bytes]
"""Where whole requests come from; StopIteration ends the run."""

CONNECTIONS = 256
"""Enough that a server which commits in groups always has a group waiting."""

CONNECT_S = 10.0
"""A server that restarts is back within this; then it is gone."""

RECONNECT_PAUSE_S = 0.02
ANSWER_TIMEOUT_S = 30.0
"""The server's own statement timeout: when nothing at all is answered for that long, it hangs."""

HEAD_LIMIT_BYTES = 65536
"""Longer than any server's own limit; beyond it this is not HTTP."""

_clock = time.perf_counter


class UnreadableAnswer(StrongroomError):
    """The server sent what this client does not read: it needs HTTP/1.1 with a content-length."""


class ServerUnreachable(Busy):
    """Nobody accepts connections at this address."""


class LoadResult(msgspec.Struct, frozen=True):
    """What came of the requests that were sent after the warm-up: `count` were answered, `errors`
    were not (their connection broke, or nothing came). `seconds` ends with the last answer."""

    count: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    statuses: dict[int, int]
    errors: int
    client_cpu_s: float
    reconnects: int = 0
    bodies: list[bytes] = []


def request_bytes(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """One whole request; content-length is added where there is a body or the method takes one."""
    return _head(method, path, headers, body) + b"\r\n\r\n" + body


def request_parts(
    method: str, path: str, headers: Mapping[str, str], body: bytes, variable: str
) -> tuple[bytes, bytes]:
    """A request in two parts; between them goes the value of the header `variable`."""
    before = _head(method, path, headers, body) + f"\r\n{variable}: ".encode("ascii")
    return before, b"\r\n\r\n" + body


def _head(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("ascii")


async def run(
    address: tuple[str, int],
    *,
    requests: Requests,
    connections: int = CONNECTIONS,
    count: int | None = None,
    duration_s: float | None = None,
    warmup_s: float = 0.0,
    pipeline: int = 1,
    keep_bodies: int = 0,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
) -> LoadResult:
    """Sends requests until `count` were sent, `duration_s` is over or `requests` ends, whichever
    is first, and waits for the last answers.

    What is sent in the first `warmup_s` counts nowhere. `pipeline` requests stand open on each
    connection. The first `keep_bodies` bodies are kept. Raises ServerUnreachable when nobody
    accepts for 10 s, UnreadableAnswer when the server's HTTP is beyond this client.
    """
    draw = requests.__next__ if isinstance(requests, Iterator) else requests
    load = _Load(address, draw, pipeline, keep_bodies)
    try:
        await load.connect_all(connections)
        if warmup_s:
            await load.spend(warmup_s)
        load.begin(count)
        if duration_s is not None:
            await load.spend(duration_s)
            load.stop()
        await load.finish(answer_timeout_s)
    except BaseException:
        await load.abandon()
        raise
    return load.result()


def _nothing_more() -> NoReturn:
    raise StopIteration


class _Load:
    """What the connections of one run share: where requests come from and where answers go."""

    def __init__(
        self, address: tuple[str, int], draw: Callable[[], bytes], pipeline: int, keep: int
    ) -> None:
        self.address, self.draw, self.pipeline = address, draw, pipeline
        self.ended = False
        # Nothing that is sent during the warm-up is recorded.
        self.recorded_from = math.inf
        self.counted_us: defaultdict[int, int] = defaultdict(int)
        self.statuses: defaultdict[bytes, int] = defaultdict(int)
        self.errors = self.reconnects = 0
        self.bodies: list[bytes] = []
        self.bodies_wanted = keep
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._began = self._finished = self._cpu_s = 0.0

    async def connect_all(self, connections: int) -> None:
        """Opens every connection before the first request: connecting is not what is measured."""
        opened = [await self._connect() for _ in range(connections)]
        self._tasks = {asyncio.create_task(self._stay_connected(one)) for one in opened}

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        patience = _clock() + CONNECT_S
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    _, made = await loop.create_connection(lambda: _Connection(self), *self.address)
                self._connections.add(made)
                return made
            except OSError as error:
                if self.ended or _clock() > patience:
                    raise ServerUnreachable(f"Nobody accepts connections: {error}") from error
                await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _stay_connected(self, connection: _Connection) -> None:
        while True:
            connection.begin()
            await connection.lost
            self._connections.discard(connection)
            if self.ended:
                return
            self.reconnects += 1
            try:
                connection = await self._connect()
            except ServerUnreachable:
                if self.ended:
                    return
                raise

    async def spend(self, seconds: float) -> bool:
        """Lets the load run; true when it has come to its end. Raises what a connection raised."""
        if not self._tasks:
            return True
        done, self._tasks = await asyncio.wait(
            self._tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        return not self._tasks

    def begin(self, count: int | None) -> None:
        """From here on it counts."""
        if count is not None:
            self.draw = islice(iter(self.draw, None), count).__next__
        self._cpu_s = time.process_time()
        self._began = self.recorded_from = _clock()

    def stop(self) -> None:
        self.ended = True
        self.draw = _nothing_more

    async def finish(self, answer_timeout_s: float) -> None:
        """Waits for the last answers, as long as any come."""
        heard = -1
        while not await self.spend(answer_timeout_s):
            before, heard = heard, self.errors + sum(self.statuses.values())
            if before == heard:
                await self.abandon()
        self._finished = _clock()
        self._cpu_s = time.process_time() - self._cpu_s

    async def abandon(self) -> None:
        """Gives up what is unanswered: it counts as errors."""
        self.stop()
        for connection in tuple(self._connections):
            connection.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def result(self) -> LoadResult:
        count, seconds = sum(self.statuses.values()), self._finished - self._began
        at = percentiles(self.counted_us)
        return LoadResult(
            count=count,
            seconds=seconds,
            per_second=count / seconds,
            p50_ms=at.p50_ms,
            p99_ms=at.p99_ms,
            p999_ms=at.p999_ms,
            max_ms=at.max_ms,
            statuses={int(status): times for status, times in sorted(self.statuses.items())},
            errors=self.errors,
            client_cpu_s=self._cpu_s,
            reconnects=self.reconnects,
            bodies=self.bodies,
        )


class _Connection(asyncio.Protocol):
    """One connection. Its methods run for every request, so they are few and plain."""

    transport: asyncio.Transport

    def __init__(self, load: _Load) -> None:
        self._load = load
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent_at: deque[float] = deque()
        self._part = b""
        self._missing = 0
        self._status = b""
        self._body: list[bytes] = []
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports behave as this class but do not inherit from it.
        self.transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        for _ in range(self._load.pipeline):
            if not self.lost.done() and not self.transport.is_closing():
                self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        load = self._load
        load.errors += sum(1 for sent_at in self._sent_at if sent_at >= load.recorded_from)
        self._sent_at.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        # An event loop only logs what is raised here; the run has to end with it.
        try:
            self._read(data)
        except Exception as error:  # the run raises it
            if not self.lost.done():
                self.lost.set_exception(error)
            self.transport.abort()

    def _read(self, data: bytes) -> None:
        at = 0
        if self._missing:
            at = min(len(data), self._missing)
            self._missing -= at
            if self._body:
                self._body.append(data[:at])
            if self._missing:
                return
            self._answered()
        elif self._part:
            data, self._part = self._part + data, b""
        size = len(data)
        while at < size:
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                self._keep_part(data[at:])
                return
            self._status = data[at + 9 : at + 12]
            length = self._body_length(data[at:end].lower())
            if length < 0:
                at = end + 4
                continue
            body_at = end + 4
            at = body_at + length
            if self._load.bodies_wanted:
                # Never empty, so that it also says "this body is kept".
                self._body = [b"", data[body_at:at]]
            if at > size:
                self._missing = at - size
                return
            self._answered()

    def _keep_part(self, part: bytes) -> None:
        if len(part) > HEAD_LIMIT_BYTES or not part.startswith(b"HTTP/1.1 "[: len(part)]):
            raise UnreadableAnswer(f"This is no HTTP/1.1 answer: {part[:60]!r}.")
        self._part = part

    def _body_length(self, head: bytes) -> int:
        """Of the answer under this head, in lower case; -1 when another head follows."""
        if not head.startswith(b"http/1.1 "):
            raise UnreadableAnswer(f"This is no HTTP/1.1 answer: {head[:60]!r}.")
        if head.find(b"\r\nconnection: close") > 0:
            self._closing = True
        at = head.find(b"\r\ncontent-length:")
        if at > 0:
            end = head.find(b"\r", at + 17)
            return int(head[at + 17 : end] if end > 0 else head[at + 17 :])
        if self._status in (b"204", b"304"):
            return 0
        if self._status[:1] == b"1":
            return -1
        if head.find(b"\r\ntransfer-encoding:") > 0:
            raise UnreadableAnswer("The answer is chunked; this client needs a content-length.")
        raise UnreadableAnswer(f"The answer has no content-length: {head[:200]!r}.")

    def _answered(self) -> None:
        load = self._load
        if not self._sent_at:
            raise UnreadableAnswer("The server answered what nobody asked.")
        now, sent_at = _clock(), self._sent_at.popleft()
        if sent_at >= load.recorded_from:
            load.counted_us[int((now - sent_at) * US_PER_S)] += 1
            load.statuses[self._status] += 1
            if self._body and load.bodies_wanted:
                load.bodies_wanted -= 1
                load.bodies.append(b"".join(self._body))
        self._body = []
        if self._closing:
            self.transport.close()
        else:
            self._send()

    def _send(self) -> None:
        try:
            request = self._load.draw()
        except StopIteration:
            self._load.stop()
            if not self._sent_at:
                self.transport.close()
            return
        # After the request is made: the client's own work is not the server's latency.
        self._sent_at.append(_clock())
        self.transport.write(request)
