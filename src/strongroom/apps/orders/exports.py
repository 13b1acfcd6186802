"""Files of orders, of any length: written by the server as text, a portion at a time, each read
for itself by its place among the ids. What sends them holds a portion and no connection; orders
that are placed meanwhile come before the first and are not missed."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from xlsxwriter import Workbook

from strongroom.apps.orders.asked import Asked
from strongroom.apps.orders.rollups import sql
from strongroom.apps.orders.seen import sql as found
from strongroom.apps.orders.words import words_of
from strongroom.core.db import Database
from strongroom.core.guard import Overloaded

COLUMNS = (
    "code",
    "createdAt",
    "status",
    "customerName",
    "phone",
    "address",
    "items",
    "pieces",
    "totalAmount",
    "paymentMethod",
    "paymentStatus",
    "orderId",
)
"""As the queries write them. `items` says every line as pieces × SKU."""

WIDTHS = (13, 19, 12, 24, 16, 36, 36, 8, 14, 14, 14, 38)

TIME_COLUMN = COLUMNS.index("createdAt")

PORTION = 2_000
"""Orders looked at together: half a megabyte of text, a tenth of a second of the server."""

FIRST_PORTION = 200
"""Whoever asks sees at once that it comes."""

AT_ONCE = 2
"""Files under way in a process. Each keeps a core of the server busy."""

ROWS_A_SHEET = 1_048_576
"""The heading is one of them (Excel's specifications and limits)."""

BYTES_A_SHEET = 1_500_000_000
"""A part of a plain ZIP ends at 2 GiB, and Excel mends files that say beforehand that a part may
be longer."""

QUICK = 1
"""How hard the file is compressed: 9 takes five times as long for a quarter less."""

NOT_IN_XML = "".join(map(chr, (*range(1, 9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF)))
"""XML 1.0, 2.2: these stand in no document, however written."""

FORMULAS_OFF = {
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "in_memory": True,
}
"""A text is a text, and no file is left behind."""

LAST_ID = UUID(int=2**128 - 1)
FIRST_ID = UUID(int=0)

SLACK = timedelta(days=1)
"""How far a process's clock, which an id is of, may be off the database's."""

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(9000, 1, 1, tzinfo=UTC)


class _Portion(NamedTuple):
    rows: int
    text: bytes


class Exports:
    """Orders as files, newest first, each a stream of portions, some of them empty: then nothing
    fitted yet. It has to be closed, or read to its end. Overloaded when too many are under way."""

    def __init__(self, database: Database) -> None:
        self._db, self._under_way = database, 0

    async def csv(self, asked: Asked) -> AsyncGenerator[bytes, None]:
        """Lines of RFC 4180, without a heading."""
        async with aclosing(self._portions(sql.orders_as_csv, asked)) as portions:
            async for portion in portions:
                yield portion.text

    async def xlsx(
        self, asked: Asked, rows_a_sheet: int = ROWS_A_SHEET
    ) -> AsyncGenerator[bytes, None]:
        """A workbook with a heading on each sheet; what does not fit on one goes on the next."""
        stream = _WorkbookStream(rows_a_sheet)
        with closing(stream):
            yield await asyncio.to_thread(stream.begin)
            portions = self._portions(
                sql.orders_as_sheet, asked, stream.dated, NOT_IN_XML, room=stream.room
            )
            async with aclosing(portions):
                async for portion in portions:
                    yield await asyncio.to_thread(stream.add, portion)
            yield await asyncio.to_thread(stream.end)

    async def _portions(
        self, query: str, asked: Asked, *more: Any, room: Callable[[], int] | None = None
    ) -> AsyncGenerator[_Portion, None]:
        if self._under_way >= AT_ONCE:
            raise Overloaded()
        self._under_way += 1
        try:
            before, least, patterns = await self._place(asked)
            size = FIRST_PORTION
            while True:
                limit = min(size, room()) if room else size
                row = await self._db.fetchrow(
                    query,
                    before,
                    least,
                    limit,
                    asked.status,
                    asked.since or LONG_AGO,
                    asked.until or FAR_AHEAD,
                    list(patterns),
                    asked.user_id,
                    asked.customer_id,
                    *more,
                )
                assert row is not None
                if row["reached"] is None:
                    return
                before, size = row["reached"], PORTION
                yield _Portion(row["rows"], row["portion"] or b"")
        finally:
            self._under_way -= 1

    async def _place(self, asked: Asked) -> tuple[UUID, UUID, tuple[str, ...]]:
        """Ids before which, and from which on, all that is asked for lies; and patterns that fit
        it. Words mean what they mean to a list."""
        before = _first_id(asked.until + SLACK) if asked.until else LAST_ID
        least = _first_id(asked.since - SLACK) if asked.since else FIRST_ID
        if asked.words is None:
            return before, least, ()
        words = words_of(await self._db.fetchval(found.plain, asked.words), codes=True)
        if words.is_empty:
            return FIRST_ID, least, ()
        if words.number is None:
            return before, least, words.patterns
        order: UUID | None = await self._db.fetchval(found.order_named, words.number)
        if order is None or not least <= order < before:
            return FIRST_ID, least, ()
        return UUID(int=order.int + 1), order, words.patterns


def _first_id(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


# Workbooks ----------------------------------------------------------------------------------------


def _template(sheets: int) -> dict[str, bytes]:
    """The parts of a workbook without rows, by name."""
    file = io.BytesIO()
    with Workbook(file, FORMULAS_OFF) as book:
        bold = book.add_format({"bold": True})
        dated = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        for number in range(1, sheets + 1):
            sheet = book.add_worksheet("orders" if number == 1 else f"orders {number}")
            sheet.write_row(0, 0, COLUMNS, bold)
            sheet.freeze_panes(1, 0)
            for place, width in enumerate(WIDTHS):
                sheet.set_column(place, place, width, dated if place == TIME_COLUMN else None)
    with zipfile.ZipFile(file) as parts:
        return {name: parts.read(name) for name in parts.namelist()}


class _Sink:
    """Takes what the archive writes, until it is sent."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """There is nothing to close."""

    def taken(self) -> bytes:
        taken = b"".join(self._written)
        self._written.clear()
        return taken


def _sheet_part(number: int) -> str:
    return f"xl/worksheets/sheet{number}.xml"


class _WorkbookStream:
    """A workbook written from front to back: a library makes all but the rows, which pass through
    once. No file, and no more of it in memory than one portion."""

    def __init__(self, rows_a_sheet: int) -> None:
        self._sink = _Sink()
        self._archive = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=QUICK)
        self._most = rows_a_sheet
        self._number = self._rows = self._bytes = 0
        self._part: Any = None
        self.dated = ""
        """The style of a column of times, once it has begun."""

    def room(self) -> int:
        """How many rows the next portion may have."""
        left = self._most - self._rows
        return left if left > 0 and self._bytes < BYTES_A_SHEET else self._most - 1

    def begin(self) -> bytes:
        parts = _template(2)
        self._heads, self._tail = [], b"</worksheet>"
        for number in (1, 2):
            head, _, self._tail = parts[_sheet_part(number)].partition(b"</sheetData>")
            # The library knows of the heading alone.
            self._heads.append(re.sub(rb"<dimension [^>]*/>", b"", head))
        [dated] = set(re.findall(rb' style="(\d+)"', self._heads[0]))
        self.dated = dated.decode()
        self._next_sheet()
        return self._sink.taken()

    def add(self, portion: _Portion) -> bytes:
        """Rows, as many as there is room for; what of the file is there by now."""
        if portion.rows and (self._rows >= self._most or self._bytes >= BYTES_A_SHEET):
            self._next_sheet()
        self._part.write(portion.text)
        self._rows += portion.rows
        self._bytes += len(portion.text)
        return self._sink.taken()

    def end(self) -> bytes:
        self._end_sheet()
        for name, part in _template(self._number).items():
            if not name.startswith("xl/worksheets/"):
                self._archive.writestr(name, part)
        self._archive.close()
        return self._sink.taken()

    def close(self) -> None:
        """Ends what was not read to its end: an archive may not be left open."""
        if self._part is not None:
            self._part.close()
        self._archive.close()

    def _next_sheet(self) -> None:
        if self._part is not None:
            self._end_sheet()
        self._number += 1
        self._part = self._archive.open(_sheet_part(self._number), "w")
        self._part.write(self._heads[min(self._number, 2) - 1])
        self._rows, self._bytes = 1, 0

    def _end_sheet(self) -> None:
        self._part.write(b"</sheetData>" + self._tail)
        self._part.close()


def workbook(name: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """A short table, of some thousand rows at most, as a workbook."""
    file = io.BytesIO()
    with Workbook(file, FORMULAS_OFF | {"remove_timezone": True}) as book:
        bold = book.add_format({"bold": True})
        dated = book.add_format({"num_format": "yyyy-mm-dd"})
        sheet = book.add_worksheet(name)
        sheet.write_row(0, 0, headings, bold)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, len(headings) - 1, 18)
        for number, row in enumerate(rows, 1):
            for place, cell in enumerate(row):
                if isinstance(cell, datetime | UUID):
                    cell = str(cell)
                sheet.write(number, place, cell, None if isinstance(cell, str | int) else dated)
    return file.getvalue()
