"""Orders of past days, written as rows: what commands, which live now, cannot make. And reports
as one would make them by hand, from all orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any, NamedTuple
from uuid import UUID

from strongroom.core.db import Connection, Database
from strongroom.ids import uuid7

VIETNAM = timezone(timedelta(hours=7))

OFF = ("CANCELLED", "RETURNED")

PRICES = (1_000, 20_000, 300_000)


def at(day: date, clock: time = time(12)) -> datetime:
    """A moment by the clocks of Vietnam."""
    return datetime.combine(day, clock, VIETNAM).astimezone(UTC)


def id_at(moment: datetime) -> UUID:
    """A new id that was made at that moment."""
    low = uuid7().int & (1 << 80) - 1
    return UUID(int=int(moment.timestamp() * 1000) << 80 | low)


@dataclass(frozen=True)
class Shop:
    """Products, each with its number as SKU, and customers."""

    products: list[UUID]
    customers: list[UUID]


async def open_shop(db: Database, since: date, *, customers_at: datetime | None = None) -> Shop:
    """A shop with a past: partitions since then."""
    await db.fetch("SELECT orders.make_partitions($1, now()::date)", since)
    moment = customers_at or at(since)
    products, customers = [uuid7() for _ in PRICES], [id_at(moment) for _ in range(4)]
    await db.fetch(
        "INSERT INTO orders.products (id, sku, name, price, low_stock_at)"
        " SELECT id, 'SKU-' || n, 'Áo dài ' || n, price, 5"
        " FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS p (id, price, n)",
        products,
        list(PRICES),
    )
    await db.fetch(
        "INSERT INTO orders.customers (id, phone, name, created_by, created_at)"
        " SELECT id, '+8490000000' || n, 'Trần Thị ' || n, 'test', $2"
        " FROM unnest($1::uuid[]) WITH ORDINALITY AS c (id, n)",
        customers,
        moment,
    )
    return Shop(products, customers)


async def note(db: Connection, *days: date) -> None:
    """As every command does for the orders it changes."""
    await db.fetch("INSERT INTO orders.restated SELECT unnest($1::date[])", list(days))


async def place(
    db: Connection,
    shop: Shop,
    moment: datetime,
    lines: Sequence[int] = (1,),
    *,
    customer: int = 0,
    status: str = "PENDING",
    clocks_apart: timedelta = timedelta(),
    **texts: str | None,
) -> UUID:
    """An order of so many pieces of each product; its id's clock may be off the database's."""
    id = id_at(moment + clocks_apart)
    wanted = [(one, n, PRICES[i]) for i, (one, n) in enumerate(zip(shop.products, lines)) if n]
    said = {"customer_name": "Trần Thị", "phone": "+84900000000", "address": "Huế"} | texts
    await db.fetch(
        "INSERT INTO orders.orders (id, code, customer_id, customer_name, phone, address, status,"
        " total_amount, payment_method, expires_at, created_at) VALUES"
        " ($1, $2, $3, $4, $5, $6, $7::text::orders.status, $8, 'COD', $9, $9)",
        id,
        said.get("code") or f"SON{id.int % 10**6:06}",
        shop.customers[customer],
        said["customer_name"],
        said["phone"],
        said["address"],
        status,
        sum(n * price for _, n, price in wanted),
        moment,
    )
    await db.executemany(
        "INSERT INTO orders.lines VALUES ($1, $2, $3, $4)", [(id, *line) for line in wanted]
    )
    await note(db, moment.astimezone(VIETNAM).date())
    return id


async def change(db: Connection, order: UUID, status: str) -> None:
    day = await db.fetchval(
        "UPDATE orders.orders SET status = $2::text::orders.status WHERE id = $1"
        " RETURNING orders.day_of(created_at)",
        order,
        status,
    )
    await note(db, day)


async def placed(db: Database, shop: Shop, moment: datetime, *lines: int, **more: Any) -> UUID:
    """An order, committed."""
    async with db.transaction() as one:
        return await place(one, shop, moment, lines or (1,), **more)


async def changed(db: Database, order: UUID, status: str) -> None:
    async with db.transaction() as one:
        await change(one, order, status)


# By hand -----------------------------------------------------------------------------------------


class PlainOrder(NamedTuple):
    """An order and its lines as (product, pieces, price)."""

    id: UUID
    day: date
    status: str
    customer: UUID
    amount: int
    lines: list[tuple[UUID, int, int]]

    @property
    def stands(self) -> bool:
        return self.status not in OFF


async def all_orders(db: Database) -> list[PlainOrder]:
    rows = await db.fetch(
        "SELECT o.id, o.created_at, o.status::text, o.customer_id, o.total_amount,"
        " array(SELECT ROW(l.product_id, l.quantity, l.unit_price) FROM orders.lines l"
        " WHERE l.order_id = o.id) FROM orders.orders o ORDER BY o.id"
    )
    return [
        PlainOrder(id, moment.astimezone(VIETNAM).date(), *rest, [tuple(x) for x in lines])
        for id, moment, *rest, lines in rows
    ]


def first_of(day: date, by: str) -> date:
    if by == "month":
        return date(day.year, day.month, 1)
    return date.fromisocalendar(*day.isocalendar()[:2], 1) if by == "week" else day


def plain_figures(orders: Iterable[PlainOrder]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for one in orders:
        found["orders"] += 1
        found["amount"] += one.amount
        found["pieces"] += sum(n for _, n, _ in one.lines)
        if one.status in ("CANCELLED", "RETURNED", "DELIVERED"):
            found[one.status.lower()] += 1
            found[f"{one.status.lower()}_amount"] += one.amount
        if one.stands:
            found["revenue"] += one.amount
    return dict(found)


def plain_revenue(
    orders: Iterable[PlainOrder], since: date, until: date, by: str
) -> dict[date, dict[str, int]]:
    """The figures of every period, the empty ones too."""
    days = [since + timedelta(days=n) for n in range((until - since).days + 1)]
    found: dict[date, list[PlainOrder]] = {first_of(day, by): [] for day in days}
    for one in orders:
        if since <= one.day <= until:
            found[first_of(one.day, by)].append(one)
    return {period: plain_figures(some) for period, some in found.items()}


def plain_products(
    orders: Iterable[PlainOrder], since: date, until: date
) -> dict[UUID, tuple[int, int, int]]:
    """(orders, pieces, revenue) of each product."""
    found: dict[UUID, tuple[int, int, int]] = {}
    for one in orders:
        if one.stands and since <= one.day <= until:
            for product, n, price in one.lines:
                count, pieces, revenue = found.get(product, (0, 0, 0))
                found[product] = count + 1, pieces + n, revenue + n * price
    return found


def plain_customers(
    orders: Iterable[PlainOrder], since: date, until: date
) -> dict[UUID, tuple[int, int]]:
    """(orders, revenue) of each customer."""
    found: dict[UUID, tuple[int, int]] = {}
    for one in orders:
        if one.stands and since <= one.day <= until:
            count, revenue = found.get(one.customer, (0, 0))
            found[one.customer] = count + 1, revenue + one.amount
    return found
