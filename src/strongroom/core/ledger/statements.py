"""Reading the ledger: balances, statements, the past, the trial balance."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from strongroom.core.db import Database, Record
from strongroom.core.ledger.books import AccountKey, sql
from strongroom.ids import HOUSE
from strongroom.money import VND


class Balance(NamedTuple):
    """A wallet as it stood at `as_of`, the database's clock; amounts in minor units."""

    owner_id: UUID
    unit: str
    balance: int
    locked: int
    seq: int
    as_of: datetime


class Statements:
    """What the accounts say. Reads committed entries only, holds no lock."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def wallets(self, owner_ids: list[UUID], unit: str = VND) -> dict[UUID, Balance]:
        """The wallets of these owners in one snapshot; who has no account is left out."""
        rows = await self._db.fetch(sql.balances, owner_ids, unit, ["wallet", "stake"])
        found: dict[UUID, Balance] = {}
        locked = {row[0]: row[3] for row in rows if row[1] == "stake"}
        for row in rows:
            if row[1] == "wallet":
                owner = row[0]
                found[owner] = Balance(owner, unit, row[3], locked.get(owner, 0), row[4], row[5])
        return found

    async def entries(self, key: AccountKey, after: int, limit: int) -> list[Record]:
        """Up to `limit` entries with seq > `after`, ascending."""
        return await self._db.fetch(sql.entries, *key, after, limit)

    async def balance_at(self, key: AccountKey, at: datetime) -> int:
        """The balance at a past time; 0 before the first entry."""
        found: int | None = await self._db.fetchval(sql.balance_at, *key, at)
        return found or 0

    async def trial_balance(self) -> list[Record]:
        """(unit, purpose, accounts, balance, as_of), house and world accounts included."""
        return await self._db.fetch(sql.trial_balance, HOUSE)
