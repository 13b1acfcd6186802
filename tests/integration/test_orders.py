"""Orders: placing, steps, stock; and that what is refused leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest

from playing import assert_clean, code_of, outcome_of, ticket
from storefront import (
    PRICE,
    buyer,
    everything,
    group,
    history,
    lapsed,
    money,
    new_product,
    open_tills,
    place,
    status,
    stock,
    take,
    tell,
    time_out,
)
from strongroom.apps.orders.customers import EditCustomer
from strongroom.apps.orders.orders import PayOrder, PlaceOrder
from strongroom.apps.orders.products import MOST_PIECES, CreateProduct, EditProduct, MoveStock
from strongroom.apps.orders.steps import MOVES, Step, TakeStep
from strongroom.core.commands import Command
from strongroom.core.commands.command import IdempotencyKeyReused
from strongroom.core.db import Database
from strongroom.errors import Refused
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from strongroom.money import MAX_AMOUNT

# Placing -------------------------------------------------------------------------------------------


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


async def test_orders_keep_their_prices_whatever_the_catalogue_says_later(
    house: Strongroom,
) -> None:
    shirt = await new_product(house, 10)
    before = await place(house, (shirt, 2))
    await house.run(EditProduct(shirt, price=PRICE + 1, name="Áo mới"))
    after = await place(house, (shirt, 2))
    assert (before.total_amount, after.total_amount) == (2 * PRICE, 2 * PRICE + 2)
    await take(house, before.order_id, "confirm", "ship")
    seen = await take(house, before.order_id, "deliver")
    [line] = seen.items
    assert (line.unit_price, line.amount, line.name) == (PRICE, 2 * PRICE, "Áo mới")
    assert (seen.total_amount, await money(house)) == (2 * PRICE, (2 * PRICE, 0, 2 * PRICE))
    await assert_clean(house)


async def test_a_product_off_the_shelf_is_not_sold_but_what_was_ordered_of_it_goes_on(
    house: Strongroom,
) -> None:
    shirt, hat = await new_product(house, 10), await new_product(house, 10)
    placed = await place(house, (shirt, 2))
    await house.run(EditProduct(shirt, active=False))
    with pytest.raises(Refused, match="not sold now") as refused:
        await place(house, (hat, 1), (shirt, 1))
    assert refused.value.code == "not_for_sale"
    assert refused.value.facts == {"productId": str(shirt)}
    assert await stock(house, hat) == (10, 0, 0)
    await take(house, placed.order_id, "confirm", "ship", "return")
    await house.run(EditProduct(shirt, active=True))
    await place(house, (shirt, 10))
    await assert_clean(house)


async def test_each_piece_that_moves_is_in_the_ledger_with_its_order_and_who_moved_it(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 0)
    await house.run(MoveStock(shirt, "receive", 9, "delivery 17"), principal="ann")
    await house.run(MoveStock(shirt, "adjust", -1, "moth"), principal="ann")
    await house.run(MoveStock(shirt, "adjust", 2, "found"), principal="ann")
    kept, off, late = [await place(house, (shirt, n)) for n in (3, 2, 1)]
    await take(house, kept.order_id, "confirm", "ship", "return")
    await take(house, off.order_id, "cancel")
    await time_out(owner, late.order_id)
    await lapsed(house)
    rows = await owner.fetch(
        "SELECT t.key, t.reference, t.created_by, min(e.type::text), max(e.type::text),"
        " string_agg(a.purpose || ' ' || e.amount, ', ' ORDER BY e.amount)"
        " FROM ledger.transfers t JOIN ledger.entries e ON e.transfer_id = t.id"
        " JOIN ledger.accounts a ON a.id = e.account_id"
        " WHERE t.unit = 'PIECE:' || $1 GROUP BY t.id ORDER BY t.id",
        str(shirt),
    )

    def of(placed: Any, key: str, kind: str, legs: str, by: str = "library") -> tuple[str, ...]:
        return f"{key}:{placed.order_id}:{shirt}", placed.code, by, kind, kind, legs

    supply, adjust = "SUPPLY", "ADJUSTMENT"
    assert [tuple(row) for row in rows] == [
        (f"SUPPLY:{shirt}:1", "delivery 17", "ann", supply, supply, "world -9, free 9"),
        (f"ADJUST:{shirt}:2", "moth", "ann", adjust, adjust, "free -1, world 1"),
        (f"ADJUST:{shirt}:3", "found", "ann", adjust, adjust, "world -2, free 2"),
        of(kept, "HOLD", "HOLD", "free -3, held 3"),
        of(off, "HOLD", "HOLD", "free -2, held 2"),
        of(late, "HOLD", "HOLD", "free -1, held 1"),
        of(kept, "SALE", "SALE", "held -3, sold 3"),
        of(kept, "RETURN", "RETURN", "sold -3, free 3"),
        of(off, "RELEASE", "RELEASE", "held -2, free 2"),
        of(late, "EXPIRE", "EXPIRY", "held -1, free 1", "worker:chores"),
    ]
    assert await stock(house, shirt) == (10, 0, 0)
    await assert_clean(house)


async def test_what_is_free_is_ordered_shipped_delivered_and_returned_without_money(
    house: Strongroom,
) -> None:
    gift = await new_product(house, 10, price=0)
    cash, momo, back = [
        await place(house, (gift, 2), method=method) for method in ("COD", "MOMO", "CARD")
    ]
    for placed in (cash, momo, back):
        assert placed.total_amount == 0
        assert await status(house, placed.order_id) == ("PENDING", "SUCCESS")
    assert "redirectUrl" not in str(momo.payment)
    assert await code_of(house.run(PayOrder(momo.order_id, None, "CARD"))) == "wrong_state"
    await take(house, cash.order_id, "confirm", "ship", "deliver", "return")
    await take(house, momo.order_id, "confirm", "ship", "deliver")
    await take(house, back.order_id, "confirm", "cancel")
    assert await status(house, cash.order_id) == ("RETURNED", "VOID")
    assert await status(house, momo.order_id) == ("DELIVERED", "SUCCESS")
    assert await status(house, back.order_id) == ("CANCELLED", "VOID")
    assert (await money(house), await stock(house, gift)) == ((0, 0, 0), (8, 0, 2))
    assert await house.database.fetchval("SELECT count(*) FROM payments.payments") == 0
    await assert_clean(house)


async def test_no_order_is_larger_than_a_payment_can_carry(
    house: Strongroom, owner: Database
) -> None:
    gold, more = await new_product(house, 9, price=MAX_AMOUNT), await new_product(house, 9, price=1)
    placed = await place(house, (gold, 1))
    before = await everything(owner)
    for lines in [((gold, 1), (more, 1)), ((gold, 2),), ((gold, 1), (gold, 1))]:
        assert await code_of(place(house, *lines, customer=buyer(5))) == "invalid"
    assert await everything(owner) == before
    await take(house, placed.order_id, "confirm", "ship", "deliver", "return")
    await assert_clean(house)


async def test_in_a_group_of_two_hundred_a_product_that_runs_out_stops_only_who_wants_it(
    house: Strongroom, owner: Database
) -> None:
    scarce, plenty = await new_product(house, 30), await new_product(house, 1000)
    commands: list[Command] = []
    for n in range(200):
        lines = [(plenty, 1)] if n % 3 else [(scarce, 1), (plenty, 2)]
        commands.append(PlaceOrder(uuid7(), buyer(n % 50), tuple(lines), 3600))
    answers = await group(house, *commands)
    wanted = [n for n in range(200) if n % 3 == 0]
    refused = [n for n, (code, _) in enumerate(answers) if code]
    assert refused == wanted[30:]
    assert {answers[n][0] for n in refused} == {"out_of_stock"}
    assert await stock(house, scarce) == (0, 30, 0)
    assert await stock(house, plenty) == (1000 - 60 - 133, 60 + 133, 0)
    # Numbers go to those who are placed, in their order, without a hole among them.
    placed = [reply.code for code, reply in answers if code is None]
    assert placed == [f"SON{n:06}" for n in range(1, 164)]
    assert await owner.fetchval("SELECT count(*) FROM orders.customers") == 50
    assert await owner.fetchval("SELECT count(*) FROM orders.restated") == 1
    await assert_clean(house)


# Steps ---------------------------------------------------------------------------------------------

WAYS: dict[str, tuple[Step, ...]] = {
    "PENDING": (),
    "CONFIRMED": ("confirm",),
    "SHIPPED": ("confirm", "ship"),
    "DELIVERED": ("confirm", "ship", "deliver"),
    "CANCELLED": ("cancel",),
    "RETURNED": ("confirm", "ship", "return"),
}
ALLOWED = {
    ("PENDING", "confirm"): "CONFIRMED",
    ("PENDING", "cancel"): "CANCELLED",
    ("CONFIRMED", "cancel"): "CANCELLED",
    ("CONFIRMED", "ship"): "SHIPPED",
    ("SHIPPED", "deliver"): "DELIVERED",
    ("SHIPPED", "return"): "RETURNED",
    ("DELIVERED", "return"): "RETURNED",
}


async def test_of_all_steps_from_all_states_only_those_of_the_table_are_taken(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 100)
    await open_tills(house)
    for before, way in WAYS.items():
        for step in MOVES:
            order = (await place(house, (shirt, 1))).order_id
            if way:
                await take(house, order, *way)
            there = await everything(owner)
            [(code, reply)] = await group(house, TakeStep(order, step, reason="why not"))
            after = ALLOWED.get((before, step))
            if after is None:
                assert code == "wrong_state", (before, step)
                assert await everything(owner) == there
            else:
                assert (code, reply.status) == (None, after), (before, step)
                assert (await history(house, order))[-1][1:] == (after, "tester", "why not")
    assert (await stock(house, shirt))[0] + sum((await stock(house, shirt))[1:]) == 100
    await assert_clean(house)


async def test_a_refused_step_says_in_which_state_the_order_is(house: Strongroom) -> None:
    shirt = await new_product(house)
    placed = await place(house, (shirt, 1))
    await take(house, placed.order_id, "confirm", "ship")
    with pytest.raises(Refused, match="SHIPPED") as refused:
        await take(house, placed.order_id, "cancel")
    assert refused.value.code == "wrong_state"


async def test_in_one_group_an_order_takes_its_steps_one_at_a_time(house: Strongroom) -> None:
    shirt = await new_product(house, 5)
    order = (await place(house, (shirt, 2))).order_id
    steps: list[Step] = ["ship", "confirm", "confirm", "ship", "cancel", "deliver", "return"]
    answers = await group(house, *(TakeStep(order, step) for step in [*steps, steps[-1]]))
    expected = ["wrong_state", None, "wrong_state", None, "wrong_state", None, None, "wrong_state"]
    assert [code for code, _ in answers] == expected
    assert [(version, state) for version, state, *_ in await history(house, order)] == [
        (1, "PENDING"),
        (2, "CONFIRMED"),
        (3, "SHIPPED"),
        (4, "DELIVERED"),
        (5, "RETURNED"),
    ]
    assert (await stock(house, shirt), await money(house)) == ((5, 0, 0), (0, 0, 0))
    await assert_clean(house)


async def test_history_tells_every_state_with_who_and_why(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house)
    user = uuid7()
    placing = PlaceOrder(user, buyer(), ((shirt, 1),), 3600, "MOMO")
    order = (await house.run(placing, principal=str(user))).order_id
    await tell(house, order)
    await house.run(TakeStep(order, "ship", reason="GHN 1234"), principal="operator-1")
    await house.run(TakeStep(order, "return", reason="too small"), principal="operator-2")
    assert await history(house, order) == [
        (1, "PENDING", str(user), None),
        (2, "CONFIRMED", "library", "paid"),
        (3, "SHIPPED", "operator-1", "GHN 1234"),
        (4, "RETURNED", "operator-2", "too small"),
    ]
    rows = await owner.fetch("SELECT at FROM orders.history ORDER BY version")
    at = [row[0] for row in rows]
    assert at == sorted(set(at))
    assert await owner.fetchval("SELECT created_at FROM orders.orders") == at[0]
    assert await owner.fetchval("SELECT version FROM orders.orders") == 4


async def test_whoever_places_or_changes_orders_leaves_their_day_in_the_same_transaction(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house)
    old, new = [(await place(house, (shirt, 1))).order_id for _ in range(2)]
    # Placed when it was still the day before in London, and the 2nd in Hanoi.
    await owner.fetch(
        "UPDATE orders.orders SET created_at = '2026-03-01T17:30:00Z' WHERE id = $1", old
    )
    today = await owner.fetchval(
        "SELECT orders.day_of(created_at)::text FROM orders.orders WHERE id = $1", new
    )

    async def restated() -> list[str]:
        rows = await owner.fetch("DELETE FROM orders.restated RETURNING day::text")
        return sorted(row[0] for row in rows)

    await restated()
    await group(house, TakeStep(old, "confirm"), TakeStep(new, "confirm"), TakeStep(new, "ship"))
    assert await restated() == ["2026-03-02", today]
    await group(house, TakeStep(old, "cancel"), TakeStep(new, "confirm"))
    assert await restated() == ["2026-03-02"]
    await group(house, TakeStep(old, "confirm"), TakeStep(new, "cancel"))
    assert await restated() == []
    for pay in ("tell", "lapse"):
        order = (await place(house, (shirt, 1), method="MOMO")).order_id
        assert await restated() == [today]
        if pay == "tell":
            await tell(house, order)
        else:
            await time_out(owner, order)
            await lapsed(house)
        assert await restated() == [today]


async def test_a_foreign_order_is_as_one_that_is_not_there(
    house: Strongroom, owner: Database
) -> None:
    shirt, ann, bob = await new_product(house), uuid7(), uuid7()
    cash = (await place(house, (shirt, 1), user=ann)).order_id
    momo = (await place(house, (shirt, 1), user=ann, method="MOMO")).order_id
    await tell(house, momo, "FAILED")
    await open_tills(house)
    before = await everything(owner)
    answers = [
        *await group(house, *(TakeStep(id, "cancel", bob) for id in (cash, momo, uuid7()))),
        *await group(house, *(PayOrder(id, bob, "COD") for id in (cash, momo, uuid7()))),
    ]
    assert [code for code, _ in answers] == ["not_found"] * 6
    assert await everything(owner) == before
    await house.run(PayOrder(momo, ann, "CARD"))
    await take(house, cash, "cancel", user_id=ann)
    assert await status(house, cash) == ("CANCELLED", "VOID")


async def test_what_nobody_pays_or_confirms_lapses_once_and_gives_its_pieces_back(
    house: Strongroom, owner: Database
) -> None:
    shirt, hat = await new_product(house, 10), await new_product(house, 10)
    cash = await place(house, (shirt, 2), (hat, 1))
    momo = await place(house, (shirt, 3), method="MOMO")
    confirmed, alive = await place(house, (hat, 1)), await place(house, (hat, 2))
    await take(house, confirmed.order_id, "confirm")
    await time_out(owner, cash.order_id, momo.order_id)
    await owner.fetch(
        "UPDATE orders.orders SET expires_at = now() - interval '1 day' WHERE id = $1",
        confirmed.order_id,
    )
    await lapsed(house)
    once = await everything(owner)
    await lapsed(house)
    assert await everything(owner) == once
    for placed in (cash, momo):
        assert await status(house, placed.order_id) == ("CANCELLED", "VOID")
        assert (await history(house, placed.order_id))[1:] == [
            (2, "CANCELLED", "worker:chores", "unpaid")
        ]
    assert await status(house, confirmed.order_id) == ("CONFIRMED", "PENDING")
    assert await status(house, alive.order_id) == ("PENDING", "PENDING")
    assert (await stock(house, shirt), await stock(house, hat)) == ((10, 0, 0), (7, 3, 0))
    await assert_clean(house)


async def test_two_hundred_and_fifty_orders_lapse_in_portions(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 250)
    wishes: list[Command] = [PlaceOrder(uuid7(), buyer(n), ((shirt, 1),), 3600) for n in range(250)]
    await group(house, *wishes)
    await time_out(owner)
    await lapsed(house)
    assert await stock(house, shirt) == (250, 0, 0)
    assert (
        await owner.fetchval("SELECT count(*) FROM orders.history WHERE reason = 'unpaid'") == 250
    )
    await assert_clean(house)


# Products and stock --------------------------------------------------------------------------------


async def test_stock_is_corrected_down_to_what_is_free_and_not_below(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house, 5)
    await place(house, (shirt, 3))
    before = await everything(owner)
    for quantity in (-3, -MOST_PIECES):
        with pytest.raises(Refused, match="2 pieces are free") as refused:
            await house.run(MoveStock(shirt, "adjust", quantity, "counted"))
        assert refused.value.code == "out_of_stock"
    for kind, quantity in (("receive", -1), ("receive", 0), ("adjust", 0)):
        assert await code_of(house.run(MoveStock(shirt, kind, quantity, "x"))) == "invalid"  # type: ignore[arg-type]
    assert await everything(owner) == before
    seen = await house.run(MoveStock(shirt, "adjust", -2, "counted"))
    assert (seen.available, seen.held, seen.sold) == (0, 3, 0)
    seen = await house.run(MoveStock(shirt, "receive", MOST_PIECES, "a mountain"))
    assert (seen.available, seen.held, seen.sold, seen.seq) == (MOST_PIECES, 3, 0, 4)
    await assert_clean(house)


async def test_a_sku_names_one_product(house: Strongroom, owner: Database) -> None:
    codes = [
        code
        for code, _ in await group(
            house,
            CreateProduct("A-1", "one", 1),
            CreateProduct("A-1", "two", 2),
            CreateProduct("B-1", "three", 3),
        )
    ]
    assert codes == [None, "sku_taken", None]
    a, b = [row[0] for row in await owner.fetch("SELECT id FROM orders.products ORDER BY sku")]
    before = await everything(owner)
    assert await code_of(house.run(CreateProduct("B-1", "four", 4))) == "sku_taken"
    assert await code_of(house.run(EditProduct(a, sku="B-1", price=77))) == "sku_taken"
    assert await everything(owner) == before
    codes = [
        code
        for code, _ in await group(
            house, EditProduct(a, sku="C-1"), EditProduct(b, sku="C-1"), EditProduct(b, sku="B-1")
        )
    ]
    assert codes == [None, "sku_taken", None]
    assert await owner.fetchval("SELECT price FROM orders.products WHERE id = $1", a) == 1
    await assert_clean(house)


async def test_who_asks_for_a_product_or_customer_that_is_not_there_leaves_no_trace(
    house: Strongroom, owner: Database
) -> None:
    shirt = await new_product(house)
    await open_tills(house)
    before = await everything(owner)
    nobody, nothing = uuid7(), uuid7()
    wishes: list[Command] = [
        EditProduct(nothing, price=1),
        MoveStock(nothing, "receive", 1, "x"),
        EditCustomer(nobody, name="X"),
        PlaceOrder(uuid7(), buyer(1), ((shirt, 1), (nothing, 1)), 60),
        PlaceOrder(uuid7(), nobody, ((shirt, 1),), 60),
        PlaceOrder(uuid7(), nobody, ((shirt, 1),), 60, anyone=True),
        PlaceOrder(None, nobody, ((shirt, 1),), 60),
        TakeStep(nothing, "cancel"),
        PayOrder(nothing, None, "COD"),
    ]
    for wish in wishes:
        assert await code_of(house.run(wish)) == "not_found", wish
        assert await everything(owner) == before, wish


# Customers -----------------------------------------------------------------------------------------


# Keys ----------------------------------------------------------------------------------------------


async def test_the_same_key_places_and_steps_once_and_another_body_is_refused(
    house: Strongroom, owner: Database
) -> None:
    shirt, ann = await new_product(house, 10), uuid7()
    wish = PlaceOrder(ann, buyer(), ((shirt, 2),), 3600)
    # Twice in one group, then again.
    first, second = ticket(wish, "k"), ticket(wish, "k")
    await house.executor.run([first, second])
    placed = await first.future
    again = [await second.future, await outcome_of(house, ticket(wish, "k"))]
    assert all((one.body, one.replayed) == (placed.body, True) for one in again)
    assert placed.reply is not None
    id = placed.reply.order_id  # type: ignore[attr-defined]
    confirmed = await outcome_of(house, ticket(TakeStep(id, "confirm"), "c"))
    await take(house, id, "ship")
    before = await everything(owner)
    replay = await outcome_of(house, ticket(TakeStep(id, "confirm"), "c"))
    assert (replay.body, replay.replayed) == (confirmed.body, True)
    late = await outcome_of(house, ticket(TakeStep(id, "confirm"), "c2"))
    assert late.refused == "wrong_state"
    other = PlaceOrder(ann, buyer(), ((shirt, 3),), 3600)
    for changed, key in ((other, "k"), (TakeStep(id, "confirm", reason="x"), "c")):
        refused = await outcome_of(house, ticket(changed, key))
        assert isinstance(refused.error, IdempotencyKeyReused)
    assert await everything(owner) == before
    # A refusal is an answer as well, though there is enough by now.
    big = PlaceOrder(ann, buyer(), ((shirt, 9),), 3600)
    no = await outcome_of(house, ticket(big, "big"))
    await house.run(MoveStock(shirt, "receive", 100, "more"))
    still = await outcome_of(house, ticket(big, "big"))
    assert (no.refused, still.refused, still.body) == ("out_of_stock", "out_of_stock", no.body)
    await assert_clean(house)
