"""Random lives of a shop on the real database against one that is kept on paper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from paper_orders import AFTER, PaperOrder, PaperPayment, PaperProduct, PaperShop

from playing import assert_clean
from storefront import buyer, group, history, money, new_product, stock, time_out
from strongroom.apps.orders.flow import commands_due
from strongroom.apps.orders.orders import PayOrder, PlaceOrder
from strongroom.apps.orders.products import EditProduct, MoveStock
from strongroom.apps.orders.steps import RecordPayment, TakeStep
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

USERS, CUSTOMERS = 3, 3
STOCK, PRICE = (6, 3, 4), (100, 250, 0)

which = st.integers(0, 40)
"""Of all that there are, counted round."""

product = st.integers(0, len(STOCK) - 1)
methods = st.sampled_from(["COD", "MOMO", "CARD"])
wish = st.tuples(
    st.integers(0, USERS - 1),
    st.integers(0, CUSTOMERS - 1),
    st.lists(st.tuples(product, st.integers(1, 3)), min_size=1, max_size=3),
    methods,
)
whose = st.sampled_from([None, None, None, "own", "other"])
"""An operator's, the buyer's own, somebody else's."""

step = st.tuples(which, st.sampled_from([*AFTER, "confirm", "ship"]), whose)
telling = st.tuples(which, which, st.sampled_from(["all", "all", "all", "none", "less", "more"]))

steps = st.one_of(
    *[st.tuples(st.just("place"), st.lists(wish, min_size=1, max_size=3))] * 3,
    *[st.tuples(st.just("take"), st.lists(step, min_size=1, max_size=4))] * 4,
    *[st.tuples(st.just("told"), st.lists(telling, min_size=1, max_size=3))] * 4,
    *[st.tuples(st.just("pay"), st.lists(st.tuples(which, methods, whose), max_size=2))] * 2,
    *[st.tuples(st.just("walk"), st.tuples(which, st.integers(1, 4)))] * 3,
    st.tuples(st.just("late"), which),
    st.tuples(st.just("lapse"), st.none()),
    st.tuples(
        st.just("move"),
        st.tuples(product, st.sampled_from(["receive", "adjust"]), st.integers(-4, 4)),
    ),
    st.tuples(st.just("price"), st.tuples(product, st.sampled_from([0, 100, 999]))),
    st.tuples(st.just("shelve"), st.tuples(product, st.sampled_from([True, True, False]))),
)
plans = st.tuples(
    st.tuples(st.just("place"), st.lists(wish, min_size=2, max_size=4)),
    st.lists(steps, min_size=8, max_size=24),
).map(lambda parts: [parts[0], *parts[1]])


