"""What is shown of rounds and bets. Reads committed rows, holds no lock."""

from __future__ import annotations

from uuid import UUID

import msgspec
from msgspec import UNSET

from strongroom.apps.betting.fairness import wrong_draws
from strongroom.apps.betting.rows import BetSeen, MatchSeen, RoundSeen, sql
from strongroom.core.db import Database, Record
from strongroom.errors import NotFound


def _round(row: Record) -> RoundSeen:
    done = row["status"] in ("SETTLED", "VOIDED")
    return RoundSeen(
        round_id=row["id"],
        name=row["name"],
        kind=row["kind"],
        status=row["status"],
        closes_at=row["closes_at"],
        fee_bps=row["fee_bps"],
        staked_a=row["staked_a"],
        staked_b=row["staked_b"],
        matched=row["matched"],
        winner=row["winner"] or UNSET,
        seed_hash=row["seed_hash"].hex() if row["seed_hash"] else UNSET,
        seed=row["seed"].hex() if row["seed"] and done else UNSET,
    )


def _bet(row: Record) -> BetSeen:
    id, round_id, side, amount, matched, refunded, payout, status, created_at = row
    return BetSeen(
        bet_id=id,
        round_id=round_id,
        side=side,
        amount=amount,
        matched=matched,
        refunded=refunded,
        payout=payout,
        status=status,
        created_at=created_at,
    )


class Reading:
    """Rounds for everybody, bets for their owner."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def rounds(self, before: UUID | None, limit: int) -> list[RoundSeen]:
        """Newest first, those with an id below `before`."""
        rows = await self._db.fetch(sql.rounds_seen, None, before, limit)
        return [_round(row) for row in rows]

    async def round(self, round_id: UUID) -> RoundSeen:
        rows = await self._db.fetch(sql.rounds_seen, round_id, None, 1)
        if not rows:
            raise NotFound()
        return _round(rows[0])

    async def bets(self, user_id: UUID, before: UUID | None, limit: int) -> list[BetSeen]:
        """A user's own, newest first, those with an id below `before`."""
        rows = await self._db.fetch(sql.bets_seen, user_id, None, before, limit)
        return [_bet(row) for row in rows]

    async def bet(self, user_id: UUID, bet_id: UUID) -> BetSeen:
        """A user's own bet with its matches; another's is not found."""
        rows = await self._db.fetch(sql.bets_seen, user_id, bet_id, None, 1)
        if not rows:
            raise NotFound()
        found = await self._db.fetch(sql.matches_of_bet, bet_id)
        matches = [MatchSeen(row["id"], row["amount"], row["winner"] or UNSET) for row in found]
        return msgspec.structs.replace(_bet(rows[0]), matches=matches)

    async def check_draws(self, round_id: UUID) -> tuple[int, list[UUID] | None]:
        """How many draws a coinflip made, and which of them its seed does not give; None when
        the seed is not the one whose hash was published. Only once the seed is public."""
        round = await self.round(round_id)
        if not isinstance(round.seed, str) or not isinstance(round.seed_hash, str):
            raise NotFound("This round has no public seed (yet).")
        rows = await self._db.fetch(sql.draws, round_id)
        draws = [(row["id"], row["winner"]) for row in rows]
        seed, published = bytes.fromhex(round.seed), bytes.fromhex(round.seed_hash)
        return len(draws), wrong_draws(seed, published, draws)

    async def totals(self) -> Record:
        """(bets, matches, paid, waiting) over all rounds."""
        row = await self._db.fetchrow(sql.totals)
        assert row is not None
        return row
