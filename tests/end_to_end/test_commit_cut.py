"""The connection to Postgres is cut at COMMIT, before and after delivery (C4)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from end_to_end._cut import CommitCutter, Cut, When
from end_to_end._house import House, Person, new_house
from end_to_end._wire import Reply, Wire, request
from serving import Clones, Server

CUTS = 40
"""Half of them before delivery. Zero violations in 40 bound their rate below 7.5 % (3/N); the
campaign makes 2,000."""

GROUP = 12
"""Bets that share a transaction in every fourth cut."""

STAKE = 10


class Room:
    """A house whose API reaches its database through the cutter."""

    def __init__(self, house: House, cutter: CommitCutter) -> None:
        self.house, self.cutter = house, cutter
        (operator,) = house.people(1, "operator")
        (self.user,) = house.people(1)
        self.keys: list[str] = []
        with house.client() as client:
            body: dict[str, Any] = {"name": "Cut", "kind": "oracle"}
            self.round_id = client.post("/api/rounds", body, operator.token).json["roundId"]
            path = f"/api/wallets/{self.user.id}/deposits"
            assert client.post(path, {"amount": 10**9}, operator.token).status == 201

    def wish(self, person: Person, key: str) -> bytes:
        body = {"roundId": self.round_id, "side": "A", "amount": STAKE}
        return request("POST", "/api/bets", person.token, key, body)

    async def bet(self, count: int) -> list[Reply]:
        """That many bets at the same moment, each asked for until its outcome is known."""
        self.keys = [uuid4().hex for _ in range(count)]
        wires = [Wire([self.house.apis[0].port], random.Random(i)) for i in range(count)]
        try:
            return await asyncio.gather(
                *(
                    wire.until_definite(self.wish(self.user, key))
                    for wire, key in zip(wires, self.keys, strict=True)
                )
            )
        finally:
            for wire in wires:
                wire.close()

    def stored(self) -> int:
        """How many of the bets under way are in the database."""
        query = """SELECT count(*) FROM betting.bets b
            JOIN commands.answers a ON a.subject = b.id WHERE a.key = ANY(%s)"""
        ((count,),) = self.house.rows(query, self.keys)
        return int(count)


@pytest.fixture(scope="module")
def room(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Room]:
    with new_house(server, clones, tmp_path_factory.mktemp("cut")) as house:
        rooms: list[Room] = []
        with CommitCutter(house.database_url, lambda: rooms[0].stored()) as cutter:
            house.start_api(STRONGROOM_DATABASE_URL=cutter.url)
            rooms.append(Room(house, cutter))
            yield rooms[0]
            house.stop()


def test_each_bet_whose_commit_was_cut_off_happens_exactly_once(room: Room) -> None:
    cutter, house = room.cutter, room.house
    ((before,),) = house.rows("SELECT count(*) FROM betting.bets")
    betted = 0
    outcomes: Counter[tuple[When, str]] = Counter()
    for number in range(CUTS):
        when: When = "before" if number % 2 else "after"
        count = GROUP if number % 4 == 3 else 1
        made = len(cutter.cuts)
        cutter.arm(when)
        replies = asyncio.run(room.bet(count))
        betted += count
        assert [cut.when for cut in cutter.cuts[made:]] == [when], "no fault was delivered"
        for reply in replies:
            assert (reply.status, reply.json["status"]) == (202, "PENDING"), reply
        assert len({reply.json["betId"] for reply in replies}) == count
        assert room.stored() == count
        with house.client() as client:
            for key, reply in zip(room.keys, replies, strict=True):
                body = {"roundId": room.round_id, "side": "A", "amount": STAKE}
                again = client.post("/api/bets", body, room.user.token, key)
                assert (again.status, again.body) == (202, reply.body)
                assert again.headers["idempotency-replayed"] == "true"
        if count == 1:
            replayed = "replayed" if "idempotency-replayed" in replies[0].headers else "decided"
            outcomes[when, replayed] += 1
    ((there,),) = house.rows("SELECT count(*) FROM betting.bets")
    assert there - before == betted
    with house.client() as client:
        wallet = client.get("/api/wallets/me", room.user.token).json
    assert (wallet["balance"], wallet["locked"]) == (10**9 - STAKE * there, STAKE * there)
    # What had committed was found by its key; what had not was decided anew.
    assert set(outcomes) == {("before", "decided"), ("after", "replayed")}
    # The control: to the program all cuts looked alike, yet half of them had committed. Whoever
    # asks again without claiming the key doubles that half, who never asks loses the other.
    seen = Counter((cut.when, bool(cut.seen)) for cut in cutter.cuts)
    assert seen == {("after", True): CUTS // 2, ("before", False): CUTS // 2}


def test_an_outcome_that_cannot_be_resolved_is_said_to_be_unknown_and_the_key_resolves_it(
    room: Room,
) -> None:
    cutter = room.cutter
    key = uuid4().hex
    room.keys = [key]
    stay_away(cutter)
    cutter.arm("after")

    async def ask() -> Reply:
        wire = Wire([room.house.apis[0].port], random.Random(1))
        try:
            return await wire.ask(room.wish(room.user, key))
        finally:
            wire.close()

    reply = asyncio.run(ask())
    assert (reply.status, reply.json["code"]) == (503, "outcome_unknown")
    assert int(reply.headers["retry-after"]) > 0
    assert cutter.cuts[-1] == Cut("after", 1)
    cutter.away = False
    (resolved,) = asyncio.run(asyncio.wait_for(retried(room, key), 30))
    assert resolved.status == 202 and resolved.headers["idempotency-replayed"] == "true"
    assert room.stored() == 1


def stay_away(cutter: CommitCutter) -> None:
    """From the next cut on nobody gets through."""
    look = cutter._look

    def look_and_leave() -> int:
        cutter.away = True
        cutter._look = look
        return look()

    cutter._look = look_and_leave


async def retried(room: Room, key: str) -> list[Reply]:
    wire = Wire([room.house.apis[0].port], random.Random(1))
    try:
        return [await wire.until_definite(room.wish(room.user, key))]
    finally:
        wire.close()


def test_after_all_cuts_the_books_are_sound(room: Room) -> None:
    room.house.assert_sound()
