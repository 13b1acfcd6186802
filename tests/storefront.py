"""What tests of orders do again and again: products in stock, orders placed, steps taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from playing import code_of, somebody_waits, ticket
from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.apps.orders.products import CreateProduct, MoveStock
from strongroom.apps.orders.rows import COD, OrderPlaced, SalesOrder
from strongroom.apps.orders.steps import RecordPayment, Step, TakeStep
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.core.ledger import clearing, open_accounts, revenue
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


async def take(house: Strongroom, order: UUID, *steps: Step, **more: Any) -> SalesOrder:
    """Takes the steps one after the other; the order after the last."""
    for step in steps:
        seen: SalesOrder = await house.run(TakeStep(order, step, **more))
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


async def group(house: Strongroom, *commands: Command) -> list[tuple[str | None, Any]]:
    """What each came to, in one group: the code of its refusal or error, and its reply."""
    tickets = [ticket(one, None if one.idempotent else str(uuid7())) for one in commands]
    await house.executor.run(tickets)
    outcomes = [await one.future for one in tickets]
    return [(o.refused or (o.error.code if o.error else None), o.reply) for o in outcomes]


async def time_out(owner: Database, *orders: UUID) -> None:
    """The time of these orders, or of all that wait, is over; nobody has noticed yet."""
    await owner.fetch(
        "UPDATE orders.orders SET expires_at = clock_timestamp() - interval '1 second'"
        " WHERE status = 'PENDING' AND (id = ANY($1::uuid[]) OR $1::uuid[] = '{}')",
        list(orders),
    )


async def lapsed(house: Strongroom) -> None:
    """What the chore does about orders whose time is over."""
    await worker(house).chores_once()


async def history(house: Strongroom, order: UUID) -> list[tuple[int, str, str, str | None]]:
    """(version, state, by whom, why) of each state that an order came into."""
    rows = await house.database.fetch(
        "SELECT version, status::text, by_whom, reason FROM orders.history"
        " WHERE order_id = $1 ORDER BY version",
        order,
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


async def payment_now(house: Strongroom, payment: UUID) -> tuple[str, int | None, int]:
    """A payment's status, what was captured, and what goes back."""
    row = await house.database.fetchrow(
        "SELECT p.status::text, p.captured, coalesce(r.amount, 0)"
        " FROM payments.payments p LEFT JOIN payments.refunds r ON r.payment_id = p.id"
        " WHERE p.id = $1",
        payment,
    )
    assert row is not None
    return row[0], row[1], row[2]


async def open_tills(house: Strongroom) -> None:
    """The house's own accounts, which open when an order first needs them."""
    async with house.database.transaction() as db:
        await open_accounts(db, [revenue(), clearing("sandbox"), clearing(COD)])


async def everything(owner: Database) -> dict[str, tuple[int, int]]:
    """How many rows each table has that an order could touch, and a sum of all that they say."""
    tables = await owner.fetch(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
        " AND NOT c.relispartition AND (n.nspname IN ('orders', 'ledger', 'payments')"
        " OR c.oid = 'events.log'::regclass)"
    )
    found = {}
    for (table,) in tables:
        sums = f"SELECT count(*), coalesce(sum(hashtext(t::text)), 0)::bigint FROM {table} t"
        row = await owner.fetchrow(sums)
        assert row is not None
        found[table] = (row[0], row[1])
    assert len(found) > 20
    return found


Begun = asyncio.Future[str | None]
"""A call under way, and the code that it is refused with in the end."""


@asynccontextmanager
async def held_up(
    owner: Database, query: str, *args: Any
) -> AsyncIterator[Callable[[Awaitable[Any]], Awaitable[Begun]]]:
    """What is begun in here waits for what the query locks, one behind the other; then all go on
    at once."""
    begun: list[Begun] = []

    async def begin(call: Awaitable[Any]) -> Begun:
        begun.append(asyncio.ensure_future(code_of(call)))
        await somebody_waits(owner, len(begun))
        return begun[-1]

    async with owner.transaction() as db:
        await db.fetch(query, *args)
        yield begin
    await asyncio.gather(*begun)
