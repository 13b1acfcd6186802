"""Row C22: what a hand on the tables did is found by the next run and pauses payouts; and however
often payouts are paused and resumed while they are made, none commits in between.

The corruptions are those of the rooms, which beside hold each against its own invariant. Here the
program itself looks: a reconciliation as an operator asks for it, on a database in which all rooms
have invariants to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest

import corruptions
import orders_corruptions
import ticketing_corruptions
from integration import test_invariants, test_orders_invariants, test_ticketing_invariants
from playing import (
    PATIENCE_S,
    Houses,
    People,
    assert_clean,
    bet,
    code_of,
    come_back,
    new_round,
)
from proofs.conftest import Scale
from serving import Clones, Server, copied, lived
from strongroom.apps.betting import CloseRound, RecordResult
from strongroom.apps.betting import rounds as betting_rounds
from strongroom.apps.wallets import Deposit, Withdraw
from strongroom.clock import monotonic
from strongroom.core.audit import (
    PausePayouts,
    RecordReconciliation,
    ResumePayouts,
    payouts_status,
)
from strongroom.core.db import Database
from strongroom.doors.worker import Worker, worker_of
from strongroom.lab.trial import Trial
from strongroom.main import Strongroom
from strongroom.settings import Settings

Held = Callable[[Trial], None]


class Room(NamedTuple):
    """A history, and what may be done to it: by name the invariants that notice, and the SQL."""

    live: Callable[[str, Path], Coroutine[Any, Any, None]]
    tools: str
    spoiled: dict[str, tuple[tuple[str, ...], str]]


async def _bet(dsn: str, _: Path) -> None:
    async with Database(dsn, role="strongroom_app") as database:
        await test_invariants.live(test_invariants.House(database))


ROOMS = {
    "betting": Room(
        _bet,
        corruptions.TOOLS,
        {name: ((one,), text) for name, (one, text) in corruptions.SPOILED.items()},
    ),
    "ticketing": Room(
        test_ticketing_invariants._live,
        ticketing_corruptions.TOOLS,
        {name: ((one,), text) for name, (one, text) in ticketing_corruptions.SPOILED.items()},
    ),
    "orders": Room(
        test_orders_invariants._live, orders_corruptions.TOOLS, orders_corruptions.SPOILED
    ),
}

CLASSES = {
    "a changed amount": ("betting: a changed amount", "orders: a sale of a piece too many"),
    "a deleted entry": ("betting: a deleted entry", "betting: a deleted last entry"),
    "a one-sided entry": ("betting: a one-sided transfer", "betting: an entry of no transfer"),
    "an edited balance": (
        "betting: an edited balance",
        "ticketing: seats moved to another ticket type",
    ),
    "a doubled payout": ("betting: a doubled payout", "orders: money given back twice"),
    "a doubled refund": ("betting: a second refund", "ticketing: a hold given back twice"),
    "a dropped event": ("betting: a dropped event", "orders: a step that nobody heard of"),
    "negative stock": ("ticketing: negative stock", "orders: negative stock"),
    "a forked seq": ("betting: a forked account", "betting: a gap"),
    "an orphan hold": ("ticketing: an orphan hold", "orders: pieces held for nobody"),
    "a doubled key": ("betting: a key used twice", "betting: a second reversal"),
    "a guard that is gone": ("betting: a dropped unique index", "betting: a disabled trigger"),
    "an answer without effect": (
        "betting: an answer about nothing",
        "betting: two answers for one transfer",
    ),
}
"""The classes of A1 and some more; CI plants each in two ways, a campaign whatever there is."""

EVERY = [f"{name}: {one}" for name, room in ROOMS.items() for one in room.spoiled]

PLANTED = 26


@pytest.fixture(scope="module")
def histories(
    server: Server, clones: Clones, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """By room a database in which its history has happened; only to be copied."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                lived(server, clones, tmp_path_factory.mktemp(name), room.live)
            )
            for name, room in ROOMS.items()
        }


def guards(db: psycopg.Connection) -> list[tuple[str, str]]:
    """The tables with a trigger that refuses changes, and how it is enabled."""
    return db.execute(
        "SELECT tgrelid::regclass::text, CASE tgenabled WHEN 'A' THEN 'ALWAYS' ELSE '' END"
        " FROM pg_trigger WHERE tgname = 'append_only'"
    ).fetchall()


def plant(dsn: str, room: Room, corruption: str) -> None:
    """Does to the tables what only their owner can, and leaves the guards as they were."""
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(room.tools.encode())
        standing = guards(db)
        for table, _ in standing:
            db.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only".encode())
        db.execute(room.spoiled[corruption][1].encode())
        for table, how in standing:
            db.execute(f"ALTER TABLE {table} ENABLE {how} TRIGGER append_only".encode())


async def looked(house: Strongroom) -> set[str]:
    """The next run, recorded as an operator's is; the invariants that do not hold."""
    report = await house.reconcile()
    await house.run(RecordReconciliation(report))
    return {finding.invariant for finding in report.findings}


