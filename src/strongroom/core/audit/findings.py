"""What does not hold, as rows that JSON takes, and asking for it without believing silence."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec

from strongroom.core.db import Connection, Record

UNASKABLE = ("22", "42", "XX")
"""Classes of SQLSTATE by which a query says that the data, a table, a privilege or a page is
not as it must be. Everything else, as a lock or a full disk, says nothing about the books."""

MOST_ROWS = 10
"""As many as an invariant shows: enough to see what they share."""


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """An invariant that does not hold: up to ten rows, the first wrong one first."""

    invariant: str
    why: str
    rows: list[dict[str, Any]]

    def __str__(self) -> str:
        first = ", ".join(f"{name} {value}" for name, value in self.rows[0].items())
        return f"{self.invariant}: {first}"


class Findings:
    """Findings by invariant as a run meets them: rows of one are kept together, ten at most."""

    def __init__(self, why: dict[str, str]) -> None:
        self._why = why
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def add(self, invariant: str, row: dict[str, Any]) -> None:
        rows = self._rows.setdefault(invariant, [])
        if len(rows) < MOST_ROWS:
            rows.append(row)

    def extend(self, invariant: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.add(invariant, row)

    @property
    def all(self) -> list[Finding]:
        return [Finding(name, self._why[name], rows) for name, rows in self._rows.items()]

    @contextlib.asynccontextmanager
    async def unless_unaskable(self, db: Connection, invariant: str) -> AsyncIterator[None]:
        """What cannot be asked is not taken for kept; what comes after is asked all the same."""
        try:
            async with db.transaction():
                yield
        except Exception as error:
            self.add(invariant, unaskable(error))


def unaskable(error: Exception) -> dict[str, Any]:
    """An error that says something about the books, as a row; every other is raised again."""
    sqlstate: str = getattr(error, "sqlstate", None) or ""
    if not sqlstate.startswith(UNASKABLE):
        raise error
    return {"error": str(error), "sqlstate": sqlstate}


async def ask(db: Connection, query: str, *args: Any) -> list[dict[str, Any]]:
    """The rows that break an invariant. One that cannot be asked is not taken for kept."""
    try:
        # A savepoint: the next invariant is asked all the same.
        async with db.transaction():
            return [plain(row) for row in await db.fetch(query, *args)]
    except Exception as error:
        return [unaskable(error)]


def plain(row: Record) -> dict[str, Any]:
    """A row as JSON takes it, its names in the form of the doors."""
    return {_camel(name): _value(value) for name, value in row.items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def _value(value: Any) -> Any:
    # Sums of bigints come as numeric, yet are whole.
    return int(value) if isinstance(value, Decimal) else msgspec.to_builtins(value, enc_hook=str)
