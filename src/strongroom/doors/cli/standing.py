"""How an instance stands: what its database says, what its processes say, and what neither does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from strongroom.clock import monotonic, now
from strongroom.core.audit import payouts_status
from strongroom.core.audit.actions import Action, actions
from strongroom.core.audit.limits import LimitSeen, changed_limits
from strongroom.core.audit.queues import QueueStanding, queue_standings
from strongroom.core.audit.reconcile import verdict
from strongroom.core.audit.switches import PayoutsSeen
from strongroom.core.db import Database, Queries, Record
from strongroom.core.db.places import NotReachable, announced, place_of
from strongroom.doors.cli.client import LOOK_TIMEOUT_S, Connection, status_of
from strongroom.doors.metrics.targets import NOTE
from strongroom.settings import Settings

sql = Queries(__package__, "status.sql")

DATABASE_S = 4.0
"""A database that does not answer all of it within this is as good as down for an operator."""

ACTIONS_SHOWN = 5

QUANTILE = 0.95


class Process(msgspec.Struct, frozen=True, rename="camel"):
    """A process of the instance, as its metrics say; `since` null when it does not answer."""

    name: str
    address: str
    answers: bool
    pid: int | None = None
    since: datetime | None = None
    requests_per_s: float = 0.0
    too_many_per_s: float = 0.0
    p95_ms: float | None = None


class Server(msgspec.Struct, frozen=True, rename="camel"):
    """The database server; `archived` null where nobody is meant to archive what it writes."""

    connections: int
    most_connections: int
    lock_waits: int
    oldest_transaction_s: float
    bytes: int
    up_s: int
    archived: bool | None


class Verdict(msgspec.Struct, frozen=True, rename="camel"):
    """What stands of the reconciliations, and when the last one of all accounts was; null before
    the first."""

    began_at: datetime | None
    duration_ms: int | None
    clean: bool
    violated: list[str]


class Books(msgspec.Struct, frozen=True, rename="camel"):
    """All that only the database knows."""

    server: Server
    payouts: PayoutsSeen
    reconciliation: Verdict | None
    queues: list[QueueStanding]
    limits: list[LimitSeen]
    reservations_held: int
    seats_held: int
    actions: list[Action]


class Page(NamedTuple):
    """What one process's metrics say that counts here."""

    pid: int | None
    since: datetime | None
    requests: float
    too_many: float
    buckets: dict[float, float]


class Look(NamedTuple):
    """One look at everything, and when it was."""

    at: float
    data_dir: str
    url: str | None
    pid: int | None
    ready: str
    pages: dict[tuple[str, str], Page | None]
    books: Books | None
    fault: str

    @property
    def answers(self) -> bool:
        """Anything at all."""
        return self.books is not None or self.ready != "silent" or any(self.pages.values())


class Standing(msgspec.Struct, frozen=True, rename="camel"):
    """The instance as an operator wants to see it. `wrong` says what needs somebody, each in a
    sentence."""

    at: datetime
    data_dir: str
    url: str | None
    pid: int | None
    ready: str
    answers: bool
    wrong: list[str]
    processes: list[Process]
    database: Books | None
    database_fault: str
    done_per_minute: dict[str, int]


async def look(settings: Settings) -> Look:
    """Asks everything at once; never raises for what does not answer."""
    noted = announced(settings.data_dir)
    url, pid = noted.get("url"), noted.get("pid")
    at = monotonic()
    places = list(_noted_processes(settings.data_dir))
    asked, ready, pages = await asyncio.gather(
        _books(settings),
        _ready(str(url) if url else None),
        asyncio.gather(*(_page(address) for _, address in places)),
    )
    books, fault = asked
    return Look(
        at=at,
        data_dir=str(settings.data_dir),
        url=str(url) if url else None,
        pid=pid if isinstance(pid, int) else None,
        ready=ready,
        pages=dict(zip(places, pages, strict=True)),
        books=books,
        fault=fault,
    )


def standing(before: Look, after: Look) -> Standing:
    """What two looks come to."""
    seconds = max(after.at - before.at, 1e-3)
    processes = [
        _process(name, address, page, before.pages.get((name, address)), seconds)
        for (name, address), page in after.pages.items()
    ]
    return Standing(
        at=now(),
        data_dir=after.data_dir,
        url=after.url,
        pid=after.pid,
        ready=after.ready,
        answers=after.answers,
        wrong=list(_wrong(after, processes)),
        processes=processes,
        database=after.books,
        database_fault=after.fault,
        done_per_minute=_done(before, after, seconds),
    )


def _wrong(found: Look, processes: list[Process]) -> Iterator[str]:
    if found.books is None:
        yield f"The database does not answer: {found.fault}"
    else:
        payouts, run = found.books.payouts, found.books.reconciliation
        if payouts.payouts_paused:
            yield f"Payouts are paused by {payouts.by or 'nobody known'}: {payouts.reason}"
        if run is not None and not run.clean:
            yield f"Reconciliation found: {', '.join(run.violated)}"
        if found.books.server.archived is False:
            yield "Nobody archives what the database writes: see the runbook, ArchiveStopped."
    for one in processes:
        if not one.answers:
            yield f"{one.name} does not answer at {one.address}."
    if found.ready not in ("ready", "silent"):
        yield f"The API is not ready: {found.ready}."
    elif found.ready == "silent" and found.url:
        yield f"The API does not answer at {found.url}."


