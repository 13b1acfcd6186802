"""One process's metrics as a page: on the API's own port, and on a port of each process's own,
because several API processes share one and a worker has none.

The page is made in a thread: putting thousands of lines together takes some milliseconds, in which
requests would stand still; so they share them. And it is made when the event loop is stuck, with
how long it kept the scrape waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from strongroom import __version__
from strongroom.clock import monotonic
from strongroom.core.guard import Gather
from strongroom.doors.metrics import counted
from strongroom.doors.metrics.names import number, numbers
from strongroom.doors.metrics.standing import ANSWER_S, Standing
from strongroom.main import Strongroom

STUCK_S = 1.0
"""An event loop that gives no turn for so long is stuck; its page is made without it."""

STOP_S = 0.1
"""How soon the thread that serves the page notices that it is to end."""

Source = Callable[[], Iterable[Metric]]


class Metrics(Collector):
    """What one process tells: open it in the event loop, between its house's opening and closing.

    `service` is api or worker, `name` its name among its kin; `more` gives what only such a
    process counts. On a `listening` socket the page is served to whatever path is asked for.
    """

    def __init__(
        self,
        house: Strongroom,
        service: str,
        name: str,
        *more: Source,
        listening: socket.socket | None = None,
    ) -> None:
        self._house, self._service, self._name, self._more = house, service, name, more
        self._standing = Standing(house.audit, archives=house.settings.archives)
        self._listening = listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._pages: Gather[None, bytes] = Gather(self._page, deadline_s=float("inf"))
        ProcessCollector(namespace="strongroom", registry=self._registry)

    async def __aenter__(self) -> Metrics:
        self._loop = asyncio.get_running_loop()
        if self._listening is not None:
            self._server = _Server(self._listening, _hardened(make_wsgi_app(self._registry)))
            self._server.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.end)
        self._loop = None

    async def text(self) -> bytes:
        """The page, for who asks from the event loop. One is made at a time, for all who wait:
        strangers may ask for it, and each takes a thread as long as the database does."""
        found = await self._pages.get(None)
        assert found is not None, "there is always a page"
        return found

    async def _page(self, _: list[None]) -> Mapping[None, bytes]:
        return {None: await asyncio.to_thread(generate_latest, self._registry)}

    def collect(self) -> Iterator[Metric]:
        """All of it; called from a thread beside the event loop."""
        yield numbers("strongroom_build_info", [((__version__, self._service, self._name), 1)])
        yield number("strongroom_process_id", os.getpid())
        answered, lag_s = self._ask()
        yield number("strongroom_event_loop_lag_seconds", lag_s)
        if answered:
            yield from self._standing.metrics()
        house = self._house
        yield from counted.groups(house.executor)
        yield from counted.databases({"app": house.database, "audit": house.audit})
        for source in self._more:
            yield from source()

    def _ask(self) -> tuple[bool, float]:
        """Has the event loop ask the database; whether it came to that, and how long the loop kept
        us waiting for it."""
        loop, asked = self._loop, monotonic()
        if loop is None:
            return False, 0.0
        began: Future[float] = Future()

        async def ask() -> None:
            began.set_result(monotonic())
            await self._standing.ask()

        asking = asyncio.run_coroutine_threadsafe(ask(), loop)
        try:
            lag_s = began.result(STUCK_S) - asked
            asking.result(STUCK_S + ANSWER_S)
        except TimeoutError:
            asking.cancel()
            return False, monotonic() - asked
        return True, lag_s


HEADERS = [
    ("Server", "strongroom"),  # else the library says its version, and Python's
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]


def _hardened(page: Callable[..., Any]) -> Callable[..., Any]:
    """The page with what the API says with each answer."""

    def hardened(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start(status, headers + HEADERS, *more)

        return page(environ, begin)

    return hardened


class _Request(WSGIRequestHandler):
    timeout = 5  # who connects and says nothing does not keep a thread
    server_version, sys_version = "strongroom", ""
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain"

    def log_message(self, *_: Any) -> None:
        """Nobody needs a line for each scrape."""

    def address_string(self) -> str:
        return str(self.client_address[0])


class _Server(ThreadingWSGIServer):
    """The library's page on a socket that is there already."""

    def __init__(self, listening: socket.socket, app: Any) -> None:
        host, port = listening.getsockname()[:2]
        super().__init__((host, port), _Request, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = host, port
        self.setup_environ()
        self.set_app(app)

    def begin(self) -> None:
        serve = threading.Thread(
            target=self.serve_forever, args=(STOP_S,), name="metrics", daemon=True
        )
        serve.start()

    def end(self) -> None:
        self.shutdown()
        with contextlib.suppress(OSError):
            self.server_close()

    def handle_error(self, *_: Any) -> None:
        """A scrape that was given up concerns nobody here."""
