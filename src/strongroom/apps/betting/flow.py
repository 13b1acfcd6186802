"""What leads to what: which event each queue hears, and the command it becomes.

BetPlaced, RoundClosed, MatchingDue ──▶ MatchRound ──▶ MatchMade, SettlementDue (coinflip)
ResultRecorded's SettlementDue      ──▶ SettleMatches ──▶ MatchSettled, MatchesSettled
RoundMatched, RefundsDue, …         ──▶ RefundRound ──▶ BetRefunded, RoundDrained
RoundDrained, MatchesSettled, …     ──▶ FinishRound ──▶ RoundSettled, RoundVoided
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from strongroom.apps.betting.bets import RefundRound
from strongroom.apps.betting.rounds import CloseRound, FinishRound
from strongroom.apps.betting.rows import sql
from strongroom.apps.betting.settlement import MatchRound, SettleMatches, UndoMatches
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.core.events import Event, Subscriber


def _round(event: Event) -> UUID:
    return UUID(event.payload["roundId"])


def _match(event: Event) -> Command:
    if event.type == "betting.MatchingDue":
        return MatchRound(_round(event), event.payload["page"])
    return MatchRound(_round(event))


def _settle(event: Event) -> Command:
    chunk = event.payload
    if event.type == "betting.SettlementDue":
        return SettleMatches(_round(event), chunk["first"], chunk["last"])
    if event.type == "betting.UndoDue":
        return UndoMatches(_round(event), chunk["first"], chunk["last"])
    return FinishRound(_round(event))


def _refund(event: Event) -> Command:
    before = event.payload.get("before")
    return RefundRound(_round(event), datetime.fromisoformat(before) if before else None)


SUBSCRIBERS = (
    Subscriber(
        "betting_match",
        ("betting.BetPlaced", "betting.RoundClosed", "betting.MatchingDue"),
        _match,
        batch=2000,
    ),
    Subscriber(
        "betting_settle",
        (
            "betting.SettlementDue",
            "betting.UndoDue",
            "betting.ResultRecorded",
            "betting.MatchesSettled",
            "betting.RoundDrained",
        ),
        _settle,
        batch=16,
    ),
    Subscriber(
        "betting_refund",
        (
            "betting.RefundsDue",
            "betting.RoundMatched",
            "betting.RoundCalledOff",
            "betting.MatchesUndone",
        ),
        _refund,
    ),
)


async def commands_due(database: Database, pending_timeout_s: int) -> list[Command]:
    """What time alone makes due: rounds past their `closes_at`, bets that waited too long."""
    closing = await database.fetch(sql.rounds_to_close)
    waiting = await database.fetch(sql.rounds_with_old_bets, float(pending_timeout_s))
    return [CloseRound(row["id"]) for row in closing] + [
        RefundRound(row["id"], row["before"]) for row in waiting
    ]
