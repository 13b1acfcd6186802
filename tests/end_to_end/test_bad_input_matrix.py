"""The matrix of bad input, what is new in it: every route that writes in the OpenAPI document,
with every way to be wrong around its body. `test_bad_input` spoils the bodies themselves and the
tokens, `test_bad_wire` what lies below.

Each case is asked over a connection that has to stay good; after each route every row of every
table is as it was.
"""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import contextlib
import gzip
import json
import signal
import socket
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple
from uuid import uuid4

import pytest

from end_to_end._client import TIMEOUT_S, Answer, Client
from end_to_end._house import House, new_house
from end_to_end._spoiling import (  # noqa: F401
    WITH_BODY,
    WRITES,
    Scene,
    _nothing_changes,
    client,
    good_bytes,
    good_path,
    headers_of,
    named,
    scene,
)
from end_to_end.test_bad_wire import parsed, raw_answer
from serving import Clones, Server
from strongroom.doors.http.routing import Route

BOMB = gzip.compress(b"[" + b" " * 40_000_000 + b"]")
"""Forty megabytes that travel as forty kilobytes."""

TWO_ARE_REFUSED = ("Authorization", "Content-Type", "Host")


class Case(NamedTuple):
    """One bad request; `status` None stands for any refusal."""

    what: str
    status: int | None
    path: str
    headers: list[tuple[str, str]]
    body: bytes


def cases(scene: Scene, route: Route) -> Iterator[Case]:
    """Everything around the body, one thing wrong in each."""
    path, headers = good_path(scene, route), headers_of(scene, route)
    body = good_bytes(scene, route)
    for query in ("x=1", "x=1&x=2", "%ff=1", "limit=1", "&".join(f"q{i}=1" for i in range(30))):
        yield Case(f"?{query[:20]}", 422, f"{path}?{query}", headers, body)
    for other in (f"{path}/", f"/{path}", f"{path}%00", f"{path}/..", f"{path};x", path.upper()):
        yield Case(other, None, other, headers, body)
    for name in TWO_ARE_REFUSED:
        twice = [*headers, (name, dict(headers).get(name, "elsewhere"))]
        if name in dict(twice[:-1]) or name == "Host":
            yield Case(f"two {name}", 400, path, twice, body)
    yield Case("expects 200-ok", 417, path, [*headers, ("Expect", "200-ok")], body)
    many = [(f"X-Many-{i}", "x") for i in range(200)]
    yield Case("200 headers", 431, path, [*headers, *many], body)
    yield Case("33 kB of header", 431, path, [*headers, ("X-Long", "x" * 33_000)], body)
    yield Case("33 kB of name", 431, path, [*headers, ("X" * 33_000, "x")], body)
    yield Case("33 kB in parts", 431, path, [*headers, *[("X-Part", "x" * 1_000)] * 33], body)
    if route in WITH_BODY:
        for encoding, packed in (("gzip", BOMB), ("deflate", zlib.compress(body)), ("x", body)):
            more = [*headers, ("Content-Encoding", encoding)]
            yield Case(f"{encoding} body", 415, path, more, packed)
        crowd = json.dumps({f"k{i}": 1 for i in range(4_000)}).encode()
        yield Case("4,000 fields", 422, path, headers, crowd)


def test_the_document_lists_every_route_that_the_matrix_asks(scene: Scene, client: Client) -> None:
    paths = client.get("/schema/openapi.json").json["paths"]
    told = {(m.upper(), path) for path, ways in paths.items() for m in ways if m != "get"}
    assert told == {(route.method, route.path) for route in WRITES}


@pytest.mark.parametrize("route", WRITES, ids=named)
def test_what_is_wrong_around_a_body_is_refused_on_a_connection_that_stays_good(
    scene: Scene, client: Client, route: Route, record_property: pytest.RecordProperty
) -> None:
    slowest, faults = 0.0, []
    client.get("/healthz")
    kept = client.socket
    for case in cases(scene, route):
        began = time.monotonic()
        answer = client.send(route.method, case.path, case.headers, case.body)
        slowest = max(slowest, time.monotonic() - began)
        fits = answer.status == case.status if case.status else 400 <= answer.status < 500
        if not fits or client.socket is not kept:
            faults.append(f"{case.what}: {answer.status} {answer.body[:200]!r}")
            kept = client.socket
        elif not answer.problem:
            faults.append(f"{case.what}: no problem document")
    record_property("slowest_s", slowest)
    assert not faults, "\n".join(faults)


# Below requests ----------------------------------------------------------------------------------


def told(house: House, said: bytes) -> Answer:
    """What is answered on a socket of its own, at once and whole."""
    with socket.create_connection(("127.0.0.1", house.apis[0].port)) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(said)
        return parsed(raw_answer(connection))


