"""Where the database is: a DSN from the settings, or the instance that runs on a data folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from strongroom.errors import Busy
from strongroom.settings import Settings

APP, AUDIT = "strongroom_app", "strongroom_audit"


class NotReachable(Busy):
    """No instance runs on this data folder. Start one with `strongroom up`, or set
    STRONGROOM_DATABASE_URL."""


@dataclass(frozen=True, slots=True)
class Place:
    """How to reach one database as each of its three roles."""

    app: str
    audit: str
    owner: str
    own_logins: bool
    """Each role has a login of its own; else one login takes the role on."""

    @property
    def app_role(self) -> str | None:
        return None if self.own_logins else APP

    @property
    def audit_role(self) -> str | None:
        return None if self.own_logins else AUDIT


def place_of(settings: Settings) -> Place:
    """The place that the settings name; NotReachable when nothing runs there."""
    url = settings.database_url
    if url:
        return Place(url, url, settings.owner_url or url, own_logins=False)
    try:
        noted = json.loads(_note(settings.data_dir).read_text("utf8"))
        os.kill(noted["pid"], 0)
        return Place(**noted["place"])
    except PermissionError as error:
        raise NotReachable(f"The instance on {settings.data_dir} is another user's.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReachable(
            f"No instance runs on {settings.data_dir}. Start one with `strongroom up --data-dir "
            f"{settings.data_dir}`, or set STRONGROOM_DATABASE_URL."
        ) from error


def announce(data_dir: Path, place: Place, **more: object) -> None:
    """Notes for other commands where this process's instance is; only its user may read it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    note = _note(data_dir)
    new = note.with_suffix(".new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump({"pid": os.getpid(), "place": asdict(place), **more}, file)
    new.replace(note)


def announced(data_dir: Path) -> dict[str, object]:
    """What the running instance noted; empty when there is none."""
    try:
        noted = json.loads(_note(data_dir).read_text("utf8"))
        os.kill(noted["pid"], 0)
    except (OSError, ValueError, KeyError):
        return {}
    return dict(noted)


def withdraw(data_dir: Path) -> None:
    _note(data_dir).unlink(missing_ok=True)


def _note(data_dir: Path) -> Path:
    return data_dir / "instance.json"
