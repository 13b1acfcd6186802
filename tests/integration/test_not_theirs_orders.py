"""Bugs that other shops had, by the issue that told of them. None may be ours."""

from __future__ import annotations

import pytest

from boxoffice import deadlocks
from playing import Houses, assert_clean, code_of, drained, outcome_of, ticket
from storefront import (
    PRICE,
    buyer,
    everything,
    group,
    held_up,
    history,
    money,
    new_product,
    payment_now,
    payment_of,
    place,
    status,
    stock,
    take,
    tell,
    time_out,
)
from strongroom.apps.orders.orders import PlaceOrder
from strongroom.apps.orders.products import EditProduct, MoveStock
from strongroom.apps.orders.steps import TakeStep
from strongroom.core.commands.command import IdempotencyKeyReused
from strongroom.core.db import Database
from strongroom.errors import Refused
from strongroom.ids import uuid7
from strongroom.main import Strongroom

HOLD_STOCK = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'free' FOR UPDATE"
FREE_TO_LOCK = """SELECT purpose FROM ledger.accounts WHERE owner_id = $1
    ORDER BY purpose FOR UPDATE SKIP LOCKED"""
HOLD_ORDER = "SELECT FROM orders.orders WHERE id = $1 FOR UPDATE"


@pytest.fixture
async def other(houses: Houses, house: Strongroom) -> Strongroom:
    """Another house on the database of the first."""
    return await houses()


# Check, then act, without a lock ------------------------------------------------------------------


async def test_django_oscar_4524_two_who_saw_the_last_piece_do_not_both_get_it(
    house: Strongroom, other: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 1)
    async with held_up(owner, HOLD_STOCK, shirt) as begin:
        begun = [await begin(place(one, (shirt, 1))) for one in (house, other)]
    assert [one.result() for one in begun] == [None, "out_of_stock"]
    assert await stock(house, shirt) == (0, 1, 0)
    await assert_clean(house)


async def test_medusa_16569_a_piece_that_is_taken_off_the_shelf_is_not_sold_as_well(
    house: Strongroom, other: Strongroom, owner: Database
) -> None:
    for turn in range(2):
        shirt = await new_product(house, 1)
        calls = [house.run(MoveStock(shirt, "adjust", -1, "moth")), place(other, (shirt, 1))]
        async with held_up(owner, HOLD_STOCK, shirt) as begin:
            begun = [await begin(call) for call in (calls if turn else calls[::-1])]
        assert [each.result() for each in begun] == [None, "out_of_stock"]
    await assert_clean(house)


async def test_inventree_12478_a_price_is_the_one_that_the_lock_showed(
    house: Strongroom, other: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 9)
    async with held_up(owner, HOLD_STOCK, shirt) as begin:
        await begin(house.run(EditProduct(shirt, price=7)))
        await begin(place(other, (shirt, 1)))
    assert await owner.fetchval("SELECT total_amount FROM orders.orders") == 7
    async with held_up(owner, HOLD_STOCK, shirt) as begin:
        edit = await begin(house.run(EditProduct(shirt, active=False)))
        late = await begin(place(other, (shirt, 1)))
    assert (edit.result(), late.result()) == (None, "not_for_sale")
    await assert_clean(house)


async def test_saleor_543_shipping_and_cancelling_do_not_both_see_a_confirmed_order(
    house: Strongroom, other: Strongroom, owner: Database
) -> None:
    for turn in range(2):
        shirt = await new_product(house, 3)
        order = (await place(house, (shirt, 2))).order_id
        await take(house, order, "confirm")
        calls = [house.run(TakeStep(order, "ship")), other.run(TakeStep(order, "cancel"))]
        async with held_up(owner, HOLD_ORDER, order) as begin:
            begun = [await begin(call) for call in (calls if turn else calls[::-1])]
        assert [each.result() for each in begun] == [None, "wrong_state"]
        assert await stock(house, shirt) == ((1, 0, 2) if turn else (3, 0, 0))
    await assert_clean(house)


# Lines, and the order of locks ---------------------------------------------------------------------


async def test_medusa_16502_the_same_item_on_two_lines_is_one_wish_for_the_sum(
    house: Strongroom, owner: Database
) -> None:
    shirt, hat = await new_product(house, 5), await new_product(house, 5)
    before = await everything(owner)
    with pytest.raises(Refused, match="5 are free, 6 are wanted") as refused:
        await place(house, (shirt, 3), (hat, 1), (shirt, 3))
    assert [short["wanted"] for short in refused.value.facts["short"]] == [6]
    assert await everything(owner) == before
    placed = await place(house, (shirt, 3), (hat, 1), (shirt, 2))
    assert await stock(house, shirt) == (0, 5, 0)
    lines = await owner.fetch("SELECT quantity FROM orders.lines ORDER BY quantity")
    assert [row[0] for row in lines] == [1, 5]
    await take(house, placed.order_id, "cancel")
    assert await stock(house, shirt) == (5, 0, 0)
    await assert_clean(house)


async def test_saleor_17123_nobody_holds_a_later_product_while_waiting_for_an_earlier_one(
    house: Strongroom, other: Strongroom, owner: Database
) -> None:
    a, b = await new_product(house, 5), await new_product(house, 5)
    order = (await place(house, (b, 1), (a, 1))).order_id
    async with held_up(owner, HOLD_STOCK, a) as begin:
        await begin(place(house, (a, 1), (b, 1)))
        await begin(place(other, (b, 1), (a, 1)))
        await begin(house.run(TakeStep(order, "cancel")))
        found = [row[0] for row in await owner.fetch(FREE_TO_LOCK, b)]
        assert found == ["free", "held", "sold"]
    assert (await stock(house, a), await stock(house, b)) == ((3, 2, 0), (3, 2, 0))
    assert await deadlocks(owner) == 0
    await assert_clean(house)


