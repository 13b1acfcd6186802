"""Orders: placing, steps, stock and money."""

from __future__ import annotations

import pytest

from storefront import PRICE, money, new_product, place, status, stock, take, tell
from strongroom.apps.orders.products import MoveStock
from strongroom.errors import Refused
from strongroom.main import Strongroom


async def test_an_order_holds_its_pieces_and_shipping_sells_them(house: Strongroom) -> None:
    shirt, hat = await new_product(house, 10), await new_product(house, 5, price=7_000)
    placed = await place(house, (shirt, 3), (hat, 1), (shirt, 1))
    assert placed.total_amount == 4 * PRICE + 7_000
    assert (await stock(house, shirt), await stock(house, hat)) == ((6, 4, 0), (4, 1, 0))

    seen = await take(house, placed.order_id, "confirm", "ship")

    assert seen.status == "SHIPPED"
    assert sorted((line.quantity, line.unit_price) for line in seen.items) == [
        (1, 7_000),
        (4, PRICE),
    ]
    assert (await stock(house, shirt), await stock(house, hat)) == ((6, 0, 4), (4, 0, 1))
    assert await money(house) == (0, 0, 0)

    await take(house, placed.order_id, "deliver")

    total = placed.total_amount
    assert await money(house) == (total, 0, total)
    await take(house, placed.order_id, "return")
    assert (await stock(house, shirt), await money(house)) == ((10, 0, 0), (0, 0, 0))
    assert (await house.reconcile()).findings == []


async def test_an_order_of_more_than_there_is_holds_nothing_of_anything(house: Strongroom) -> None:
    shirt, hat = await new_product(house, 10), await new_product(house, 1)

    with pytest.raises(Refused, match="are free") as refused:
        await place(house, (shirt, 3), (hat, 1), (hat, 1))

    (short,) = refused.value.facts["short"]
    assert (short["productId"], short["wanted"], short["available"]) == (str(hat), 2, 1)
    assert (await stock(house, shirt), await stock(house, hat)) == ((10, 0, 0), (1, 0, 0))
    assert await house.database.fetchval("SELECT count(*) FROM orders.customers") == 0


async def test_a_prepaid_order_is_confirmed_by_its_payment(house: Strongroom) -> None:
    shirt = await new_product(house)
    placed = await place(house, (shirt, 2), method="MOMO")
    with pytest.raises(Refused, match="waits for its payment"):
        await take(house, placed.order_id, "confirm")

    await tell(house, placed.order_id)

    assert await status(house, placed.order_id) == ("CONFIRMED", "SUCCESS")
    assert await money(house) == (2 * PRICE, 2 * PRICE, 0)
    await take(house, placed.order_id, "cancel")
    assert await status(house, placed.order_id) == ("CANCELLED", "REFUNDED")
    assert (await money(house), await stock(house, shirt)) == ((0, 0, 0), (100, 0, 0))
    assert (await house.reconcile()).findings == []


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
