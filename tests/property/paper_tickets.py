"""A box office as one would run it on paper: in memory, sharing nothing with the program.

A reservation whose time is over has EXPIRED at once here; in the database it may wait for a sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class PaperPayment:
    """One payment of an order."""

    status: str = "PENDING"
    captured: int | None = None
    refunded: int = 0


@dataclass
class PaperOrder:
    """What a reservation is bought with."""

    status: str = "PENDING"
    late: str | None = None
    payments: list[PaperPayment] = field(default_factory=list)
    tickets: list[str] = field(default_factory=list)


@dataclass
class PaperReservation:
    """Seats of a user: by type, how many, at which price and under which limit."""

    user: int
    seats: dict[int, int]
    total: int
    limits: dict[int, int | None]
    status: str = "ACTIVE"
    order: PaperOrder | None = None


@dataclass
class PaperOffice:
    """One event: every rule in its plainest form. Methods answer the code of a refusal."""

    quantity: list[int]
    price: list[int]
    limit: list[int | None]
    status: str = "PUBLISHED"
    reservations: list[PaperReservation] = field(default_factory=list)
    earned: int = 0

    def counted(self, type: int, status: str) -> int:
        return sum(r.seats.get(type, 0) for r in self.reservations if r.status == status)

    def sold(self, type: int) -> int:
        paid = [r for r in self.reservations if r.order and r.order.status == "PAID"]
        return sum(r.seats.get(type, 0) for r in paid)

    def free(self, type: int) -> int:
        return self.quantity[type] - self.counted(type, "ACTIVE") - self.sold(type)

    def had(self, type: int, user: int) -> int:
        return sum(
            r.seats.get(type, 0)
            for r in self.reservations
            if r.user == user and r.status in ("ACTIVE", "COMPLETED")
        )

    def reserve(self, user: int, seats: dict[int, int]) -> str | None:
        if self.status != "PUBLISHED":
            return "not_on_sale"
        for type, count in seats.items():
            limit = self.limit[type]
            if limit is not None and self.had(type, user) + count > limit:
                return "per_user_limit"
        if any(self.free(type) < count for type, count in seats.items()):
            return "sold_out"
        total = sum(self.price[type] * count for type, count in seats.items())
        limits = {type: self.limit[type] for type in seats}
        self.reservations.append(PaperReservation(user, dict(seats), total, limits))
        return None

    def end(self, one: PaperReservation, how: str, order: str) -> None:
        one.status = how
        if one.order and one.order.status == "PENDING":
            one.order.status = order

    def lapse(self, one: PaperReservation) -> None:
        if one.status == "ACTIVE":
            self.end(one, "EXPIRED", "TIMEOUT")

    def alive(self, one: PaperReservation) -> str | None:
        if one.status == "EXPIRED":
            return "reservation_expired"
        return None if one.status == "ACTIVE" else "wrong_state"

    def release(self, one: PaperReservation) -> str | None:
        refused = self.alive(one)
        if not refused:
            self.end(one, "RELEASED", "CANCELLED")
        return refused

    def complete(self, one: PaperReservation) -> str | None:
        if refused := self.alive(one):
            return refused
        if self.status == "CANCELLED":
            return "event_cancelled"
        if one.order and one.order.payments[-1].status != "FAILED":
            return "wrong_state"
        one.order = one.order or PaperOrder()
        one.order.payments.append(PaperPayment())
        if one.total == 0:
            one.order.payments[-1] = PaperPayment("SUCCESS", 0)
            self.sell(one, None)
        return None

    def sell(self, one: PaperReservation, late: str | None) -> None:
        assert one.order
        one.status, one.order.status, one.order.late = "COMPLETED", "PAID", late
        one.order.tickets = ["UNUSED"] * sum(one.seats.values())
        self.earned += one.total

    def told(self, one: PaperReservation, payment: PaperPayment, amount: int) -> None:
        """A provider says that it took so much; nothing means that it failed."""
        assert one.order
        if payment.captured is not None:
            return
        if amount == 0:
            payment.status = "FAILED"
            return
        payment.captured = amount
        if amount != one.total:
            payment.status, payment.refunded = "FAILED", amount
            return
        payment.status = "SUCCESS"
        if one.status == "ACTIVE" and self.status != "CANCELLED":
            self.sell(one, None)
        elif one.order.status == "TIMEOUT" and self.fits(one):
            self.sell(one, "SEATS_AGAIN")
        else:
            payment.refunded = amount
            if one.order.status == "TIMEOUT":
                one.order.status, one.order.late = "CANCELLED", "REFUNDED"

    def fits(self, one: PaperReservation) -> bool:
        within = all(
            limit is None or self.had(type, one.user) + one.seats[type] <= limit
            for type, limit in one.limits.items()
        )
        there = all(self.free(type) >= count for type, count in one.seats.items())
        return within and there and self.status == "PUBLISHED"

    def resize(self, type: int, quantity: int) -> str | None:
        if self.status != "PUBLISHED":
            return "wrong_state"
        if quantity < self.quantity[type] - self.free(type):
            return "seats_taken"
        self.quantity[type] = quantity
        return None

    def reprice(self, type: int, price: int) -> str | None:
        if self.status != "PUBLISHED":
            return "wrong_state"
        self.price[type] = price
        return None

    def call_off(self) -> str | None:
        if self.status != "PUBLISHED":
            return "wrong_state"
        self.status = "CANCELLED"
        return None

    def settle(self) -> None:
        """What follows once the event was called off."""
        if self.status != "CANCELLED":
            return
        for one in self.reservations:
            order = one.order
            if one.status == "ACTIVE":
                self.end(one, "RELEASED", "CANCELLED")
            if order and order.status == "PAID":
                order.status, order.tickets = "CANCELLED", ["CANCELLED"] * len(order.tickets)
                self.earned -= one.total
                for payment in order.payments:
                    payment.refunded = payment.captured or 0

    def scan(self, order: PaperOrder, number: int) -> str | None:
        found = order.tickets[number]
        if found == "UNUSED":
            order.tickets[number] = "CHECKED_IN"
            return None
        return "already_checked_in" if found == "CHECKED_IN" else "ticket_cancelled"
