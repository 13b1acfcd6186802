"""Backups of the embedded server: copies of a moment, verified, with the secrets beside the data.

    backup = await make(folder, source)
    for backup in backups(folder): verify(backup, programs)

A backup is a folder, complete from the instant that it has its name:

    20261121T143000.123456Z/
        backup.json         what it is: Backup; a name without one, .making-… or .gone-…, is none
        cluster             the data, with the server's own manifest of checksums
        secrets             the roles' passwords and the keys of tokens, tickets and callbacks

With the log since then (`core.db.archive`) it becomes any later moment (`core.db.restore`). All of it
is for its owner alone, and nothing is encrypted: whoever can read a backup can read everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from strongroom.clock import monotonic
from strongroom.core.db.archive import (
    SLOT,
    Branch,
    Segment,
    archived,
    claim_for,
    close_to_others,
    end_with_parent,
    locked,
    newest_timeline,
    position_of,
    system_of,
)
from strongroom.core.db.database import Database, Record
from strongroom.core.db.embedded import BACKUP
from strongroom.core.db.embedded_config import environment, sync_folder
from strongroom.core.db.log_pages import belongs, end_of, goes_on, present
from strongroom.core.db.queries import Queries
from strongroom.errors import Invalid, NotFound, Refused

sql = Queries(__package__, "backup.sql")

SECRETS = ("token_secret", "ticket_key", "sandbox_secret")
"""Files of the data folder; with the settings of the same names there are none."""

CREDENTIALS = Path("postgres") / "credentials.json"

NOTE, CLUSTER, KEPT_SECRETS = "backup.json", "cluster", "secrets"

SHARE = re.compile(rb"\((\d+)%\)")

POSITION = re.compile(r"\b([0-9A-F]{1,8}/[0-9A-F]{1,8})\b")

NO_MORE = re.compile(r"could not find file \"([0-9A-F]{24})\"")
"""How pg_waldump says that the log ends with the end of a file."""

Progress = Callable[[str, int], None]
"""Told (what is being done, how many percent of it)."""


class BackupFailed(Refused):
    """The backup could not be made."""


class BackupDamaged(Refused):
    """A backup is not what it was."""


class BackupUnderWay(Refused):
    """Another backup is being made into this folder: wait until it is done."""


class NoBackup(NotFound):
    """There is no such backup."""


class NothingToKeep(Invalid):
    """At least one backup is kept."""


class Backup(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What one backup says of itself. Positions are those of the server's log."""

    name: str
    began_at: datetime
    ended_at: datetime
    start_lsn: str
    end_lsn: str
    timeline: int
    system: str
    schema: str | None
    program: str
    secrets: list[str]
    digests: dict[str, str] = {}
    """SHA-256 of each secret; the server's own manifest knows those of the data alone."""
    bytes: int
    duration_ms: int

    @property
    def first(self) -> Segment:
        """Where reading the log begins."""
        return Segment.at(self.timeline, self.start_lsn)


@dataclass(frozen=True, slots=True)
class Source:
    """The running embedded server of a data folder, and how to copy it."""

    data_dir: Path
    cluster: Path
    programs: Path
    login: Mapping[str, str]
    owner: str
    """The owner's DSN."""


def source_of(data_dir: Path, owner: str, programs: Path) -> Source:
    """The server that runs on this data folder; the owner's DSN says where its socket is."""
    there = parse_qs(urlsplit(owner).query)
    passwords: dict[str, str] = msgspec.json.decode((data_dir / CREDENTIALS).read_bytes())
    login = {
        "PGHOST": there["host"][0],
        "PGPORT": there["port"][0],
        "PGUSER": BACKUP,
        "PGPASSWORD": passwords[BACKUP],
    }
    cluster = (data_dir / "postgres" / "cluster").resolve()
    return Source(data_dir, cluster, programs, login, owner)


# Making -----------------------------------------------------------------------------------------


async def make(folder: Path, source: Source, progress: Progress) -> Backup:
    """Copies the server while it works, verifies the copy and puts it into `folder`/base.
    BackupFailed, and then nothing of it is left."""
    base = folder / "base"
    try:
        with _alone(base):
            claim_for(folder, system_of(source.cluster))
            for left in base.glob(".making-*"):  # of one that was killed
                shutil.rmtree(left, ignore_errors=True)
            return await _made(base, source, progress)
    except OSError as error:
        raise BackupFailed(
            f"The backup could not be made: {error}. See that its disk has room."
        ) from error


@contextlib.contextmanager
def _alone(base: Path) -> Iterator[None]:
    """BackupUnderWay. What is left of another one is removed, so it must not be under way."""
    close_to_others(base)
    lock = locked(base / "make.lock")
    if lock is None:
        raise BackupUnderWay(f"Another backup is being made into {base.parent}: wait for it.")
    try:
        yield
    finally:
        os.close(lock)


