"""Spans: made when what they tell of is over.

A request's own trace has its span, its group's, and those of the events it led to. Groups serve
many: what a group did is told once, under the first of its requests that is traced, and the others
have a span that links there.
"""

from __future__ import annotations

import os
import struct
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from random import getrandbits
from uuid import UUID

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from strongroom import __version__
from strongroom.clock import monotonic
from strongroom.core.commands.course import Course, Entered
from strongroom.core.commands.ticket import Origin
from strongroom.core.db.spent import name_of
from strongroom.core.events import Event, Message
from strongroom.doors.traces.ids import RANDOM, of_event, parent_of, picker
from strongroom.doors.traces.sending import Sender
from strongroom.errors import code_of

MOST_STATEMENTS, MOST_EVENTS, MOST_LINKS, MOST_MESSAGES = 100, 50, 100, 50
"""Of one group or batch, events of one request. A settlement writes thousands."""

FAILED = Status(code=Status.STATUS_CODE_ERROR)

IDS, CHILD = struct.Struct(">2s16s2s8s").pack, struct.Struct(">2s8s").pack
TIMES = struct.Struct("<cQcQ").pack
TRACE_ID, SPAN_ID, PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
START, END = b"\x39", b"\x41"
"""The fields of a span that are like in no other, as the wire has them: number, kind, length. They
come first, and after them what may be the same in many, encoded once: a third of the time."""

ALIKE = 4096
"""Kinds of spans whose bytes are kept: routes by their statuses, statements, events, and batches by
their sizes."""

Told = Mapping[str, str | int]


