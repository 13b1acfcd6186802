"""The door as a caller finds it over HTTP: whatever it answers is counted once, when it is over, and
noted within bounds; what breaks off is seen to be broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from strongroom.core.db import DatabaseDown
from strongroom.doors.http import journal
from strongroom.doors.http.app import application
from strongroom.doors.http.overflow import Overflow
from strongroom.doors.http.routing import Call, Raw, Route, table
from strongroom.doors.http.seen import Seen
from strongroom.doors.metrics import Metrics
from strongroom.main import Strongroom
from unit.test_traces_sent import traced

LAST = b"0\r\n\r\n"
"""How an answer in portions ends."""


def reads(path: str, read: Any) -> Route:
    return Route("GET", path, "anyone", 200, "", None, None, read=read)


async def bug(_: Call) -> None:
    raise ZeroDivisionError


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """The port on which an application is served, in this loop."""
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    kind: Any = config.http_protocol_class
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: kind(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(port: int, method: str, path: str) -> bytes:
    """All that comes back until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: us\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()


def counted(seen: Seen, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric that are not 0, by the values of its labels."""
    return {
        tuple(one.labels.values()): one.value
        for metric in seen.requests()
        for one in metric.samples
        if one.name == name and one.value
    }


# Answers in portions ------------------------------------------------------------------------------


async def test_an_answer_in_portions_is_counted_when_the_last_of_them_is_sent(
    house: Strongroom,
) -> None:
    seen, before = Seen(), []

    async def portions() -> AsyncGenerator[bytes, None]:
        for portion in (b"one", b"two", b"three"):
            before.append(counted(seen, "strongroom_requests_total"))
            yield portion

    async def file(_: Call) -> Raw:
        return Raw("text/plain", portions())

    async with served(table(house, seen, [reads("/t/file", file)])) as port:
        said = await asked(port, "GET", "/t/file")
    assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(LAST)
    assert before == [{}, {}, {}]
    assert counted(seen, "strongroom_requests_total") == {("GET", "/t/file", "200"): 1}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ZeroDivisionError(), 500, "internal_error"),
        (TimeoutError(), 500, "internal_error"),
        (DatabaseDown(), 503, "database_down"),
    ],
)
async def test_an_answer_that_breaks_off_is_seen_to_be_broken_and_counted_as_failed(
    house: Strongroom, error: Exception, status: int, code: str
) -> None:
    seen = Seen()

    async def portions() -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise error

    async def file(_: Call) -> Raw:
        return Raw("text/plain", portions())

    with capture_logs() as lines:
        async with served(table(house, seen, [reads("/t/file", file)])) as port:
            said = await asked(port, "GET", "/t/file")
    assert said.startswith(b"HTTP/1.1 200 ") and b"one" in said and not said.endswith(LAST)
    assert counted(seen, "strongroom_requests_total") == {("GET", "/t/file", str(status)): 1}
    assert counted(seen, "strongroom_requests_failed_total") == {("GET", "/t/file"): 1}
    assert counted(seen, "strongroom_refusals_total") == {(code,): 1}
    notes = {line["event"]: line for line in lines}
    assert ("bug" in notes) == (status == 500)
    for line in lines:
        assert line["request_id"].encode() in said
    failed = notes["request failed"]
    assert (failed["status"], failed["outcome"]) == (status, code)


# What is counted and noted ------------------------------------------------------------------------


async def test_what_is_outside_the_table_is_counted_as_a_path_that_no_route_has(
    house: Strongroom,
) -> None:
    def broken() -> list[Any]:
        raise ZeroDivisionError

    seen = Seen()
    async with Metrics(house, "api", "api-1", broken) as metrics:
        app = application(house, seen, Overflow(house, seen), metrics)
        async with served(app) as port:
            for method, path, status in (
                ("GET", "/nowhere", 404),
                ("GET", "/metrics", 500),
                ("POST", "/healthz", 405),
                ("PROPFIND", "/nowhere", 404),
                ("GET", "/healthz", 200),
            ):
                said = await asked(port, method, path)
                assert said.startswith(b"HTTP/1.1 %d " % status), said
                assert (b"\r\nallow: GET\r\n" in said) == (status == 405)
    assert counted(seen, "strongroom_requests_total") == {
        ("GET", "(unknown)", "404"): 1,
        ("GET", "(unknown)", "500"): 1,
        ("POST", "(unknown)", "405"): 1,
        ("(other)", "(unknown)", "404"): 1,
    }
    assert counted(seen, "strongroom_refusals_total") == {
        ("no_such_path",): 2,
        ("internal_error",): 1,
        ("method_not_allowed",): 1,
    }


async def test_all_paths_of_a_process_share_the_bound_on_lines(
    house: Strongroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "monotonic", lambda: 100.0)
    paths = ["/t/one", "/t/two"]
    app = table(house, Seen(), [reads(path, bug) for path in paths])
    with capture_logs() as lines:
        async with served(app) as port:
            for path in paths * journal.LINES_A_SECOND:
                await asked(port, "GET", path)
    noted = [line["path"] for line in lines if line["event"] == "request failed"]
    assert len(noted) == journal.LINES_A_SECOND and {*noted} == {*paths}


async def test_a_method_that_somebody_invents_is_told_in_no_trace(house: Strongroom) -> None:
    with traced(200) as (collector, traces):
        house.executor.tracing = traces
        async with served(table(house, Seen(), [reads("/t/one", bug)])) as port:
            for method in ("PROPFIND", "DELETE"):
                assert (await asked(port, method, "/t/one")).startswith(b"HTTP/1.1 405 ")
        traces.close()
    names = [one.name for one in collector.spans if one.kind == Span.SPAN_KIND_SERVER]
    assert names == ["_OTHER /t/one", "DELETE /t/one"]
