"""Refusals that cost next to nothing: a write whose lane is full is refused before anything is done
for it.

Under overload most requests are refused, and a refusal that was first routed, authenticated and
decoded cost half as much as a bet: at three times the load the refusals took the time that bets
needed. Which lane a path's commands go to is learned from the first of them; only paths without
parameters are known here, and those are where crowds come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from strongroom.core.commands import Command
from strongroom.core.commands.command import Overloaded
from strongroom.doors.http.intake import Intake
from strongroom.doors.http.policies import DATA
from strongroom.doors.http.problems import PROBLEM, problem
from strongroom.doors.http.seen import Seen
from strongroom.ids import uuid7
from strongroom.main import Strongroom

LENGTHS = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE).findall
"""All that is said of it, sense or not: the parser judges two, and what is no number."""

NOT_PLAIN = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|content-length[^:]|[ \t]"
    rb"|connection:(?![ \t]*keep-alive[ \t]*\r\n))",
    re.IGNORECASE,
).search
"""What asks for more than an answer, or is written in a way that only the parser judges."""

PLACE = "here comes the request's id"

REFUSED = Overloaded()


class Overflow:
    """What a connection asks before it makes a request of what it reads."""

    def __init__(self, house: Strongroom, seen: Seen) -> None:
        self._house, self._seen = house, seen
        self._kinds: dict[tuple[bytes, bytes], type[Command]] = {}
        self._lines: dict[bytes, tuple[bytes, bytes]] = {}
        self.intake = Intake()
        self._answer = _answer(len(str(uuid7())))

    def learn(self, method: str, path: str, kind: type[Command]) -> None:
        """Commands of this kind come from there."""
        key = method.encode(), path.encode()
        self._kinds[key] = kind
        self._lines[b" ".join(key)] = key

    def refuses(self, method: bytes, url: bytes, waits_s: float = 0.0) -> bool:
        """Whether the lane would turn it away, whoever asks and whatever for, if it has to wait so
        long before it gets there, or has waited."""
        kind = self._kinds.get((method, url))
        if kind is None:
            return False
        within_s = self._house.settings.write_deadline_ms / 1000 - waits_s
        return self._house.lanes.full(kind, within_s)

    def wish(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Method and path, if this is one whole plain request of those that crowds come with."""
        line, _, _ = data.partition(b" HTTP/1.1\r\n")
        key = self._lines.get(line)
        if key is None:
            return None
        end = data.find(b"\r\n\r\n") + 2
        head, body = data[:end], len(data) - end - 2
        lengths = [length.strip(b" \t") for length in LENGTHS(head)]
        if end < 2 or NOT_PLAIN(head) or lengths != [b"%d" % body]:
            return None
        # A line that ends otherwise is two lines for some who stand in front of us.
        lines = head.count(b"\r\n")
        return key if head.count(b"\n") == lines == head.count(b"\r") else None

    def answer(self, method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The whole answer to one that is refused: that of the door to Overloaded."""
        request_id = str(uuid7()).encode()
        self._seen.request(method.decode(), url.decode(), self._answer[0], 0.0, REFUSED)
        told = b"".join(b"%s: %s\r\n" % header for header in headers)
        _, first, rest, body, last = self._answer
        return b"".join((first, told, rest, request_id, body, request_id, last))


def _answer(id_length: int) -> tuple[int, bytes, bytes, bytes, bytes]:
    """The status, and the answer in the pieces between which a connection's own headers and the
    request's id belong."""
    status, body, more = problem(REFUSED, PLACE)
    length = len(body) - len(PLACE) + id_length
    told = [(b"content-type", PROBLEM), *DATA, *more, (b"content-length", b"%d" % length)]
    first = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    rest = b"".join(b"%s: %s\r\n" % header for header in told) + b"x-request-id: "
    before, _, after = body.partition(PLACE.encode())
    return status, first, rest, b"\r\n\r\n" + before, after
