"""A small HTTP client: one kept connection, nothing added that was not asked for."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from email.message import Message
from typing import Any
from uuid import UUID, uuid4

TIMEOUT_S = 30.0

IDLE_BROKEN = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
"""What a kept connection says when the server has closed it meanwhile."""


@dataclass(frozen=True)
class Answer:
    """What came back, byte for byte."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The code of a problem document, checked for its form; fails when it is none."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.body)
        said = self.json
        assert set(said) - {"errors"} == {
            "type", "title", "status", "code", "detail", "requestId"
        }, said  # fmt: skip
        assert said["status"] == self.status
        assert said["type"] == f"/schema#{said['code']}"
        for name in ("title", "code", "detail"):
            assert isinstance(said[name], str) and said[name], said
        assert UUID(said["requestId"]).version == 7
        for error in said.get("errors", []):
            assert set(error) == {"field", "message"}
        code: str = said["code"]
        return code


class Client:
    """Requests over one connection; opened again when it broke between two requests."""

    def __init__(self, port: int, *, source: str = "127.0.0.1", timeout: float = TIMEOUT_S) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=timeout, source_address=(source, 0)
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def socket(self) -> object:
        """The connection of now; None after it was closed."""
        return self._connection.sock

    def send(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes | None = None
    ) -> Answer:
        """Exactly this request. A header may stand twice."""
        try:
            return self._send(method, path, headers, body)
        except IDLE_BROKEN:
            self._connection.close()
            return self._send(method, path, headers, body)

    def _send(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes | None
    ) -> Answer:
        connection = self._connection
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def get(self, path: str, token: str | None = None) -> Answer:
        return self.send("GET", path, _bearer(token))

    def post(
        self, path: str, body: Any = None, token: str | None = None, key: str | None = None
    ) -> Answer:
        """A write with a key of its own, unless one is given; `""` sends none."""
        return self.write("POST", path, body, token, key)

    def patch(
        self, path: str, body: Any = None, token: str | None = None, key: str | None = None
    ) -> Answer:
        """A change, with a key as above."""
        return self.write("PATCH", path, body, token, key)

    def write(
        self, method: str, path: str, body: Any, token: str | None, key: str | None = None
    ) -> Answer:
        """What `post` and `patch` do, where the method comes from a table."""
        headers = [*_bearer(token), ("Content-Type", "application/json")]
        key = uuid4().hex if key is None else key
        if key:
            headers.append(("Idempotency-Key", key))
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        return self.send(method, path, headers, raw)


def _bearer(token: str | None) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}")] if token else []
