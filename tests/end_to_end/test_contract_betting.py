"""The HTTP contract: rounds and bets, from the first stake to the last payout."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from end_to_end._client import Answer, Client
from end_to_end._contract import (  # noqa: F401
    BET,
    RECONCILIATION,
    ROUND,
    SWITCH,
    balance,
    bet_becomes,
    client,
    crowd,
    done,
    fits,
    fund,
    house,
    open_round,
    operator,
    place,
    refused,
    round_becomes,
    step,
    user,
    uuid7,
)
from end_to_end._house import House, Person, eventually


def test_an_oracle_round_lives_from_bets_to_payouts(
    client: Client, house: House, operator: Person, fund: Callable[[int], Person]
) -> None:
    round = open_round(client, operator, feeBps=250)
    id = round["roundId"]
    ann, bob = fund(10_000), fund(10_000)
    a, b = place(client, ann, id, "A", 6_000), place(client, bob, id, "B", 4_001)
    assert balance(client, ann) == (4_000, 6_000)
    bet_becomes(client, ann, a, matched=4_001, status="PENDING")
    bet_becomes(client, bob, b, matched=4_001, status="MATCHED")
    answer = client.post(f"/api/rounds/{id}/result", {"winner": "A"}, operator.token)
    refused(answer, 409, "round_open")
    closed = step(client, operator, round, "close")
    fits(closed, ROUND | {"status": "CLOSED", "stakedA": 6_000, "stakedB": 4_001})
    detail = refused(
        client.post(f"/api/rounds/{id}/close", {}, operator.token), 409, "wrong_state"
    )["detail"]
    assert "CLOSED" in detail
    body = {"roundId": id, "side": "A", "amount": 1}
    refused(client.post("/api/bets", body, ann.token), 409, "round_closed")
    refused(client.post(f"/api/bets/{a}/cancel", {}, ann.token), 409, "round_closed")
    bet_becomes(client, ann, a, refunded=1_999, status="MATCHED")
    step(client, operator, round, "result", winner="A")
    settled = round_becomes(client, ann.token, id, "SETTLED")
    fits(settled, ROUND | {"status": "SETTLED", "winner": "A", "matched": 4_001})
    kept = 4_001 * 250 // 10_000
    won = bet_becomes(client, ann, a, status="SETTLED", payout=8_002 - kept)
    lost = bet_becomes(client, bob, b, status="SETTLED", payout=0)
    for bet in (won, lost):
        (match,) = bet["matches"]
        fits(match, {"matchId": uuid7, "amount": 4_001, "winner": "A"})
    assert balance(client, ann) == (10_000 + 4_001 - kept, 0)
    assert balance(client, bob) == (10_000 - 4_001, 0)
    kinds = [e["type"] for e in client.get("/api/wallets/me/entries", ann.token).json["items"]]
    assert kinds == ["DEPOSIT", "DEBIT", "REFUND", "PAYOUT"]
    answer = client.post(f"/api/rounds/{id}/result", {"winner": "B"}, operator.token)
    refused(answer, 409, "wrong_state")
    refused(client.post(f"/api/rounds/{id}/void", {}, operator.token), 409, "wrong_state")


def test_a_coinflip_can_be_verified_by_anybody(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    round = open_round(client, operator, kind="coinflip")
    id = round["roundId"]
    assert re.fullmatch("[0-9a-f]{64}", round["seedHash"])
    ann, bob = fund(1_000), fund(1_000)
    bets = [(ann, place(client, ann, id, "A", 10 + i)) for i in range(6)]
    bets += [(bob, place(client, bob, id, "B", 10 + i)) for i in range(6)]
    for person, bet in bets:
        bet_becomes(client, person, bet, status="SETTLED")
    answer = client.post(f"/api/rounds/{id}/result", {"winner": "A"}, operator.token)
    refused(answer, 409, "round_kind")
    refused(client.post(f"/api/rounds/{id}/void", {}, operator.token), 409, "draws_paid")
    assert "seed" not in client.get(f"/api/rounds/{id}", ann.token).json
    assert "seed" not in step(client, operator, round, "close")
    ended = round_becomes(client, ann.token, id, "SETTLED")
    fits(ended, ROUND | {"kind": "coinflip", "status": "SETTLED", "seedHash": str, "seed": str})
    seed = bytes.fromhex(ended["seed"])
    assert len(seed) == 32 and hashlib.sha256(seed).hexdigest() == round["seedHash"]
    for person, bet in bets:
        for match in client.get(f"/api/bets/{bet}", person.token).json["matches"]:
            last = hmac.digest(seed, match["matchId"].encode(), "sha256")[-1]
            assert match["winner"] == ("B" if last & 1 else "A")
    assert balance(client, ann)[0] + balance(client, bob)[0] == 2_000


def test_a_void_round_gives_every_stake_back(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    round = open_round(client, operator, feeBps=1000)
    id = round["roundId"]
    ann, bob = fund(100), fund(100)
    a, b = place(client, ann, id, "A", 80), place(client, bob, id, "B", 50)
    bet_becomes(client, bob, b, matched=50)
    called_off = step(client, operator, round, "void")
    fits(called_off, ROUND | {"winner": "VOID", "status": "CLOSED"})
    for person, bet, amount in ((ann, a, 80), (bob, b, 50)):
        bet_becomes(client, person, bet, status="REFUNDED", refunded=amount, matched=0, payout=0)
        assert balance(client, person) == (100, 0)
    round_becomes(client, ann.token, id, "VOIDED")


def test_a_result_of_void_gives_every_stake_back_too(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    round = open_round(client, operator)
    ann, bob = fund(30), fund(30)
    a = place(client, ann, round["roundId"], "A", 30)
    b = place(client, bob, round["roundId"], "B", 30)
    step(client, operator, round, "close")
    bet_becomes(client, bob, b, status="MATCHED")
    step(client, operator, round, "result", winner="VOID")
    for person, bet in ((ann, a), (bob, b)):
        found = bet_becomes(client, person, bet, status="REFUNDED", refunded=30)
        assert (found["matched"], found["payout"]) == (0, 0)
        assert balance(client, person) == (30, 0)
    found = round_becomes(client, ann.token, round["roundId"], "VOIDED")
    assert found["matched"] == 0


def test_what_is_open_of_a_bet_can_be_taken_back_once(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    round = open_round(client, operator)
    ann, bob = fund(100), fund(100)
    a = place(client, ann, round["roundId"], "A", 70)
    b = place(client, bob, round["roundId"], "B", 20)
    bet_becomes(client, bob, b, status="MATCHED")
    refused(client.post(f"/api/bets/{b}/cancel", {}, bob.token), 409, "wrong_state")
    answer = client.post(f"/api/bets/{a}/cancel", {}, ann.token, "back")
    done(answer, 202, BET | {"matched": 20, "refunded": 50, "status": "MATCHED"})
    assert client.post(f"/api/bets/{a}/cancel", {}, ann.token, "back").body == answer.body
    refused(client.post(f"/api/bets/{a}/cancel", {}, ann.token), 409, "wrong_state")
    assert balance(client, ann) == (80, 20)


def test_the_clock_closes_a_round_and_refuses_late_bets(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    round = open_round(client, operator, closesAt=soon.isoformat())
    ann = fund(50)
    bet = place(client, ann, round["roundId"], "A", 50)
    bet_becomes(client, ann, bet, status="REFUNDED", refunded=50)
    body = {"roundId": round["roundId"], "side": "A", "amount": 1}
    refused(client.post("/api/bets", body, ann.token), 409, "round_closed")
    assert client.get(f"/api/rounds/{round['roundId']}", ann.token).json["status"] == "CLOSED"


def test_times_are_answered_in_utc(client: Client, operator: Person) -> None:
    round = open_round(client, operator, closesAt="2100-01-01T07:00:00+07:00")
    assert round["closesAt"] == "2100-01-01T00:00:00Z"
    seen = client.get(f"/api/rounds/{round['roundId']}", operator.token).json
    assert seen == round


def test_a_foreign_bet_answers_exactly_like_a_missing_one(
    client: Client, operator: Person, user: Person, fund: Callable[[int], Person]
) -> None:
    round = open_round(client, operator)
    bet = place(client, fund(10), round["roundId"], "A", 10)

    def without_id(answer: Answer) -> Any:
        return {**refused(answer, 404, "not_found"), "requestId": ""}

    for who in (user, operator):
        foreign = without_id(client.get(f"/api/bets/{bet}", who.token))
        assert foreign == without_id(client.get(f"/api/bets/{uuid4()}", who.token))
        foreign = without_id(client.post(f"/api/bets/{bet}/cancel", {}, who.token))
        missing = without_id(client.post(f"/api/bets/{uuid4()}/cancel", {}, who.token))
        assert foreign == missing


def test_rounds_and_bets_are_listed_newest_first_in_pages(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    ann = fund(100)
    rounds = [open_round(client, operator)["roundId"] for _ in range(3)]
    bets = [place(client, ann, round, "A", 10) for round in rounds]
    for path, name, wanted in (("/api/rounds", "roundId", rounds), ("/api/bets", "betId", bets)):
        seen: list[str] = []
        cursor = ""
        for _ in range(2):
            page = client.get(f"{path}?limit=2{cursor}", ann.token).json
            fits(page, {"items": list, "nextCursor": lambda value: value is None or uuid7(value)})
            seen += [item[name] for item in page["items"]]
            cursor = f"&cursor={page['nextCursor']}"
        assert seen[:3] == wanted[::-1]
        refused(client.get(f"{path}?cursor=none", ann.token), 422, "invalid")
    for item in client.get("/api/bets", ann.token).json["items"]:
        fits(item, BET)


def test_a_bet_beyond_the_wallet_is_refused(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    round = open_round(client, operator)
    ann = fund(10)
    body = {"roundId": round["roundId"], "side": "A", "amount": 11}
    refused(client.post("/api/bets", body, ann.token), 400, "insufficient_funds")
    body["roundId"] = str(uuid4())
    refused(client.post("/api/bets", body, ann.token), 404, "not_found")
    assert balance(client, ann) == (10, 0)


@pytest.mark.parametrize("body", [b"", b"{}", b"  "], ids=["nothing", "an object", "blanks"])
def test_steps_without_parameters_take_an_empty_body(
    client: Client, operator: Person, body: bytes
) -> None:
    round = open_round(client, operator)
    headers = [("Authorization", f"Bearer {operator.token}"), ("Idempotency-Key", uuid4().hex)]
    if body == b"{}":
        headers.append(("Content-Type", "application/json"))
    path = f"/api/rounds/{round['roundId']}/close"
    assert client.send("POST", path, headers, body).status == 202


def test_while_payouts_are_paused_nothing_is_paid_and_afterwards_all_is(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    ann, bob = fund(100), fund(100)
    round = open_round(client, operator)
    a = place(client, ann, round["roundId"], "A", 40)
    b = place(client, bob, round["roundId"], "B", 40)
    bet_becomes(client, bob, b, status="MATCHED")
    resume, pause = "/api/ops/payouts/resume", "/api/ops/payouts/pause"
    answer = client.post(resume, {"reason": "nothing to do"}, operator.token)
    done(answer, 200, SWITCH | {"payoutsPaused": False})

    said = SWITCH | {"payoutsPaused": True, "by": str(operator.id), "reason": "a drill"}
    done(client.post(pause, {"reason": "a drill"}, operator.token), 200, said)
    try:
        again = client.post(pause, {"reason": "another"}, operator.token)
        done(again, 200, said)
        status = client.get("/api/ops/status", operator.token)
        queues = done(status, 200, said | {"queues": list})["queues"]
        for queue in queues:
            fits(queue, {"queue": str, "waiting": int, "oldestS": int, "paused": bool})
        paused = client.post("/api/wallets/me/withdrawals", {"amount": 60}, ann.token, "pay-me")
        refused(paused, 503, "payouts_paused")
        assert int(paused.headers["retry-after"]) > 0
        step(client, operator, round, "close")
        step(client, operator, round, "result", winner="A")
        bet = place(client, ann, open_round(client, operator)["roundId"], "A", 1)
        assert client.post(f"/api/bets/{bet}/cancel", {}, ann.token).status == 202
        needed = client.post(resume, {"reason": "too early"}, operator.token)
        refused(needed, 409, "reconciliation_needed")
        assert client.get(f"/api/bets/{a}", ann.token).json["status"] == "MATCHED"
        assert balance(client, ann) == (60, 40)
    finally:
        answer = client.post("/api/ops/reconciliations", {}, operator.token)
        done(answer, 200, RECONCILIATION)
        answer = client.post(resume, {"reason": "all is well"}, operator.token)
        done(answer, 200, SWITCH | {"payoutsPaused": False})
    bet_becomes(client, ann, a, status="SETTLED", payout=80)
    paid = client.post("/api/wallets/me/withdrawals", {"amount": 60}, ann.token, "pay-me")
    done(paid, 201, {"transferId": uuid7, "balance": int, "seq": int})
    assert "idempotency-replayed" not in paid.headers


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done")
    house.assert_sound()
