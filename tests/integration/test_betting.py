"""Betting, rule by rule: rounds, bets, matching, refunds, results, draws, settlement."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import pytest
from msgspec import UNSET

from playing import (
    People,
    assert_clean,
    balances,
    bet,
    code_of,
    codes_of,
    drained,
    end_round,
    new_round,
    seen,
    status,
)
from strongroom.apps.betting import (
    CancelBet,
    CloseRound,
    CreateRound,
    PlaceBet,
    RecordResult,
    VoidRound,
    bets,
    commands_due,
    flow,
    settlement,
)
from strongroom.apps.betting.bets import RefundRound
from strongroom.apps.betting.settlement import MatchRound
from strongroom.clock import now
from strongroom.core.db import Database
from strongroom.doors.worker import Worker
from strongroom.ids import uuid7
from strongroom.main import SUBSCRIBERS, Strongroom

NEARLY_FULL = "UPDATE betting.rounds SET staked_a = 9223372036854775800 WHERE id = $1"


# Placing ------------------------------------------------------------------------------------------


async def test_a_bet_holds_its_stake_before_any_match(house: Strongroom, people: People) -> None:
    [ann] = await people(1, funds=100)
    round = await new_round(house)
    placed = await house.run(PlaceBet(ann, round, "A", 30))
    assert (placed.status, placed.balance) == ("PENDING", 70)
    assert await balances(house, [ann]) == [(70, 30)]
    assert await seen(house, ann, placed.bet_id) == ("PENDING", 0, 0, 0)
    await assert_clean(house)


async def test_a_bet_of_everything_is_taken_and_one_more_is_not(
    house: Strongroom, people: People
) -> None:
    [ann] = await people(1, funds=100)
    round = await new_round(house)
    await bet(house, round, ann, "A", 100)
    assert await code_of(house.run(PlaceBet(ann, round, "B", 1))) == "insufficient_funds"
    assert await balances(house, [ann]) == [(0, 100)]


async def test_a_refused_bet_leaves_no_trace_in_the_round(
    house: Strongroom, people: People
) -> None:
    [ann] = await people(1, funds=10)
    round = await new_round(house)
    assert await code_of(house.run(PlaceBet(ann, round, "A", 11))) == "insufficient_funds"
    shown = await house.betting.round(round)
    assert (shown.staked_a, shown.staked_b) == (0, 0)
    await assert_clean(house)


async def test_bets_on_what_is_not_there_are_not_found(house: Strongroom, people: People) -> None:
    [ann] = await people(1)
    round = await new_round(house)
    calls = [house.run(PlaceBet(ann, uuid7(), "A", 1)), house.run(PlaceBet(uuid7(), round, "A", 1))]
    assert await codes_of(calls) == ["not_found"] * 2


async def test_a_closed_round_refuses_before_it_looks_at_funds(
    house: Strongroom, people: People
) -> None:
    [ann] = await people(1, funds=10)
    round = await new_round(house)
    await house.run(CloseRound(round))
    calls = [house.run(PlaceBet(ann, round, "A", amount)) for amount in (5, 50)]
    assert await codes_of(calls) == ["round_closed"] * 2


async def test_after_closes_at_bets_are_refused_at_once_and_the_chore_closes(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    made = await house.run(CreateRound("x", "oracle", closes_at=now().replace(year=2999)))
    round = made.round_id
    accepted = await bet(house, round, ann, "A", 10)
    await owner.fetch(
        "UPDATE betting.rounds SET closes_at = clock_timestamp() WHERE id = $1", round
    )
    assert await code_of(house.run(PlaceBet(bob, round, "B", 10))) == "round_closed"
    assert await code_of(house.run(CancelBet(ann, accepted))) == "round_closed"
    assert await status(house, round) == "OPEN"
    await drained(house)
    assert await status(house, round) == "CLOSED"
    assert await seen(house, ann, accepted) == ("REFUNDED", 0, 10, 0)
    await assert_clean(house)


async def test_a_round_that_would_close_in_the_past_is_invalid(house: Strongroom) -> None:
    late = CreateRound("x", "oracle", closes_at=now().replace(year=1999))
    assert await code_of(house.run(late)) == "invalid"


async def test_stakes_of_both_sides_are_counted_refunds_included(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    one = await bet(house, round, ann, "A", 10)
    await bet(house, round, ann, "A", 5)
    await bet(house, round, bob, "B", 7)
    await house.run(CancelBet(ann, one))
    await drained(house)
    shown = await house.betting.round(round)
    assert (shown.staked_a, shown.staked_b, shown.matched) == (15, 7, 5)


async def test_a_round_whose_stakes_would_not_fit_refuses_the_bet(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    round, other = await new_round(house), await new_round(house)
    await owner.fetch(NEARLY_FULL, round)
    calls = [house.run(PlaceBet(ann, round, "A", 10)), house.run(PlaceBet(bob, other, "A", 10))]
    first, second = await codes_of(calls)
    assert (first is not None, second) == (True, None)


# Matching -----------------------------------------------------------------------------------------


async def test_equal_bets_of_two_users_match_wholly(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    one, two = await bet(house, round, ann, "A", 60), await bet(house, round, bob, "B", 60)
    await drained(house)
    assert await seen(house, ann, one) == await seen(house, bob, two) == ("MATCHED", 60, 0, 0)
    mine, yours = await house.betting.bet(ann, one), await house.betting.bet(bob, two)
    assert mine.matches == yours.matches
    assert isinstance(mine.matches, list)
    assert [(m.amount, m.winner) for m in mine.matches] == [(60, UNSET)]
    assert (await house.betting.round(round)).matched == 60
    await assert_clean(house)


async def test_the_first_to_come_is_the_first_to_be_met(house: Strongroom, people: People) -> None:
    ann, bob, cem, dao = await people(4)
    round = await new_round(house)
    early = await bet(house, round, ann, "A", 50)
    late = await bet(house, round, bob, "A", 50)
    taker = await bet(house, round, cem, "B", 70)
    await drained(house)
    assert await seen(house, ann, early) == ("MATCHED", 50, 0, 0)
    assert await seen(house, bob, late) == ("PENDING", 20, 0, 0)
    assert await seen(house, cem, taker) == ("MATCHED", 70, 0, 0)
    last = await bet(house, round, dao, "B", 100)
    await drained(house)
    assert await seen(house, bob, late) == ("MATCHED", 50, 0, 0)
    assert await seen(house, dao, last) == ("PENDING", 30, 0, 0)
    await assert_clean(house)


async def test_nobody_is_matched_with_himself(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    own_a = await bet(house, round, ann, "A", 10)
    own_b = await bet(house, round, ann, "B", 10)
    await drained(house)
    assert await seen(house, ann, own_a) == await seen(house, ann, own_b) == ("PENDING", 0, 0, 0)
    other = await bet(house, round, bob, "B", 10)
    await drained(house)
    assert await seen(house, ann, own_a) == await seen(house, bob, other) == ("MATCHED", 10, 0, 0)
    assert await seen(house, ann, own_b) == ("PENDING", 0, 0, 0)
    await assert_clean(house)


async def test_rounds_do_not_mix(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    one, two = await new_round(house), await new_round(house)
    mine = await bet(house, one, ann, "A", 10)
    await bet(house, two, bob, "B", 10)
    await drained(house)
    assert await seen(house, ann, mine) == ("PENDING", 0, 0, 0)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matching that loads two waiting and three new bets at a time."""
    monkeypatch.setattr(settlement, "RESTING", 2)
    monkeypatch.setattr(settlement, "INCOMING", 3)
    monkeypatch.setattr(flow, "MatchRound", partial(_small, 2))


