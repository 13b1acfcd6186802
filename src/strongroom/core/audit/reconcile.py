"""Reconciliation: invariants asked in one snapshot, what is sealed read again, what they found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from strongroom.clock import monotonic
from strongroom.core.audit import evidence, seals
from strongroom.core.audit.accounts import account_named, require_unit
from strongroom.core.audit.findings import Finding, Findings, ask, unaskable
from strongroom.core.audit.ranges import ENTRIES, STAND, Reader
from strongroom.core.audit.seals import (
    TURNS,
    Draft,
    Drafts,
    Head,
    SealEntries,
    head_of,
    intervals,
    share_again,
)
from strongroom.core.commands import Reply
from strongroom.core.db import Connection, Database, Queries, Record
from strongroom.errors import Busy, NotFound
from strongroom.ids import NewId, uuid7

sql = Queries(__package__, "audit.sql")

GUARDS = Queries(__package__, "guards_invariants.sql")
"""What keeps the data from being changed. Asked last: a guard that was put aside says that
something may be wrong, and whoever reads a report wants what is wrong first."""

LEDGER = Queries(__package__, "ledger_invariants.sql")

CORE = (
    LEDGER,
    Queries(__package__, "commands_invariants.sql"),
    Queries(__package__, "events_invariants.sql"),
    seals.INVARIANTS,
    GUARDS,
)
"""What holds whichever applications there are."""

CHEAP = ("units_sum_to_zero", "queues_are_bound", "dead_letters_were_written")
"""Asked of everything in every run: they read balances, bindings and letters, not entries."""

KEPT_BY_SHARE = "seals_keep_their_ranges"

RESEAL_DAYS = 30

REASON_LIMIT = 500
"""A finding's first row as a reason: enough to know where to look, short enough to read."""

FULL: Final = "full"
INCREMENTAL: Final = "incremental"
SCOPED: Final = "scoped"

Mode = Literal["full", "incremental", "scoped"]

WHOLE, RANGES, FEW = ("off", "on"), ("on", "off"), ("on", "on")
"""How tables are read: nested loops, and scans from end to end. `begin_reading` has begun WHOLE."""

Progress = Callable[[str, int, int], None]
"""Told before each invariant: its name, how many were asked, how many there are."""


class ReconciliationsUnderWay(Busy):
    """Others asked for a reconciliation as well and wait. Try again when theirs is done."""

    retry_after_s = 10


class Scope(NamedTuple):
    """Whose entries a scoped run reads: of one unit, or of one account."""

    unit: str | None = None
    account: str | None = None
    """Its number, or OWNER/PURPOSE/UNIT; `house` names the house."""


class Seen(msgspec.Struct, frozen=True, rename="camel"):
    """What a run read of the entries: those that were new, and those that it read again."""

    accounts: int
    entries: int
    again_ranges: int
    again_entries: int
    seals: int
    sealed_entries: int


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """One run. `began_at` is the database's clock, before the snapshot was taken; `left` are the
    invariants that this mode does not ask."""

    id: UUID
    clean: bool
    findings: list[Finding]
    began_at: datetime
    duration_ms: int
    mode: Mode = "full"
    asked: list[str] = []
    left: list[str] = []
    seen: Seen | None = None
    head: int | None = None
    head_digest: str | None = None
    evidence: str | None = None

    @property
    def reason(self) -> str:
        """Why payouts are paused, if anything was found."""
        return str(self.findings[0])[:REASON_LIMIT]

    def columns(self, by: str) -> tuple[Any, ...]:
        """What `record_reconciliation` keeps."""
        findings = msgspec.json.encode(self.findings).decode()
        digest = bytes.fromhex(self.head_digest) if self.head_digest else None
        return (
            self.id,
            by,
            self.began_at,
            self.duration_ms,
            self.clean,
            findings,
            self.mode,
            self.head,
            digest,
        )


class Reconciled(Reply, frozen=True):
    """A recorded run, as an operator sees it."""

    reconciliation_id: UUID
    clean: bool
    findings: list[Finding]
    duration_ms: int

    @property
    def subject(self) -> UUID:
        return self.reconciliation_id


