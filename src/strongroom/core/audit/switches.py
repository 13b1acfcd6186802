"""The switch over payouts: pausing, resuming, and holding it while one pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime

from strongroom.core.audit.reconcile import Reconciled, Report, sql
from strongroom.core.commands import Command, Reply, Work
from strongroom.core.db import Database, Record
from strongroom.core.db.database import LOST, RETRYABLE
from strongroom.errors import Busy, Refused
from strongroom.ids import digest_id

PAYOUTS = "payouts"
"""The one switch there is: its row in `audit.switches`."""

SWITCH_ID = digest_id("switch", PAYOUTS)
"""The key of the switch's events."""


class PayoutsPaused(Busy):
    """Payouts are paused. Try again later, with the same key."""

    retry_after_s = 5


class ReconciliationNeeded(Refused):
    """Payouts resume only after a clean, full reconciliation that was begun after the pause."""


class PayoutsSeen(Reply, frozen=True):
    """How the switch stands, since when, by whom and why. `since` is null when its row is lost,
    which means paused."""

    payouts_paused: bool
    since: datetime | None
    by: str
    reason: str


async def require_payouts(work: Work) -> None:
    """Holds the switch shared until the transaction ends, or raises PayoutsPaused. Part of the
    fetch of whoever pays, after the accounts; a switch that cannot be read means paused."""
    try:
        paused = await work.db.fetchval(sql.share_switch, PAYOUTS)
    except (*LOST, *RETRYABLE):
        raise
    except Exception as error:
        raise PayoutsPaused() from error
    if paused is not False:
        raise PayoutsPaused()


async def payouts_status(database: Database) -> PayoutsSeen:
    """How the switch stands just now, without a lock: for showing, not for paying."""
    return _Switch(await database.fetchrow(sql.read_switch, PAYOUTS)).seen()


class _Switch:
    """The switch as its holder changes it. Who cannot find the row holds a paused one."""

    def __init__(self, row: Record | None) -> None:
        self.recorded = row is not None
        self.paused: bool = row["paused"] if row else True
        self.since: datetime | None = row["since"] if row else None
        self.by: str = row["by_whom"] if row else ""
        self.reason: str = row["reason"] if row else "The switch's row is lost."
        self.proved = False

    def seen(self) -> PayoutsSeen:
        return PayoutsSeen(self.paused, self.since, self.by, self.reason)

    def pause(self, work: Work, reason: str) -> None:
        """Keeps the first time, name and reason when it is paused already."""
        if not self.paused or not self.recorded:
            self._turn(work, True, reason)
            work.run_at_end(sql.begin_pause, work.now)
            work.emit("audit.PayoutsPaused", SWITCH_ID, self.seen())

    def resume(self, work: Work, reason: str) -> None:
        if not self.paused:
            return
        if not self.proved:
            raise ReconciliationNeeded()
        self._turn(work, False, reason)
        work.run_at_end(sql.end_pause, work.now)
        work.emit("audit.PayoutsResumed", SWITCH_ID, self.seen())

    def _turn(self, work: Work, paused: bool, reason: str) -> None:
        self.recorded = True
        self.paused, self.since, self.by, self.reason = paused, work.now, work.by, reason
        work.run_at_end(sql.set_switch, PAYOUTS, paused, work.now, work.by, reason)


async def _hold(work: Work) -> _Switch:
    """Waits for all who pay, and keeps others from paying until the transaction ends."""
    await work.db.execute(sql.end_hanging_payers)
    switch = _Switch(await work.db.fetchrow(sql.hold_switch, PAYOUTS))
    work.noted["switch"] = switch
    return switch


@dataclass(frozen=True, slots=True)
class PausePayouts(Command):
    """Stops settlements and withdrawals; when it has committed, no payout commits any more."""

    reason: str

    reply = PayoutsSeen
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[PausePayouts]) -> None:
        await _hold(work)

    def decide(self, work: Work) -> PayoutsSeen:
        switch: _Switch = work.noted["switch"]
        switch.pause(work, self.reason)
        return switch.seen()


@dataclass(frozen=True, slots=True)
class ResumePayouts(Command):
    """Lets payouts go on. Refuses with ReconciliationNeeded unless the newest full reconciliation
    begun after the pause was clean; changes nothing when they are not paused."""

    reason: str

    reply = PayoutsSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[ResumePayouts]) -> None:
        switch = await _hold(work)
        if switch.paused and switch.since:
            switch.proved = bool(await work.db.fetchval(sql.newest_verdict, switch.since))

    def decide(self, work: Work) -> PayoutsSeen:
        switch: _Switch = work.noted["switch"]
        switch.resume(work, self.reason)
        return switch.seen()


class ReconciliationDone(Reply, frozen=True):
    """A reconciliation was recorded: the names of the invariants that do not hold."""

    clean: bool
    violated: list[str]


@dataclass(frozen=True, eq=False)
class RecordReconciliation(Command):
    """Keeps a run's report; one with findings pauses payouts in the same transaction.

    The report is no field, because fields are compared under an idempotency key: who asks again
    with the same key has run again, made the same request all the same, and gets the first answer.
    """

    report: InitVar[Report]

    reply = Reconciled

    def __post_init__(self, report: Report) -> None:
        self.__dict__["_report"] = report

    @property
    def kept(self) -> Report:
        found: Report = self.__dict__["_report"]
        return found

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[RecordReconciliation]) -> None:
        if not all(command.kept.clean for command in batch):
            await _hold(work)

    def decide(self, work: Work) -> Reconciled:
        report = self.kept
        if not report.clean:
            switch: _Switch = work.noted["switch"]
            switch.pause(work, report.reason)
        work.run_at_end(sql.record_reconciliation, *report.columns(work.by))
        violated = [finding.invariant for finding in report.findings]
        work.emit("audit.Reconciled", report.id, ReconciliationDone(report.clean, violated))
        return Reconciled(report.id, report.clean, report.findings, report.duration_ms)
