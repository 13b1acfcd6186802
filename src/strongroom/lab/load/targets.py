"""What is put under load: an instance of its own, one on a data folder, or one behind a URL."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import secrets
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from strongroom.clock import monotonic
from strongroom.core.audit import RecordReconciliation
from strongroom.core.db import Queries
from strongroom.core.db.places import announced
from strongroom.core.events import depths
from strongroom.doors.cli.burst import until_answered
from strongroom.doors.cli.client import Answer, Connection
from strongroom.doors.cli.demo import remove, scratch_folder
from strongroom.doors.cli.instance import Instance
from strongroom.doors.cli.reach import house_of
from strongroom.errors import Busy, Invalid, NotFound, Refused
from strongroom.lab.load.result import Invariant, Sample
from strongroom.lab.machine import postgres_version
from strongroom.lab.programs import cpu_s, family
from strongroom.main import Strongroom
from strongroom.settings import Settings

sql = Queries(__package__, "load.sql")

PRINCIPAL = "operator:load"

REGISTERED_TOGETHER = 2
"""A server checks two passwords at a time; more would only wait, and be refused."""

MOST_REGISTERED = 500
"""Each costs the server half a second of computing, on purpose."""


class AddressRefused(Refused):
    """This address is not of this machine. Load against somebody else's host is an attack: say
    --i-own-this-host when it is yours."""


class UrlUnfit(Invalid):
    """A URL is like http://127.0.0.1:8000: plain HTTP, a host, a port."""


class NotRunning(NotFound):
    """No instance runs on this data folder. Start one with `strongroom up`, or leave --data-dir
    out: then an instance is made for this run."""


class TokensUnfit(Invalid):
    """The file of tokens holds lines like {"userId": …, "accessToken": …}: what `strongroom users
    create --count N --json` prints."""


class StepRefused(Refused):
    """The target refused what the run needs."""


class TargetSilent(Busy):
    """The target does not answer."""


class Person(NamedTuple):
    """A user and the token that speaks for it."""

    user_id: str
    token: str


class Target(ABC):
    """Where requests go, and what can be asked there."""

    says: str
    host: str
    port: int
    operator: str
    measured = True
    """Whether connections, CPU and memory can be seen."""
    allowed: int | None = None
    """Connections that the database takes."""

    @abstractmethod
    async def people(self, count: int) -> list[Person]:
        """So many users with empty wallets, or what is in them."""

    @abstractmethod
    async def sample(self, at_s: float) -> Sample:
        """The system now."""

    @abstractmethod
    async def invariants(self) -> list[Invariant]:
        """Checks the books."""

    async def postgres(self) -> str | None:
        """The version of its database; None where that cannot be seen."""
        return None

    async def post(self, path: str, body: dict[str, Any], token: str | None = None) -> Any:
        """As the operator, under a new key; StepRefused unless it is done."""
        told, key = msgspec.json.encode(body), secrets.token_hex(12)
        answer = await self._ask("POST", path, token, told, key)
        if answer.status >= 300:
            raise StepRefused(f"POST {path}: {answer.status} {answer.body.decode()[:500]}")
        return answer.json()

    async def get(self, path: str, token: str | None = None) -> Any:
        """As the operator, unless a token says otherwise."""
        answer = await self._ask("GET", path, token)
        if answer.status != 200:
            raise StepRefused(f"GET {path}: {answer.status} {answer.body.decode()[:500]}")
        return answer.json()

    async def _ask(
        self, method: str, path: str, token: str | None, body: bytes = b"", key: str = ""
    ) -> Answer:
        connection = Connection(self.host, self.port)
        try:
            chosen = self.operator if token is None else token
            asked = await until_answered(connection, method, path, chosen, body, key)
        finally:
            connection.close()
        if asked.answer is None:
            raise TargetSilent(
                f"{method} {path} is not answered, or refused as too much. Is it up? Was it "
                "started with STRONGROOM_RATE_LIMITS=off?"
            )
        return asked.answer

    async def queued(self) -> int:
        """Messages that wait in all queues."""
        status = await self.get("/api/ops/status")
        return sum(one["waiting"] for one in status["queues"])


