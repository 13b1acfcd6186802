"""The demo's second load: everybody wants the same seats in the same second, over HTTP."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from strongroom.clock import monotonic
from strongroom.doors.cli.burst import RECENT, Asked, Bettor, percentiles_ms, until_answered
from strongroom.doors.cli.client import Connection

WANTED = (2, 3, 4, 5, 6)
"""Seats that buyers want, in turn: four on average, so that six hundred want more than there are."""

PAY_SOONEST_S, PAY_LATEST_S = 0.2, 2.5
"""How long people take to choose how they pay; quick ones, or the demo would wait for them."""

LOOK_S = 0.5
"""Between two looks at one's bookings."""

PAID_S = 60.0
"""A payment takes a second; on a slow machine many."""

NAMES = ("Nguyễn Thị Lan", "Trần Văn Minh", "Lê Hoàng Anh", "Phạm Thu Hà", "Vũ Đức Long")
"""On the tickets: letters that a mail and a page have to carry."""

DEAREST_SHARE = 5
"""Every fifth buyer begins with the dearer ticket type."""


class Kind(NamedTuple):
    """A ticket type of the event on sale."""

    id: str
    name: str
    price: int
    quantity: int


@dataclass
class Purchase:
    """What was acknowledged to a buyer, and in the end what their bookings show."""

    buyer: Bettor
    kind: Kind
    quantity: int
    reservation: str
    order: str = ""
    booking: dict[str, Any] = field(default_factory=dict)


@dataclass
class Seats:
    """Where the seats are, by the ledger."""

    free: int = 0
    held: int = 0
    sold: int = 0


