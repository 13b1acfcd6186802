"""One API process: uvicorn on a socket it is given or opens."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import deque
from functools import partial

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from strongroom.doors.http.app import application
from strongroom.doors.http.overflow import Overflow
from strongroom.doors.http.seen import Seen
from strongroom.main import DRAIN_S, Strongroom

BACKLOG = 4096
"""A burst of five thousand connects at once and must not be reset."""


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    found.listen(BACKLOG)
    found.set_inheritable(True)
    return found


GARBAGE = (50_000, 50, 50)
"""Looked for every so many objects. With ten thousand connections open, looking as often as Python
does by itself took a quarter of the time."""


class Connection(HttpToolsProtocol):
    """A connection whose end every request on it hears of. uvicorn tells only the newest, but
    answers the oldest: the answer to a client that sent many and went would be written to a closed
    socket, and logged as an error of ours.

    What `overflow` refuses is answered right here; of a crowd that it lets in, some are read in each
    turn of the loop, and all else at once."""

    overflow: Overflow
    _reading = _waits = False

    def data_received(self, data: bytes) -> None:
        between = not (self._reading or self._waits) and self._alone
        wish = self.overflow.wish(data) if between else None
        if wish is None:
            super().data_received(data)
        elif not self._refuse(wish) and not self.overflow.intake.put(
            partial(self._enter, wish, data)
        ):
            self._waits = True
            self.transport.pause_reading()
            self._unset_keepalive_if_required()  # it is not idle

    def _enter(self, wish: tuple[bytes, bytes], data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._waits:
            self._waits = False
            self.transport.resume_reading()
            if self._refuse(wish):
                return
        super().data_received(data)

    def _refuse(self, wish: tuple[bytes, bytes]) -> bool:
        if not self.overflow.refuses(*wish):
            return False
        told = self.overflow.answer(*wish, self.server_state.default_headers)
        self.transport.write(told)
        self.on_response_complete()
        return True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._older: deque[RequestResponseCycle] = deque()
        self._refused: bytes | None = None
        super().connection_made(transport)

    def on_headers_complete(self) -> None:
        method = self.parser.get_method()
        if self._plain and self.overflow.refuses(method, self.url):
            self._refused = method
            return
        before = self.cycle
        super().on_headers_complete()
        if before is not None and before is not self.cycle and not before.response_complete:
            self._older.append(before)

    @property
    def _alone(self) -> bool:
        """No other request is under way here."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _plain(self) -> bool:
        """Nothing but an answer is expected, and not after another."""
        return self._alone and not self.expect_100_continue and not self.parser.should_upgrade()

    def on_message_begin(self) -> None:
        self._reading = True
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        if self._refused is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading = False
        if self._refused is None:
            super().on_message_complete()
            return
        method, self._refused = self._refused, None
        headers = self.server_state.default_headers
        self.transport.write(self.overflow.answer(method, self.url, headers))
        if self.parser.should_keep_alive():
            self.on_response_complete()
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        if self._older:  # they are answered in the order in which they came
            self._older.popleft()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._older:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """A uvicorn that is not ready from the moment it is told to stop."""

    def __init__(self, config: uvicorn.Config, house: Strongroom) -> None:
        super().__init__(config)
        self._house = house

    def handle_exit(self, sig: int, frame: object) -> None:
        self._house.draining = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def serve(house: Strongroom, listening: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what was accepted."""
    seen = Seen(house.executor, house.caches)
    overflow = Overflow(house, seen)
    config = uvicorn.Config(
        application(house, seen, overflow),
        loop="uvloop",
        http=type("Connection", (Connection,), {"overflow": overflow}),
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(DRAIN_S),
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = Server(config, house)
    # The program itself is no garbage: looking through all of it held requests up for 60 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    server.run(sockets=[listening])
