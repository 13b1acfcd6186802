"""What the tests of the contract share: the shapes of answers, a house, people in it, bets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from end_to_end._client import Answer, Client
from end_to_end._house import House, Person, eventually, new_house
from serving import Clones, Server

# What a value looks like: a type, one exact value, a pattern, or a rule of its own.


def uuid7(value: Any) -> bool:
    return isinstance(value, str) and UUID(value).version == 7 and str(UUID(value)) == value


def utc(value: Any) -> bool:
    return isinstance(value, str) and bool(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", value)
    )


Shape = dict[str, Any]


def fits(found: Any, shape: Shape) -> Any:
    """Exactly these fields, each as described; the value itself, for further questions."""
    assert isinstance(found, dict) and set(found) == set(shape), (found, set(shape))
    for name, wanted in shape.items():
        value = found[name]
        if isinstance(wanted, type):
            assert type(value) is wanted, (name, value)
        elif isinstance(wanted, Callable):  # type: ignore[arg-type]
            assert wanted(value), (name, value)
        else:
            assert value == wanted and type(value) is type(wanted), (name, value)
    return found


WALLET: Shape = {
    "userId": uuid7, "currency": "VND", "balance": int, "locked": int, "seq": int, "asOf": utc,
    "source": lambda value: value in ("ledger", "projection"), "stale": bool,
}  # fmt: skip
ENTRY: Shape = {
    "seq": int, "amount": int, "balanceAfter": int, "type": str, "idempotentKey": str,
    "createdBy": str, "createdAt": utc, "reference": lambda value: value is None or bool(value),
}  # fmt: skip
ROUND: Shape = {
    "roundId": uuid7, "name": str, "kind": "oracle", "status": str, "closesAt": None,
    "feeBps": int, "stakedA": int, "stakedB": int, "matched": int,
}  # fmt: skip
BET: Shape = {
    "betId": uuid7, "roundId": uuid7, "side": str, "amount": int, "matched": int,
    "refunded": int, "payout": int, "status": str, "createdAt": utc,
}  # fmt: skip
SWITCH: Shape = {"payoutsPaused": bool, "since": utc, "by": str, "reason": str}
RECONCILIATION: Shape = {
    "reconciliationId": uuid7, "clean": True, "findings": [], "durationMs": int,
}  # fmt: skip
TOKENS: Shape = {"accessToken": str, "refreshToken": str, "expiresIn": int}


SANDBOX_SECRET = "the sandbox of the contract signs with this secret"

WIDE_LIMITS = {
    "rate_limits": "on",
    **{f"rate_limit_{name}": "100000/second" for name in ("global", "orders", "reports")},
}
"""On as for people, with room for all tests that one client runs."""


@pytest.fixture(scope="module")
def house(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("contract")
    chosen = {"sandbox_secret": SANDBOX_SECRET, **WIDE_LIMITS}
    with new_house(server, clones, folder, **chosen) as house:
        house.start_api()
        house.start_worker()
        yield house


@pytest.fixture(scope="module")
def operator(house: House) -> Person:
    return house.people(1, "operator")[0]


@pytest.fixture(scope="module")
def crowd(house: House) -> Iterator[Person]:
    """Users nobody has used yet."""
    return iter(house.people(120))


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    with house.client() as client:
        yield client


@pytest.fixture
def user(crowd: Iterator[Person]) -> Person:
    return next(crowd)


@pytest.fixture
def fund(client: Client, operator: Person, crowd: Iterator[Person]) -> Callable[[int], Person]:
    """A new user who holds this much."""

    def funded(amount: int) -> Person:
        user = next(crowd)
        path = f"/api/wallets/{user.id}/deposits"
        assert client.post(path, {"amount": amount}, operator.token).status == 201
        return user

    return funded


def done(answer: Answer, status: int, shape: Shape) -> Any:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert UUID(answer.headers["x-request-id"]).version == 7
    return fits(answer.json, shape)


def refused(answer: Answer, status: int, code: str) -> Any:
    assert (answer.status, answer.problem) == (status, code), answer.body
    assert UUID(answer.headers["x-request-id"]).version == 7
    return answer.json


def balance(client: Client, person: Person) -> tuple[int, int]:
    """(balance, locked)"""
    wallet = done(client.get("/api/wallets/me", person.token), 200, WALLET)
    return wallet["balance"], wallet["locked"]


def open_round(client: Client, operator: Person, **more: Any) -> dict[str, Any]:
    body = {"name": "Final", "kind": "oracle", **more}
    answer = client.post("/api/rounds", body, operator.token)
    shape = ROUND | {"name": "Final", "status": "OPEN", "stakedA": 0, "stakedB": 0, "matched": 0}
    if body["kind"] == "coinflip":
        shape |= {"kind": "coinflip", "seedHash": str}
    if "closesAt" in body:
        shape["closesAt"] = utc
    round: dict[str, Any] = done(answer, 201, shape)
    assert round["feeBps"] == body.get("feeBps", 0)
    return round


def place(client: Client, person: Person, round_id: str, side: str, amount: int) -> str:
    body = {"roundId": round_id, "side": side, "amount": amount}
    answer = client.post("/api/bets", body, person.token)
    bet = done(answer, 202, {"betId": uuid7, "status": "PENDING", "balance": int})
    return str(bet["betId"])


def bet_becomes(client: Client, person: Person, bet_id: str, **wanted: Any) -> dict[str, Any]:
    """Waits until the worker has brought the bet there."""

    def there() -> dict[str, Any] | None:
        bet = fits(client.get(f"/api/bets/{bet_id}", person.token).json, BET | {"matches": list})
        return bet if {name: bet[name] for name in wanted} == wanted else None

    found: dict[str, Any] = eventually(there, f"the bet is {wanted}")
    return found


def round_becomes(client: Client, token: str, round_id: str, status: str) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        round = client.get(f"/api/rounds/{round_id}", token).json
        return round if round["status"] == status else None

    found: dict[str, Any] = eventually(there, f"the round is {status}")
    return found


def step(client: Client, operator: Person, round: dict[str, Any], name: str, **body: Any) -> Any:
    answer = client.post(f"/api/rounds/{round['roundId']}/{name}", body, operator.token)
    assert answer.status == 202, answer.body
    return answer.json


# Orders -----------------------------------------------------------------------------------------

PRODUCT: Shape = {
    "productId": uuid7, "sku": str, "name": str, "price": int, "active": bool, "available": int,
    "asOf": utc, "lowStockAt": int,
}  # fmt: skip
STOCK: Shape = {"available": int, "held": int, "sold": int, "seq": int}
CUSTOMER: Shape = {
    "customerId": uuid7, "name": str, "phone": str,
    "email": lambda value: value is None or "@" in value,
    "address": lambda value: value is None or bool(value),
}  # fmt: skip
PLACED: Shape = {"orderId": uuid7, "code": str, "status": "PENDING", "totalAmount": int}
ORDER: Shape = {
    "orderId": uuid7, "code": str, "status": str, "totalAmount": int, "customer": dict,
    "items": list, "payment": dict, "note": lambda value: value is None or bool(value),
    "version": int, "createdAt": utc, "expiresAt": utc,
}  # fmt: skip
ORDER_LINE: Shape = {
    "productId": uuid7, "sku": str, "name": str, "quantity": int, "unitPrice": int, "amount": int,
}  # fmt: skip
ORDER_CODE = re.compile(r"SON[0-9]{6,}").fullmatch


def new_product(
    client: Client, operator: Person, stock: int = 0, *, price: int = 50_000, **more: Any
) -> str:
    """A product with so many pieces free."""
    body = {"sku": f"SKU-{uuid4().hex[:12]}", "name": "Áo dài lụa", "price": price, **more}
    made = done(client.post("/api/products", body, operator.token), 201, PRODUCT)
    assert made["available"] == 0
    if stock:
        receive(client, operator, made["productId"], stock)
    return str(made["productId"])


def receive(client: Client, operator: Person, product_id: str, quantity: int) -> dict[str, Any]:
    path, body = f"/api/products/{product_id}/stock", {"kind": "receive", "quantity": quantity}
    answer = client.post(path, body | {"reason": "A delivery"}, operator.token)
    stock: dict[str, Any] = done(answer, 201, STOCK)
    return stock


LAN = {"name": "Nguyễn Thị Lan", "phone": "0912 345 678"}


def wanted(*lines: tuple[str, int], **more: Any) -> dict[str, Any]:
    """The body of an order."""
    items = [{"productId": id, "quantity": quantity} for id, quantity in lines]
    return {"customer": LAN, "items": items, **more}


def order(client: Client, person: Person, *lines: tuple[str, int], **more: Any) -> dict[str, Any]:
    """An order that was accepted."""
    body = wanted(*lines, **more)
    prepaid = body.get("paymentMethod", "COD") != "COD"
    shape = PLACED | ({"payment": dict} if prepaid else {})
    placed: dict[str, Any] = done(client.post("/api/orders", body, person.token), 201, shape)
    assert ORDER_CODE(placed["code"])
    return placed


def take(client: Client, person: Person, order_id: str, *steps: str) -> dict[str, Any]:
    """Takes the steps one after the other; the order after the last."""
    seen: dict[str, Any] = {}
    for step in steps:
        answer = client.post(f"/api/orders/{order_id}/{step}", {}, person.token)
        seen = done(answer, 200, ORDER)
    return seen


ORDER_SHOWN = ORDER | {"history": list}


def shown(client: Client, person: Person, named: str) -> dict[str, Any]:
    """An order by its id or its code."""
    order: dict[str, Any] = done(client.get(f"/api/orders/{named}", person.token), 200, ORDER_SHOWN)
    return order


def stock(client: Client, operator: Person, product_id: str) -> tuple[int, int, int]:
    found = client.get(f"/api/products/{product_id}/stock", operator.token).json
    return found["available"], found["held"], found["sold"]
