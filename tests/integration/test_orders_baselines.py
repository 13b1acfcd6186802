"""What the order bench compares sells the same pieces correctly: ours and the row locks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from playing import PATIENCE_S, Houses, code_of, codes_of, ticket
from storefront import PRICE, buyer
from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.apps.orders.products import CreateProduct, EditProduct, MoveStock
from strongroom.apps.orders.rows import OrderPlaced
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.lab.baselines.orders import RowLockedHouse
from strongroom.lab.baselines.row_at_a_time import sql as rows
from strongroom.main import Strongroom

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


class Shop:
    """One of the two, and what its database says of its pieces."""

    def __init__(self, house: Strongroom) -> None:
        self.house = house

    async def product(self, stock: int) -> UUID:
        made = await self.operate(CreateProduct(f"SKU-{str(uuid7())[-12:]}", "Áo dài", PRICE))
        id = UUID(str(made.product_id))
        if stock:
            await self.operate(MoveStock(id, "receive", stock, "first delivery"))
        return id

    async def operate(self, command: Command) -> Any:
        """What an operator does goes past the lanes, which a baseline replaces."""
        one = ticket(command, str(uuid7()))
        await self.house.executor.run([one])
        outcome = await asyncio.wait_for(one.future, PATIENCE_S)
        outcome.check()
        return outcome.reply

    async def place(
        self, *lines: tuple[UUID, int], customer: Recipient | None = None, key: str | None = None
    ) -> OrderPlaced:
        """The order; raises what it is refused with."""
        order = PlaceOrder(USER, customer or buyer(), lines, 3600)
        placed: OrderPlaced = await self.house.run(order, key=key)
        return placed

    async def free(self, product: UUID) -> int:
        return int(
            await self.house.database.fetchval(
                "SELECT balance FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'free'",
                product,
            )
        )

    async def ordered(self, product: UUID) -> int:
        """Pieces on lines of orders."""
        return int(
            await self.house.database.fetchval(
                "SELECT coalesce(sum(quantity), 0) FROM orders.lines WHERE product_id = $1", product
            )
        )


USER = uuid7()


@pytest.fixture(params=["ours", "row locks"])
async def shop(
    request: pytest.FixtureRequest,
    owner: Database,
    houses: Houses,
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[Shop]:
    """Ours and the baseline, each on a database of its own."""
    if request.param == "ours":
        yield Shop(await houses())
        return
    await owner.fetch(rows.allow_answering)
    options = {
        "database_url": database_url,
        "data_dir": tmp_path,
        "rate_limits": "off",
        "write_deadline_ms": PATIENCE_S * 1000,
    }
    async with RowLockedHouse(**options) as house:
        yield Shop(house)


async def test_of_three_hundred_orders_for_a_hundred_pieces_a_hundred_are_placed(
    shop: Shop,
) -> None:
    product = await shop.product(100)
    orders = [shop.place((product, 1), customer=buyer(number)) for number in range(300)]
    codes = Counter(await codes_of(orders))
    assert codes == {None: 100, "out_of_stock": 200}
    assert (await shop.free(product), await shop.ordered(product)) == (0, 100)


async def test_carts_in_any_order_of_their_lines_neither_deadlock_nor_oversell(
    shop: Shop, owner: Database
) -> None:
    stock = {await shop.product(count): count for count in (60, 40, 80)}
    products = list(stock)
    deadlocks = await owner.fetchval(DEADLOCKS)
    dice = random.Random(7)
    carts = [
        [(id, dice.randint(1, 2)) for id in dice.sample(products, dice.randint(1, 3))]
        for _ in range(150)
    ]
    codes = Counter(await codes_of([shop.place(*cart) for cart in carts]))
    assert codes.keys() == {None, "out_of_stock"}
    for id, there in stock.items():
        assert await shop.free(id) + await shop.ordered(id) == there
        assert await shop.free(id) >= 0
    assert await owner.fetchval(DEADLOCKS) == deadlocks


async def test_an_order_is_whole_and_a_refused_one_leaves_nothing(shop: Shop) -> None:
    shirt, hat = await shop.product(10), await shop.product(1)
    placed = await shop.place((shirt, 2), (hat, 1), (shirt, 1))
    assert (placed.status, placed.total_amount) == ("PENDING", 4 * PRICE)
    stranger = buyer(99)
    assert await code_of(shop.place((shirt, 1), (hat, 1), customer=stranger)) == "out_of_stock"
    assert (await shop.free(shirt), await shop.free(hat)) == (7, 0)
    row = await shop.house.database.fetchrow(
        "SELECT o.id, o.code, o.user_id, o.total_amount, o.phone, o.status::text, h.status::text,"
        " c.number, o.expires_at - o.created_at FROM orders.orders o"
        " JOIN orders.history h ON h.order_id = o.id JOIN orders.codes c ON c.order_id = o.id"
    )
    assert row is not None
    assert tuple(row)[:7] == (
        *(placed.order_id, placed.code, USER, 4 * PRICE, buyer().phone, "PENDING", "PENDING"),
    )
    assert placed.code == f"SON{row[7]:06}"
    assert round(row[8].total_seconds()) == 3600
    known = await shop.house.database.fetch("SELECT phone FROM orders.customers")
    assert [one[0] for one in known] == [buyer().phone]


async def test_the_same_key_twenty_times_is_one_order(shop: Shop) -> None:
    product = await shop.product(100)
    placed = await asyncio.gather(*(shop.place((product, 2), key="one wish") for _ in range(20)))
    assert len({one.order_id for one in placed}) == 1
    assert (await shop.free(product), await shop.ordered(product)) == (98, 2)


async def test_fifty_first_orders_of_one_phone_number_make_one_customer(shop: Shop) -> None:
    product = await shop.product(100)
    placed = await asyncio.gather(*(shop.place((product, 1)) for _ in range(50)))
    database = shop.house.database
    assert await database.fetchval("SELECT count(*) FROM orders.customers") == 1
    assert await database.fetchval("SELECT count(DISTINCT customer_id) FROM orders.orders") == 1
    assert len({one.code for one in placed}) == 50


async def test_what_is_not_sold_or_not_there_is_refused_alike(shop: Shop) -> None:
    product = await shop.product(5)
    assert await code_of(shop.place((uuid7(), 1))) == "not_found"
    await shop.operate(EditProduct(product, active=False))
    assert await code_of(shop.place((product, 1))) == "not_for_sale"
    assert await shop.free(product) == 5
