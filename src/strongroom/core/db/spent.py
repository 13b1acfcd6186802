"""Where the time of statements goes: each counted under the room whose file names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg

from strongroom.clock import monotonic
from strongroom.core.db.queries import loaded
from strongroom.tally import Tally

TRANSACTIONS = "transactions"
"""Stands for what no file names: what opens and ends transactions."""


APPENDING = "COPY "
"""Before a table that rows are appended to."""

Trail = list[tuple[str, float, float]]
"""The statements of a transaction, each with when it began and ended."""

_names: dict[str, str] = {}
_read: set[str] = set()


def name_of(query: str) -> str:
    """`ledger.lock_accounts`: how a statement is told to people, who must not read values. Capitals
    and tables alone stand for themselves."""
    if query not in _names and len(_read) != len(loaded):
        for file in loaded.keys() - _read:
            _read.add(file)
            for name, text in loaded[file].sql.items():
                _names.setdefault(text, f"{label_of(file)}.{name}")
    plain = query.startswith(APPENDING) or (query.isupper() and query.replace(" ", "").isalpha())
    return _names.get(query) or (query if plain else "(unnamed)")


def label_of(file: str) -> str:
    """`strongroom.core.events/events.sql` is `events`, `strongroom.apps.orders/reading.sql` is
    `orders/reading`."""
    package, _, name = file.rpartition("/")
    room, stem = package.rpartition(".")[2], name.removesuffix(".sql")
    return room if room == stem else f"{room}/{stem}"


class Spent:
    """The time of one database's statements as this process waited for them, by room. There are as
    many rooms as there are files of queries. `heard`, where there is somebody who wants to know, is
    called with each statement that no transaction notes: what it was, when it began and ended."""

    def __init__(self) -> None:
        self.rooms: dict[str, Tally] = {}
        self.heard: Callable[[str, float, float], None] | None = None
        self._by_query: dict[str, Tally] = {}
        self._room_of: dict[str, str] = {}
        self._files = 0

    def add(self, query: str, seconds: float) -> None:
        tally = self._by_query.get(query)
        if tally is None:
            tally = self._learn(query)
        tally.add(seconds)

    def appended(self, schema: str, seconds: float) -> None:
        """Rows went by COPY into a table of this schema, which has its room's name."""
        self._of(schema).add(seconds)

    def _of(self, room: str) -> Tally:
        tally = self.rooms.get(room)
        if tally is None:
            tally = self.rooms[room] = Tally()
        return tally

    def _learn(self, query: str) -> Tally:
        """Files are loaded when their room is first imported, so there may be new ones. Text that
        no file has is not kept: there is no end to it."""
        if self._files != len(loaded):
            self._files = len(loaded)
            for file, queries in loaded.items():
                for text in queries.sql.values():
                    self._room_of.setdefault(text, label_of(file))
        room = self._room_of.get(query)
        if room is None:
            return self._of(TRANSACTIONS)
        tally = self._by_query[query] = self._of(room)
        return tally


class _Timed(asyncpg.Connection):
    """A connection whose statements are timed, failed ones too: 1 µs for each."""

    spent: Spent
    trail: Trail | None = None

    def keep(self, trail: Trail | None) -> None:
        """Notes statements there from now on."""
        self.trail = trail

    def _note(self, query: str, began: float, ended: float) -> None:
        if self.trail is not None:
            self.trail.append((query, began, ended))
        elif self.spent.heard is not None:
            self.spent.heard(query, began, ended)

    def _took(self, query: str, began: float) -> None:
        ended = monotonic()
        self.spent.add(query, ended - began)
        self._note(query, began, ended)

    async def execute(self, query: str, *args: Any, **more: Any) -> Any:
        began = monotonic()
        try:
            return await super().execute(query, *args, **more)
        finally:
            self._took(query, began)

    async def fetch(self, query: str, *args: Any, **more: Any) -> Any:
        began = monotonic()
        try:
            return await super().fetch(query, *args, **more)
        finally:
            self._took(query, began)

    async def fetchrow(self, query: str, *args: Any, **more: Any) -> Any:
        began = monotonic()
        try:
            return await super().fetchrow(query, *args, **more)
        finally:
            self._took(query, began)

    async def fetchval(self, query: str, *args: Any, **more: Any) -> Any:
        began = monotonic()
        try:
            return await super().fetchval(query, *args, **more)
        finally:
            self._took(query, began)

    async def copy_to_table(self, table_name: str, **more: Any) -> Any:
        began = monotonic()
        try:
            return await super().copy_to_table(table_name, **more)
        finally:
            ended, schema = monotonic(), more["schema_name"]
            self.spent.appended(schema, ended - began)
            self._note(f"{APPENDING}{schema}.{table_name}", began, ended)


def follow(db: Any, trail: Trail | None) -> None:
    """Notes the statements of a connection there, None ends it; nothing where a step stands between
    them."""
    keep = getattr(db, "keep", None)
    if keep is not None:
        keep(trail)


def timed(spent: Spent) -> type[asyncpg.Connection]:
    """The class of connections whose statements are counted there."""
    return type("Timed", (_Timed,), {"spent": spent})
