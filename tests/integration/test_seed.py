"""The seed: a shop with years behind it, in which everything holds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from playing import People, drained
from serving import Clones, Server
from storefront import place, take
from strongroom.core.audit import Reconciler
from strongroom.core.db import Database
from strongroom.lab.seeding import InUse, NotEmpty, Plan, Seeded, seed
from strongroom.main import INVARIANTS, Strongroom
from strongroom.settings import Settings

NOW = datetime(2026, 11, 20, 14, 25, tzinfo=UTC)

PLAN = Plan(orders=3_000, months=14, products=150, seed=7)

TRIES = 20
"""The server notices a killed client soon, and each try waits for it by itself."""


async def findings(dsn: str) -> list[str]:
    async with Database(dsn, role="strongroom_audit", pool_size=1) as audit:
        report = await Reconciler(audit, INVARIANTS).run()
    return [str(one) for one in report.findings]


@pytest.fixture(scope="module")
def made(server: Server, clones: Clones) -> Iterator[tuple[str, Seeded]]:
    """A seeded database that is only read, and what was said of it."""
    name = clones.take()
    dsn = server.at(name)
    with ThreadPoolExecutor(1) as thread:
        said = thread.submit(lambda: asyncio.run(seed(dsn, PLAN))).result()
    yield dsn, said
    clones.give_back(name)


@pytest.fixture
async def shop(made: tuple[str, Seeded]) -> AsyncIterator[Database]:
    async with Database(made[0], pool_size=1) as database:
        yield database


async def shares(shop: Database, column: str) -> dict[str, float]:
    rows = await shop.fetch(f"SELECT {column}::text AS of, count(*) FROM orders.orders GROUP BY 1")
    return {row["of"]: row["count"] / PLAN.orders for row in rows}


async def test_every_invariant_holds_in_a_seeded_shop(made: tuple[str, Seeded]) -> None:
    dsn, said = made
    assert await findings(dsn) == []
    assert (said.orders, said.products) == (PLAN.orders, PLAN.products)


async def test_what_is_said_to_be_made_is_there(made: tuple[str, Seeded], shop: Database) -> None:
    _, said = made
    for table, count in (
        ("orders.orders", said.orders),
        ("orders.codes", said.orders),
        ("orders.lines", said.lines),
        ("orders.customers", said.customers),
        ("orders.products", said.products),
        ("payments.payments", said.payments),
        ("ledger.transfers", said.transfers),
        ("ledger.entries", said.entries),
    ):
        assert await shop.fetchval(f"SELECT count(*) FROM {table}") == count, table
    assert await shop.fetchval("SELECT to_regnamespace('seeding')") is None


async def test_most_orders_were_delivered_and_some_came_to_nothing(shop: Database) -> None:
    status = await shares(shop, "status")
    assert 0.80 < status["DELIVERED"] < 0.90
    assert 0.07 < status["CANCELLED"] < 0.14
    assert 0.01 < status["RETURNED"] < 0.06
    assert await shop.fetchval("SELECT count(*) FROM orders.history WHERE reason = 'unpaid'") > 0
    prepaid = 1 - (await shares(shop, "payment_method"))["COD"]
    assert 0.25 < prepaid < 0.35


async def test_only_orders_of_the_last_day_wait(shop: Database) -> None:
    late = await shop.fetchval(
        "SELECT count(*) FROM orders.orders WHERE status = 'PENDING' AND expires_at <= now()"
        " - interval '1 minute'"
    )
    assert late == 0


async def test_few_products_and_customers_make_most_of_the_orders(shop: Database) -> None:
    for column, table, least in (("product_id", "lines", 0.4), ("customer_id", "orders", 0.25)):
        share = await shop.fetchval(
            f"SELECT sum(n) FILTER (WHERE place <= 0.2 * groups) / sum(n) FROM (SELECT count(*) n,"
            f" row_number() OVER (ORDER BY count(*) DESC) place, count(*) OVER () groups"
            f" FROM orders.{table} GROUP BY {column}) g"
        )
        assert share > least, table


async def test_sales_follow_the_clocks_of_vietnam_and_its_sale_days(shop: Database) -> None:
    evening, night = await shop.fetchval(
        "SELECT ARRAY[count(*) FILTER (WHERE hour IN (20, 21)),"
        " count(*) FILTER (WHERE hour IN (2, 3))]"
        " FROM (SELECT extract(hour FROM created_at AT TIME ZONE interval '7 hours') AS hour"
        " FROM orders.orders) o"
    )
    assert evening > 10 * night
    singles, mean = await shop.fetchval(
        "SELECT ARRAY[max(n) FILTER (WHERE to_char(day, 'MM-DD') = '11-11'), avg(n)] FROM ("
        " SELECT orders.day_of(created_at) AS day, count(*) AS n FROM orders.orders GROUP BY 1) d"
    )
    assert singles > 2 * mean


async def test_some_products_are_low_and_most_are_not(shop: Database) -> None:
    low, plenty = await shop.fetchval(
        "SELECT ARRAY[count(*) FILTER (WHERE a.balance <= p.low_stock_at),"
        " count(*) FILTER (WHERE a.balance > p.low_stock_at)]"
        " FROM orders.products p JOIN ledger.accounts a ON a.owner_id = p.id"
        " AND a.purpose = 'free'"
    )
    assert low > 0
    assert plenty > 0.7 * PLAN.products


async def test_no_total_plays_a_trick_of_the_sandbox(shop: Database) -> None:
    tricks = "SELECT count(*) FROM orders.orders WHERE total_amount % 10000 BETWEEN 4001 AND 4009"
    assert await shop.fetchval(tricks) == 0


async def test_names_are_vietnamese_and_found_without_their_diacritics(shop: Database) -> None:
    found = await shop.fetch(
        "SELECT name, phone FROM orders.customers WHERE search LIKE '%nguyen %'"
    )
    assert found
    assert all(row["name"].startswith("Nguyễn ") for row in found if " Nguyễn" not in row["name"])
    assert all(row["phone"].startswith("+84") and len(row["phone"]) == 12 for row in found)


async def drawn(dsn: str, plan: Plan) -> list[tuple[Any, ...]]:
    await seed(dsn, plan)
    async with Database(dsn, pool_size=1) as shop:
        rows = await shop.fetch(
            "SELECT o.code, o.customer_name, o.phone, o.address, o.status::text, o.total_amount,"
            " o.payment_method::text, o.created_at, (SELECT array_agg((p.sku, l.quantity)::text"
            " ORDER BY p.sku) FROM orders.lines l JOIN orders.products p ON p.id = l.product_id"
            " WHERE l.order_id = o.id) AS lines FROM orders.orders o ORDER BY o.code"
        )
    return [tuple(row) for row in rows]


async def test_the_same_seed_draws_the_same_shop(
    database_url: str, server: Server, clones: Clones
) -> None:
    plan = Plan(orders=200, months=3, products=40, seed=11, now=NOW)
    name = clones.take()
    first = await drawn(database_url, plan)
    assert first == await drawn(server.at(name), plan)
    clones.give_back(name)
    assert len(first) == 200


async def test_a_shop_that_has_orders_is_not_seeded_again(database_url: str) -> None:
    plan = Plan(orders=50, months=1, products=10)
    await seed(database_url, plan)
    with pytest.raises(NotEmpty, match="orders already"):
        await seed(database_url, plan)
    async with Database(database_url, pool_size=1) as shop:
        assert await shop.fetchval("SELECT count(*) FROM orders.orders") == 50


async def test_a_shop_that_is_in_use_is_not_seeded(database_url: str) -> None:
    async with Database(database_url, pool_size=1) as other, other.transaction() as db:
        await db.execute("LOCK TABLE orders.codes IN ROW EXCLUSIVE MODE")
        with pytest.raises(InUse):
            await seed(database_url, Plan(orders=50, months=1, products=10))


async def test_a_ledger_that_is_in_use_keeps_what_it_has(
    database_url: str, house: Strongroom, people: People
) -> None:
    await people(3)
    await seed(database_url, Plan(orders=300, months=2, products=20))
    assert await findings(database_url) == []


CHILD = """
import asyncio, sys
from strongroom.lab.seeding import Plan, seed
def told(done, total):
    if done * {parts} >= total:
        print("there", flush=True)
