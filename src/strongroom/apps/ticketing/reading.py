"""What is shown: events to everybody, bookings to their buyers, reports to operators."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import replace

from strongroom.apps.ticketing.catalogue import Catalogue
from strongroom.apps.ticketing.codes import Signer, key_id, key_pem, key_text
from strongroom.apps.ticketing.orders import payment_seen
from strongroom.apps.ticketing.papers import Admission, Booking, pdf_tickets
from strongroom.apps.ticketing.press import Press
from strongroom.apps.ticketing.reports import People, Reports
from strongroom.apps.ticketing.rows import LineSeen, PaymentSeen, ReservationSeen, TicketStatus
from strongroom.apps.ticketing.rows import sql as rows_sql
from strongroom.apps.ticketing.seen import BookingSeen, OrderSeen, PublicKey, TicketSeen, sql
from strongroom.core.db import Connection, Database, Record
from strongroom.core.payments import Payment, Refund, see_payments, see_refunds
from strongroom.errors import NotFound

SIGNED_AT_ONCE = 50
"""Signatures made on the event loop: some three milliseconds. An order may have a thousand."""


Paid = tuple[Payment, Refund | None]


class Paper(NamedTuple):
    """What the papers of one ticket are made of."""

    booking: Booking
    ticket_status: TicketStatus
    event_status: str
    changed_at: datetime


class _Parts(NamedTuple):
    """What belongs to a page of orders, by order."""

    lines: dict[UUID, list[LineSeen]]
    payments: dict[UUID, PaymentSeen]
    tickets: dict[UUID, list[TicketSeen]]


class Reading:
    """The room's reads. Holds no lock; what it shows was committed."""

    def __init__(
        self, database: Database, people: People, signer: Signer, *, deadline_s: float
    ) -> None:
        self._db, self._signer = database, signer
        self.catalogue = Catalogue(database, deadline_s=deadline_s)
        self.reports = Reports(database, people)
        self._press = Press()

    def close(self) -> None:
        self._press.close()

    async def pdf(self, booking: Booking) -> bytes:
        """The tickets as a PDF; PdfMissing, or Overloaded."""
        return await self._press.make(pdf_tickets, booking)

    @property
    def public_key(self) -> PublicKey:
        """What a scanner verifies passes with, without a network."""
        key = self._signer.public_key
        return PublicKey("Ed25519", key_id(key).hex(), key_text(key), key_pem(key))

    async def reservation(self, user_id: UUID, reservation_id: UUID) -> ReservationSeen:
        """A user's own reservation; another's is not found."""
        row = await self._db.fetchrow(sql.reservation_seen, reservation_id)
        if row is None or row["user_id"] != user_id:
            raise NotFound()
        lines = await self._db.fetch(rows_sql.lines_of, [reservation_id])
        return ReservationSeen(
            reservation_id=row["id"],
            event_id=row["event_id"],
            status=row["status"],
            expires_at=row["expires_at"],
            total_amount=row["total_amount"],
            items=[LineSeen(x["ticket_type_id"], x["quantity"], x["unit_price"]) for x in lines],
        )

    async def bookings(self, user_id: UUID, before: UUID | None, limit: int) -> list[BookingSeen]:
        """A user's own, newest first, those with an id below `before`; one query a table, all in
        one snapshot."""
        async with (
            self._db.connection() as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            orders = await db.fetch(sql.orders_of_user, user_id, before, limit)
            found = await self._rows_of(db, orders)
        parts = await self._parts(*found)
        return [BookingSeen(**_booking(order, parts)) for order in orders]

    async def order(self, order_id: UUID, user_id: UUID | None) -> OrderSeen:
        """One order; of `user_id` alone, unless that is None."""
        async with (
            self._db.connection() as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            order = await db.fetchrow(sql.order_seen, order_id)
            if order is None or user_id not in (None, order["user_id"]):
                raise NotFound()
            found = await self._rows_of(db, [order])
        parts = await self._parts(*found)
        return OrderSeen(
            **_booking(order, parts),
            event_id=order["event_id"],
            reservation_id=order["reservation_id"],
            user_id=order["user_id"],
            owner_name=order["owner_name"],
            language=order["language"],
            late=order["late"],
            paid_at=order["paid_at"],
        )

    async def paper(self, code: str, user_id: UUID | None) -> Paper:
        """What a ticket's papers say; a ticket of `user_id` alone, unless that is None."""
        row = await self._db.fetchrow(sql.ticket_paper, code)
        if row is None or user_id not in (None, row["user_id"]):
            raise NotFound()
        ticket = Admission(
            code=row["code"],
            qr=self._signer.sign(row["event_id"], row["ticket_type_id"], row["code"]),
            owner_name=row["owner_name"] or "",
            type_name=row["type_name"],
            price=row["unit_price"],
        )
        booking = Booking(
            order_id=row["order_id"],
            event_id=row["event_id"],
            event_name=row["name"],
            location=row["location"],
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            banner_url=row["banner_url"],
            total=row["unit_price"],
            language=row["language"],
            buyer_name=row["owner_name"] or "",
            buyer_email="",
            admissions=(ticket,),
        )
        return Paper(booking, row["status"], row["event_status"], row["updated_at"])

    @staticmethod
    async def _rows_of(
        db: Connection, orders: Sequence[Record]
    ) -> tuple[list[Record], list[Paid], list[Record]]:
        """Items, payments and tickets of these orders."""
        if not orders:
            return [], [], []
        ids = [order["id"] for order in orders]
        refunds = await see_refunds(db, (order["payment_id"] for order in orders))
        return (
            await db.fetch(sql.items_of_orders, ids),
            [
                (payment, refunds.get(payment.id))
                for payment in await see_payments(db, (order["payment_id"] for order in orders))
            ],
            await db.fetch(sql.tickets_seen, ids),
        )

    async def _parts(
        self, items: list[Record], payments: list[Paid], tickets: list[Record]
    ) -> _Parts:
        lines: dict[UUID, list[LineSeen]] = defaultdict(list)
        for item in items:
            line = LineSeen(item["ticket_type_id"], item["quantity"], item["unit_price"])
            lines[item["order_id"]].append(line)
        if len(tickets) > SIGNED_AT_ONCE:
            signed = await asyncio.to_thread(self._sign, tickets)
        else:
            signed = self._sign(tickets)
        return _Parts(lines, {paid[0].id: payment_seen(*paid) for paid in payments}, signed)

    def _sign(self, tickets: list[Record]) -> dict[UUID, list[TicketSeen]]:
        signed: dict[UUID, list[TicketSeen]] = defaultdict(list)
        for row in tickets:
            type_id = row["ticket_type_id"]
            qr = self._signer.sign(row["event_id"], type_id, row["code"])
            signed[row["order_id"]].append(TicketSeen(row["code"], type_id, row["status"], qr))
        return signed


def _booking(order: Record, parts: _Parts) -> dict[str, Any]:
    payment = parts.payments[order["payment_id"]]
    return {
        "order_id": order["id"],
        "status": order["status"],
        "total_amount": order["total_amount"],
        "items": parts.lines[order["id"]],
        "payment": _closed(payment) if order["status"] != "PENDING" else payment,
        "tickets": parts.tickets[order["id"]],
        "created_at": order["created_at"],
    }


def _closed(payment: PaymentSeen) -> PaymentSeen:
    """Nobody is sent to pay for an order that is over."""
    return replace(payment, redirect_url=UNSET)
