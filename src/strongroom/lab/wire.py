"""Many clients at once, some of them rude: HTTP/1.1 on asyncio streams.

A request has one of two ends for its client: an answer, or `Broken`: the connection ended first
and nobody knows what became of it. `until_definite` asks again with the same key until it knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from strongroom.errors import Busy, Invalid

ANSWER_S = 30.0
"""Longer than the server's own deadlines together; after this the connection counts as broken."""

GIVE_UP_S = 60.0
"""A house that does not answer within this is down, not slow."""

LONGEST_PAUSE_S = 5.0
"""Who is told to come again in a minute asks earlier: it may be another process that answers."""

NOT_NOW = (429, 503)


class Broken(Exception):
    """The connection ended before an answer came: the outcome is unknown."""


class StillUnknown(Busy):
    """The outcome of a request stayed unknown for a minute, with its key sent again and again."""


class NotAnAddress(Invalid):
    """This is no address of a house: give one as http://127.0.0.1:8000."""


class Address(NamedTuple):
    """Where a process of the house listens."""

    host: str
    port: int
    secure: bool = False

    @classmethod
    def of(cls, url: str) -> Address:
        """From a URL without a path; NotAnAddress."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise NotAnAddress(f"{url!r} is no address: {error}.") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise NotAnAddress(f"{url!r} is no address: give one as http://127.0.0.1:8000.")
        secure = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if secure else 80), secure)


class Reply(NamedTuple):
    """An answer, byte for byte; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def definite(self) -> bool:
        """Done or refused for good; else the same request is to be sent again."""
        in_progress = self.status == 409 and self.json["code"] == "request_in_progress"
        return self.status not in NOT_NOW and not in_progress


def request(method: str, path: str, token: str, key: str | None = None, body: Any = None) -> bytes:
    """The bytes of one request."""
    raw = b"" if body is None else msgspec.json.encode(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: house"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if key:
        lines.append(f"Idempotency-Key: {key}")
    if raw:
        lines.append("Content-Type: application/json")
    lines.append(f"Content-Length: {len(raw)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + raw


class Wire:
    """One client's connection, to any of several processes; opened again when it breaks."""

    def __init__(self, addresses: Sequence[Address], chance: random.Random) -> None:
        self._addresses, self._chance = addresses, chance
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            host, port, secure = self._chance.choice(self._addresses)
            trusted = ssl.create_default_context() if secure else None
            try:
                self._streams = await asyncio.open_connection(host, port, ssl=trusted)
            except OSError as error:
                raise Broken(f"{host}:{port}: {error}") from error
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
                reply = await _read(reader)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise Broken(repr(error)) from error
        except BaseException:
            self.close()
            raise
        if reply.headers.get("connection") == "close":
            self.close()
        return reply

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
        """Sends the same request until its outcome is known; StillUnknown after a minute."""
        clock = asyncio.get_running_loop().time
        began = clock()
        met: list[str] = []
        while True:
            pause_s = 0.0
            try:
                reply = await self.ask(said)
                if reply.definite:
                    return reply
                pause_s = _asked_to_wait(reply)
                met.append(f"{clock() - began:.1f} s: {reply.json['code']}")
            except Broken as broken:
                met.append(f"{clock() - began:.1f} s: {broken}")
            if clock() - began > GIVE_UP_S:
                raise StillUnknown(f"{said[:80]!r}: {met[:5]} … {met[-15:]}")
            await asyncio.sleep(pause_s + self._chance.uniform(0.02, 0.1))


def _asked_to_wait(reply: Reply) -> float:
    """Seconds of Retry-After where the caller itself asked too often; who is told that the house
    is not ready just now looks again at once, as the first to know."""
    if reply.status != 429 or reply.json["code"] != "rate_limited":
        return 0.0
    return min(float(reply.headers.get("retry-after", "0")), LONGEST_PAUSE_S)


async def _read(reader: asyncio.StreamReader) -> Reply:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Reply(int(first.split()[1]), headers, body)
