"""Matching in chunks, and what follows from a match: paying it, or undoing it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from strongroom.apps.betting.fairness import draw
from strongroom.apps.betting.matching import Crowd, Pairing, meet
from strongroom.apps.betting.rounds import RoundMoved, due
from strongroom.apps.betting.rows import (
    BETS,
    BOOKS,
    MATCHES,
    ROUNDS,
    Book,
    Match,
    Round,
    Side,
    sql,
)
from strongroom.core.audit import require_payouts
from strongroom.core.commands import Command, Nothing, Reply, Work
from strongroom.core.ledger import Leg, fees, stake, wallet
from strongroom.money import fee

INCOMING = 2000
"""New bets that meet the waiting ones in one transaction: some hundred milliseconds of work."""

RESTING = 2000
"""Waiting bets of a side that are loaded for them; more are loaded when these run out."""


class MatchMade(Reply, frozen=True):
    """Two bets met for equal amounts."""

    match_id: UUID
    round_id: UUID
    bet_a: UUID
    bet_b: UUID
    user_a: UUID
    user_b: UUID
    amount: int


class MatchSettled(Reply, frozen=True):
    """A match was paid: `payout` gross to the winner, `fee` of it kept back."""

    match_id: UUID
    round_id: UUID
    winner: Side
    user_id: UUID
    payout: int
    fee: int


class MatchUndone(Reply, frozen=True):
    """A match does not count any more; both stakes are open again."""

    match_id: UUID
    round_id: UUID


class MatchingDue(Reply, frozen=True):
    """A chunk stopped before all bets had met; `page` waiting bets are to be loaded next."""

    round_id: UUID
    page: int


@dataclass(frozen=True, slots=True)
class MatchRound(Command):
    """Lets the next bets of a round meet those that wait, in the order they were accepted."""

    round_id: UUID
    page: int = RESTING

    reply = Nothing
    idempotent = True
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[MatchRound]) -> None:
        (command,) = batch
        id = command.round_id
        await work.lock(BOOKS, [id])
        await work.see(ROUNDS, sql.read_rounds, [id])
        book = work.get(BOOKS, id)
        crowds: dict[Side, Crowd] = {}
        sides: tuple[Side, Side] = ("A", "B")
        for side in sides:
            rows = await work.db.fetch(sql.resting_bets, id, side, book.upto, command.page)
            bets = work.hold(BETS, rows)
            crowds[side] = Crowd(deque(bets), more=len(bets) == command.page)
        rows = await work.db.fetch(sql.incoming_bets, id, book.upto, INCOMING)
        work.noted["crowds"], work.noted["incoming"] = crowds, work.hold(BETS, rows)

    def decide(self, work: Work) -> Nothing:
        round, book = work.get(ROUNDS, self.round_id), work.get(BOOKS, self.round_id)
        if round.winner == "VOID":
            return Nothing()
        before = book.upto
        meeting = meet(work.noted["crowds"], work.noted["incoming"], book.upto)
        first = book.matches + 1
        for pairing in meeting.pairings:
            self._record(work, book, pairing)
        book.upto = meeting.upto
        work.change(BOOKS, book)
        if round.kind == "coinflip" or round.winner:
            due(work, "betting.SettlementDue", round.id, first, book.matches)
        stuck = meeting.short and not meeting.pairings and book.upto == before
        if meeting.short or len(work.noted["incoming"]) == INCOMING:
            page = self.page * 2 if stuck else RESTING
            work.emit("betting.MatchingDue", round.id, MatchingDue(round.id, page))
        elif round.status == "CLOSED":
            work.emit("betting.RoundMatched", round.id, RoundMoved(round.id))
        return Nothing()

    @staticmethod
    def _record(work: Work, book: Book, pairing: Pairing) -> None:
        taker, maker, amount = pairing
        a, b = (taker, maker) if taker.side == "A" else (maker, taker)
        tick = book.tick()
        book.matches += 1
        book.matched += amount
        id = work.new_id()
        work.add(MATCHES, Match(id, book.id, tick, book.matches, a.id, b.id, amount))
        for bet in (a, b):
            if not bet.open:
                bet.done_at_tick = tick
            work.change(BETS, bet)
        made = MatchMade(id, book.id, a.id, b.id, a.user_id, b.user_id, amount)
        work.emit("betting.MatchMade", id, made)


@dataclass(frozen=True, slots=True)
class SettleMatches(Command):
    """Pays matches first to last of a round, those not paid yet: one transfer each, from both
    stakes to the winner's wallet, less the fee on the winnings."""

    round_id: UUID
    first: int
    last: int

    reply = Nothing
    idempotent = True
    group_limit = 4

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[SettleMatches]) -> None:
        users: set[UUID] = set()
        for chunk in batch:
            rows = await work.db.fetch(sql.unpaid_users, chunk.round_id, chunk.first, chunk.last)
            users.update(row["user_id"] for row in rows)
        ids = {chunk.round_id for chunk in batch}
        keys = [wallet(user) for user in users] + [stake(user) for user in users]
        await work.see(ROUNDS, sql.read_rounds, ids)
        if any(round.fee_bps for round in work.held(ROUNDS)):
            keys.append(fees())
        await work.books.lock(work.db, keys)
        await require_payouts(work)
        await work.see(BOOKS, sql.share_books, ids)
        await work.see(ROUNDS, sql.read_rounds, ids)
        for chunk in sorted(batch, key=lambda chunk: (chunk.round_id, chunk.first)):
            args = chunk.round_id, chunk.first, chunk.last
            work.noted[str(args)] = work.hold(MATCHES, await work.db.fetch(sql.lock_matches, *args))

    def decide(self, work: Work) -> Nothing:
        round = work.get(ROUNDS, self.round_id)
        matches: list[Match] = work.noted[str((self.round_id, self.first, self.last))]
        settled: dict[UUID, list[int]] = {}
        for match in matches:
            # Twice in one group, or paid by a chunk that overlaps: once.
            if match.winner is None and round.winner != "VOID":
                self._pay(work, round, match, settled)
        if settled:
            bets = sorted(settled)
            sums = [settled[bet] for bet in bets]
            work.run_at_end(
                sql.settle_bets, bets, [pair[0] for pair in sums], [pair[1] for pair in sums]
            )
            chunk = RoundMoved(self.round_id)
            work.emit("betting.MatchesSettled", work.new_id(), chunk)
        return Nothing()

    def _pay(self, work: Work, round: Round, match: Match, settled: dict[UUID, list[int]]) -> None:
        if round.kind == "coinflip":
            assert round.seed is not None
            winner = draw(round.seed, match.id)
        else:
            assert round.winner in ("A", "B"), "a result comes before its settlement"
            winner = "A" if round.winner == "A" else "B"
        assert match.user_a and match.user_b
        users = match.user_a, match.user_b
        winning, losing = users if winner == "A" else users[::-1]
        amount, kept = match.amount, fee(match.amount, round.fee_bps)
        payout = 2 * amount - kept
        legs: list[Leg] = [
            (work.books[stake(losing)], -amount, "STAKE"),
            (work.books[stake(winning)], -amount, "STAKE"),
            (work.books[wallet(winning)], payout, "PAYOUT"),
        ]
        if kept:
            legs.append((work.books[fees()], kept, "FEE"))
        key = f"SETTLE:{match.id}:{winning}"
        work.books.post(work.new_id(), key, legs, by=work.by, reference=str(match.id))
        match.winner = winner
        work.change(MATCHES, match)
        for bet, won in ((match.bet_a, winner == "A"), (match.bet_b, winner == "B")):
            pair = settled.setdefault(bet, [0, 0])
            pair[0] += amount
            pair[1] += payout if won else 0
        paid = MatchSettled(match.id, round.id, winner, winning, payout, kept)
        work.emit("betting.MatchSettled", match.id, paid)


