"""Reconciliation: all invariants asked in one snapshot, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from strongroom.clock import monotonic
from strongroom.core.commands import Reply
from strongroom.core.db import Connection, Database, Queries, Record
from strongroom.errors import NotFound
from strongroom.ids import NewId, uuid7

sql = Queries(__package__, "audit.sql")

GUARDS = Queries(__package__, "guards_invariants.sql")
"""What keeps the data from being changed. Asked last: a guard that was put aside says that
something may be wrong, and whoever reads a report wants what is wrong first."""

CORE = (
    Queries(__package__, "ledger_invariants.sql"),
    Queries(__package__, "commands_invariants.sql"),
    Queries(__package__, "events_invariants.sql"),
    GUARDS,
)
"""What holds whichever applications there are."""

UNASKABLE = ("22", "42", "XX")
"""Classes of SQLSTATE by which a query says that the data, a table, a privilege or a page is
not as it must be. Everything else, as a lock or a full disk, says nothing about the books."""

Progress = Callable[[str, int, int], None]
"""Told before each invariant: its name, how many were asked, how many there are."""


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """An invariant that does not hold: up to ten rows, the first wrong one first."""

    invariant: str
    why: str
    rows: list[dict[str, Any]]

    def __str__(self) -> str:
        first = ", ".join(f"{name} {value}" for name, value in self.rows[0].items())
        return f"{self.invariant}: {first}"


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """One run. `began_at` is the database's clock, before the snapshot was taken."""

    id: UUID
    clean: bool
    findings: list[Finding]
    began_at: datetime
    duration_ms: int


class Reconciled(Reply, frozen=True):
    """A recorded run, as an operator sees it."""

    reconciliation_id: UUID
    clean: bool
    findings: list[Finding]
    duration_ms: int

    @property
    def subject(self) -> UUID:
        return self.reconciliation_id


class Reconciler:
    """Asks the invariants of the core and of the applications handed in.

    Reads only: every role that may read all tables will do, best is `strongroom_audit`.
    """

    def __init__(
        self, database: Database, apps: Sequence[Queries] = (), *, new_id: NewId = uuid7
    ) -> None:
        self._db = database
        self._new_id = new_id
        self._invariants = [
            (name, queries.why[name], query)
            for queries in (*CORE[:-1], *apps, GUARDS)
            for name, query in queries.sql.items()
        ]
        names = {name for name, _, _ in self._invariants}
        assert len(names) == len(self._invariants), "two invariants have the same name"

    async def run(self, on_progress: Progress | None = None) -> Report:
        """One run over one snapshot; changes nothing. DatabaseDown when nobody answers."""
        began = monotonic()
        findings: list[Finding] = []
        async with (
            self._db.connection() as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            began_at: datetime = (await db.fetch(sql.begin_reading))[0]["began_at"]
            for asked, (name, why, query) in enumerate(self._invariants):
                if on_progress:
                    on_progress(name, asked, len(self._invariants))
                rows = await _ask(db, query)
                if rows:
                    findings.append(Finding(name, why, rows))
        return Report(
            id=self._new_id(),
            clean=not findings,
            findings=findings,
            began_at=began_at,
            duration_ms=round((monotonic() - began) * 1000),
        )

    async def ran_since(self, moment: datetime) -> bool:
        """Whether a run that began after `moment` is recorded."""
        return await self._db.fetchval(sql.newest_verdict, moment) is not None

    async def find(self, id: UUID) -> Reconciled:
        """A recorded run; NotFound when there is none."""
        row = await self._db.fetchrow(sql.find_reconciliation, id)
        if row is None:
            raise NotFound()
        findings = msgspec.json.decode(row["findings"], type=list[Finding])
        return Reconciled(row["id"], row["clean"], findings, row["duration_ms"])


async def _ask(db: Connection, query: str) -> list[dict[str, Any]]:
    """The rows that break an invariant. One that cannot be asked is not taken for kept."""
    try:
        # A savepoint: the next invariant is asked all the same.
        async with db.transaction():
            return [_plain(row) for row in await db.fetch(query)]
    except Exception as error:
        sqlstate: str = getattr(error, "sqlstate", None) or ""
        if not sqlstate.startswith(UNASKABLE):
            raise
        return [{"error": str(error), "sqlstate": sqlstate}]


def _plain(row: Record) -> dict[str, Any]:
    """A row as JSON takes it, its names in the form of the doors."""
    return {_camel(name): _value(value) for name, value in row.items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def _value(value: Any) -> Any:
    # Sums of bigints come as numeric, yet are whole.
    return int(value) if isinstance(value, Decimal) else msgspec.to_builtins(value, enc_hook=str)
