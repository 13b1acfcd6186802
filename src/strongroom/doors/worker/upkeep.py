"""What a worker does beside its queues: the reconciliations, sealing what they have read,
forgetting what is old, and summing up what is over."""

from __future__ import annotations

from datetime import datetime, timedelta

from cronsim import CronSim

from strongroom.clock import Clock, now
from strongroom.core.audit import RecordReconciliation
from strongroom.core.audit.reconcile import FULL, INCREMENTAL, Mode, Report
from strongroom.core.commands import Ticket
from strongroom.main import Strongroom

UPKEEP = "worker:upkeep"

UPKEEP_S = 30.0
"""How soon after its minute the reconciliation begins."""

FORGOTTEN_TOGETHER = 5000
"""Rows deleted in one statement: no long lock, no burst of dead rows."""

AGAIN = timedelta(minutes=15)
"""How long after a run that failed the next one begins: it may have read the whole ledger."""

SHORT_MS = 60_000
"""While a full run takes no longer, nothing is saved by asking less."""


class Upkeep:
    """Asked every 30 s by the worker that leads; what two do at once is done once or harmlessly
    twice."""

    def __init__(self, house: Strongroom, clock: Clock = now) -> None:
        self._house, self._clock = house, clock
        self._unpaused: Report | None = None
        self._due = self._next(house.settings.reconcile_at)
        self._full_due = self._next(house.settings.reconcile_full_at)

    def _next(self, line: str) -> datetime:
        return next(CronSim(line, self._clock()))

    async def once(self) -> None:
        """Reconciles when its time has come, and forgets what is past keeping."""
        await self._pause_if_wrong()
        await self._reconcile_when_due()
        for forget in self._house.forgetting:
            while await forget(FORGOTTEN_TOGETHER) == FORGOTTEN_TOGETHER:
                pass
        for tidy in self._house.tidying:
            await tidy()

    async def _reconcile_when_due(self) -> None:
        settings, reconciler = self._house.settings, self._house.reconciler
        full_due, due = self._full_due, self._due
        again = self._clock() + AGAIN  # unless it comes to its end
        if self._clock() >= full_due:
            self._full_due = again
            if not await reconciler.ran_since(full_due, full=True):
                await self.reconcile(full_due)
            self._full_due = self._next(settings.reconcile_full_at)
        if self._clock() >= due:
            self._due = again
            if not await reconciler.ran_since(due):
                took = await reconciler.full_run_ms()
                await self.reconcile(due, FULL if took is None or took < SHORT_MS else INCREMENTAL)
            self._due = self._next(settings.reconcile_at)

    async def reconcile(self, due: datetime, mode: Mode = "full") -> None:
        """Looks, records the outcome, with which findings pause payouts, and seals what was
        clean."""
        run = await self._house.look(mode)
        self._unpaused = run.report
        await self._pause_if_wrong()
        key = f"reconciliation:{due.isoformat()}"
        ticket = Ticket(RecordReconciliation(run.report), principal=UPKEEP, key=key)
        await self._house.executor.run([ticket])
        (await ticket.future).check()
        await self._house.seal(run)

    async def _pause_if_wrong(self) -> None:
        """Until it is done: who cannot pause payouts now tries again when next asked."""
        if self._unpaused is not None:
            await self._house.pause_if_wrong(self._unpaused, UPKEEP)
            self._unpaused = None
