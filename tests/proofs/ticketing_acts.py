"""Acts of ticketing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from boxoffice import bought, new_event, older, ordered, people_named, reserve
from boxoffice import news as ticket_news
from boxoffice import time_out as time_out_reservations
from proofs.acting import (
    BEGIN,
    TICKETING,
    Doing,
    act,
    asked,
    chore,
    worked,
)
from strongroom.apps.ticketing import SendMail, door, events, reservations
from strongroom.apps.ticketing import orders as bookings
from strongroom.apps.ticketing.press import Press
from strongroom.core.db import Database
from strongroom.doors.worker import worker_of
from strongroom.ids import uuid7
from strongroom.main import Strongroom


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
