"""A crowd that uses all three applications at once, over HTTP, and goes on whatever dies.

    crowd = Crowd(field, seed=7)
    await crowd.gather()
    async with crowd.at_work():
        ...  # faults
    trial = await tried(crowd, ...)  # see `accounting`

Its wishes are noted before they are sent: see `asking`. Chance is seeded, client by client; what
the crowd asks for still depends on what it is told, and so on the schedule of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from strongroom.clock import monotonic
from strongroom.core.payments.sandbox import SIGNATURE
from strongroom.lab.arena import Person
from strongroom.lab.chaos.asking import Asked, Caller, Notes
from strongroom.lab.chaos.field import Field
from strongroom.lab.wire import GIVE_UP_S

CLIENTS = 24

MOST_CLIENTS, TWINS, CROUPIERS, REPLAYERS = 1_000, 500_000, 1_000_000, 2_000_000
"""Callers are numbered in ranges of their own, so that no two ever have the same chance."""

BETTORS = 12
FUNDS = 100_000
"""Small enough that some wallets run dry: refusals have to be accounted for too."""

SEATS = 5_000
STOCK = 60
"""Of each product: gone before a run is over, so that the last pieces are fought for."""

PRODUCTS = 4
DELIVERED = 25

PRICE = 100_000
PAGE_PRICE = 14_009
"""A price at which the sandbox leaves everything to its page and to callbacks."""

BETS_A_ROUND = 150
LOOK_S = 0.02

DUTIES = (("bet", 52), ("transfer", 13), ("deposit", 5), ("withdrawal", 5), ("seats", 13))
"""What a client does next, by weight; the rest is an order of goods."""

WEIGHTS = 100
CANCELLED = 0.15
COMPLETED = 0.15
"""Of the reservations that become bookings: each ends in tickets and a mail, which take a worker
as long as some hundred bets."""

COURSES: tuple[tuple[str, ...], ...] = (
    ("confirm", "ship", "deliver"),
    ("confirm", "ship", "return"),
    ("confirm", "cancel"),
    ("cancel",),
    ("cancel", "confirm"),
    ("ship", "confirm", "ship", "cancel"),
    (),
)
"""What is wanted of an order; some steps of them are refused."""


@dataclass(frozen=True)
class Manners:
    """How rude the crowd is, in shares of its wishes. `twice`: sent at once on two connections, to
    two processes where there are two. `again`: something acknowledged is asked for once more.
    `hang_up`: the client goes away after sending, and asks anew."""

    twice: float = 0.0
    again: float = 0.02
    hang_up: float = 0.0


POLITE = Manners()


class Crowd:
    """Clients at work on a field, and what they noted.

    `per_second` paces them: wishes come up at Poisson instants, though a client waits for one
    answer before its next wish. Without it each asks as fast as it is answered.
    """

    def __init__(
        self,
        field: Field,
        *,
        seed: int,
        clients: int = CLIENTS,
        per_second: float | None = None,
        manners: Manners = POLITE,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self.field, self.seed, self.manners = field, seed, manners
        self.notes = Notes()
        self._clients, self._give_up_s = clients, give_up_s
        self.pace(per_second)
        self._over = False
        self._shifts = 0
        self.people: list[Person] = []
        self._round = ""
        self._types: list[tuple[str, int]] = []
        self.products: list[str] = []

    def pace(self, per_second: float | None) -> None:
        """From now on so many wishes a second, by all clients together."""
        self._pause_s = self._clients / per_second if per_second else 0.0

    async def gather(self) -> None:
        """People with money, a round to bet on, seats to reserve, goods to order."""
        self.people = await self.field.people(BETTORS, FUNDS)
        caller = self.caller(CROUPIERS)
        await self._open_round(caller, "oracle")
        await self._put_on_sale(caller)
        for number in range(PRODUCTS):
            body = {"sku": f"SKU-{number}", "name": f"Áo dài {number}", "price": PRICE}
            made = await self._operate(caller, "setup", "/api/products", body)
            self.products.append(made.told["productId"])
            await self._deliver(caller, self.products[-1], STOCK)
        caller.close()

    async def _put_on_sale(self, caller: Caller) -> None:
        begins = datetime.now(UTC) + timedelta(days=30)
        concert = {
            "name": "Đêm nhạc Trịnh",
            "location": "Nhà hát Lớn, Hà Nội",
            "startsAt": begins.isoformat(),
            "endsAt": (begins + timedelta(hours=3)).isoformat(),
        }
        made = await self._operate(caller, "setup", "/api/events", concert)
        path = f"/api/events/{made.told['eventId']}"
        for price in (PRICE, PAGE_PRICE):
            type = {"name": f"Hạng {price}", "price": price, "quantity": SEATS}
            made = await self._operate(caller, "setup", f"{path}/ticket-types", type)
            self._types.append((made.told["ticketTypeId"], price))
        await self._operate(caller, "setup", f"{path}/publish", {})

    def caller(self, number: int) -> Caller:
        """A client with its own chance."""
        chance = random.Random(self.seed * 10_000_019 + number)
        return Caller(self.field.ports, self.notes, chance, give_up_s=self._give_up_s)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[Notes]:
        """The crowd works while this lasts; afterwards every wish has its answer, or none within
        a minute."""
        self._over = False
        self._shifts += 1
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._croupier())
            for number in range(self._clients):
                tasks.create_task(self._client(number))
            try:
                yield self.notes
            finally:
                self._over = True

    async def acknowledge(self, count: int, within_s: float) -> bool:
        """Waits until so many answers were definite; False when that takes too long."""
        patience = monotonic() + within_s
        while self.notes.acknowledged < count:
            if monotonic() > patience:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _client(self, number: int) -> None:
        # Another shift has other keys.
        number += self._shifts * MOST_CLIENTS
        caller, twin = self.caller(number), self.caller(number + TWINS)
        client = _Client(self, caller, twin)
        duties: dict[str, Callable[[], Awaitable[None]]] = {
            "bet": client.bet,
            "transfer": client.transfer,
            "deposit": client.deposit,
            "withdrawal": client.withdrawal,
            "seats": client.seats,
            "goods": client.goods,
        }
        names = [*dict(DUTIES), "goods"]
        weights = [*dict(DUTIES).values(), WEIGHTS - sum(dict(DUTIES).values())]
        while not self._over:
            if self._pause_s:
                await asyncio.sleep(caller.chance.expovariate(1 / self._pause_s))
            (name,) = caller.chance.choices(names, weights)
            await duties[name]()
        for one in (caller, twin):
            one.close()

    # The operator's part --------------------------------------------------------------------

    async def _operate(
        self, caller: Caller, kind: str, path: str, body: Any, *, effect: str = ""
    ) -> Asked:
        wish = caller.wish(kind, path, self.field.operator.token, body, effect=effect)
        return await caller.ask(wish)

    async def _deliver(self, caller: Caller, product_id: str, quantity: int) -> None:
        body = {"kind": "receive", "quantity": quantity, "reason": "A delivery"}
        path, effect = f"/api/products/{product_id}/stock", f"{product_id}|{quantity}"
        await self._operate(caller, "stock", path, body, effect=effect)

    async def _open_round(self, caller: Caller, kind: str) -> None:
        body = {"name": "Under fire", "kind": kind, "feeBps": 100}
        wish = await self._operate(caller, "round", "/api/rounds", body, effect=kind)
        if wish.done:
            self._round = wish.told["roundId"]

    async def _croupier(self) -> None:
        """Opens round after round; the old one is closed and decided while the new one runs."""
        caller, number = self.caller(CROUPIERS + self._shifts), 0
        if self._shifts > 1:  # the last shift ended its round
            await self._open_round(caller, "oracle")
        while not self._over:
            asked = self.notes.acknowledged
            while self.notes.acknowledged < asked + BETS_A_ROUND and not self._over:
                await asyncio.sleep(LOOK_S)
            number += 1
            old = self._round
            await self._open_round(caller, ("oracle", "coinflip")[number % 2])
            if self._round != old:
                await self._end_round(caller, old, number)
        await self._end_round(caller, self._round, 0)
        caller.close()

    async def _end_round(self, caller: Caller, id: str, number: int) -> None:
        path = f"/api/rounds/{id}"
        if number % 6 == 5:  # opened as an oracle's: what draws have paid is not undone
            await self._operate(caller, "void", f"{path}/void", {}, effect=id)
            return
        await self._operate(caller, "close", f"{path}/close", {}, effect=id)
        winner = ("A", "B", "VOID")[number % 3]
        body, effect = {"winner": winner}, f"{id}|{winner}"
        await self._operate(caller, "result", f"{path}/result", body, effect=effect)


class _Client:
    """What one client does, wish by wish."""

    def __init__(self, crowd: Crowd, caller: Caller, twin: Caller) -> None:
        self._crowd, self._caller, self._twin = crowd, caller, twin
        self._chance = caller.chance
        self._past: list[Asked] = []

    async def _ask(self, kind: str, path: str, who: Person, body: Any, effect: str = "") -> Asked:
        """Asks for it, as rudely as the crowd's manners say."""
        wish = self._caller.wish(kind, path, who.token, body, effect=effect)
        await self._send(wish)
        self._past = [*self._past[-20:], wish]
        if self._chance.random() < self._crowd.manners.again:
            old = self._chance.choice(self._past)
            if old.reply is not None:
                await self._caller.again(old)
        return wish

    async def _send(self, wish: Asked) -> None:
        kind = self._chance.random()
        if kind < self._crowd.manners.hang_up:
            await self._caller.hang_up(wish)
        elif kind < self._crowd.manners.hang_up + self._crowd.manners.twice:
            first, second = self._chance.sample(self._crowd.field.ports * 2, 2)
            await asyncio.gather(
                self._caller.ask(wish, port=first), self._twin.echo(wish, port=second)
            )
            return
        await self._caller.ask(wish)

    def _somebody(self) -> Person:
        return self._chance.choice(self._crowd.people)

    async def bet(self) -> None:
        user, round_id = self._somebody(), self._crowd._round
        side, amount = self._chance.choice("AB"), self._chance.randint(1, 500)
        body = {"roundId": round_id, "side": side, "amount": amount}
        effect = f"{user.user_id}|{round_id}|{side}|{amount}"
        wish = await self._ask("bet", "/api/bets", user, body, effect)
        if wish.done and self._chance.random() < CANCELLED:
            id = wish.told["betId"]
            await self._ask("cancel bet", f"/api/bets/{id}/cancel", user, {}, id)

    async def transfer(self) -> None:
        giver, taker = self._chance.sample(self._crowd.people, 2)
        amount = self._chance.randint(1, 99)
        body = {"from": str(giver.user_id), "to": str(taker.user_id), "amount": amount}
        await self._ask("transfer", "/api/transfers", self._crowd.field.operator, body, f"{amount}")

    async def deposit(self) -> None:
        path, amount = f"/api/wallets/{self._somebody().user_id}/deposits", self._amount(999)
        await self._ask(
            "deposit", path, self._crowd.field.operator, {"amount": amount}, f"{amount}"
        )

    async def withdrawal(self) -> None:
        amount = self._amount(99)
        path = "/api/wallets/me/withdrawals"
        await self._ask("withdrawal", path, self._somebody(), {"amount": amount}, f"{amount}")

    def _amount(self, most: int) -> int:
        return self._chance.randint(1, most)

    async def seats(self) -> None:
        """Seats are reserved; most are given back, some are bought, of these some by a callback."""
        user, quantity = self._somebody(), self._chance.randint(1, 4)
        type, price = self._chance.choice(self._crowd._types)
        body = {"ticketTypeId": type, "quantity": quantity}
        effect = f"{user.user_id}|{type}|{quantity}"
        held = await self._ask("reserve", "/api/bookings/reserve", user, body, effect)
        if not held.done:
            return
        id = held.told["reservationId"]
        if self._chance.random() > COMPLETED:
            await self._ask("release", f"/api/bookings/{id}/release", user, {}, id)
            return
        body = {"paymentMethod": "MOMO", "ownerName": "Nguyễn Ái"}
        effect = f"{user.user_id}|{id}"
        booked = await self._ask("complete", f"/api/bookings/complete/{id}", user, body, effect)
        if booked.done and price == PAGE_PRICE:
            await self._call_back(booked.told)

    async def _call_back(self, booked: Any) -> None:
        """What a provider's bank says of a payment, signed."""
        payment = booked["payment"]["redirectUrl"].rpartition("/")[2]
        body = msgspec.json.encode(
            {
                "paymentId": payment,
                "result": "SUCCESS",
                "amount": booked["totalAmount"],
                "providerRef": f"REF-{payment}",
                "number": 1,
            }
        )
        signature = hmac.new(self._crowd.field.sandbox_secret, body, hashlib.sha256).hexdigest()
        head = (
            "POST /api/payments/sandbox/callbacks HTTP/1.1\r\nHost: house\r\n"
            f"{SIGNATURE}: {signature}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        wish = self._caller.note(Asked("callback", head.encode() + body, effect=payment))
        await self._caller.ask(wish)

    async def goods(self) -> None:
        """An order goes some of its ways, at the hands of its buyer and of the operator."""
        buyer, operator = self._somebody(), self._crowd.field.operator
        items = [
            {"productId": id, "quantity": self._chance.randint(1, 3)}
            for id in self._chance.sample(self._crowd.products, self._chance.randint(1, 2))
        ]
        phone = f"090000000{self._chance.randint(0, 9)}"
        method = self._chance.choice(("COD", "COD", "MOMO", "CARD"))
        body = {
            "customer": {"name": "Nguyễn Thị Lan", "phone": phone},
            "items": items,
            "paymentMethod": method,
        }
        wish = await self._ask("order", "/api/orders", buyer, body, f"{buyer.user_id}")
        if not wish.done:
            if self._chance.random() < 0.5:  # else all that follows would be refusals
                product = self._chance.choice(self._crowd.products)
                await self._crowd._deliver(self._caller, product, DELIVERED)
            return
        id = wish.told["orderId"]
        if self._chance.random() < 0.2:
            again = {"paymentMethod": self._chance.choice(("CARD", "COD"))}
            await self._ask("pay", f"/api/orders/{id}/pay", operator, again, id)
        for step in self._chance.choice(COURSES):
            await self._ask(step, f"/api/orders/{id}/{step}", operator, {}, id)
