"""A disk whose power can be cut: a loop-mounted ext4 that is shut down without writing its log.

    unshare --mount python -m strongroom.lab.chaos.power      # tries it, and says what it kept

After EXT4_IOC_SHUTDOWN with NOLOGFLUSH (linux/Documentation/filesystems/ext4; XFS calls it
"goingdown") nothing more reaches the disk: not what lies in the page cache, not the running
transaction of the journal. Every further call fails with EIO. Mounted again, the file system is
what a machine finds that lost its power at that instant: what was fsynced, and some of the rest.

Needs root and loop devices. Mounts belong to a namespace of the process's own, so that they end
with it, however it ends: `in_a_namespace` starts a program there.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from strongroom.clock import monotonic
from strongroom.errors import Refused

EXT4_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32), fs/ext4/ext4.h."""

NOLOGFLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: the journal is not flushed first."""

SIZE_BYTES = 1024**3
"""A cluster, its log and what a trial writes fit several times; the file is sparse."""

MEMORY = Path("/dev/shm")
"""The image need not be on a real disk: what is lost is lost between the file system and it."""

TOOLS = ("mkfs.ext4", "mount", "umount", "unshare")
LOOK_S = 0.01
BUSY_S = 20.0
"""How long processes that were killed may still hold files of a disk that is unmounted."""

TRY_S = 30.0


class NoPower(Refused):
    """There is no disk here whose power could be cut."""


class Disk:
    """An ext4 in a file, mounted on `place` while the context lasts. One user: `owner`, its uid."""

    def __init__(self, image: Path, place: Path, *, size_bytes: int = SIZE_BYTES) -> None:
        self.image, self.place, self._size = image, place, size_bytes
        self.cuts = 0

    def __enter__(self) -> Self:
        self.place.mkdir(parents=True, exist_ok=True)
        with self.image.open("wb") as file:
            file.truncate(self._size)
        # At once whole: nothing of mkfs goes on in the background when the power is cut.
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.image))
        self.mount()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unmount()
        self.image.unlink()

    def mount(self) -> None:
        """Also recovers what a cut has left: ext4 replays its own journal."""
        _run("mount", "-t", "ext4", "-o", "loop,noatime", str(self.image), str(self.place))

    def unmount(self) -> None:
        """Waits for the last who was killed to let go of it."""
        patience = monotonic() + BUSY_S
        while True:
            try:
                _run("umount", str(self.place))
                return
            except NoPower:
                if monotonic() > patience:
                    raise
                time.sleep(LOOK_S)

    def cut(self) -> None:
        """The power is gone: from now on nothing reaches the disk, and nothing comes from it."""
        top = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(top, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(top)
        self.cuts += 1

    def restore(self) -> None:
        """The power is back. Whoever had files open has ended."""
        self.unmount()
        self.mount()


def in_a_namespace(command: Sequence[str]) -> list[str]:
    """The command with mounts of its own, which nobody else sees and which end with it."""
    return ["unshare", "--mount", "--propagation", "private", *command]


def scratch(prefix: str) -> Path:
    """A folder for an image and its mount, in memory where there is room for it."""
    fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * SIZE_BYTES
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if fits else None))
    folder.chmod(0o711)  # the database's own user passes through
    return folder


def why_not() -> str | None:
    """Why no power can be cut here; None when it was just tried and did what it should."""
    if os.geteuid() != 0:
        return "cutting the power needs root: it mounts a disk of its own"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"cutting the power needs {', '.join(missing)}"
    if not Path("/dev/loop-control").exists():
        return "cutting the power needs loop devices, and there is no /dev/loop-control"
    tried = subprocess.run(
        in_a_namespace([sys.executable, "-m", __name__]),
        capture_output=True,
        text=True,
        timeout=TRY_S,
        check=False,
    )
    if tried.returncode:
        return f"cutting the power does not work here: {(tried.stderr or tried.stdout).strip()}"
    return None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoPower(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")


def _try() -> None:
    """Cuts the power once: what was synced is there afterwards, what was not is gone."""
    folder = scratch("strongroom-power-")
    try:
        with Disk(folder / "disk", folder / "mounted", size_bytes=64 * 1024**2) as disk:
            kept, lost = disk.place / "kept", disk.place / "lost"
            with kept.open("wb") as file:
                file.write(b"synced")
                file.flush()
                os.fsync(file.fileno())
            lost.write_bytes(b"only written")
            disk.cut()
            try:
                (disk.place / "after").write_bytes(b"")
            except OSError:
                pass
            else:
                raise NoPower("The disk still took a file after the cut.")
            disk.restore()
            if not kept.exists() or kept.read_bytes() != b"synced":
                raise NoPower("The disk lost what had been synced.")
            if lost.exists() and lost.read_bytes():
                raise NoPower("The disk kept what had not been synced: the power was not cut.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Exit code 0: the power can be cut here."""
    argparse.ArgumentParser(
        prog="python -m strongroom.lab.chaos.power",
        description="Cuts the power of a disk that it makes for that, and says what was kept.",
    ).parse_args()
    try:
        _try()
    except (NoPower, OSError) as error:
        sys.exit(str(error))
    print("The power was cut: what was synced is there, what was only written is gone.")


if __name__ == "__main__":
    main()
