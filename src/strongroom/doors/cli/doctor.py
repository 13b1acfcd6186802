"""`doctor`: whether this machine and this database are as they must be, and what to do if not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta

from rich.markup import escape
from rich.table import Table

from strongroom.clock import now
from strongroom.core.audit.reconcile import GUARDS, verdict
from strongroom.core.db import Database, Queries, schema
from strongroom.core.db.backup import archiving
from strongroom.core.db.places import Place, announced
from strongroom.core.events import DeadLetters, depths
from strongroom.doors.cli.checks import (
    Check,
    State,
    connections_wanted,
    listed,
    of_backups,
    of_machine,
)
from strongroom.doors.cli.flags import FINE, REFUSED, UNREACHABLE, say, shown, tell
from strongroom.doors.cli.reach import reached
from strongroom.doors.cli.statement import ZONE
from strongroom.errors import StrongroomError
from strongroom.settings import Settings

sql = Queries(__package__, "doctor.sql")

OLDEST_SERVER = 160_000
"""PostgreSQL 16, as its server_version_num."""

CLOCK_WARNING_S, CLOCK_WRONG_S = 1.0, 5.0
"""Access tokens allow for 5 s between two machines."""

MANY_CONNECTIONS = 0.8
DEEP_QUEUE_S = 60
"""A worker takes a message within a second; one that waits this long has no worker."""

OLD_TRANSACTIONS, ANCIENT_TRANSACTIONS = 500_000_000, 1_500_000_000
"""Autovacuum freezes from 200 million on; at 2,147 million the server refuses to write."""

USED_WARNING, USED_WRONG = 50.0, 80.0
"""Percent of a sequence: half took as long as there has been, so there is time to widen it."""

ARCHIVE_BEHIND = 256 * 2**20
"""Sixteen segments: what a slow disk for backups may be behind while the server is busy."""

LONG_S = 300.0
"""Our own transactions take seconds at most, a reconciliation of millions of entries minutes."""

MUST_BE = {
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
    "autovacuum": "on",
    "track_counts": "on",
}

COLOURS: dict[State, str] = {"fine": "green", "warning": "yellow", "wrong": "red"}


def doctor(settings: Settings, as_json: bool) -> int:
    """Looks, shows, and answers the exit code."""
    checks, reachable = asyncio.run(checks_of(settings))
    if as_json:
        tell({"fine": all(check.state != "wrong" for check in checks), "checks": checks})
    else:
        table = Table("", "checked", "found", box=None)
        for check in checks:
            mark = {"fine": "✓", "warning": "!", "wrong": "✗"}[check.state]
            todo = f"\n→ {check.todo}" if check.todo and check.state != "fine" else ""
            colour = COLOURS[check.state]
            table.add_row(f"[{colour}]{mark}[/]", check.name, escape(check.found + todo))
        shown.print(table)
    if not reachable:
        return UNREACHABLE
    wrong = sum(check.state == "wrong" for check in checks)
    if not as_json:
        say(f"{wrong} of {len(checks)} are wrong." if wrong else "Nothing is wrong.")
    return REFUSED if wrong else FINE


async def checks_of(settings: Settings, *, backups: bool = True) -> tuple[list[Check], bool]:
    """All that was looked at, and whether the database could be."""
    checks = [*of_machine(settings), *(of_backups(settings) if backups else ())]
    return checks, await _database(settings, checks)


# The database ---------------------------------------------------------------------------------


async def _database(settings: Settings, checks: list[Check]) -> bool:
    """Adds what the database says; False when it says nothing."""
    try:
        async with reached(settings) as place, Database(place.owner, pool_size=2) as owner:
            await owner.fetch(sql.roles)
            checks.append(Check("database", "fine", "answers"))
            await _asked(_server(owner, checks), checks)
            await _asked(_trust(owner, settings, checks), checks)
            await _asked(_schema(owner, place, checks), checks)
            await _asked(_room(owner, checks), checks)
            await _asked(_archive(owner, settings, checks), checks)
    except StrongroomError as error:
        checks.append(Check("database", "wrong", error.detail))
        return False
    return True


async def _asked(part: Coroutine[None, None, None], checks: list[Check]) -> None:
    """What cannot be asked, since a table is gone, keeps nothing else from being said."""
    try:
        await part
    except Exception as error:
        if getattr(error, "sqlstate", None) is None:
            raise
        todo = "see above what is missing; restore a backup beside it and compare"
        checks.append(Check("questions to the database", "wrong", str(error), todo))


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


async def _trust(owner: Database, settings: Settings, checks: list[Check]) -> None:
    """Settings under which the log, the data or the cleaning cannot be relied on."""
    found = {row["name"]: row["setting"] for row in await owner.fetch(sql.settings)}
    faults = [
        f"{name} is {found[name]}, must be {wanted}"
        for name, wanted in MUST_BE.items()
        if found[name] != wanted
    ]
    if settings.backup_dir is not None and found["wal_level"] == "minimal":
        faults.append("wal_level is minimal: no backup can be made")
    todo = "set them in the server's configuration, and restart it"
    checks.append(listed("settings of the server", faults, "can be relied on", todo))
    row = await owner.fetchrow(sql.server)
    assert row is not None
    most = row["max_connections"] - int(found["superuser_reserved_connections"])
    wanted_here = connections_wanted(settings)
    state: State = "fine" if wanted_here <= most else "warning"
    todo = "lower pool_size or the number of processes, or raise max_connections"
    text = f"{wanted_here} may be wanted, {most} are allowed"
    checks.append(Check("connections of all processes", state, text, todo))
    known = await owner.fetchval(sql.time_zone, ZONE)
    todo = "install the server's time zone data"
    found_zone = "known" if known else f"{ZONE} is not known"
    checks.append(Check("the server's time zones", "fine" if known else "wrong", found_zone, todo))


async def _schema(owner: Database, place: Place, checks: list[Check]) -> None:
    revision, needed = await owner.revision(), schema.newest()
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
    checks.append(listed("roles", faults, "as they must be", todo))
    faults = [
        f"strongroom_app has {row['found']} on {row['table']}"
        for row in await owner.fetch(GUARDS.the_past_cannot_be_changed)
        if row["found"] != "TABLE"  # one that is missing is named below
    ]
    faults += [
        f"strongroom_audit has {row['privilege']} on {row['name']}"
        for row in await owner.fetch(sql.auditor_privileges)
    ]
    checks.append(listed("privileges", faults, "as they must be", "REVOKE them"))
    ahead = await owner.fetchval(sql.written_ahead) or 0.0
    back = [f"it is {ahead:.0f} s behind the newest event"] if ahead > CLOCK_WARNING_S else []
    todo = "run a time service; until then what is new is older than what was, and sums by day lie"
    state: State = "wrong" if ahead > CLOCK_WRONG_S else "warning"
    checks.append(
        listed("clock's past", back, "never set back behind what is written", todo, state)
    )
    await _guards(owner, revision == needed, checks)
    faults = [row["name"] for row in await owner.fetch(sql.broken_indexes)]
    checks.append(listed("indexes", faults, "all valid", "REINDEX INDEX CONCURRENTLY each"))
    queues = await depths(owner)
    late = [
        f"{one['queue']}: {one['waiting']}, oldest {one['oldest_s']} s"
        for one in queues
        if one["oldest_s"] > DEEP_QUEUE_S and not one["paused"]
    ]
    waits = f"{sum(one['waiting'] for one in queues)} messages wait"
    todo = "start workers, or more of them"
    checks.append(listed("queues", late, waits, todo, "warning"))
    paused = [one["queue"] for one in queues if one["paused"]]
    todo = "`strongroom queues resume NAME` when the cause is mended"
    checks.append(listed("paused queues", paused, "none", todo, "warning"))
    dead = await DeadLetters(owner).list(limit=1000)
    faults = [f"{len(dead)} messages were buried"] if dead else []
    todo = "see `strongroom dead-letters list`"
    checks.append(listed("dead letters", faults, "none", todo, "warning"))
    await _books(owner, checks)


async def _guards(owner: Database, comparable: bool, checks: list[Check]) -> None:
    """What the migrations made and somebody took away, or made anew in another way."""
    if not comparable:  # the list is that of this program's schema
        return
    missing = sorted(schema.expected() - await schema.found(owner))
    todo = (
        "somebody changed the schema by hand: make each again as named, or restore a backup "
        "beside it and compare"
    )
    name = "tables, indexes, constraints, triggers, functions"
    checks.append(listed(name, missing, "all there", todo))


async def _room(owner: Database, checks: list[Check]) -> None:
    """What fills up slowly: dead rows, sequences, numbers of transactions."""
    dead = [f"{r['name']}: {r['dead']} dead rows" for r in await owner.fetch(sql.bloat)]
    todo = "VACUUM (ANALYZE) each; see what keeps a transaction open"
    checks.append(listed("dead rows", dead, "few", todo, "warning"))
    swollen = [
        f"{r['name']}: {r['bytes'] >> 20} MiB for a table of {r['of_table'] >> 20} MiB"
        for r in await owner.fetch(sql.swollen_indexes)
    ]
    todo = "REINDEX INDEX CONCURRENTLY each"
    checks.append(listed("size of indexes", swollen, "in proportion", todo, "warning"))
    used = await owner.fetch(sql.sequences)
    full = [f"{r['name']}: {r['used']:.0f} %" for r in used if r["used"] > USED_WARNING]
    worst = max((r["used"] for r in used), default=0.0)
    todo = "ALTER SEQUENCE … AS bigint, and its column"
    state: State = "wrong" if worst > USED_WRONG else "warning"
    checks.append(listed("sequences", full, f"{worst:.2f} % used at most", todo, state))
    age = await owner.fetchrow(sql.wraparound)
    assert age is not None
    oldest = max(age["transactions"], age["multixacts"])
    old = [f"{oldest} transactions are not frozen"] if oldest > OLD_TRANSACTIONS else []
    state = "wrong" if oldest > ANCIENT_TRANSACTIONS else "warning"
    todo = "VACUUM (FREEZE) the oldest tables; see long transactions and replication slots"
    checks.append(listed("age of transactions", old, f"{oldest}", todo, state))
    rows = await owner.fetch(sql.long_transactions, LONG_S)
    long = [f"{r['who']}, {r['state']}, {r['seconds']} s" for r in rows]
    todo = "see who it is; pg_terminate_backend(pid), or ROLLBACK PREPARED"
    checks.append(listed("long transactions", long, "none", todo, "warning"))


async def _archive(owner: Database, settings: Settings, checks: list[Check]) -> None:
    """Whether the running instance archives what it writes."""
    runs = "url" in announced(settings.data_dir)
    if not settings.archives or not runs:
        return
    row = await archiving(owner)
    faults = []
    if not row["active"]:
        faults.append("nobody archives: what is written now is lost with this disk")
    if row["wal_status"] in ("unreserved", "lost"):
        faults.append(f"the log that the archive lacks is {row['wal_status']}")
    if (row["behind"] or 0) > ARCHIVE_BEHIND:
        faults.append(f"the archive is {row['behind'] >> 20} MiB behind")
    todo = "see what `strongroom up` says of the archive, and the disk of backup_dir"
    checks.append(listed("archive", faults, "follows the server", todo))


async def _books(owner: Database, checks: list[Check]) -> None:
    found = await verdict(owner)
    at = found["began_at"]
    faults = [f"{one} is violated" for one in found["violated"]]
    todo = (
        "`strongroom reconcile` names the wrong entries; repair by new ones "
        "(`strongroom transfers reverse`), and reconcile again"
    )
    said = f"clean, {at:%F %T %Z}" if at else "none yet"
    checks.append(listed("reconciliation", faults, said, todo))
    switch = await owner.fetchrow(sql.switch)
    if switch is None:
        faults = ["no switch, which counts as paused"]
    else:
        since = f"since {switch['since']:%F %T %Z} by {switch['by_whom']}: {switch['reason']}"
        faults = [f"paused {since}"] if switch["paused"] else []
    todo = "mend the cause, `strongroom reconcile`, then `strongroom payouts resume --reason …`"
    checks.append(listed("payouts", faults, "not paused", todo, "warning"))
