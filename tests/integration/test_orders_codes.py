"""Order codes: unique, ascending, and without gaps where none may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import pytest

from playing import Houses, assert_clean, ticket
from storefront import buyer, group, held_up, new_product, place, stock
from strongroom.apps.orders.numbers import code_of, number_of
from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.apps.orders.products import MoveStock
from strongroom.core.db import Database
from strongroom.errors import Refused
from strongroom.ids import uuid7
from strongroom.main import Strongroom

Pair = tuple[Strongroom, Strongroom]

HOLD_GAPLESS = "SELECT last FROM orders.gapless FOR UPDATE"

PATIENT = 60_000
"""A deadline that no queue of these tests comes near."""


@pytest.fixture
async def pair(houses: Houses) -> Pair:
    """Two houses on one database."""
    return await houses(write_deadline_ms=PATIENT), await houses(write_deadline_ms=PATIENT)


def test_a_code_is_read_as_it_is_written_and_in_no_other_form() -> None:
    for number in (1, 123, 999_999, 1_000_000, 10**18 - 1):
        assert number_of(code_of(number)) == number
        assert number_of(code_of(number).lower()) == number
    assert (code_of(7), code_of(1_234_567)) == ("SON000007", "SON1234567")
    nonsense = ["", "SON", "SON7", "SON00007", "SON0000007", "SON-00007", "SON+00007", "SOM000007"]
    nonsense += ["SON00000\u0667", "SON00000\u00b2", "SON 00007", "SON000007 ", "SON" + "9" * 19]
    assert [number_of(text) for text in nonsense] == [None] * len(nonsense)


# One house -----------------------------------------------------------------------------------------


async def test_codes_count_up_and_a_refused_order_leaves_no_gap_in_a_gapless_shop(
    house: Strongroom,
) -> None:
    shirt = await new_product(house, 3)
    first = await place(house, (shirt, 1))
    second = await place(house, (shirt, 1), gapless=True)
    with pytest.raises(Refused, match="are free"):
        await place(house, (shirt, 5), gapless=True)
    third = await place(house, (shirt, 1), gapless=True)
    await house.run(MoveStock(shirt, "receive", 5, "more"))
    fourth = await place(house, (shirt, 1))
    codes = [first.code, second.code, third.code, fourth.code]
    assert codes == ["SON000001", "SON000002", "SON000003", "SON000004"]


async def given(owner: Database) -> list[int]:
    """All numbers that were given, each with the order that has it as its code."""
    rows = await owner.fetch(
        "SELECT c.number, o.code FROM orders.codes c LEFT JOIN orders.orders o ON o.id = c.order_id"
        " ORDER BY c.number"
    )
    assert [row["code"] for row in rows] == [f"SON{row['number']:06}" for row in rows]
    assert len(rows) == await owner.fetchval("SELECT count(*) FROM orders.orders")
    return [row["number"] for row in rows]


class Broken(PlaceOrder):
    """Fails after it has changed everything."""

    def decide(self, work: Any) -> Any:
        super().decide(work)
        raise ZeroDivisionError


@pytest.mark.parametrize("gapless", [False, True])
async def test_a_poisonous_order_fails_alone_and_takes_no_number_where_none_may_be_lost(
    house: Strongroom, owner: Database, gapless: bool
) -> None:
    shirt = await new_product(house, 12)

    def wish(n: int, kind: type[PlaceOrder] = PlaceOrder, name: str = "Hai") -> PlaceOrder:
        customer = Recipient(f"+849130000{n:02}", name)
        return kind(uuid7(), customer, ((shirt, 1),), 60, gapless=gapless)

    # One breaks in its decision, one in the database, and one wants more than there is.
    tickets = [ticket(wish(n), f"k{n}") for n in range(8)]
    tickets.insert(3, ticket(wish(50, Broken), "broken"))
    tickets.insert(6, ticket(wish(51, name="a\0b"), "poison"))
    much = PlaceOrder(uuid7(), buyer(), ((shirt, 13),), 60, gapless=gapless)
    tickets.insert(7, ticket(much, "much"))
    await house.executor.run(tickets)
    results = await asyncio.gather(*(one.future for one in tickets), return_exceptions=True)
    assert [n for n, one in enumerate(results) if isinstance(one, Exception)] == [3, 6]
    assert await stock(house, shirt) == (4, 8, 0)
    numbers = await given(owner)
    assert len(numbers) == 8
    if gapless:
        assert numbers == list(range(1, 9))
    assert await owner.fetchval("SELECT count(*) FROM orders.customers") == 8
    await assert_clean(house)


async def test_numbers_go_on_ascending_however_often_the_shop_changes_its_mind(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 100)
    codes = []
    for n in range(12):
        gapless = n % 4 < 2
        if n % 3 == 0:
            much = PlaceOrder(uuid7(), buyer(), ((shirt, 1000),), 60, gapless=gapless)
            [(code, _)] = await group(house, much)
            assert code == "out_of_stock"
        wishes = [
            PlaceOrder(uuid7(), buyer(), ((shirt, 1),), 60, gapless=gapless) for _ in range(1 + n)
        ]
        codes += [reply.code for _, reply in await group(house, *wishes)]
    assert codes == sorted(codes)
    # What was refused before it took a number has left no gap in either way.
    assert await given(owner) == list(range(1, len(codes) + 1))


async def test_orders_of_both_ways_of_numbering_in_one_group_do_not_stop_the_shop(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 10)
    for ways in ((True, False), (True, False), (False, True), (True, False, True)):
        # The first is refused, so that it is another one that the group's numbers are for.
        wishes = [
            PlaceOrder(uuid7(), buyer(), ((shirt, 1 if n else 100),), 60, gapless=gapless)
            for n, gapless in enumerate(ways)
        ]
        codes = [code for code, _ in await group(house, *wishes)]
        assert codes == ["out_of_stock", *[None] * (len(ways) - 1)]
    assert await given(owner) == [1, 2, 3, 4, 5]


# Two houses ----------------------------------------------------------------------------------------


def orders(
    pair: Pair, product: UUID, ways: tuple[bool, bool], count: int, first: int = 0
) -> list[Awaitable[str | None]]:
    """Orders at both houses, each with its way of numbering; every fifth is refused, and every
    seventh breaks in the database, so that its group is rolled back and halved."""

    async def one(n: int) -> str | None:
        name = "a\0b" if n % 7 == 3 else "Hai"
        customer = Recipient(f"+849144{n:05}", name)
        lines = (product, 10_000 if n % 5 == 0 else 1)
        try:
            placed = await place(pair[n % 2], lines, customer=customer, gapless=ways[n % 2])
        except Exception:
            return None
        return placed.code

    return [one(n) for n in range(first, first + count)]


def placed(count: int, first: int = 0) -> int:
    return sum(n % 7 != 3 and n % 5 != 0 for n in range(first, first + count))


@pytest.mark.parametrize("gapless", [False, True])
async def test_codes_of_two_houses_under_load_are_unique_and_have_no_gaps_where_none_may_be(
    pair: Pair, owner: Database, gapless: bool
) -> None:
    shirt = await new_product(pair[0], 1000)
    codes = await asyncio.gather(*orders(pair, shirt, (gapless, gapless), 140))
    found = [code for code in codes if code]
    assert len(found) == len(set(found)) == placed(140)
    numbers = await given(owner)
    assert [f"SON{n:06}" for n in numbers] == sorted(found)
    if gapless:
        assert numbers == list(range(1, len(found) + 1))
    # Who asks when somebody else was answered has the greater number, at whichever house.
    for n in range(6):
        later = (await place(pair[n % 2], (shirt, 1), gapless=gapless)).code
        assert later > max(found)
        found.append(later)
    await assert_clean(pair[0])


async def test_houses_that_number_in_different_ways_at_once_never_give_one_number_twice(
    pair: Pair, owner: Database
) -> None:
    shirt = await new_product(pair[0], 1000)
    found: list[str] = []
    ways = [(True, True), (True, False), (False, False), (False, True), (True, True)]
    for turn, each in enumerate(ways):
        first = turn * 70
        before = max(found, default="")
        codes = await asyncio.gather(*orders(pair, shirt, each, 70, first))
        new = [code for code in codes if code]
        assert len(new) == placed(70, first)
        assert min(new) > before
        if each == (True, True):
            # Within its turn there is no gap, whatever the turns before have left.
            assert int(max(new)[3:]) - int(min(new)[3:]) == len(new) - 1
        found += new
    assert len(set(found)) == len(found)
    assert [f"SON{n:06}" for n in await given(owner)] == sorted(found)
    await assert_clean(pair[0])


async def test_without_gaps_a_house_waits_for_the_other_and_goes_on_behind_it(
    pair: Pair, owner: Database
) -> None:
    shirts = [await new_product(pair[0]) for _ in range(2)]
    async with held_up(owner, HOLD_GAPLESS) as begin:
        for n, (house, shirt) in enumerate(zip(pair, shirts, strict=True)):
            await begin(place(house, (shirt, 1), customer=buyer(n), gapless=True))
        # Who numbers with gaps does not wait, and its number is not given again.
        wish = PlaceOrder(None, buyer(8), ((await new_product(pair[1]), 1),), 3600)
        [(_, free)] = await group(pair[0], wish)
        assert free.code == "SON000001"
    assert await given(owner) == [1, 2, 3]
