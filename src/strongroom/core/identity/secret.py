"""The secrets of an installation, each made once: of its access tokens, its tickets …"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

FILE = "token_secret"

SECRET_BYTES = 32
"""RFC 7518 asks HS256 for a key as long as its hash."""

MIN_LENGTH = 32
"""Characters; the setting of the same name has the same bound."""


def load_or_make_secret(folder: Path, name: str = FILE) -> str:
    """The secret kept in `folder`, which is made on the first call, readable by its owner alone:
    32 bytes as base64url.

    Processes that start together all get the same one. ValueError when the file does not hold a
    secret: a new one would silently end every session, or make sold tickets worthless.
    """
    path = folder / name
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{name}-{secrets.token_hex(8)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link, like O_EXCL, fails for all but the first, and nobody meets a half-written file.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            _sync(folder)
    finally:
        draft.unlink()
    return _read(path)


def _read(path: Path) -> str:
    found = path.read_text("ascii").strip()
    if len(found) < MIN_LENGTH:
        raise ValueError(f"{path} does not hold a secret of {MIN_LENGTH} characters or more")
    return found


def _sync(folder: Path) -> None:
    """A name that a power cut takes back would take every session with it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