class Near(Target):
    """An instance of this machine, whose database and processes can be asked."""

    def __init__(self, says: str, address: tuple[str, int], house: Strongroom) -> None:
        self.says, self.house = says, house
        self.host, self.port = address
        self._spent: dict[int, float] = {}
        self._looked_at = 0.0

    async def prepare(self) -> None:
        ((_, self.operator),) = await self.house.identity.create_users(1, "operator")
        self.allowed = (await self._connections())["allowed"]

    def processes(self) -> list[int]:
        """API, workers and database, with all their children."""
        noted = announced(self.house.settings.data_dir)
        pid = noted.get("pid")
        return family(pid) if isinstance(pid, int) else []

    async def people(self, count: int) -> list[Person]:
        made = await self.house.identity.create_users(count, "user")
        return [Person(str(user_id), token) for user_id, token in made]

    async def queued(self) -> int:
        return sum(row["waiting"] for row in await depths(self.house.database))

    async def _connections(self) -> Any:
        return await self.house.database.fetchrow(sql.connections)

    async def sample(self, at_s: float) -> Sample:
        try:
            async with asyncio.timeout(1.0):
                queued, row = await self.queued(), await self._connections()
        except (OSError, Busy):  # also TimeoutError: a busy database is what is measured
            queued, row = None, {"opened": None, "busy": None}
        now, pids = monotonic(), self.processes()
        spent = {pid: cpu_s(pid) for pid in pids}
        used = sum(max(0.0, s - self._spent.get(pid, s)) for pid, s in spent.items())
        cpu = used / (now - self._looked_at) if self._spent else None
        self._spent, self._looked_at = spent, now
        return Sample(at_s, queued, row["opened"], row["busy"], cpu, memory_bytes(pids))

    async def postgres(self) -> str | None:
        return await postgres_version(self.house.place.app)

    async def invariants(self) -> list[Invariant]:
        names: list[str] = []
        report = await self.house.reconcile(lambda name, *_: names.append(name))
        await self.house.run(RecordReconciliation(report), principal=PRINCIPAL)
        found = {one.invariant: [str(one)] for one in report.findings}
        return [Invariant(name, found.get(name, [])) for name in names]


class Own(Near):
    """An instance that this process has started: its children are the system, but for ours."""

    instance: Instance

    def processes(self) -> list[int]:
        pids = [one.pid for one in self.instance.children] + [self.instance.postgres_pid]
        return [one for pid in pids if pid is not None for one in family(pid)]


class Far(Target):
    """An instance behind a URL."""

    measured = False

    def __init__(self, url: str, operator: str, people: Sequence[Person], owned: bool) -> None:
        self.says, self.operator, self._people = url, operator, list(people)
        self.host, self.port = address_of(url, owned)

    async def people(self, count: int) -> list[Person]:
        if self._people:
            if len(self._people) < count:
                raise TokensUnfit(f"{count} users are needed, the file has {len(self._people)}.")
            return [self._people.pop() for _ in range(count)]
        if count > MOST_REGISTERED:
            raise TokensUnfit(
                f"{count} users are too many to register one by one. Make them there with "
                f"`strongroom users create --count {count} --json > tokens`, and say --tokens."
            )
        made: list[Person] = []
        left = iter(range(count))

        async def register() -> None:
            for _ in left:
                one = await self._registered()
                made.append(one)

        await asyncio.gather(*(register() for _ in range(REGISTERED_TOGETHER)))
        return made

    async def _registered(self) -> Person:
        email, password = f"load-{secrets.token_hex(8)}@example.com", secrets.token_urlsafe(18)
        told = {"email": email, "password": password}
        user = await self.post("/api/auth/register", told | {"fullName": "Load"}, "")
        tokens = await self.post("/api/auth/login", told, "")
        return Person(user["userId"], tokens["accessToken"])

    async def sample(self, at_s: float) -> Sample:
        queued: int | None = None
        connection = Connection(self.host, self.port)
        with contextlib.suppress(OSError, KeyError, ValueError):
            async with asyncio.timeout(1.0):
                answer = await connection.ask("GET", "/api/ops/status", self.operator)
                queued = sum(one["waiting"] for one in answer.json()["queues"])
        connection.close()
        return Sample(at_s, queued, None, None, None, None)

    async def invariants(self) -> list[Invariant]:
        report = await self.post("/api/ops/reconciliations", {})
        found = [
            Invariant(one["invariant"], [f"{one['invariant']}: {one['rows'][0]}"])
            for one in report["findings"]
        ]
        return found or [Invariant("every_invariant", [])]


