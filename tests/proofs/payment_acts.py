"""Acts of payments: the bank is asked, and says something."""

from __future__ import annotations

import contextlib

from boxoffice import PAGE, new_event, ordered
from proofs.acting import (
    DELIVERIES,
    QUERIES,
    Doing,
    act,
    asked,
    chore,
    worked,
)
from shopping import Ask
from storefront import new_product, place
from strongroom.apps.ticketing import events
from strongroom.core.db import Database
from strongroom.core.payments.callbacks import ReceiveCallback
from strongroom.core.payments.charges import RecordCharge, RecordRefund
from strongroom.core.payments.flow import CreateCharge, QueryPayment, SendRefund
from strongroom.core.payments.sandbox import DeliverCallbacks
from strongroom.doors.worker import worker_of
from strongroom.errors import Refused
from strongroom.main import Strongroom

CARD = "9704000000004000"


@act("payments_charge", CreateCharge, ReceiveCallback)
async def charge(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    await ordered(house, (show.type, 2))
    return worked("payments_charge")


@act("payments_charge", CreateCharge)
async def charge_at_a_page(house: Strongroom, owner: Database) -> Doing:
    """The bank has taken it on, and waits for the buyer."""
    await house.run(Ask(PAGE))
    return worked("payments_charge")


@act(RecordCharge)
async def record_charge(house: Strongroom, owner: Database) -> Doing:
    made = await house.run(Ask(PAGE))
    return asked(RecordCharge(made.payment_id, "REF-1", "https://bank.example/pay"))


@act("payments_refund", SendRefund, RecordRefund)
async def send_refund(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 9)
    await ordered(house, (show.type, 2))
    await drained_of_money(house)
    await house.run(events.CancelEvent(show.id))
    await worker_of(house).work_once("ticketing_cancel")
    return worked("payments_refund")


async def drained_of_money(house: Strongroom) -> None:
    """The bank was asked, has paid, and was heard."""
    worker = worker_of(house)
    for queue in ("payments_charge", "ticketing_pay", "orders_pay"):
        await worker.work_once(queue)


@act(ReceiveCallback, said_again=True)
async def receive_callback(house: Strongroom, owner: Database) -> Doing:
    """Without a key: a callback that comes twice is kept twice."""
    show = await new_event(house, 5, price=PAGE)
    one = await ordered(house, (show.type, 1))
    await worker_of(house).work_once("payments_charge")
    payment = await house.payments.payment(one.payment)
    body = (
        f'{{"paymentId":"{payment.id}","result":"SUCCESS","amount":{payment.amount},'
        '"providerRef":"SBX-1","number":1}'
    ).encode()
    headers = (("x-sandbox-signature", house.payments.sandbox.sign(body)),)
    return asked(house.payments.received("sandbox", headers, body))


@act(QUERIES, QueryPayment, ReceiveCallback, said_again=True)
async def ask_the_bank(house: Strongroom, owner: Database) -> Doing:
    """It has taken the money and has said nothing."""
    product = await new_product(house, 9, price=54_008)
    await place(house, (product, 1), method="MOMO")
    await worker_of(house).work_once("payments_charge")
    await owner.fetch("UPDATE payments.payments SET next_query_at = now() - interval '1 s'")
    return chore(3)


@act(DELIVERIES, DeliverCallbacks, ReceiveCallback, said_again=True)
async def deliver_callbacks(house: Strongroom, owner: Database) -> Doing:
    product = await new_product(house, 9, price=54_002)
    await place(house, (product, 1), method="MOMO")
    await worker_of(house).work_once("payments_charge")
    late = "UPDATE payments.sandbox_charges SET due_at = now() - interval '1 s'"
    await owner.fetch(late)
    return chore(4)


@act(ReceiveCallback, said_again=True)
async def pay_with_a_card(house: Strongroom, owner: Database) -> Doing:
    """At the bank's own page."""
    made = await house.run(Ask(PAGE))
    await worker_of(house).work_once("payments_charge")

    async def do(house: Strongroom) -> None:
        payment = await house.payments.payment(made.payment_id)
        with contextlib.suppress(Refused):
            await house.payments.sandbox.decide(payment, CARD)
        # What a crash left undone is taken up by the chore.
        await chore(4)(house)

    return do
