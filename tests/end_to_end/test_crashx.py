"""API and worker processes are killed at random instants under load (C1)."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from end_to_end._house import ApiProcess, House, Person, Process, eventually, new_house
from end_to_end._wire import Broken, Reply, Wire, request
from serving import Clones, Server

KILLS = 12
ACKNOWLEDGED = 1_500
"""Small, for every run; a campaign sets 1,000 and 100,000. Zero violations bound their rate per
kill below 3/KILLS."""

ENOUGH_KILLS, ENOUGH_ACKNOWLEDGED = 8, 1_000
"""Below this a run says nothing: it is invalid and fails."""

CLIENTS = 16
BETTORS = 12
FUNDS = 100_000
PAUSE_S = 0.6
"""Between two kills, on average; about what a process needs to be back at work."""

LONGEST_S = 75.0
SEED = __import__("os").getpid()


class Wish(NamedTuple):
    """A request, under which key, and what kind of thing it asks for."""

    kind: str
    key: str
    said: bytes


@dataclass
class Acknowledged:
    wish: Wish
    reply: Reply


class Load:
    """Clients that bet, deposit, transfer and cancel, a croupier, and the one who kills."""

    def __init__(self, house: House, operator: Person, users: list[Person]) -> None:
        self.house, self.operator, self.users = house, operator, users
        self.ports = [api.port for api in house.apis]
        self.acknowledged: list[Acknowledged] = []
        self.round_id = ""
        self.kills: dict[str, int] = {"api": 0, "worker": 0}
        self.broken = 0
        self.ends_at = time.monotonic() + LONGEST_S
        self.chance = random.Random(SEED)

    @property
    def over(self) -> bool:
        enough = len(self.acknowledged) >= ACKNOWLEDGED and sum(self.kills.values()) >= KILLS
        return enough or time.monotonic() > self.ends_at

    async def ask(self, wire: Wire, kind: str, path: str, token: str, body: Any) -> Reply:
        """Asks, and after a break again with the same key, until the outcome is known."""
        key = uuid4().hex
        wish = Wish(kind, key, request("POST", path, token, key, body))
        try:
            reply = await wire.ask(wish.said)
        except Broken:
            self.broken += 1
            reply = await wire.until_definite(wish.said)
        if not reply.definite:
            reply = await wire.until_definite(wish.said)
        self.acknowledged.append(Acknowledged(wish, reply))
        return reply

    async def client(self, number: int) -> None:
        chance = random.Random(SEED * 1000 + number)
        wire = Wire(self.ports, chance)
        while not self.over:
            user = chance.choice(self.users)
            kind = chance.random()
            if kind < 0.6:
                body = {"roundId": self.round_id, "side": chance.choice("AB"),
                        "amount": chance.randint(1, 500)}  # fmt: skip
                reply = await self.ask(wire, "bet", "/api/bets", user.token, body)
                if reply.status == 202 and chance.random() < 0.15:
                    path = f"/api/bets/{reply.json['betId']}/cancel"
                    await self.ask(wire, "cancel", path, user.token, {})
            elif kind < 0.8:
                other = chance.choice([u for u in self.users if u is not user])
                body = {"from": str(user.id), "to": str(other.id), "amount": chance.randint(1, 99)}
                await self.ask(wire, "transfer", "/api/transfers", self.operator.token, body)
            elif kind < 0.9:
                path = f"/api/wallets/{user.id}/deposits"
                body = {"amount": chance.randint(1, 999)}
                await self.ask(wire, "deposit", path, self.operator.token, body)
            else:
                body = {"amount": chance.randint(1, 99)}
                path = "/api/wallets/me/withdrawals"
                await self.ask(wire, "withdrawal", path, user.token, body)
        wire.close()

    async def open_round(self, wire: Wire, kind: str) -> str:
        body = {"name": "Under fire", "kind": kind, "feeBps": 100}
        reply = await self.ask(wire, "round", "/api/rounds", self.operator.token, body)
        assert reply.status == 201
        return str(reply.json["roundId"])

    async def croupier(self) -> None:
        """Opens round after round; the old one is closed and decided while the new one runs."""
        wire = Wire(self.ports, self.chance)
        number = 0
        while not self.over:
            asked = len(self.acknowledged)
            while len(self.acknowledged) < asked + 150 and not self.over:
                await asyncio.sleep(0.02)
            number += 1
            kind = ("oracle", "coinflip")[number % 2]
            old, self.round_id = self.round_id, await self.open_round(wire, kind)
            await self.end_round(wire, old, ("A", "B", "VOID")[number % 3])
        await self.end_round(wire, self.round_id, "A")
        wire.close()

    async def end_round(self, wire: Wire, round_id: str, winner: str) -> None:
        path, token = f"/api/rounds/{round_id}", self.operator.token
        assert (await self.ask(wire, "close", f"{path}/close", token, {})).status == 202
        reply = await self.ask(wire, "result", f"{path}/result", token, {"winner": winner})
        assert reply.status == 202 or reply.json["code"] == "round_kind"

    async def killer(self) -> None:
        """Poisson: the instants are independent of what the processes do."""
        turn = 0
        while not self.over:
            await asyncio.sleep(self.chance.expovariate(1 / PAUSE_S))
            turn += 1
            target: Process
            if turn % 3 == 0:
                target = self.chance.choice(self.house.workers)
            else:
                target = self.chance.choice(self.house.apis)
                assert isinstance(target, ApiProcess)
                # Only who serves is worth killing; a process that starts holds nothing yet.
                while not await asyncio.to_thread(target.ready):
                    await asyncio.sleep(0.02)
            assert target.end(signal.SIGKILL) == -signal.SIGKILL, "it had died by itself"
            self.kills["api" if isinstance(target, ApiProcess) else "worker"] += 1
            target.start()

    async def run(self) -> None:
        wire = Wire(self.ports, self.chance)
        self.round_id = await self.open_round(wire, "oracle")
        wire.close()
        clients = [self.client(number) for number in range(CLIENTS)]
        await asyncio.gather(self.croupier(), self.killer(), *clients)


@pytest.fixture(scope="module")
def house(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Two API processes and two workers."""
    with new_house(server, clones, tmp_path_factory.mktemp("crash")) as house:
        for _ in range(2):
            house.start_api()
            house.start_worker()
        yield house


