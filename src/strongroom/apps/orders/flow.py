"""What leads to what in orders, and what the clock makes due.

PlaceOrder, PayOrder ──▶ payments.PaymentRequested ──▶ the provider ──▶ orders.PaymentNotified
PaymentNotified      ──▶ RecordPayment ──▶ OrderPaid, OrderConfirmed; or MoneyReturned
"""

from __future__ import annotations

from uuid import UUID

from strongroom.apps.orders.rows import sql
from strongroom.apps.orders.steps import LAPSED_TOGETHER, LapseOrders, RecordPayment
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.core.events import Event, Subscriber

LAPSED_AT_ONCE = 20_000
"""What one round takes on; a bounded list, whatever has come due."""


def _pay(event: Event) -> Command:
    said = event.payload
    return RecordPayment(
        UUID(said["paymentId"]), said["result"], said["amount"], said["providerRef"]
    )


SUBSCRIBERS = (Subscriber("orders_pay", ("orders.PaymentNotified",), _pay),)


async def commands_due(database: Database) -> list[Command]:
    """Orders whose time to be paid or confirmed is over."""
    ids = [row["id"] for row in await database.fetch(sql.orders_due, LAPSED_AT_ONCE)]
    return [
        LapseOrders(tuple(sorted(ids[start : start + LAPSED_TOGETHER])))
        for start in range(0, len(ids), LAPSED_TOGETHER)
    ]
