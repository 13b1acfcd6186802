"""`backup` and `restore`: copies of the embedded database, and databases made from them."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from strongroom.doors.cli.flags import (
    FINE,
    PRINCIPAL,
    REFUSED,
    AsJson,
    DataDir,
    UnusedDataDir,
    aside,
    say,
    settings_of,
    shown,
    tell,
)
from strongroom.errors import Invalid, Refused

if TYPE_CHECKING:
    from strongroom.core.audit import Report
    from strongroom.core.db.backup import Backup, Progress
    from strongroom.core.db.restore import Plan
    from strongroom.doors.cli.checks import Check
    from strongroom.settings import Settings


class NotEmbedded(Refused):
    """This database is not the embedded one: back it up by its own means, base backups with
    archiving of the log, or what its provider offers."""


class NoBackupFolder(Invalid):
    """Say where the backups are: --to or --from, or STRONGROOM_BACKUP_DIR."""


class WhichMoment(Invalid):
    """Say either --latest or --to-time."""


From = Annotated[
    Path | None,
    typer.Option("--from", help="Folder of the backups.", show_default="STRONGROOM_BACKUP_DIR"),
]


def _folder(settings: Settings, given: Path | None) -> Path:
    found = given or settings.backup_dir
    if found is None:
        raise NoBackupFolder()
    return found.absolute()


@contextlib.contextmanager
def _bar(as_json: bool) -> Iterator[Progress]:
    from rich.progress import Progress as Bar

    if as_json:
        yield lambda _what, _share: None
        return
    with Bar(console=aside, transient=True) as bar:
        task = bar.add_task("", total=100)
        yield lambda what, share: bar.update(task, completed=share, description=what)


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


# Backups ----------------------------------------------------------------------------------------


def make(
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder of the backups.", show_default="STRONGROOM_BACKUP_DIR"),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copies the embedded database while it works, its secrets beside it, and verifies the copy."""
    settings = settings_of(data_dir=data_dir)
    folder = _folder(settings, to)
    with _bar(as_json) as progress:
        made = asyncio.run(_make(settings, folder, progress))
    if as_json:
        tell(made)
        return
    seconds = made.duration_ms / 1000
    say(f"Backup {made.name}, {_size(made.bytes)} in {seconds:.1f} s, verified, in {folder}.")
    if settings.backup_dir is None:
        say("Without STRONGROOM_BACKUP_DIR it can be restored to its own moment only.")


async def _make(settings: Settings, folder: Path, progress: Progress) -> Backup:
    from strongroom.core.db import backup
    from strongroom.core.db.embedded import binaries
    from strongroom.doors.cli.reach import reached

    if settings.database_url:
        raise NotEmbedded()
    async with reached(settings) as place:
        source = backup.source_of(settings.data_dir, place.owner, binaries())
        return await backup.make(folder, source, progress)


def list_backups(
    source: From = None, data_dir: UnusedDataDir = None, as_json: AsJson = False
) -> None:
    """Lists the backups, oldest first, and how far the log after each goes."""
    from rich.table import Table

    from strongroom.core.db.backup import backups, unreadable

    folder = _folder(settings_of(), source)
    found = [(one, _farthest(folder, one)) for one in backups(folder)]
    if as_json:
        for one, plan in found:
            tell(msgspec.to_builtins(one) | {"logUntil": plan.written_at})
        return
    for name in unreadable(folder):
        say(f"{name} is damaged: what it says of itself cannot be read.")
    if not found:
        say(f"There is no backup in {folder}. Make one: strongroom backup make --to {folder}")
        return
    table = Table("backup", "schema", "size", "restores to")
    for one, plan in found:
        until = f"any moment until {_time(plan.written_at)}" if plan.written_at else "its own"
        table.add_row(one.name, one.schema or "none", _size(one.bytes), until)
    shown.print(table, markup=False)


def _farthest(folder: Path, backup: Backup) -> Plan:
    from strongroom.core.db.backup import NoBackup, branch_of
    from strongroom.core.db.restore import planned

    try:
        return planned(folder, name=backup.name, timeline=branch_of(folder, backup).timeline)
    except NoBackup:  # a gap before what was restored from it
        return planned(folder, name=backup.name, timeline=backup.timeline)


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "unknown"