def refused_and_closed(house: House, said: bytes, status: int, code: str) -> None:
    answer = told(house, said)
    assert (answer.status, answer.problem) == (status, code), answer
    assert answer.headers["connection"] == "close"


HOST = b"\r\nHost: x\r\n"

NO_REQUESTS = {
    "a raw space in the URL": (b"GET /api/a b HTTP/1.1" + HOST, 400, "unreadable_request"),
    "raw bytes in the URL": (b"GET /api/\xc3\xa9 HTTP/1.1" + HOST, 400, "unreadable_request"),
    "a NUL in the URL": (b"GET /api/\x00 HTTP/1.1" + HOST, 400, "unreadable_request"),
    "a method of its own": (b"BREW /api/bets HTTP/1.1" + HOST, 400, "unreadable_request"),
    "the way to elsewhere": (b"CONNECT x:443 HTTP/1.1" + HOST, 400, "unreadable_request"),
    "a version before headers": (b"GET /healthz\r\n", 400, "unreadable_request"),
    "a version before ours": (b"GET /healthz HTTP/0.9" + HOST, 400, "unreadable_request"),
    "a version after ours": (b"GET /healthz HTTP/2.0" + HOST, 400, "unreadable_request"),
    "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "unreadable_request"),
    "a URL without an end": (b"GET /" + b"a" * 300_000, 414, "url_too_long"),
    "a long URL": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1" + HOST, 414, "url_too_long"),
    "a header without an end": (
        b"GET /api/bets HTTP/1.1\r\nX: " + b"a" * 900_000, 431, "headers_too_large"
    ),
    "headers without an end": (
        b"GET /api/bets HTTP/1.1" + HOST + b"X: y\r\n" * 90_000, 431, "headers_too_large"
    ),
    "chunks that are none": (
        b"POST /api/bets HTTP/1.1" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
        "unreadable_request",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_REQUESTS)
def test_what_is_no_request_is_told_so_as_a_problem(scene: Scene, what: str) -> None:
    said, status, code = NO_REQUESTS[what]
    refused_and_closed(scene.house, said + b"\r\n", status, code)


def test_a_request_names_its_host_unless_it_is_an_old_one(scene: Scene) -> None:
    answer = told(scene.house, b"GET /api/rounds HTTP/1.1\r\n\r\n")
    assert (answer.status, answer.problem) == (400, "unreadable_request")
    old = told(scene.house, b"GET /api/rounds HTTP/1.0\r\n\r\n")
    assert (old.status, old.problem) == (401, "unauthenticated")


def test_what_follows_a_request_is_no_answer_to_it(scene: Scene) -> None:
    """Both were sent at once: the first gets its own answer, only then the second its refusal."""
    first = f"GET /api/wallets/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.user.token}"
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.sendall(first.encode() + b"\r\n\r\n\x16\x03\x01 nonsense\r\n\r\n")
        said = b""
        while piece := connection.recv(65536):
            said += piece
    one, there, two = said.partition(b"HTTP/1.1 400 ")
    assert one.startswith(b"HTTP/1.1 200 ") and str(scene.user.id).encode() in one
    assert there and b"unreadable_request" in two


def test_a_wish_for_another_protocol_is_not_granted(scene: Scene) -> None:
    more = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhl\r\n"
    answer = told(scene.house, b"GET /api/rounds HTTP/1.1" + HOST + more + b"\r\n")
    assert (answer.status, answer.problem) == (401, "unauthenticated")
    said = b"POST /api/bets HTTP/1.1" + HOST + more + b"Content-Length: 2\r\n\r\n{}"
    refused_and_closed(scene.house, said, 400, "unreadable_request")


def test_who_expects_to_be_told_to_go_on_is_told(scene: Scene) -> None:
    key = f"Idempotency-Key: {uuid4().hex}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
    token = f"Authorization: Bearer {scene.user.token}\r\nContent-Type: application/json\r\n"
    head = f"POST /api/bets HTTP/1.1\r\nHost: x\r\n{token}{key}\r\n"
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert parsed(raw_answer(connection)).status == 422


def test_who_was_not_told_to_go_on_has_no_second_request_taken_for_a_body(scene: Scene) -> None:
    first = (
        b"POST /api/bets HTTP/1.1" + HOST + b"Expect: 100-continue\r\nContent-Length: 300\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.sendall(first)
        answer = parsed(raw_answer(connection))
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert connection.recv(65536) == b""


def test_who_speaks_http_1_0_knows_of_no_going_on(scene: Scene) -> None:
    key = f"Idempotency-Key: {uuid4().hex}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
    token = f"Authorization: Bearer {scene.user.token}\r\nContent-Type: application/json\r\n"
    answer = told(scene.house, f"POST /api/bets HTTP/1.0\r\n{token}{key}\r\n{{}}".encode())
    assert (answer.status, answer.problem) == (422, "invalid")


# Who takes their time ----------------------------------------------------------------------------

PATIENCE_S = 1


@pytest.fixture(scope="module")
def hurried(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """A house that waits a second for what comes, and two for more."""
    folder = tmp_path_factory.mktemp("hurried")
    chosen = {"request_timeout_s": str(PATIENCE_S), "idle_timeout_s": "2"}
    with new_house(server, clones, folder, **chosen) as house:
        house.start_api()
        yield house


def last_words(house: House, said: bytes) -> tuple[bytes, float]:
    """All that is answered until the server closes, and after how long it does."""
    with socket.create_connection(("127.0.0.1", house.apis[0].port)) as connection:
        connection.settimeout(30)
        began, answered = time.monotonic(), b""
        connection.sendall(said)
        while piece := connection.recv(65536):
            answered += piece
        return answered, time.monotonic() - began


@pytest.mark.parametrize(
    "said",
    [b"G", b"POST /api/bets HTTP/1.1\r\nX-Slow: ", b"POST /api/bets HTTP/1.1" + HOST
     + b"Content-Length: 100\r\n\r\n{", b"GET /healthz HTTP/1.1" + HOST + b"\r\nGET /he"],
    ids=["a method", "a header", "a body", "a second request"],
)  # fmt: skip
def test_who_begins_and_does_not_go_on_is_told_that_it_took_too_long(
    hurried: House, said: bytes
) -> None:
    (user,) = hurried.people(1)
    said = said.replace(b"Content-Length", f"Authorization: Bearer {user.token}\r\n"
        f"Idempotency-Key: slow\r\nContent-Type: application/json\r\nContent-Length".encode())  # fmt: skip
    answered, took = last_words(hurried, said)
    answer = parsed(answered[answered.rindex(b"HTTP/1.1 ") :])
    assert (answer.status, answer.problem) == (408, "request_timeout")
    assert took >= PATIENCE_S * 0.9
    assert hurried.apis[0].bugs() == []


def test_who_says_nothing_at_all_is_left_without_a_word(hurried: House) -> None:
    assert last_words(hurried, b"")[0] == b""
    answered, _ = last_words(hurried, b"GET /healthz HTTP/1.1" + HOST + b"\r\n")
    assert answered.startswith(b"HTTP/1.1 200 ") and answered.count(b"HTTP/1.1") == 1


def test_who_takes_nothing_of_what_is_told_is_left(hurried: House) -> None:
    """Its answers fill every buffer on the way; the rest of them is not kept for ever."""
    many = (b"GET /schema/openapi.json HTTP/1.1" + HOST + b"\r\n") * 200
    with hurried.client() as client:
        whole = len(client.get("/schema/openapi.json").body) * 200
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", hurried.apis[0].port))
        deaf.sendall(many)
        for _ in range(4):  # each is as long as the patience
            assert last_words(hurried, b"")[0] == b""
        deaf.settimeout(30)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := deaf.recv(65536):
                taken += len(piece)
    assert 0 < taken < whole


def test_a_body_that_keeps_coming_may_take_its_time(hurried: House) -> None:
    """A megabyte over twice the patience: slow, and faster than it must be."""
    (operator,) = hurried.people(1, "operator")
    size, parts = 1_000_000, 20
    head = (
        f"POST /api/transfers/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {operator.token}"
        f"\r\nIdempotency-Key: slow\r\nContent-Type: application/json\r\nContent-Length: {size}"
        "\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", hurried.apis[0].port)) as connection:
        connection.sendall(head.encode())
        for part in range(parts):
            connection.sendall(b" " * (size // parts))
            # Waits as long as a slow wire would; an answer before the end would be the fault.
            connection.settimeout(2 * PATIENCE_S / parts)
            with contextlib.suppress(TimeoutError):
                assert part == parts - 1 or not connection.recv(65536)
        connection.settimeout(30)
        assert parsed(raw_answer(connection)).status == 400


def test_a_sender_who_was_refused_in_the_middle_is_not_listened_to_for_ever(
    hurried: House,
) -> None:
    """It said a length that never comes, and has its answer already."""
    head = b"POST /api/bets HTTP/1.1" + HOST + b"Content-Length: 9000000\r\n\r\n"
    answered, took = last_words(hurried, head)
    assert answered.startswith(b"HTTP/1.1 401 ") and answered.count(b"HTTP/1.1") == 1
    assert took < 10 * PATIENCE_S


def test_who_takes_too_long_is_told_so_also_while_the_process_ends(hurried: House) -> None:
    api = hurried.start_api()
    (user,) = hurried.people(1)
    head = (
        f"POST /api/bets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.token}\r\n"
        "Idempotency-Key: slow\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        "Content-Length: 100\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 "), "it waits for the body"
        assert api.end(signal.SIGTERM) == 0
        answer = parsed(raw_answer(connection))
    assert (answer.status, answer.problem) == (408, "request_timeout")
    assert api.bugs() == []
