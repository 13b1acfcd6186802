"""What every transport has to pass: delivery at least once, in leases, acknowledged with the
effect. A new transport joins by one line in `TRANSPORTS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from playing import Houses
from strongroom.core.db import Database
from strongroom.core.events import (
    DeadLetters,
    Event,
    Message,
    PgmqTransport,
    Subscriber,
    Transport,
    bind,
    depths,
)
from strongroom.errors import NotFound
from strongroom.ids import uuid7
from strongroom.main import Strongroom

TRANSPORTS: dict[str, Callable[[Database], Transport]] = {"pgmq": PgmqTransport}

FRUIT, ALL = "fruit", "all_tests"
LONG_S = 3600
QUEUES = (
    Subscriber(FRUIT, ("tests.AppleFell", "tests.PearFell"), lambda event: None),
    Subscriber(ALL, ("tests.*",), lambda event: None),
)


def happened(type: str = "tests.AppleFell", payload: Any = None, **more: Any) -> Event:
    return Event(id=uuid7(), type=type, key=uuid7(), payload=payload or {}, seq=1, **more)


@pytest.fixture(params=TRANSPORTS)
async def make(request: pytest.FixtureRequest, owner: Database) -> Callable[[Database], Transport]:
    await bind(owner, QUEUES)
    return TRANSPORTS[request.param]


@pytest.fixture
def transport(make: Callable[[Database], Transport], house: Strongroom) -> Transport:
    return make(house.database)


@pytest.fixture
async def other(make: Callable[[Database], Transport], houses: Houses) -> Transport:
    """The same transport in another process."""
    return make((await houses()).database)


class Errand:
    """Publishes and takes on one transport, as often as a test likes."""

    def __init__(self, transport: Transport, database: Database) -> None:
        self.transport, self.database = transport, database

    async def send(self, *events: Event) -> None:
        async with self.database.transaction() as db:
            await self.transport.publish(db, events)

    async def take(self, queue: str = FRUIT, limit: int = 100, lease_s: int = 0) -> list[Message]:
        return await self.transport.receive(queue, limit, lease_s)

    async def take_one(self, queue: str = FRUIT, lease_s: int = 0) -> Message:
        [message] = await self.take(queue, lease_s=lease_s)
        return message

    async def acknowledge(self, *messages: Message, queue: str = FRUIT) -> None:
        async with self.database.transaction() as db:
            ids = [message.id for message in messages]
            await self.transport.acknowledge(db, queue, ids)


@pytest.fixture
def errand(transport: Transport, house: Strongroom) -> Errand:
    return Errand(transport, house.database)


class TestDelivery:
    """E1 and E2: what was committed, to whom it concerns."""

    async def test_an_event_reaches_every_queue_bound_to_its_type(self, errand: Errand) -> None:
        await errand.send(happened("tests.AppleFell"), happened("tests.StoneFell"))
        fruit, all_of_them = await errand.take(FRUIT), await errand.take(ALL)
        assert [m.event.type for m in fruit] == ["tests.AppleFell"]
        assert sorted(m.event.type for m in all_of_them) == ["tests.AppleFell", "tests.StoneFell"]

    async def test_an_event_nobody_hears_is_no_error(self, errand: Errand) -> None:
        await errand.send(happened("nobody.Hears"))
        assert await errand.take(FRUIT) == await errand.take(ALL) == []

    async def test_what_is_rolled_back_was_never_sent(
        self, errand: Errand, transport: Transport, house: Strongroom
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            async with house.database.transaction() as db:
                await transport.publish(db, [happened()])
                raise ZeroDivisionError
        assert await errand.take() == []

    async def test_an_event_arrives_as_it_was_sent(self, errand: Errand) -> None:
        sent = happened(
            payload={"text": 'ngân hàng 🏦 \\ " \u2028', "amount": 2**53 + 1, "none": None},
            causation=uuid7(),
            correlation=uuid7(),
        )
        await errand.send(sent)
        assert (await errand.take_one()).event == sent

    async def test_a_thousand_events_arrive_once_each_and_in_order(self, errand: Errand) -> None:
        events = [happened(payload={"number": number}) for number in range(1000)]
        await errand.send(*events)
        first, second = await errand.take(limit=600, lease_s=60), await errand.take(limit=600)
        numbers = [m.event.payload["number"] for m in first + second]
        assert numbers == list(range(1000))

    async def test_sending_nothing_is_no_error(self, errand: Errand) -> None:
        await errand.send()
        assert await errand.take() == []


class TestLeases:
    """A leased message is nobody else's, until its time is up."""

    async def test_a_leased_message_is_not_given_to_another(
        self, errand: Errand, other: Transport
    ) -> None:
        await errand.send(happened())
        await errand.take_one(lease_s=LONG_S)
        assert await other.receive(FRUIT, 10, 1) == []

    async def test_a_lease_that_ran_out_gives_the_message_to_the_next(
        self, errand: Errand, other: Transport
    ) -> None:
        await errand.send(happened())
        mine = await errand.take_one(lease_s=0)
        [theirs] = await other.receive(FRUIT, 10, LONG_S)
        assert theirs.event == mine.event

    async def test_attempts_are_counted_though_nobody_answers(self, errand: Errand) -> None:
        await errand.send(happened())
        assert [(await errand.take_one()).attempt for _ in range(3)] == [1, 2, 3]

    async def test_a_postponed_message_comes_when_its_time_has_come(
        self, errand: Errand, transport: Transport
    ) -> None:
        await errand.send(happened())
        message = await errand.take_one()
        await transport.postpone(FRUIT, [message.id], LONG_S)
        assert await errand.take() == []
        await transport.postpone(FRUIT, [message.id], 0)
        assert (await errand.take_one()).attempt == 2

    async def test_a_postponed_message_does_not_hold_up_those_behind_it(
        self, errand: Errand, transport: Transport
    ) -> None:
        await errand.send(happened(payload={"n": 1}), happened(payload={"n": 2}))
        first = (await errand.take())[0]
        await transport.postpone(FRUIT, [first.id], LONG_S)
        assert (await errand.take_one()).event.payload == {"n": 2}


