"""`doctor`: whether this machine and this database are as they must be, and what to do if not."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import msgspec
from rich.table import Table

from strongroom.clock import now
from strongroom.core.db import Database, Queries
from strongroom.core.db.embedded import EmbeddedError, binaries
from strongroom.core.db.migrate import newest
from strongroom.core.db.places import Place
from strongroom.core.events import DeadLetters, depths
from strongroom.doors.cli.flags import FINE, REFUSED, UNREACHABLE, say, shown, tell
from strongroom.doors.cli.reach import reached
from strongroom.errors import StrongroomError
from strongroom.settings import Settings

sql = Queries(__package__, "doctor.sql")

State = Literal["fine", "warning", "wrong"]

OLDEST_SERVER = 160_000
"""PostgreSQL 16, as its server_version_num."""

OLDEST_PYTHON = (3, 11)

LITTLE_DISK, NO_DISK = 2 * 2**30, 256 * 2**20
"""Two segments of a busy hour's log, and what a closing checkpoint may need."""

CLOCK_WARNING_S, CLOCK_WRONG_S = 1.0, 5.0
"""Access tokens allow for 5 s between two machines."""

MANY_CONNECTIONS = 0.8
DEEP_QUEUE_S = 60
"""A worker takes a message within a second; one that waits this long has no worker."""

SECRETS = ("token_secret", "instance.json", "postgres/credentials.json")

