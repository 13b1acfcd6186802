"""Refusals that cost next to nothing: a write whose lane is full is refused before anything is done
for it.

Under overload most requests are refused, and a refusal that was first routed, authenticated and
decoded cost half as much as a bet: at three times the load the refusals took the time that bets
needed. Which lane a path's commands go to is learned from the first of them; only paths without
parameters are known here, and those are where crowds come.
"""

from __future__ import annotations

from http import HTTPStatus

from strongroom.core.commands import Command
from strongroom.core.commands.command import Overloaded
from strongroom.doors.http.problems import PROBLEM, problem
from strongroom.doors.http.quotas import Headers
from strongroom.doors.http.seen import Seen
from strongroom.ids import uuid7
from strongroom.main import Strongroom


class Overflow:
    """What a connection asks before it makes a request of what it reads."""

    def __init__(self, house: Strongroom, seen: Seen) -> None:
        self._house, self._seen = house, seen
        self._within_s = house.settings.write_deadline_ms / 1000
        self._kinds: dict[tuple[bytes, bytes], type[Command]] = {}

    def learn(self, method: str, path: str, kind: type[Command]) -> None:
        """Commands of this kind come from there."""
        self._kinds[method.encode(), path.encode()] = kind

    def refuses(self, method: bytes, url: bytes) -> bool:
        """Whether the lane would turn it away, whoever asks and whatever for."""
        kind = self._kinds.get((method, url))
        return kind is not None and self._house.lanes.full(kind, self._within_s)

    def answer(self, method: bytes, url: bytes, headers: Headers) -> bytes:
        """The whole answer to one that is refused: that of the door to Overloaded."""
        request_id = str(uuid7())
        status, body, more = problem(Overloaded(), request_id)
        self._seen.request(method.decode(), url.decode(), status, 0.0)
        told = [
            *headers,
            (b"content-type", PROBLEM),
            (b"x-request-id", request_id.encode()),
            *more,
            (b"content-length", b"%d" % len(body)),
        ]
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
        lines += [name + b": " + value for name, value in told]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body
