"""What a worker does beside its queues: the daily reconciliation, forgetting what is old, and
summing up what is over."""

from __future__ import annotations

from datetime import datetime

import structlog
from cronsim import CronSim

from strongroom.clock import Clock, now
from strongroom.core.audit import RecordReconciliation
from strongroom.core.commands import Ticket
from strongroom.main import Strongroom

log = structlog.get_logger(__name__)

UPKEEP_S = 30.0
"""How soon after its minute the reconciliation begins."""

FORGOTTEN_TOGETHER = 5000
"""Rows deleted in one statement: no long lock, no burst of dead rows."""


class Upkeep:
    """Asked every 30 s by the worker that leads; what two do at once is done once or harmlessly
    twice."""

    def __init__(self, house: Strongroom, clock: Clock = now) -> None:
        self._house, self._clock = house, clock
        self._due = self._next()

    def _next(self) -> datetime:
        return next(CronSim(self._house.settings.reconcile_at, self._clock()))

    async def once(self) -> None:
        """Reconciles when its time has come, and forgets what is past keeping."""
        due = self._due
        if self._clock() >= due:
            self._due = self._next()
            if not await self._house.reconciler.ran_since(due):
                await self.reconcile(due)
        for forget in self._house.forgetting:
            while await forget(FORGOTTEN_TOGETHER) == FORGOTTEN_TOGETHER:
                pass
        for tidy in self._house.tidying:
            await tidy()

    async def reconcile(self, due: datetime) -> None:
        """Checks all invariants and records the outcome; findings pause payouts with it."""
        report = await self._house.reconcile()
        if not report.clean:
            log.error("reconciliation found violations", first=str(report.findings[0]))
        key = f"reconciliation:{due.isoformat()}"
        ticket = Ticket(RecordReconciliation(report), principal="worker:upkeep", key=key)
        await self._house.executor.run([ticket])
        (await ticket.future).check()