class TestAcknowledging:
    """E4: gone exactly when the effect is there."""

    async def test_an_acknowledged_message_is_gone(self, errand: Errand) -> None:
        await errand.send(happened())
        await errand.acknowledge(await errand.take_one())
        assert await errand.take() == []

    async def test_it_is_gone_from_this_queue_alone(self, errand: Errand) -> None:
        await errand.send(happened())
        await errand.acknowledge(await errand.take_one())
        assert len(await errand.take(ALL)) == 1

    async def test_an_effect_that_is_rolled_back_leaves_its_message(
        self, errand: Errand, transport: Transport, house: Strongroom
    ) -> None:
        await errand.send(happened())
        message = await errand.take_one()
        with pytest.raises(ZeroDivisionError):
            async with house.database.transaction() as db:
                await transport.acknowledge(db, FRUIT, [message.id])
                raise ZeroDivisionError
        assert (await errand.take_one()).event == message.event

    async def test_acknowledging_again_counts_nothing_twice(
        self, errand: Errand, house: Strongroom
    ) -> None:
        await errand.send(happened(), happened())
        first, second = await errand.take()
        await errand.acknowledge(first)
        await errand.acknowledge(first, second)
        await errand.acknowledge()
        counted = await house.database.fetchval(
            "SELECT sum(messages) FROM events.consumed WHERE queue = $1", FRUIT
        )
        assert counted == 2


class TestStartingOver:
    """A message that was not at fault is replaced by a new one."""

    async def test_its_attempts_are_forgotten(self, errand: Errand, transport: Transport) -> None:
        await errand.send(happened())
        await errand.take_one()
        tired = await errand.take_one()
        await transport.send_again(FRUIT, tired, 0)
        fresh = await errand.take_one()
        assert (tired.attempt, fresh.attempt) == (2, 1)
        assert fresh.event == tired.event

    async def test_it_comes_after_its_delay(self, errand: Errand, transport: Transport) -> None:
        await errand.send(happened())
        await transport.send_again(FRUIT, await errand.take_one(), LONG_S)
        assert await errand.take() == []

    async def test_two_who_replace_the_same_message_make_one(
        self, errand: Errand, transport: Transport, other: Transport
    ) -> None:
        await errand.send(happened())
        message = await errand.take_one()
        await transport.send_again(FRUIT, message, 0)
        await other.send_again(FRUIT, message, 0)
        assert len(await errand.take()) == 1


