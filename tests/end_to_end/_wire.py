"""Many clients at once, some of them rude: HTTP/1.1 on asyncio streams.

A request has one of two ends for its client: an answer, or `Broken` — the connection ended first
and nobody knows what became of it. `until_definite` asks again with the same key until it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

ANSWER_S = 30.0
"""Longer than the server's own deadlines together; after this the connection counts as broken."""

GIVE_UP_S = 60.0
"""A house that does not answer within this is down, not slow."""

NOT_NOW = (429, 503)


class Broken(Exception):
    """The connection ended before an answer came: the outcome is unknown."""


class Reply(NamedTuple):
    """An answer, byte for byte; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def definite(self) -> bool:
        """Done or refused for good; else the same request is to be sent again."""
        in_progress = self.status == 409 and self.json["code"] == "request_in_progress"
        return self.status not in NOT_NOW and not in_progress


def request(method: str, path: str, token: str, key: str | None = None, body: Any = None) -> bytes:
    """The bytes of one request."""
    raw = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: house", f"Authorization: Bearer {token}"]
    if key:
        lines.append(f"Idempotency-Key: {key}")
    if raw:
        lines.append("Content-Type: application/json")
    lines.append(f"Content-Length: {len(raw)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + raw


class Wire:
    """One client's connection, to any of several API processes; opened again when it breaks."""

    def __init__(self, ports: Sequence[int], chance: random.Random) -> None:
        self._ports, self._chance = ports, chance
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            port = self._chance.choice(self._ports)
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", port)
            except OSError as error:
                raise Broken() from error
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def ask(self, said: bytes) -> Reply:
        """Sends the request and reads the answer; Broken."""
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await self._open()
                writer.write(said)
                await writer.drain()
                return await _read(reader)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise Broken() from error
        except BaseException:
            self.close()
            raise

    async def hang_up(self, said: bytes, share: float) -> None:
        """Sends a share of the request and closes without waiting for the answer."""
        with contextlib.suppress(OSError, Broken):
            _, writer = await self._open()
            writer.write(said[: round(len(said) * share)])
            await writer.drain()
            # The server has begun to read, at least now and then.
            await asyncio.sleep(self._chance.choice((0, 0, 0.002)))
        self.close()

    async def until_definite(self, said: bytes) -> Reply:
        """Sends the same request until its outcome is known."""
        clock = asyncio.get_running_loop().time
        began = clock()
        met: list[str] = []
        while True:
            try:
                reply = await self.ask(said)
                if reply.definite:
                    return reply
                met.append(f"{clock() - began:.1f} s: {reply.json['code']}")
            except Broken as broken:
                met.append(f"{clock() - began:.1f} s: {broken.__cause__!r}")
            assert clock() - began < GIVE_UP_S, (said[:80], met[:5], met[-15:])
            await asyncio.sleep(self._chance.uniform(0.02, 0.1))


async def _read(reader: asyncio.StreamReader) -> Reply:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Reply(int(first.split()[1]), headers, body)
