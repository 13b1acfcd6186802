"""What came of our calls to providers: a page to pay at, a refund that was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.payments.rows import PAYMENTS, REFUNDS, sql


class RefundDone(Reply, frozen=True):
    """A refund has left; `payee` and `orderId` say whose it was."""

    refund_id: UUID
    payment_id: UUID
    payee: str
    order_id: UUID
    amount: int


@dataclass(frozen=True, slots=True)
class RecordCharge(Command):
    """Keeps the provider's reference of a payment, and the page where the buyer pays."""

    payment_id: UUID
    provider_ref: str | None
    redirect_url: str | None

    reply = Nothing
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[RecordCharge]) -> None:
        await work.lock(PAYMENTS, (one.payment_id for one in batch))

    def decide(self, work: Work) -> Nothing:
        payment = work.get(PAYMENTS, self.payment_id)
        # Whoever settled it meanwhile knows the reference of the money itself.
        payment.provider_ref = payment.provider_ref or self.provider_ref
        payment.redirect_url = self.redirect_url
        work.change(PAYMENTS, payment)
        return Nothing()


@dataclass(frozen=True, slots=True)
class RecordRefund(Command):
    """A provider has taken a refund on: DONE, once."""

    refund_id: UUID
    provider_ref: str

    reply = Nothing
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[RecordRefund]) -> None:
        await work.lock(REFUNDS, (one.refund_id for one in batch))
        paid = [refund.payment_id for refund in work.held(REFUNDS)]
        await work.see(PAYMENTS, sql.read_payments, paid)

    def decide(self, work: Work) -> Nothing:
        refund = work.get(REFUNDS, self.refund_id)
        if refund.status == "DONE":
            return Nothing()
        payment = work.get(PAYMENTS, refund.payment_id)
        refund.status, refund.provider_ref, refund.done_at = "DONE", self.provider_ref, work.now
        work.change(REFUNDS, refund)
        work.emit(
            "payments.RefundDone",
            refund.id,
            RefundDone(refund.id, payment.id, payment.payee, payment.order_id, refund.amount),
        )
        return Nothing()
