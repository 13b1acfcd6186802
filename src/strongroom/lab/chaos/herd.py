"""Everybody at the same instant: reservations that expire together, readers whose cached page is no
longer fresh, clients that all come back to processes which have just started."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from strongroom.apps.ticketing.events import AddTicketType, CreateEvent, PublishEvent
from strongroom.apps.ticketing.reservations import ReserveSeats
from strongroom.clock import monotonic, now
from strongroom.core.db import Queries
from strongroom.lab.arena import Person
from strongroom.lab.chaos.bettors import STRICT, Bettors, Bounds, judge_recovery
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.field import POOL_SIZE, Field
from strongroom.lab.chaos.throng import HOST, Flow, Plan, gathered, p99_ms
from strongroom.lab.scenarios import Job
from strongroom.lab.trial import Trial

sql = Queries(__package__, "herd.sql")

PEOPLE = 400

AT_ONCE = 10_000

TTL_S = 3600
"""Nothing expires before all are told to."""

DUE_IN_S = 1.0

READS_PER_S = 500.0

FRESH_S = 1.0
"""What is available on an event's page is read anew this often, while it is asked for."""

AUDIT_CONNECTIONS, LISTENERS, LEADER, OWNER_CONNECTIONS = 3, 2, 1, 3

LOOK_S = 0.05
GIVEN_BACK_S = 120.0


class Connections:
    """How many connections Postgres had, sampled; and how many it may have."""

    def __init__(self, field: Field, apis: int, workers: int) -> None:
        self._field = field
        each = POOL_SIZE + AUDIT_CONNECTIONS + LISTENERS + LEADER
        # Who looks on from outside is a process like the others, and the owner.
        self.cap = (apis + workers + 1) * each + OWNER_CONNECTIONS
        self.most = self.samples = 0

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _sample(self) -> None:
        while True:
            found = int((await self._field.rows(sql.connections))[0][0])
            self.most = max(self.most, found)
            self.samples += 1
            await asyncio.sleep(LOOK_S)

    def judge(self, trial: Trial) -> None:
        trial.what |= {"connections_most": float(self.most), "connections_cap": float(self.cap)}
        if self.most > self.cap:
            trial.violations.append(f"{self.most} connections, where {self.cap} are allowed")
        if not self.samples:
            trial.violations.append("connections were never counted")


async def expiring(reservations: int, seed: int, bounds: Bounds = STRICT) -> Trial:
    """So many reservations expire at one instant, while bets are placed as ever."""
    trial = Trial(row="C25", name="herd-expiring", seed=seed, faults=0, acknowledged=0)
    began = monotonic()
    async with Field(apis=1, workers=1) as field:
        bettors = await Bettors.of(field, field.ports[0], people=PEOPLE, rounds=1)
        _, type = await _event(field, reservations)
        await _reserved(field, bettors.people, type, reservations)
        trial.acknowledged += reservations
        connections = Connections(field, 1, 1)
        lasts = DUE_IN_S + bounds.recovery_s + 1
        flow = bettors.flow("bets", 100)
        async with connections.watched(), bettors.thronging([flow], lasts) as throng:
            due = await field.rows(sql.make_due, DUE_IN_S)
            await asyncio.sleep(DUE_IN_S)
            trial.faults += len(due) > 0
            fell = monotonic()
            patience = fell + GIVEN_BACK_S
            while (await field.rows(sql.not_given_back))[0][0] and monotonic() < patience:
                await asyncio.sleep(LOOK_S)
            recovered_s = monotonic() - fell
            found = await throng
        trial.what |= {
            "due_at_once": float(len(due)),
            "bets_p99_ms": p99_ms(found.of("bets")),
        }
        given_back = (await field.rows(sql.given_back))[0][0]
        if given_back != reservations:
            trial.violations.append(f"{given_back} of {reservations} were given back")
        judge_recovery(trial, bounds, recovered_s)
        connections.judge(trial)
        await bettors.settle(trial)
    trial.seconds = monotonic() - began
    return trial


async def _event(field: Field, seats: int) -> tuple[str, UUID]:
    """A published event's slug, and its ticket type."""
    starts = now() + timedelta(days=30)
    made = await field.house.run(
        CreateEvent("Đêm nhạc", "Hà Nội", starts, starts + timedelta(hours=3), slug="dem-nhac")
    )
    type = await field.house.run(AddTicketType(made.event_id, "Thường", 100_000, seats))
    await field.house.run(PublishEvent(made.event_id))
    return made.slug, type.ticket_type_id


async def _reserved(field: Field, people: list[Person], type: UUID, count: int) -> None:
    """One seat each, the people in turn."""
    await asyncio.gather(
        *(
            field.house.run(ReserveSeats(people[n % len(people)].user_id, ((type, 1),), TTL_S))
            for n in range(count)
        )
    )


