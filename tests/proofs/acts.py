"""Every command and every step of the worker as an act: the world before it, and how it is done.

An act is prepared once and then done again and again, each time on a copy of that world, by
whoever tries to break it in the middle. It is done with the same key each time; whether its effect
is there is told by the whole database (see `books.py`), so no act has to say what its effect is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import past_orders
from boxoffice import PAGE, bought, new_event, older, ordered, people_named, reserve
from boxoffice import news as ticket_news
from boxoffice import time_out as time_out_reservations
from playing import bet, drained, new_round, open_users, ticket
from shopping import Ask
from storefront import buyer, new_product, open_tills, payment_of, place, take
from storefront import tell as tell_order
from storefront import time_out as time_out_orders
from strongroom.apps.betting import (
    CancelBet,
    CloseRound,
    CreateRound,
    PlaceBet,
    RecordResult,
    VoidRound,
    bets,
    rounds,
    settlement,
)
from strongroom.apps.orders import customers, products, steps
from strongroom.apps.orders import orders as sales
from strongroom.apps.orders.rollups import make_partitions, roll_once
from strongroom.apps.ticketing import SendMail, door, events, forget_reservations, reservations
from strongroom.apps.ticketing import orders as bookings
from strongroom.apps.ticketing.press import Press
from strongroom.apps.wallets import (
    BatchItem,
    Deposit,
    ReverseTransfer,
    Transfer,
    TransferBatch,
    Withdraw,
)
from strongroom.core.audit import PausePayouts, RecordReconciliation, ResumePayouts
from strongroom.core.audit.reconcile import Finding, Report
from strongroom.core.commands import Command, Outcome
from strongroom.core.commands.work import forget_answers
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters
from strongroom.core.payments.callbacks import ReceiveCallback
from strongroom.core.payments.charges import RecordCharge, RecordRefund
from strongroom.core.payments.flow import CreateCharge, QueryPayment, SendRefund
from strongroom.core.payments.sandbox import DeliverCallbacks
from strongroom.doors.worker import worker_of
from strongroom.doors.worker.upkeep import Upkeep
from strongroom.doors.worker.worker import Worker
from strongroom.errors import NotFound, Refused
from strongroom.ids import uuid7
from strongroom.main import SUBSCRIBERS, Strongroom

KEY = "the-same-each-time"

BEGIN = datetime(2099, 1, 1, 20, tzinfo=UTC)
CARD = "9704000000004000"

Doing = Callable[[Strongroom], Awaitable[Outcome | None]]
"""Does the act in a house; the outcome of a command that a caller waits for."""

Prepare = Callable[[Strongroom, Database], Awaitable[Doing]]


class Act(NamedTuple):
    """`covers`: the commands, errands, queues and chores that are done in it, all of them.
    `said_again`: it has no key, and is told again when it is asked for again: a provider's words,
    an edit to what is there already. All else happens once.
    `breaks`: the invariants that its world breaks, because something in it was made up."""

    name: str
    prepare: Prepare
    covers: frozenset[object]
    said_again: bool = False
    breaks: tuple[str, ...] = ()


ACTS: dict[str, Act] = {}


def act(
    *covers: object, said_again: bool = False, breaks: tuple[str, ...] = ()
) -> Callable[[Prepare], Prepare]:
    def note(prepare: Prepare) -> Prepare:
        name = prepare.__name__
        ACTS[name] = Act(name, prepare, frozenset(covers), said_again, breaks)
        return prepare

    return note


# Ways to do one -----------------------------------------------------------------------------------


def asked(command: Command) -> Doing:
    """By somebody who waits for the answer, with a key where the command takes one."""

    async def do(house: Strongroom) -> Outcome:
        key = None if command.idempotent else KEY
        return await house.lanes.run(ticket(command, key))

    return do


def worked(queue: str) -> Doing:
    """By a worker that finds messages in its queue."""

    async def do(house: Strongroom) -> None:
        await worker_of(house).work_once(queue)

    return do


def worked_through(queue: str) -> Doing:
    """By a worker that also works what follows in the same queue, as it would after a crash."""

    async def do(house: Strongroom) -> None:
        worker = worker_of(house)
        while await worker.work_once(queue):
            pass

    return do


def chore(number: int) -> Doing:
    """By the clock: one of the house's chores."""

    async def do(house: Strongroom) -> None:
        await Worker(
            house.database,
            house.executor,
            house.transport,
            SUBSCRIBERS,
            [house.chores[number]],
            performers=house.performers,
        ).chores_once()

    return do


