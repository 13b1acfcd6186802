"""The life of a round: OPEN → CLOSED → SETTLED or VOIDED."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from strongroom.apps.betting.fairness import seed_hash
from strongroom.apps.betting.rows import (
    BOOKS,
    ROUNDS,
    Book,
    Kind,
    Round,
    RoundSeen,
    Winner,
    round_seen,
    sql,
)
from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.errors import Invalid, Refused, wrong_state

SEED_BYTES = 32
"""As long as the hash that publishes it."""

FAR = datetime(9999, 1, 1, tzinfo=UTC)
"""Beyond this a time zone leads out of the calendar."""

CHUNK = 500
"""Matches that are paid or undone together: some tens of milliseconds under lock."""


class RoundClosed(Refused):
    """The round takes no more bets."""


class RoundOpen(Refused):
    """The round is still open. Close it before posting a result."""


class RoundKind(Refused):
    """A coinflip draws its own winners; no result can be posted."""


class DrawsPaid(Refused):
    """Draws of this coinflip have been paid, and paid draws are final."""


class MatchesDue(Reply, frozen=True):
    """Matches first to last of a round are to be paid or undone."""

    round_id: UUID
    first: int
    last: int


class RoundMoved(Reply, frozen=True):
    """A round took a step."""

    round_id: UUID


def due(work: Work, what: str, round_id: UUID, first: int, last: int) -> None:
    """Hands out matches first to last in chunks, for any number of workers."""
    for start in range(first, last + 1, CHUNK):
        end = min(start + CHUNK - 1, last)
        work.emit(what, round_id, MatchesDue(round_id, start, end))


@dataclass(frozen=True, slots=True)
class CreateRound(Command):
    """Opens a round for bets. `closes_at` is by the database's clock; None closes by hand."""

    name: str
    kind: Kind
    closes_at: datetime | None = None
    fee_bps: int = 0

    reply = RoundSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CreateRound]) -> None:
        """A new round needs nothing."""

    def decide(self, work: Work) -> RoundSeen:
        if self.closes_at is not None and not work.now < self.closes_at < FAR:
            errors = [{"field": "closesAt", "message": "lies in the past, or too far ahead"}]
            raise Invalid("closesAt lies in the past, or too far ahead.", errors)
        seed = work.new_secret(SEED_BYTES) if self.kind == "coinflip" else None
        round = Round(
            id=work.new_id(),
            name=self.name,
            kind=self.kind,
            status="OPEN",
            fee_bps=self.fee_bps,
            closes_at=self.closes_at and self.closes_at.astimezone(UTC),
            winner=None,
            seed=seed,
            seed_hash=seed_hash(seed) if seed else None,
            bets=0,
            staked_a=0,
            staked_b=0,
            created_by=work.by,
        )
        work.add(ROUNDS, round)
        book = work.add(BOOKS, Book(round.id))
        work.emit("betting.RoundOpened", round.id, RoundMoved(round.id))
        return round_seen(round, book)


class _Step(Command):
    """A step of rounds that are there: holds the round, then its book."""

    round_id: UUID

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Self]) -> None:
        ids = [step.round_id for step in batch]
        await work.lock(ROUNDS, ids)
        await work.lock(BOOKS, ids)

    def held(self, work: Work) -> tuple[Round, Book]:
        return work.get(ROUNDS, self.round_id), work.get(BOOKS, self.round_id)


def close(work: Work, round: Round) -> None:
    round.status = "CLOSED"
    round.closed_at = work.now
    work.change(ROUNDS, round)
    work.emit("betting.RoundClosed", round.id, RoundMoved(round.id))


@dataclass(frozen=True, slots=True)
class CloseRound(_Step):
    """Takes no more bets. What was accepted is still matched, then the rest is refunded."""

    round_id: UUID

    reply = RoundSeen

    def decide(self, work: Work) -> RoundSeen:
        round, book = self.held(work)
        if round.status != "OPEN":
            raise wrong_state(round.status)
        close(work, round)
        return round_seen(round, book)


@dataclass(frozen=True, slots=True)
class RecordResult(_Step):
    """Says who won a closed round; VOID gives every stake back."""

    round_id: UUID
    winner: Winner

    reply = RoundSeen

    def decide(self, work: Work) -> RoundSeen:
        round, book = self.held(work)
        if round.kind == "coinflip":
            raise RoundKind()
        if round.status == "OPEN":
            raise RoundOpen()
        if round.status != "CLOSED" or round.winner:
            raise wrong_state(round.status)
        round.winner = self.winner
        work.change(ROUNDS, round)
        if self.winner == "VOID":
            undo(work, round, book)
        else:
            work.emit("betting.ResultRecorded", round.id, RoundMoved(round.id))
            due(work, "betting.SettlementDue", round.id, 1, book.matches)
        return round_seen(round, book)


@dataclass(frozen=True, slots=True)
class VoidRound(_Step):
    """Calls a round off: matches are undone, every stake goes back."""

    round_id: UUID

    reply = RoundSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[VoidRound]) -> None:
        await super(VoidRound, cls).fetch(work, batch)
        ids = [step.round_id for step in batch]
        work.noted["drawn"] = {row[0] for row in await work.db.fetch(sql.drawn_rounds, ids)}

    def decide(self, work: Work) -> RoundSeen:
        round, book = self.held(work)
        if round.status not in ("OPEN", "CLOSED") or round.winner:
            raise wrong_state(round.status)
        if round.id in work.noted["drawn"]:
            raise DrawsPaid()
        if round.status == "OPEN":
            close(work, round)
        round.winner = "VOID"
        work.change(ROUNDS, round)
        undo(work, round, book)
        return round_seen(round, book)


def undo(work: Work, round: Round, book: Book) -> None:
    work.emit("betting.RoundCalledOff", round.id, RoundMoved(round.id))
    due(work, "betting.UndoDue", round.id, 1, book.matches)


@dataclass(frozen=True, slots=True)
class FinishRound(_Step):
    """Ends a round of which nothing is left to match, refund or pay; else does nothing."""

    round_id: UUID

    reply = Nothing
    idempotent = True

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[FinishRound]) -> None:
        await super(FinishRound, cls).fetch(work, batch)
        ids = [step.round_id for step in batch]
        work.noted["unpaid"] = {row[0] for row in await work.db.fetch(sql.unpaid_rounds, ids)}

    def decide(self, work: Work) -> Nothing:
        round, book = self.held(work)
        decided = round.winner or round.kind == "coinflip"
        left = round.staked_a + round.staked_b - 2 * book.matched - book.refunded
        if round.status == "CLOSED" and decided and not left and not self._unpaid(work):
            round.status = "VOIDED" if round.winner == "VOID" else "SETTLED"
            work.change(ROUNDS, round)
            happened = "RoundVoided" if round.winner == "VOID" else "RoundSettled"
            work.emit(f"betting.{happened}", round.id, RoundMoved(round.id))
        return Nothing()

    def _unpaid(self, work: Work) -> bool:
        return self.round_id in work.noted["unpaid"]