class Run(NamedTuple):
    """A report, what it was made from if that is evidence, and the seals that it allows."""

    report: Report
    evidence: dict[str, Any]
    head: Head
    turn: int
    drafts: list[Draft]

    def seals(self) -> list[SealEntries]:
        """One command after the other; none when anything is wrong or the run was scoped."""
        made, head = [], self.head
        if self.report.clean and self.report.mode != SCOPED:
            for draft in self.drafts:
                one = SealEntries(self.report.id, self.report.began_at, self.turn, head, draft)
                head, _ = one.made()
                made.append(one)
        return made


class Reconciler:
    """Asks the invariants of the core and of the applications handed in.

    Reads only: every role that may read all tables will do, best is `strongroom_audit`. What was
    sealed is read again once in `reseal_days` by incremental runs; 0 means by each.
    """

    def __init__(
        self,
        database: Database,
        apps: Sequence[Queries] = (),
        reseal_days: int = RESEAL_DAYS,
        *,
        new_id: NewId = uuid7,
    ) -> None:
        self._db = database
        self._new_id = new_id
        self._reseal_days = reseal_days
        self._invariants = [
            (name, queries.why[name], query)
            for queries in (*CORE[:-1], *apps, GUARDS)
            for name, query in queries.sql.items()
        ]
        self._why = {name: why for name, why, _ in self._invariants}
        assert len(self._why) == len(self._invariants), "two invariants have the same name"
        self._why[STAND] = seals.sql.why["sealed_again"]

    async def run(self, on_progress: Progress | None = None) -> Report:
        """One full run over one snapshot; changes nothing. DatabaseDown when nobody answers."""
        return (await self.read(on_progress=on_progress, drafting=False)).report

    async def read(
        self,
        mode: Mode = "full",
        *,
        scope: Scope | None = None,
        on_progress: Progress | None = None,
        drafting: bool = True,
    ) -> Run:
        """One run over one snapshot; changes nothing, and drafts what may be sealed if it is clean.

        Incremental without a seal to go on from is full. NoSuchAccount and NoSuchUnit for a scope
        that is none.
        """
        began = monotonic()
        assert (scope is not None) == (mode == SCOPED)
        async with (
            self._db.connection() as db,
            db.transaction(isolation="repeatable_read", readonly=True),
        ):
            began_at: datetime = (await db.fetch(sql.begin_reading))[0]["began_at"]
            head = await _head(db)
            if mode == INCREMENTAL and not head.number:
                mode = FULL
            reading = _Reading(self, db, head, on_progress or _unheard)
            if scope:
                await reading.scoped(scope)
            elif mode == INCREMENTAL:
                await reading.incremental(began_at, self._reseal_days, drafting=drafting)
            else:
                await reading.full(drafting=drafting)
            findings = reading.findings.all
            seen = await reading.seen()
            kept = await reading.evidence() if findings else {}
        report = Report(
            id=self._new_id(),
            clean=not findings,
            findings=findings,
            began_at=began_at,
            duration_ms=round((monotonic() - began) * 1000),
            mode=mode,
            asked=reading.asked,
            left=[name for name in self._why if name not in reading.asked],
            seen=seen,
            head=head.number or None,
            head_digest=head.digest.hex() if head.number else None,
        )
        return Run(report, kept, head, reading.turn, reading.drafts.finish() if drafting else [])

    async def ran_since(self, moment: datetime, *, full: bool = False) -> bool:
        """Whether a run of all accounts that began after `moment` is recorded; a `full` one."""
        modes = [FULL] if full else [FULL, INCREMENTAL]
        return bool(await self._db.fetchval(sql.ran_since, moment, modes))

    async def full_run_ms(self) -> int | None:
        """How long the newest full run took; None before the first."""
        took: int | None = await self._db.fetchval(sql.full_run_ms)
        return took

    async def find(self, id: UUID) -> Reconciled:
        """A recorded run; NotFound when there is none."""
        row = await self._db.fetchrow(sql.find_reconciliation, id)
        if row is None:
            raise NotFound()
        findings = msgspec.json.decode(row["findings"], type=list[Finding])
        return Reconciled(row["id"], row["clean"], findings, row["duration_ms"])


async def verdict(db: Database | Connection) -> Record:
    """What stands of the runs that are recorded; `began_at`, `duration_ms` and `age_s` are those
    of the newest of all accounts, null before the first."""
    (row,) = await db.fetch(sql.verdict)
    return row


