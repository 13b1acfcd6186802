"""What operators did: who, when, what, and why.

The rows of `audit.actions` are written by triggers, in the transaction of what they tell (decision
0023). A command that is refused changes nothing, so it leaves none.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from strongroom.core.audit.limits import sql
from strongroom.core.db import Database

NEWEST = 2**63 - 1
"""Behind every action."""


class Action(msgspec.Struct, frozen=True, rename="camel"):
    """One privileged act. `before` and `after` are what it changed, as far as that is kept."""

    id: int
    at: datetime
    by: str
    action: str
    subject: str
    before: msgspec.Raw | None
    after: msgspec.Raw | None
    reason: str


async def actions(database: Database, before: int = NEWEST, limit: int = 50) -> list[Action]:
    """What was done, newest first, from before an id."""
    rows = await database.fetch(sql.actions, before, limit)
    return [
        Action(
            row["id"],
            row["at"],
            row["by_whom"],
            row["action"],
            row["subject"],
            _raw(row["before"]),
            _raw(row["after"]),
            row["reason"],
        )
        for row in rows
    ]


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
