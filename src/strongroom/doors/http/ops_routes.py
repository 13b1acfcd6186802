"""For operators: the kill switch, reconciliation, the trial balance, the state of things."""

from __future__ import annotations

from datetime import datetime

import msgspec

from strongroom.clock import now
from strongroom.core.audit import (
    PausePayouts,
    RecordReconciliation,
    ResumePayouts,
    payouts_status,
)
from strongroom.core.audit.reconcile import Reconciled
from strongroom.core.audit.switches import PayoutsSeen
from strongroom.core.events import depths
from strongroom.doors.http.bodies import Body, StepBody
from strongroom.doors.http.fields import Reason
from strongroom.doors.http.routing import Call, Route, Routes


class ReasonBody(Body):
    reason: Reason


class QueueDepth(msgspec.Struct, rename="camel"):
    """How much waits in a queue."""

    queue: str
    waiting: int
    oldest_s: int


class OpsStatus(msgspec.Struct, rename="camel"):
    """The switches and the queues."""

    payouts_paused: bool
    since: datetime | None
    by: str
    reason: str
    queues: list[QueueDepth]


class TrialLine(msgspec.Struct, rename="camel"):
    """All accounts of one purpose together."""

    unit: str
    purpose: str
    accounts: int
    balance: int


class TrialBalance(msgspec.Struct, rename="camel"):
    """All that is owed and held; each unit's total is zero."""

    as_of: datetime
    items: list[TrialLine]
    totals: dict[str, int]


async def status(call: Call) -> OpsStatus:
    switch = await payouts_status(call.house.database)
    queues = [QueueDepth(*row) for row in await depths(call.house.database)]
    return OpsStatus(switch.payouts_paused, switch.since, switch.by, switch.reason, queues)


async def reconcile(call: Call) -> RecordReconciliation:
    return RecordReconciliation(await call.house.reconcile())


async def one_reconciliation(call: Call) -> Reconciled:
    return await call.house.reconciler.find(call.id("id"))


async def trial_balance(call: Call) -> TrialBalance:
    rows = await call.house.statements.trial_balance()
    items = [
        TrialLine(row["unit"], row["purpose"], row["accounts"], row["balance"]) for row in rows
    ]
    totals: dict[str, int] = {}
    for item in items:
        totals[item.unit] = totals.get(item.unit, 0) + item.balance
    return TrialBalance(rows[0]["as_of"] if rows else now(), items, totals)


OPS: Routes = [
    Route(
        "GET",
        "/api/ops/status",
        "operator",
        200,
        "Switches and queues.",
        None,
        OpsStatus,
        read=status,
        limited="never",
    ),
    Route(
        "POST",
        "/api/ops/payouts/pause",
        "operator",
        200,
        "No payout commits from now on.",
        ReasonBody,
        PayoutsSeen,
        command=lambda call: PausePayouts(call.body.reason),
        limited="never",
    ),
    Route(
        "POST",
        "/api/ops/payouts/resume",
        "operator",
        200,
        "Payouts go on, after a clean reconciliation.",
        ReasonBody,
        PayoutsSeen,
        command=lambda call: ResumePayouts(call.body.reason),
        problems=("reconciliation_needed",),
        limited="never",
    ),
    Route(
        "POST",
        "/api/ops/reconciliations",
        "operator",
        200,
        "Checks all invariants; a finding pauses payouts.",
        StepBody,
        Reconciled,
        command=reconcile,
        steps=True,
        limited="never",
    ),
    Route(
        "GET",
        "/api/ops/reconciliations/{id}",
        "operator",
        200,
        "What a reconciliation found.",
        None,
        Reconciled,
        read=one_reconciliation,
        limited="never",
    ),
    Route(
        "GET",
        "/api/ops/trial-balance",
        "operator",
        200,
        "All balances by unit and purpose; each unit sums to zero.",
        None,
        TrialBalance,
        read=trial_balance,
    ),
]
