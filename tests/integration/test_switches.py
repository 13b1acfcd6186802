"""Switches and limits that operators turn while everything runs: what they stop, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from playing import PATIENCE_S, Houses, People, bet, code_of, drained, new_round
from strongroom.apps.betting import PlaceBet
from strongroom.apps.wallets import Deposit, Withdraw
from strongroom.core.audit.limits import CHANNEL, Limits, SetLimit, Value, changed_limits
from strongroom.core.audit.queues import (
    EndDeadLetters,
    PauseQueue,
    QueueStanding,
    ResumeQueue,
    queue_standings,
)
from strongroom.core.commands.admission import Admission, LaneClosed
from strongroom.core.commands.command import Overloaded
from strongroom.core.db import Database
from strongroom.core.db.database import Listener
from strongroom.core.events import DeadLetters, depths
from strongroom.core.guard import RateLimited, RateLimits
from strongroom.doors.http.quotas import Headers, Quota
from strongroom.doors.worker import worker_of
from strongroom.ids import uuid7
from strongroom.main import SUBSCRIBERS, Strongroom

QUEUE = "betting_match"

LATER = 3600.0


async def queue_of(house: Strongroom, name: str = QUEUE) -> QueueStanding:
    return next(one for one in await queue_standings(house.database) if one.queue == name)


async def eventually(holds: Any) -> None:
    """Asks until it holds, without a pause of its own but what the database takes."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            pass


# Queues -----------------------------------------------------------------------------------------