def _small(page: int, round_id: UUID, wanted: int | None = None) -> MatchRound:
    return MatchRound(round_id, wanted or page)


async def test_matching_goes_on_when_its_pages_are_used_up(
    house: Strongroom, people: People, small_pages: None
) -> None:
    users = await people(20)
    round = await new_round(house)
    for user in users[:13]:
        await bet(house, round, user, "A", 10)
    for user in users[13:]:
        await bet(house, round, user, "B", 17)
    await drained(house)
    assert (await house.betting.round(round)).matched == 7 * 17
    await assert_clean(house)


async def test_a_user_behind_fifty_own_bets_still_meets_the_other(
    house: Strongroom, people: People, small_pages: None
) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    for _ in range(50):
        await bet(house, round, ann, "A", 10)
    theirs = await bet(house, round, bob, "A", 4)
    await drained(house)
    mine = await bet(house, round, ann, "B", 10)
    await drained(house)
    assert await seen(house, bob, theirs) == ("MATCHED", 4, 0, 0)
    assert await seen(house, ann, mine) == ("PENDING", 4, 0, 0)
    await assert_clean(house)


async def test_small_and_large_pages_come_to_the_same_matches(
    house: Strongroom, people: People, monkeypatch: pytest.MonkeyPatch, owner: Database
) -> None:
    users = await people(5)
    plan = [(users[i * 7 % 5], "AB"[i * i % 3 % 2], 1 + i * 5 % 13) for i in range(40)]
    whole, pieces = await new_round(house), await new_round(house)
    for user, side, amount in plan:
        await bet(house, whole, user, side, amount)
    await drained(house)
    monkeypatch.setattr(settlement, "RESTING", 2)
    monkeypatch.setattr(settlement, "INCOMING", 3)
    monkeypatch.setattr(flow, "MatchRound", partial(_small, 2))
    for user, side, amount in plan:
        await bet(house, pieces, user, side, amount)
    await drained(house)
    met = """SELECT a.number, b.number, m.amount FROM betting.matches m
        JOIN betting.bets a ON a.id = m.bet_a JOIN betting.bets b ON b.id = m.bet_b
        WHERE m.round_id = $1 ORDER BY m.number"""
    assert await owner.fetch(met, whole) == await owner.fetch(met, pieces)
    await assert_clean(house)


