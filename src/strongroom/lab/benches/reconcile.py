"""What a reconciliation costs as the ledger grows: the incremental one beside the full one."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from strongroom.core.audit import RecordReconciliation
from strongroom.core.audit.reconcile import Mode, Run
from strongroom.core.db import Database, Queries
from strongroom.doors.cli.reach import reached
from strongroom.lab.bench import Series, Turn, Verdict
from strongroom.lab.benches.betting import sql as growth
from strongroom.lab.figures import Figures
from strongroom.main import Strongroom
from strongroom.settings import Settings

sql = Queries(__package__, "reconcile.sql")

ENTRIES_EACH = 200
"""Of an account when all are there; a day adds two to each, one in a hundred."""

TOGETHER = 250_000
"""Transfers that one statement of the growth makes."""

LONG_AGO_H, DAY_H = 48, 24

INCREMENTAL_S, FULL_S = 10.0, 300.0
"""Promised of ten million entries."""

TEN_MILLION = 10_000_000


class Reconcile(Series):
    """A ledger of so many entries, sealed yesterday, and a hundredth of that since. Each turn reads
    what a night would: incremental with a thirtieth of what is sealed again, or all of it."""

    name = "reconcile"
    claim = "What a nightly incremental reconciliation takes, against a full one"
    figure = "seconds"
    better = "lower"
    setting = "entries"
    settings: ClassVar[tuple[int, ...]] = (100_000, 1_000_000)
    rows = ("incremental", "full")
    seconds = 10.0

    def __init__(self) -> None:
        self._grown: int | None = None
        self.house: Strongroom

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        folder = Path(tempfile.mkdtemp(prefix="strongroom-bench-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # The database's own user must reach its folder.
        os.chmod(folder, 0o711 if os.geteuid() == 0 else 0o700)  # no wait
        try:
            settings = Settings(data_dir=folder / "data", database_url=None, rate_limits="off")
            await self._stack.enter_async_context(reached(settings, new=True))
            self.house = await self._stack.enter_async_context(Strongroom(settings))
        except BaseException:
            await self._stack.aclose()
            raise
        self.dsn = self.house.place.app
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def side(self, name: str, turn: Turn) -> Figures:
        assert turn.setting is not None
        if self._grown != turn.setting:
            await self._grow(turn.setting)
        mode: Mode = "incremental" if name == "incremental" else "full"
        report = (await self._read(mode)).report
        assert report.seen is not None
        return {
            "seconds": report.duration_ms / 1000,
            "new_entries": float(report.seen.entries),
            "entries_read_again": float(report.seen.again_entries),
            "sealed_entries": float(report.seen.sealed_entries),
        }

    async def _read(self, mode: Mode) -> Run:
        run = await self.house.look(mode)
        assert run.report.clean, f"the ring is not sound: {run.report.findings}"
        return run

    async def _grow(self, entries: int) -> None:
        """Turns the ring until it has so many entries, seals them as of yesterday, and adds a
        day."""
        accounts = entries // ENTRIES_EACH
        async with Database(self.house.place.owner, pool_size=1) as owner, owner.connection() as db:
            await db.execute("SET statement_timeout = 0")
            there = await db.fetchval(sql.count_ring)
            await db.execute(sql.open_ring, accounts - there)
            rounds, done = ENTRIES_EACH // 2, 0
            while done < rounds:
                some = max(1, min(TOGETHER // accounts, rounds - done))
                self.say(f"growing to {entries:,} entries: {done / rounds:.0%}")
                await db.execute(sql.turn_ring, some, LONG_AGO_H)
                done += some
            await db.execute(growth.settle_down)
            self.say(f"sealing {entries:,} entries")
            await self._seal()
            await db.execute(sql.turn_ring, 1, 0)
            await db.execute(growth.settle_down)
        self._grown = entries

    async def _seal(self) -> None:
        run = await self._read("full")
        await self.house.run(RecordReconciliation(run.report))
        yesterday = run.report.began_at - timedelta(hours=DAY_H)
        report = msgspec.structs.replace(run.report, began_at=yesterday)
        made = await self.house.seal(run._replace(report=report))
        assert made == len(run.drafts)

    def verdicts(self, figures: Figures, baseline: Figures) -> list[Verdict]:
        if self.settings[-1] < TEN_MILLION:
            return []
        return [
            Verdict("incremental", figures["seconds"], INCREMENTAL_S, "s"),
            Verdict("full", baseline["seconds"], FULL_S, "s"),
        ]


class ReconcileLarge(Reconcile):
    """The same with ten million entries: some minutes of growing first."""

    name = "reconcile-large"
    claim = "The same with ten million entries"
    settings = (TEN_MILLION,)
