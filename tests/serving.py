"""One real Postgres for a whole run, a migrated template on it, and its clones."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

import psycopg
from sqlalchemy.engine import make_url

from strongroom.core.db import embedded_config
from strongroom.core.db.embedded import ADMIN, EmbeddedPostgres
from strongroom.core.db.places import Place
from strongroom.main import prepare

GIVEN = "STRONGROOM_TEST_DATABASE_URL"
"""A server of one's own, as a superuser's DSN of any database on it; else one is started."""


class Server(NamedTuple):
    """A server, and the name of the migrated template on it. The DSN is a superuser's."""

    url: str
    template: str

    def at(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)


@contextlib.contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def shared_server(place: Path) -> Iterator[Server]:
    """The server of all processes that name the same folder: the first to need it starts it, and
    stops it when all the others have gone."""
    note = place / "server.json"
    with (
        (place / "server.gate").open("w") as gate,
        (place / "server.users").open("w") as users,
        contextlib.ExitStack() as mine,
    ):
        with _locked(gate):
            first = not note.exists()
            server = mine.enter_context(_started()) if first else _noted(note)
            note.write_text(json.dumps(server))
            fcntl.flock(users, fcntl.LOCK_SH)
        yield server
        fcntl.flock(users, fcntl.LOCK_UN)
        if first:
            # Who dies drops its lock too, so this never waits for a dead process.
            with _locked(gate), _locked(users):
                note.unlink()
                mine.close()


def _noted(note: Path) -> Server:
    url, template = json.loads(note.read_text())
    return Server(url, template)


@contextlib.contextmanager
def _started() -> Iterator[Server]:
    given = os.environ.get(GIVEN)
    with contextlib.ExitStack() as stack:
        url = given or stack.enter_context(_embedded())
        server = Server(url, f"strongroom_template_{uuid4().hex[:8]}")
        _make_template(server)
        yield server
        with psycopg.connect(server.url, autocommit=True) as db:
            db.execute(f"DROP DATABASE {server.template} WITH (FORCE)")


MEMORY = Path("/dev/shm")
"""Each test clones and drops a database, with an fsync and a checkpoint: in memory they cost
nothing. What a real disk keeps is not asked by tests that never cut the power."""

ROOM_BYTES = 2 * 1024**3
"""Two workers' databases and the log fit this many times over."""


def _memory() -> Path | None:
    fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    return MEMORY if fits and os.access(MEMORY, os.W_OK) else None


@contextlib.contextmanager
def _embedded() -> Iterator[str]:
    # Not pytest's own folder, which is closed to the user that root's server becomes.
    room = Path(tempfile.mkdtemp(prefix="strongroom-tests-", dir=_memory()))
    room.chmod(0o755)
    try:
        with _set_for_tests():
            postgres = EmbeddedPostgres(room / "pg")
            postgres.start()
        with postgres:
            yield postgres.dsn(ADMIN, database="postgres")
    finally:
        shutil.rmtree(room, ignore_errors=True)


OF_TESTS = (
    ("max_connections", "500", "several houses at once, each with pools for all of its processes"),
    ("wal_compression", "off", "each clone is written to the log: packed, it takes thrice as long"),
)


@contextlib.contextmanager
def _set_for_tests() -> Iterator[None]:
    """What starts now has settings of its own; of two for one name the last one counts."""
    kept = embedded_config.SETTINGS
    embedded_config.SETTINGS = (*kept, *OF_TESTS)
    yield
    embedded_config.SETTINGS = kept


def _make_template(server: Server) -> None:
    url = server.at(server.template)
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {server.template}")
    # In a thread, since the loops of this one belong to the tests.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, prepare(Place(url, url, url, own_logins=False))).result()


class Clones:
    """Databases cloned from the template, the next one made while a test still uses the last.

    WAL_LOG, because FILE_COPY makes two checkpoints: 80 ms against more than a second.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread = ThreadPoolExecutor(1)
        self._db = psycopg.connect(server.url, autocommit=True)
        self._next: Future[str] | None = None

    def _make(self) -> str:
        name = f"strongroom_test_{uuid4().hex[:12]}"
        self._db.execute(
            f"CREATE DATABASE {name} TEMPLATE {self._server.template} STRATEGY WAL_LOG"
        )
        return name

    def _drop(self, name: str) -> None:
        self._db.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def take(self) -> str:
        ready = self._next or self._thread.submit(self._make)
        self._next = self._thread.submit(self._make)
        return ready.result()

    def give_back(self, name: str) -> None:
        self._thread.submit(self._drop, name)

    def close(self) -> None:
        if self._next:
            self.give_back(self._next.result())
        self._thread.shutdown()
        self._db.close()


@contextlib.contextmanager
def lived(
    server: Server,
    clones: Clones,
    place: Path,
    live: Callable[[str, Path], Coroutine[Any, Any, None]],
) -> Iterator[str]:
    """A database in which something has happened, only to be copied: its name. `live` makes it
    happen, given the DSN and a folder."""
    name = clones.take()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(live(server.at(name), place))).result()
    yield name
    clones.give_back(name)


@contextlib.contextmanager
def copied(server: Server, name: str) -> Iterator[str]:
    """The DSN of a copy, to be spoiled."""
    copy = f"copy_{uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {copy} TEMPLATE {name} STRATEGY WAL_LOG")
        yield server.at(copy)
        db.execute(f"DROP DATABASE {copy} WITH (FORCE)")
