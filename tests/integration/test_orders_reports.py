"""Rollups and reports of orders: exact while others write, and never a scan of all orders."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import date, time, timedelta
from typing import Any

import msgspec
import pytest

from past_orders import (
    Shop,
    all_orders,
    at,
    change,
    changed,
    open_shop,
    place,
    placed,
    plain_figures,
)
from playing import PATIENCE_S, code_of, somebody_waits
from storefront import new_product, take
from storefront import place as place_order
from strongroom.apps.orders.reports import DAYS, MOST_PERIODS, Reports, Span
from strongroom.apps.orders.rollups import make_partitions, roll_day, roll_once
from strongroom.apps.orders.rollups import sql as queries
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

APP = "strongroom_app"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, role=APP) as db:
        yield db


@pytest.fixture
async def today(db: Database) -> date:
    return await Reports(db).today()


@pytest.fixture
async def shop(db: Database, today: date) -> Shop:
    return await open_shop(db, today - timedelta(days=70))


async def assert_exact(db: Database) -> None:
    """The report of all time is what all orders add up to."""
    today = await Reports(db).today()
    seen = await Reports(db).revenue(Span(date(2020, 1, 1), today), "month")
    expected = plain_figures(await all_orders(db))
    assert {k: v for k, v in msgspec.to_builtins(seen.totals).items() if v} == {
        re.sub(r"_(\w)", lambda found: found[1].upper(), k): v for k, v in expected.items() if v
    }


async def assert_exact_now(db: Database) -> None:
    """The same while others write: report and orders in one snapshot."""
    sums = (
        "SELECT date_trunc('month', orders.day_of(o.created_at)::timestamp)::date AS period,"
        " o.status::text, count(*) AS orders, sum(o.total_amount)::bigint AS amount"
        " FROM orders.orders o GROUP BY 1, 2"
    )
    async with (
        db.connection() as one,
        one.transaction(isolation="repeatable_read", readonly=True),
    ):
        asked = (date(2020, 1, 1), date(2100, 1, 1), "month", date(2020, 1, 1))
        seen = await one.fetch(queries.orders_by_period, *asked)
        expected = await one.fetch(sums)
    found = {(row["period"], row["status"], row["orders"], row["amount"]) for row in seen}
    assert found == {tuple(row) for row in expected}


async def is_clean(db: Database, day: date) -> bool:
    query = (
        "SELECT EXISTS (SELECT FROM orders.rolled_days WHERE day = $1)"
        " AND NOT EXISTS (SELECT FROM orders.restated WHERE day = $1)"
    )
    return bool(await db.fetchval(query, day))


# Rolling -----------------------------------------------------------------------------------------


async def test_days_that_are_over_are_rolled_and_today_is_not(
    db: Database, shop: Shop, today: date
) -> None:
    for ago in (0, 1, 5):
        await placed(db, shop, at(today - timedelta(days=ago)))
    # Five days with orders between them, and two of slack before the first.
    assert await roll_once(db, 100) == 7
    assert await roll_once(db, 100) == 0
    assert [await is_clean(db, today - timedelta(days=ago)) for ago in (0, 1, 3, 5)] == [
        False,
        True,
        True,
        True,
    ]
    await assert_exact(db)


async def test_nothing_is_rolled_where_there_are_no_orders(db: Database, shop: Shop) -> None:
    assert await roll_once(db, 100) == 0
    await assert_exact(db)


async def test_a_day_that_changes_all_the_time_is_rolled_once_in_a_while(
    db: Database, shop: Shop, today: date
) -> None:
    day = today - timedelta(days=3)
    order = await placed(db, shop, at(day))
    await roll_once(db, 100)
    await changed(db, order, "CANCELLED")
    assert await roll_once(db, 100, rest_s=60) == 0
    await assert_exact(db)
    assert await roll_once(db, 100, rest_s=0) == 1
    assert await is_clean(db, day)
    await assert_exact(db)


async def test_newest_days_are_rolled_first_and_no_more_than_asked(
    db: Database, shop: Shop, today: date
) -> None:
    await placed(db, shop, at(today - timedelta(days=30)))
    assert await roll_once(db, 3) == 3
    rows = await db.fetch("SELECT day FROM orders.rolled_days ORDER BY day")
    assert [row[0] for row in rows] == [today - timedelta(days=ago) for ago in (3, 2, 1)]


async def test_notes_of_days_without_rollups_are_dropped_and_all_others_kept(
    db: Database, shop: Shop, today: date
) -> None:
    old, older = today - timedelta(days=3), today - timedelta(days=4)
    for day in (today, old):
        await placed(db, shop, at(day, time(0)))
    await roll_day(db, old)
    for day in (today, old, older):
        await placed(db, shop, at(day, time(0)))
    await roll_once(db, 0)
    rows = await db.fetch("SELECT DISTINCT day FROM orders.restated")
    assert [row[0] for row in rows] == [old]
    await assert_exact(db)


async def test_a_change_that_commits_while_a_day_is_summed_up_is_not_lost(
    db: Database, owner: Database, shop: Shop, today: date
) -> None:
    """The sum has been taken when the change commits: its note says so."""
    day = today - timedelta(days=3)
    order = await placed(db, shop, at(day), 2)
    async with owner.connection() as holder:
        holding = holder.transaction()
        await holding.start()
        # A row that the roller will write: it waits there, its sum taken.
        await holder.execute("INSERT INTO orders.order_days VALUES ($1, 'PENDING', 0, 0, 0)", day)
        rolling = asyncio.create_task(roll_day(db, day))
        await somebody_waits(owner)
        await changed(db, order, "CANCELLED")
        await placed(db, shop, at(day), 1)
        await holding.rollback()
    assert await asyncio.wait_for(rolling, PATIENCE_S)
    rolled = await db.fetch("SELECT status::text, orders FROM orders.order_days")
    assert [tuple(row) for row in rolled] == [("PENDING", 1)], "the change came too late for it"
    assert not await is_clean(db, day)
    await assert_exact(db)
    await roll_day(db, day)
    assert await is_clean(db, day)
    await assert_exact(db)


async def test_a_change_that_commits_between_the_roller_s_two_statements_is_summed_up(
    db: Database, owner: Database, shop: Shop, today: date
) -> None:
    day = today - timedelta(days=3)
    await placed(db, shop, at(day), 2)
    await roll_day(db, day)
    async with owner.connection() as holder:
        holding = holder.transaction()
        await holding.start()
        # A row that the roller will delete: it waits in its first statement.
        await holder.fetch("SELECT FROM orders.order_days WHERE day = $1 FOR UPDATE", day)
        rolling = asyncio.create_task(roll_day(db, day))
        await somebody_waits(owner)
        await placed(db, shop, at(day), 1)
        await holding.rollback()
    assert await asyncio.wait_for(rolling, PATIENCE_S)
    assert await db.fetchval("SELECT sum(orders) FROM orders.order_days") == 2
    assert not await is_clean(db, day), "its note was not seen, and costs one more rolling"
    await assert_exact(db)


async def test_an_order_of_a_rolled_day_that_commits_late_counts_at_once(
    db: Database, shop: Shop, today: date
) -> None:
    day = today - timedelta(days=1)
    await placed(db, shop, at(day))
    async with db.transaction() as late:
        await place(late, shop, at(day, time(23, 59, 59)), (0, 3))
        assert await roll_once(db, 100) > 0
        assert await is_clean(db, day)
        await assert_exact(db)
    assert not await is_clean(db, day)
    await assert_exact(db)
    await roll_once(db, 100, rest_s=0)
    assert await is_clean(db, day)
    await assert_exact(db)


async def test_a_report_does_not_change_under_a_roller(
    db: Database, shop: Shop, today: date
) -> None:
    """Whatever a snapshot has begun to read, it ends with."""
    day = today - timedelta(days=3)
    order = await placed(db, shop, at(day), 2)
    asked = (day, day, "day", day)
    async with (
        db.connection() as one,
        one.transaction(isolation="repeatable_read", readonly=True),
    ):
        before = await one.fetch(queries.orders_by_period, *asked)
        await roll_day(db, day)
        await changed(db, order, "RETURNED")
        assert await one.fetch(queries.orders_by_period, *asked) == before
    await assert_exact(db)


async def test_whoever_rolls_second_leaves(db: Database, shop: Shop, today: date) -> None:
    day = today - timedelta(days=3)
    await placed(db, shop, at(day))
    async with db.transaction() as first:
        assert await first.fetchval(queries.hold_rollups, 0x5352, 0x524F)
        assert await roll_once(db, 100) == 0
        assert not await roll_day(db, day)
    assert await roll_once(db, 100) > 0


async def test_rollers_and_writers_at_once_leave_every_report_exact(
    db: Database, shop: Shop, today: date
) -> None:
    days = [today - timedelta(days=ago) for ago in range(4)]
    orders = [await placed(db, shop, at(day), 1, customer=n) for n, day in enumerate(days)]

    async def write(number: int) -> None:
        for step in range(10):
            async with db.transaction() as one:
                await change(one, orders[(number + step) % 4], ("SHIPPED", "RETURNED")[step % 2])
                await place(one, shop, at(days[step % 4]), (step % 3, 1))

    async def roll() -> None:
        for _ in range(20):
            await roll_once(db, 4, rest_s=0)
            await assert_exact_now(db)

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(write(0), write(1), roll(), roll())
    while await roll_once(db, 100, rest_s=0):
        pass
    assert all([await is_clean(db, day) for day in days[1:]])
    await assert_exact(db)


async def test_partitions_are_made_a_year_ahead_and_only_once(
    db: Database, owner: Database, today: date
) -> None:
    assert await make_partitions(db) == 0
    for parent in ("orders", "lines", "history"):
        await owner.fetch(f"DROP TABLE orders.{parent}_{today + timedelta(days=330):%Y_%m}")
    assert await make_partitions(db) == 3
    assert await make_partitions(db) == 0


# Reports -----------------------------------------------------------------------------------------


async def test_days_begin_at_midnight_in_vietnam_and_weeks_on_monday(
    db: Database, shop: Shop, today: date
) -> None:
    monday = first = today - timedelta(days=today.weekday() + 14)
    await placed(db, shop, at(monday, time(0)))
    await placed(db, shop, at(monday - timedelta(days=1), time(23, 59, 59, 999_999)), 2)
    for rolled in (False, True):
        if rolled:
            await roll_once(db, 100)
        span = Span(first - timedelta(days=1), first + timedelta(days=1))
        days = await Reports(db).revenue(span, "day")
        assert [(x.period, x.pieces) for x in days.items] == [
            (first - timedelta(days=1), 2),
            (first, 1),
            (first + timedelta(days=1), 0),
        ]
        weeks = await Reports(db).revenue(span, "week")
        assert [(x.period, x.pieces) for x in weeks.items] == [
            (monday - timedelta(days=7), 2),
            (monday, 1),
        ]
        assert (weeks.totals.pieces, weeks.since, weeks.until) == (3, *span)


async def test_a_period_says_what_became_of_its_orders(
    db: Database, shop: Shop, today: date
) -> None:
    day = today - timedelta(days=1)
    for pieces, status in enumerate(("PENDING", "DELIVERED", "CANCELLED", "RETURNED"), 1):
        await placed(db, shop, at(day), pieces, status=status)
    [seen] = (await Reports(db).revenue(Span(day, day), "day")).items
    assert msgspec.to_builtins(seen) == {
        "orders": 4,
        "pieces": 10,
        "amount": 10_000,
        "cancelled": 1,
        "cancelledAmount": 3_000,
        "returned": 1,
        "returnedAmount": 4_000,
        "delivered": 1,
        "deliveredAmount": 2_000,
        "revenue": 3_000,
        "period": day.isoformat(),
    }


async def test_a_report_of_too_many_periods_is_refused_and_one_less_is_not(
    db: Database, today: date
) -> None:
    reports = Reports(db)
    for by, days in (("day", 1), ("week", 7)):
        fits = Span(today - timedelta(days=days * MOST_PERIODS - 1), today)
        assert len((await reports.revenue(fits, by)).items) in (MOST_PERIODS, MOST_PERIODS + 1)
        over = Span(fits.since - timedelta(days=1), today)
        assert await code_of(reports.revenue(over, by)) == "invalid"
    assert await code_of(reports.revenue(Span(date(2000, 1, 1), today), "month")) is None


async def test_new_customers_are_those_who_were_not_known_before(db: Database, today: date) -> None:
    moment = at(today - timedelta(days=5))
    old = await open_shop(db, today - timedelta(days=20))
    new = uuid7()
    await db.fetch(
        "INSERT INTO orders.customers (id, phone, name, created_by) VALUES ($1, $2, 'Mới', 't')",
        new,
        "+84911111111",
    )
    shop = Shop(old.products, [*old.customers, new])
    await placed(db, shop, moment, customer=0)
    await placed(db, shop, moment, 0, 1, customer=4)
    seen = await Reports(db).customers(Span(today - timedelta(days=9), today), 1)
    assert [one.customer_id for one in seen.items] == [new]
    assert (seen.customers, seen.new_customers, seen.returning_customers) == (2, 1, 1)


async def test_what_commands_do_is_in_the_reports_at_once(house: Strongroom) -> None:
    product = await new_product(house, 7, price=1_000, low_stock_at=5)
    empty = await new_product(house, 0, low_stock_at=1, sku="NONE")
    away = await new_product(house, 0, low_stock_at=1, sku="AWAY", active=False)
    reports = Reports(house.database)
    made = await place_order(house, (product, 3))
    stats = await reports.stats_now()
    assert (stats.today.orders, stats.today.revenue, stats.today.pieces) == (1, 3_000, 3)
    assert (stats.products.active, stats.products.low_stock, stats.products.sold_out) == (2, 2, 1)
    assert stats.by_status["PENDING"].amount == 3_000 and stats.customers == 1
    scarce = (await reports.low_stock(10)).items
    assert [(one.product_id, one.available) for one in scarce] == [(empty, 0), (product, 4)]
    assert away not in [one.product_id for one in scarce]
    await roll_once(house.database, 10)
    await take(house, made.order_id, "cancel")
    stats = await reports.stats_now()
    assert (stats.today.orders, stats.today.revenue, stats.today.cancelled) == (1, 0, 1)
    assert (await reports.low_stock(10)).items[1:] == []


async def test_stats_are_read_once_for_all_who_ask_together(db: Database, shop: Shop) -> None:
    reports = Reports(db)
    found = await asyncio.gather(*[reports.stats() for _ in range(20)])
    assert len({one.as_of for one in found}) == 1
    assert (await reports.stats_now()).as_of > found[0].as_of
    assert len(found[0].series) == DAYS


# Plans -------------------------------------------------------------------------------------------


def scanned(node: dict[str, Any]) -> set[str]:
    """The tables that a plan has really read."""
    here = {node["Relation Name"]} if "Relation Name" in node and node["Actual Loops"] else set()
    return here.union(*(scanned(one) for one in node.get("Plans", ())))


async def tables_read(db: Database, name: str, *literals: str) -> set[str]:
    """By the generic plan, as prepared statements have it."""
    async with db.transaction() as one:
        await one.execute(f"PREPARE asked AS {queries.sql[name]}")
        said = await one.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked({', '.join(literals)})"
        )
        await one.execute("DEALLOCATE asked")
    return scanned(json.loads(said)[0]["Plan"])


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("orders_by_period", ("'day'", "'2000-01-01'")),
        ("products_by_revenue", ("10",)),
        ("customers_by_revenue", ("10",)),
    ],
)
async def test_a_report_reads_the_orders_of_live_days_alone(
    db: Database, today: date, name: str, more: tuple[str, ...]
) -> None:
    shop = await open_shop(db, today - timedelta(days=200))
    days = [(today - timedelta(days=ago)).replace(day=15) for ago in (190, 120, 60)]
    for day in days:
        await placed(db, shop, at(day))
    while await roll_once(db, 100):
        pass
    await placed(db, shop, at(days[1]))
    read = await tables_read(db, name, "'2000-01-01'", f"'{today}'", *more)
    # The first and the last order are looked up, to know which days there are.
    looked_up = {f"orders_{days[0]:%Y_%m}"}
    months = {table for table in read if re.fullmatch(r"(orders|lines)_\d{4}_\d\d", table)}
    live = {table for table in months - looked_up if table < f"orders_{days[2]:%Y_%m}"}
    lines = set() if name == "customers_by_revenue" else {f"lines_{days[1]:%Y_%m}"}
    assert live == {f"orders_{days[1]:%Y_%m}"} | lines


async def test_rolling_a_day_reads_its_month_alone(db: Database, shop: Shop, today: date) -> None:
    day = (today - timedelta(days=32)).replace(day=15)
    await placed(db, shop, at(day))
    read = await tables_read(db, "sum_day", f"'{day}'")
    assert {one for one in read if one[-3] == "_"} == {
        f"orders_{day:%Y_%m}",
        f"lines_{day:%Y_%m}",
    }
