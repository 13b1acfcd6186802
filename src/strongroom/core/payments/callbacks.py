"""What providers say, kept as it came; what is genuine is passed on to the payee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from strongroom.core.commands import Command, Reply, Work
from strongroom.core.payments.provider import Headers, Notice, Result, Verdict
from strongroom.core.payments.rows import CALLBACKS, Kind, sql


class PaymentNotified(Reply, frozen=True):
    """A provider said what became of a payment; may be said twice, late, or in the wrong order.
    `amount` is what it took."""

    payment_id: UUID
    result: Result
    amount: int
    provider_ref: str
    callback_id: UUID


class CallbackKept(Reply, frozen=True):
    """A callback was stored, and found to be this."""

    callback_id: UUID
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ReceiveCallback(Command):
    """Stores what a provider said, word for word, and tells the payee when it is genuine.

    Without a key: said twice it is stored twice and told twice, as if the provider had repeated
    itself, and the payee makes nothing of the second.
    """

    provider: str
    kind: Kind
    headers: Headers
    body: bytes
    verdict: Verdict
    notice: Notice | None

    reply = CallbackKept
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[ReceiveCallback]) -> None:
        named = sorted({one.notice.payment_id for one in batch if one.notice})
        rows = await work.db.fetch(sql.payees, named) if named else []
        work.noted["payees"] = {(row["id"], row["provider"]): row["payee"] for row in rows}

    def decide(self, work: Work) -> CallbackKept:
        notice, verdict, payee = self.notice, self.verdict, None
        if notice:
            # A provider speaks for its own payments alone.
            payee = work.noted["payees"].get((notice.payment_id, self.provider))
            verdict = verdict if payee else "unknown"
        id = work.new_id()
        named = notice.payment_id if notice else None
        headers = msgspec.json.encode(self.headers)
        work.append(CALLBACKS, (id, self.provider, self.kind, headers, self.body, verdict, named))
        if notice and payee:
            work.emit(
                f"{payee}.PaymentNotified",
                id,
                PaymentNotified(
                    notice.payment_id, notice.result, notice.amount, notice.provider_ref, id
                ),
            )
        return CallbackKept(id, verdict)
