"""The worker: messages become commands, are deleted with their effect, and fail alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from playing import PATIENCE_S, Houses, People, balance, somebody_waits
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters, Event, Subscriber, bind
from strongroom.doors.traces.ids import of_event
from strongroom.doors.worker import Worker, worker
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from unit.test_traces_sent import traced
from wishes import Wish

QUEUE = "wishes"
HOLD = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'wallet' FOR UPDATE"
COME_BACK = "SELECT count(*) FROM pgmq.q_wishes q, pgmq.set_vt('wishes', q.msg_id, 0)"
LEFT = "SELECT count(*) FROM pgmq.q_wishes"
READ = "SELECT max(read_ct) FROM pgmq.q_wishes"

React = Callable[[Event], Command | None]


def to_wish(event: Event) -> Wish:
    said = event.payload
    source, target = UUID(said["source"]), UUID(said["target"])
    return Wish(source, target, said.get("amount", 1), said.get("fate", "fine"))


class Desk:
    """A queue of wishes, and workers on it."""

    def __init__(self, house: Strongroom, owner: Database) -> None:
        self.house, self.owner = house, owner

    def worker(
        self, react: React = to_wish, house: Strongroom | None = None, **more: Any
    ) -> Worker:
        at = house or self.house
        subscribers = [Subscriber(QUEUE, ("tests.Wished",), react)]
        return Worker(at.database, at.executor, at.transport, subscribers, **more)

    async def wish(self, *wishes: dict[str, Any], request: UUID | None = None) -> list[Event]:
        events = [
            Event(uuid7(), "tests.Wished", uuid7(), said, correlation=request) for said in wishes
        ]
        async with self.house.database.transaction() as db:
            await self.house.transport.publish(db, events)
        return events

    async def left(self) -> int:
        return int(await self.owner.fetchval(LEFT))

    async def come_back(self) -> None:
        """Ends all leases and delays."""
        await self.owner.fetch(COME_BACK)


@pytest.fixture
async def desk(house: Strongroom, owner: Database) -> Desk:
    await bind(owner, [Subscriber(QUEUE, ("tests.Wished",), to_wish)])
    return Desk(house, owner)


@pytest.fixture
async def pair(people: People) -> dict[str, str]:
    """Two people, as a wish names them."""
    ann, bob = await people(2)
    return {"source": str(ann), "target": str(bob)}


async def received(desk: Desk, pair: dict[str, str]) -> int:
    return await balance(desk.house, UUID(pair["target"])) - 1_000_000


async def test_a_message_is_gone_when_its_effect_is_there(desk: Desk, pair: dict[str, str]) -> None:
    await desk.wish(pair | {"amount": 5})
    assert await desk.worker().work_once(QUEUE) == 1
    assert await received(desk, pair) == 5
    assert await desk.left() == 0


async def test_nothing_to_do_is_no_work(desk: Desk) -> None:
    assert await desk.worker().work_once(QUEUE) == 0


async def test_a_batch_is_worked_in_one_group(desk: Desk, pair: dict[str, str]) -> None:
    before = desk.house.executor.groups
    await desk.wish(*(pair | {"amount": amount} for amount in range(1, 51)))
    await desk.worker().work_once(QUEUE)
    assert desk.house.executor.groups == before + 1
    assert await received(desk, pair) == sum(range(1, 51))


async def test_equal_commands_of_a_batch_run_once(desk: Desk, pair: dict[str, str]) -> None:
    await desk.wish(*[pair] * 10)
    work = desk.worker()
    assert await work.work_once(QUEUE) == 10
    assert await received(desk, pair) == 1
    assert (await desk.left(), work.done) == (0, 10)


async def test_a_message_delivered_twice_has_one_effect(
    desk: Desk, pair: dict[str, str], houses: Houses
) -> None:
    [event] = await desk.wish(pair)
    [message] = await desk.house.transport.receive(QUEUE, 1, 0)
    other = desk.worker(house=await houses())
    await other.work_once(QUEUE)
    await desk.worker()._work(Subscriber(QUEUE, (), to_wish), [message])
    assert message.event.id == event.id
    assert await received(desk, pair) == 1
    counted = await desk.owner.fetchval("SELECT sum(messages) FROM events.consumed")
    assert counted == 1


async def test_an_event_that_leads_to_nothing_is_done(desk: Desk, pair: dict[str, str]) -> None:
    await desk.wish(pair)
    await desk.worker(react=lambda event: None).work_once(QUEUE)
    assert (await desk.left(), await received(desk, pair)) == (0, 0)


async def test_a_refusal_by_a_rule_ends_the_message(desk: Desk, pair: dict[str, str]) -> None:
    await desk.wish(pair | {"fate": "refused"}, pair)
    await desk.worker().work_once(QUEUE)
    assert (await desk.left(), await received(desk, pair)) == (0, 1)


async def test_what_is_paused_waits_without_being_counted(desk: Desk, pair: dict[str, str]) -> None:
    await desk.wish(pair | {"fate": "busy"}, pair)
    work = desk.worker(max_attempts=1)
    for _ in range(3):
        await work.work_once(QUEUE)
        assert await desk.owner.fetchval(READ) == 0
        await desk.come_back()
    assert await received(desk, pair) == 1
    assert await DeadLetters(desk.house.database).list() == []


@pytest.mark.parametrize("fate", ["bug", "bug_after_change", "divides_by_zero", "not_found"])
async def test_poison_is_buried_after_its_last_attempt_and_alone(
    desk: Desk, pair: dict[str, str], fate: str
) -> None:
    [_, poison, _] = await desk.wish(
        pair | {"amount": 1}, pair | {"fate": fate}, pair | {"amount": 2}
    )
    work = desk.worker(max_attempts=3)
    await work.work_once(QUEUE)
    assert (await received(desk, pair), await desk.left()) == (3, 1)
    await desk.come_back()
    await work.work_once(QUEUE)
    assert await desk.left() == 1
    await desk.come_back()
    await work.work_once(QUEUE)
    assert await desk.left() == 0
    [letter] = await DeadLetters(desk.house.database).list()
    assert str(poison.id) in letter["event"]
    assert letter["attempts"] == 3
    words = {"not_found": "Gone", "divides_by_zero": "DivisionByZero"}
    assert words.get(fate, "ZeroDivisionError") in letter["error"]


async def test_a_failed_message_waits_longer_each_time(desk: Desk, pair: dict[str, str]) -> None:
    await desk.wish(pair | {"fate": "bug"})
    work = desk.worker()
    waits = []
    for _ in range(5):
        await work.work_once(QUEUE)
        waits.append(
            await desk.owner.fetchval(
                "SELECT extract(epoch FROM vt - clock_timestamp())::float FROM pgmq.q_wishes"
            )
        )
        await desk.come_back()
    assert all(0.5 * 2**n - 1.5 <= wait <= 2**n for n, wait in enumerate(waits, 1)), waits


async def test_a_reaction_that_fails_is_buried_and_its_neighbours_worked(
    desk: Desk, pair: dict[str, str]
) -> None:
    await desk.wish({"source": "not an id"}, pair)
    await desk.worker(max_attempts=1).work_once(QUEUE)
    assert (await desk.left(), await received(desk, pair)) == (0, 1)
    [letter] = await DeadLetters(desk.house.database).list()
    assert "ValueError" in letter["error"]


async def test_a_retried_letter_is_worked(desk: Desk, pair: dict[str, str]) -> None:
    await desk.wish(pair)

    def broken(event: Event) -> Command:
        raise ZeroDivisionError("not mended yet")

    await desk.worker(react=broken, max_attempts=1).work_once(QUEUE)
    letters = DeadLetters(desk.house.database)
    [letter] = await letters.list()
    await letters.end(letter["id"], "retried")
    await desk.worker().work_once(QUEUE)
    assert await received(desk, pair) == 1


async def test_a_worker_that_dies_midway_leaves_its_message_to_the_next(
    desk: Desk, pair: dict[str, str], houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LEASE_S", 0)
    await desk.wish(pair)
    dying = desk.worker(house=await houses())
    async with desk.owner.transaction() as db:
        await db.execute(HOLD, UUID(pair["source"]))
        task = asyncio.create_task(dying.work_once(QUEUE))
        await somebody_waits(desk.owner)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await desk.left(), await received(desk, pair)) == (1, 0)
    await desk.worker().work_once(QUEUE)
    assert (await desk.left(), await received(desk, pair)) == (0, 1)


async def test_a_message_comes_again_when_its_effect_could_not_commit(
    desk: Desk, pair: dict[str, str], owner: Database
) -> None:
    await owner.fetch("ALTER TABLE ledger.transfers ADD CHECK (key NOT LIKE 'WISH:%') NOT VALID")
    await desk.wish(pair)
    await desk.worker().work_once(QUEUE)
    assert (await desk.left(), await received(desk, pair)) == (1, 0)
    await owner.fetch("ALTER TABLE ledger.transfers DROP CONSTRAINT transfers_key_check")
    await desk.come_back()
    await desk.worker().work_once(QUEUE)
    assert (await desk.left(), await received(desk, pair)) == (0, 1)


async def test_two_workers_share_a_queue_and_each_message_has_one_effect(
    desk: Desk, pair: dict[str, str], houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.wish(*(pair | {"amount": amount} for amount in range(1, 101)))
    subscribers = [Subscriber(QUEUE, (), to_wish, batch=7)]
    homes = [desk.house, await houses()]
    workers = [Worker(h.database, h.executor, h.transport, subscribers) for h in homes]

    async def work(one: Worker) -> None:
        while await one.work_once(QUEUE):
            pass

    await asyncio.gather(*map(work, workers))
    assert (await desk.left(), await received(desk, pair)) == (0, 5050)
    assert sum(one.done for one in workers) == 100


async def test_a_notification_wakes_a_sleeping_worker(
    desk: Desk, pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_S", 3600)
    asleep, heard = asyncio.Event(), asyncio.Event()

    def react(event: Event) -> Command:
        heard.set()
        return to_wish(event)

    class Watched(Worker):
        """Says when it has found its queue empty, and is about to sleep."""

        async def work_once(self, queue: str) -> int:
            count = await super().work_once(queue)
            if not count:
                asleep.set()
            return count

    house = desk.house
    subscribers = [Subscriber(QUEUE, (), react)]
    sleeper = Watched(house.database, house.executor, house.transport, subscribers)
    running = asyncio.create_task(sleeper.run())
    async with asyncio.timeout(PATIENCE_S):
        await asleep.wait()
        await desk.wish(pair)
        await heard.wait()
        sleeper.stop()
        await running
    assert (await desk.left(), await received(desk, pair)) == (0, 1)


async def test_a_stopped_worker_finishes_the_batch_under_way(
    desk: Desk, pair: dict[str, str]
) -> None:
    await desk.wish(pair)
    stopping = desk.worker()
    async with desk.owner.transaction() as db:
        await db.execute(HOLD, UUID(pair["source"]))
        running = asyncio.create_task(stopping.run())
        await somebody_waits(desk.owner)
        stopping.stop()
    async with asyncio.timeout(PATIENCE_S):
        await running
    assert (await desk.left(), await received(desk, pair)) == (0, 1)


async def test_chores_run_what_is_due_and_count_it(desk: Desk, pair: dict[str, str]) -> None:
    source, target = UUID(pair["source"]), UUID(pair["target"])
    due: list[Command] = [Wish(source, target, 2), Wish(source, target, 3)]

    async def chore() -> Sequence[Command]:
        return due

    work = desk.worker(chores=[chore])
    assert await work.chores_once() == 2
    assert await received(desk, pair) == 5
    due.clear()
    assert await work.chores_once() == 0


async def test_one_failing_chore_does_not_keep_the_others_from_running(
    desk: Desk, pair: dict[str, str]
) -> None:
    source, target = UUID(pair["source"]), UUID(pair["target"])

    async def chore() -> Sequence[Command]:
        return [Wish(source, target, fate="bug"), Wish(source, target, 3)]

    await desk.worker(chores=[chore]).chores_once()
    assert await received(desk, pair) == 3


BREAKS_OFF = """
CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'the batch breaks off'; END $$;
CREATE TRIGGER break_off BEFORE UPDATE ON pgmq.q_wishes FOR EACH ROW
    WHEN (new.read_ct = old.read_ct) EXECUTE FUNCTION break_off();
