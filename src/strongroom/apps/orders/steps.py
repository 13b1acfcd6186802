"""The steps of an order: PENDING → CONFIRMED → SHIPPED → DELIVERED, or CANCELLED, or RETURNED."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from strongroom.apps.orders.orders import hold_orders, write_history
from strongroom.apps.orders.rows import (
    COD,
    ORDERS,
    Order,
    OrderStatus,
    PaymentStatus,
    SalesOrder,
    Shelf,
    order_seen,
    pieces,
    sql,
)
from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.db import Connection
from strongroom.core.ledger import AccountKey, clearing, revenue
from strongroom.core.ledger.books import EntryType
from strongroom.core.payments import (
    PAYMENTS,
    REFUNDS,
    Payment,
    Refund,
    capture,
    fail,
    pay_back,
    see_payments,
)
from strongroom.core.payments.requests import PROVIDER_OF
from strongroom.errors import NotFound, Refused, wrong_state

LAPSED_TOGETHER = 200
"""Orders that lapse in one transaction: some tens of milliseconds under lock."""

Step = Literal["confirm", "ship", "deliver", "cancel", "return"]


class _Move(NamedTuple):
    """From where a step leads where, and which way it moves the pieces."""

    before: tuple[OrderStatus, ...]
    after: OrderStatus
    event: str
    pieces: tuple[Shelf, Shelf, str, EntryType] | None = None


MOVES: dict[Step, _Move] = {
    "confirm": _Move(("PENDING",), "CONFIRMED", "OrderConfirmed"),
    "ship": _Move(("CONFIRMED",), "SHIPPED", "OrderShipped", ("held", "sold", "SALE", "SALE")),
    "deliver": _Move(("SHIPPED",), "DELIVERED", "OrderDelivered"),
    "cancel": _Move(
        ("PENDING", "CONFIRMED"),
        "CANCELLED",
        "OrderCancelled",
        ("held", "free", "RELEASE", "RELEASE"),
    ),
    "return": _Move(
        ("SHIPPED", "DELIVERED"),
        "RETURNED",
        "OrderReturned",
        ("sold", "free", "RETURN", "RETURN"),
    ),
}
"""All that may become of an order; what was paid goes back with cancel and return."""

LAPSE = MOVES["cancel"]._replace(pieces=("held", "free", "EXPIRE", "EXPIRY"))
"""A cancellation by the clock."""


class NotPaid(Refused):
    """The order waits for its payment. It is confirmed when that arrives; or cancel it, or let it
    be paid in cash."""


class OrderMoved(Reply, frozen=True):
    """An order took a step; `because` is what was said with it."""

    order_id: UUID
    code: str
    status: OrderStatus
    because: str | None


class OrderCollected(Reply, frozen=True):
    """An order's money is there."""

    order_id: UUID
    code: str
    amount: int


class OrderPaymentFailed(Reply, frozen=True):
    """A payment came to nothing; the order waits for another until its time is over."""

    order_id: UUID
    payment_id: UUID
    failure: str


class MoneyReturned(Reply, frozen=True):
    """What was paid for an order goes back whole."""

    order_id: UUID
    payment_id: UUID
    amount: int
    because: str


def _take(work: Work, order: Order, move: _Move, reason: str | None) -> None:
    """Takes a step that is allowed: pieces, money, history, event."""
    if move.pieces:
        source, target, key, kind = move.pieces
        for line in order.lines:
            work.books.move(
                work.new_id(),
                f"{key}:{order.id}:{line.product_id}",
                work.books[pieces(line.product_id, source)],
                work.books[pieces(line.product_id, target)],
                line.quantity,
                (kind, kind),
                by=work.by,
                reference=order.code,
            )
    order.status = move.after
    order.version += 1
    work.change(ORDERS, order)
    if move.after == "DELIVERED" and order.payment_status == "PENDING":
        _collect(work, order)
    elif move.after in ("CANCELLED", "RETURNED"):
        _settle(work, order, move.after)
    write_history(work, order, reason)
    moved = OrderMoved(order.id, order.code, order.status, reason)
    work.emit(f"orders.{move.event}", order.id, moved)


