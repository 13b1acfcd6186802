"""One request, one trace: from the door through its group, statements and events to the worker,
as a real collector hears of it over OTLP; and what the log says of requests."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Told

from end_to_end._cli import COMMAND_S, cli, environment, scratch
from end_to_end._client import Answer, Client
from end_to_end._house import eventually
from end_to_end.test_up import FINE, Up, running

ARRIVES_S = 60.0
"""Spans are sent each second; the machine may be crowded."""

AMOUNT = 7_654_321


class Span(NamedTuple):
    """One span as it arrived, and which process sent it."""

    process: str
    trace: str
    id: str
    parent: str
    name: str
    kind: Any
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    began_ns: int
    ended_ns: int


class Collector:
    """An OTLP/HTTP collector that keeps what it is told."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw: list[bytes] = []
        collector = self

        class Takes(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                known = self.path == "/v1/traces"
                if known:
                    collector.take(body)
                self.send_response(200 if known else 404)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Takes)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        for of in ExportTraceServiceRequest.FromString(body).resource_spans:
            said = {one.key: one.value for one in of.resource.attributes}
            assert said["service.name"].string_value == "strongroom"
            process = said["service.instance.id"].string_value
            for scope in of.scope_spans:
                self.spans += [span_of(process, span) for span in scope.spans]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def trace(self, answer: Answer) -> list[Span]:
        """All that is known of the request that was answered so."""
        trace = UUID(answer.headers["x-request-id"]).hex
        return [span for span in list(self.spans) if span.trace == trace]