"""
"""A message can be read, and not be given back."""


async def test_what_failed_in_a_batch_that_broke_off_has_not_failed_in_the_next(
    desk: Desk, pair: dict[str, str]
) -> None:
    failing = True

    def react(event: Event) -> Command:
        if failing:
            raise ZeroDivisionError
        return to_wish(event)

    with traced(200) as (collector, traces):
        desk.house.executor.tracing = traces
        await desk.wish(pair, request=uuid7())
        work = desk.worker(react)
        async with desk.owner.transaction() as db:
            await db.execute(BREAKS_OFF)
        with pytest.raises(Exception, match="the batch breaks off"):
            await work.work_once(QUEUE)
        await desk.owner.fetch("DROP TRIGGER break_off ON pgmq.q_wishes")
        await desk.come_back()
        failing = False
        await work.work_once(QUEUE)
        traces.close()
    taken = [span for span in collector.spans if span.name == f"process {QUEUE}"]
    assert [span.status.code for span in taken] == [
        Status.STATUS_CODE_ERROR,
        Status.STATUS_CODE_UNSET,
    ]


async def test_each_time_that_a_message_is_put_off_has_a_span_of_its_own(
    desk: Desk, pair: dict[str, str]
) -> None:
    with traced(200) as (collector, traces):
        desk.house.executor.tracing = traces
        [event] = await desk.wish(pair | {"fate": "busy"}, request=uuid7())
        work = desk.worker()
        for _ in range(3):
            await work.work_once(QUEUE)
            await desk.come_back()
        traces.close()
    taken = [span for span in collector.spans if span.name == f"process {QUEUE}"]
    assert len(taken) == 3 == len({span.span_id for span in taken})
    assert {span.parent_span_id for span in taken} == {of_event(event.id).to_bytes(8)}


async def test_what_a_message_led_to_knows_where_it_all_began(
    desk: Desk, pair: dict[str, str]
) -> None:
    request = uuid7()
    [event] = await desk.wish(pair, request=request)
    await desk.worker().work_once(QUEUE)
    row = await desk.owner.fetchrow(
        "SELECT causation, correlation FROM events.log WHERE type = 'tests.Granted'"
    )
    assert row is not None
    assert (row["causation"], row["correlation"]) == (event.id, request)