def _collect(work: Work, order: Order) -> None:
    """The courier has the cash: it owes us as much, and we have earned it."""
    order.payment_id, order.payment_status = order.id, "SUCCESS"
    _cash(work, order, "PAYMENT", "PAYMENT", clearing(COD), revenue())
    work.emit(
        "orders.OrderPaid", order.id, OrderCollected(order.id, order.code, order.total_amount)
    )


def _settle(work: Work, order: Order, after: OrderStatus) -> None:
    """The order is off: what was paid goes back, and nothing more is due."""
    if order.payment_status != "SUCCESS" or not order.total_amount:
        order.payment_status = "VOID"
        return
    order.payment_status = "REFUNDED"
    if order.payment_id == order.id:
        _cash(work, order, "PAYBACK", "REFUND", revenue(), clearing(COD))
        _tell_returned(work, order, order.id, order.total_amount, after.lower())
        return
    assert order.payment_id, "a paid order names its payment"
    send_back(work, order, work.get(PAYMENTS, order.payment_id), after.lower())


def _cash(
    work: Work, order: Order, key: str, kind: EntryType, source: AccountKey, target: AccountKey
) -> None:
    work.books.move(
        work.new_id(),
        f"{key}:{order.id}",
        work.books[source],
        work.books[target],
        order.total_amount,
        (kind, kind),
        by=work.by,
        reference=order.code,
    )


def send_back(work: Work, order: Order, payment: Payment, because: str) -> None:
    """All captured money of a payment goes back, once."""
    amount = pay_back(work, payment, because, earner=revenue(), reference=order.code)
    _tell_returned(work, order, payment.id, amount, because)


def _tell_returned(work: Work, order: Order, payment_id: UUID, amount: int, because: str) -> None:
    returned = MoneyReturned(order.id, payment_id, amount, because)
    work.emit("orders.MoneyReturned", order.id, returned)


async def _hold_with_money(work: Work, ids: Iterable[UUID], *, money: bool) -> None:
    """Locks orders, their stock, and where money may move also that and their payments."""
    wanted = sorted(set(ids))
    accounts: list[AccountKey] = []
    if money:
        payments = await see_payments(work.db, await _payments_of(work.db, wanted))
        # Another one may have been asked for and paid before the order is locked.
        providers = {payment.provider for payment in payments} | {COD, *PROVIDER_OF.values()}
        accounts = [revenue(), *(clearing(provider) for provider in sorted(providers))]
    held = await hold_orders(work, wanted, accounts)
    if money:
        paid = [order.payment_id for order in held if order.payment_id]
        await work.lock(PAYMENTS, paid)
        await work.lock(REFUNDS, [Refund.id_of(id) for id in paid])


async def _payments_of(db: Connection, orders: list[UUID]) -> list[UUID]:
    """The newest payments of orders before these are locked; a newer one has taken nothing yet."""
    return [row["payment_id"] for row in await db.fetch(sql.payments_of_orders, orders)]


@dataclass(frozen=True, slots=True)
class TakeStep(Command):
    """Confirms, ships, delivers, cancels or returns an order. `user_id` None is an operator; a
    buyer may cancel what is theirs. Refuses with NotFound, WrongState, NotPaid."""

    order_id: UUID
    step: Step
    user_id: UUID | None = None
    reason: str | None = None

    reply = SalesOrder

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[TakeStep]) -> None:
        ids = {one.order_id for one in batch}
        money = any(one.step in ("deliver", "cancel", "return") for one in batch)
        await _hold_with_money(work, ids, money=money)
        products = {line.product_id for order in work.held(ORDERS) for line in order.lines}
        rows = await work.db.fetch(sql.read_products, sorted(products))
        work.noted["products"] = {row["id"]: row for row in rows}

    def decide(self, work: Work) -> SalesOrder:
        order = work.get(ORDERS, self.order_id)
        if self.user_id is not None and order.user_id != self.user_id:
            raise NotFound()
        move = MOVES[self.step]
        if order.status not in move.before:
            raise wrong_state(order.status)
        waits = order.payment_status in ("PENDING", "FAILED") and order.payment_method != "COD"
        if self.step == "confirm" and waits:
            raise NotPaid()
        _take(work, order, move, self.reason)
        return order_seen(order, work.noted["products"])


