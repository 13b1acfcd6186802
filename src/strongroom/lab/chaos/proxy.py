"""A proxy before Postgres that cuts connections at COMMIT.

    python -m strongroom.lab.chaos.proxy --to /run/postgresql --port 6432 --share 0.1

It forwards the wire protocol message by message (PostgreSQL docs, 54.2 and 54.7). A COMMIT that is
to be cut off is either never delivered, so that the server rolls back (`before`), or the server has
carried it out and only the word of it is lost (`after`). To the client both look the same: its
connection ends while it waits. Whoever takes that for a failure and asks anew doubles what had
been committed; whoever takes it for a success loses what had not.

At the moment of a cut, when the client knows nothing yet and can do nothing, `look` is asked; what
it saw is kept beside the cut.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, NamedTuple, Self, cast
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

When = Literal["before", "after"]

ENCRYPTIONS = (80877103, 80877104)
"""SSLRequest and GSSENCRequest. Answered with no: through a cipher no COMMIT can be seen."""

COMMITS = (b"COMMIT", b"END")
COMMITTED = b"COMMIT\x00"
"""The tag of the server's CommandComplete; of a transaction that had failed it says ROLLBACK."""

PIECE_BYTES = 65536
PORT = 5432
SOCKET = ".s.PGSQL.{port}"

Choice = Callable[[], When | None]
"""Asked at each COMMIT: whether to cut it off, and on which side of the server."""

Look = Callable[[], Awaitable[object]]


class Cut(NamedTuple):
    """A cut that was made, and what `look` saw just then."""

    when: When
    seen: object