# Cancelling ---------------------------------------------------------------------------------------


async def test_a_waiting_bet_can_be_taken_back(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 60)
    shown = await house.run(CancelBet(ann, mine))
    assert (shown.status, shown.refunded, shown.matched) == ("REFUNDED", 60, 0)
    assert await balances(house, [ann]) == [(100, 0)]
    await bet(house, round, bob, "B", 60)
    await drained(house)
    assert await seen(house, ann, mine) == ("REFUNDED", 0, 60, 0)
    await assert_clean(house)


async def test_of_a_partly_matched_bet_only_the_rest_comes_back(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 60)
    await bet(house, round, bob, "B", 25)
    await drained(house)
    shown = await house.run(CancelBet(ann, mine))
    assert (shown.status, shown.refunded, shown.matched) == ("MATCHED", 35, 25)
    assert await balances(house, [ann, bob]) == [(75, 25), (75, 25)]
    await end_round(house, round, "A")
    assert await seen(house, ann, mine) == ("SETTLED", 25, 35, 50)
    assert await balances(house, [ann, bob]) == [(125, 0), (75, 0)]
    await assert_clean(house)


async def test_what_is_matched_or_taken_back_cannot_be_cancelled(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    matched = await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 10)
    await drained(house)
    waiting = await bet(house, round, ann, "A", 10)
    await house.run(CancelBet(ann, waiting))
    for which, state in ((matched, "MATCHED"), (waiting, "REFUNDED")):
        with pytest.raises(Exception, match=f"The current state is {state}") as refusal:
            await house.run(CancelBet(ann, which))
        assert refusal.value.code == "wrong_state"  # type: ignore[attr-defined]


async def test_a_bet_cancelled_many_times_at_once_comes_back_once(
    house: Strongroom, people: People
) -> None:
    [ann] = await people(1, funds=100)
    mine = await bet(house, await new_round(house), ann, "A", 60)
    calls = [house.run(CancelBet(ann, mine)) for _ in range(10)]
    assert sorted(map(str, await codes_of(calls))) == ["None"] + ["wrong_state"] * 9
    assert await balances(house, [ann]) == [(100, 0)]
    await assert_clean(house)


