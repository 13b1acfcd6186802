"""What leads to what: requests to providers, what they say, and asking when they say nothing.

PaymentRequested ──▶ CreateCharge ──▶ the provider ──▶ RecordCharge, ReceiveCallback
a callback, a poll answered       ──▶ ReceiveCallback ──▶ <payee>.PaymentNotified
every second, what is due         ──▶ QueryPayment ──▶ the provider ──▶ ReceiveCallback
RefundRequested  ──▶ SendRefund   ──▶ the provider ──▶ RecordRefund ──▶ RefundDone
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from strongroom.core.commands import Errand, Executor, Ticket
from strongroom.core.commands.errand import Performed, Performer
from strongroom.core.db import Database
from strongroom.core.events import Event, Subscriber
from strongroom.core.payments.callbacks import ReceiveCallback
from strongroom.core.payments.charges import RecordCharge, RecordRefund
from strongroom.core.payments.provider import (
    Answer,
    BadSignature,
    Headers,
    Malformed,
    Provider,
)
from strongroom.core.payments.requests import FIRST_QUERY_S, PROVIDER_OF, see_payments
from strongroom.core.payments.rows import Kind, Method, Payment, Refund, sql
from strongroom.core.payments.sandbox import DeliverCallbacks, Sandbox
from strongroom.errors import Busy, NotFound

T = TypeVar("T")

LEASE_S = 60
"""Twice what a call may take."""

CALL_S = 25.0
"""One provider that hangs fails its own payments; less than an errand may take, so that those of
the others are answered. MoMo asks its callers for 30 s of patience in all."""

ASKED_TOGETHER = 500
"""Payments that are asked for in one second at most: a backlog of ours must not become an attack
on the provider."""

LONGEST_PAUSE_S = 300
LATE_S, LATE_PAUSE_S, GIVEN_UP_S = 3600, 600, 86_400
"""Money may come an hour after a payment's end, and has come a day later."""


class RefundPending(Busy):
    """The provider is still thinking about this refund."""

    retry_after_s = 60


class NoProvider(Busy):
    """No payment provider is set up for this method."""


@dataclass(frozen=True, slots=True)
class CreateCharge(Errand):
    """Asks the payment's provider for the money."""

    payment_id: UUID


@dataclass(frozen=True, slots=True)
class QueryPayment(Errand):
    """Asks the payment's provider what became of it."""

    payment_id: UUID


@dataclass(frozen=True, slots=True)
class SendRefund(Errand):
    """Sends a refund through the provider that took the money."""

    refund_id: UUID


SUBSCRIBERS = (
    Subscriber(
        "payments_charge",
        ("payments.PaymentRequested",),
        lambda event: CreateCharge(_id(event, "paymentId")),
        lease_s=LEASE_S,
    ),
    Subscriber(
        "payments_refund",
        ("payments.RefundRequested",),
        lambda event: SendRefund(_id(event, "refundId")),
        lease_s=LEASE_S,
    ),
)


def _id(event: Event, name: str) -> UUID:
    return UUID(event.payload[name])


