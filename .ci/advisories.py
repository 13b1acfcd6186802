"""Known weaknesses of what is locked, without a network: from a copy of OSV's records of PyPI.

    curl -O https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip
    make audit OSV=all.zip

Exit code 0: none is known; 1: the list follows; 2: something could not be judged.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

NONE, SOME, UNKNOWN = 0, 1, 2

PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


def locked(text: str) -> dict[str, set[str]]:
    """Versions by name, of a file of requirements; more than one where Python's version decides."""
    found: dict[str, set[str]] = {}
    for name, version in PINNED.findall(text):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def affected(version: Version, entry: dict[str, Any]) -> bool:
    """Whether one entry of a record is about this version (OSV schema 1.7, `affected`)."""
    if str(version) in map(_plain, entry.get("versions", [])):
        return True
    for span in entry.get("ranges", []):
        if span["type"] != "ECOSYSTEM":
            continue
        inside = False
        for event in sorted(span["events"], key=_at):
            (kind, said), *_ = event.items()
            at = Version(said)
            if kind == "introduced" and version >= at:
                inside = True
            elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
                inside = False
        if inside:
            return True
    return False


def _at(event: dict[str, str]) -> tuple[Version, int]:
    """Events in the order of their versions: what was mended there, what began, what ends behind."""
    ((kind, said), *_) = event.items()
    return Version(said), {"fixed": 0, "introduced": 1}.get(kind, 2)


def _plain(version: str) -> str:
    try:
        return str(Version(version))
    except InvalidVersion:
        return version


def found(versions: dict[str, set[str]], records: Iterator[dict[str, Any]]) -> Iterator[str]:
    """One line for each weakness of one package; those that were withdrawn are none."""
    for record in records:
        if "withdrawn" in record:
            continue
        for entry in record.get("affected", []):
            name = canonicalize_name(entry.get("package", {}).get("name", ""))
            for version in versions.get(name, ()):
                if affected(Version(version), entry):
                    what = record.get("summary") or record.get("details", "")[:100]
                    yield f"{name} {version}: {record['id']} {what}"


def records_of(archive: Path) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(archive) as records:
        for name in records.namelist():
            if name.endswith(".json"):
                yield json.loads(records.read(name))


def run(requirements: str, archive: str) -> int:
    versions = locked(Path(requirements).read_text("utf8"))
    try:
        lines = sorted(set(found(versions, records_of(Path(archive)))))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"{archive} cannot be read: {error!r}", file=sys.stderr)
        return UNKNOWN
    print("\n".join([*lines, f"{len(versions)} packages, {len(lines)} known weaknesses."]))
    return SOME if lines or not versions else NONE


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
