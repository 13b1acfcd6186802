"""Holding seats: reserving them, giving them back, and what happens when nobody comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Literal
from uuid import UUID

from strongroom.apps.ticketing.rows import (
    EVENTS,
    LINES,
    ORDERS,
    RESERVATIONS,
    TICKET_TYPES,
    Line,
    Reservation,
    ReservationSeen,
    TicketType,
    reservation_seen,
    seats,
    sql,
)
from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.commands.command import LookAgain
from strongroom.core.ledger import AccountKey
from strongroom.errors import NotFound, Refused, invalid, wrong_state
from strongroom.money import MAX_AMOUNT

MOST_RESERVED = 1_000
"""Seats of one reservation: each becomes a ticket, and all of them in one transaction."""

SWEPT_TOGETHER = 500
"""Reservations given back in one transaction: some tens of milliseconds under lock."""

SWEPT_AT_ONCE = 50_000
"""What one round of the sweep takes on; a bounded list, whatever has come due."""


class SoldOut(Refused):
    """Not that many seats are free."""


class NotOnSale(Refused):
    """These tickets are not on sale now."""


class PerUserLimit(Refused):
    """That would be more seats than one user may have of this ticket type."""


class AlreadyReserved(Refused):
    """You hold a reservation for this event already. Complete or release it first."""


class TooManySeats(Refused):
    """A reservation has a thousand seats at most."""


class ReservationExpired(Refused):
    """The reservation's time is over and its seats went back on sale. Reserve again."""


class SeatsReserved(Reply, frozen=True):
    """Seats are held until `expires_at`; lines as (ticket type, quantity)."""

    reservation_id: UUID
    event_id: UUID
    user_id: UUID
    lines: list[tuple[UUID, int]]


class SeatsReturned(Reply, frozen=True):
    """The seats of a reservation are free again."""

    reservation_id: UUID
    event_id: UUID
    because: Literal["EXPIRED", "RELEASED"]


def accounts_of(types: Iterable[UUID]) -> list[AccountKey]:
    """The free and the held seats of ticket types."""
    return [key for id in types for key in (seats(id, "free"), seats(id, "held"))]


async def hold_reservations(work: Work, ids: Iterable[UUID]) -> list[Reservation]:
    """Locks reservations with their lines; the accounts of their types are locked already."""
    wanted = sorted(set(ids))
    if not wanted:
        return []
    held = work.hold(RESERVATIONS, await work.db.fetch(RESERVATIONS.lock, wanted))
    for row in await work.db.fetch(sql.lines_of, wanted):
        line = Line(*row)
        work.get(RESERVATIONS, line.reservation_id).lines.append(line)
    return held


def give_back(
    work: Work, reservation: Reservation, because: Literal["EXPIRED", "RELEASED"]
) -> None:
    """Frees the seats of an active reservation; its order, if it has one, waits no longer."""
    key, kind = ("EXPIRE", "EXPIRY") if because == "EXPIRED" else ("RELEASE", "RELEASE")
    for line in reservation.lines:
        work.books.move(
            work.new_id(),
            f"{key}:{reservation.id}:{line.ticket_type_id}",
            work.books[seats(line.ticket_type_id, "held")],
            work.books[seats(line.ticket_type_id, "free")],
            line.quantity,
            (kind, kind),  # type: ignore[arg-type]
            by=work.by,
            reference=str(reservation.id),
        )
    reservation.status = because
    reservation.ended_at = work.now
    work.change(RESERVATIONS, reservation)
    returned = SeatsReturned(reservation.id, reservation.event_id, because)
    work.emit("ticketing.SeatsReturned", reservation.id, returned)


async def hold_orders_of(work: Work, reservations: Iterable[UUID]) -> None:
    """Locks the orders of reservations, and notes which is whose."""
    rows = await work.db.fetch(sql.reservations_read, sorted(set(reservations)))
    orders = {row["id"]: row["order_id"] for row in rows if row["order_id"]}
    await work.lock(ORDERS, orders.values())
    work.noted["orders"] = orders


def end_order(
    work: Work, reservation: Reservation, status: Literal["TIMEOUT", "CANCELLED"]
) -> None:
    """A reservation that went back ends its unpaid order."""
    order_id = work.noted["orders"].get(reservation.id)
    order = order_id and work.find(ORDERS, order_id)
    if order and order.status == "PENDING":
        order.status = status
        work.change(ORDERS, order)


Wanted = tuple[tuple[UUID, int], ...]


