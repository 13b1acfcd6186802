"""Reaching the database of an instance, or starting it for as long as one command lasts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from strongroom.clock import monotonic
from strongroom.core.db import Database
from strongroom.core.db.embedded import (
    AlreadyRunning,
    EmbeddedError,
    EmbeddedPostgres,
    OtherMajorVersion,
)
from strongroom.core.db.places import Place, announce, announced, place_of, withdraw
from strongroom.core.db.schema import newest
from strongroom.core.db.starting import started
from strongroom.doors.cli import logs
from strongroom.doors.cli.flags import NO_SCHEMA, say
from strongroom.errors import Busy, Refused
from strongroom.main import Strongroom, prepare
from strongroom.settings import Settings

POSTGRES = "postgres"

INSTANCE_LOCK = "instance.lock"
"""Held by `up` from before its start until after its end."""

LOOK_S = 0.1
TURN_S = 25.0
"""How long another command may keep the database that it has started for itself."""

STARTING_S = 30.0
"""A first start makes a cluster: a second or two, on a crowded disk many."""


class DataUnusable(Refused):
    """The embedded database cannot be used as it is."""


class InstanceStarting(Busy):
    """The instance on this data folder is still starting. Try again when it says that it is
    ready."""


class DatabaseFailed(Busy):
    """The embedded database does not start."""


class SchemaUnknown(Refused):
    """The database has another schema than this program needs."""


@contextlib.contextmanager
def _embedded_errors() -> Iterator[None]:
    try:
        yield
    except (AlreadyRunning, OtherMajorVersion) as error:
        raise DataUnusable(str(error)) from error
    except EmbeddedError as error:
        raise DatabaseFailed(str(error)) from error


def make_folder(folder: Path) -> None:
    """The data folder, closed to other users. Root's is passable: its database is another user."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def place_in(server: EmbeddedPostgres) -> Place:
    app, audit, owner = (server.dsn(f"strongroom_{one}") for one in ("app", "audit", "owner"))
    return Place(app, audit, owner, own_logins=True)


async def known_schema(place: Place) -> None:
    """SchemaUnknown unless the database has the schema that this program was written for."""
    try:
        async with Database(place.app, role=place.app_role, pool_size=1) as db:
            found = await db.revision()
    except Exception as error:
        if getattr(error, "sqlstate", None) not in NO_SCHEMA:
            raise
        found = None
    if found != newest():
        raise SchemaUnknown(
            f"The database has schema {found or 'none'}, this program needs {newest()}. "
            "Run `strongroom migrate`."
        )


@contextlib.asynccontextmanager
async def house_of(settings: Settings) -> AsyncIterator[Strongroom]:
    """The open house for one command."""
    async with reached(settings):
        await known_schema(place_of(settings))
        async with unopened(settings) as house:
            house.executor.slow_s = math.inf  # its answer tells how long it took
            yield house


def unopened(settings: Settings) -> Strongroom:
    """The house of these settings; DataUnusable when a file in the data folder is damaged."""
    try:
        return Strongroom(settings)
    except ValueError as error:
        raise DataUnusable(f"{error}. Put that file back from a backup.") from error


@contextlib.asynccontextmanager
async def reached(
    settings: Settings, *, new: bool = False, migrates: bool = True
) -> AsyncIterator[Place]:
    """Where the database is. When nothing runs on the data folder but a cluster lies there, it is
    started for as long as this lasts; `new` also makes one, and migrates it unless the caller
    does: a name that was mistyped must not become an empty database."""
    logs.keep_aside()
    folder = settings.data_dir / POSTGRES
    if (
        settings.database_url
        or await _instance_on(settings.data_dir)
        or not (new or (folder / "cluster").exists())
    ):
        yield place_of(settings)  # or says what there is to do
        return
    make_folder(settings.data_dir)
    server = EmbeddedPostgres(folder)
    end_in_order()
    noted_here = False
    try:
        if not await _start_in_turn(server):
            yield place_of(settings)
            return
        place = place_in(server)
        announce(settings.data_dir, place, passing=True)
        noted_here = True
        if new and migrates:
            await prepare(place)
        yield place
    finally:
        if noted_here:
            withdraw(settings.data_dir)
        await asyncio.to_thread(server.stop)


def end_in_order() -> None:
    """SIGTERM ends this task as Ctrl-C does: otherwise a server of its own is left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def start(server: EmbeddedPostgres) -> None:
    """Starts it, with errors for who typed the command; cancelled, it is ended."""
    with _embedded_errors():
        await started(server)


async def _instance_on(data_dir: Path) -> bool:
    """Whether an instance runs on the folder; one that is starting there is waited for.
    InstanceStarting."""
    patience = monotonic() + STARTING_S
    waits = False
    while True:
        noted = announced(data_dir)
        if noted and not noted.get("passing"):
            return True
        if not _claimed(data_dir):
            return False
        if not waits:
            say(f"An instance is starting on {data_dir}; waiting for it …")
            waits = True
        if monotonic() > patience:
            raise InstanceStarting()
        await asyncio.sleep(LOOK_S)


def _claimed(data_dir: Path) -> bool:
    """Whether an `up` holds the folder."""
    try:
        lock = os.open(data_dir / INSTANCE_LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


async def _start_in_turn(server: EmbeddedPostgres) -> bool:
    """Another command may have started it for itself just now: its turn ends soon. False when an
    instance runs it by now, which serves us as well."""
    patience = monotonic() + TURN_S
    while True:
        try:
            await start(server)
            return True
        except DataUnusable as error:
            if not isinstance(error.__cause__, AlreadyRunning) or monotonic() > patience:
                raise
        if await _instance_on(server.folder.parent):
            return False
        await asyncio.sleep(LOOK_S)
