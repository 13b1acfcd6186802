"""Bad input on every route that writes: always a 4xx problem, nothing changed, still serving."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from end_to_end._client import Client
from end_to_end._house import new_house
from end_to_end._spoiling import (  # noqa: F401
    WITH_BODY,
    WITH_FIELDS,
    WRITES,
    Scene,
    Wrong,
    _nothing_changes,
    client,
    good_body,
    good_bytes,
    good_path,
    headers_of,
    named,
    scene,
    send,
    spoilt,
    struct_of,
    wrong,
)
from serving import Clones, Server
from strongroom.apps.wallets import Deposit
from strongroom.core.commands import Ticket
from strongroom.doors.http.bodies import BODY_LIMIT
from strongroom.doors.http.routing import Route
from strongroom.main import Strongroom
from strongroom.money import MAX_AMOUNT, MAX_BALANCE

# Bodies that are no JSON, or not this JSON -----------------------------------------------------

DEEP = 10_000

NOT_JSON = {
    "blanks and no value": b" \n ",
    "truncated": b'{"amount": 1',
    "an open string": b'{"amount": "1',
    "a comma too many": b'{"amount": 1,}',
    "two documents": b"{}{}",
    "a tail": b"{} x",
    "single quotes": b"{'amount': 1}",
    "NaN": b'{"amount": NaN}',
    "Infinity": b'{"amount": -Infinity}',
    "a leading zero": b'{"amount": 01}',
    "a plus sign": b'{"amount": +1}',
    "hexadecimal": b'{"amount": 0x10}',
    "a comment": b'{"amount": 1 /* one */}',
    "a BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"amount": 1}'.encode("utf-16"),
    "UTF-16 without BOM": '{"amount": 1}'.encode("utf-16-le"),
    "UTF-32": '{"amount": 1}'.encode("utf-32"),
    "latin-1": '{"reference": "é"}'.encode("latin-1"),
    "overlong UTF-8": b'{"reference": "\xc0\xaf"}',
    "a lone surrogate in UTF-8": b'{"reference": "\xed\xa0\x80"}',
    "a raw control character": b'{"reference": "a\x00b"}',
    "arrays 10,000 deep": b"[" * DEEP + b"]" * DEEP,
    "objects 10,000 deep": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "an unknown field 10,000 deep": b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "an endless array": b"[" * (BODY_LIMIT - 10),
    "gzip": gzip.compress(b"{}"),
}
NOT_AN_OBJECT = {
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a string": b'"{}"',
    "an empty array": b"[]",
    "an array of a good one": b"[{}]",
    "60,000 digits": b"1" * 60_000,
    "a small float of 60,000 digits": b"0." + b"1" * 60_000,
    "1e400": b"1e400",
}


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
def test_what_is_not_json_is_refused(
    client: Client, scene: Scene, wrong: Wrong, route: Route
) -> None:
    for what, body in NOT_JSON.items():
        if route.steps and not body.strip():
            continue  # a step without parameters takes no body at all
        began = time.monotonic()
        wrong.check(what, send(client, scene, route, body), (400, 422), began)
    for what, body in NOT_AN_OBJECT.items():
        began = time.monotonic()
        wrong.check(what, send(client, scene, route, body), (400, 422), began)


@pytest.mark.parametrize("route", WITH_BODY, ids=named)
def test_unknown_fields_are_refused(
    client: Client, scene: Scene, wrong: Wrong, route: Route
) -> None:
    good = good_body(scene, struct_of(route))
    known = {field.encode_name for field in struct_of(route).fields}
    extras = {"balance", "role", "userId", "price", "id", "status", "__proto__", "", "Amount"}
    for extra in sorted(extras - known):
        began = time.monotonic()
        answer = send(client, scene, route, json.dumps({**good, extra: 1}).encode())
        wrong.check(f"{extra!r}", answer, (422,), began)


@pytest.mark.parametrize("route", WITH_FIELDS, ids=named)
def test_a_field_that_stands_twice_is_refused(
    client: Client, scene: Scene, wrong: Wrong, route: Route
) -> None:
    for field in struct_of(route).fields:
        good = good_body(scene, struct_of(route), field.encode_name)
        for twice in said_twice(good, field.encode_name):
            began = time.monotonic()
            answer = send(client, scene, route, twice.encode())
            wrong.check(twice, answer, (400, 422), began)


def said_twice(good: dict[str, Any], name: str) -> Iterator[str]:
    """The object with this field a second time, also where an object in it names one twice."""
    value = good[name]
    pair = f"{json.dumps(name)}:{json.dumps(value)}"
    escaped = f'"\\u{ord(name[0]):04x}{name[1:]}":{json.dumps(value)}'
    rest = ",".join(f"{json.dumps(n)}:{json.dumps(v)}" for n, v in good.items() if n != name)
    for twice in (f"{pair},{pair}", f"{escaped},{pair}", f"{pair},{escaped}"):
        yield "{" + ",".join(filter(None, [rest, twice])) + "}"
    for within in value if isinstance(value, dict) else []:
        for twice in said_twice(value, within):
            yield "{" + ",".join(filter(None, [rest, f"{json.dumps(name)}:{twice}"])) + "}"
    for inner in value if isinstance(value, list) else []:
        for within in inner if isinstance(inner, dict) else []:
            for twice in said_twice(inner, within):
                yield "{" + ",".join(filter(None, [rest, f"{json.dumps(name)}:[{twice}]"])) + "}"


# Fields that do not fit ------------------------------------------------------------------------


@pytest.mark.parametrize("route", WITH_FIELDS, ids=named)
def test_a_field_that_does_not_fit_is_refused(
    client: Client, scene: Scene, wrong: Wrong, route: Route
) -> None:
    # Who may log in and refresh is told from the text alone: a wrong one is just wrong.
    statuses = (400, 401, 422) if route.role == "anyone" else (400, 422)
    for what, body in spoilt(scene, struct_of(route), str):
        began = time.monotonic()
        wrong.check(what, send(client, scene, route, body.encode()), statuses, began)


def test_text_that_is_dangerous_elsewhere_is_refused(client: Client, scene: Scene) -> None:
    # It would harm nothing here; but names and references are shown and exported later.
    for text in ("<script>alert(1)</script>", "=cmd|' /C calc'!A0", "@SUM(1)", "+1"):
        body = {"from": str(scene.user.id), "to": str(uuid4()), "amount": 1, "reference": text}
        answer = client.post("/api/transfers", body, scene.operator.token)
        assert (answer.status, answer.problem) == (422, "invalid")


def test_text_that_only_looks_like_sql_is_text(client: Client, scene: Scene) -> None:
    body = {"from": str(scene.user.id), "to": str(uuid4()), "amount": 1}
    body["reference"] = "'; DROP TABLE x; --"
    answer = client.post("/api/transfers", body, scene.operator.token)
    assert (answer.status, answer.problem) == (404, "not_found")


BAD_PATH_IDS = [
    "no-id", "0", "-1", "%00", "a%00b", "%27%20OR%201%3D1--", "..%2f..%2fetc%2fpasswd",
    "%2e%2e", "a" * 10_000, "%ed%a0%80", "%ff", "null", "*", "%e2%80%ae",
]  # fmt: skip


@pytest.mark.parametrize("route", [r for r in WRITES if "{" in r.path], ids=named)
def test_an_id_in_the_path_that_is_none_or_not_ours_is_not_found(
    client: Client, scene: Scene, wrong: Wrong, route: Route
) -> None:
    body = good_bytes(scene, route)
    foreign = [str(uuid4()), str(UUID(int=0)), scene.foreign_bet_id, scene.foreign_reservation_id]
    if route.role == "user":
        foreign.append(scene.foreign_order_id)
    for id in (*BAD_PATH_IDS, *foreign):
        path = re.sub(r"\{\w+\}", id, route.path)
        began = time.monotonic()
        wrong.check(id, send(client, scene, route, body, path), (404, 414), began)


def test_the_house_itself_has_no_wallet_that_could_be_named(client: Client, scene: Scene) -> None:
    # The house's accounts have no floor: whoever could name them could make money.
    house, someone = str(UUID(int=0)), str(scene.user.id)
    token = scene.operator.token
    for giver, taker in ((house, someone), (someone, house)):
        body = {"from": giver, "to": taker, "amount": 1}
        answer = client.post("/api/transfers", body, token)
        assert (answer.status, answer.problem) == (404, "not_found")
    assert client.post(f"/api/wallets/{house}/deposits", {"amount": 1}, token).status == 404
    assert client.get(f"/api/wallets/{house}", token).status == 404
    assert client.post("/api/wallets/query", {"userIds": [house]}, token).status == 404


# Headers ---------------------------------------------------------------------------------------

BAD_CONTENT_TYPES = [
    None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/jsonp", "application/json; charset=utf-16", "application/json; charset=latin-1",
    "application/problem+json", "json", "application/json, text/plain",
]  # fmt: skip


@pytest.mark.parametrize("route", WITH_FIELDS, ids=named)
def test_only_plain_json_is_taken(client: Client, scene: Scene, wrong: Wrong, route: Route) -> None:
    good = good_bytes(scene, route)
    path, headers = good_path(scene, route), headers_of(scene, route)[1:]
    for media in BAD_CONTENT_TYPES:
        more = [("Content-Type", media)] if media is not None else []
        began = time.monotonic()
        answer = client.send(route.method, path, [*headers, *more], good)
        wrong.check(str(media), answer, (415,), began)
    for encoding, body in (("gzip", gzip.compress(good)), ("br", good), ("identity", good)):
        encoded = [("Content-Type", "application/json"), ("Content-Encoding", encoding)]
        began = time.monotonic()
        answer = client.send(route.method, path, [*headers, *encoded], body)
        wrong.check(encoding, answer, (415,), began)


# Sums ------------------------------------------------------------------------------------------


def test_two_valid_amounts_may_not_overflow_together(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with new_house(server, clones, tmp_path_factory.mktemp("overflow")) as house:
        house.start_api()
        (operator,), (user,) = house.people(1, "operator"), house.people(1)
        times = MAX_BALANCE // MAX_AMOUNT

        async def fill(rich: Strongroom) -> None:
            deposits = [
                Ticket(Deposit(user.id, MAX_AMOUNT), principal="test", key=f"fill-{i}")
                for i in range(times)
            ]
            await rich.executor.run(deposits)
            for deposit in deposits:
                (await deposit.future).check()

        house.inside(fill)
        with house.client() as client:
            path = f"/api/wallets/{user.id}/deposits"
            answer = client.post(path, {"amount": MAX_AMOUNT}, operator.token)
            assert (answer.status, answer.problem) == (409, "balance_limit")
            assert client.get("/api/wallets/me", user.token).json["balance"] == times * MAX_AMOUNT
            totals = client.get("/api/ops/trial-balance", operator.token).json["totals"]
            assert totals == {"VND": 0}
        house.assert_sound()


@pytest.mark.parametrize("route", WITH_FIELDS, ids=named)
def test_what_the_cases_spoil_was_good_before(
    client: Client, scene: Scene, route: Route, taken: None
) -> None:
    """The control: a case proves something only if nothing else was wrong with the request."""
    for field in struct_of(route).fields:
        good = good_body(scene, struct_of(route), field.encode_name)
        answer = send(client, scene, route, json.dumps(good).encode())
        # Nobody is registered who could log in; and what is done once is refused by its state.
        assert answer.status in (route.status, 401, 409), answer.body


@pytest.fixture
def taken() -> None:
    """Asked for by a test whose requests may change something."""
