"""Of many workers one does the chores; when it dies the next one takes over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

from playing import PATIENCE_S, Houses
from strongroom.core.commands import Command
from strongroom.core.db import Database, Leader, leader
from strongroom.doors.worker import Worker, worker

TAKEOVER_S = 2.0

NAME = "strongroom leader"

BREAK = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'strongroom leader'"""

PROGRAM = """
import asyncio, sys
from strongroom.core.db import Leader

async def main():
    one = Leader(sys.argv[1])
    assert await one.leads()
    print("leads", file=sys.stderr, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = PATIENCE_S) -> float:
    """Asks until it is so; how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.01)
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def no_answer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "FRESH_S", -1.0)


async def test_one_of_two_leads_and_steps_down_at_once(database_url: str) -> None:
    one, other = Leader(database_url), Leader(database_url)
    assert [await one.leads(), await other.leads(), await one.leads()] == [True, False, True]
    await one.close()
    assert await other.leads()
    assert not await one.leads()
    await other.close()
    await one.close()


async def test_other_matters_have_other_leaders(database_url: str) -> None:
    one, other = Leader(database_url, 1), Leader(database_url, 2)
    assert [await one.leads(), await other.leads()] == [True, True]
    await one.close()
    await other.close()


async def test_a_lost_connection_is_lost_leadership(database_url: str, owner: Database) -> None:
    one, other = Leader(database_url), Leader(database_url)
    assert await one.leads()
    await owner.fetch(BREAK)
    assert await other.leads()
    assert not await one.leads()
    await other.close()
    await until(one.leads)
    await one.close()


async def test_nobody_leads_where_there_is_no_database() -> None:
    one = Leader("postgresql://nobody@127.0.0.1:1/nothing")
    assert not await one.leads()
    await one.close()


async def test_a_killed_leader_is_followed_within_two_seconds(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    first = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, database_url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    second = Leader(database_url)
    try:
        assert first.stderr
        async with asyncio.timeout(PATIENCE_S):
            assert await first.stderr.readline() == b"leads\n"
        assert not await second.leads()
        first.kill()
        assert await until(second.leads) < TAKEOVER_S
    finally:
        with contextlib.suppress(ProcessLookupError):
            first.kill()  # also where it was not followed: by itself it never ends
        await first.communicate()
        await second.close()


class Clerk:
    """A worker that counts its chores, in a house of its own."""

    def __init__(self) -> None:
        self.ran = 0
        self.did = asyncio.Event()

    async def chore(self) -> list[Command]:
        self.ran += 1
        self.did.set()
        return []

    async def employ(self, houses: Houses, *more: Callable[[], Awaitable[list[Command]]]) -> None:
        house = await houses()
        self.worker = Worker(
            house.database,
            house.executor,
            house.transport,
            [],
            [self.chore, *more],
            leader=Leader(house.database.dsn),
        )
        self.running = asyncio.create_task(self.worker.run())

    async def leave(self) -> None:
        self.worker.stop()
        async with asyncio.timeout(PATIENCE_S):
            await self.running


async def test_chores_are_done_by_one_of_two_workers_and_then_by_the_other(
    houses: Houses, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CHORE_S", 0.02)
    one, other = Clerk(), Clerk()
    await one.employ(houses)
    async with asyncio.timeout(PATIENCE_S):
        await one.did.wait()
    await other.employ(houses)

    async def stood_for_election() -> bool:
        held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        both = int(await owner.fetchval(f"{held} AND datname = current_database()", NAME)) == 2
        return both and one.ran > 5

    await until(stood_for_election)
    assert other.ran == 0
    await one.leave()
    done = one.ran
    async with asyncio.timeout(TAKEOVER_S):
        await other.did.wait()
    await other.leave()
    assert one.ran == done


async def test_a_chore_that_falls_behind_does_not_starve_another(
    houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CHORE_S", 0.01)
    slow = asyncio.Event()

    async def behind() -> list[Command]:
        await slow.wait()
        return []

    one = Clerk()
    await one.employ(houses, behind)

    async def went_on() -> bool:
        return one.ran > 3

    await until(went_on)
    assert one.ran > 3 and not slow.is_set()
    slow.set()
    await one.leave()


async def test_chores_once_asks_nobody_who_leads(houses: Houses, database_url: str) -> None:
    leads = Leader(database_url)
    assert await leads.leads()
    house, clerk = await houses(), Clerk()
    follower = Worker(
        house.database,
        house.executor,
        house.transport,
        [],
        [clerk.chore],
        leader=Leader(database_url),
    )
    await follower.chores_once()
    assert clerk.ran == 1
    await leads.close()
