"""An instance on one machine: the database, API and worker processes, and who looks after them."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import functools
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from strongroom.clock import monotonic
from strongroom.core.db.archive import Archive, forget
from strongroom.core.db.embedded import BACKUP, AlreadyRunning, EmbeddedPostgres, binaries
from strongroom.core.db.places import Place, announce, announced, place_of, withdraw
from strongroom.core.db.starting import signal_server
from strongroom.doors.cli.client import Connection, status_of
from strongroom.doors.cli.processes import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    PATIENCE_S,
    PROGRAM,
    RESOLVED,
    Kept,
    Watch,
    how_it_ended,
    rotate,
)
from strongroom.doors.cli.reach import (
    INSTANCE_LOCK,
    POSTGRES,
    TURN_S,
    DatabaseFailed,
    DataUnusable,
    make_folder,
    place_in,
    start,
)
from strongroom.doors.http.server import bound
from strongroom.doors.metrics import targets
from strongroom.errors import Busy, Refused
from strongroom.main import prepare
from strongroom.settings import Settings

READY_S = 60.0
"""A child is ready within two seconds; on a crowded disk it may take many."""

LOOK_S = 0.1
"""How soon a dead database is seen, and a ready API."""

HURRIED_S = 1.0
"""What the database gets for its closing checkpoint after a second Ctrl-C."""

ARCHIVE_S = 10.0
"""The archive has had all but the server's last words by now; one that hangs keeps it from ending."""

ANSWER_S = 10.0
"""A process with much to do makes its page of metrics in seconds; one that hangs never does."""

LEFT_PORT_S = 25.0
"""The API of an `up` that was killed frees its port when it has finished what it accepted."""

CLAIM_S = 0.2
"""A command that looks whether the folder is claimed claims it itself for an instant."""


class InstanceRuns(Refused):
    """An instance runs on this data folder already."""


class PortInUse(Refused):
    """The port is taken by another program."""


class AddressUnusable(Refused):
    """The API cannot listen on this address."""


