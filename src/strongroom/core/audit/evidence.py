"""Evidence: what a run found, kept in a file as it was seen, before anybody mends anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from strongroom.core.audit.findings import Finding, plain
from strongroom.core.db import Connection, Queries

if TYPE_CHECKING:
    from strongroom.core.audit.reconcile import Report, Run

sql = Queries(__package__, "evidence.sql")

log = structlog.get_logger(__name__)

FOLDER = "evidence"
"""In the data folder; 0700, since it names people's accounts."""

AROUND = 10
"""Entries shown before and behind a wrong one."""

MOST_SHOWN = 20
"""Findings whose surroundings are shown: of more, the first say enough."""


async def gathered(db: Connection, findings: Sequence[Finding]) -> dict[str, Any]:
    """What stands around the first wrong entries, in the snapshot of the run."""
    found: dict[str, Any] = {}
    try:
        async with db.transaction():
            (row,) = await db.fetch(sql.where_from)
            found |= plain(row)
            around = [await _around(db, finding) for finding in findings[:MOST_SHOWN]]
            found["around"] = [one for one in around if one]
    except Exception as error:
        # What is damaged may be what is asked here: the findings are kept all the same.
        if getattr(error, "sqlstate", None) is None:
            raise
        found["unreadable"] = str(error)
    return found


async def _around(db: Connection, finding: Finding) -> dict[str, Any] | None:
    first = finding.rows[0]
    account, transfer = first.get("accountId"), first.get("transferId")
    shown: dict[str, Any] = {"invariant": finding.invariant}
    if account is not None:
        seq = first.get("seq") or first.get("fromSeq") or first.get("foundSeq") or 1
        rows = await db.fetch(sql.entries_around, account, seq - AROUND, seq + AROUND)
        shown |= {"accountId": account, "seq": seq, "entries": [plain(row) for row in rows]}
    if transfer is not None:
        shown["transfer"] = [plain(row) for row in await db.fetch(sql.entries_of, str(transfer))]
    return shown if len(shown) > 1 else None


def kept(data_dir: Path, run: Run, program: str) -> Report:
    """The run's report; one with findings is written into the data folder, and says where.
    `program` is the version that looked."""
    report = run.report
    if report.clean:
        return report
    path: Path | None = None
    try:
        told = {"report": report, "program": program, **run.evidence}
        path = write(data_dir / FOLDER, told, str(report.id))
    except OSError as error:
        # No reason to keep quiet about what was found.
        log.error("evidence cannot be written", folder=str(data_dir / FOLDER), error=str(error))
    first = str(report.findings[0])
    log.error("reconciliation found violations", first=first, evidence=str(path or "none"))
    return msgspec.structs.replace(report, evidence=str(path)) if path else report


def write(folder: Path, told: object, name: str) -> Path:
    """Writes `told` as JSON into the folder, whole or not at all; the path. OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    draft = folder / f".{name}.json"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(told, enc_hook=str), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path
