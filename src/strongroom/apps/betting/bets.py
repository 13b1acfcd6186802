"""Placing a bet, and taking it back while its round is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from strongroom.apps.betting.rounds import RoundClosed
from strongroom.apps.betting.rows import (
    BETS,
    BOOKS,
    ROUNDS,
    Bet,
    BetSeen,
    Book,
    Side,
    bet_seen,
    sql,
)
from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.ledger import stake, wallet
from strongroom.errors import NotFound, Refused, wrong_state
from strongroom.money import MAX_BALANCE


class StakesLimit(Refused):
    """The round would hold more stakes than fit."""


class BetAccepted(Reply, frozen=True):
    """The stake is held; matching comes later."""

    bet_id: UUID
    status: Literal["PENDING"]
    balance: int

    @property
    def subject(self) -> UUID:
        return self.bet_id


class BetPlaced(Reply, frozen=True):
    """A bet was accepted, as the `number`-th of its round."""

    bet_id: UUID
    round_id: UUID
    user_id: UUID
    side: Side
    amount: int
    number: int


class BetRefunded(Reply, frozen=True):
    """What was open of a bet went back to its wallet."""

    bet_id: UUID
    round_id: UUID
    user_id: UUID
    amount: int


@dataclass(frozen=True, slots=True)
class PlaceBet(Command):
    """Stakes `amount` on a side of an open round: wallet → stake of the same user.

    Refuses with RoundClosed, then InsufficientFunds.
    """

    user_id: UUID
    round_id: UUID
    side: Side
    amount: int

    reply = BetAccepted

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[PlaceBet]) -> None:
        users = {bet.user_id for bet in batch}
        keys = [wallet(user) for user in users] + [stake(user) for user in users]
        await work.books.lock(work.db, keys)
        await work.lock(ROUNDS, [bet.round_id for bet in batch])

    def decide(self, work: Work) -> BetAccepted:
        round = work.get(ROUNDS, self.round_id)
        if not round.takes_bets(work.now):
            raise RoundClosed()
        if round.staked_a + round.staked_b + self.amount > MAX_BALANCE:
            raise StakesLimit()
        source, target = work.books[wallet(self.user_id)], work.books[stake(self.user_id)]
        id = work.new_id()
        named = str(id)
        work.books.move(
            work.new_id(),
            f"BET:{named}",
            source,
            target,
            self.amount,
            ("DEBIT", "STAKE"),
            by=work.by,
            reference=named,
        )
        round.bets += 1
        if self.side == "A":
            round.staked_a += self.amount
        else:
            round.staked_b += self.amount
        work.change(ROUNDS, round)
        work.add(BETS, Bet(id, round.id, round.bets, self.user_id, self.side, self.amount))
        placed = BetPlaced(id, round.id, self.user_id, self.side, self.amount, round.bets)
        work.emit("betting.BetPlaced", id, placed)
        return BetAccepted(id, "PENDING", source.balance)


def refund(work: Work, bet: Bet, book: Book, key: str) -> None:
    """Gives back what is open of a bet; its group holds the user's accounts and the book."""
    amount = bet.open
    work.books.move(
        work.new_id(),
        f"{key}:{bet.id}",
        work.books[stake(bet.user_id)],
        work.books[wallet(bet.user_id)],
        amount,
        ("STAKE", "REFUND"),
        by=work.by,
        reference=str(bet.id),
    )
    bet.refunded += amount
    bet.done_at_tick = book.tick()
    book.refunded += amount
    work.change(BETS, bet)
    work.change(BOOKS, book)
    gone = BetRefunded(bet.id, bet.round_id, bet.user_id, amount)
    work.emit("betting.BetRefunded", bet.id, gone)


@dataclass(frozen=True, slots=True)
class CancelBet(Command):
    """Takes back what is still open of one's own bet while the round is open."""

    user_id: UUID
    bet_id: UUID

    reply = BetSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CancelBet]) -> None:
        ids = [cancel.bet_id for cancel in batch]
        rounds = {row["round_id"] for row in await work.db.fetch(sql.bets_by_id, ids)}
        users = {cancel.user_id for cancel in batch}
        keys = [wallet(user) for user in users] + [stake(user) for user in users]
        await work.books.lock(work.db, keys)
        await work.lock(BOOKS, rounds)
        await work.see(ROUNDS, sql.read_rounds, rounds)
        await work.lock(BETS, ids)

    def decide(self, work: Work) -> BetSeen:
        bet = work.get(BETS, self.bet_id)
        if bet.user_id != self.user_id:
            raise NotFound()
        if not work.get(ROUNDS, bet.round_id).takes_bets(work.now):
            raise RoundClosed("The round is closed; what is open will be refunded by itself.")
        if not bet.open:
            raise wrong_state(bet.status)
        refund(work, bet, work.get(BOOKS, bet.round_id), "REFUND")
        return bet_seen(bet)


REFUND_CHUNK = 500
"""Bets given back together."""

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RefundRound(Command):
    """Gives back what is open in a round: all of it once it is closed and matched, or of bets
    from before `before`. In chunks: what is left is said by an event."""

    round_id: UUID
    before: datetime | None = None

    reply = Nothing
    idempotent = True
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[RefundRound]) -> None:
        (command,) = batch
        rows = await work.db.fetch(
            sql.open_bets, command.round_id, command.before or FOREVER, REFUND_CHUNK
        )
        users = {row["user_id"] for row in rows}
        keys = [wallet(user) for user in users] + [stake(user) for user in users]
        await work.books.lock(work.db, keys)
        await work.lock(BOOKS, [command.round_id])
        await work.see(ROUNDS, sql.read_rounds, [command.round_id])
        await work.lock(BETS, [row["id"] for row in rows])
        work.noted["bets"] = [row["id"] for row in rows]

    def decide(self, work: Work) -> Nothing:
        round, book = work.get(ROUNDS, self.round_id), work.get(BOOKS, self.round_id)
        void = round.winner == "VOID"
        if self.before is not None and round.status != "OPEN":
            return Nothing()
        if self.before is None and not self._ready(round.status, book, round.bets, void):
            return Nothing()
        bets = sorted((work.get(BETS, id) for id in work.noted["bets"]), key=lambda b: b.number)
        for bet in bets:
            if bet.open:
                refund(work, bet, book, "VOID" if void else "REFUND")
        if len(bets) == REFUND_CHUNK:
            work.emit("betting.RefundsDue", self.round_id, RefundsDue(self.round_id, self.before))
        elif self.before is None:
            work.emit("betting.RoundDrained", self.round_id, RefundsDue(self.round_id))
        return Nothing()

    @staticmethod
    def _ready(status: str, book: Book, bets: int, void: bool) -> bool:
        """Only what nobody can match any more goes back; a void round first undoes its matches,
        so that each bet is refunded once."""
        return status == "CLOSED" and (book.matched == 0 if void else book.upto == bets)


class RefundsDue(Reply, frozen=True):
    """Bets of a round are to be given back."""

    round_id: UUID
    before: datetime | None = None
