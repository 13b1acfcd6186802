"""A proxy before Postgres that cuts connections at COMMIT.

It forwards the wire protocol message by message (Postgres docs, 53.2). Once armed, the next COMMIT
is cut off: `before` it is delivered, so that the server rolls back, or `after` the server has
carried it out, so that only the word of it is lost. To the client both look the same.

At the moment of a cut, when the client knows nothing yet and can do nothing, `look` is asked; what
it saw is kept beside the cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

When = Literal["before", "after"]

NEGOTIATIONS = (80877103, 80877104)
"""SSLRequest and GSSENCRequest: another untyped message follows."""

COMMITTED = b"COMMIT\x00"
"""The tag of the server's CommandComplete."""


class Cut(NamedTuple):
    """A cut that was made, and what `look` saw just then."""

    when: When
    seen: int


class CommitCutter:
    """The proxy, on a Unix socket of its own and in a thread of its own."""

    def __init__(self, database_url: str, look: Callable[[], int]) -> None:
        self._target = conninfo_to_dict(database_url)
        self._look = look
        self._armed: When | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="cut-"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._listening = threading.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.cuts: list[Cut] = []
        self.away = False
        """Nobody is let through: after a cut, the server stays out of reach."""
        query = {"host": str(self._folder), "port": "5432"}
        url = make_url(database_url).set(host=None, port=None).update_query_dict(query)
        self.url = url.render_as_string(hide_password=False)

    def __enter__(self) -> CommitCutter:
        self._thread.start()
        assert self._listening.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def arm(self, when: When) -> None:
        """Cuts the next COMMIT, and no further one."""
        self._armed = when

    def _run(self) -> None:
        async def listen() -> None:
            await asyncio.start_unix_server(self._through, self._folder / ".s.PGSQL.5432")
            self._listening.set()

        self._loop.run_until_complete(listen())
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._target["host"]), int(self._target.get("port") or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _through(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.away:
            to_client.transport.abort()
            return
        server, to_server = await self._dial()
        back = asyncio.create_task(_pump(server, to_client))
        try:
            await self._forward(client, to_server, server, back)
        except (OSError, EOFError):
            pass
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            for writer in (to_client, to_server):
                writer.transport.abort()

    async def _forward(
        self,
        client: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        back: asyncio.Task[None],
    ) -> None:
        typed = False
        while True:
            kind = await client.readexactly(1) if typed else b""
            length = await client.readexactly(4)
            body = await client.readexactly(int.from_bytes(length) - 4)
            if kind == b"Q" and body.strip(b"\0 ;").upper() == b"COMMIT" and self._armed:
                when, self._armed = self._armed, None
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
                if when == "after":
                    to_server.write(kind + length + body)
                    said = b""
                    while COMMITTED not in said:
                        piece = await server.read(65536)
                        assert piece, "the server did not commit"
                        said += piece
                to_server.transport.abort()
                # In this thread on purpose: until it is done nobody can come through and retry.
                self.cuts.append(Cut(when, self._look()))
                return
            to_server.write(kind + length + body)
            await to_server.drain()
            typed = typed or int.from_bytes(body[:4]) not in NEGOTIATIONS


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    target.close()
