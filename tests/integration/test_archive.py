"""What an archive and a backup do where a disk or a file system refuses."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from strongroom.core.db.archive import locked
from strongroom.core.db.backup import BackupFailed, Source, make


def test_a_file_system_without_locks_costs_no_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` asks again every few seconds, for ever."""

    def without(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without)
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with pytest.raises(OSError, match="No locks available"):
            locked(tmp_path / "lock")
    assert len(os.listdir("/proc/self/fd")) <= len(before)


async def test_a_backup_of_a_server_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    source = Source(tmp_path, tmp_path / "nothing", tmp_path, {}, "postgresql://nobody")
    with pytest.raises(BackupFailed, match=r"could not be made.*pg_control"):
        await make(tmp_path / "backups", source, lambda *_: None)