def span_of(process: str, span: Told) -> Span:
    return Span(
        process,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        span.kind,
        {
            one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
            for one in span.attributes
        },
        [(one.trace_id.hex(), one.span_id.hex()) for one in span.links],
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


class Traced:
    """An instance that traces every request, two people and a round."""

    def __init__(self, up: Up, collector: Collector) -> None:
        self.up, self.collector = up, collector
        self.operator = self._person("--role", "operator")
        self.people = [self._person("--fund", "1000000000") for _ in range(2)]
        with Client(up.port) as client:
            body = {"name": "one", "kind": "oracle"}
            made = client.post("/api/rounds", body, self.operator["accessToken"])
            self.round: str = made.json["roundId"]

    def _person(self, *options: str) -> dict[str, str]:
        made = cli("users", "create", "--json", *options, "--data-dir", str(self.up.folder))
        found: dict[str, str] = made.json
        return found

    def bet(self, client: Client, person: int, **headers: str) -> Answer:
        body = {"roundId": self.round, "side": "AB"[person], "amount": AMOUNT}
        said = {
            "Authorization": f"Bearer {self.people[person]['accessToken']}",
            "Content-Type": "application/json",
            "Idempotency-Key": uuid4().hex,
            **headers,
        }
        return client.send("POST", "/api/bets", list(said.items()), json.dumps(body).encode())

    def lines(self) -> list[dict[str, Any]]:
        text = (self.up.folder / "logs" / "api-1.log").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    collector = Collector()
    set_to = {
        "OTLP_URL": collector.url,
        "TRACE_SHARE": "1",
        "LOG_REQUESTS": "on",
        "LOG_LEVEL": "debug",
        "RATE_LIMITS": "off",
        "SLOW_REQUEST_MS": "60000",
    }
    prefix = ("env", *(f"STRONGROOM_{name}={value}" for name, value in set_to.items()))
    with (
        contextlib.closing(collector),
        scratch() as folder,
        running(folder / "data", "--port", "0", "--api-processes", "1", prefix=prefix) as up,
    ):
        yield Traced(up.ready(), collector)


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def children(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent == parent.id]


def matched(traced: Traced, answer: Answer) -> list[Span]:
    """The bet's trace, once the worker has told its part."""
    collector = traced.collector
    eventually(
        lambda: bool(named(collector.trace(answer), "group MatchRound")),
        "the worker's part arrives",
        ARRIVES_S,
    )
    eventually(
        lambda: bool(named(collector.trace(answer), "POST /api/bets")),
        "the API's part arrives",
        ARRIVES_S,
    )
    return collector.trace(answer)


def test_one_bet_is_one_trace_across_the_processes(traced: Traced) -> None:
    with Client(traced.up.port) as client:
        answer = traced.bet(client, 0)
    assert answer.status == 202, answer.body
    spans = matched(traced, answer)

    (root,) = [span for span in spans if not span.parent]
    assert (root.process, root.name, root.kind) == (
        "api-1",
        "POST /api/bets",
        Told.SPAN_KIND_SERVER,
    )
    assert root.attributes["http.response.status_code"] == 202
    known = {span.id for span in spans}
    assert len(known) == len(spans), "a span was told twice"
    assert {span.parent for span in spans} <= known | {""}, "a span hangs in the air"

    (group,) = [span for span in children(spans, root) if span.name == "group PlaceBet"]
    said = [span.name for span in children(spans, group)]
    assert said[:2] == ["BEGIN", "commands.claim"]
    assert {"ledger.lock_accounts", "COPY ledger.entries", "COPY betting.bets", "COMMIT"} <= set(
        said
    )
    (sent,) = [span for span in children(spans, group) if span.kind == Told.SPAN_KIND_PRODUCER]
    assert sent.name == "send betting.BetPlaced"

    (taken,) = children(spans, sent)
    assert (taken.process, taken.name) == ("worker-1", "process betting_match")
    assert taken.kind == Told.SPAN_KIND_CONSUMER
    (match,) = children(spans, taken)
    assert (match.process, match.name) == ("worker-1", "group MatchRound")
    assert "events.acknowledge" in {span.name for span in children(spans, match)}
    assert all(span.began_ns <= span.ended_ns for span in spans)
    assert root.began_ns <= group.began_ns <= group.ended_ns <= root.ended_ns


def test_a_callers_trace_goes_on_through_the_house(traced: Traced) -> None:
    trace, span = uuid4().hex, uuid4().hex[:16]
    with Client(traced.up.port) as client:
        answer = traced.bet(client, 1, traceparent=f"00-{trace}-{span}-01")
        malformed = traced.bet(client, 1, traceparent=f"00-{trace}-{'0' * 16}-01")
        twice = client.send("GET", "/api/events", [("traceparent", f"00-{trace}-{span}-01")] * 2)
    assert UUID(answer.headers["x-request-id"]).hex == trace
    assert twice.status == 200
    for passed_over in (malformed, twice):
        assert UUID(passed_over.headers["x-request-id"]).hex != trace
    spans = matched(traced, answer)
    (root,) = named(spans, "POST /api/bets")
    assert root.parent == span
    assert "worker-1" in {one.process for one in spans}


def test_a_read_tells_its_statements(traced: Traced) -> None:
    with Client(traced.up.port) as client:
        answer = client.get("/api/wallets/me/entries", traced.people[0]["accessToken"])
    assert answer.status == 200
    collector = traced.collector
    eventually(
        lambda: bool(named(collector.trace(answer), "GET /api/wallets/me/entries")),
        "the read arrives",
        ARRIVES_S,
    )
    spans = collector.trace(answer)
    (root,) = named(spans, "GET /api/wallets/me/entries")
    asked = children(spans, root)
    assert asked and all(one.name.startswith("ledger.") for one in asked)


def test_requests_of_one_group_lead_to_one_telling_of_it(traced: Traced) -> None:
    """Each trace has its group's span; the statements are told once, and linked to."""
    together = 16
    answers: list[Answer] = []
    gate = threading.Barrier(together)

    def bet() -> None:
        with Client(traced.up.port) as client:
            client.get("/healthz")
            gate.wait(ARRIVES_S)
            answers.append(traced.bet(client, 0))

    threads = [threading.Thread(target=bet) for _ in range(together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [202] * together
    groups = []
    for answer in answers:
        (group,) = named(matched(traced, answer), "group PlaceBet")
        groups.append(group)
    told = {group.id for group in groups if "strongroom.group.command" in group.attributes}
    for group in groups:
        if group.id not in told:
            ((_, leads),) = group.links
            assert leads in told
    sizes = sum(group.attributes["strongroom.group.size"] for group in groups if group.id in told)
    assert sizes == together


def test_no_span_has_a_value_or_a_person(traced: Traced) -> None:
    with Client(traced.up.port) as client:
        matched(traced, traced.bet(client, 0))
    raw = b"".join(traced.collector.raw)
    secrets = [AMOUNT, traced.round]
    for person in (*traced.people, traced.operator):
        secrets += [person["userId"], person["accessToken"]]
    assert [one for one in secrets if str(one).encode() in raw] == []


def test_the_log_says_of_each_request_who_asked_what(traced: Traced) -> None:
    with Client(traced.up.port) as client:
        answer = traced.bet(client, 0)
        foreign = client.get(f"/api/bets/{uuid4()}", traced.people[1]["accessToken"])
    lines = {line["request_id"]: line for line in traced.lines() if line["event"] == "request"}
    line = lines[answer.headers["x-request-id"]]
    assert line.pop("ms") > 0 and line.pop("at")
    assert line == {
        "event": "request",
        "level": "info",
        "process": "api-1",
        "request_id": answer.headers["x-request-id"],
        "trace_id": UUID(answer.headers["x-request-id"]).hex,
        "method": "POST",
        "path": "/api/bets",
        "principal": traced.people[0]["userId"],
        "command": "PlaceBet",
        "status": 202,
        "outcome": "done",
    }
    missing = lines[foreign.headers["x-request-id"]]
    assert (missing["path"], missing["outcome"]) == ("/api/bets/{id}", "not_found")


LOADED = """
import sys
import strongroom.doors.cli.app, strongroom.doors.http.server, strongroom.doors.worker
from strongroom.doors.traces import begin
from strongroom.main import Strongroom
house = Strongroom(database_url="postgresql://nobody@127.0.0.1:1/nothing", data_dir=sys.argv[1])
begin(house, "api-1")
print(house.executor.tracing, [one for one in sys.modules if one.startswith("opentelemetry")])
"""


def test_without_a_collector_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert ran.stdout == "None []\n", ran.stderr


def test_a_collector_that_is_gone_holds_nobody_up() -> None:
    prefix = ("env", "STRONGROOM_OTLP_URL=http://127.0.0.1:9", "STRONGROOM_TRACE_SHARE=1")
    with scratch() as folder, running(folder / "data", "--port", "0", prefix=prefix) as up:
        token = up.ready().token(fund=1000)
        assert up.balance(token) == 1000
        assert up.end() == FINE


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from strongroom.doors.cli import run
run()
"""


def test_the_extra_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT, "up", "--data-dir", str(tmp_path / "data")],
        env=environment(STRONGROOM_OTLP_URL="http://127.0.0.1:9"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert ran.returncode not in (0, None) and "strongroom[otel]" in ran.stderr, ran.stderr
    assert "Traceback" not in ran.stderr


def test_headers_for_the_collector_that_cannot_be_read_are_refused_and_not_told(
    tmp_path: Path,
) -> None:
    said = environment(
        STRONGROOM_OTLP_URL="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_HEADERS="Authorization: Bearer hidden",
    )
    ran = subprocess.run(
        [sys.executable, "-m", "strongroom", "up", "--data-dir", str(tmp_path / "data")],
        env=said,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert ran.returncode == 2 and "OTEL_EXPORTER_OTLP_HEADERS" in ran.stderr, ran.stderr
    assert "hidden" not in ran.stderr and "Traceback" not in ran.stderr