@dataclass(frozen=True, slots=True)
class ReserveSeats(Command):
    """Holds seats of one or more ticket types of one event: free → held, all or nothing.

    Refuses with NotFound, NotOnSale, PerUserLimit, AlreadyReserved, SoldOut, TooManySeats.
    `ttl_s` is how long they are held; `one_per_event` allows a user one reservation at a time.
    """

    user_id: UUID
    lines: Wanted
    ttl_s: int
    one_per_event: bool = False

    reply = ReservationSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[ReserveSeats]) -> None:
        wanted: Counter[UUID] = Counter()
        for command in batch:
            for type, quantity in command.lines:
                wanted[type] += quantity
        expired: list[UUID] = []
        if work.lost_race:
            # Each dead reservation holds a wanted seat at least: so many of them are enough.
            rows = await work.db.fetch(sql.expired_of_types, list(wanted), list(wanted.values()))
            expired = sorted({row["id"] for row in rows})
        types = set(wanted)
        if expired:
            types.update(row[1] for row in await work.db.fetch(sql.lines_of, expired))
        await work.books.lock(work.db, accounts_of(types))
        if any(command.one_per_event for command in batch):
            events = await work.db.fetch(sql.read_ticket_types, list(wanted))
            await work.lock(EVENTS, [row["event_id"] for row in events])
        await work.lock(TICKET_TYPES, wanted)
        if expired:
            await cls._reclaim(work, expired)
        await cls._look_for_expired(work, wanted)
        await cls._note_limits(work, batch)

    @staticmethod
    async def _reclaim(work: Work, expired: Sequence[UUID]) -> None:
        """Gives back what is dead, before the sweep does: nobody is told "sold out" over it."""
        reservations = await hold_reservations(work, expired)
        await hold_orders_of(work, expired)
        await work.read_clock()
        work.by = "reserve"
        for reservation in reservations:
            if reservation.status == "ACTIVE" and not reservation.alive(work.now):
                give_back(work, reservation, "EXPIRED")
                end_order(work, reservation, "TIMEOUT")

    @staticmethod
    async def _look_for_expired(work: Work, wanted: Counter[UUID]) -> None:
        """When too little is free and dead reservations hold more, the group begins anew and
        locks those too: their other ticket types' accounts come first in the order."""
        short = []
        for type, quantity in wanted.items():
            free = work.books.find(seats(type, "free"))
            if free is not None and free.balance < quantity:
                short.append(type)
        if short:
            for row in await work.db.fetch(sql.expired_of_types, short, [1] * len(short)):
                if work.find(RESERVATIONS, row["id"]) is None:
                    raise LookAgain()

    @staticmethod
    async def _note_limits(work: Work, batch: Sequence[ReserveSeats]) -> None:
        limited = {type.id for type in work.held(TICKET_TYPES) if type.per_user_limit}
        pairs = {
            (type, command.user_id)
            for command in batch
            for type, _ in command.lines
            if type in limited
        }
        work.noted["had"] = Counter()
        if pairs:
            columns = [list(column) for column in zip(*pairs, strict=True)]
            for type, user, quantity in await work.db.fetch(sql.seats_of_users, *columns):
                work.noted["had"][type, user] = quantity
        if any(command.one_per_event for command in batch):
            types = [type for command in batch for type, _ in command.lines]
            users = [command.user_id for command in batch]
            rows = await work.db.fetch(sql.holders, types, users)
            work.noted["holders"] = {(row[0], row[1]) for row in rows}

    def decide(self, work: Work) -> ReservationSeen:
        wanted: Counter[UUID] = Counter()
        for type_id, quantity in self.lines:
            wanted[type_id] += quantity
        types = [work.get(TICKET_TYPES, type_id) for type_id in wanted]
        self._check_sale(work, types)
        self._check_limits(work, types, wanted)
        if any(work.books[seats(type.id, "free")].balance < wanted[type.id] for type in types):
            raise SoldOut()
        if wanted.total() > MOST_RESERVED:
            raise TooManySeats()
        total = sum(type.price * wanted[type.id] for type in types)
        if total > MAX_AMOUNT:
            raise invalid("quantity", "makes more than a payment can carry")
        return self._hold(work, types, wanted, total)

    def _check_sale(self, work: Work, types: Sequence[TicketType]) -> None:
        if len({type.event_id for type in types}) > 1:
            raise invalid("items", "are of more than one event; reserve each event's apart")
        event_status = types[0].event_status
        if event_status == "DRAFT":
            raise NotFound()
        if event_status != "PUBLISHED":
            raise NotOnSale(f"The event is {event_status}.")
        ends_at = types[0].event_ends_at
        if ends_at and ends_at <= work.now:
            raise NotOnSale("The event is over.")
        if not all(type.on_sale(work.now) for type in types):
            raise NotOnSale()

    def _check_limits(self, work: Work, types: Sequence[TicketType], wanted: Counter[UUID]) -> None:
        for type in types:
            had = work.noted["had"][type.id, self.user_id]
            if type.per_user_limit and had + wanted[type.id] > type.per_user_limit:
                raise PerUserLimit(f"One user may have {type.per_user_limit}; you have {had}.")
        if self.one_per_event and (types[0].event_id, self.user_id) in work.noted["holders"]:
            raise AlreadyReserved()

    def _hold(
        self, work: Work, types: Sequence[TicketType], wanted: Counter[UUID], total: int
    ) -> ReservationSeen:
        event_id = types[0].event_id
        expires_at = (work.now + timedelta(seconds=self.ttl_s)).astimezone(UTC)
        reservation = Reservation(
            work.new_id(), self.user_id, event_id, "ACTIVE", total, expires_at
        )
        named = str(reservation.id)
        for type in types:
            quantity = wanted[type.id]
            work.books.move(
                work.new_id(),
                f"HOLD:{named}:{type.id}",
                work.books[seats(type.id, "free")],
                work.books[seats(type.id, "held")],
                quantity,
                ("HOLD", "HOLD"),
                by=work.by,
                reference=named,
            )
            line = Line(
                reservation.id, type.id, self.user_id, quantity, type.price, type.per_user_limit
            )
            reservation.lines.append(line)
            work.append(LINES, line)
            if type.per_user_limit:
                work.noted["had"][type.id, self.user_id] += quantity
        if self.one_per_event:
            work.noted["holders"].add((event_id, self.user_id))
        work.add(RESERVATIONS, reservation)
        held = [(line.ticket_type_id, line.quantity) for line in reservation.lines]
        reserved = SeatsReserved(reservation.id, event_id, self.user_id, held)
        work.emit("ticketing.SeatsReserved", reservation.id, reserved)
        return reservation_seen(reservation)