class Payments:
    """The room at work: who calls the providers, hears them, and asks after what is silent."""

    def __init__(
        self,
        database: Database,
        executor: Executor,
        *,
        sandbox_secret: str,
        sandbox_pays: bool = True,
        providers: Iterable[Provider] = (),
    ) -> None:
        self._db, self._executor = database, executor
        self.sandbox = Sandbox(database, sandbox_secret, self._hear)
        offered = (self.sandbox, *providers) if sandbox_pays else providers
        self._providers: dict[str, Provider] = {one.name: one for one in offered}
        self.performers: dict[type[Errand], Performer[Any]] = {
            CreateCharge: self._create,
            QueryPayment: self._query,
            SendRefund: self._refund,
            DeliverCallbacks: self.sandbox.deliver,
        }
        self.chores = (self.queries_due, self.sandbox.deliveries_due)

    def check_method(self, method: Method) -> None:
        """NoProvider when nobody takes money by this method: in production the sandbox, which
        pays everything out of nothing, does not."""
        if PROVIDER_OF[method] not in self._providers:
            raise NoProvider()

    def provider(self, name: str) -> Provider:
        """The provider of this name; NotFound."""
        found = self._providers.get(name)
        if found is None:
            raise NotFound("There is no payment provider of this name.")
        return found

    async def payment(self, id: UUID) -> Payment:
        """A payment as it is stored; NotFound."""
        found = await self._payments([id])
        if not found:
            raise NotFound()
        return found[id]

    def received(self, provider: str, headers: Headers, body: bytes) -> ReceiveCallback:
        """What is to be done about a callback: checked here, and stored in any case."""
        try:
            notice = self.provider(provider).verify(headers, body)
        except BadSignature:
            return ReceiveCallback(provider, "callback", headers, body, "forged", None)
        except Malformed:
            return ReceiveCallback(provider, "callback", headers, body, "malformed", None)
        verdict = "genuine" if notice else "pending"
        return ReceiveCallback(provider, "callback", headers, body, verdict, notice)  # type: ignore[arg-type]

    async def queries_due(self) -> list[Errand]:
        """The payments whose provider has been silent for too long; a chore. Counted as asked
        before they are, so that a call that fails waits its turn as well."""
        rows = await self._db.fetch(
            sql.claim_queries,
            ASKED_TOGETHER,
            LATE_S,
            FIRST_QUERY_S,
            LONGEST_PAUSE_S,
            LATE_PAUSE_S,
            GIVEN_UP_S,
        )
        return [QueryPayment(row["id"]) for row in rows]

    async def _hear(self, provider: str, said: Sequence[tuple[Headers, bytes]]) -> None:
        """Callbacks that came without HTTP, in one group."""
        tickets = [
            Ticket(self.received(provider, *one), principal=f"provider:{provider}", key=None)
            for one in said
        ]
        await self._executor.run(tickets)
        for ticket in tickets:
            (await ticket.future).check()

    async def _payments(self, ids: Iterable[UUID]) -> dict[UUID, Payment]:
        return {payment.id: payment for payment in await see_payments(self._db, ids)}

    async def _called(
        self,
        items: dict[UUID, tuple[str, T]],
        call: Callable[[Provider, list[T]], Awaitable[Sequence[Any]]],
    ) -> dict[UUID, Any]:
        """What each item's provider answered; all providers are called at once."""
        by_provider: dict[str, list[UUID]] = {}
        for id, (name, _) in items.items():
            by_provider.setdefault(name, []).append(id)

        async def one(name: str, ids: list[UUID]) -> dict[UUID, Any]:
            try:
                async with asyncio.timeout(CALL_S):
                    found = await call(self.provider(name), [items[id][1] for id in ids])
                return dict(zip(ids, found, strict=True))
            except Exception as error:
                return dict.fromkeys(ids, error)

        answers: dict[UUID, Any] = {}
        for found in await asyncio.gather(*(one(*pair) for pair in by_provider.items())):
            answers |= found
        return answers

    async def _create(self, errands: Sequence[CreateCharge]) -> list[Performed]:
        found = await self._payments(errand.payment_id for errand in errands)
        # What was settled or called off meanwhile is not charged any more.
        open = {id: (one.provider, one) for id, one in found.items() if one.status == "PENDING"}
        answers = await self._called(open, lambda provider, batch: provider.create(batch))
        return [
            _created(found.get(id), answers.get(id))
            for id in (errand.payment_id for errand in errands)
        ]

    async def _query(self, errands: Sequence[QueryPayment]) -> list[Performed]:
        found = await self._payments(errand.payment_id for errand in errands)
        open = {id: (one.provider, one) for id, one in found.items() if one.status == "PENDING"}
        answers = await self._called(open, lambda provider, batch: provider.query(batch))
        return [
            _said(found[id].provider, "query", answer)
            if isinstance(answer := answers.get(id), Answer)
            else answer
            for id in (errand.payment_id for errand in errands)
        ]

    async def _refund(self, errands: Sequence[SendRefund]) -> list[Performed]:
        rows = await self._db.fetch(sql.read_refunds, [errand.refund_id for errand in errands])
        refunds = {row["id"]: Refund(*row) for row in rows}
        paid = await self._payments(one.payment_id for one in refunds.values())
        open = {
            id: (paid[one.payment_id].provider, (one, paid[one.payment_id]))
            for id, one in refunds.items()
            if one.status == "PENDING"
        }
        answers = await self._called(open, lambda provider, batch: provider.refund(batch))
        return [
            RecordRefund(id, answer) if isinstance(answer := answers.get(id), str) else answer
            for id in (errand.refund_id for errand in errands)
        ]


def _created(payment: Payment | None, answer: Any) -> Performed:
    """What follows from a provider's answer to a new charge."""
    if payment is None:
        return NotFound()
    if isinstance(answer, Answer):
        return _said(payment.provider, "callback", answer)
    if answer is None or isinstance(answer, Exception):
        return answer
    ref, url = answer
    return RecordCharge(payment.id, ref, url) if ref or url else None


def _said(provider: str, kind: Kind, answer: Answer) -> ReceiveCallback:
    headers, body, notice = answer
    return ReceiveCallback(provider, kind, headers, body, "genuine", notice)