@dataclass(frozen=True, slots=True)
class UndoMatches(Command):
    """Undoes matches first to last of a round that was called off. No money moves: the stakes
    are open again, and the refunds that follow give them back."""

    round_id: UUID
    first: int
    last: int

    reply = Nothing
    idempotent = True
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[UndoMatches]) -> None:
        (chunk,) = batch
        await work.lock(BOOKS, [chunk.round_id])
        rows = await work.db.fetch(sql.lock_matches, chunk.round_id, chunk.first, chunk.last)
        matches = work.hold(MATCHES, rows)
        await work.lock(BETS, [bet for match in matches for bet in (match.bet_a, match.bet_b)])
        work.noted["matches"] = matches

    def decide(self, work: Work) -> Nothing:
        book = work.get(BOOKS, self.round_id)
        for match in work.noted["matches"]:
            match.winner = "VOID"
            work.change(MATCHES, match)
            book.matched -= match.amount
            work.change(BOOKS, book)
            for id in (match.bet_a, match.bet_b):
                bet = work.get(BETS, id)
                bet.matched -= match.amount
                bet.done_at_tick = None
                work.change(BETS, bet)
            undone = MatchUndone(match.id, book.id)
            work.emit("betting.MatchUndone", match.id, undone)
        work.emit("betting.MatchesUndone", work.new_id(), RoundMoved(book.id))
        return Nothing()
