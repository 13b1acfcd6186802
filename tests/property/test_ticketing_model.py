"""Random lives of an event on the real database against a box office on paper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from paper_tickets import PaperOffice, PaperOrder, PaperPayment, PaperReservation

from boxoffice import (
    earned,
    new_event,
    news,
    seats_of,
    swept,
    tickets_of,
    time_out,
    worked,
)
from playing import assert_clean, ticket
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import CancelEvent, EditTicketType
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReleaseReservation, ReserveSeats
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

USERS = 3
QUANTITY, PRICE, LIMIT = (6, 3), (100, 250), (3, None)

which = st.integers(0, 40)
"""Of all that there are, counted round."""

wish = st.tuples(
    st.integers(0, USERS - 1),
    st.sampled_from([(1, 0), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (4, 0), (0, 3)]),
)
"""(user, (seats of the first type, of the second))."""

amounts = st.sampled_from(["all", "all", "all", "all", "none", "less", "more"])
telling = st.tuples(which, which, amounts)

steps = st.one_of(
    *[st.tuples(st.just("reserve"), st.lists(wish, min_size=1, max_size=3))] * 3,
    *[st.tuples(st.just("complete"), st.lists(which, min_size=1, max_size=3))] * 3,
    *[st.tuples(st.just("told"), telling)] * 4,
    st.tuples(st.just("told_together"), st.lists(telling, min_size=2, max_size=4)),
    *[st.tuples(st.just("lapse"), which)] * 2,
    st.tuples(st.just("release"), which),
    st.tuples(st.just("resize"), st.tuples(st.integers(0, 1), st.integers(0, 9))),
    st.tuples(st.just("reprice"), st.tuples(st.integers(0, 1), st.sampled_from([0, 100, 999]))),
    st.tuples(st.just("scan"), st.tuples(which, which)),
)
opening = st.tuples(
    st.tuples(st.just("reserve"), st.lists(wish, min_size=2, max_size=4)),
    st.tuples(st.just("complete"), st.just([0, 1, 2])),
)
plans = st.tuples(
    st.tuples(opening, st.lists(steps, min_size=6, max_size=20)).map(
        lambda parts: [*parts[0], *parts[1]]
    ),
    st.booleans(),
    st.lists(steps, max_size=4),
    st.lists(steps, max_size=4),
)
"""What happens; whether the event is called off; what happens before that has had its effect, and
after."""


class Real:
    """The same event in the database; reservations and payments in the order of the paper."""

    def __init__(self, house: Strongroom, owner: Database) -> None:
        self.house, self.owner = house, owner
        self.paper = PaperOffice(list(QUANTITY), list(PRICE), list(LIMIT))
        self.users = [uuid7() for _ in range(USERS)]
        self.ids: list[UUID] = []
        self.orders: dict[int, UUID] = {}
        self.payments: dict[int, list[UUID]] = {}

    async def open(self) -> Real:
        show = await new_event(self.house, *QUANTITY)
        self.event, self.types = show.id, show.types
        for type, price, limit in zip(self.types, PRICE, LIMIT, strict=True):
            edit = EditTicketType(show.id, type, price=price, per_user_limit=limit)
            await self.house.run(edit)
        return self

    async def group(self, *commands: Command) -> list[tuple[str | None, Any]]:
        """What each came to, in one group: the code of its refusal, and its reply."""
        tickets = [ticket(one, None if one.idempotent else str(uuid7())) for one in commands]
        await self.house.executor.run(tickets)
        outcomes = [await one.future for one in tickets]
        return [(o.refused or (o.error.code if o.error else None), o.reply) for o in outcomes]

    async def sweep(self, but: int | None = None) -> None:
        """Gives back what has expired."""
        spared = None if but is None else self.ids[but]
        rows = await self.owner.fetch(
            "SELECT id FROM ticketing.reservations WHERE event_id = $1 AND status = 'ACTIVE'"
            " AND expires_at <= clock_timestamp() AND id IS DISTINCT FROM $2",
            self.event,
            spared,
        )
        if rows:
            await swept(self.house, *(row[0] for row in rows))

    def pick(self, number: int) -> int | None:
        return number % len(self.ids) if self.ids else None

    # Steps, as on the paper so in the database ---------------------------------------------------

    async def reserve(self, wishes: list[tuple[int, tuple[int, int]]]) -> None:
        carts = [{n: count for n, count in enumerate(seats) if count} for _, seats in wishes]
        expected = [
            self.paper.reserve(user, cart) for (user, _), cart in zip(wishes, carts, strict=True)
        ]
        commands = [
            ReserveSeats(
                self.users[user], tuple((self.types[n], count) for n, count in cart.items()), 600
            )
            for (user, _), cart in zip(wishes, carts, strict=True)
        ]
        found = await self.group(*commands)
        assert [code for code, _ in found] == expected
        self.ids += [reply.reservation_id for code, reply in found if code is None]

    async def complete(self, numbers: list[int]) -> None:
        if not self.ids:
            return
        picked = [number % len(self.ids) for number in numbers]
        ones = [self.paper.reservations[n] for n in picked]
        expected = [self.paper.complete(one) for one in ones]
        commands = [
            CompleteBooking(self.users[one.user], self.ids[n], "MOMO")
            for n, one in zip(picked, ones, strict=True)
        ]
        found = await self.group(*commands)
        assert [code for code, _ in found] == expected
        for n, (code, reply) in zip(picked, found, strict=True):
            if code is None:
                self.orders[n] = reply.order_id
                query = "SELECT id FROM payments.payments WHERE order_id = $1 ORDER BY id"
                rows = await self.owner.fetch(query, reply.order_id)
                self.payments[n] = [row[0] for row in rows]

    def _said(
        self, number: int, payment: int, how: str
    ) -> tuple[int, PaperPayment, Command] | None:
        if not self.orders:
            return None
        n = list(self.orders)[number % len(self.orders)]
        one = self.paper.reservations[n]
        assert one.order
        k = payment % len(one.order.payments)
        wrong = {"less": -1, "more": 1}.get(how, 0)
        amount = 0 if how == "none" else max(0, one.total + wrong)
        command = news(self.payments[n][k], amount, "FAILED" if how == "none" else "SUCCESS")
        paid = one.order.payments[k]
        self.paper.told(one, paid, amount)
        return n, paid, command

    async def told(self, telling: tuple[int, int, str]) -> None:
        if self.orders:
            # Its own reservation may be dead without anybody having noticed.
            await self.sweep(but=list(self.orders)[telling[0] % len(self.orders)])
        if said := self._said(*telling):
            [(code, _)] = await self.group(said[2])
            assert code is None

    async def told_together(self, tellings: list[tuple[int, int, str]]) -> None:
        await self.sweep()
        said = [one for telling in tellings if (one := self._said(*telling))]
        if said:
            found = await self.group(*(command for *_, command in said))
            assert [code for code, _ in found] == [None] * len(said)

    async def lapse(self, number: int) -> None:
        if (n := self.pick(number)) is not None:
            self.paper.lapse(self.paper.reservations[n])
            await time_out(self.owner, self.ids[n])

    async def release(self, number: int) -> None:
        if (n := self.pick(number)) is not None:
            one = self.paper.reservations[n]
            release = ReleaseReservation(self.users[one.user], self.ids[n])
            [(code, _)] = await self.group(release)
            assert code == self.paper.release(one)

    async def resize(self, what: tuple[int, int]) -> None:
        await self.sweep()
        edit = EditTicketType(self.event, self.types[what[0]], quantity=what[1])
        [(code, _)] = await self.group(edit)
        assert code == self.paper.resize(*what)

    async def reprice(self, what: tuple[int, int]) -> None:
        edit = EditTicketType(self.event, self.types[what[0]], price=what[1])
        [(code, _)] = await self.group(edit)
        assert code == self.paper.reprice(*what)

    async def scan(self, what: tuple[int, int]) -> None:
        bought = [n for n in self.orders if self._order(n).tickets]
        if bought:
            n = bought[what[0] % len(bought)]
            codes = list(await tickets_of(self.house, self.orders[n]))
            k = what[1] % len(codes)
            [(code, _)] = await self.group(CheckIn(codes[k], "A"))
            assert code == self.paper.scan(self._order(n), k)

    def _order(self, n: int) -> PaperOrder:
        order = self.paper.reservations[n].order
        assert order
        return order

    async def take(self, steps: list[tuple[str, Any]]) -> None:
        for name, what in steps:
            event(name)
            await getattr(self, name)(what)

    async def call_off(self) -> None:
        await self.sweep()
        [(code, _)] = await self.group(CancelEvent(self.event))
        assert code == self.paper.call_off()

    async def settle(self) -> None:
        await self.sweep()
        await worked(self.house)
        self.paper.settle()

    # What there is in the end ----------------------------------------------------------------------

    async def compare(self) -> None:
        await self.sweep()
        paper = self.paper
        assert await seats_of(self.house, self.types) == [
            (paper.free(n), paper.counted(n, "ACTIVE"), paper.sold(n)) for n in (0, 1)
        ]
        assert await earned(self.house, self.event) == paper.earned
        for n, one in enumerate(paper.reservations):
            event(f"ends {one.status} {one.order and (one.order.status, one.order.late)}")
            assert await self._now(n) == one

    async def _now(self, n: int) -> PaperReservation:
        """A reservation with all that came of it, as the database has it."""
        written = self.paper.reservations[n]
        query = "SELECT status::text, total_amount FROM ticketing.reservations WHERE id = $1"
        status, total = tuple((await self.owner.fetch(query, self.ids[n]))[0])
        order = None
        if n in self.orders:
            query = "SELECT status::text, late FROM ticketing.orders WHERE id = $1"
            paid, late = tuple((await self.owner.fetch(query, self.orders[n]))[0])
            rows = await self.owner.fetch(
                "SELECT p.status::text, p.captured, coalesce(r.amount, 0)"
                " FROM payments.payments p LEFT JOIN payments.refunds r ON r.payment_id = p.id"
                " WHERE p.order_id = $1 ORDER BY p.id",
                self.orders[n],
            )
            tickets = await tickets_of(self.house, self.orders[n])
            payments = [PaperPayment(*row) for row in rows]
            order = PaperOrder(paid, late, payments, list(tickets.values()))
        return PaperReservation(written.user, written.seats, total, written.limits, status, order)


@pytest.fixture
async def audited(house: Strongroom) -> AsyncIterator[Strongroom]:
    """A house whose invariants hold after all examples."""
    yield house
    await assert_clean(house)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(plan=plans)
async def test_every_seat_and_every_coin_is_where_the_paper_says(
    audited: Strongroom, owner: Database, plan: tuple[list[Any], bool, list[Any], list[Any]]
) -> None:
    steps, called_off, between, after = plan
    real = await Real(audited, owner).open()
    await real.take(steps)
    await real.compare()
    if called_off:
        await real.call_off()
        await real.take(between)
        await real.settle()
        await real.take(after)
        await real.settle()
        await real.compare()
