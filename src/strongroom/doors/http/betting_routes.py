"""Rounds and bets."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from strongroom.apps.betting import (
    CancelBet,
    CloseRound,
    CreateRound,
    PlaceBet,
    RecordResult,
    VoidRound,
)
from strongroom.apps.betting.bets import BetAccepted
from strongroom.apps.betting.rows import BetSeen, Kind, RoundSeen, Side, Winner
from strongroom.doors.http.bodies import Body, StepBody
from strongroom.doors.http.fields import Moment, Name
from strongroom.doors.http.routing import Call, Route, Routes
from strongroom.money import MAX_FEE_BPS, Amount


class Rounds(msgspec.Struct, rename="camel"):
    """A page of rounds, newest first."""

    items: list[RoundSeen]
    next_cursor: UUID | None = None


class Bets(msgspec.Struct, rename="camel"):
    """A page of one's own bets, newest first."""

    items: list[BetSeen]
    next_cursor: UUID | None = None


class RoundBody(Body):
    name: Name
    kind: Kind
    closes_at: Moment | None = None
    fee_bps: Annotated[int, Meta(ge=0, le=MAX_FEE_BPS)] = 0


class ResultBody(Body):
    winner: Winner


class BetBody(Body):
    round_id: UUID
    side: Side
    amount: Amount


async def rounds(call: Call) -> Rounds:
    limit = call.number("limit", 50, 1, 200)
    items = await call.house.betting.rounds(call.cursor(), limit)
    return Rounds(items, items[-1].round_id if len(items) == limit else None)


async def round(call: Call) -> RoundSeen:
    return await call.house.betting.round(call.id("id"))


async def bets(call: Call) -> Bets:
    limit = call.number("limit", 50, 1, 200)
    items = await call.house.betting.bets(call.user_id, call.cursor(), limit)
    return Bets(items, items[-1].bet_id if len(items) == limit else None)


async def bet(call: Call) -> BetSeen:
    return await call.house.betting.bet(call.user_id, call.id("id"))


def create_round(call: Call) -> CreateRound:
    body = call.body
    return CreateRound(body.name, body.kind, body.closes_at, body.fee_bps)


def place_bet(call: Call) -> PlaceBet:
    body = call.body
    return PlaceBet(call.user_id, body.round_id, body.side, body.amount)


PAGE = ("limit", "cursor")

BETTING: Routes = [
    Route(
        "GET",
        "/api/rounds",
        "user",
        200,
        "Rounds, newest first.",
        None,
        Rounds,
        read=rounds,
        query=PAGE,
    ),
    Route(
        "POST",
        "/api/rounds",
        "operator",
        201,
        "Opens a round for bets.",
        RoundBody,
        RoundSeen,
        command=create_round,
    ),
    Route("GET", "/api/rounds/{id}", "user", 200, "A round.", None, RoundSeen, read=round),
    Route(
        "POST",
        "/api/rounds/{id}/close",
        "operator",
        202,
        "Takes no more bets; the rest is matched, then refunded.",
        StepBody,
        RoundSeen,
        command=lambda call: CloseRound(call.id("id")),
        steps=True,
        problems=("wrong_state",),
    ),
    Route(
        "POST",
        "/api/rounds/{id}/result",
        "operator",
        202,
        "Says who won; settlement follows.",
        ResultBody,
        RoundSeen,
        command=lambda call: RecordResult(call.id("id"), call.body.winner),
        problems=("round_open", "round_kind", "wrong_state"),
    ),
    Route(
        "POST",
        "/api/rounds/{id}/void",
        "operator",
        202,
        "Calls a round off; every stake goes back.",
        StepBody,
        RoundSeen,
        command=lambda call: VoidRound(call.id("id")),
        steps=True,
        problems=("wrong_state", "draws_paid"),
    ),
    Route(
        "GET",
        "/api/bets",
        "user",
        200,
        "One's own bets, newest first.",
        None,
        Bets,
        read=bets,
        query=PAGE,
    ),
    Route(
        "POST",
        "/api/bets",
        "user",
        202,
        "Places a bet; matching follows.",
        BetBody,
        BetAccepted,
        command=place_bet,
        problems=("round_closed", "insufficient_funds"),
    ),
    Route(
        "GET",
        "/api/bets/{id}",
        "user",
        200,
        "One's own bet with its matches.",
        None,
        BetSeen,
        read=bet,
    ),
    Route(
        "POST",
        "/api/bets/{id}/cancel",
        "user",
        202,
        "Takes back what is still open of a bet.",
        StepBody,
        BetSeen,
        command=lambda call: CancelBet(call.user_id, call.id("id")),
        steps=True,
        problems=("round_closed", "wrong_state"),
    ),
]
