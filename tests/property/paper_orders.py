"""A shop as one would keep it on paper: in memory, sharing nothing with the program."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class PaperPayment:
    """One payment of an order, and what was asked."""

    method: str
    status: str = "PENDING"
    captured: int | None = None
    refunded: int = 0


@dataclass
class PaperOrder:
    """An order: its lines as product → (pieces, price). `current` is the payment that counts,
    -1 is cash that was collected."""

    user: int
    customer: int
    lines: dict[int, tuple[int, int]]
    method: str
    paid: str = "PENDING"
    status: str = "PENDING"
    version: int = 1
    history: list[tuple[int, str]] = field(default_factory=lambda: [(1, "PENDING")])
    payments: list[PaperPayment] = field(default_factory=list)
    current: int | None = None
    late: bool = False

    @property
    def total(self) -> int:
        return sum(pieces * price for pieces, price in self.lines.values())

    def ask(self, method: str) -> None:
        self.method, self.current = method, None
        self.paid = "PENDING" if self.total else "SUCCESS"
        if method != "COD" and self.total:
            self.payments.append(PaperPayment(method))
            self.current = len(self.payments) - 1

    def come_to(self, status: str) -> None:
        self.status = status
        self.version += 1
        self.history.append((self.version, status))


@dataclass
class PaperProduct:
    """Pieces on the shelf, put aside, and gone out."""

    free: int
    price: int
    active: bool = True
    held: int = 0
    sold: int = 0


AFTER = {
    "confirm": {"PENDING": "CONFIRMED"},
    "ship": {"CONFIRMED": "SHIPPED"},
    "deliver": {"SHIPPED": "DELIVERED"},
    "cancel": {"PENDING": "CANCELLED", "CONFIRMED": "CANCELLED"},
    "return": {"SHIPPED": "RETURNED", "DELIVERED": "RETURNED"},
}


@dataclass
class PaperShop:
    """Every rule in its plainest form. Methods answer the code of a refusal."""

    products: list[PaperProduct]
    orders: list[PaperOrder] = field(default_factory=list)
    cash: int = 0

    @property
    def bank(self) -> int:
        payments = [payment for order in self.orders for payment in order.payments]
        return sum((payment.captured or 0) - payment.refunded for payment in payments)

    def place(
        self, user: int, customer: int, items: list[tuple[int, int]], method: str
    ) -> str | None:
        wanted: dict[int, int] = {}
        for product, pieces in items:
            wanted[product] = wanted.get(product, 0) + pieces
        if not all(self.products[product].active for product in wanted):
            return "not_for_sale"
        if any(self.products[product].free < pieces for product, pieces in wanted.items()):
            return "out_of_stock"
        lines = {}
        for product, pieces in wanted.items():
            one = self.products[product]
            one.free, one.held = one.free - pieces, one.held + pieces
            lines[product] = (pieces, one.price)
        order = PaperOrder(user, customer, lines, method)
        order.ask(method)
        self.orders.append(order)
        return None

    def take(self, order: PaperOrder, step: str, user: int | None) -> str | None:
        if user is not None and user != order.user:
            return "not_found"
        if order.status not in AFTER[step]:
            return "wrong_state"
        unpaid = order.paid in ("PENDING", "FAILED")
        if step == "confirm" and unpaid and order.method != "COD":
            return "not_paid"
        self.go(order, AFTER[step][order.status])
        return None

    def go(self, order: PaperOrder, status: str) -> None:
        for product, (pieces, _) in order.lines.items():
            one = self.products[product]
            if status == "SHIPPED":
                one.held, one.sold = one.held - pieces, one.sold + pieces
            elif status == "CANCELLED":
                one.held, one.free = one.held - pieces, one.free + pieces
            elif status == "RETURNED":
                one.sold, one.free = one.sold - pieces, one.free + pieces
        order.come_to(status)
        if status == "DELIVERED" and order.paid == "PENDING":
            order.paid, order.current = "SUCCESS", -1
            self.cash += order.total
        elif status in ("CANCELLED", "RETURNED"):
            self.give_back(order)

    def give_back(self, order: PaperOrder) -> None:
        if order.paid != "SUCCESS" or not order.total:
            order.paid = "VOID"
            return
        order.paid = "REFUNDED"
        if order.current == -1:
            self.cash -= order.total
        else:
            assert order.current is not None
            order.payments[order.current].refunded = order.total

    def pay(self, order: PaperOrder, method: str, user: int | None) -> str | None:
        if user is not None and user != order.user:
            return "not_found"
        if order.status != "PENDING" or order.paid == "SUCCESS":
            return "wrong_state"
        if order.current is not None and order.payments[order.current].status == "PENDING":
            return "wrong_state"
        order.ask(method)
        order.version += 1
        return None

    def told(self, order: PaperOrder, number: int, amount: int) -> None:
        """A provider says that it took so much; nothing means that it failed."""
        payment = order.payments[number]
        if payment.captured is not None:
            return
        if amount == 0:
            if payment.status == "PENDING":
                self.fail(order, number)
            return
        payment.captured = amount
        if amount != order.total:
            payment.refunded = amount
            self.fail(order, number)
        elif order.status == "PENDING" and order.paid != "SUCCESS":
            payment.status = "SUCCESS"
            order.paid, order.method, order.current = "SUCCESS", payment.method, number
            order.come_to("CONFIRMED")
        else:
            payment.status, payment.refunded = "SUCCESS", amount
            if order.paid == "VOID":
                order.paid, order.method, order.current = "REFUNDED", payment.method, number
                order.version += 1

    @staticmethod
    def fail(order: PaperOrder, number: int) -> None:
        order.payments[number].status = "FAILED"
        if order.current == number and order.paid == "PENDING":
            order.paid = "FAILED"
            order.version += 1

    def lapse(self) -> None:
        for order in self.orders:
            if order.late and order.status == "PENDING":
                self.go(order, "CANCELLED")

    def move(self, product: int, kind: str, pieces: int) -> str | None:
        one = self.products[product]
        if pieces == 0 or (kind == "receive" and pieces < 0):
            return "invalid"
        if one.free + pieces < 0:
            return "out_of_stock"
        one.free += pieces
        return None
