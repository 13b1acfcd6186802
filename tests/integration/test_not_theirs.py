"""Bugs that other systems had, by the issue that told of them. None may be ours."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from uuid import UUID

from boxoffice import deadlocks
from playing import (
    Houses,
    People,
    assert_clean,
    balance,
    balances,
    bet,
    code_of,
    codes_of,
    drained,
    end_round,
    house_balances,
    new_round,
    somebody_waits,
)
from strongroom.apps.betting import CancelBet, CloseRound, PlaceBet, RecordResult
from strongroom.apps.betting.rows import Side
from strongroom.apps.wallets import (
    BatchItem,
    Deposit,
    ReverseTransfer,
    Transfer,
    TransferBatch,
    Withdraw,
)
from strongroom.core.db import Database
from strongroom.main import Strongroom

SIDES: tuple[Side, Side] = ("A", "B")
HOLD_WALLET = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'wallet' FOR UPDATE"
HOLD_BOOK = "SELECT FROM betting.books WHERE round_id = $1 FOR UPDATE"
HOLD_ROUND = "SELECT FROM betting.rounds WHERE id = $1 FOR UPDATE"


# Check, then act, without a lock ------------------------------------------------------------------


async def test_django_oscar_4524_two_who_see_the_same_money_do_not_both_spend_it(
    houses: Houses, house: Strongroom, people: People
) -> None:
    other = await houses()
    for _ in range(10):
        ann, bob = await people(2, funds=10)
        calls = [one.run(Transfer(ann, bob, 10)) for one in (house, other)]
        assert set(await codes_of(calls)) == {None, "insufficient_funds"}
        assert await balances(house, [ann, bob]) == [(0, 0), (20, 0)]


async def test_medusa_16569_a_bet_and_a_withdrawal_do_not_both_take_the_last_money(
    houses: Houses, house: Strongroom, people: People
) -> None:
    other, round = await houses(), await new_round(house)
    for _ in range(10):
        [ann] = await people(1, funds=10)
        calls = [house.run(PlaceBet(ann, round, "A", 10)), other.run(Withdraw(ann, 10))]
        assert set(await codes_of(calls)) == {None, "insufficient_funds"}
        assert await balance(house, ann) == 0
    await assert_clean(house)


async def test_inventree_12478_a_decision_is_made_on_what_the_lock_showed(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=10)
    async with owner.transaction() as db:
        await db.execute(HOLD_WALLET, ann)
        waiting = asyncio.create_task(code_of(house.run(Transfer(ann, bob, 10))))
        await somebody_waits(owner)
        await db.execute(
            "UPDATE ledger.accounts SET balance = 9 WHERE owner_id = $1 AND purpose = 'wallet'", ann
        )
    assert await waiting == "insufficient_funds"


async def test_saleor_543_a_round_that_closes_while_a_bet_waits_refuses_it(
    house: Strongroom, people: People, owner: Database
) -> None:
    [ann] = await people(1)
    round = await new_round(house)
    async with owner.transaction() as db:
        await db.execute(HOLD_ROUND, round)
        waiting = asyncio.create_task(code_of(house.run(PlaceBet(ann, round, "A", 10))))
        await somebody_waits(owner)
        await db.execute(
            "UPDATE betting.rounds SET status = 'CLOSED', closed_at = now() WHERE id = $1", round
        )
    assert await waiting == "round_closed"
    assert await balances(house, [ann]) == [(1_000_000, 0)]


async def test_eventyay_1359_what_the_matcher_pairs_cannot_be_cancelled_meanwhile(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=10)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 10)
    async with owner.transaction() as db:
        await db.execute(HOLD_BOOK, round)
        matching = asyncio.create_task(drained(await houses()))
        await somebody_waits(owner)
        cancelling = asyncio.create_task(code_of(house.run(CancelBet(ann, mine))))
        await asyncio.sleep(0)
    await matching
    refused = await cancelling
    shown = await house.betting.bet(ann, mine)
    assert (refused, shown.status) in {("wrong_state", "MATCHED"), (None, "REFUNDED")}
    await assert_clean(house)


# The same thing on two lines ----------------------------------------------------------------------


async def test_medusa_16502_two_lines_of_one_purse_are_added_up(
    house: Strongroom, people: People
) -> None:
    ann, bob, cem = await people(3, funds=10)
    lines = BatchItem("1", ann, bob, 7), BatchItem("2", ann, cem, 7)
    done = await house.run(TransferBatch("independent", lines))
    assert [result.status for result in done.results] == ["posted", "refused"]
    assert await balance(house, ann) == 3
    done = await house.run(TransferBatch("atomic", (BatchItem("3", ann, bob, 2), lines[1])))
    assert [result.status for result in done.results] == ["refused", "refused"]
    assert await balance(house, ann) == 3


async def test_medusa_16502_two_bets_of_one_group_are_added_up(
    house: Strongroom, people: People
) -> None:
    [ann] = await people(1, funds=10)
    rounds = [await new_round(house) for _ in range(2)]
    before = house.executor.groups
    calls = [house.run(PlaceBet(ann, round, "A", 7)) for round in rounds]
    assert await codes_of(calls) == [None, "insufficient_funds"]
    assert house.executor.groups == before + 1


# Locks in any order -------------------------------------------------------------------------------


async def test_saleor_17123_and_cala_779_crossing_transfers_never_deadlock(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    users = await people(6)
    homes = [house, await houses(), await houses()]
    before = await deadlocks(owner)
    for turn in range(10):
        calls = []
        for number, home in enumerate(homes):
            order = users if number % 2 else users[::-1]
            items = [
                BatchItem(f"{turn}.{number}.{n}", a, b, 1)
                for n, (a, b) in enumerate(pairwise(order))
            ]
            calls.append(home.run(TransferBatch("independent", tuple(items))))
            calls.append(home.run(Transfer(order[0], order[-1], 1)))
            calls.append(home.run(Deposit(order[turn % 6], 1)))
            calls.append(home.run(Withdraw(order[-turn % 6], 1)))
        await asyncio.gather(*calls)
    await assert_clean(house)
    assert await deadlocks(owner) == before


async def test_django_oscar_4594_bets_cancels_and_settlements_of_the_same_people_never_deadlock(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    users = await people(6)
    homes = [house, await houses(), await houses()]
    rounds = [await new_round(house, "coinflip") for _ in range(3)]
    before = await deadlocks(owner)
    for turn in range(5):
        placing = [
            homes[n % 3].run(PlaceBet(users[(n + turn) % 6], rounds[n * 5 % 3], SIDES[n % 2], 10))
            for n in range(18)
        ]
        placed, *_ = await asyncio.gather(asyncio.gather(*placing), *map(drained, homes))
        cancels = [
            code_of(homes[(n + 1) % 3].run(CancelBet(users[(n + turn) % 6], one.bet_id)))
            for n, one in enumerate(placed)
        ]
        await asyncio.gather(*cancels, *map(drained, homes))
    await drained(house)
    await assert_clean(house)
    assert await deadlocks(owner) == before


# Something paid, and nothing to show for it -------------------------------------------------------


async def test_saleor_12652_a_result_that_overtakes_the_matching_settles_everything(
    houses: Houses, house: Strongroom, people: People
) -> None:
    other = await houses()
    for _ in range(5):
        users = await people(4, funds=10)
        round = await new_round(house)
        for number, user in enumerate(users):
            await bet(house, round, user, "AB"[number % 2], 10)
        await house.run(CloseRound(round))
        await asyncio.gather(drained(other), house.run(RecordResult(round, "A")), drained(house))
        await drained(house)
        assert await balances(house, users) == [(20, 0), (0, 0)] * 2
        assert (await house.betting.round(round)).status == "SETTLED"
    await assert_clean(house)


# Giving back --------------------------------------------------------------------------------------


async def test_hi_events_466_a_cancel_gives_back_everything_the_bet_took(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 100)
    await house.run(CancelBet(ann, mine))
    assert await balances(house, [ann]) == [(100, 0)]
    again = await bet(house, round, ann, "A", 100)
    await bet(house, round, bob, "B", 100)
    await end_round(house, round, "A")
    assert (await house.betting.bet(ann, again)).payout == 200
    left = (
        "SELECT staked_a + staked_b - 2 * matched - refunded FROM betting.rounds r, betting.books"
    )
    assert await owner.fetchval(left) == 0
    await assert_clean(house)


async def test_hi_events_790_calling_off_gives_back_what_was_partly_given_back_before_once(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 100)
    await bet(house, round, bob, "B", 40)
    await drained(house)
    await house.run(CancelBet(ann, mine))
    await end_round(house, round, "VOID")
    shown = await house.betting.bet(ann, mine)
    assert (shown.status, shown.refunded, shown.matched) == ("REFUNDED", 100, 0)
    assert await balances(house, [ann, bob]) == [(100, 0), (100, 0)]
    await assert_clean(house)


async def test_blnk_374_a_refund_asked_for_again_says_no_and_moves_nothing(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    mine = await bet(house, await new_round(house), ann, "A", 60)
    moved = await house.run(Transfer(bob, ann, 10))
    await house.run(CancelBet(ann, mine))
    await house.run(ReverseTransfer(moved.transfer_id, "oops"))
    entries = await owner.fetchval("SELECT count(*) FROM ledger.entries")
    for _ in range(3):
        assert await code_of(house.run(CancelBet(ann, mine))) == "wrong_state"
        again = house.run(ReverseTransfer(moved.transfer_id, "oops"))
        assert await code_of(again) == "already_reversed"
    assert await owner.fetchval("SELECT count(*) FROM ledger.entries") == entries


async def test_midaz_1519_two_who_settle_at_once_pay_once(
    houses: Houses, house: Strongroom, people: People
) -> None:
    homes = [house, await houses()]
    for _ in range(5):
        ann, bob = await people(2, funds=10)
        round = await new_round(house)
        await bet(house, round, ann, "A", 10)
        await bet(house, round, bob, "B", 10)
        await house.run(CloseRound(round))
        await drained(house)
        await house.run(RecordResult(round, "B"))
        await asyncio.gather(*map(drained, homes))
        assert await balances(house, [ann, bob]) == [(0, 0), (20, 0)]
    await assert_clean(house)


# Keys ---------------------------------------------------------------------------------------------


async def test_formance_stack_1633_the_same_key_twice_in_one_bulk_is_one_transfer(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=10)
    twice = (BatchItem("k", ann, bob, 6),) * 2
    for mode in ("atomic", "independent"):
        done = await house.run(TransferBatch(mode, twice))
        assert len({result.transfer_id for result in done.results}) == 1
    assert await balances(house, [ann, bob]) == [(4, 0), (16, 0)]


async def test_midaz_a_key_with_another_body_never_replays_silently(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    await house.run(Transfer(ann, bob, 10), key="k")
    others = [Transfer(ann, bob, 11), Transfer(bob, ann, 10), Transfer(ann, bob, 10, "why")]
    calls = [house.run(other, key="k") for other in others]
    assert await codes_of(calls) == ["idempotency_key_reused"] * 3
    assert await balances(house, [ann, bob]) == [(90, 0), (110, 0)]


# Holds --------------------------------------------------------------------------------------------


async def test_blnk_181_what_is_staked_can_neither_be_withdrawn_nor_sent_nor_staked_again(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    await bet(house, round, ann, "A", 60)
    calls = [
        house.run(Withdraw(ann, 41)),
        house.run(Transfer(ann, bob, 41)),
        house.run(PlaceBet(ann, round, "A", 41)),
    ]
    assert await codes_of(calls) == ["insufficient_funds"] * 3
    assert await balances(house, [ann]) == [(40, 60)]


async def test_pretix_4227_a_stuck_worker_keeps_nobody_from_betting(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    stuck_round, other_round = await new_round(house), await new_round(house)
    await bet(house, stuck_round, ann, "A", 10)
    async with owner.transaction() as db:
        await db.execute(HOLD_BOOK, stuck_round)
        stuck = asyncio.create_task(drained(await houses()))
        await somebody_waits(owner)
        more: list[UUID] = [await bet(house, stuck_round, bob, "B", 10)]
        more += [await bet(house, other_round, ann, "A", 10)]
        more += [await bet(house, other_round, bob, "B", 10)]
        assert not stuck.done()
    await stuck
    await drained(house)
    assert (await house.betting.bet(ann, more[1])).status == "MATCHED"
    assert (await house.betting.bet(bob, more[0])).status == "MATCHED"
    assert (await house_balances(house))["stake"] == 40
    await assert_clean(house)
