"""What leads to what in ticketing, and what the clock makes due.

CompleteBooking ──▶ payments.PaymentRequested ──▶ the provider ──▶ ticketing.PaymentNotified
PaymentNotified                  ──▶ RecordPayment ──▶ OrderPaid, MailDue; or PaymentRefunded
EventCancelled, CancellationDue  ──▶ CancelOrders  ──▶ OrderCancelled, PaymentRefunded, MailDue
MailDue                          ──▶ SendMail (an errand) ──▶ RecordMail
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from strongroom.apps.ticketing.events import EndWhenOver
from strongroom.apps.ticketing.orders import CancelOrders, RecordPayment
from strongroom.apps.ticketing.reservations import (
    SWEPT_AT_ONCE,
    SWEPT_TOGETHER,
    ExpireReservations,
)
from strongroom.apps.ticketing.rows import sql
from strongroom.core.commands import Command, Errand
from strongroom.core.db import Database
from strongroom.core.events import Event, Subscriber

MAIL_LEASE_S = 120
"""A batch of mails waits for two calls at least."""

KEPT_DAYS = 30
"""How long ended reservations are kept."""


@dataclass(frozen=True, slots=True)
class SendMail(Errand):
    """A mail to be sent; the post office looks up what it says."""

    mail_id: UUID

    group_limit = 8
    timeout_s = 45.0


def _pay(event: Event) -> Command:
    said = event.payload
    return RecordPayment(
        UUID(said["paymentId"]), said["result"], said["amount"], said["providerRef"]
    )


def _cancel(event: Event) -> Command:
    return CancelOrders(UUID(event.payload["eventId"]))


def _mail(event: Event) -> Errand:
    return SendMail(UUID(event.payload["mailId"]))


SUBSCRIBERS = (
    Subscriber("ticketing_pay", ("ticketing.PaymentNotified",), _pay),
    Subscriber(
        "ticketing_cancel", ("ticketing.EventCancelled", "ticketing.CancellationDue"), _cancel
    ),
    Subscriber("ticketing_mail", ("ticketing.MailDue",), _mail, batch=16, lease_s=MAIL_LEASE_S),
)


async def commands_due(database: Database) -> list[Command]:
    """What time alone makes due: reservations to give back, events that are over."""
    rows = await database.fetch(sql.reservations_due, SWEPT_AT_ONCE)
    ids = [row["id"] for row in rows]
    sweeps: list[Command] = [
        ExpireReservations(tuple(sorted(ids[start : start + SWEPT_TOGETHER])))
        for start in range(0, len(ids), SWEPT_TOGETHER)
    ]
    over = await database.fetch(sql.events_to_end)
    return sweeps + [EndWhenOver(row["id"]) for row in over]


async def forget_reservations(database: Database, limit: int) -> int:
    """Deletes up to `limit` reservations that ended long ago; how many that were."""
    async with database.connection() as db:
        return int((await db.execute(sql.forget_reservations, KEPT_DAYS, limit)).split()[-1])