def kept_up(work: Callable[[Strongroom], Awaitable[object]]) -> Doing:
    """By the worker that leads, now and then."""

    async def do(house: Strongroom) -> None:
        await work(house)

    return do


BETTING, TICKETING, ORDERS, QUERIES, DELIVERIES = (f"chore {n}" for n in range(5))
"""The house's chores, in their order."""


# Wallets ------------------------------------------------------------------------------------------


@act(Deposit)
async def deposit(house: Strongroom, owner: Database) -> Doing:
    [ann] = await open_users(house, 1, 1000)
    return asked(Deposit(ann, 500, "by bank"))


@act(Withdraw)
async def withdraw(house: Strongroom, owner: Database) -> Doing:
    [ann] = await open_users(house, 1, 1000)
    return asked(Withdraw(ann, 300))


@act(Withdraw)
async def withdraw_too_much(house: Strongroom, owner: Database) -> Doing:
    """A refusal by a rule is kept and replayed as well."""
    [ann] = await open_users(house, 1, 1000)
    return asked(Withdraw(ann, 3000))


@act(Transfer)
async def transfer(house: Strongroom, owner: Database) -> Doing:
    ann, bob = await open_users(house, 2, 1000)
    return asked(Transfer(ann, bob, 300))


@act(ReverseTransfer)
async def reverse(house: Strongroom, owner: Database) -> Doing:
    ann, bob = await open_users(house, 2, 1000)
    done = await house.run(Transfer(ann, bob, 300))
    return asked(ReverseTransfer(done.transfer_id, "a slip"))


@act(TransferBatch)
async def transfer_batch(house: Strongroom, owner: Database) -> Doing:
    ann, bob, cho = await open_users(house, 3, 1000)
    items = (
        BatchItem("a", ann, bob, 700),
        BatchItem("b", bob, cho, 1700),
        BatchItem("c", ann, cho, 700),
    )
    return asked(TransferBatch("independent", items))


@act(TransferBatch)
async def transfer_batch_whole(house: Strongroom, owner: Database) -> Doing:
    ann, bob = await open_users(house, 2, 1000)
    items = (BatchItem("a", ann, bob, 700), BatchItem("b", bob, ann, 1700))
    return asked(TransferBatch("atomic", items))


# Betting ------------------------------------------------------------------------------------------


async def table(house: Strongroom, **more: Any) -> tuple[UUID, list[UUID]]:
    """A round with three bets, two of which can meet in part; nobody has worked yet."""
    users = await open_users(house, 3, 1000)
    round = await new_round(house, fee_bps=250, **more)
    for user, side, amount in zip(users, "ABA", (400, 600, 300), strict=True):
        await bet(house, round, user, side, amount)
    return round, users


@act(CreateRound)
async def create_round(house: Strongroom, owner: Database) -> Doing:
    return asked(CreateRound("the final", "coinflip", BEGIN, 250))


@act(PlaceBet)
async def place_bet(house: Strongroom, owner: Database) -> Doing:
    [ann] = await open_users(house, 1, 1000)
    return asked(PlaceBet(ann, await new_round(house), "A", 400))


@act(CancelBet)
async def cancel_bet(house: Strongroom, owner: Database) -> Doing:
    """What is matched stays, what is open goes back."""
    round, users = await table(house)
    await drained(house)
    late = await bet(house, round, users[2], "A", 100)
    return asked(CancelBet(users[2], late))


