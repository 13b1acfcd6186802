"""Where faults are delivered: a scratch folder, a Postgres of its own, API and worker processes,
each of which can be killed and started again while the others work on.

    async with Field(apis=3, workers=2) as field:
        people = await field.people(20, funds=1_000_000)
        await field.apis[0].kill()
        await field.apis[0].start()
        assert await field.drained(30) and not await field.reconcile() and not field.bugs()

Everything is a real process, started as an operator would start it. What looks at the books from
outside (`rows`, `reconcile`, `people`) reaches Postgres directly, whatever `dsn_through` puts
between it and the processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from strongroom.apps.wallets import Deposit
from strongroom.clock import monotonic
from strongroom.core.db import Database, Queries, Record
from strongroom.core.db.embedded import EmbeddedPostgres
from strongroom.core.db.places import Place, announce, withdraw
from strongroom.doors.cli.reach import place_in
from strongroom.lab.arena import Person, free_port
from strongroom.lab.programs import (
    READY_S,
    Program,
    ProgramEnded,
    ProgramNotReady,
    status_of,
)
from strongroom.main import Strongroom, prepare
from strongroom.settings import PREFIX, Settings

sql = Queries(__package__, "field.sql")

POOL_SIZE = 6
"""Connections of a process: five processes stay far below what one Postgres takes."""

LAB = "operator:lab"
FUNDS = "funds-"
"""Who deposits what people begin with, and how the keys of these deposits begin."""

MEMORY = Path("/dev/shm")
"""Processes are killed here and not the machine: what a disk keeps is not asked, and how long other
programs keep it busy should not be either."""

ROOM_BYTES = 2 * 1024**3
"""An instance of its own fits this many times over."""

LOOK_S = 0.05
END_S = 15.0
"""After a SIGKILL a process is gone within this, or its machine is stuck."""

AT_WORK = "Working, until Ctrl-C."
"""What a worker says once it is."""

BUGS = ('"level": "error"', '"level": "critical"', "Traceback", "message failed")
"""What lines are made of that nobody wants to see."""

OF_A_DATABASE_AWAY = (
    "DatabaseDown",
    "ConnectionDoesNotExist",
    "ConnectionIsClosed",
    "ConnectionRefused",
    "ConnectionReset",
    "ConnectionError",
    "ConnectionFailure",
    "BrokenPipe",
    "CannotConnectNow",
    "CrashShutdown",
    "AdminShutdown",
    "TimeoutError",
    "InterfaceError",
    "InternalClientError",
    "FileNotFoundError",
    "connection was closed in the middle",
)
"""Words of errors that are a lost database's consequence, where one was taken away."""


