"""One connection: what comes in as far as a request, within bounds of size and time.

What is no request is answered by a problem document as well, and only after all that came before
it on this connection was answered: whoever sends two requests at once must be able to tell which
answer is whose. Then the connection ends: behind something unreadable nobody knows where the next
request begins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from http import HTTPStatus

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from strongroom.clock import monotonic
from strongroom.doors.http.bodies import BULK_LIMIT
from strongroom.doors.http.overflow import Overflow
from strongroom.doors.http.policies import CLOSE, DATA
from strongroom.doors.http.problems import (
    PROBLEM,
    BodyTooLarge,
    HeadersTooLarge,
    RequestTimeout,
    UnreadableRequest,
    UrlTooLong,
    problem,
)
from strongroom.doors.http.seen import Seen
from strongroom.errors import StrongroomError
from strongroom.ids import uuid7

HEAD_BYTES = 64 * 1024
"""Of the first line and all headers, twice what the table takes: read so far, and no further.
Nor does more come between two pieces of a body or after the last, where nobody else counts it."""

URL_BYTES = 16 * 1024
"""Several times the longest search or cursor."""

BYTES_PER_S = 64 * 1024
"""A body that comes this fast or faster never takes too long, however large it is."""

UNHEARD_BYTES = 4 * BULK_LIMIT
"""Of a body whose sender has been answered, or will be refused whatever it says. Who sends one that
is too large mostly reads no answer before its end; one without an end is not read for ever."""

AHEAD = 500
"""Requests that are sent before those in front of them are answered: each waits in memory, and one
read brings fourteen thousand."""

SPOKEN = ("1.1", "1.0")
"""The parser also takes what others mean by HTTP/0.9 and HTTP/2.0."""

LINGER_S = 2.0
"""Who is told no may still be sending, and reads the answer only if the connection is not reset
under it."""

BODIED = (b"content-length", b"transfer-encoding")
"""The parser takes what follows a wish for another protocol for that protocol, body or not."""

NO_REQUEST = "(no request)"
"""In the metrics: the path of what was none."""


class Connection(HttpToolsProtocol):
    """A connection whose end every request on it hears of. uvicorn tells only the newest, but
    answers the oldest: the answer to a client that sent many and went would be written to a closed
    socket, and logged as an error of ours.

    What `overflow` refuses is answered right here; of a crowd that it lets in, some are read in
    each turn of the loop, and all else at once."""

    overflow: Overflow
    seen: Seen
    patience_s: float
    _waits = _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._older: deque[RequestResponseCycle] = deque()
        self._refused: bytes | None = None
        self._in_head = True
        self._bare_bytes, self._bare_goes_on = 0, False
        self._unheard = 0
        self._begun = False
        # Since when the client is waited for; None while it is we who are.
        self._since: float | None = self.loop.time()
        self._fault: StrongroomError | None = None
        self._ending = self._lingering = False
        # How much of what was said has not been taken, and since when.
        self._untaken, self._untaken_since = 0, 0.0
        super().connection_made(transport)

    # What comes in -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        between = not (self._begun or self._waits) and self._alone
        wish = self.overflow.wish(data) if between else None
        if wish is None:
            self._read(data)
        elif not self._refuse(wish, self.overflow.intake.wait_s) and not self.overflow.intake.put(
            partial(self._enter, wish, data, monotonic())
        ):
            self._waits, self._since = True, None
            self.transport.pause_reading()
            self._unset_keepalive_if_required()  # it is not idle

    def _enter(self, wish: tuple[bytes, bytes], data: bytes, since: float) -> None:
        if self.transport.is_closing():
            return
        if self._waits:
            self._waits = False
            self.transport.resume_reading()
            if not self._refuse(wish, monotonic() - since):  # those behind it are no matter to it
                self._read(data)
            if self._stopping:
                self.shutdown()
        else:
            self._read(data)

    def _refuse(self, wish: tuple[bytes, bytes], waits_s: float) -> bool:
        if self.flow.write_paused or not self.overflow.refuses(*wish, waits_s):
            return False
        told = self.overflow.answer(*wish, self.server_state.default_headers)
        self.transport.write(told)
        self._since = None
        self.on_response_complete()
        return True

    def _read(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing is spoken here but HTTP/1.1: the request is answered, and what follows not.
            self._ending = True
            if self._alone:
                self.transport.close()
            else:
                self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._turn_away(self._fault or UnreadableRequest())
        else:
            if self._begun:
                # Of what came with the first bytes, most may belong to the request before, and of
                # what came with a piece of a body most belongs to that.
                self._bare_bytes += len(data) if self._bare_goes_on else 0
                self._bare_goes_on = True
                if self._bare_bytes > HEAD_BYTES:
                    self._turn_away(HeadersTooLarge())

    def eof_received(self) -> bool:  # type: ignore[override]
        """Who has said all may still listen: what came whole is answered before the end."""
        if self._lingering or self._alone:
            return False
        if self._ending:
            return True
        if self._begun and not self._in_head:
            if not self._older:
                return False  # the only one that is owed an answer breaks off
            self._turn_away(UnreadableRequest("The request broke off."))
        else:
            self._ending, self.cycle.keep_alive = True, False
        return True

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        self._in_head = self._begun = True
        self._bare_bytes, self._bare_goes_on = 0, False
        self._unheard = 0
        self._since = self.loop.time()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > URL_BYTES:
            self._fault = UrlTooLong()
            raise self._fault

    def on_headers_complete(self) -> None:
        self._unset_keepalive_if_required()
        self._fault = self._misfit()
        if self._fault is not None:
            raise self._fault
        self._in_head = False
        self._since = self.loop.time()
        method = self.parser.get_method()
        if self._plain and self.overflow.refuses(method, self.url):
            self._refused = method
            return
        before = self.cycle
        try:
            super().on_headers_complete()
        except Exception:
            self._in_head = True  # no request has come of it
            raise
        if before is not None and before is not self.cycle and not before.response_complete:
            self._older.append(before)
        self.headers = []  # what follows a body is no header of its request (RFC 9110, 6.5.1)
        if self.expect_100_continue:
            # Who was not told to go on may take what it sends next for another request, and we
            # would take it for this one's body.
            self.cycle.keep_alive = False

    def _misfit(self) -> StrongroomError | None:
        """Why what has a head like this one is not taken for a request."""
        spoken = self.parser.get_http_version()
        if spoken not in SPOKEN:
            return UnreadableRequest("Only HTTP/1.1 is spoken.")
        if spoken == "1.0":
            self.expect_100_continue = False  # RFC 9110, 10.1.1
        if self.parser.should_upgrade() and any(
            name in BODIED and value != b"0" for name, value in self.headers
        ):
            return UnreadableRequest("Only HTTP/1.1 is spoken: send a body without Upgrade.")
        if len(self.pipeline) >= AHEAD:
            return UnreadableRequest("Too many requests were sent before the first was answered.")
        return None

    @property
    def _alone(self) -> bool:
        """No other request is under way here."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _plain(self) -> bool:
        """Nothing but an answer is expected, not after another, and by one who listens."""
        return (
            self._alone
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and not self.flow.write_paused
        )

    def on_body(self, body: bytes) -> None:
        self._bare_bytes, self._bare_goes_on = 0, False
        if self._since is not None:
            self._since += len(body) / BYTES_PER_S
        if self._refused is None and not self.cycle.response_complete:
            super().on_body(body)
            return
        self._unheard += len(body)
        if self._unheard > UNHEARD_BYTES:
            self._fault = BodyTooLarge()
            raise self._fault

    def on_message_complete(self) -> None:
        self._since, self._begun, self._in_head = None, False, True
        if self._refused is None:
            super().on_message_complete()
            return
        method, self._refused = self._refused, None
        goes_on = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        headers = [*self.server_state.default_headers, *([] if goes_on else [CLOSE])]
        self.transport.write(self.overflow.answer(method, self.url, headers))
        if goes_on:
            self.on_response_complete()
        else:
            self.transport.close()

    # What goes out -------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        if self._older:  # they are answered in the order in which they came
            self._older.popleft()
        if self._since is not None and self._begun:
            self._since = self.loop.time()  # it was not read on while the answer was awaited
        super().on_response_complete()
        if self._fault is not None and not self._owed and not self.transport.is_closing():
            self._say(self._fault)

    @property
    def _owed(self) -> bool:
        """Whether something that came before what is read now has not been answered."""
        return not self._alone if self._in_head else bool(self._older)

    def _turn_away(self, fault: StrongroomError) -> None:
        """Reads no more of what comes; says why, once all that came before is answered."""
        self._ending, self._fault = True, fault
        self._since = None
        self._unset_keepalive_if_required()
        cycle = None if self._in_head or self._refused is not None else self.cycle
        if cycle is not None:
            if cycle.response_started:  # it was answered before all of it had come
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if not self._owed:
            self._say(fault)

    def _say(self, fault: StrongroomError) -> None:
        """The last answer on this connection."""
        request_id = str(uuid7())
        status, body, _ = problem(fault, request_id)
        self.seen.request("", NO_REQUEST, status, 0.0, fault)
        told = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM),
            (b"x-request-id", request_id.encode()),
            *DATA,
            (b"content-length", b"%d" % len(body)),
            CLOSE,
        ]
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
        lines += [name + b": " + value for name, value in told]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self._unset_keepalive_if_required()
        self._fault = None
        self._lingering, self._since = True, self.loop.time()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    # What does not come --------------------------------------------------------------------------

    def hurry(self, now: float) -> None:
        """Ends a connection whose client takes too long: without a word where it has not begun to
        say anything, has its answer already, or takes nothing of what it is told."""
        untaken = self.transport.get_write_buffer_size()
        if untaken != self._untaken or not untaken:
            self._untaken, self._untaken_since = untaken, now
        elif now - self._untaken_since > self.patience_s:
            self.transport.abort()
            return
        if self._since is None or self.transport.is_closing():
            return
        if self._lingering:
            if now - self._since > LINGER_S:
                self.transport.close()
        elif now - self._since > self.patience_s and not self._owed:
            if self._begun:
                self._turn_away(RequestTimeout())
            else:
                self.transport.close()

    def shutdown(self) -> None:
        if self._lingering:
            self.transport.close()
        elif self._waits:
            self._stopping = True  # it was accepted: it gets its turn, its answer, and then the end
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._older:
            cycle.disconnected = True
            cycle.message_event.set()
        self._since = None
        super().connection_lost(exc)
