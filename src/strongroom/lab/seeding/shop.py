"""What is sold, and who buys: products that sell by a power law, customers who come again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from strongroom.lab.seeding import words
from strongroom.lab.seeding.packing import SECOND_US, Bytes, Numbers, Part, Words, digits, ids_at

HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
VIETNAM_US = 7 * HOUR_US

DAY_HOURS = 24

OPEN_DAYS_BEFORE = 7
"""Products and the house's accounts are this much older than the first order."""

SKEW, FLATTENED = 0.95, 6.0
"""Sales of the product on place k are in proportion to 1 / (k + 6) ^ 0.95: of 2,000 products the
best fifth makes two thirds of the pieces, and the best one does not make them all."""

NEWCOMERS = 0.13
"""The share of orders by customers who have never ordered before."""

LOYALTY = 1.3
"""The higher, the more of the others' orders come from the oldest customers."""

TET = (
    date(2021, 2, 12),
    date(2022, 2, 1),
    date(2023, 1, 22),
    date(2024, 2, 10),
    date(2025, 1, 29),
    date(2026, 2, 17),
    date(2027, 2, 6),
    date(2028, 1, 26),
    date(2029, 2, 13),
    date(2030, 2, 3),
)
"""The first days of the lunar years."""

SALES_DAYS = {(11, 11): 4.0, (12, 12): 3.4, (9, 9): 2.0, (10, 10): 1.8, (6, 6): 1.6, (3, 8): 1.5}
"""Month and day, and how many times more is sold."""

WEEK = (1.02, 0.97, 0.96, 0.98, 1.03, 1.12, 1.16)
"""From Monday on."""

HOURS_OF_DAY = np.array(
    [9, 5, 3, 2, 2, 3, 8, 18, 34, 46, 52, 55, 60, 52, 47, 46, 47, 50, 56, 70, 88, 92, 66, 32], float
)
"""By the clocks of Vietnam: a little at noon, most in the evening."""

