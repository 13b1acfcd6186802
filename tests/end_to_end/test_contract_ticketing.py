"""The contract of ticketing over HTTP: events, bookings, tickets, the door, two API processes."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from end_to_end._client import Answer, Client
from end_to_end._contract import (  # noqa: F401
    Shape,
    client,
    crowd,
    done,
    fits,
    house,
    operator,
    refused,
    user,
    utc,
    uuid7,
)
from end_to_end._house import House, Person, eventually, new_house
from serving import Clones, Server
from strongroom.apps.ticketing.codes import Verifier, public_key_of


def perhaps(rule: Any) -> Any:
    """The rule, or null."""
    return lambda value: (
        value is None or (type(value) is rule if isinstance(rule, type) else rule(value))
    )


EVENT: Shape = {
    "eventId": uuid7, "slug": str, "name": str, "description": perhaps(str),
    "bannerUrl": perhaps(str), "location": str, "startsAt": utc, "endsAt": utc, "status": str,
    "ticketTypes": list,
}  # fmt: skip
TICKET_TYPE: Shape = {
    "ticketTypeId": uuid7, "name": str, "price": int, "quantity": int, "available": int,
    "asOf": utc, "saleStartsAt": perhaps(utc), "saleEndsAt": perhaps(utc),
    "perUserLimit": perhaps(int),
}  # fmt: skip
LINE: Shape = {"ticketTypeId": uuid7, "quantity": int, "unitPrice": int}
RESERVATION: Shape = {
    "reservationId": uuid7, "eventId": uuid7, "status": "ACTIVE", "expiresAt": utc,
    "totalAmount": int, "items": list,
}  # fmt: skip
BOOKING: Shape = {
    "orderId": uuid7, "status": str, "totalAmount": int, "items": list, "payment": dict,
    "tickets": list, "createdAt": utc,
}  # fmt: skip
TICKET: Shape = {"code": str, "ticketTypeId": uuid7, "status": str, "qr": str}

SOON = datetime.now(UTC) + timedelta(days=30)
BODY = {
    "name": "Đêm nhạc Trịnh",
    "location": "Nhà hát Lớn, Hà Nội",
    "startsAt": SOON.isoformat(),
    "endsAt": (SOON + timedelta(hours=3)).isoformat(),
}


def patch(client: Client, path: str, body: Any, token: str, *more: tuple[str, str]) -> Answer:
    headers = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json"), *more]
    return client.send("PATCH", path, headers, json.dumps(body).encode())


def new_event(
    client: Client, operator: Person, *quantities: int, publish: bool = True, **more: Any
) -> dict[str, Any]:
    """An event with ticket types of these quantities."""
    event = done(client.post("/api/events", BODY | more, operator.token), 201, EVENT)
    path = f"/api/events/{event['eventId']}"
    for number, quantity in enumerate(quantities):
        body = {"name": f"Hạng {number}", "price": 100_000, "quantity": quantity}
        done(client.post(f"{path}/ticket-types", body, operator.token), 201, TICKET_TYPE)
    if publish:
        event = done(client.post(f"{path}/publish", {}, operator.token), 200, EVENT)
    found: dict[str, Any] = client.get(path, operator.token).json
    return found


def types_of(event: dict[str, Any]) -> list[str]:
    return [fits(type, TICKET_TYPE)["ticketTypeId"] for type in event["ticketTypes"]]


def reserve(client: Client, person: Person, event: dict[str, Any], quantity: int) -> str:
    body = {"ticketTypeId": types_of(event)[0], "quantity": quantity}
    answer = client.post("/api/bookings/reserve", body, person.token)
    return str(done(answer, 201, RESERVATION)["reservationId"])


def buy(
    client: Client, person: Person, event: dict[str, Any], quantity: int, **more: Any
) -> dict[str, Any]:
    """A booking that is paid, with its tickets."""
    id = reserve(client, person, event, quantity)
    body = {"paymentMethod": "MOMO", "ownerName": "Nguyễn Ái", **more}
    answer = client.post(f"/api/bookings/complete/{id}", body, person.token)
    order = done(
        answer, 201, {"orderId": uuid7, "status": "PENDING", "totalAmount": int, "payment": dict}
    )
    return paid(client, person, order["orderId"])


def paid(client: Client, person: Person, order_id: str) -> dict[str, Any]:
    def there() -> Any:
        items = client.get("/api/bookings/my-bookings", person.token).json["items"]
        (one,) = (item for item in items if item["orderId"] == order_id)
        return one if one["status"] == "PAID" else None

    found: dict[str, Any] = eventually(there, "the order is paid")
    return found


# Events -----------------------------------------------------------------------------------------


def test_an_event_lives_from_its_draft_to_its_cancellation(
    client: Client, operator: Person, user: Person
) -> None:
    answer = client.post("/api/events", BODY, operator.token, "one-event")
    event = done(answer, 201, EVENT | {"status": "DRAFT", "ticketTypes": []})
    assert client.post("/api/events", BODY, operator.token, "one-event").body == answer.body
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
    changed = patch(
        client, path, {"name": "Đêm nhạc Phạm Duy", "description": "a\nb"}, operator.token
    )
    assert done(changed, 200, EVENT)["description"] == "a\nb"
    cleared = patch(client, path, {"description": None}, operator.token)
    assert done(cleared, 200, EVENT | {"description": None})["name"] == "Đêm nhạc Phạm Duy"
    there = f"{path}/ticket-types/{type['ticketTypeId']}"
    more = patch(client, there, {"quantity": 9, "perUserLimit": None}, operator.token)
    done(more, 200, TICKET_TYPE | {"quantity": 9, "available": 9, "perUserLimit": None})
    refused(patch(client, f"{path}/ticket-types/{uuid4()}", {}, operator.token), 404, "not_found")
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
        more = {"startsAt": at.isoformat(), "endsAt": (at + timedelta(hours=1)).isoformat()}
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
    answer = client.post("/api/events", BODY | {field: value}, operator.token)
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
    refused(client.post("/api/events", BODY | {"slug": slug}, operator.token), 409, "slug_taken")
    other = new_event(client, operator, publish=False)
    path = f"/api/events/{other['eventId']}"
    refused(patch(client, path, {"slug": slug}, operator.token), 409, "slug_taken")


def test_a_change_answered_by_one_process_is_seen_by_the_next_read_of_another(
    client: Client, house: House, operator: Person
) -> None:
    if len(house.apis) < 2:
        house.start_api()
    event = new_event(client, operator, 10)
    path = f"/api/events/{event['eventId']}"
    type = types_of(event)[0]
    with house.client(1) as other:
        for number in range(30):
            one, two = (client, other) if number % 2 else (other, client)
            name = f"tên {number}"
            assert patch(one, path, {"name": name}, operator.token).status == 200
            for asked in (two, one):
                assert asked.get(path).json["name"] == name
                assert asked.get(f"/api/events/{event['slug']}").json["name"] == name
            quantity = {"quantity": 10 + number}
            assert patch(one, f"{path}/ticket-types/{type}", quantity, operator.token).status == 200
            (seen,) = two.get(path).json["ticketTypes"]
            assert (seen["quantity"], seen["available"]) == (10 + number, 10 + number)


# Bookings ---------------------------------------------------------------------------------------


def test_a_booking_leads_from_seats_to_a_ticket_that_admits_once(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 10)
    booking = fits(
        buy(client, user, event, 2), BOOKING | {"status": "PAID", "totalAmount": 200_000}
    )
    assert booking["payment"] == {"method": "MOMO", "status": "SUCCESS"}
    (line,) = booking["items"]
    fits(line, LINE | {"quantity": 2, "unitPrice": 100_000})
    first, second = (fits(one, TICKET | {"status": "UNUSED"}) for one in booking["tickets"])
    key = fits(
        client.get("/api/tickets/public-key").json,
        {"algorithm": "Ed25519", "keyId": str, "key": str, "pem": str},
    )
    verifier = Verifier([public_key_of(key["pem"])])
    assert verifier.verify(first["qr"]).code == first["code"]
    typed = quote(first["code"].lower().replace("-", " ").replace("0", "o"))
    entered = client.post(f"/api/tickets/{typed}/check-in", {"gate": "Cổng A"}, operator.token)
    assert entered.status == 200 and entered.json["status"] == "CHECKED_IN"
    again = client.post(f"/api/tickets/{first['qr']}/check-in", {"gate": "B"}, operator.token)
    assert (again.status, again.json["code"]) == (409, "already_checked_in")
    scan = {"checkedInAt": entered.json["checkedInAt"], "gate": "Cổng A"}
    assert again.json["firstScan"] == scan
    scanned = client.post(f"/api/tickets/{second['qr']}/check-in", b"", operator.token)
    assert scanned.status == 200
    order = client.get(f"/api/bookings/orders/{booking['orderId']}", user.token).json
    assert [one["status"] for one in order["tickets"]] == ["CHECKED_IN"] * 2
    assert order["eventId"] == event["eventId"] and order["language"] == "vi"
    assert client.get(f"/api/bookings/orders/{booking['orderId']}", operator.token).json == order


def test_a_forged_pass_does_not_admit(client: Client, operator: Person, user: Person) -> None:
    qr = buy(client, user, new_event(client, operator, 1), 1)["tickets"][0]["qr"]
    forged = qr[:-1] + ("1" if qr[-1] == "0" else "0")
    for text, code in ((forged, "bad_signature"), ("SR1.ABC", "malformed_pass")):
        refused(client.post(f"/api/tickets/{text}/check-in", {}, operator.token), 422, code)
    for text in ("00000-00000-000000-00000-00000", "nonsense", "%00%FF", "a" * 500):
        refused(client.post(f"/api/tickets/{text}/check-in", {}, operator.token), 404, "not_found")


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


@pytest.mark.parametrize(
    ("accepted", "body", "language"),
    [("", {}, "vi"), ("en-GB,vi;q=0.5", {}, "en"), ("de", {}, "vi"), ("en", {"language": "vi"}, "vi")],
)  # fmt: skip
def test_the_language_of_the_papers_is_the_buyers(
    client: Client,
    operator: Person,
    user: Person,
    accepted: str,
    body: dict[str, str],
    language: str,
) -> None:
    id = reserve(client, user, new_event(client, operator, 2), 1)
    headers = [
        ("Authorization", f"Bearer {user.token}"),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", uuid4().hex),
        ("Accept-Language", accepted),
    ]
    raw = json.dumps({"paymentMethod": "BANKING", **body}).encode()
    order = client.send("POST", f"/api/bookings/complete/{id}", headers, raw).json["orderId"]
    assert client.get(f"/api/bookings/orders/{order}", user.token).json["language"] == language


def test_papers_are_for_the_owner_and_for_operators(
    client: Client, operator: Person, user: Person, crowd: Iterator[Person]
) -> None:
    event = new_event(client, operator, 2)
    code = buy(client, user, event, 1)["tickets"][0]["code"]
    stranger = next(crowd)
    begins = {
        "svg": ("image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"'),
        "png": ("image/png", b"\x89PNG"),
        "html": ("text/html; charset=utf-8", b"<!doctype html>"),
        "ics": ("text/calendar; charset=utf-8", b"BEGIN:VCALENDAR"),
    }
    for ending, (media, first) in begins.items():
        path = f"/api/tickets/{code}.{ending}"
        for who in (user, operator):
            answer = client.get(path, who.token)
            assert (answer.status, answer.headers["content-type"]) == (200, media)
            assert answer.body.startswith(first)
            assert "no-store" in answer.headers["cache-control"]
        refused(client.get(path, stranger.token), 404, "not_found")
        refused(client.get(path), 401, "unauthenticated")
    refused(client.get("/api/tickets/nonsense.svg", user.token), 404, "not_found")
    client.post(f"/api/events/{event['eventId']}/cancel", {}, operator.token)

    def off() -> bool:
        return client.get(f"/api/tickets/{code}.svg", user.token).status == 409

    eventually(off, "the ticket is cancelled")
    assert b"STATUS:CANCELLED" in client.get(f"/api/tickets/{code}.ics", user.token).body


# For operators ----------------------------------------------------------------------------------


def test_gates_that_were_cut_off_upload_their_scans(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 5)
    tickets = buy(client, user, event, 2)["tickets"]
    at, own = datetime.now(UTC), uuid4().hex
    qr = tickets[0]["qr"]
    scans = [
        {"scanKey": f"{own}:1", "qr": qr, "gate": "A"},
        {"scanKey": f"{own}:2", "code": tickets[0]["code"].lower(), "gate": "B"},
        {"scanKey": f"{own}:3", "qr": qr[:-1] + ("1" if qr[-1] == "0" else "0")},
        {"scanKey": f"{own}:4", "code": "00000-00000-000000-00000-00000"},
        {"scanKey": f"{own}:1", "qr": qr, "gate": "A"},
    ]
    for number, scan in enumerate(scans):
        scan["scannedAt"] = (at + timedelta(seconds=number)).isoformat()
    answer = client.post("/api/tickets/scans", {"scans": scans}, operator.token)
    said = done(answer, 200, {"results": list, "doubleEntries": 1})
    results = [one["result"] for one in said["results"]]
    assert results == ["ADMITTED", "ALREADY_CHECKED_IN", "FORGED", "UNKNOWN", "ADMITTED"]
    assert [one["replayed"] for one in said["results"]] == [False] * 4 + [True]
    path = f"/api/events/{event['eventId']}/double-entries"
    (double,) = client.get(path, operator.token).json["items"]
    assert double["code"] == tickets[0]["code"]
    assert [entry["gate"] for entry in double["entries"]] == ["A", "B"]


@pytest.mark.parametrize(
    "more",
    [
        {"code": "a", "qr": "b"},
        {},
        {"code": "a", "scannedAt": "0001-01-01T00:00:00+14:00"},
        {"code": "a\x00"},
        {"code": "a", "gate": "=1+1"},
        {"code": "a", "scanKey": "ä"},
    ],
)
def test_scans_that_do_not_fit_are_refused(
    client: Client, operator: Person, more: dict[str, str]
) -> None:
    scan = {"scanKey": "k", "scannedAt": "2026-01-01T00:00:00Z"} | more
    answer = client.post("/api/tickets/scans", {"scans": [scan]}, operator.token)
    refused(answer, 422, "invalid")


def test_a_full_upload_of_scans_is_taken_in_at_once(client: Client, operator: Person) -> None:
    scan = {"code": "00000-00000-000000-00000-00000", "scannedAt": "2026-01-01T00:00:00Z"}
    scans = [scan | {"scanKey": f"{uuid4().hex}"} for _ in range(5_000)]
    answer = client.post("/api/tickets/scans", {"scans": scans}, operator.token)
    assert answer.status == 200 and len(answer.json["results"]) == 5_000
    answer = client.post(
        "/api/tickets/scans", {"scans": [*scans, scan | {"scanKey": "x"}]}, operator.token
    )
    refused(answer, 422, "invalid")


def test_the_attendee_list_opens_safely_in_a_spreadsheet(
    client: Client, operator: Person, crowd: Iterator[Person]
) -> None:
    event = new_event(client, operator, 10)
    names = ["-2+3", 'Lê "Bi", Thị', "Đặng Ửng"]
    for name in names:
        buy(client, next(crowd), event, 1, ownerName=name)
    path = f"/api/events/{event['eventId']}/attendees"
    listed = client.get(f"{path}?limit=2", operator.token).json
    rest = client.get(f"{path}?limit=2&cursor={listed['nextCursor']}", operator.token).json
    assert [one["ownerName"] for one in listed["items"] + rest["items"]] == names
    answer = client.get(f"{path}?format=csv", operator.token)
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert f"attendees-{event['slug']}.csv" in answer.headers["content-disposition"]
    assert answer.body.startswith("\ufeff".encode())
    rows = list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"))))
    assert [row["ownerName"] for row in rows] == ["'-2+3", *names[1:]]
    refused(client.get(f"{path}?format=xml", operator.token), 422, "invalid")


def test_the_sales_report_agrees_with_the_ledger(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 10)
    buy(client, user, event, 3)
    sales = client.get(f"/api/events/{event['eventId']}/sales", operator.token).json
    assert sales["totals"] == {
        "quantity": 10, "free": 7, "held": 0, "sold": 3, "checkedIn": 0, "revenue": 300_000,
    }  # fmt: skip
    assert (sales["earned"], sales["agrees"]) == (300_000, True)


PATHS = (
    ("POST", "/api/events"),
    ("PATCH", "/api/events/{id}"),
    ("POST", "/api/events/{id}/publish"),
    ("POST", "/api/events/{id}/end"),
    ("POST", "/api/events/{id}/cancel"),
    ("POST", "/api/events/{id}/ticket-types"),
    ("PATCH", "/api/events/{id}/ticket-types/{id}"),
    ("GET", "/api/events/{id}/attendees"),
    ("GET", "/api/events/{id}/sales"),
    ("GET", "/api/events/{id}/double-entries"),
    ("POST", "/api/tickets/{id}/check-in"),
    ("POST", "/api/tickets/scans"),
)


@pytest.mark.parametrize(("method", "path"), PATHS, ids=[" ".join(one) for one in PATHS])
def test_what_is_for_operators_is_for_nobody_else(
    client: Client, user: Person, method: str, path: str
) -> None:
    path = path.replace("{id}", str(uuid4()))
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", uuid4().hex)]
    refused(client.send(method, path, headers, b"{}"), 401, "unauthenticated")
    headers.append(("Authorization", f"Bearer {user.token}"))
    refused(client.send(method, path, headers, b"{}"), 403, "operator_only")


def test_browsing_with_a_bad_token_is_not_browsing_without_one(client: Client) -> None:
    assert client.get("/api/events").status == 200
    refused(client.get("/api/events", "bad"), 401, "unauthenticated")


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


# Settings ---------------------------------------------------------------------------------------


def test_settings_say_how_long_and_how_often_seats_are_held(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("brief")
    chosen = {"reservation_ttl_s": "1", "reservations_per_event": "one"}
    with new_house(server, clones, folder, **chosen) as house:
        house.start_api()
        (operator,), (user,) = house.people(1, "operator"), house.people(1)
        with house.client() as client:
            event = new_event(client, operator, 5)
            id = reserve(client, user, event, 1)
            body = {"ticketTypeId": types_of(event)[0], "quantity": 1}
            again = client.post("/api/bookings/reserve", body, user.token)
            refused(again, 409, "already_reserved")

            def over() -> bool:
                found = client.get(f"/api/bookings/{id}", user.token).json
                return bool(found["status"] == "EXPIRED")

            eventually(over, "the reservation is over", 3)
            answer = client.post(
                f"/api/bookings/complete/{id}", {"paymentMethod": "CARD"}, user.token
            )
            refused(answer, 409, "reservation_expired")
            reserve(client, user, event, 5)


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done")
    house.assert_sound()
