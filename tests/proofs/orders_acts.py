"""Acts of orders."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

import past_orders
from proofs.acting import (
    ORDERS,
    Doing,
    act,
    asked,
    chore,
    kept_up,
    worked,
)
from proofs.payment_acts import drained_of_money
from storefront import buyer, new_product, open_tills, payment_of, place, take
from storefront import tell as tell_order
from storefront import time_out as time_out_orders
from strongroom.apps.orders import customers, products, steps
from strongroom.apps.orders import orders as sales
from strongroom.apps.orders.rollups import make_partitions, roll_once
from strongroom.core.db import Database
from strongroom.doors.worker import worker_of
from strongroom.ids import uuid7
from strongroom.main import Strongroom


@act(products.CreateProduct)
async def create_product(house: Strongroom, owner: Database) -> Doing:
    return asked(products.CreateProduct("SKU-1", "Áo dài", 300_000))


@act(products.EditProduct)
async def edit_product(house: Strongroom, owner: Database) -> Doing:
    return asked(products.EditProduct(await new_product(house), price=70_000, name="Nón lá"))


@act(products.MoveStock)
async def receive_stock(house: Strongroom, owner: Database) -> Doing:
    return asked(products.MoveStock(await new_product(house), "receive", 40, "a delivery"))


@act(products.MoveStock)
async def adjust_stock(house: Strongroom, owner: Database) -> Doing:
    return asked(products.MoveStock(await new_product(house), "adjust", -40, "moths"))


@act(customers.CreateCustomer)
async def create_customer(house: Strongroom, owner: Database) -> Doing:
    return asked(customers.CreateCustomer("+84901234567", "Trần Thị Bưởi"))


@act(customers.EditCustomer, said_again=True)
async def edit_customer(house: Strongroom, owner: Database) -> Doing:
    made = await house.run(customers.CreateCustomer("+84901234567", "Trần Thị Bưởi"))
    return asked(customers.EditCustomer(made.customer_id, address="Huế"))


@act(sales.PlaceOrder)
async def place_order(house: Strongroom, owner: Database) -> Doing:
    lines = [(await new_product(house, 9), 2) for _ in range(2)]
    return asked(sales.PlaceOrder(uuid7(), buyer(), tuple(lines), 3600, "MOMO"))


@act(sales.PlaceOrder)
async def place_order_without_gaps(house: Strongroom, owner: Database) -> Doing:
    product = await new_product(house, 9)
    return asked(sales.PlaceOrder(uuid7(), buyer(), ((product, 2),), 3600, gapless=True))


@act(sales.PayOrder)
async def pay_order(house: Strongroom, owner: Database) -> Doing:
    product, user = await new_product(house, 9), uuid7()
    placed = await place(house, (product, 1), user=user, method="MOMO")
    await tell_order(house, placed.order_id, "FAILED", amount=0)
    return asked(sales.PayOrder(placed.order_id, user, "MOMO"))


async def in_cash(house: Strongroom, *taken: steps.Step) -> UUID:
    await open_tills(house)
    placed = await place(house, (await new_product(house, 9), 2))
    if taken:
        await take(house, placed.order_id, *taken)
    return placed.order_id


@act(steps.TakeStep)
async def confirm(house: Strongroom, owner: Database) -> Doing:
    return asked(steps.TakeStep(await in_cash(house), "confirm"))


@act(steps.TakeStep)
async def ship(house: Strongroom, owner: Database) -> Doing:
    return asked(steps.TakeStep(await in_cash(house, "confirm"), "ship"))


@act(steps.TakeStep)
async def deliver(house: Strongroom, owner: Database) -> Doing:
    return asked(steps.TakeStep(await in_cash(house, "confirm", "ship"), "deliver"))


@act(steps.TakeStep)
async def bring_back(house: Strongroom, owner: Database) -> Doing:
    order = await in_cash(house, "confirm", "ship", "deliver")
    return asked(steps.TakeStep(order, "return"))


@act(steps.TakeStep)
async def cancel_what_is_paid(house: Strongroom, owner: Database) -> Doing:
    placed = await place(house, (await new_product(house, 9), 2), method="MOMO")
    await drained_of_money(house)
    return asked(steps.TakeStep(placed.order_id, "cancel", reason="changed my mind"))


@act(ORDERS, steps.LapseOrders)
async def lapse(house: Strongroom, owner: Database) -> Doing:
    product = await new_product(house, 9)
    for number in range(2):
        await place(house, (product, 2), customer=buyer(number))
    await time_out_orders(owner)
    return chore(2)


@act("orders_pay", steps.RecordPayment)
async def confirm_what_is_paid(house: Strongroom, owner: Database) -> Doing:
    await place(house, (await new_product(house, 9), 2), method="MOMO")
    await worker_of(house).work_once("payments_charge")
    return worked("orders_pay")


@act(steps.RecordPayment)
async def hear_of_no_payment(house: Strongroom, owner: Database) -> Doing:
    placed = await place(house, (await new_product(house, 9), 2), method="MOMO")
    payment = await payment_of(house, placed.order_id)
    return asked(steps.RecordPayment(payment, "FAILED", 0, "REF"))


@act("roll_up")
async def roll_up(house: Strongroom, owner: Database) -> Doing:
    """Two days of orders, one of them summed up before."""
    today = date.today()
    shop = await past_orders.open_shop(owner, today - timedelta(days=5))
    for days in (2, 3):
        at = past_orders.at(today - timedelta(days=days))
        await past_orders.placed(owner, shop, at, 1, 2)
    await roll_once(owner, rest_s=0)
    await past_orders.placed(owner, shop, past_orders.at(today - timedelta(days=2)), 3)
    return kept_up(lambda house: roll_once(house.database, 10, rest_s=0))


@act("make_partitions")
async def make_months(house: Strongroom, owner: Database) -> Doing:
    last = "SELECT max(relid::text) FROM pg_partition_tree('orders.orders') WHERE isleaf"
    await owner.fetch(f"DROP TABLE {await owner.fetchval(last)}")
    return kept_up(lambda house: make_partitions(house.database))