# Reaching them -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def own(settings: Settings, apis: int, workers: int) -> AsyncIterator[Own]:
    """An instance on a scratch folder, removed afterwards with all that it did."""
    folder = scratch_folder()
    allow_connections()
    here: dict[str, Any] = {
        "data_dir": folder / "data",
        "database_url": None,
        "owner_url": None,
        "environment": "development",
        "host": "127.0.0.1",
        "port": 0,
        "api_processes": apis,
        "workers": workers,
        "rate_limits": "off",
        "smtp_url": None,
        "mail_dir": None,
        "backup_dir": None,
    }
    settings = settings.model_copy(update=here)
    instance = Instance(settings, lambda _: None)
    try:
        await instance.start()
        async with Strongroom(settings.model_copy(update={"pool_size": 3})) as house:
            said = f"an instance of its own ({apis} API, {workers} worker processes)"
            target = Own(said, instance.address, house)
            target.instance = instance
            await target.prepare()
            yield target
    finally:
        await instance.end()
        remove(folder)


@contextlib.asynccontextmanager
async def near(settings: Settings) -> AsyncIterator[Near]:
    """The instance that runs on a data folder; NotRunning."""
    url = announced(settings.data_dir).get("url")
    if not isinstance(url, str):
        raise NotRunning()
    allow_connections()
    async with house_of(settings.model_copy(update={"pool_size": 3})) as house:
        target = Near(f"{url} on {settings.data_dir}", address_of(url, owned=False), house)
        await target.prepare()
        yield target


@contextlib.asynccontextmanager
async def far(url: str, operator: str, tokens: Path | None, owned: bool) -> AsyncIterator[Far]:
    """What answers behind a URL, with an operator's token."""
    allow_connections()
    target = Far(url, operator, people_in(tokens) if tokens else [], owned)
    await target.get("/api/ops/status")
    yield target


def people_in(file: Path) -> list[Person]:
    """Those of a file of lines of JSON; TokensUnfit."""
    try:
        lines = file.read_text("utf8").splitlines()
        told = [msgspec.json.decode(line) for line in lines if line.strip()]
        return [Person(one["userId"], one["accessToken"]) for one in told]
    except OSError as error:
        raise TokensUnfit(f"{file}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TokensUnfit() from error


def address_of(url: str, owned: bool) -> tuple[str, int]:
    """Host and port; UrlUnfit, and AddressRefused unless every address of it is this machine's."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise UrlUnfit() from error
    if parts.scheme != "http" or not host or parts.path.strip("/") or parts.query:
        raise UrlUnfit()
    try:
        found = {row[4][0] for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise UrlUnfit(f"{host} has no address.") from error
    if not owned and not all(ipaddress.ip_address(one).is_loopback for one in found):
        raise AddressRefused(f"{host} is not this machine: {inside(AddressRefused)}")
    return host, port


def inside(kind: type[Refused]) -> str:
    return " ".join((kind.__doc__ or "").split()).partition(". ")[2]


def memory_bytes(pids: Sequence[int]) -> int:
    """What these processes keep resident, together: their own pages added up, and what they share
    once (the database's buffers, which each of its processes would count for itself)."""
    own, shared = 0, [0]
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        told = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
        kept = {name: int(text.split()[0]) * 1024 for name, text in told.items()}
        own += kept.get("RssAnon", 0)
        shared.append(kept.get("RssFile", 0) + kept.get("RssShmem", 0))
    return own + max(shared)


def allow_connections() -> None:
    """As many open files as this process may have, for it and for those that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
