"""The search for known weaknesses without a network."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent

LOCKED = """\
Some.Package==1.4.2 ; sys_platform == 'linux' \\
    --hash=sha256:00
other==2.0 \\
    --hash=sha256:11
twice==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:22
twice==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:33
"""


def record(name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}]
    entry = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}
    return {"id": "PYSEC-1", "summary": "it leaks", "affected": [entry], **more}


def asked(folder: Path, *records: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (folder / "locked.txt").write_text(LOCKED)
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for number, one in enumerate(records):
            archive.writestr(f"{number}.json", json.dumps(one))
    words = [sys.executable, ROOT / ".ci/advisories.py", folder / "locked.txt", folder / "all.zip"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "events",
    [
        ({"introduced": "0"},),
        ({"introduced": "1.0"}, {"fixed": "1.4.3"}),
        ({"introduced": "0"}, {"last_affected": "1.4.2"}),
        ({"introduced": "0"}, {"fixed": "1.1"}, {"introduced": "1.4"}, {"fixed": "1.5"}),
        ({"introduced": "1.4.2"}, {"last_affected": "1.4.2"}),
    ],
)
def test_a_weakness_of_the_locked_version_is_found_under_any_spelling(
    tmp_path: Path, events: tuple[dict[str, str], ...]
) -> None:
    done = asked(tmp_path, record("some_package", *events))
    assert done.returncode == 1 and "some-package 1.4.2: PYSEC-1 it leaks" in done.stdout


@pytest.mark.parametrize(
    "other",
    [
        record("some-package", {"introduced": "0"}, {"fixed": "1.4.2"}),
        record("some-package", {"introduced": "1.5"}),
        record("some-package", {"introduced": "0"}, {"last_affected": "1.4.1"}),
        record("some-package", {"introduced": "1.4.1"}, {"last_affected": "1.4.1"}),
        record("some-package", {"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z"),
        record("another", {"introduced": "0"}),
    ],
)
def test_a_weakness_of_other_versions_is_none(tmp_path: Path, other: dict[str, Any]) -> None:
    done = asked(tmp_path, other)
    assert done.returncode == 0 and "3 packages, 0 known weaknesses." in done.stdout


def test_of_a_package_that_is_locked_twice_each_version_is_judged(tmp_path: Path) -> None:
    done = asked(tmp_path, record("twice", {"introduced": "0"}, {"fixed": "2.5"}))
    assert done.returncode == 1 and "twice 2.4.6: PYSEC-1" in done.stdout
    assert "twice 2.5.5" not in done.stdout


def test_a_version_that_is_named_by_itself_is_found(tmp_path: Path) -> None:
    entry = {"package": {"name": "other"}, "versions": ["2.0"]}
    done = asked(tmp_path, {"id": "GHSA-1", "summary": "x", "affected": [entry]})
    assert done.returncode == 1 and "other 2.0: GHSA-1" in done.stdout


def test_what_cannot_be_read_is_not_taken_for_sound(tmp_path: Path) -> None:
    asked(tmp_path)
    (tmp_path / "all.zip").write_bytes(b"no archive")
    words = [sys.executable, ROOT / ".ci/advisories.py", tmp_path / "locked.txt"]
    done = subprocess.run([*words, tmp_path / "all.zip"], capture_output=True, check=False)
    assert done.returncode == 2
