"""A slow database: statements that sleep before they run, and a row that somebody holds.

Production has no hook for faults, so an API process that sleeps is a program of the lab's: it
builds the house with a step (`core.db.steps`) that delays a share of its statements, inside their
transaction and with its locks held, from SIGUSR1 until SIGUSR2. Otherwise it is the API:

    python -m strongroom.lab.chaos.slow PORT SHARE SEED AWAY_MS --data-dir DIR

`AWAY_MS` before each statement, at all times, stand for a database that is some hops away: with
small groups it, and not this machine's processors, is what limits how much can be done.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from strongroom.clock import monotonic
from strongroom.core.db import Database
from strongroom.doors.cli import logs
from strongroom.doors.http import server
from strongroom.lab.arena import free_port
from strongroom.lab.chaos.bettors import (
    STRICT,
    Bettors,
    Bounds,
    judge,
    judge_recovery,
    normal_after_s,
    sql,
)
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.field import Field
from strongroom.lab.chaos.throng import at_once_ms, good_per_s, refused
from strongroom.lab.programs import Program
from strongroom.lab.trial import Trial
from strongroom.main import Strongroom
from strongroom.settings import Settings

LEAST_S, MOST_S = 0.1, 5.0

NEVER_DELAYED = ("ROLLBACK",)
"""Nothing else runs in a transaction that has failed."""


class Sleeps:
    """A step that lets a share of statements sleep while it is `on`, and all of them travel."""

    def __init__(self, share: float, seed: int, away_s: float) -> None:
        self.share, self.away_s = share, away_s
        self.on = False
        self._dice = random.Random(seed)

    async def __call__(
        self, connection: Any, statement: str, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        if self.away_s:
            await asyncio.sleep(self.away_s)
        own = statement == sql.sleep or statement in NEVER_DELAYED
        if self.on and not own and self._dice.random() < self.share:
            await connection.fetchval(sql.sleep, self._dice.uniform(LEAST_S, MOST_S))
        return await run()


def serve(port: int, share: float, seed: int, away_ms: float, data_dir: Path) -> None:
    """Serves as `strongroom serve` does, but for the sleeps and the way."""
    settings = Settings(data_dir=data_dir)
    logs.begin(settings.log_level, process="api")
    sleeps = Sleeps(share, seed, away_ms / 1000)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(sleeps, "on", True))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(sleeps, "on", False))
    server.serve(Strongroom(settings, step=sleeps), server.bound("127.0.0.1", port))


SHARE = 0.01
"""Of the dozen statements of a group about one in eight groups meets a sleep; all of the pool's
connections are asleep now and then, and most groups still move."""

PEOPLE = 400
PRESSURE = 3.0
"""How many times what it can do is asked of the system while it is faulty."""

ASKED_S = 30.0
"""Long enough to meet a lock's and a statement's timeouts several times."""

LOOK_AFTER_S = 10.0
"""So long after the fault people still come, to see when all is as usual; twice as long as the
fault lasted is enough."""


AWAY_MS, SMALL_GROUPS = 2.0, 16
"""Some hundred bets a second, a twentieth of what two cores can do: so many times as much is asked
of the database, and not of processors that the crowd itself needs as well."""


class SlowApi:
    """An API process whose database is away, or can be slow, in a field without other APIs."""

    def __init__(
        self, stack: AsyncExitStack, seed: int, *, share: float = 0.0, away_ms: float = 0.0
    ) -> None:
        self._stack, self._share, self._seed, self._away_ms = stack, share, seed, away_ms
        self.port = free_port()

    async def start(self, **settings: object) -> Field:
        secret = secrets.token_urlsafe(32)
        field = Field(apis=0, workers=1, settings={"token_secret": secret, **settings})
        await self._stack.enter_async_context(field)
        module = [sys.executable, "-m", "strongroom.lab.chaos.slow"]
        asked = [str(self.port), str(self._share), str(self._seed), str(self._away_ms)]
        self.program = Program(
            [*module, *asked, "--data-dir", str(field.folder / "data")],
            ready=("127.0.0.1", self.port),
            ready_path="/readyz",
            environment={
                "STRONGROOM_RATE_LIMITS": "off",
                "STRONGROOM_TOKEN_SECRET": secret,
                **({"STRONGROOM_GROUP_LIMIT": str(SMALL_GROUPS)} if self._away_ms else {}),
            },
        )
        await self._stack.enter_async_context(self.program)
        return field

    def turn(self, on: bool) -> None:
        os.kill(self.program.pid, signal.SIGUSR1 if on else signal.SIGUSR2)


async def slow_database(seconds: float, seed: int, bounds: Bounds = STRICT) -> Trial:
    """Statements sleep 0.1 to 5 s while three times the capacity arrives. What is possible is what
    a closed loop gets through the same fault."""
    trial = Trial(row="C11", name="slow-database", seed=seed, faults=0, acknowledged=0)
    began = monotonic()
    async with AsyncExitStack() as stack:
        slow = SlowApi(stack, seed, share=SHARE)
        field = await slow.start()
        bettors = await Bettors.of(field, slow.port, people=PEOPLE, rounds=1)
        capacity = await bettors.capacity(2)
        slow.turn(True)
        possible = await bettors.capacity(max(6.0, seconds / 2))
        slow.turn(False)
        usual_s, after_s = 2.0, min(2 * seconds, LOOK_AFTER_S)
        stream = bettors.flow("bets", PRESSURE * capacity)
        lasts = usual_s + seconds + after_s
        async with bettors.thronging([stream], lasts) as throng:
            await asyncio.sleep(usual_s)
            slow.turn(True)
            since = monotonic()
            trial.faults += 1
            await asyncio.sleep(seconds)
            slow.turn(False)
            until = monotonic()
            found = await throng
        met = found.of("bets")
        during = [one for one in met if since <= one.at < until]
        good = good_per_s(met, since, until)
        trial.what |= {
            "capacity_per_s": capacity,
            "possible_per_s": possible,
            "good_per_s": good,
            "usual_per_s": good_per_s(met, found.began + 0.5, since),
            "intended_per_s": PRESSURE * capacity,
            "refused": float(len(refused(during))),
            "behind_ms": found.behind_ms,
        }
        judge(trial, bounds, goodput=good / max(possible, 1.0), refusal_ms=at_once_ms(during))
        usual = trial.what["usual_per_s"]
        judge_recovery(trial, bounds, normal_after_s(met, until, usual, bounds))
        if not refused(met):
            trial.violations.append("nothing was refused: this was no overload")
        await bettors.settle(trial)
    trial.seconds = monotonic() - began
    return trial


async def hot_row(
    seconds: float,
    seed: int,
    bounds: Bounds = STRICT,
    *,
    row: str = "round",
    pressure: float = PRESSURE,
) -> Trial:
    """Somebody holds one row while so many times the capacity arrives, a tenth of it for that row.
    Who does not need the row is to notice nothing. The database is away: see SMALL_GROUPS."""
    trial = Trial(row="C11", name=f"hot-{row}", seed=seed, faults=0, acknowledged=0)
    began = monotonic()
    async with AsyncExitStack() as stack:
        api = SlowApi(stack, seed, away_ms=AWAY_MS)
        field = await api.start()
        bettors = await Bettors.of(field, api.port, people=PEOPLE, rounds=2)
        capacity = await bettors.capacity(2)
        everybody = bettors.people
        one = [everybody[0]] if row == "wallet" else everybody[:40]
        round = 1 if row == "round" else 0
        flows = [
            bettors.flow("hot", 0.1 * pressure * capacity, round, one),
            bettors.flow("others", 0.9 * pressure * capacity, 0, everybody[40:]),
        ]
        usual_s, after_s = 2.0, min(2 * seconds, LOOK_AFTER_S)
        async with bettors.thronging(flows, usual_s + seconds + after_s) as throng:
            await asyncio.sleep(usual_s)
            async with (
                Database(field.house.place.owner, pool_size=1) as owner,
                owner.transaction() as db,
            ):
                since = monotonic()
                if row == "wallet":
                    await db.fetch(sql.hold_wallet, everybody[0].user_id)
                else:
                    await db.fetch(sql.hold_round, bettors.rounds[1])
                trial.faults += 1
                await asyncio.sleep(seconds)
            until = monotonic()
            found = await throng
        others, hot = found.of("others"), found.of("hot")
        good = good_per_s(others, since, until)
        during = [one for one in others + hot if since <= one.at < until]
        usual = good_per_s(others, found.began + 1, since)
        trial.what |= {
            "capacity_per_s": capacity,
            "usual_per_s": usual,
            "good_per_s": good,
            "intended_per_s": pressure * capacity,
            "hot_good": float(sum(one.succeeded for one in hot if since <= one.at < until)),
            "refused": float(len(refused(during))),
            "behind_ms": found.behind_ms,
        }
        judge(trial, bounds, goodput=good / usual, refusal_ms=at_once_ms(during))
        usual_hot = good_per_s(hot, found.began + 1, since)
        judge_recovery(trial, bounds, normal_after_s(hot, until, usual_hot, bounds))
        trial.what["afterwards_per_s"] = again = await bettors.capacity(2)
        if again < bounds.usual * capacity:
            trial.violations.append(f"{again:.0f} bets a second afterwards, {capacity:.0f} before")
        if not refused(during):
            trial.violations.append("nothing was refused: this was no overload")
        await bettors.settle(trial)
    trial.seconds = monotonic() - began
    return trial


@scenario(
    "slow-database",
    "Statements sleep under load: no refusal waits, nothing is lost",
    takes=("seconds",),
)
async def _slow_database(wanted: Wanted, say: Say) -> Trial:
    say(f"statements sleep, {PRESSURE:g} times the capacity arrives")
    return await slow_database(wanted.seconds or ASKED_S, wanted.seed)


@scenario("hot-row", "A row is held under load: who does not need it goes on", takes=("seconds",))
async def _hot_row(wanted: Wanted, say: Say) -> Trial:
    say(f"somebody holds a round's row, {PRESSURE:g} times the capacity arrives")
    return await hot_row(wanted.seconds or ASKED_S, wanted.seed)


if __name__ == "__main__":
    port, share, seed, away_ms, _, data_dir = sys.argv[1:]
    serve(int(port), float(share), int(seed), float(away_ms), Path(data_dir))
