"""A backup and the log since then, made into a database of any moment between.

    plan = planned(folder, at=moment)
    server = await restored(plan, data_dir, progress)     runs, promoted; stop it

Only into a folder that is not there yet: what was lost may be wanted again, and whoever restores is
tired. The log is copied beside the data, so the server that replays it needs to reach neither the
backups nor a program of ours. It ends up on a timeline of its own; the one it left stays as it is.
Until it is whole the folder is marked, and nobody starts it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from strongroom.clock import now
from strongroom.core.db.archive import (
    Branch,
    Segment,
    archived,
    histories,
    lsn_of,
    newest_timeline,
    position_of,
)
from strongroom.core.db.backup import (
    CLUSTER,
    CREDENTIALS,
    KEPT_SECRETS,
    Backup,
    BackupDamaged,
    NoBackup,
    Progress,
    backups,
    place_of_backup,
    unreadable,
    write_private,
)
from strongroom.core.db.embedded import RESTORING, EmbeddedPostgres, ServerFailed
from strongroom.core.db.embedded_config import ServerUser, cluster_place, server_user
from strongroom.core.db.log_pages import SEGMENT_BYTES, belongs, end_of, goes_on, present
from strongroom.core.db.starting import started
from strongroom.errors import Invalid, Refused

REPLAY_S = 24 * 3600.0
"""A day's log takes a fraction of a day to replay; who waits sees how far it is."""

LOOK_S = 0.2

ENDED_BEFORE = "recovery ended before configured recovery target was reached"

REPLAYING = re.compile(rb"startup recovering ([0-9A-F]{24})")
"""What the server's process of that name calls itself."""

FEVER_S = 1
"""A moment this far ahead is a mistake of clocks, a later one of who asks."""


class FolderTaken(Refused):
    """The folder to restore into is there already: choose one that is not."""


class MomentUnknown(Invalid):
    """A moment is written like 2026-11-21T14:00:00Z, with its zone, and has passed."""


class WhichTimeline(Invalid):
    """What was restored and what it left both went on: say which one is wanted."""


