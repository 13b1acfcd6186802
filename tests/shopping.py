"""Commands that exist for tests: a payee that asks for money, and one that sends it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.payments import (
    PAYMENTS,
    REFUNDS,
    Refund,
    request_payment,
    request_refund,
)

PAYEE = "shop"


class Asked(Reply, frozen=True):
    """What a buyer is told."""

    payment_id: UUID
    redirect_url: str


@dataclass(frozen=True, slots=True)
class Ask(Command):
    """Asks for money."""

    amount: int
    ttl_s: int = 600

    reply = Asked

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Ask]) -> None:
        """Nothing is needed."""

    def decide(self, work: Work) -> Asked:
        payment = request_payment(
            work,
            payee=PAYEE,
            order_id=work.new_id(),
            user_id=work.new_id(),
            method="MOMO",
            amount=self.amount,
            expires_at=work.now + timedelta(seconds=self.ttl_s),
        )
        return Asked(payment.id, payment.path)


@dataclass(frozen=True, slots=True)
class SendBack(Command):
    """Sends money back."""

    payment_id: UUID
    amount: int

    reply = Nothing
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[SendBack]) -> None:
        await work.lock(PAYMENTS, (one.payment_id for one in batch))
        await work.lock(REFUNDS, (Refund.id_of(one.payment_id) for one in batch))

    def decide(self, work: Work) -> Nothing:
        request_refund(work, work.get(PAYMENTS, self.payment_id), self.amount, "sent back")
        return Nothing()
