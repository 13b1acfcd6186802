"""Audit: whether what must hold does hold, and the switches that stop what should not go on.

Promises: a corruption of ledger, events or an application's tables is found by the next
reconciliation and pauses payouts (A1); while they are paused no payout commits (B9); the role of
the application cannot change what happened (A3); what an operator does is on record, in the
transaction of its change. Shares no code with what it checks, repairs nothing, and does not run
by itself: a door asks for it.

Invariants are named queries that return no rows; an application hands its own to the Reconciler.
"""

from strongroom.core.audit.reconcile import Reconciler, Report
from strongroom.core.audit.switches import (
    PausePayouts,
    RecordReconciliation,
    ResumePayouts,
    payouts_status,
    require_payouts,
)

__all__ = [
    "PausePayouts",
    "Reconciler",
    "RecordReconciliation",
    "Report",
    "ResumePayouts",
    "payouts_status",
    "require_payouts",
]
