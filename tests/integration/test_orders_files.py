"""Files of orders, and reports over HTTP: what was asked for, safe to open, never longer than wanted."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import secrets
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec
import openpyxl
import pytest

from past_orders import (
    Shop,
    at,
    open_shop,
    placed,
)
from playing import code_of
from strongroom.apps.orders import exports as exports_module
from strongroom.apps.orders.asked import Asked
from strongroom.apps.orders.exports import COLUMNS, Exports
from strongroom.apps.orders.reports import Reports
from strongroom.core.db import Database
from strongroom.doors.http.orders_reports import ORDERS_REPORTS, WORKBOOK
from strongroom.doors.http.routing import table
from strongroom.doors.http.seen import Seen
from strongroom.doors.http.sheets import MARK, sheet
from strongroom.ids import uuid7
from strongroom.main import Strongroom

APP = "strongroom_app"

NASTY = (
    '=HYPERLINK("http://x","y")',
    "+84 90",
    "-1",
    "@SUM(A1)",
    "  =1+1",
    "\u00a0=1",
    "\u3000=1",
    "＝1",
    "|cmd",
    'say "no", twice',
    "line\r\nbreak",
    "\ttab",
    "<b>&amp;</b>",
    "_x0041_",
    "bell\x07 and \ufffe",
    "Đặng Thị Ưu",
    " both ends ",
)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, role=APP) as db:
        yield db


@pytest.fixture
async def today(db: Database) -> date:
    return await Reports(db).today()


@pytest.fixture
async def shop(db: Database, today: date) -> Shop:
    return await open_shop(db, today - timedelta(days=70))


# Files of orders ---------------------------------------------------------------------------------


async def whole(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([portion async for portion in body])


async def lines_of(db: Database, asked: Asked | None = None) -> list[list[str]]:
    text = (await whole(Exports(db).csv(asked or Asked()))).decode()
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of two orders."""
    monkeypatch.setattr(exports_module, "FIRST_PORTION", 1)
    monkeypatch.setattr(exports_module, "PORTION", 2)


async def test_a_file_says_every_order_as_it_is(db: Database, shop: Shop, today: date) -> None:
    moment = datetime(today.year, today.month, today.day, 1, 2, 3, 456_789, UTC)
    order = await placed(db, shop, moment, 2, 0, 1, code="SON000123", address=None)
    [line] = await lines_of(db)
    assert dict(zip(COLUMNS, line, strict=True)) == {
        "code": "SON000123",
        "createdAt": moment.isoformat().replace("+00:00", "Z"),
        "status": "PENDING",
        "customerName": "Trần Thị",
        "phone": "'+84900000000",
        "address": "",
        "items": "2 × SKU-1; 1 × SKU-3",
        "pieces": "3",
        "totalAmount": "302000",
        "paymentMethod": "COD",
        "paymentStatus": "PENDING",
        "orderId": str(order),
    }


async def test_no_text_of_a_file_is_computed_by_a_spreadsheet(
    db: Database, shop: Shop, today: date
) -> None:
    """The server's rule is that of all other files."""
    for text in NASTY:
        await placed(db, shop, at(today), customer_name=text, address=text)
    found = {tuple(line[i] for i in (3, 5)) for line in await lines_of(db)}
    other = csv.reader(io.StringIO(sheet([[x, x] for x in NASTY]).decode(), newline=""))
    assert found == {tuple(line) for line in other}


