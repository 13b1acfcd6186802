"""Rows that somebody holds for longer than any group takes: known by their keys, and left out.

A transaction that waited for a lock in vain learns for which row. Until that row is free again the
others of its process leave it out of what they lock, and only who needs it is told to come again.
All of this is memory of one process and may be forgotten at any moment: the next one who waits
learns it anew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from strongroom.clock import monotonic
from strongroom.core.db.database import (
    LOCK_WAIT,
    Connection,
    Database,
    DatabaseBusy,
    DatabaseDown,
    Record,
)
from strongroom.core.db.queries import Queries
from strongroom.errors import Busy

sql = Queries(__package__, "held.sql")

log = structlog.get_logger(__name__)

SHORT_MS = 200
"""How long who waited in vain once waits for the next row: most groups are done by then."""

LOOK_S = 0.25
"""A row that comes free is served again after this at most."""

LOOK_MS = 30
"""A look is no wait: longer than most groups hold a row, and over before many queue behind it."""

SEARCH_S = 0.6
"""Some dozen looks, while those who wait for the answer can still be served."""

LOOKED_AT_ONCE = 20
"""More held rows than this are looked at in turn, so that looking stays cheap."""

MOST_HELD = 1000
"""Beyond this it is no row that is held but a table, and leaving rows out is no help."""

_TUPLE = re.compile(r'tuple (\(\d+,\d+\)) in relation "(.+?)"')


class RowHeld(Busy):
    """Somebody holds what this needs for unusually long. Try again shortly, with the same key."""

    def __init__(self, row: HeldRow | None = None) -> None:
        super().__init__()
        self.row = row

    def is_about(self, value: object) -> bool:
        """Whether a command mentions the row, or its owner."""
        return self.row is not None and mentions(value, {_said(self.row)})


HeldRow = tuple[str, Hashable]
"""The statement that would lock it, and its key."""


class Locking(NamedTuple):
    """A statement that locks rows by their keys, and how keys become its arguments. A key is an id,
    or a tuple that begins with its owner's."""

    query: str
    arguments: Callable[[Sequence[Any]], list[Any]]


def by_id(query: str) -> Locking:
    """A statement that takes one array of ids."""
    return Locking(query, lambda ids: [ids])


def _said(row: HeldRow) -> Hashable:
    """The id that a command says when it needs the row."""
    _, key = row
    return key[0] if isinstance(key, tuple) else key


def _parts(key: Any) -> set[str]:
    """The words by which a key stands in its row."""
    return {str(part) for part in (key if isinstance(key, tuple) else [key])}


def mentions(value: Any, ids: set[Hashable]) -> bool:
    """Whether one of the ids stands among a command's values."""
    if isinstance(value, UUID):
        return value in ids
    if isinstance(value, tuple | list):
        return any(mentions(one, ids) for one in value)
    kind = type(value)
    names = (*getattr(kind, "__dataclass_fields__", ()), *getattr(kind, "__struct_fields__", ()))
    return any(mentions(getattr(value, name, None), ids) for name in names)


