"""Orders while API processes, workers and the database itself are killed at random instants."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from end_to_end._cli import cli, scratch
from end_to_end._client import Client
from end_to_end._contract import ORDER_CODE, new_product
from end_to_end._house import Person, eventually
from end_to_end.test_up import FINE, Up, running
from strongroom.core.db.places import place_of
from strongroom.lab.wire import Address, Broken, Reply, Wire, request
from strongroom.settings import Settings

KILLS = 12
ACKNOWLEDGED = 500
"""Small, for every run; a campaign sets 1,000 and 100,000. Zero violations bound their rate per
kill below 3/KILLS."""

ENOUGH_KILLS, ENOUGH_ACKNOWLEDGED = 8, 250
"""Below this a run says nothing: it is invalid and fails."""

CLIENTS = 10
BUYERS = 5
PRODUCTS = 4
STOCK = 15
"""Of each product: gone before the run is over, so that the last pieces are fought for."""

PAUSE_S = 0.8
"""Between two kills, on average; about what a process needs to be back at work."""

LONGEST_S = 75.0
DRAINED_S = 60.0
SEED = 4711

COURSES: tuple[tuple[str, ...], ...] = (
    ("confirm", "ship", "deliver"),
    ("confirm", "ship", "deliver", "return"),
    ("confirm", "ship", "return"),
    ("confirm", "cancel"),
    ("cancel",),
    ("cancel", "confirm"),
    ("ship", "confirm", "ship", "cancel"),
    (),
)
"""What is wanted of an order; some steps of them are refused."""

GOOD: dict[str, set[int | str]] = {
    "place": {201, "out_of_stock"},
    "receive": {201},
    "pay": {200, "wrong_state"},
    **{
        step: {200, "wrong_state", "not_paid"}
        for step in ("confirm", "ship", "deliver", "return", "cancel")
    },
}


class Acknowledged(NamedTuple):
    """A request that has got its definite answer, and of which order it was."""

    kind: str
    said: bytes
    reply: Reply
    order_id: str


def people(up: Up, count: int, role: str) -> list[Person]:
    made = cli(
        "users", "create", "--json", "--count", str(count), "--role", role,
        "--data-dir", str(up.folder),
    )  # fmt: skip
    assert made.code == FINE, made
    return [Person(one["userId"], one["accessToken"]) for one in made.lines]


def rows(up: Up, query: str, *args: Any) -> list[tuple[Any, ...]]:
    """Asks the database behind the instance's back, as its owner."""
    owner = place_of(Settings(data_dir=up.folder, database_url=None)).owner
    with psycopg.connect(owner, autocommit=True) as db:
        return db.execute(query, args).fetchall()


@dataclass
class Trial:
    """Buyers and a shopkeeper who go on whatever dies, and the one who kills."""

    up: Up
    operator: Person
    buyers: list[Person]
    products: list[str]
    acknowledged: list[Acknowledged] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    ends_at: float = field(default_factory=lambda: time.monotonic() + LONGEST_S)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    @property
    def over(self) -> bool:
        enough = len(self.acknowledged) >= ACKNOWLEDGED and self.kills.total() >= KILLS
        return enough or time.monotonic() > self.ends_at

    def wire(self, number: int) -> Wire:
        return Wire([Address("127.0.0.1", self.up.port)], random.Random(SEED * 1000 + number))

    async def ask(
        self, wire: Wire, kind: str, path: str, person: Person, body: Any, order_id: str = ""
    ) -> Reply:
        """Asks, and after a break again with the same key, until the outcome is known."""
        said = request("POST", path, person.token, uuid4().hex, body)
        try:
            reply = await wire.ask(said)
        except Broken:
            self.broken += 1
            reply = await wire.until_definite(said)
        if not reply.definite:
            reply = await wire.until_definite(said)
        done = kind == "place" and reply.status == 201
        order_id = reply.json["orderId"] if done else order_id
        self.acknowledged.append(Acknowledged(kind, said, reply, order_id))
        return reply

    async def shop(self, number: int) -> None:
        """Places orders one after the other, and has each go its way."""
        chance, wire = random.Random(SEED + number), self.wire(number)
        while not self.over:
            buyer = chance.choice(self.buyers)
            items = [
                {"productId": id, "quantity": chance.randint(1, 3)}
                for id in chance.sample(self.products, chance.randint(1, 2))
            ]
            customer = {"name": "Nguyễn Thị Lan", "phone": f"090000000{chance.randint(0, 9)}"}
            method = chance.choice(("COD", "COD", "MOMO", "CARD"))
            body = {"customer": customer, "items": items, "paymentMethod": method}
            reply = await self.ask(wire, "place", "/api/orders", buyer, body)
            if reply.status == 201:
                await self.course(wire, chance, reply.json["orderId"])
            elif chance.random() < 0.2:  # what runs out comes again, or all else would be refusals
                path = f"/api/products/{chance.choice(self.products)}/stock"
                more = {"kind": "receive", "quantity": 10, "reason": "A delivery"}
                await self.ask(wire, "receive", path, self.operator, more)
        wire.close()

    async def course(self, wire: Wire, chance: random.Random, order_id: str) -> None:
        path = f"/api/orders/{order_id}"
        if chance.random() < 0.2:
            body = {"paymentMethod": chance.choice(("CARD", "COD"))}
            await self.ask(wire, "pay", f"{path}/pay", self.operator, body, order_id)
        for step in chance.choice(COURSES):
            await self.ask(wire, step, f"{path}/{step}", self.operator, {}, order_id)

    async def killer(self) -> None:
        """Poisson: the instants are independent of what the processes do."""
        targets = ["api-1", "worker-1", "postgres", "api-2", "worker-2"]
        while self.kills.total() < KILLS and not self.over:
            await asyncio.sleep(self.chance.expovariate(1 / PAUSE_S))
            name = targets[self.kills.total() % len(targets)]
            while name not in (children := self.up.children()) or not await self.serves():
                if self.over:
                    return
                await asyncio.sleep(0.05)
            try:
                os.kill(children[name], signal.SIGKILL)
            except ProcessLookupError:
                continue  # it went by itself in this moment, as after the database did
            self.kills[name] += 1

    async def serves(self) -> bool:
        """Only who is at work is worth killing; who starts holds nothing yet."""
        return await asyncio.to_thread(self.up.status) == 200

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.killer())
            for number in range(CLIENTS):
                tasks.create_task(self.shop(number))

    def of(self, kind: str) -> list[Acknowledged]:
        return [one for one in self.acknowledged if one.kind == kind]

    def placed(self) -> dict[str, Any]:
        """The acknowledged orders by id: what was answered."""
        done = (one for one in self.of("place") if one.reply.status == 201)
        return {one.order_id: one.reply.json for one in done}


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """Everything as `up` starts it, with two API processes and two workers."""
    with scratch() as folder:
        (folder / "strongroom.toml").write_text('rate_limits = "off"\n')
        more = ("--port", "0", "--api-processes", "2", "--workers", "2")
        with running(folder / "data", *more) as up:
            yield up.ready()
            assert up.end() == FINE, up.words()


