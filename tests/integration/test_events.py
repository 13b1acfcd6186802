"""The event log: there exactly when its change is, numbered, and read without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from playing import PATIENCE_S, Houses, People, outcome_of, ticket
from strongroom.apps.wallets import Deposit
from strongroom.core.db import Connection, Database, Record
from strongroom.core.events import Event, Outbox, Position, Tail
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from wishes import Granted, Wish

EVENTS_OF = "SELECT seq, type, causation, correlation FROM events.log WHERE key = $1 ORDER BY seq"
COUNT = "SELECT count(*) FROM events.log WHERE type = 'tests.Granted'"


async def nobody(db: Connection, events: Sequence[Event]) -> None:
    """Publishes to nobody."""


async def log(db: Connection, *names: str) -> None:
    outbox = Outbox(nobody)
    for name in names:
        event = Event(id=uuid7(), type="tests.Named", key=uuid7(), payload={"name": name})
        outbox.add(event, first=True)
    await outbox.write(db)


async def named(tail: Tail, after: Position, count: int) -> tuple[list[str], Position]:
    """The names of the next `count` events, waiting for those that cannot be read yet: any
    transaction on the server holds the tail back."""
    names: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(names) < count:
            rows, after = await tail.read(after)
            names += _names(rows)
    return names, after


def _names(rows: list[Record]) -> list[str]:
    return [row["payload"].split('"')[3] for row in rows if row["type"] == "tests.Named"]


async def test_the_events_of_a_key_count_from_one_without_a_gap(
    house: Strongroom, people: People, owner: Database
) -> None:
    [ann] = await people(1, funds=0)
    await asyncio.gather(*(house.run(Deposit(ann, 1)) for _ in range(5)))
    await house.run(Deposit(ann, 1))
    assert [row["seq"] for row in await owner.fetch(EVENTS_OF, ann)] == [1, 2, 3, 4, 5, 6]


async def test_two_processes_number_the_events_of_a_key_in_one_row(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    [ann] = await people(1, funds=0)
    both = house, await houses()
    for _ in range(5):
        await asyncio.gather(*(one.run(Deposit(ann, 1)) for one in both for _ in range(4)))
    assert [row["seq"] for row in await owner.fetch(EVENTS_OF, ann)] == [*range(1, 41)]


async def test_an_event_knows_what_led_to_it(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    cause, request = uuid7(), uuid7()
    done = await outcome_of(house, ticket(Wish(ann, bob), "k", cause=cause, request=request))
    assert isinstance(done.reply, Granted)
    [row] = await owner.fetch(EVENTS_OF, done.reply.transfer_id)
    assert (row["causation"], row["correlation"]) == (cause, request)


async def test_events_of_one_group_keep_their_own_causes(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    tickets = [ticket(Wish(ann, bob), f"k{i}", request=uuid7()) for i in range(3)]
    await house.executor.run(tickets)
    for one in tickets:
        reply = (await one.future).reply
        assert isinstance(reply, Granted)
        [row] = await owner.fetch(EVENTS_OF, reply.transfer_id)
        assert row["correlation"] == one.request


async def test_only_what_was_committed_has_events(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    fates = ["fine", "refused", "invalid", "bug_after_change", "divides_by_zero", "fine"]
    tickets = [ticket(Wish(ann, bob, fate=fate), fate + str(i)) for i, fate in enumerate(fates)]
    await house.executor.run(tickets)
    assert sum(one.future.exception() is not None for one in tickets) == 2
    assert await owner.fetchval(COUNT) == 2


async def test_a_replay_says_nothing_again(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    for _ in range(3):
        await house.run(Wish(ann, bob), key="k")
    assert await owner.fetchval(COUNT) == 1


async def test_the_tail_never_skips_a_late_commit(owner: Database) -> None:
    tail = Tail(owner)
    async with owner.transaction() as early:
        await log(early, "early")
        async with owner.transaction() as late:
            await log(late, "late")
        rows, after = await tail.read(Position())
        assert _names(rows) == []
    names, _ = await named(tail, after, 2)
    assert names == ["early", "late"]


async def test_the_tail_goes_on_where_it_stopped(owner: Database) -> None:
    tail = Tail(owner)
    async with owner.transaction() as db:
        await log(db, "a", "b", "c")
    names, after = await named(tail, Position(), 3)
    async with owner.transaction() as db:
        await log(db, "d")
    more, after = await named(tail, after, 1)
    assert (names, more) == (["a", "b", "c"], ["d"])
    assert await tail.read(after) == ([], after)


async def test_the_tail_reads_in_pages(owner: Database) -> None:
    tail = Tail(owner)
    async with owner.transaction() as db:
        await log(db, *"abcde")
    await named(tail, Position(), 5)
    after, pages = Position(), []
    while True:
        rows, after = await tail.read(after, limit=2)
        if not rows:
            break
        pages.append("".join(_names(rows)))
    assert pages == ["ab", "cd", "e"]


async def test_what_was_rolled_back_leaves_no_hole_in_the_tail(owner: Database) -> None:
    tail = Tail(owner)
    try:
        async with owner.transaction() as db:
            await log(db, "never")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    async with owner.transaction() as db:
        await log(db, "kept")
    assert (await named(tail, Position(), 1))[0] == ["kept"]


async def test_a_key_that_two_groups_write_at_once_is_numbered_once(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    users = await people(8, funds=0)
    both = house, await houses()
    await asyncio.gather(*(one.run(Deposit(user, 1)) for user in users for one in both))
    gaps = await owner.fetch(
        "SELECT key FROM events.log GROUP BY key HAVING max(seq) <> count(*) OR min(seq) <> 1"
    )
    assert gaps == []
    assert all(isinstance(user, UUID) for user in users)
