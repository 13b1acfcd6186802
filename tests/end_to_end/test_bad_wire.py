"""Requests that are bad below JSON: too large, in chunks, broken off, or no HTTP at all."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import time
from email.message import Message
from uuid import uuid4

import pytest

from end_to_end._client import Answer, Client
from end_to_end._spoiling import (  # noqa: F401
    QUICK_S,
    WITH_BODY,
    Scene,
    Wrong,
    _nothing_changes,
    client,
    good_body,
    good_path,
    headers_of,
    named,
    scene,
    send,
    struct_of,
    wrong,
)
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.bodies import BULK_LIMIT
from strongroom.doors.http.routing import Route
from strongroom.lab.wire import request

# Sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
def test_a_body_that_is_too_large_is_refused(
    client: Client, scene: Scene, wrong: Wrong, route: Route
) -> None:
    head, tail = b'{"a": "', b'"}'
    for size in (route.limit + 1, route.limit * 2, max(route.limit + 1, 2**20)):
        body = head + b"x" * (size - len(head) - len(tail)) + tail
        began = time.monotonic()
        wrong.check(f"{size} bytes", send(client, scene, route, body), (413,), began)
    digits = b"1" * max(2**20, route.limit + 1)
    began = time.monotonic()
    wrong.check("a million digits", send(client, scene, route, digits), (413,), began)


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
def test_a_body_in_chunks_is_measured_as_it_comes(scene: Scene, wrong: Wrong, route: Route) -> None:
    began = time.monotonic()
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    count = route.limit // 0x4000 + 2
    answer = raw(scene, route, b"Transfer-Encoding: chunked\r\n", chunk * count + b"0\r\n\r\n")
    assert (answer.status, answer.problem) == (413, "body_too_large"), answer
    small = b"5\r\n[1,2,\r\n0\r\n\r\n"
    answer = raw(scene, route, b"Transfer-Encoding: chunked\r\n", small)
    wrong.check("in chunks", answer, (400, 422), began)


def test_more_than_ten_thousand_items_are_refused(client: Client, scene: Scene) -> None:
    item = {"from": str(scene.user.id), "to": str(scene.other.id), "amount": 1}
    for mode in ("independent", "atomic"):
        items = [{**item, "key": f"k{i}"} for i in range(10_001)]
        answer = client.post(
            "/api/transfers/batch", {"mode": mode, "items": items}, scene.operator.token
        )
        assert (answer.status, answer.problem) == (422, "invalid")
        assert answer.json["errors"][0]["field"] == "items"


def test_over_four_megabytes_of_items_are_refused(client: Client, scene: Scene) -> None:
    body = b'{"mode":"atomic","items":[' + b" " * BULK_LIMIT + b"]}"
    answer = client.post("/api/transfers/batch", body, scene.operator.token)
    assert (answer.status, answer.problem) == (413, "body_too_large")


# Below HTTP ------------------------------------------------------------------------------------


def raw_answer(connection: socket.socket) -> bytes:
    """All that the server says until it closes or the answer is whole."""
    said = b""
    connection.settimeout(QUICK_S * 2)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := connection.recv(65536):
            said += piece
            head, there, body = said.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if there and length and len(body) >= int(length[1]):
                break
    return said


def head_of(scene: Scene, route: Route, more: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers_of(scene, route)]
    start = f"{route.method} {good_path(scene, route)} HTTP/1.1\r\nHost: x\r\n"
    return (start + "\r\n".join(lines) + "\r\n").encode() + more + b"\r\n"


def raw(scene: Scene, route: Route, more: bytes, body: bytes) -> Answer:
    """One request on a socket of its own, with headers that no client would send."""
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head_of(scene, route, more) + body)
        return parsed(raw_answer(connection))


def parsed(said: bytes) -> Answer:
    """The bytes of one answer; status 0 where there is none."""
    head, _, rest = said.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = Message()
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name] = value
    return Answer(int(first.split()[1]) if first else 0, headers, rest)


DEPOSITS = next(route for route in ROUTES if route.path.endswith("/deposits"))
GOOD = b'{"amount":5}'

UNREADABLE = {
    "a length and chunks": b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 12\r\n",
    "two lengths": b"Content-Length: 12\r\nContent-Length: 13\r\n",
    "a length in letters": b"Content-Length: twelve\r\n",
    "a negative length": b"Content-Length: -12\r\n",
    "a signed length": b"Content-Length: +12\r\n",
    "a length in hexadecimal": b"Content-Length: 0xc\r\n",
    "a length list": b"Content-Length: 12, 12\r\n",
    "a length beyond 64 bits": b"Content-Length: 99999999999999999999999\r\n",
    "an unknown encoding": b"Transfer-Encoding: chunked, gzip\r\n",
    "a blank before the colon": b"Content-Length : 12\r\n",
    "a header without a name": b": x\r\nContent-Length: 12\r\n",
    "a NUL in a header": b"X-Note: a\x00b\r\nContent-Length: 12\r\n",
    "a line feed alone": b"X-Note: a\nContent-Length: 12\n",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_request_that_can_be_read_in_two_ways_is_refused(scene: Scene, what: str) -> None:
    answer = raw(scene, DEPOSITS, UNREADABLE[what], GOOD)
    assert (answer.status, answer.problem) == (400, "unreadable_request"), answer
    assert answer.headers["connection"] == "close"


def test_a_huge_length_is_refused_before_the_body_comes(scene: Scene) -> None:
    answer = raw(scene, DEPOSITS, b"Content-Length: 9000000000000000000\r\n", GOOD)
    assert (answer.status, answer.problem) == (413, "body_too_large")


def test_a_flood_of_headers_is_refused(scene: Scene) -> None:
    many = b"".join(b"X-Flood-%d: %s\r\n" % (i, b"x" * 100) for i in range(10_000))
    answer = raw(scene, DEPOSITS, many + b"Content-Length: 12\r\n", GOOD)
    assert (answer.status, answer.problem) == (431, "headers_too_large"), answer


@pytest.mark.parametrize("missing", [1, 80], ids=["one byte", "many bytes"])
@pytest.mark.parametrize("route", WITH_BODY, ids=named)
def test_a_body_that_breaks_off_is_not_taken_for_whole(
    scene: Scene, route: Route, missing: int
) -> None:
    # What came may be good JSON by itself; the length says that it was to go on.
    body = json.dumps(good_body(scene, struct_of(route))).encode()
    more = b"Content-Length: %d\r\n" % (len(body) + missing)
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.sendall(head_of(scene, route, more) + body)
        connection.shutdown(socket.SHUT_WR)
        said = raw_answer(connection)
    assert not said or 400 <= int(said.split()[1]) < 500, said
    # The server may act after the client has gone: it has, once it answers what came later.
    with scene.house.client() as client:
        for _ in range(20):
            assert client.get("/api/wallets/me", scene.user.token).status == 200


@pytest.mark.parametrize(
    "said",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET\r\n\r\n", b"POST /api/bets HTTP/9.9\r\n\r\n",
     b"\r\n" * 1000, b"G" * 100_000, b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"],
    ids=["TLS", "no path", "HTTP/9.9", "line ends", "no end of line", "a long path"],
)  # fmt: skip
def test_what_is_not_http_is_turned_away(scene: Scene, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
        answer = raw_answer(connection)
    assert not answer or 400 <= int(answer.split()[1]) < 500, answer


def test_who_leaves_without_reading_a_single_answer_is_no_error_of_ours(scene: Scene) -> None:
    """Their answers fill every buffer on the way, then the connection is reset under them."""
    many = request("GET", "/schema/openapi.json", "") * 200
    with scene.house.client() as client:
        for _ in range(3):
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                deaf.connect(("127.0.0.1", scene.house.apis[0].port))
                deaf.sendall(many)
                # While others are answered, its answers come to where nothing more can be written.
                for _ in range(100):
                    assert client.get("/api/wallets/me", scene.user.token).status == 200
                reset = struct.pack("ii", 1, 0)
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            for _ in range(20):
                assert client.get("/api/wallets/me", scene.user.token).status == 200
    assert scene.house.apis[0].bugs() == []


def test_a_connection_is_still_good_after_a_refusal(scene: Scene) -> None:
    with scene.house.client() as client:
        for body in (b"{", b"[]", b'{"amount": 0}'):
            assert 400 <= send(client, scene, DEPOSITS, body).status < 500
            assert client.get("/api/wallets/me", scene.user.token).status == 200


# Around a body ---------------------------------------------------------------------------------

CHUNKED = b"POST /api/transfers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"

RESETS = (ConnectionResetError, BrokenPipeError)


def test_what_follows_a_body_is_no_header(scene: Scene) -> None:
    body = b"2\r\n{}\r\n0\r\n"
    shown = f"Authorization: Bearer {scene.operator.token}\r\n".encode()
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.sendall(CHUNKED + b"\r\n" + body + shown + b"\r\n")
        assert parsed(raw_answer(connection)).status == 401
        connection.sendall(CHUNKED + shown + b"\r\n" + body + b"Host: y\r\n" + shown + b"\r\n")
        answer = parsed(raw_answer(connection))
    assert (answer.status, answer.problem) == (400, "idempotency_key_missing")


ENDLESS = {
    "what follows a body": (b"2\r\n{}\r\n0\r\n", b"X-Flood: y\r\n" * 6000),
    "a line after a body": (b"2\r\n{}\r\n0\r\nX-Flood: ", b"y" * 65536),
    "what a chunk is said to be": (b"2;is=", b"y" * 65536),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_is_neither_head_nor_body_has_an_end(scene: Scene, what: str) -> None:
    begin, more = ENDLESS[what]
    head = head_of(scene, DEPOSITS, b"Transfer-Encoding: chunked\r\n")
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.sendall(head + begin)
        with contextlib.suppress(*RESETS):
            for _ in range(5):
                connection.sendall(more)
        answer = parsed(raw_answer(connection))
    assert (answer.status, answer.problem) == (431, "headers_too_large")


def test_a_body_without_an_end_is_not_read_for_ever_once_it_is_answered(scene: Scene) -> None:
    head = b"POST /api/transfers HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.sendall(head)
        assert parsed(raw_answer(connection)).status == 401
        with pytest.raises(RESETS):
            for _ in range(2000):
                connection.sendall(b" " * 65536)


# Many, and the end -----------------------------------------------------------------------------


def answers(connection: socket.socket) -> list[Answer]:
    """All of them, until the server closes."""
    connection.settimeout(30)
    said = b""
    while piece := connection.recv(65536):
        said += piece
    return [parsed(b"HTTP/1.1 " + one) for one in said.split(b"HTTP/1.1 ")[1:]]


def test_so_many_at_once_are_answered_and_no_more(scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
        *good, last = answers(connection)
    assert {answer.status for answer in good} == {200} and 500 < len(good) < 5000
    assert (last.status, last.problem) == (400, "unreadable_request")


def test_who_has_said_all_may_still_listen(scene: Scene) -> None:
    asked = head_of(scene, DEPOSITS, b"Content-Length: 1\r\n") + b"{"
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for said, statuses in (
        (asked, [400]),
        (asked + health + asked, [400, 200, 400]),
        (health + asked[:20], [200]),
    ):
        with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            found = answers(connection)
        assert [answer.status for answer in found] == statuses, said


def test_of_two_the_second_of_which_breaks_off_the_first_is_answered(scene: Scene) -> None:
    body = {"from": str(scene.user.id), "to": str(uuid4()), "amount": 1}
    to_nobody = request("POST", "/api/transfers", scene.operator.token, "to-nobody", body)
    broken = head_of(scene, DEPOSITS, b"Content-Length: 2\r\n") + b"["
    with socket.create_connection(("127.0.0.1", scene.house.apis[0].port)) as connection:
        connection.sendall(to_nobody + broken)
        connection.shutdown(socket.SHUT_WR)
        first, *others = answers(connection)
    assert (first.status, first.problem) == (404, "not_found")
    assert {answer.status for answer in others} <= {400}
