"""C18: every interleaving of two operations, through the real program on a real Postgres."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from playing import assert_clean
from proofs.conftest import Scale
from proofs.pairs import PAIRS, Bets, CloseAndBet, Codes, Pair, Scans, TransferAndWithdrawal
from strongroom.apps.betting.rows import ROUNDS
from strongroom.apps.ticketing.rows import TICKETS
from strongroom.clock import monotonic
from strongroom.core.commands import Command, Outcome, Ticket
from strongroom.core.commands.work import Sources
from strongroom.core.db import Database
from strongroom.core.ledger.books import sql as ledger
from strongroom.lab.interleave import (
    Interleaver,
    Order,
    Player,
    Rule,
    count_of_orders,
    orders,
)
from strongroom.lab.trial import Trial
from strongroom.main import Strongroom
from strongroom.settings import Settings

AHEAD = 64
"""Pairs that are prepared together: their commands share groups."""

CI_PAIRS = 3


@dataclass
class Stage:
    """Two houses whose statements wait at gates, a third that prepares and looks, the owner."""

    house: Strongroom
    two: Sequence[Strongroom]
    owner: Database
    interleaver: Interleaver


@dataclass
class Tally:
    """What came of all schedules of a pair."""

    faults: list[str] = field(default_factory=list)
    answers: Counter[Codes] = field(default_factory=Counter)
    what: Counter[str] = field(default_factory=Counter)
    schedules: int = 0


async def at_once(_: float) -> None:
    """Where the executor would pause, the schedule says when it goes on."""
    await asyncio.sleep(0)


@pytest.fixture
async def stage(database_url: str, tmp_path: Path) -> AsyncIterator[Stage]:
    players = Player(), Player()
    async with AsyncExitStack() as opened:
        owner = await opened.enter_async_context(Database(database_url, pool_size=8))
        await owner.fetch(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 50',"
            " current_database()); END $$"
        )

        async def open_house(**more: Any) -> Strongroom:
            settings = Settings(database_url=database_url, data_dir=tmp_path, rate_limits="off")
            return await opened.enter_async_context(Strongroom(settings, **more))

        two = [
            await open_house(step=player.step, sources=Sources(pause=at_once)) for player in players
        ]
        yield Stage(await open_house(), two, owner, Interleaver(owner, players))


async def operate(house: Strongroom, command: Command, key: str) -> Outcome:
    """Runs a command to its answer, past the lanes."""
    named = None if command.idempotent else key
    ticket = Ticket(command, principal="tester", key=named)
    await house.executor.run([ticket])
    return await ticket.future


def code_of(end: Any) -> str | None:
    if isinstance(end, Outcome):
        return end.refused or (end.error.code if end.error else None)
    return repr(end)


async def play(stage: Stage, pair: Pair, order: Order, tally: Tally) -> Codes:
    """One schedule: the answers of the two operations."""
    operations = [
        partial(operate, house, command, key)
        for house, command, key in zip(stage.two, pair.operations(), pair.keys, strict=True)
    ]
    await pair.before()
    played = await stage.interleaver.play(order, operations)
    for name in ("taken", "passed", "waited", "again", "deadlocks"):
        tally.what[name] += getattr(played, name)
    first, second = played.ends
    if pair.keys[0] == pair.keys[1] and first.body != second.body:
        tally.faults.append(f"{order}: one key, two answers")
    codes = code_of(first), code_of(second)
    tally.answers[codes] += 1
    tally.schedules += 1
    return codes


def fault_of(pair: Pair, codes: Codes, found: Any) -> str | None:
    """What is wrong with this end; None when it is allowed."""
    if codes not in pair.ends:
        return f"answered {codes}, ended as {found}"
    allowed = pair.ends[codes]
    fits = found in allowed if isinstance(allowed, set) else found == allowed
    return None if fits else f"answered {codes}, ended as {found} and not as {allowed}"


async def play_all(stage: Stage, kind: type[Pair], chosen: Sequence[Order]) -> Tally:
    """All these schedules of a pair, each on rows of its own."""
    tally = Tally()
    for start in range(0, len(chosen), AHEAD):
        some = chosen[start : start + AHEAD]
        pairs = [kind(stage.house, stage.owner) for _ in some]
        await asyncio.gather(*(pair.prepare() for pair in pairs))
        answers = [
            await play(stage, pair, order, tally) for pair, order in zip(pairs, some, strict=True)
        ]
        ends = await asyncio.gather(*(pair.end() for pair in pairs))
        for pair, order, codes, end in zip(pairs, some, answers, ends, strict=True):
            if fault := fault_of(pair, codes, end):
                tally.faults.append(f"{kind.__name__} {order}: {fault}")
    if tally.what["again"] and not kind.begins_again:
        tally.faults.append(f"{tally.what['again']} attempts were undone")
    if tally.what["deadlocks"]:
        tally.faults.append(f"{tally.what['deadlocks']} deadlocks")
    return tally


@pytest.mark.parametrize("number", range(CI_PAIRS))
async def test_two_operations_end_as_one_after_the_other_in_every_interleaving(
    stage: Stage, scale: Scale, held: Callable[[Trial], None], number: int
) -> None:
    if scale.campaign and number:
        pytest.skip("a part of a campaign plays one pair")
    kind = PAIRS[scale.part % len(PAIRS) if scale.campaign else number]
    began = monotonic()
    tally = await play_all(stage, kind, list(orders()))
    seconds = monotonic() - began
    await assert_clean(stage.house)
    for house in stage.two:
        pool = house.database.pool
        if pool.get_idle_size() != pool.get_size():
            tally.faults.append("a connection was not given back")
    assert tally.answers.keys() == kind.ends.keys(), "an end was never come to"
    held(
        Trial(
            row="C18",
            name=kind.__name__,
            seed=scale.seed,
            faults=tally.schedules,
            acknowledged=2 * tally.schedules,
            violations=tally.faults,
            what=dict(tally.what) | {str(codes): n for codes, n in tally.answers.items()},
            seconds=seconds,
            enough=2 * count_of_orders(),
        )
    )


# What the enumerator finds ------------------------------------------------------------------------

SOME = 4
"""Every fourth order shows as much of a fault as all of them."""

READ = "SELECT balance FROM purses WHERE id = $1"


class Purses:
    """A debit as it is often written: read, decide, write. `read` is how the balance is read."""

    def __init__(self, stage: Stage, read: str) -> None:
        self.read, self.stage = read, stage
        self.databases = [house.database for house in stage.two]

    async def debit(self, database: Database, id: int) -> bool:
        async with database.transaction() as db:
            balance = await db.fetchval(self.read, id)
            await db.execute("SELECT 'so much for the rules'")
            if balance < 70:
                return False
            await db.execute("UPDATE purses SET balance = $2 WHERE id = $1", id, balance - 70)
            await db.execute("INSERT INTO debits VALUES ($1, 70)", id)
        return True

    async def overspent(self, chosen: Sequence[Order]) -> int:
        """In how many of the schedules both debits of a purse with 100 in it were made."""
        owner, found = self.stage.owner, 0
        await owner.fetch("CREATE TABLE purses (id int PRIMARY KEY, balance int)")
        await owner.fetch("CREATE TABLE debits (id int, amount int)")
        await owner.fetch("GRANT ALL ON purses, debits TO strongroom_app")
        for id, order in enumerate(chosen):
            await owner.fetch("INSERT INTO purses VALUES ($1, 100)", id)
            operations = [partial(self.debit, database, id) for database in self.databases]
            played = await self.stage.interleaver.play(order, operations, Rule)
            assert True in played.ends and set(played.ends) <= {True, False}
            found += played.ends == [True, True]
        spent = "SELECT count(*) FROM (SELECT FROM debits GROUP BY id HAVING sum(amount) > 100) _"
        assert await owner.fetchval(spent) == found
        return found


async def test_a_debit_that_reads_and_then_writes_overspends_in_most_interleavings(
    stage: Stage,
) -> None:
    chosen = list(orders())[::SOME]
    assert await Purses(stage, READ).overspent(chosen) > 0.9 * len(chosen)


async def test_the_same_debit_under_a_lock_never_overspends(stage: Stage) -> None:
    chosen = list(orders())[::SOME]
    assert await Purses(stage, f"{READ} FOR NO KEY UPDATE").overspent(chosen) == 0


def unlocked(query: str) -> str:
    """The same query without its lock."""
    bare = re.sub(r"FOR NO KEY UPDATE( OF \w+)?", "", query)
    assert bare != query
    return bare


async def faults_of(stage: Stage, kind: type[Pair]) -> list[str]:
    tally = await play_all(stage, kind, list(orders())[:: 4 * SOME])
    return tally.faults


async def test_a_round_that_bets_do_not_hold_takes_one_after_its_close(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ROUNDS, "lock", unlocked(ROUNDS.lock))
    assert any("OPEN" in fault for fault in await faults_of(stage, CloseAndBet))


async def test_a_ticket_that_nobody_holds_admits_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TICKETS, "lock", unlocked(TICKETS.lock))
    assert any("answered (None, None)" in fault for fault in await faults_of(stage, Scans))


@pytest.mark.parametrize("kind", [Bets, TransferAndWithdrawal])
async def test_accounts_that_nobody_holds_are_saved_by_their_constraints_and_noticed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, kind: type[Pair]
) -> None:
    monkeypatch.setitem(ledger.sql, "lock_accounts", unlocked(ledger.lock_accounts))
    (fault,) = await faults_of(stage, kind)
    assert "attempts were undone" in fault
    await assert_clean(stage.house)
