"""Selling seats: one hot ticket type, carts in opposite orders, whole purchases, expiry."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Self
from uuid import UUID, uuid4

from strongroom.apps.ticketing.events import AddTicketType, CreateEvent, PublishEvent
from strongroom.apps.ticketing.reservations import ReserveSeats
from strongroom.clock import monotonic, now
from strongroom.core.db import Database, Queries
from strongroom.doors.worker import worker_of
from strongroom.lab.arena import Api, Arena, free_port
from strongroom.lab.baselines.ticketing import (
    LOCKING,
    SOLD,
    Sold,
    create_tables,
    release_expired,
    reserve_due,
    sell_also,
)
from strongroom.lab.bench import Bench, Turn
from strongroom.lab.client import CONNECTIONS, LoadResult
from strongroom.lab.client_process import drive
from strongroom.lab.figures import Figures
from strongroom.lab.programs import Program, cpu_s, family
from strongroom.lab.scenarios import Job

sql = Queries(__package__, "ticketing.sql")

OURS = Sold(sql.free_seats, sql.reserved, sql.tickets_made)

LIMIT = 50
"""Seats a buyer may have: both sides check it, and nobody here asks for more."""

PRICE = 100_000
TTL_S = 600

LATE_COMERS = 256
"""Who asks after the last seat is gone: one on each connection, and each is refused."""

WARMUP = 256
"""Reservations of another ticket type, so that connections and plans are there."""

LOOK_S = 0.02
PATIENCE_S = 60.0

ENVIRONMENT = {"STRONGROOM_WRITE_DEADLINE_MS": "30000", "STRONGROOM_RATE_LIMITS": "off"}


@dataclass(frozen=True)
class Side:
    """One of those who sell: its API process, and where its database notes what was sold."""

    name: str
    api: Api
    sold: Sold


class Oversold(Exception):
    """The seats that were sold are not those that there were."""


class TicketBench(Bench):
    """A bench on an arena with buyers: ours and, where `strategies` names them, those of the
    specification, an API process each."""

    people = 2000
    strategies: tuple[str, ...] = ()
    ours_over_http = True

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        try:
            self.arena = await self.stack.enter_async_context(Arena(self.people))
            self.dsn = self.arena.house.place.app
            async with Database(self.arena.house.place.owner, pool_size=1) as owner:
                await create_tables(owner)
            (noted,) = self.arena.folder.rglob("postmaster.pid")
            self._postgres = int(noted.read_text().split()[0])
            if self.ours_over_http:
                self.us = Side("ours", await self.arena.api(), OURS)
            self.them = [await self._specified(name) for name in self.strategies]
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def _specified(self, locking: str) -> Side:
        port, data = free_port(), str(self.arena.house.settings.data_dir)
        program = Program(
            [sys.executable, "-m", "strongroom.lab.baselines", str(port), data, locking],
            ready=("127.0.0.1", port),
            ready_path="/readyz",
            environment=ENVIRONMENT,
        )
        await self.stack.enter_async_context(program)
        return Side(locking, Api(port, program), SOLD)

    async def on_sale(self, *quantities: int) -> list[UUID]:
        """Ticket types of a new event, the same for both sides."""
        house, begins = self.arena.house, now() + timedelta(days=30)
        event = CreateEvent("A night to sell out", "Hà Nội", begins, begins + timedelta(hours=3))
        event_id = (await house.run(event)).event_id
        types = []
        for number, quantity in enumerate(quantities):
            named = AddTicketType(event_id, f"{number}", PRICE, quantity, per_user_limit=LIMIT)
            types.append((await house.run(named)).ticket_type_id)
        await house.run(PublishEvent(event_id))
        await sell_also(house.database, types)
        return types

    async def reserve(
        self, side: Side, carts: list[list[UUID]], asked: int, seed: int, **more: Any
    ) -> LoadResult:
        """`asked` requests for a seat of each ticket type of a cart, the carts in turn."""
        job = Job(
            "127.0.0.1",
            side.api.port,
            "reservations",
            [person.token for person in self.arena.people],
            count=asked,
            connections=min(CONNECTIONS, asked),
            seed=seed,
            options={"carts": [[(str(type), 1) for type in cart] for cart in carts]},
            **more,
        )
        result = await drive(job)
        assert not result.errors, f"{side.name}: not a clean run: {result.errors} errors"
        return result

    async def sell_out(
        self, side: Side, types: list[UUID], carts: list[list[UUID]], turn: Turn, seats: int
    ) -> dict[str, float]:
        """Sells all seats, is refused after that, and checks what the database says of it."""
        (warm,) = await self.on_sale(WARMUP)
        await self.reserve(side, [[warm]], WARMUP, turn.seed)
        busy, spent = 0, self._spent(side)
        first = result = await self.reserve(side, carts, seats, turn.seed)
        seconds = result.seconds
        while missed := result.statuses.get(429, 0):
            # Who was sent away comes again, as people do.
            assert set(result.statuses) <= {201, 429}, f"{side.name}: {result.statuses}"
            busy += missed
            result = await self.reserve(side, carts, missed, turn.seed)
            seconds += result.seconds
        used = [after - before for before, after in zip(spent, self._spent(side), strict=True)]
        assert set(result.statuses) == {201}, f"{side.name}: {result.statuses}"
        late = await self.reserve(side, carts, LATE_COMERS, turn.seed)
        assert set(late.statuses) == {409}, f"{side.name}, sold out: {late.statuses}"
        oversold = await self._oversold(side, types, seats)
        return {
            "reservations_per_s": seats / seconds,
            "p50_ms": first.p50_ms,
            "p99_ms": first.p99_ms,
            "api_cpu_us_per_reservation": used[0] / seats * 1e6,
            "postgres_cpu_us_per_reservation": used[1] / seats * 1e6,
            "sold": float(seats),
            "oversold": float(oversold),
            "sent_away": float(busy),
        }

    def _spent(self, side: Side) -> tuple[float, float]:
        """CPU seconds of the side's API process and of Postgres."""
        return side.api.program.cpu_s(), sum(cpu_s(pid) for pid in family(self._postgres))

    async def _oversold(self, side: Side, types: list[UUID], seats: int) -> int:
        """Seats sold beyond those that there were: 0. Raises when the sum does not come out."""
        database = self.arena.house.database
        free: int = await database.fetchval(side.sold.free, types)
        rows = await database.fetch(side.sold.reserved, types)
        sold: int = sum(row["quantity"] for row in rows)
        bought = Counter(row["user_id"] for row in rows)
        wanted = seats * len(types)
        if (free, sold) != (0, wanted) or max(bought.values()) > LIMIT * len(types):
            raise Oversold(f"{side.name}: {free} free, {sold} sold of {wanted}")
        return max(0, sold - wanted)


