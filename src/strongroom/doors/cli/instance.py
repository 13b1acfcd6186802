"""An instance on one machine: the database, API and worker processes, and who looks after them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from strongroom.clock import monotonic
from strongroom.core.db import Database
from strongroom.core.db.embedded import (
    AlreadyRunning,
    EmbeddedError,
    EmbeddedPostgres,
    OtherMajorVersion,
)
from strongroom.core.db.migrate import newest
from strongroom.core.db.places import Place, announce, announced, place_of, withdraw
from strongroom.doors.cli.client import status_of
from strongroom.doors.cli.flags import NO_SCHEMA
from strongroom.doors.cli.processes import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    PATIENCE_S,
    Kept,
    how_it_ended,
    rotate,
)
from strongroom.doors.http.server import bound
from strongroom.errors import Busy, Refused
from strongroom.main import Strongroom, prepare
from strongroom.settings import Settings

PROGRAM = (sys.executable, "-P", "-m", "strongroom")
"""-P: a file of the working folder must not be taken for a module."""

RESOLVED = "STRONGROOM_RESOLVED"
"""The settings of `up` as its children get them: whatever the file says by then, all run alike."""

READY_S = 60.0
"""A child is ready within two seconds; on a crowded disk it may take many."""

LOOK_S = 0.1
"""How soon a dead database is seen, and a ready API."""

HURRIED_S = 1.0
"""What the database gets for its closing checkpoint after a second Ctrl-C."""

LEFT_PORT_S = 25.0
"""The API of an `up` that was killed frees its port when it has finished what it accepted."""

POSTGRES = "postgres"
INSTANCE_LOCK = "instance.lock"


class InstanceRuns(Refused):
    """An instance runs on this data folder already."""


class PortInUse(Refused):
    """The port is taken by another program."""


class AddressUnusable(Refused):
    """The API cannot listen on this address."""


class DataUnusable(Refused):
    """The embedded database cannot be used as it is."""


class DatabaseFailed(Busy):
    """The embedded database does not start."""


class SchemaUnknown(Refused):
    """The database has another schema than this program needs."""


class NotReady(Busy):
    """The API did not become ready."""


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


def _place_in(server: EmbeddedPostgres) -> Place:
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
async def house_of(settings: Settings, *, new: bool = False) -> AsyncIterator[Strongroom]:
    """The open house for one command; `new` also makes it where there is none yet."""
    async with reached(settings, new=new):
        await known_schema(place_of(settings))
        async with Strongroom(settings) as house:
            yield house


@contextlib.asynccontextmanager
async def reached(settings: Settings, *, new: bool = False) -> AsyncIterator[Place]:
    """Where the database is. When nothing runs on the data folder but a cluster lies there, it is
    started for as long as this lasts, and migrated with `new`, which also makes one."""
    noted = announced(settings.data_dir)
    if settings.database_url or (noted and not noted.get("passing")):
        yield place_of(settings)
        return
    folder = settings.data_dir / POSTGRES
    if not new and not (folder / "cluster").exists():
        yield place_of(settings)  # says what there is to do
        return
    make_folder(settings.data_dir)
    server = EmbeddedPostgres(folder)
    task = asyncio.current_task()
    assert task is not None
    # Ended in order by SIGTERM too, or the server would be left behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await _start_in_turn(server)
        place = _place_in(server)
        announce(settings.data_dir, place, passing=True)
        if new:
            await prepare(place)
        yield place
    finally:
        if server.pid is not None:
            withdraw(settings.data_dir)
        await asyncio.to_thread(server.stop)


async def _started(server: EmbeddedPostgres) -> None:
    """Starts it in a thread. Cancelled, it still sees the start end: nobody else may stop the
    server meanwhile."""
    thread = asyncio.ensure_future(asyncio.to_thread(server.start))
    with _embedded_errors():
        try:
            await asyncio.shield(thread)
        except asyncio.CancelledError:
            signal_server(server, signal.SIGINT)
            await asyncio.gather(thread, return_exceptions=True)
            raise


def signal_server(server: EmbeddedPostgres | None, number: signal.Signals) -> None:
    """Nothing when it does not run."""
    pid = server.pid if server else None
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def _start_in_turn(server: EmbeddedPostgres) -> None:
    """Another command may have started it for itself just now: its turn ends soon."""
    patience = monotonic() + PATIENCE_S
    while True:
        try:
            await _started(server)
            return
        except DataUnusable as error:
            if not isinstance(error.__cause__, AlreadyRunning) or monotonic() > patience:
                raise
            noted = announced(server.folder.parent)
            if noted and not noted.get("passing"):
                raise
            await asyncio.sleep(LOOK_S)


class Instance:
    """Everything that `up` starts. Entering starts it and waits until it is ready; `stop()`, from
    a signal or by leaving, ends it in order. `hurry()` cuts that short."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings, self._say = settings, say
        self.children: list[Kept] = []
        self.stopping = asyncio.Event()
        self._server: EmbeddedPostgres | None = None
        self._place: Place | None = None
        self._listening: socket.socket | None = None
        self._pipe: tuple[int, ...] = ()
        self._lock: int | None = None
        self._keeping: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None
        self._starting = self._hurried = False

    @property
    def address(self) -> tuple[str, int]:
        """Where the API is reached from this machine."""
        assert self._listening is not None, "start() first"
        port: int = self._listening.getsockname()[1]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(
            self.settings.host, self.settings.host
        )
        return host, port

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def logs(self) -> Path:
        return self.settings.data_dir / "logs"

    @property
    def postgres_pid(self) -> int | None:
        """None for a database that is not ours."""
        return self._server.pid if self._server else None

    # Starting -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when GET /readyz is 200. What it raises leaves things to be ended by `end()`."""
        settings = self.settings
        make_folder(settings.data_dir)
        self._claim()
        await self._listen()
        if settings.database_url:
            self._place = place_of(settings)
        else:
            self._server = EmbeddedPostgres(settings.data_dir / POSTGRES)
            await self._start_server(self._server)
            self._place = _place_in(self._server)
        await migrated(self._place)
        if self.stopping.is_set():
            return
        self._announce()
        self._begin_children()
        if self._server:
            self._watching = asyncio.create_task(self._keep_server(self._server))
        await self._ready()

    async def _start_server(self, server: EmbeddedPostgres) -> None:
        self._starting = True
        try:
            await _started(server)
        finally:
            self._starting = False

    def _claim(self) -> None:
        """One `up` a data folder, also where the database is not the embedded one."""
        lock = os.open(self.settings.data_dir / INSTANCE_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            noted = announced(self.settings.data_dir)
            raise InstanceRuns(
                f"An instance runs on {self.settings.data_dir} already: "
                f"{noted.get('url', 'it is starting')}, process {noted.get('pid', 'unknown')}. "
                "Stop it, or choose another --data-dir."
            ) from None
        self._lock = lock

    async def _listen(self) -> None:
        """Before anything else: a taken port is known at once, and while every API process is
        dead, connections wait here instead of being refused."""
        # A note without a living process: that `up` was killed, and its API may be finishing.
        left = (self.settings.data_dir / "instance.json").exists()
        patience = monotonic() + (LEFT_PORT_S if left else 0)
        while self._listening is None:
            try:
                self._listening = listening_on(self.settings.host, self.settings.port)
            except PortInUse:
                if monotonic() > patience or self.stopping.is_set():
                    raise
                await asyncio.sleep(LOOK_S)

    def _announce(self) -> None:
        assert self._place is not None
        announce(self.settings.data_dir, self._place, url=self.url)

    def _begin_children(self) -> None:
        assert self._listening is not None
        self._pipe = os.pipe()
        parent = self._pipe[0]  # only we hold the other end: our death closes it
        listening = self._listening.fileno()
        self.logs.mkdir(exist_ok=True, mode=0o700)
        serve = ("serve", "--fd", str(listening))
        wanted: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = [
            (f"api-{n + 1}", serve, (listening,)) for n in range(self.settings.api_processes)
        ]
        wanted += [(f"worker-{n + 1}", ("worker",), ()) for n in range(self.settings.workers)]
        environment = os.environ | {RESOLVED: self.settings.model_dump_json()}
        for name, command, fds in wanted:
            log = self.logs / f"{name}.log"
            rotate(log)
            child = Kept(
                name,
                [*PROGRAM, *command, "--name", name, "--parent-fd", str(parent)],
                log=log,
                environment=environment,
                pass_fds=(parent, *fds),
                say=self._say,
            )
            self.children.append(child)
            self._keeping.append(asyncio.create_task(child.keep(), name=name))

    async def _ready(self) -> None:
        patience = monotonic() + READY_S
        while not self.stopping.is_set() and await status_of(*self.address, "/readyz") != 200:
            if monotonic() > patience:
                raise NotReady(f"The API is not ready after {READY_S:g} s. See {self.logs}.")
            await asyncio.sleep(LOOK_S)

    # Looking after it -----------------------------------------------------------------------

    async def _keep_server(self, server: EmbeddedPostgres) -> None:
        """Starts the database again whenever it dies; the children reconnect by themselves."""
        pause_s = FIRST_PAUSE_S
        while not self.stopping.is_set():
            await asyncio.sleep(LOOK_S)
            if server.pid is not None:
                pause_s = FIRST_PAUSE_S
                continue
            self._say(f"the database ended ({how_it_ended(server.poll())}); starting it")
            try:
                await self._start_server(server)
            except (DataUnusable, DatabaseFailed) as error:
                if self.stopping.is_set():
                    return
                self._say(f"{error.detail}\ntrying again in {pause_s:g} s")
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            self._say("the database is back")
            if self._place != _place_in(server):
                # Its socket had to move: who was told the old place is started anew.
                self._place = _place_in(server)
                self._announce()
                for child in self.children:
                    child.signal(signal.SIGTERM)

    async def run(self) -> None:
        """Until `stopping`; raises what went wrong in looking after it."""
        stopped = asyncio.create_task(self.stopping.wait())
        watching = [self._watching] if self._watching else []
        done, _ = await asyncio.wait(
            [stopped, *self._keeping, *watching], return_when=asyncio.FIRST_COMPLETED
        )
        stopped.cancel()
        for task in done:
            if task is not stopped:
                task.result()

    # Ending ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Asks for the end; a second time it hurries. For signal handlers."""
        if self.stopping.is_set():
            self.hurry()
        elif self._starting:
            signal_server(self._server, signal.SIGINT)  # a long recovery goes on at the next start
        self.stopping.set()

    def hurry(self) -> None:
        """Kills what has not finished. The database recovers at its next start."""
        self._hurried = True
        for child in self.children:
            child.signal(signal.SIGKILL)
        signal_server(self._server, signal.SIGQUIT)

    async def end(self) -> None:
        """Ends all of it, in the reverse order. May be called at any time, and again."""
        self.stopping.set()
        if self._listening is not None:
            self._listening.close()  # who connects now is refused, instead of waiting in vain
        for child in self.children:
            child.stop()
        if self._keeping:
            _, late = await asyncio.wait(self._keeping, timeout=PATIENCE_S)
            for child in self.children if late else ():
                child.signal(signal.SIGKILL)
            await asyncio.wait(self._keeping)
        if self._watching is not None:
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._server is not None:
            fast_s = HURRIED_S if self._hurried else 60.0
            await asyncio.to_thread(self._server.stop, fast_s=fast_s)
        if self._lock is not None:
            if announced(self.settings.data_dir).get("pid") == os.getpid():
                withdraw(self.settings.data_dir)
            os.close(self._lock)
            self._lock = None
        for end in self._pipe:
            os.close(end)
        self._pipe = ()


def listening_on(host: str, port: int) -> socket.socket:
    """The API's socket; PortInUse, AddressUnusable."""
    try:
        return bound(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} on {host} is taken by another program. Choose another with "
                "--port, or take a free one with --port 0."
            ) from error
        raise AddressUnusable(
            f"The API cannot listen on {host} port {port}: {error.strerror or error}. "
            "Choose others with --host and --port."
        ) from error


async def migrated(place: Place) -> tuple[str | None, str]:
    """Migrates and binds the queues; DatabaseDown when nobody answers. The revision (before,
    after)."""
    async with Database(place.owner, pool_size=1) as owner:
        await owner.revision()
    return await prepare(place)
