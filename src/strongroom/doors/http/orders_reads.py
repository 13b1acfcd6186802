"""How the orders application's reads are asked and answered."""

from __future__ import annotations

from typing import Literal, cast, get_args

from strongroom.apps.orders.asked import Asked
from strongroom.apps.orders.catalogue import PUBLIC, ProductsAsked
from strongroom.apps.orders.customers import normalise
from strongroom.apps.orders.rows import CustomerSeen, OrderStatus, ProductSeen, Shelf
from strongroom.apps.orders.seen import (
    Customers,
    OrderDetail,
    Orders,
    Products,
    Stock,
    StockEntries,
)
from strongroom.doors.http.questions import is_operator, moment, one_of, owner, span, words
from strongroom.doors.http.routing import Call, OperatorOnly, Route, Routes
from strongroom.errors import NotFound, invalid

Active = Literal["true", "false"]


def _limit(call: Call) -> int:
    return call.number("limit", 50, 1, 200)


# Products ---------------------------------------------------------------------------------------


def _active(call: Call) -> tuple[bool, ...]:
    wanted = one_of(call, "active", get_args(Active))
    if wanted == "false" and not is_operator(call):
        raise OperatorOnly()
    if wanted is None:
        return (True, False) if is_operator(call) else PUBLIC
    return (wanted == "true",)


async def products(call: Call) -> Products:
    asked = ProductsAsked(words(call), _active(call))
    return await call.house.orders.catalogue.page(asked, call.query.get("cursor"), _limit(call))


async def product(call: Call) -> ProductSeen:
    """What is not on sale is there for operators alone."""
    found = await call.house.orders.catalogue.product(call.id("id"))
    if not (found.active or is_operator(call)):
        raise NotFound()
    return found


async def stock(call: Call) -> Stock:
    at, hidden = moment(call, "at"), is_operator(call)
    if at is None:
        return await call.house.orders.stock(call.id("id"), hidden=hidden)
    return await call.house.orders.stock_at(call.id("id"), at, hidden=hidden)


async def stock_entries(call: Call) -> StockEntries:
    after = call.number("after", call.number("cursor", 0, 0, 2**62), 0, 2**62)
    shelf = cast(Shelf, one_of(call, "account", get_args(Shelf)) or "free")
    return await call.house.orders.stock_entries(
        call.id("id"), shelf, after, _limit(call), hidden=is_operator(call)
    )


# Orders -----------------------------------------------------------------------------------------


async def orders(call: Call) -> Orders:
    since, until = span(call)
    asked = Asked(
        user_id=owner(call),
        status=cast(OrderStatus | None, one_of(call, "status", get_args(OrderStatus))),
        words=words(call),
        since=since,
        until=until,
    )
    return await call.house.orders.orders(asked, call.query.get("cursor"), _limit(call))


async def order(call: Call) -> OrderDetail:
    return await call.house.orders.order(call.params["idOrCode"], owner(call))


# Customers --------------------------------------------------------------------------------------


async def customers(call: Call) -> Customers:
    """A number that is whole finds its customer at once; words find fragments of it, too."""
    phone, asked = call.query.get("phone"), words(call)
    if phone is None:
        cursor = call.query.get("cursor")
        return await call.house.orders.customers(asked, cursor, _limit(call))
    if asked is not None:
        raise invalid("phone", "and q exclude each other")
    # A plus sign that was not encoded has come as a space.
    plain = "+" + phone.lstrip() if phone.startswith(" ") else phone
    return await call.house.orders.customer_of_phone(normalise(plain))


async def customer(call: Call) -> CustomerSeen:
    return await call.house.orders.customer(call.id("id"))


async def orders_of_customer(call: Call) -> Orders:
    found = await call.house.orders.customer(call.id("id"))
    asked = Asked(
        customer_id=found.customer_id,
        status=cast(OrderStatus | None, one_of(call, "status", get_args(OrderStatus))),
    )
    return await call.house.orders.orders(asked, call.query.get("cursor"), _limit(call))


PAGED = ("limit", "cursor")

ORDERS_READS: Routes = [
    Route(
        "GET",
        "/api/products",
        "public",
        200,
        "Products on sale, newest first; `q` finds fragments of SKU and name, with or without "
        "diacritics. Operators see all, `active` picks.",
        None,
        Products,
        read=products,
        query=("q", "active", *PAGED),
    ),
    Route(
        "GET",
        "/api/products/{id}",
        "public",
        200,
        "A product. `available` may be a second old.",
        None,
        ProductSeen,
        read=product,
    ),
    Route(
        "GET",
        "/api/products/{id}/stock",
        "user",
        200,
        "Where its pieces are, exactly; `at` a past time, where they were.",
        None,
        Stock,
        read=stock,
        query=("at",),
    ),
    Route(
        "GET",
        "/api/products/{id}/stock/entries",
        "user",
        200,
        "The movements of its pieces: `account` free, held or sold, ascending by seq.",
        None,
        StockEntries,
        read=stock_entries,
        query=("account", "after", *PAGED),
    ),
    Route(
        "GET",
        "/api/orders",
        "user",
        200,
        "One's own orders, newest first; operators see all. `q` finds the whole code, or fragments "
        "of code, phone and name; `from` and `to` are times or Vietnamese days. All of them as a "
        "file: /api/reports/orders.",
        None,
        Orders,
        read=orders,
        query=("status", "q", "from", "to", *PAGED),
    ),
    Route(
        "GET",
        "/api/orders/{idOrCode}",
        "user",
        200,
        "An order with its lines and its history.",
        None,
        OrderDetail,
        read=order,
    ),
    Route(
        "GET",
        "/api/customers",
        "operator",
        200,
        "Customers, newest first; `q` finds fragments of name and phone, `phone` one number.",
        None,
        Customers,
        read=customers,
        query=("q", "phone", *PAGED),
    ),
    Route(
        "GET",
        "/api/customers/{id}",
        "operator",
        200,
        "A customer.",
        None,
        CustomerSeen,
        read=customer,
    ),
    Route(
        "GET",
        "/api/customers/{id}/orders",
        "operator",
        200,
        "A customer's orders, newest first.",
        None,
        Orders,
        read=orders_of_customer,
        query=("status", *PAGED),
    ),
]
