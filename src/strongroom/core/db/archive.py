"""The log of the embedded server, kept outside of it while it is written.

    archive = Archive(folder / "wal", …)
    await archive.keep()        until stop(), whatever ends meanwhile

A backup is a copy of one moment; with the log since then it becomes any later one. `pg_receivewal`
writes what the server sends as it comes, not when a segment of 16 MiB is full, so what is lost with
the server's disk is what was under way, however much or little is written. A slot on the server
keeps what the archive has not got yet, for as long as the disk allows.

In the folder of the backups:
    wal                 the log that goes on, one file a segment; the last one ends in .partial
    wal-until-…         what was archived before the log broke off; backups of that time need it
    archive.lock        held while an `up` archives
    system              which cluster it is all of
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from strongroom.clock import monotonic, now
from strongroom.core.db.embedded_config import environment, write
from strongroom.core.db.log_pages import SEGMENT_BYTES
from strongroom.errors import Refused

SLOT = "strongroom_archive"

SEGMENTS_A_LOG = 0x1_0000_0000 // SEGMENT_BYTES

SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
HISTORY = re.compile(r"[0-9A-F]{8}\.history")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""It is back at once when the server is, and does not fill the terminal when it cannot."""

STEADY_S = 10.0

LINES = 3
"""Of what it said at its end: the error, its detail, its hint."""

STATUS_S = "2"
"""How often the server is told how far it came; also how soon a dead connection is noticed."""

BROKEN_OFF = (
    "has already been removed",
    "can no longer access replication slot",
    "has been invalidated",
    "is not in this server's history",
    "is not present in the server",
    "is ahead of the WAL flush position",
)
"""What the server says when it cannot go on where the archive ends: the disk was needed, or this is
a restored cluster whose past is another one."""

SLOT_LOST = BROKEN_OFF[:3]
"""What it says when the slot is of no use either."""

PARENT_DIES = 1
"""PR_SET_PDEATHSIG of Linux: a kill -9 of `up` must not leave a second archiver behind."""


class ArchiveTaken(Refused):
    """Another instance archives into this folder: give each a backup_dir of its own."""


class OtherCluster(Refused):
    """The backups in this folder are of another database: give each a backup_dir of its own."""


def system_of(cluster: Path) -> int:
    """What a cluster shares with its copies and with nothing else."""
    with (cluster / "global" / "pg_control").open("rb") as control:
        return int.from_bytes(control.read(8), sys.byteorder)