@pytest.fixture(scope="module")
def trial(up: Up) -> Trial:
    """The run itself; what came of it is asked by the tests."""
    (operator,), buyers = people(up, 1, "operator"), people(up, BUYERS, "user")
    with Client(up.port) as client:
        products = [new_product(client, operator, STOCK) for _ in range(PRODUCTS)]
    trial = Trial(up, operator, buyers, products)
    asyncio.run(trial.run())
    eventually(lambda: len(up.children()) == 5 and up.status() == 200, "all are back", DRAINED_S)
    # What a killed worker held comes again after its lease of 30 s; here at once.
    for (queue,) in rows(up, "SELECT queue_name FROM pgmq.meta"):
        rows(up, f'UPDATE pgmq."q_{queue}" SET vt = now() RETURNING msg_id')
    waiting = "SELECT coalesce(sum(waiting), 0) FROM audit.queue_lengths()"
    eventually(lambda: rows(up, waiting) == [(0,)], "the workers are done", DRAINED_S)
    return trial


def test_the_run_was_a_trial_at_all(trial: Trial) -> None:
    kinds = {name.partition("-")[0] for name in trial.kills}
    assert kinds == {"api", "worker", "postgres"}, f"invalid: one never died: {trial.kills}"
    assert trial.kills.total() >= ENOUGH_KILLS, f"invalid: {trial.kills}"
    assert len(trial.acknowledged) >= ENOUGH_ACKNOWLEDGED, f"invalid: {len(trial.acknowledged)}"
    assert trial.broken, "invalid: no request was under way when its process died"
    refusals = [one for one in trial.of("place") if one.reply.status == 409]
    assert refusals, "invalid: the last piece was never fought for"
    for kind in GOOD:
        assert any(one.reply.status < 300 for one in trial.of(kind)), f"invalid: no {kind}"


def test_everything_asked_got_a_definite_answer_that_makes_sense(trial: Trial) -> None:
    for one in trial.acknowledged:
        said = one.reply.status if one.reply.status < 300 else one.reply.json["code"]
        assert said in GOOD[one.kind], one


def test_every_answer_is_replayed_byte_for_byte_after_the_crashes(trial: Trial) -> None:
    async def replay(some: list[Acknowledged], number: int) -> None:
        wire = trial.wire(number)
        for one in some:
            again = await wire.until_definite(one.said)
            assert (again.status, again.body) == (one.reply.status, one.reply.body), one
            assert again.headers["idempotency-replayed"] == "true", one
        wire.close()

    async def replay_all() -> None:
        parts = [trial.acknowledged[start::4] for start in range(4)]
        await asyncio.gather(*(replay(part, number) for number, part in enumerate(parts)))

    before = counted(trial.up)
    asyncio.run(replay_all())
    assert counted(trial.up) == before