GROWTH = 3.0
"""At the end this many times more is sold than in the beginning."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """The hours of the story: number 0 begins at `first_us`, the last one ends now."""

    first_us: int
    now_us: int

    @classmethod
    def of(cls, now: datetime, months: int) -> Calendar:
        now_us = int((now - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        first = now_us - months * 30_436_875 * (DAY_US // 1_000_000)
        return cls(first - first % HOUR_US, now_us)

    @property
    def hours(self) -> int:
        return (self.now_us - self.first_us) // HOUR_US + 1

    @property
    def last(self) -> int:
        return self.hours - 1

    def begin(self, hour: Numbers) -> Numbers:
        return np.asarray(self.first_us + hour.astype(np.int64) * HOUR_US)

    def end(self, hour: Numbers) -> Numbers:
        """When all that happened in an hour is written: the moment of its import."""
        return np.asarray(np.minimum(self.begin(hour) + HOUR_US, self.now_us))

    @property
    def opened_us(self) -> int:
        return self.first_us - OPEN_DAYS_BEFORE * DAY_US

    def weights(self) -> npt.NDArray[np.float64]:
        """How much is ordered in each hour."""
        hours = np.arange(self.hours)
        local = self.begin(hours) + VIETNAM_US
        days = local // DAY_US
        by_day = np.array([_of_day(day) for day in range(int(days[0]), int(days[-1]) + 1)])
        lasted = (self.end(hours) - self.begin(hours)) / HOUR_US
        growth = GROWTH ** (hours / self.hours)
        found = by_day[days - days[0]] * HOURS_OF_DAY[local % DAY_US // HOUR_US] * lasted * growth
        return np.asarray(found / found.sum())


def _of_day(unix_days: int) -> float:
    at = datetime.fromtimestamp(unix_days * 86_400, UTC).date()
    weight = WEEK[at.weekday()] * SALES_DAYS.get((at.month, at.day), 1.0)
    for tet in TET:
        after = (at - tet).days
        if -24 <= after < -3:
            weight *= 1.6
        elif -3 <= after < 5:
            weight *= 0.25
        elif 5 <= after < 15:
            weight *= 0.7
    return weight


@dataclass(frozen=True, slots=True)
class Products:
    """What is sold; by its place in these arrays a product is known everywhere here."""

    ids: Bytes
    skus: list[str]
    names: list[str]
    prices: npt.NDArray[np.int64]
    low_stock_at: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]
    popularity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.prices)


def products(count: int, calendar: Calendar, noise: np.random.Generator) -> Products:
    """Prices are whole thousands that end in 9: none of them, nor any sum of them, ends in the
    digits by which the sandbox plays its tricks."""
    kinds = noise.integers(0, len(words.WARES), count)
    prices = np.empty(count, np.int64)
    skus, names = [], []
    for number, kind in enumerate(kinds):
        prefix, middling, wares, forms = words.WARES[kind]
        ware, form = noise.integers(0, len(wares)), noise.integers(0, len(forms))
        thousands = middling * float(noise.lognormal(0, 0.5))
        prices[number] = max(2, round(thousands / 10)) * 10_000 - 1_000
        skus.append(f"{prefix}-{number + 1:05d}")
        names.append(f"{wares[ware]} {forms[form]}")
    places = noise.permutation(count)
    weights = (places + FLATTENED) ** -SKEW
    popularity = weights / weights.sum()
    return Products(
        ids=ids_at(np.full(count, calendar.opened_us) + np.arange(count) * 1000, noise),
        skus=skus,
        names=names,
        prices=prices,
        low_stock_at=np.clip((popularity * count * 10).astype(np.int64), 3, 200),
        active=noise.random(count) > 0.02,
        popularity=popularity,
    )


@dataclass(frozen=True, slots=True)
class Customers:
    """Who buys. Names and addresses are chosen from lists."""

    ids: Bytes
    phones: Bytes
    since_us: npt.NDArray[np.int64]
    names: Words
    name: npt.NDArray[np.int32]
    houses: Words
    house: npt.NDArray[np.int32]
    places: Words
    place: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.name)

    def address(self, chosen: Numbers) -> tuple[Part, Part]:
        return self.houses.part(self.house[chosen]), self.places.part(self.place[chosen])


def who_orders(orders: int, noise: np.random.Generator) -> npt.NDArray[np.int32]:
    """The customer of each order: numbered as they come, some of them again and again."""
    new = noise.random(orders) < NEWCOMERS
    new[0] = True
    known = np.cumsum(new)
    again = (known * noise.random(orders) ** LOYALTY).astype(np.int32)
    return np.where(new, known - 1, again).astype(np.int32)


def customers(since_us: npt.NDArray[np.int64], noise: np.random.Generator) -> Customers:
    """Customers who came at these moments, each with a number of their own."""
    count = len(since_us)
    lists = [
        Words(words.names(20_000, noise)),
        Words(words.houses(2_000, noise)),
        Words(words.places(6_000, noise)),
    ]
    name, house, place = (noise.integers(0, len(one), count, dtype=np.int32) for one in lists)
    return Customers(
        ids=ids_at(since_us, noise),
        phones=_phones(count),
        since_us=since_us,
        names=lists[0],
        name=name,
        houses=lists[1],
        house=house,
        places=lists[2],
        place=place,
    )


def _phones(count: int) -> Bytes:
    """Mobile numbers, none twice: steps through all of them by a number that has no common
    divisor with how many there are."""
    prefixes = Words(words.MOBILE)
    all_of_them = len(prefixes) * 10_000_000
    assert count <= all_of_them and np.gcd(all_of_them, 104_729_003) == 1
    prefix, rest = np.divmod(np.arange(count) * 104_729_003 % all_of_them, 10_000_000)
    found = np.empty((count, 12), np.uint8)
    found[:, :3] = np.frombuffer(b"+84", np.uint8)
    found[:, 3:5] = prefixes.cells[prefix]
    found[:, 5:] = digits(rest, 7)
    return found
