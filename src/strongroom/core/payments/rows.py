"""The rows of the payments room."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from strongroom.core.commands import Kept
from strongroom.core.db import Queries, Table
from strongroom.ids import digest_id

sql = Queries(__package__, "payments.sql")

Method = Literal["MOMO", "ZALOPAY", "BANKING", "CARD"]
PaymentStatus = Literal["PENDING", "SUCCESS", "FAILED"]
RefundStatus = Literal["PENDING", "DONE"]
Kind = Literal["callback", "query"]


@dataclass(slots=True)
class Payment:
    """Money asked of a buyer for a payee's order. Held by the payee who settles it.

    `captured` is what the provider says it took, None until it says so. While a payment is
    PENDING its provider is asked at `next_query_at`.
    """

    id: UUID
    payee: str
    order_id: UUID
    user_id: UUID
    method: Method
    provider: str
    amount: int
    expires_at: datetime
    status: PaymentStatus = "PENDING"
    provider_ref: str | None = None
    failure: str | None = None
    redirect_url: str | None = None
    captured: int | None = None
    created_at: datetime | None = None
    settled_at: datetime | None = None
    queries: int = 0
    next_query_at: datetime | None = None

    @property
    def path(self) -> str:
        """Where the buyer is sent: always our own page, which knows the provider's."""
        return f"/pay/{self.id}"


@dataclass(slots=True)
class Refund:
    """Money that goes back, at most once for a payment."""

    id: UUID
    payment_id: UUID
    amount: int
    reason: str
    status: RefundStatus = "PENDING"
    provider_ref: str | None = None
    created_at: datetime | None = None
    done_at: datetime | None = None

    @staticmethod
    def id_of(payment_id: UUID) -> UUID:
        """The id that a payment's refund has, so that it can be locked before it is known."""
        return digest_id("refund", str(payment_id))


PAYMENTS = Kept(
    Payment,
    Table(
        "payments.payments",
        {
            "id": "uuid",
            "payee": "text",
            "order_id": "uuid",
            "user_id": "uuid",
            "method": "text",
            "provider": "text",
            "amount": "bigint",
            "expires_at": "timestamptz",
            "status": "text",
            "provider_ref": "text",
            "failure": "text",
            "captured": "bigint?",
            "created_at": "timestamptz",
            "settled_at": "timestamptz",
            "next_query_at": "timestamptz",
        },
    ),
    lock=sql.lock_payments,
    update=sql.update_payments,
    changes=(
        "status",
        "provider_ref",
        "failure",
        "redirect_url",
        "captured",
        "settled_at",
        "next_query_at",
    ),
)
REFUNDS = Kept(
    Refund,
    Table(
        "payments.refunds",
        {"id": "uuid", "payment_id": "uuid", "amount": "bigint", "reason": "text"},
    ),
    lock=sql.lock_refunds,
    update=sql.update_refunds,
    changes=("status", "provider_ref", "done_at"),
)
CALLBACKS = Table(
    "payments.callbacks",
    {
        "id": "uuid",
        "provider": "text",
        "kind": "text",
        "headers": "jsonb",
        "body": "bytea",
        "verdict": "text",
        "payment_id": "uuid?",
    },
)
"""What providers said, word for word."""
