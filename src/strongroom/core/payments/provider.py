"""What a payment provider is to this room, whatever its own language.

An adapter (MoMo, ZaloPay, VNPay, a bank's notifications …) keeps its account's secrets and an HTTP
client, and knows three things that nobody else does: how requests are signed, how its notices are
checked, and which of its result codes are final. Rules that hold for all of them:

- Amounts here are integers in VND. VNPay counts hundredths: its adapter multiplies.
- Ids that a provider wants in its own form (ZaloPay's begin with the date in GMT+7, MoMo wants a
  new orderId for each refund) are derived from `payment.id` or `refund.id` and stored dates, never
  from the clock: a second call for the same id has to be the same call.
- Signatures are checked over the raw bytes, in constant time, and never over a re-encoded body.
- A notice that is not final (MoMo 1000, 7000, 7002, 8000; VNPay 01) says nothing: None. MoMo 9000
  with autoCapture counts as paid.
- ZaloPay calls back only after success, VNPay by GET with everything in the query string: what is
  never told is found by `query`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from strongroom.core.payments.rows import Payment, Refund

Headers = tuple[tuple[str, str], ...]
"""Names in lower case, with their values."""

Result = Literal["SUCCESS", "FAILED"]

Verdict = Literal["genuine", "pending", "unknown", "forged", "malformed"]
"""What a callback was found to be: final news of a payment; not final yet; of a payment that this
provider does not have; not signed by the provider; signed, but not to be understood."""


class BadSignature(Exception):
    """Whoever said this is not the provider."""


class Malformed(Exception):
    """The provider said this, and it cannot be understood."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Final news of a payment. `amount` is what was taken from the buyer: compare it."""

    payment_id: UUID
    result: Result
    amount: int
    provider_ref: str


class Answer(NamedTuple):
    """What a provider answered when it was called: the raw form, and what it means."""

    headers: Headers
    body: bytes
    notice: Notice


class Created(NamedTuple):
    """The provider waits for the buyer; at `redirect_url`, if it has a page of its own."""

    provider_ref: str | None = None
    redirect_url: str | None = None


class Provider(Protocol):
    """Calls for many at once; what is answered stands in the order of what was asked. An exception
    as an answer fails that one alone, raised it fails all. Every call may come twice."""

    @property
    def name(self) -> str:
        """As in `/api/payments/{name}/callbacks`, and in `payments.provider`."""

    async def create(self, batch: Sequence[Payment]) -> Sequence[Created | Answer | Exception]:
        """Asks for the money. An Answer when that was final at once: a limit, a stored card.
        Created again for an id that the provider has already (MoMo 41, ZaloPay -68)."""

    def verify(self, headers: Headers, body: bytes) -> Notice | None:
        """What a callback says; None when that is not final. Pure computation. Raises
        BadSignature or Malformed."""

    def acknowledge(self, verdict: Verdict) -> tuple[int, bytes]:
        """Status and JSON that stop the provider from sending the same again (MoMo 204, ZaloPay
        {"return_code": 1}, VNPay {"RspCode": "00"}); sent after the callback was stored."""

    async def query(self, batch: Sequence[Payment]) -> Sequence[Answer | Exception | None]:
        """What the provider knows of these; None while nothing is final."""

    async def refund(self, batch: Sequence[tuple[Refund, Payment]]) -> Sequence[str | Exception]:
        """Sends money back; the provider's reference. RefundPending while it thinks about it."""
