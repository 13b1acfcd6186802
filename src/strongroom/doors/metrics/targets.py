"""Where the metrics of each process are found: sockets that outlive the processes, and the note in
which Prometheus looks them up (file_sd)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from strongroom.doors.sockets import listening_at
from strongroom.errors import Refused
from strongroom.settings import Settings

TRIED = 64
"""From a base port on, so many are tried: as many processes of a kind as there may be."""

NOTE = Path("prometheus") / "targets.json"
"""Below the data folder."""


class MetricsUnusable(Refused):
    """Metrics cannot be told on this address."""


def listening_from(host: str, base: int) -> socket.socket:
    """A listening socket on the first port from `base` on that is free, or on any when it is 0;
    OSError when there is none."""
    for port in range(base, min(base + TRIED, 65536)) if base else (0,):
        try:
            return listening_at(host, port)
        except OSError as error:
            failed = error
    raise failed


def listening_on(settings: Settings, number: int = 0) -> socket.socket:
    """Where the process of this number is asked for its metrics; MetricsUnusable."""
    host, base = settings.metrics_host, settings.metrics_port
    try:
        return listening_from(host, base + number if base else 0)
    except OSError as error:
        raise MetricsUnusable(
            f"Metrics cannot be told on {host} port {base or 'any'}: {error.strerror or error}. "
            "Choose others with metrics_host and metrics_port."
        ) from error


def address_of(listening: socket.socket) -> str:
    """As it is asked for: host:port."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def note(data_dir: Path, processes: Mapping[str, str]) -> None:
    """Writes the addresses by the processes' names, such as api-1, all at once."""
    said = [
        {"targets": [address], "labels": {"process": name, "service": name.partition("-")[0]}}
        for name, address in processes.items()
    ]
    path = data_dir / NOTE
    path.parent.mkdir(mode=0o755, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(said, indent=1) + "\n", "utf8")
    os.replace(new, path)


def withdraw(data_dir: Path) -> None:
    """Nothing runs there any more."""
    (data_dir / NOTE).unlink(missing_ok=True)
