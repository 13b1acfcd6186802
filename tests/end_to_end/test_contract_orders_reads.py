"""The contract of what is read of orders over HTTP: products, stock, lists, search, reports."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from end_to_end._client import Client
from end_to_end._contract import (  # noqa: F401
    CUSTOMER,
    PRODUCT,
    client,
    crowd,
    done,
    fits,
    house,
    new_product,
    operator,
    order,
    receive,
    refused,
    shown,
    stock,
    take,
    user,
    utc,
    uuid7,
)
from end_to_end._house import House, Person, eventually

PAGE = {"items": list, "nextCursor": lambda value: value is None or bool(value)}
LISTED = {
    "orderId": uuid7, "code": str, "status": str, "totalAmount": int, "customer": dict,
    "payment": dict, "createdAt": utc,
}  # fmt: skip
MOVEMENT = {
    "seq": int, "amount": int, "balanceAfter": int, "type": str, "reference": str,
    "idempotentKey": str, "createdBy": str, "createdAt": utc,
}  # fmt: skip


def page(client: Client, path: str, token: str | None = None) -> Any:
    return done(client.get(path, token), 200, PAGE)


def walk(client: Client, path: str, token: str | None, limit: int) -> list[Any]:
    """All items of a list, so many at a time."""
    found: list[Any] = []
    more = ""
    while True:
        one = page(client, f"{path}&limit={limit}{more}", token)
        assert len(one["items"]) <= limit
        found += one["items"]
        if one["nextCursor"] is None:
            return found
        more = f"&cursor={quote(one['nextCursor'])}"


# Products and stock -----------------------------------------------------------------------------


def test_products_are_found_by_anybody_with_or_without_diacritics(
    client: Client, operator: Person, user: Person
) -> None:
    word = f"Lụa{uuid4().hex[:8]}"
    sku = f"S-{uuid4().hex[:10]}"
    id = new_product(client, operator, 3, sku=sku, name=f"Áo dài {word} Hà Đông")
    for asked in (
        word,
        word.replace("ụ", "u").upper(),
        f"ao dai {word[3:]}",
        sku,
        sku[2:9].upper(),
    ):
        found = page(client, f"/api/products?q={quote(asked)}")["items"]
        assert [one["productId"] for one in found] == [id], asked

    def stocked() -> bool:
        (one,) = page(client, f"/api/products?q={sku}")["items"]
        return bool(fits(one, PRODUCT | {"sku": sku, "price": 50_000})["available"] == 3)

    eventually(stocked, "what is available is shown", 5)
    off = {"active": False}
    done(client.patch(f"/api/products/{id}", off, operator.token), 200, PRODUCT | off)
    assert page(client, f"/api/products?q={sku}", user.token)["items"] == []
    for token in (None, user.token):
        refused(client.get(f"/api/products/{id}", token), 404, "not_found")
    assert len(page(client, f"/api/products?q={sku}", operator.token)["items"]) == 1
    done(client.get(f"/api/products/{id}", operator.token), 200, PRODUCT | off)


def test_a_product_shows_at_once_what_was_changed_and_soon_what_is_available(
    client: Client, operator: Person, user: Person
) -> None:
    id = new_product(client, operator, 5)
    path = f"/api/products/{id}"
    assert client.get(path).json["price"] == 50_000
    for price in (1, 2, 3):
        done(client.patch(path, {"price": price}, operator.token), 200, PRODUCT | {"price": price})
        assert client.get(path).json["price"] == price
    order(client, user, (id, 4))
    assert stock(client, user, id) == (1, 4, 0)
    eventually(lambda: client.get(path).json["available"] == 1, "four are held", 5)


def test_products_page_newest_first(client: Client, operator: Person) -> None:
    word = uuid4().hex
    made = [new_product(client, operator, name=f"{word} {number}") for number in range(5)]
    found = walk(client, f"/api/products?q={word}", None, 2)
    assert [one["productId"] for one in found] == made[::-1]


def test_stock_is_told_as_of_any_past_time_with_every_movement(
    client: Client, house: House, operator: Person, user: Person
) -> None:
    id = new_product(client, operator)
    path = f"/api/products/{id}/stock"
    moments: list[tuple[datetime, tuple[int, int, int]]] = []

    def note() -> None:
        ((now,),) = house.rows("SELECT clock_timestamp()")
        moments.append((now, stock(client, user, id)))

    note()
    receive(client, operator, id, 9)
    note()
    placed = order(client, user, (id, 4))
    note()
    take(client, operator, placed["orderId"], "confirm", "ship")
    note()
    adjust = {"kind": "adjust", "quantity": -1, "reason": "Broken"}
    assert client.post(path, adjust, operator.token).status == 201
    note()
    take(client, operator, placed["orderId"], "return")
    note()
    held = [pieces for _, pieces in moments]
    assert held == [(0, 0, 0), (9, 0, 0), (5, 4, 0), (5, 0, 4), (4, 0, 4), (8, 0, 0)]
    for at, pieces in moments:
        text = quote(at.astimezone(UTC).isoformat())
        was = done(
            client.get(f"{path}?at={text}", user.token),
            200,
            {"available": int, "held": int, "sold": int, "at": utc},
        )
        assert (was["available"], was["held"], was["sold"]) == pieces
    future = quote((datetime.now(UTC) + timedelta(hours=1)).isoformat())
    refused(client.get(f"{path}?at={future}", user.token), 422, "invalid")
    found = walk(client, f"{path}/entries?account=free", operator.token, 2)
    told = [(fits(one, MOVEMENT)["seq"], one["amount"], one["type"]) for one in found]
    assert told == [
        (1, 9, "SUPPLY"), (2, -4, "HOLD"), (3, -1, "ADJUSTMENT"), (4, 4, "RETURN"),
    ]  # fmt: skip
    assert [one["reference"] for one in found] == [
        "A delivery", placed["code"], "Broken", placed["code"],
    ]  # fmt: skip
    assert page(client, f"{path}/entries", operator.token)["items"] == found
    after = page(client, f"{path}/entries?after=2", operator.token)["items"]
    assert after == found[2:]


# Orders -----------------------------------------------------------------------------------------


def test_everybody_sees_their_own_orders_and_operators_all(
    client: Client, operator: Person, user: Person, crowd: Iterator[Person]
) -> None:
    id, stranger = new_product(client, operator, 9), next(crowd)
    mine = [order(client, user, (id, 1)) for _ in range(3)]
    theirs = order(client, stranger, (id, 1))
    found = walk(client, "/api/orders?", user.token, 2)
    assert [fits(one, LISTED)["orderId"] for one in found] == [
        one["orderId"] for one in reversed(mine)
    ]
    newest = page(client, "/api/orders?limit=4", operator.token)["items"]
    assert [one["orderId"] for one in newest] == [
        one["orderId"] for one in (theirs, *reversed(mine))
    ]
    for named in (theirs["orderId"], theirs["code"], theirs["code"].lower()):
        foreign = refused(client.get(f"/api/orders/{named}", user.token), 404, "not_found")
        assert shown(client, operator, named) == shown(client, operator, theirs["orderId"])
    for nobody in (str(uuid4()), "SON999999999", "SON1", "SON000000", "no-id", "%00", "SON٣"):
        answer = client.get(f"/api/orders/{quote(nobody, safe='%')}", user.token)
        missing = refused(answer, 404, "not_found")
        assert foreign | {"requestId": ""} == missing | {"requestId": ""}
    assert page(client, f"/api/orders?q={theirs['code']}", user.token)["items"] == []


def test_orders_are_found_by_status_code_phone_name_and_time(
    client: Client, operator: Person, user: Person
) -> None:
    id, word = new_product(client, operator, 9), f"Hòa{uuid4().hex[:8]}"
    digits = f"{uuid4().int % 10**8:08}"
    customer = {"name": f"Trần Thị {word}", "phone": f"09{digits}"}
    placed = [order(client, user, (id, 1), customer=customer) for _ in range(3)]
    first, second, third = (one["orderId"] for one in placed)
    take(client, operator, second, "confirm")
    take(client, operator, third, "cancel")
    everything = [third, second, first]
    times = [
        datetime.fromisoformat(shown(client, user, one)["createdAt"])
        for one in (first, second, third)
    ]

    def found(query: str, person: Person = user) -> list[str]:
        return [
            one["orderId"] for one in page(client, f"/api/orders?{query}", person.token)["items"]
        ]

    for person in (user, operator):
        for q in (word, word.replace("ò", "o").upper(), f"tran thi {word[3:]}", f"09{digits}",
                  f"+849{digits}", digits[1:]):  # fmt: skip
            assert found(f"q={quote(q)}", person) == everything, q
        assert found(f"q={placed[1]['code']}", person) == [second]
        assert found(f"q={word[3:]}&status=CANCELLED", person) == [third]
        assert found(f"q={word[3:]}&status=SHIPPED", person) == []
    assert found("status=CONFIRMED") == [second]
    since, until = (quote(at.isoformat()) for at in (times[1], times[2]))
    assert found(f"from={since}&to={until}") == [second]
    assert found(f"from={since}") == [third, second]
    assert found(f"to={since}") == [first]
    history = [one["status"] for one in shown(client, user, second)["history"]]
    assert history == ["PENDING", "CONFIRMED"]


def test_customers_and_their_orders_are_for_operators(
    client: Client, operator: Person, user: Person
) -> None:
    id, phone = new_product(client, operator, 2), f"09{uuid4().int % 10**8:08}"
    placed = order(client, user, (id, 1), customer={"name": "Lê Văn Tám", "phone": phone})
    known = shown(client, operator, placed["orderId"])["customer"]["customerId"]
    (one,) = page(client, f"/api/customers?phone={phone}", operator.token)["items"]
    assert fits(one, CUSTOMER)["customerId"] == known
    done(client.get(f"/api/customers/{known}", operator.token), 200, CUSTOMER)
    (listed,) = page(client, f"/api/customers/{known}/orders", operator.token)["items"]
    assert listed["orderId"] == placed["orderId"]


@pytest.mark.parametrize(
    "path",
    ["/api/orders?status=X", "/api/orders?status=pending", "/api/orders?limit=0",
     "/api/orders?limit=201", "/api/orders?cursor=x", "/api/orders?from=morgen",
     "/api/orders?from=2026-02-30", "/api/orders?to=0001-01-01T00:00:00%2B14:00",
     "/api/orders?q=%00", "/api/orders?x=1", "/api/products?limit=0", "/api/products?cursor=x",
     "/api/products?active=1", "/api/customers?phone=12"],
)  # fmt: skip
def test_a_list_that_is_asked_wrongly_is_refused(
    client: Client, operator: Person, path: str
) -> None:
    refused(client.get(path, operator.token), 422, "invalid")


# Reports ----------------------------------------------------------------------------------------

REPORTS = ("/api/reports/revenue", "/api/reports/top-products", "/api/reports/customers")


def totals(client: Client, operator: Person) -> dict[str, int]:
    found: dict[str, int] = client.get("/api/reports/revenue", operator.token).json["totals"]
    return found


def test_revenue_follows_every_order_at_once(
    client: Client, operator: Person, user: Person
) -> None:
    id = new_product(client, operator, 9, price=1_000)
    before = totals(client, operator)
    one, two = order(client, user, (id, 2)), order(client, user, (id, 3))
    now = totals(client, operator)
    assert now["revenue"] - before["revenue"] == 5_000
    assert (now["orders"] - before["orders"], now["pieces"] - before["pieces"]) == (2, 5)
    take(client, user, one["orderId"], "cancel")
    take(client, operator, two["orderId"], "confirm", "ship", "deliver")
    now = totals(client, operator)
    assert now["revenue"] - before["revenue"] == 3_000
    assert now["cancelled"] - before["cancelled"] == 1
    (sold,) = (
        row
        for row in client.get("/api/reports/top-products?limit=100", operator.token).json["items"]
        if row["productId"] == id
    )
    assert (sold["pieces"], sold["revenue"]) == (3, 3_000)


def test_every_report_takes_a_range_and_a_period(client: Client, operator: Person) -> None:
    today = datetime.now(UTC)
    days = f"from={(today - timedelta(days=9)).date()}&to={today.date()}"
    since, until = ((today - timedelta(days=n)).replace(hour=0, minute=0) for n in (9, 0))
    times = f"from={since:%Y-%m-%dT%H:%M:%SZ}&to={until:%Y-%m-%dT%H:%M:%SZ}"
    for path in (*REPORTS, "/api/stats"):
        for by in ("day", "week", "month"):
            for span in (days, times):
                answer = client.get(f"{path}?{span}&by={by}", operator.token)
                assert answer.status == 200, (path, span, by, answer.body)
        refused(client.get(f"{path}?by=year", operator.token), 422, "invalid")
        turned = f"from={today.date()}&to={(today - timedelta(days=9)).date()}"
        refused(client.get(f"{path}?{turned}", operator.token), 422, "invalid")


def test_the_series_says_the_same_whatever_is_asked_around_it(
    client: Client, operator: Person, user: Person
) -> None:
    id = new_product(client, operator, 9)
    one, _ = [order(client, user, (id, 2)) for _ in range(2)]
    take(client, user, one["orderId"], "cancel")
    day = client.get("/api/stats", operator.token).json["series"][-1]["day"]

    def agrees() -> bool:
        plain = client.get("/api/stats", operator.token).json
        today = plain["series"][-1]
        assert {name: today[name] for name in plain["today"]} == plain["today"]
        path = f"/api/stats?from={day}&to={day}"
        return bool(client.get(path, operator.token).json["series"] == [today])

    eventually(agrees, "both say the same", 45)


def test_reports_come_as_tables_that_say_the_same(
    client: Client, operator: Person, user: Person
) -> None:
    order(client, user, (new_product(client, operator, 1), 1))
    for path in REPORTS:
        items = client.get(path, operator.token).json["items"]
        answer = client.get(f"{path}?format=csv", operator.token)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/csv")
        heading, *lines = csv.reader(io.StringIO(answer.body.decode("utf-8-sig")))
        assert set(heading) == set(items[0])
        table = [dict(zip(heading, line, strict=True)) for line in lines]
        assert len(table) == len(items)
        for row, item in zip(table, items, strict=True):
            plain = {name: text.removeprefix("'") for name, text in row.items()}  # no formula
            assert {name: str(value) for name, value in item.items()} == plain


def test_the_first_page_adds_up_all_orders(client: Client, house: House, operator: Person) -> None:
    def agrees() -> bool:
        stats = client.get("/api/stats", operator.token).json
        query = (
            "SELECT status::text, count(*), sum(total_amount)::bigint FROM orders.orders GROUP BY 1"
        )
        there = {status: (count, amount) for status, count, amount in house.rows(query)}
        told = {
            status: (one["orders"], one["amount"])
            for status, one in stats["byStatus"].items()
            if one["orders"]
        }
        return told == there

    eventually(agrees, "the figures are those of the orders", 45)


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done", 60)
    house.assert_sound()
