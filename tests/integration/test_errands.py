"""Errands: performed outside of transactions, at least once; each fails alone and is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

import pytest

from playing import PATIENCE_S, People, balance
from strongroom.core.commands import Command, Errand
from strongroom.core.commands.errand import Performed
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters, Event, Subscriber, bind
from strongroom.doors.worker import Worker, worker
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from wishes import Later, Wish

QUEUE = "errands"
COME_BACK = "SELECT count(*) FROM pgmq.q_errands q, pgmq.set_vt('errands', q.msg_id, 0)"
LEFT = "SELECT count(*) FROM pgmq.q_errands"
READ = "SELECT max(read_ct) FROM pgmq.q_errands"
IN_TRANSACTION = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'"""


@dataclass(frozen=True, slots=True)
class Call(Errand):
    """A call to somebody outside."""

    number: int
    group_limit: ClassVar[int] = 4
    timeout_s: ClassVar[float] = 5.0


@dataclass(frozen=True, slots=True)
class Whisper(Errand):
    """Another kind of call, which never ends."""

    number: int
    timeout_s: ClassVar[float] = 0.01


Results = Callable[[int], Performed]


class Office:
    """A queue of errands, who performs them, and how often that was."""

    def __init__(self, house: Strongroom, owner: Database) -> None:
        self.house, self.owner = house, owner
        self.calls: list[list[int]] = []
        self.open_transactions: list[int] = []
        self.result: Results = lambda number: None

    async def perform(self, errands: Sequence[Call]) -> list[Performed]:
        self.calls.append([errand.number for errand in errands])
        self.open_transactions.append(await self.owner.fetchval(IN_TRANSACTION))
        return [self.result(errand.number) for errand in errands]

    def worker(self, **more: Any) -> Worker:
        house = self.house
        subscriber = Subscriber(QUEUE, ("tests.Asked",), self.react, lease_s=60)
        more.setdefault("performers", {Call: self.perform})
        return Worker(house.database, house.executor, house.transport, [subscriber], **more)

    def react(self, event: Event) -> Errand:
        return Call(event.payload["number"])

    async def ask(self, *numbers: int) -> list[Event]:
        events = [
            Event(id=uuid7(), type="tests.Asked", key=uuid7(), payload={"number": number})
            for number in numbers
        ]
        async with self.house.database.transaction() as db:
            await self.house.transport.publish(db, events)
        return events

    async def left(self) -> int:
        return int(await self.owner.fetchval(LEFT))


@pytest.fixture
async def office(house: Strongroom, owner: Database) -> Office:
    await bind(owner, [Subscriber(QUEUE, ("tests.Asked",), lambda event: None)])
    return Office(house, owner)


@pytest.fixture
async def pair(people: People) -> tuple[UUID, UUID]:
    ann, bob = await people(2)
    return ann, bob


async def test_errands_are_performed_in_chunks_and_outside_of_transactions(
    office: Office,
) -> None:
    await office.ask(*range(10))
    assert await office.worker().work_once(QUEUE) == 10
    assert [len(call) for call in office.calls] == [4, 4, 2]
    assert sorted(number for call in office.calls for number in call) == list(range(10))
    assert office.open_transactions == [0, 0, 0]
    assert await office.left() == 0


async def test_equal_errands_of_a_batch_are_one(office: Office) -> None:
    await office.ask(7, 7, 7)
    await office.worker().work_once(QUEUE)
    assert (office.calls, await office.left()) == ([[7]], 0)


async def test_what_comes_of_an_errand_commits_with_the_end_of_its_message(
    office: Office, pair: tuple[UUID, UUID]
) -> None:
    office.result = lambda number: Wish(*pair, amount=number)
    await office.ask(1, 2, 3)
    before = office.house.executor.groups
    await office.worker().work_once(QUEUE)
    assert office.house.executor.groups == before + 1
    assert await balance(office.house, pair[1]) == 1_000_006
    assert await office.left() == 0


async def test_an_errand_that_fails_is_retried_and_then_buried_and_its_neighbours_are_done(
    office: Office, pair: tuple[UUID, UUID]
) -> None:
    def result(number: int) -> Performed:
        return ConnectionError("nobody there") if number == 2 else Wish(*pair, amount=number)

    office.result = result
    [_, failing, _] = await office.ask(1, 2, 4)
    work = office.worker(max_attempts=2)
    await work.work_once(QUEUE)
    assert await balance(office.house, pair[1]) == 1_000_005
    assert (await office.left(), await DeadLetters(office.house.database).list()) == (1, [])
    await office.owner.fetch(COME_BACK)
    await work.work_once(QUEUE)
    assert office.calls == [[1, 2, 4], [2]]
    assert await office.left() == 0
    [letter] = await DeadLetters(office.house.database).list()
    assert str(failing.id) in letter["event"]
    assert "nobody there" in letter["error"]


async def test_an_errand_that_comes_good_at_its_second_attempt_leaves_no_letter(
    office: Office,
) -> None:
    office.result = lambda number: OSError() if len(office.calls) == 1 else None
    await office.ask(1)
    work = office.worker(max_attempts=2)
    await work.work_once(QUEUE)
    await office.owner.fetch(COME_BACK)
    await work.work_once(QUEUE)
    assert (office.calls, await office.left()) == ([[1], [1]], 0)
    assert await DeadLetters(office.house.database).list() == []


