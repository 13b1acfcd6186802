"""What a payee does with the news of a payment, in a transaction of its own."""

from __future__ import annotations

from strongroom.core.commands import Work
from strongroom.core.ledger import AccountKey, clearing
from strongroom.core.payments.requests import request_refund
from strongroom.core.payments.rows import PAYMENTS, Payment


def capture(
    work: Work,
    payment: Payment,
    amount: int,
    provider_ref: str | None,
    *,
    earner: AccountKey,
    reference: str,
) -> None:
    """The provider has the money: it owes us as much, and `earner` has earned it."""
    payment.captured, payment.provider_ref = amount, provider_ref
    payment.next_query_at = None
    if amount == payment.amount:
        payment.status, payment.settled_at = "SUCCESS", work.now
    work.change(PAYMENTS, payment)
    work.books.move(
        work.new_id(),
        f"PAYMENT:{payment.id}",
        work.books[clearing(payment.provider)],
        work.books[earner],
        amount,
        ("PAYMENT", "PAYMENT"),
        by=work.by,
        reference=reference,
    )


def fail(work: Work, payment: Payment, failure: str, provider_ref: str | None) -> None:
    """The payment came to nothing."""
    payment.status, payment.failure, payment.settled_at = "FAILED", failure, work.now
    payment.provider_ref = provider_ref
    work.change(PAYMENTS, payment)


def pay_back(
    work: Work, payment: Payment, because: str, *, earner: AccountKey, reference: str
) -> int:
    """All captured money goes back, once: out of the ledger now, by the provider soon. How much
    that is."""
    assert payment.captured, "only captured money goes back"
    work.books.move(
        work.new_id(),
        f"PAYBACK:{payment.id}",
        work.books[earner],
        work.books[clearing(payment.provider)],
        payment.captured,
        ("REFUND", "REFUND"),
        by=work.by,
        reference=reference,
    )
    request_refund(work, payment, payment.captured, because)
    return payment.captured