async def test_eventyay_1359_no_lock_is_saved_where_there_seems_to_be_plenty(
    house: Strongroom, other: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 1_000_000)
    async with held_up(owner, HOLD_STOCK, shirt) as begin:
        begun = [await begin(place(house, (shirt, 1)))]
        begun.append(await begin(other.run(MoveStock(shirt, "adjust", -1_000_000, "fire"))))
        assert not any(one.done() for one in begun)
    assert [one.result() for one in begun] == [None, "out_of_stock"]
    await assert_clean(house)


async def test_blnk_181_what_is_held_is_not_shown_as_available(house: Strongroom) -> None:
    shirt = await new_product(house, 5)
    await place(house, (shirt, 2))
    assert (await house.run(EditProduct(shirt))).available == 3


# Keys ----------------------------------------------------------------------------------------------


async def test_formance_1633_the_same_key_twice_in_one_group_is_one_order(
    house: Strongroom,
) -> None:
    shirt, ann = await new_product(house, 5), uuid7()
    wishes = [
        ticket(PlaceOrder(ann, buyer(), ((shirt, count),), 600), "key") for count in (1, 1, 2)
    ]
    await house.executor.run(wishes)
    first, again, another = [await wish.future for wish in wishes]
    assert (again.body, again.replayed) == (first.body, True)
    assert isinstance(another.error, IdempotencyKeyReused)
    assert await stock(house, shirt) == (4, 1, 0)
    await assert_clean(house)


# Payment, and what it pays for ---------------------------------------------------------------------


async def test_vendure_3508_pieces_are_taken_before_they_are_paid_and_not_after(
    house: Strongroom,
) -> None:
    shirt = await new_product(house, 1)
    order = (await place(house, (shirt, 1), method="CARD")).order_id
    assert await code_of(place(house, (shirt, 1), method="CARD")) == "out_of_stock"
    await tell(house, order)
    assert await status(house, order) == ("CONFIRMED", "SUCCESS")
    await assert_clean(house)


async def test_saleor_12652_a_callback_that_overtakes_the_answer_finds_its_order(
    house: Strongroom, owner: Database
) -> None:
    """The provider has told us before the buyer had an answer; who asks again hears the first."""
    shirt = await new_product(house, 2)
    wish = PlaceOrder(uuid7(), buyer(), ((shirt, 1),), 600, "MOMO")
    first = await outcome_of(house, ticket(wish, "key"))
    await drained(house)
    order = await owner.fetchval("SELECT id FROM orders.orders")
    assert await status(house, order) == ("CONFIRMED", "SUCCESS")
    again = await outcome_of(house, ticket(wish, "key"))
    assert (again.body, again.replayed) == (first.body, True)
    assert await payment_now(house, await payment_of(house, order)) == ("SUCCESS", PRICE, 0)
    await assert_clean(house)


async def test_alf_io_1421_an_order_whose_provider_says_nothing_does_not_hold_for_ever(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 1, price=54_009)
    order = (await place(house, (shirt, 1), method="MOMO")).order_id
    await drained(house)
    assert await status(house, order) == ("PENDING", "PENDING")
    await time_out(owner)
    await drained(house)
    assert await status(house, order) == ("CANCELLED", "VOID")
    assert await stock(house, shirt) == (1, 0, 0)
    await assert_clean(house)


async def test_blnk_374_a_return_that_is_asked_for_again_moves_nothing(
    house: Strongroom, other: Strongroom, owner: Database
) -> None:
    for method in ("COD", "MOMO"):
        shirt = await new_product(house, 3)
        order = (await place(house, (shirt, 1), method=method)).order_id
        if method == "MOMO":
            await tell(house, order)
        else:
            await take(house, order, "confirm")
        await take(house, order, "ship", "deliver")
        async with held_up(owner, HOLD_ORDER, order) as begin:
            begun = [await begin(one.run(TakeStep(order, "return"))) for one in (house, other)]
        assert [one.result() for one in begun] == [None, "wrong_state"]
        before = await everything(owner)
        assert await code_of(take(other, order, "return")) == "wrong_state"
        assert await everything(owner) == before
        assert (await money(house), await stock(house, shirt)) == ((0, 0, 0), (3, 0, 0))
    await assert_clean(house)


# Giving back ---------------------------------------------------------------------------------------


async def test_hi_events_790_a_cancelled_order_gives_back_each_of_its_lines_and_no_others(
    house: Strongroom,
) -> None:
    a, b, c = [await new_product(house, 9) for _ in range(3)]
    gone = await place(house, (a, 2), (b, 3), (a, 1))
    stays = await place(house, (b, 1), (c, 4))
    await group(house, TakeStep(gone.order_id, "cancel"), TakeStep(stays.order_id, "confirm"))
    assert [await stock(house, product) for product in (a, b, c)] == [
        (9, 0, 0),
        (8, 1, 0),
        (5, 4, 0),
    ]
    await take(house, stays.order_id, "ship")
    await take(house, stays.order_id, "return")
    assert [await stock(house, product) for product in (a, b, c)] == [(9, 0, 0)] * 3
    assert [state for _, state, *_ in await history(house, stays.order_id)][-1] == "RETURNED"
    await assert_clean(house)