class NotReady(Busy):
    """The API did not become ready."""


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
        self._scraped: dict[str, socket.socket] = {}
        self._pipe: tuple[int, ...] = ()
        self._lock: int | None = None
        self._keeping: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None
        self._archive: Archive | None = None
        self._archiving: asyncio.Task[None] | None = None
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
        if not settings.data_dir.exists():
            await self._listen()  # a port that is taken leaves nothing behind
        make_folder(settings.data_dir)
        await self._claim()
        await self._listen()
        if settings.database_url:
            self._place = place_of(settings)
        else:
            self._server = EmbeddedPostgres(settings.data_dir / POSTGRES)
            await self._start_server(self._server)
            self._place = place_in(self._server)
        await prepare(self._place)
        if self.stopping.is_set():
            return
        self._announce()
        if self._server:
            await self._begin_archive(self._server)
        self._begin_children()
        if self._server:
            self._watching = asyncio.create_task(self._keep_server(self._server))
        await self._ready()

    async def _start_server(self, server: EmbeddedPostgres) -> None:
        patience = monotonic() + TURN_S
        self._starting = True
        try:
            while server.pid is None:
                try:
                    await start(server)
                except DataUnusable as error:
                    # A command that has started it for itself is done soon.
                    theirs = isinstance(error.__cause__, AlreadyRunning)
                    if not theirs or monotonic() > patience or self.stopping.is_set():
                        raise
                    await asyncio.sleep(LOOK_S)
        finally:
            self._starting = False

    async def _claim(self) -> None:
        """One `up` a data folder, also where the database is not the embedded one."""
        lock = os.open(self.settings.data_dir / INSTANCE_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        patience = monotonic() + CLAIM_S
        while self._lock is None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._lock = lock
            except BlockingIOError:
                if monotonic() > patience:
                    os.close(lock)
                    noted = announced(self.settings.data_dir)
                    raise InstanceRuns(
                        f"An instance runs on {self.settings.data_dir} already: "
                        f"{noted.get('url', 'it is starting')}, process "
                        f"{noted.get('pid', 'unknown')}. Stop it, or choose another --data-dir."
                    ) from None
                await asyncio.sleep(LOOK_S / 10)

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

    async def _begin_archive(self, server: EmbeddedPostgres) -> None:
        """Keeps the server's log beside its backups, where there are any."""
        login = server.login(BACKUP)
        if self.settings.backup_dir is None:
            await forget(server.cluster, server.programs, login)
            return
        folder = self.settings.backup_dir.absolute()
        self._archive = Archive(folder, server.cluster, binaries(), login, self._say)
        self._archiving = asyncio.create_task(self._archive.keep(), name="archive")

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
        for number, (name, command, fds) in enumerate(wanted):
            log = self.logs / f"{name}.log"
            rotate(log)
            # Ours, so that a process that is started again is found where it was.
            scraped = self._scraped[name] = targets.listening_on(self.settings, number)
            child = Kept(
                name,
                [
                    *(*PROGRAM, *command, "--name", name, "--parent-fd", str(parent)),
                    *("--metrics-fd", str(scraped.fileno())),
                ],
                log=log,
                environment=environment,
                pass_fds=(parent, scraped.fileno(), *fds),
                say=self._say,
                watch=Watch(functools.partial(answers, *scraped.getsockname()[:2])),
            )
            self.children.append(child)
            self._keeping.append(asyncio.create_task(child.keep(), name=name))
        addresses = {name: targets.address_of(one) for name, one in self._scraped.items()}
        targets.note(self.settings.data_dir, addresses)

    async def _ready(self) -> None:
        patience = monotonic() + READY_S
        while not self.stopping.is_set() and await status_of(*self.address, "/readyz") != 200:
            for task in self._keeping:
                if task.done():
                    task.result()  # it could not even be started
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
            if self._place != place_in(server):
                # Its socket had to move: who was told the old place is started anew.
                self._place = place_in(server)
                self._announce()
                if self._archive is not None:
                    self._archive.reach(server.login(BACKUP))
                for child in self.children:
                    child.signal(signal.SIGTERM)

    async def run(self) -> None:
        """Until `stopping`; raises what went wrong in looking after it."""
        stopped = asyncio.create_task(self.stopping.wait())
        watching = [one for one in (self._watching, self._archiving) if one]
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
        if self._archive is not None:
            self._archive.hurry()
        signal_server(self._server, signal.SIGQUIT)

    async def end(self) -> None:
        """Ends all of it, in the reverse order. May be called at any time, and again."""
        self.stopping.set()
        if self._listening is not None:
            self._listening.close()  # who connects now is refused, instead of waiting in vain
        for child in self.children:
            child.stop()
        if self._scraped:
            targets.withdraw(self.settings.data_dir)
        if self._keeping:
            _, late = await asyncio.wait(self._keeping, timeout=PATIENCE_S)
            for child in self.children if late else ():
                child.signal(signal.SIGKILL)
            await asyncio.wait(self._keeping)
        if self._watching is not None:
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._server is not None:
            fast_s = HURRIED_S if self._hurried else 60.0
            server = asyncio.ensure_future(asyncio.to_thread(self._server.stop, fast_s=fast_s))
            if self._archive is not None:
                self._archive.finish()
                _, late = await asyncio.wait([server], timeout=ARCHIVE_S)
                if late:
                    self._archive.hurry()
            await server
        if self._archive is not None and self._archiving is not None:
            self._archive.stop()
            _, late = await asyncio.wait([self._archiving], timeout=ARCHIVE_S)
            if late:
                self._archive.hurry()
            await asyncio.gather(self._archiving, return_exceptions=True)
        if self._lock is not None:
            if announced(self.settings.data_dir).get("pid") == os.getpid():
                withdraw(self.settings.data_dir)
            os.close(self._lock)
            self._lock = None
        for scraped in self._scraped.values():
            scraped.close()
        for end in self._pipe:
            os.close(end)
        self._pipe = ()


async def answers(host: str, port: int, within_s: float = ANSWER_S) -> bool:
    """Whether a process tells its metrics, from a thread beside what may keep it busy."""
    connection = Connection(host, port)
    try:
        async with asyncio.timeout(within_s):
            return (await connection.ask("GET", "/metrics")).status == 200
    except (OSError, ValueError, IndexError):  # a timeout is one, too
        return False
    finally:
        connection.close()


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


__all__ = ["Instance"]
