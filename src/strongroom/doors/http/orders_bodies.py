"""What the writes of orders and inventory take, and how it becomes commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from strongroom.apps.orders.customers import CreateCustomer, EditCustomer, normalise
from strongroom.apps.orders.orders import PayOrder, PlaceOrder, Recipient
from strongroom.apps.orders.products import (
    LOW_STOCK_AT,
    MOST_PIECES,
    CreateProduct,
    EditProduct,
    MoveStock,
)
from strongroom.apps.orders.rows import Method
from strongroom.apps.orders.steps import Step, TakeStep
from strongroom.doors.http.bodies import Body, StepBody
from strongroom.doors.http.fields import PRINTABLE, Name, Reason
from strongroom.doors.http.routing import Call
from strongroom.errors import invalid
from strongroom.money import MAX_AMOUNT

MOST_LINES = 100
"""Products in one order; a larger one is several."""

Sku = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*(?!\n)$")
]
Price = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
Pieces = Annotated[int, Meta(ge=1, le=MOST_PIECES)]
Change = Annotated[int, Meta(ge=-MOST_PIECES, le=MOST_PIECES)]
Threshold = Annotated[int, Meta(ge=0, le=MOST_PIECES)]
Phone = Annotated[str, Meta(min_length=7, max_length=30, pattern=r"^[+0-9(][+0-9 ().\-/]*(?!\n)$")]
Email = Annotated[str, Meta(max_length=254, pattern=r"^[!#-;A-~?]+@[A-Za-z0-9.-]+(?!\n)$")]
Address = Annotated[str, Meta(min_length=1, max_length=500, pattern=PRINTABLE)]
Note = Annotated[str, Meta(min_length=1, max_length=1000, pattern=PRINTABLE)]


class ProductBody(Body):
    sku: Sku
    name: Name
    price: Price
    active: bool = True
    low_stock_at: Threshold = LOW_STOCK_AT


class ProductChange(Body):
    """What is given changes."""

    sku: Sku | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    low_stock_at: Threshold | UnsetType = UNSET


class StockBody(Body):
    """`adjust` takes a signed quantity."""

    kind: Literal["receive", "adjust"]
    quantity: Change
    reason: Reason


class CustomerBody(Body):
    name: Name
    phone: Phone
    email: Email | None = None
    address: Address | None = None


class CustomerChange(Body):
    """What is given changes; null clears what may be missing."""

    name: Name | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    address: Address | UnsetType | None = UNSET


class OrderLineBody(Body):
    product_id: UUID
    quantity: Pieces


class OrderBody(Body):
    """For a `customer` by phone number, or for one that is known by `customerId`."""

    items: Annotated[list[OrderLineBody], Meta(min_length=1, max_length=MOST_LINES)]
    customer: CustomerBody | UnsetType = UNSET
    customer_id: UUID | UnsetType = UNSET
    payment_method: Method = "COD"
    address: Address | None = None
    note: Note | None = None


class PayBody(Body):
    payment_method: Method


class StepReason(StepBody):
    reason: Reason | None = None


# Commands ---------------------------------------------------------------------------------------


def create_product(call: Call) -> CreateProduct:
    return CreateProduct(**msgspec.structs.asdict(call.body))


def edit_product(call: Call) -> EditProduct:
    return EditProduct(call.id("id"), **msgspec.structs.asdict(call.body))


def move_stock(call: Call) -> MoveStock:
    body: StockBody = call.body
    return MoveStock(call.id("id"), body.kind, body.quantity, body.reason)


def create_customer(call: Call) -> CreateCustomer:
    body: CustomerBody = call.body
    return CreateCustomer(normalise(body.phone), body.name, body.email, body.address)


def edit_customer(call: Call) -> EditCustomer:
    return EditCustomer(call.id("id"), **msgspec.structs.asdict(call.body))


def place_order(call: Call) -> PlaceOrder:
    body: OrderBody = call.body
    settings = call.house.settings
    _check_method(call, body.payment_method)
    return PlaceOrder(
        user_id=call.principal.user_id,
        customer=_customer(body),
        lines=tuple((line.product_id, line.quantity) for line in body.items),
        ttl_s=settings.order_payment_ttl_s,
        method=body.payment_method,
        address=body.address,
        note=body.note,
        anyone=call.principal.role == "operator",
        gapless=settings.order_codes == "gapless",
    )


def _customer(body: OrderBody) -> Recipient | UUID:
    said, id = body.customer, body.customer_id
    if isinstance(said, CustomerBody) and id is UNSET:
        return Recipient(normalise(said.phone), said.name, said.email, said.address)
    if isinstance(id, UUID) and said is UNSET:
        return id
    raise invalid("customer", "or customerId is needed, and one of them only")


def _check_method(call: Call, method: Method) -> None:
    if method != "COD":
        call.house.payments.check_method(method)


def pay_order(call: Call) -> PayOrder:
    body: PayBody = call.body
    _check_method(call, body.payment_method)
    return PayOrder(call.id("id"), _whose(call), body.payment_method)


def step(step: Step) -> Callable[[Call], TakeStep]:
    """The command of a step's route."""

    def command(call: Call) -> TakeStep:
        return TakeStep(call.id("id"), step, _whose(call), call.body.reason)

    return command


def _whose(call: Call) -> UUID | None:
    """Whose order it has to be; anybody's for an operator."""
    return None if call.principal.role == "operator" else call.principal.user_id
