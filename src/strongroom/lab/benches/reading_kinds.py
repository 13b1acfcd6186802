"""What a shop is asked all day: kinds of reads, how often each, and what was promised of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

from strongroom.apps.orders.rows import OrderStatus
from strongroom.lab.benches.shops import Known, Sold

LIST_MS, SEARCH_MS, ONE_MS, STATS_MS, REPORT_MS, PLACE_MS = 200.0, 200.0, 50.0, 300.0, 5000.0, 500.0
"""What was promised at the 99th percentile; of reports, of each."""

PAGE = 20
"""Lines of a list: what a screen shows."""

STATUSES: tuple[OrderStatus, ...] = ("PENDING", "CONFIRMED", "SHIPPED", "DELIVERED", "CANCELLED")

FREQUENT = ("Nguyễn", "nguyen thi", "tran", "Lê")
"""Every third Vietnamese is called Nguyễn."""

Asks = Literal["operator", "users"]


@dataclass(frozen=True)
class Sample:
    """What is asked for: orders and products of a shop, and cursors of its lists."""

    orders: Sequence[Known]
    products: Sequence[Sold]
    order_cursors: Sequence[str]
    product_cursors: Sequence[str]


@dataclass(frozen=True)
class Kind:
    """Reads of one kind. `steady`: by key or by page, so it must not grow with the shop. Its
    rate is that of a thousand reads a second together, of which three in a hundred search among
    orders and customers for a fragment."""

    name: str
    per_second: float
    promised_ms: float
    steady: bool
    asks: Asks
    paths: Callable[[Sample], list[str]]

    @property
    def in_load(self) -> bool:
        """Reports over years take a core for a second: they are asked alone."""
        return self.promised_ms != REPORT_MS


def _asked(path: str, **query: object) -> str:
    return f"{path}?{urlencode({name.rstrip('_'): value for name, value in query.items()})}"


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def _dialled(phone: str) -> str:
    return f"0{phone.removeprefix('+84')}"


def _product_list(sample: Sample) -> list[str]:
    pages = [_asked("/api/products", limit=PAGE, cursor=one) for one in sample.product_cursors]
    return [_asked("/api/products", limit=PAGE), *pages]


def _product_search(sample: Sample) -> list[str]:
    """Words of names, and what SKUs end in."""
    said = [one.sku[-4:] if n % 2 else one.name.split()[0] for n, one in enumerate(sample.products)]
    return [_asked("/api/products", q=one, limit=PAGE) for one in said]


def _of_days(sample: Sample) -> list[str]:
    """Single days, and every fourth time a month."""
    spans = [(one.created_at, timedelta(days=0 if n % 4 else 30)) for n, one in _numbered(sample)]
    return [
        _asked("/api/orders", from_=_day(at), to=_day(at + long), limit=PAGE) for at, long in spans
    ]


def _numbered(sample: Sample) -> Sequence[tuple[int, Known]]:
    return list(enumerate(sample.orders))


def _search(said: Callable[[Known], str], path: str = "/api/orders") -> Callable[..., list[str]]:
    """A search for something of each order."""

    def paths(sample: Sample) -> list[str]:
        return [_asked(path, q=said(one), limit=PAGE) for one in sample.orders]

    return paths


def _each(path: str, of: Callable[[Sample], Sequence[object]]) -> Callable[[Sample], list[str]]:
    def paths(sample: Sample) -> list[str]:
        return [path.format(one) for one in of(sample)]

    return paths


def _same(*paths: str) -> Callable[[Sample], list[str]]:
    return lambda _: list(paths)


def _report(name: str, days: int, **query: object) -> Callable[[Sample], list[str]]:
    """Of so many days until the last of the orders."""

    def paths(sample: Sample) -> list[str]:
        last = max(one.created_at for one in sample.orders)
        since = last - timedelta(days=days)
        return [_asked(f"/api/reports/{name}", from_=_day(since), to=_day(last), **query)]

    return paths


KINDS: tuple[Kind, ...] = (
    Kind("product list", 140, LIST_MS, True, "users", _product_list),
    Kind("product search", 80, SEARCH_MS, False, "users", _product_search),
    Kind(
        "product",
        100,
        ONE_MS,
        True,
        "users",
        _each("/api/products/{}", lambda sample: [one.id for one in sample.products]),
    ),
    Kind(
        "stock",
        60,
        ONE_MS,
        True,
        "users",
        _each("/api/products/{}/stock", lambda sample: [one.id for one in sample.products]),
    ),
    Kind("own orders", 120, LIST_MS, True, "users", _same(f"/api/orders?limit={PAGE}")),
    Kind("order list", 60, LIST_MS, True, "operator", _same(f"/api/orders?limit={PAGE}")),
    Kind(
        "order list, later pages",
        50,
        LIST_MS,
        True,
        "operator",
        _each(f"/api/orders?limit={PAGE}&cursor={{}}", lambda sample: sample.order_cursors),
    ),
    Kind(
        "order list by status",
        50,
        LIST_MS,
        True,
        "operator",
        _each(f"/api/orders?limit={PAGE}&status={{}}", lambda _: STATUSES),
    ),
    Kind("order list by date", 40, LIST_MS, True, "operator", _of_days),
    Kind(
        "order by id",
        150,
        ONE_MS,
        True,
        "operator",
        _each("/api/orders/{}", lambda sample: [one.id for one in sample.orders]),
    ),
    Kind(
        "order by code",
        100,
        ONE_MS,
        True,
        "operator",
        _each("/api/orders/{}", lambda sample: [one.code for one in sample.orders]),
    ),
    Kind("search, whole code", 20, SEARCH_MS, True, "operator", _search(lambda one: one.code)),
    Kind("search, code", 4, SEARCH_MS, False, "operator", _search(lambda one: one.code[4:9])),
    Kind(
        "search, phone",
        6,
        SEARCH_MS,
        False,
        "operator",
        _search(lambda one: _dialled(one.phone)[2:9]),
    ),
    Kind(
        "search, frequent name",
        4,
        SEARCH_MS,
        False,
        "operator",
        lambda _: [_asked("/api/orders", q=one, limit=PAGE) for one in FREQUENT],
    ),
    Kind("search, rare name", 4, SEARCH_MS, False, "operator", _search(lambda one: one.name)),
    Kind(
        "search, absent",
        2,
        SEARCH_MS,
        False,
        "operator",
        _search(lambda one: f"zx{_dialled(one.phone)[-3:]}qk"),
    ),
    Kind(
        "customers, phone",
        4,
        SEARCH_MS,
        False,
        "operator",
        _search(lambda one: _dialled(one.phone)[-6:], "/api/customers"),
    ),
    Kind(
        "customers, name",
        4.8,
        SEARCH_MS,
        False,
        "operator",
        _search(lambda one: one.name, "/api/customers"),
    ),
    Kind("statistics", 0.4, STATS_MS, False, "operator", _same("/api/stats")),
    Kind(
        "report, revenue", 0.2, REPORT_MS, False, "operator", _report("revenue", 1080, by="month")
    ),
    Kind("report, top products", 0.2, REPORT_MS, False, "operator", _report("top-products", 365)),
    Kind("report, customers", 0.2, REPORT_MS, False, "operator", _report("customers", 90)),
    Kind("report, low stock", 0.2, REPORT_MS, False, "operator", _same("/api/reports/low-stock")),
)

READS_PER_S = sum(one.per_second for one in KINDS)


def drawn(paths: list[str], dice: random.Random, count: int) -> list[str]:
    """So many of the paths in another order, again from the beginning where there are fewer."""
    shuffled = dice.sample(paths, len(paths))
    return (shuffled * -(-count // len(shuffled)))[:count]
