"""What many clients saw of a few accounts, and whether it can have been: the audit that ships with
the program, on two processes, and its checker on histories in which something is wrong."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from end_to_end._house import STRONGROOM, House, Person, eventually, new_house
from serving import Clones, Server
from strongroom.lab.arena import free_port
from strongroom.lab.audit import Audit, Entry, History, Operation, violations
from strongroom.lab.audit.witness import Witness, opened
from strongroom.lab.wire import Reply, Wire, request

CLIENTS = 32
OPERATIONS = 1_100
ACCOUNTS = 6
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


@pytest.fixture(scope="module")
def history(house: House) -> History:
    """A history that was really lived: two processes, rude clients, repeated requests."""
    (operator,) = house.people(1, "operator")
    plan = Audit(
        addresses=house.addresses,
        token=operator.token,
        operations=OPERATIONS,
        clients=CLIENTS,
        accounts=ACCOUNTS,
        seed=SEED,
    )

    async def live() -> tuple[Witness, History]:
        witness = Witness(plan, await opened(plan))
        await witness.live()
        return witness, await witness.history()

    witness, history = asyncio.run(live())
    refused = sum(not operation.done for operation in history.operations)
    assert len(history.operations) > 1000 and refused > 50, "too little happened to say anything"
    assert witness.hung_up > 50 and witness.repeated > 50 and len(history.snapshots) > 200
    return history


def test_what_the_clients_saw_can_have_happened_in_one_order(history: History) -> None:
    assert violations(history) == []


def test_the_books_are_sound_afterwards(house: House, history: History) -> None:
    assert history.operations
    house.assert_sound()


def test_an_operator_audits_a_house_from_outside_and_leaves_no_money_behind(house: House) -> None:
    (operator,) = house.people(1, "operator")
    urls = [f"--url=http://127.0.0.1:{api.port}" for api in house.apis]
    command = [*STRONGROOM, "audit", *urls, "--operations", "300", "--json"]
    env = house.env | {"STRONGROOM_TOKEN": operator.token}
    there = {id for (id,) in house.rows(AUDITORS)}
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["sound"] and found["done"] + found["refused"] >= 300 and found["snapshots"] > 50
    opened = [id for (id,) in house.rows(AUDITORS) if id not in there]
    balances = house.rows(WALLETS, opened)
    assert len(balances) == found["accounts"] == 6 and {left for (left,) in balances} == {0}


def test_an_audit_that_could_not_leave_or_finds_no_house_pays_nothing_in(house: House) -> None:
    (operator,), (user,) = house.people(1, "operator"), house.people(1)

    def audited(url: str, token: str) -> subprocess.CompletedProcess[str]:
        command = [*STRONGROOM, "audit", "--url", url, "--token", token, "--operations", "5"]
        return subprocess.run(command, env=house.env, capture_output=True, text=True, check=False)

    url = f"http://127.0.0.1:{house.apis[0].port}"
    there = house.rows(AUDITORS)
    with house.client() as client:
        body = {"reason": "a drill"}
        assert client.post("/api/ops/payouts/pause", body, operator.token).status == 200
        paused = audited(url, operator.token)
        assert client.post("/api/ops/reconciliations", {}, operator.token).status == 200
        assert client.post("/api/ops/payouts/resume", body, operator.token).status == 200
    assert paused.returncode == 1 and "cannot_leave" in paused.stderr
    assert audited(url, user.token).returncode == 1
    nobody = audited(f"http://127.0.0.1:{free_port()}", operator.token)
    assert nobody.returncode == 3 and "no_house" in nobody.stderr
    assert house.rows(AUDITORS) == there


AUDITORS = "SELECT id FROM identity.users WHERE full_name = 'Audit'"
WALLETS = "SELECT balance FROM ledger.accounts WHERE purpose = 'wallet' AND owner_id = ANY(%s)"


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


async def all_at_once(house: House, requests: list[bytes]) -> list[Reply]:
    """Every request on a connection of its own, sent at the same moment, half to each process."""
    near = house.addresses
    wires = [Wire([near[i % len(near)]], random.Random(i)) for i in range(len(requests))]
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
    replies = asyncio.run(all_at_once(house, wishes))
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
    replies = asyncio.run(all_at_once(house, [said] * AT_ONCE))
    assert {(reply.status, reply.body) for reply in replies} == {(202, replies[0].body)}
    fresh = [reply for reply in replies if "idempotency-replayed" not in reply.headers]
    assert len(fresh) == 1
    with house.client() as client:
        assert client.get("/api/wallets/me", user.token).json["locked"] == STAKE


def test_after_all_races_the_books_are_sound(house: House) -> None:
    house.start_worker()
    eventually(house.drained, "the worker is done")
    house.assert_sound()