async def hot_page(seconds: float, seed: int, bounds: Bounds = STRICT) -> Trial:
    """One event's page is read 500 times a second, and is fresh for a second: each time one reader
    loads it and the others wait for the same."""
    trial = Trial(row="C25", name="herd-page", seed=seed, faults=0, acknowledged=0)
    began = monotonic()
    async with Field(apis=1, workers=1) as field:
        slug, _ = await _event(field, 100)
        (person,) = await field.people(1)
        port = field.ports[0]
        job = Job(
            HOST,
            port,
            "reads",
            [person.token],
            duration_s=1,
            options={"paths": [f"/api/events/{slug}"]},
        )
        before = await _cache_requests(port, "event_pages")
        found = await gathered(Plan(port, [Flow("reads", READS_PER_S, job)], seconds))
        after = await _cache_requests(port, "event_pages")
        said = {name: after[name] - before.get(name, 0) for name in after}
        met = found.of("reads")
        trial.acknowledged = sum(one.succeeded for one in met)
        loads = said["misses"]
        trial.faults = int(loads)
        # From one load's begin to the next at least a page's freshness passes.
        most = seconds / FRESH_S + 2
        trial.what |= {f"page_{name}": count for name, count in said.items()} | {
            "loads_at_most": most,
            "p99_ms": p99_ms(met),
            "behind_ms": found.behind_ms,
        }
        if loads > most:
            trial.violations.append(f"{loads:g} loads, where one for each time is {most:g}")
        if failed := len(met) - trial.acknowledged:
            trial.violations.append(f"{failed} readers of {len(met)} got no page")
        if sum(said.values()) < trial.acknowledged:
            trial.violations.append("the cache was asked less often than pages were shown")
        trial.violations += await field.reconcile()
        trial.violations += field.bugs()
    trial.seconds = monotonic() - began
    return trial


async def _cache_requests(port: int, cache: str) -> dict[str, float]:
    """What became of questions to this cache, as the process tells it."""
    text = await _page(port, "/metrics")
    pattern = rf'^strongroom_cache_requests_total{{cache="{cache}",outcome="(\w+)"}} (\S+)$'
    return {name: float(count) for name, count in re.findall(pattern, text, re.MULTILINE)}


async def _page(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        asked = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        writer.write(asked.encode("ascii"))
        return (await reader.read(-1)).decode()
    finally:
        writer.close()


async def reconnecting(clients: int, seed: int, bounds: Bounds = STRICT) -> Trial:
    """All clients lose their connections with the API process, and come back at once when it
    does, each with a bet."""
    trial = Trial(row="C25", name="herd-reconnecting", seed=seed, faults=0, acknowledged=0)
    trial.enough = min(trial.enough, clients)
    began = monotonic()
    async with Field(apis=1, workers=1) as field:
        bettors = await Bettors.of(field, field.ports[0], people=PEOPLE, rounds=1)
        connections = Connections(field, 1, 1)
        (api,) = field.apis
        async with connections.watched():
            kept = [await asyncio.open_connection(HOST, api.port) for _ in range(clients)]
            await api.kill()
            trial.faults += 1
            for _, writer in kept:
                writer.close()
            await api.start()
            back = monotonic()
            # All within a tenth of a second, each on a connection of its own.
            flow = bettors.flow("bets", clients * 10)
            found = await bettors.throng([flow], 0.1)
            met = found.of("bets")
            again = 0
            while missed := sum(not one.succeeded for one in met):
                # Who was turned away comes again, as told.
                await asyncio.sleep(1)
                again += missed
                flow = bettors.flow(f"again-{again}", missed * 10)
                met = (await bettors.throng([flow], 0.1)).of(flow.name)
                if monotonic() > back + bounds.recovery_s * 3:
                    break
            last = max((one.answered_at for one in met), default=back)
        trial.what |= {
            "clients": float(clients),
            "connected_at_most": float(found.connections),
            "first_answers_p99_ms": p99_ms(found.of("bets")),
            "turned_away": float(again),
        }
        judge_recovery(trial, bounds, last - back)
        connections.judge(trial)
        await bettors.settle(trial)
    trial.seconds = monotonic() - began
    return trial


@scenario(
    "herd",
    "Thousands of reservations expire at one instant: soon all seats are back",
    takes=("faults",),
)
async def _herd(wanted: Wanted, say: Say) -> Trial:
    say(f"{wanted.faults or AT_ONCE} reservations expire at one instant")
    return await expiring(wanted.faults or AT_ONCE, wanted.seed)