class Rush:
    """What the buyers share: the event, its seats, and how far each of them is."""

    def __init__(
        self, address: tuple[str, int], kinds: Sequence[Kind], buyers: Sequence[Bettor], seed: int
    ) -> None:
        self._address, self._kinds, self._buyers = address, kinds, buyers
        self._random = random.Random(seed)
        self.seats = Seats()
        self.waiting, self.holding, self.bought = len(buyers), 0, 0
        self.refused: dict[str, int] = {}
        self.unresolved = 0
        self.purchases: list[Purchase] = []
        self.reservations = 0
        self._began_at = self._last_at = 0.0
        self._latencies_ms: deque[float] = deque(maxlen=RECENT)

    @property
    def quantity(self) -> int:
        return sum(kind.quantity for kind in self._kinds)

    @property
    def sent_away(self) -> int:
        return sum(self.refused.values())

    @property
    def per_second(self) -> float:
        """Answers to reservations, refusals among them, while there were any."""
        took_s = self._last_at - self._began_at
        return len(self._latencies_ms) / took_s if took_s > 0 else 0.0

    def reserve_ms(self) -> tuple[float, float]:
        """p50 and p99 of the answers to reservations."""
        return percentiles_ms(self._latencies_ms)

    async def run(self) -> None:
        """All at once, until each has tickets or was told that there are none."""
        self._began_at = self._last_at = monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, buyer in enumerate(self._buyers):
                tasks.create_task(self._come(buyer, number))

    async def _come(self, buyer: Bettor, number: int) -> None:
        connection = Connection(*self._address)
        purchase = await self._reserve(connection, buyer, number)
        self.waiting -= 1
        if purchase:
            self.holding += 1
            self.purchases.append(purchase)
            await asyncio.sleep(self._random.uniform(PAY_SOONEST_S, PAY_LATEST_S))
            if await self._complete(connection, purchase):
                await self._see_paid(connection, purchase)
            self.holding -= 1
        connection.close()

    async def _reserve(self, connection: Connection, buyer: Bettor, number: int) -> Purchase | None:
        """As many seats as are wanted, else fewer, else of the other type; None for who leaves
        without, and then there was none left."""
        code = ""
        for kind, quantity in self._wishes(number):
            body = {"ticketTypeId": kind.id, "quantity": quantity}
            asked = await self._post(connection, buyer, "/api/bookings/reserve", body)
            if asked.answer is None:
                self.unresolved += 1
                return None
            self._last_at = monotonic()
            self._latencies_ms.append(asked.took_ms)
            if asked.answer.status == 201:
                self.reservations += 1
                id = asked.answer.json()["reservationId"]
                return Purchase(buyer, kind, quantity, id)
            code = asked.answer.json()["code"]
            if code != "sold_out":
                break
        self.refused[code] = self.refused.get(code, 0) + 1
        return None

    def _wishes(self, number: int) -> Iterator[tuple[Kind, int]]:
        round, place = divmod(number, DEAREST_SHARE)
        cheap, dear = self._kinds
        wanted = WANTED[(round + place) % len(WANTED)]
        for kind in (dear, cheap) if place == 0 else (cheap, dear):
            quantity = wanted
            while quantity:
                yield kind, quantity
                quantity //= 2

    async def _complete(self, connection: Connection, purchase: Purchase) -> bool:
        path = f"/api/bookings/complete/{purchase.reservation}"
        body = {
            "paymentMethod": self._random.choice(("MOMO", "ZALOPAY", "BANKING", "CARD")),
            "ownerName": self._random.choice(NAMES),
        }
        asked = await self._post(connection, purchase.buyer, path, body)
        if asked.answer is None or asked.answer.status != 201:
            self.unresolved += 1
            return False
        purchase.order = asked.answer.json()["orderId"]
        return True

    async def _see_paid(self, connection: Connection, purchase: Purchase) -> None:
        patience = monotonic() + PAID_S
        while monotonic() < patience:
            await asyncio.sleep(LOOK_S * self._random.uniform(0.5, 1.5))
            token = purchase.buyer.token
            asked = await until_answered(connection, "GET", "/api/bookings/my-bookings", token)
            found = asked.answer.json()["items"] if asked.answer else []
            for booking in found:
                if booking["orderId"] == purchase.order:
                    purchase.booking = booking
            if purchase.booking.get("status") == "PAID":
                self.bought += 1
                return

    async def _post(
        self, connection: Connection, buyer: Bettor, path: str, body: dict[str, Any]
    ) -> Asked:
        key = secrets.token_hex(12)
        encoded = msgspec.json.encode(body)
        return await until_answered(connection, "POST", path, buyer.token, encoded, key)

    # What is said and shown of it -----------------------------------------------------------

    def line(self) -> str:
        """For a log."""
        seats, p99_ms = self.seats, self.reserve_ms()[1]
        return (
            f"{seats.sold} of {self.quantity} seats sold, {seats.held} held, {seats.free} free; "
            f"buyers: {self.waiting} waiting, {self.holding} holding, {self.bought} bought, "
            f"{self.sent_away} refused; {self.per_second:.0f} answers/s, "
            f"p99 {p99_ms:.0f} ms"
        )

    def rows(self) -> Iterator[tuple[str, str]]:
        """For a terminal: name and value, in rich's markup."""
        seats, (p50_ms, p99_ms) = self.seats, self.reserve_ms()
        yield "seats", bar(seats, self.quantity)
        yield "", f"{seats.sold:,} sold, {seats.held:,} held, {seats.free:,} free"
        yield (
            "buyers",
            f"{self.waiting:,} waiting, {self.holding:,} holding, {self.bought:,} bought, "
            f"{self.sent_away:,} refused",
        )
        yield "reservations answered a second", f"{self.per_second:,.0f}"
        yield "reservation p50 / p99", f"{p50_ms:.0f} / {p99_ms:.0f} ms"


BAR = 40
"""Characters."""


def bar(seats: Seats, quantity: int) -> str:
    """Sold, held and free seats as a bar of rich's markup; whoever has a seat is seen."""
    filled = [-(-BAR * count // max(quantity, 1)) for count in (seats.sold, seats.held)]
    sold = min(filled[0], BAR)
    held = min(filled[1], BAR - sold)
    return f"[green]{'█' * sold}[/][yellow]{'▒' * held}[/][dim]{'░' * (BAR - sold - held)}[/]"
