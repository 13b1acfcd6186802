"""The contract of ticketing over HTTP: events, bookings, payments, cancellations."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from end_to_end._client import Answer, Client
from end_to_end._contract import (  # noqa: F401
    SANDBOX_SECRET,
    client,
    crowd,
    done,
    fits,
    house,
    operator,
    refused,
    user,
)
from end_to_end._house import House, Person, eventually, new_house
from end_to_end._tickets import (
    ACCEPTED,
    CONCERT,
    EVENT,
    LATE,
    LINE,
    PRICE,
    RESERVATION,
    SOON,
    TICKET,
    TICKET_TYPE,
    WAITS,
    becomes,
    buy,
    complete,
    new_event,
    order_of,
    reserve,
    tell,
    types_of,
    wish,
)
from serving import Clones, Server

# Events -----------------------------------------------------------------------------------------


def test_an_event_lives_from_its_draft_to_its_cancellation(
    client: Client, operator: Person, user: Person
) -> None:
    answer = client.post("/api/events", CONCERT, operator.token, "one-event")
    event = done(answer, 201, EVENT | {"status": "DRAFT", "ticketTypes": []})
    assert client.post("/api/events", CONCERT, operator.token, "one-event").body == answer.body
    path = f"/api/events/{event['eventId']}"
    for who in (None, user.token):
        refused(client.get(path, who), 404, "not_found")
        refused(client.get(f"/api/events/{event['slug']}", who), 404, "not_found")
    refused(client.post(f"{path}/publish", {}, operator.token), 409, "no_ticket_types")
    body = {"name": "Hạng A", "price": 0, "quantity": 5, "perUserLimit": 2}
    body["saleStartsAt"] = "2020-01-01T07:00:00+07:00"
    type = done(client.post(f"{path}/ticket-types", body, operator.token), 201, TICKET_TYPE)
    assert (type["saleStartsAt"], type["available"]) == ("2020-01-01T00:00:00Z", 5)
    done(client.post(f"{path}/publish", b"", operator.token), 200, EVENT | {"status": "PUBLISHED"})
    for named in (event["eventId"], event["slug"]):
        shown = fits(client.get(f"/api/events/{named}").json, EVENT)
        assert fits(shown["ticketTypes"][0], TICKET_TYPE)["name"] == "Hạng A"
    more = {"name": "Đêm nhạc Phạm Duy", "description": "a\nb"}
    changed = client.patch(path, more, operator.token)
    assert done(changed, 200, EVENT)["description"] == "a\nb"
    cleared = client.patch(path, {"description": None}, operator.token)
    assert done(cleared, 200, EVENT | {"description": None})["name"] == "Đêm nhạc Phạm Duy"
    there = f"{path}/ticket-types/{type['ticketTypeId']}"
    wider = client.patch(there, {"quantity": 9, "perUserLimit": None}, operator.token)
    done(wider, 200, TICKET_TYPE | {"quantity": 9, "available": 9, "perUserLimit": None})
    refused(client.patch(f"{path}/ticket-types/{uuid4()}", {}, operator.token), 404, "not_found")
    done(client.post(f"{path}/cancel", {}, operator.token), 200, EVENT | {"status": "CANCELLED"})
    refused(client.post(f"{path}/end", {}, operator.token), 409, "wrong_state")
    assert client.get(f"/api/events/{event['slug']}").json["status"] == "CANCELLED"
    listed = client.get("/api/events?limit=200").json["items"]
    assert event["eventId"] not in [one["eventId"] for one in listed]


def test_events_are_searched_without_regard_to_diacritics(client: Client, operator: Person) -> None:
    word = f"Bến{uuid4().hex[:8]}"
    event = new_event(client, operator, 3, name=unicodedata.normalize("NFD", f"{word} Hòa Đông"))
    plain = word.replace("ế", "e")
    for asked in (word, plain, plain.upper(), f"hoa {plain}", f"{plain[:9]} dong"):
        for form in ("NFC", "NFD"):
            text = quote(unicodedata.normalize(form, asked))
            page = fits(
                client.get(f"/api/events?q={text}").json, {"items": list, "nextCursor": None}
            )
            assert [one["eventId"] for one in page["items"]] == [event["eventId"]], asked


def test_lists_of_events_page_and_filter(client: Client, operator: Person) -> None:
    word = f"trang{uuid4().hex[:8]}"
    made = []
    for day in range(3):
        at = SOON + timedelta(days=day)
        more: Any = {"startsAt": at.isoformat(), "endsAt": (at + timedelta(hours=1)).isoformat()}
        made.append(new_event(client, operator, 1, name=f"{word} {day}", **more)["eventId"])
    first = client.get(f"/api/events?q={word}&limit=2").json
    rest = client.get(f"/api/events?q={word}&limit=2&cursor={first['nextCursor']}").json
    assert [one["eventId"] for one in first["items"] + rest["items"]] == made
    since = quote((SOON + timedelta(days=1)).isoformat())
    until = quote((SOON + timedelta(days=2)).isoformat())
    page = client.get(f"/api/events?q={word}&from={since}&to={until}").json
    assert [one["eventId"] for one in page["items"]] == made[1:2]
    draft = new_event(client, operator, 1, name=f"{word} nháp", publish=False)
    assert len(client.get(f"/api/events?q={word}").json["items"]) == 3
    assert len(client.get(f"/api/events?q={word}", operator.token).json["items"]) == 4
    page = client.get(f"/api/events?q={word}&status=DRAFT", operator.token).json
    assert [one["eventId"] for one in page["items"]] == [draft["eventId"]]
    refused(client.get("/api/events?status=DRAFT"), 403, "operator_only")


@pytest.mark.parametrize(
    "query",
    ["cursor=x", "from=2030-01-01", "to=morgen", "limit=0", "limit=201", "status=X", "q=%00", "x=1",
     "from=0001-01-01T00:00:00%2B14:00", "q=" + "a" * 201],
)  # fmt: skip
def test_a_list_that_is_asked_wrongly_is_refused(
    client: Client, operator: Person, query: str
) -> None:
    refused(client.get(f"/api/events?{query}", operator.token), 422, "invalid")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "Đêm"),
        ("slug", "a--b"),
        ("slug", "-a"),
        ("slug", "a\n"),
        ("slug", "a" * 101),
        ("slug", "0198c0d8-7a7b-7c7d-8e8f-000000000000"),
        ("slug", "0198c0d87a7b7c7d8e8f000000000000"),
        ("bannerUrl", "http://example.org/a.png"),
        ("bannerUrl", "https://example.org/a.png\n"),
        ("bannerUrl", "javascript:alert(1)"),
        ("bannerUrl", "https://user@example.org/"),
        ("bannerUrl", "https://example.org/" + "a" * 500),
        ("description", "a" * 10_001),
        ("description", "<script>"),
        ("description", "=cmd()"),
        ("description", "a\x00b"),
        ("description", "a\u202eb"),
        ("name", ""),
        ("startsAt", "2030-01-01T00:00:00"),
        ("endsAt", "2020-01-01T00:00:00Z"),
        ("endsAt", "9999-12-31T23:59:59-14:00"),
        ("startsAt", "0001-01-01T00:00:00+14:00"),
        ("status", "PUBLISHED"),
    ],
)
def test_an_event_that_does_not_fit_is_refused(
    client: Client, operator: Person, field: str, value: str
) -> None:
    answer = client.post("/api/events", CONCERT | {field: value}, operator.token)
    refused(answer, 422, "invalid")


@pytest.mark.parametrize(
    "more",
    [
        {"price": -1},
        {"price": 10**15 + 1},
        {"price": 1.0},
        {"price": "5"},
        {"quantity": -1},
        {"quantity": 1_000_001},
        {"perUserLimit": 0},
        {"saleStartsAt": "2030-01-02T00:00:00Z", "saleEndsAt": "2030-01-01T00:00:00Z"},
    ],
)
def test_a_ticket_type_that_does_not_fit_is_refused(
    client: Client, operator: Person, more: dict[str, Any]
) -> None:
    event = new_event(client, operator, publish=False)
    body = {"name": "Hạng A", "price": 5, "quantity": 5} | more
    path = f"/api/events/{event['eventId']}/ticket-types"
    refused(client.post(path, body, operator.token), 422, "invalid")


def test_a_slug_names_one_event(client: Client, operator: Person) -> None:
    slug = f"dem-{uuid4().hex[:8]}"
    new_event(client, operator, slug=slug, publish=False)
    refused(client.post("/api/events", CONCERT | {"slug": slug}, operator.token), 409, "slug_taken")
    other = new_event(client, operator, publish=False)
    path = f"/api/events/{other['eventId']}"
    refused(client.patch(path, {"slug": slug}, operator.token), 409, "slug_taken")


# Bookings ---------------------------------------------------------------------------------------


def test_a_booking_is_paid_within_seconds_and_shows_its_tickets(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 10)
    id = reserve(client, user, event, 2)
    accepted = complete(client, user, id)
    assert accepted["totalAmount"] == 2 * PRICE
    booking = becomes(client, user, accepted["orderId"], "PAID", within_s=8)
    assert booking["payment"] == {"method": "MOMO", "status": "SUCCESS"}
    (line,) = booking["items"]
    fits(line, LINE | {"ticketTypeId": types_of(event)[0], "quantity": 2, "unitPrice": PRICE})
    codes = {fits(one, TICKET | {"status": "UNUSED"})["code"] for one in booking["tickets"]}
    assert len(codes) == 2
    order = order_of(client, user, accepted["orderId"])
    assert {name: order[name] for name in booking} == booking
    assert (order["eventId"], order["reservationId"]) == (event["eventId"], id)
    assert (order["userId"], order["ownerName"]) == (str(user.id), "Nguyễn Ái")
    assert (order["late"], order["language"]) == (None, "vi")
    assert order_of(client, operator, accepted["orderId"]) == order
    held = done(
        client.get(f"/api/bookings/{id}", user.token), 200, RESERVATION | {"status": "COMPLETED"}
    )
    assert held["items"] == booking["items"]

    def fewer() -> bool:
        (type,) = client.get(f"/api/events/{event['slug']}").json["ticketTypes"]
        return (type["quantity"], type["available"]) == (10, 8)

    eventually(fewer, "the sold seats are not on offer any more")


def test_what_costs_nothing_is_paid_in_the_answer(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 2, price=0)
    path = f"/api/bookings/complete/{reserve(client, user, event, 2)}"
    answer = client.post(path, {"paymentMethod": "ZALOPAY"}, user.token)
    accepted = done(answer, 201, ACCEPTED | {"status": "PAID", "totalAmount": 0})
    assert accepted["payment"] == {"method": "ZALOPAY", "status": "SUCCESS"}
    assert len(becomes(client, user, accepted["orderId"], "PAID")["tickets"]) == 2


def test_bookings_page_newest_first(client: Client, operator: Person, user: Person) -> None:
    event = new_event(client, operator, 5, price=0)
    made = []
    for _ in range(3):
        path = f"/api/bookings/complete/{reserve(client, user, event, 1)}"
        made.append(client.post(path, {"paymentMethod": "CARD"}, user.token).json["orderId"])
    page = {"items": list, "nextCursor": str}
    first = done(client.get("/api/bookings/my-bookings?limit=2", user.token), 200, page)
    path = f"/api/bookings/my-bookings?limit=2&cursor={first['nextCursor']}"
    rest = done(client.get(path, user.token), 200, page | {"nextCursor": None})
    assert [one["orderId"] for one in first["items"] + rest["items"]] == made[::-1]


def test_seats_are_refused_by_what_there_is_when_and_for_whom(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, publish=False)
    path = f"/api/events/{event['eventId']}"
    types = {}
    kinds: dict[str, dict[str, Any]] = {
        "few": {"quantity": 2},
        "limited": {"quantity": 9, "perUserLimit": 2},
        "later": {"quantity": 9, "saleStartsAt": SOON.isoformat()},
        "over": {"quantity": 9, "saleEndsAt": "2020-01-01T00:00:00Z"},
    }
    for name, more in kinds.items():
        body = {"name": name, "price": PRICE, **more}
        answer = client.post(f"{path}/ticket-types", body, operator.token)
        types[name] = done(answer, 201, TICKET_TYPE)["ticketTypeId"]

    def wanted(name: str, quantity: int) -> Answer:
        body = {"ticketTypeId": types[name], "quantity": quantity}
        return client.post("/api/bookings/reserve", body, user.token)

    refused(wanted("few", 1), 404, "not_found")  # a draft is nobody's business
    done(client.post(f"{path}/publish", {}, operator.token), 200, EVENT)
    refused(wanted("few", 3), 409, "sold_out")
    refused(wanted("limited", 3), 409, "per_user_limit")
    refused(wanted("later", 1), 409, "not_on_sale")
    refused(wanted("over", 1), 409, "not_on_sale")
    done(wanted("few", 2), 201, RESERVATION)
    refused(wanted("few", 1), 409, "sold_out")
    done(wanted("limited", 2), 201, RESERVATION)
    refused(wanted("limited", 1), 409, "per_user_limit")
    done(client.post(f"{path}/end", {}, operator.token), 200, EVENT)
    refused(wanted("limited", 1), 409, "not_on_sale")


def test_a_step_that_was_taken_already_says_where_things_stand(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 5)
    path = f"/api/events/{event['eventId']}"
    said = refused(client.post(f"{path}/publish", {}, operator.token), 409, "wrong_state")
    assert "PUBLISHED" in said["detail"]
    booking = buy(client, user, event, 1)
    id = order_of(client, user, booking["orderId"])["reservationId"]
    for step in (f"complete/{id}", f"{id}/release"):
        body = {"paymentMethod": "CARD"} if step.startswith("complete") else {}
        answer = client.post(f"/api/bookings/{step}", body, user.token)
        assert "COMPLETED" in refused(answer, 409, "wrong_state")["detail"]
    for step in ("cancel", "cancel"):
        answer = client.post(f"{path}/{step}", {}, operator.token)
    assert "CANCELLED" in refused(answer, 409, "wrong_state")["detail"]


def test_every_step_is_answered_again_byte_for_byte(
    client: Client, operator: Person, user: Person
) -> None:
    said: list[tuple[str, str, Any, str, str, Answer]] = []

    def once(path: str, body: Any, who: Person, method: str = "POST") -> Any:
        key = f"once-{len(said)}"
        answer = client.write(method, path, body, who.token, key)
        assert answer.status < 300 and "idempotency-replayed" not in answer.headers, answer.body
        said.append((method, path, body, who.token, key, answer))
        return answer.json

    event = f"/api/events/{once('/api/events', CONCERT, operator)['eventId']}"
    type = once(f"{event}/ticket-types", {"name": "A", "price": 0, "quantity": 9}, operator)
    once(event, {"name": "Đêm nhạc khác"}, operator, "PATCH")
    more = {"quantity": 3}
    once(f"{event}/ticket-types/{type['ticketTypeId']}", more, operator, "PATCH")
    once(f"{event}/publish", {}, operator)
    wanted = {"ticketTypeId": type["ticketTypeId"], "quantity": 1}
    first, second = [once("/api/bookings/reserve", wanted, user) for _ in range(2)]
    once(f"/api/bookings/{first['reservationId']}/release", {}, user)
    path = f"/api/bookings/complete/{second['reservationId']}"
    once(path, {"paymentMethod": "CARD"}, user)
    (booking,) = client.get("/api/bookings/my-bookings", user.token).json["items"]
    code = booking["tickets"][0]["code"]
    once(f"/api/tickets/{code}/check-in", {"gate": "A"}, operator)
    scan = {"scanKey": uuid4().hex, "code": code, "scannedAt": "2026-01-01T00:00:00Z"}
    once("/api/tickets/scans", {"scans": [scan]}, operator)
    once(f"{event}/end", {}, operator)
    for method, path, body, token, key, answer in said:
        again = client.write(method, path, body, token, key)
        assert (again.status, again.body) == (answer.status, answer.body), path
        assert again.headers["idempotency-replayed"] == "true", path
        other = client.write(method, path, {"name": "Another"}, token, key)
        assert other.status == 422, path
    assert len(client.get("/api/bookings/my-bookings", user.token).json["items"]) == 1


def test_a_refusal_is_answered_again_though_it_would_pass_by_now(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, publish=False)
    path = f"/api/events/{event['eventId']}"
    early = client.post(f"{path}/publish", {}, operator.token, "early")
    refused(early, 409, "no_ticket_types")
    body = {"name": "A", "price": 0, "quantity": 1}
    type = done(client.post(f"{path}/ticket-types", body, operator.token), 201, TICKET_TYPE)
    again = client.post(f"{path}/publish", {}, operator.token, "early")
    assert (again.status, again.body) == (409, early.body)
    done(client.post(f"{path}/publish", {}, operator.token), 200, EVENT)
    wanted = {"ticketTypeId": type["ticketTypeId"], "quantity": 2}
    greedy = client.post("/api/bookings/reserve", wanted, user.token, "greedy")
    refused(greedy, 409, "sold_out")
    there = f"{path}/ticket-types/{type['ticketTypeId']}"
    done(client.patch(there, {"quantity": 5}, operator.token), 200, TICKET_TYPE)
    again = client.post("/api/bookings/reserve", wanted, user.token, "greedy")
    assert (again.status, again.body) == (409, greedy.body)
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/api/bookings/reserve", wanted | {"quantity": 1}, user.token, "greedy")
    refused(other, 422, "idempotency_key_reused")
    done(client.post("/api/bookings/reserve", wanted, user.token), 201, RESERVATION)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"quantity": 1},
        {"ticketTypeId": str(uuid4())},
        {"items": []},
        {"items": [{"ticketTypeId": str(uuid4()), "quantity": 0}]},
        {"items": [{"ticketTypeId": str(uuid4()), "quantity": 1}] * 21},
        {"ticketTypeId": str(uuid4()), "quantity": 1, "items": [{"ticketTypeId": str(uuid4()), "quantity": 1}]},
        {"ticketTypeId": str(uuid4()), "quantity": 1_000_001},
        {"ticketTypeId": str(uuid4()), "quantity": 1, "price": 1},
    ],
)  # fmt: skip
def test_a_wish_for_seats_that_does_not_fit_is_refused(
    client: Client, user: Person, body: dict[str, Any]
) -> None:
    refused(client.post("/api/bookings/reserve", body, user.token), 422, "invalid")


def test_several_ticket_types_are_reserved_together_and_given_back(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 4, 4)
    wanted = [{"ticketTypeId": id, "quantity": 3} for id in types_of(event)]
    answer = client.post("/api/bookings/reserve", {"items": wanted}, user.token)
    held = done(answer, 201, RESERVATION | {"totalAmount": 600_000})
    assert client.get(f"/api/bookings/{held['reservationId']}", user.token).json == held
    greedy = {"items": [wanted[0], wanted[1] | {"quantity": 1}]}
    refused(client.post("/api/bookings/reserve", greedy, user.token), 409, "sold_out")
    path = f"/api/bookings/{held['reservationId']}/release"
    done(client.post(path, {}, user.token), 200, RESERVATION | {"status": "RELEASED"})
    refused(client.post(path, {}, user.token), 409, "wrong_state")


def test_neither_a_header_nor_a_setting_makes_it_another_request(
    client: Client, operator: Person, user: Person
) -> None:
    id = reserve(client, user, new_event(client, operator, 2), 1)
    body = json.dumps({"paymentMethod": "CARD"}).encode()
    answers = []
    for language in ("vi", "en-US,en;q=0.9", "fr"):
        headers = [
            ("Authorization", f"Bearer {user.token}"),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", "the-same"),
            ("Accept-Language", language),
        ]
        answers.append(client.send("POST", f"/api/bookings/complete/{id}", headers, body))
    assert {(one.status, one.body) for one in answers} == {(201, answers[0].body)}


def test_what_is_foreign_is_answered_like_what_is_missing(
    client: Client, operator: Person, user: Person, crowd: Iterator[Person]
) -> None:
    event, stranger = new_event(client, operator, 5), next(crowd)
    order = buy(client, user, event, 1)["orderId"]
    held = reserve(client, user, event, 1)
    for path in (f"/api/bookings/orders/{order}", f"/api/bookings/{held}"):
        foreign = refused(client.get(path, stranger.token), 404, "not_found")
        missing = refused(client.get(path[:-36] + str(uuid4()), stranger.token), 404, "not_found")
        assert foreign | {"requestId": ""} == missing | {"requestId": ""}
    body = {"paymentMethod": "CARD"}
    answer = client.post(f"/api/bookings/complete/{held}", body, stranger.token)
    refused(answer, 404, "not_found")
    refused(client.post(f"/api/bookings/{held}/release", {}, stranger.token), 404, "not_found")
    assert client.get("/api/bookings/my-bookings", stranger.token).json["items"] == []


# Payments and cancellations ---------------------------------------------------------------------


def test_a_payment_waits_for_what_its_provider_says(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 2, price=WAITS)
    accepted = complete(client, user, reserve(client, user, event, 1), paymentMethod="CARD")
    payment, order = accepted["payment"], accepted["orderId"]
    assert re.fullmatch(r"/pay/[0-9a-f-]{36}", payment["redirectUrl"])
    page = client.get(payment["redirectUrl"])
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    refused(tell(client, payment, WAITS, secret="somebody else's"), 403, "forged_callback")
    waiting = order_of(client, user, order)
    assert (waiting["status"], waiting["payment"], waiting["tickets"]) == ("PENDING", payment, [])
    for _ in range(3):
        answer = tell(client, payment, WAITS)
        assert (answer.status, answer.json) == (200, {"received": True})
    booking = becomes(client, user, order, "PAID")
    assert booking["payment"] == {"method": "CARD", "status": "SUCCESS"}
    assert len(booking["tickets"]) == 1


def test_a_payment_that_fails_may_be_tried_again(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 1, price=WAITS)
    id = reserve(client, user, event, 1)
    first = complete(client, user, id)
    assert tell(client, first["payment"], WAITS, "FAILED").status == 200

    def failed() -> bool:
        return bool(order_of(client, user, first["orderId"])["payment"]["status"] == "FAILED")

    eventually(failed, "the payment has failed")
    shown = order_of(client, user, first["orderId"])
    assert (shown["status"], shown["payment"]["method"]) == ("PENDING", "MOMO")
    second = complete(client, user, id, paymentMethod="BANKING")
    assert second["orderId"] == first["orderId"]
    assert second["payment"]["redirectUrl"] != first["payment"]["redirectUrl"]
    assert tell(client, second["payment"], WAITS).status == 200
    booking = becomes(client, user, first["orderId"], "PAID")
    assert booking["payment"] == {"method": "BANKING", "status": "SUCCESS"}


def test_an_event_that_is_called_off_gives_all_money_back(
    client: Client, operator: Person, user: Person, crowd: Iterator[Person]
) -> None:
    event = new_event(client, operator, 9, price=WAITS - 9)
    path, guest = f"/api/events/{event['eventId']}", next(crowd)
    orders = [buy(client, who, event, 2)["orderId"] for who in (user, guest)]
    held = reserve(client, user, event, 1)
    done(client.post(f"{path}/cancel", {}, operator.token), 200, EVENT | {"status": "CANCELLED"})
    for who, order in zip((user, guest), orders, strict=True):
        booking = becomes(client, who, order, "CANCELLED")
        assert [one["status"] for one in booking["tickets"]] == ["CANCELLED"] * 2
        assert booking["payment"]["status"] == "REFUNDED"
        assert booking["payment"].get("refunded") == booking["totalAmount"]
        code = booking["tickets"][0]["code"]
        answer = client.post(f"/api/tickets/{code}/check-in", {}, operator.token)
        refused(answer, 409, "ticket_cancelled")

    def given_back() -> bool:
        found = client.get(f"/api/bookings/{held}", user.token).json
        return bool(found["status"] == "RELEASED")

    eventually(given_back, "the seats were given back")
    body = {"paymentMethod": "CARD"}
    refused(client.post(f"/api/bookings/complete/{held}", body, user.token), 409, "wrong_state")
    answer = client.post("/api/bookings/reserve", wish(event, 1), user.token)
    refused(answer, 409, "not_on_sale")
    sales = client.get(f"{path}/sales", operator.token).json
    assert (sales["earned"], sales["agrees"]) == (0, True)
    assert sales["refunds"] == {"payments": 2, "amount": 4 * (WAITS - 9)}


# Settings ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brief(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """A house where seats are held for a second, and one reservation at a time."""
    chosen = {
        "reservation_ttl_s": "1",
        "reservations_per_event": "one",
        "sandbox_secret": SANDBOX_SECRET,
    }
    with new_house(server, clones, tmp_path_factory.mktemp("brief"), **chosen) as house:
        house.start_api()
        yield house
        house.assert_sound()


def expired(client: Client, person: Person, reservation_id: str) -> None:
    def over() -> bool:
        found = client.get(f"/api/bookings/{reservation_id}", person.token).json
        return bool(found["status"] == "EXPIRED")

    eventually(over, "the reservation is over", 5)


def test_a_reservation_is_over_when_its_time_is_though_no_worker_runs(brief: House) -> None:
    (operator,), (user,) = brief.people(1, "operator"), brief.people(1)
    with brief.client() as client:
        event = new_event(client, operator, 5)
        id = reserve(client, user, event, 1)
        again = client.post("/api/bookings/reserve", wish(event, 1), user.token)
        refused(again, 409, "already_reserved")
        expired(client, user, id)
        body = {"paymentMethod": "CARD"}
        for step, said in ((f"complete/{id}", body), (f"{id}/release", {})):
            answer = client.post(f"/api/bookings/{step}", said, user.token)
            refused(answer, 409, "reservation_expired")
        reserve(client, user, event, 5)


def test_money_that_comes_too_late_buys_what_is_left_or_goes_back(brief: House) -> None:
    brief.start_worker()
    (operator,), users = brief.people(1, "operator"), brief.people(2)
    with brief.client() as client:
        event = new_event(client, operator, 2, price=LATE)
        held = [reserve(client, user, event, 1) for user in users]
        pairs = list(zip(users, held, strict=True))
        orders = [complete(client, user, id)["orderId"] for user, id in pairs]
        for user, id in pairs:
            expired(client, user, id)
        there = f"/api/events/{event['eventId']}/ticket-types/{types_of(event)[0]}"

        def fewer() -> bool:
            return client.patch(there, {"quantity": 1}, operator.token).status == 200

        eventually(fewer, "the seats are given back, and one is taken away", 2.5)

        def decided() -> Any:
            shown = [order_of(client, *one) for one in zip(users, orders, strict=True)]
            return all(one["late"] for one in shown) and shown

        shown = {one["late"]: one for one in eventually(decided, "the money has come")}
        won, lost = shown["SEATS_AGAIN"], shown["REFUNDED"]
        assert (won["status"], won["payment"]["status"]) == ("PAID", "SUCCESS")
        assert len(won["tickets"]) == 1
        assert (lost["status"], lost["payment"]["status"]) == ("CANCELLED", "REFUNDED")
        assert lost["tickets"] == []
    eventually(brief.drained, "the worker is done", 60)


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done", 60)
    house.assert_sound()
