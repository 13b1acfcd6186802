"""The demo's third load: a shop opens its doors, and everybody wants what is on the shelf."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from strongroom.clock import monotonic
from strongroom.doors.cli.burst import RECENT, Asked, Bettor, percentiles_ms, until_answered
from strongroom.doors.cli.client import Answer, Connection
from strongroom.doors.cli.rush import Seats, bar
from strongroom.errors import StrongroomError
from strongroom.main import Strongroom

SHELF = (
    ("AO-DAI-LUA", "Áo dài lụa Hà Đông", 890_000),
    ("NON-LA-HUE", "Nón lá Huế", 120_000),
    ("CA-PHE-BMT", "Cà phê Buôn Ma Thuột 500 g", 165_000),
    ("GOM-BAT-TRANG", "Ấm chén gốm Bát Tràng", 320_000),
    ("NUOC-MAM-PQ", "Nước mắm Phú Quốc 40 độ", 95_000),
)
"""SKU, name and price of what is sold."""

PER_BUYER = 2
"""Pieces of each product for each buyer: fewer than they want."""

ORDERS_EACH = 3
LINES, PIECES = (1, 2, 2, 3), (1, 2, 2, 3)
"""An order has so many lines, a line so many pieces: together they want twice what there is."""

NAMES = ("Nguyễn Thị Lan", "Trần Văn Minh", "Lê Hoàng Anh", "Phạm Thu Hà", "Vũ Đức Long")
METHODS = ("COD", "COD", "MOMO", "ZALOPAY", "BANKING")

HANDLED = 60
"""Orders that are shipped, delivered, cancelled and returned afterwards."""

PAID_S = 60.0
LOOK_S = 0.25
PAGE = 200

Ask = Callable[[str, dict[str, Any]], Awaitable[Answer]]
"""Posts as an operator, under a new key."""

Get = Callable[[str], Awaitable[Any]]
"""Reads as an operator."""


class ShopFailed(StrongroomError):
    """The shop could not be opened."""


class Product(NamedTuple):
    """What is on the shelf."""

    id: str
    name: str
    received: int


@dataclass
class Order:
    """An order that was acknowledged."""

    id: str
    code: str
    method: str
    pieces: dict[str, int]
    status: str = "PENDING"


class Shop:
    """One shop on one running instance."""

    def __init__(
        self, house: Strongroom, address: tuple[str, int], ask: Ask, get: Get, seed: int
    ) -> None:
        self._house, self._address, self._ask, self._get = house, address, ask, get
        self._random = random.Random(seed)
        self._products: list[Product] = []
        self._stock: dict[str, Seats] = {}
        self._buyers = self._asked = self._unresolved = 0
        self.orders: list[Order] = []
        self.refused: Counter[str] = Counter()
        self._began_at = self._last_at = 0.0
        self._latencies_ms: deque[float] = deque(maxlen=RECENT)

    async def run(self, buyers: int) -> None:
        """Fills the shelf, lets all buyers in at once, and handles some of what they ordered."""
        made = await self._house.identity.create_users(buyers, "user")
        for sku, name, price in SHELF:
            body = {"sku": sku, "name": name, "price": price}
            id = (await self._post("/api/products", body))["productId"]
            quantity = buyers * PER_BUYER
            said = {"kind": "receive", "quantity": quantity, "reason": "hàng về đầu mùa"}
            await self._post(f"/api/products/{id}/stock", said)
            self._products.append(Product(id, name, quantity))
        self._buyers = buyers
        self._began_at = self._last_at = monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, one in enumerate(made):
                tasks.create_task(self._come(Bettor(*one), number))
        await self._handle()

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self._ask(path, body)
        if answer.status >= 300:
            raise ShopFailed(f"POST {path}: {answer.status} {answer.body.decode()}")
        return answer.json()

    async def _come(self, buyer: Bettor, number: int) -> None:
        connection = Connection(*self._address)
        customer = {"name": self._random.choice(NAMES), "phone": f"09{number % 10**8:08}"}
        for _ in range(ORDERS_EACH):
            products = self._random.sample(self._products, self._random.choice(LINES))
            wanted = {one.id: self._random.choice(PIECES) for one in products}
            await self._order(connection, buyer, customer, wanted)
        connection.close()

    async def _order(
        self,
        connection: Connection,
        buyer: Bettor,
        customer: dict[str, str],
        wanted: dict[str, int],
    ) -> None:
        """All of it; else what the refusal says is left; else nothing."""
        method = self._random.choice(METHODS)
        while wanted:
            items = [{"productId": id, "quantity": count} for id, count in wanted.items()]
            body = {"customer": customer, "items": items, "paymentMethod": method}
            encoded, key = msgspec.json.encode(body), secrets.token_hex(12)
            asked: Asked = await until_answered(
                connection, "POST", "/api/orders", buyer.token, encoded, key
            )
            if asked.answer is None:
                self._unresolved += 1
                return
            self._last_at = monotonic()
            self._asked += 1
            self._latencies_ms.append(asked.took_ms)
            said = asked.answer.json()
            if asked.answer.status == 201:
                self.orders.append(Order(said["orderId"], said["code"], method, wanted))
                return
            self.refused[said["code"]] += 1
            if said["code"] != "out_of_stock":
                return
            left = {one["productId"]: one["available"] for one in said["short"]}
            fewer = {id: min(count, left.get(id, count)) for id, count in wanted.items()}
            wanted = {id: count for id, count in fewer.items() if count}

    # Afterwards -----------------------------------------------------------------------------

    async def _handle(self) -> None:
        """Some are shipped and delivered, one in six is cancelled, one in six comes back."""
        await self._until_paid()
        for number, order in enumerate(self.orders[:HANDLED]):
            if order.method == "COD" and number % 6:
                await self._step(order, "confirm")
            if number % 6 == 0:
                await self._step(order, "cancel")
                continue
            await self._step(order, "ship")
            await self._step(order, "deliver")
            if number % 6 == 1:
                await self._step(order, "return")

    async def _step(self, order: Order, step: str) -> None:
        order.status = (await self._post(f"/api/orders/{order.id}/{step}", {}))["status"]

    async def _until_paid(self) -> None:
        """Orders that are paid for become CONFIRMED by themselves."""
        waiting = {one.id: one for one in self.orders if one.method != "COD"}
        patience = monotonic() + PAID_S
        while waiting and monotonic() < patience:
            for found in await self._all_orders("?status=CONFIRMED"):
                if paid := waiting.pop(found["orderId"], None):
                    paid.status = "CONFIRMED"
            await asyncio.sleep(LOOK_S)

    async def _all_orders(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more = ""
        while True:
            page = await self._get(f"/api/orders{query}&limit={PAGE}{more}")
            found += page["items"]
            if not page["nextCursor"]:
                return found
            more = f"&cursor={page['nextCursor']}"

    # Showing --------------------------------------------------------------------------------

    @property
    def per_second(self) -> float:
        """Answers to orders, refusals among them, while there were any."""
        took_s = self._last_at - self._began_at
        return self._asked / took_s if took_s > 0 else 0.0

    async def look(self) -> None:
        """Reads where the pieces are."""
        stock = {one.id: Seats() for one in self._products}
        for row in await self._house.statements.trial_balance():
            unit, _, id = row["unit"].partition(":")
            if unit == "PIECE" and id in stock and row["purpose"] in ("free", "held", "sold"):
                setattr(stock[id], row["purpose"], int(row["balance"]))
        self._stock = stock

    def line(self) -> str:
        """For a log."""
        free = sum(one.free for one in self._stock.values())
        return (
            f"{len(self.orders)} orders ({self.per_second:.0f} answers/s), {free} pieces left, "
            f"{self.refused.total()} refused, p99 {percentiles_ms(self._latencies_ms)[1]:.0f} ms"
        )

    def rows(self) -> Iterator[tuple[str, str]]:
        """For a terminal: name and value, in rich's markup."""
        for product in self._products:
            stock = self._stock.get(product.id)
            if stock:
                left = f"{stock.free:,} left" if stock.free else "[red]sold out[/]"
                yield product.name, f"{bar(stock, product.received)} {left}"
        if self._asked:
            p50_ms, p99_ms = percentiles_ms(self._latencies_ms)
            said = f"{len(self.orders):,} placed, {self.refused.total():,} refused"
            yield "orders", f"{said}, {self.per_second:,.0f} answers a second"
            yield "order p50 / p99", f"{p50_ms:.0f} / {p99_ms:.0f} ms"

    # Proving --------------------------------------------------------------------------------

    async def prove(self) -> dict[str, Any]:
        """Stock by the ledger, orders by the API, and the day's report."""
        await self.look()
        there = {one["orderId"]: one for one in await self._all_orders("?")}
        p50_ms, p99_ms = percentiles_ms(self._latencies_ms)
        report = await self._get("/api/reports/revenue?by=day")
        standing = [x for x in there.values() if x["status"] not in ("CANCELLED", "RETURNED")]
        promised: Counter[str] = Counter()
        for order in self.orders:
            if order.status not in ("CANCELLED", "RETURNED"):
                promised.update(order.pieces)
        told = {
            "buyers": self._buyers,
            "orders": len(self.orders),
            "missing": len({one.id for one in self.orders} - there.keys()),
            "codesTwice": len(self.orders) - len({one.code for one in self.orders}),
            "refused": dict(self.refused),
            "unresolved": self._unresolved,
            "pieces": sum(one.received for one in self._products),
            "free": sum(one.free for one in self._stock.values()),
            "held": sum(one.held for one in self._stock.values()),
            "sold": sum(one.sold for one in self._stock.values()),
            "oversold": sum(max(0, promised[x.id] - x.received) for x in self._products),
            "promised": promised.total(),
            "ordersPerSecond": round(self.per_second),
            "orderP50Ms": round(p50_ms, 2),
            "orderP99Ms": round(p99_ms, 2),
            "revenue": report["totals"]["revenue"],
            "totalOfOrders": sum(one["totalAmount"] for one in standing),
        }
        return told | {"fine": bool(told["orders"]) and all(x for x, _ in shop_lines(told))}


def shop_lines(told: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """What `prove` found, for people: whether it is as it should be, and what it is."""
    yield (
        not told["unresolved"] + told["missing"] + told["codesTwice"],
        f"{told['buyers']:,} buyers in a shop, {told['ordersPerSecond']:,} answers a second, "
        f"p99 {told['orderP99Ms']:.0f} ms: {told['orders']:,} orders, {told['missing']:,} missing, "
        f"{told['codesTwice']:,} codes twice",
    )
    yield (
        told["free"] + told["held"] + told["sold"] == told["pieces"]
        and told["held"] + told["sold"] == told["promised"]
        and not told["oversold"],
        f"{told['pieces']:,} pieces: {told['sold']:,} sold, {told['held']:,} held, "
        f"{told['free']:,} free, {told['oversold']:,} oversold",
    )
    yield (
        told["revenue"] == told["totalOfOrders"],
        f"the report says {told['revenue']:,} ₫, the orders that stand come to "
        f"{told['totalOfOrders']:,} ₫",
    )
