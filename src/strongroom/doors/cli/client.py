"""A small HTTP/1.1 client: one kept connection a caller, JSON both ways, and a health look."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, NamedTuple

import msgspec

LOOK_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 35.0
"""Longer than the server's own statement timeout: then nobody answers any more."""


class Answer(NamedTuple):
    """What came back; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Connection:
    """One kept connection; OSError when it breaks, and the next request opens it again."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self, method: str, path: str, token: str = "", body: bytes = b"", key: str = ""
    ) -> Answer:
        """One request and its answer."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        lines += [f"Idempotency-Key: {key}"] if key else []
        if body or method != "GET":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        head = "\r\n".join(lines).encode("latin-1")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await self._exchange(head + b"\r\n\r\n" + body)
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError):  # the server ended it: stopping, or killed
                raise ConnectionResetError("the server closed the connection") from error
            raise

    async def _exchange(self, request: bytes) -> Answer:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def status_of(host: str, port: int, path: str) -> int | None:
    """The status of one GET; None when nobody answers in time."""
    connection = Connection(host, port)
    with contextlib.suppress(OSError, ValueError, IndexError):  # timeouts, and what is no HTTP
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            return (await connection.ask("GET", path)).status
    return None