class Real:
    """The same shop in the database; products, orders and payments in the order of the paper."""

    def __init__(self, house: Strongroom, owner: Database) -> None:
        self.house, self.owner = house, owner
        self.paper = PaperShop(
            [PaperProduct(free, price) for free, price in zip(STOCK, PRICE, strict=True)]
        )
        self.users = [uuid7() for _ in range(USERS)]
        self.ids: list[UUID] = []
        self.payments: list[list[UUID]] = []
        self.codes: list[str] = []

    async def open(self) -> Real:
        self.products = [
            await new_product(self.house, free, price=price)
            for free, price in zip(STOCK, PRICE, strict=True)
        ]
        self.before = await money(self.house)
        return self

    def pick(self, number: int) -> int:
        return number % len(self.ids)

    def who(self, order: PaperOrder, whose: str | None) -> int | None:
        return None if whose is None else (order.user + (whose == "other")) % USERS

    async def read_payments(self, n: int) -> None:
        """Those that were asked for by now."""
        query = "SELECT id FROM payments.payments WHERE order_id = $1 ORDER BY id"
        self.payments[n] = [row[0] for row in await self.owner.fetch(query, self.ids[n])]

    # Steps, as on the paper so in the database ---------------------------------------------------

    async def place(self, wishes: list[tuple[int, int, list[tuple[int, int]], str]]) -> None:
        expected = [self.paper.place(*one) for one in wishes]
        commands = [
            PlaceOrder(
                self.users[user],
                buyer(customer),
                tuple((self.products[n], pieces) for n, pieces in items),
                3600,
                method,  # type: ignore[arg-type]
            )
            for user, customer, items, method in wishes
        ]
        found = await group(self.house, *commands)
        assert [code for code, _ in found] == expected
        for code, reply in found:
            if code is None:
                self.ids.append(reply.order_id)
                self.codes.append(reply.code)
                self.payments.append([])
                await self.read_payments(len(self.ids) - 1)

    async def take(self, wishes: list[tuple[int, str, str | None]]) -> None:
        commands, expected = [], []
        for number, step, whose in wishes:
            order = self.paper.orders[n := self.pick(number)]
            who = self.who(order, whose)
            expected.append(self.paper.take(order, step, who))
            user = None if who is None else self.users[who]
            commands.append(TakeStep(self.ids[n], step, user))  # type: ignore[arg-type]
        assert [code for code, _ in await group(self.house, *commands)] == expected

    async def walk(self, what: tuple[int, int]) -> None:
        """As far as it goes at once, also where the money has just come."""
        number, count = what
        way = ["confirm", "ship", "deliver", "return"][:count]
        await self.take([(number, step, None) for step in way])

    async def pay(self, wishes: list[tuple[int, str, str | None]]) -> None:
        commands, expected = [], []
        for number, method, whose in wishes:
            order = self.paper.orders[n := self.pick(number)]
            who = self.who(order, whose)
            expected.append(self.paper.pay(order, method, who))
            user = None if who is None else self.users[who]
            commands.append(PayOrder(self.ids[n], user, method))  # type: ignore[arg-type]
        if commands:
            assert [code for code, _ in await group(self.house, *commands)] == expected
        for number, *_ in wishes:
            await self.read_payments(self.pick(number))

    async def told(self, tellings: list[tuple[int, int, str]]) -> None:
        prepaid = [n for n, payments in enumerate(self.payments) if payments]
        commands = []
        for number, payment, how in tellings if prepaid else []:
            n = prepaid[number % len(prepaid)]
            order, k = self.paper.orders[n], payment % len(self.payments[n])
            amount = {"none": 0, "less": order.total - 1, "more": order.total + 1}.get(
                how, order.total
            )
            self.paper.told(order, k, amount)
            result: Any = "SUCCESS" if amount else "FAILED"
            commands.append(RecordPayment(self.payments[n][k], result, amount, "ref"))
        if commands:
            found = await group(self.house, *commands)
            assert [code for code, _ in found] == [None] * len(commands)

    async def late(self, number: int) -> None:
        n = self.pick(number)
        self.paper.orders[n].late = True
        await time_out(self.owner, self.ids[n])

    async def lapse(self, _: None) -> None:
        self.paper.lapse()
        for command in await commands_due(self.house.database):
            await self.house.run(command)

    async def move(self, what: tuple[int, str, int]) -> None:
        product, kind, pieces = what
        wish = MoveStock(self.products[product], kind, pieces, "counted")  # type: ignore[arg-type]
        [(code, _)] = await group(self.house, wish)
        assert code == self.paper.move(product, kind, pieces)

    async def price(self, what: tuple[int, int]) -> None:
        product, price = what
        self.paper.products[product].price = price
        await self.house.run(EditProduct(self.products[product], price=price))

    async def shelve(self, what: tuple[int, bool]) -> None:
        product, active = what
        self.paper.products[product].active = active
        await self.house.run(EditProduct(self.products[product], active=active))

    async def run(self, plan: list[tuple[str, Any]]) -> None:
        for name, what in plan:
            if self.ids or name in ("place", "move", "price", "shelve"):
                event(name)
                await getattr(self, name)(what)

    # What there is in the end ----------------------------------------------------------------------

    async def compare(self) -> None:
        paper = self.paper
        assert [await stock(self.house, id) for id in self.products] == [
            (one.free, one.held, one.sold) for one in paper.products
        ]
        here, bank, cash = (
            now - before for now, before in zip(await money(self.house), self.before, strict=True)
        )
        assert (here, bank, cash) == (paper.bank + paper.cash, paper.bank, paper.cash)
        assert self.codes == sorted(self.codes)
        for n, one in enumerate(paper.orders):
            event(f"ends {one.status} {one.method} {one.paid}")
            assert await self._now(n) == one

    async def _now(self, n: int) -> PaperOrder:
        """An order with all that came of it, as the database has it."""
        written, id = self.paper.orders[n], self.ids[n]
        row = await self.owner.fetchrow(
            "SELECT o.*, o.status::text AS state, o.payment_method::text AS method,"
            " o.payment_status::text AS paid FROM orders.orders o"
            " JOIN orders.customers c ON c.id = o.customer_id AND c.phone = o.phone"
            " WHERE o.id = $1",
            id,
        )
        assert row is not None
        assert (row["total_amount"], row["code"]) == (written.total, self.codes[n])
        lines = await self.owner.fetch(
            "SELECT product_id, quantity, unit_price FROM orders.lines WHERE order_id = $1", id
        )
        payments = await self.owner.fetch(
            "SELECT p.method::text, p.status::text, p.captured, coalesce(r.amount, 0)"
            " FROM payments.payments p LEFT JOIN payments.refunds r ON r.payment_id = p.id"
            " WHERE p.order_id = $1 ORDER BY p.id",
            id,
        )
        numbers: dict[UUID | None, int | None] = {None: None, id: -1}
        numbers |= {each: k for k, each in enumerate(self.payments[n])}
        return PaperOrder(
            user=self.users.index(row["user_id"]),
            customer=int(row["phone"][4:]),
            lines={self.products.index(each[0]): (each[1], each[2]) for each in lines},
            method=row["method"],
            paid=row["paid"],
            status=row["state"],
            version=row["version"],
            history=[entry[:2] for entry in await history(self.house, id)],
            payments=[PaperPayment(*each) for each in payments],
            current=numbers[row["payment_id"]],
            late=written.late,
        )


@pytest.fixture
async def audited(house: Strongroom) -> AsyncIterator[Strongroom]:
    """A house whose invariants hold after all examples."""
    yield house
    await assert_clean(house)


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(plan=plans)
async def test_every_piece_and_every_coin_is_where_the_paper_says(
    audited: Strongroom, owner: Database, plan: list[tuple[str, Any]]
) -> None:
    real = await Real(audited, owner).open()
    await real.run(plan)
    await real.compare()
    await real.lapse(None)
    await real.compare()
