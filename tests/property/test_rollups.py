"""Reports over any history equal what one adds up by hand, whatever was rolled and when."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from past_orders import (
    Shop,
    all_orders,
    at,
    change,
    changed,
    open_shop,
    place,
    placed,
    plain_customers,
    plain_figures,
    plain_products,
    plain_revenue,
)
from strongroom.apps.orders.reports import Reports, Span
from strongroom.apps.orders.rollups import roll_day, roll_once
from strongroom.core.db import Database

APP = "strongroom_app"

BACK = 40
"""Days of the past in which orders are placed: two months' partitions."""

STATUSES = ("PENDING", "CONFIRMED", "SHIPPED", "DELIVERED", "CANCELLED", "RETURNED")

CLOCKS = (time(0), time(0, 0, 0, 1), time(6, 59), time(7), time(12), time(23, 59, 59, 999_999))
"""Vietnamese midnight, that of UTC, and what is just beside them."""


class Placing(NamedTuple):
    """Somebody orders, so many days ago."""

    ago: int
    clock: time
    lines: tuple[int, ...]
    customer: int
    apart_h: int


class Changing(NamedTuple):
    """One of the orders there are comes into a state; nobody asks here whether it may."""

    which: int
    status: str


class Rolling(NamedTuple):
    """Up to so many days are rolled, or the one that was so long ago, stale or not."""

    limit: int
    ago: int | None


class Together(NamedTuple):
    """Changes of one transaction, in which nothing is rolled; or that never happens."""

    changes: list[Changing]
    commits: bool


acts = st.lists(
    st.one_of(
        st.builds(
            Placing,
            st.integers(0, BACK),
            st.sampled_from(CLOCKS),
            st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)),
            st.integers(0, 3),
            st.integers(-23, 23),
        ),
        st.builds(Changing, st.integers(0, 50), st.sampled_from(STATUSES)),
        st.builds(Rolling, st.integers(1, 60), st.none() | st.integers(1, BACK)),
        st.builds(
            Together,
            st.lists(st.builds(Changing, st.integers(0, 50), st.sampled_from(STATUSES))),
            st.booleans(),
        ),
    ),
    max_size=25,
)

ranges = st.tuples(st.integers(-3, BACK + 50), st.integers(-3, BACK + 50))


class History:
    """Acts on a shop; today is the same day for all of them."""

    def __init__(self, db: Database, shop: Shop, today: date) -> None:
        self.db, self.shop, self.today = db, shop, today
        self.orders: list[UUID] = []

    async def act(self, act: Any) -> None:
        match act:
            case Placing(ago, clock, lines, customer, apart_h):
                moment = at(self.today - timedelta(days=ago), clock)
                more = {"customer": customer, "clocks_apart": timedelta(hours=apart_h)}
                self.orders.append(await placed(self.db, self.shop, moment, *lines, **more))
            case Changing(which, status) if self.orders:
                await changed(self.db, self.orders[which % len(self.orders)], status)
            case Rolling(limit, None):
                await roll_once(self.db, limit, rest_s=0)
            case Rolling(_, ago):
                await roll_day(self.db, self.today - timedelta(days=ago))
            case Together(changes, commits) if self.orders:
                async with self.db.connection() as db:
                    transaction = db.transaction()
                    await transaction.start()
                    for which, status in changes:
                        await change(db, self.orders[which % len(self.orders)], status)
                    await (transaction.commit() if commits else transaction.rollback())


async def compare(history: History, span: Span) -> None:
    orders, reports = await all_orders(history.db), Reports(history.db)
    for by in ("day", "week", "month"):
        seen = await reports.revenue(span, by)
        names = seen.totals.__struct_fields__
        zeros = dict.fromkeys(names, 0)
        expected = plain_revenue(orders, *span, by)
        assert [one.period for one in seen.items] == sorted(expected)
        for one in seen.items:
            found = {name: getattr(one, name) for name in names}
            assert found == zeros | expected[one.period], one.period
        inside = [one for one in orders if span.since <= one.day <= span.until]
        totals = {name: getattr(seen.totals, name) for name in names}
        assert totals == zeros | plain_figures(inside)
    best = await reports.top_products(span, 100)
    products = plain_products(orders, *span)
    assert {x.product_id: (x.orders, x.pieces, x.revenue) for x in best.items} == products
    ranks = [(-x.revenue, -x.pieces, x.product_id) for x in best.items]
    assert ranks == sorted(ranks)
    buyers = await reports.customers(span, 100)
    assert {x.customer_id: (x.orders, x.revenue) for x in buyers.items} == plain_customers(
        orders, *span
    )
    assert buyers.customers == buyers.new_customers + buyers.returning_customers
    stats = await reports.stats_now()
    for status, figures in stats.by_status.items():
        some = [one for one in orders if one.status == status]
        assert (figures.orders, figures.amount) == (len(some), sum(one.amount for one in some))
    series = plain_revenue(orders, stats.series[0].day, stats.series[-1].day, "day")
    assert [(x.orders, x.revenue) for x in stats.series] == [
        (one.get("orders", 0), one.get("revenue", 0)) for _, one in sorted(series.items())
    ]


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(acts=acts, asked=ranges)
async def test_every_report_is_what_adding_up_all_orders_gives(
    database_url: str, acts: list[Any], asked: tuple[int, int]
) -> None:
    async with Database(database_url) as owner, Database(database_url, role=APP) as db:
        await owner.fetch(
            "TRUNCATE orders.orders, orders.lines, orders.products, orders.customers,"
            " orders.restated, orders.rolled_days, orders.order_days, orders.product_days,"
            " orders.customer_days"
        )
        today = await Reports(db).today()
        shop = await open_shop(db, today - timedelta(days=BACK + 31))
        history = History(db, shop, today)
        for act in acts:
            await history.act(act)
        low, high = sorted(asked)
        await compare(history, Span(today - timedelta(days=high), today - timedelta(days=low)))
        while await roll_once(db, 100, rest_s=0):
            pass
        await compare(history, Span(today - timedelta(days=BACK), today))


async def test_the_history_finds_a_rollup_that_is_wrong(database_url: str) -> None:
    """What the property relies on: rollups are read, and compared."""
    async with Database(database_url, role=APP) as db:
        today = await Reports(db).today()
        shop = await open_shop(db, today - timedelta(days=BACK))
        history = History(db, shop, today)
        await history.act(Placing(3, time(12), (1, 0, 0), 0, 0))
        await roll_once(db, 100, rest_s=0)
        for table in ("order_days", "product_days", "customer_days"):
            await db.fetch(f"UPDATE orders.{table} SET amount = amount + 1")
            try:
                await compare(history, Span(today - timedelta(days=9), today))
            except AssertionError:
                await db.fetch(f"UPDATE orders.{table} SET amount = amount - 1")
            else:
                raise AssertionError(f"a wrong {table} was not noticed")
        await compare(history, Span(today - timedelta(days=9), today))


async def test_what_does_not_commit_is_in_no_report(database_url: str) -> None:
    async with Database(database_url, role=APP) as db:
        today = await Reports(db).today()
        history = History(db, await open_shop(db, today - timedelta(days=BACK)), today)
        async with db.connection() as one:
            transaction = one.transaction()
            await transaction.start()
            await place(one, history.shop, at(today - timedelta(days=2)))
            await roll_once(db, 100, rest_s=0)
            await compare(history, Span(today - timedelta(days=9), today))
            await transaction.rollback()
        await compare(history, Span(today - timedelta(days=9), today))
