"""Buying what is reserved: the order, its payment, the tickets, and what late money leads to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from msgspec import UNSET

from strongroom.apps.ticketing.codes import CODE_BYTES, code_of
from strongroom.apps.ticketing.reservations import (
    accounts_of,
    check_alive,
    give_back,
    hold_orders_of,
    hold_reservations,
)
from strongroom.apps.ticketing.rows import (
    EVENTS,
    ITEMS,
    MAILS,
    ORDERS,
    RESERVATIONS,
    TICKETS,
    AdmissionTicket,
    Language,
    Mail,
    MailKind,
    Method,
    Order,
    OrderAccepted,
    PaymentSeen,
    Reservation,
    organiser,
    seats,
    sql,
)
from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.ledger import AccountKey, clearing
from strongroom.core.payments import (
    PAYMENTS,
    REFUNDS,
    Payment,
    Refund,
    capture,
    fail,
    pay_back,
    request_payment,
    see_payments,
)
from strongroom.errors import NotFound, Refused, wrong_state

CANCELLED_TOGETHER = 200
"""Orders of a cancelled event that are refunded in one transaction."""

FREE_OF_CHARGE = "none"
"""The provider of a payment of nothing."""


class EventCancelled(Refused):
    """The event was called off."""


class OrderPlaced(Reply, frozen=True):
    """An order waits for its payment."""

    order_id: UUID
    reservation_id: UUID
    event_id: UUID
    total_amount: int


class OrderPaid(Reply, frozen=True):
    """An order is paid and its tickets are made. `late`: its seats had to be taken again."""

    order_id: UUID
    reservation_id: UUID
    event_id: UUID
    payment_id: UUID
    tickets: int
    late: bool


class OrderCancelled(Reply, frozen=True):
    """An order is off; what was paid goes back."""

    order_id: UUID
    event_id: UUID
    refunded: int


class PaymentFailed(Reply, frozen=True):
    """A payment came to nothing. The reservation stays until its time is over."""

    payment_id: UUID
    order_id: UUID
    failure: str


class PaymentRefunded(Reply, frozen=True):
    """Money that came too late, twice, or in the wrong amount goes back whole."""

    payment_id: UUID
    order_id: UUID
    amount: int
    because: str


class MailDue(Reply, frozen=True):
    """A mail is to be sent."""

    mail_id: UUID


class CancellationDue(Reply, frozen=True):
    """Orders of a cancelled event are left to refund."""

    event_id: UUID


def queue_mail(work: Work, order: Order, kind: MailKind, amount: int) -> None:
    mail = work.add(MAILS, Mail(work.new_id(), order.id, kind, amount))
    work.emit("ticketing.MailDue", mail.id, MailDue(mail.id))


def sell(
    work: Work, order: Order, reservation: Reservation, payment: Payment, *, late: bool
) -> None:
    """Held seats, or free ones when the money is late, are sold; the order is paid; its tickets
    are made and their mail is queued."""
    for line in reservation.lines:
        work.books.move(
            work.new_id(),
            f"SALE:{order.id}:{line.ticket_type_id}",
            work.books[seats(line.ticket_type_id, "free" if late else "held")],
            work.books[seats(line.ticket_type_id, "sold")],
            line.quantity,
            ("SALE", "SALE"),
            by=work.by,
            reference=str(order.id),
        )
        for _ in range(line.quantity):
            ticket = AdmissionTicket(
                work.new_id(),
                order.id,
                order.event_id,
                line.ticket_type_id,
                code_of(work.new_secret(CODE_BYTES)),
                order.owner_name,
            )
            work.add(TICKETS, ticket)
    reservation.status, reservation.ended_at = "COMPLETED", work.now
    work.change(RESERVATIONS, reservation)
    order.status, order.paid_at, order.payment_id = "PAID", work.now, payment.id
    order.late = "SEATS_AGAIN" if late else None
    work.change(ORDERS, order)
    count = sum(line.quantity for line in reservation.lines)
    paid = OrderPaid(order.id, reservation.id, order.event_id, payment.id, count, late)
    work.emit("ticketing.OrderPaid", order.id, paid)
    queue_mail(work, order, "TICKETS", order.total_amount)


@dataclass(frozen=True, slots=True)
class CompleteBooking(Command):
    """Orders what one has reserved and asks for its payment. After a payment that failed, the
    same order asks for another. What costs nothing is paid at once.

    Refuses with NotFound, ReservationExpired, WrongState, EventCancelled.
    """

    user_id: UUID
    reservation_id: UUID
    method: Method
    owner_name: str | None = None
    language: Language = "vi"

    reply = OrderAccepted

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CompleteBooking]) -> None:
        ids = sorted({one.reservation_id for one in batch})
        rows = await work.db.fetch(sql.reservations_read, ids)
        gifts = [row["id"] for row in rows if not row["total_amount"]]
        types = {row["ticket_type_id"] for row in await work.db.fetch(sql.lines_of, gifts)}
        await work.books.lock(work.db, sale_accounts(types) if gifts else [])
        events = sorted({row["event_id"] for row in rows})
        work.hold(EVENTS, await work.db.fetch(sql.share_events, events))
        await hold_reservations(work, ids)
        await hold_orders_of(work, ids)
        await work.lock(PAYMENTS, [order.payment_id for order in work.held(ORDERS)])

    def decide(self, work: Work) -> OrderAccepted:
        reservation = work.get(RESERVATIONS, self.reservation_id)
        if reservation.user_id != self.user_id:
            raise NotFound()
        check_alive(work, reservation)
        if work.get(EVENTS, reservation.event_id).status == "CANCELLED":
            raise EventCancelled()
        order_id = work.noted["orders"].get(reservation.id)
        order = work.get(ORDERS, order_id) if order_id else None
        if order and work.get(PAYMENTS, order.payment_id).status != "FAILED":
            raise wrong_state("a payment that is under way")
        if order is None:
            order = self._order(work, reservation)
        payment = self._pay(work, reservation, order)
        return OrderAccepted(order.id, order.status, order.total_amount, payment_seen(payment))

    def _order(self, work: Work, reservation: Reservation) -> Order:
        id = work.new_id()
        order = Order(
            id=id,
            reservation_id=reservation.id,
            user_id=self.user_id,
            event_id=reservation.event_id,
            status="PENDING",
            total_amount=reservation.total_amount,
            owner_name=self.owner_name,
            language=self.language,
            payment_id=id,
        )
        work.add(ORDERS, order)
        work.noted["orders"][reservation.id] = order.id
        for line in reservation.lines:
            work.append(ITEMS, (order.id, line.ticket_type_id, line.quantity, line.unit_price))
        placed = OrderPlaced(order.id, reservation.id, order.event_id, order.total_amount)
        work.emit("ticketing.OrderPlaced", order.id, placed)
        return order

    def _pay(self, work: Work, reservation: Reservation, order: Order) -> Payment:
        if order.total_amount:
            payment = request_payment(
                work,
                payee="ticketing",
                order_id=order.id,
                user_id=self.user_id,
                method=self.method,
                amount=order.total_amount,
                expires_at=reservation.expires_at,
            )
            order.payment_id = payment.id
            work.change(ORDERS, order)
            return payment
        payment = Payment(
            id=work.new_id(),
            payee="ticketing",
            order_id=order.id,
            user_id=self.user_id,
            method=self.method,
            provider=FREE_OF_CHARGE,
            amount=0,
            expires_at=reservation.expires_at,
            status="SUCCESS",
            captured=0,
            created_at=work.now,
            settled_at=work.now,
        )
        work.add(PAYMENTS, payment)
        sell(work, order, reservation, payment, late=False)
        return payment


def payment_seen(payment: Payment, refund: Refund | None = None) -> PaymentSeen:
    open = payment.status == "PENDING"
    return PaymentSeen(
        method=payment.method,
        status="REFUNDED" if refund else payment.status,
        redirect_url=payment.path if open else UNSET,
        refunded=refund.amount if refund else UNSET,
    )


def sale_accounts(types: Iterable[UUID]) -> list[AccountKey]:
    """The free, held and sold seats of ticket types."""
    found = list(types)
    return accounts_of(found) + [seats(id, "sold") for id in found]


@dataclass(frozen=True, slots=True)
class RecordPayment(Command):
    """What a provider says of a payment, told once or often, in time or late, in any order.

    SUCCESS of the right amount: held → sold, the order PAID, tickets made, mail queued. After its
    time the seats are taken again if there are any; else, and for an order that is off or paid
    already, all of the money goes back. A wrong amount goes back too, and buys nothing.
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
        rows = await work.db.fetch(sql.read_orders, [payment.order_id for payment in payments])
        reservations = [row["reservation_id"] for row in rows]
        lines = await work.db.fetch(sql.lines_of, reservations)
        keys = sale_accounts({row["ticket_type_id"] for row in lines})
        keys += [organiser(row["event_id"]) for row in rows]
        keys += [clearing(payment.provider) for payment in payments]
        await work.books.lock(work.db, keys)
        events = sorted({row["event_id"] for row in rows})
        work.hold(EVENTS, await work.db.fetch(sql.share_events, events))
        await hold_reservations(work, reservations)
        await work.lock(ORDERS, [row["id"] for row in rows])
        await work.lock(PAYMENTS, ids)
        await work.lock(REFUNDS, [Refund.id_of(id) for id in ids])
        await cls._note_limits(work)

    @staticmethod
    async def _note_limits(work: Work) -> None:
        """What buyers have of limited ticket types: late seats count against that."""
        pairs = {
            (line.ticket_type_id, line.user_id)
            for reservation in work.held(RESERVATIONS)
            for line in reservation.lines
            if line.per_user_limit
        }
        work.noted["had"] = {}
        if pairs:
            columns = [list(column) for column in zip(*pairs, strict=True)]
            for type, user, quantity in await work.db.fetch(sql.seats_of_users, *columns):
                work.noted["had"][type, user] = quantity

    def decide(self, work: Work) -> Nothing:
        payment = work.get(PAYMENTS, self.payment_id)
        if payment.captured is not None:
            return Nothing()
        order = work.get(ORDERS, payment.order_id)
        if self.result == "FAILED" or self.amount < 1:
            if payment.status == "PENDING":
                self._fail(work, payment, "refused")
            return Nothing()
        capture(
            work,
            payment,
            self.amount,
            self.provider_ref,
            earner=organiser(order.event_id),
            reference=str(order.id),
        )
        if payment.status != "SUCCESS":
            self._fail(work, payment, "wrong_amount")
            send_back(work, payment, order, "wrong amount")
            queue_mail(work, order, "REFUNDED", self.amount)
            return Nothing()
        self._deliver(work, payment, order)
        return Nothing()

    def _fail(self, work: Work, payment: Payment, failure: str) -> None:
        fail(work, payment, failure, self.provider_ref)
        failed = PaymentFailed(payment.id, payment.order_id, failure)
        work.emit("ticketing.PaymentFailed", payment.id, failed)

    def _deliver(self, work: Work, payment: Payment, order: Order) -> None:
        # None when its end is so long ago that it was forgotten.
        reservation = work.find(RESERVATIONS, order.reservation_id)
        event = work.get(EVENTS, order.event_id)
        if reservation and order.status == "PENDING" and reservation.alive(work.now):
            if event.status != "CANCELLED":
                sell(work, order, reservation, payment, late=False)
                return
            # The cancellation of its order is on its way, and has nothing left to refund.
            send_back(work, payment, order, "event cancelled")
            queue_mail(work, order, "REFUNDED", self.amount)
            return
        if reservation and order.status == "PENDING":
            give_back(work, reservation, "EXPIRED")
            order.status = "TIMEOUT"
            work.change(ORDERS, order)
        again = order.status == "TIMEOUT" and event.status == "PUBLISHED"
        if reservation and again and self._fits(work, reservation):
            sell(work, order, reservation, payment, late=True)
            for line in reservation.lines:
                had = work.noted["had"].get((line.ticket_type_id, line.user_id), 0)
                work.noted["had"][line.ticket_type_id, line.user_id] = had + line.quantity
            return
        if order.status == "TIMEOUT":
            order.status, order.late = "CANCELLED", "REFUNDED"
            work.change(ORDERS, order)
        send_back(work, payment, order, "paid after its time")
        queue_mail(work, order, "REFUNDED", self.amount)

    @staticmethod
    def _fits(work: Work, reservation: Reservation) -> bool:
        """Whether the seats of a late order are free again, and its buyer may have them still."""
        for line in reservation.lines:
            if work.books[seats(line.ticket_type_id, "free")].balance < line.quantity:
                return False
            had = work.noted["had"].get((line.ticket_type_id, line.user_id), 0)
            if line.per_user_limit and had + line.quantity > line.per_user_limit:
                return False
        return True


