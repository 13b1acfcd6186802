"""Streaming a million orders as a file: how fast, and what it does to the server's memory."""

from __future__ import annotations

import asyncio
import http.client
import tempfile
import zipfile
from contextlib import AsyncExitStack
from datetime import UTC
from typing import IO, Literal, Self
from urllib.parse import urlencode

from strongroom.clock import monotonic
from strongroom.lab.bench import Bench, Shops, Turn, Verdict
from strongroom.lab.benches.shops import Shop
from strongroom.lab.figures import Figures

ROWS, ROWS_QUICK = 1_000_000, 20_000
TENTH = 10

WARMUP_ROWS = 100
"""What a first file of its kind has the server import is not what a long one costs."""

MOST_GROWTH_MB = 50.0

WATCH_S = 0.1
PORTION = 1 << 16
TIMEOUT_S = 60.0

Form = Literal["csv", "xlsx"]
FORMS: tuple[Form, ...] = ("csv", "xlsx")

ROW_OF_SHEET = b"</row>"


class NotWhole(Exception):
    """The file does not hold what was asked for."""


class OrdersExport(Bench):
    """GET /api/reports/orders of the newest million, as CSV and as XLSX, one after the other, and
    the memory of the API process with its children meanwhile. The baseline is a tenth of that:
    what grows with the file would show."""

    name = "orders-export"
    claim = "A million orders streamed as CSV and XLSX, against a tenth of them"
    figure = "csv_rows_per_s"
    seconds = 60.0
    most_pairs = 1

    def __init__(self) -> None:
        self.shops = Shops()
        self._shop: Shop | None = None

    def take(self, shops: Shops) -> None:
        self.shops = shops

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def ours(self, turn: Turn) -> Figures:
        return await self._export(turn, 1)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._export(turn, TENTH)

    def verdicts(self, figures: Figures, baseline: Figures) -> list[Verdict]:
        return [
            Verdict(
                f"{figures['rows']:,.0f} orders as {form}, growth of memory",
                figures[f"{form}_growth_mb"],
                MOST_GROWTH_MB,
                "MB",
            )
            for form in FORMS
        ]

    async def _open(self, turn: Turn) -> Shop:
        if self._shop is None:
            orders = self.shops.orders or (ROWS_QUICK if turn.quick else ROWS)
            shop = Shop(orders, self.shops.at, lambda words: self.say(words))
            self._shop = await self.stack.enter_async_context(shop)
            self.dsn = self._shop.house.place.app
            for form in FORMS:
                await self._streamed(self._shop, form, WARMUP_ROWS)
        return self._shop

    async def _export(self, turn: Turn, part: int) -> Figures:
        shop = await self._open(turn)
        most = min(ROWS_QUICK if turn.quick else ROWS, shop.orders)
        figures: dict[str, float] = {"orders": float(shop.orders)}
        for form in FORMS:
            figures |= await self._streamed(shop, form, max(1, most // part))
        return figures

    async def _streamed(self, shop: Shop, form: Form, rows: int) -> dict[str, float]:
        """One file of the newest `rows` orders; read to its end, counted, thrown away."""
        begin = (await shop.begin_of_newest(rows)).astimezone(UTC)
        asked = urlencode({"format": form, "from": begin.isoformat().replace("+00:00", "Z")})
        self.say(f"{rows:,} orders as {form}")
        with tempfile.TemporaryFile() as file:
            began = monotonic()
            async with shop.api.watch_memory(WATCH_S) as samples:
                first_s = await asyncio.to_thread(self._fetch, shop, asked, file, began)
            seconds, size = monotonic() - began, file.tell()
            found = await asyncio.to_thread(_lines if form == "csv" else _rows_of_sheets, file)
        if found < rows:
            raise NotWhole(f"{found} orders as {form}, {rows} were asked for")
        told = {
            "rows_per_s": found / seconds,
            "seconds": seconds,
            "first_byte_ms": first_s * 1000,
            "mb": size / 1e6,
            "memory_before_mb": samples[0] / 1e6,
            "memory_peak_mb": max(samples) / 1e6,
            "memory_after_mb": samples[-1] / 1e6,
            "growth_mb": (max(samples) - samples[0]) / 1e6,
        }
        return {"rows": float(found)} | {f"{form}_{name}": value for name, value in told.items()}

    @staticmethod
    def _fetch(shop: Shop, asked: str, file: IO[bytes], began: float) -> float:
        """Streams into the file; the seconds until its first bytes. What breaks off raises."""
        connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {shop.operator.token}"}
            connection.request("GET", f"/api/reports/orders?{asked}", headers=headers)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise NotWhole(f"{answer.status}: {answer.read(PORTION)!r}")
            first_s = 0.0
            while portion := answer.read1(PORTION):
                first_s = first_s or monotonic() - began
                file.write(portion)
            return first_s
        finally:
            connection.close()


def _lines(file: IO[bytes]) -> int:
    """Rows of a CSV without its heading; no cell of orders holds the end of a line."""
    file.seek(0)
    return sum(portion.count(b"\n") for portion in iter(lambda: file.read(PORTION), b"")) - 1


def _rows_of_sheets(file: IO[bytes]) -> int:
    """Rows of a workbook's sheets, without their headings."""
    found = 0
    with zipfile.ZipFile(file) as parts:
        for name in parts.namelist():
            if name.startswith("xl/worksheets/sheet"):
                found -= 1
                with parts.open(name) as sheet:
                    end = b""
                    while portion := sheet.read(PORTION):
                        found += (end + portion).count(ROW_OF_SHEET)
                        end = portion[1 - len(ROW_OF_SHEET) :]
    return found
