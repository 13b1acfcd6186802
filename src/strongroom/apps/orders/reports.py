"""Reports: what was sold, to whom, and what runs out. Exactly the orders at one snapshot, made of
the sums of days (`rollups`) and of the orders of those days that have none yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

from msgspec import field

from strongroom.apps.orders.rollups import sql
from strongroom.apps.orders.rows import OrderStatus
from strongroom.core.commands import Reply
from strongroom.core.db import Connection, Database, Record
from strongroom.core.guard import Cache
from strongroom.errors import invalid

By = Literal["day", "week", "month"]

DAYS = 30
"""A report that is asked without a range is of so many days, today among them."""

MOST_PERIODS = 1_000
"""Of one answer: days of almost three years. More is asked by week or by month."""

EARLIEST = date(2000, 1, 1)
"""Before the first order of any shop that may move in here."""

STATS_S = 30.0
"""How old the figures of the first page may be."""

OFF: frozenset[str] = frozenset({"CANCELLED", "RETURNED"})
"""Orders that do not stand: they were placed, and are no revenue."""


class Span(NamedTuple):
    """Days from the first to the last, both in it."""

    since: date
    until: date

    def periods(self, by: By) -> Iterator[date]:
        """The first day of each period, the first and the last of which may be cut off."""
        period = first_day(self.since, by)
        while period <= self.until:
            yield period
            period = _next(period, by)


def first_day(day: date, by: By) -> date:
    """The first day of the period a day lies in; weeks begin on Monday."""
    if by == "day":
        return day
    return day.replace(day=1) if by == "month" else day - timedelta(days=day.weekday())


def _next(first: date, by: By) -> date:
    if by == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=1 if by == "day" else 7)


class Figures(Reply, frozen=True, kw_only=True):
    """Of the orders placed in a period, as they stand now. `revenue` is the amount of those that
    were neither cancelled nor returned."""

    orders: int = 0
    pieces: int = 0
    amount: int = 0
    cancelled: int = 0
    cancelled_amount: int = 0
    returned: int = 0
    returned_amount: int = 0
    delivered: int = 0
    delivered_amount: int = 0
    revenue: int = 0


class Period(Figures, frozen=True, kw_only=True):
    """The figures of a day, a week or a month, which its first day names."""

    period: date


class Revenue(Reply, frozen=True, kw_only=True):
    """All periods of the range, the empty ones too. `from` and `to` are its first and last day."""

    items: list[Period]
    totals: Figures
    since: date = field(name="from")
    until: date = field(name="to")
    as_of: datetime


class ProductSales(Reply, frozen=True):
    """What a product sold, of orders that stand."""

    product_id: UUID
    sku: str
    name: str
    orders: int
    pieces: int
    revenue: int


class TopProducts(Reply, frozen=True, kw_only=True):
    """The most revenue first, then the most pieces."""

    items: list[ProductSales]
    since: date = field(name="from")
    until: date = field(name="to")
    as_of: datetime


class CustomerSales(Reply, frozen=True):
    """What a customer bought, of orders that stand."""

    customer_id: UUID
    name: str
    phone: str
    orders: int
    revenue: int
    customer_since: datetime


class TopCustomers(Reply, frozen=True, kw_only=True):
    """The most revenue first. Of all customers who bought in the range, `newCustomers` were not
    known before it."""

    items: list[CustomerSales]
    customers: int
    new_customers: int
    returning_customers: int
    since: date = field(name="from")
    until: date = field(name="to")
    as_of: datetime


class ScarceProduct(Reply, frozen=True):
    """A product of which few pieces are free."""

    product_id: UUID
    sku: str
    name: str
    available: int
    low_stock_at: int


class LowStock(Reply, frozen=True):
    """Active products at or below their mark, fewest pieces first."""

    items: list[ScarceProduct]
    as_of: datetime


class DayFigures(Reply, frozen=True, kw_only=True):
    """Of a day's orders, or of a period's; pieces and revenue are of those that stand."""

    orders: int = 0
    revenue: int = 0
    pieces: int = 0
    cancelled: int = 0


class SeriesDay(DayFigures, frozen=True, kw_only=True):
    day: date


class SpanFigures(Reply, frozen=True):
    orders: int
    revenue: int


class StatusFigures(Reply, frozen=True):
    orders: int = 0
    amount: int = 0


class ProductCounts(Reply, frozen=True):
    """Of the active products: `soldOut` ones are among those of `lowStock`."""

    active: int
    low_stock: int
    sold_out: int


class Stats(Reply, frozen=True, kw_only=True):
    """How the shop stands; days are Vietnamese, `byStatus` is of all time."""

    today: DayFigures
    yesterday: DayFigures
    last7_days: SpanFigures
    last30_days: SpanFigures
    by_status: dict[OrderStatus, StatusFigures]
    customers: int
    products: ProductCounts
    series: list[SeriesDay]
    as_of: datetime


class _Sum:
    """Adds up rows of one period, by status."""

    def __init__(self) -> None:
        self.rows: list[Record] = []

    def of(self, name: str, *statuses: str) -> int:
        return sum(row[name] for row in self.rows if not statuses or row["status"] in statuses)

    def standing(self, name: str) -> int:
        return self.of(name) - self.of(name, *OFF)

    @property
    def figures(self) -> dict[str, int]:
        return {
            "orders": self.of("orders"),
            "pieces": self.of("pieces"),
            "amount": self.of("amount"),
            "cancelled": self.of("orders", "CANCELLED"),
            "cancelled_amount": self.of("amount", "CANCELLED"),
            "returned": self.of("orders", "RETURNED"),
            "returned_amount": self.of("amount", "RETURNED"),
            "delivered": self.of("orders", "DELIVERED"),
            "delivered_amount": self.of("amount", "DELIVERED"),
            "revenue": self.standing("amount"),
        }

    @property
    def day(self) -> dict[str, int]:
        return {
            "orders": self.of("orders"),
            "revenue": self.standing("amount"),
            "pieces": self.standing("pieces"),
            "cancelled": self.of("orders", "CANCELLED"),
        }


def _by_period(rows: Sequence[Record]) -> Mapping[date | None, _Sum]:
    found: dict[date | None, _Sum] = defaultdict(_Sum)
    for row in rows:
        found[row["period"]].rows.append(row)
    return found


def _series(found: Mapping[date | None, _Sum], span: Span, by: By) -> list[SeriesDay]:
    """Each period by its first day that is in the span."""
    return [
        SeriesDay(day=max(first, span.since), **(found[first].day if first in found else {}))
        for first in span.periods(by)
    ]


def _check_periods(span: Span, by: By) -> None:
    days = {"day": 1, "week": 7, "month": 28}[by]
    if (span.until - span.since).days // days >= MOST_PERIODS:
        raise invalid("from", f"is at most {MOST_PERIODS} periods before the end")


class Reports:
    """Each report is one snapshot; holds no lock."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._stats: Cache[Stats] = Cache(size=1, ttl_s=10 * STATS_S, fresh_s=STATS_S)

    @property
    def caches(self) -> Mapping[str, Cache[Any]]:
        return {"statistics": self._stats}

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[tuple[Connection, Record]]:
        """A connection that sees one moment, and that moment."""
        async with (
            self._db.connection() as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            moment = await db.fetchrow(sql.as_of)
            assert moment is not None
            yield db, moment

    async def today(self) -> date:
        """The day in Vietnam, by the database's clock."""
        moment = await self._db.fetchrow(sql.as_of)
        assert moment is not None
        day: date = moment["today"]
        return day

    async def revenue(self, span: Span, by: By) -> Revenue:
        """What was placed in each period, and what became of it; Invalid for too many periods."""
        _check_periods(span, by)
        async with self._snapshot() as (db, moment):
            rows = await db.fetch(sql.orders_by_period, *span, by, span.since)
        found, total = _by_period(rows), _Sum()
        total.rows = rows
        return Revenue(
            items=[
                Period(period=period, **found[period].figures)
                if period in found
                else Period(period=period)
                for period in span.periods(by)
            ],
            totals=Figures(**total.figures),
            since=span.since,
            until=span.until,
            as_of=moment["as_of"],
        )

    async def series(self, span: Span, by: By) -> list[SeriesDay]:
        """The series of the statistics over any days; Invalid for too many periods."""
        _check_periods(span, by)
        async with self._snapshot() as (db, _):
            rows = await db.fetch(sql.orders_by_period, *span, by, span.since)
        return _series(_by_period(rows), span, by)

    async def top_products(self, span: Span, limit: int) -> TopProducts:
        async with self._snapshot() as (db, moment):
            rows = await db.fetch(sql.products_by_revenue, *span, limit)
        return TopProducts(
            items=[ProductSales(*row) for row in rows],
            since=span.since,
            until=span.until,
            as_of=moment["as_of"],
        )

    async def customers(self, span: Span, limit: int) -> TopCustomers:
        async with self._snapshot() as (db, moment):
            rows = await db.fetch(sql.customers_by_revenue, *span, limit)
        buyers, new = (rows[0]["buyers"], rows[0]["newcomers"]) if rows else (0, 0)
        return TopCustomers(
            items=[CustomerSales(*row[:6]) for row in rows],
            customers=buyers,
            new_customers=new,
            returning_customers=buyers - new,
            since=span.since,
            until=span.until,
            as_of=moment["as_of"],
        )

    async def low_stock(self, limit: int) -> LowStock:
        async with self._snapshot() as (db, moment):
            rows = await db.fetch(sql.low_stock, limit)
        return LowStock([ScarceProduct(*row) for row in rows], moment["as_of"])

    async def stats(self) -> Stats:
        """Read once for all who ask within half a minute."""
        return await self._stats.get("stats", self.stats_now)

    async def stats_now(self) -> Stats:
        async with self._snapshot() as (db, moment):
            today: date = moment["today"]
            span = Span(today - timedelta(days=DAYS - 1), today)
            rows = await db.fetch(sql.orders_by_period, EARLIEST, today, "day", span.since)
            counts = await db.fetchrow(sql.shelves_and_customers)
        assert counts is not None
        found, ever = _by_period(rows), _Sum()
        ever.rows = rows
        series = _series(found, span, "day")
        return Stats(
            today=_plain(series[-1]),
            yesterday=_plain(series[-2]),
            last7_days=_together(series[-7:]),
            last30_days=_together(series),
            by_status={
                status: StatusFigures(ever.of("orders", status), ever.of("amount", status))
                for status in get_args(OrderStatus)
            },
            customers=counts["customers"],
            products=ProductCounts(counts["active"], counts["low"], counts["gone"]),
            series=series,
            as_of=moment["as_of"],
        )


def _plain(one: SeriesDay) -> DayFigures:
    return DayFigures(
        orders=one.orders, revenue=one.revenue, pieces=one.pieces, cancelled=one.cancelled
    )


def _together(days: Sequence[SeriesDay]) -> SpanFigures:
    return SpanFigures(sum(one.orders for one in days), sum(one.revenue for one in days))
