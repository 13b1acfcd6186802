"""The specification's Transaction A: each request in a transaction of its own, a row a statement.

It does all that a group does: the key is claimed and the answer stored, the stake moves in double
entry, the event and the message are written, all before COMMIT. A pool of 20, as in the
specification.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Any
from uuid import UUID

import msgspec

from strongroom.apps.betting import PlaceBet
from strongroom.apps.betting.bets import BetAccepted, BetPlaced
from strongroom.apps.betting.rounds import RoundClosed
from strongroom.apps.wallets import TransferBatch
from strongroom.apps.wallets.batches import BatchResults, ItemResult
from strongroom.core.commands import Command, Lanes, Outcome, Reply, Ticket
from strongroom.core.commands.command import IdempotencyKeyReused
from strongroom.core.db import Connection, Database, Queries
from strongroom.core.ledger import InsufficientFunds
from strongroom.core.ledger.statements import Balance
from strongroom.errors import NotFound, Refused
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from strongroom.money import VND

sql = Queries(__package__, "row_at_a_time.sql")

POOL_SIZE = 20
"""The specification's pool."""


class RowAtATime(Lanes):
    """Stands in for the lanes: runs bets and batches of transfers alone, a row at a time."""

    def __init__(self, house: Strongroom) -> None:
        super().__init__(house.executor)
        self._db = house.database
        # Numbers that no other process uses: the round is not held, so it cannot count.
        self._number = count(os.getpid() << 40)

    async def run(self, ticket: Ticket) -> Outcome:
        if isinstance(ticket.command, TransferBatch):
            return await self._batch(ticket, ticket.command)
        async with self._db.transaction() as db:
            if not await self._claim(db, ticket):
                return await self._replay(db, ticket)
            try:
                reply = await self._act(db, ticket, ticket.command)
                outcome = Outcome(body=msgspec.json.encode(reply), reply=reply)
            except Refused as error:
                said = {"detail": error.detail, "requestId": str(ticket.request)}
                outcome = Outcome(body=msgspec.json.encode(said), refused=error.code)
            subject = getattr(outcome.reply, "subject", None)
            await db.execute(sql.answer, ticket.id, outcome.refused, outcome.body, subject)
        return outcome

    async def _claim(self, db: Connection, ticket: Ticket) -> bool:
        row = ticket.principal, ticket.name, ticket.key, ticket.fingerprint
        return bool(await db.fetchval(sql.claim, ticket.id, *row))

    async def _replay(self, db: Connection, ticket: Ticket) -> Outcome:
        row = await db.fetchrow(sql.answered, ticket.id)
        assert row is not None
        if row["fingerprint"] != ticket.fingerprint:
            return Outcome(error=IdempotencyKeyReused())
        return Outcome(body=row["body"], refused=row["refused"], replayed=True)

    async def _act(self, db: Connection, ticket: Ticket, command: Command) -> Reply:
        if isinstance(command, PlaceBet):
            return await self._place(db, command, ticket.principal)
        raise AssertionError("the baselines' only commands are bets and batches")

    async def _batch(self, ticket: Ticket, batch: TransferBatch) -> Outcome:
        """Each transfer in a transaction of its own: it holds two rows, not thousands."""
        results = []
        for item in batch.items:
            key = f"TRANSFER:{ticket.principal}:{item.key}"
            ends = (item.source, "wallet"), (item.target, "wallet")
            async with self._db.transaction() as db:
                id, _ = await move(db, key, *ends, item.amount, ticket.principal)
            results.append(ItemResult("posted", id))
        async with self._db.transaction() as db:
            if not await self._claim(db, ticket):
                return await self._replay(db, ticket)
            outcome = Outcome(body=msgspec.json.encode(BatchResults(results)))
            await db.execute(sql.answer, ticket.id, None, outcome.body, None)
        return outcome

    async def _place(self, db: Connection, bet: PlaceBet, by: str) -> BetAccepted:
        round = await db.fetchrow(sql.share_round, bet.round_id)
        if round is None:
            raise NotFound()
        if round["status"] != "OPEN" or (round["closes_at"] and round["closes_at"] <= round["now"]):
            raise RoundClosed()
        id = uuid7()
        ends = (bet.user_id, "wallet"), (bet.user_id, "stake")
        _, balance = await self._move(db, f"BET:{id}", *ends, bet.amount, by, str(id))
        number = next(self._number)
        row = bet.user_id, bet.side, bet.amount
        await db.execute(sql.add_bet, id, bet.round_id, number, *row)
        placed = BetPlaced(id, bet.round_id, *row, number)
        payload = msgspec.json.encode(placed).decode()
        await db.execute(sql.add_event, id, uuid7(), payload)
        await db.fetchval(sql.send, payload)
        return BetAccepted(id, "PENDING", balance)

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
        return await move(db, key, source, target, amount, by, reference)


async def move(
    db: Connection,
    key: str,
    source: tuple[UUID, str],
    target: tuple[UUID, str],
    amount: int,
    by: str,
    reference: str | None = None,
) -> tuple[UUID, int]:
    """One transfer; its id and the source's balance after it."""
    held = {}
    for end in sorted((source, target)):
        row = await db.fetchrow(sql.lock_account, *end)
        if row is None:
            raise NotFound()
        held[end] = row
    giver, taker = held[source], held[target]
    if giver["balance"] < amount:
        raise InsufficientFunds()
    id, left, there = uuid7(), giver["balance"] - amount, taker["balance"] + amount
    await db.execute(sql.add_transfer, id, key, reference, by)
    out = giver["id"], giver["seq"] + 1, id, -amount, left, "DEBIT"
    await db.execute(sql.add_entries, *out, taker["id"], taker["seq"] + 1, there, "CREDIT")
    await db.execute(sql.update_account, giver["id"], left, giver["seq"] + 1)
    await db.execute(sql.update_account, taker["id"], there, taker["seq"] + 1)
    return id, left


class OneQueryEach:
    """Stands in for the gathered reads: a query for every wallet that is asked for."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def get(self, user_id: UUID) -> Balance | None:
        row = await self._db.fetchrow(sql.wallet, user_id)
        return Balance(user_id, VND, *row) if row else None


class SpecifiedHouse(Strongroom):
    """The house with the grouping taken out."""

    def __init__(self, **overrides: Any) -> None:
        super().__init__(**{"pool_size": POOL_SIZE, **overrides})

    async def __aenter__(self) -> Strongroom:
        await super().__aenter__()
        self.lanes = RowAtATime(self)
        self.wallets = OneQueryEach(self.database)  # type: ignore[assignment]  # the same `get`
        return self
