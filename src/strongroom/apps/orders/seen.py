"""What is shown of products, customers and orders, beyond what commands answer."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from strongroom.apps.orders.rows import (
    CustomerSeen,
    Method,
    OrderStatus,
    PaymentStatus,
    ProductSeen,
    SalesOrder,
)
from strongroom.core.commands import Reply
from strongroom.core.db import Queries

sql = Queries(__package__, "reading.sql")


class Products(Reply, frozen=True):
    """A page of products, newest first."""

    items: list[ProductSeen]
    next_cursor: str | None


class Stock(Reply, frozen=True, omit_defaults=True):
    """Where the pieces of a product are, or were `at` a past moment."""

    available: int
    held: int
    sold: int
    at: datetime | UnsetType = UNSET


class StockEntry(Reply, frozen=True):
    """One movement of a product's pieces. For whom it was is for operators alone."""

    seq: int
    amount: int
    balance_after: int
    type: str
    reference: str | None
    idempotent_key: str | None
    created_by: str | None
    created_at: datetime


class StockEntries(Reply, frozen=True):
    """A page of movements, ascending by seq."""

    items: list[StockEntry]
    next_cursor: str | None


class Customers(Reply, frozen=True):
    """A page of customers, newest first."""

    items: list[CustomerSeen]
    next_cursor: str | None


class Buyer(Reply, frozen=True):
    """Whom an order is for, as the order said it."""

    customer_id: UUID
    name: str
    phone: str


class Payment(Reply, frozen=True):
    """How an order is paid."""

    method: Method
    status: PaymentStatus


class OrderListed(Reply, frozen=True, kw_only=True):
    """An order in a list."""

    order_id: UUID
    code: str
    status: OrderStatus
    total_amount: int
    customer: Buyer
    payment: Payment
    created_at: datetime


class Orders(Reply, frozen=True):
    """A page of orders, newest first."""

    items: list[OrderListed]
    next_cursor: str | None


class OrderStep(Reply, frozen=True, omit_defaults=True):
    """A status that an order came into; `by` whom is for operators alone."""

    status: OrderStatus
    at: datetime
    reason: str | None
    by: str | msgspec.UnsetType = UNSET


class OrderDetail(SalesOrder, frozen=True, kw_only=True):
    """An order in full, with each status that it came into."""

    history: list[OrderStep]
