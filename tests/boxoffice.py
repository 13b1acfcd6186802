"""What tests of ticketing do again and again: events on sale, seats held, news of payments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from strongroom.apps.ticketing.events import AddTicketType, CreateEvent, PublishEvent
from strongroom.apps.ticketing.orders import CompleteBooking, RecordPayment
from strongroom.apps.ticketing.reservations import ExpireReservations, ReserveSeats
from strongroom.apps.ticketing.rows import Method, OrderAccepted, ReservationSeen
from strongroom.clock import now
from strongroom.core.db import Database
from strongroom.core.ledger import clearing
from strongroom.doors.worker import Worker, worker_of
from strongroom.ids import uuid7
from strongroom.main import Strongroom

PRICE = 500_000

PAGE = 14_009
"""A price that the sandbox leaves to its page: it pays nothing by itself."""

OURS = ("ticketing_pay", "ticketing_cancel")
"""The queues that decide; the others call somebody outside."""

REFUNDED = ("CANCELLED", "REFUNDED")
"""How an order and its late payment end when the money went back."""


@dataclass(frozen=True)
class Show:
    """An event and its ticket types."""

    id: UUID
    types: list[UUID]

    @property
    def type(self) -> UUID:
        (only,) = self.types
        return only


async def new_event(
    house: Strongroom,
    *quantities: int,
    price: int = PRICE,
    publish: bool = True,
    name: str = "Đêm nhạc Trịnh",
    **more: Any,
) -> Show:
    """An event on sale, with a ticket type for each quantity."""
    begin = now() + timedelta(days=30)
    made = await house.run(CreateEvent(name, "Nhà hát Lớn", begin, begin + timedelta(hours=3)))
    types = []
    for number, quantity in enumerate(quantities):
        type = await house.run(
            AddTicketType(made.event_id, f"hạng {number}", price, quantity, **more)
        )
        types.append(type.ticket_type_id)
    if publish:
        await house.run(PublishEvent(made.event_id))
    return Show(made.event_id, types)


async def reserve(
    house: Strongroom, user: UUID, *lines: tuple[UUID, int], ttl_s: int = 600, **more: Any
) -> ReservationSeen:
    seen: ReservationSeen = await house.run(ReserveSeats(user, lines, ttl_s, **more))
    return seen


async def complete(
    house: Strongroom, user: UUID, reservation: UUID, method: Method = "MOMO", **more: Any
) -> OrderAccepted:
    accepted: OrderAccepted = await house.run(CompleteBooking(user, reservation, method, **more))
    return accepted


class Bought(NamedTuple):
    """Who waits to pay for what."""

    user: UUID
    reservation: UUID
    order: UUID
    payment: UUID
    amount: int


async def ordered(house: Strongroom, *lines: tuple[UUID, int], user: UUID | None = None) -> Bought:
    """Somebody holds these seats and is about to pay."""
    user = user or uuid7()
    held = await reserve(house, user, *lines)
    order = await complete(house, user, held.reservation_id)
    payment = await payment_of(house, order.order_id)
    return Bought(user, held.reservation_id, order.order_id, payment, order.total_amount)


async def bought(house: Strongroom, *lines: tuple[UUID, int], user: UUID | None = None) -> Bought:
    """Somebody has paid for these seats."""
    one = await ordered(house, *lines, user=user)
    await tell(house, one)
    return one


async def payment_of(house: Strongroom, order: UUID) -> UUID:
    """The newest payment of an order."""
    query = "SELECT payment_id FROM ticketing.orders WHERE id = $1"
    payment: UUID = await house.database.fetchval(query, order)
    return payment


def news(
    payment: UUID, amount: int, result: str = "SUCCESS", ref: str | None = None
) -> RecordPayment:
    return RecordPayment(payment, result, amount, ref or f"ref-{payment}")  # type: ignore[arg-type]


async def tell(house: Strongroom, one: Bought, result: str = "SUCCESS") -> None:
    """What the provider says of somebody's payment."""
    await house.run(news(one.payment, one.amount if result == "SUCCESS" else 0, result))


async def worked(house: Strongroom, worker: Worker | None = None) -> int:
    """Works the queues that decide until they are empty; nobody outside is called."""
    worker, count = worker or worker_of(house), 0
    while done := sum([await worker.work_once(queue) for queue in OURS]):
        count += done
    return count