def _done(before: Look, after: Look, seconds: float) -> dict[str, int]:
    from strongroom.doors.cli.queues import per_minute

    if before.books is None or after.books is None:
        return {}
    return per_minute(before.books.queues, after.books.queues, seconds)


# Processes ------------------------------------------------------------------------------------


def _noted_processes(data_dir: Path) -> Iterator[tuple[str, str]]:
    """(name, address) of each process that serves metrics; none where nothing is noted."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for one in json.loads((data_dir / NOTE).read_text("utf8")):
            for address in one["targets"]:
                yield str(one["labels"]["process"]), str(address)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return host.strip("[]"), int(port)


async def _ready(url: str | None) -> str:
    """`ready`, what stands in the way, or `silent`."""
    if url is None:
        return "silent"
    host, port = _split(url)
    found = await status_of(host, port, "/readyz")
    if found is None:
        return "silent"
    return "ready" if found == 200 else f"readyz answers {found}"


async def _page(place: str) -> Page | None:
    """The metrics of one process; None when it does not answer in time."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        host, port = _split(place)
        connection = Connection(host, port)
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                answer = await connection.ask("GET", "/metrics")
        finally:
            connection.close()
        if answer.status == 200:
            return _read(answer.body.decode())
    return None


def _read(text: str) -> Page:
    from prometheus_client.parser import text_string_to_metric_families

    pid = since = None
    requests = too_many = 0.0
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "strongroom_requests_total":
                requests += sample.value
                too_many += sample.value * (sample.labels.get("status") == "429")
            elif sample.name == "strongroom_request_duration_seconds_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
            elif sample.name.endswith("process_start_time_seconds"):
                since = datetime.fromtimestamp(sample.value, UTC)
            elif sample.name == "strongroom_process_id":
                pid = int(sample.value)
    return Page(pid, since, requests, too_many, buckets)


def _process(
    name: str, address: str, page: Page | None, before: Page | None, seconds: float
) -> Process:
    if page is None:
        return Process(name, address, answers=False)
    # Started again meanwhile: its counts began anew.
    last = before if before and before.requests <= page.requests else None
    requests = page.requests - (last.requests if last else page.requests)
    too_many = page.too_many - (last.too_many if last else page.too_many)
    new = {
        bound: count - (last.buckets.get(bound, 0.0) if last else 0.0)
        for bound, count in page.buckets.items()
    }
    return Process(
        name=name,
        address=address,
        answers=True,
        pid=page.pid,
        since=page.since,
        requests_per_s=round(requests / seconds, 1),
        too_many_per_s=round(too_many / seconds, 1),
        p95_ms=quantile_ms(new),
    )


def quantile_ms(buckets: dict[float, float], share: float = QUANTILE) -> float | None:
    """The bound that so many requests stayed below, in ms; None when there were none. As exact as
    the buckets are; what is beyond the last bound is shown as that."""
    total = buckets.get(float("inf"), 0.0)
    if not total:
        return None
    finite = [bound for bound in sorted(buckets) if bound != float("inf")]
    for bound in finite:
        if buckets[bound] >= share * total:
            return round(bound * 1000, 1)
    return round(finite[-1] * 1000, 1) if finite else None


# The database ---------------------------------------------------------------------------------


async def _books(settings: Settings) -> tuple[Books | None, str]:
    """What the database says, or why it does not."""
    try:
        async with asyncio.timeout(DATABASE_S):
            return await _ask(settings), ""
    except TimeoutError:
        return None, f"no answer within {DATABASE_S:g} s"
    except NotReachable as error:
        return None, error.detail
    except Exception as error:
        return None, str(error) or type(error).__name__


async def _ask(settings: Settings) -> Books:
    async with Database(place_of(settings).owner, pool_size=2) as owner:
        server = await owner.fetchrow(sql.server)
        held = await owner.fetchrow(sql.held)
        assert server is not None and held is not None
        archiving = server["archiving"]
        return Books(
            server=Server(
                connections=server["connections"],
                most_connections=server["most"],
                lock_waits=server["lock_waits"],
                oldest_transaction_s=round(server["oldest_transaction_s"], 1),
                bytes=server["bytes"],
                up_s=server["up_s"],
                archived=bool(archiving) if settings.archives or archiving is not None else None,
            ),
            payouts=await payouts_status(owner),
            reconciliation=_verdict(await verdict(owner)),
            queues=await queue_standings(owner),
            limits=await changed_limits(owner),
            reservations_held=held["reservations"],
            seats_held=held["seats"],
            actions=await actions(owner, limit=ACTIONS_SHOWN),
        )


def _verdict(row: Record) -> Verdict | None:
    """None while there is nothing to tell."""
    at, violated = row["began_at"], row["violated"]
    return Verdict(at, row["duration_ms"], not violated, violated) if at or violated else None
