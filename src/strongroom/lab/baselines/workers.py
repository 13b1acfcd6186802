"""The specification's workers: five matchers and five settlers, a bet or a match a transaction."""

from __future__ import annotations

import asyncio
from itertools import count
from uuid import UUID

from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.lab.baselines.row_at_a_time import move, sql

CONCURRENCY = 5
"""The specification's `worker.concurrency`."""


async def match_all(database: Database, round_id: UUID) -> int:
    """Matches until no worker finds a pair; how many matches that made."""
    numbers = count(1)

    async def worker() -> int:
        made = passed = 0
        while True:
            async with database.transaction() as db:
                bet = await db.fetchrow(sql.next_bet, round_id, passed)
                if bet is None:
                    return made
                other = "B" if bet["side"] == "A" else "A"
                found = await db.fetchrow(sql.opponent, round_id, other, bet["user_id"])
                if found is None:
                    return made
                amount = min(bet["open"], found["open"])
                for id in (bet["id"], found["id"]):
                    await db.execute(sql.fill, id, amount)
                a, b = (bet, found) if bet["side"] == "A" else (found, bet)
                ids = a["id"], b["id"]
                await db.execute(sql.add_match, uuid7(), round_id, next(numbers), *ids, amount)
                made += 1

    return sum(await asyncio.gather(*(worker() for _ in range(CONCURRENCY))))


async def settle_all(database: Database, round_id: UUID) -> int:
    """Pays side A of every match; how many that were."""

    async def worker() -> int:
        paid = 0
        while True:
            async with database.transaction() as db:
                match = await db.fetchrow(sql.unpaid_match, round_id)
                if match is None:
                    return paid
                winner, loser, amount = match["user_a"], match["user_b"], match["amount"]
                for key, user in (("SETTLE", loser), ("RETURN", winner)):
                    ends = (user, "stake"), (winner, "wallet")
                    await move(db, f"{key}:{match['id']}:{winner}", *ends, amount, "settler")
                await db.execute(sql.pay_match, match["id"])
                await db.execute(sql.settle_bet, match["bet_a"], amount, 2 * amount)
                await db.execute(sql.settle_bet, match["bet_b"], amount, 0)
                paid += 1

    return sum(await asyncio.gather(*(worker() for _ in range(CONCURRENCY))))
