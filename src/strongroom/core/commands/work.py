"""What one group of commands has loaded, and what it will write."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from strongroom.clock import Clock
from strongroom.core.commands.command import Reply
from strongroom.core.db import Connection, Database, Queries, Table
from strongroom.core.db.held import Locking, Locks, by_id
from strongroom.core.events import Event, Outbox, Publish
from strongroom.core.ledger import Books
from strongroom.errors import NotFound
from strongroom.ids import NewId, uuid7

sql = Queries(__package__, "commands.sql")


async def forget_answers(database: Database, days: int, limit: int) -> int:
    """Deletes up to `limit` stored answers older than `days`; the effects stay unique for ever.
    How many that were."""
    async with database.connection() as db:
        return int((await db.execute(sql.forget_answers, days, limit)).split()[-1])


@dataclass(frozen=True)
class Sources:
    """What commands and their executor cannot work out for themselves: a seed that gives all of it,
    with the order of statements, gives the same run again.

    Without a `clock` it is the database's, read after the locks. `pause` waits so many seconds,
    `between` draws how many.
    """

    new_id: NewId = uuid7
    new_secret: Callable[[int], bytes] = secrets.token_bytes
    clock: Clock | None = None
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    between: Callable[[float, float], float] = random.uniform


class Row(Protocol):
    """An application row: an id, and attributes named like the columns."""

    id: UUID


R = TypeVar("R", bound=Row)


class Kept(Generic[R]):
    """An application table as commands use it: locked by id, changed in memory, stored at the end.

    `lock` takes the sorted ids and returns the row's fields in order; `update` takes one array
    for the id and one for each name in `changes`.
    """

    def __init__(
        self,
        row: type[R],
        table: Table,
        *,
        lock: str,
        update: str | None = None,
        changes: Sequence[str] = (),
    ) -> None:
        self.row, self.table, self.lock, self.update = row, table, lock, update
        self.inserted = _reader(table.columns)
        self.updated = _reader(("id", *changes))

    @property
    def locking(self) -> Locking:
        return by_id(self.lock)


def _reader(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads these attributes of a row as a tuple."""
    read = attrgetter(*names)
    return read if len(names) > 1 else lambda row: (read(row),)


