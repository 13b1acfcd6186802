"""What tests of orders do again and again: products in stock, orders placed, steps taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.apps.orders.products import CreateProduct, MoveStock
from strongroom.apps.orders.rows import COD, OrderPlaced, OrderSeen
from strongroom.apps.orders.steps import RecordPayment, Step, TakeStep
from strongroom.core.ledger import clearing, revenue
from strongroom.doors.worker import Worker, worker_of
from strongroom.ids import uuid7
from strongroom.main import Strongroom

PRICE = 50_000

PAGE = 14_009
"""A price that the sandbox leaves to its page: it pays nothing by itself."""

OURS = ("orders_pay",)
"""The queues that decide; the others call somebody outside."""


async def new_product(
    house: Strongroom, stock: int = 100, *, price: int = PRICE, sku: str | None = None, **more: Any
) -> UUID:
    """A product with so many pieces free."""
    sku = sku or f"SKU-{str(uuid7())[-12:]}"
    made = await house.run(CreateProduct(sku, f"Áo dài {sku}", price, **more))
    id: UUID = made.product_id
    if stock:
        await house.run(MoveStock(id, "receive", stock, "first delivery"))
    return id


def buyer(number: int = 0) -> Recipient:
    """A customer with a phone number of their own."""
    return Recipient(f"+849{number:08}", f"Nguyễn Thị {number}")


async def place(
    house: Strongroom,
    *lines: tuple[UUID, int],
    user: UUID | None = None,
    customer: Recipient | UUID | None = None,
    ttl_s: int = 3600,
    **more: Any,
) -> OrderPlaced:
    command = PlaceOrder(user or uuid7(), customer or buyer(), lines, ttl_s, **more)
    placed: OrderPlaced = await house.run(command)
    return placed


async def take(house: Strongroom, order: UUID, *steps: Step, **more: Any) -> OrderSeen:
    """Takes the steps one after the other; the order after the last."""
    for step in steps:
        seen: OrderSeen = await house.run(TakeStep(order, step, **more))
    return seen


async def payment_of(house: Strongroom, order: UUID) -> UUID:
    """The newest payment of an order."""
    id: UUID = await house.database.fetchval(
        "SELECT payment_id FROM orders.orders WHERE id = $1", order
    )
    return id


async def tell(
    house: Strongroom, order: UUID, result: str = "SUCCESS", *, amount: int | None = None
) -> UUID:
    """The provider says what became of the order's newest payment."""
    payment = await payment_of(house, order)
    if amount is None:
        amount = await house.database.fetchval(
            "SELECT amount FROM payments.payments WHERE id = $1", payment
        )
    told = RecordPayment(payment, result, amount, f"REF-{payment}")  # type: ignore[arg-type]
    await house.run(told)
    return payment


def worker(house: Strongroom) -> Worker:
    return worker_of(house)


async def stock(house: Strongroom, product: UUID) -> tuple[int, int, int]:
    """Free, held and sold pieces."""
    rows = await house.database.fetch(
        "SELECT purpose, balance FROM ledger.accounts WHERE owner_id = $1", product
    )
    found: Mapping[str, int] = dict(map(tuple, rows))
    return found["free"], found["held"], found["sold"]


async def money(house: Strongroom) -> tuple[int, int, int]:
    """What orders have brought in, what the sandbox owes us, and what couriers do."""
    keys = [revenue(), clearing("sandbox"), clearing(COD)]
    rows = await house.database.fetch(
        "SELECT owner_id, purpose, unit, balance FROM ledger.accounts"
    )
    found = {(row[0], row[1], row[2]): row[3] for row in rows}
    here, sandbox, couriers = (found.get(key, 0) for key in keys)
    return here, -sandbox, -couriers


async def status(house: Strongroom, order: UUID) -> tuple[str, str]:
    """An order's state, and that of its payment."""
    row = await house.database.fetchrow(
        "SELECT status::text, payment_status::text FROM orders.orders WHERE id = $1", order
    )
    assert row is not None
    return row[0], row[1]