async def _head(db: Connection) -> Head:
    """The newest seal; none when it cannot be read, and then a full run says so."""
    try:
        async with db.transaction():
            return head_of(await db.fetchrow(seals.sql.newest_seal))
    except Exception as error:
        unaskable(error)
        return Head()


def _unheard(name: str, asked: int, of: int) -> None:
    pass


class _Reading:
    """One run on its way: the three modes."""

    def __init__(self, one: Reconciler, db: Connection, head: Head, told: Progress) -> None:
        self._invariants, self._db, self._head, self._told = one._invariants, db, head, told
        self.findings = Findings(one._why)
        self.drafts = Drafts()
        self.turn = head.turn
        self.asked: list[str] = []
        self._reader = Reader(db, self.findings)
        self._total = len(one._why)

    def _begin(self, *names: str) -> None:
        self._told(names[0], len(self.asked), self._total)
        self.asked += names

    async def _whole(self, names: set[str] | None = None, *, guards: bool = False) -> None:
        """Invariants asked of everything: these, or all; the guards among them, or the others."""
        for name, _, query in self._invariants:
            if (name in GUARDS.sql) == guards and (names is None or name in names):
                self._begin(name)
                self.findings.extend(name, await ask(self._db, query))

    async def full(self, *, drafting: bool) -> None:
        await self._whole()
        if self._head.number or drafting:
            self._begin(STAND)
            async with self.findings.unless_unaskable(self._db, STAND):
                if await self._ranged():
                    await self._reader.all_again()
                    if drafting:
                        await self._reader.fresh(self.drafts, asking=False)
                    await self._read_by(WHOLE)
        await self._whole(guards=True)

    async def incremental(self, now: datetime, reseal_days: int, *, drafting: bool) -> None:
        begin, end = share_again(self._head, now, reseal_days)
        self.turn = end % TURNS
        await self._read_by(FEW)
        await self._whole(
            {*CHEAP, *seals.INVARIANTS.sql} - {KEPT_BY_SHARE, "sealed_ranges_follow_each_other"}
        )
        self._begin(KEPT_BY_SHARE)
        for after, until in intervals(begin, end) or [(b"", b"")]:
            rows = await ask(self._db, seals.sql.seals_again, after, until, self._head.number)
            self.findings.extend(KEPT_BY_SHARE, rows)
        self._begin(STAND, *ENTRIES)
        async with self.findings.unless_unaskable(self._db, STAND):
            if await self._ranged():
                await self._reader.fresh(self.drafts if drafting else None, asking=True)
                await self._reader.arrivals(self._head.began_at)
                await self._reader.again(begin, end)
                await self._read_by(FEW)
        await self._whole(guards=True)

    async def scoped(self, scope: Scope) -> None:
        account = await account_named(self._db, scope.account) if scope.account else None
        if scope.unit:
            await require_unit(self._db, scope.unit)
        self._begin(*ENTRIES)
        async with self.findings.unless_unaskable(self._db, ENTRIES[0]):
            if await self._ranged():
                await self._reader.of(scope.unit, account)
        if scope.unit:
            self._begin("units_sum_to_zero")
            rows = await ask(self._db, LEDGER.units_sum_to_zero)
            ours = [row for row in rows if row.get("unit") == scope.unit or "error" in row]
            self.findings.extend("units_sum_to_zero", ours)

    async def _read_by(self, how: tuple[str, str]) -> None:
        await self._db.fetch(seals.sql.read_by, *how)

    async def _ranged(self) -> bool:
        """Ready to read by ranges; a finding when an index that this needs is not there."""
        if not await self._db.fetchval(seals.sql.keys_stand):
            self.findings.add(STAND, {"expected": "indexes to read by", "found": "not all"})
            return False
        await self._read_by(RANGES)
        return True

    async def evidence(self) -> dict[str, Any]:
        """By keys, soon: payouts go on until it is there."""
        await self._read_by(FEW)
        return await evidence.gathered(self._db, self.findings.all)

    async def seen(self) -> Seen:
        (row,) = await ask(self._db, seals.sql.count_sealed)
        count = self._reader.count
        return Seen(
            count.accounts,
            count.entries,
            count.again_ranges,
            count.again_entries,
            row.get("seals", 0),
            row.get("entries", 0),
        )