def claim_for(backups: Path, system: int) -> None:
    """Notes whose backups these are; OtherCluster."""
    note = backups / "system"
    try:
        if note.read_text("ascii").strip() != str(system):
            raise OtherCluster(f"The backups in {backups} are of another database.")
    except FileNotFoundError:
        write(note, f"{system}\n")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A file of the log: the `number`-th 16 MiB since ever, as this timeline wrote them."""

    timeline: int
    number: int

    @property
    def name(self) -> str:
        log, rest = divmod(self.number, SEGMENTS_A_LOG)
        return f"{self.timeline:08X}{log:08X}{rest:08X}"

    @property
    def start(self) -> int:
        return self.number * SEGMENT_BYTES

    @classmethod
    def at(cls, timeline: int, lsn: str) -> Segment:
        """The segment in which a position lies."""
        return cls(timeline, position_of(lsn) // SEGMENT_BYTES)

    @classmethod
    def named(cls, name: str) -> tuple[Segment, bool] | None:
        """The segment of a file and whether it is whole; None for any other file."""
        found = SEGMENT.fullmatch(name)
        if found is None:
            return None
        timeline, log, rest = (int(part, 16) for part in found.groups()[:3])
        return cls(timeline, log * SEGMENTS_A_LOG + rest), found[4] is None


def close_to_others(folder: Path) -> None:
    """Makes a folder of the backups, and the folder of all of them, for their owner alone."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def position_of(lsn: str) -> int:
    """A position in the log, `1/2C000028`, as a number of bytes."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_of(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def archived(backups: Path) -> dict[Segment, Path]:
    """The newest text of each segment in the archive: whole where there is a whole one."""
    found: dict[Segment, Path] = {}
    for folder in sorted(backups.glob("wal*")):
        for file in sorted(folder.iterdir()):
            known = Segment.named(file.name)
            # Sorted, a whole one precedes its own .partial.
            if known and (known[1] or (known[0] not in found and not _half_made(file))):
                found[known[0]] = file
    return found


def _half_made(file: Path) -> bool:
    """A file gets all of its room before anything is written to it; this one did not, for want of
    room or by a kill -9. There is nothing in it, and pg_receivewal would never go on with it."""
    try:
        return file.suffix == ".partial" and file.stat().st_size != SEGMENT_BYTES
    except FileNotFoundError:  # it was finished meanwhile
        return False


def histories(backups: Path) -> Iterator[Path]:
    """The files that say where one timeline left another."""
    for folder in sorted(backups.glob("wal*")):
        yield from (file for file in folder.iterdir() if HISTORY.fullmatch(file.name))


class Branch:
    """A timeline and those that it came from. A restored database begins a timeline of its own,
    where it left the one before; what that one wrote after is another story."""

    def __init__(self, timeline: int, begins: Mapping[int, int] | None = None) -> None:
        self.timeline = timeline
        self._begins = {1: 0, **(begins or {})} if timeline > 1 else {1: 0}

    @classmethod
    def of(cls, backups: Path, timeline: int) -> Branch:
        """As its history file in the archive says; alone when there is none."""
        name = f"{timeline:08X}.history"
        file = next((one for one in histories(backups) if one.name == name), None)
        if file is None:
            return cls(timeline, {timeline: 0})
        begins, following = {}, 0
        for line in file.read_text("ascii").splitlines():
            if words := line.split():
                begins[int(words[0])] = following
                following = position_of(words[1])
        return cls(timeline, begins | {timeline: following})

    @property
    def name(self) -> str:
        """What the names of its files begin with."""
        return f"{self.timeline:08X}"

    def passes(self, timeline: int, position: int) -> bool:
        """Whether this position of that timeline lies in its past."""
        left = min((begin for t, begin in self._begins.items() if t > timeline), default=position)
        return timeline in self._begins and position <= left

    def segment(self, number: int) -> Segment:
        """The file in which this piece lies: the younger timeline's, where one left another."""
        position = (number + 1) * SEGMENT_BYTES
        return Segment(max(t for t, begin in self._begins.items() if begin < position), number)

    def unbroken(self, found: Mapping[Segment, Path], number: int) -> list[Path]:
        """The archived files from this piece on, up to the first that is missing or not whole."""
        files = []
        while (file := found.get(self.segment(number))) is not None:
            files.append(file)
            if file.suffix:
                break
            number += 1
        return files

    def gap(self, found: Mapping[Segment, Path], number: int) -> Segment | None:
        """The first piece that is missing between this one and the newest."""
        newest = max((one.number for one in found if one.timeline == self.timeline), default=0)
        files = self.unbroken(found, number)
        # The newest may be under way; one that is not whole where others follow is a gap.
        whole = [file for file in files if not file.suffix]
        missing = number + len(whole if number + len(files) <= newest else files)
        return self.segment(missing) if missing <= newest else None


def newest_timeline(backups: Path) -> int:
    """The youngest that the archive knows; 1 without an archive."""
    return max((one.timeline for one in archived(backups)), default=1)