async def time_out(owner: Database, *reservations: UUID) -> None:
    """The time of these reservations, or of all that wait, is over; nobody has noticed yet."""
    await owner.fetch(
        "UPDATE ticketing.reservations SET expires_at = clock_timestamp() - interval '1 second'"
        " WHERE status = 'ACTIVE' AND (id = ANY($1::uuid[]) OR $1::uuid[] = '{}')",
        list(reservations),
    )


async def swept(house: Strongroom, *reservations: UUID) -> None:
    """What the sweep does about these reservations."""
    await house.run(ExpireReservations(tuple(reservations)))


async def people_named(owner: Database, count: int) -> list[UUID]:
    """Users who can be written to."""
    users = [uuid7() for _ in range(count)]
    await owner.fetch(
        "INSERT INTO identity.users (id, email, full_name)"
        " SELECT id, id || '@example.com', 'Trần Thị Bưởi' FROM unnest($1::uuid[]) AS id",
        users,
    )
    return users


async def seats_of(house: Strongroom, types: Sequence[UUID]) -> list[tuple[int, int, int]]:
    """(free, held, sold) of each ticket type."""
    rows = await house.database.fetch(
        "SELECT owner_id, purpose, balance FROM ledger.accounts WHERE unit = 'SEAT:' || owner_id"
        " AND owner_id = ANY($1::uuid[])",
        list(types),
    )
    found = {(row["owner_id"], row["purpose"]): row["balance"] for row in rows}
    return [(found[type, "free"], found[type, "held"], found[type, "sold"]) for type in types]


async def free(house: Strongroom, types: Sequence[UUID]) -> list[int]:
    return [seats[0] for seats in await seats_of(house, types)]


async def earned(house: Strongroom, event: UUID) -> int:
    """What the event has earned and keeps."""
    query = "SELECT balance FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'organiser'"
    return int(await house.database.fetchval(query, event))


async def order_now(house: Strongroom, order: UUID) -> tuple[str, str | None]:
    """An order's status, and what was decided about late money."""
    query = "SELECT status::text, late FROM ticketing.orders WHERE id = $1"
    row = await house.database.fetchrow(query, order)
    assert row is not None
    return row[0], row[1]


async def payment_now(house: Strongroom, payment: UUID) -> tuple[str, int | None, int]:
    """A payment's status, what was captured, and what goes back."""
    row = await house.database.fetchrow(
        "SELECT p.status::text, p.captured, coalesce(sum(r.amount), 0)::bigint"
        " FROM payments.payments p LEFT JOIN payments.refunds r ON r.payment_id = p.id"
        " WHERE p.id = $1 GROUP BY p.id",
        payment,
    )
    assert row is not None
    return row[0], row[1], row[2]


async def tickets_of(house: Strongroom, order: UUID) -> dict[str, str]:
    """The codes of an order's tickets, with their status."""
    query = "SELECT code, status::text FROM ticketing.tickets WHERE order_id = $1 ORDER BY id"
    return {row[0]: row[1] for row in await house.database.fetch(query, order)}


async def mails_of(house: Strongroom, order: UUID) -> list[tuple[str, int]]:
    """The kinds of an order's mails, with their amounts."""
    query = "SELECT kind, amount FROM ticketing.mails WHERE order_id = $1 ORDER BY created_at, id"
    return [(row[0], row[1]) for row in await house.database.fetch(query, order)]


async def deadlocks(owner: Database) -> int:
    """How often Postgres had to undo a deadlock. Sessions count their own, and tell only when they
    have been quiet for long or end: so they end here, all but the one that asks."""
    async with owner.connection() as db:
        await db.fetch(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(await db.fetchval(query))


async def cleared(house: Strongroom) -> int:
    """What the sandbox owes us."""
    key = clearing("sandbox")
    query = "SELECT -balance FROM ledger.accounts WHERE owner_id = $1 AND purpose = $2"
    return int(await house.database.fetchval(query, key.owner_id, key.purpose) or 0)


async def older(owner: Database, days: float) -> None:
    """All that has happened was so long ago."""
    for table, column in (
        ("ticketing.reservations", "created_at"),
        ("ticketing.orders", "created_at"),
        ("ticketing.events", "starts_at"),
        ("ticketing.events", "ends_at"),
    ):
        await owner.fetch(
            f"UPDATE {table} SET {column} = {column} - make_interval(secs => $1::float8 * 86400)",
            days,
        )
