"""The command line as a person or a program uses it: real processes, their exit codes and words."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from serving import MEMORY

STRONGROOM = [sys.executable, "-m", "strongroom"]

COMMAND_S = 60.0
"""A first start makes a cluster: a second, on a crowded machine many."""

BUG = "Traceback (most recent call last)"


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The only line of stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def says(self, *words: str) -> bool:
        """All of these, however the lines were broken."""
        said = " ".join((self.out + self.err).split())
        return all(word in said for word in words)


def environment(**more: str) -> dict[str, str]:
    """Ours without its settings, so that no test depends on who runs it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STRONGROOM_")}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"} | more


def cli(
    *args: str,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    prefix: Sequence[str] = (),
) -> Ended:
    """Runs one command to its end; an expected error is never a traceback."""
    done = subprocess.run(
        [*prefix, *STRONGROOM, *args],
        env=env or environment(),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert BUG not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that the user whom root's server becomes can pass through, as pytest's cannot."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="strongroom-cli-", dir=memory))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