class RestoreFailed(Refused):
    """The database could not be restored."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is put together."""

    backup: Backup
    place: Path
    timeline: int
    log: list[Path]
    """Of the archive, from the backup on, unbroken."""
    histories: list[Path]
    at: datetime | None
    """The moment; None for the end of the log."""
    foreign: str | None = None
    """A file that should follow in the log, and is not of it."""

    @property
    def written_at(self) -> datetime | None:
        """When the archive last got something of this; None without an archive."""
        if not self.log:
            return None
        return datetime.fromtimestamp(present(self.log[-1]).stat().st_mtime, tz=now().tzinfo)

    @property
    def bytes(self) -> int:
        return self.backup.bytes + sum(present(file).stat().st_size for file in self.log)

    def damage(self, replayed_to: int, end: int) -> str | None:
        """What kept replaying, which came to this position, from the end of the log."""
        files = dict(enumerate(self.log, self.backup.first.number))
        if goes_on(files, replayed_to, end):
            name = Segment(self.timeline, replayed_to // SEGMENT_BYTES).name
            return f"The log is damaged at {lsn_of(replayed_to)}, in {name}."
        return f"{self.foreign} is not of this log, or damaged." if self.foreign else None


def moment_of(text: str) -> datetime:
    """What was typed, as a moment; MomentUnknown."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise MomentUnknown() from None
    if at.tzinfo is None or (at - now()).total_seconds() > FEVER_S:
        raise MomentUnknown()
    return at


def planned(
    folder: Path,
    *,
    at: datetime | None = None,
    name: str | None = None,
    timeline: int | None = None,
) -> Plan:
    """What is needed: the newest backup before the moment, or the one of this name, on the youngest
    timeline unless another is named. NoBackup."""
    found = backups(folder)
    if not found:
        damaged = ", ".join(unreadable(folder))
        raise NoBackup(
            f"There is no backup in {folder}: is it the folder of `backup make`?"
            + (f" What says of itself cannot be read of {damaged}." if damaged else "")
        )
    youngest = max(newest_timeline(folder), *(one.timeline for one in found))
    branch = Branch.of(folder, timeline or youngest)
    fitting = [
        one
        for one in found
        if (at is None or one.ended_at <= at) and (name is None or one.name == name)
    ]
    if not fitting:
        raise NoBackup(
            f"No backup in {folder} ended before that moment"
            + (f" and is named {name}" if name else "")
            + f"; the oldest is of {found[0].ended_at:%Y-%m-%dT%H:%M:%SZ}."
        )
    log = archived(folder)
    for backup in reversed(fitting):
        first = backup.first.number
        files = branch.unbroken(log, first)
        if backup.timeline == branch.timeline or (
            branch.passes(backup.timeline, position_of(backup.end_lsn))
            and files
            and files[-1].name[:8] == branch.name
        ):
            break
    else:
        raise NoBackup(
            "The database was restored since, and no backup leads to what it became (timeline "
            f"{branch.timeline}). --timeline {fitting[-1].timeline} restores what it was before."
        )
    if timeline is None and backup is not fitting[-1]:
        raise WhichTimeline(
            f"A restored database went on as timeline {branch.timeline}, and what it had left did "
            f"so too: {fitting[-1].name} is a newer backup of timeline {fitting[-1].timeline}. "
            f"Say --timeline {branch.timeline} or --timeline {fitting[-1].timeline}."
        )
    ours = [belongs(file, number, backup.system) for number, file in enumerate(files, first)]
    whole = ours.index(False) if False in ours else len(files)
    foreign = files[whole].name if whole < len(files) else None
    place, past = place_of_backup(folder, backup), list(histories(folder))
    return Plan(backup, place, branch.timeline, files[:whole], past, at, foreign)


@dataclass(frozen=True, slots=True)
class Restored:
    """A server that runs, and whether it came as far as was asked."""

    server: EmbeddedPostgres
    reached: bool
    """False when the log ended before the moment: all of it is there then."""
    log_end: int
    """The position up to which there was a log; the archive may have gone on since."""


async def restored(plan: Plan, data_dir: Path, progress: Progress) -> Restored:
    """Puts it together in `data_dir`, and replays. FolderTaken, RestoreFailed."""
    done = _Share(plan.bytes, progress)
    try:
        log_end = await asyncio.to_thread(_assemble, plan, data_dir, done)
    except asyncio.CancelledError:
        done.given_up = True
        raise
    except OSError as error:
        raise RestoreFailed(
            f"{error.strerror} ({error.filename}). {plan.bytes / 2**30:.1f} GiB are needed; "
            f"remove {data_dir}, mend that, and restore again."
        ) from error
    server, reached = await _recovered(plan, data_dir, progress)
    (data_dir / "postgres" / RESTORING).unlink()
    return Restored(server, reached, log_end)


async def _recovered(
    plan: Plan, data_dir: Path, progress: Progress
) -> tuple[EmbeddedPostgres, bool]:
    """The server, and whether it came to the moment."""
    target = {"recovery_target_timeline": str(plan.timeline), "recovery_target_action": "promote"}
    # Without a way to fetch the server insists on; all that there is lies where it looks next.
    target["restore_command"] = "false"
    target["hot_standby"] = "off"  # nobody reads before it is whole; "ready" means promoted
    if plan.at is None:
        return await _replayed(plan, data_dir, target, progress), True
    wanted = target | {"recovery_target_time": plan.at.isoformat(sep=" ")}
    try:
        return await _replayed(plan, data_dir, wanted, progress), True
    except ServerFailed as error:
        if ENDED_BEFORE not in str(error):
            raise
    # No commit of the log is later than the moment: to its end is what was asked for.
    return await _replayed(plan, data_dir, target, progress), False


async def _replayed(
    plan: Plan, data_dir: Path, target: Mapping[str, str], progress: Progress
) -> EmbeddedPostgres:
    server = EmbeddedPostgres(data_dir / "postgres", recovery=target, ready_s=REPLAY_S)
    starting = asyncio.create_task(started(server))
    first, last = plan.backup.first.number, _last(plan)
    try:
        while not starting.done():
            await asyncio.wait([starting], timeout=LOOK_S)
            at = _replaying(server.pid)
            if at is not None and last > first:
                progress("replaying", min(100 * (at - first) // (last - first), 100))
    except asyncio.CancelledError:
        starting.cancel()
        await asyncio.wait([starting])
        await asyncio.to_thread(server.stop)  # that had just become ready
        raise
    await starting
    return server


def _last(plan: Plan) -> int:
    known = Segment.named(plan.log[-1].name) if plan.log else None
    return known[0].number if known else plan.backup.first.number


def _replaying(server: int | None) -> int | None:
    """The number of the segment that the server reads just now."""
    if server is None:
        return None
    try:
        for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split():
            found = REPLAYING.search(Path(f"/proc/{pid}/cmdline").read_bytes())
            if found and (known := Segment.named(found[1].decode())):
                return known[0].number
    except OSError:
        pass  # it ended just now
    return None


# Files --------------------------------------------------------------------------------------------


def free_folder(data_dir: Path) -> None:
    """FolderTaken, unless there is nothing."""
    if data_dir.exists() and any(data_dir.iterdir()):
        half = (data_dir / "postgres" / RESTORING).exists()
        raise FolderTaken(
            f"In {data_dir} lies a restore that did not finish: remove it, and restore again."
            if half
            else f"{data_dir} is there already: choose a folder that is not."
        )


def _assemble(plan: Plan, data_dir: Path, done: _Share) -> int:
    """Puts the files where they belong; the position up to which the archive had a log."""
    free_folder(data_dir)
    as_root = os.geteuid() == 0
    data_dir.mkdir(parents=True, exist_ok=True)
    data_dir.chmod(0o711 if as_root else 0o700)
    folder = data_dir / "postgres"
    folder.mkdir()
    folder.chmod(0o711 if as_root else 0o700)
    (folder / RESTORING).touch(mode=0o600)
    for name in plan.backup.secrets:
        target = data_dir / (CREDENTIALS if name == CREDENTIALS.name else name)
        write_private(target, (plan.place / KEPT_SECRETS / name).read_bytes())
    user = server_user(folder.resolve())
    cluster = cluster_place(folder.resolve(), user)
    if cluster.exists():
        raise FolderTaken(f"{cluster} is there already: choose another folder.")
    for source, target in _tree(plan.place / CLUSTER, cluster):
        _copy(source, target, user, done)
    log = cluster / "pg_wal"
    end = 0
    for number, file in enumerate(plan.log, plan.backup.first.number):
        # What the last segment lacks is zeros, where the log ends.
        target = log / file.name.removesuffix(".partial")
        _copy(present(file), target, user, done)
        end = end_of(target, number)
    for file in plan.histories:
        _copy(file, log / file.name, user, done)
    signal = cluster / "recovery.signal"
    signal.touch(mode=0o600)
    user.own(signal)
    return end


def _tree(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Everything in a folder and where it belongs, folders before what is in them."""
    for found, folders, files in os.walk(source):
        here = target / Path(found).relative_to(source)
        yield Path(found), here
        for name in (*files, *(one for one in folders if (Path(found) / one).is_symlink())):
            yield Path(found) / name, here / name


def _copy(source: Path, target: Path, user: ServerUser, done: _Share) -> None:
    if source.is_symlink():
        raise BackupDamaged(f"{source} is a link: tablespaces are not restored.")
    if source.is_dir():
        target.mkdir(mode=0o700)
    else:
        if target.exists() and target.stat().st_size >= source.stat().st_size and _partial(source):
            return  # the backup's own is whole
        shutil.copyfile(source, target)
        target.chmod(0o600)
        done.add(source.stat().st_size)
    user.own(target)


def _partial(file: Path) -> bool:
    return file.suffix == ".partial"


class _Share:
    """How much of so many bytes is done; RestoreFailed once nobody waits for the rest."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress, self._done = max(total, 1), progress, 0
        self.given_up = False

    def add(self, count: int) -> None:
        if self.given_up:
            raise RestoreFailed("It was given up.")
        self._done += count
        self._progress("copying", min(100 * self._done // self._total, 100))


__all__ = [
    "FolderTaken",
    "MomentUnknown",
    "Plan",
    "RestoreFailed",
    "Restored",
    "WhichTimeline",
    "free_folder",
    "moment_of",
    "planned",
    "restored",
]
