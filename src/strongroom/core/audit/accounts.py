"""An account as an operator names it."""

from __future__ import annotations

from uuid import UUID

from strongroom.core.audit.seals import sql
from strongroom.core.db import Connection
from strongroom.errors import Invalid
from strongroom.ids import HOUSE


class NoSuchAccount(Invalid):
    """There is no such account. Name it by its number, or as OWNER/PURPOSE/UNIT."""


class NoSuchUnit(Invalid):
    """No account counts in this unit. `strongroom statement` shows those that there are."""


async def require_unit(db: Connection, unit: str) -> None:
    """NoSuchUnit unless an account counts in it: nothing read is nothing checked."""
    if not await db.fetchval(sql.unit_is_there, unit):
        raise NoSuchUnit()


async def account_named(db: Connection, name: str) -> int:
    """The number of an account that is given as it, or as OWNER/PURPOSE/UNIT where `house` names
    the house; NoSuchAccount."""
    found: int | None = None
    if name.isascii() and name.isdecimal() and len(name) < len(str(2**63)):
        found = await db.fetchval(sql.account_of_number, int(name))
    else:
        owner, _, rest = name.partition("/")
        purpose, _, unit = rest.rpartition("/")
        try:
            owner_id = HOUSE if owner == "house" else UUID(owner)
        except ValueError:
            raise NoSuchAccount() from None
        found = await db.fetchval(sql.find_account, owner_id, purpose, unit)
    if found is None:
        raise NoSuchAccount()
    return found
