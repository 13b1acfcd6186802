"""The contract of orders over HTTP: products, stock, customers, orders, their steps and payments."""

# ruff: noqa: F811  # fixtures are found by name

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from end_to_end._client import Answer, Client
from end_to_end._contract import (  # noqa: F401
    CUSTOMER,
    LAN,
    ORDER,
    ORDER_LINE,
    PLACED,
    PRODUCT,
    SANDBOX_SECRET,
    STOCK,
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
    wanted,
)
from end_to_end._house import START_S, House, Person, eventually, new_house
from end_to_end._tickets import tell
from serving import Clones, Server

WAITS = 14_009
"""A price at which the sandbox leaves everything to its page and to callbacks."""

LATE = 14_003
"""A price that the sandbox takes 3 s after the time for it is over."""

SOON_S = 8.0
"""What takes a second on a machine of its own."""


def becomes(
    client: Client, person: Person, order_id: str, status: str, payment: str
) -> dict[str, Any]:
    """The order, once it and its payment have come there."""

    def there() -> dict[str, Any] | None:
        found = shown(client, person, order_id)
        return found if (found["status"], found["payment"]["status"]) == (status, payment) else None

    found: dict[str, Any] = eventually(there, f"the order is {status}, {payment}", SOON_S)
    return found


def with_facts(answer: Answer, status: int, code: str, *facts: str) -> dict[str, Any]:
    """A refusal that states facts beside what every problem says."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json
    known = {"type", "title", "status", "code", "detail", "requestId"}
    assert (said["code"], set(said)) == (code, known | set(facts))
    return said


# Products and stock -----------------------------------------------------------------------------


def test_a_product_is_added_changed_and_stocked(client: Client, operator: Person) -> None:
    sku = f"AO/{uuid4().hex[:8]}.a_b-1"
    body = {"sku": sku, "name": "Áo dài lụa", "price": 0}
    answer = client.post("/api/products", body, operator.token, f"add-{sku[3:11]}")
    made = done(answer, 201, PRODUCT | body | {"active": True, "available": 0, "lowStockAt": 10})
    again = client.post("/api/products", body, operator.token, f"add-{sku[3:11]}")
    assert (again.status, again.body) == (201, answer.body)
    path = f"/api/products/{made['productId']}"
    more = {"price": 70_000, "active": False, "lowStockAt": 3}
    done(client.patch(path, more, operator.token), 200, PRODUCT | body | more)
    done(client.patch(path, {}, operator.token), 200, PRODUCT | body | more)
    assert receive(client, operator, made["productId"], 12) == {
        "available": 12, "held": 0, "sold": 0, "seq": 1,
    }  # fmt: skip
    for change, left in ((-2, 10), (5, 15)):
        adjust = {"kind": "adjust", "quantity": change, "reason": "Counted"}
        answer = client.post(f"{path}/stock", adjust, operator.token)
        done(answer, 201, STOCK | {"available": left, "held": 0, "sold": 0})
    answer = client.patch(path, {"active": True}, operator.token)
    assert done(answer, 200, PRODUCT)["available"] == 15


def test_a_sku_names_one_product(client: Client, operator: Person) -> None:
    sku = uuid4().hex
    new_product(client, operator, sku=sku)
    other = new_product(client, operator)
    body = {"sku": sku, "name": "Another", "price": 1}
    refused(client.post("/api/products", body, operator.token), 409, "sku_taken")
    answer = client.patch(f"/api/products/{other}", {"sku": sku}, operator.token)
    refused(answer, 409, "sku_taken")


def test_only_what_is_free_can_be_taken_away(
    client: Client, operator: Person, user: Person
) -> None:
    id = new_product(client, operator, 5)
    order(client, user, (id, 2))
    path, less = f"/api/products/{id}/stock", {"kind": "adjust", "quantity": -4, "reason": "Lost"}
    refused(client.post(path, less, operator.token), 409, "out_of_stock")
    answer = client.post(path, less | {"quantity": -3}, operator.token)
    done(answer, 201, STOCK | {"available": 0, "held": 2, "sold": 0})


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "receive", "quantity": 0},
        {"kind": "receive", "quantity": -1},
        {"kind": "adjust", "quantity": 0},
        {"kind": "receive", "quantity": 1_000_000_001},
        {"kind": "receive", "quantity": 1, "reason": ""},
        {"kind": "receive", "quantity": 1, "reason": None},
        {"kind": "sell", "quantity": 1},
        {"kind": "receive", "quantity": 1, "available": 5},
    ],
)
def test_a_movement_of_stock_that_does_not_fit_is_refused(
    client: Client, operator: Person, body: dict[str, Any]
) -> None:
    path = f"/api/products/{new_product(client, operator)}/stock"
    refused(client.post(path, {"reason": "A reason"} | body, operator.token), 422, "invalid")


@pytest.mark.parametrize(
    "more",
    [
        {"sku": ""},
        {"sku": "A B"},
        {"sku": "-A"},
        {"sku": "Á1"},
        {"sku": "A" * 65},
        {"sku": "A\n"},
        {"name": ""},
        {"name": "=cmd()"},
        {"name": "a" * 201},
        {"price": -1},
        {"price": 10**15 + 1},
        {"price": "5"},
        {"active": 1},
        {"lowStockAt": -1},
        {"available": 5},
    ],
)
def test_a_product_that_does_not_fit_is_refused(
    client: Client, operator: Person, more: dict[str, Any]
) -> None:
    body = {"sku": uuid4().hex, "name": "Áo", "price": 1} | more
    refused(client.post("/api/products", body, operator.token), 422, "invalid")
    path = f"/api/products/{new_product(client, operator)}"
    refused(client.patch(path, more, operator.token), 422, "invalid")


# Customers --------------------------------------------------------------------------------------


def phone() -> str:
    """A number nobody else in these tests has."""
    return f"09{uuid4().int % 10**8:08}"


def test_a_customer_is_known_by_the_phone_number_however_it_is_written(
    client: Client, operator: Person, user: Person
) -> None:
    said = phone()
    body = {"name": "Trần Văn Nam", "phone": f"{said[:4]} {said[4:7]}.{said[7:]}"}
    made = done(client.post("/api/customers", body, operator.token), 201, CUSTOMER)
    assert (made["phone"], made["email"], made["address"]) == (f"+84{said[1:]}", None, None)
    for written in (
        said,
        f"+84{said[1:]}",
        f"84{said[1:]}",
        f"0084 {said[1:]}",
        f"+84 (0){said[1:]}",
        f"(+84) {said[1:]}",
    ):
        again = client.post("/api/customers", body | {"phone": written}, operator.token)
        refused(again, 409, "phone_taken")
        id = new_product(client, operator, 1)
        customer = {"name": "Anh Nam", "phone": written, "address": "1 Lê Lợi, Huế"}
        placed = order(client, user, (id, 1), customer=customer)
        seen = take(client, operator, placed["orderId"], "confirm")
        assert seen["customer"] == {
            "customerId": made["customerId"], "name": "Anh Nam", "phone": made["phone"],
            "address": "1 Lê Lợi, Huế",
        }  # fmt: skip
    path = f"/api/customers/{made['customerId']}"
    more = {"email": "nam@example.com", "address": "2 Lê Lợi"}
    done(client.patch(path, more, operator.token), 200, CUSTOMER | {"name": body["name"]} | more)
    answer = client.patch(path, {"email": None}, operator.token, "")
    done(answer, 200, CUSTOMER | {"email": None, "address": "2 Lê Lợi"})
    refused(client.patch(path, {"phone": phone()}, operator.token), 422, "invalid")


def test_an_order_may_name_a_customer_whom_its_buyer_has_ordered_for(
    client: Client, operator: Person, user: Person, crowd: Iterator[Person]
) -> None:
    id, customer = new_product(client, operator, 9), {"name": "Hoa", "phone": phone()}
    placed = order(client, user, (id, 1), customer=customer, address="3 Lê Lợi")
    known = take(client, operator, placed["orderId"], "confirm")["customer"]
    body = wanted((id, 1)) | {"customerId": known["customerId"]}
    del body["customer"]
    done(client.post("/api/orders", body, user.token), 201, PLACED)
    done(client.post("/api/orders", body, operator.token), 201, PLACED)
    refused(client.post("/api/orders", body, next(crowd).token), 404, "not_found")
    nobody = body | {"customerId": str(uuid4())}
    refused(client.post("/api/orders", nobody, operator.token), 404, "not_found")


@pytest.mark.parametrize(
    "said",
    [
        "12345",
        "0123",
        "+84012345",
        "09123456789012",
        "091234567a",
        "+0912345678",
        "09123+45678",
        "hello12",
    ],
)
def test_what_is_no_phone_number_is_refused(
    client: Client, operator: Person, user: Person, said: str
) -> None:
    body = wanted((str(uuid4()), 1), customer={"name": "Lan", "phone": said})
    refused(client.post("/api/orders", body, user.token), 422, "invalid")
    refused(client.post("/api/customers", body["customer"], operator.token), 422, "invalid")


# Orders -----------------------------------------------------------------------------------------


def test_an_order_is_placed_confirmed_shipped_and_delivered(
    client: Client, operator: Person, user: Person
) -> None:
    one, two = new_product(client, operator, 5), new_product(client, operator, 5, price=7)
    placed = order(client, user, (one, 1), (two, 3), (one, 1), note="Gọi trước khi giao")
    assert placed["totalAmount"] == 2 * 50_000 + 3 * 7
    assert stock(client, operator, one) == (3, 2, 0)
    path = f"/api/orders/{placed['orderId']}"
    answer = client.post(f"{path}/confirm", b"", operator.token)
    seen = done(answer, 200, ORDER | {"status": "CONFIRMED", "note": "Gọi trước khi giao"})
    lines = {fits(line, ORDER_LINE)["productId"]: line for line in seen["items"]}
    assert (lines[one]["quantity"], lines[one]["amount"]) == (2, 100_000)
    assert (lines[two]["unitPrice"], lines[two]["amount"]) == (7, 21)
    assert (seen["code"], seen["totalAmount"]) == (placed["code"], placed["totalAmount"])
    assert seen["payment"] == {"method": "COD", "status": "PENDING"}
    assert take(client, operator, placed["orderId"], "ship")["status"] == "SHIPPED"
    assert stock(client, operator, one) == (3, 0, 2)
    seen = take(client, operator, placed["orderId"], "deliver")
    assert (seen["status"], seen["payment"]["status"]) == ("DELIVERED", "SUCCESS")
    for named in (placed["orderId"], placed["code"], placed["code"].lower()):
        found = shown(client, user, named)
        assert {name: found[name] for name in ORDER} == seen
    seen = take(client, operator, placed["orderId"], "return")
    assert (seen["status"], seen["payment"]["status"]) == ("RETURNED", "REFUNDED")
    assert stock(client, operator, one) == (5, 0, 0)


STEPS_FROM = {
    "PENDING": {"confirm": "CONFIRMED", "cancel": "CANCELLED"},
    "CONFIRMED": {"ship": "SHIPPED", "cancel": "CANCELLED"},
    "SHIPPED": {"deliver": "DELIVERED", "return": "RETURNED"},
    "DELIVERED": {"return": "RETURNED"},
    "CANCELLED": {},
    "RETURNED": {},
}
WAY_TO: dict[str, tuple[str, ...]] = {
    "PENDING": (),
    "CONFIRMED": ("confirm",),
    "SHIPPED": ("confirm", "ship"),
    "DELIVERED": ("confirm", "ship", "deliver"),
    "CANCELLED": ("cancel",),
    "RETURNED": ("confirm", "ship", "return"),
}
ALL_STEPS = ("confirm", "ship", "deliver", "return", "cancel")


@pytest.mark.parametrize("state", STEPS_FROM)
def test_from_each_state_only_its_steps_lead_on_and_the_others_say_where_it_stands(
    client: Client, operator: Person, user: Person, state: str
) -> None:
    id = new_product(client, operator, 5)
    for step in ALL_STEPS:
        placed = order(client, user, (id, 1))
        take(client, operator, placed["orderId"], *WAY_TO[state])
        path, key = f"/api/orders/{placed['orderId']}/{step}", f"{state}-{placed['orderId']}"
        answer = client.post(path, {"reason": "As it was asked"}, operator.token, key)
        after = STEPS_FROM[state].get(step)
        if after:
            done(answer, 200, ORDER | {"status": after})
            assert shown(client, user, placed["orderId"])["status"] == after
        else:
            assert state in refused(answer, 409, "wrong_state")["detail"]
            assert shown(client, user, placed["orderId"])["status"] == state
        again = client.post(path, {"reason": "As it was asked"}, operator.token, key)
        assert (again.status, again.body) == (answer.status, answer.body)
        assert again.headers["idempotency-replayed"] == "true"
        refused(client.post(path, {}, operator.token), 409, "wrong_state")


def test_a_buyer_may_cancel_and_nothing_else(
    client: Client, operator: Person, user: Person, crowd: Iterator[Person]
) -> None:
    id = new_product(client, operator, 5)
    placed = order(client, user, (id, 5))
    path, stranger = f"/api/orders/{placed['orderId']}", next(crowd)
    for step in ("confirm", "ship", "deliver", "return"):
        refused(client.post(f"{path}/{step}", {}, user.token), 403, "operator_only")
    for step, body in (("cancel", {}), ("pay", {"paymentMethod": "CARD"})):
        foreign = refused(client.post(f"{path}/{step}", body, stranger.token), 404, "not_found")
        nobody = f"/api/orders/{uuid4()}/{step}"
        missing = refused(client.post(nobody, body, stranger.token), 404, "not_found")
        assert foreign | {"requestId": ""} == missing | {"requestId": ""}
    take(client, operator, placed["orderId"], "confirm")
    seen = take(client, user, placed["orderId"], "cancel")
    assert (seen["status"], seen["payment"]["status"]) == ("CANCELLED", "VOID")
    assert stock(client, operator, id) == (5, 0, 0)
    order(client, user, (id, 5))


def test_an_order_is_refused_whole_by_what_there_is_and_what_is_sold(
    client: Client, operator: Person, user: Person
) -> None:
    plenty, few = new_product(client, operator, 9), new_product(client, operator, 2)
    body = wanted((plenty, 1), (few, 1), (few, 2))
    answer = client.post("/api/orders", body, user.token, "too-many")
    said = with_facts(answer, 409, "out_of_stock", "short")
    (short,) = said["short"]
    assert (short["productId"], short["wanted"], short["available"]) == (few, 3, 2)
    assert stock(client, operator, plenty) == (9, 0, 0)
    receive(client, operator, few, 5)
    again = client.post("/api/orders", body, user.token, "too-many")
    assert (again.status, again.body) == (409, answer.body)
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/api/orders", wanted((few, 1)), user.token, "too-many")
    refused(other, 422, "idempotency_key_reused")
    done(client.post("/api/orders", body, user.token), 201, PLACED)
    gone = {"active": False}
    done(client.patch(f"/api/products/{few}", gone, operator.token), 200, PRODUCT | gone)
    answer = client.post("/api/orders", wanted((plenty, 1), (few, 1)), user.token)
    assert with_facts(answer, 409, "not_for_sale", "productId")["productId"] == few
    answer = client.post("/api/orders", wanted((plenty, 1), (str(uuid4()), 1)), user.token)
    refused(answer, 404, "not_found")
    dear = new_product(client, operator, 2, price=10**15)
    refused(client.post("/api/orders", wanted((dear, 2)), user.token), 422, "invalid")
    assert stock(client, operator, dear) == (2, 0, 0)


ONE = {"productId": str(uuid4()), "quantity": 1}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"customer": LAN},
        {"items": [ONE]},
        {"customer": LAN, "items": []},
        {"customer": LAN, "items": [ONE] * 101},
        {"customer": LAN, "items": [{"productId": str(uuid4())}]},
        {"customer": LAN, "items": [ONE | {"quantity": 0}]},
        {"customer": LAN, "items": [ONE | {"quantity": 1_000_000_001}]},
        {"customer": LAN, "items": [ONE | {"price": 1}]},
        {"customer": LAN, "customerId": str(uuid4()), "items": [ONE]},
        {"customer": LAN | {"email": "none"}, "items": [ONE]},
        {"customer": {"phone": "0912345678"}, "items": [ONE]},
        {"customer": {"name": "Lan"}, "items": [ONE]},
        {"customer": LAN, "items": [ONE], "paymentMethod": "CASH"},
        {"customer": LAN, "items": [ONE], "userId": str(uuid4())},
        {"customer": LAN, "items": [ONE], "totalAmount": 1},
        {"customer": LAN, "items": [ONE], "note": "<b>"},
    ],
)
def test_an_order_that_does_not_fit_is_refused(
    client: Client, user: Person, body: dict[str, Any]
) -> None:
    refused(client.post("/api/orders", body, user.token), 422, "invalid")


def test_an_order_keeps_its_prices_and_its_answer(
    client: Client, operator: Person, user: Person
) -> None:
    id = new_product(client, operator, 3)
    first = client.post("/api/orders", wanted((id, 3)), user.token, "kept")
    done(client.patch(f"/api/products/{id}", {"price": 1}, operator.token), 200, PRODUCT)
    again = client.post("/api/orders", wanted((id, 3)), user.token, "kept")
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["idempotency-replayed"] == "true"
    assert stock(client, operator, id) == (0, 3, 0)
    seen = take(client, operator, first.json["orderId"], "confirm")
    assert (seen["totalAmount"], seen["items"][0]["unitPrice"]) == (150_000, 50_000)


# Payments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["MOMO", "ZALOPAY", "BANKING", "CARD"])
def test_a_prepaid_order_is_confirmed_within_seconds(
    client: Client, operator: Person, user: Person, method: str
) -> None:
    id = new_product(client, operator, 1)
    placed = order(client, user, (id, 1), paymentMethod=method)
    payment = fits(placed["payment"], {"method": method, "status": "PENDING", "redirectUrl": str})
    assert re.fullmatch(r"/pay/[0-9a-f-]{36}", payment["redirectUrl"])
    seen = becomes(client, user, placed["orderId"], "CONFIRMED", "SUCCESS")
    assert seen["payment"] == {"method": method, "status": "SUCCESS"}
    seen = take(client, user, placed["orderId"], "cancel")
    assert seen["payment"] == {"method": method, "status": "REFUNDED"}
    assert stock(client, operator, id) == (1, 0, 0)


def test_what_costs_nothing_is_paid_at_once(client: Client, operator: Person, user: Person) -> None:
    id = new_product(client, operator, 2, price=0)
    placed = order(client, user, (id, 1), paymentMethod="CARD")
    assert (placed["totalAmount"], placed["payment"]) == (
        0,
        {"method": "CARD", "status": "SUCCESS"},
    )
    seen = take(client, operator, placed["orderId"], "confirm", "ship", "deliver", "return")
    assert seen["payment"]["status"] == "VOID"


@pytest.mark.parametrize(
    ("price", "status", "payment"),
    [
        (14_001, "PENDING", "FAILED"),
        (14_004, "CONFIRMED", "SUCCESS"),
        (14_005, "CONFIRMED", "SUCCESS"),
        (14_006, "PENDING", "FAILED"),
        (24_006, "PENDING", "FAILED"),
        (14_007, "PENDING", "PENDING"),
    ],
)
def test_the_last_digits_of_an_amount_choose_how_its_payment_goes(
    client: Client,
    house: House,
    operator: Person,
    user: Person,
    price: int,
    status: str,
    payment: str,
) -> None:
    id = new_product(client, operator, 1, price=price)
    placed = order(client, user, (id, 1), paymentMethod="MOMO")
    becomes(client, user, placed["orderId"], status, payment)
    kept = "SELECT sum(amount) FROM payments.refunds WHERE payment_id = %s"
    ((returned,),) = house.rows(kept, placed["payment"]["redirectUrl"].rpartition("/")[2])
    taken = {14_006: price + 1000, 24_006: price - 1000}.get(price)
    assert returned == taken
    if payment == "FAILED":
        waiting = refused(
            client.post(f"/api/orders/{placed['orderId']}/confirm", {}, operator.token),
            409,
            "not_paid",
        )
        assert waiting["detail"]


def test_a_failed_payment_may_be_tried_again_or_be_cash(
    client: Client, operator: Person, user: Person
) -> None:
    id = new_product(client, operator, 2, price=WAITS)
    first, second = [order(client, user, (id, 1), paymentMethod="CARD") for _ in range(2)]
    path = f"/api/orders/{first['orderId']}/pay"
    answer = client.post(path, {"paymentMethod": "MOMO"}, user.token)
    refused(answer, 409, "wrong_state")  # one is under way
    for placed in (first, second):
        assert tell(client, placed["payment"], WAITS, "FAILED").status == 200
        becomes(client, user, placed["orderId"], "PENDING", "FAILED")
    answer = client.post(path, {"paymentMethod": "MOMO"}, user.token)
    other = done(answer, 200, PLACED | {"payment": dict})
    assert other["payment"]["redirectUrl"] != first["payment"]["redirectUrl"]
    for _ in range(2):
        assert tell(client, other["payment"], WAITS).status == 200
    seen = becomes(client, user, first["orderId"], "CONFIRMED", "SUCCESS")
    assert seen["payment"] == {"method": "MOMO", "status": "SUCCESS"}
    refused(client.post(path, {"paymentMethod": "MOMO"}, user.token), 409, "wrong_state")
    answer = client.post(
        f"/api/orders/{second['orderId']}/pay", {"paymentMethod": "COD"}, user.token
    )
    paid = done(answer, 200, PLACED | {"payment": {"method": "COD", "status": "PENDING"}})
    seen = take(client, operator, paid["orderId"], "confirm", "ship", "deliver")
    assert seen["payment"] == {"method": "COD", "status": "SUCCESS"}


# The clock --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brief(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """A house where orders wait for a second."""
    chosen = {"order_payment_ttl_s": "1", "sandbox_secret": SANDBOX_SECRET}
    with new_house(server, clones, tmp_path_factory.mktemp("lapsing"), **chosen) as house:
        house.start_api()
        worker = house.start_worker()
        eventually(
            lambda: '"event": "leads"' in worker.log.read_text(), "the worker leads", START_S
        )
        yield house
        eventually(house.drained, "the worker is done", 60)
        house.assert_sound()


LAPSED_S = 5.0
"""A chore of every second, on two cores that other tests use too."""


def test_an_order_that_nobody_pays_or_confirms_lapses_and_gives_its_stock_back(
    brief: House,
) -> None:
    (operator,), (user,) = brief.people(1, "operator"), brief.people(1)
    with brief.client() as client:
        id = new_product(client, operator, 6, price=WAITS)
        first = client.post("/api/orders", wanted((id, 1)), user.token, "the-first")
        lapsing = [
            first.json,
            order(client, user, (id, 1), paymentMethod="CARD"),
        ]
        kept = order(client, user, (id, 1))
        take(client, operator, kept["orderId"], "confirm")
        for placed in lapsing:
            becomes(client, user, placed["orderId"], "CANCELLED", "VOID")
            query = """SELECT h.by_whom, h.reason, extract(epoch FROM h.at - o.expires_at)::float
                FROM orders.history h JOIN orders.orders o ON o.id = h.order_id
                WHERE o.id = %s AND h.status = 'CANCELLED'"""
            ((by, reason, lag),) = brief.rows(query, placed["orderId"])
            assert (by, reason) == ("worker:chores", "unpaid")
            assert 0 <= lag < LAPSED_S
            answer = client.post(f"/api/orders/{placed['orderId']}/cancel", {}, user.token)
            assert "CANCELLED" in refused(answer, 409, "wrong_state")["detail"]
        assert stock(client, operator, id) == (5, 1, 0)
        assert shown(client, user, kept["orderId"])["status"] == "CONFIRMED"
        again = client.post("/api/orders", wanted((id, 1)), user.token, "the-first")
        assert (again.status, again.body) == (201, first.body)


def test_money_that_comes_after_an_order_has_lapsed_goes_back_whole(brief: House) -> None:
    (operator,), (user,) = brief.people(1, "operator"), brief.people(1)
    with brief.client() as client:
        id = new_product(client, operator, 1, price=LATE)
        placed = order(client, user, (id, 1), paymentMethod="BANKING")
        payment = placed["payment"]["redirectUrl"].rpartition("/")[2]
        query = """SELECT p.captured, r.amount FROM payments.payments p
            JOIN payments.refunds r ON r.payment_id = p.id WHERE p.id = %s"""
        came = eventually(lambda: brief.rows(query, payment), "the money has come and gone")
        assert came == [(LATE, LATE)]
        seen = shown(client, user, placed["orderId"])
        assert (seen["status"], seen["payment"]["status"]) == ("CANCELLED", "REFUNDED")
        assert stock(client, operator, id) == (1, 0, 0)


def test_at_the_end_all_books_balance_and_no_process_met_a_bug(house: House) -> None:
    eventually(house.drained, "the workers are done", 60)
    house.assert_sound()