class Field:
    """An instance under fire. Entering starts all of it, leaving removes all of it.

    `settings` are those of the processes, by their names. `dsn_through` is handed the DSN of each
    of the three roles and answers the one by which the processes reach Postgres instead: a proxy's.
    With a `folder` everything lies there, and stays.
    """

    def __init__(
        self,
        *,
        apis: int = 2,
        workers: int = 2,
        settings: Mapping[str, object] | None = None,
        dsn_through: Callable[[str], str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._counts = apis, workers
        self._chosen = {
            "rate_limits": "off",
            "pool_size": POOL_SIZE,
            "token_secret": secrets.token_urlsafe(32),
            "sandbox_secret": secrets.token_urlsafe(32),
            **(settings or {}),
        }
        self._through = dsn_through
        self._given = folder
        self._stack = contextlib.AsyncExitStack()
        self._away = dsn_through is not None
        self._owner: Database
        self._place: Place
        self.folder: Path
        self.postgres: EmbeddedPostgres
        self.house: Strongroom
        self.operator: Person
        self.apis: list[Member] = []
        self.workers: list[Member] = []

    async def __aenter__(self) -> Field:
        stack = self._stack
        try:
            self.folder = self._given or self._scratch()
            self.postgres = EmbeddedPostgres(self.folder / "postgres")
            stack.push_async_callback(asyncio.to_thread, self.postgres.stop)
            await asyncio.to_thread(self.postgres.start)
            self._place = place = place_in(self.postgres)
            await prepare(place)
            self._announce(place)
            self._owner = await stack.enter_async_context(Database(place.owner, pool_size=3))
            own = {"data_dir": self._direct, "database_url": None, "write_deadline_ms": 30_000}
            settings = Settings.model_validate({**self._chosen, **own})
            self.house = await stack.enter_async_context(Strongroom(settings))
            (self.operator,) = await self.people(1, role="operator")
            await self._start_members()
        except BaseException:
            await stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            # Who went without its Postgres would wait for it in vain while it disconnects.
            await self.start_postgres()
        finally:
            await self._stack.aclose()

    def _scratch(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="strongroom-chaos-", dir=_memory()))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # The database's own user must reach its folder.
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        return folder

    @property
    def _direct(self) -> Path:
        return self.folder / "direct"

    def _announce(self, place: Place) -> None:
        """Two data folders name one instance: the processes' leads through whatever is between."""
        through = self._through or str
        between = replace(
            place, app=through(place.app), audit=through(place.audit), owner=through(place.owner)
        )
        for folder, seen in ((self._direct, place), (self.folder / "data", between)):
            announce(folder, seen)
            self._stack.callback(withdraw, folder)

    async def _start_members(self) -> None:
        apis, workers = self._counts
        self.apis = [self._member("api") for _ in range(apis)]
        self.workers = [self._member("worker") for _ in range(workers)]
        for member in self.members:
            self._stack.push_async_callback(member.end)
        await asyncio.gather(*(member.start() for member in self.members))

    def _member(self, kind: Literal["api", "worker"]) -> Member:
        return Member(kind, self.folder / "data", self._chosen)

    @property
    def sandbox_secret(self) -> bytes:
        """The built-in payment provider's: who has it can say what its bank would."""
        return str(self._chosen["sandbox_secret"]).encode()

    @property
    def members(self) -> list[Member]:
        return [*self.apis, *self.workers]

    @property
    def ports(self) -> list[int]:
        """Where the API processes listen, dead ones included: they come back there."""
        return [member.port for member in self.apis]

    async def kill_postgres(self) -> None:
        """SIGKILL for the postmaster, and waits for its end: else its lock would stay."""
        pid = self.postgres.pid
        assert pid is not None, "Postgres does not run"
        self._away = True
        os.kill(pid, signal.SIGKILL)
        patience = monotonic() + END_S
        while self.postgres.poll() is None:
            assert monotonic() < patience, "the postmaster does not end"
            await asyncio.sleep(LOOK_S / 10)

    async def start_postgres(self) -> None:
        """Returns when it has recovered and accepts connections. Does nothing while it runs."""
        await asyncio.to_thread(self.postgres.start)
        assert self.postgres.dsn("strongroom_owner") == self._place.owner, "it has moved"

    async def people(
        self, count: int, funds: int = 0, *, role: Literal["user", "operator"] = "user"
    ) -> list[Person]:
        """New people, each with so much in the wallet."""
        made = [Person(*one) for one in await self.house.identity.create_users(count, role)]
        if funds:
            await asyncio.gather(*(self._fund(one, funds) for one in made))
        return made

    async def _fund(self, person: Person, funds: int) -> None:
        await self.house.run(
            Deposit(person.user_id, funds), key=f"{FUNDS}{person.user_id}", principal=LAB
        )

    async def rows(self, query: str, *args: Any) -> list[Record]:
        """Asks the database behind everybody's back, as its owner."""
        return await self._owner.fetch(query, *args)

    async def waiting(self) -> int:
        """Messages in all queues."""
        return int((await self.rows(sql.waiting))[0][0])

    async def drained(self, within_s: float) -> bool:
        """Whether the workers have done everything within this time."""
        patience = monotonic() + within_s
        while await self.waiting():
            if monotonic() > patience:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def end_leases(self) -> None:
        """What killed workers held comes again now, and not only after their leases."""
        for row in await self.rows(sql.ends_of_leases):
            await self.rows(row["statement"])

    async def reconcile(self) -> list[str]:
        """Violated invariants and buried messages, each as a sentence; empty when all is well."""
        report = await self.house.reconcile()
        buried = [
            f"{row['messages']} messages of {row['queue']} were buried: {row['error'][:300]}"
            for row in await self.rows(sql.buried)
        ]
        return [*map(str, report.findings), *buried]

    def bugs(self, *, excused: Sequence[str] = ()) -> list[str]:
        """Lines that the processes logged and nobody wants to see.

        Where Postgres was taken from them (killed, or reached through something), what a lost
        database leads to is no bug; `excused` words are none either.
        """
        words = (*excused, *(OF_A_DATABASE_AWAY if self._away else ()))
        return [
            f"{member.kind}: {line[:2000]}"
            for member in self.members
            for line in member.log().splitlines()
            if any(sign in line for sign in BUGS) and not any(word in line for word in words)
        ]


def _memory() -> Path | None:
    """None where the system's own choice is as good, or somebody has made another."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return None
    return MEMORY if shutil.disk_usage(MEMORY).free > ROOM_BYTES else None


class Member:
    """An API or a worker process of the field, on the same port whenever it comes back."""

    def __init__(
        self, kind: Literal["api", "worker"], data_dir: Path, settings: Mapping[str, object]
    ) -> None:
        self.kind = kind
        self.kills = 0
        self.up = False
        """Its start is over: who is killed before has died by itself."""
        self._began_at = 0
        self.port = free_port() if kind == "api" else 0
        command = [sys.executable, "-m", "strongroom"]
        if kind == "api":
            command += ["serve", "--port", str(self.port)]
        else:
            command += ["worker"]
        self._program = _Logged(
            [*command, "--data-dir", str(data_dir)],
            settings={f"{PREFIX}{name.upper()}": str(one) for name, one in settings.items()},
            ready=("127.0.0.1", self.port) if kind == "api" else None,
            folder=data_dir,
        )

    async def start(self) -> None:
        """Returns when it is at work. Raises ProgramEnded or ProgramNotReady."""
        self._began_at = len(self.log())
        await self._program.start()
        patience = monotonic() + READY_S
        while self.kind == "worker" and not await self.ready():
            if not self.alive:
                raise ProgramEnded(f"Exit code {self._program.exit_code}: {self.printed()}")
            if monotonic() > patience:
                raise ProgramNotReady(f"Not at work in {READY_S:g} s: {self.printed()}")
            await asyncio.sleep(LOOK_S)
        self.up = True

    async def kill(self) -> None:
        """SIGKILL, as by a power cut of this process alone; returns when it is gone."""
        assert self.alive, f"it had died by itself: {self.printed()}"
        self.up = False
        self._program.kill()
        code = await asyncio.wait_for(self._program.ended(), END_S)
        assert code == -signal.SIGKILL, f"it had died by itself, with exit code {code}"
        self.kills += 1

    async def end(self) -> None:
        """SIGTERM, and patience; nothing when it does not run."""
        if self._program.started:
            await self._program.stop()

    @property
    def alive(self) -> bool:
        return self._program.started and self._program.exit_code is None

    @property
    def pid(self) -> int:
        return self._program.pid

    async def ready(self) -> bool:
        """Whether it is at work: an API answers so, a worker has said so."""
        if self.kind == "worker":
            return self.alive and AT_WORK in self.log()[self._began_at :]
        return await status_of("127.0.0.1", self.port, "/readyz") == 200

    def printed(self) -> str:
        """The end of what it has printed."""
        return self._program.printed()

    def log(self) -> str:
        """All that it has printed, over all its lives."""
        return self._program.text()

    def open_files(self) -> int:
        """Files and sockets; 0 when it is gone."""
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        return 0

    def rss_bytes(self) -> int:
        """Resident memory, of its descendants as well."""
        return self._program.rss_bytes()


class _Logged(Program):
    """A program whose whole output can be read, and that hears only of the settings it is given:
    those of whoever runs this may name a database that is no scratch one."""

    def __init__(self, command: list[str], *, settings: Mapping[str, str], **more: Any) -> None:
        super().__init__(command, **more)
        mine = {name: one for name, one in os.environ.items() if not name.startswith(PREFIX)}
        self._environment = mine | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._environment |= settings

    @property
    def started(self) -> bool:
        return self._process is not None

    async def ended(self) -> int:
        """Waits for its end; the exit code."""
        assert self._process is not None, "start() first"
        return await self._process.wait()

    def text(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")
