"""Races by volume, between houses: exactly as many as there are funds for, each effect once.

Row C19 of the matrix of proofs are the first five: fifty bets, five hundred buyers, fifty times one
key, fifty completions of one reservation and payments of its order, fifty scans of one ticket.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from boxoffice import bought, new_event, news, payment_of, reserve, seats_of, tickets_of
from playing import (
    PATIENCE_S,
    Houses,
    People,
    assert_clean,
    balances,
    bet,
    code_of,
    codes_of,
    come_back,
    drained,
    new_round,
    somebody_waits,
)
from proofs.conftest import Scale
from strongroom.apps.betting import CancelBet, CloseRound, PlaceBet, RecordResult, VoidRound
from strongroom.apps.betting import bets as betting_bets
from strongroom.apps.betting import rounds as betting_rounds
from strongroom.apps.betting.rows import Side, Winner
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReserveSeats
from strongroom.apps.wallets import Deposit, Transfer, Withdraw
from strongroom.clock import monotonic
from strongroom.core.audit import PausePayouts, RecordReconciliation, ResumePayouts
from strongroom.core.db import Database
from strongroom.doors.worker import worker_of
from strongroom.errors import StrongroomError
from strongroom.ids import uuid7
from strongroom.lab.trial import Trial
from strongroom.main import Strongroom

ROUNDS = range(10)
AT_ONCE = 50
FUNDED = (0, 1, 7, 49)
BUYERS, SEATS = 500, 100
Held = Callable[[Trial], None]
SIDES: tuple[Side, Side] = ("A", "B")
WINNERS: tuple[Winner, ...] = ("A", "B", "A")


@pytest.fixture
async def three(houses: Houses, house: Strongroom) -> list[Strongroom]:
    """Three houses on one database, as three processes would be."""
    return [house, await houses(), await houses()]


async def gate(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    """Starts all calls at one instant; their answers or errors in order."""
    barrier = asyncio.Barrier(len(calls))

    async def one(call: Awaitable[Any]) -> Any:
        async with barrier:
            pass
        return await call

    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*map(one, calls), return_exceptions=True)


async def all_drained(three: list[Strongroom]) -> None:
    """All houses work the queues at once, until nothing is left."""
    await asyncio.gather(*map(drained, three))
    await drained(three[0])


def bugs(answers: list[Any]) -> list[BaseException]:
    """What is neither an answer nor a refusal."""
    return [a for a in answers if isinstance(a, BaseException) and not hasattr(a, "code")]


def raced(
    name: str, scale: Scale, rounds: int, answers: int, wrong: list[str], began: float
) -> Trial:
    """So many races of fifty and more, with so many definite answers."""
    return Trial(
        row="C19",
        name=name,
        seed=scale.seed,
        faults=rounds,
        acknowledged=answers,
        enough=rounds * AT_ONCE,
        violations=wrong,
        what={"at once": answers / rounds},
        seconds=round(monotonic() - began, 2),
    )


def unlike(what: str, found: object, expected: object) -> list[str]:
    """What is wrong, if anything is."""
    return [] if found == expected else [f"{what}: {found}, not {expected}"]


def counted(answers: list[Any]) -> dict[str, int]:
    """How often each code, `None` for done, or bug."""
    return dict(Counter(str(one) for one in answers))


async def test_fifty_bets_at_once_with_funds_for_some_place_exactly_these(
    three: list[Strongroom], people: People, scale: Scale, held: Held
) -> None:
    began, wrong, races = monotonic(), [], 0
    round = await new_round(three[0])
    for _ in range(scale.ask(10, 20)):
        for k in FUNDED:
            races += 1
            [ann] = await people(1, funds=10 * k)
            found = await gate(
                [code_of(three[i % 3].run(PlaceBet(ann, round, "A", 10))) for i in range(AT_ONCE)]
            )
            expected = {"None": k, "insufficient_funds": AT_ONCE - k}
            wrong += unlike("codes", Counter(counted(found)), Counter(expected))
            wrong += unlike("balance", await balances(three[0], [ann]), [(0, 10 * k)])
    await assert_clean(three[0])
    held(raced("bets", scale, races, races * AT_ONCE, wrong, began))


async def test_five_hundred_buyers_get_the_hundred_seats(
    three: list[Strongroom], scale: Scale, held: Held
) -> None:
    began, wrong, races = monotonic(), [], scale.ask(10, 20)
    for _ in range(races):
        show = await new_event(three[0], SEATS)
        buyers = [
            code_of(three[i % 3].run(ReserveSeats(uuid7(), ((show.type, 1),), 600)))
            for i in range(BUYERS)
        ]
        expected = {"None": SEATS, "sold_out": BUYERS - SEATS}
        wrong += unlike("codes", counted(await gate(buyers)), expected)
        wrong += unlike("seats", await seats_of(three[0], show.types), [(0, SEATS, 0)])
    await assert_clean(three[0])
    held(raced("seats", scale, races, races * BUYERS, wrong, began))


async def test_fifty_times_the_same_key_has_one_effect(
    three: list[Strongroom], people: People, scale: Scale, held: Held
) -> None:
    began, wrong, races = monotonic(), [], scale.ask(10, 20)
    [ann] = await people(1, funds=10 * races)
    round = await new_round(three[0])
    for turn in range(races):
        calls = [
            three[i % 3].run(PlaceBet(ann, round, "A", 10), key=f"k{turn}") for i in range(AT_ONCE)
        ]
        answers = {msgspec.json.encode(one) for one in await gate(calls)}
        wrong += unlike("answers", len(answers), 1)
        left = 10 * (races - turn - 1)
        wrong += unlike("balance", await balances(three[0], [ann]), [(left, 10 * (turn + 1))])
    await assert_clean(three[0])
    held(raced("keys", scale, races, races * AT_ONCE, wrong, began))


async def test_fifty_completions_make_one_order_and_fifty_payments_one_sale(
    three: list[Strongroom], scale: Scale, held: Held
) -> None:
    began, wrong, races = monotonic(), [], scale.ask(10, 20)
    show = await new_event(three[0], races)
    for _ in range(races):
        ann = uuid7()
        booked = await reserve(three[0], ann, (show.type, 1))
        wish = CompleteBooking(ann, booked.reservation_id, "MOMO")
        answers = await gate([_answer(three[i % 3].run(wish)) for i in range(AT_ONCE)])
        orders = [one for one in answers if not isinstance(one, str)]
        wrong += unlike("completed", len(orders), 1)
        wrong += unlike("refused", answers.count("wrong_state"), AT_ONCE - 1)
        order = orders[0].order_id
        told = news(await payment_of(three[0], order), orders[0].total_amount)
        paid = await gate([code_of(three[i % 3].run(told)) for i in range(AT_ONCE)])
        wrong += unlike("told", counted(paid), {"None": AT_ONCE})
        wrong += unlike("tickets", len(await tickets_of(three[0], order)), 1)
    wrong += unlike("seats", await seats_of(three[0], show.types), [(0, 0, races)])
    await assert_clean(three[0])
    held(raced("completions", scale, races, 2 * races * AT_ONCE, wrong, began))


async def _answer(call: Awaitable[Any]) -> Any:
    """The answer, or the code of the refusal."""
    try:
        return await call
    except StrongroomError as error:
        return error.code


async def test_fifty_scans_of_one_ticket_admit_once(
    three: list[Strongroom], scale: Scale, held: Held
) -> None:
    began, wrong, races = monotonic(), [], scale.ask(10, 20)
    show = await new_event(three[0], races)
    for _ in range(races):
        one = await bought(three[0], (show.type, 1))
        (code,) = await tickets_of(three[0], one.order)
        scans = [code_of(three[i % 3].run(CheckIn(code, str(i)))) for i in range(AT_ONCE)]
        expected = {"None": 1, "already_checked_in": AT_ONCE - 1}
        wrong += unlike("scans", counted(await gate(scans)), expected)
    await assert_clean(three[0])
    held(raced("scans", scale, races, races * AT_ONCE, wrong, began))


async def test_withdrawals_transfers_and_bets_at_once_never_overspend(
    three: list[Strongroom], people: People
) -> None:
    round = await new_round(three[0])
    for _ in range(5):
        ann, bob = await people(2, funds=100)
        calls: list[Awaitable[Any]] = []
        for i in range(30):
            wish = [Withdraw(ann, 9), Transfer(ann, bob, 9), PlaceBet(ann, round, "A", 9)][i % 3]
            calls.append(three[i // 3 % 3].run(wish))
        found = await codes_of([_first(gate(calls), i) for i in range(1)])
        assert found == [None]
        left, staked = (await balances(three[0], [ann]))[0]
        assert left == 1 and staked % 9 == 0
    await assert_clean(three[0])


async def _first(calls: Awaitable[list[Any]], _: int) -> None:
    answers = await calls
    assert bugs(answers) == []
    assert sum(not isinstance(answer, Exception) for answer in answers) == 11


async def test_two_settlers_pay_each_match_once(
    three: list[Strongroom], people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(betting_rounds, "CHUNK", 2)
    for _ in ROUNDS:
        users = await people(8, funds=100)
        round = await new_round(three[0], fee_bps=100)
        for i, user in enumerate(users):
            await bet(three[0], round, user, SIDES[i % 2], 100)
        await drained(three[0])
        await three[0].run(CloseRound(round))
        await all_drained(three)
        await three[0].run(RecordResult(round, "A"))
        await all_drained(three)
        ends = await balances(three[0], users)
        assert ends == [(199, 0), (0, 0)] * 4
        assert (await three[0].betting.round(round)).status == "SETTLED"
    await assert_clean(three[0])


async def test_a_result_posted_twice_at_once_counts_once(
    three: list[Strongroom], people: People
) -> None:
    for _ in ROUNDS:
        users = ann, bob = await people(2, funds=100)
        round = await new_round(three[0])
        await bet(three[0], round, ann, "A", 60)
        await bet(three[0], round, bob, "B", 60)
        await three[0].run(CloseRound(round))
        calls = [
            code_of(h.run(RecordResult(round, w))) for h, w in zip(three, WINNERS, strict=True)
        ]
        found = await gate(calls)
        assert sorted(map(str, found)) == ["None", "wrong_state", "wrong_state"]
        await all_drained(three)
        assert sorted(await balances(three[0], users)) == [(40, 0), (160, 0)]
    await assert_clean(three[0])


async def test_a_cancel_that_meets_the_matcher_gives_back_or_comes_too_late(
    three: list[Strongroom], people: People
) -> None:
    seen = set()
    for turn in ROUNDS:
        users = ann, bob = await people(2, funds=100)
        round = await new_round(three[0])
        mine = await bet(three[0], round, ann, "A", 60)
        await bet(three[0], round, bob, "B", 60)
        calls = [
            code_of(three[1].run(CancelBet(ann, mine))),
            worker_of(three[2]).work_once("betting_match"),
        ]
        found, _ = (
            await gate(calls if turn % 2 else calls[::-1])
            if turn % 2
            else (await gate(calls[::-1]))[::-1]
        )
        await all_drained(three)
        shown = await three[0].betting.bet(ann, mine)
        assert (found, shown.status) in {(None, "REFUNDED"), ("wrong_state", "MATCHED")}
        locked = [held for _, held in await balances(three[0], users)]
        assert locked == ([0, 60] if found is None else [60, 60])
        seen.add(found)
    await assert_clean(three[0])


async def test_bets_that_meet_the_close_are_in_whole_or_not_at_all(
    three: list[Strongroom], people: People
) -> None:
    for _ in ROUNDS:
        users = await people(6, funds=100)
        round = await new_round(three[0])
        calls: list[Awaitable[Any]] = [
            code_of(three[i % 3].run(PlaceBet(user, round, SIDES[i % 2], 100)))
            for i, user in enumerate(users)
        ]
        calls.insert(3, code_of(three[2].run(CloseRound(round))))
        found = await gate(calls)
        assert found.pop(3) is None
        assert set(found) <= {None, "round_closed"}
        await all_drained(three)
        shown = await three[0].betting.round(round)
        assert shown.staked_a + shown.staked_b == 100 * found.count(None)
        accepted = {
            side: sum(found[i] is None for i in range(6) if SIDES[i % 2] == side) for side in "AB"
        }
        assert shown.matched == 100 * min(accepted.values())
        await three[0].run(RecordResult(round, "VOID"))
        await all_drained(three)
        assert await balances(three[0], users) == [(100, 0)] * 6
    await assert_clean(three[0])


async def test_a_void_that_meets_the_result_wins_or_loses_whole(
    three: list[Strongroom], people: People
) -> None:
    for _ in ROUNDS:
        users = ann, bob = await people(2, funds=100)
        round = await new_round(three[0])
        await bet(three[0], round, ann, "A", 60)
        await bet(three[0], round, bob, "B", 60)
        await three[0].run(CloseRound(round))
        await drained(three[0])
        found = await gate(
            [
                code_of(three[0].run(VoidRound(round))),
                code_of(three[1].run(RecordResult(round, "A"))),
                drained(three[2]),
            ]
        )
        assert bugs(found) == []
        await all_drained(three)
        assert sorted(map(str, found[:2])) == ["None", "wrong_state"]
        ends = [(100, 0), (100, 0)] if found[0] is None else [(160, 0), (40, 0)]
        assert await balances(three[0], users) == ends
    await assert_clean(three[0])


async def test_a_coinflip_called_off_while_it_draws_is_paid_or_refunded_whole(
    three: list[Strongroom], people: People
) -> None:
    for _ in ROUNDS:
        users = ann, bob = await people(2, funds=100)
        round = await new_round(three[0], kind="coinflip")
        await bet(three[0], round, ann, "A", 60)
        await bet(three[0], round, bob, "B", 60)
        answers = await gate(
            [drained(three[1]), drained(three[2]), code_of(three[0].run(VoidRound(round)))]
        )
        assert bugs(answers) == []
        await all_drained(three)
        ends = sorted(await balances(three[0], users))
        if answers[2] is None:
            assert ends == [(100, 0), (100, 0)]
        else:
            assert (answers[2], ends) == ("draws_paid", [(40, 0), (160, 0)])
    await assert_clean(three[0])


HOLD_MATCHES = "SELECT FROM betting.matches WHERE round_id = $1 FOR UPDATE"


async def test_a_void_waits_for_who_is_about_to_pay(
    three: list[Strongroom], people: People, owner: Database
) -> None:
    users = ann, bob = await people(2, funds=100)
    round = await new_round(three[0], kind="coinflip")
    await bet(three[0], round, ann, "A", 60)
    await bet(three[0], round, bob, "B", 60)
    await worker_of(three[0]).work_once("betting_match")
    async with owner.transaction() as db:
        await db.execute(HOLD_MATCHES, round)
        paying = asyncio.create_task(worker_of(three[1]).work_once("betting_settle"))
        await somebody_waits(owner)
        voiding = asyncio.create_task(code_of(three[0].run(VoidRound(round))))
        await somebody_waits(owner, 2)
    await paying
    assert await voiding == "draws_paid"
    await all_drained(three)
    assert sorted(await balances(three[0], users)) == [(40, 0), (160, 0)]
    await assert_clean(three[0])


async def test_settlement_that_meets_pause_and_resume_pays_all_in_the_end(
    three: list[Strongroom], people: People, monkeypatch: pytest.MonkeyPatch, owner: Database
) -> None:
    monkeypatch.setattr(betting_rounds, "CHUNK", 1)
    for _ in ROUNDS:
        users = await people(8, funds=100)
        round = await new_round(three[0])
        for i, user in enumerate(users):
            await bet(three[0], round, user, SIDES[i % 2], 100)
        await three[0].run(CloseRound(round))
        await drained(three[0])
        await three[0].run(RecordResult(round, "B"))
        found = await gate(
            [
                drained(three[1]),
                drained(three[2]),
                three[0].run(PausePayouts("a drill")),
                code_of(three[0].run(Withdraw(users[0], 1))),
            ]
        )
        assert bugs(found) == []
        paused = await balances(three[0], users)
        await all_drained(three)
        assert await balances(three[0], users) == paused
        assert await code_of(three[1].run(Withdraw(users[1], 1))) == "payouts_paused"
        await three[0].run(RecordReconciliation(await three[0].reconcile()))
        await three[0].run(ResumePayouts("done"))
        await come_back(owner)
        await all_drained(three)
        assert await balances(three[0], users) == [(0, 0), (200, 0)] * 4
    await assert_clean(three[0])


async def test_everything_at_once_leaves_the_books_balanced(
    three: list[Strongroom], people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(betting_rounds, "CHUNK", 3)
    monkeypatch.setattr(betting_bets, "REFUND_CHUNK", 3)
    users = await people(10, funds=1000)
    rounds = [await new_round(three[0], kind, 300) for kind in ("oracle", "coinflip", "oracle")]
    calls: list[Awaitable[Any]] = []
    for n in range(120):
        house, user, round = three[n % 3], users[n * 7 % 10], rounds[n % 5 % 3]
        calls.append(house.run(PlaceBet(user, round, SIDES[n // 3 % 2], 1 + n * 37 % 90)))
        if n % 10 == 0:
            calls.append(house.run(Transfer(user, users[(n + 3) % 10], 50)))
            calls.append(house.run(Deposit(user, 50)))
    calls += [drained(three[0]), drained(three[1])]
    calls.append(three[2].run(CloseRound(rounds[0])))
    answers = await gate(calls)
    assert bugs(answers) == []
    placed = [answer for answer in answers if hasattr(answer, "bet_id")]
    cancels: list[Awaitable[Any]] = [
        three[i % 3].run(CancelBet(user, answer.bet_id))
        for i, answer in enumerate(placed[::5])
        for user in users
    ]
    steps: list[Awaitable[Any]] = [
        three[1].run(RecordResult(rounds[0], "A")),
        three[2].run(VoidRound(rounds[2])),
        three[0].run(CloseRound(rounds[1])),
        *map(drained, three),
    ]
    assert bugs(await gate(cancels + steps)) == []
    await all_drained(three)
    states = [(await three[0].betting.round(round)).status for round in rounds]
    assert states == ["SETTLED", "SETTLED", "VOIDED"]
    ends = await balances(three[0], users)
    assert all(held == 0 for _, held in ends)
    await assert_clean(three[0])
