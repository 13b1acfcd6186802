"""Row C20: random lives of a small house over real HTTP against the same lives on paper.

The papers share nothing with the program. Each answer has to be the one on paper (status, code,
fields), each end state too, though the API process is killed now and then: between two requests,
and with a request on its way, which is then sent again with its key.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from naive import PaperBet, PaperRound
from paper_orders import PaperOrder, PaperProduct, PaperShop
from paper_tickets import PaperOffice, PaperReservation

from end_to_end._client import TIMEOUT_S, Answer
from end_to_end._house import TOKEN_SECRET, House, Person, new_house
from end_to_end._tickets import CONCERT
from proofs.conftest import Scale
from serving import Clones, Server
from strongroom.clock import monotonic
from strongroom.doors.worker import worker_of
from strongroom.lab.trial import Trial
from strongroom.main import Strongroom
from strongroom.settings import Settings

USERS, FUNDS = 3, 100
FEE_BPS = 333
SEATS, PRICES, LIMITS = [4, 3], [0, 500_000], [3, None]
PIECES, PRICE = 5, 70_000

STATUS = {
    "insufficient_funds": 400,
    "not_found": 404,
    "idempotency_key_reused": 422,
    "invalid": 422,
}
"""Of a refusal by its code; all others are conflicts."""

CONFLICT = 409

who = st.integers(0, USERS - 1)
which = st.integers(0, 40)
"""Of all that there are, counted round."""


class Sent(NamedTuple):
    """A write that was answered."""

    path: str
    body: dict[str, Any]
    token: str
    key: str
    answer: Answer


class Door:
    """The API of a house: asked, killed, and started again."""

    def __init__(self, house: House, seed: int) -> None:
        self.house, self.api = house, house.start_api()
        self.client = house.client()
        self.chance = random.Random(seed)
        self.answered = self.crashes = self.cut = self.lives = 0
        [self.operator] = house.people(1, "operator")

    def crash(self) -> None:
        self.api.kill()
        self._come_back()

    def _come_back(self) -> None:
        self.crashes += 1
        self.api.start()
        self.house.wait_ready(self.api)

    def cut_off(self, path: str, body: dict[str, Any], token: str, key: str) -> None:
        """Sends a request and kills who is to answer it, at once or a little later."""
        sending = http.client.HTTPConnection("127.0.0.1", self.api.port, timeout=TIMEOUT_S)
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        sending.request("POST", path, json.dumps(body), headers)
        if self.chance.random() < 0.5:
            # Its answer has begun: the effect is there, and nobody has heard of it.
            sending.sock.recv(1)
        self.api.kill()
        sending.close()
        self.cut += 1
        self._come_back()

    def post(self, path: str, body: dict[str, Any], token: str, key: str, *, cut: bool) -> Answer:
        if cut:
            self.cut_off(path, body, token, key)
        self.answered += 1
        return self.client.post(path, body, token, key)


class Inside:
    """The workers of the house, which work when they are told to."""

    def __init__(self, house: House) -> None:
        self.runner = asyncio.Runner()
        settings = Settings(
            database_url=house.database_url, data_dir=house.folder, token_secret=TOKEN_SECRET
        )
        self.house = Strongroom(settings)
        self.runner.run(self.house.__aenter__())
        self.worker = worker_of(self.house)

    def work(self) -> None:
        """Until all bets have met, and all that is due is paid."""

        async def working() -> None:
            queues = [queue for queue in self.worker.queues if queue.startswith("betting")]
            while sum([await self.worker.work_once(queue) for queue in queues]):
                pass

        self.runner.run(working())

    def people(self) -> list[Person]:
        made = self.runner.run(self.house.identity.create_users(USERS, "user"))
        return [Person(id, token) for id, token in made]

    def close(self) -> None:
        self.runner.run(self.house.__aexit__(None, None, None))
        self.runner.close()


class Life(RuleBasedStateMachine):
    """A round, an event and a product with three people, on paper and in the house."""

    door: Door
    inside: Inside
    every: int

    @initialize()
    def begin(self) -> None:
        self.door.lives += 1
        self.steps, self.well = 0, False
        self.last: Sent | None = None
        self.money = PaperRound(dict.fromkeys(range(USERS), 0), FEE_BPS)
        self.office = PaperOffice(list(SEATS), list(PRICES), list(LIMITS))
        self.shop = PaperShop([PaperProduct(PIECES, PRICE)])
        self.people = self.inside.people()
        self.bets: list[tuple[str, PaperBet]] = []
        self.held: list[tuple[str, PaperReservation]] = []
        self.tickets: list[tuple[str, PaperReservation, int]] = []
        self.orders: list[tuple[str, PaperOrder]] = []
        self.cutting = False
        made = self.asks("/api/rounds", {"name": "r", "kind": "oracle", "feeBps": FEE_BPS})
        self.round = f"/api/rounds/{made['roundId']}"
        self._open_event()
        made = self.asks("/api/products", {"sku": uuid4().hex, "name": "a", "price": PRICE})
        self.product = made["productId"]
        supply = {"kind": "receive", "quantity": PIECES, "reason": "first"}
        self.asks(f"/api/products/{self.product}/stock", supply, available=PIECES)
        for user in range(USERS):
            self.deposit(user, FUNDS)
        self.well = True

    def _open_event(self) -> None:
        event = self.asks("/api/events", CONCERT)["eventId"]
        self.types = []
        for number, (seats, price, limit) in enumerate(zip(SEATS, PRICES, LIMITS, strict=True)):
            body = {"name": f"t{number}", "price": price, "quantity": seats, "perUserLimit": limit}
            type = self.asks(f"/api/events/{event}/ticket-types", body)
            self.types.append(type["ticketTypeId"])
        self.asks(f"/api/events/{event}/publish", {}, done=200)

    # Asking -------------------------------------------------------------------------------------

    def asks(
        self,
        path: str,
        body: dict[str, Any],
        user: int | None = None,
        refused: str | None = None,
        done: int = 201,
        **fields: Any,
    ) -> Any:
        """A write as a user or as an operator: the answer has to be the one on paper."""
        self.well = False
        token = self.door.operator.token if user is None else self.people[user].token
        key, cut = uuid4().hex, self._cuts()
        answer = self.door.post(path, body, token, key, cut=cut)
        self.last = Sent(path, body, token, key, answer)
        said = answer.json
        if refused:
            expected = STATUS.get(refused, CONFLICT)
            assert (answer.status, said.get("code")) == (expected, refused), (path, body, said)
        else:
            assert answer.status == done, (path, body, said)
            assert {name: said[name] for name in fields} == fields, (path, body, said)
        self.well = True
        return said

    def _cuts(self) -> bool:
        """Whether this request, of this life, is the one that is cut off."""
        self.steps += 1
        life = self.door.lives % self.every
        if life == 2 and self.steps == 20:
            self.door.crash()
        if life == 1 and self.steps >= 20 and not self.cutting:
            self.cutting = True
            return True
        return False

    @precondition(lambda self: self.last is not None)
    @rule()
    def again(self) -> None:
        """The same key and body: the same bytes. What no rule refused is asked anew."""
        assert self.last is not None
        path, body, token, key, first = self.last
        if first.status in (404, 422):
            return
        second = self.door.post(path, body, token, key, cut=False)
        assert (second.status, second.body) == (first.status, first.body)
        assert second.headers["Idempotency-Replayed"] == "true"

    @precondition(lambda self: self.last is not None and "amount" in self.last.body)
    @rule()
    def again_with_another_body(self) -> None:
        assert self.last is not None
        path, body, token, key, first = self.last
        if first.status not in (404, 422):
            other = {**body, "amount": body["amount"] + 1}
            answer = self.door.post(path, other, token, key, cut=False)
            assert (answer.status, answer.problem) == (422, "idempotency_key_reused")

    # Money and bets -----------------------------------------------------------------------------

    def _spends(self, user: int, amount: int) -> str | None:
        if self.money.funds[user] < amount:
            return "insufficient_funds"
        self.money.funds[user] -= amount
        return None

    @rule(user=who, amount=st.integers(1, 50))
    def deposit(self, user: int, amount: int) -> None:
        self.money.funds[user] += amount
        path = f"/api/wallets/{self.people[user].id}/deposits"
        self.asks(path, {"amount": amount}, balance=self.money.funds[user])

    @rule(user=who, amount=st.integers(1, 150))
    def withdraw(self, user: int, amount: int) -> None:
        refused = self._spends(user, amount)
        left = self.money.funds[user]
        self.asks("/api/wallets/me/withdrawals", {"amount": amount}, user, refused, balance=left)

    @rule(user=who, to=who, amount=st.integers(1, 150))
    def transfer(self, user: int, to: int, amount: int) -> None:
        refused = "invalid" if user == to else self._spends(user, amount)
        if not refused:
            self.money.funds[to] += amount
        ids = {"from": str(self.people[user].id), "to": str(self.people[to].id)}
        left, there = self.money.funds[user], self.money.funds[to]
        body = {**ids, "amount": amount}
        self.asks("/api/transfers", body, None, refused, fromBalance=left, toBalance=there)

    @rule(user=who, side=st.sampled_from("AB"), amount=st.integers(1, 60))
    def bet(self, user: int, side: str, amount: int) -> None:
        refused = self.money.place(user, side, amount)
        body = {"roundId": self.round.rpartition("/")[2], "side": side, "amount": amount}
        left = self.money.funds[user]
        said = self.asks("/api/bets", body, user, refused, 202, status="PENDING", balance=left)
        if not refused:
            self.bets.append((said["betId"], self.money.bets[-1]))

    @precondition(lambda self: self.bets)
    @rule(number=which, user=who, own=st.booleans())
    def cancel_bet(self, number: int, user: int, own: bool) -> None:
        id, paper = self.bets[number % len(self.bets)]
        user = paper.user if own else user
        refused = self.money.cancel(paper) if user == paper.user else "not_found"
        fields = {} if refused else dict(zip(SHOWN, _shown(paper), strict=True))
        self.asks(f"/api/bets/{id}/cancel", {}, user, refused, 202, **fields)

    @rule()
    def work(self) -> None:
        self.inside.work()
        self.money.match()

    @precondition(lambda self: self.steps > 25)
    @rule()
    def close(self) -> None:
        refused = None if self.money.status == "OPEN" else "wrong_state"
        self.asks(f"{self.round}/close", {}, None, refused, 202, status="CLOSED")
        self.inside.work()
        if not refused:
            self.money.close()

    @precondition(lambda self: self.steps > 25)
    @rule(winner=st.sampled_from(["A", "B", "VOID"]))
    def result(self, winner: str) -> None:
        refused = {"OPEN": "round_open", "CLOSED": None}.get(self.money.status, "wrong_state")
        self.asks(f"{self.round}/result", {"winner": winner}, None, refused, 202)
        self.inside.work()
        if not refused and winner == "VOID":
            self.money.call_off()
        elif not refused:
            self.money.settle(winner)

    # Seats --------------------------------------------------------------------------------------

    @rule(user=who, wish=st.sampled_from([(1, 0), (2, 0), (0, 1), (1, 1), (3, 0), (0, 2)]))
    def reserve(self, user: int, wish: tuple[int, int]) -> None:
        seats = {type: count for type, count in enumerate(wish) if count}
        refused = self.office.reserve(user, seats)
        lines = [{"ticketTypeId": self.types[t], "quantity": n} for t, n in seats.items()]
        total = None if refused else self.office.reservations[-1].total
        fields = {"status": "ACTIVE", "totalAmount": total}
        said = self.asks("/api/bookings/reserve", {"items": lines}, user, refused, **fields)
        if not refused:
            self.held.append((said["reservationId"], self.office.reservations[-1]))

    @precondition(lambda self: self.held)
    @rule(number=which, user=who, own=st.booleans())
    def release(self, number: int, user: int, own: bool) -> None:
        id, paper = self.held[number % len(self.held)]
        user = paper.user if own else user
        refused = self.office.release(paper) if user == paper.user else "not_found"
        self.asks(f"/api/bookings/{id}/release", {}, user, refused, 200, status="RELEASED")

    @precondition(lambda self: self.held)
    @rule(number=which, user=who, own=st.booleans())
    def complete(self, number: int, user: int, own: bool) -> None:
        id, paper = self.held[number % len(self.held)]
        user = paper.user if own else user
        refused = self.office.complete(paper) if user == paper.user else "not_found"
        status = paper.order.status if paper.order else None
        fields = {"status": status, "totalAmount": paper.total}
        body = {"paymentMethod": "MOMO"}
        said = self.asks(f"/api/bookings/complete/{id}", body, user, refused, **fields)
        if not refused and status == "PAID":
            path, token = f"/api/bookings/orders/{said['orderId']}", self.people[user].token
            codes = [ticket["code"] for ticket in self.door.client.get(path, token).json["tickets"]]
            assert len(codes) == sum(paper.seats.values())
            self.tickets += [(code, paper, number) for number, code in enumerate(codes)]

    @precondition(lambda self: self.tickets)
    @rule(number=which)
    def scan(self, number: int) -> None:
        code, paper, ticket = self.tickets[number % len(self.tickets)]
        assert paper.order
        refused = self.office.scan(paper.order, ticket)
        self.asks(f"/api/tickets/{code}/check-in", {}, None, refused, 200, status="CHECKED_IN")

    # Orders and stock ---------------------------------------------------------------------------

    @rule(user=who, pieces=st.integers(1, 4))
    def order(self, user: int, pieces: int) -> None:
        refused = self.shop.place(user, user, [(0, pieces)], "COD")
        body = {
            "customer": {"name": "Nguyễn Ái", "phone": f"+8491200000{user}"},
            "items": [{"productId": self.product, "quantity": pieces}],
        }
        fields = {"status": "PENDING", "totalAmount": PRICE * pieces}
        said = self.asks("/api/orders", body, user, refused, **fields)
        if not refused:
            self.orders.append((said["orderId"], self.shop.orders[-1]))

    @precondition(lambda self: self.orders)
    @rule(number=which, step=st.sampled_from(["confirm", "ship", "deliver", "return"]))
    def take_step(self, number: int, step: str) -> None:
        self._step(number, step, None)

    @precondition(lambda self: self.orders)
    @rule(number=which, user=who)
    def cancel_order(self, number: int, user: int) -> None:
        self._step(number, "cancel", user)

    def _step(self, number: int, step: str, user: int | None) -> None:
        id, paper = self.orders[number % len(self.orders)]
        refused = self.shop.take(paper, step, user)
        fields = {"status": paper.status, "version": paper.version}
        self.asks(f"/api/orders/{id}/{step}", {}, user, refused, 200, **fields)

    @rule(kind=st.sampled_from(["receive", "adjust"]), pieces=st.integers(-6, 3))
    def stock(self, kind: str, pieces: int) -> None:
        refused = self.shop.move(0, kind, pieces)
        body = {"kind": kind, "quantity": pieces, "reason": "counted"}
        path = f"/api/products/{self.product}/stock"
        self.asks(path, body, None, refused, **self._on_shelf())

    def _on_shelf(self) -> dict[str, int]:
        [paper] = self.shop.products
        return {"available": paper.free, "held": paper.held, "sold": paper.sold}

    # The end ------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """All that can be read has to be what is on paper; a life that failed has said enough."""
        if not getattr(self, "well", False):
            return
        self.work()
        read, operator = self.door.client.get, self.door.operator.token
        shelf = read(f"/api/products/{self.product}/stock", operator).json
        assert {name: shelf[name] for name in self._on_shelf()} == self._on_shelf()
        assert read(self.round, operator).json["status"] == self.money.status
        for user, person in enumerate(self.people):
            wallet = read("/api/wallets/me", person.token).json
            expected = (self.money.funds[user], self.money.held(user))
            assert (wallet["balance"], wallet["locked"]) == expected
            found = read("/api/bets?limit=200", person.token).json["items"]
            bets = {id: _shown(paper) for id, paper in self.bets if paper.user == user}
            assert {bet["betId"]: tuple(bet[name] for name in SHOWN) for bet in found} == bets
        for id, held in self.held:
            token = self.people[held.user].token
            assert read(f"/api/bookings/{id}", token).json["status"] == held.status
        self._compare_orders()

    def _compare_orders(self) -> None:
        read = self.door.client.get
        for id, order in self.orders:
            seen = read(f"/api/orders/{id}", self.people[order.user].token).json
            assert (seen["status"], seen["version"]) == (order.status, order.version)
        on_paper = {
            code: paper.order.tickets[number] for code, paper, number in self.tickets if paper.order
        }
        found = {}
        for person in self.people:
            for booking in read("/api/bookings/my-bookings", person.token).json["items"]:
                found |= {ticket["code"]: ticket["status"] for ticket in booking["tickets"]}
        assert found == on_paper


SHOWN = ("status", "matched", "refunded", "payout")


def _shown(bet: PaperBet) -> tuple[str, int, int, int]:
    return bet.status, bet.matched, bet.refunded, bet.payout


@pytest.fixture
def place(server: Server, clones: Clones, tmp_path: Path) -> Iterator[House]:
    with new_house(server, clones, tmp_path / "house") as house:
        yield house


def test_each_answer_and_each_end_is_the_one_on_paper(
    place: House, scale: Scale, held: Callable[[Trial], None]
) -> None:
    began, examples = monotonic(), scale.ask(50, 50)
    door, inside = Door(place, scale.seed), Inside(place)

    class Here(Life):
        """A life in this house."""

    Here.door, Here.inside, Here.every = door, inside, scale.ask(16, 6)
    chosen = settings(
        max_examples=examples,
        stateful_step_count=scale.ask(30, 50),
        deadline=None,
        database=None,
        # A life of fifty steps can be read; a smaller one would be looked for through many crashes.
        phases=[Phase.generate],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(scale.seed)(Here), settings=chosen)
    finally:
        inside.close()
    place.assert_sound()
    held(
        Trial(
            row="C20",
            name="model-over-http",
            seed=scale.seed,
            faults=door.crashes,
            acknowledged=door.answered,
            # Resolved by their key, each before anything else was asked.
            unknown=door.cut,
            what={"lives": door.lives},
            seconds=round(monotonic() - began, 2),
        )
    )