class Tickets(TicketBench):
    """POST /api/bookings/reserve for one seat of one ticket type, 256 connections, 2,000 buyers,
    until it is sold out. The baseline is the faster of the specification's two."""

    name = "tickets"
    claim = "Seats of one hot ticket type, against both of the specification's ways of locking"
    figure = "reservations_per_s"
    seconds = 60.0
    strategies = tuple(LOCKING)

    seats, seats_quick = 20_000, 6_000
    theirs: ClassVar = {"pessimistic": (20_000, 768), "optimistic": (5_000, 256)}
    """Seats, and in a quick run. The slowest sells a quarter, which takes it as long as the others
    need for all; its rate is the same."""

    def __init__(self) -> None:
        self._pairs: dict[int, dict[str, dict[str, float]]] = {}

    async def ours(self, turn: Turn) -> Figures:
        seats = self.seats_quick if turn.quick else self.seats
        return self._beside(turn, ours=await self._sell(self.us, seats, turn))

    async def baseline(self, turn: Turn) -> Figures:
        both = {
            side.name: await self._sell(side, self.theirs[side.name][turn.quick], turn)
            for side in self.them
        }
        told = dict(max(both.values(), key=lambda figures: figures[self.figure]))
        for name, figures in both.items():
            told[f"{name}_per_s"] = figures[self.figure]
            told[f"{name}_p50_ms"] = figures["p50_ms"]
            told[f"{name}_p99_ms"] = figures["p99_ms"]
        return self._beside(turn, theirs=told)

    async def _sell(self, side: Side, seats: int, turn: Turn) -> dict[str, float]:
        (type,) = await self.on_sale(seats)
        return await self.sell_out(side, [type], [[type]], turn, seats)

    def _beside(self, turn: Turn, **measured: dict[str, float]) -> Figures:
        """What was measured; the second of a pair adds to ours how it stands to each of theirs."""
        pair = self._pairs.setdefault(turn.seed, {})
        pair.update(measured)
        if len(pair) == 2:
            for name in self.strategies:
                rate, p99_ms = (pair["theirs"][f"{name}_{what}"] for what in ("per_s", "p99_ms"))
                pair["ours"][f"times_{name}"] = pair["ours"][self.figure] / rate
                pair["ours"][f"p99_share_of_{name}"] = pair["ours"]["p99_ms"] / p99_ms
        return next(iter(measured.values()))


