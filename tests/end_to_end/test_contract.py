"""The HTTP contract: every route of the table, keys, people, health and the reference."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from end_to_end._client import Answer, Client
from end_to_end._contract import (  # noqa: F401
    TOKENS,
    WALLET,
    balance,
    client,
    crowd,
    done,
    fund,
    house,
    operator,
    refused,
    user,
    uuid7,
)
from end_to_end._house import TOKEN_SECRET, House, Person, eventually
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.routing import Route

PASSWORD = "correct horse battery staple"


# Every route of the table ----------------------------------------------------------------------

IN_THE_CONTRACT = """
    POST  /api/auth/register                      201 anyone
    POST  /api/auth/login                         200 anyone
    POST  /api/auth/refresh                       200 anyone
    POST  /api/auth/logout                        204 user
    GET   /api/users/me                           200 user
    GET   /api/wallets/me                         200 user
    GET   /api/wallets/{userId}                   200 operator
    GET   /api/wallets/me/entries                 200 user
    GET   /api/wallets/{userId}/entries           200 operator
    POST  /api/wallets/query                      200 operator
    POST  /api/wallets/{userId}/deposits          201 operator key
    POST  /api/wallets/me/withdrawals             201 user key
    POST  /api/transfers                          201 operator key
    POST  /api/transfers/batch                    200 operator key
    POST  /api/rounds                             201 operator key
    GET   /api/rounds                             200 user
    GET   /api/rounds/{id}                        200 user
    POST  /api/rounds/{id}/close                  202 operator key
    POST  /api/rounds/{id}/result                 202 operator key
    POST  /api/rounds/{id}/void                   202 operator key
    POST  /api/bets                               202 user key
    GET   /api/bets                               200 user
    GET   /api/bets/{id}                          200 user
    POST  /api/bets/{id}/cancel                   202 user key
    GET   /api/events                             200 public
    GET   /api/events/{id}                        200 public
    POST  /api/events                             201 operator key
    PATCH /api/events/{id}                        200 operator
    POST  /api/events/{id}/publish                200 operator key
    POST  /api/events/{id}/cancel                 200 operator key
    POST  /api/events/{id}/ticket-types           201 operator key
    POST  /api/bookings/reserve                   201 user key
    POST  /api/bookings/complete/{reservationId}  201 user key
    POST  /api/bookings/{reservationId}/release   200 user key
    GET   /api/bookings/my-bookings               200 user
    POST  /api/tickets/{code}/check-in            200 operator key
    GET   /api/products                           200 public
    GET   /api/products/{id}                      200 public
    POST  /api/products                           201 operator key
    PATCH /api/products/{id}                      200 operator key
    POST  /api/products/{id}/stock                201 operator key
    GET   /api/products/{id}/stock                200 user
    GET   /api/products/{id}/stock/entries        200 user
    POST  /api/orders                             201 user key
    GET   /api/orders                             200 user
    GET   /api/orders/{idOrCode}                  200 user
    POST  /api/orders/{id}/confirm                200 operator key
    POST  /api/orders/{id}/ship                   200 operator key
    POST  /api/orders/{id}/deliver                200 operator key
    POST  /api/orders/{id}/return                 200 operator key
    POST  /api/orders/{id}/cancel                 200 user key
    GET   /api/stats                              200 operator
    GET   /api/reports/revenue                    200 operator
    GET   /api/reports/top-products               200 operator
    GET   /api/reports/customers                  200 operator
    POST  /api/ops/payouts/pause                  200 operator key
    POST  /api/ops/payouts/resume                 200 operator key
    GET   /api/ops/status                         200 operator
    POST  /api/ops/reconciliations                200 operator key
    GET   /api/ops/reconciliations/{id}           200 operator
    GET   /api/ops/trial-balance                  200 operator