COLOURS: dict[State, str] = {"fine": "green", "warning": "yellow", "wrong": "red"}


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at; `todo` says what to do when it is not fine."""

    name: str
    state: State
    found: str
    todo: str = ""


def doctor(settings: Settings, as_json: bool) -> int:
    """Looks, shows, and answers the exit code."""
    checks = [*_machine(settings)]
    reachable = asyncio.run(_database(settings, checks))
    if as_json:
        tell({"fine": all(check.state != "wrong" for check in checks), "checks": checks})
    else:
        table = Table("", "checked", "found", box=None)
        for check in checks:
            mark = {"fine": "✓", "warning": "!", "wrong": "✗"}[check.state]
            todo = f"\n→ {check.todo}" if check.todo and check.state != "fine" else ""
            colour = COLOURS[check.state]
            table.add_row(f"[{colour}]{mark}[/]", check.name, _plain(check.found + todo))
        shown.print(table)
    if not reachable:
        return UNREACHABLE
    wrong = sum(check.state == "wrong" for check in checks)
    if not as_json:
        say(f"{wrong} of {len(checks)} are wrong." if wrong else "Nothing is wrong.")
    return REFUSED if wrong else FINE


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


# This machine ---------------------------------------------------------------------------------


def _machine(settings: Settings) -> Iterator[Check]:
    old = sys.version_info < OLDEST_PYTHON
    todo = "install Python 3.11 or newer"
    yield Check("python", "wrong" if old else "fine", platform.python_version(), todo)
    if not settings.database_url:
        try:
            yield Check("embedded database's programs", "fine", str(binaries()))
        except EmbeddedError as error:
            yield Check("embedded database's programs", "wrong", str(error))
    yield from _folder(settings.data_dir)


def _folder(folder: Path) -> Iterator[Check]:
    there = folder
    while not there.exists():
        there = there.parent
    if there != folder:
        found = f"{folder} is not there yet"
        can = os.access(there, os.W_OK | os.X_OK)
        todo = f"let this user write to {there}, or choose another --data-dir"
        yield Check("data folder", "fine" if can else "wrong", found, todo)
    else:
        yield _permissions(folder)
    free = shutil.disk_usage(there).free
    state: State = "fine" if free > LITTLE_DISK else "warning" if free > NO_DISK else "wrong"
    todo = "make room: a database without disk stops, though it loses nothing"
    yield Check("free disk", state, f"{free / 2**30:.1f} GiB", todo)


def _permissions(folder: Path) -> Check:
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Check("data folder", "wrong", f"{folder} is closed to this user", "run as its owner")
    open_to_others = stat.S_IWGRP | stat.S_IWOTH
    if folder.stat().st_mode & open_to_others:
        todo = f"chmod go-w {folder}"
        return Check("data folder", "wrong", f"other users may write to {folder}", todo)
    for name in SECRETS:
        file = folder / name
        if file.exists() and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return Check(
                "data folder", "wrong", f"other users may read {file}", f"chmod 600 {file}"
            )
    return Check("data folder", "fine", str(folder))


# The database ---------------------------------------------------------------------------------


async def _database(settings: Settings, checks: list[Check]) -> bool:
    """Adds what the database says; False when it says nothing."""
    try:
        async with reached(settings) as place, Database(place.owner, pool_size=2) as owner:
            await owner.fetch(sql.roles)
            checks.append(Check("database", "fine", "answers"))
            await _server(owner, checks)
            await _schema(owner, place, checks)
    except StrongroomError as error:
        checks.append(Check("database", "wrong", error.detail))
        return False
    return True


async def _server(owner: Database, checks: list[Check]) -> None:
    began = now()
    row = await owner.fetchrow(sql.server)
    assert row is not None
    between = began + (now() - began) / 2

    def check(name: str, fine: bool, found: object, todo: str, otherwise: State = "wrong") -> None:
        checks.append(Check(name, "fine" if fine else otherwise, str(found), todo))

    version = row["version"] >= OLDEST_SERVER
    check("server version", version, row["version_text"], "upgrade to PostgreSQL 16 or newer")
    check(
        "data checksums",
        row["data_checksums"] == "on",
        row["data_checksums"],
        "stop the server and run pg_checksums --enable",
        otherwise="warning",
    )
    for name in ("fsync", "full_page_writes"):
        todo = f"set {name} = on: without it a power cut loses what was acknowledged"
        check(name, row[name] == "on", row[name], todo)
    kept = row["synchronous_commit"]
    todo = "set synchronous_commit = on: without it a crash loses what was acknowledged"
    check("synchronous_commit", kept in ("on", "remote_apply"), kept, todo)
    overrides = await owner.fetch(sql.overrides)
    found = "; ".join(f"{one['setting']} for {one['role']}, {one['database']}" for one in overrides)
    todo = "ALTER ROLE … RESET, or ALTER DATABASE … RESET"
    check("settings of roles and databases", not overrides, found or "none in the way", todo)
    _clock(row["now"] - between, checks)
    used, most = row["connections"], row["max_connections"]
    todo = "raise max_connections, or lower STRONGROOM_POOL_SIZE or the number of processes"
    check("connections", used < MANY_CONNECTIONS * most, f"{used} of {most}", todo, "warning")


def _clock(ahead: timedelta, checks: list[Check]) -> None:
    seconds = ahead.total_seconds()
    off = abs(seconds)
    state: State = "fine" if off < CLOCK_WARNING_S else "wrong"
    if CLOCK_WARNING_S <= off < CLOCK_WRONG_S:
        state = "warning"
    todo = "run a time service on both machines"
    checks.append(Check("clock", state, f"the database's is {seconds:+.3f} s from ours", todo))


async def _schema(owner: Database, place: Place, checks: list[Check]) -> None:
    revision, needed = await owner.revision(), newest()
    todo = "run `strongroom migrate`"
    known: State = "fine" if revision == needed else "wrong"
    checks.append(Check("schema", known, f"{revision or 'none'}, needed {needed}", todo))
    if revision is None:
        return
    faults = [
        f"{row['name']} is missing" if not row["there"] else f"{row['name']} is too strong"
        for row in await owner.fetch(sql.roles)
        if not row["there"] or row["too_strong"]
    ]
    todo = "run `strongroom migrate`; ALTER ROLE … NOSUPERUSER NOCREATEROLE NOBYPASSRLS"
    _listed(checks, "roles", faults, "as they must be", todo)
    rows = await owner.fetch(sql.forbidden_privileges)
    faults = [f"{row['role']} may {row['privilege']} {row['name']}" for row in rows]
    _listed(checks, "privileges", faults, "as they must be", "REVOKE them")
    faults = [row["name"] for row in await owner.fetch(sql.broken_indexes)]
    _listed(checks, "indexes", faults, "all valid", "REINDEX INDEX CONCURRENTLY each")
    queues = [(row["queue"], row["waiting"], row["oldest_s"]) for row in await depths(owner)]
    late = [f"{name}: {waiting}, oldest {age} s" for name, waiting, age in queues if _late(age)]
    waits = f"{sum(waiting for _, waiting, _ in queues)} messages wait"
    _listed(checks, "queues", late, waits, "start workers, or more of them", "warning")
    dead = await DeadLetters(owner).list(limit=1000)
    faults = [f"{len(dead)} messages were buried"] if dead else []
    todo = "see `strongroom dead-letters list`"
    _listed(checks, "dead letters", faults, "none", todo, "warning")
    await _books(owner, checks)


async def _books(owner: Database, checks: list[Check]) -> None:
    verdict = await owner.fetchrow(sql.verdict)
    if verdict is None:
        checks.append(Check("reconciliation", "fine", "none yet"))
    else:
        faults = [] if verdict["clean"] else [f"{one} is violated" for one in verdict["violated"]]
        todo = (
            "`strongroom reconcile` names the wrong entries; repair by new ones "
            "(`strongroom transfers reverse`), and reconcile again"
        )
        _listed(checks, "reconciliation", faults, f"clean, {verdict['began_at']:%F %T %Z}", todo)
    switch = await owner.fetchrow(sql.switch)
    if switch is None:
        faults = ["no switch, which counts as paused"]
    else:
        since = f"since {switch['since']:%F %T %Z} by {switch['by_whom']}: {switch['reason']}"
        faults = [f"paused {since}"] if switch["paused"] else []
    todo = "mend the cause, `strongroom reconcile`, then POST /api/ops/payouts/resume as operator"
    _listed(checks, "payouts", faults, "not paused", todo, "warning")


def _late(age_s: int) -> bool:
    return age_s > DEEP_QUEUE_S


def _listed(
    checks: list[Check],
    name: str,
    faults: list[str],
    otherwise: str,
    todo: str,
    state: State = "wrong",
) -> None:
    shown_faults = "; ".join(faults[:10]) + ("; …" if len(faults) > 10 else "")
    checks.append(Check(name, state if faults else "fine", shown_faults or otherwise, todo))
