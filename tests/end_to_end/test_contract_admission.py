"""The contract of tickets over HTTP: the door, papers, what operators see of an event."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest

from end_to_end._client import Client
from end_to_end._contract import (  # noqa: F401
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
from end_to_end._house import House, Person, eventually
from end_to_end._tickets import ADMITTED, buy, new_event, order_of, reserve
from strongroom.apps.ticketing.codes import Verifier, public_key_of

# At the door ------------------------------------------------------------------------------------


def test_a_ticket_admits_once_and_then_says_when_and_where_it_did(
    client: Client, operator: Person, user: Person
) -> None:
    event = new_event(client, operator, 10)
    booking = buy(client, user, event, 2)
    first, second = booking["tickets"]
    typed = quote(first["code"].lower().replace("-", " ").replace("0", "o"))
    entered = done(
        client.post(f"/api/tickets/{typed}/check-in", {"gate": "Cổng A"}, operator.token),
        200,
        ADMITTED | {"gate": "Cổng A", "ownerName": "Nguyễn Ái", "eventId": event["eventId"]},
    )
    for read in (first["qr"], first["code"]):
        again = client.post(f"/api/tickets/{read}/check-in", {"gate": "B"}, operator.token)
        said = again.json
        scan = {"checkedInAt": entered["checkedInAt"], "gate": "Cổng A"}
        assert (again.status, said["code"], said.pop("firstScan")) == (
            409, "already_checked_in", scan,
        )  # fmt: skip
        assert again.headers["content-type"] == "application/problem+json"
        assert set(said) == {"type", "title", "status", "code", "detail", "requestId"}
        assert entered["checkedInAt"][:19] in said["detail"] and "Cổng A" in said["detail"]
    answer = client.post(f"/api/tickets/{second['qr']}/check-in", b"", operator.token)
    done(answer, 200, ADMITTED | {"gate": None})
    order = order_of(client, user, booking["orderId"])
    assert [one["status"] for one in order["tickets"]] == ["CHECKED_IN"] * 2


def test_a_gate_that_is_cut_off_can_verify_what_it_reads(
    client: Client, operator: Person, user: Person
) -> None:
    ticket = buy(client, user, new_event(client, operator, 1), 1)["tickets"][0]
    key = fits(
        client.get("/api/tickets/public-key").json,
        {"algorithm": "Ed25519", "keyId": str, "key": str, "pem": str},
    )
    verifier = Verifier([public_key_of(key["pem"])])
    assert verifier.verify(ticket["qr"]).code == ticket["code"]


def test_a_forged_pass_does_not_admit(client: Client, operator: Person, user: Person) -> None:
    qr = buy(client, user, new_event(client, operator, 1), 1)["tickets"][0]["qr"]
    forged = qr[:-1] + ("1" if qr[-1] == "0" else "0")
    for text, code in ((forged, "bad_signature"), ("SR1.ABC", "malformed_pass")):
        refused(client.post(f"/api/tickets/{text}/check-in", {}, operator.token), 422, code)
    for text in ("00000-00000-000000-00000-00000", "nonsense", "%00%FF", "a" * 500):
        refused(client.post(f"/api/tickets/{text}/check-in", {}, operator.token), 404, "not_found")


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


# Papers and reports ------------------------------------------------------------------------------


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


def prints() -> bool:
    """Whether this machine has what PDFs are made with."""
    try:
        importlib.import_module("weasyprint")
    except (ImportError, OSError):
        return False
    return True


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
        "pdf": ("application/pdf", b"%PDF-"),
        "ics": ("text/calendar; charset=utf-8", b"BEGIN:VCALENDAR"),
    }
    for ending, (media, first) in begins.items():
        path = f"/api/tickets/{code}.{ending}"
        for who in (user, operator):
            answer = client.get(path, who.token)
            if ending == "pdf" and not prints():
                refused(answer, 409, "pdf_missing")
                continue
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
    for ending in begins.keys() - {"ics"}:
        refused(client.get(f"/api/tickets/{code}.{ending}", user.token), 409, "ticket_cancelled")
    assert b"STATUS:CANCELLED" in client.get(f"/api/tickets/{code}.ics", user.token).body


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


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done", 60)
    house.assert_sound()
