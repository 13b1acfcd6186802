"""Asking for money, and giving it back: parts of the payee's own decisions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from strongroom.core.commands import Reply, Work
from strongroom.core.db import Connection, Database
from strongroom.core.payments.rows import (
    PAYMENTS,
    REFUNDS,
    Method,
    Payment,
    Refund,
    sql,
)

PROVIDER_OF: dict[Method, str] = dict.fromkeys(("MOMO", "ZALOPAY", "BANKING", "CARD"), "sandbox")
"""Who takes the money, by method. An adapter of a real provider is named here."""

FIRST_QUERY_S = 2
"""A provider that has said nothing for this long is asked."""


class PaymentRequested(Reply, frozen=True):
    """A payment is to be charged at its provider."""

    payment_id: UUID


class RefundRequested(Reply, frozen=True):
    """A payment's money is to be sent back."""

    refund_id: UUID
    payment_id: UUID


def request_payment(
    work: Work,
    *,
    payee: str,
    order_id: UUID,
    user_id: UUID,
    method: Method,
    amount: int,
    expires_at: datetime,
) -> Payment:
    """Adds a payment of `amount` that is to be made until `expires_at`; its provider is called
    after the commit. The payee hears of it as `<payee>.PaymentNotified`. What is free asks for
    no payment."""
    assert amount > 0, "nothing is to be paid"
    payment = Payment(
        id=work.new_id(),
        payee=payee,
        order_id=order_id,
        user_id=user_id,
        method=method,
        provider=PROVIDER_OF[method],
        amount=amount,
        expires_at=expires_at,
        created_at=work.now,
        next_query_at=work.now + timedelta(seconds=FIRST_QUERY_S),
    )
    work.add(PAYMENTS, payment)
    work.emit("payments.PaymentRequested", payment.id, PaymentRequested(payment.id))
    return payment


async def see_payments(db: Connection | Database, ids: Iterable[UUID]) -> list[Payment]:
    """Payments without a lock: for which order, at which provider, that never changes."""
    return [Payment(*row) for row in await db.fetch(sql.read_payments, sorted(set(ids)))]


async def see_refunds(db: Connection, payments: Iterable[UUID]) -> dict[UUID, Refund]:
    """The refunds of payments, by payment, without a lock."""
    ids = [Refund.id_of(id) for id in payments]
    found = [Refund(*row) for row in await db.fetch(sql.read_refunds, ids)]
    return {refund.payment_id: refund for refund in found}


def request_refund(work: Work, payment: Payment, amount: int, reason: str) -> Refund:
    """Sends `amount` of a payment back, once: whoever holds the payment and has locked `REFUNDS`
    by `Refund.id_of(payment.id)`, in this order, gets the first refund again."""
    id = Refund.id_of(payment.id)
    earlier = work.find(REFUNDS, id)
    if earlier is not None:
        return earlier
    refund = Refund(id, payment.id, amount, reason, created_at=work.now)
    work.add(REFUNDS, refund)
    work.emit("payments.RefundRequested", id, RefundRequested(id, payment.id))
    return refund