asyncio.run(seed(sys.argv[1], Plan(orders=4000, months=3, products=50), told))
"""


@pytest.mark.parametrize("parts", [10, 2])
async def test_a_seed_that_is_killed_leaves_nothing_and_can_begin_again(
    database_url: str, parts: int
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CHILD.format(parts=parts),
        database_url,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"there\n"
    child.kill()
    await child.wait()
    for _ in range(TRIES):
        try:
            await seed(database_url, Plan(orders=100, months=3, products=20))
            break
        except InUse:
            continue
    assert await findings(database_url) == []
    async with Database(database_url, pool_size=1) as shop:
        assert await shop.fetchval("SELECT count(*) FROM orders.orders") == 100


async def test_an_order_placed_after_the_seed_goes_on_behind_it(
    database_url: str, tmp_path: Path
) -> None:
    await seed(database_url, Plan(orders=120, months=2, products=10))
    async with Strongroom(Settings(database_url=database_url, data_dir=tmp_path)) as house:
        product = await house.database.fetchval(
            "SELECT p.id FROM orders.products p JOIN ledger.accounts a ON a.owner_id = p.id"
            " AND a.purpose = 'free' AND a.balance > 5 WHERE p.active LIMIT 1"
        )
        placed = await place(house, (product, 2))
        assert placed.code == "SON000121"
        await take(house, placed.order_id, "confirm", "ship", "deliver")
    assert await findings(database_url) == []


async def test_money_of_a_seeded_order_goes_back_through_the_sandbox(
    database_url: str, tmp_path: Path
) -> None:
    await seed(database_url, Plan(orders=200, months=2, products=10))
    async with Strongroom(Settings(database_url=database_url, data_dir=tmp_path)) as house:
        order: UUID = await house.database.fetchval(
            "SELECT id FROM orders.orders WHERE status = 'DELIVERED'"
            " AND payment_method <> 'COD' LIMIT 1"
        )
        await take(house, order, "return")
        await drained(house)
        refund = await house.database.fetchval(
            "SELECT r.status::text FROM payments.refunds r JOIN orders.orders o"
            " ON o.payment_id = r.payment_id WHERE o.id = $1",
            order,
        )
    assert refund == "DONE"
    assert await findings(database_url) == []
