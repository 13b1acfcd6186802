"""The HTTP contract: wallets, transfers, batches, and the operators' view of the books."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from end_to_end._client import Client
from end_to_end._contract import (  # noqa: F401
    ENTRY,
    RECONCILIATION,
    WALLET,
    balance,
    client,
    crowd,
    done,
    fits,
    fund,
    house,
    operator,
    refused,
    user,
    utc,
    uuid7,
)
from end_to_end._house import House, Person, eventually

# Wallets ---------------------------------------------------------------------------------------


def test_deposits_and_withdrawals_show_in_the_statement(
    client: Client, operator: Person, user: Person
) -> None:
    deposits = f"/api/wallets/{user.id}/deposits"
    body = {"amount": 1000, "reference": "Lương tháng 5"}
    moved = {"transferId": uuid7, "balance": 1000, "seq": 1}
    done(client.post(deposits, body, operator.token, "in"), 201, moved)
    answer = client.post("/api/wallets/me/withdrawals", {"amount": 400}, user.token, "out")
    done(answer, 201, {"transferId": uuid7, "balance": 600, "seq": 2})
    page = client.get("/api/wallets/me/entries", user.token).json
    fits(page, {"items": list, "nextCursor": None})
    first, second = (fits(item, ENTRY) for item in page["items"])
    assert {k: first[k] for k in ("seq", "amount", "balanceAfter", "type", "reference")} == {
        "seq": 1, "amount": 1000, "balanceAfter": 1000, "type": "DEPOSIT",
        "reference": "Lương tháng 5",
    }  # fmt: skip
    assert first["idempotentKey"] == f"DEPOSIT:{operator.id}:in"
    assert first["createdBy"] == str(operator.id)
    assert (second["amount"], second["balanceAfter"], second["type"]) == (-400, 600, "WITHDRAWAL")
    assert second["idempotentKey"] == f"WITHDRAWAL:{user.id}:out"
    assert second["reference"] is None
    seen = client.get(f"/api/wallets/{user.id}/entries", operator.token).json
    assert seen["items"] == page["items"]


def test_a_wallet_is_read_by_its_owner_and_by_operators(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    user = fund(123)
    mine = done(client.get("/api/wallets/me", user.token), 200, WALLET)
    theirs = done(client.get(f"/api/wallets/{user.id}", operator.token), 200, WALLET)
    assert {**mine, "asOf": ""} == {**theirs, "asOf": ""}
    for consistency in ("strong", "eventual"):
        path = f"/api/wallets/me?consistency={consistency}"
        assert done(client.get(path, user.token), 200, WALLET)["balance"] == 123
    refused(client.get("/api/wallets/me?consistency=weak", user.token), 422, "invalid")
    refused(client.get("/api/wallets/me?colour=red", user.token), 422, "invalid")


def test_entries_are_paged_forward_by_seq(client: Client, operator: Person, user: Person) -> None:
    for amount in range(1, 8):
        client.post(f"/api/wallets/{user.id}/deposits", {"amount": amount}, operator.token)
    path = "/api/wallets/me/entries"
    for name in ("after", "cursor"):
        seen, last = [], "0"
        while last:
            page = client.get(f"{path}?limit=3&{name}={last}", user.token).json
            seen += [item["seq"] for item in page["items"]]
            last = page["nextCursor"]
        assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert client.get(f"{path}?after=7", user.token).json["items"] == []
    for wrong in ("after=-1", "after=x", "limit=0", "limit=201", "limit=1&limit=2", "after=%00",
                  f"limit={'0' * 19}1{'9' * 20}", f"after={'9' * 30}"):  # fmt: skip
        refused(client.get(f"{path}?{wrong}", user.token), 422, "invalid")


def test_a_transfer_moves_money_and_shows_on_both_sides(
    client: Client, operator: Person, user: Person, fund: Callable[[int], Person]
) -> None:
    giver = fund(500)
    body = {"from": str(giver.id), "to": str(user.id), "amount": 200, "reference": "rent"}
    answer = client.post("/api/transfers", body, operator.token, "rent-1")
    moved = done(answer, 201, {"transferId": uuid7, "fromBalance": 300, "toBalance": 200})
    assert moved
    for person, amount, kind in ((giver, -200, "DEBIT"), (user, 200, "CREDIT")):
        entry = client.get("/api/wallets/me/entries", person.token).json["items"][-1]
        assert (entry["amount"], entry["type"], entry["reference"]) == (amount, kind, "rent")
        assert entry["idempotentKey"] == f"TRANSFER:{operator.id}:rent-1"
    refused(
        client.post("/api/transfers", body | {"amount": 301}, operator.token),
        400, "insufficient_funds",
    )  # fmt: skip
    refused(
        client.post("/api/transfers", body | {"to": str(giver.id)}, operator.token), 422, "invalid"
    )
    refused(
        client.post("/api/transfers", body | {"to": str(uuid4())}, operator.token), 404, "not_found"
    )
    assert balance(client, giver) == (300, 0)


def test_a_query_shows_many_wallets_in_the_order_asked(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    people = [fund(amount) for amount in (5, 6, 7)]
    ids = [str(person.id) for person in reversed(people)]
    answer = client.post("/api/wallets/query", {"userIds": ids}, operator.token, key="")
    found = done(answer, 200, {"items": list, "asOf": utc})
    assert [fits(item, WALLET)["userId"] for item in found["items"]] == ids
    assert [item["balance"] for item in found["items"]] == [7, 6, 5]
    for wrong, code in (([], 422), ([str(uuid4())] * 101, 422), ([*ids, str(uuid4())], 404)):
        answer = client.post("/api/wallets/query", {"userIds": wrong}, operator.token, key="")
        assert (answer.status, bool(answer.problem)) == (code, True)


def items_of(giver: Person, taker: Person, *amounts: int) -> list[dict[str, Any]]:
    return [
        {"key": uuid4().hex, "from": str(giver.id), "to": str(taker.id), "amount": amount}
        for amount in amounts
    ]


def test_an_independent_batch_posts_what_it_can(
    client: Client, operator: Person, user: Person, fund: Callable[[int], Person]
) -> None:
    giver = fund(100)
    items = items_of(giver, user, 60, 60, 40)
    items += [{**items[0], "key": "same", "to": str(giver.id)}, {**items[0], "amount": 61}]
    body = {"mode": "independent", "items": items}
    answer = client.post("/api/transfers/batch", body, operator.token, "batch-1")
    results = done(answer, 200, {"results": list})["results"]
    assert [result.get("code", result["status"]) for result in results] == [
        "posted", "insufficient_funds", "posted", "same_account", "idempotency_key_reused",
    ]  # fmt: skip
    for result in results:
        fits(result, {"status": str, "transferId" if result["status"] == "posted" else "code": str})
    assert (balance(client, giver), balance(client, user)) == ((0, 0), (100, 0))
    entry = client.get("/api/wallets/me/entries", user.token).json["items"][0]
    assert entry["idempotentKey"] == f"TRANSFER:{operator.id}:{items[0]['key']}"
    again = client.post("/api/transfers/batch", body, operator.token, "batch-1")
    assert again.body == answer.body and again.headers["idempotency-replayed"] == "true"
    # The items' keys hold for ever, in another batch too.
    body = {"mode": "independent", "items": items[:1]}
    once_more = client.post("/api/transfers/batch", body, operator.token, "batch-2").json
    assert once_more["results"] == results[:1]
    assert balance(client, giver) == (0, 0)


def test_an_atomic_batch_is_all_or_nothing(
    client: Client, operator: Person, user: Person, fund: Callable[[int], Person]
) -> None:
    giver = fund(100)
    body = {"mode": "atomic", "items": items_of(giver, user, 60, 60)}
    answer = client.post("/api/transfers/batch", body, operator.token)
    assert [result["code"] for result in answer.json["results"]] == [
        "batch_refused", "insufficient_funds",
    ]  # fmt: skip
    assert balance(client, giver) == (100, 0)
    body = {"mode": "atomic", "items": items_of(giver, user, 60, 40)}
    results = client.post("/api/transfers/batch", body, operator.token).json["results"]
    assert [result["status"] for result in results] == ["posted", "posted"]
    assert (balance(client, giver), balance(client, user)) == ((0, 0), (100, 0))


# Operators -------------------------------------------------------------------------------------


def test_a_reconciliation_is_clean_and_can_be_read_again(client: Client, operator: Person) -> None:
    made = client.post("/api/ops/reconciliations", {}, operator.token, "check")
    done(made, 200, RECONCILIATION)
    path = f"/api/ops/reconciliations/{made.json['reconciliationId']}"
    assert done(client.get(path, operator.token), 200, RECONCILIATION) == made.json
    again = client.post("/api/ops/reconciliations", {}, operator.token, "check")
    assert again.body == made.body and again.headers["idempotency-replayed"] == "true"


def test_the_trial_balance_sums_to_zero_in_every_unit(
    client: Client, operator: Person, fund: Callable[[int], Person]
) -> None:
    fund(10**15)
    answer = client.get("/api/ops/trial-balance", operator.token)
    found = done(answer, 200, {"asOf": utc, "items": list, "totals": {"VND": 0}})
    by_purpose = {}
    for item in found["items"]:
        line = {"unit": "VND", "purpose": str, "accounts": int, "balance": int}
        by_purpose[fits(item, line)["purpose"]] = item["balance"]
    assert {"wallet", "stake", "world"} <= set(by_purpose)
    assert by_purpose["world"] <= -(10**15) and sum(by_purpose.values()) == 0


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done")
    house.assert_sound()
