"""The built-in provider: a bank that pays at once, unless it is asked to misbehave.

It has its own books (`payments.sandbox_charges`) and speaks to the room as any provider would, in
signed callbacks and answers to queries; an outside caller who has the secret may POST them too.
The last four digits of the amount, or the card on its page, choose how a charge goes; prices in
VND are round, so no real one chooses by accident.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta

from strongroom.clock import Clock, now
from strongroom.core.commands import Errand
from strongroom.core.db import Database, Queries, Record
from strongroom.core.payments.provider import (
    Answer,
    BadSignature,
    Created,
    Headers,
    Malformed,
    Notice,
    Verdict,
)
from strongroom.core.payments.rows import Payment, Refund
from strongroom.errors import Refused
from strongroom.money import MAX_AMOUNT

sql = Queries(__package__, "sandbox.sql")

SIGNATURE = "x-sandbox-signature"
"""The header with the lower-case hex HMAC-SHA256 of the raw body."""

SLOW_S, LATE_S, AGAIN_S = 5.0, 3.0, 1.0

WRONG_BY = 1000

DELIVERED_TOGETHER = 500
"""Callbacks of one second's chore: more wait for the next one."""

State = Literal["waiting", "paid", "refused"]

Hear = Callable[[str, Sequence[tuple[Headers, bytes]]], Awaitable[None]]
"""Where callbacks are delivered: (provider, what it says)."""


class Saying(NamedTuple):
    """One callback. The bank numbers what it says: an older one has a smaller number."""

    result: Literal["SUCCESS", "FAILED", "PENDING"]
    number: int = 1
    forged: bool = False


class Step(NamedTuple):
    """From then on the bank believes `state`, and says so, or something else, or nothing.
    `wait_s` counts from the step before, `late` ones from the payment's end."""

    state: State
    says: tuple[Saying, ...] = ()
    wait_s: float = 0.0
    late: bool = False


PAID = Saying("SUCCESS")

PLANS: dict[str, tuple[Step, ...]] = {
    "success": (Step("paid", (PAID,)),),
    "refused": (Step("refused", (Saying("FAILED"),)),),
    "slow": (Step("paid", (PAID,), wait_s=SLOW_S),),
    "late": (Step("paid", (PAID,), wait_s=LATE_S, late=True),),
    "duplicate": (
        Step("paid", (PAID,)),
        Step("paid", (PAID, Saying("SUCCESS", 2)), wait_s=AGAIN_S),
    ),
    "reordered": (
        Step("paid", (Saying("SUCCESS", 3),)),
        Step("paid", (Saying("FAILED", 2), Saying("PENDING", 1)), wait_s=AGAIN_S),
    ),
    "wrong_amount": (Step("paid", (PAID,)),),
    "forged": (Step("waiting", (Saying("SUCCESS", forged=True),)),),
    "silent": (Step("paid"),),
    "page": (),
}
"""What can become of a charge, step by step."""

PLAN_OF_DIGITS = {
    4001: "refused",
    4002: "slow",
    4003: "late",
    4004: "duplicate",
    4005: "reordered",
    4006: "wrong_amount",
    4007: "forged",
    4008: "silent",
    4009: "page",
}
"""By the last four digits of the amount; all others pay at once."""

CARDS = {"9704000000004000": "success"} | {
    f"970400000000{digits}": plan for digits, plan in PLAN_OF_DIGITS.items() if plan != "page"
}
"""Test cards of the page: the same digits, after the prefix of Vietnam's domestic cards."""


class UnknownCard(Refused):
    """This is none of the test cards."""


class AlreadyDecided(Refused):
    """This payment waits for no decision."""


class RefundImpossible(Refused):
    """The bank has not taken that much, or has sent it back under another name."""


@dataclass(frozen=True, slots=True)
class DeliverCallbacks(Errand):
    """The next step of a charge is due."""

    payment_id: UUID


