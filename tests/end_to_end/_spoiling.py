"""Good requests for every route that writes, and all that can be spoilt about them.

The routes come from the program's own table, and a good request for each is made from its body's
type; a new route is therefore under these tests from its first day, without a line here.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import jwt
import msgspec
import psycopg
import pytest
from msgspec import inspect

from end_to_end._client import Answer, Client
from end_to_end._house import TOKEN_SECRET, House, Person, eventually, new_house
from serving import Clones, Server
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.orders_bodies import OrderBody
from strongroom.doors.http.routing import Route
from strongroom.doors.http.ticketing_bodies import ReserveBody, ScanBody
from strongroom.money import MAX_AMOUNT

WRITES = [route for route in ROUTES if route.method != "GET"]
WITH_BODY = [route for route in WRITES if route.body and route.body is not bytes]
"""What takes bytes as they come judges them itself."""

WITH_FIELDS = [route for route in WITH_BODY if route.body and msgspec.structs.fields(route.body)]
WITH_TOKEN = [route for route in WRITES if route.role != "anyone"]

QUICK_S = 2.0
"""The promise is 500 ms; a busy machine gets the rest, a hang does not."""

KEPT = {
    "payments.callbacks": "whatever a provider is said to have said",
    "ticketing.scans": "what was scanned and is no ticket",
}
"""Tables that grow by bad input, and change nothing."""

TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema)'
ORDER BY 1
"""


def all_rows(house: House) -> dict[str, tuple[int, str]]:
    """Of every table the number of its rows and what they say, as one digest."""
    with psycopg.connect(house.database_url, autocommit=True) as db:
        names = [name for (name,) in db.execute(TABLES) if name not in KEPT]
        # A row as text is compared, whatever it is made of; their order is none.
        asked = " UNION ALL ".join(
            f"SELECT '{name}', count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY"
            f" md5(t::text))), '') FROM {name} t"
            for name in names
        )
        return {name: (count, said) for name, count, said in db.execute(asked)}


