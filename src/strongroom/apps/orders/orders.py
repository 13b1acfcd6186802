"""Placing an order: stock is held for all of its lines, or for none; and asking for its payment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

from msgspec import UNSET

from strongroom.apps.orders.customers import add_customer, hold_phones
from strongroom.apps.orders.numbers import give_number, take_numbers
from strongroom.apps.orders.products import OutOfStock, check_there
from strongroom.apps.orders.rows import (
    CUSTOMERS,
    HISTORY,
    LINES,
    ORDERS,
    PRODUCTS,
    Customer,
    Line,
    Method,
    Order,
    OrderPayment,
    OrderPlaced,
    Product,
    payment_seen,
    pieces,
    sql,
)
from strongroom.core.commands import Command, Reply, Work
from strongroom.core.ledger import AccountKey
from strongroom.core.payments import PAYMENTS, request_payment
from strongroom.errors import NotFound, Refused, invalid, wrong_state
from strongroom.money import MAX_AMOUNT


class NotForSale(Refused):
    """This product is not sold now."""


class StockHeld(Reply, frozen=True):
    """An order was placed and its stock is held; lines as (product, quantity, unit price)."""

    order_id: UUID
    code: str
    customer_id: UUID
    total_amount: int
    lines: list[tuple[UUID, int, int]]


class PaymentAsked(Reply, frozen=True):
    """Another payment of an order was asked for, or cash."""

    order_id: UUID
    code: str
    method: Method


class Recipient(Reply, frozen=True):
    """Whom an order is for, by phone number."""

    phone: str
    name: str
    email: str | None = None
    address: str | None = None


def restate(work: Work, order: Order) -> None:
    """The order's day is read from its orders until it is rolled up again."""
    days = work.noted.setdefault("days", [])
    if not days:
        work.run_at_end(sql.restate, days)
    days.append(order.created_at)


def write_history(work: Work, order: Order, reason: str | None = None) -> None:
    """Notes the state that the order has come into."""
    row = (order.id, order.version, order.status, work.now, work.by, reason)
    work.append(HISTORY, row)
    restate(work, order)


def ask_for_payment(work: Work, order: Order, method: Method) -> None:
    """Asks for the money where there is a provider to ask: cash comes with the delivery."""
    order.payment_method = method
    order.payment_status = "PENDING" if order.total_amount else "SUCCESS"
    order.payment_id = None
    if method != "COD" and order.total_amount:
        payment = request_payment(
            work,
            payee="orders",
            order_id=order.id,
            user_id=order.user_id or order.customer_id,
            method=method,
            amount=order.total_amount,
            expires_at=order.expires_at,
        )
        order.payment_id = payment.id


