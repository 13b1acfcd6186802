"""Orders under contention: never one piece too many, never both of two things that exclude."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import pytest

from boxoffice import deadlocks
from playing import Houses, assert_clean, code_of, codes_of, outcome_of, ticket
from storefront import (
    PRICE,
    buyer,
    held_up,
    history,
    lapsed,
    money,
    new_product,
    payment_now,
    payment_of,
    place,
    status,
    stock,
    time_out,
)
from strongroom.apps.orders.customers import CreateCustomer
from strongroom.apps.orders.orders import PayOrder, PlaceOrder, Recipient
from strongroom.apps.orders.products import CreateProduct, EditProduct, MoveStock
from strongroom.apps.orders.rows import Method
from strongroom.apps.orders.steps import LapseOrders, RecordPayment, Step, TakeStep
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

Pair = tuple[Strongroom, Strongroom]

HOLD_ORDER = "SELECT FROM orders.orders WHERE id = $1 FOR UPDATE"
HOLD_PHONE = "SELECT pg_advisory_xact_lock(hashtextextended('orders.customers:' || $1, 0))"

PATIENT = 60_000
"""A deadline that no queue of these tests comes near."""


@pytest.fixture
async def pair(houses: Houses) -> Pair:
    """Two houses on one database."""
    return await houses(write_deadline_ms=PATIENT), await houses(write_deadline_ms=PATIENT)


# Never one too many --------------------------------------------------------------------------------


async def test_of_two_hundred_and_forty_buyers_exactly_as_many_are_served_as_there_are_pieces(
    pair: Pair,
) -> None:
    for pieces in (1, 100):
        shirt = await new_product(pair[0], pieces)
        calls = [
            place(
                pair[n % 2], (shirt, 1), customer=buyer(n % 40), method="MOMO" if n % 3 else "COD"
            )
            for n in range(240)
        ]
        codes = await codes_of(calls)
        assert codes.count(None) == pieces
        assert codes.count("out_of_stock") == 240 - pieces
        assert await stock(pair[0], shirt) == (0, pieces, 0)
    await assert_clean(pair[0])


async def test_who_is_refused_wanted_more_than_was_left(pair: Pair) -> None:
    chance = random.Random(7)
    shirt = await new_product(pair[0], 200)
    wanted = [chance.randint(1, 5) for _ in range(160)]
    codes = await codes_of([place(pair[n % 2], (shirt, k)) for n, k in enumerate(wanted)])
    got = sum(k for k, code in zip(wanted, codes, strict=True) if code is None)
    left, held, sold = await stock(pair[0], shirt)
    assert (left, held, sold) == (200 - got, got, 0)
    assert left < min(k for k, code in zip(wanted, codes, strict=True) if code)
    await assert_clean(pair[0])


async def test_carts_in_opposite_order_neither_deadlock_nor_oversell(
    pair: Pair, owner: Database
) -> None:
    a, b, c = [await new_product(pair[0], pieces) for pieces in (60, 40, 50)]
    carts = [(a, b, c), (c, b, a), (b, a, c), (c, a, b)]
    calls: list[Awaitable[Any]] = []
    for n in range(120):
        cart, house = carts[n % 4], pair[n % 2]
        lines = tuple((product, 1 + n % 2) for product in cart)
        calls.append(place(house, *lines, customer=buyer(n * 7 % 11)))
        if n % 10 == 0:
            calls.append(pair[n // 10 % 2].run(EditProduct(cart[0], name=f"Áo {n}")))
            calls.append(house.run(MoveStock(cart[1], "adjust", 1 - n % 20 // 5, "counted")))
    codes = await codes_of(calls)
    assert set(codes) <= {None, "out_of_stock", "invalid"}
    held = {(await stock(pair[0], product))[1] for product in (a, b, c)}
    assert len(held) == 1
    await assert_clean(pair[0])
    assert await deadlocks(owner) == 0


async def test_everything_at_once_over_two_houses_deadlocks_nowhere(
    pair: Pair, owner: Database
) -> None:
    chance = random.Random(11)
    products = [await new_product(pair[0], 200) for _ in range(4)]
    made = await asyncio.gather(
        *(
            place(
                pair[n % 2],
                *((product, 1) for product in chance.sample(products, 2)),
                customer=buyer(n % 9),
                method="CARD" if n % 2 else "COD",
            )
            for n in range(60)
        )
    )
    ids = [one.order_id for one in made]
    payments = [payment for id in ids if (payment := await payment_of(pair[0], id))]
    await time_out(owner, *ids[::5])
    calls: list[Awaitable[Any]] = []
    for _ in range(2):
        for name in MOVES_OF_ALL:
            calls += [
                pair[n % 2].run(TakeStep(id, name)) for n, id in enumerate(chance.sample(ids, 30))
            ]
        calls += [pair[n % 2].run(PayOrder(id, None, "COD")) for n, id in enumerate(ids[:20])]
        for n, payment in enumerate(chance.sample(payments, 20)):
            calls.append(pair[n % 2].run(RecordPayment(payment, "SUCCESS", 2 * PRICE, "ref")))
        calls += [lapsed(house) for house in pair]
        for n in range(20):
            lines = [(product, 1) for product in chance.sample(products, 3)]
            calls.append(place(pair[n % 2], *lines, customer=buyer(n)))
    chance.shuffle(calls)
    codes = await codes_of(calls)
    assert set(codes) <= {None, "wrong_state", "not_paid"}
    await assert_clean(pair[0])
    assert await deadlocks(owner) == 0


MOVES_OF_ALL: tuple[Step, ...] = ("confirm", "ship", "deliver", "cancel", "return")


# One of two, and as if one had come after the other ------------------------------------------------


Way = tuple[Method, tuple[str, ...]]
"""How an order was placed, and the steps it has taken: those of `Race.act`."""

WAYS: dict[str, Way] = {
    "waiting": ("COD", ()),
    "unpaid": ("MOMO", ()),
    "failed": ("MOMO", ("fails",)),
    "confirmed": ("COD", ("confirm",)),
    "paid": ("MOMO", ("pays",)),
    "shipped": ("COD", ("confirm", "ship")),
    "delivered": ("COD", ("confirm", "ship", "deliver")),
    "paid and delivered": ("MOMO", ("pays", "ship", "deliver")),
}
RACES = [
    ("waiting", "cancel", "confirm"),
    ("waiting", "cancel", "lapses"),
    ("waiting", "confirm", "lapses"),
    ("waiting", "lapses", "lapses"),
    ("waiting", "card", "confirm"),
    ("waiting", "card", "cancel"),
    ("confirmed", "cancel", "ship"),
    ("confirmed", "cancel", "cancel"),
    ("paid", "cancel", "ship"),
    ("shipped", "cancel", "deliver"),
    ("shipped", "deliver", "return"),
    ("shipped", "deliver", "deliver"),
    ("delivered", "return", "return"),
    ("paid and delivered", "return", "return"),
    ("unpaid", "pays", "lapses"),
    ("unpaid", "pays", "cancel"),
    ("unpaid", "pays", "pays"),
    ("unpaid", "pays", "fails"),
    ("unpaid", "pays", "pays too little"),
    ("failed", "cash", "pays"),
    ("failed", "card", "pays"),
    ("failed", "card", "lapses"),
    ("failed", "card", "cash"),
]


class Race:
    """An order with a product of its own, and what may happen to it at two houses."""

    def __init__(self, pair: Pair, owner: Database) -> None:
        self.pair, self.owner = pair, owner

    async def open(self, way: str) -> Race:
        method, steps = WAYS[way]
        house = self.pair[0]
        self.shirt = await new_product(house, 5)
        self.order = (await place(house, (self.shirt, 2), method=method)).order_id
        self.payment = await payment_of(house, self.order)
        for step in steps:
            await self.act(house, step)
        await time_out(self.owner, self.order)
        self.before = await money(house)
        return self

    async def act(self, house: Strongroom, what: str) -> None:
        said = {"pays": 2 * PRICE, "pays too little": PRICE, "fails": 0}
        command: Command
        if what in said:
            result: Any = "SUCCESS" if said[what] else "FAILED"
            command = RecordPayment(self.payment, result, said[what], "ref")
        elif what == "lapses":
            command = LapseOrders((self.order,))
        elif what in ("card", "cash"):
            command = PayOrder(self.order, None, "CARD" if what == "card" else "COD")
        else:
            command = TakeStep(self.order, what)  # type: ignore[arg-type]
        await house.run(command)

    async def facts(self, *codes: str | None) -> tuple[Any, ...]:
        """What each of the two came to, and how everything stands then."""
        house = self.pair[0]
        earned = tuple(
            after - before for after, before in zip(await money(house), self.before, strict=True)
        )
        return (
            codes,
            await status(house, self.order),
            [state for _, state, *_ in await history(house, self.order)],
            await stock(house, self.shirt),
            earned,
            self.payment and await payment_now(house, self.payment),
        )


@pytest.mark.parametrize("way", WAYS)
async def test_of_two_steps_at_once_each_sees_all_of_the_other_or_nothing(
    pair: Pair, owner: Database, way: str
) -> None:
    house, other = pair
    for one, two in [(one, two) for before, one, two in RACES if before == way]:
        alone = []
        for first, second in ((one, two), (two, one)):
            race = await Race(pair, owner).open(way)
            codes = [await code_of(race.act(house, what)) for what in (first, second)]
            alone.append(await race.facts(*(codes if first is one else codes[::-1])))
        for first, second in ((one, two), (two, one)):
            race = await Race(pair, owner).open(way)
            async with held_up(owner, HOLD_ORDER, race.order) as begin:
                begun = [await begin(race.act(house, first)), await begin(race.act(other, second))]
            results = [each.result() for each in begun]
            facts = await race.facts(*(results if first is one else results[::-1]))
            assert facts in alone, (first, second)
    await assert_clean(house)
    assert await deadlocks(owner) == 0


async def test_what_lapses_is_found_by_two_leaders_and_lapses_once(
    pair: Pair, owner: Database
) -> None:
    shirt = await new_product(pair[0], 60)
    await asyncio.gather(*(place(pair[n % 2], (shirt, 1)) for n in range(60)))
    await time_out(owner)
    await asyncio.gather(*(lapsed(house) for house in (*pair, *pair)))
    assert await stock(pair[0], shirt) == (60, 0, 0)
    assert await owner.fetchval("SELECT count(*) FROM orders.history") == 120
    await assert_clean(pair[0])


async def test_two_houses_do_not_give_one_sku_to_two_products(pair: Pair, owner: Database) -> None:
    wishes = [house.run(CreateProduct(f"S-{n}", "Áo", n)) for n in range(8) for house in pair]
    codes = await codes_of(wishes)
    assert codes.count(None) == codes.count("sku_taken") == 8
    accounts = "SELECT count(*) FROM ledger.accounts WHERE unit LIKE 'PIECE:%'"
    assert await owner.fetchval(accounts) == 8 * 4
    a, b = [row[0] for row in await owner.fetch("SELECT id FROM orders.products LIMIT 2")]
    both = [pair[0].run(EditProduct(a, sku="T-1")), pair[1].run(EditProduct(b, sku="T-1"))]
    assert sorted(map(str, await codes_of(both))) == ["None", "sku_taken"]
    await assert_clean(pair[0])


async def test_the_same_key_at_two_houses_places_one_order(pair: Pair) -> None:
    shirt = await new_product(pair[0], 100)
    for n in range(6):
        wish = PlaceOrder(uuid7(), buyer(n), ((shirt, 1),), 3600)
        outcomes = await asyncio.gather(
            *(outcome_of(house, ticket(wish, f"k{n}", deadline=float("inf"))) for house in pair * 2)
        )
        assert len({one.body for one in outcomes}) == 1
        assert sorted(one.replayed for one in outcomes) == [False, True, True, True]
    assert await stock(pair[0], shirt) == (94, 6, 0)
    await assert_clean(pair[0])


# Customers -----------------------------------------------------------------------------------------


async def test_a_new_phone_number_at_two_houses_at_once_makes_one_customer(
    pair: Pair, owner: Database
) -> None:
    shirts = [await new_product(pair[0]) for _ in range(2)]
    phone = "+84912111111"
    async with held_up(owner, HOLD_PHONE, phone) as begin:
        for house, shirt in zip(pair, shirts, strict=True):
            await begin(place(house, (shirt, 1), customer=Recipient(phone, "Hai")))
    other = "+84912222222"
    async with held_up(owner, HOLD_PHONE, other) as begin:
        placed = await begin(place(pair[0], (shirts[0], 1), customer=Recipient(other, "Ba")))
        created = await begin(pair[1].run(CreateCustomer(other, "Bốn")))
    assert (placed.result(), created.result()) == (None, "phone_taken")
    rows = await owner.fetch(
        "SELECT c.phone, count(DISTINCT c.id), count(*) FROM orders.customers c"
        " JOIN orders.orders o ON o.customer_id = c.id AND o.phone = c.phone GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [(phone, 1, 2), (other, 1, 1)]
    assert await owner.fetchval("SELECT count(*) FROM orders.customers") == 2
    await assert_clean(pair[0])


async def test_many_new_phone_numbers_in_any_order_make_each_a_customer(
    pair: Pair, owner: Database
) -> None:
    shirts = [await new_product(pair[0], 500) for _ in range(4)]
    chance = random.Random(3)
    numbers = [n % 30 for n in range(120)]
    chance.shuffle(numbers)
    calls: list[Awaitable[Any]] = [
        place(pair[k % 2], (shirts[k % 4], 1), customer=buyer(n)) for k, n in enumerate(numbers)
    ]
    calls += [
        pair[n % 2].run(CreateCustomer(buyer(n).phone, f"Cô {n}")) for n in reversed(range(30))
    ]
    assert set(await codes_of(calls)) <= {None, "phone_taken"}
    assert await owner.fetchval("SELECT count(*) FROM orders.customers") == 30
    assert await deadlocks(owner) == 0
    await assert_clean(pair[0])
