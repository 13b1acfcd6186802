"""What many clients saw of a few accounts, and whether it can have been."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from end_to_end._history import Entry, History, Operation, Snapshot, violations
from end_to_end._house import House, Person, eventually, new_house
from end_to_end._wire import Broken, Reply, Wire, request
from serving import Clones, Server

CLIENTS = 32
WISHES = 36
"""For each client: together more than a thousand, among six accounts."""

ACCOUNTS = 6
FIRST = 1000
SEED = 20260


@pytest.fixture(scope="module")
def house(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """Two API processes on one database."""
    with new_house(server, clones, tmp_path_factory.mktemp("history")) as house:
        house.start_api()
        house.start_api()
        yield house


class Recorder:
    """Clients that do, and write down what they did and saw."""

    def __init__(self, house: House, operator: Person, users: list[Person]) -> None:
        self.ports = [api.port for api in house.apis]
        self.operator, self.users = operator, [str(user.id) for user in users]
        self.operations: list[Operation] = []
        self.snapshots: list[Snapshot] = []
        self.broken = self.repeated = 0

    def wish(self, chance: random.Random) -> tuple[Operation, bytes]:
        """A deposit, or a transfer, which is refused now and then."""
        key, name = uuid4().hex, str(self.operator.id)
        if chance.random() < 0.15:
            user, amount = chance.choice(self.users), chance.randint(1, 50)
            said = request("POST", f"/api/wallets/{user}/deposits", self.operator.token, key,
                           {"amount": amount})  # fmt: skip
            return Operation(f"DEPOSIT:{name}:{key}", None, user, amount, 0.0), said
        giver, taker = chance.sample(self.users, 2)
        amount = chance.choice((chance.randint(1, 100), chance.randint(500, 1500)))
        said = request("POST", "/api/transfers", self.operator.token, key,
                       {"from": giver, "to": taker, "amount": amount})  # fmt: skip
        return Operation(f"TRANSFER:{name}:{key}", giver, taker, amount, 0.0), said

    async def do(self, wire: Wire, chance: random.Random) -> None:
        operation, said = self.wish(chance)
        self.operations.append(operation)
        operation.began = time.monotonic()
        how = chance.random()
        if how < 0.15:
            await wire.hang_up(said, chance.choice((0.3, 0.9, 1.0, 1.0)))
            self.broken += 1
        twins = [wire.until_definite(said)]
        if how > 0.85:
            twin = Wire(self.ports, chance)
            twins.append(twin.until_definite(said))
            self.repeated += 1
        replies = await asyncio.gather(*twins)
        operation.ended = time.monotonic()
        if chance.random() < 0.1:
            replies.append(await wire.until_definite(said))
            assert replies[-1].headers["idempotency-replayed"] == "true"
        for reply in replies:
            self.note(operation, reply)

    @staticmethod
    def note(operation: Operation, reply: Reply) -> None:
        operation.answers.add(bytes([reply.status // 100]) + reply.body)
        operation.done = reply.status == 201
        if not operation.done:
            assert (reply.status, reply.json["code"]) == (400, "insufficient_funds"), reply
        elif operation.giver:
            told = reply.json["fromBalance"], reply.json["toBalance"]
            operation.seen = dict(zip((operation.giver, operation.taker or ""), told, strict=True))
        else:
            operation.seen = {operation.taker or "": reply.json["balance"]}

    async def look(self, wire: Wire) -> None:
        said = request("POST", "/api/wallets/query", self.operator.token,
                       body={"userIds": self.users})  # fmt: skip
        while True:
            began = time.monotonic()
            try:
                reply = await wire.ask(said)
            except Broken:
                continue
            ended = time.monotonic()
            if reply.status == 200:
                break
        read = {item["userId"]: (item["balance"], item["seq"]) for item in reply.json["items"]}
        self.snapshots.append(Snapshot(began, ended, read))

    async def client(self, number: int) -> None:
        chance = random.Random(SEED * 1000 + number)
        wire = Wire(self.ports, chance)
        for _ in range(WISHES):
            await self.do(wire, chance)
            if chance.random() < 0.3:
                await self.look(wire)
            if chance.random() < 0.1:
                wire.close()  # the next request goes to either process
        wire.close()

    async def run(self) -> None:
        await asyncio.gather(*(self.client(number) for number in range(CLIENTS)))


def statements(house: House, operator: Person, users: list[str]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    with house.client() as client:
        for user in users:
            entries = found[user] = []
            after = "0"
            while after:
                path = f"/api/wallets/{user}/entries?limit=200&after={after}"
                page = client.get(path, operator.token).json
                entries += [
                    Entry(i["seq"], i["amount"], i["balanceAfter"], i["idempotentKey"])
                    for i in page["items"]
                ]
                after = page["nextCursor"]
    return found


@pytest.fixture(scope="module")
def history(house: House) -> History:
    """A history that was really lived: two processes, rude clients, repeated requests."""
    (operator,) = house.people(1, "operator")
    recorder = Recorder(house, operator, house.people(ACCOUNTS))
    with house.client() as client:
        for user in recorder.users:
            began, key = time.monotonic(), f"first-{user}"
            path = f"/api/wallets/{user}/deposits"
            answer = client.post(path, {"amount": FIRST}, operator.token, key)
            first = Operation(f"DEPOSIT:{operator.id}:{key}", None, user, FIRST, began)
            first.ended = time.monotonic()
            recorder.note(first, Reply(answer.status, {}, answer.body))
            recorder.operations.append(first)
    asyncio.run(recorder.run())
    done = sum(operation.done for operation in recorder.operations)
    refused = len(recorder.operations) - done
    assert done + refused > 1000 and refused > 50, "too little happened to say anything"
    assert recorder.broken > 50 and recorder.repeated > 50 and len(recorder.snapshots) > 200
    found = statements(house, operator, recorder.users)
    return History(recorder.operations, recorder.snapshots, found)


def test_what_the_clients_saw_can_have_happened_in_one_order(history: History) -> None:
    assert violations(history) == []


def test_the_books_are_sound_afterwards(house: House, history: History) -> None:
    assert history.operations
    house.assert_sound()


# The checker itself: each planted bug is found -------------------------------------------------


def _first_transfer(history: History) -> Operation:
    return next(o for o in history.operations if o.done and o.giver and o.taker)


def _place(history: History, operation: Operation, account: str) -> int:
    entries = history.statements[account]
    return next(i for i, entry in enumerate(entries) if entry.key == operation.key)


def lose_an_entry(history: History) -> None:
    operation = _first_transfer(history)
    assert operation.taker
    del history.statements[operation.taker][_place(history, operation, operation.taker)]  # type: ignore[attr-defined]


def repeat_an_effect(history: History) -> None:
    """A retry that was carried out again, cleanly booked."""
    operation = _first_transfer(history)
    for account, amount in operation.sides.items():
        entries = history.statements[account]
        last = entries[-1]
        again = Entry(last.seq + 1, amount, last.balance_after + amount, operation.key)
        entries.append(again)  # type: ignore[attr-defined]


def lose_an_acknowledged_operation(history: History) -> None:
    """Gone from both sides, with sound books all the same."""
    operation = _first_transfer(history)
    for account in operation.sides:
        kept = [e for e in history.statements[account] if e.key != operation.key]
        _rebook(history, account, kept)


def _rebook(history: History, account: str, entries: list[Entry]) -> None:
    balance, booked = 0, []
    for seq, entry in enumerate(entries, start=1):
        balance += entry.amount
        booked.append(Entry(seq, entry.amount, balance, entry.key))
    history.statements[account][:] = booked  # type: ignore[index]


def leave_a_trace_of_a_refusal(history: History) -> None:
    operation = next(o for o in history.operations if o.done and o.giver)
    operation.done = False


def answer_a_retry_differently(history: History) -> None:
    history.operations[-1].answers.add(b"another")


def tell_a_wrong_balance(history: History) -> None:
    operation = _first_transfer(history)
    operation.seen[operation.taker or ""] += 1


def tear_a_snapshot(history: History) -> None:
    """One side of a transfer is shown, the other is not yet."""
    operation = _first_transfer(history)
    assert operation.giver
    place = _place(history, operation, operation.giver)
    snapshot = next(s for s in history.snapshots if s.read[operation.giver][1] > place)
    before = history.statements[operation.giver][place - 1]
    snapshot.read = {**snapshot.read, operation.giver: (before.balance_after, before.seq)}


def show_a_stale_snapshot(history: History) -> None:
    """The last one shows the past: consistent in itself, but long overtaken."""
    last = max(history.snapshots, key=lambda snapshot: snapshot.began)
    last.read = min(history.snapshots, key=lambda snapshot: snapshot.ended).read


def overtake_in_real_time(history: History) -> None:
    """An operation that began when all others had ended stands first in its account."""
    late = max(o.ended for o in history.operations)
    operation = _first_transfer(history)
    operation.began, operation.ended = late + 1, late + 2


def refuse_without_a_reason(history: History) -> None:
    operation = next(o for o in history.operations if not o.done)
    operation.amount = 1


def come_from_nowhere(history: History) -> None:
    account = next(iter(history.statements))
    last = history.statements[account][-1]
    entry = Entry(last.seq + 1, 1, last.balance_after + 1, "DEPOSIT:nobody")
    history.statements[account].append(entry)  # type: ignore[attr-defined]


PLANTED: dict[Callable[[History], None], str] = {
    lose_an_entry: "has seq",
    repeat_an_effect: "its entries are",
    lose_an_acknowledged_operation: "its entries are []",
    leave_a_trace_of_a_refusal: "answered False",
    answer_a_retry_differently: "2 different answers",
    tell_a_wrong_balance: "told",
    tear_a_snapshot: "shows on",
    show_a_stale_snapshot: "no order fits",
    overtake_in_real_time: "no order fits",
    refuse_without_a_reason: "held enough all the time",
    come_from_nowhere: "nobody asked for it",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_the_checker_finds_a_planted_bug(
    history: History, plant: Callable[[History], None]
) -> None:
    spoilt = copy.deepcopy(history)
    plant(spoilt)
    found = violations(spoilt)
    assert any(PLANTED[plant] in said for said in found), found[:5]


# Races by volume -------------------------------------------------------------------------------

STAKE = 10
AT_ONCE = 50


async def all_at_once(ports: list[int], requests: list[bytes]) -> list[Reply]:
    """Every request on a connection of its own, sent at the same moment, half to each process."""
    wires = [Wire([ports[i % len(ports)]], random.Random(i)) for i in range(len(requests))]
    health = request("GET", "/healthz", "none")
    await asyncio.gather(*(wire.ask(health) for wire in wires))
    replies = await asyncio.gather(
        *(wire.until_definite(said) for wire, said in zip(wires, requests, strict=True))
    )
    for wire in wires:
        wire.close()
    return list(replies)


def bettor(house: House, funds: int) -> tuple[Person, str]:
    """Who holds this much, and an open round."""
    (operator,), (user,) = house.people(1, "operator"), house.people(1)
    with house.client() as client:
        if funds:
            path = f"/api/wallets/{user.id}/deposits"
            assert client.post(path, {"amount": funds}, operator.token).status == 201
        body = {"name": "A race", "kind": "oracle"}
        round_id: str = client.post("/api/rounds", body, operator.token).json["roundId"]
    return user, round_id


@pytest.mark.parametrize("covered", [0, 1, 7, 49])
def test_of_fifty_bets_at_once_exactly_those_covered_are_accepted(
    house: House, covered: int
) -> None:
    user, round_id = bettor(house, covered * STAKE)
    body: dict[str, Any] = {"roundId": round_id, "side": "A", "amount": STAKE}
    wishes = [request("POST", "/api/bets", user.token, uuid4().hex, body) for _ in range(AT_ONCE)]
    ports = [api.port for api in house.apis]
    replies = asyncio.run(all_at_once(ports, wishes))
    assert sorted(reply.status for reply in replies) == [202] * covered + [400] * (
        AT_ONCE - covered
    )
    for reply in replies:
        if reply.status == 400:
            assert reply.json["code"] == "insufficient_funds"
    left = sorted(reply.json["balance"] for reply in replies if reply.status == 202)
    assert left == [STAKE * i for i in range(covered)]
    with house.client() as client:
        wallet = client.get("/api/wallets/me", user.token).json
        assert (wallet["balance"], wallet["locked"]) == (0, covered * STAKE)
        bets = client.get("/api/bets?limit=200", user.token).json["items"]
        assert len(bets) == covered == len({bet["betId"] for bet in bets})


def test_the_same_request_fifty_times_at_once_has_one_effect_and_one_answer(house: House) -> None:
    user, round_id = bettor(house, AT_ONCE * STAKE)
    body = {"roundId": round_id, "side": "B", "amount": STAKE}
    said = request("POST", "/api/bets", user.token, "one-key", body)
    replies = asyncio.run(all_at_once([api.port for api in house.apis], [said] * AT_ONCE))
    assert {(reply.status, reply.body) for reply in replies} == {(202, replies[0].body)}
    fresh = [reply for reply in replies if "idempotency-replayed" not in reply.headers]
    assert len(fresh) == 1
    with house.client() as client:
        assert client.get("/api/wallets/me", user.token).json["locked"] == STAKE


def test_after_all_races_the_books_are_sound(house: House) -> None:
    house.start_worker()
    eventually(house.drained, "the worker is done")
    house.assert_sound()