def counted(up: Up) -> list[tuple[Any, ...]]:
    """What a request that is done twice would leave one more of."""
    query = """SELECT (SELECT count(*) FROM orders.orders), (SELECT count(*) FROM orders.history),
        (SELECT count(*) FROM ledger.transfers), (SELECT count(*) FROM payments.payments)"""
    return rows(up, query)


def test_every_acknowledged_order_is_there_once_and_no_other_with_a_code_of_its_own(
    trial: Trial,
) -> None:
    placed = trial.placed()
    query = "SELECT id::text, code, total_amount FROM orders.orders"
    there = {id: (code, total) for id, code, total in rows(trial.up, query)}
    assert there == {id: (one["code"], one["totalAmount"]) for id, one in placed.items()}
    assert len({code for code, _ in there.values()}) == len(there)
    assert all(ORDER_CODE(code) for code, _ in there.values())
    codes = "SELECT 'SON' || lpad(number::text, 6, '0'), order_id::text FROM orders.codes"
    assert dict(rows(trial.up, codes)) == {code: id for id, (code, _) in there.items()}


def test_every_acknowledged_step_is_in_the_history_of_its_order_once_and_in_order(
    trial: Trial,
) -> None:
    told: dict[str, list[str]] = defaultdict(list)
    for one in trial.acknowledged:
        if one.kind not in ("place", "pay", "receive") and one.reply.status == 200:
            told[one.order_id].append(one.reply.json["status"])
    query = "SELECT order_id::text, status::text, by_whom FROM orders.history ORDER BY version"
    kept: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for order_id, status, by in rows(trial.up, query):
        kept[order_id].append((status, by))
    assert set(kept) == set(trial.placed())
    for order_id, history in kept.items():
        by_people = [status for status, by in history if not by.startswith("worker:")]
        assert by_people == ["PENDING", *told[order_id]], order_id
        by_workers = [status for status, by in history if by.startswith("worker:")]
        assert by_workers in ([], ["CONFIRMED"]), history  # a payment that arrived


def test_what_was_paid_is_kept_and_what_was_called_off_goes_back(trial: Trial) -> None:
    orders = rows(
        trial.up,
        """SELECT o.payment_method::text, o.status::text, o.payment_status::text, o.total_amount,
            (SELECT coalesce(sum(p.captured), 0) FROM payments.payments p WHERE p.order_id = o.id),
            (SELECT coalesce(sum(r.amount), 0) FROM payments.refunds r
                JOIN payments.payments p ON p.id = r.payment_id
                WHERE p.order_id = o.id AND r.status = 'DONE')
        FROM orders.orders o""",
    )
    earned = 0
    for method, status, payment, total, captured, returned in orders:
        assert captured in (0, total)
        stands = status not in ("CANCELLED", "RETURNED")
        if method == "COD":
            assert (captured, payment == "SUCCESS") == (0, status == "DELIVERED")
        elif stands:  # the sandbox pays every round amount
            assert (captured, returned, payment) == (total, 0, "SUCCESS") and status != "PENDING"
        else:
            assert returned == captured
        earned += total if payment == "SUCCESS" else 0
    with Client(trial.up.port) as client:
        items = client.get("/api/ops/trial-balance", trial.operator.token).json["items"]
    balances = {(one["unit"], one["purpose"]): one["balance"] for one in items}
    assert balances["VND", "house:revenue"] == earned > 0


def test_not_a_piece_is_too_many_or_too_few(trial: Trial) -> None:
    query = """SELECT l.product_id::text, o.status::text, sum(l.quantity)::bigint
        FROM orders.lines l JOIN orders.orders o ON o.id = l.order_id GROUP BY 1, 2"""
    pieces: dict[str, Counter[str]] = defaultdict(Counter)
    for product_id, status, quantity in rows(trial.up, query):
        pieces[product_id][status] = quantity
    received = Counter(dict.fromkeys(trial.products, STOCK))
    for one in trial.of("receive"):
        received[one.said.split(b"/")[3].decode()] += 10
    accounts = """SELECT purpose, balance FROM ledger.accounts WHERE owner_id = %s"""
    for id in trial.products:
        of = pieces[id]
        held, sold = of["PENDING"] + of["CONFIRMED"], of["SHIPPED"] + of["DELIVERED"]
        shelves = dict(rows(trial.up, accounts, id))
        assert shelves == {"free": received[id] - held - sold, "held": held, "sold": sold}
        assert min(shelves.values()) >= 0


def test_after_all_crashes_the_books_are_sound(trial: Trial) -> None:
    found = cli("reconcile", "--json", "--data-dir", str(trial.up.folder))
    assert found.code == FINE and found.json["clean"], found
    for file in (trial.up.folder / "logs").iterdir():
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert not [line for line in lines if line["event"] in ("bug", "message failed")], file
