"""Customers: one for each phone number, and who may know what of them."""

from __future__ import annotations

from uuid import UUID

from playing import code_of
from storefront import (
    everything,
    group,
    new_product,
    place,
    take,
)
from strongroom.apps.orders.customers import CreateCustomer, EditCustomer
from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom


async def test_a_phone_number_is_one_customer_and_orders_keep_what_they_said(
    house: Strongroom, owner: Database
) -> None:
    shirt, phone = await new_product(house), "+84912000001"
    ann = Recipient(phone, "Ann", "ann@example.com", "1 Hàng Bài")
    first = await place(house, (shirt, 1), customer=ann, note="ring twice")
    second = await place(house, (shirt, 1), customer=Recipient(phone, "Anna", None, "2 Hàng Bài"))
    third = await place(house, (shirt, 1), customer=ann, address="3 Hàng Bài")
    [customer] = await owner.fetch("SELECT id, name, email, address FROM orders.customers")
    assert tuple(customer)[1:] == ("Ann", "ann@example.com", "1 Hàng Bài")
    await house.run(EditCustomer(customer["id"], name="Bà Ann", email=None))
    said = [await take(house, one.order_id, "confirm") for one in (first, second, third)]
    assert [(one.customer.name, one.customer.address) for one in said] == [
        ("Ann", "1 Hàng Bài"),
        ("Anna", "2 Hàng Bài"),
        ("Ann", "3 Hàng Bài"),
    ]
    assert {(one.customer.customer_id, one.customer.phone) for one in said} == {
        (customer["id"], phone)
    }
    assert said[0].note == "ring twice"
    by_id = await place(house, (shirt, 1), customer=customer["id"], anyone=True)
    seen = await take(house, by_id.order_id, "confirm")
    assert (seen.customer.name, seen.customer.address) == ("Bà Ann", "1 Hàng Bài")


async def test_who_has_not_ordered_for_a_customer_cannot_name_them_by_id(
    house: Strongroom, owner: Database
) -> None:
    shirt, ann, bob = await new_product(house), uuid7(), uuid7()
    await place(house, (shirt, 1), user=ann)
    made = await house.run(CreateCustomer("+84912000002", "Chị Hai"))
    mine = await owner.fetchval("SELECT customer_id FROM orders.orders")
    await place(house, (shirt, 1), user=ann, customer=mine)
    before = await everything(owner)
    theirs = [(bob, mine), (ann, made.customer_id)]
    for user, customer in theirs:
        assert await code_of(place(house, (shirt, 1), user=user, customer=customer)) == "not_found"
    assert await everything(owner) == before
    # In one group, too, where somebody else may.
    commands = [
        PlaceOrder(user, mine, ((shirt, 1),), 60, anyone=anyone)
        for user, anyone in [(bob, False), (bob, True), (ann, False), (uuid7(), False)]
    ]
    codes = [code for code, _ in await group(house, *commands)]
    assert codes == ["not_found", None, None, "not_found"]


async def test_customers_are_added_and_edited(house: Strongroom, owner: Database) -> None:
    phones = ["+84912000003", "+84912000003", "+84912000004"]
    answers = await group(house, *(CreateCustomer(phone, "Hai") for phone in phones))
    assert [code for code, _ in answers] == [None, "phone_taken", None]
    before = await everything(owner)
    assert await code_of(house.run(CreateCustomer(phones[0], "Ba"))) == "phone_taken"
    assert await everything(owner) == before
    id: UUID = answers[0][1].customer_id
    await house.run(EditCustomer(id, name="Ba", address="4 Hàng Gai"))
    seen = await house.run(EditCustomer(id, address=None, email="ba@example.com"))
    assert (seen.name, seen.address, seen.email) == ("Ba", None, "ba@example.com")


async def test_a_phone_number_does_not_lead_to_what_others_have_said_of_it(
    house: Strongroom,
) -> None:
    shirt, nosy = await new_product(house), uuid7()
    hers = Recipient("+84911222333", "Nguyễn Thị Lan", address="12 Hàng Gai, Hà Nội")
    await place(house, (shirt, 1), customer=hers)
    first = await place(house, (shirt, 1), user=nosy, customer=Recipient(hers.phone, "x"))
    known = (await take(house, first.order_id, "cancel")).customer.customer_id

    again = await place(house, (shirt, 1), user=nosy, customer=known)

    seen = (await take(house, again.order_id, "cancel", user_id=nosy)).customer
    assert (seen.name, seen.address) == ("x", None)
    by_staff = await place(house, (shirt, 1), customer=known, anyone=True)
    seen = (await take(house, by_staff.order_id, "cancel")).customer
    assert (seen.name, seen.address) == (hers.name, hers.address)
