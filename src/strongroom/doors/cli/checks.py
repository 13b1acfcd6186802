"""What the doctor looks at on the machine: the program, its settings, folders, disks and backups."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import stat
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import msgspec

from strongroom.clock import now
from strongroom.core.db.backup import SECRETS, backups, gap_after
from strongroom.core.db.embedded import EmbeddedError, binaries
from strongroom.core.db.places import announced
from strongroom.doors.cli.statement import ZONE
from strongroom.settings import Settings, unknown_names

State = Literal["fine", "warning", "wrong"]

OLDEST_PYTHON = (3, 11)

LITTLE_DISK, NO_DISK = 2 * 2**30, 256 * 2**20
"""Two segments of a busy hour's log, and what a closing checkpoint may need."""

FEW_FILES = 4096
"""A process holds a file for each client; a thousand is what many systems begin with."""

OLD_BACKUP = timedelta(days=7)
"""The log since then takes about as long to replay as an hour of such a week took to write."""

FEW_LETTERS = 10
"""Different letters in a secret of 32; chance gives more than twenty."""

PRIVATE = (*SECRETS, "instance.json", "postgres/credentials.json")

LOOPBACK = ("127.0.0.1", "::1", "localhost")

CONNECTIONS_BESIDE = 6
"""Of a process, beside its pool: the auditor's three, a listener, the leader's, one to spare."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; `todo` says what to do when it is not fine."""

    name: str
    state: State
    found: str
    todo: str = ""


def listed(
    name: str, faults: list[str], otherwise: str, todo: str, state: State = "wrong"
) -> Check:
    """A check that is fine without faults, and names up to ten."""
    shown = "; ".join(faults[:10]) + (f"; … {len(faults)} in all" if len(faults) > 10 else "")
    return Check(name, state if faults else "fine", shown or otherwise, todo)


def of_machine(settings: Settings) -> Iterator[Check]:
    """All but the backups that can be seen without the database."""
    old = sys.version_info < OLDEST_PYTHON
    todo = "install Python 3.11 or newer"
    yield Check("python", "wrong" if old else "fine", platform.python_version(), todo)
    if not settings.database_url:
        try:
            yield Check("embedded database's programs", "fine", str(binaries()))
        except EmbeddedError as error:
            yield Check("embedded database's programs", "wrong", str(error))
    yield _zone()
    yield _open_files(settings)
    yield from of_settings(settings)
    yield from _folder(settings.data_dir)
    yield from _disks(settings)


def _zone() -> Check:
    todo = "install the package tzdata"
    try:
        zoneinfo.ZoneInfo(ZONE)
    except zoneinfo.ZoneInfoNotFoundError:
        return Check("time zones", "wrong", f"{ZONE} is not known here", todo)
    return Check("time zones", "fine", "known")


