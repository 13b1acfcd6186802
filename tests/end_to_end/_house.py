"""A whole house for a test: a database of its own, API and worker processes, people in it.

Everything is real: the processes are started as an operator would start them, and can be killed
as an operator would rather not. Nothing of the program runs inside the test, except where a test
asks for the books through `Strongroom` at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

import psycopg

from end_to_end._client import Client
from serving import Clones, Server
from strongroom.lab.arena import free_port
from strongroom.lab.wire import Address
from strongroom.main import Strongroom
from strongroom.settings import Settings

T = TypeVar("T")

TOKEN_SECRET = "the end-to-end tests sign with this secret, which is long enough for all"
"""Known to the tests, so that they can forge tokens that are wrong in one point only."""

START_S = 30.0
"""Two cores that many tests share; a process that is not there after this will not come."""

STRONGROOM = [sys.executable, "-m", "strongroom"]


@dataclass(frozen=True)
class Person:
    """Somebody with a wallet and a token."""

    id: UUID
    token: str


class Process:
    """One process of the house: started, killed, started again."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path) -> None:
        self._argv, self._env, self.log = argv, env, log
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._running is None
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def end(self, how: signal.Signals) -> int:
        """Sends the signal and waits for the end; the exit code."""
        assert self._running is not None
        self._running.send_signal(how)
        code = self._running.wait(START_S)
        self._running = None
        return code

    def kill(self) -> None:
        """A hard kill, as by a power cut of this process alone."""
        self.end(signal.SIGKILL)

    def bugs(self) -> list[str]:
        """The lines of its log that nobody wants to see."""
        signs = ('"level": "error"', '"level": "critical"', "Traceback", "message failed")
        lines = self.log.read_text().splitlines()
        return [line[:2000] for line in lines if any(sign in line for sign in signs)]

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.poll() is None


class ApiProcess(Process):
    """An API process; comes back on the port it had."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.port = free_port()
        super().__init__([*STRONGROOM, "serve", "--port", str(self.port)], env, log)

    def ready(self) -> bool:
        try:
            with Client(self.port) as client:
                return client.get("/readyz").status == 200
        except (OSError, http.client.HTTPException):  # also half an answer: it died meanwhile
            return False


class House:
    """API and worker processes on one database, each of which can die alone."""

    def __init__(self, database_url: str, folder: Path, **settings: str) -> None:
        self.database_url, self.folder = database_url, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("STRONGROOM_")},
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONUNBUFFERED": "1",
            "STRONGROOM_DATABASE_URL": database_url,
            "STRONGROOM_DATA_DIR": str(folder),
            "STRONGROOM_TOKEN_SECRET": TOKEN_SECRET,
            "STRONGROOM_RATE_LIMITS": "off",  # one client asks for many
            **{f"STRONGROOM_{name.upper()}": value for name, value in settings.items()},
        }
        self.apis: list[ApiProcess] = []
        self.workers: list[Process] = []

    def start_api(self, **env: str) -> ApiProcess:
        """Another API process, ready; `env` overrides what the house's processes share."""
        log = self.folder / f"api-{len(self.apis)}.log"
        api = ApiProcess({**self.env, **env}, log)
        self.apis.append(api)
        api.start()
        self.wait_ready(api)
        return api

    def wait_ready(self, api: ApiProcess) -> None:
        what = "the API is ready"
        eventually(lambda: api.ready() or not api.alive, what, START_S)
        assert api.alive, f"the API died:\n{api.log.read_text()[-4000:]}"

    def start_worker(self) -> Process:
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = Process([*STRONGROOM, "worker"], self.env, log)
        self.workers.append(worker)
        worker.start()
        return worker

    @property
    def addresses(self) -> list[Address]:
        return [Address("127.0.0.1", api.port) for api in self.apis]

    def client(self, api: int = 0) -> Client:
        return Client(self.apis[api].port)

    def inside(self, do: Callable[[Strongroom], Awaitable[T]]) -> T:
        """Does something as the library, in this process."""

        async def doing() -> T:
            settings = Settings(
                database_url=self.database_url, data_dir=self.folder, token_secret=TOKEN_SECRET
            )
            async with Strongroom(settings) as house:
                return await do(house)

        return asyncio.run(doing())

    def people(self, count: int, role: Literal["user", "operator"] = "user") -> list[Person]:
        made = self.inside(lambda house: house.identity.create_users(count, role))
        return [Person(id, token) for id, token in made]

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Asks the database behind the house's back, as its owner."""
        with psycopg.connect(self.database_url, autocommit=True) as db:
            return db.execute(query, args).fetchall()

    def drained(self) -> bool:
        """Whether nothing is left for the workers to do."""
        (waiting,) = self.rows("SELECT coalesce(sum(waiting), 0) FROM audit.queue_lengths()")
        return bool(waiting[0] == 0)

    def assert_sound(self) -> None:
        """Every invariant holds, and no process met a bug."""
        report = self.inside(lambda house: house.reconcile())
        assert report.clean, "\n".join(map(str, report.findings))
        for process in (*self.apis, *self.workers):
            assert not process.bugs(), process.bugs()[:3]

    def stop(self) -> None:
        for process in (*self.workers, *self.apis):
            if process.alive:
                process.kill()


def eventually(holds: Callable[[], Any], what: str = "this", within_s: float = 15.0) -> Any:
    """Asks until the answer is true; what happens in another process has no other signal."""
    end = time.monotonic() + within_s
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {within_s} s"
        time.sleep(0.02)


@contextlib.contextmanager
def new_house(server: Server, clones: Clones, folder: Path, **settings: str) -> Iterator[House]:
    """A house without processes yet, on a database of its own."""
    database = clones.take()
    house = House(server.at(database), folder, **settings)
    try:
        yield house
    finally:
        house.stop()
        clones.give_back(database)