async def _made(base: Path, source: Source, progress: Progress) -> Backup:
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=base))
    began = monotonic()
    try:
        async with Database(source.owner, pool_size=1) as owner:
            began_at = await owner.fetchval(sql.moment)
            await _copy(made / CLUSTER, source, progress)
            ended_at = await owner.fetchval(sql.moment)
            schema = await owner.revision()
        await verify(made, source.programs, progress)
        digests = _keep_secrets(made / KEPT_SECRETS, source.data_dir)
        backup = Backup(
            name=_named(ended_at),
            began_at=began_at,
            ended_at=ended_at,
            **_span(made / CLUSTER),
            schema=schema,
            program=_program(),
            secrets=list(digests),
            digests=digests,
            bytes=_size(made),
            duration_ms=round((monotonic() - began) * 1000),
        )
        _finish(made, backup)
        return backup
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _named(ended_at: datetime) -> str:
    return f"{ended_at:%Y%m%dT%H%M%S.%fZ}"


def _program() -> str:
    try:
        return metadata.version("strongroom")
    except metadata.PackageNotFoundError:
        return "not installed"  # run from its sources


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _finish(made: Path, backup: Backup) -> None:
    """Gives it its name, last."""
    write_private(made / NOTE, msgspec.json.format(msgspec.json.encode(backup)) + b"\n")
    sync_folder(made)
    made.rename(made.with_name(backup.name))
    sync_folder(made.parent)


async def _copy(target: Path, source: Source, progress: Progress) -> None:
    # A fast checkpoint: spread over its usual time, a backup would begin after a quarter of an
    # hour. The log that was written meanwhile comes along, so that the copy stands without an
    # archive too.
    command: list[str | Path] = [
        source.programs / "pg_basebackup",
        "--pgdata",
        target,
        "--wal-method=stream",
    ]
    command += ["--checkpoint=fast", "--no-password", "--progress", "--label=strongroom"]
    await _run(command, environment(**source.login), "copying", progress)


async def verify(backup: Path, programs: Path, progress: Progress) -> None:
    """Reads all data of a backup: each file against its checksum, and its log. BackupDamaged."""
    command: list[str | Path] = [
        programs / "pg_verifybackup",
        "--progress",
        "--exit-on-error",
        backup / CLUSTER,
    ]
    try:
        await _run(command, environment(), "verifying", progress)
    except BackupFailed as error:
        raise BackupDamaged(
            f"The backup {backup.name} is damaged: {error.detail} Do not rely on it; make another."
        ) from error


async def _run(
    command: list[str | Path], surroundings: Mapping[str, str], what: str, progress: Progress
) -> None:
    """Runs one of the server's programs to its end, and passes on how far it says it is."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=surroundings,
        cwd="/",
        umask=0o077,
        preexec_fn=end_with_parent,
    )
    assert process.stderr is not None
    said = b""
    try:
        while text := await process.stderr.read(4096):
            said = (said + text)[-8192:]
            if shares := SHARE.findall(text):
                progress(what, min(int(shares[-1]), 100))
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code:
        lines = [line for line in re.split(rb"[\r\n]+", said) if b"error" in line.lower()]
        why = b" ".join(lines[-2:] or said.splitlines()[-2:]).decode(errors="replace").strip()
        raise BackupFailed(f"{why or f'exit code {code}'}.")


def _span(cluster: Path) -> dict[str, Any]:
    """What the server's own manifest says of the log that this copy needs."""
    manifest = msgspec.json.decode((cluster / "backup_manifest").read_bytes())
    span = manifest["WAL-Ranges"][-1]
    return {
        "start_lsn": span["Start-LSN"],
        "end_lsn": span["End-LSN"],
        "timeline": span["Timeline"],
        "system": str(manifest["System-Identifier"]),
    }