def send_back(work: Work, payment: Payment, order: Order, because: str) -> None:
    """All captured money of a payment goes back, once."""
    amount = pay_back(
        work, payment, because, earner=organiser(order.event_id), reference=str(order.id)
    )
    refunded = PaymentRefunded(payment.id, order.id, amount, because)
    work.emit("ticketing.PaymentRefunded", payment.id, refunded)


@dataclass(frozen=True, slots=True)
class CancelOrders(Command):
    """Cancels orders of an event that was called off, in chunks: seats go back, tickets end,
    what was paid is refunded once; reservations that wait are released."""

    event_id: UUID

    reply = Nothing
    idempotent = True
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CancelOrders]) -> None:
        event_id = batch[0].event_id
        found = await work.db.fetch(sql.orders_to_cancel, event_id, CANCELLED_TOGETHER)
        waiting = await work.db.fetch(sql.open_reservations, event_id, CANCELLED_TOGETHER)
        reservations = {row["reservation_id"] for row in found} | {row["id"] for row in waiting}
        lines = await work.db.fetch(sql.lines_of, sorted(reservations))
        orders = [row["id"] for row in found]
        payments = await see_payments(work.db, [row["payment_id"] for row in found])
        keys = sale_accounts({row["ticket_type_id"] for row in lines})
        if payments:
            keys += [organiser(event_id), *(clearing(payment.provider) for payment in payments)]
        await work.books.lock(work.db, keys)
        work.hold(EVENTS, await work.db.fetch(sql.share_events, [event_id]))
        await hold_reservations(work, reservations)
        await hold_orders_of(work, reservations)
        ids = [payment.id for payment in payments]
        await work.lock(PAYMENTS, ids)
        await work.lock(REFUNDS, [Refund.id_of(id) for id in ids])
        rows = await work.db.fetch(sql.ticket_ids_of_orders, orders)
        await work.lock(TICKETS, [row["id"] for row in rows])
        work.noted["more"] = CANCELLED_TOGETHER in (len(found), len(waiting))

    def decide(self, work: Work) -> Nothing:
        if work.get(EVENTS, self.event_id).status != "CANCELLED":
            return Nothing()
        for reservation in work.held(RESERVATIONS):
            if reservation.status == "ACTIVE":
                give_back(work, reservation, "RELEASED")
        tickets: dict[UUID, list[AdmissionTicket]] = {}
        for ticket in work.held(TICKETS):
            tickets.setdefault(ticket.order_id, []).append(ticket)
        for order in work.held(ORDERS):
            if order.status in ("PAID", "PENDING"):
                self._cancel(work, order, tickets.get(order.id, ()))
        if work.noted["more"]:
            due = CancellationDue(self.event_id)
            work.emit("ticketing.CancellationDue", self.event_id, due)
        return Nothing()

    @staticmethod
    def _cancel(work: Work, order: Order, tickets: Iterable[AdmissionTicket]) -> None:
        paid, refunded = order.status == "PAID", 0
        order.status = "CANCELLED"
        work.change(ORDERS, order)
        if paid:
            payment = work.get(PAYMENTS, order.payment_id)
            refunded = payment.captured or 0
            if refunded:
                send_back(work, payment, order, "event cancelled")
            for line in work.get(RESERVATIONS, order.reservation_id).lines:
                work.books.move(
                    work.new_id(),
                    f"RETURN:{order.id}:{line.ticket_type_id}",
                    work.books[seats(line.ticket_type_id, "sold")],
                    work.books[seats(line.ticket_type_id, "free")],
                    line.quantity,
                    ("RETURN", "RETURN"),
                    by=work.by,
                    reference=str(order.id),
                )
            for ticket in tickets:
                ticket.status = "CANCELLED"
                work.change(TICKETS, ticket)
        cancelled = OrderCancelled(order.id, order.event_id, refunded)
        work.emit("ticketing.OrderCancelled", order.id, cancelled)
        queue_mail(work, order, "CANCELLED", refunded)


@dataclass(frozen=True, slots=True)
class RecordMail(Command):
    """Notes that a mail was sent, so that it is not sent again."""

    mail_id: UUID

    reply = Nothing
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[RecordMail]) -> None:
        await work.lock(MAILS, [one.mail_id for one in batch])

    def decide(self, work: Work) -> Nothing:
        mail = work.get(MAILS, self.mail_id)
        if mail.sent_at is None:
            mail.sent_at = work.now
            work.change(MAILS, mail)
        return Nothing()
