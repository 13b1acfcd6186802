"""All that happened in the shop: products, customers, orders, their baskets and their fates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strongroom.lab.seeding.fates import COD, Fates, drawn, fates
from strongroom.lab.seeding.packing import Bytes, Numbers, ids_at
from strongroom.lab.seeding.shop import (
    DAY_US,
    Calendar,
    Customers,
    Products,
    customers,
    products,
    who_orders,
)
from strongroom.lab.seeding.words import NOTES

LINES = (0.62, 0.25, 0.09, 0.04)
"""Of one, two, three and four lines."""

QUANTITIES = (0.74, 0.17, 0.05, 0.02, 0.02)

NOTED = 0.12
"""The share of orders with a note."""

NONE = -1


@dataclass(frozen=True, slots=True)
class Story:
    """Orders stand in the order of their codes, lines in that of their orders: those of order i
    are `begins[i]:begins[i + 1]`."""

    calendar: Calendar
    products: Products
    customers: Customers
    fates: Fates
    ids: Bytes
    created_us: npt.NDArray[np.int64]
    customer: npt.NDArray[np.int32]
    note: npt.NDArray[np.int8]
    status: npt.NDArray[np.uint8]
    paid: npt.NDArray[np.uint8]
    begins: npt.NDArray[np.int32]
    line_product: npt.NDArray[np.uint16]
    line_quantity: npt.NDArray[np.uint8]
    total: npt.NDArray[np.int64]
    pieces: npt.NDArray[np.int32]
    payer: npt.NDArray[np.int32]
    """The orders that have a payment at a provider, one a payment."""
    payment: npt.NDArray[np.int32]
    """The payment of each order; NONE when it is paid in cash."""
    payment_ids: Bytes

    def __len__(self) -> int:
        return len(self.created_us)

    @property
    def expires_us(self) -> npt.NDArray[np.int64]:
        return self.created_us + DAY_US

    def lines(self, first: int, last: int) -> slice:
        return slice(int(self.begins[first]), int(self.begins[last]))

    def line_orders(self, first: int = 0, last: int | None = None) -> npt.NDArray[np.int32]:
        """The order of each line."""
        last = len(self) if last is None else last
        counts = np.diff(self.begins[first : last + 1])
        return np.repeat(np.arange(first, last, dtype=np.int32), counts)


def tell(orders: int, goods: int, calendar: Calendar, seed: int) -> Story:
    """The story of so many orders of so many products. The same seed draws the same shop and the
    same baskets; the hours follow the calendar."""
    shop, people, when, basket, fate = (np.random.default_rng([seed, part]) for part in range(5))
    sold = products(goods, calendar, shop)
    created = _created(orders, calendar, when)
    who = who_orders(orders, people)
    since = created[np.unique(who, return_index=True)[1]]
    begins, product, quantity = _baskets(orders, sold, basket)
    amounts = quantity * sold.prices[product]
    note = np.where(fate.random(orders) < NOTED, fate.integers(0, len(NOTES), orders), NONE)
    become = fates(created, calendar, fate)
    payer = np.flatnonzero(become.method != COD).astype(np.int32)
    payment = np.full(orders, NONE, np.int32)
    payment[payer] = np.arange(len(payer))
    return Story(
        calendar=calendar,
        products=sold,
        customers=customers(since, people),
        fates=become,
        ids=ids_at(created, when),
        created_us=created,
        customer=who,
        note=note.astype(np.int8),
        status=become.status(),
        paid=become.paid(),
        begins=begins,
        line_product=product,
        line_quantity=quantity,
        total=np.add.reduceat(amounts, begins[:-1]),
        pieces=np.add.reduceat(quantity, begins[:-1], dtype=np.int32),
        payer=payer,
        payment=payment,
        payment_ids=ids_at(created[payer] + 1000, when),
    )


def _created(orders: int, calendar: Calendar, noise: np.random.Generator) -> npt.NDArray[np.int64]:
    """When the orders were placed, ascending."""
    counts = noise.multinomial(orders, calendar.weights())
    hour = np.repeat(np.arange(calendar.hours), counts)
    lasts = calendar.end(hour) - calendar.begin(hour)
    created = calendar.begin(hour) + (noise.random(orders) * lasts).astype(np.int64)
    return np.asarray(np.sort(created))


def _baskets(
    orders: int, sold: Products, noise: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Where each order's lines begin, the lines' products and their quantities. What was put
    into the same basket twice is one line."""
    wanted = 1 + drawn(LINES, orders, noise).astype(np.int64)
    order = np.repeat(np.arange(orders, dtype=np.int64), wanted)
    chosen = np.searchsorted(np.cumsum(sold.popularity)[:-1], noise.random(len(order)))
    lines = np.sort(order * len(sold) + chosen)
    lines = lines[np.diff(lines, prepend=-1) != 0]
    order, product = np.divmod(lines, len(sold))
    begins = np.zeros(orders + 1, np.int32)
    np.cumsum(np.bincount(order, minlength=orders), out=begins[1:])
    quantity: Numbers = 1 + drawn(QUANTITIES, len(lines), noise)
    return begins, product.astype(np.uint16), quantity.astype(np.uint8)