async def _fetch_whole(work: Work, ids: Iterable[UUID]) -> None:
    """Locks reservations with the accounts of their types before, and their orders after."""
    wanted = sorted(set(ids))
    rows = await work.db.fetch(sql.lines_of, wanted)
    await work.books.lock(work.db, accounts_of({row["ticket_type_id"] for row in rows}))
    await hold_reservations(work, wanted)
    await hold_orders_of(work, wanted)


@dataclass(frozen=True, slots=True)
class ReleaseReservation(Command):
    """Gives one's own seats back before their time is over."""

    user_id: UUID
    reservation_id: UUID

    reply = ReservationSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[ReleaseReservation]) -> None:
        await _fetch_whole(work, [release.reservation_id for release in batch])

    def decide(self, work: Work) -> ReservationSeen:
        reservation = work.get(RESERVATIONS, self.reservation_id)
        if reservation.user_id != self.user_id:
            raise NotFound()
        check_alive(work, reservation)
        give_back(work, reservation, "RELEASED")
        end_order(work, reservation, "CANCELLED")
        return reservation_seen(reservation)


def check_alive(work: Work, reservation: Reservation) -> None:
    """Refuses with ReservationExpired, or WrongState when it ended another way."""
    if reservation.status == "EXPIRED" or (
        reservation.status == "ACTIVE" and not reservation.alive(work.now)
    ):
        raise ReservationExpired()
    if reservation.status != "ACTIVE":
        raise wrong_state(reservation.status)


@dataclass(frozen=True, slots=True)
class ExpireReservations(Command):
    """Gives back the seats of these reservations, those whose time is over and that are not
    given back yet."""

    ids: tuple[UUID, ...]

    reply = Nothing
    idempotent = True
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[ExpireReservations]) -> None:
        await _fetch_whole(work, batch[0].ids)

    def decide(self, work: Work) -> Nothing:
        for id in self.ids:
            reservation = work.find(RESERVATIONS, id)
            if reservation and reservation.status == "ACTIVE" and not reservation.alive(work.now):
                give_back(work, reservation, "EXPIRED")
                end_order(work, reservation, "TIMEOUT")
        return Nothing()
