"""A write whose lane is full is refused by the connection itself, and all else goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from end_to_end._client import TIMEOUT_S, Answer, Client
from end_to_end._house import House, Person, eventually, new_house
from serving import Clones, Server

DEADLINE_MS = "300"
"""A group that takes longer than this closes its lane."""


@pytest.fixture(scope="module")
def house(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("overflow")
    with new_house(server, clones, folder, write_deadline_ms=DEADLINE_MS) as house:
        house.start_api()
        yield house


class Table:
    """Somebody with money, and a round to bet on."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.operator: Person = house.people(1, "operator")[0]
        self.user: Person = house.people(1)[0]
        with house.client() as client:
            path = f"/api/wallets/{self.user.id}/deposits"
            assert client.post(path, {"amount": 10_000}, self.operator.token).status == 201
            body = {"name": "A full lane", "kind": "oracle"}
            self.round = client.post("/api/rounds", body, self.operator.token).json["roundId"]
            assert self.bet(client).status == 202  # from now on it is known whose path this is

    @property
    def wish(self) -> dict[str, object]:
        return {"roundId": self.round, "side": "A", "amount": 10}

    def bet(self, client: Client, token: str | None = None) -> Answer:
        return client.post("/api/bets", self.wish, token or self.user.token)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Bets can be decided and not be written, and a group of them is under way."""
        with psycopg.connect(self.house.database_url) as db:
            db.execute("LOCK TABLE betting.bets IN ACCESS EXCLUSIVE MODE")
            first = threading.Thread(target=self._bet_once)
            first.start()
            eventually(self.full, "the lane is full")
            yield
            db.rollback()
        first.join()

    def _bet_once(self) -> None:
        with self.house.client() as client:
            self.bet(client)

    def full(self) -> bool:
        """Nobody is asked who they are any more."""
        with self.house.client() as client:
            return client.post("/api/bets", self.wish).status == 429


@pytest.fixture
def at(house: House) -> Table:
    return Table(house)


def test_what_a_full_lane_would_refuse_is_refused_before_anything_is_done_for_it(
    at: Table,
) -> None:
    with at.stalled(), at.house.client() as client:
        for body in (at.wish, b"x" * 100_000, b""):
            answer = client.post("/api/bets", body, at.user.token)
            assert (answer.status, answer.problem) == (429, "overloaded")
            assert int(answer.headers["retry-after"]) > 0 and answer.headers["date"]
            assert answer.headers["x-request-id"] == answer.json["requestId"]
        # Neither another path nor another method of this connection is held up.
        assert client.get("/api/wallets/me", at.user.token).status == 200
        assert client.get("/api/rounds", at.user.token).status == 200
        waited = client.get("/api/bets", at.user.token)
        assert (waited.status, waited.problem) == (503, "database_busy")
    with at.house.client() as client:
        eventually(lambda: at.bet(client).status == 202, "bets are taken again")
        counted = client.get("/metrics").body.decode()
    assert 'strongroom_requests_total{method="POST",path="/api/bets",status="429"}' in counted
    at.house.assert_sound()


def test_requests_sent_together_are_answered_in_their_order(at: Table) -> None:
    health = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    bet = b"POST /api/bets HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    last = bet.replace(b"Host: h", b"Host: h\r\nConnection: close")
    with at.stalled(), socket.create_connection(("127.0.0.1", at.house.apis[0].port)) as wire:
        wire.settimeout(TIMEOUT_S)
        wire.sendall(health + bet + health + last)
        said = b""
        while piece := wire.recv(65536):
            said += piece
    statuses = [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]
    # Behind another one a bet goes through the door, which first asks who it is.
    assert [statuses[0], statuses[2]] == [200, 200]
    assert len(statuses) == 4 and {statuses[1], statuses[3]} <= {401, 429}


ODD = {
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length with a sign": b"Content-Length: +2\r\n\r\n{}",
    "a folded header": b"X-A: b\r\n c: d\r\nContent-Length: 2\r\n\r\n{}",
    "more than its length": b"Content-Length: 2\r\n\r\n{}" + b"GET /healthz HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("odd", ODD)
def test_what_only_the_parser_can_judge_is_left_to_it(at: Table, odd: str) -> None:
    said = b"POST /api/bets HTTP/1.1\r\nHost: h\r\n" + ODD[odd]
    with at.stalled(), socket.create_connection(("127.0.0.1", at.house.apis[0].port)) as wire:
        wire.settimeout(5)
        wire.sendall(said)
        found = wire.recv(65536)
        assert found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 429 "))
        if odd in ("two lengths", "a length with a sign"):
            assert found.startswith(b"HTTP/1.1 400 ")


def test_a_request_that_comes_in_pieces_is_refused_when_it_is_whole(at: Table) -> None:
    said = b"POST /api/bets HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    with at.stalled(), socket.create_connection(("127.0.0.1", at.house.apis[0].port)) as wire:
        wire.settimeout(5)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (said[:7], said[7:40], said[40:-1], said[-1:]):
            wire.sendall(piece)
        assert wire.recv(65536).startswith(b"HTTP/1.1 429 ")
        wire.sendall(said)
        assert wire.recv(65536).startswith(b"HTTP/1.1 429 "), "the connection goes on"


def test_one_that_is_refused_and_wants_no_other_closes_its_connection(at: Table) -> None:
    bet = b"POST /api/bets HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with at.stalled(), socket.create_connection(("127.0.0.1", at.house.apis[0].port)) as wire:
        wire.settimeout(TIMEOUT_S)
        wire.sendall(bet)
        said = b""
        while piece := wire.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 429 ") and said.endswith(b"}")
    assert b"\r\nconnection: close\r\n" in said