@dataclass(frozen=True, slots=True)
class PlaceOrder(Command):
    """Holds stock for all lines, or for none; lines of the same product are added up, prices are
    the catalogue's. Unless it is paid or confirmed in `ttl_s` it lapses.

    For a customer who is known, or by a phone number. `anyone` may order for any customer, others
    for whom they have ordered before. Refuses with NotFound, NotForSale, OutOfStock.
    """

    user_id: UUID | None
    customer: Recipient | UUID
    lines: tuple[tuple[UUID, int], ...]
    ttl_s: int
    method: Method = "COD"
    address: str | None = None
    note: str | None = None
    anyone: bool = False
    gapless: bool = False

    reply = OrderPlaced

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[PlaceOrder]) -> None:
        wanted = sorted({product for order in batch for product, _ in order.lines})
        shelves = [(pieces(id, "free"), pieces(id, "held")) for id in wanted]
        await work.books.lock(work.db, [key for pair in shelves for key in pair])
        await work.see(PRODUCTS, sql.read_products, wanted)
        named = [order.customer.phone for order in batch if isinstance(order.customer, Recipient)]
        await hold_phones(work, named)
        await cls._note_customers(work, batch)
        # Nothing comes back within the group: what does not fit now will not fit later.
        fitting = sum(order._fits(work) for order in batch)
        if fitting:
            await take_numbers(work, fitting, gapless=any(order.gapless for order in batch))

    @staticmethod
    async def _note_customers(work: Work, batch: Sequence[PlaceOrder]) -> None:
        """Customers that are named by their id, and who has ordered for them before."""
        ids = [order.customer for order in batch if isinstance(order.customer, UUID)]
        await work.see(CUSTOMERS, sql.read_customers, ids)
        pairs = {
            (order.customer, order.user_id)
            for order in batch
            if isinstance(order.customer, UUID) and not order.anyone
        }
        work.noted["theirs"] = {}
        if pairs:
            columns = [list(column) for column in zip(*pairs, strict=True)]
            rows = await work.db.fetch(sql.customers_of_users, *columns)
            work.noted["theirs"] = {(row[0], row[1]): (row[2], row[3]) for row in rows}

    def _wanted(self) -> Counter[UUID]:
        wanted: Counter[UUID] = Counter()
        for product_id, quantity in self.lines:
            wanted[product_id] += quantity
        return wanted

    def _fits(self, work: Work) -> bool:
        free = ((work.books.find(pieces(id, "free")), n) for id, n in self._wanted().items())
        return all(account is not None and account.balance >= n for account, n in free)

    def decide(self, work: Work) -> OrderPlaced:
        wanted = self._wanted()
        products = check_there(work, wanted)
        customer = self._customer(work)
        for product in products:
            if not product.active:
                raise NotForSale(f"{product.sku} is not sold now.", {"productId": product.id})
        self._check_stock(work, products, wanted)
        total = sum(product.price * wanted[product.id] for product in products)
        if total > MAX_AMOUNT:
            raise invalid("items", "make more than a payment can carry")
        if customer is None:
            assert isinstance(self.customer, Recipient)
            customer = add_customer(
                work,
                self.customer.phone,
                self.customer.name,
                self.customer.email,
                self.customer.address,
            )
        order = self._order(work, customer, total)
        self._hold(work, order, products, wanted)
        payment: OrderPayment | Any = UNSET
        if self.method != "COD":
            payment = payment_seen(
                order.payment_method, order.payment_status, order.id, order.payment_id
            )
        return OrderPlaced(order.id, order.code, order.status, order.total_amount, payment)

    def _customer(self, work: Work) -> Customer | None:
        """The customer, None when there is none of this phone number yet."""
        if isinstance(self.customer, Recipient):
            known: Customer | None = work.noted["phones"].get(self.customer.phone)
            return known
        theirs = self.anyone or (self.customer, self.user_id) in work.noted["theirs"]
        found = work.find(CUSTOMERS, self.customer)
        if found is None or not theirs:
            raise NotFound(f"There is no customer {self.customer} of yours.")
        return found

    @staticmethod
    def _check_stock(work: Work, products: Iterable[Product], wanted: Counter[UUID]) -> None:
        short = []
        for product in products:
            free = work.books[pieces(product.id, "free")].balance
            if free < wanted[product.id]:
                short.append((product, wanted[product.id], free))
        if short:
            said = [f"of {p.sku} {free} are free, {asked} are wanted" for p, asked, free in short]
            text = "; ".join(said)
            raise OutOfStock(
                f"{text[0].upper()}{text[1:]}.",
                {
                    "short": [
                        {"productId": p.id, "sku": p.sku, "wanted": asked, "available": free}
                        for p, asked, free in short
                    ]
                },
            )

    def _order(self, work: Work, customer: Customer, total: int) -> Order:
        id = work.new_id()
        code = give_number(work, id)
        name, address = self._said(work, customer)
        order = Order(
            id=id,
            code=code,
            user_id=self.user_id,
            customer_id=customer.id,
            customer_name=name,
            phone=customer.phone,
            address=self.address or address,
            note=self.note,
            status="PENDING",
            total_amount=total,
            payment_method=self.method,
            payment_status="PENDING",
            payment_id=None,
            version=1,
            expires_at=(work.now + timedelta(seconds=self.ttl_s)).astimezone(UTC),
            created_at=work.now,
        )
        ask_for_payment(work, order, self.method)
        return work.add(ORDERS, order)

    def _said(self, work: Work, customer: Customer) -> tuple[str, str | None]:
        """Name and address that the order copies: what is said now, or was said by the same user
        the last time; an operator may use what is known."""
        if isinstance(self.customer, Recipient):
            return self.customer.name, self.customer.address
        if self.anyone:
            return customer.name, customer.address
        said: tuple[str, str | None] = work.noted["theirs"][self.customer, self.user_id]
        return said

    @staticmethod
    def _hold(work: Work, order: Order, products: Iterable[Product], wanted: Counter[UUID]) -> None:
        lines = []
        for product in products:
            line = Line(order.id, product.id, wanted[product.id], product.price)
            lines.append(line)
            work.append(LINES, line)
            work.books.move(
                work.new_id(),
                f"HOLD:{order.id}:{product.id}",
                work.books[pieces(product.id, "free")],
                work.books[pieces(product.id, "held")],
                line.quantity,
                ("HOLD", "HOLD"),
                by=work.by,
                reference=order.code,
            )
        write_history(work, order)
        work.emit(
            "orders.OrderPlaced",
            order.id,
            StockHeld(
                order.id,
                order.code,
                order.customer_id,
                order.total_amount,
                [(line.product_id, line.quantity, line.unit_price) for line in lines],
            ),
        )


@dataclass(frozen=True, slots=True)
class PayOrder(Command):
    """Asks for the payment of an order that waits for one: the first, another one after a failed
    one, or cash instead. Refuses with NotFound and WrongState."""

    order_id: UUID
    user_id: UUID | None
    method: Method

    reply = OrderPlaced

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[PayOrder]) -> None:
        await work.lock(ORDERS, [pay.order_id for pay in batch])
        under_way = [order.payment_id for order in work.held(ORDERS) if order.payment_id]
        await work.lock(PAYMENTS, under_way)

    def decide(self, work: Work) -> OrderPlaced:
        order = work.get(ORDERS, self.order_id)
        if self.user_id is not None and order.user_id != self.user_id:
            raise NotFound()
        if order.status != "PENDING":
            raise wrong_state(order.status)
        if order.payment_status == "SUCCESS":
            raise wrong_state("PENDING, and nothing is due")
        payment = order.payment_id and work.find(PAYMENTS, order.payment_id)
        if payment and payment.status == "PENDING":
            raise wrong_state("a payment that is under way")
        ask_for_payment(work, order, self.method)
        order.version += 1
        work.change(ORDERS, order)
        asked = PaymentAsked(order.id, order.code, order.payment_method)
        work.emit("orders.PaymentAsked", order.id, asked)
        seen = payment_seen(order.payment_method, order.payment_status, order.id, order.payment_id)
        return OrderPlaced(order.id, order.code, order.status, order.total_amount, seen)


async def hold_orders(
    work: Work, ids: Iterable[UUID], more: Sequence[AccountKey] = ()
) -> list[Order]:
    """Locks orders with their lines, all accounts of their products before, and `more`."""
    wanted = sorted(set(ids))
    lines = [Line(*row) for row in await work.db.fetch(sql.lines_of, wanted)]
    keys = {pieces(x.product_id, shelf) for x in lines for shelf in ("free", "held", "sold")}
    await work.books.lock(work.db, [*keys, *more])
    await work.lock(ORDERS, wanted)
    for line in lines:
        work.get(ORDERS, line.order_id).lines.append(line)
    return work.held(ORDERS)