async def test_a_performer_that_raises_fails_its_whole_chunk_and_no_other(office: Office) -> None:
    async def perform(errands: Sequence[Call]) -> list[Performed]:
        office.calls.append([errand.number for errand in errands])
        if len(office.calls) == 1:
            raise ZeroDivisionError
        return [None] * len(errands)

    await office.ask(*range(8))
    await office.worker(performers={Call: perform}).work_once(QUEUE)
    assert (len(office.calls), await office.left()) == (2, 4)


async def test_an_answer_for_nobody_is_a_failure_of_all(office: Office) -> None:
    async def perform(errands: Sequence[Call]) -> list[Performed]:
        return [None]

    await office.ask(1, 2)
    await office.worker(performers={Call: perform}, max_attempts=1).work_once(QUEUE)
    letters = await DeadLetters(office.house.database).list()
    assert ["1 answers to 2 errands" in letter["error"] for letter in letters] == [True, True]


async def test_a_call_that_never_ends_is_given_up_in_time(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(errands: Sequence[Whisper]) -> list[Performed]:
        await asyncio.Event().wait()
        raise AssertionError("never")

    monkeypatch.setattr(office, "react", lambda event: Whisper(event.payload["number"]))
    await office.ask(1)
    async with asyncio.timeout(PATIENCE_S):
        work = office.worker(performers={Whisper: hang}, max_attempts=1)
        await work.work_once(QUEUE)
    [letter] = await DeadLetters(office.house.database).list()
    assert "TimeoutError" in letter["error"]


async def test_what_is_only_not_possible_now_comes_again_without_being_counted(
    office: Office,
) -> None:
    office.result = lambda number: Later()
    await office.ask(1)
    work = office.worker(max_attempts=1)
    for _ in range(3):
        await work.work_once(QUEUE)
        assert await office.owner.fetchval(READ) == 0
        await office.owner.fetch(COME_BACK)
    assert len(office.calls) == 3
    assert await DeadLetters(office.house.database).list() == []


async def test_a_performer_whose_connection_is_lost_has_not_failed(office: Office) -> None:
    async def cut(errands: Sequence[Call]) -> list[Performed]:
        async with office.house.database.transaction() as db:
            mine = await db.fetchval("SELECT pg_backend_pid()")
            await office.owner.fetch("SELECT pg_terminate_backend($1, 10000)", mine)
            await db.fetch("SELECT 1")
        return [None for _ in errands]

    await office.ask(1)
    await office.worker(max_attempts=1, performers={Call: cut}).work_once(QUEUE)
    assert await DeadLetters(office.house.database).list() == []
    await office.owner.fetch(COME_BACK)
    await office.worker().work_once(QUEUE)
    assert (office.calls, await office.left()) == ([[1]], 0)


async def test_nothing_is_called_when_the_lease_has_run_out(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SPARE_S", 60)
    await office.ask(1)
    await office.worker(max_attempts=1).work_once(QUEUE)
    assert (office.calls, await office.left()) == ([], 1)
    monkeypatch.undo()
    await office.worker(max_attempts=1).work_once(QUEUE)
    assert (office.calls, await office.left()) == ([[1]], 0)


async def test_a_worker_that_dies_during_a_call_leaves_the_errand_to_the_next(
    office: Office, pair: tuple[UUID, UUID]
) -> None:
    called = asyncio.Event()

    async def hang(errands: Sequence[Call]) -> list[Performed]:
        called.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    await office.ask(5)
    dying = asyncio.create_task(office.worker(performers={Call: hang}).work_once(QUEUE))
    async with asyncio.timeout(PATIENCE_S):
        await called.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await office.left() == 1
    office.result = lambda number: Wish(*pair, amount=number)
    await office.owner.fetch(COME_BACK)
    await office.worker().work_once(QUEUE)
    assert (await balance(office.house, pair[1]), await office.left()) == (1_000_005, 0)


async def test_messages_of_errands_are_leased_for_as_long_as_their_subscriber_says(
    office: Office,
) -> None:
    waits = "SELECT extract(epoch FROM vt - clock_timestamp())::float FROM pgmq.q_errands"
    seen = []

    async def perform(errands: Sequence[Call]) -> list[Performed]:
        seen.append(await office.owner.fetchval(waits))
        return [None]

    await office.ask(1)
    await office.worker(performers={Call: perform}).work_once(QUEUE)
    assert 50 < seen[0] <= 60


async def test_chores_lead_to_errands_and_these_to_commands(
    office: Office, pair: tuple[UUID, UUID]
) -> None:
    async def chore() -> Sequence[Command | Errand]:
        return [Call(1), Call(2), Wish(*pair, amount=10)]

    def result(number: int) -> Performed:
        return OSError() if number == 1 else Wish(*pair, amount=number)

    office.result = result
    assert await office.worker(chores=[chore]).chores_once() == 3
    assert await balance(office.house, pair[1]) == 1_000_012
