"""Lanes: groups that form by themselves, admission, giving up, draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from playing import PATIENCE_S, Houses, People, balance, codes_of, somebody_waits, ticket
from strongroom.clock import monotonic
from strongroom.core.commands import Lanes, lanes
from strongroom.core.commands.command import Draining, Overloaded, RequestInProgress
from strongroom.core.db import Database
from strongroom.main import Strongroom
from wishes import Wish

HOLD = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'wallet' FOR UPDATE"
HOLD_ALL = "LOCK TABLE ledger.accounts IN EXCLUSIVE MODE"
HOLD_KEY = "SELECT pg_advisory_xact_lock($1)"
TRANSFERS = "SELECT count(*) FROM ledger.transfers WHERE key LIKE 'WISH:%'"


@asynccontextmanager
async def held(owner: Database, user: UUID) -> AsyncIterator[None]:
    """Holds a wallet, so that who needs it waits."""
    async with owner.transaction() as db:
        await db.execute(HOLD, user)
        yield


def soon(began: float, more_s: float = 0.1) -> float:
    """A deadline short enough to wait for, and longer than a group takes that began then."""
    now = monotonic()
    return now + 2 * (now - began) + more_s


async def test_five_hundred_at_once_commit_in_a_few_groups(
    house: Strongroom, people: People
) -> None:
    users = await people(50)
    before = house.executor.groups
    wishes = [Wish(users[i % 50], users[(i + 7) % 50]) for i in range(500)]
    await asyncio.gather(*(house.run(wish) for wish in wishes))
    assert house.executor.groups - before <= 5


async def test_who_comes_alone_does_not_wait_for_others(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    before = house.executor.groups
    await house.run(Wish(ann, bob))
    assert house.executor.groups == before + 1


async def test_a_group_is_at_most_as_large_as_its_limit(
    houses: Houses, house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    small = await houses(group_limit=10)
    await asyncio.gather(*(small.run(Wish(ann, bob)) for _ in range(100)))
    assert small.executor.groups >= 10


async def test_a_caller_who_gives_up_leaves_the_command_to_its_group(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    async with held(owner, ann):
        impatient = asyncio.create_task(house.run(Wish(ann, bob, 5), key="k"))
        await somebody_waits(owner)
        neighbour = asyncio.create_task(house.run(Wish(ann, bob, 7)))
        await asyncio.sleep(0)
        impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await neighbour
    assert await balance(house, ann) == 1_000_000 - 12
    again = await house.run(Wish(ann, bob, 5), key="k")
    assert again.left == 1_000_000 - 5


async def test_a_deadline_that_has_passed_is_overloaded_before_any_database_work(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    before = house.executor.groups
    late = ticket(Wish(ann, bob), "k", deadline=monotonic() - 1)
    with pytest.raises(Overloaded):
        await house.lanes.run(late)
    assert house.executor.groups == before
    assert await owner.fetchval(TRANSFERS) == 0


async def test_who_waited_past_the_deadline_is_told_so_and_nothing_is_done(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    began = monotonic()
    async with held(owner, ann):
        first = asyncio.create_task(house.run(Wish(ann, bob)))
        await somebody_waits(owner)
        late = ticket(Wish(ann, bob), "late", deadline=soon(began))
        waiting = asyncio.create_task(house.lanes.run(late))
        await asyncio.sleep(0)
        while monotonic() <= late.deadline:
            await asyncio.sleep(0)
    await first
    assert isinstance((await waiting).error, Overloaded)
    assert await owner.fetchval(TRANSFERS) == 1


async def test_who_waits_is_told_at_the_deadline_though_the_database_stands_still(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    async with owner.transaction() as db:
        await db.execute(HOLD_ALL)
        began = monotonic()
        first = asyncio.create_task(house.lanes.run(ticket(Wish(ann, bob), "first")))
        await somebody_waits(owner)
        # Who came later may have less patience; all are told while nothing moves.
        late = [
            asyncio.create_task(
                house.lanes.run(ticket(Wish(ann, bob), f"k{i}", deadline=soon(began, more_s)))
            )
            for i, more_s in enumerate((0.3, 0.1, *([0.2] * 50)))
        ]
        answers = await asyncio.wait_for(asyncio.gather(*late), PATIENCE_S)
        assert not first.done()
    assert {type(answer.error) for answer in answers} == {Overloaded}
    assert (await first).stored
    assert await owner.fetchval(TRANSFERS) == 1


async def test_who_waits_for_ever_is_not_told_that_it_was_too_long(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    began = monotonic()
    async with held(owner, ann):
        first = asyncio.create_task(house.lanes.run(ticket(Wish(ann, bob), "first")))
        await somebody_waits(owner)
        patient = asyncio.create_task(house.lanes.run(ticket(Wish(ann, bob), "patient")))
        late = ticket(Wish(ann, bob), "late", deadline=soon(began))
        assert isinstance((await house.lanes.run(late)).error, Overloaded)
    assert (await first).stored
    assert (await patient).stored


async def test_a_group_that_takes_too_long_turns_newcomers_away_before_it_ends(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    hurried = await houses(write_deadline_ms=50)
    await hurried.run(Wish(ann, bob))  # the group before it was quick
    async with held(owner, ann):
        slow = asyncio.create_task(hurried.run(Wish(ann, bob)))
        await somebody_waits(owner)
        await owner.fetch("SELECT pg_sleep(0.1)")
        # Not even one turn of the event loop: it is refused before it waits for anything.
        with pytest.raises(Overloaded):
            hurried.run(Wish(ann, bob)).send(None)
        assert not slow.done()
    await slow


async def test_while_nobody_is_served_one_tries_for_all_and_newcomers_are_turned_away(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    run, patience = house.lanes.run, monotonic() + PATIENCE_S
    async with owner.transaction() as db:
        await db.execute(HOLD_ALL)
        first = asyncio.create_task(run(ticket(Wish(ann, bob), "first", deadline=monotonic() + 1)))
        await somebody_waits(owner)
        others = [
            asyncio.create_task(run(ticket(Wish(ann, bob), f"k{i}", deadline=patience)))
            for i in range(20)
        ]
        assert isinstance((await first).error, Overloaded)  # a lock is not waited for any longer
        await somebody_waits(owner)
        with pytest.raises(Overloaded):
            run(ticket(Wish(ann, bob), "new", deadline=monotonic() + 1)).send(None)
        groups, commands = house.executor.groups, house.executor.commands
    assert all(answer.stored for answer in await asyncio.gather(*others))
    assert house.executor.groups - groups == 2
    assert house.executor.commands - commands == 20
    assert (await run(ticket(Wish(ann, bob), "after"))).stored


async def test_a_lane_that_is_stopped_tells_those_whose_group_has_not_begun(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    mine = Lanes(house.executor)
    async with held(owner, ann):
        stuck = asyncio.create_task(mine.run(ticket(Wish(ann, bob), "stuck")))
        await somebody_waits(owner)
        behind = asyncio.create_task(mine.run(ticket(Wish(ann, bob), "behind")))
        await asyncio.sleep(0)
        assert not await mine.drain(0.01)
        told = await asyncio.wait_for(behind, PATIENCE_S)
        assert isinstance(told.error, Draining)
        stuck.cancel()


async def test_a_full_queue_turns_away_at_once(
    house: Strongroom, people: People, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "QUEUE_LIMIT", 5)
    ann, bob = await people(2)
    async with held(owner, ann):
        first = asyncio.create_task(house.run(Wish(ann, bob)))
        await somebody_waits(owner)
        calls = asyncio.gather(
            *(house.run(Wish(ann, bob)) for _ in range(8)), return_exceptions=True
        )
        await asyncio.sleep(0)
        one_too_many = asyncio.create_task(house.run(Wish(ann, bob)))
        await asyncio.sleep(0)
        assert one_too_many.done()
        assert isinstance(one_too_many.exception(), Overloaded)
    await first
    answers = await calls
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 3
    assert await owner.fetchval(TRANSFERS) == 6


async def test_who_is_turned_away_by_an_operator_s_pace_is_counted_as_such(
    house: Strongroom, people: People
) -> None:
    """Also where nobody has read what they ask: the queue is not full."""
    ann, bob = await people(2)
    await house.run(Wish(ann, bob))
    house.admission.change(frozenset(), {"Wish": 1})
    await house.run(Wish(ann, bob))
    assert house.lanes.full(Wish, 1.0)
    with pytest.raises(Overloaded):
        await house.run(Wish(ann, bob))
    assert house.lanes.by_command[Wish].rejected == {"limit": 2}


async def test_what_is_turned_away_leaves_its_key_free(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    with pytest.raises(Overloaded):
        await house.lanes.run(ticket(Wish(ann, bob), "k", deadline=monotonic() - 1))
    outcome = await house.lanes.run(ticket(Wish(ann, bob), "k"))
    assert outcome.reply and not outcome.replayed


async def test_a_lane_that_was_slow_once_takes_commands_again(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    hurried = await houses(write_deadline_ms=50)
    async with held(owner, ann):
        slow = asyncio.create_task(hurried.run(Wish(ann, bob)))
        await somebody_waits(owner)
        await owner.fetch("SELECT pg_sleep(0.5)")
    await slow
    assert (await hurried.run(Wish(ann, bob))).left == 1_000_000 - 2


async def test_draining_finishes_what_was_accepted_and_takes_nothing_more(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    async with held(owner, ann):
        accepted = [asyncio.create_task(house.run(Wish(ann, bob))) for _ in range(3)]
        await somebody_waits(owner)
        accepted += [asyncio.create_task(house.run(Wish(ann, bob))) for _ in range(3)]
        await asyncio.sleep(0)
        draining = asyncio.create_task(house.lanes.drain(PATIENCE_S))
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await house.run(Wish(ann, bob))
    assert await draining
    assert len(await asyncio.gather(*accepted)) == 6
    assert await owner.fetchval(TRANSFERS) == 6


async def test_draining_says_when_time_ran_out(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    mine = Lanes(house.executor)
    async with held(owner, ann):
        stuck = asyncio.create_task(mine.run(ticket(Wish(ann, bob), "k")))
        await somebody_waits(owner)
        assert not await mine.drain(0.01)
        stuck.cancel()


async def test_draining_waits_for_those_whose_key_is_still_worked_on_elsewhere(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    asked = ticket(Wish(ann, bob), "k", deadline=monotonic() + 0.2)
    assert asked.id is not None
    lock = asked.id.int >> 64 & 0x7FFF_FFFF_FFFF_FFFF ^ asked.id.int & 0xFFFF_FFFF
    async with owner.transaction() as db:
        await db.execute(HOLD_KEY, lock)
        waiting = asyncio.create_task(house.lanes.run(asked))
        before = house.executor.groups
        while house.executor.groups == before:
            await asyncio.sleep(0)
        assert await house.lanes.drain(PATIENCE_S)
        assert asked.done
    assert isinstance((await waiting).error, RequestInProgress)


async def test_different_commands_do_not_wait_for_each_other(
    house: Strongroom, people: People, owner: Database
) -> None:
    from strongroom.apps.wallets import Transfer

    ann, bob, cem, dao = await people(4)
    async with held(owner, ann):
        slow = asyncio.create_task(house.run(Wish(ann, bob)))
        await somebody_waits(owner)
        await house.run(Transfer(cem, dao, 1))
    await slow


async def test_many_refusals_and_successes_of_one_gather_each_get_their_own(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    found = await codes_of([house.run(Wish(ann, bob, 10)) for _ in range(25)])
    assert sorted(map(str, found)) == ["None"] * 10 + ["insufficient_funds"] * 15
