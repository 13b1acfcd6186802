"""At the door: a ticket admits once, and every scan is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from strongroom.apps.ticketing.codes import BadSignature, MalformedPass, UnknownKey, normalise
from strongroom.apps.ticketing.rows import SCANS, TICKETS, AdmissionTicket, ScanResult, sql
from strongroom.core.commands import Command, Reply, Work
from strongroom.errors import NotFound, Refused

BAD_PASSES = {kind.code: kind for kind in (MalformedPass, UnknownKey, BadSignature)}

CLOCK_SKEW = timedelta(minutes=5)
"""A gate's clock may be ahead of ours by this much."""


class AlreadyCheckedIn(Refused):
    """This ticket was used before."""


class TicketCancelled(Refused):
    """This ticket is not valid any more; its payment was refunded."""


class CheckedIn(Reply, frozen=True):
    """The ticket admits, now and only now."""

    status: Literal["CHECKED_IN"]
    checked_in_at: datetime
    gate: str | None
    ticket_id: UUID
    ticket_type_id: UUID
    event_id: UUID
    owner_name: str | None

    @property
    def subject(self) -> UUID:
        return self.ticket_id


class TicketCheckedIn(Reply, frozen=True):
    """Somebody came in with a ticket."""

    ticket_id: UUID
    event_id: UUID
    gate: str | None


async def _hold_tickets(work: Work, codes: Sequence[str]) -> None:
    """Locks the tickets with these codes, and notes which is whose."""
    rows = await work.db.fetch(sql.ticket_ids_of_codes, sorted(set(codes)))
    work.noted["tickets"] = {row["code"]: row["id"] for row in rows}
    await work.lock(TICKETS, [row["id"] for row in rows])


def _ticket(work: Work, code: str) -> AdmissionTicket | None:
    id = work.noted["tickets"].get(code)
    return work.find(TICKETS, id) if id else None


def _admit(work: Work, ticket: AdmissionTicket, at: datetime, gate: str | None) -> None:
    ticket.status, ticket.checked_in_at, ticket.gate = "CHECKED_IN", at, gate
    work.change(TICKETS, ticket)
    work.emit(
        "ticketing.TicketCheckedIn", ticket.id, TicketCheckedIn(ticket.id, ticket.event_id, gate)
    )


def first_scan(ticket: AdmissionTicket) -> dict[str, Any]:
    at = ticket.checked_in_at
    return {"checkedInAt": at and at.astimezone(UTC), "gate": ticket.gate}


@dataclass(frozen=True, slots=True)
class CheckIn(Command):
    """Admits with a ticket, once. A refused scan is kept as well, and so is a pass that `bad_pass`,
    the code of a BadPass, says is none of ours.

    Refuses with BadPass, NotFound, TicketCancelled, AlreadyCheckedIn, which says when and where.
    """

    code: str
    gate: str | None = None
    bad_pass: str | None = None

    reply = CheckedIn

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CheckIn]) -> None:
        await _hold_tickets(work, [scan.code for scan in batch])

    def decide(self, work: Work) -> CheckedIn:
        if self.bad_pass:
            self._note(work, None, "FORGED")
            raise BAD_PASSES[self.bad_pass]()
        ticket = _ticket(work, self.code)
        if ticket is None:
            self._note(work, None, "UNKNOWN")
            raise NotFound()
        if ticket.status == "CANCELLED":
            self._note(work, ticket, "CANCELLED")
            raise TicketCancelled()
        if ticket.status == "CHECKED_IN":
            self._note(work, ticket, "ALREADY_CHECKED_IN")
            first = first_scan(ticket)
            where = f" at gate {ticket.gate}" if ticket.gate else ""
            said = f"This ticket was checked in at {first['checkedInAt'].isoformat()}{where}."
            raise AlreadyCheckedIn(said, {"firstScan": first})
        _admit(work, ticket, work.now, self.gate)
        self._note(work, ticket, "ADMITTED")
        return CheckedIn(
            "CHECKED_IN",
            work.now.astimezone(UTC),
            self.gate,
            ticket.id,
            ticket.ticket_type_id,
            ticket.event_id,
            ticket.owner_name,
        )

    def _note(self, work: Work, ticket: AdmissionTicket | None, result: ScanResult) -> None:
        id = work.new_id()
        row = (
            id,
            f"online:{id}",
            ticket.id if ticket else None,
            ticket.event_id if ticket else None,
            self.code,
            self.gate,
            result,
            False,
            work.now,
            work.by,
        )
        work.append(SCANS, row, though_refused=True)


