"""Reports of the orders application, as JSON, CSV or workbook, and files of orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any, Literal, cast, get_args

import msgspec

from strongroom.apps.orders.asked import Asked
from strongroom.apps.orders.exports import COLUMNS, workbook
from strongroom.apps.orders.reports import (
    DAYS,
    EARLIEST,
    By,
    CustomerSales,
    LowStock,
    Period,
    ProductSales,
    Revenue,
    ScarceProduct,
    SeriesDay,
    Span,
    Stats,
    TopCustomers,
    TopProducts,
)
from strongroom.apps.orders.rows import OrderStatus
from strongroom.doors.http.questions import VIETNAM, one_of, span, words
from strongroom.doors.http.routing import Call, Raw, Route, Routes
from strongroom.doors.http.sheets import MEDIA, sheet
from strongroom.errors import invalid

WORKBOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

Format = Literal["json", "csv", "xlsx"]

FILES = ("csv", "xlsx")

ITEMS: dict[str, type[msgspec.Struct]] = {
    "stats": SeriesDay,
    "revenue": Period,
    "top-products": ProductSales,
    "customers": CustomerSales,
    "low-stock": ScarceProduct,
}
"""What the rows of a report's file are, by the file's name."""

Body = AsyncGenerator[bytes, None]

PRIVATE = ((b"cache-control", b"private, no-store"),)


# What is asked -----------------------------------------------------------------------------------


async def _span(call: Call) -> Span:
    """The Vietnamese days that the range touches."""
    began, ended = span(call)
    if ended is None:
        until = await call.house.order_reports.today()
    else:
        until = (ended - timedelta(microseconds=1)).astimezone(VIETNAM).date()
    since = until - timedelta(days=DAYS - 1) if began is None else began.astimezone(VIETNAM).date()
    if not EARLIEST <= since <= until:
        raise invalid("from", "lies behind the end, or too far back")
    return Span(since, until)


def _by(call: Call) -> By:
    return cast(By, one_of(call, "by", get_args(By)) or "day")


def _form(call: Call) -> Format:
    """In which form an answer is wanted."""
    return cast(Format, one_of(call, "format", get_args(Format)) or "json")


# Files -------------------------------------------------------------------------------------------


def _headers(name: str, ending: str) -> Sequence[tuple[bytes, bytes]]:
    return (*PRIVATE, (b"content-disposition", f'attachment; filename="{name}.{ending}"'.encode()))


async def _watched(call: Call, begun: list[bytes], rest: Body) -> Body:
    """What was begun, then the rest, until the caller goes away: sending does not say so."""
    gone = asyncio.create_task(_gone(call))
    try:
        async with aclosing(rest):
            for portion in begun:
                yield portion
            async for portion in rest:
                if gone.done():
                    return
                if portion:
                    yield portion
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _gone(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def _headed(body: Body) -> Body:
    yield sheet([COLUMNS], first=True)
    async with aclosing(body):
        async for portion in body:
            yield portion


async def orders_file(call: Call, asked: Asked, form: Format) -> Raw:
    """All orders that fit, newest first, as a file that comes in portions; Overloaded when too
    many are under way."""
    exports = call.house.order_exports
    csv = form == "csv"
    body = _headed(exports.csv(asked)) if csv else exports.xlsx(asked)
    # As far as something was read: what is refused is refused before the answer begins.
    begun = []
    async for portion in body:
        begun.append(portion)
        if len(begun) == 2:
            break
    media = MEDIA if csv else WORKBOOK
    return Raw(media, _watched(call, begun, body), _headers("orders", form))


async def _table(name: str, items: Sequence[msgspec.Struct], form: Format) -> Raw:
    """The items of a report as a file."""
    kind = ITEMS[name]
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__))
    # Of which day a row is stands first.
    fields = sorted(names, key=lambda one: one not in ("period", "day"))
    headings = [names[one] for one in fields]
    rows = [[getattr(item, one) for one in fields] for item in items]
    if form == "csv":
        return Raw(MEDIA, sheet([headings, *rows], first=True), _headers(name, form))
    made = await asyncio.to_thread(workbook, name, headings, rows)
    return Raw(WORKBOOK, made, _headers(name, form))


# Reports -----------------------------------------------------------------------------------------


async def stats(call: Call) -> Stats | Raw:
    form = _form(call)  # refused before anything is read
    by = _by(call)
    days = await _span(call)
    found = await call.house.order_reports.stats()
    if call.query.keys() & {"from", "to", "by"}:
        series = await call.house.order_reports.series(days, by)
        found = msgspec.structs.replace(found, series=series)
    return found if form == "json" else await _table("stats", found.series, form)


async def revenue(call: Call) -> Revenue | Raw:
    form = _form(call)
    by = _by(call)
    found = await call.house.order_reports.revenue(await _span(call), by)
    return found if form == "json" else await _table("revenue", found.items, form)


async def top_products(call: Call) -> TopProducts | Raw:
    form, limit, _ = _form(call), call.number("limit", 20, 1, 100), _by(call)
    found = await call.house.order_reports.top_products(await _span(call), limit)
    return found if form == "json" else await _table("top-products", found.items, form)


async def customers(call: Call) -> TopCustomers | Raw:
    form, limit, _ = _form(call), call.number("limit", 20, 1, 100), _by(call)
    found = await call.house.order_reports.customers(await _span(call), limit)
    return found if form == "json" else await _table("customers", found.items, form)


async def low_stock(call: Call) -> LowStock | Raw:
    form, limit = _form(call), call.number("limit", 100, 1, 1000)
    found = await call.house.order_reports.low_stock(limit)
    return found if form == "json" else await _table("low-stock", found.items, form)


async def orders(call: Call) -> Raw:
    form = cast(Format, one_of(call, "format", FILES) or "csv")
    since, until = span(call)
    status = cast(OrderStatus | None, one_of(call, "status", get_args(OrderStatus)))
    asked = Asked(status=status, words=words(call), since=since, until=until)
    return await orders_file(call, asked, form)


RANGE = (
    "`from` and `to` are Vietnamese days, both within the range, or times, which mean all days "
    "that they touch, `to` itself left out; by default the last 30 days."
)

AS_FILE = "`format=csv` or `xlsx` gives a file."


def _report(
    name: str,
    read: Callable[[Call], Awaitable[Any]],
    answer: type[Any],
    summary: str,
    *query: str,
    path: str = "/api/reports/",
) -> Route:
    return Route(
        "GET",
        path + name,
        "operator",
        200,
        summary,
        None,
        answer,
        read=read,
        query=(*query, "format"),
        problems=("overloaded",) if answer is bytes else (),
        limited="reports",
    )


ORDERS_REPORTS: Routes = [
    _report(
        "stats",
        stats,
        Stats,
        "How the shop stands: orders and revenue of the last days, orders by status, stock. At "
        f"most 30 s old. The series is of the last 30 days, or by `by` over `from` to `to`. "
        f"{AS_FILE[:-1]} of the series.",
        "from",
        "to",
        "by",
        path="/api/",
    ),
    _report(
        "revenue",
        revenue,
        Revenue,
        "Orders by the day, week (from Monday) or month in which they were placed, as they stand "
        f"now, `by=day`, `week` or `month`. {RANGE} At most 1,000 periods. {AS_FILE}",
        "from",
        "to",
        "by",
    ),
    _report(
        "top-products",
        top_products,
        TopProducts,
        f"What sold best in the range as a whole, of orders that stand. {RANGE} {AS_FILE}",
        "from",
        "to",
        "by",
        "limit",
    ),
    _report(
        "customers",
        customers,
        TopCustomers,
        f"Who bought most in the range as a whole, of orders that stand. {RANGE} {AS_FILE}",
        "from",
        "to",
        "by",
        "limit",
    ),
    _report(
        "low-stock",
        low_stock,
        LowStock,
        f"Active products of which few pieces are free, the fewest first. {AS_FILE}",
        "limit",
    ),
    _report(
        "orders",
        orders,
        bytes,
        "All orders that fit, newest first, as a file: `format=csv` (the default) or `xlsx`, which "
        "has Vietnamese times. `from` and `to` are times, `to` left out, or Vietnamese days.",
        "from",
        "to",
        "status",
        "q",
    ),
]
