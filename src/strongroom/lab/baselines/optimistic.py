"""Bets without row locks: read with the version, write if it is still that, else all over again.

An account's `seq`, the number of its entries, is its version. Everything else is as with row
locks, down to the pool. An account that somebody else is changing makes the UPDATE wait for him,
then find another version: so the loser has waited as long as for a lock, and gives all its work
back. It tries again at once, later ones after a short pause drawn by chance, until its deadline.
"""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

from strongroom.clock import monotonic
from strongroom.core.commands import Outcome, Ticket
from strongroom.core.commands.command import Overloaded
from strongroom.core.db import Connection, Queries
from strongroom.core.ledger import InsufficientFunds
from strongroom.errors import NotFound
from strongroom.ids import uuid7
from strongroom.lab.baselines.row_at_a_time import RowAtATime, SpecifiedHouse
from strongroom.lab.baselines.row_at_a_time import sql as rows
from strongroom.main import Strongroom

sql = Queries(__package__, "optimistic.sql")

PAUSE_S = 0.001
LONGEST_PAUSES = 8
"""Pauses grow by the millisecond up to this many: longer ones leave the row idle."""


class VersionMismatch(Exception):
    """Somebody else changed the account in between."""


class Optimistic(RowAtATime):
    """Stands in for the lanes: bets by version."""

    async def run(self, ticket: Ticket) -> Outcome:
        attempt = 0
        while True:
            try:
                return await super().run(ticket)
            except VersionMismatch:
                if monotonic() > ticket.deadline:
                    return Outcome(error=Overloaded())
                await asyncio.sleep(random.uniform(0, PAUSE_S * min(attempt, LONGEST_PAUSES)))
                attempt += 1

    async def _move(
        self,
        db: Connection,
        key: str,
        source: tuple[UUID, str],
        target: tuple[UUID, str],
        amount: int,
        by: str,
        reference: str,
    ) -> tuple[UUID, int]:
        giver, taker = [await db.fetchrow(sql.read_account, *end) for end in (source, target)]
        if giver is None or taker is None:
            raise NotFound()
        if giver["balance"] < amount:
            raise InsufficientFunds()
        id, left, there = uuid7(), giver["balance"] - amount, taker["balance"] + amount
        # First what can fail: the less is done by then, the less is given back. In one order, or
        # two who change the same accounts deadlock.
        for row, balance in sorted(((giver, left), (taker, there)), key=lambda one: one[0]["id"]):
            if not await db.fetchval(sql.update_version, row["id"], balance, row["seq"]):
                raise VersionMismatch()
        await db.execute(rows.add_transfer, id, key, reference, by)
        out = giver["id"], giver["seq"] + 1, id, -amount, left, "DEBIT"
        await db.execute(rows.add_entries, *out, taker["id"], taker["seq"] + 1, there, "CREDIT")
        return id, left


class OptimisticHouse(SpecifiedHouse):
    """The house with versions in the place of the groups."""

    async def __aenter__(self) -> Strongroom:
        await super().__aenter__()
        self.lanes = Optimistic(self)
        return self