def _open_files(settings: Settings) -> Check:
    """Those of the running instance, which may have been started elsewhere than we."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = announced(settings.data_dir).get("pid")
    if isinstance(pid, int):
        most, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    few = 0 <= most < FEW_FILES
    todo = f"ulimit -n {FEW_FILES * 4} before the start, or LimitNOFILE= of the service"
    found = "as many as wanted" if most < 0 else f"{most} a process"
    return Check("open files", "warning" if few else "fine", found, todo)


# Settings ---------------------------------------------------------------------------------------


def of_settings(settings: Settings) -> Iterator[Check]:
    """Names that are none, and choices that do not go together."""
    unknown = [f"{name} (meant: {nearest}?)" for name, nearest in unknown_names(os.environ)]
    yield listed("names of settings", unknown, "all known", "correct or unset them", "warning")
    faults = list(_contradictions(settings))
    todo = "change them in strongroom.toml or the environment"
    yield listed("settings", faults, f"fit for {settings.environment}", todo)
    doubts = list(_doubts(settings))
    yield listed("settings to think about", doubts, "none", todo, "warning")


def _contradictions(settings: Settings) -> Iterator[str]:
    for name in SECRETS:
        given = getattr(settings, name)
        if given is not None and len(set(given)) < FEW_LETTERS:
            yield f"{name} can be guessed: let it be 32 random bytes"
    if settings.environment != "production":
        return
    if settings.rate_limits == "off":
        yield 'rate_limits = "off" in production: one client can take everything'
    if settings.workers == 0 and not settings.database_url:
        yield "workers = 0 on an embedded database in production: nothing is matched or paid"


def _doubts(settings: Settings) -> Iterator[str]:
    production = settings.environment == "production"
    if not production and settings.host not in LOOPBACK:
        yield (
            f'environment = "development" on {settings.host}: anybody who reaches it can pay with '
            "the sandbox"
        )
    if production and settings.smtp_url is None:
        yield "no smtp_url: mails lie in a folder, and nobody gets tickets"
    if production and settings.backup_dir is None and not settings.database_url:
        yield "no backup_dir: nothing can be restored"
    if production and settings.log_level == "debug":
        yield 'log_level = "debug" in production fills the disk'


def connections_wanted(settings: Settings) -> int:
    """The most that all processes of this instance may open."""
    processes = settings.api_processes + settings.workers
    return processes * (settings.pool_size + CONNECTIONS_BESIDE)


# Folders and disks ------------------------------------------------------------------------------


def _folder(folder: Path) -> Iterator[Check]:
    there = _existing(folder)
    if there != folder:
        found = f"{folder} is not there yet"
        can = os.access(there, os.W_OK | os.X_OK)
        todo = f"let this user write to {there}, or choose another --data-dir"
        yield Check("data folder", "fine" if can else "wrong", found, todo)
    else:
        yield _permissions(folder)


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _permissions(folder: Path) -> Check:
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Check("data folder", "wrong", f"{folder} is closed to this user", "run as its owner")
    open_to_others = stat.S_IWGRP | stat.S_IWOTH
    if folder.stat().st_mode & open_to_others:
        todo = f"chmod go-w {folder}"
        return Check("data folder", "wrong", f"other users may write to {folder}", todo)
    for name in PRIVATE:
        file = folder / name
        if file.exists() and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return Check(
                "data folder", "wrong", f"other users may read {file}", f"chmod 600 {file}"
            )
    return Check("data folder", "fine", str(folder))


def _disks(settings: Settings) -> Iterator[Check]:
    # The cluster may lie elsewhere than the data folder, and so may its log.
    cluster = settings.data_dir / "postgres" / "cluster"
    places = {"free disk": settings.data_dir}
    if not settings.database_url and cluster.exists():
        places |= {"free disk of the database": cluster, "free disk of its log": cluster / "pg_wal"}
    if settings.backup_dir is not None:
        places["free disk of the backups"] = settings.backup_dir
    seen = set()
    for name, place in places.items():
        there = _existing(place.absolute())
        if there.stat().st_dev in seen:
            continue
        seen.add(there.stat().st_dev)
        free = shutil.disk_usage(there).free
        state: State = "fine" if free > LITTLE_DISK else "warning" if free > NO_DISK else "wrong"
        todo = "make room: a database without disk stops, though it loses nothing"
        yield Check(name, state, f"{free / 2**30:.1f} GiB", todo)


# Backups ----------------------------------------------------------------------------------------


def of_backups(settings: Settings) -> Iterator[Check]:
    """Whether there is one, how old it is, and whether the log since then is there."""
    folder = settings.backup_dir
    if folder is None or settings.database_url:
        return
    folder = folder.absolute()
    if _existing(folder).stat().st_dev == _existing(settings.data_dir).stat().st_dev:
        found = f"{folder} is on the disk of the data: a disk that breaks takes both"
        todo = "let backup_dir be on another disk, or copy it to another machine"
        yield Check("backup folder", "warning", found, todo)
    else:
        yield Check("backup folder", "fine", str(folder))
    known = backups(folder)
    todo = "strongroom backup make"
    if not known:
        yield Check("backup", "wrong", f"there is none in {folder}", todo)
        return
    newest = known[-1]
    age = now() - newest.ended_at
    found = f"{newest.name}, {age.days} days old" if age.days else newest.name
    yield Check("backup", "warning" if age > OLD_BACKUP else "fine", found, todo)
    gap = gap_after(folder, newest)
    broken = [f"{gap.name} is missing: nothing after it can be restored"] if gap else []
    yield listed("archived log", broken, "without a gap since the backup", todo)
