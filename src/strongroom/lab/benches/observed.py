"""What it costs to be watched: bets while metrics are scraped and traces sent, while metrics are
scraped, and while nobody watches."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Self

from strongroom.doors.traces import check
from strongroom.errors import Invalid
from strongroom.lab.arena import Arena, free_port
from strongroom.lab.bench import Series, Turn, Verdict
from strongroom.lab.benches.betting import bets
from strongroom.lab.client import CONNECTIONS
from strongroom.lab.figures import Figures
from strongroom.settings import Settings

SCRAPED_EVERY_S = 5.0
"""Three times as often as `monitoring/prometheus.yml` has it. Nobody works the queues here, so they
grow beyond what a scrape counts."""

KEPT = 0.95
"""Promised: to be watched costs a twentieth of the throughput at most."""

WATCHED, ALONE, SCRAPED = "scraped and traced", "nobody watching", "scraped"

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Collector:
    """Takes what is sent over OTLP/HTTP, counts it, and throws it away."""

    def __init__(self) -> None:
        self.posts = self.bytes = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its URL, as long as this lasts."""
        port = free_port()
        server = await asyncio.start_server(self._take, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                self.posts, self.bytes = self.posts + 1, self.bytes + length
                writer.write(TAKEN)
                await writer.drain()
        writer.close()


async def _scraped(port: int, load: Awaitable[Figures]) -> Figures:
    """The load, with the page of metrics read meanwhile."""
    pages = 0

    async def scrape() -> None:
        nonlocal pages
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(SCRAPE)
            page = await reader.read(-1)
            writer.close()
            assert page.startswith(b"HTTP/1") and b" 200 " in page[:20], page[:200]
            pages += 1
            await asyncio.sleep(SCRAPED_EVERY_S)

    scraping = asyncio.create_task(scrape())
    try:
        figures = await load
        assert not scraping.done() and pages, "the metrics could not be read"
    finally:
        scraping.cancel()
        await asyncio.gather(scraping, return_exceptions=True)
    return {**figures, "scrapes": float(pages)}


class AlreadyTraced(Invalid):
    """Unset otlp_url: this bench also measures what is not traced."""


class Observed(Series):
    """POST /api/bets over 256 connections by many users. Each turn has an API process of its own,
    begun for it: of two that stand side by side, one is always a few hundredths the faster, and
    would be so in every pair. All count alike. Two are scraped every five seconds, and one of these
    sends the traces of the default share, to a collector on the same cores. No worker runs.
    """

    name = "observed"
    claim = "Bets while metrics are scraped and traces sent, against nobody watching"
    figure = "bets_per_s"
    setting = "connections"
    settings = (CONNECTIONS,)
    rows = (WATCHED, ALONE, SCRAPED)
    seconds = 10.0
    people = 1000

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._collector = Collector()
        self._traced: dict[str, str] = {}
        self._rates: defaultdict[str, list[float]] = defaultdict(list)

    async def __aenter__(self) -> Self:
        try:
            url = await self._stack.enter_async_context(self._collector.listening())
            if Settings().otlp_url is not None:
                raise AlreadyTraced()
            check(Settings(otlp_url=url))
            share = str(Settings.model_fields["trace_share"].default)
            self._traced = {"STRONGROOM_OTLP_URL": url, "STRONGROOM_TRACE_SHARE": share}
            self.arena = await self._stack.enter_async_context(Arena(self.people))
            self.dsn = self.arena.house.place.app
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def side(self, name: str, turn: Turn) -> Figures:
        posts, sent = self._collector.posts, self._collector.bytes
        port = free_port()
        environment = {"STRONGROOM_METRICS_PORT": str(port)}
        if name == WATCHED:
            environment |= self._traced
        async with self.arena.serving(environment=environment) as api:
            load = bets(self.arena, api, turn, self.people)
            figures = await (load if name == ALONE else _scraped(port, load))
        traces = self._collector.posts - posts
        assert (traces > 0) == (name == WATCHED), f"{name}: {traces} batches of traces came"
        self._rates[name].append(figures[self.figure])
        return {**figures, "trace_bytes": float(self._collector.bytes - sent)}

    def verdicts(self, figures: Figures, baseline: Figures) -> list[Verdict]:
        pairs = zip(self._rates[WATCHED], self._rates[ALONE], strict=True)
        kept = statistics.median(watched / alone for watched, alone in pairs)
        return [Verdict("throughput kept", kept, KEPT, "", at_least=True)]