async def test_a_paused_queue_is_not_received_from_and_what_waits_is_not_counted(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    round_id = await new_round(house)
    await house.run(PauseQueue(QUEUE, "a look"))
    await bet(house, round_id, ann, "A", 100)
    await bet(house, round_id, bob, "B", 100)
    worker = worker_of(house)
    for _ in range(12):
        assert await worker.work_once(QUEUE) == 0
    found = await queue_of(house)
    assert (found.waiting, found.leased, found.stalled, found.dead) == (2, 0, 0, 0)
    assert found.paused and found.reason == "a look"


async def test_a_resumed_queue_loses_nothing(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    round_id = await new_round(house)
    await house.run(PauseQueue(QUEUE, "a look"))
    await bet(house, round_id, ann, "A", 100)
    await bet(house, round_id, bob, "B", 100)
    assert await worker_of(house).work_once(QUEUE) == 0
    await house.run(ResumeQueue(QUEUE, "looked"))
    await drained(house)
    assert (await house.betting.round(round_id)).matched == 100
    assert (await house.reconcile()).clean


async def test_only_the_queue_that_was_named_is_paused(house: Strongroom) -> None:
    await house.run(PauseQueue(QUEUE, "a look"))
    paused = {one["queue"] for one in await depths(house.database) if one["paused"]}
    assert paused == {QUEUE}


@pytest.mark.parametrize("queue", [one.queue for one in SUBSCRIBERS])
async def test_every_queue_can_be_paused(house: Strongroom, owner: Database, queue: str) -> None:
    await owner.fetch(f"SELECT pgmq.send('{queue}', '{{}}'::jsonb)")
    await house.run(PauseQueue(queue, "a look"))
    assert await house.transport.receive(queue, 10, 1) == []
    await house.run(ResumeQueue(queue, "looked"))
    await house.transport.receive(queue, 10, 1)
    # It is no event, so it is buried: it was received.
    assert (await queue_of(house, queue)).dead == 1


async def test_a_worker_hears_of_a_resume_at_once(
    house: Strongroom, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.doors.worker.worker.IDLE_S", LATER)
    ann, bob = await people(2)
    round_id = await new_round(house)
    await house.run(PauseQueue(QUEUE, "a look"))
    worker = worker_of(house)
    running = asyncio.create_task(worker.run())
    try:
        await bet(house, round_id, ann, "A", 100)
        await bet(house, round_id, bob, "B", 100)
        await house.run(ResumeQueue(QUEUE, "looked"))

        async def matched() -> bool:
            return (await house.betting.round(round_id)).matched == 100

        await eventually(matched)
    finally:
        worker.stop()
        await running


async def test_switches_of_queues_leave_payouts_alone(house: Strongroom, people: People) -> None:
    (ann,) = await people(1)
    await house.run(PauseQueue("betting_settle", "a look"))
    assert (await house.run(Withdraw(ann, 10))).balance == 999_990


async def test_a_queue_that_is_not_there_cannot_be_paused(house: Strongroom) -> None:
    assert await code_of(house.run(PauseQueue("payouts", "why"))) == "not_found"


# Dead letters -----------------------------------------------------------------------------------

BURIED = """
INSERT INTO events.dead_letters (queue, event, error, attempts, died_at)
SELECT $1, event, $2, 8, $3 FROM (
    SELECT jsonb_build_object('id', id, 'type', type, 'key', key, 'seq', seq, 'payload', payload,
        'causation', causation, 'correlation', correlation) AS event
    FROM events.log WHERE type = $4 LIMIT 1
) one
"""

THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def dead(house: Strongroom, owner: Database, people: People) -> Strongroom:
    """Three dead letters: two queues, two errors, two days."""
    (ann,) = await people(1)
    await bet(house, await new_round(house), ann, "A", 100)
    type = "betting.BetPlaced"
    await owner.fetch(BURIED, QUEUE, "TimeoutError('slow')", THEN, type)
    await owner.fetch(BURIED, QUEUE, "KeyError('x')", THEN + timedelta(days=1), type)
    await owner.fetch(BURIED, "betting_refund", "TimeoutError('slow')", THEN, type)
    return house


async def left(house: Strongroom) -> int:
    return len(await DeadLetters(house.database).list())


@pytest.mark.parametrize(
    ("meant", "count"),
    [
        ({}, 3),
        ({"queue": QUEUE}, 2),
        ({"type": "betting.BetPlaced"}, 3),
        ({"type": "betting.RoundClosed"}, 0),
        ({"before": THEN + timedelta(hours=1)}, 2),
        ({"error_like": "timeout"}, 2),
        ({"error_like": "%"}, 0),
        ({"limit": 1}, 1),
        ({"queue": QUEUE, "error_like": "key"}, 1),
    ],
)
async def test_dead_letters_are_retried_by_filter(
    dead: Strongroom, meant: dict[str, Any], count: int
) -> None:
    before = (await queue_of(dead)).waiting + (await queue_of(dead, "betting_refund")).waiting
    done = await dead.run(EndDeadLetters("retried", **meant))
    after = (await queue_of(dead)).waiting + (await queue_of(dead, "betting_refund")).waiting
    assert (done.count, after - before, await left(dead)) == (count, count, 3 - count)


async def test_letters_of_a_queue_that_is_none_are_no_letters_at_all(dead: Strongroom) -> None:
    for ending in ("retried", "discarded"):
        meant = EndDeadLetters(ending, queue="betting_macht")  # type: ignore[arg-type]
        assert await code_of(dead.run(meant)) == "not_found"
    assert (await dead.run(EndDeadLetters("retried", queue="ticketing_mail"))).count == 0


async def test_discarded_letters_go_to_no_queue(dead: Strongroom) -> None:
    before = (await queue_of(dead)).waiting
    assert (await dead.run(EndDeadLetters("discarded", queue=QUEUE))).count == 2
    assert ((await queue_of(dead)).waiting, await left(dead)) == (before, 1)


async def test_two_operators_retry_each_letter_once(dead: Strongroom, houses: Houses) -> None:
    other = await houses()
    done = await asyncio.gather(
        *(house.run(EndDeadLetters("retried")) for house in (dead, other) for _ in range(3))
    )
    assert sum(one.count for one in done) == 3
    assert await left(dead) == 0


# Limits -----------------------------------------------------------------------------------------


async def adopted(house: Strongroom, name: str, value: Value | None) -> None:
    await house.run(SetLimit(name, value, "a trial"))
    await house.limits.look_once()


async def test_a_closed_lane_takes_nothing_and_an_open_one_all(
    house: Strongroom, people: People
) -> None:
    (ann,) = await people(1)
    round_id = await new_round(house)
    await adopted(house, "lane.PlaceBet.open", False)
    assert await code_of(house.run(PlaceBet(ann, round_id, "A", 5))) == "lane_closed"
    assert (await house.run(Deposit(ann, 5))).balance == 1_000_005
    await adopted(house, "lane.PlaceBet.open", True)
    assert (await house.run(PlaceBet(ann, round_id, "A", 5))).status == "PENDING"


async def test_a_closed_lane_lets_workers_go_on(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    round_id = await new_round(house)
    await bet(house, round_id, ann, "A", 100)
    await bet(house, round_id, bob, "B", 100)
    await adopted(house, "lane.MatchRound.open", False)
    await drained(house)
    assert (await house.betting.round(round_id)).matched == 100


def test_a_pace_lets_so_many_through_a_second() -> None:
    at = [0.0]
    admission = Admission(clock=lambda: at[0])
    admission.change(frozenset(), {"Deposit": 3})
    for moment in (0.0, 5.0):
        at[0] = moment
        assert not admission.spent(Deposit)
        for _ in range(3):
            admission.admit(Deposit)
        assert admission.spent(Deposit)
        with pytest.raises(Overloaded):
            admission.admit(Deposit)
    at[0] = 5.34
    admission.admit(Deposit)
    with pytest.raises(Overloaded):
        admission.admit(Deposit)


def test_a_pace_that_stays_the_same_is_not_begun_anew() -> None:
    admission = Admission(clock=lambda: 0.0)
    admission.change(frozenset(), {"Deposit": 1})
    admission.admit(Deposit)
    admission.change(frozenset({"PlaceBet"}), {"Deposit": 1})
    with pytest.raises(Overloaded):
        admission.admit(Deposit)
    with pytest.raises(LaneClosed):
        admission.admit(PlaceBet)


async def test_the_deadline_of_writes_is_changed_and_put_back(house: Strongroom) -> None:
    configured = house.settings.write_deadline_ms
    await adopted(house, "writes.deadline_ms", 777)
    assert house.settings.write_deadline_ms == 777
    await adopted(house, "writes.deadline_ms", None)
    assert house.settings.write_deadline_ms == configured


async def test_every_process_hears_of_a_change_and_a_new_one_begins_with_it(
    house: Strongroom, houses: Houses
) -> None:
    other = await houses()
    await house.run(SetLimit("writes.deadline_ms", 777, "a trial"))

    async def heard() -> bool:
        await asyncio.sleep(0)
        return other.settings.write_deadline_ms == 777

    await eventually(heard)
    assert (await houses()).settings.write_deadline_ms == 777


async def test_a_process_that_cannot_read_keeps_what_it_knew(
    house: Strongroom, owner: Database
) -> None:
    await adopted(house, "writes.deadline_ms", 777)
    await owner.fetch("ALTER TABLE audit.limits RENAME TO lost")
    assert not await house.limits.look_once()
    assert house.settings.write_deadline_ms == 777
    await owner.fetch("ALTER TABLE audit.lost RENAME TO limits")
    assert await house.limits.look_once()


async def test_a_limit_that_does_not_fit_is_left_out_and_the_others_hold(
    house: Strongroom, houses: Houses, owner: Database
) -> None:
    """Another release has left it, or somebody's hand."""
    by_hand = {
        "writes.deadline_ms": '"soon"',
        "rate.global": "[]",
        "rate.orders": "null",
        "lane.PlaceBet.per_s": "1.5",
        "lane.PlaceBet.open": '{"open": false}',
    }
    for name, value in by_hand.items():
        await owner.fetch(
            "INSERT INTO audit.limits (name, value, since, by_whom, reason)"
            " VALUES ($1, $2, now(), 'user:ann', 'by hand')",
            name,
            value,
        )
    configured = house.settings.write_deadline_ms
    for one in (house, await houses()):
        await adopted(one, "lane.Deposit.open", False)
        assert await code_of(one.run(Deposit(uuid7(), 5))) == "lane_closed"
        assert one.settings.write_deadline_ms == configured
        await adopted(one, "lane.Deposit.open", True)
    await adopted(house, "writes.deadline_ms", 777)
    assert house.settings.write_deadline_ms == 777
    for name in by_hand:
        await adopted(house, name, None)
    left = await changed_limits(house.database)
    assert [one.name for one in left if one.value is not None] == ["lane.Deposit.open"]


async def test_a_change_that_was_not_heard_is_found(
    house: Strongroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.core.audit.limits.CHANNEL", "nobody_speaks_here")
    found: list[dict[str, Value]] = []
    limits = Limits(house.audit, lambda known: found.append(dict(known)))
    await limits.start()
    await house.run(SetLimit("writes.deadline_ms", 777, "a trial"))

    async def known() -> bool:
        await asyncio.sleep(0)
        return found == [{"writes.deadline_ms": 777}]

    await eventually(known)
    await limits.stop()


class Overheard(Database):
    """What its listeners are told can be told them from here, at a moment of our choice."""

    async def listen(self, channels: list[str], heard: Callable[[str, str], None]) -> Listener:
        self.heard = heard
        return await super().listen(channels, heard)


@pytest.mark.parametrize("turns", range(4))
async def test_limits_that_change_as_a_process_stops_do_not_hold_it_up(
    database_url: str, turns: int
) -> None:
    async with Overheard(database_url) as database:
        limits = Limits(database, lambda known: None)
        await limits.start()
        for _ in range(4):
            await asyncio.sleep(0)  # by now it waits for a change
        database.heard(CHANNEL, "")
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            await limits.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate.global", "many"),
        ("rate.global", 5),
        ("writes.deadline_ms", 49),
        ("writes.deadline_ms", True),
        ("writes.deadline_ms", "500"),
        ("lane.PlaceBet.open", 1),
        ("lane.PlaceBet.per_s", 0),
        ("lane.PlaceBet.per_s", True),
    ],
)
async def test_what_does_not_fit_a_limit_is_invalid(
    house: Strongroom, name: str, value: Value
) -> None:
    assert await code_of(house.run(SetLimit(name, value, "why"))) == "invalid"
    assert await changed_limits(house.database) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate.auth", "5/minute"),
        ("rate.global%00", "5/minute"),
        ("lane.NoSuchCommand.open", False),
        ("lane.PausePayouts.open", False),
        ("lane.ReceiveCallback.open", False),
        ("lane.SetLimit.per_s", 1),
        ("", 1),
    ],
)
async def test_what_is_no_limit_can_neither_be_set_nor_put_back(
    house: Strongroom, name: str, value: Value
) -> None:
    for one in (value, None):
        assert await code_of(house.run(SetLimit(name, one, "why"))) == "not_found"
    assert await changed_limits(house.database) == []


async def test_the_limit_of_a_command_that_is_gone_can_be_put_back(
    house: Strongroom, owner: Database
) -> None:
    await owner.fetch(
        "INSERT INTO audit.limits (name, value, since, by_whom, reason)"
        " VALUES ('lane.Former.per_s', '5', now(), 'user:ann', 'a release ago')"
    )
    await house.run(SetLimit("lane.Former.per_s", None, "nobody needs it"))
    assert await changed_limits(house.database) == []


# Rates ------------------------------------------------------------------------------------------


def test_a_lower_rate_counts_who_asked_before() -> None:
    at = [0.0]
    limits = RateLimits({"global": "5/minute"}, clock=lambda: at[0])
    for _ in range(4):
        limits.check(["global"], "ann")
        at[0] += 10
    limits.change("global", "2/minute")
    with pytest.raises(RateLimited) as refused:
        limits.check(["global"], "ann")
    # Of 0, 10, 20 and 30 three have to be over before another fits.
    assert refused.value.retry_after_s == 40
    at[0] = 80
    limits.check(["global"], "ann")


def test_a_higher_rate_lets_more_through_at_once() -> None:
    limits = RateLimits({"global": "1/minute"}, clock=lambda: 0.0)
    limits.check(["global"], "ann")
    limits.change("global", "3/minute")
    assert [one.remaining for one in limits.check(["global"], "ann")] == [1]


def test_the_headers_say_the_rate_that_holds_now() -> None:
    limits = RateLimits({"global": "5/minute"}, clock=lambda: 0.0)
    quota = Quota(limits, "global")
    told: list[bytes] = []
    for rate in ("5/minute", "7/hour"):
        limits.change("global", rate)
        headers: Headers = []
        quota.take("ann", headers)
        told.append(dict(headers)[b"ratelimit-policy"])
    assert told == [b'"global";q=5;w=60', b'"global";q=7;w=3600']