@dataclass(frozen=True, slots=True)
class LapseOrders(Command):
    """Cancels these orders, those that nobody has paid or confirmed in time."""

    ids: tuple[UUID, ...]

    reply = Nothing
    idempotent = True
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[LapseOrders]) -> None:
        await hold_orders(work, batch[0].ids)

    def decide(self, work: Work) -> Nothing:
        for id in self.ids:
            order = work.find(ORDERS, id)
            if order and order.status == "PENDING" and order.expires_at <= work.now:
                _take(work, order, LAPSE, "unpaid")
        return Nothing()


@dataclass(frozen=True, slots=True)
class RecordPayment(Command):
    """What a provider says of a payment, told once or often, in time or late, in any order.

    SUCCESS of the right amount confirms the order that waits for it. For an order that is off or
    paid already, and in a wrong amount, all of the money goes back.
    """

    payment_id: UUID
    result: Literal["SUCCESS", "FAILED"]
    amount: int
    provider_ref: str | None

    reply = Nothing
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[RecordPayment]) -> None:
        ids = sorted({one.payment_id for one in batch})
        payments = await see_payments(work.db, ids)
        accounts = [revenue(), *{clearing(payment.provider) for payment in payments}]
        await work.books.lock(work.db, accounts)
        await work.lock(ORDERS, [payment.order_id for payment in payments])
        await work.lock(PAYMENTS, ids)
        await work.lock(REFUNDS, [Refund.id_of(id) for id in ids])

    def decide(self, work: Work) -> Nothing:
        payment = work.get(PAYMENTS, self.payment_id)
        if payment.captured is not None:
            return Nothing()
        order = work.get(ORDERS, payment.order_id)
        if self.result == "FAILED" or self.amount < 1:
            if payment.status == "PENDING":
                self._fail(work, payment, order, "refused")
            return Nothing()
        capture(
            work,
            payment,
            self.amount,
            self.provider_ref,
            earner=revenue(),
            reference=order.code,
        )
        if payment.status != "SUCCESS":
            self._fail(work, payment, order, "wrong_amount")
            send_back(work, order, payment, "wrong amount")
        elif order.status != "PENDING" or order.payment_status == "SUCCESS":
            send_back(work, order, payment, "paid after its time")
            if order.payment_status == "VOID":
                order.payment_id, order.payment_status = payment.id, "REFUNDED"
                order.payment_method = payment.method
                order.version += 1
                work.change(ORDERS, order)
        else:
            order.payment_id, order.payment_status = payment.id, "SUCCESS"
            order.payment_method = payment.method
            paid = OrderCollected(order.id, order.code, payment.amount)
            work.emit("orders.OrderPaid", order.id, paid)
            _take(work, order, MOVES["confirm"], "paid")
        return Nothing()

    def _fail(self, work: Work, payment: Payment, order: Order, failure: str) -> None:
        fail(work, payment, failure, self.provider_ref)
        if order.payment_id == payment.id and order.payment_status == "PENDING":
            status: PaymentStatus = "FAILED"
            order.payment_status = status
            order.version += 1
            work.change(ORDERS, order)
        failed = OrderPaymentFailed(order.id, payment.id, failure)
        work.emit("orders.PaymentFailed", order.id, failed)