@dataclass(frozen=True, slots=True)
class OfflineScan:
    """One scan of a gate that was cut off. `scan_key` is the gate's own name for it; `forged` says
    that a signed code did not stand up to its signature."""

    scan_key: str
    code: str
    scanned_at: datetime
    gate: str | None = None
    forged: bool = False

    @property
    def name(self) -> str:
        """What makes it this scan: gates that count from 1 have the same keys, for whatever
        tickets."""
        return f"{self.gate or ''}:{self.scan_key}:{normalise(self.code) or self.code}"


class ScanOutcome(Reply, frozen=True):
    """What came of an offline scan. `first_scan` is there when somebody else came before."""

    scan_key: str
    result: ScanResult
    replayed: bool = False
    first_scan: dict[str, Any] | None = None


class ScansRecorded(Reply, frozen=True):
    """Outcomes in the order of the scans; `double_entries` counts those let in a second time."""

    results: list[ScanOutcome]
    double_entries: int


@dataclass(frozen=True, slots=True)
class RecordScans(Command):
    """Takes in what gates scanned while they were cut off, the earliest first.

    They let in whoever showed a genuine code, so a second scan of a ticket is an entry too: it is
    reported, not refused. A scan that was uploaded before counts once.
    """

    scans: tuple[OfflineScan, ...]

    reply = ScansRecorded
    group_limit = 4

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[RecordScans]) -> None:
        scans = [scan for upload in batch for scan in upload.scans]
        await _hold_tickets(work, [normalise(scan.code) or "" for scan in scans])
        names = sorted({scan.name for scan in scans})
        rows = await work.db.fetch(sql.scans_known, names)
        work.noted["known"] = {row["scan_key"]: row["result"] for row in rows}

    def decide(self, work: Work) -> ScansRecorded:
        order = sorted(range(len(self.scans)), key=lambda i: (self.scans[i].scanned_at, i))
        outcomes = {i: self._take(work, self.scans[i]) for i in order}
        results = [outcomes[i] for i in range(len(self.scans))]
        double = sum(one.result == "ALREADY_CHECKED_IN" and not one.replayed for one in results)
        return ScansRecorded(results, double)

    def _take(self, work: Work, scan: OfflineScan) -> ScanOutcome:
        known: dict[str, ScanResult] = work.noted["known"]
        if scan.name in known:
            return ScanOutcome(scan.scan_key, known[scan.name], replayed=True)
        code = normalise(scan.code)
        ticket = _ticket(work, code) if code else None
        at = min(scan.scanned_at, work.now + CLOCK_SKEW)
        first = first_scan(ticket) if ticket and ticket.status == "CHECKED_IN" else None
        result = self._result(ticket, scan)
        if ticket and result == "ADMITTED":
            _admit(work, ticket, at, scan.gate)
        known[scan.name] = result
        row = (
            work.new_id(),
            scan.name,
            ticket.id if ticket else None,
            ticket.event_id if ticket else None,
            code or scan.code,
            scan.gate,
            result,
            True,
            at,
            work.by,
        )
        work.append(SCANS, row)
        return ScanOutcome(scan.scan_key, result, first_scan=first)

    @staticmethod
    def _result(ticket: AdmissionTicket | None, scan: OfflineScan) -> ScanResult:
        if scan.forged:
            return "FORGED"
        if ticket is None:
            return "UNKNOWN"
        if ticket.status == "CANCELLED":
            return "CANCELLED"
        return "ALREADY_CHECKED_IN" if ticket.status == "CHECKED_IN" else "ADMITTED"
