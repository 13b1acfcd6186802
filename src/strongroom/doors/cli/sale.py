"""The demo's event: from its draft until it is sold out, scanned at the door, and proved."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from email import message_from_bytes
from email.policy import default as policy
from pathlib import Path
from typing import Any

from strongroom.clock import monotonic, now
from strongroom.doors.cli.burst import Bettor, until_answered
from strongroom.doors.cli.client import Answer, Connection
from strongroom.doors.cli.rush import Kind, Purchase, Rush, Seats
from strongroom.errors import StrongroomError
from strongroom.main import Strongroom

EVENT = {"name": "Đêm nhạc mùa thu Hà Nội", "location": "Cung Văn hóa Hữu nghị, Hà Nội"}
TICKET_TYPES = (("Hạng phổ thông", 450_000, 4), ("Hạng VIP", 1_500_000, 1))
"""Name, price, and how many fifths of the seats."""

LIMIT = 6
"""Seats a user, of each ticket type."""

SEATS_PER_BUYER = 10 / 3
"""Who want four on average: not all of them get what they want."""

AHEAD = timedelta(days=30)
LASTS = timedelta(hours=3)

MAIL_S = 20.0
"""Mails are written by a process that yields to all others: on a slow machine not all of them come
while the demo lasts, and it says how many did."""

LOOK_S = 0.25

Ask = Callable[[str, dict[str, Any]], Awaitable[Answer]]
"""Posts as an operator, under a new key."""


class SaleFailed(StrongroomError):
    """The event could not be put on sale."""


class Sale:
    """One event on one running instance."""

    def __init__(self, house: Strongroom, address: tuple[str, int], ask: Ask, seed: int) -> None:
        self._house, self._address, self._ask, self._seed = house, address, ask, seed
        self.rush = Rush(address, [], [], seed)
        self._event: dict[str, Any] = {}
        self._buyers = self._mails = 0
        self._mails_awaited = False

    async def run(self, buyers: int) -> None:
        """Drafts an event, publishes it, and lets all buyers come at once."""
        made = await self._house.identity.create_users(buyers, "user")
        starts_at = now().replace(microsecond=0) + AHEAD
        times = {"startsAt": starts_at.isoformat(), "endsAt": (starts_at + LASTS).isoformat()}
        path = f"/api/events/{(await self._post('/api/events', EVENT | times))['eventId']}"
        fifth = max(1, round(buyers * SEATS_PER_BUYER / 5))
        for name, price, fifths in TICKET_TYPES:
            body = {"name": name, "price": price, "quantity": fifth * fifths}
            await self._post(f"{path}/ticket-types", body | {"perUserLimit": LIMIT})
        self._event = await self._post(f"{path}/publish", {})
        kinds = [
            Kind(one["ticketTypeId"], one["name"], one["price"], one["quantity"])
            for one in self._event["ticketTypes"]
        ]
        people = [Bettor(*one) for one in made]
        self._buyers = buyers
        self.rush = Rush(self._address, kinds, people, self._seed)
        await self.rush.run()

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self._ask(path, body)
        if answer.status >= 300:
            raise SaleFailed(f"POST {path}: {answer.status} {answer.body.decode()}")
        return answer.json()

    # Showing --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Reads where the seats are, and how many mails there are."""
        self._mails = len(self.mails())
        found = Seats()
        for row in await self._house.statements.trial_balance():
            if row["unit"].startswith("SEAT:") and row["purpose"] in ("free", "held", "sold"):
                count = getattr(found, row["purpose"]) + int(row["balance"])
                setattr(found, row["purpose"], count)
        self.rush.seats = found

    def line(self) -> str:
        """For a log."""
        if self._mails_awaited:
            return f"{self._mails} of {self.rush.bought} mails"
        return f"{self.rush.line()}; {self._mails} mails"

    def rows(self) -> Iterator[tuple[str, str]]:
        """For a terminal."""
        if not self.rush.quantity:
            return
        yield from self.rush.rows()
        yield "mails with tickets", f"{self._mails:,} of {self.rush.bought:,}"

    # Proving --------------------------------------------------------------------------------

    async def prove(self) -> dict[str, Any]:
        """The rush counted by its buyers' bookings and by the ledger; a ticket scanned twice;
        papers to look at."""
        await self.look()
        rush, (p50_ms, p99_ms) = self.rush, self.rush.reserve_ms()
        codes: set[str] = set()
        promised = missing = 0
        for purchase in rush.purchases:
            found = {one["code"] for one in purchase.booking.get("tickets", ())}
            codes |= found
            promised += purchase.quantity
            missing += max(0, purchase.quantity - len(found))
        told: dict[str, Any] = {
            "buyers": self._buyers,
            "bought": rush.bought,
            "refused": rush.refused,
            "unresolved": rush.unresolved,
            "seats": rush.quantity,
            "free": rush.seats.free,
            "held": rush.seats.held,
            "sold": rush.seats.sold,
            "oversold": max(0, promised - rush.quantity),
            "tickets": len(codes),
            "missingTickets": missing,
            "reservationsPerSecond": round(rush.per_second),
            "reserveP50Ms": round(p50_ms, 2),
            "reserveP99Ms": round(p99_ms, 2),
        }
        mailed = await self._mailed()
        if mailed:
            told["checkIn"] = await self._check_in(mailed)
            told["open"] = await self._papers(mailed)
        told["mailsQueued"], told["mailsSent"] = rush.bought, self._mails
        return told | {"fine": _is_fine(told)}

    async def _check_in(self, purchase: Purchase) -> dict[str, Any]:
        """The first ticket of a purchase at one gate, and again at another."""
        code = purchase.booking["tickets"][0]["code"]
        path = f"/api/tickets/{code}/check-in"
        first = (await self._ask(path, {"gate": "Cổng A"})).json()
        second = (await self._ask(path, {"gate": "Cổng B"})).json()
        return {
            "ticket": code,
            "status": first.get("status"),
            "secondScan": second.get("code"),
            "firstScan": second.get("firstScan"),
        }

    def mails(self) -> list[Path]:
        """What lies in the folder of mails."""
        return sorted((self._house.settings.data_dir / "mail").glob("*.eml"))

    async def _mailed(self) -> Purchase | None:
        """Waits for the mails, and answers whose is the first; None when none came."""
        patience, self._mails_awaited = monotonic() + MAIL_S, True
        while (sent := len(self.mails())) < self.rush.bought and monotonic() < patience:
            self._mails = sent
            await asyncio.sleep(LOOK_S)
        self._mails = sent
        for path in self.mails()[:1]:
            to = str(message_from_bytes(path.read_bytes(), policy=policy)["To"])
            for purchase in self.rush.purchases:
                if str(purchase.buyer.user_id) in to and purchase.booking.get("tickets"):
                    return purchase
        return None

    async def _papers(self, purchase: Purchase) -> dict[str, str]:
        """Copies that stay when all else is removed: the mail, and its first ticket as a page."""
        folder = Path(tempfile.mkdtemp(prefix="strongroom-papers-"))
        mail, ticket = folder / "mail.eml", folder / "ticket.html"
        mail.write_bytes(self.mails()[0].read_bytes())
        code, token = purchase.booking["tickets"][0]["code"], purchase.buyer.token
        connection = Connection(*self._address)
        asked = await until_answered(connection, "GET", f"/api/tickets/{code}.html", token)
        connection.close()
        if asked.answer is None or asked.answer.status != 200:
            raise SaleFailed(f"There is no page of ticket {code}.")
        ticket.write_bytes(asked.answer.body)
        event = f"/api/events/{self._event['slug']}"
        return {"ticket": str(ticket), "mail": str(mail), "event": event}