class TestDeadLetters:
    """E2 and E5: what cannot be worked is kept, out of the others' way."""

    async def test_a_buried_message_is_kept_with_its_error(
        self, errand: Errand, transport: Transport, house: Strongroom
    ) -> None:
        await errand.send(happened(payload={"n": 1}), happened(payload={"n": 2}))
        await errand.take()
        bad, good = await errand.take()
        await transport.bury(FRUIT, bad, "it was 'bad' 🐛")
        assert (await errand.take_one()).event == good.event
        [letter] = await DeadLetters(house.database).list()
        assert (letter["queue"], letter["error"], letter["attempts"]) == (
            FRUIT,
            "it was 'bad' 🐛",
            2,
        )
        assert str(bad.event.id) in letter["event"]

    async def test_burying_twice_keeps_one_letter(
        self, errand: Errand, transport: Transport, other: Transport, house: Strongroom
    ) -> None:
        await errand.send(happened())
        message = await errand.take_one()
        await transport.bury(FRUIT, message, "once")
        await other.bury(FRUIT, message, "twice")
        assert len(await DeadLetters(house.database).list()) == 1

    async def test_letters_are_listed_by_queue(
        self, errand: Errand, transport: Transport, house: Strongroom
    ) -> None:
        await errand.send(happened())
        await transport.bury(FRUIT, await errand.take_one(), "fruit")
        await transport.bury(ALL, await errand.take_one(ALL), "all")
        letters = DeadLetters(house.database)
        assert [row["error"] for row in await letters.list()] == ["fruit", "all"]
        assert [row["error"] for row in await letters.list(ALL)] == ["all"]
        assert len(await letters.list(limit=1)) == 1

    async def test_a_retried_letter_comes_as_a_new_message_once(
        self, errand: Errand, transport: Transport, house: Strongroom
    ) -> None:
        await errand.send(happened())
        message = await errand.take_one()
        await transport.bury(FRUIT, message, "bad luck")
        letters = DeadLetters(house.database)
        [letter] = await letters.list()
        await letters.end(letter["id"], "retried")
        again = await errand.take_one()
        assert (again.event, again.attempt) == (message.event, 1)
        with pytest.raises(NotFound):
            await letters.end(letter["id"], "retried")
        assert await letters.list() == []
        assert len(await errand.take()) == 1

    async def test_a_discarded_letter_is_gone_for_good(
        self, errand: Errand, transport: Transport, house: Strongroom
    ) -> None:
        await errand.send(happened())
        await transport.bury(FRUIT, await errand.take_one(), "hopeless")
        letters = DeadLetters(house.database)
        [letter] = await letters.list()
        await letters.end(letter["id"], "discarded")
        assert await letters.list() == []
        assert await errand.take() == []
        with pytest.raises(NotFound):
            await letters.end(letter["id"], "retried")

    async def test_who_ends_a_letter_that_never_was_is_told_so(self, house: Strongroom) -> None:
        with pytest.raises(NotFound, match="There is no open dead letter 7"):
            await DeadLetters(house.database).end(7, "discarded")


async def test_how_much_waits_is_known(errand: Errand, house: Strongroom) -> None:
    await errand.send(happened("tests.AppleFell"), happened("tests.StoneFell"))
    waiting = {row["queue"]: row["waiting"] for row in await depths(house.database)}
    assert (waiting[FRUIT], waiting[ALL]) == (1, 2)


async def test_a_message_that_cannot_be_read_does_not_stop_the_others(
    errand: Errand, owner: Database
) -> None:
    await owner.fetch('SELECT pgmq.send($1, \'{"not": "an event"}\')', FRUIT)
    sent = happened()
    await errand.send(sent)
    assert sent in [message.event for message in await errand.take()]


async def test_binding_again_changes_nothing(errand: Errand, owner: Database) -> None:
    await errand.send(happened())
    await bind(owner, QUEUES)
    assert isinstance((await errand.take_one()).event.id, UUID)
    await errand.send(happened())
    assert len(await errand.take()) == 2