class TicketsCart(TicketBench):
    """Carts of two ticket types, every other one in the opposite order: whoever locks rows as
    they are named comes to a deadlock."""

    name = "tickets-cart"
    claim = "Carts of two ticket types in opposite orders, against rows locked one by one"
    figure = "reservations_per_s"
    seconds = 30.0
    strategies = ("pessimistic",)

    seats, seats_quick = 20_000, 4_000
    theirs, theirs_quick = 10_000, 600

    async def ours(self, turn: Turn) -> Figures:
        return await self._sell(self.us, self.seats_quick if turn.quick else self.seats, turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._sell(
            self.them[0], self.theirs_quick if turn.quick else self.theirs, turn
        )

    async def _sell(self, side: Side, seats: int, turn: Turn) -> Figures:
        a, b = await self.on_sale(seats, seats)
        before = await self.arena.house.database.fetchval(sql.deadlocks)
        figures = await self.sell_out(side, [a, b], [[a, b], [b, a]], turn, seats)
        after = await self.arena.house.database.fetchval(sql.deadlocks)
        return figures | {"deadlocks": float(after - before)}


class TicketsPurchase(TicketBench):
    """From the reservation to the tickets: reserved, completed, paid at the sandbox provider,
    called back, tickets made and their mail queued, by an API process and a worker. A purchase
    counts when its tickets are there. The baseline asks no provider."""

    name = "tickets-purchase"
    claim = "Whole purchases, until the tickets are there, against a row at a time"
    figure = "purchases_per_s"
    seconds = 30.0
    strategies = ("pessimistic",)

    bought, bought_quick = 10_000, 2_000
    theirs, theirs_quick = 2_000, 400

    async def ours(self, turn: Turn) -> Figures:
        data = str(self.arena.house.settings.data_dir)
        command = [sys.executable, "-m", "strongroom", "worker", "--data-dir", data]
        # Not while the baseline is measured: there are mails left to write.
        async with Program(command, environment=ENVIRONMENT) as self.worker:
            await self._buy(self.us, WARMUP, turn)
            return await self._buy(self.us, self.bought_quick if turn.quick else self.bought, turn)

    async def baseline(self, turn: Turn) -> Figures:
        return await self._buy(self.them[0], self.theirs_quick if turn.quick else self.theirs, turn)

    async def _buy(self, side: Side, seats: int, turn: Turn) -> Figures:
        database = self.arena.house.database
        (type,) = await self.on_sale(seats)
        spent = self._spent(side)
        reserved = await self.reserve(side, [[type]], seats, turn.seed)
        assert set(reserved.statuses) == {201}, f"{side.name}: {reserved.statuses}"
        places = {person.user_id: place for place, person in enumerate(self.arena.people)}
        bookings = [
            (str(row["id"]), places[row["user_id"]])
            for row in await database.fetch(side.sold.reserved, [type])
        ]
        tokens = [person.token for person in self.arena.people]
        options = {"bookings": bookings}
        job = Job("127.0.0.1", side.api.port, "completions", tokens, count=seats, options=options)
        completed = await drive(job)
        assert set(completed.statuses) == {201}, f"{side.name}: {completed.statuses}"
        waited = await self._until_made(side, type, seats)
        seconds = reserved.seconds + completed.seconds + waited
        used = [after - before for before, after in zip(spent, self._spent(side), strict=True)]
        return {
            "purchases_per_s": seats / seconds,
            "reserved_per_s": reserved.per_second,
            "completed_per_s": completed.per_second,
            "last_tickets_after_s": waited,
            "api_and_worker_cpu_us_per_purchase": used[0] / seats * 1e6,
            "postgres_cpu_us_per_purchase": used[1] / seats * 1e6,
        }

    def _spent(self, side: Side) -> tuple[float, float]:
        api, postgres = super()._spent(side)
        return api + (self.worker.cpu_s() if side is self.us else 0.0), postgres

    async def _until_made(self, side: Side, type: UUID, wanted: int) -> float:
        """Waits until every ticket and its mail are there; how long after the last answer."""
        began = monotonic()
        while True:
            row = await self.arena.house.database.fetchrow(side.sold.tickets, [type])
            assert row is not None
            if (row["tickets"], row["mails"]) == (wanted, wanted):
                return monotonic() - began
            if monotonic() - began > PATIENCE_S:
                raise Oversold(f"{side.name}: {row['tickets']} tickets of {wanted}")
            await asyncio.sleep(LOOK_S)


class TicketsExpiry(TicketBench):
    """20,000 reservations that are over at one instant: how long until the sweep has freed all
    of their seats, beside the specification's job. Neither waits for its beat here: a second with
    us, five minutes as specified."""

    name = "tickets-expiry"
    claim = "Expired reservations given back, against the specification's job"
    figure = "freed_per_s"
    seconds = 30.0
    ours_over_http = False

    due, due_quick = 20_000, 5_000
    """The same for both: each step of the job's loop costs more than the one before."""

    async def ours(self, turn: Turn) -> Figures:
        house, due = self.arena.house, self.due_quick if turn.quick else self.due
        (type,) = await self.on_sale(due)
        people = self.arena.people
        for start in range(0, due, 5000):
            await asyncio.gather(
                *(
                    house.run(
                        ReserveSeats(people[n % len(people)].user_id, ((type, 1),), TTL_S),
                        key=str(uuid4()),
                    )
                    for n in range(start, min(start + 5000, due))
                )
            )
        assert await house.database.fetchval(sql.free_seats, [type]) == 0
        worker = worker_of(house)
        await house.database.fetch(sql.make_due, type)
        began = monotonic()
        while await house.database.fetchval(sql.free_seats, [type]) < due:
            await worker.chores_once()
        return self._freed(due, monotonic() - began)

    async def baseline(self, turn: Turn) -> Figures:
        database, due = self.arena.house.database, self.due_quick if turn.quick else self.due
        (type,) = await self.on_sale(due)
        await reserve_due(database, type, due)
        began = monotonic()
        await release_expired(database)
        seconds = monotonic() - began
        assert await database.fetchval(SOLD.free, [type]) == due
        return self._freed(due, seconds)

    @staticmethod
    def _freed(due: int, seconds: float) -> Figures:
        return {"freed_per_s": due / seconds, "seconds": seconds, "due": float(due)}