def _is_fine(told: dict[str, Any]) -> bool:
    return bool(told["tickets"]) and all(fine for fine, _ in proof_lines(told))


def proof_lines(told: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """What `prove` found, for people: whether it is as it should be, and what it is."""
    yield (
        # Nobody was told "sold out" while there was a seat.
        not told["unresolved"] and not (told["refused"] and told["free"]),
        f"{told['buyers']:,} buyers at once, {told['reservationsPerSecond']:,} answers a second, "
        f"p99 {told['reserveP99Ms']:.0f} ms: {told['bought']:,} bought, "
        f"{sum(told['refused'].values()):,} found nothing left",
    )
    yield (
        told["sold"] + told["free"] == told["seats"] and not told["held"] + told["oversold"],
        f"{told['seats']:,} seats: {told['sold']:,} sold, {told['held']:,} held, "
        f"{told['free']:,} free, {told['oversold']:,} oversold",
    )
    yield (
        not told["missingTickets"] and told["tickets"] == told["sold"],
        f"{told['tickets']:,} tickets in their buyers' bookings, {told['missingTickets']:,} "
        f"missing; {told['mailsSent']:,} of {told['mailsQueued']:,} mails so far",
    )
    scan = told.get("checkIn")
    if not scan:
        yield False, "no mail with tickets came"
        return
    first = scan["firstScan"] or {}
    yield (
        scan["secondScan"] == "already_checked_in",
        f"ticket {scan['ticket']} came in once; again: {scan['secondScan']} "
        f"({str(first.get('checkedInAt'))[11:19]}, {first.get('gate')})",
    )