@act(CloseRound)
async def close_round(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    return asked(CloseRound(round))


@act(BETTING, CloseRound)
async def close_on_time(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    past = "UPDATE betting.rounds SET closes_at = now() - interval '1 s' WHERE id = $1"
    await owner.fetch(past, round)
    return chore(0)


@act(RecordResult)
async def record_result(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await drained(house)
    return asked(RecordResult(round, "A"))


@act(RecordResult)
async def record_void(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await drained(house)
    return asked(RecordResult(round, "VOID"))


@act(VoidRound)
async def void_round(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await drained(house)
    return asked(VoidRound(round))


@act("betting_match", settlement.MatchRound)
async def match(house: Strongroom, owner: Database) -> Doing:
    await table(house)
    return worked("betting_match")


@act("betting_match", settlement.MatchRound)
async def match_the_last(house: Strongroom, owner: Database) -> Doing:
    """After the close, with a result known: what follows is refunds and payments."""
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await house.run(RecordResult(round, "B"))
    return worked("betting_match")


async def decided(house: Strongroom, winner: str = "A") -> UUID:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await drained(house)
    await house.run(RecordResult(round, winner))  # type: ignore[arg-type]
    return round


@act("betting_settle", settlement.SettleMatches, rounds.FinishRound)
async def settle(house: Strongroom, owner: Database) -> Doing:
    await decided(house)
    return worked_through("betting_settle")


@act("betting_settle", settlement.SettleMatches, rounds.FinishRound)
async def settle_in_two_chunks(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await drained(house)
    ann, bob = await open_users(house, 2, 1000)
    for user, side in ((ann, "A"), (bob, "B")):
        await bet(house, round, user, side, 500)
    await drained(house)
    await house.run(CloseRound(round))
    await drained(house)
    chunk, rounds.CHUNK = rounds.CHUNK, 1
    await house.run(RecordResult(round, "B"))
    rounds.CHUNK = chunk
    return worked_through("betting_settle")


@act("betting_settle", settlement.SettleMatches, rounds.FinishRound)
async def settle_while_paused(house: Strongroom, owner: Database) -> Doing:
    """The messages start over, and nothing is paid."""
    await decided(house)
    await house.run(PausePayouts("a drill"))
    return worked("betting_settle")


@act("betting_settle", rounds.FinishRound)
async def finish_round(house: Strongroom, owner: Database) -> Doing:
    await decided(house)
    await worker_of(house).work_once("betting_settle")
    return worked("betting_settle")


@act("betting_settle", settlement.UndoMatches)
async def undo(house: Strongroom, owner: Database) -> Doing:
    await decided(house, "VOID")
    return worked("betting_settle")


@act("betting_refund", bets.RefundRound)
async def refund_the_rest(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await worker_of(house).work_once("betting_match")
    return worked("betting_refund")


@act("betting_refund", bets.RefundRound)
async def refund_a_void(house: Strongroom, owner: Database) -> Doing:
    await decided(house, "VOID")
    await worker_of(house).work_once("betting_settle")
    return worked("betting_refund")


@act(BETTING, bets.RefundRound)
async def refund_who_waited(house: Strongroom, owner: Database) -> Doing:
    await table(house)
    await drained(house)
    await owner.fetch("UPDATE betting.bets SET created_at = created_at - interval '1 hour'")
    return chore(0)


# Ticketing ----------------------------------------------------------------------------------------


@act(events.CreateEvent)
async def create_event(house: Strongroom, owner: Database) -> Doing:
    return asked(events.CreateEvent("Hội An", "Phố cổ", BEGIN, BEGIN + timedelta(hours=3)))


@act(events.EditEvent, said_again=True)
async def edit_event(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    return asked(events.EditEvent(show.id, name="Huế", location="Đại Nội"))


@act(events.PublishEvent)
async def publish_event(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5, publish=False)
    return asked(events.PublishEvent(show.id))


@act(events.CancelEvent)
async def cancel_event(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    await bought(house, (show.type, 2))
    return asked(events.CancelEvent(show.id))


@act(events.EndEvent)
async def end_event(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    return asked(events.EndEvent(show.id))


@act(TICKETING, events.EndWhenOver)
async def end_when_over(house: Strongroom, owner: Database) -> Doing:
    await new_event(house, 5)
    await older(owner, 40)
    return chore(1)


@act(events.AddTicketType)
async def add_ticket_type(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    return asked(events.AddTicketType(show.id, "ghế đầu", 900_000, 7))


@act(events.EditTicketType, said_again=True)
async def edit_ticket_type(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    return asked(events.EditTicketType(show.id, show.type, price=90_000, quantity=9))


@act(reservations.ReserveSeats)
async def reserve_seats(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5, 5, per_user_limit=4)
    lines = tuple((type, 2) for type in show.types)
    return asked(reservations.ReserveSeats(uuid7(), lines, 600))


@act(reservations.ReserveSeats)
async def reserve_what_expired(house: Strongroom, owner: Database) -> Doing:
    """Seats whose time is over are taken back for who asks now."""
    show = await new_event(house, 3)
    await reserve(house, uuid7(), (show.type, 3))
    await time_out_reservations(owner)
    return asked(reservations.ReserveSeats(uuid7(), ((show.type, 2),), 600))


@act(reservations.ReleaseReservation)
async def release(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 3)
    user = uuid7()
    held = await reserve(house, user, (show.type, 3))
    return asked(reservations.ReleaseReservation(user, held.reservation_id))


@act(TICKETING, reservations.ExpireReservations)
async def expire(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 9)
    await reserve(house, uuid7(), (show.type, 3))
    await ordered(house, (show.type, 2))
    await time_out_reservations(owner)
    return chore(1)


@act(bookings.CompleteBooking)
async def complete_booking(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    user = uuid7()
    held = await reserve(house, user, (show.type, 2))
    return asked(bookings.CompleteBooking(user, held.reservation_id, "MOMO", "Bưởi"))


@act(bookings.CompleteBooking)
async def complete_a_gift(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5, price=0)
    user = uuid7()
    held = await reserve(house, user, (show.type, 2))
    return asked(bookings.CompleteBooking(user, held.reservation_id, "MOMO"))


REFUSED = 54_001
"""A price that the bank refuses."""


async def notified(house: Strongroom, seats: int, price: int = 500_000) -> None:
    """Tickets are ordered, the bank was asked and has answered, and nobody has heard it."""
    show = await new_event(house, 5, price=price)
    await ordered(house, (show.type, seats))
    await worker_of(house).work_once("payments_charge")


@act("ticketing_pay", bookings.RecordPayment)
async def sell_tickets(house: Strongroom, owner: Database) -> Doing:
    await notified(house, 2)
    return worked("ticketing_pay")


@act("ticketing_pay", bookings.RecordPayment)
async def refuse_payment(house: Strongroom, owner: Database) -> Doing:
    await notified(house, 1, REFUSED)
    return worked("ticketing_pay")


@act("ticketing_pay", bookings.RecordPayment)
async def sell_too_late(house: Strongroom, owner: Database) -> Doing:
    """The time was over and the seats are another's: all of the money goes back."""
    show = await new_event(house, 2)
    await ordered(house, (show.type, 2))
    await worker_of(house).work_once("payments_charge")
    await time_out_reservations(owner)
    await reserve(house, uuid7(), (show.type, 2))
    return worked("ticketing_pay")


@act(bookings.RecordPayment)
async def hear_of_payment(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 5)
    one = await ordered(house, (show.type, 2))
    return asked(ticket_news(one.payment, one.amount))


@act("ticketing_cancel", bookings.CancelOrders)
async def cancel_orders(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 9)
    await bought(house, (show.type, 2))
    await ordered(house, (show.type, 1))
    await house.run(events.CancelEvent(show.id))
    return worked("ticketing_cancel")


class _Desk(Press):
    """Papers are written here and not by a process of their own, which takes a second to begin
    and has no statements."""

    async def make(self, paper: Any, *args: Any, **_: Any) -> Any:
        return paper(*args)


@act("ticketing_mail", SendMail, bookings.RecordMail)
async def send_mail(house: Strongroom, owner: Database) -> Doing:
    [user] = await people_named(owner, 1)
    show = await new_event(house, 5)
    await bought(house, (show.type, 1), user=user)

    async def do(house: Strongroom) -> None:
        house.post._press = _Desk()
        await worked("ticketing_mail")(house)

    return do


async def admission(house: Strongroom) -> str:
    show = await new_event(house, 5)
    one = await bought(house, (show.type, 1))
    query = "SELECT code FROM ticketing.tickets WHERE order_id = $1"
    return str(await house.database.fetchval(query, one.order))


@act(door.CheckIn)
async def check_in(house: Strongroom, owner: Database) -> Doing:
    return asked(door.CheckIn(await admission(house), "north"))


@act(door.CheckIn)
async def check_in_again(house: Strongroom, owner: Database) -> Doing:
    """Refused, and the scan is kept with the refusal."""
    code = await admission(house)
    await house.run(door.CheckIn(code, "south"))
    return asked(door.CheckIn(code, "north"))


@act(door.RecordScans)
async def record_scans(house: Strongroom, owner: Database) -> Doing:
    code = await admission(house)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    scans = tuple(door.OfflineScan(name, code, at, "north") for name in ("1", "2"))
    return asked(door.RecordScans(scans))


# Payments -----------------------------------------------------------------------------------------


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


# Orders -------------------------------------------------------------------------------------------


@act(products.CreateProduct)
async def create_product(house: Strongroom, owner: Database) -> Doing:
    return asked(products.CreateProduct("SKU-1", "Áo dài", 300_000))


@act(products.EditProduct)
async def edit_product(house: Strongroom, owner: Database) -> Doing:
    return asked(products.EditProduct(await new_product(house), price=70_000, name="Nón lá"))


@act(products.MoveStock)
async def receive_stock(house: Strongroom, owner: Database) -> Doing:
    return asked(products.MoveStock(await new_product(house), "receive", 40, "a delivery"))


@act(products.MoveStock)
async def adjust_stock(house: Strongroom, owner: Database) -> Doing:
    return asked(products.MoveStock(await new_product(house), "adjust", -40, "moths"))


@act(customers.CreateCustomer)
async def create_customer(house: Strongroom, owner: Database) -> Doing:
    return asked(customers.CreateCustomer("+84901234567", "Trần Thị Bưởi"))


@act(customers.EditCustomer, said_again=True)
async def edit_customer(house: Strongroom, owner: Database) -> Doing:
    made = await house.run(customers.CreateCustomer("+84901234567", "Trần Thị Bưởi"))
    return asked(customers.EditCustomer(made.customer_id, address="Huế"))


@act(sales.PlaceOrder)
async def place_order(house: Strongroom, owner: Database) -> Doing:
    lines = [(await new_product(house, 9), 2) for _ in range(2)]
    return asked(sales.PlaceOrder(uuid7(), buyer(), tuple(lines), 3600, "MOMO"))


@act(sales.PlaceOrder)
async def place_order_without_gaps(house: Strongroom, owner: Database) -> Doing:
    product = await new_product(house, 9)
    return asked(sales.PlaceOrder(uuid7(), buyer(), ((product, 2),), 3600, gapless=True))


@act(sales.PayOrder)
async def pay_order(house: Strongroom, owner: Database) -> Doing:
    product, user = await new_product(house, 9), uuid7()
    placed = await place(house, (product, 1), user=user, method="MOMO")
    await tell_order(house, placed.order_id, "FAILED", amount=0)
    return asked(sales.PayOrder(placed.order_id, user, "MOMO"))


async def in_cash(house: Strongroom, *taken: steps.Step) -> UUID:
    await open_tills(house)
    placed = await place(house, (await new_product(house, 9), 2))
    if taken:
        await take(house, placed.order_id, *taken)
    return placed.order_id


@act(steps.TakeStep)
async def confirm(house: Strongroom, owner: Database) -> Doing:
    return asked(steps.TakeStep(await in_cash(house), "confirm"))


@act(steps.TakeStep)
async def ship(house: Strongroom, owner: Database) -> Doing:
    return asked(steps.TakeStep(await in_cash(house, "confirm"), "ship"))


@act(steps.TakeStep)
async def deliver(house: Strongroom, owner: Database) -> Doing:
    return asked(steps.TakeStep(await in_cash(house, "confirm", "ship"), "deliver"))


@act(steps.TakeStep)
async def bring_back(house: Strongroom, owner: Database) -> Doing:
    order = await in_cash(house, "confirm", "ship", "deliver")
    return asked(steps.TakeStep(order, "return"))


@act(steps.TakeStep)
async def cancel_what_is_paid(house: Strongroom, owner: Database) -> Doing:
    placed = await place(house, (await new_product(house, 9), 2), method="MOMO")
    await drained_of_money(house)
    return asked(steps.TakeStep(placed.order_id, "cancel", reason="changed my mind"))


@act(ORDERS, steps.LapseOrders)
async def lapse(house: Strongroom, owner: Database) -> Doing:
    product = await new_product(house, 9)
    for number in range(2):
        await place(house, (product, 2), customer=buyer(number))
    await time_out_orders(owner)
    return chore(2)


@act("orders_pay", steps.RecordPayment)
async def confirm_what_is_paid(house: Strongroom, owner: Database) -> Doing:
    await place(house, (await new_product(house, 9), 2), method="MOMO")
    await worker_of(house).work_once("payments_charge")
    return worked("orders_pay")


@act(steps.RecordPayment)
async def hear_of_no_payment(house: Strongroom, owner: Database) -> Doing:
    placed = await place(house, (await new_product(house, 9), 2), method="MOMO")
    payment = await payment_of(house, placed.order_id)
    return asked(steps.RecordPayment(payment, "FAILED", 0, "REF"))


@act("roll_up")
async def roll_up(house: Strongroom, owner: Database) -> Doing:
    """Two days of orders, one of them summed up before."""
    today = date.today()
    shop = await past_orders.open_shop(owner, today - timedelta(days=5))
    for days in (2, 3):
        at = past_orders.at(today - timedelta(days=days))
        await past_orders.placed(owner, shop, at, 1, 2)
    await roll_once(owner, rest_s=0)
    await past_orders.placed(owner, shop, past_orders.at(today - timedelta(days=2)), 3)
    return kept_up(lambda house: roll_once(house.database, 10, rest_s=0))


@act("make_partitions")
async def make_months(house: Strongroom, owner: Database) -> Doing:
    last = "SELECT max(relid::text) FROM pg_partition_tree('orders.orders') WHERE isleaf"
    await owner.fetch(f"DROP TABLE {await owner.fetchval(last)}")
    return kept_up(lambda house: make_partitions(house.database))


# Audit and upkeep ---------------------------------------------------------------------------------


def report(*findings: Finding) -> Report:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Report(uuid7(), not findings, list(findings), at, 1)


@act(PausePayouts)
async def pause(house: Strongroom, owner: Database) -> Doing:
    return asked(PausePayouts("a drill"))


@act(ResumePayouts)
async def resume(house: Strongroom, owner: Database) -> Doing:
    await house.run(PausePayouts("a drill"))
    await house.run(RecordReconciliation(await house.reconcile()))
    return asked(ResumePayouts("the drill is over"))


@act(RecordReconciliation)
async def record_a_finding(house: Strongroom, owner: Database) -> Doing:
    """The report and the pause are one."""
    found = report(Finding("entries_sum_to_zero", "they must", [{"transfer": 1}]))
    return asked(RecordReconciliation(found))


@act(RecordReconciliation)
async def reconcile(house: Strongroom, owner: Database) -> Doing:
    due = datetime(2026, 1, 1, 2, tzinfo=UTC)
    return kept_up(lambda house: Upkeep(house).reconcile(due))


@act("forget_answers", breaks=("effects_have_one_answer",))
async def forget_old_answers(house: Strongroom, owner: Database) -> Doing:
    await open_users(house, 3, 1000)
    await owner.fetch("UPDATE commands.answers SET created_at = now() - interval '90 days'")
    days = house.settings.key_retention_days
    return kept_up(lambda house: forget_answers(house.database, days, 100))


@act("forget_used_once")
async def forget_used_tokens(house: Strongroom, owner: Database) -> Doing:
    [user] = await people_named(owner, 1)
    await owner.fetch(
        "WITH s AS (INSERT INTO identity.sessions (id, user_id, refresh_hash, expires_at)"
        " VALUES ($1, $2, '\\x01', now() - interval '1 day') RETURNING id)"
        " INSERT INTO identity.used_refresh_tokens (refresh_hash, session_id, used_at)"
        " SELECT '\\x02', id, now() - interval '90 days' FROM s",
        uuid7(),
        user,
    )
    return kept_up(lambda house: house.identity.forget_used_once(100))


@act("forget_reservations")
async def forget_old_reservations(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 3)
    user = uuid7()
    held = await reserve(house, user, (show.type, 3))
    await house.run(reservations.ReleaseReservation(user, held.reservation_id))
    await older(owner, 90)
    await owner.fetch("UPDATE ticketing.reservations SET ended_at = now() - interval '90 days'")
    return kept_up(lambda house: forget_reservations(house.database, 100))


# Messages that fail -------------------------------------------------------------------------------


MADE_UP = ("queues_balance", "dead_letters_were_written")
"""Of a message that no event became."""


@act("bury", breaks=MADE_UP)
async def bury_what_is_unreadable(house: Strongroom, owner: Database) -> Doing:
    await owner.fetch("""SELECT pgmq.send('betting_match', '{"no": "event"}')""")
    return worked("betting_match")


@act("bury", breaks=MADE_UP)
async def bury_what_always_fails(house: Strongroom, owner: Database) -> Doing:
    """The last attempt of a message that no worker can react to."""
    await fails(owner, attempts=50)
    return worked("betting_match")


@act("postpone", breaks=MADE_UP)
async def postpone_what_fails(house: Strongroom, owner: Database) -> Doing:
    await fails(owner, attempts=0)
    return worked("betting_match")


async def fails(owner: Database, attempts: int) -> None:
    """A message of an event that says nothing of its round."""
    id = uuid7()
    await owner.fetch(
        "SELECT pgmq.send('betting_match', jsonb_build_object('id', $1::uuid, 'type',"
        " 'betting.BetPlaced', 'key', $1::uuid, 'seq', 1, 'payload', '{}'::jsonb))",
        id,
    )
    await owner.fetch("UPDATE pgmq.q_betting_match SET read_ct = $1", attempts)


def ended(ending: Any) -> Prepare:
    async def prepare(house: Strongroom, owner: Database) -> Doing:
        await bury_what_always_fails(house, owner)
        await worker_of(house).work_once("betting_match")
        [row] = await DeadLetters(house.database).list()

        async def do(house: Strongroom) -> None:
            # Who asks again is told that it was done.
            with contextlib.suppress(NotFound):
                await DeadLetters(house.database).end(row["id"], ending)

        return do

    prepare.__name__ = f"dead_letter_{ending}"
    return prepare


for ending in ("retried", "discarded"):
    act("dead letters", breaks=MADE_UP)(ended(ending))