def verify_note(folder: Path, backup: Backup) -> None:
    """Whether its note says what the copy says, and its secrets are those that were kept.
    BackupDamaged."""
    place = place_of_backup(folder, backup)
    known = {name: getattr(backup, name) for name in ("start_lsn", "end_lsn", "timeline", "system")}
    faults = []
    try:
        if _span(place / CLUSTER) != known or _named(backup.ended_at) != backup.name:
            faults.append(f"{NOTE} does not fit to it.")
    except (OSError, ValueError, KeyError) as error:
        faults.append(f"its manifest cannot be read ({error}).")
    for name, digest in backup.digests.items():
        file = place / KEPT_SECRETS / name
        if not file.exists() or _digest(file.read_bytes()) != digest:
            faults.append(f"{KEPT_SECRETS}/{name} is not what it was.")
    if faults:
        raise BackupDamaged(f"The backup {backup.name} is damaged: {' '.join(faults)}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _keep_secrets(target: Path, data_dir: Path) -> dict[str, str]:
    """Their digests by name."""
    target.mkdir(mode=0o700)
    kept = {}
    for file in (data_dir / CREDENTIALS, *(data_dir / name for name in SECRETS)):
        if file.exists():
            content = file.read_bytes()
            write_private(target / file.name, content)
            kept[file.name] = _digest(content)
    sync_folder(target)
    return kept


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner may read, and that a power cut does not take away."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


async def last_commit(owner: Database) -> datetime | None:
    """The newest commit that a recovery brought back, while the server that did it runs."""
    found: datetime | None = await owner.fetchval(sql.last_commit)
    return found


async def replayed_to(owner: Database) -> int:
    """How far a recovery read the log, while the server that did it runs."""
    return position_of(await owner.fetchval(sql.replayed_to))


async def keep_for_archive(archiver: Database) -> None:
    """The server keeps its log from now on, until an archive has it; without one the next `up`
    lets it go."""
    await archiver.fetchval(sql.keep_for_archive, SLOT)


async def archiving(owner: Database) -> Record:
    """Of the archive's slot: `active`, `wal_status`, and how many bytes it is `behind`."""
    found = await owner.fetchrow(sql.archiving, SLOT)
    assert found is not None
    return found


# Keeping ----------------------------------------------------------------------------------------


def backups(folder: Path) -> list[Backup]:
    """All backups in a folder that say what they are, oldest first."""
    return [found for _, found in _notes(folder) if found]


def unreadable(folder: Path) -> list[str]:
    """The names of those whose note cannot be read."""
    return [name for name, found in _notes(folder) if not found]


def _notes(folder: Path) -> Iterator[tuple[str, Backup | None]]:
    for note in sorted((folder / "base").glob(f"[0-9]*/{NOTE}")):
        try:
            found = msgspec.json.decode(note.read_bytes(), type=Backup)
        except (OSError, ValueError):
            yield note.parent.name, None
        else:
            # A byte of it may be changed and the note still be one: its folder is not elsewhere.
            yield note.parent.name, found if found.name == note.parent.name else None


def place_of_backup(folder: Path, backup: Backup) -> Path:
    return folder / "base" / backup.name


def branch_of(folder: Path, backup: Backup) -> Branch:
    """The youngest branch that a backup leads to, or its own when that was left."""
    youngest = Branch.of(folder, max(newest_timeline(folder), backup.timeline))
    leads = youngest.passes(backup.timeline, position_of(backup.end_lsn))
    return youngest if leads else Branch.of(folder, backup.timeline)


def gap_after(folder: Path, backup: Backup) -> Segment | None:
    """The first piece of the log that is missing between a backup and the newest."""
    return branch_of(folder, backup).gap(archived(folder), backup.first.number)


async def verify_log(folder: Path, backup: Backup, programs: Path) -> int:
    """Parses the log since a backup to its end; how many files of it are whole. BackupDamaged."""
    first = backup.first.number
    branch = branch_of(folder, backup)
    found = dict(enumerate(branch.unbroken(archived(folder), first), first))
    for number, file in found.items():
        if not belongs(file, number, backup.system):
            raise BackupDamaged(f"The archived log is damaged: {file.name} is not what it was.")
    with tempfile.TemporaryDirectory(prefix="strongroom-log-") as near:
        for number, file in found.items():  # pg_waldump reads one folder and one timeline
            here = Path(near) / Segment(branch.timeline, number).name
            if file.suffix:  # it grows while we read
                shutil.copyfile(present(file), here)
            else:
                here.symlink_to(file)
            found[number] = here
        last = max(found, default=first)
        if not found or end_of(found[last], last) <= position_of(backup.start_lsn):
            return 0  # none, or one that has just been begun
        command: list[str | Path] = [programs / "pg_waldump", "--quiet", "--path", near]
        command += ["--timeline", str(branch.timeline), "--start", backup.start_lsn]
        try:
            await _run(command, environment(), "log", lambda _what, _share: None)
        except BackupFailed as error:  # it always ends so: it does not know where the log ends
            if not _ended_well(error.detail, found):
                raise BackupDamaged(f"The archived log is damaged: {error.detail}") from error
        whole = sum(here.is_symlink() for here in found.values())
    return whole


def _ended_well(said: str, files: Mapping[int, Path]) -> bool:
    if over := NO_MORE.search(said):
        known = Segment.named(over[1])
        return known is not None and known[0].number == max(files) + 1
    positions = POSITION.findall(said)
    if not positions:
        return False
    last = max(files)
    return not goes_on(files, position_of(positions[-1]), end_of(files[last], last))


def prune(folder: Path, keep: int) -> tuple[list[Backup], int]:
    """Removes all backups but the newest `keep`, and the log that only they needed: which, and how
    many files of the log."""
    if keep < 1:
        raise NothingToKeep("At least one backup is kept: --keep 1.")
    found = backups(folder)
    gone = found[:-keep]
    for backup in gone:
        place = place_of_backup(folder, backup)
        place.rename(place.with_name(f".gone-{backup.name}"))  # first: half of one is no backup
    for left in (folder / "base").glob(".gone-*"):  # also of one that was killed
        shutil.rmtree(left, ignore_errors=True)
    oldest = min((backup.first.number for backup in found[-keep:]), default=0)
    files = 0
    for log in sorted(folder.glob("wal*")):
        for file in log.iterdir():
            known = Segment.named(file.name)
            if known and known[0].number < oldest:
                file.unlink()
                files += 1
        if log.name != "wal" and not any(map(Segment.named, map(_name, log.iterdir()))):
            shutil.rmtree(log)
    return gone, files


def _name(file: Path) -> str:
    return file.name
