"""The specification's two ways of selling seats, each request in a transaction of its own.

Pessimistic: SELECT … FOR UPDATE of the ticket type, check, decrement, insert. Optimistic: read
with the version, UPDATE … WHERE version, and again when somebody else was faster. Beside them its
purchase (paid at once, tickets in a second transaction) and its job for what has expired.

They do what a group does for its commands: the key is claimed and the answer stored, sale window
and per-user limit are checked, the event is written, all before COMMIT. They do not move seats in
double entry and have no provider of payments; the specification has neither, and a statement less
is to their advantage. A pool of 20, as in the specification.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from strongroom.apps.ticketing.codes import CODE_BYTES, code_of
from strongroom.apps.ticketing.orders import (
    CompleteBooking,
    OrderPaid,
    OrderPlaced,
)
from strongroom.apps.ticketing.reservations import (
    NotOnSale,
    PerUserLimit,
    ReservationExpired,
    ReserveSeats,
    SeatsReserved,
    SoldOut,
)
from strongroom.apps.ticketing.rows import LineSeen, OrderAccepted, PaymentSeen, ReservationSeen
from strongroom.clock import monotonic
from strongroom.core.commands import Command, Outcome, Reply, Ticket
from strongroom.core.commands.command import Overloaded
from strongroom.core.db import Connection, Database, Queries, Record
from strongroom.errors import NotFound
from strongroom.ids import uuid7
from strongroom.lab.baselines.row_at_a_time import RowAtATime, SpecifiedHouse
from strongroom.lab.baselines.row_at_a_time import sql as rows
from strongroom.main import Strongroom

sql = Queries(__package__, "ticketing.sql")

SPECIFIED_RETRIES = 3
SPECIFIED_PAUSE_S = 0.1
"""The specification's: the pause grows by itself with every retry."""


class Sold(NamedTuple):
    """Queries that tell, for ticket types, what is free, who reserved, which tickets were made."""

    free: str
    reserved: str
    tickets: str


SOLD = Sold(sql.free_seats, sql.reserved, sql.tickets_made)

Cart = Sequence[tuple[Record, int]]
"""Ticket types as they were read, and how many seats of each are wanted."""


class VersionMismatch(Exception):
    """Somebody else changed the row between the read and the UPDATE."""


class Pessimistic(RowAtATime):
    """Holds the ticket types of a cart, sorted, from the check to COMMIT."""

    def __init__(self, house: Strongroom) -> None:
        super().__init__(house)
        self._making: set[asyncio.Task[None]] = set()

    async def run(self, ticket: Ticket) -> Outcome:
        outcome = await super().run(ticket)
        if isinstance(outcome.reply, OrderAccepted):
            # As specified: after COMMIT, in this process, and nobody waits for it.
            task = asyncio.create_task(self._make_tickets(outcome.reply.order_id, ticket))
            self._making.add(task)
            task.add_done_callback(self._making.discard)
        return outcome

    async def drain(self, within_s: float) -> bool:
        if self._making:
            await asyncio.wait(self._making, timeout=within_s)
        return await super().drain(within_s)

    async def _act(self, db: Connection, ticket: Ticket, command: Command) -> Reply:
        if isinstance(command, ReserveSeats):
            return await self._reserve(db, command)
        if isinstance(command, CompleteBooking):
            return await self._complete(db, command)
        return await super()._act(db, ticket, command)

    async def _reserve(self, db: Connection, command: ReserveSeats) -> ReservationSeen:
        wanted: Counter[UUID] = Counter()
        for type_id, quantity in command.lines:
            wanted[type_id] += quantity
        cart = [(await self._read(db, type_id), wanted[type_id]) for type_id in sorted(wanted)]
        # All is checked before anything is written: a refusal commits, with its stored answer.
        for type, quantity in cart:
            await check(db, type, quantity, command.user_id)
        for type, quantity in cart:
            await self._take(db, type, quantity)
        return await hold(db, cart, command)

    async def _read(self, db: Connection, type_id: UUID) -> Record:
        return found(await db.fetchrow(sql.lock_ticket_type, type_id))

    async def _take(self, db: Connection, type: Record, quantity: int) -> None:
        await db.execute(sql.take_seats, type["id"], type["available_quantity"] - quantity)

    async def _complete(self, db: Connection, command: CompleteBooking) -> OrderAccepted:
        """The specification's completeBooking, up to its first COMMIT."""
        lines = await db.fetch(sql.lock_reservation, command.reservation_id, command.user_id)
        if not lines:
            raise NotFound()
        if lines[0]["status"] != "ACTIVE" or lines[0]["over"]:
            raise ReservationExpired()
        total = sum(line["price"] * line["quantity"] for line in lines)
        id = uuid7()
        await db.execute(sql.add_order, id, command.user_id, total, command.reservation_id)
        for line in lines:
            bought = line["ticket_type_id"], line["quantity"], line["price"]
            await db.execute(sql.add_item, uuid7(), id, *bought)
        await db.execute(sql.add_payment, uuid7(), id, total, command.method, f"TXN_{uuid7()}")
        await db.execute(sql.complete_reservation, command.reservation_id)
        placed = OrderPlaced(id, command.reservation_id, lines[0]["event_id"], total)
        await log_event(db, id, 1, "OrderPlaced", placed)
        paid = PaymentSeen(method=command.method, status="SUCCESS")
        return OrderAccepted(id, "PENDING", total, paid)

    async def _make_tickets(self, order_id: UUID, ticket: Ticket) -> None:
        """The specification's generateTicketsAsync."""
        command = ticket.command
        assert isinstance(command, CompleteBooking)
        async with self._db.transaction() as db:
            items = await db.fetch(sql.items_of_order, order_id)
            await db.execute(sql.pay_order, order_id)
            count = 0
            for item in items:
                for _ in range(item["quantity"]):
                    made = (
                        order_id,
                        item["ticket_type_id"],
                        code_of(secrets.token_bytes(CODE_BYTES)),
                    )
                    await db.execute(sql.add_ticket, uuid7(), *made, command.owner_name)
                    count += 1
            await db.execute(sql.add_mail, uuid7(), order_id)
            paid = OrderPaid(
                order_id, command.reservation_id, order_id, order_id, count, late=False
            )
            await log_event(db, order_id, 2, "OrderPaid", paid)