async def test_another_users_bet_is_as_if_it_were_not_there(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    mine = await bet(house, await new_round(house), ann, "A", 60)
    calls = [house.run(CancelBet(bob, mine)), house.run(CancelBet(bob, uuid7()))]
    calls += [house.betting.bet(bob, mine), house.betting.bet(bob, uuid7())]
    assert await codes_of(calls) == ["not_found"] * 4
    assert await seen(house, ann, mine) == ("PENDING", 0, 0, 0)


async def test_who_cancels_anothers_bet_beside_its_owner_still_finds_nothing(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine, other = [await bet(house, round, ann, "A", 10) for _ in range(2)]
    calls = [house.run(CancelBet(ann, other)), house.run(CancelBet(bob, mine))]
    before = house.executor.groups
    assert await codes_of(calls) == [None, "not_found"]
    assert house.executor.groups == before + 1
    assert await balances(house, [ann, bob]) == [(90, 10), (100, 0)]


async def test_a_closed_round_gives_nothing_back_on_demand(
    house: Strongroom, people: People
) -> None:
    [ann] = await people(1)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 10)
    await house.run(CloseRound(round))
    assert await code_of(house.run(CancelBet(ann, mine))) == "round_closed"
    await drained(house)
    assert await seen(house, ann, mine) == ("REFUNDED", 0, 10, 0)


# Waiting too long ---------------------------------------------------------------------------------


def impatient(house: Strongroom, seconds: int = 0) -> Worker:
    """A worker for whom a bet has waited too long after so many seconds."""
    chore = partial(commands_due, house.database, seconds)
    return Worker(house.database, house.executor, house.transport, SUBSCRIBERS, [chore])


async def test_a_bet_that_waited_too_long_is_given_back(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 60)
    await bet(house, round, bob, "B", 25)
    await drained(house, impatient(house, 3600))
    assert await seen(house, ann, mine) == ("PENDING", 25, 0, 0)
    await drained(house, impatient(house))
    assert await seen(house, ann, mine) == ("MATCHED", 25, 35, 0)
    assert await status(house, round) == "OPEN"
    await assert_clean(house)


async def test_only_bets_older_than_the_limit_are_given_back(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    old = await bet(house, round, ann, "A", 10)
    limit = await owner.fetchval("SELECT clock_timestamp()")
    young = await bet(house, round, bob, "A", 10)
    await house.run(RefundRound(round, limit))
    assert await seen(house, ann, old) == ("REFUNDED", 0, 10, 0)
    assert await seen(house, bob, young) == ("PENDING", 0, 0, 0)
    await assert_clean(house)


async def test_many_waiting_bets_are_given_back_in_chunks(
    house: Strongroom, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bets, "REFUND_CHUNK", 2)
    users = await people(3, funds=100)
    round = await new_round(house)
    for number in range(7):
        await bet(house, round, users[number % 3], "A", 5)
    await drained(house, impatient(house))
    assert await balances(house, users) == [(100, 0)] * 3
    await assert_clean(house)


# Closing ------------------------------------------------------------------------------------------


async def test_what_can_be_matched_at_the_close_is_matched_before_the_rest_comes_back(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine, yours = await bet(house, round, ann, "A", 60), await bet(house, round, bob, "B", 25)
    shown = await house.run(CloseRound(round))
    assert shown.status == "CLOSED"
    await drained(house)
    assert await seen(house, ann, mine) == ("MATCHED", 25, 35, 0)
    assert await seen(house, bob, yours) == ("MATCHED", 25, 0, 0)
    assert await status(house, round) == "CLOSED"
    await assert_clean(house)


async def test_nothing_is_given_back_that_can_still_be_matched(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 60)
    await bet(house, round, bob, "B", 25)
    await house.run(RefundRound(round))
    await house.run(CloseRound(round))
    await house.run(RefundRound(round))
    assert await seen(house, ann, mine) == ("PENDING", 0, 0, 0)
    await drained(house)
    assert await seen(house, ann, mine) == ("MATCHED", 25, 35, 0)


async def test_a_void_round_refunds_only_when_its_matches_are_undone(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 60)
    await bet(house, round, bob, "B", 25)
    await drained(house)
    await house.run(VoidRound(round))
    await house.run(RefundRound(round))
    assert await seen(house, ann, mine) == ("PENDING", 25, 0, 0)
    await drained(house)
    assert await seen(house, ann, mine) == ("REFUNDED", 0, 60, 0)
    await assert_clean(house)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
async def test_the_rest_comes_back_in_chunks_of_any_size(
    house: Strongroom, people: People, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(bets, "REFUND_CHUNK", chunk)
    users = await people(6, funds=10)
    round = await new_round(house)
    for user in users:
        await bet(house, round, user, "A", 10)
    await house.run(CloseRound(round))
    await drained(house)
    assert await balances(house, users) == [(10, 0)] * 6
    await house.run(RecordResult(round, "A"))
    await drained(house)
    assert await status(house, round) == "SETTLED"
    await assert_clean(house)


async def test_steps_that_were_taken_or_lead_nowhere_are_refused_with_the_state(
    house: Strongroom, people: People
) -> None:
    round = await new_round(house)
    assert await code_of(house.run(RecordResult(round, "A"))) == "round_open"
    await house.run(CloseRound(round))
    assert await code_of(house.run(CloseRound(round))) == "wrong_state"
    await house.run(RecordResult(round, "A"))
    for step in (RecordResult(round, "B"), VoidRound(round), CloseRound(round)):
        with pytest.raises(Exception, match="The current state is CLOSED"):
            await house.run(step)
    await drained(house)
    assert await status(house, round) == "SETTLED"
    for step in (RecordResult(round, "B"), VoidRound(round), CloseRound(round)):
        with pytest.raises(Exception, match="The current state is SETTLED"):
            await house.run(step)


async def test_steps_of_a_round_that_is_not_there_are_not_found(house: Strongroom) -> None:
    nowhere = uuid7()
    steps = CloseRound(nowhere), RecordResult(nowhere, "A"), VoidRound(nowhere)
    calls = [*map(house.run, steps), house.betting.round(nowhere)]
    assert await codes_of(calls) == ["not_found"] * 4