"""
"""What a good request is answered with, who may ask, and whether a key has to come with it."""

BODIES: dict[str, Any] = {
    "/api/wallets/{userId}/deposits": {"amount": 1},
    "/api/wallets/me/withdrawals": {"amount": 1},
    "/api/transfers": {"from": str(uuid4()), "to": str(uuid4()), "amount": 1},
    "/api/transfers/batch": {"mode": "atomic", "items": []},
    "/api/wallets/query": {"userIds": [str(uuid4())]},
    "/api/rounds": {"name": "A round", "kind": "oracle"},
    "/api/rounds/{id}/result": {"winner": "A"},
    "/api/bets": {"roundId": str(uuid4()), "side": "A", "amount": 1},
    "/api/events": {
        "name": "A concert",
        "location": "Hà Nội",
        "startsAt": "2100-01-01T00:00:00Z",
        "endsAt": "2100-01-01T03:00:00Z",
    },
    "/api/events/{id}/ticket-types": {"name": "A", "price": 1, "quantity": 1},
    "/api/bookings/reserve": {"ticketTypeId": str(uuid4()), "quantity": 1},
    "/api/bookings/complete/{reservationId}": {"paymentMethod": "CARD"},
    "/api/tickets/scans": {
        "scans": [{"scanKey": "k", "code": "a", "scannedAt": "2026-01-01T00:00:00Z"}]
    },
    "/api/products": {"sku": "A-1", "name": "A", "price": 1},
    "/api/products/{id}/stock": {"kind": "receive", "quantity": 1, "reason": "A delivery"},
    "/api/customers": {"name": "Lan", "phone": "0912345678"},
    "/api/orders": {
        "customer": {"name": "Lan", "phone": "0912345678"},
        "items": [{"productId": str(uuid4()), "quantity": 1}],
    },
    "/api/orders/{id}/pay": {"paymentMethod": "COD"},
    "/api/ops/payouts/pause": {"reason": "A drill"},
    "/api/ops/payouts/resume": {"reason": "A drill"},
    "/api/ops/queues/{queue}/pause": {"reason": "A drill"},
    "/api/ops/queues/{queue}/resume": {"reason": "A drill"},
    "/api/ops/limits/{name}": {"value": "1/minute", "reason": "A drill"},
}
WRITES = [route for route in ROUTES if route.command]


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


def path_of(route: Route) -> str:
    return re.sub(r"\{\w+\}", str(uuid4()), route.path)


def bodied(route: Route) -> Any:
    """A body that fits, but for PATCH, which takes nothing at all as well."""
    return BODIES.get(route.path) if route.method in ("POST", "PUT") else None


def ask(client: Client, route: Route, token: str | None, key: str | None = None) -> Answer:
    if route.method == "GET":
        return client.get(path_of(route), token)
    return client.write(route.method, path_of(route), bodied(route), token, key)


def test_every_route_of_the_contract_is_in_the_table_as_the_contract_has_it() -> None:
    there = {
        (route.method, route.path): [
            str(route.status),
            route.role,
            *(["key"] if route.command and not route.keyless else []),
        ]
        for route in ROUTES
    }
    for row in IN_THE_CONTRACT.strip().splitlines():
        method, path, *said = row.split()
        assert there.get((method, path)) == said, row


@pytest.mark.parametrize("route", [r for r in ROUTES if r.role in ("user", "operator")], ids=named)
def test_without_a_token_nothing_is_done(client: Client, route: Route) -> None:
    answer = ask(client, route, None)
    assert refused(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", [r for r in ROUTES if r.role in ("anyone", "public")], ids=named)
def test_what_is_open_to_everybody_asks_for_no_token(client: Client, route: Route) -> None:
    assert ask(client, route, None).status not in (401, 403)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.role != "anyone"], ids=named)
def test_a_token_that_is_none_is_refused_even_where_none_is_needed(
    client: Client, route: Route
) -> None:
    assert refused(ask(client, route, "no-token"), 401, "unauthenticated")


@pytest.mark.parametrize("route", [r for r in ROUTES if r.role == "operator"], ids=named)
def test_a_user_may_not_what_an_operator_may(client: Client, user: Person, route: Route) -> None:
    assert refused(ask(client, route, user.token), 403, "operator_only")


@pytest.mark.parametrize("route", [r for r in ROUTES if "{" in r.path], ids=named)
def test_what_is_not_there_is_404_and_so_is_a_malformed_id(
    client: Client, operator: Person, route: Route
) -> None:
    assert refused(ask(client, route, operator.token), 404, "not_found")
    malformed = re.sub(r"\{\w+\}", "no-id", route.path)
    if route.method == "GET":
        assert refused(client.get(malformed, operator.token), 404, "not_found")
    else:
        answer = client.write(route.method, malformed, bodied(route), operator.token)
        assert refused(answer, 404, "not_found")


@pytest.mark.parametrize("route", [r for r in WRITES if not r.keyless], ids=named)
def test_what_moves_something_needs_a_key(client: Client, operator: Person, route: Route) -> None:
    assert refused(ask(client, route, operator.token, ""), 400, "idempotency_key_missing")


@pytest.mark.parametrize("route", [r for r in WRITES if r.keyless], ids=named)
def test_what_is_the_same_twice_needs_no_key(
    client: Client, operator: Person, route: Route
) -> None:
    assert refused(ask(client, route, operator.token, ""), 404, "not_found")


@pytest.mark.parametrize("route", WRITES, ids=named)
def test_a_key_is_one_and_well_formed(client: Client, operator: Person, route: Route) -> None:
    for key in ("a key", "schlüssel", "k" * 256, "semi;colon", "slash/"):
        answer = client.send(
            route.method,
            path_of(route),
            [("Authorization", f"Bearer {operator.token}"), ("Idempotency-Key", key)],
            b"{}",
        )
        assert refused(answer, 400, "idempotency_key_invalid")
    twice = [("Idempotency-Key", "one"), ("Idempotency-Key", "one")]
    headers = [("Authorization", f"Bearer {operator.token}"), *twice]
    answer = client.send(route.method, path_of(route), headers, b"{}")
    assert refused(answer, 400, "idempotency_key_invalid")


STRANGE = [
    "", "%00", "%ff", "%F0%9F%8E%AB", "a" * 5_000, "-1", "0", "9" * 30, "1e3", "null", "%27--",
    "%D9%A3", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "2030-01-01T00:00:00Z",
    "e30", "W10", "MDAw", "%E2%80%AE", "csv%00",
]  # fmt: skip


def something(client: Client, operator: Person, route: Route) -> str:
    """The id of what a route with a query is asked about."""
    kind = route.path.split("/")[2]
    if kind not in ("events", "products", "customers"):
        return str(operator.id)
    new = {"products": {"sku": uuid4().hex}, "customers": {"phone": f"09{uuid4().int % 10**8:08}"}}
    body = BODIES[f"/api/{kind}"] | new.get(kind, {})
    made = client.post(f"/api/{kind}", body, operator.token).json
    return str(made[f"{kind.removesuffix('s')}Id"])


@pytest.mark.parametrize("route", [r for r in ROUTES if r.query and r.method == "GET"], ids=named)
def test_no_question_is_too_strange_to_be_answered_or_refused(
    client: Client, operator: Person, route: Route
) -> None:
    path = re.sub(r"\{\w+\}", something(client, operator, route), route.path)
    for name in route.query:
        for value in STRANGE:
            answer = client.get(f"{path}?{name}={value}", operator.token)
            assert answer.status == 200 or refused(answer, 422, "invalid"), (name, value)
        twice = client.get(f"{path}?{name}=1&{name}=1", operator.token)
        refused(twice, 422, "invalid")
    refused(client.get(f"{path}?unknown=1", operator.token), 422, "invalid")


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_another_method_is_405_and_says_which_ones_there_are(client: Client, path: str) -> None:
    there = {route.method for route in ROUTES if route.path == path}
    for method in {"HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH"} - there:
        answer = client.send(method, re.sub(r"\{\w+\}", str(uuid4()), path), [])
        assert answer.status == 405
        assert set(re.split(r",\s*", answer.headers["allow"])) == there
        if method != "HEAD":
            assert refused(answer, 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/api/wallets", "/api/bets/a/b/c"])
def test_an_unknown_path_is_404(client: Client, path: str) -> None:
    assert refused(client.get(path), 404, "no_such_path")


# Keys ------------------------------------------------------------------------------------------


def test_the_same_request_again_is_answered_byte_for_byte(
    client: Client, operator: Person, user: Person
) -> None:
    path, body = f"/api/wallets/{user.id}/deposits", {"amount": 700, "reference": "first"}
    first = client.post(path, body, operator.token, "twice")
    again = client.post(path, body, operator.token, "twice")
    done(first, 201, {"transferId": uuid7, "balance": 700, "seq": 1})
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status, again.body) == (first.status, first.body)
    assert balance(client, user) == (700, 0)


def test_the_body_is_compared_by_what_it_says_not_by_how(
    client: Client, operator: Person, user: Person
) -> None:
    path = f"/api/wallets/{user.id}/deposits"
    first = client.post(path, b'{"amount":5,"reference":"a"}', operator.token, "how")
    again = client.post(path, b' { "reference": "\\u0061", "amount": 5 } ', operator.token, "how")
    assert (again.status, again.body) == (201, first.body)


def test_a_refusal_by_a_rule_is_replayed_even_when_it_would_pass_by_now(
    client: Client, operator: Person, user: Person
) -> None:
    path, body = "/api/wallets/me/withdrawals", {"amount": 50}
    first = client.post(path, body, user.token, "too-early")
    refused(first, 400, "insufficient_funds")
    client.post(f"/api/wallets/{user.id}/deposits", {"amount": 100}, operator.token)
    again = client.post(path, body, user.token, "too-early")
    assert (again.status, again.body) == (400, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    assert balance(client, user) == (100, 0)


def test_a_key_with_another_body_is_refused_and_moves_nothing(
    client: Client, operator: Person, user: Person
) -> None:
    path = f"/api/wallets/{user.id}/deposits"
    assert client.post(path, {"amount": 1}, operator.token, "reused").status == 201
    other = client.post(path, {"amount": 2}, operator.token, "reused")
    refused(other, 422, "idempotency_key_reused")
    assert balance(client, user) == (1, 0)


def test_a_key_belongs_to_one_principal_and_one_path(
    client: Client, house: House, operator: Person, crowd: Iterator[Person]
) -> None:
    second = house.people(1, "operator")[0]
    ann, bob = next(crowd), next(crowd)
    seen = set()
    for who in (operator, second):
        for whose in (ann, bob):
            path = f"/api/wallets/{whose.id}/deposits"
            answer = client.post(path, {"amount": 3}, who.token, "shared")
            assert answer.status == 201 and "idempotency-replayed" not in answer.headers
            seen.add(answer.json["transferId"])
        body = {"from": str(ann.id), "to": str(bob.id), "amount": 1}
        answer = client.post("/api/transfers", body, who.token, "shared")
        assert answer.status == 201 and "idempotency-replayed" not in answer.headers
        seen.add(answer.json["transferId"])
    assert len(seen) == 6
    assert (balance(client, ann), balance(client, bob)) == ((4, 0), (8, 0))


def test_malformed_input_is_not_kept_with_its_key(
    client: Client, operator: Person, user: Person
) -> None:
    path = f"/api/wallets/{user.id}/deposits"
    refused(client.post(path, {"amount": 0}, operator.token, "mended"), 422, "invalid")
    answer = client.post(path, {"amount": 9}, operator.token, "mended")
    assert answer.status == 201 and "idempotency-replayed" not in answer.headers


# People ----------------------------------------------------------------------------------------


def registered(client: Client) -> dict[str, str]:
    said = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "fullName": "Ngô Thị Ánh"}
    answer = client.post("/api/auth/register", said, key="")
    who = {"userId": uuid7, "email": said["email"], "fullName": "Ngô Thị Ánh", "role": "user"}
    done(answer, 201, who)
    return said


def logged_in(client: Client, said: dict[str, str]) -> dict[str, Any]:
    body = {"email": said["email"], "password": said["password"]}
    tokens: dict[str, Any] = done(client.post("/api/auth/login", body, key=""), 200, TOKENS)
    return tokens


def test_a_user_registers_logs_in_and_has_an_empty_wallet(client: Client) -> None:
    said = registered(client)
    refused(client.post("/api/auth/register", said, key=""), 409, "email_taken")
    tokens = logged_in(client, said)
    assert 0 < tokens["expiresIn"] <= 900
    claims = jwt.decode(
        tokens["accessToken"], TOKEN_SECRET, algorithms=["HS256"], audience="strongroom-api"
    )
    assert {"iss", "aud", "exp", "nbf", "jti"} <= set(claims)
    me = client.get("/api/users/me", tokens["accessToken"])
    done(me, 200, {"userId": uuid7, "email": str, "fullName": "Ngô Thị Ánh", "role": "user"})
    wallet = done(client.get("/api/wallets/me", tokens["accessToken"]), 200, WALLET)
    assert (wallet["balance"], wallet["locked"], wallet["seq"]) == (0, 0, 0)
    assert wallet["userId"] == me.json["userId"]


def test_a_refresh_token_works_once_and_its_second_use_ends_the_session(client: Client) -> None:
    first = logged_in(client, registered(client))
    body = {"refreshToken": first["refreshToken"]}
    second = done(client.post("/api/auth/refresh", body, key=""), 200, TOKENS)
    assert client.get("/api/users/me", second["accessToken"]).status == 200
    refused(client.post("/api/auth/refresh", body, key=""), 401, "unauthenticated")
    newer = {"refreshToken": second["refreshToken"]}
    refused(client.post("/api/auth/refresh", newer, key=""), 401, "unauthenticated")
    for tokens in (first, second):
        refused(client.get("/api/users/me", tokens["accessToken"]), 401, "unauthenticated")


def test_logging_out_ends_the_session_at_once(client: Client) -> None:
    tokens = logged_in(client, registered(client))
    answer = client.post("/api/auth/logout", {}, tokens["accessToken"], key="")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers
    refused(client.get("/api/users/me", tokens["accessToken"]), 401, "unauthenticated")
    body = {"refreshToken": tokens["refreshToken"]}
    refused(client.post("/api/auth/refresh", body, key=""), 401, "unauthenticated")


def test_a_wrong_password_and_an_unknown_address_look_alike_until_it_is_too_much(
    house: House, client: Client
) -> None:
    said = registered(client)
    with Client(house.apis[0].port, source="127.0.0.2") as other:
        details = set()
        for email in (said["email"], f"{uuid4().hex}@example.com"):
            for _ in range(5):
                answer = other.post("/api/auth/login", {"email": email, "password": "x"}, key="")
                details.add(refused(answer, 401, "unauthenticated")["detail"])
            answer = other.post("/api/auth/login", {"email": email, "password": "x"}, key="")
            refused(answer, 429, "too_many_attempts")
            assert int(answer.headers["retry-after"]) > 0
        assert len(details) == 1
        body = {"email": said["email"], "password": PASSWORD}
        refused(other.post("/api/auth/login", body, key=""), 429, "too_many_attempts")
    logged_in(client, said)  # from elsewhere it is nobody's fault


# Health and the reference ----------------------------------------------------------------------


def test_health_is_told_to_anyone(client: Client) -> None:
    for path, said in (("/healthz", {"status": "ok"}), ("/readyz", {"status": "ready"})):
        answer = client.get(path)
        assert (answer.status, answer.json) == (200, said)
    metrics = client.get("/metrics")
    assert metrics.status == 200 and metrics.headers["content-type"].startswith("text/plain")
    assert 'strongroom_requests_total{method="' in metrics.body.decode()


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/schema", "/schema/openapi.json"]
)
def test_what_is_asked_without_a_token_also_carries_a_request_id(client: Client, path: str) -> None:
    assert UUID(client.get(path).headers["x-request-id"]).version == 7
    for method in ("HEAD", "OPTIONS", "PUT", "POST"):
        answer = client.send(method, path, [])
        assert answer.status == 405 and "GET" in answer.headers["allow"], method


def references(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        if "$ref" in found:
            yield found["$ref"]
        for value in found.values():
            yield from references(value)
    elif isinstance(found, list):
        for value in found:
            yield from references(value)


def test_the_openapi_document_lists_exactly_the_routes_and_holds_together(client: Client) -> None:
    answer = client.get("/schema/openapi.json")
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json"
    document = answer.json
    assert document["openapi"].startswith("3.1.") and document["info"]["title"] == "Strongroom"
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = operations[route.method, route.path]
        parameters = {(p["in"], p["name"]) for p in operation["parameters"]}
        assert {name for where, name in parameters if where == "path"} == set(
            re.findall(r"\{(\w+)\}", route.path)
        )
        keys = [p["required"] for p in operation["parameters"] if p["name"] == "Idempotency-Key"]
        assert keys == ([not route.keyless] if route.command else [])
        assert ("security" in operation) == (route.role != "anyone")
        assert ({} in operation.get("security", [])) == (route.role == "public")
        assert ("requestBody" in operation) == (route.body is not None)
        assert str(route.status) in operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status) and response["description"]
            problem = "application/problem+json" in response.get("content", {})
            assert problem == (int(status) >= 400)
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len(set(names))
    for reference in references(document):
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind], reference
    assert "bearer" in document["components"]["securitySchemes"]


def test_the_reference_needs_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/schema")
    assert page.headers["content-type"].startswith("text/html")
    text = page.body.decode()
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", text)
    assert not re.findall(r"https?://(?!www\.w3\.org)", text)
    assert not re.findall(r"url\(|@import", text)
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in text


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done")
    house.assert_sound()
