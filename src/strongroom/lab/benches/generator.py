"""How much load one core of the generator makes, beside a client that many people would take.

Two programs beside the bench: the server that answers everything with the same 200, and the
baseline, an open loop of aiohttp's client over the same plan and with the same books.

    python -m strongroom.lab.benches.generator serve 8001
    echo '{"host": …}' | python -m strongroom.lab.benches.generator
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self, cast

import msgspec
import uvloop

from strongroom.errors import Refused
from strongroom.lab.arena import free_port
from strongroom.lab.bench import Bench, Turn, Verdict
from strongroom.lab.client_process import in_process, tell
from strongroom.lab.figures import US_PER_S, Figures
from strongroom.lab.load.arrivals import instants, paced
from strongroom.lab.open_loop import BEHIND_MS, Answered, OpenResult, Plan, Stream, drive, quantiles
from strongroom.lab.programs import Program
from strongroom.lab.scenarios import Job

MODULE = "strongroom.lab.benches.generator"

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

PROMISED_PER_S = 10_000
"""Of the generator, on one core."""

SLOWEST_PER_S, FASTEST_PER_S = 500.0, 32_000.0
PROBES = 5
"""Halvings of the range between them, on a scale of ratios: to 14 %."""

KEPT_SHARE = 0.99
"""Of what was intended has to be answered within the probe and half a second."""

GRACE_S = 0.5
WARMUP_S = 0.3
CONNECTIONS = 128


class AiohttpMissing(Refused):
    """The baseline of this bench needs aiohttp: pip install aiohttp."""


Drive = Callable[[Plan], Awaitable[OpenResult]]


class Generator(Bench):
    """The highest rate at which a process is in time: half of its requests leave within 10 ms of
    when they are due, and all are answered. Found by halving, each probe a run of its own. At the
    median: who cannot keep up falls behind for good, while other programs of the machine disturb
    only the tail, which is shown beside.

    The baseline is aiohttp's client as an open loop: what one would write without this program.
    The closed loop of `client` is no fair one, it has no arrivals to keep.
    """

    name = "generator"
    claim = "Requests a second that one core of the load generator keeps to, against aiohttp"
    figure = "requests_per_s"
    seconds = 12.0

    async def __aenter__(self) -> Self:
        if importlib.util.find_spec("aiohttp") is None:
            raise AiohttpMissing()
        self.stack = AsyncExitStack()
        self.port = free_port()
        command = [sys.executable, "-m", MODULE, "serve", str(self.port)]
        await self.stack.enter_async_context(Program(command, ready=("127.0.0.1", self.port)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def ours(self, turn: Turn) -> Figures:
        return await self._highest(drive, turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._highest(with_aiohttp, turn)

    async def _highest(self, how: Drive, turn: Turn) -> Figures:
        low, high = SLOWEST_PER_S, FASTEST_PER_S
        best: Figures = {"requests_per_s": 0.0}
        for _ in range(PROBES):
            rate = (low * high) ** 0.5
            found = await self._probe(how, rate, turn.seconds / PROBES)
            if found["in_time"]:
                low, best = rate, found
            else:
                high = rate
        return {name: value for name, value in best.items() if name != "in_time"}

    async def _probe(self, how: Drive, per_second: float, seconds: float) -> Figures:
        result = await how(probe(self.port, per_second, seconds))
        (answered,) = result.streams.values()
        p50_ms, p99_ms = quantiles(answered.counted_us, 50, 99)
        whole = answered.count * KEPT_SHARE <= answered.count - answered.failed
        (late_ms,) = quantiles(result.behind_us, 50)
        in_time = late_ms <= BEHIND_MS and result.took_s <= seconds + GRACE_S
        return {
            "requests_per_s": answered.count / max(result.took_s, seconds),
            "behind_p99_ms": result.behind_ms,
            "p50_ms": p50_ms,
            "p99_ms": p99_ms,
            "cpu_share": result.client_cpu_share,
            "cpu_us_per_request": result.client_cpu_share / per_second * US_PER_S,
            "in_time": float(whole and in_time),
        }

    def verdicts(self, figures: Figures, baseline: Figures) -> list[Verdict]:
        made = figures[self.figure]
        return [Verdict("requests a second", made, PROMISED_PER_S, "", at_least=True)]


def probe(port: int, per_second: float, seconds: float) -> Plan:
    """A constant rate of one small GET."""
    options = {"paths": ["/healthz"]}
    job = Job("127.0.0.1", port, "reads", ["token"], duration_s=seconds, options=options)
    stream = Stream("reads", per_second, job)
    return Plan("127.0.0.1", port, [stream], seconds, WARMUP_S, CONNECTIONS)


# The trivial server ------------------------------------------------------------------------------


class _Same(asyncio.Protocol):
    """Answers whatever ends a head, and reads nothing else of it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve(port: int) -> None:
    """Until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Same, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


# The baseline ------------------------------------------------------------------------------------


async def with_aiohttp(plan: Plan) -> OpenResult:
    """The plan, carried out by the baseline in a process of its own."""
    return await in_process(MODULE, plan, OpenResult)


async def baseline_of(plan: Plan) -> OpenResult:
    """An open loop of aiohttp: a task a request, on as many kept connections."""
    aiohttp: Any = importlib.import_module("aiohttp")
    (stream,) = plan.streams
    counted: Counter[int] = Counter()
    behind: Counter[int] = Counter()
    statuses: Counter[int] = Counter()
    url = f"http://{plan.host}:{plan.port}/healthz"
    headers = {"Authorization": "Bearer token"}
    last = begin = time.perf_counter() + WARMUP_S
    began_s = time.process_time()

    async def ask(session: Any, at: float) -> None:
        nonlocal last
        async with session.get(url, headers=headers) as answer:
            await answer.read()
            last = time.perf_counter()
            counted[int((last - at) * US_PER_S)] += 1
            statuses[answer.status] += 1

    connector = aiohttp.TCPConnector(limit=plan.connections)
    tasks: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(connector=connector) as session:
        for due in instants(paced([stream.per_second], plan.duration_s)):
            while (wait := begin + due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            behind[int(-wait * US_PER_S)] += 1
            task = asyncio.create_task(ask(session, begin + due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    spent = time.process_time() - began_s
    return OpenResult(
        streams={stream.name: Answered(dict(counted), dict(statuses), 0)},
        behind_us=dict(behind),
        most_waiting=0,
        client_cpu_share=spent / (time.perf_counter() - begin + WARMUP_S),
        took_s=last - begin,
    )


def main(arguments: list[str]) -> int:
    if arguments:
        uvloop.run(serve(int(arguments[-1])))
        return 0
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    tell(uvloop.run(baseline_of(plan)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
