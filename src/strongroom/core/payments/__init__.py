"""Payments: money that comes from outside, asked for, told of, and given back.

Promises: a payment is asked for in the transaction that needs it and charged at its provider
afterwards, once; whatever a provider says is kept as it came before anybody acts on it; only what
is genuine reaches the payee, as `<payee>.PaymentNotified`, at least once; what nobody tells us is
asked for; a refund is sent once. No provider is called while a transaction is open.

Does not decide what a payment buys: the payee (an application) locks `PAYMENTS`, and settles in
one transaction of its own, once, whatever comes twice, late, or in the wrong order. It also
compares the notified amount. Refunds to buyers are no payouts: the kill switch does not stop them.
"""

from strongroom.core.payments.flow import Payments
from strongroom.core.payments.requests import (
    request_payment,
    request_refund,
    see_payments,
    see_refunds,
)
from strongroom.core.payments.rows import PAYMENTS, REFUNDS, Payment, Refund
from strongroom.core.payments.settling import capture, fail, pay_back

__all__ = [
    "PAYMENTS",
    "REFUNDS",
    "Payment",
    "Payments",
    "Refund",
    "capture",
    "fail",
    "pay_back",
    "request_payment",
    "request_refund",
    "see_payments",
    "see_refunds",
]
