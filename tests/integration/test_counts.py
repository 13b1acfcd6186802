"""What rooms count for the metrics: what was committed, and nothing that was not."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from integration.test_worker import Desk, pair, to_wish
from playing import PATIENCE_S, People, codes_of, somebody_waits, ticket
from serving import Clones, Server
from strongroom.clock import monotonic
from strongroom.core.db import Database
from strongroom.core.events import Subscriber, bind
from strongroom.doors.metrics import Metrics
from strongroom.doors.metrics.standing import Standing
from strongroom.main import Strongroom
from wishes import Wish

__all__ = ["pair"]

LOCK = "SELECT pg_advisory_xact_lock(1)"

RECORDED = """
INSERT INTO audit.reconciliations (id, requested_by, began_at, duration_ms, clean, findings, mode)
VALUES (gen_random_uuid(), 'tester', clock_timestamp(), 1, $2 = '[]', $2::jsonb, $1)
"""


@pytest.fixture
async def desk(house: Strongroom, owner: Database) -> Desk:
    await bind(owner, [Subscriber("wishes", ("tests.Wished",), to_wish)])
    return Desk(house, owner)


async def test_a_group_that_was_undone_counts_for_nothing(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    entries = house.executor.entries
    wishes = [Wish(ann, bob), Wish(ann, bob, fate="bug"), Wish(ann, bob)]
    tickets = [ticket(wish, f"k{n}") for n, wish in enumerate(wishes)]
    await house.executor.run(tickets)
    groups = house.executor.by_command[Wish]
    assert groups.sizes.count == groups.seconds.count == 1
    assert groups.sizes.total == 2
    assert house.executor.entries == entries + 4


async def test_a_replay_is_counted_once_each_time_and_moves_nothing(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    for _ in range(3):
        await house.executor.run([ticket(Wish(ann, bob), "again")])
    both = [ticket(Wish(ann, bob), "twice"), ticket(Wish(ann, bob), "twice")]
    entries = house.executor.entries
    await house.executor.run(both)
    other = ticket(Wish(ann, bob, amount=2), "again")
    await house.executor.run([other])
    assert house.executor.replays == 2 + 1
    assert house.executor.entries == entries + 2


async def test_who_is_turned_away_is_counted_by_why(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    late = ticket(Wish(ann, bob), "late", deadline=monotonic() - 1)
    good = ticket(Wish(ann, bob), "good")
    assert await codes_of([house.lanes.run(late)]) == ["overloaded"]
    await house.lanes.run(good)
    assert house.lanes.full(Wish, -1)
    lane = house.lanes.by_command[Wish]
    assert lane.rejected == {"full": 2}
    assert lane.waits.count == 1


async def test_a_message_is_counted_at_its_end_and_a_failure_each_time(
    desk: Desk, pair: dict[str, Any]
) -> None:
    worker = desk.worker(max_attempts=2)
    await desk.wish(pair, pair, {**pair, "fate": "bug"})
    await worker.work_once("wishes")
    jobs = worker.jobs["wishes"]
    assert (jobs.processed, jobs.failed, jobs.buried) == (2, 1, 0)
    await desk.come_back()
    await worker.work_once("wishes")
    assert (jobs.processed, jobs.failed, jobs.buried) == (2, 2, 1)
    assert jobs.seconds.count == 2 and jobs.seconds.total > 0


async def test_what_can_only_not_be_done_now_is_neither_done_nor_failed(
    desk: Desk, pair: dict[str, Any]
) -> None:
    worker = desk.worker()
    await desk.wish({**pair, "fate": "busy"})
    await worker.work_once("wishes")
    jobs = worker.jobs["wishes"]
    assert (jobs.processed, jobs.failed, jobs.buried) == (0, 0, 0)


# Asking the database ------------------------------------------------------------------------------


async def test_however_many_scrape_the_database_is_asked_once(house: Strongroom) -> None:
    standing = Standing(house.audit, archives=False)
    await asyncio.gather(*(standing.ask() for _ in range(20)))
    await standing.ask()
    rooms = house.audit.spent.rooms
    assert (rooms["metrics"].count, rooms["audit"].count) == (4, 1)
    named = {metric.name for metric in standing.metrics()}
    assert {"strongroom_queue_length", "strongroom_payouts_paused"} <= named


async def test_before_there_is_an_answer_only_that_is_told(house: Strongroom) -> None:
    (only,) = Standing(house.audit, archives=False).metrics()
    assert only.name == "strongroom_database_up" and only.samples[0].value == 0


@pytest.mark.parametrize(("meant", "running"), [(True, 0), (False, None)])
async def test_an_archive_that_never_began_is_told_of_where_there_should_be_one(
    house: Strongroom, meant: bool, running: int | None
) -> None:
    standing = Standing(house.audit, archives=meant)
    await standing.ask()
    told = told_of(standing)
    assert told["strongroom_database_up"] == 1
    assert told.get("strongroom_archive_running") == running


async def test_a_database_that_is_gone_does_not_keep_the_page_from_being_made(
    house: Strongroom,
) -> None:
    metrics = Metrics(house, "api", "api-1")
    async with metrics:
        await house.audit.close()
        page = (await metrics.text()).decode()
    assert "strongroom_database_up 0.0" in page
    assert "strongroom_groups_total" in page and "strongroom_payouts_paused" not in page


async def test_one_page_is_made_at_a_time_for_all_who_ask(house: Strongroom) -> None:
    begun, go_on = 0, threading.Event()

    def source() -> list[Any]:
        nonlocal begun
        begun += 1
        assert go_on.wait(PATIENCE_S)
        return []

    async with Metrics(house, "api", "api-1", source) as metrics, asyncio.timeout(PATIENCE_S):
        asking = [asyncio.create_task(metrics.text()) for _ in range(20)]
        while not begun:
            await asyncio.sleep(0)
        asking += [asyncio.create_task(metrics.text()) for _ in range(20)]
        await asyncio.sleep(0)
        go_on.set()
        pages = await asyncio.gather(*asking)
    assert (len(pages), len({*map(id, pages)}), begun) == (40, 2, 2)


async def test_a_page_that_nobody_waits_for_any_more_is_made_for_the_others(
    house: Strongroom,
) -> None:
    async with Metrics(house, "api", "api-1") as metrics:
        one, other = (asyncio.create_task(metrics.text()) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        assert b"strongroom_groups_total" in await other


async def test_locks_that_are_waited_for_are_those_of_this_database(
    house: Strongroom, owner: Database, clones: Clones, server: Server
) -> None:
    other = clones.take()
    async with Database(server.at(other), pool_size=3) as others:
        assert await waits_seen(house, others) == 0
        assert await waits_seen(house, owner) == 1
    clones.give_back(other)


async def waits_seen(house: Strongroom, db: Database) -> float:
    """How many waits are told of while one session of this database waits for another."""
    async with db.transaction() as holds:
        await holds.execute(LOCK)
        waiting = asyncio.create_task(db.fetchval(LOCK))
        await somebody_waits(db)
        standing = Standing(house.audit, archives=False)
        await standing.ask()
    await waiting
    return told_of(standing)["strongroom_db_lock_waits"]


def told_of(standing: Standing) -> dict[str, float]:
    """The first value of each metric that has one."""
    return {one.name: one.samples[0].value for one in standing.metrics() if one.samples}


async def test_a_clean_look_at_a_part_does_not_clear_what_was_found_in_the_whole(
    house: Strongroom, owner: Database
) -> None:
    twice = '[{"invariant": "transfer_keys_are_unique", "why": "", "rows": [{}, {}]}]'
    found = []
    for mode, findings in (("full", twice), ("incremental", "[]"), ("full", "[]")):
        await recorded(owner, mode, findings)
        standing = Standing(house.audit, archives=False)
        await standing.ask()
        told = {one.name: one.samples[0].value for one in standing.metrics() if one.samples}
        mismatch = told["strongroom_reconciliation_mismatch"]
        found.append((mismatch, told["strongroom_ledger_duplicates_detected"]))
        assert 0 <= told["strongroom_reconciliation_age_seconds"] < 3600
    assert found == [(1, 2), (1, 2), (0, 0)]


async def recorded(owner: Database, mode: str, findings: str) -> None:
    async with owner.transaction() as db:
        await db.execute(RECORDED, mode, findings)