class Traces:
    """Makes the spans of one process. `statement` hears what is asked outside of groups: it is told
    under the request that asks, as long as that has no answer."""

    def __init__(self, url: str, share: float, process: str) -> None:
        self._least = picker(share)
        resource: Told = {
            "service.name": "strongroom",
            "service.version": __version__,
            "service.instance.id": process,
            "process.pid": os.getpid(),
        }
        scope = InstrumentationScope(name="strongroom", version=__version__)
        self._sender = Sender(url, Resource(attributes=_attributes(resource)), scope)
        self._asking: ContextVar[Origin | None] = ContextVar("asking", default=None)
        self._open: set[Origin] = set()

    def close(self) -> None:
        self._sender.close()

    def _picks(self, trace: int) -> bool:
        return trace & RANDOM >= self._least

    # Requests -------------------------------------------------------------------------------

    def enter(self, request: UUID, traceparent: bytes | None) -> Entered:
        parent = 0
        found = parent_of(traceparent) if traceparent is not None else None
        if found is not None:
            trace, parent = found
            request = UUID(int=trace)
        if not self._picks(request.int):
            return Entered(request, None, parent)
        origin = request.int, _new_id()
        self._open.add(origin)
        self._asking.set(origin)
        return Entered(request, origin, parent)

    def answered(
        self,
        entered: Entered,
        method: str,
        path: str,
        status: int,
        began: float,
        error: Exception | None,
    ) -> None:
        if entered.origin is None:
            return
        self._open.discard(entered.origin)
        told: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": path,
            "http.response.status_code": status,
        }
        if error is not None:
            told["error.type"] = code_of(error)
        said = _alike(f"{method} {path}", Span.SPAN_KIND_SERVER, status >= 500, *told.items())
        self._put(entered.origin, entered.parent, began, monotonic(), said)

    def statement(self, query: str, began: float, ended: float) -> None:
        """Of a read. Whoever was begun by a request and outlives it, as a cache that renews itself,
        is told nowhere."""
        origin = self._asking.get()
        if origin is not None and origin in self._open:
            self._statement(origin, query, began, ended)

    def _statement(self, parent: Origin, query: str, began: float, ended: float) -> None:
        name = name_of(query)
        told: Told = {"db.system.name": "postgresql", "db.query.summary": name}
        said = _alike(name, Span.SPAN_KIND_CLIENT, False, *told.items())
        self._put((parent[0], _new_id()), parent[1], began, ended, said)

    # Groups ---------------------------------------------------------------------------------

    def group(self, course: Course) -> None:
        origins = [origin for ticket in course.tickets for origin in ticket.origins]
        if not origins:
            return
        leading = origins[0][0], _new_id()
        self._leading(course, leading, origins)
        spans = {leading[0]: leading[1]}
        size = {"strongroom.group.size": len(course.tickets)}
        said = _said(_of(course), Span.SPAN_KIND_INTERNAL, told=size, links=[leading])
        for trace, span in origins[1:]:
            if trace not in spans:
                at = trace, _new_id()
                spans[trace] = at[1]
                self._put(at, span, course.began, course.ended, said)
        told_of: Counter[int] = Counter()
        for event in course.events:
            trace = _trace_of(event)
            if trace in spans and told_of[trace] < MOST_EVENTS:
                told_of[trace] += 1
                self._event(event, spans[trace], course.ended)

    def _leading(self, course: Course, at: Origin, origins: list[Origin]) -> None:
        told: Told = {
            "strongroom.group.command": course.name,
            "strongroom.group.size": len(course.tickets),
            "strongroom.group.attempts": course.attempts,
            "strongroom.group.races": course.races,
            "strongroom.group.lock_waits": course.lock_waits,
            "strongroom.group.left_out": course.left_out,
            "strongroom.group.entries": course.entries,
            "strongroom.group.events": len(course.events),
        }
        others = origins[1 : MOST_LINKS + 1]
        said = _said(_of(course), Span.SPAN_KIND_INTERNAL, told=told, links=others)
        self._put(at, origins[0][1], course.began, course.ended, said)
        for query, began, ended in course.trail[:MOST_STATEMENTS]:
            self._statement(at, query, began, ended)

    def _event(self, event: Event, parent: int, at: float) -> None:
        """An event has a moment, no length; who takes it goes on from here."""
        made = _trace_of(event), of_event(event.id)
        told: Told = {"messaging.operation.type": "send", "strongroom.event": event.type}
        said = _alike(f"send {event.type}", Span.SPAN_KIND_PRODUCER, False, *told.items())
        self._put(made, parent, at, at, said)

    # Workers --------------------------------------------------------------------------------

    def takes(self, queue: str, messages: Sequence[Message]) -> dict[int, Origin]:
        found: dict[int, Origin] = {}
        for message in messages:
            request = message.event.correlation
            if request is not None and self._picks(request.int):
                found[message.id] = request.int, _new_id()
                if len(found) == MOST_MESSAGES:
                    break
        return found

    def took(
        self,
        queue: str,
        messages: Sequence[Message],
        origins: Mapping[int, Origin],
        began: float,
        failed: set[int],
    ) -> None:
        ended = monotonic()
        for message in messages:
            origin = origins.get(message.id)
            if origin is not None:
                told: Told = {
                    "messaging.operation.type": "process",
                    "messaging.destination.name": queue,
                    "messaging.batch.message_count": len(messages),
                    "strongroom.event": message.event.type,
                    "strongroom.attempt": message.attempt,
                }
                kind, bad = Span.SPAN_KIND_CONSUMER, message.id in failed
                said = _alike(f"process {queue}", kind, bad, *told.items())
                self._put(origin, of_event(message.event.id), began, ended, said)

    def errand(self, kind: type, size: int, origins: Sequence[Origin], began: float) -> None:
        ended, told = monotonic(), {"strongroom.errands": size}
        said = _said(f"errand {kind.__name__}", Span.SPAN_KIND_CLIENT, told=told)
        for trace, span in origins:
            self._put((trace, _new_id()), span, began, ended, said)

    # Spans ----------------------------------------------------------------------------------

    def _put(self, at: Origin, parent: int, began: float, ended: float, said: bytes) -> None:
        ahead_ns = time.time_ns() - round(monotonic() * 1e9)
        start_ns, end_ns = round(began * 1e9) + ahead_ns, round(ended * 1e9) + ahead_ns
        ids = IDS(TRACE_ID, at[0].to_bytes(16), SPAN_ID, at[1].to_bytes(8))
        child = CHILD(PARENT_ID, parent.to_bytes(8)) if parent else b""
        self._sender.put(ids + child + TIMES(START, start_ns, END, end_ns) + said)


def _new_id() -> int:
    return getrandbits(64) or 1


def _of(course: Course) -> str:
    return f"group {course.name}"


def _trace_of(event: Event) -> int:
    """The trace an event is part of, 0 where no request led to it."""
    return event.correlation.int if event.correlation is not None else 0


@lru_cache(ALIKE)
def _alike(
    name: str, kind: Span.SpanKind.ValueType, failed: bool, *told: tuple[str, str | int]
) -> bytes:
    """What many spans have in common, encoded once."""
    return _said(name, kind, failed=failed, told=dict(told))


def _said(
    name: str,
    kind: Span.SpanKind.ValueType,
    *,
    told: Told,
    failed: bool = False,
    links: Sequence[Origin] = (),
) -> bytes:
    """All of a span but its ids and its times."""
    status = FAILED if failed else None
    linked = [_link(one) for one in links]
    attributes = _attributes(told)
    span = Span(name=name, kind=kind, attributes=attributes, links=linked, status=status)
    encoded: bytes = span.SerializeToString()
    return encoded


def _attributes(told: Told) -> list[KeyValue]:
    return [
        KeyValue(
            key=key,
            value=AnyValue(int_value=value)
            if isinstance(value, int)
            else AnyValue(string_value=value),
        )
        for key, value in told.items()
    ]


def _link(origin: Origin) -> Span.Link:
    return Span.Link(trace_id=origin[0].to_bytes(16), span_id=origin[1].to_bytes(8))
