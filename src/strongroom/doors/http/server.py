"""One API process: uvicorn on a socket it is given or opens."""

from __future__ import annotations

import asyncio
import gc
import socket

import uvicorn

from strongroom.doors.http.app import application
from strongroom.doors.http.connection import Connection
from strongroom.doors.http.overflow import Overflow
from strongroom.doors.http.policies import of_every_answer
from strongroom.doors.http.seen import Seen, metrics_of
from strongroom.doors.sockets import listening_at
from strongroom.main import DRAIN_S, Strongroom

BACKLOG = 4096
"""A burst of five thousand connects at once and must not be reset."""

GARBAGE = (50_000, 50, 50)
"""Looked for every so many objects. Looking as often as Python does by itself costs an API with ten
thousand open connections about a sixth of what it can serve: at three times the load 1,873 bets a
second instead of 2,237, once each on one machine."""

TICKS = 5
"""Of a tenth of a second: how often slow clients are looked for, all of them in one go."""


def bound(host: str, port: int) -> socket.socket:
    """The socket of an API; OSError when the port is taken."""
    return listening_at(host, port, BACKLOG)


class Server(uvicorn.Server):
    """A uvicorn that is not ready from the moment it is told to stop."""

    def __init__(self, config: uvicorn.Config, house: Strongroom) -> None:
        super().__init__(config)
        self._house = house

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            self._hurry()
        return await super().on_tick(counter)

    def _hurry(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.hurry(now)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async def hurrying() -> None:
            while True:  # who takes too long now keeps the whole process from its end
                await asyncio.sleep(TICKS / 10)
                self._hurry()

        beside = asyncio.create_task(hurrying())
        try:
            await super().shutdown(sockets)
        finally:
            beside.cancel()

    def handle_exit(self, sig: int, frame: object) -> None:
        self._house.draining = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def serve(
    house: Strongroom,
    listening: socket.socket,
    name: str = "api",
    scraped: socket.socket | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what was accepted. Under its `name` it tells
    its metrics, on a socket of its own where one is `scraped`."""
    server = Server(configured(house, name, scraped), house)
    # The program itself is no garbage: looking through all of it held requests up for 60 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    server.run(sockets=[listening])


def configured(
    house: Strongroom, name: str = "api", scraped: socket.socket | None = None
) -> uvicorn.Config:
    """The application, and what is spoken on a connection to it."""
    seen = Seen(house.caches)
    metrics = metrics_of(house, seen, name, scraped)
    overflow = Overflow(house, seen)
    settings = house.settings
    shared = {"overflow": overflow, "seen": seen, "patience_s": settings.request_timeout_s}
    return uvicorn.Config(
        application(house, seen, overflow, metrics),
        loop="uvloop",
        http=type("Connection", (Connection,), shared),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(DRAIN_S),
        timeout_keep_alive=settings.idle_timeout_s,
        headers=of_every_answer(settings.hsts_max_age_s),
    )