class Backend(NamedTuple):
    """Where Postgres listens: a host, or the folder of its Unix socket."""

    host: str
    port: int

    @classmethod
    def of(cls, dsn: str) -> Backend:
        """Out of a DSN such as the embedded server's, with host and port in its query, or not."""
        parts = urlsplit(dsn)
        asked = parse_qs(parts.query)
        host = asked.get("host", [parts.hostname or "localhost"])[0]
        return cls(host, int(asked.get("port", [parts.port or PORT])[0]))

    async def dial(self) -> Streams:
        if self.host.startswith("/"):
            path = Path(self.host) / SOCKET.format(port=self.port)
            return await asyncio.open_unix_connection(path)
        return await asyncio.open_connection(self.host, self.port)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class CommitCutter:
    """The proxy, in the running event loop while the context lasts, on a Unix socket of its own
    or on a port. `through(dsn)` is the DSN that leads through it, and says where to."""

    def __init__(
        self, to: Backend | None = None, *, port: int | None = None, look: Look | None = None
    ) -> None:
        self._to, self._port = to, port
        self.look = look
        self.choose: Choice = self._armed_for
        self._armed: When | None = None
        self._passing = 0
        self._server: asyncio.Server
        self._open: set[asyncio.Task[None]] = set()
        self._folder = Path(tempfile.mkdtemp(prefix="cut-"))
        self.commits = 0
        """COMMITs that were seen, cut off or not."""
        self.cuts: list[Cut] = []
        self.away = False
        """Nobody is let through any more: the server is out of reach."""
        self.gone_after_cut = False
        """From the next cut on the server is out of reach."""

    async def __aenter__(self) -> Self:
        if self._port is None:
            path = self._folder / SOCKET.format(port=PORT)
            self._server = await asyncio.start_unix_server(self._accepted, path)
        else:
            self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def through(self, dsn: str) -> str:
        """The same database and login, by way of this proxy."""
        self._to = self._to or Backend.of(dsn)
        host, port = ("127.0.0.1", self._port) if self._port else (str(self._folder), PORT)
        parts = urlsplit(dsn)
        user = parts.netloc.rpartition("@")[0]
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        query = urlencode(asked | {"host": host, "port": str(port)}, quote_via=quote)
        netloc = f"{user}@" if user else ""
        # By hand: urlunsplit leaves the slashes out where there is no host.
        return f"{parts.scheme}://{netloc}{urlunsplit(('', '', parts.path, query, ''))}"

    def arm(self, when: When, *, passing: int = 0) -> None:
        """Cuts the next COMMIT and no further one, after letting `passing` of them through."""
        self._armed, self._passing = when, passing

    def disarm(self) -> None:
        """Cuts nothing more, if it has not yet."""
        self._armed, self._passing = None, 0

    def _armed_for(self) -> When | None:
        if self._passing:
            self._passing -= 1
            return None
        when, self._armed = self._armed, None
        return when

    async def _accepted(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._open.add(task)
        try:
            await self._through(client, to_client)
        except (OSError, EOFError):
            pass  # one of the two has hung up
        except asyncio.CancelledError:
            pass  # the proxy ends; whoever started this task is the loop
        finally:
            to_client.transport.abort()
            self._open.discard(task)

    async def _through(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.away or self._to is None:
            return
        greeting = await _greeting(client, to_client)
        server, to_server = await self._to.dial()
        back = asyncio.create_task(_pump(server, to_client))
        try:
            to_server.write(greeting)
            while True:
                message = await _message(client)
                if _is_commit(message):
                    self.commits += 1
                    if when := self.choose():
                        await _stop(back)
                        await self._cut(when, message, server, to_server)
                        return
                to_server.write(message)
                await to_server.drain()
        finally:
            await _stop(back)
            to_server.transport.abort()

    async def _cut(
        self,
        when: When,
        message: bytes,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        if when == "after":
            to_server.write(message)
            await _until_committed(server)
        to_server.transport.abort()
        self.away = self.away or self.gone_after_cut
        # The client is still waiting, so nobody can have asked again.
        self.cuts.append(Cut(when, await self.look() if self.look else None))


async def _greeting(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> bytes:
    """The first message, which alone has no type, after no to each wish for a cipher."""
    while True:
        length = await client.readexactly(4)
        body = await client.readexactly(int.from_bytes(length) - 4)
        if int.from_bytes(body[:4]) not in ENCRYPTIONS:
            return length + body
        to_client.write(b"N")


async def _message(source: asyncio.StreamReader) -> bytes:
    head = await source.readexactly(5)
    return head + await source.readexactly(int.from_bytes(head[1:]) - 4)


def _is_commit(message: bytes) -> bool:
    """A simple query and nothing else, as drivers send it."""
    return message[:1] == b"Q" and message[5:].strip(b"\0 ;\n").upper() in COMMITS


async def _until_committed(server: asyncio.StreamReader) -> None:
    """Reads until the server has said that it committed; a refusal there is no cut, but a bug."""
    while True:
        message = await _message(server)
        if message[:1] == b"C":
            assert message[5:] == COMMITTED, f"not committed: {message[5:]!r}"
            return
        assert message[:1] != b"E", f"COMMIT was refused: {message[5:]!r}"


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE_BYTES):
            target.write(piece)
            await target.drain()
    target.close()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _run(to: Backend, port: int, share: float, whens: list[When], seed: int) -> None:
    chance = random.Random(seed)

    def choose() -> When | None:
        return chance.choice(whens) if chance.random() < share else None

    async def look() -> None:
        print(f"cut {len(cutter.cuts) + 1}, at the {cutter.commits}. COMMIT", flush=True)

    async with CommitCutter(to, port=port, look=look) as cutter:
        cutter.choose = choose
        print(f"Listening on 127.0.0.1:{port}, before {to.host}:{to.port}.", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Runs until it is interrupted."""
    said = argparse.ArgumentParser(
        prog="python -m strongroom.lab.chaos.proxy",
        description="Cuts connections to Postgres at COMMIT. See: "
        "STRONGROOM_DATABASE_URL=postgresql://…@127.0.0.1:6432/… strongroom serve",
    )
    said.add_argument("--to", default="localhost", help="Postgres: a host, or its socket's folder.")
    said.add_argument("--to-port", type=int, default=PORT, help="Its port.")
    said.add_argument("--port", type=int, default=6432, help="Where to listen, on 127.0.0.1.")
    said.add_argument("--share", type=float, default=0.05, help="Of all COMMITs, to be cut off.")
    said.add_argument("--when", choices=["before", "after", "both"], default="both")
    said.add_argument("--seed", type=int, default=1)
    asked = said.parse_args()
    whens: list[When] = ["before", "after"] if asked.when == "both" else [asked.when]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            _run(Backend(asked.to, asked.to_port), asked.port, asked.share, whens, asked.seed)
        )


if __name__ == "__main__":
    main()
