"""What a figure was measured on: without these facts it says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from strongroom.core.db import Database


@dataclass(frozen=True)
class Machine:
    """Taken before the first measurement. `load_average` is that of the last minute: well above
    zero, and somebody else was computing too."""

    cores: int
    cpu: str
    memory_bytes: int
    system: str
    python: str
    postgres: str | None
    load_average: float


def machine(postgres: str | None = None) -> Machine:
    """The facts of this machine, now."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_first("/proc/cpuinfo", "model name") or platform.machine(),
        memory_bytes=int((_first("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) * 1024,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        postgres=postgres,
        load_average=round(os.getloadavg()[0], 2),
    )


async def postgres_version(dsn: str) -> str:
    """The version the server at `dsn` tells when it greets."""
    async with Database(dsn, pool_size=3) as database, database.connection() as connection:
        told = connection.get_server_version()
        # The driver reads 18.6 as 18.0.6.
        return f"{told.major}.{told.micro}"


def commit(folder: Path | None = None) -> str | None:
    """The revision of the sources, with `-dirty` behind it when files differ from it; None
    outside a checkout."""
    where = folder or Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        told = subprocess.run(
            command, cwd=where, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def _first(file: str, name: str) -> str | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, text = line.partition(":")
        if key.strip() == name:
            return text.strip()
    return None