def check(
    every: Annotated[bool, typer.Option("--all", help="All, not the newest alone.")] = False,
    source: From = None,
    data_dir: UnusedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Reads backups and the log since then: every byte against its checksum, and no gap."""
    folder = _folder(settings_of(), source)
    with _bar(as_json) as progress:
        found = asyncio.run(_check(folder, every, progress))
    for one in found:
        if as_json:
            tell(one)
        else:
            say(f"{one['name']}: {one['found']}")
    raise typer.Exit(FINE if all(one["fine"] for one in found) else REFUSED)


async def _check(folder: Path, every: bool, progress: Progress) -> list[dict[str, Any]]:
    from strongroom.core.db import backup
    from strongroom.core.db.embedded import binaries

    known = backup.backups(folder)
    said: list[dict[str, Any]] = [
        {"name": name, "fine": False, "found": "damaged: what it says of itself cannot be read."}
        for name in backup.unreadable(folder)
    ]
    if not known and not said:
        raise backup.NoBackup(f"There is no backup in {folder}.")
    for one in known if every else known[-1:]:
        try:
            backup.verify_note(folder, one)
            await backup.verify(backup.place_of_backup(folder, one), binaries(), progress)
            files = await backup.verify_log(folder, one, binaries())
            gap = backup.gap_after(folder, one)
            found = f"whole, with {files} segments of the log"
            if gap:
                found = f"whole, but the log breaks off before {gap.name}. Make another backup."
        except backup.BackupDamaged as error:
            said.append({"name": one.name, "fine": False, "found": error.detail})
        else:
            said.append({"name": one.name, "fine": gap is None, "found": found})
    return said


def prune(
    keep: Annotated[int, typer.Option(min=1, help="So many of the newest are kept.")],
    source: From = None,
    data_dir: UnusedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Removes old backups, and the log that only they needed."""
    from strongroom.core.db import backup

    gone, files = backup.prune(_folder(settings_of(), source), keep)
    if as_json:
        tell({"removed": [one.name for one in gone], "segments": files})
    else:
        say(f"{len(gone)} backups and {files} segments of the log are removed.")


# Restoring --------------------------------------------------------------------------------------


def restore(
    source: From = None,
    to_time: Annotated[
        str | None, typer.Option("--to-time", help="A moment: 2026-11-21T14:00:00Z.")
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="All that the archive has.")] = False,
    name: Annotated[
        str | None, typer.Option("--backup", help="This one, not the newest before the moment.")
    ] = None,
    timeline: Annotated[
        int | None,
        typer.Option(
            min=1, help="What was before an earlier restore; a restore begins the next one."
        ),
    ] = None,
    unverified: Annotated[
        bool,
        typer.Option("--unverified", help="Without reading the backup against its checksums."),
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Makes a data folder, which must not be there yet, from a backup and the log since then.

    Ends with the doctor and a reconciliation; `strongroom up` runs it then.
    """
    from strongroom.core.db.restore import free_folder, moment_of, planned

    if latest == (to_time is not None):
        raise WhichMoment()
    settings = settings_of(data_dir=data_dir)
    if settings.database_url:
        raise NotEmbedded()
    at = None if to_time is None else moment_of(to_time)
    folder = _folder(settings, source)
    plan = planned(folder, at=at, name=name, timeline=timeline)
    free_folder(settings.data_dir)
    with _bar(as_json) as progress:
        if not unverified:
            asyncio.run(_verify(folder, plan.backup, progress))
        facts = asyncio.run(_restore(settings, plan, progress))
        checks, report = asyncio.run(_examine(settings, progress))
    whole = report.clean and facts["damage"] is None
    clean = whole and not any(check.state == "wrong" for check in checks)
    if as_json:
        tell(facts | {"clean": report.clean, "checks": checks, "findings": report.findings})
    else:
        _told(settings, plan, facts, checks, report)
    raise typer.Exit(FINE if clean else REFUSED)


async def _verify(folder: Path, backup: Backup, progress: Progress) -> None:
    from strongroom.core.db.backup import place_of_backup, verify, verify_note
    from strongroom.core.db.embedded import binaries

    verify_note(folder, backup)
    await verify(place_of_backup(folder, backup), binaries(), progress)


async def _restore(settings: Settings, plan: Plan, progress: Progress) -> dict[str, Any]:
    from strongroom.clock import monotonic
    from strongroom.core.db import Database
    from strongroom.core.db.backup import keep_for_archive, last_commit, replayed_to
    from strongroom.core.db.embedded import BACKUP, EmbeddedError
    from strongroom.core.db.restore import RestoreFailed, restored
    from strongroom.doors.cli.reach import end_in_order

    end_in_order()
    began, written_at = monotonic(), plan.written_at  # a living archive goes on meanwhile
    try:
        found = await restored(plan, settings.data_dir, progress)
    except EmbeddedError as error:
        raise RestoreFailed(
            f"{error} Remove {settings.data_dir} before the next attempt."
        ) from error
    try:
        async with Database(found.server.dsn("strongroom_owner"), pool_size=1) as owner:
            newest = await last_commit(owner)
            to_the_end = plan.at is None or not found.reached
            read = await replayed_to(owner)
            damage = plan.damage(read, found.log_end) if to_the_end else None
        async with Database(found.server.dsn(BACKUP), pool_size=1) as archiver:
            await keep_for_archive(archiver)
    finally:
        await asyncio.to_thread(found.server.stop)
    return {
        "dataDir": str(settings.data_dir),
        "backup": plan.backup.name,
        "asked": plan.at,
        "reached": found.reached,
        "damage": damage,
        "newestCommit": newest or plan.backup.ended_at,
        "archiveWritten": written_at,
        "segments": len(plan.log),
        "durationMs": round((monotonic() - began) * 1000),
    }


async def _examine(settings: Settings, progress: Progress) -> tuple[list[Check], Report]:
    from strongroom.core.audit import RecordReconciliation
    from strongroom.doors.cli.doctor import checks_of
    from strongroom.doors.cli.reach import reached, unopened

    async with reached(settings, new=True), unopened(settings) as house:
        house.executor.slow_s = math.inf  # its answer tells how long it took
        report = await house.reconcile(
            lambda name, asked, total: progress(name, 100 * asked // max(total, 1))
        )
        await house.run(RecordReconciliation(report), principal=PRINCIPAL)
    # Nothing is archived of it yet: the backups that there are say nothing of this folder.
    checks, _ = await checks_of(settings, backups=False)
    return checks, report


def _told(
    settings: Settings, plan: Plan, facts: dict[str, Any], checks: list[Check], report: Report
) -> None:
    seconds = facts["durationMs"] / 1000
    say(f"Restored into {settings.data_dir} in {seconds:.1f} s, from backup {plan.backup.name}")
    say(f"and {facts['segments']} segments of the log.")
    say(f"The newest commit is of {facts['newestCommit']:%Y-%m-%dT%H:%M:%S.%fZ}.")
    if facts["damage"]:
        say(f"{facts['damage']} What was committed after it is not in it.")
    elif plan.at is None:
        written = _time(facts["archiveWritten"] or plan.backup.ended_at)
        say(f"The archive was last written at {written}: what was committed after it is lost.")
    elif facts["reached"]:
        say(f"What was committed after {plan.at.isoformat()} is not in it.")
    else:
        say("The log ends before that moment. All that it has is there.")
    for check in checks:
        if check.state != "fine":
            say(f"doctor: {check.name}: {check.found}")
    if report.clean:
        say(f"Every invariant holds ({report.duration_ms} ms).")
    else:
        names = ", ".join(one.invariant for one in report.findings)
        say(f"These invariants do not hold, and payouts are paused: {names}.")
    there = f"--data-dir {settings.data_dir}"
    say(f"\nNext: strongroom up {there}\n      strongroom backup make {there}")