class Said(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The body of a callback, and of an answer to a query."""

    payment_id: UUID
    result: Literal["SUCCESS", "FAILED", "PENDING"]
    amount: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
    provider_ref: Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]*$")]
    number: int


_read = msgspec.json.Decoder(Said).decode


@dataclass(slots=True)
class Charge:
    """What the bank believes of one payment."""

    payment_id: UUID
    amount: int
    plan: str
    state: State
    captured: int
    step: int
    due_at: datetime | None
    expires_at: datetime
    refund_id: UUID | None = None

    def take(self, at: datetime) -> tuple[Saying, ...]:
        """Takes the next step; what is to be said with it."""
        step = PLANS[self.plan][self.step]
        self.state, self.step = step.state, self.step + 1
        self.captured = self._taken() if step.state == "paid" else 0
        self.due_at = self.next_due(at)
        return step.says

    def next_due(self, at: datetime) -> datetime | None:
        steps = PLANS[self.plan]
        if self.step == len(steps):
            return None
        step = steps[self.step]
        return (self.expires_at if step.late else at) + timedelta(seconds=step.wait_s)

    def _taken(self) -> int:
        if self.plan != "wrong_amount":
            return self.amount
        # Too little or too much, as the digit before the last four is even or odd.
        too_much = self.amount // 10_000 % 2
        return self.amount + WRONG_BY if too_much else max(0, self.amount - WRONG_BY)


class Sandbox:
    """The bank. Its clock is its own; `hear` takes the callbacks that it sends by itself."""

    name = "sandbox"

    def __init__(self, database: Database, secret: str, hear: Hear, *, clock: Clock = now) -> None:
        self._db, self._secret, self._hear = database, secret.encode(), hear
        self._clock = clock

    # As any provider ------------------------------------------------------------------------

    async def create(self, batch: Sequence[Payment]) -> list[Created | Answer | Exception]:
        """Charges at once what has no other plan; the callback comes with the answer."""
        at = self._clock()
        made = {payment.id: self._new(payment, at) for payment in batch}
        columns = zip(*(self._row(charge) for charge in made.values()), strict=True)
        fresh = {row[0] for row in await self._db.fetch(sql.create_charges, *map(list, columns))}
        if len(fresh) < len(made):
            made |= await self._charges(made.keys() - fresh)
        return [self._told(made[payment.id]) or Created() for payment in batch]

    def verify(self, headers: Headers, body: bytes) -> Notice | None:
        given = dict(headers).get(SIGNATURE, "")
        if not hmac.compare_digest(given.encode(), self.sign(body).encode()):
            raise BadSignature()
        try:
            said = _read(body)
        except msgspec.MsgspecError as error:
            raise Malformed(str(error)) from error
        if said.result == "PENDING":
            return None
        return Notice(said.payment_id, said.result, said.amount, said.provider_ref)

    def acknowledge(self, verdict: Verdict) -> tuple[int, bytes]:
        return 200, b'{"received":true}'

    async def query(self, batch: Sequence[Payment]) -> list[Answer | Exception | None]:
        charges = await self._charges(payment.id for payment in batch)
        return [
            self._final(charge, 0) if (charge := charges.get(payment.id)) else None
            for payment in batch
        ]

    async def refund(self, batch: Sequence[tuple[Refund, Payment]]) -> list[str | Exception]:
        rows = [(refund.payment_id, refund.id, refund.amount) for refund, _ in batch]
        async with self._db.transaction() as db:
            await db.execute(sql.refund_charges, *map(list, zip(*sorted(rows), strict=True)))
        charges = await self._charges(refund.payment_id for refund, _ in batch)
        return [
            f"SBR-{refund.id}"
            if (charge := charges.get(refund.payment_id)) and charge.refund_id == refund.id
            else RefundImpossible()
            for refund, _ in batch
        ]

    # By itself ------------------------------------------------------------------------------

    async def deliveries_due(self) -> list[Errand]:
        """The charges whose next step is due; a chore."""
        rows = await self._db.fetch(sql.charges_due, self._clock(), DELIVERED_TOGETHER)
        return [DeliverCallbacks(row[0]) for row in rows]

    async def deliver(self, errands: Sequence[DeliverCallbacks]) -> list[None]:
        """Takes the steps that are due, and says what they say, all in one group."""
        at = self._clock()
        charges = await self._charges(errand.payment_id for errand in errands)
        said: list[tuple[Headers, bytes]] = []
        taken = []
        for charge in charges.values():
            before = charge.step
            while charge.due_at is not None and charge.due_at <= at:
                says = charge.take(at)
                said += [self._spoken(charge, saying) for saying in says]
            if charge.step > before:
                taken.append(
                    (
                        charge.payment_id,
                        before,
                        charge.state,
                        charge.captured,
                        charge.step,
                        charge.due_at,
                    )
                )
        if said:
            await self._hear(self.name, said)
        if taken:
            columns = map(list, zip(*sorted(taken), strict=True))
            async with self._db.transaction() as db:
                await db.execute(sql.advance_charges, *columns)
        return [None] * len(errands)

    async def waits(self, payment_id: UUID) -> bool:
        """Whether a payment waits for its buyer's decision."""
        charge = (await self._charges([payment_id])).get(payment_id)
        return charge is not None and charge.state == "waiting" and charge.due_at is None

    async def decide(self, payment: Payment, card: str) -> None:
        """The buyer pays with a test card. UnknownCard, AlreadyDecided."""
        plan = CARDS.get("".join(card.split()))
        if plan is None:
            raise UnknownCard()
        at = self._clock()
        due = replace(_charge(payment), plan=plan).next_due(at)
        row = await self._db.fetchrow(sql.decide_charge, payment.id, plan, due)
        if row is None:
            raise AlreadyDecided()
        await self.deliver([DeliverCallbacks(payment.id)])

    def sign(self, body: bytes) -> str:
        """The signature of a raw body, for the header SIGNATURE."""
        return hmac.new(self._secret, body, hashlib.sha256).hexdigest()

    async def _charges(self, ids: Iterable[UUID]) -> dict[UUID, Charge]:
        rows: list[Record] = await self._db.fetch(sql.read_charges, list(ids))
        return {row["payment_id"]: Charge(*row) for row in rows}

    def _new(self, payment: Payment, at: datetime) -> Charge:
        """The charge with its first step taken, where that is said with the answer."""
        charge = _charge(payment)
        charge.due_at = charge.next_due(at)
        steps = PLANS[charge.plan]
        alone = bool(steps) and len(steps[0].says) < 2
        if alone and steps[0].state != "waiting" and charge.due_at == at:
            charge.take(at)
        return charge

    def _told(self, charge: Charge) -> Answer | None:
        """What the first step has said, if it was taken and is final."""
        says = PLANS[charge.plan][0].says if charge.step else ()
        return self._final(charge, says[0].number) if says else None

    def _final(self, charge: Charge, number: int) -> Answer | None:
        """The truth about a charge, once there is one."""
        if charge.state == "waiting":
            return None
        headers, body = self._spoken(
            charge, Saying("SUCCESS" if charge.state == "paid" else "FAILED", number)
        )
        notice = self.verify(headers, body)
        return Answer(headers, body, notice) if notice else None

    def _spoken(self, charge: Charge, saying: Saying) -> tuple[Headers, bytes]:
        amount = charge.captured if saying.result == "SUCCESS" else 0
        if saying.forged:
            amount = charge.amount
        ref = f"SBX-{charge.payment_id}"
        said = Said(charge.payment_id, saying.result, amount, ref, saying.number)
        body = msgspec.json.encode(said)
        signature = self.sign(body + b"forged" if saying.forged else body)
        return ((SIGNATURE, signature),), body

    @staticmethod
    def _row(charge: Charge) -> tuple[UUID, int, str, str, int, int, datetime | None, datetime]:
        return (
            charge.payment_id,
            charge.amount,
            charge.plan,
            charge.state,
            charge.captured,
            charge.step,
            charge.due_at,
            charge.expires_at,
        )


def _charge(payment: Payment) -> Charge:
    plan = PLAN_OF_DIGITS.get(payment.amount % 10_000, "success")
    return Charge(payment.id, payment.amount, plan, "waiting", 0, 0, None, payment.expires_at)
