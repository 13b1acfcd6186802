"""What becomes of spans on their way: to a collector that takes them, one that comes back, one that
refuses, and one for which there are too many."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from select import select
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from structlog.testing import capture_logs

from strongroom.core.commands.course import Course
from strongroom.core.events import Event
from strongroom.doors.traces import check, sending
from strongroom.doors.traces.ids import RANDOM, of_event
from strongroom.doors.traces.sending import (
    UnfitCollector,
    UnknownCompression,
    UnreadableCertificate,
    UnreadableHeaders,
    compresses,
    endpoint_of,
    headers_of,
)
from strongroom.doors.traces.spans import MOST_EVENTS, Traces
from strongroom.ids import uuid7
from strongroom.settings import Settings

PATIENCE_S = 60.0

TRICKLES = 0
"""Instead of a status: an answer that comes byte by byte and has no end."""


class Collector:
    """Answers with these statuses by turns, the last one for good, and keeps what it takes."""

    def __init__(self, *statuses: int) -> None:
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.answered = threading.Semaphore(0)
        left, collector = list(statuses), self

        class Takes(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                status = left.pop(0) if len(left) > 1 else left[0]
                collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                if status == TRICKLES:
                    self.trickle()
                    return
                if status == 200:
                    for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                        collector.spans += [one for two in of.scope_spans for one in two.spans]
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()
                collector.answered.release()

            def trickle(self) -> None:
                """Answers for ever, unless somebody hangs up."""
                self.close_connection = True
                with contextlib.suppress(OSError):
                    while not select([self.connection], [], [], 0.05)[0]:
                        self.wfile.write(b"H")
                collector.answered.release()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Takes)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def heard(self, times: int) -> None:
        """Waits until so many more requests are answered."""
        for _ in range(times):
            assert self.answered.acquire(timeout=PATIENCE_S)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@contextlib.contextmanager
def traced(*statuses: int, share: float = 1.0) -> Iterator[tuple[Collector, Traces]]:
    with contextlib.closing(Collector(*statuses)) as collector:
        traces = Traces(collector.url, share, "api-1")
        try:
            yield collector, traces
        finally:
            traces.close()


def answer_one(traces: Traces, path: str) -> None:
    traces.answered(traces.enter(uuid7(), None), "GET", path, 200, 1.0, None)


def group_of(traces: Traces, requests: list[UUID]) -> Course:
    """A group of these requests, each of which led to one event."""
    tickets: list[Any] = []
    for request in requests:
        origin = traces.enter(request, None).origin
        origins = () if origin is None else (origin,)
        tickets.append(SimpleNamespace(name="PlaceBet", since=0.0, request=None, origins=origins))
    course = Course(tickets)
    course.events = [
        Event(uuid7(), "betting.BetPlaced", uuid4(), None, correlation=one) for one in requests
    ]
    course.trail = [("BEGIN", 1.0, 2.0), ("COMMIT", 2.0, 3.0)]
    return course


def test_what_is_sent_is_what_a_collector_reads() -> None:
    trace, caller = uuid4(), 0x00F067AA0BA902B7
    said = f"00-{trace.hex}-{caller:016x}-01".encode()
    with traced(200) as (collector, traces):
        entered = traces.enter(uuid7(), said)
        traces.answered(entered, "GET", "/api/bets", 503, 1.0, ValueError("a secret"))
        traces.close()
        (span,) = collector.spans
    assert (span.trace_id, span.parent_span_id) == (trace.bytes, caller.to_bytes(8))
    assert (span.name, span.kind) == ("GET /api/bets", Span.SPAN_KIND_SERVER)
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    told = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
    assert told == {
        "http.request.method": "GET",
        "http.route": "/api/bets",
        "http.response.status_code": 503,
        "error.type": "internal_error",
    }


def test_the_events_of_a_traced_request_are_told_however_many_others_there_are() -> None:
    """Else whoever takes such an event would hang in the air."""
    others = [UUID(int=uuid4().int & ~RANDOM) for _ in range(3 * MOST_EVENTS)]
    ours = UUID(int=uuid4().int | RANDOM)
    with traced(200, share=0.5) as (collector, traces):
        course = group_of(traces, [*others, ours])
        traces.group(course)
        traces.close()
        (sent,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_PRODUCER]
        (group,) = [span for span in collector.spans if span.name == "group PlaceBet"]
    assert sent.span_id == of_event(course.events[-1].id).to_bytes(8)
    assert sent.parent_span_id == group.span_id
    assert {span.trace_id for span in collector.spans} == {ours.bytes}


def test_one_request_of_thousands_of_events_leaves_room_for_the_others() -> None:
    many, one = (UUID(int=uuid4().int | RANDOM) for _ in range(2))
    with traced(200) as (collector, traces):
        course = group_of(traces, [many, one])
        course.events = [course.events[0]] * (5 * MOST_EVENTS) + course.events[1:]
        traces.group(course)
        traces.close()
        sent = [span for span in collector.spans if span.kind == Span.SPAN_KIND_PRODUCER]
    assert len(sent) == MOST_EVENTS + 1
    assert {span.trace_id for span in sent} == {many.bytes, one.bytes}


def test_a_collector_that_is_back_gets_what_waited_for_it() -> None:
    with traced(503, 200) as (collector, traces), capture_logs() as lines:
        answer_one(traces, "/api/bets")
        collector.heard(2)
        traces.close()
    assert [span.name for span in collector.spans] == ["GET /api/bets"]
    said = [(line["event"], line["error"]) for line in lines]
    assert said == [("traces are not taken", "status 503"), ("traces are taken again", None)]


def test_a_collector_whose_answer_has_no_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ANSWER_S", 0.5)
    with traced(TRICKLES, 200) as (collector, traces):
        answer_one(traces, "/api/bets")
        collector.heard(2)
        assert [span.name for span in collector.spans] == ["GET /api/bets"]


def test_what_a_collector_refuses_is_not_sent_again() -> None:
    with traced(400, 200) as (collector, traces):
        answer_one(traces, "/api/bets")
        collector.heard(1)
        answer_one(traces, "/api/rounds")
        collector.heard(1)
        traces.close()
    assert [span.name for span in collector.spans] == ["GET /api/rounds"]


def test_beyond_what_may_wait_spans_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "WAITING", 10)
    monkeypatch.setattr(sending, "EVERY_S", PATIENCE_S)
    with traced(200) as (collector, traces), capture_logs() as lines:
        for _ in range(100):
            answer_one(traces, "/api/bets")
        traces.close()
    assert len(collector.spans) == 10
    assert [line["spans"] for line in lines if line["event"] == "spans dropped"] == [90]


def test_nobody_who_listens_costs_a_line_and_holds_up_no_end() -> None:
    collector = Collector(200)
    collector.close()
    with capture_logs() as lines:
        traces = Traces(collector.url, 1.0, "api-1")
        answer_one(traces, "/api/bets")
        traces.close()
    said = [(line["event"], line["error"]) for line in lines]
    assert said == [("traces are not taken", "ConnectionRefusedError")]


def test_headers_of_the_environment_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sending.HEADERS, "Authorization=Basic%20YTpi, x-tenant = a=b ,")
    with traced(200) as (collector, traces):
        answer_one(traces, "/api/bets")
        traces.close()
        (headers,) = collector.headers
    assert (headers["authorization"], headers["x-tenant"]) == ("Basic YTpi", "a=b")


@pytest.mark.parametrize(
    "text",
    ["Authorization: Bearer hidden", "=hidden", "a b=hidden", "a=hidden%0d%0ab: c", "a=hidden%c3"],
)
def test_headers_that_cannot_be_read_are_refused_and_not_told(text: str) -> None:
    with pytest.raises(UnreadableHeaders) as refused:
        headers_of(text)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(("said", "encoding"), [("", None), ("none", None), ("GZIP", "gzip")])
def test_spans_are_packed_where_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch, said: str, encoding: str | None
) -> None:
    monkeypatch.setenv(sending.COMPRESSION, said)
    with traced(200) as (collector, traces):
        answer_one(traces, "/api/bets")
        traces.close()
        assert [one.get("content-encoding") for one in collector.headers] == [encoding]
        assert [span.name for span in collector.spans] == ["GET /api/bets"]


def test_a_way_to_pack_them_that_there_is_not_is_refused() -> None:
    with pytest.raises(UnknownCompression):
        compresses("br")


@pytest.mark.parametrize(
    "url",
    ["http://a..b", "http://h:port", "http://h:99999", "http://:4318", "http://[::1", "http://h/é"],
)
def test_what_is_no_address_of_a_collector_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(UnfitCollector):
        endpoint_of(url)


def test_certificates_that_cannot_be_read_are_refused_before_any_process_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tmp_path / "none.pem"
    none.write_text("no certificate")
    for name in (sending.CERTIFICATE, sending.CLIENT_CERTIFICATE):
        for path in (none, tmp_path / "missing.pem"):
            with monkeypatch.context() as said:
                said.setenv(name, str(path))
                check(Settings(otlp_url="http://127.0.0.1:9"))
                with pytest.raises(UnreadableCertificate):
                    check(Settings(otlp_url="https://127.0.0.1:9"))


@pytest.mark.parametrize(
    "url", ["http://[::1]:4318/", "https://collector.example", "http://ä.de:1"]
)
def test_an_address_of_a_collector_is_one(url: str) -> None:
    assert endpoint_of(url).path == "/v1/traces"