async def found_out(dsn: str, place: Path, room: Room, corruption: str) -> list[str]:
    """What is wrong with how a corruption is found: nothing before it, all after it."""
    wrong = []
    settings = Settings(database_url=dsn, data_dir=place, rate_limits="off")
    async with Strongroom(settings) as house:
        if early := await looked(house):
            wrong.append(f"a false alarm before {corruption}: {early}")
        plant(dsn, room, corruption)
        expected, found = set(room.spoiled[corruption][0]), await looked(house)
        if not expected <= found:
            wrong.append(f"{corruption} was not found: only {found}")
        if not (await payouts_status(house.database)).payouts_paused:
            wrong.append(f"{corruption} did not pause payouts")
        [user] = [row[0] for row in await house.database.fetch(ANYBODY)]
        if await code_of(house.run(Withdraw(user, 1))) != "payouts_paused":
            wrong.append(f"after {corruption} a payout was not refused")
    return wrong


ANYBODY = "SELECT owner_id FROM ledger.accounts WHERE purpose IN ('wallet', 'free') LIMIT 1"


async def test_what_a_hand_did_is_found_by_the_next_run_and_pauses_payouts(
    server: Server, histories: dict[str, str], tmp_path: Path, scale: Scale, held: Held
) -> None:
    began, wrong = monotonic(), []
    named = [one for pair in CLASSES.values() for one in pair]
    chosen = random.Random(scale.seed).sample(EVERY, PLANTED) if scale.campaign else named
    for planted in chosen:
        name, _, corruption = planted.partition(": ")
        with copied(server, histories[name]) as dsn:
            wrong += await found_out(dsn, tmp_path, ROOMS[name], corruption)
    held(
        Trial(
            row="C22",
            name="corruptions",
            seed=scale.seed,
            faults=len(chosen),
            # A run before each and a run after it.
            acknowledged=2 * len(chosen),
            enough=2 * PLANTED,
            violations=wrong,
            what={"classes": len(CLASSES), "known": len(EVERY)},
            seconds=round(monotonic() - began, 2),
        )
    )


# Pause and resume -------------------------------------------------------------------------------

PAID = "SELECT count(*) FROM ledger.transfers WHERE key ~ '^(WITHDRAWAL|SETTLE):'"

BETWEEN = 50
"""Payouts that commit before the next pause."""

CALM_S = 0.03
"""A paused worker looks again so often, to give the others the core."""


class Payouts:
    """People who withdraw, and workers who settle, all the while; in several houses."""

    def __init__(self, houses: list[Strongroom], users: list[UUID]) -> None:
        self.houses, self.users = houses, users
        self.made = self.refused = 0
        self.bugs: list[str] = []
        self._ended = False

    async def _withdraw(self, house: Strongroom, user: UUID) -> None:
        while not self._ended:
            code = await code_of(house.run(Withdraw(user, 1)))
            self.made += code is None
            self.refused += code == "payouts_paused"
            if code == "payouts_paused":
                await asyncio.sleep(CALM_S)
            elif code is not None:
                self.bugs.append(f"a withdrawal was answered {code}")

    async def _deposit(self, house: Strongroom, user: UUID) -> None:
        """What is no payout goes on, paused or not."""
        while not self._ended:
            await house.run(Deposit(user, 1))
            await asyncio.sleep(CALM_S)

    async def _settle(self, worker: Worker) -> None:
        while not self._ended:
            if not sum([await worker.work_once(queue) for queue in worker.queues]):
                await asyncio.sleep(CALM_S)

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for number, house in enumerate(self.houses):
                tasks.create_task(self._withdraw(house, self.users[number]))
                tasks.create_task(self._deposit(house, self.users[number]))
                tasks.create_task(self._settle(worker_of(house)))
            try:
                yield
            finally:
                self._ended = True


async def owed(house: Strongroom, users: list[UUID]) -> None:
    """A round whose matches are to be paid."""
    round = await new_round(house)
    for number, user in enumerate(users):
        await bet(house, round, user, "AB"[number % 2], 10)
    await house.run(CloseRound(round))
    await house.run(RecordResult(round, "A"))


async def paid(owner: Database) -> int:
    return int(await owner.fetchval(PAID))


async def toggle(house: Strongroom, owner: Database) -> None:
    """Pauses, looks, resumes, and waits until payouts are made again."""
    await house.run(PausePayouts("a drill"))
    before = await paid(owner)
    wrong = [f"a false alarm under load: {found}" for found in await looked(house)]
    after = await paid(owner)
    if before != after:
        wrong.append(f"{after - before} payouts committed while paused")
    # What was found would keep payouts paused.
    assert not wrong, wrong
    await house.run(ResumePayouts("the drill is over"))
    await come_back(owner)
    async with asyncio.timeout(PATIENCE_S):
        while await paid(owner) < after + BETWEEN:
            await asyncio.sleep(CALM_S)


async def test_no_payout_commits_while_paused_however_often(
    houses: Houses,
    people: People,
    house: Strongroom,
    owner: Database,
    scale: Scale,
    held: Held,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(betting_rounds, "CHUNK", 1)
    began, toggles = monotonic(), scale.ask(20, 20)
    users = await people(8, funds=10**9)
    payouts = Payouts([await houses(), await houses()], users)
    async with payouts.going_on():
        for _ in range(toggles):
            await owed(house, users)
            await toggle(house, owner)
    await come_back(owner)
    await assert_clean(house)
    made = await paid(owner)
    held(
        Trial(
            row="C22",
            name="toggles",
            seed=scale.seed,
            faults=toggles,
            acknowledged=made,
            enough=toggles * BETWEEN,
            violations=payouts.bugs,
            what={"withdrawn": payouts.made, "refused": payouts.refused},
            seconds=round(monotonic() - began, 2),
        )
    )