class Work:
    """The working set of one group: locked accounts and rows, and all that its decisions change.

    `now` is the clock, read after the locks; `new_id` and `new_secret` give what is unguessable:
    all three come from `sources`. `lost_race` says that this group was undone once already by a
    key that existed; `asked` has the principal and key of each command, `noted` is what a fetch
    saw beside rows. Rows that somebody holds are left out by `locks`: a decision that needs one
    raises RowHeld.
    """

    def __init__(
        self,
        db: Connection,
        publish: Publish,
        sources: Sources,
        *,
        locks: Locks | None = None,
        lost_race: bool = False,
    ) -> None:
        self.db = db
        self.new_secret = sources.new_secret
        self.lost_race = lost_race
        self._locks = locks or Locks()
        self.books = Books(self._locks)
        self.outbox = Outbox(publish)
        self.now: datetime = None  # type: ignore[assignment]  # set when the locks are won
        self.cause: UUID | None = None
        self.request: UUID | None = None
        self.by = "?"
        self.key: str | None = None
        self.noted: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []
        self._make_id = sources.new_id
        self._clock = sources.clock
        self._fresh: set[UUID] = set()
        self._rows: dict[Kept[Any], dict[UUID, Any]] = {}
        self._added: dict[Kept[Any], list[Any]] = {}
        self._changed: dict[Kept[Any], dict[UUID, Any]] = {}
        self._appended: dict[Table, list[tuple[Any, ...]]] = {}
        self._noticed: dict[Table, list[tuple[Any, ...]]] = {}
        self._extra: list[tuple[str, tuple[Any, ...]]] = []

    # Fetching -------------------------------------------------------------------------------

    async def lock(self, kept: Kept[R], ids: Iterable[UUID]) -> None:
        """Locks the rows with these ids, in order, for the rest of the transaction."""
        wanted = sorted(set(ids))
        if wanted:
            self.hold(kept, await self._locks.fetch(self.db, kept.locking, wanted))

    def hold(self, kept: Kept[R], records: Iterable[Any]) -> list[R]:
        """Takes rows that another query of the room has locked."""
        held = [kept.row(*record) for record in records]
        shelf = self._rows.setdefault(kept, {})
        for row in held:
            shelf[row.id] = row
        return held

    async def read_clock(self) -> None:
        self.now = self._clock() if self._clock else await self.db.fetchval(sql.now)

    # Deciding -------------------------------------------------------------------------------

    def new_id(self) -> UUID:
        made = self._make_id()
        self._fresh.add(made)
        return made

    def find(self, kept: Kept[R], id: UUID) -> R | None:
        if self._locks.left_out:
            self._locks.check(kept.locking, id)
        return self._rows.get(kept, {}).get(id)

    def held(self, kept: Kept[R]) -> list[R]:
        """All rows of the table that the group has fetched; a decision must not overlook one."""
        if self._locks.left_out and self.now is not None:
            self._locks.check_all(kept.locking)
        return list(self._rows.get(kept, {}).values())

    def get(self, kept: Kept[R], id: UUID) -> R:
        """The row; NotFound when it is not there."""
        row = self.find(kept, id)
        if row is None:
            raise NotFound()
        return row

    def add(self, kept: Kept[R], row: R) -> R:
        self._rows.setdefault(kept, {})[row.id] = row
        self._added.setdefault(kept, []).append(row)
        return row

    def append(self, table: Table, row: tuple[Any, ...], *, though_refused: bool = False) -> None:
        """Adds a row that no decision looks at again. `though_refused`: it stays even when this
        command is refused, as the scan of a ticket that was used before."""
        rows = self._noticed if though_refused else self._appended
        rows.setdefault(table, []).append(row)

    def change(self, kept: Kept[R], row: R) -> None:
        """Marks a held row as changed; to be called with the change."""
        self._changed.setdefault(kept, {})[row.id] = row

    async def see(self, kept: Kept[R], query: str, ids: Iterable[UUID]) -> None:
        """Reads rows without a lock of their own: another lock of the group guards them."""
        wanted = sorted(set(ids))
        if wanted:
            self.hold(kept, await self.db.fetch(query, wanted))

    def run_at_end(self, query: str, *args: Any) -> None:
        """A named statement of the room, run when the group is written."""
        self._extra.append((query, args))

    def emit(self, type: str, key: UUID, payload: Reply) -> None:
        """Says what happened. `key` names the aggregate whose row or account the group holds."""
        event = Event(
            id=self._make_id(),
            type=type,
            key=key,
            payload=payload,
            causation=self.cause,
            correlation=self.request,
        )
        self.outbox.add(event, first=key in self._fresh)

    @property
    def mark(self) -> tuple[int, int, int, int]:
        """Counts what has been changed: a refusal must leave it as it was."""
        added = sum(map(len, self._added.values())) + sum(map(len, self._appended.values()))
        changed = sum(map(len, self._changed.values()))
        return len(self.books), len(self.outbox), added, changed + len(self._extra)

    # Writing --------------------------------------------------------------------------------

    async def write(self) -> None:
        """Stores all changes of the group, one statement a table."""
        await self.books.write(self.db)
        for kept, rows in self._added.items():
            await kept.table.append(self.db, [kept.inserted(row) for row in rows])
        for rows_of in (self._appended, self._noticed):
            for table, more in rows_of.items():
                await table.append(self.db, more)
        for kept, changed in self._changed.items():
            new = {id(row) for row in self._added.get(kept, ())}
            old = [row for row in changed.values() if id(row) not in new]
            if old:
                assert kept.update, f"{kept.table.name} is only ever appended to"
                columns = zip(*sorted(map(kept.updated, old)), strict=True)
                await self.db.execute(kept.update, *map(list, columns))
        for query, args in self._extra:
            await self.db.execute(query, *args)
        await self.outbox.write(self.db)
