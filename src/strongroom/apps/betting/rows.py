"""The rows of the betting room, and what others see of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from strongroom.core.commands import Kept, Reply
from strongroom.core.db import Queries, Table

sql = Queries(__package__, "betting.sql")

Side = Literal["A", "B"]
Kind = Literal["oracle", "coinflip"]
Status = Literal["OPEN", "CLOSED", "SETTLED", "VOIDED"]
Winner = Literal["A", "B", "VOID"]
BetStatus = Literal["PENDING", "MATCHED", "SETTLED", "REFUNDED"]


@dataclass(slots=True)
class Round:
    """The accepting side of a round. Held by who places a bet or closes."""

    id: UUID
    name: str
    kind: Kind
    status: Status
    fee_bps: int
    closes_at: datetime | None
    winner: Winner | None
    seed: bytes | None
    seed_hash: bytes | None
    bets: int
    staked_a: int
    staked_b: int
    created_by: str
    closed_at: datetime | None = None

    def takes_bets(self, now: datetime) -> bool:
        """Open, and its time has not come, whether or not the chore that closes has seen it."""
        return self.status == "OPEN" and not (self.closes_at and self.closes_at <= now)


@dataclass(slots=True)
class Book:
    """The matching side of a round. Held by who matches, refunds or undoes; guards the amounts
    of the round's bets. `matched` counts one side; `ticks` orders matches and refunds."""

    id: UUID
    upto: int = 0
    ticks: int = 0
    matches: int = 0
    matched: int = 0
    refunded: int = 0
    round_id: UUID = field(init=False)

    def __post_init__(self) -> None:
        self.round_id = self.id

    def tick(self) -> int:
        self.ticks += 1
        return self.ticks


@dataclass(slots=True)
class Bet:
    """A bet: amount = matched + refunded + open, at every moment."""

    id: UUID
    round_id: UUID
    number: int
    user_id: UUID
    side: Side
    amount: int
    matched: int = 0
    refunded: int = 0
    settled: int = 0
    payout: int = 0
    done_at_tick: int | None = None
    created_at: datetime | None = None

    @property
    def open(self) -> int:
        return self.amount - self.matched - self.refunded

    @property
    def status(self) -> BetStatus:
        """Follows from the amounts; the database's `betting.bet_status` says the same."""
        if self.open:
            return "PENDING"
        if not self.matched:
            return "REFUNDED"
        return "MATCHED" if self.settled < self.matched else "SETTLED"


@dataclass(slots=True)
class Match:
    """Equal amounts of two bets on opposite sides. `winner` is None until paid, VOID if undone."""

    id: UUID
    round_id: UUID
    tick: int
    number: int
    bet_a: UUID
    bet_b: UUID
    amount: int
    winner: Winner | None = None
    user_a: UUID | None = None
    user_b: UUID | None = None


ROUNDS = Kept(
    Round,
    Table(
        "betting.rounds",
        {
            "id": "uuid",
            "name": "text",
            "kind": "text",
            "fee_bps": "integer",
            "closes_at": "timestamptz",
            "seed": "bytea",
            "seed_hash": "bytea",
            "created_by": "text",
        },
    ),
    lock=sql.lock_rounds,
    update=sql.update_rounds,
    changes=("status", "winner", "bets", "staked_a", "staked_b", "closed_at"),
)
BOOKS = Kept(
    Book,
    Table("betting.books", {"round_id": "uuid"}),
    lock=sql.lock_books,
    update=sql.update_books,
    changes=("upto", "ticks", "matches", "matched", "refunded"),
)
BETS = Kept(
    Bet,
    Table(
        "betting.bets",
        {
            "id": "uuid",
            "round_id": "uuid",
            "number": "bigint",
            "user_id": "uuid",
            "side": "text",
            "amount": "bigint",
        },
    ),
    lock=sql.read_bets,
    update=sql.update_bets,
    changes=("matched", "refunded", "done_at_tick"),
)
MATCHES = Kept(
    Match,
    Table(
        "betting.matches",
        {
            "id": "uuid",
            "round_id": "uuid",
            "tick": "bigint",
            "number": "bigint",
            "bet_a": "uuid",
            "bet_b": "uuid",
            "amount": "bigint",
        },
    ),
    lock=sql.lock_matches,
    update=sql.update_matches,
    changes=("winner",),
)


class RoundSeen(Reply, frozen=True, kw_only=True):
    """A round as everybody sees it. `matched` is the amount matched on one side; the seed is
    shown once all draws are made."""

    round_id: UUID
    name: str
    kind: Kind
    status: Status
    closes_at: datetime | None
    fee_bps: int
    staked_a: int
    staked_b: int
    matched: int
    winner: Winner | msgspec.UnsetType = msgspec.UNSET
    seed_hash: str | msgspec.UnsetType = msgspec.UNSET
    seed: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def subject(self) -> UUID:
        return self.round_id


def round_seen(round: Round, book: Book) -> RoundSeen:
    done = round.status in ("SETTLED", "VOIDED")
    return RoundSeen(
        round_id=round.id,
        name=round.name,
        kind=round.kind,
        status=round.status,
        closes_at=round.closes_at,
        fee_bps=round.fee_bps,
        staked_a=round.staked_a,
        staked_b=round.staked_b,
        matched=book.matched,
        winner=round.winner or msgspec.UNSET,
        seed_hash=round.seed_hash.hex() if round.seed_hash else msgspec.UNSET,
        seed=round.seed.hex() if round.seed and done else msgspec.UNSET,
    )


class MatchSeen(Reply, frozen=True):
    """A match as the bettor sees it."""

    match_id: UUID
    amount: int
    winner: Winner | msgspec.UnsetType = msgspec.UNSET


class BetSeen(Reply, frozen=True, kw_only=True):
    """A bet as its owner sees it; `payout` is gross. `matches` is there for one bet alone."""

    bet_id: UUID
    round_id: UUID
    side: Side
    amount: int
    matched: int
    refunded: int
    payout: int
    status: BetStatus
    created_at: datetime
    matches: list[MatchSeen] | msgspec.UnsetType = msgspec.UNSET

    @property
    def subject(self) -> UUID:
        return self.bet_id


def bet_seen(bet: Bet) -> BetSeen:
    assert bet.created_at, "only stored bets are shown"
    return BetSeen(
        bet_id=bet.id,
        round_id=bet.round_id,
        side=bet.side,
        amount=bet.amount,
        matched=bet.matched,
        refunded=bet.refunded,
        payout=bet.payout,
        status=bet.status,
        created_at=bet.created_at,
    )
