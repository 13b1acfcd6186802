"""Where benches run: a scratch folder with an embedded Postgres, people, and two API processes,
ours and the baseline's, of which only one is under load at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from strongroom.apps.betting import CreateRound
from strongroom.apps.wallets import Deposit
from strongroom.core.db import Database
from strongroom.doors.cli.reach import reached
from strongroom.errors import Busy
from strongroom.lab.baselines.row_at_a_time import sql
from strongroom.lab.client import LoadResult
from strongroom.lab.client_process import drive
from strongroom.lab.programs import Program
from strongroom.lab.scenarios import Job
from strongroom.main import Strongroom
from strongroom.settings import Settings

FUNDS = 10**12
"""More than any bench can spend."""

WARMUP_S = 1.0

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""The ports that the kernel gives to outgoing connections, first and last."""

LOWEST_PORT = 20_000
"""Below lie the ports of programs that are known by them."""

PORT_TRIES = 100


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, for a program that is started next.

    Never one that the kernel gives to outgoing connections, as it does when asked for any: who
    asks such a port whether somebody listens may be given the same port for asking, is connected
    to itself (RFC 9293, 3.5: simultaneous open), and keeps the program from listening there.
    """
    first, last = map(int, OUTGOING.read_text().split())
    choice = range(LOWEST_PORT, first) or range(last + 1, 2**16) or range(LOWEST_PORT, 2**16)
    for _ in range(PORT_TRIES):
        # Not `random`, which tests seed: two of them at once would draw the same ports.
        port = secrets.choice(choice)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise NoFreePort()


class NoFreePort(Busy):
    """No free port was found for another program."""


class Person:
    """A user and the token that speaks for it."""

    def __init__(self, user_id: UUID, token: str) -> None:
        self.user_id, self.token = user_id, token


class Arena:
    """An open house on a scratch instance. Entering starts all, leaving removes all."""

    def __init__(self, people: int = 1000) -> None:
        self._count = people
        self._stack = contextlib.AsyncExitStack()
        self.people: list[Person] = []
        self.operator: Person
        self.house: Strongroom
        self.folder: Path

    async def __aenter__(self) -> Arena:
        stack = self._stack
        self.folder = Path(tempfile.mkdtemp(prefix="strongroom-bench-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        # The database's own user must reach its folder.
        self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        try:
            settings = Settings(
                data_dir=self.folder / "data",
                database_url=None,
                rate_limits="off",
                write_deadline_ms=30_000,
            )
            await stack.enter_async_context(reached(settings, new=True))
            self.house = await stack.enter_async_context(Strongroom(settings))
            made = await self.house.identity.create_users(self._count, "user")
            self.people = [Person(*one) for one in made]
            ((user_id, token),) = await self.house.identity.create_users(1, "operator")
            self.operator = Person(user_id, token)
            await asyncio.gather(
                *(
                    self.house.run(Deposit(one.user_id, FUNDS))
                    for one in (*self.people, self.operator)
                )
            )
        except BaseException:
            await stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def round(self, fee_bps: int = 0) -> UUID:
        """A new open round."""
        made = await self.house.run(CreateRound("bench", "oracle", None, fee_bps))
        id: UUID = made.round_id
        return id

    async def api(self, *, baseline: bool = False, app: Sequence[str] = ()) -> Api:
        """An API process, as long as the arena is there."""
        return await self._stack.enter_async_context(self.serving(baseline=baseline, app=app))

    @contextlib.asynccontextmanager
    async def serving(
        self,
        *,
        baseline: bool = False,
        app: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Api]:
        """An API process of its own; of the baselines, the `app` that is named."""
        port = free_port()
        data = str(self.house.settings.data_dir)
        command = ["-m", "strongroom", "serve", "--port", str(port), "--data-dir", data]
        if baseline:
            async with Database(self.house.place.owner, pool_size=1) as owner:
                await owner.fetch(sql.allow_answering)
            command = ["-m", "strongroom.lab.baselines", str(port), data, *app]
        program = Program(
            [sys.executable, *command],
            ready=("127.0.0.1", port),
            ready_path="/readyz",
            environment={
                "STRONGROOM_WRITE_DEADLINE_MS": "30000",
                "STRONGROOM_RATE_LIMITS": "off",
                **(environment or {}),
            },
        )
        async with program:
            yield Api(port, program)


class Api:
    """An API process under load."""

    def __init__(self, port: int, program: Program) -> None:
        self.port, self.program = port, program

    async def load(
        self, scenario: str, tokens: list[str], options: dict[str, Any], **more: Any
    ) -> LoadResult:
        """Runs a scenario against it; AssertionError when anything was not answered with 2xx."""
        job = Job("127.0.0.1", self.port, scenario, tokens, options=options, **more)
        result = await drive(job)
        assert set(result.statuses) <= {200, 201, 202}, f"not a clean run: {result.statuses}"
        assert not result.errors, f"not a clean run: {result.errors} errors"
        return result