async def test_a_workbook_holds_the_texts_as_they_are(
    db: Database, shop: Shop, today: date
) -> None:
    moment = at(today, time(8, 30, 15))
    for text in NASTY:
        await placed(db, shop, moment, customer_name=text)
    book = openpyxl.load_workbook(io.BytesIO(await whole(Exports(db).xlsx(Asked()))))
    heading, *rows = book["orders"].iter_rows()
    assert tuple(cell.value for cell in heading) == COLUMNS and heading[0].font.bold
    said = {text.replace("\r\n", "\n").translate({7: None, 0xFFFE: None}) for text in NASTY}
    said = {text.replace("_x0041_", "_x005F_x0041_") for text in said}
    assert {row[3].value for row in rows} == said
    assert {row[3].data_type for row in rows} == {"s"}
    assert {row[8].value for row in rows} == {1_000}
    [seen] = {row[1].value for row in rows}
    assert abs(seen - datetime.combine(today, time(8, 30, 15))) < timedelta(milliseconds=1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("orders", [0, 1, 3, 4, 5, 10])
async def test_rows_that_do_not_fit_on_a_sheet_go_on_the_next(
    db: Database, shop: Shop, today: date, orders: int
) -> None:
    """Sheets of a heading and three rows."""
    made = [str(await placed(db, shop, at(today, time(9, minute=59 - n)))) for n in range(orders)]
    raw = await whole(Exports(db).xlsx(Asked(), rows_a_sheet=4))
    assert zipfile.ZipFile(io.BytesIO(raw)).testzip() is None
    book = openpyxl.load_workbook(io.BytesIO(raw))
    assert len(book.sheetnames) == max(1, -(-orders // 3))
    rows = [[*one.iter_rows(values_only=True)] for one in book]
    assert all(one[0] == COLUMNS and len(one) <= 4 for one in rows)
    assert [row[-1] for one in rows for row in one[1:]] == made


@pytest.mark.usefixtures("small")
async def test_a_file_neither_skips_nor_repeats_while_orders_come(
    db: Database, shop: Shop, today: date
) -> None:
    made = [str(await placed(db, shop, at(today, time(9, n)))) for n in range(9)]
    body, found = Exports(db).csv(Asked()), []
    async for portion in body:
        found += [line.split(",")[-1] for line in portion.decode().splitlines()]
        await placed(db, shop, at(today, time(10)))
    assert found == made[::-1]


@pytest.mark.usefixtures("small")
async def test_a_file_is_of_what_was_asked_for(db: Database, shop: Shop, today: date) -> None:
    yesterday = today - timedelta(days=1)
    late = {"clocks_apart": timedelta(hours=2)}
    one = await placed(db, shop, at(yesterday, time(23, 59)), customer_name="Lê Đức", **late)
    two = await placed(db, shop, at(today, time(0)), status="SHIPPED", phone="+84905556666")
    three = await placed(db, shop, at(today, time(0, 1)), customer=1, code="SON777777")

    async def found(**asked: Any) -> list[UUID]:
        return [UUID(line[-1]) for line in await lines_of(db, Asked(**asked))]

    assert set(await found()) == {one, two, three}
    assert await found(since=at(today), until=None) == []
    assert await found(until=at(today, time(0))) == [one]
    assert await found(since=at(today, time(0)), until=at(today, time(0, 1))) == [two]
    assert await found(status="SHIPPED") == [two]
    assert await found(customer_id=shop.customers[1]) == [three]
    assert await found(user_id=uuid7()) == []
    for words in ("duc", "Đức LÊ", "lê"):
        assert await found(words=words) == [one]
    for words in ("0905556666", "+84905556666", "555666"):
        assert await found(words=words) == [two]
    await db.fetch("INSERT INTO orders.codes VALUES (777777, $1)", three)
    assert await found(words="son777777") == [three]
    for words in ("%", "_", "\\", "lê tran", "son777778"):
        assert await found(words=words) == []
    assert await found(words="son777777", until=at(today, time(0))) == []


async def test_whoever_asks_for_one_file_too_many_comes_back_later(
    db: Database, shop: Shop, today: date
) -> None:
    await placed(db, shop, at(today))
    exports = Exports(db)
    under_way = [exports.csv(Asked()) for _ in range(exports_module.AT_ONCE)]
    for body in under_way:
        await anext(body)
    assert await code_of(anext(exports.csv(Asked()))) == "overloaded"
    await under_way[0].aclose()
    assert await whole(exports.xlsx(Asked()))
    begun = exports.xlsx(Asked())
    assert [await anext(begun), await anext(begun)]
    await begun.aclose()
    del begun
    gc.collect()
    await under_way[1].aclose()


async def test_a_file_is_read_as_whoever_reads_it(db: Database, shop: Shop, today: date) -> None:
    """No connection is held between two portions, and no transaction."""
    await placed(db, shop, at(today))
    body = Exports(db).csv(Asked())
    await anext(body)
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'"""
    assert await db.fetchval(query) == 0
    assert db.pool.get_size() == db.pool.get_idle_size()
    await body.aclose()


# Over HTTP ---------------------------------------------------------------------------------------


class Answer:
    """What came back, and in how many portions."""

    def __init__(self, sent: list[Any]) -> None:
        self.status: int = sent[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        self.portions = [one["body"] for one in sent[1:] if one["body"]]
        self.body = b"".join(self.portions)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Desk:
    """An operator's view of the reports, through the routes' table."""

    def __init__(self, house: Strongroom, token: str) -> None:
        self.house, self._token = house, token
        self._through: Any = table(house, Seen(), ORDERS_REPORTS)

    async def ask(self, path: str, *, stays_for: int | None = None) -> Answer:
        """The answer; a caller who stays for so many portions only sees no more."""
        sent: list[Any] = []
        gone = asyncio.Event()
        bare, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": "GET",
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "headers": [(b"authorization", f"Bearer {self._token}".encode())],
        }

        async def receive() -> Any:
            if not sent:
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if stays_for is not None and len(sent) > stays_for:
                gone.set()

        await self._through(scope, receive, send)
        return Answer(sent)


@pytest.fixture
async def desk(house: Strongroom) -> Desk:
    [(_, token)] = await house.identity.create_users(1, "operator")
    return Desk(house, token)


PATHS = [route.path for route in ORDERS_REPORTS]


@pytest.mark.parametrize("path", PATHS)
async def test_reports_are_for_operators_alone(house: Strongroom, path: str) -> None:
    [(_, token)] = await house.identity.create_users(1, "user")
    assert (await Desk(house, token).ask(path)).status == 403


@pytest.mark.parametrize("path", PATHS)
async def test_every_report_is_also_a_file(
    desk: Desk, db: Database, shop: Shop, today: date, path: str
) -> None:
    await placed(db, shop, at(today), 1, 2, customer_name="=1+1")
    await db.fetch("UPDATE orders.products SET name = '=1+1'")
    await db.fetch("UPDATE orders.customers SET name = '=1+1'")
    for form in ("csv", "xlsx"):
        answer = await desk.ask(f"{path}?format={form}")
        assert answer.status == 200
        assert answer.headers["content-disposition"].endswith(f'.{form}"')
        assert answer.headers["cache-control"] == "private, no-store"
        if form == "csv":
            assert answer.body.startswith(MARK.encode()) and answer.body.endswith(b"\r\n")
            assert b",=1+1" not in answer.body
            rows = len([*csv.reader(io.StringIO(answer.body.decode(), newline=""))])
        else:
            assert answer.headers["content-type"] == WORKBOOK
            [only] = openpyxl.load_workbook(io.BytesIO(answer.body))
            assert only.max_row == rows > 0 or path.endswith("low-stock")
            assert all(cell.data_type != "f" for row in only for cell in row)
    assert (await desk.ask(f"{path}?format=pdf")).status == 422


async def test_a_range_is_of_days_or_of_midnights(
    desk: Desk, db: Database, shop: Shop, today: date
) -> None:
    day = today - timedelta(days=3)
    await placed(db, shop, at(day, time(23, 59)))
    await placed(db, shop, at(day + timedelta(days=1), time(0)))
    next_day = day + timedelta(days=1)
    for query in (
        f"from={day}&to={day}",
        f"from={day}T00:00:00%2B07:00&to={next_day}T00:00:00%2B07:00",
        f"from={day}T00:00:00+07:00&to={day}",
        f"from={day - timedelta(days=1)}T17:00:00Z&to={day}T17:00:00Z",
    ):
        answer = (await desk.ask(f"/api/reports/revenue?{query}")).json
        assert (answer["from"], answer["to"]) == (str(day), str(day))
        assert (answer["totals"]["orders"], len(answer["items"])) == (1, 1)
    answer = (await desk.ask("/api/reports/revenue")).json
    assert (answer["from"], answer["to"]) == (str(today - timedelta(days=29)), str(today))
    assert answer["totals"]["orders"] == 2
    answer = (await desk.ask(f"/api/reports/top-products?to={day}")).json
    assert (answer["from"], answer["items"][0]["orders"]) == (str(day - timedelta(days=29)), 1)


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-02-30",
        "from=2026-13-01",
        "from=2026-1-1",
        "from=20260101",
        "from=%D9%A2%D9%A0%D9%A2%D9%A6-01-01",
        "from=2026-01-01T00:00:00",
        "from=1999-12-31",
        "to=2200-01-01",
        "to=9999-12-31T23:59:59Z",
        "from=0001-01-01T00:00:00%2B07:00",
        "from=2026-02-01&to=2026-01-31",
        "from=2026-01-01T00:00:00%2B07:00&to=2026-01-01T00:00:00%2B07:00",
        "from=2000-01-01&by=day",
        "by=year",
        "by=",
        "from=&to=",
        "limit=5",
        "format=CSV",
    ],
)
async def test_a_range_that_cannot_be_is_refused(desk: Desk, query: str) -> None:
    answer = await desk.ask(f"/api/reports/revenue?{query}")
    assert (answer.status, answer.json["code"]) == (422, "invalid")


async def test_the_file_of_orders_takes_any_time_and_the_last_day_whole(
    desk: Desk, db: Database, shop: Shop, today: date
) -> None:
    day = today - timedelta(days=3)
    for clock in (time(0), time(12, 30), time(23, 59, 59)):
        await placed(db, shop, at(day, clock))

    async def rows(query: str) -> int:
        answer = await desk.ask(f"/api/reports/orders?{query}")
        assert answer.status == 200, answer.body
        return answer.body.count(b"\r\n") - 1

    assert await rows(f"from={day}&to={day}") == 3
    assert await rows(f"from={day}T12:30:00%2B07:00") == 2
    assert await rows(f"to={day}T05:30:00Z") == 1
    assert await rows("status=DELIVERED") == 0
    assert await rows("q=tr%E1%BA%A7n+th%E1%BB%8B") == 3
    assert (await desk.ask("/api/reports/orders?status=LOST")).status == 422
    assert (await desk.ask("/api/reports/orders?format=json")).status == 422
    assert (await desk.ask("/api/reports/orders?q=" + "a" * 201)).status == 422


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_a_caller_who_goes_away_ends_the_work(
    desk: Desk, db: Database, shop: Shop, today: date, form: str
) -> None:
    for _ in range(40):
        await placed(db, shop, at(today), address=secrets.token_hex(10_000))
    all_of_it = await desk.ask(f"/api/reports/orders?format={form}")
    some = await desk.ask(f"/api/reports/orders?format={form}", stays_for=3)
    assert len(some.portions) < len(all_of_it.portions) - 5
    exports = desk.house.order_exports
    assert exports._under_way == 0
    assert not [task for task in asyncio.all_tasks() if "_gone" in str(task.get_coro())]


async def test_one_file_too_many_is_refused_before_it_begins(
    desk: Desk, db: Database, shop: Shop, today: date
) -> None:
    await placed(db, shop, at(today))
    under_way = [desk.house.order_exports.csv(Asked()) for _ in range(exports_module.AT_ONCE)]
    for body in under_way:
        await anext(body)
    answer = await desk.ask("/api/reports/orders")
    assert (answer.status, answer.json["code"]) == (429, "overloaded")
    for body in under_way:
        await body.aclose()
    assert (await desk.ask("/api/reports/orders")).status == 200
