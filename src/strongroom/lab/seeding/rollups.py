"""The rollups of the story: its days but today, as the room's roller would make them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from strongroom.lab.seeding.fates import CANCELLED, RETURNED, STATUSES
from strongroom.lab.seeding.packing import Numbers, Words, bigint, day, moment, packed, uuid
from strongroom.lab.seeding.shop import DAY_US, VIETNAM_US
from strongroom.lab.seeding.story import Story

STATUS = Words(STATUSES)

DAYS_TOGETHER = 30

BEFORE = 2
"""The roller looks for orders so many days before the first one's: clocks may differ."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """Some days' rows, by table."""

    order_days: bytes
    product_days: bytes
    customer_days: bytes
    rolled_days: bytes

    def tables(self) -> Iterator[tuple[str, bytes]]:
        for name in ("order_days", "product_days", "customer_days", "rolled_days"):
            yield f"orders.{name}", getattr(self, name)


def rollups(story: Story) -> Iterator[Rolled]:
    """All days from the first order's to yesterday, some at a time."""
    days = (story.created_us + VIETNAM_US) // DAY_US
    today = (story.calendar.now_us + VIETNAM_US) // DAY_US
    for first in range(int(days[0]) - BEFORE, int(today), DAYS_TOGETHER):
        last = min(first + DAYS_TOGETHER, int(today))
        begin, end = (int(one) for one in np.searchsorted(days, (first, last)))
        yield _rolled(story, days[begin:end], first, last, begin, end)


def _rolled(story: Story, days: Numbers, first: int, last: int, begin: int, end: int) -> Rolled:
    status = story.status[begin:end]
    stands = (status != CANCELLED) & (status != RETURNED)
    all_days = np.arange(first, last)
    return Rolled(
        _order_days(story, days - first, status, first, slice(begin, end)),
        _product_days(story, days - first, stands, first, begin, end),
        _customer_days(story, days[stands], np.flatnonzero(stands) + begin),
        packed((day(all_days), moment(np.full(last - first, story.calendar.now_us)))),
    )


def _order_days(story: Story, days: Numbers, status: Numbers, first: int, part: slice) -> bytes:
    group = days * len(STATUSES) + status
    there, (orders, pieces, amount) = _summed(group, story.pieces[part], story.total[part])
    return packed(
        (
            day(first + there // len(STATUSES)),
            STATUS.text(there % len(STATUSES)),
            bigint(orders),
            bigint(pieces),
            bigint(amount),
        )
    )


def _product_days(
    story: Story, days: Numbers, stands: Numbers, first: int, begin: int, end: int
) -> bytes:
    order = story.line_orders(begin, end) - begin
    kept = stands[order]
    lines = story.lines(begin, end)
    product, quantity = story.line_product[lines][kept], story.line_quantity[lines][kept]
    goods = story.products
    group = days[order[kept]] * len(goods) + product
    there, (orders, pieces, amount) = _summed(group, quantity, quantity * goods.prices[product])
    return packed(
        (
            day(first + there // len(goods)),
            uuid(goods.ids[there % len(goods)]),
            bigint(orders),
            bigint(pieces),
            bigint(amount),
        )
    )


def _customer_days(story: Story, days: Numbers, order: Numbers) -> bytes:
    people = len(story.customers)
    group = days * people + story.customer[order]
    there, place = np.unique(group, return_inverse=True)
    orders, amount = (
        np.bincount(place, weights=weights, minlength=len(there))
        for weights in (None, story.total[order])
    )
    return packed(
        (
            day(there // people),
            uuid(story.customers.ids[there % people]),
            bigint(orders),
            bigint(amount),
        )
    )


def _summed(group: Numbers, *summands: Numbers) -> tuple[Numbers, list[Numbers]]:
    """The groups that are there; how often, and the sums. Sums are exact below 2^53."""
    counts = np.bincount(group)
    there = np.flatnonzero(counts)
    sums = [np.bincount(group, weights=one)[there] for one in summands]
    return there, [counts[there], *sums]