class Held:
    """The rows that are held, as this process knows. A row is held for one statement: who locks
    it in another mode may not have to wait."""

    def __init__(
        self, database: Database, pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._db = database
        self._pause = pause
        self._rows: dict[HeldRow, Locking] = {}
        self._met: dict[type, set[Hashable]] = {}
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row: HeldRow) -> bool:
        return row in self._rows

    # Learning -------------------------------------------------------------------------------

    async def learn(self, locks: Locks, error: Exception) -> bool:
        """Whether more is known than when this transaction began: to be run again without it.

        Only the first who waits for a row is told which, and it may be another's than was asked
        for by key. Then the keys are tried, half by half.
        """
        if locks.asked is None:
            return False
        locking, keys = locks.asked
        if any((locking.query, key) in self._rows for key in keys):
            return True
        if len(self._rows) >= MOST_HELD:
            return False
        try:
            place = _TUPLE.search(getattr(error, "context", None) or "")
            found = await self._named(place, keys) if place else []
            if not found:
                found = await self._search(locking, keys, monotonic() + SEARCH_S)
                if place is None and len(found) == len(keys):
                    return False  # not a row of these, but all of the table
        except (DatabaseDown, DatabaseBusy):
            return False
        for key in found:
            log.warning("row held", key=str(key))
            self._rows[locking.query, key] = locking
        if self._rows and self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="looking at held rows")
        return bool(found)

    async def _named(self, place: re.Match[str], keys: Sequence[Any]) -> list[Any]:
        """The key whose row lies at the place that an error names."""
        rows = await self._db.fetch(sql.words_of_row, place[2], place[1])
        said = [set(row["words"] or ()) for row in rows]
        return [key for key in keys if any(_parts(key) <= words for words in said)]

    async def _search(self, locking: Locking, keys: Sequence[Any], until: float) -> list[Any]:
        """The keys whose rows cannot be locked now; some of them, when there are many."""
        if monotonic() > until or await self._is_free(locking, keys):
            return []
        if len(keys) == 1:
            return list(keys)
        middle = len(keys) // 2
        first = await self._search(locking, keys[:middle], until)
        return first + await self._search(locking, keys[middle:], until)

    async def _is_free(self, locking: Locking, keys: Sequence[Any]) -> bool:
        try:
            async with self._db.transaction() as db:
                await wait_at_most(db, LOOK_MS)
                await db.fetch(locking.query, *locking.arguments(keys))
        except LOCK_WAIT:
            return False
        return True

    def met(self, kind: type, error: RowHeld) -> None:
        """A command of this kind needed the row."""
        if error.row in self._rows:
            self._met.setdefault(kind, set()).add(_said(error.row))

    def turns_away(self, command: object) -> bool:
        """Whether one of its kind that mentioned the same met a row that is held."""
        ids = self._met.get(type(command))
        return ids is not None and mentions(command, ids)

    # Forgetting -----------------------------------------------------------------------------

    async def _look(self) -> None:
        """Looks at the rows until all are free; whatever goes wrong, they are forgotten."""
        try:
            while self._rows:
                await self._pause(LOOK_S)
                for row in list(self._rows)[:LOOKED_AT_ONCE]:
                    await self._look_at(row)
        except Exception as error:
            log.warning("held rows forgotten", error=repr(error))
        finally:
            self._rows.clear()
            self._met.clear()
            self._looking = None

    async def _look_at(self, row: HeldRow) -> None:
        locking = self._rows[row] = self._rows.pop(row)  # the last to be looked at again
        if await self._is_free(locking, [row[1]]):
            del self._rows[row]
            for ids in self._met.values():
                ids.discard(_said(row))


async def wait_at_most(db: Connection, ms: int) -> None:
    """For the rest of the transaction."""
    await db.fetchval(sql.wait_at_most, str(ms))


class Locks:
    """The rows that one transaction locks by key, without those that are known to be held.

    `asked` is the statement under way with its keys; `left_out` what it went without.
    """

    __slots__ = ("_held", "asked", "left_out")

    def __init__(self, held: Held | None = None) -> None:
        self._held = held
        self.asked: tuple[Locking, Sequence[Any]] | None = None
        self.left_out: set[HeldRow] = set()

    async def fetch(self, db: Connection, locking: Locking, keys: Sequence[Any]) -> list[Record]:
        """Locks the rows with these keys, and returns them."""
        if self._held:
            out = {key for key in keys if (locking.query, key) in self._held}
            if out:
                self.left_out.update((locking.query, key) for key in out)
                keys = [key for key in keys if key not in out]
                if not keys:
                    return []
        self.asked = locking, keys
        rows: list[Record] = await db.fetch(locking.query, *locking.arguments(keys))
        self.asked = None
        return rows

    def check(self, locking: Locking, key: Hashable) -> None:
        """Raises RowHeld when this row was left out."""
        if (locking.query, key) in self.left_out:
            raise RowHeld((locking.query, key))

    def check_all(self, locking: Locking) -> None:
        """Raises RowHeld when any row of this statement was left out."""
        for row in self.left_out:
            if row[0] == locking.query:
                raise RowHeld(row)
