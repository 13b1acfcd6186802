"""For operators: switches and limits, reconciliation, dead letters, the state of things."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from strongroom.clock import now
from strongroom.core.audit import (
    PausePayouts,
    RecordReconciliation,
    ResumePayouts,
    payouts_status,
)
from strongroom.core.audit.actions import NEWEST, Action, actions
from strongroom.core.audit.limits import LimitSeen, SetLimit, Value, changed_limits
from strongroom.core.audit.queues import (
    ENDED_TOGETHER,
    DeadLettersEnded,
    EndDeadLetters,
    PauseQueue,
    QueueSeen,
    QueueStanding,
    ResumeQueue,
    queue_standings,
)
from strongroom.core.audit.reconcile import Reconciled
from strongroom.core.audit.switches import PayoutsSeen
from strongroom.core.events import depths
from strongroom.doors.http.bodies import Body, StepBody
from strongroom.doors.http.fields import Moment, Name, Reason
from strongroom.doors.http.questions import YEARS
from strongroom.doors.http.routing import Call, Route, Routes
from strongroom.errors import invalid

UNSET_REASON = "put back"
"""A DELETE has no body to give one in; the query may."""


class ReasonBody(Body):
    reason: Reason


class QueueDepth(msgspec.Struct, rename="camel"):
    """How much waits in a queue, and whether it is meant to."""

    queue: str
    waiting: int
    oldest_s: int
    paused: bool


class QueueList(msgspec.Struct, rename="camel"):
    """All queues."""

    items: list[QueueStanding]


class LimitBody(Body):
    value: Value
    reason: Reason


class LimitStanding(msgspec.Struct, rename="camel"):
    """A limit: what holds, and what the setting says; those of lanes have none. `since`, `by` and
    `reason` where an operator has changed it."""

    name: str
    value: Value
    setting: Value | None
    changed: bool
    since: datetime | None = None
    by: str | None = None
    reason: str | None = None


class LimitList(msgspec.Struct, rename="camel"):
    """All limits that settings have, and those of lanes that were changed."""

    items: list[LimitStanding]


class DeadLettersBody(Body):
    """Which dead letters are meant; what is left out takes any."""

    queue: Name | None = None
    type: Name | None = None
    before: Moment | None = None
    error_like: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=ENDED_TOGETHER)] = ENDED_TOGETHER
    reason: Reason | None = None


class ActionPage(msgspec.Struct, rename="camel"):
    """What operators did, newest first."""

    items: list[Action]
    next_cursor: str | None


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


async def queues(call: Call) -> QueueList:
    return QueueList(await queue_standings(call.house.database))


async def limits(call: Call) -> LimitList:
    configured = call.house.configured_limits
    changed = {one.name: one for one in await changed_limits(call.house.database)}
    found = []
    for name in sorted({*configured, *changed}):
        seen, setting = changed.get(name), configured.get(name)
        if seen is not None and seen.value is not None:
            who = (seen.since, seen.by, seen.reason)
            found.append(LimitStanding(name, seen.value, setting, True, *who))
        elif setting is not None:
            found.append(LimitStanding(name, setting, setting, False))
    return LimitList(found)


def unset(call: Call) -> SetLimit:
    try:
        reason = msgspec.convert(call.query.get("reason", UNSET_REASON), Reason)
    except msgspec.ValidationError as error:
        raise invalid("reason", f"does not fit: {error}") from None
    return SetLimit(call.params["name"], None, reason)


async def done(call: Call) -> ActionPage:
    limit = call.number("limit", 50, 1, 200)
    before = call.number("cursor", NEWEST, 1, NEWEST)
    items = await actions(call.house.database, before, limit)
    return ActionPage(items, str(items[-1].id) if len(items) == limit else None)


def retry_dead(call: Call) -> EndDeadLetters:
    asked: DeadLettersBody = call.body
    if asked.before is not None and asked.before.year not in YEARS:
        raise invalid("before", "lies too far away")
    return EndDeadLetters(
        "retried",
        asked.queue,
        asked.type,
        asked.before,
        asked.error_like,
        asked.limit,
        asked.reason or "",
    )


async def reconcile(call: Call) -> RecordReconciliation:
    run = await call.house.look(drafting=False)
    await call.house.pause_if_wrong(run.report, call.principal.name)
    return RecordReconciliation(run.report)


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
        "/api/ops/queues",
        "operator",
        200,
        "All queues: what waits, what died, what is paused.",
        None,
        QueueList,
        read=queues,
        limited="never",
    ),
    Route(
        "POST",
        "/api/ops/queues/{queue}/pause",
        "operator",
        200,
        "No worker receives from the queue from now on; what waits is kept.",
        ReasonBody,
        QueueSeen,
        command=lambda call: PauseQueue(call.params["queue"], call.body.reason),
        limited="never",
    ),
    Route(
        "POST",
        "/api/ops/queues/{queue}/resume",
        "operator",
        200,
        "Workers go on with the queue.",
        ReasonBody,
        QueueSeen,
        command=lambda call: ResumeQueue(call.params["queue"], call.body.reason),
        limited="never",
    ),
    Route(
        "POST",
        "/api/ops/dead-letters/retry",
        "operator",
        200,
        "Sends dead letters to their queues again, oldest first.",
        DeadLettersBody,
        DeadLettersEnded,
        command=retry_dead,
        problems=("not_found",),
        limited="never",
    ),
    Route(
        "GET",
        "/api/ops/limits",
        "operator",
        200,
        "The limits that can be changed at run time.",
        None,
        LimitList,
        read=limits,
        limited="never",
    ),
    Route(
        "PUT",
        "/api/ops/limits/{name}",
        "operator",
        200,
        "Changes a limit on every process within a second.",
        LimitBody,
        LimitSeen,
        command=lambda call: SetLimit(call.params["name"], call.body.value, call.body.reason),
        limited="never",
    ),
    Route(
        "DELETE",
        "/api/ops/limits/{name}",
        "operator",
        200,
        "Puts a limit back to its setting.",
        None,
        LimitSeen,
        command=unset,
        query=("reason",),
        limited="never",
    ),
    Route(
        "GET",
        "/api/ops/actions",
        "operator",
        200,
        "What operators did, newest first.",
        None,
        ActionPage,
        read=done,
        query=("limit", "cursor"),
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
