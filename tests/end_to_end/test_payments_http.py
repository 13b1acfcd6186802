"""Payments over HTTP: what providers say, the sandbox's page, and routes that are not JSON."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from litestar.types import Receive, Scope, Send

from end_to_end._client import Answer, Client
from end_to_end._contract import client, user  # noqa: F401
from end_to_end._house import House, Person, eventually, new_house
from playing import Houses, somebody_waits
from serving import Clones, Server
from shopping import Ask
from strongroom.core.commands import Command, Nothing, Work
from strongroom.core.db import Database
from strongroom.doors.http.payment_routes import PAYMENTS
from strongroom.doors.http.routing import Call, Raw, Route, Routes, table
from strongroom.doors.http.seen import Seen
from strongroom.main import Strongroom

SECRET = "the sandbox of the tests signs with this secret"
HEADER = "X-Sandbox-Signature"
CALLBACKS = "/api/payments/sandbox/callbacks"
WAITS = 54_009

FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture(scope="module")
def house(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("payments")
    with new_house(server, clones, folder, sandbox_secret=SECRET) as house:
        house.start_api()
        house.start_worker()
        yield house


@pytest.fixture(scope="module")
def crowd(house: House) -> Iterator[Person]:
    return iter(house.people(3))


def asked(house: House, amount: int, ttl_s: int = 600) -> UUID:
    reply = house.inside(lambda inside: inside.run(Ask(amount, ttl_s)))
    return UUID(str(reply.payment_id))


def waiting(house: House) -> UUID:
    """A payment that waits for its page."""
    id = asked(house, WAITS)
    count = "SELECT count(*) FROM payments.sandbox_charges WHERE payment_id = %s"
    eventually(lambda: house.rows(count, id)[0][0], "the charge is made")
    return id


def said(id: UUID, amount: int = WAITS) -> bytes:
    return json.dumps(
        {
            "paymentId": str(id),
            "result": "SUCCESS",
            "amount": amount,
            "providerRef": "REF-1",
            "number": 1,
        }
    ).encode()


def sign(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def tell(client: Client, body: bytes, *more: tuple[str, str], path: str = CALLBACKS) -> Answer:
    headers = more or ((HEADER, sign(body)), ("Content-Type", "application/json"))
    return client.send("POST", path, list(headers), body)


def kept(house: House, body: bytes) -> list[tuple[Any, ...]]:
    query = "SELECT verdict, payment_id FROM payments.callbacks WHERE body = %s ORDER BY id"
    return house.rows(query, body)


def notified(house: House, id: UUID) -> list[tuple[Any, ...]]:
    """What the payee was told by callbacks; that a payment is also asked for is another matter."""
    query = """SELECT l.payload->>'result', (l.payload->>'amount')::bigint FROM events.log l
        JOIN payments.callbacks c ON c.id = l.key AND c.kind = 'callback'
        WHERE l.type = 'shop.PaymentNotified' AND c.payment_id = %s ORDER BY l.position"""
    return house.rows(query, id)


# Callbacks --------------------------------------------------------------------------------------


def test_a_round_amount_is_paid_without_further_ado(house: House) -> None:
    id = asked(house, 150_000)
    eventually(lambda: notified(house, id), "paid")
    assert notified(house, id) == [("SUCCESS", 150_000)]


def test_a_signed_callback_needs_no_token_and_no_key(client: Client, house: House) -> None:
    id = waiting(house)
    body = said(id)
    answer = tell(client, body)
    assert (answer.status, answer.body) == (200, b'{"received":true}')
    assert answer.headers["content-type"] == "application/json"
    assert UUID(answer.headers["x-request-id"]).version == 7
    assert kept(house, body) == [("genuine", id)]
    assert notified(house, id) == [("SUCCESS", WAITS)]


def test_a_callback_repeated_is_acknowledged_again(client: Client, house: House) -> None:
    id = waiting(house)
    body = said(id)
    assert [tell(client, body).status for _ in range(3)] == [200] * 3
    assert kept(house, body) == [("genuine", id)] * 3


def test_a_forged_callback_is_kept_and_refused(client: Client, house: House) -> None:
    id = waiting(house)
    body = said(id)
    forged = tell(client, body, (HEADER, sign(body, "another secret")))
    assert (forged.status, forged.problem) == (403, "forged_callback")
    unsigned = tell(client, body, ("Content-Type", "application/json"))
    assert (unsigned.status, unsigned.problem) == (403, "forged_callback")
    assert kept(house, body) == [("forged", None)] * 2
    assert notified(house, id) == []


def test_a_changed_byte_is_a_forgery(client: Client, house: House) -> None:
    id = waiting(house)
    body = said(id, WAITS)
    answer = tell(client, said(id, WAITS - 1), (HEADER, sign(body)))
    assert answer.problem == "forged_callback"
    assert notified(house, id) == []


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00\x01", b"null", b"[" * 50_000, b"{}"])
def test_what_is_signed_and_makes_no_sense_is_kept(
    client: Client, house: House, body: bytes
) -> None:
    answer = tell(client, body)
    assert (answer.status, answer.problem) == (422, "unreadable_callback")
    assert kept(house, body) == [("malformed", None)]


def test_a_callback_about_no_payment_of_ours_is_kept_and_acknowledged(
    client: Client, house: House
) -> None:
    body = said(uuid4())
    answer = tell(client, body)
    assert (answer.status, answer.body) == (200, b'{"received":true}')
    assert [verdict for verdict, _ in kept(house, body)] == ["unknown"]


def test_a_huge_callback_is_refused_unread(client: Client, house: House) -> None:
    body = b"x" * (64 * 1024 + 1)
    answer = tell(client, body)
    assert (answer.status, answer.problem) == (413, "body_too_large")
    assert kept(house, body) == []


def test_the_largest_callback_is_kept(client: Client, house: House) -> None:
    body = b"y" * (64 * 1024)
    assert tell(client, body).problem == "unreadable_callback"
    assert kept(house, body) == [("malformed", None)]


def test_an_unknown_provider_is_not_there(client: Client) -> None:
    answer = tell(client, b"{}", path="/api/payments/nobody/callbacks")
    assert (answer.status, answer.problem) == (404, "not_found")


def test_callbacks_are_told_and_not_asked_for(client: Client) -> None:
    answer = client.get(CALLBACKS)
    assert (answer.status, answer.problem) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_the_headers_of_a_callback_are_kept_without_its_passwords(
    client: Client, house: House
) -> None:
    body = said(uuid4())
    tell(
        client,
        body,
        (HEADER, sign(body)),
        ("Authorization", "Apikey very-secret"),
        ("Cookie", "very-secret"),
        ("X-Other", "caf\xe9"),
    )
    query = "SELECT headers::text FROM payments.callbacks WHERE body = %s"
    [(headers,)] = house.rows(query, body)
    assert "very-secret" not in headers
    assert '["x-other", "café"]' in headers


# The page ---------------------------------------------------------------------------------------


def page_of(client: Client, id: UUID, language: str = "en") -> str:
    answer = client.send("GET", f"/pay/{id}", [("Accept-Language", language)])
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.body.decode()


def pay(client: Client, id: UUID, card: str, *more: tuple[str, str]) -> Answer:
    body = urlencode({"card": card}).encode()
    return client.send("POST", f"/pay/{id}", [FORM, *more], body)


def status_of(page: str) -> str:
    found = re.search(r'data-status="(\w+)"', page)
    assert found
    return found[1]


def test_the_page_shows_the_amount_the_cards_and_needs_nothing_from_elsewhere(
    client: Client, house: House
) -> None:
    id = waiting(house)
    page = page_of(client, id)
    assert "54.009 ₫" in page
    assert status_of(page) == "PENDING"
    assert "9704 0000 0000 4001" in page and "refused" in page
    assert not re.search(r"https?://|src=|<script", page)


def test_the_policy_of_the_page_lets_its_own_style_in_and_nothing_else(
    client: Client, house: House
) -> None:
    answer = client.get(f"/pay/{waiting(house)}")
    policy = answer.headers["content-security-policy"]
    style = re.search(rb"<style>(.*?)</style>", answer.body, re.S)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1]).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("vi-VN,vi;q=0.9,en;q=0.8", "vi"),
        ("en-US,en;q=0.9,vi;q=0.8", "en"),
        ("fr", "en"),
        ("", "en"),
        ("vi;q=nonsense,,;", "en"),
    ],
)
def test_the_page_speaks_the_buyers_language(
    client: Client, house: House, accepted: str, language: str
) -> None:
    page = page_of(client, waiting(house), accepted)
    assert f'<html lang="{language}">' in page
    assert ("Số thẻ" in page) == (language == "vi")


def test_a_card_pays_and_the_page_says_so(client: Client, house: House) -> None:
    id = waiting(house)
    origin = ("Origin", f"http://127.0.0.1:{client.port}")
    answer = pay(client, id, "9704 0000 0000 4000", origin)
    assert (answer.status, answer.headers["location"]) == (303, f"/pay/{id}")
    assert notified(house, id) == [("SUCCESS", WAITS)]
    page = page_of(client, id)
    assert status_of(page) == "WORKING"
    assert 'http-equiv="refresh"' in page and "<form" not in page
    house.rows(
        "UPDATE payments.payments SET status = 'SUCCESS', settled_at = now() WHERE id = %s"
        " RETURNING id",
        id,
    )
    assert status_of(page_of(client, id)) == "SUCCESS"


def test_a_form_sent_twice_pays_once(client: Client, house: House) -> None:
    id = waiting(house)
    answers = [pay(client, id, "9704000000004000").status for _ in range(2)]
    assert (answers, notified(house, id)) == ([303, 303], [("SUCCESS", WAITS)])


def test_a_refused_card_is_told_as_failed(client: Client, house: House) -> None:
    id = waiting(house)
    assert pay(client, id, "9704000000004001").status == 303
    assert notified(house, id) == [("FAILED", 0)]


def test_an_unknown_card_shows_the_form_again_and_nothing_of_it_as_markup(
    client: Client, house: House
) -> None:
    id = waiting(house)
    answer = pay(client, id, '"><script>alert(1)</script>')
    assert answer.status == 422
    assert b"<script" not in answer.body and b"none of the test cards" in answer.body
    assert notified(house, id) == []


@pytest.mark.parametrize(
    "header",
    [
        ("Origin", "https://elsewhere.test"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ],
)
def test_a_form_of_another_page_pays_nothing(
    client: Client, house: House, header: tuple[str, str]
) -> None:
    id = waiting(house)
    answer = pay(client, id, "9704000000004000", header)
    assert (answer.status, answer.problem) == (403, "other_origin")
    assert notified(house, id) == []


def test_only_a_form_pays(client: Client, house: House) -> None:
    id = waiting(house)
    headers = [("Content-Type", "application/json")]
    answer = client.send("POST", f"/pay/{id}", headers, b'{"card":"9704000000004000"}')
    assert (answer.status, answer.problem) == (415, "unsupported_media_type")
    answer = client.send("POST", f"/pay/{id}", [FORM], b"card=\xff" + b"&a" * 9)
    assert (answer.status, answer.problem) == (400, "malformed")


def test_after_its_time_nothing_is_paid_on_the_page(client: Client, house: House) -> None:
    id = asked(house, WAITS, ttl_s=0)
    page = page_of(client, id)
    assert status_of(page) == "EXPIRED" and "<form" not in page
    assert pay(client, id, "9704000000004000").status == 303
    assert notified(house, id) == []


def test_a_provider_with_a_page_of_its_own_is_led_to(client: Client, house: House) -> None:
    id = waiting(house)
    house.rows(
        "UPDATE payments.payments SET provider = 'other', redirect_url = 'https://other.test/p'"
        " WHERE id = %s RETURNING id",
        id,
    )
    answer = client.get(f"/pay/{id}")
    assert (answer.status, answer.headers["location"]) == (303, "https://other.test/p")
    assert pay(client, id, "9704000000004000").status == 404


@pytest.mark.parametrize("id", [uuid4(), "nonsense", "%00", "' OR 1=1--"])
def test_a_page_of_no_payment_is_not_there(client: Client, id: object) -> None:
    path = f"/pay/{id}".replace(" ", "%20")
    assert client.get(path).problem == "not_found"
    assert client.send("POST", path, [FORM], b"card=1").problem == "not_found"


def test_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the queues are empty")
    house.assert_sound()


# Routes that are not JSON, not all signed in, not all keyed -------------------------------------


@dataclass(frozen=True, slots=True)
class Touch(Command):
    """Does nothing, however often."""

    reply = Nothing
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Touch]) -> None:
        """Nothing is needed."""

    def decide(self, work: Work) -> Nothing:
        return Nothing()


async def picture(call: Call) -> Raw:
    return Raw("image/svg+xml", b"<svg/>", ((b"cache-control", b"max-age=60"),))


async def who(call: Call) -> Raw:
    return Raw("text/plain", (call.principal.name if call.principal else "nobody").encode())


async def echo(call: Call) -> Raw:
    return Raw("application/octet-stream", call.body, status=203)


ROUTES: Routes = [
    Route("GET", "/t/picture", "anyone", 200, "", None, None, read=picture),
    Route("GET", "/t/who", "public", 200, "", None, None, read=who),
    Route("POST", "/t/echo", "anyone", 200, "", bytes, None, read=echo),
    Route(
        "PATCH",
        "/t/touch",
        "public",
        200,
        "",
        None,
        Nothing,
        command=lambda call: Touch(),
        keyless=True,
    ),
]


async def ask(
    house: Strongroom,
    method: str,
    path: str,
    body: bytes = b"",
    routes: Routes = ROUTES,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """One request through the table, without a server."""
    sent: list[Any] = []
    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope: Any = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": pairs,
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    through: Any = table(house, Seen(), routes)
    typed: tuple[Scope, Receive, Send] = (scope, receive, send)
    await through(*typed)
    start, end = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, end["body"]


async def test_a_read_may_answer_what_is_not_json(houses: Houses) -> None:
    status, headers, body = await ask(await houses(), "GET", "/t/picture")
    assert (status, body) == (200, b"<svg/>")
    assert headers["content-type"] == "image/svg+xml"
    assert headers["cache-control"] == "max-age=60"
    assert headers["content-length"] == "6"


async def test_a_raw_body_comes_as_it_is(houses: Houses) -> None:
    house = await houses()
    for raw in (b"", b"\xff\x00{", b"{}"):
        assert (await ask(house, "POST", "/t/echo", raw))[::2] == (203, raw)


async def test_a_public_route_knows_who_says_so_and_refuses_a_bad_token(houses: Houses) -> None:
    house = await houses()
    [(user, token)] = await house.identity.create_users(1, "user")
    assert (await ask(house, "GET", "/t/who"))[2] == b"nobody"
    known = await ask(house, "GET", "/t/who", authorization=f"Bearer {token}")
    assert known[2] == str(user).encode()
    assert (await ask(house, "GET", "/t/who", authorization="Bearer nonsense"))[0] == 401


async def test_a_keyless_command_takes_a_key_and_needs_none(houses: Houses) -> None:
    house = await houses()
    first = await ask(house, "PATCH", "/t/touch")
    again = await ask(house, "PATCH", "/t/touch", idempotency_key="one")
    replay = await ask(house, "PATCH", "/t/touch", idempotency_key="one")
    assert [one[0] for one in (first, again, replay)] == [200] * 3
    marked = ["idempotency-replayed" in one[1] for one in (first, again, replay)]
    assert marked == [False, False, True]
    assert (await ask(house, "PATCH", "/t/touch", idempotency_key="ö"))[0] == 400


async def test_callbacks_wait_where_other_writes_are_turned_away(
    houses: Houses, owner: Database
) -> None:
    house = await houses(write_deadline_ms=50)
    async with owner.transaction() as db:
        await db.execute("LOCK TABLE payments.callbacks IN EXCLUSIVE MODE")
        told = [asyncio.create_task(ask(house, "POST", CALLBACKS, b"first", PAYMENTS))]
        await somebody_waits(owner)
        told += [
            asyncio.create_task(ask(house, "POST", CALLBACKS, b"more", PAYMENTS)) for _ in range(20)
        ]
        # Twice the deadline of other writes.
        assert not (await asyncio.wait(told, timeout=0.1))[0]
    assert [(await one)[0] for one in told] == [403] * 21
    assert await owner.fetchval("SELECT count(*) FROM payments.callbacks") == 21
