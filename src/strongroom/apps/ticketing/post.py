"""The post office: a mail that is due is written and sent, once as far as anybody can know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

from strongroom.apps.ticketing.codes import Signer
from strongroom.apps.ticketing.flow import SendMail
from strongroom.apps.ticketing.orders import RecordMail
from strongroom.apps.ticketing.papers import (
    Admission,
    Booking,
    Envelope,
    cancelled_mail,
    pdf_if_possible,
    refunded_mail,
    tickets_mail,
)
from strongroom.apps.ticketing.press import Press
from strongroom.apps.ticketing.rows import MailKind, sql
from strongroom.clock import now
from strongroom.core.commands import Performed
from strongroom.core.db import Database
from strongroom.core.identity import User
from strongroom.core.mail import Mailer, MailNotTaken, MailRefused
from strongroom.errors import Busy, NotFound, StrongroomError

GIVEN_UP = timedelta(days=1)
"""A mail that no server has taken for so long is buried, for somebody to look at."""

WRITING_S = 15.0
"""A call waits so long for its mails to be written, then lets them be written on. With the time
that sending takes this is less than an errand may take, so that no mail is sent and forgotten."""

People = Callable[[list[UUID]], Awaitable[Mapping[UUID, User]]]


class StillWriting(Busy):
    """This mail is not written yet; there is much to write."""


def _write(kind: MailKind, booking: Booking, envelope: Envelope, pdf: bool) -> EmailMessage:
    if kind == "TICKETS":
        return tickets_mail(booking, envelope, pdf_if_possible(booking) if pdf else None)
    mail = cancelled_mail if kind == "CANCELLED" else refunded_mail
    return mail(booking, envelope)


class Post:
    """Performs `SendMail`: looks a mail up, writes it, hands it to the mailer."""

    def __init__(
        self,
        database: Database,
        people: People,
        mailer: Mailer,
        signer: Signer,
        *,
        attach_pdf: bool,
    ) -> None:
        self._db, self._people, self._mailer, self._signer = database, people, mailer, signer
        self._attach_pdf = attach_pdf
        self._press = Press()
        self._writing: dict[UUID, asyncio.Task[EmailMessage]] = {}

    def close(self) -> None:
        self._press.close()

    async def send(self, errands: Sequence[SendMail]) -> Sequence[Performed]:
        """Sends what has not been sent; each comes to RecordMail, or to its own failure."""
        ids = sorted({errand.mail_id for errand in errands})
        # What another worker has sent meanwhile is not waited for any more.
        self._writing = {id: task for id, task in self._writing.items() if id in ids}
        rows = {row["mail_id"]: row for row in await self._db.fetch(sql.mails_due, ids)}
        orders = sorted({row["order_id"] for row in rows.values()})
        tickets: dict[UUID, list[Admission]] = {}
        for row in await self._db.fetch(sql.tickets_of_orders, orders):
            tickets.setdefault(row["order_id"], []).append(self._admission(row))
        people = await self._people(sorted({row["user_id"] for row in rows.values()}))
        return await asyncio.gather(
            *(self._send(rows.get(errand.mail_id), tickets, people) for errand in errands)
        )

    def _admission(self, row: Any) -> Admission:
        qr = self._signer.sign(row["event_id"], row["ticket_type_id"], row["code"])
        return Admission(row["code"], qr, row["owner_name"] or "", row["type_name"], row["price"])

    async def _send(
        self,
        row: Any,
        tickets: Mapping[UUID, list[Admission]],
        people: Mapping[UUID, User],
    ) -> Performed:
        if row is None:
            return NotFound("There is no such mail.")
        called_off = row["kind"] == "TICKETS" and row["status"] != "PAID"
        if row["sent_at"] is not None or called_off:
            return None
        buyer = people.get(row["user_id"])
        if buyer is None:
            return NotFound("The buyer of this order is not there.")
        booking = Booking(
            order_id=row["order_id"],
            event_id=row["event_id"],
            event_name=row["name"],
            location=row["location"],
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            banner_url=row["banner_url"],
            total=row["amount"],
            language=row["language"],
            buyer_name=buyer.full_name,
            buyer_email=buyer.email,
            admissions=tuple(tickets.get(row["order_id"], ())),
        )
        envelope = Envelope(row["mail_id"], self._mailer.sender, row["created_at"])
        try:
            mail = await self._written(row["kind"], booking, envelope)
            await self._mailer.send(row["mail_id"], mail)
        except MailNotTaken as error:
            late = now() - row["created_at"] > GIVEN_UP
            return MailRefused(error.detail) if late else error
        except StrongroomError as error:
            return error
        return RecordMail(row["mail_id"])

    async def _written(self, kind: MailKind, booking: Booking, envelope: Envelope) -> EmailMessage:
        """The mail, written now or since the last time it was asked for; StillWriting."""
        id = envelope.mail_id
        task = self._writing.get(id)
        if task is None:
            writing = self._press.make(_write, kind, booking, envelope, self._attach_pdf)
            task = asyncio.create_task(writing)
            self._writing[id] = task
        try:
            async with asyncio.timeout(WRITING_S):
                mail = await asyncio.shield(task)
        except TimeoutError:
            raise StillWriting() from None
        except BaseException:
            self._writing.pop(id, None)
            raise
        self._writing.pop(id, None)
        return mail