class Optimistic(Pessimistic):
    """Reads without a lock and takes seats of the version that was read.

    After the specification's three retries, 100 ms × attempt, a request goes on trying until its
    deadline with pauses of the same length: giving up after 0.6 s sells nothing more and has the
    client ask again at the cost of a request. Each pause is drawn between its half and its whole,
    or those who lost a race together meet in the next.
    """

    async def run(self, ticket: Ticket) -> Outcome:
        attempt = 0
        while True:
            try:
                return await super().run(ticket)
            except VersionMismatch:
                attempt += 1
                pause_s = SPECIFIED_PAUSE_S * min(attempt, SPECIFIED_RETRIES)
                if monotonic() + pause_s > ticket.deadline:
                    return Outcome(error=Overloaded())
                await asyncio.sleep(pause_s * random.uniform(0.5, 1))

    async def _read(self, db: Connection, type_id: UUID) -> Record:
        return found(await db.fetchrow(sql.read_ticket_type, type_id))

    async def _take(self, db: Connection, type: Record, quantity: int) -> None:
        left = type["available_quantity"] - quantity
        if not await db.fetchval(sql.take_seats_of_version, type["id"], left, type["version"]):
            raise VersionMismatch()


def found(row: Record | None) -> Record:
    if row is None:
        raise NotFound()
    return row


async def check(db: Connection, type: Record, quantity: int, user_id: UUID) -> None:
    """All that may refuse seats of one ticket type."""
    if type["status"] != "PUBLISHED":
        raise NotOnSale()
    begins, ends, now = type["start_sale_time"], type["end_sale_time"], type["now"]
    if (begins and begins > now) or (ends and ends <= now):
        raise NotOnSale()
    if type["per_user_limit"]:
        had = await db.fetchval(sql.seats_of_user, user_id, type["id"])
        if had + quantity > type["per_user_limit"]:
            raise PerUserLimit()
    if type["available_quantity"] < quantity:
        raise SoldOut()


async def hold(db: Connection, cart: Cart, command: ReserveSeats) -> ReservationSeen:
    """The reservation of seats that were taken, and its event."""
    id, event_id, now = uuid7(), cart[0][0]["event_id"], cart[0][0]["now"]
    expires_at: datetime = (now + timedelta(seconds=command.ttl_s)).astimezone(UTC)
    for type, quantity in cart:
        line = command.user_id, type["id"], quantity, expires_at
        await db.execute(sql.add_reservation, id, *line)
    held = [(type["id"], quantity) for type, quantity in cart]
    reserved = SeatsReserved(id, event_id, command.user_id, held)
    await log_event(db, id, 1, "SeatsReserved", reserved)
    return ReservationSeen(
        reservation_id=id,
        event_id=event_id,
        status="ACTIVE",
        expires_at=expires_at,
        total_amount=sum(type["price"] * quantity for type, quantity in cart),
        items=[LineSeen(type["id"], quantity, type["price"]) for type, quantity in cart],
    )


async def log_event(db: Connection, key: UUID, seq: int, name: str, payload: Reply) -> None:
    said = msgspec.json.encode(payload).decode()
    await db.execute(sql.add_event, key, seq, uuid7(), f"specified.{name}", said)


async def release_expired(database: Database) -> int:
    """The specification's job of every five minutes; how many reservations it gave back."""
    async with database.transaction() as db:
        expired = await db.fetch(sql.lock_expired)
        if expired:
            await db.execute(sql.expire, sorted({row["id"] for row in expired}))
        for row in expired:
            await db.execute(sql.give_back, row["quantity"], row["ticket_type_id"])
    return len(expired)


async def reserve_due(database: Database, type: UUID, seats: int) -> None:
    """All seats of a ticket type in reservations of one each, whose time is over."""
    async with database.transaction() as db:
        await db.execute(sql.all_taken, type)
        await db.execute(sql.reserve_many, type, seats)


async def create_tables(owner: Database) -> None:
    """Makes the baselines' own tables, and lets them write answers as they do; as the owner."""
    async with owner.connection() as db:
        await db.execute(sql.create_tables)
        await db.execute(rows.allow_answering)


async def sell_also(database: Database, types: Iterable[UUID]) -> None:
    """Offers ticket types of the house, under the same ids, in the baselines' tables as well."""
    ids = sorted(types)
    async with database.transaction() as db:
        await db.execute(sql.copy_events, ids)
        await db.execute(sql.copy_ticket_types, ids)


LOCKING: dict[str, type[Pessimistic]] = {"pessimistic": Pessimistic, "optimistic": Optimistic}
"""The specification's strategies by name."""


class SpecifiedTicketing(SpecifiedHouse):
    """The house with one of the specification's strategies in the place of the groups."""

    def __init__(self, locking: str, **overrides: Any) -> None:
        super().__init__(**overrides)
        self._locking = LOCKING[locking]

    async def __aenter__(self) -> Strongroom:
        await super().__aenter__()
        self.lanes = self._locking(self)
        return self