class Archive:
    """Keeps the log of one server in `backups`/wal. `login` are libpq's PG… names and values."""

    def __init__(
        self,
        backups: Path,
        cluster: Path,
        programs: Path,
        login: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.backups, self._program, self._say = backups, programs / "pg_receivewal", say
        self._system = system_of(cluster)
        self._environment = environment(**login)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    def reach(self, login: Mapping[str, str]) -> None:
        """The server has moved: from its next attempt on, this is where it is."""
        self._environment = environment(**login)

    @property
    def folder(self) -> Path:
        return self.backups / "wal"

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep(self) -> None:
        """Archives, and again whenever that ends, until `stop()`; ArchiveTaken, OtherCluster."""
        lock, told = None, False
        try:
            while lock is None and not self._stopping.is_set():
                try:
                    lock = self._claim()
                except OSError as error:
                    # Who starts at night is not kept from it by the disk of the backups.
                    if not told:
                        self._say(f"nothing is archived ({error}); trying until it can be")
                    told = True
                    await self._pause(LONGEST_PAUSE_S)
            if told and lock is not None:
                self._say("the log is archived now")
            await self._keep()
        finally:
            if lock is not None:
                os.close(lock)

    def _claim(self) -> int:
        close_to_others(self.folder)
        claim_for(self.backups, self._system)
        lock = locked(self.backups / "archive.lock")
        if lock is None:
            raise ArchiveTaken(f"Another instance archives into {self.backups}.")
        return lock

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _keep(self) -> None:
        pause_s, told = FIRST_PAUSE_S, False
        while not self._stopping.is_set():
            began = monotonic()
            try:
                said = await self._once()
                if self._stopping.is_set():
                    return
                if any(words in said for words in BROKEN_OFF):
                    await self._begin_anew(said)
                    told = True
            except OSError as error:  # the disk is away, or no process can be made
                said = str(error)
            if monotonic() - began > STEADY_S:
                pause_s, told = FIRST_PAUSE_S, False
            if not told:  # a server that is down for an hour is told of once
                self._say(f"the archive of the log ended ({said}); trying until it goes on")
            told = True
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _once(self) -> str:
        """Archives until it ends; the last lines that it said."""
        created = await self._run("--create-slot", "--if-not-exists", "--slot", SLOT)
        if self._process is None or self._process.returncode:
            return created
        for file in self.folder.glob("*.partial"):
            if _half_made(file):
                file.unlink()
        # No --synchronous: an fsync for each COMMIT, on what is often the same disk, would halve
        # what the server can do, and only saves what a power cut takes from the cache while the
        # server's own disk is lost too. Segments are synchronised when they are whole.
        return await self._run(
            "--directory",
            str(self.folder),
            "--slot",
            SLOT,
            "--no-loop",
            "--status-interval",
            STATUS_S,
        )

    async def _run(self, *options: str) -> str:
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            *options,
            "--no-password",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            cwd="/",
            start_new_session=True,  # the terminal's Ctrl-C is for us; it ends after the server
            preexec_fn=end_with_parent,
            umask=0o077,
        )
        assert self._process.stderr is not None
        said: list[str] = []
        async for line in self._process.stderr:
            text = line.decode(errors="replace").strip().removeprefix("pg_receivewal: error: ")
            # Why comes before the word with which it always ends.
            if text and (text != "disconnected" or not said):
                said = [*said, text][-LINES:]
        code = await self._process.wait()
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return "; ".join(said) or how

    async def _begin_anew(self, why: str) -> None:
        """Puts what there is aside, and archives from now on. The gap stays: a new backup is due."""
        aside = self.backups / f"wal-until-{now():%Y%m%dT%H%M%S.%fZ}"
        fresh = self.backups / ".wal-anew"  # first: a disk without room for it changes nothing
        fresh.mkdir(mode=0o700, exist_ok=True)
        self.folder.rename(aside)
        fresh.rename(self.folder)
        if any(words in why for words in SLOT_LOST):
            await self._run("--drop-slot", "--slot", SLOT)
        self._say(
            f"the archive could not go on ({why}) and begins anew. Until the next `strongroom "
            "backup make`, no moment from now on can be restored."
        )

    def finish(self) -> None:
        """It ends with the server, which waits until everything has arrived."""
        self._stopping.set()

    def stop(self) -> None:
        """Asks it to end now."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def hurry(self) -> None:
        """Kills what does not end."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def locked(file: Path) -> int | None:
    """A lock for as long as this handle is open or we live; None when somebody has it."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return lock


def end_with_parent() -> None:
    """For a child, before it becomes its program: SIGTERM when we die, however."""
    ctypes.CDLL(None).prctl(PARENT_DIES, signal.SIGTERM)


async def forget(cluster: Path, programs: Path, login: Mapping[str, str]) -> None:
    """Drops the slot of an archive that is no longer wanted: it would keep the log for ever."""
    if not (cluster / "pg_replslot" / SLOT).exists():
        return
    process = await asyncio.create_subprocess_exec(
        programs / "pg_receivewal",
        "--drop-slot",
        "--slot",
        SLOT,
        "--no-password",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(**login),
    )
    await process.wait()