@dataclass(frozen=True)
class Scene:
    """A house in which every good request would do something."""

    house: House
    operator: Person
    user: Person
    other: Person
    round_id: str
    bet_id: str
    foreign_bet_id: str
    refresh_token: str
    event_id: str
    ticket_type_id: str
    reservation_id: str
    foreign_reservation_id: str
    code: str
    product_id: str
    customer_id: str
    order_id: str
    foreign_order_id: str
    rows: dict[str, tuple[int, str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scene(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("bad_input")
    with new_house(server, clones, folder, rate_limits="off") as house:
        house.start_api()
        (operator,), (user, other) = house.people(1, "operator"), house.people(2)
        with house.client() as client:
            for person in (user, other):
                path = f"/api/wallets/{person.id}/deposits"
                assert client.post(path, {"amount": 10**9}, operator.token).status == 201
            body = {"name": "Open", "kind": "oracle"}
            round_id = client.post("/api/rounds", body, operator.token).json["roundId"]
            bet = {"roundId": round_id, "side": "A", "amount": 100}
            mine, theirs = (
                client.post("/api/bets", bet, person.token).json["betId"]
                for person in (user, other)
            )
            said = {"email": "ann@example.com", "password": "correct horse battery"}
            assert client.post("/api/auth/register", {**said, "fullName": "Ann"}).status == 201
            tokens = client.post("/api/auth/login", said).json
            refresh = tokens["refreshToken"]
            things = (
                *on_sale(client, operator, user, other),
                *ordered(client, operator, user, other),
            )
        yield Scene(house, operator, user, other, round_id, mine, theirs, refresh, *things)


def on_sale(
    client: Client, operator: Person, user: Person, other: Person
) -> tuple[str, str, str, str, str]:
    """An event with a ticket type; a seat held by each, and a ticket of the first."""
    body = {"name": "Concert", "location": "Huế", "startsAt": DAWN, "endsAt": DUSK}
    event_id = client.post("/api/events", body, operator.token).json["eventId"]
    path = f"/api/events/{event_id}"
    for price in (100, 0):
        type = {"name": f"At {price}", "price": price, "quantity": 100}
        assert client.post(f"{path}/ticket-types", type, operator.token).status == 201
    shown = client.post(f"{path}/publish", {}, operator.token).json
    free, paid = (one["ticketTypeId"] for one in shown["ticketTypes"])

    def held(person: Person, type_id: str) -> str:
        wanted = {"ticketTypeId": type_id, "quantity": 1}
        answer = client.post("/api/bookings/reserve", wanted, person.token)
        return str(answer.json["reservationId"])

    gift = f"/api/bookings/complete/{held(user, free)}"
    assert client.post(gift, {"paymentMethod": "CARD"}, user.token).json["status"] == "PAID"
    (booking,) = client.get("/api/bookings/my-bookings", user.token).json["items"]
    code = booking["tickets"][0]["code"]
    return event_id, paid, held(user, paid), held(other, paid), code


def ordered(
    client: Client, operator: Person, user: Person, other: Person
) -> tuple[str, str, str, str]:
    """A product in stock, a customer, and an order of each."""
    product = {"sku": "AO-1", "name": "Áo dài", "price": 100}
    product_id = client.post("/api/products", product, operator.token).json["productId"]
    stock = {"kind": "receive", "quantity": 100, "reason": "A delivery"}
    path = f"/api/products/{product_id}/stock"
    assert client.post(path, stock, operator.token).status == 201
    customer = {"name": "Lan", "phone": "0900000001"}
    customer_id = client.post("/api/customers", customer, operator.token).json["customerId"]
    order = {"customer": customer, "items": [{"productId": product_id, "quantity": 1}]}
    mine, theirs, done = (
        client.post("/api/orders", order, person.token).json["orderId"]
        for person in (user, other, user)
    )
    for step in ("confirm", "ship", "deliver"):  # the house's accounts are opened with the first
        path = f"/api/orders/{done}/{step}"
        assert client.post(path, {}, operator.token).status == 200
    return product_id, customer_id, mine, theirs


@pytest.fixture
def client(scene: Scene) -> Iterator[Client]:
    with scene.house.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_changes(scene: Scene, request: pytest.FixtureRequest) -> Iterator[None]:
    """Around every test: the same rows in every table, a process that lives and saw no bug."""
    api = scene.house.apis[0]
    before = dict(scene.rows) or all_rows(scene.house)
    bugs = api.bugs()
    scene.rows.clear()
    yield
    if "taken" not in request.fixturenames:
        # Kept for the next test: nobody writes between two of them.
        scene.rows.update(now := all_rows(scene.house))
        assert now == before
    assert api.alive
    # Ready means an answer of the database within 250 ms, which a crowded machine may miss once.
    eventually(api.ready, "the API is ready")
    assert api.bugs() == bugs


# A good request, made from the type of the body ------------------------------------------------


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def good_path(scene: Scene, route: Route) -> str:
    of_name = {
        "ticketTypeId": scene.ticket_type_id,
        "reservationId": scene.reservation_id,
        "code": scene.code,
        "provider": "sandbox",
        "queue": "betting_match",
        "name": "rate.global",
    }
    of_kind = {
        "rounds": scene.round_id,
        "bets": scene.bet_id,
        "wallets": str(scene.user.id),
        "events": scene.event_id,
        "products": scene.product_id,
        "customers": scene.customer_id,
        "orders": scene.order_id,
    }
    id = of_kind.get(route.path.split("/")[2], str(uuid4()))
    return re.sub(r"\{(\w+)\}", lambda found: of_name.get(found[1], id), route.path)


DAWN, DUSK = "2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z"

GOOD_TEXTS = {
    "email": "new@example.com",
    "refreshToken": "rt_unknown",
    "bannerUrl": "https://example.com/banner.png",
    "queue": "betting_match",
    "phone": "0912345678",
}

EITHER = {
    ReserveBody: ({"ticketTypeId", "quantity"}, {"items"}),
    ScanBody: ({"code"}, {"qr"}),
    OrderBody: ({"customer"}, {"customerId"}),
}
"""Fields that stand there without the others."""


def good_value(scene: Scene, name: str, kind: inspect.Type) -> Any:
    if name == "value":  # of a limit, whose form depends on its name
        return "300/minute"
    match kind:
        case inspect.UnionType(types=types):
            first = next(t for t in types if type(t) is not inspect.NoneType)
            return good_value(scene, name, first)
        case inspect.IntType(ge=least):
            return max(1, least or 1)
        case inspect.BoolType():
            return True
        case inspect.UUIDType():
            ids = {
                "roundId": scene.round_id,
                "to": str(scene.other.id),
                "ticketTypeId": scene.ticket_type_id,
                "productId": scene.product_id,
                "customerId": scene.customer_id,
            }
            return ids.get(name, str(scene.user.id))
        case inspect.LiteralType(values=values):
            # To adjust takes any quantity, to receive only good ones.
            return "receive" if "receive" in values else values[0]
        case inspect.DateTimeType():
            return DUSK if name.lower().endswith("endsat") else DAWN
        case inspect.ListType(item_type=of):
            return [good_value(scene, name, of)]
        case inspect.StructType():
            return good_body(scene, kind)
        case inspect.StrType():
            return GOOD_TEXTS.get(name, "good-text")
    raise AssertionError(f"no good value is known for {name}: {kind}")


def good_body(scene: Scene, kind: inspect.StructType, about: str = "") -> dict[str, Any]:
    """All fields that may stand together, `about` among them."""
    sides = EITHER.get(kind.cls, ())
    chosen = next((side for side in sides if about in side), sides[0] if sides else set())
    absent = set().union(*sides) - chosen
    there = [f for f in kind.fields if f.encode_name not in absent]
    return {f.encode_name: good_value(scene, f.encode_name, f.type) for f in there}


def struct_of(route: Route) -> inspect.StructType:
    found = inspect.type_info(route.body)
    assert isinstance(found, inspect.StructType)
    return found


def good_bytes(scene: Scene, route: Route) -> bytes:
    """A good body as it is sent; of a route that takes any bytes, some."""
    return (
        b"{}" if route not in WITH_BODY else json.dumps(good_body(scene, struct_of(route))).encode()
    )


def token_of(scene: Scene, route: Route) -> str | None:
    """Whom the route is for, with a token that would do."""
    if route.path == "/api/auth/logout":
        return scene.other.token  # whom nothing else here needs
    people = {"operator": scene.operator, "user": scene.user}
    return people[route.role].token if route.role != "anyone" else None


def headers_of(scene: Scene, route: Route) -> list[tuple[str, str]]:
    token = token_of(scene, route)
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", uuid4().hex)]
    return headers + ([("Authorization", f"Bearer {token}")] if token else [])


@dataclass
class Wrong:
    """Collects what was not refused as it should be, so that one run shows all of it."""

    found: list[str]

    def check(self, what: str, answer: Answer, statuses: tuple[int, ...], began: float) -> None:
        took = time.monotonic() - began
        try:
            answer.problem  # noqa: B018  # asserts its form
            as_problem = True
        except (AssertionError, ValueError):
            as_problem = False
        if answer.status not in statuses or not as_problem or took > QUICK_S:
            said = f"{answer.status} in {took:.2f} s {answer.body[:200]!r}"
            self.found.append(f"{what[:120]}: {said}")

    def assert_none(self) -> None:
        assert not self.found, "\n".join(self.found)


@pytest.fixture
def wrong() -> Iterator[Wrong]:
    wrong = Wrong([])
    yield wrong
    wrong.assert_none()


def send(client: Client, scene: Scene, route: Route, body: bytes, path: str = "") -> Answer:
    path = path or good_path(scene, route)
    return client.send(route.method, path, headers_of(scene, route), body)


# What a field must not take ---------------------------------------------------------------------

BAD_NUMBERS = [
    "-1", "1.5", "1.0", "1e3", "1E0", "1e400", "-1e400", '"100"', '""', "true", "null", "[1]", "{}",
    str(2**63), str(2**64 + 1), str(-(2**63) - 1), str(MAX_AMOUNT + 1),
    "1" + "0" * 1000, "9" * 5000,
]  # fmt: skip
BAD_IDS = [
    "null", "1", '""', '"no-id"', '"\' OR 1=1--"', '"../../etc/passwd"', '"%00"',
    f'"{"a" * 10_000}"', '"00000000-0000-0000-0000-00000000000"', '"\\u0000"', "{}",
    '"{00000000-0000-0000-0000-000000000000"', '"g0000000-0000-0000-0000-000000000000"',
]  # fmt: skip
BAD_TEXTS = [
    "1", "true", "[]", '""', '"a\\u0000b"', '"a\\nb"', '"a\\r\\nX: y"', '"\\u001b[2J"',
    '"\\ud800"', '"\\udfff\\ud800"', '"a\\u202eb"', '"\\u2066x"', f'"{"x" * 60_000}"',
]  # fmt: skip
BAD_TIMES = [
    "1", '""', '"soon"', '"0000-01-01T00:00:00Z"', '"10000-01-01T00:00:00Z"',
    '"2100-01-01T00:00:00"', '"2100-01-01"', '"2100-02-30T00:00:00Z"', '"2100-01-01T25:00:00Z"',
    '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', '"9999-12-31T23:59:59.9999999Z"',
]  # fmt: skip
BAD_FLAGS = ["null", "0", "1", '""', '"true"', "[]", "{}"]
BAD_CHOICES = ["null", "1", '""', '"C"', '"a"', '"A "', '"\' OR 1=1--"', "[]", '"\\u0000"']

MORE = {"closesAt": ['"2000-01-01T00:00:00Z"']}
FINE = {"description": ['""', '"a\\nb"', '"a\\r\\nX: y"']}
"""What else fields of a name must not take, and what they may."""


def bad_values(kind: inspect.Type) -> list[str]:
    """What a field of this type must not take, as JSON."""
    match kind:
        case inspect.UnionType(types=types):
            there = [t for t in types if type(t) is not inspect.NoneType]
            return [value for t in there for value in bad_values(t) if value != "null"]
        case inspect.IntType(ge=least):
            return BAD_NUMBERS + (["0", "-0"] if least else [])
        case inspect.BoolType():
            return BAD_FLAGS
        case inspect.UUIDType():
            return BAD_IDS
        case inspect.LiteralType():
            return BAD_CHOICES
        case inspect.DateTimeType():
            return BAD_TIMES
        case inspect.StrType():
            return BAD_TEXTS
        case inspect.ListType():
            return ["null", "{}", "[]", "[null]", "[[]]", "1", '"[]"']
        case inspect.StructType():
            return ["null", "{}", "[]", "[{}]", "1", '"{}"']
    raise AssertionError(f"no bad value is known for {kind}")


def struct_in(kind: inspect.Type) -> inspect.StructType | None:
    """What the value of a field is made of, where that is one object."""
    there = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return next((one for one in there if isinstance(one, inspect.StructType)), None)


def spoilt(
    scene: Scene, struct: inspect.StructType, put: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """(what, body) with one field spoilt or missing, nested ones too."""

    def body(name: str, raw: str | None) -> str:
        pairs = [
            f"{json.dumps(n)}:{raw if n == name else json.dumps(v)}"
            for n, v in good_body(scene, struct, name).items()
            if n != name or raw is not None
        ]
        return put("{" + ",".join(pairs) + "}")

    for one in struct.fields:
        name = one.encode_name
        if one.required:
            yield f"{name} is missing", body(name, None)
        for value in bad_values(one.type) + MORE.get(name, []):
            if value not in FINE.get(name, []):
                yield f"{name} is {value}", body(name, value)
        object = struct_in(one.type)
        if object:
            yield from spoilt(scene, object, lambda raw, n=name: body(n, raw))  # type: ignore[misc]
        if isinstance(one.type, inspect.ListType):
            inner = one.type.item_type
            if isinstance(inner, inspect.StructType):
                yield from spoilt(scene, inner, lambda raw, n=name: body(n, f"[{raw}]"))  # type: ignore[misc]
            else:
                for value in bad_values(inner):
                    yield f"{name} holds {value}", body(name, f"[{value}]")


def bad_tokens(scene: Scene) -> dict[str, str | None]:
    """One thing wrong in each."""
    now = int(datetime.now(UTC).timestamp())
    good = jwt.decode(scene.operator.token, options={"verify_signature": False})

    def signed(secret: str = TOKEN_SECRET, algorithm: str = "HS256", **changed: Any) -> str:
        claims = {k: v for k, v in {**good, **changed}.items() if v is not ...}
        return jwt.encode(claims, secret, algorithm)

    head, body, signature = scene.operator.token.split(".")
    none = jwt.encode(good, None, "none")
    return {
        "none": None,
        "empty": "Bearer ",
        "no scheme": scene.operator.token,
        "another scheme": f"Basic {scene.operator.token}",
        "expired": f"Bearer {signed(iat=now - 900, nbf=now - 900, exp=now - 60)}",
        "not yet valid": f"Bearer {signed(nbf=now + 3600)}",
        "valid for ever": f"Bearer {signed(exp=now + 10**9)}",
        "another key": f"Bearer {signed('another-key-of-thirty-two-characters')}",
        "another algorithm": f"Bearer {signed(algorithm='HS512')}",
        "alg none": f"Bearer {none}",
        "alg none with a signature": f"Bearer {none}{signature}",
        "no signature": f"Bearer {head}.{body}.",
        "another audience": f"Bearer {signed(aud='somebody-else')}",
        "several audiences": f"Bearer {signed(aud=['strongroom-api', 'x'])}",
        "another issuer": f"Bearer {signed(iss='somebody-else')}",
        "another type": f"Bearer {signed(typ='refresh')}",
        "an unknown role": f"Bearer {signed(role='root')}",
        "no id of its own": f"Bearer {signed(jti=...)}",
        "no session": f"Bearer {signed(sid=...)}",
        "no end": f"Bearer {signed(exp=...)}",
        "an end in words": f"Bearer {signed(sub=' ')}",
        "a refresh token": f"Bearer {scene.refresh_token}",
        "an unknown API key": "Bearer sk_unknown",
        "garbage": "Bearer ☃".encode().decode("latin-1"),
        "10 kB": f"Bearer {'a' * 10_000}",
        "dots": "Bearer ....",
    }