@pytest.fixture(scope="module")
def load(house: House) -> Load:
    """The run itself; what came of it is asked by the tests."""
    (operator,), users = house.people(1, "operator"), house.people(BETTORS)
    with house.client() as client:
        for user in users:
            path, key = f"/api/wallets/{user.id}/deposits", f"funds-{user.id}"
            assert client.post(path, {"amount": FUNDS}, operator.token, key).status == 201
    load = Load(house, operator, users)
    asyncio.run(load.run())
    for api in house.apis:
        house.wait_ready(api)
    end_leases_of_the_dead(house)
    eventually(house.drained, "the workers have done everything", 60)
    return load


def end_leases_of_the_dead(house: House) -> None:
    """What a killed worker held comes again after its lease of 30 s; here at once. That a living
    worker's message may come twice by this is no harm, or the test shall show it."""
    for (queue,) in house.rows("SELECT queue_name FROM pgmq.meta"):
        house.rows(f'UPDATE pgmq."q_{queue}" SET vt = now() RETURNING msg_id')


def test_the_run_was_a_trial_at_all(load: Load) -> None:
    assert sum(load.kills.values()) >= ENOUGH_KILLS, f"invalid: {load.kills}"
    assert all(load.kills.values()), f"invalid: one kind never died: {load.kills}"
    assert len(load.acknowledged) >= ENOUGH_ACKNOWLEDGED, f"invalid: {len(load.acknowledged)}"
    assert load.broken, "invalid: no request was under way when its process died"


def test_everything_asked_got_a_definite_answer_that_makes_sense(load: Load) -> None:
    good: dict[str, set[int | str]] = {
        "bet": {202, "round_closed", "insufficient_funds"},
        "cancel": {202, "wrong_state", "round_closed"},
        "transfer": {201, "insufficient_funds"},
        "withdrawal": {201, "insufficient_funds"},
        "deposit": {201},
        "round": {201},
        "close": {202},
        "result": {202, "round_kind"},
    }
    for wish, reply in ((one.wish, one.reply) for one in load.acknowledged):
        said = reply.status if reply.status < 300 else reply.json["code"]
        assert said in good[wish.kind], (wish, reply)


def test_every_answer_is_replayed_byte_for_byte_after_the_crashes(house: House, load: Load) -> None:
    async def replay(some: list[Acknowledged], number: int) -> None:
        wire = Wire([api.port for api in house.apis], random.Random(number))
        for one in some:
            again = await wire.until_definite(one.wish.said)
            assert (again.status, again.body) == (one.reply.status, one.reply.body), one
            assert again.headers["idempotency-replayed"] == "true", one
        wire.close()

    async def replay_all() -> None:
        parts = [load.acknowledged[start::8] for start in range(8)]
        await asyncio.gather(*(replay(part, number) for number, part in enumerate(parts)))

    asyncio.run(replay_all())


def test_every_acknowledged_operation_exists_exactly_once_and_nothing_else_does(
    house: House, load: Load
) -> None:
    done = [one for one in load.acknowledged if one.reply.status < 300]
    bets = {one.reply.json["betId"] for one in done if one.wish.kind == "bet"}
    assert len(bets) == sum(one.wish.kind == "bet" for one in done)
    assert {str(id) for (id,) in house.rows("SELECT id FROM betting.bets")} == bets
    moved = {one.reply.json["transferId"]: one for one in done if "transferId" in one.reply.json}
    query = """SELECT id, key FROM ledger.transfers WHERE key ~ '^(TRANSFER|DEPOSIT|WITHDRAWAL):'
        AND key !~ ':funds-'"""
    there = {str(id): key for id, key in house.rows(query)}
    assert set(there) == set(moved)
    for id, one in moved.items():
        assert there[id].endswith(f":{one.wish.key}")
    rounds = {one.reply.json["roundId"] for one in done if one.wish.kind == "round"}
    assert {str(id) for (id,) in house.rows("SELECT id FROM betting.rounds")} == rounds


def test_every_round_came_to_its_end(house: House, load: Load) -> None:
    query = "SELECT status::text, count(*) FROM betting.rounds GROUP BY 1"
    assert load.acknowledged
    assert {status for status, _ in house.rows(query)} <= {"SETTLED", "VOIDED"}
    ((staked,),) = house.rows("SELECT sum(balance) FROM ledger.accounts WHERE purpose = 'stake'")
    assert staked == 0


def test_after_all_crashes_the_books_are_sound(house: House, load: Load) -> None:
    assert load.acknowledged
    house.assert_sound()
