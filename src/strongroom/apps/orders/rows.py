"""The rows of the orders room, its accounts, and what others see of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from strongroom.core.commands import Kept, Reply
from strongroom.core.db import Queries, Table
from strongroom.core.ledger import AccountKey, world

sql = Queries(__package__, "orders.sql")

OrderStatus = Literal["PENDING", "CONFIRMED", "SHIPPED", "DELIVERED", "CANCELLED", "RETURNED"]
Method = Literal["COD", "MOMO", "ZALOPAY", "BANKING", "CARD"]
PaymentStatus = Literal["PENDING", "SUCCESS", "FAILED", "REFUNDED", "VOID"]
Shelf = Literal["free", "held", "sold"]

COD = "cod"
"""Who collects cash on delivery; a provider that nobody calls."""


@lru_cache(maxsize=65_536)
def pieces(product_id: UUID, shelf: Shelf) -> AccountKey:
    """Where the pieces of a product are; together always what was received and adjusted."""
    return AccountKey(product_id, shelf, unit(product_id))


def unit(product_id: UUID) -> str:
    return f"PIECE:{product_id}"


def outside(product_id: UUID) -> AccountKey:
    """Where pieces come from, and go when they are lost."""
    return world(unit(product_id))


@dataclass(slots=True)
class Product:
    """A product; its `free` account guards it."""

    id: UUID
    sku: str
    name: str
    price: int
    active: bool
    low_stock_at: int
    supplies: int = 0


@dataclass(slots=True)
class Customer:
    """Who orders are for; there is one for each phone number."""

    id: UUID
    phone: str
    name: str
    email: str | None
    address: str | None
    created_by: str


class Line(NamedTuple):
    """So many pieces of a product in an order, at the price it was placed for."""

    order_id: UUID
    product_id: UUID
    quantity: int
    unit_price: int


@dataclass(slots=True)
class Order:
    """An order. `payment_id` is its newest payment; of cash on delivery the order itself."""

    id: UUID
    code: str
    user_id: UUID | None
    customer_id: UUID
    customer_name: str
    phone: str
    address: str | None
    note: str | None
    status: OrderStatus
    total_amount: int
    payment_method: Method
    payment_status: PaymentStatus
    payment_id: UUID | None
    version: int
    expires_at: datetime
    created_at: datetime
    lines: list[Line] = field(default_factory=list)


PRODUCTS = Kept(
    Product,
    Table(
        "orders.products",
        {
            "id": "uuid",
            "sku": "text",
            "name": "text",
            "price": "bigint",
            "active": "boolean",
            "low_stock_at": "bigint",
            "supplies": "integer",
        },
    ),
    lock=sql.read_products,
    update=sql.update_products,
    changes=("sku", "name", "price", "active", "low_stock_at", "supplies"),
)
CUSTOMERS = Kept(
    Customer,
    Table(
        "orders.customers",
        {
            "id": "uuid",
            "phone": "text",
            "name": "text",
            "email": "text",
            "address": "text",
            "created_by": "text",
        },
    ),
    lock=sql.lock_customers,
    update=sql.update_customers,
    changes=("name", "email", "address"),
)
ORDERS = Kept(
    Order,
    Table(
        "orders.orders",
        {
            "id": "uuid",
            "code": "text",
            "user_id": "uuid?",
            "customer_id": "uuid",
            "customer_name": "text",
            "phone": "text",
            "address": "text",
            "note": "text",
            "status": "text",
            "total_amount": "bigint",
            "payment_method": "text",
            "payment_status": "text",
            "payment_id": "uuid?",
            "version": "integer",
            "expires_at": "timestamptz",
            "created_at": "timestamptz",
        },
    ),
    lock=sql.lock_orders,
    update=sql.update_orders,
    changes=("status", "payment_method", "payment_status", "payment_id", "version"),
)
LINES = Table(
    "orders.lines",
    {"order_id": "uuid", "product_id": "uuid", "quantity": "bigint", "unit_price": "bigint"},
)
HISTORY = Table(
    "orders.history",
    {
        "order_id": "uuid",
        "version": "integer",
        "status": "text",
        "at": "timestamptz",
        "by_whom": "text",
        "reason": "text",
    },
)
CODES = Table("orders.codes", {"number": "bigint", "order_id": "uuid"})


class ProductSeen(Reply, frozen=True, kw_only=True):
    """A product as everybody sees it; `available` as of `as_of`, and never a promise."""

    product_id: UUID
    sku: str
    name: str
    price: int
    active: bool
    available: int
    as_of: datetime
    low_stock_at: int

    @property
    def subject(self) -> UUID:
        return self.product_id


class StockSeen(Reply, frozen=True):
    """Where the pieces of a product are, and the number of its `free` account's last entry."""

    available: int
    held: int
    sold: int
    seq: int


class CustomerSeen(Reply, frozen=True, kw_only=True):
    """A customer; `phone` in E.164."""

    customer_id: UUID
    name: str
    phone: str
    email: str | None
    address: str | None

    @property
    def subject(self) -> UUID:
        return self.customer_id


class Recipient(Reply, frozen=True):
    """Whom an order is for, as the order said it."""

    customer_id: UUID
    name: str
    phone: str
    address: str | None


class OrderLine(Reply, frozen=True):
    """So many pieces of a product, at the price that holds for them."""

    product_id: UUID
    sku: str
    name: str
    quantity: int
    unit_price: int
    amount: int


class OrderPayment(Reply, frozen=True, omit_defaults=True):
    """How an order is paid. `redirect_url` leads to the provider while that is open."""

    method: Method
    status: PaymentStatus
    redirect_url: str | msgspec.UnsetType = msgspec.UNSET


class OrderPlaced(Reply, frozen=True, omit_defaults=True):
    """Stock is held for an order. With a payment to make, where to make it."""

    order_id: UUID
    code: str
    status: OrderStatus
    total_amount: int
    payment: OrderPayment | msgspec.UnsetType = msgspec.UNSET

    @property
    def subject(self) -> UUID:
        return self.order_id


class SalesOrder(Reply, frozen=True, kw_only=True):
    """An order with its lines."""

    order_id: UUID
    code: str
    status: OrderStatus
    total_amount: int
    customer: Recipient
    items: list[OrderLine]
    payment: OrderPayment
    note: str | None
    version: int
    created_at: datetime
    expires_at: datetime

    @property
    def subject(self) -> UUID:
        return self.order_id


def payment_seen(
    method: Method, status: PaymentStatus, order_id: UUID, payment_id: UUID | None
) -> OrderPayment:
    open = status == "PENDING" and payment_id is not None and payment_id != order_id
    return OrderPayment(method, status, f"/pay/{payment_id}" if open else msgspec.UNSET)


def order_seen(order: Order, products: Mapping[UUID, Any]) -> SalesOrder:
    """The order with the names that its products, rows of `read_products`, have now."""
    return SalesOrder(
        order_id=order.id,
        code=order.code,
        status=order.status,
        total_amount=order.total_amount,
        customer=Recipient(order.customer_id, order.customer_name, order.phone, order.address),
        items=[
            OrderLine(
                line.product_id,
                products[line.product_id]["sku"],
                products[line.product_id]["name"],
                line.quantity,
                line.unit_price,
                line.quantity * line.unit_price,
            )
            for line in order.lines
        ],
        payment=payment_seen(
            order.payment_method, order.payment_status, order.id, order.payment_id
        ),
        note=order.note,
        version=order.version,
        created_at=order.created_at.astimezone(UTC),
        expires_at=order.expires_at.astimezone(UTC),
    )
