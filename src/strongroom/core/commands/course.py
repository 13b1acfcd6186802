"""The course of a group: what it did, statement by statement, and what held it up.

A group that took too long explains itself by it in one line of the log, and `Tracing`, where there
is one, makes spans of it. Statements are known by the names of their queries, never by values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from strongroom.clock import monotonic
from strongroom.core.commands.ticket import Origin, Ticket
from strongroom.core.db.spent import Trail, name_of
from strongroom.core.events import Event, Message

log = structlog.get_logger(__name__)

SLOW_S = 0.5
"""A group of hundreds takes some tens of milliseconds; this long, and its callers notice."""

MOST_NAMED = 20
"""Statements that an explanation names; a group has a dozen, one that was run again the same."""

MOST_REQUESTS = 5
"""Requests that an explanation names, of hundreds."""

LOCKING = ("hold_", "lock_")
"""How the names of those queries begin whose time is mostly a wait for rows."""


class Course:
    """One group from its first attempt to its end, halves and further attempts included."""

    __slots__ = (
        "attempts",
        "began",
        "ended",
        "entries",
        "events",
        "halved",
        "left_out",
        "lock_waits",
        "lost",
        "races",
        "tickets",
        "trail",
    )

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self.tickets = tickets
        self.began = self.ended = monotonic()
        self.trail: Trail = []
        self.events: list[Event] = []
        self.attempts = self.entries = 0
        self.races = self.lock_waits = self.left_out = self.halved = self.lost = 0

    @property
    def name(self) -> str:
        return self.tickets[0].name

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def explain(self) -> None:
        """One line: sizes, waits, statements."""
        took: dict[str, list[float]] = {}
        for query, began, ended in self.trail:
            took.setdefault(name_of(query), []).append(ended - began)
        slowest = sorted(took.items(), key=lambda one: -sum(one[1]))
        in_database_s = sum(map(sum, took.values()))
        connection_s = self.trail[0][1] - self.began if self.trail else self.seconds
        requests = [one.request for one in self.tickets[:MOST_REQUESTS] if one.request]
        log.warning(
            "slow group",
            command=self.name,
            size=len(self.tickets),
            ms=_ms(self.seconds),
            waited_ms=_ms(max(self.began - one.since for one in self.tickets)),
            connection_ms=_ms(connection_s),
            statements_ms=_ms(in_database_s),
            locking_ms=_ms(sum(sum(times) for name, times in slowest if _locks(name))),
            elsewhere_ms=_ms(max(0.0, self.seconds - connection_s - in_database_s)),
            attempts=self.attempts,
            races=self.races,
            lock_waits=self.lock_waits,
            left_out=self.left_out,
            halved=self.halved,
            connections_lost=self.lost,
            entries=self.entries,
            events=len(self.events),
            statements={
                name: {"times": len(times), "ms": _ms(sum(times)), "slowest_ms": _ms(max(times))}
                for name, times in slowest[:MOST_NAMED]
            },
            requests=[str(request) for request in requests],
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _locks(name: str) -> bool:
    return name.rpartition(".")[2].startswith(LOCKING)


class Entered(NamedTuple):
    """A request that came in: its id, which is its trace's; its span, where it has one; and the
    caller's span, or 0."""

    request: UUID
    origin: Origin | None
    parent: int


class Tracing(Protocol):
    """Who makes spans of what happens. Nobody does unless a door was asked to: then
    `Executor.tracing` is there, and all who could tell look whether it is. A trace has the id of
    its request, which travels with every event, so processes need tell each other nothing more.
    """

    def enter(self, request: UUID, traceparent: bytes | None) -> Entered:
        """A request comes in; the caller's trace, where the header names one, becomes its own."""

    def answered(
        self,
        entered: Entered,
        method: str,
        path: str,
        status: int,
        began: float,
        error: Exception | None,
    ) -> None:
        """A request has its answer."""

    def group(self, course: Course) -> None:
        """A group has come to its end."""

    def takes(self, queue: str, messages: Sequence[Message]) -> Mapping[int, Origin]:
        """A worker has leased these: the spans of those that are traced, by message."""

    def took(
        self,
        queue: str,
        messages: Sequence[Message],
        origins: Mapping[int, Origin],
        began: float,
        failed: set[int],
    ) -> None:
        """The worker is done with them; `failed` come again."""

    def errand(self, kind: type, size: int, origins: Sequence[Origin], began: float) -> None:
        """A call outside is over."""

    def close(self) -> None:
        """Sends what is left; may take some seconds."""
