"""Betting, rule by rule: results, calling off, draws, settlement, reading."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET

from playing import (
    Houses,
    People,
    assert_clean,
    balances,
    bet,
    code_of,
    come_back,
    drained,
    end_round,
    house_balances,
    new_round,
    seen,
    status,
    ticket,
)
from strongroom.apps.betting import (
    CancelBet,
    CloseRound,
    CreateRound,
    PlaceBet,
    RecordResult,
    VoidRound,
    bets,
    rounds,
)
from strongroom.apps.betting.rows import BetSeen
from strongroom.apps.betting.settlement import SettleMatches
from strongroom.core.audit import PausePayouts, RecordReconciliation, ResumePayouts
from strongroom.core.db import Database
from strongroom.core.events import Event
from strongroom.ids import uuid7
from strongroom.main import Strongroom

EVENTS = (
    "SELECT type FROM events.log WHERE payload::text LIKE '%' || $1::text || '%' ORDER BY position"
)


# Results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("winner", "ends"), [("A", (150, 50)), ("B", (50, 150))])
async def test_the_winner_gets_both_stakes(
    house: Strongroom, people: People, winner: str, ends: tuple[int, int]
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine, yours = await bet(house, round, ann, "A", 50), await bet(house, round, bob, "B", 50)
    await end_round(house, round, winner)
    assert await balances(house, [ann, bob]) == [(ends[0], 0), (ends[1], 0)]
    assert await seen(house, ann, mine) == ("SETTLED", 50, 0, 100 if winner == "A" else 0)
    assert await seen(house, bob, yours) == ("SETTLED", 50, 0, 100 if winner == "B" else 0)
    assert await status(house, round) == "SETTLED"
    await assert_clean(house)


@pytest.mark.parametrize(
    ("amount", "fee_bps", "kept"),
    [
        (1, 1000, 0),
        (9, 1000, 0),
        (10, 1000, 1),
        (19, 1000, 1),
        (9_999, 250, 249),
        (10**15, 1, 10**11),
    ],
)
async def test_the_fee_is_of_the_winnings_and_rounded_down(
    house: Strongroom, people: People, amount: int, fee_bps: int, kept: int
) -> None:
    ann, bob = await people(2, funds=amount)
    round = await new_round(house, fee_bps=fee_bps)
    mine = await bet(house, round, ann, "A", amount)
    await bet(house, round, bob, "B", amount)
    await end_round(house, round, "A")
    assert await balances(house, [ann, bob]) == [(2 * amount - kept, 0), (0, 0)]
    assert await seen(house, ann, mine) == ("SETTLED", amount, 0, 2 * amount - kept)
    assert (await house_balances(house)).get("house:fees", 0) == kept
    await assert_clean(house)


async def test_a_fee_is_taken_match_by_match(house: Strongroom, people: People) -> None:
    users = await people(4, funds=100)
    round = await new_round(house, fee_bps=1000)
    await bet(house, round, users[0], "A", 27)
    for user in users[1:]:
        await bet(house, round, user, "B", 9)
    await end_round(house, round, "A")
    assert await balances(house, users[:1]) == [(127, 0)]
    assert (await house_balances(house)).get("house:fees", 0) == 0


async def test_a_result_that_comes_before_the_matching_pays_all_the_same(
    house: Strongroom, people: People
) -> None:
    ann, bob, cem = await people(3, funds=100)
    round = await new_round(house)
    await bet(house, round, ann, "A", 50)
    await bet(house, round, bob, "B", 30)
    await house.run(CloseRound(round))
    await house.run(RecordResult(round, "B"))
    await drained(house)
    assert await balances(house, [ann, bob, cem]) == [(70, 0), (130, 0), (100, 0)]
    assert await status(house, round) == "SETTLED"
    await assert_clean(house)


async def test_a_result_void_gives_every_stake_back(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house, fee_bps=1000)
    mine, yours = await bet(house, round, ann, "A", 60), await bet(house, round, bob, "B", 25)
    await end_round(house, round, "VOID")
    assert await balances(house, [ann, bob]) == [(100, 0), (100, 0)]
    assert await seen(house, ann, mine) == ("REFUNDED", 0, 60, 0)
    assert await seen(house, bob, yours) == ("REFUNDED", 0, 25, 0)
    shown = await house.betting.round(round)
    assert (shown.status, shown.winner, shown.matched) == ("VOIDED", "VOID", 0)
    await assert_clean(house)


async def test_a_round_nobody_bet_on_ends(house: Strongroom) -> None:
    for winner, ends in (("A", "SETTLED"), ("VOID", "VOIDED")):
        round = await new_round(house)
        await end_round(house, round, winner)
        assert await status(house, round) == ends
    flip = await new_round(house, kind="coinflip")
    await house.run(CloseRound(flip))
    await drained(house)
    assert await status(house, flip) == "SETTLED"
    await assert_clean(house)


# Calling off --------------------------------------------------------------------------------------


# A draw is paid with its match, so a coinflip is called off before anything is matched, or never.
CALLED_OFF = [
    ("oracle", "open"),
    ("oracle", "open and matched"),
    ("oracle", "closed"),
    ("oracle", "closed and matched"),
    ("coinflip", "open"),
    ("coinflip", "closed"),
]


@pytest.mark.parametrize(("kind", "step"), CALLED_OFF)
async def test_calling_a_round_off_refunds_every_bet_whole(
    house: Strongroom, people: People, kind: str, step: str
) -> None:
    users = ann, bob, _ = await people(3, funds=100)
    round = await new_round(house, kind=kind, fee_bps=1000)
    one = await bet(house, round, ann, "A", 60)
    two = await bet(house, round, bob, "B", 25)
    taken_back = await bet(house, round, bob, "B", 5)
    await house.run(CancelBet(bob, taken_back))
    if "matched" in step:
        await drained(house)
    if "closed" in step:
        await house.run(CloseRound(round))
        if "matched" in step:
            await drained(house)
    shown = await house.run(VoidRound(round))
    assert (shown.status, shown.winner) == ("CLOSED", "VOID")
    assert await code_of(house.run(VoidRound(round))) == "wrong_state"
    await drained(house)
    assert await seen(house, ann, one) == ("REFUNDED", 0, 60, 0)
    assert await seen(house, bob, two) == ("REFUNDED", 0, 25, 0)
    assert await balances(house, users) == [(100, 0)] * 3
    assert await status(house, round) == "VOIDED"
    mine = await house.betting.bet(ann, one)
    assert mine.matches == []
    await assert_clean(house)


@pytest.mark.parametrize("chunk", [1, 2, 3])
async def test_many_matches_are_undone_in_chunks(
    house: Strongroom, people: People, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(rounds, "CHUNK", chunk)
    monkeypatch.setattr(bets, "REFUND_CHUNK", chunk)
    users = await people(6, funds=100)
    round = await new_round(house)
    big = await bet(house, round, users[0], "A", 100)
    for user in users[1:]:
        await bet(house, round, user, "B", 12)
    await drained(house)
    await house.run(VoidRound(round))
    await drained(house)
    assert await seen(house, users[0], big) == ("REFUNDED", 0, 100, 0)
    assert await balances(house, users) == [(100, 0)] * 6
    assert await status(house, round) == "VOIDED"
    await assert_clean(house)


async def test_a_round_whose_draws_were_paid_is_not_called_off(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2)
    round = await new_round(house, kind="coinflip")
    await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 10)
    await drained(house)
    assert await code_of(house.run(VoidRound(round))) == "draws_paid"
    assert await status(house, round) == "OPEN"


# Draws --------------------------------------------------------------------------------------------


def drawn(seed: str, match_id: UUID) -> str:
    """The winner as anybody computes it from the published seed."""
    digest = hmac.new(bytes.fromhex(seed), str(match_id).encode(), hashlib.sha256).hexdigest()
    return "B" if int(digest, 16) % 2 else "A"


async def test_every_draw_can_be_computed_from_the_published_seed(
    house: Strongroom, people: People
) -> None:
    users = await people(8, funds=1000)
    round = await new_round(house, kind="coinflip", fee_bps=500)
    placed = [await bet(house, round, user, "AB"[i % 2], 100) for i, user in enumerate(users * 4)]
    await drained(house)
    await house.run(CloseRound(round))
    await drained(house)
    shown = await house.betting.round(round)
    assert shown.status == "SETTLED"
    assert isinstance(shown.seed, str) and len(shown.seed) == 64 == len(shown.seed.lower())
    assert shown.seed_hash == hashlib.sha256(bytes.fromhex(shown.seed)).hexdigest()
    assert await house.betting.check_draws(round) == (16, [])
    winners = set()
    for user, id in zip(users * 4, placed, strict=True):
        mine = await house.betting.bet(user, id)
        assert isinstance(mine.matches, list)
        [match] = mine.matches
        assert match.winner == drawn(shown.seed, match.match_id)
        assert mine.payout == (195 if match.winner == mine.side else 0)
        winners.add(match.winner)
    assert winners == {"A", "B"}
    await assert_clean(house)


async def test_a_draw_is_paid_while_the_round_is_open(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house, kind="coinflip")
    mine = await bet(house, round, ann, "A", 40)
    await bet(house, round, bob, "B", 40)
    await drained(house)
    assert (await seen(house, ann, mine))[0] == "SETTLED"
    assert sorted(await balances(house, [ann, bob])) == [(60, 0), (140, 0)]
    assert await status(house, round) == "OPEN"
    await assert_clean(house)


async def test_the_seed_is_secret_until_the_round_is_settled(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    opened = await house.run(CreateRound("flip", "coinflip"))
    round = opened.round_id
    assert (len(opened.seed_hash), opened.seed) == (64, UNSET)
    await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 25)
    await drained(house)
    assert (await house.betting.round(round)).seed is UNSET
    closed = await house.run(CloseRound(round))
    assert closed.seed is UNSET
    assert (await house.betting.round(round)).seed is UNSET
    assert await code_of(house.betting.check_draws(round)) == "not_found"
    seed = (await owner.fetchval("SELECT seed FROM betting.rounds WHERE id = $1", round)).hex()
    said = "SELECT count(*) FROM {} WHERE position($1::text in {}) > 0"
    await drained(house)
    shown = await house.betting.round(round)
    assert (shown.seed, shown.seed_hash) == (seed, opened.seed_hash)
    assert await owner.fetchval(said.format("events.log", "payload::text"), seed) == 0
    assert (
        await owner.fetchval(said.format("commands.answers", "encode(body, 'escape')"), seed) == 0
    )


async def test_no_result_is_posted_on_a_coinflip(house: Strongroom) -> None:
    round = await new_round(house, kind="coinflip")
    assert await code_of(house.run(RecordResult(round, "A"))) == "round_kind"
    await house.run(CloseRound(round))
    assert await code_of(house.run(RecordResult(round, "VOID"))) == "round_kind"


async def test_an_altered_draw_is_found(house: Strongroom, people: People, owner: Database) -> None:
    ann, bob = await people(2)
    round = await new_round(house, kind="coinflip")
    await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 10)
    await house.run(CloseRound(round))
    await drained(house)
    match = await owner.fetchval(
        "UPDATE betting.matches SET winner = CASE winner WHEN 'A' THEN 'B' ELSE 'A' END"
        "::betting.outcome RETURNING id"
    )
    assert await house.betting.check_draws(round) == (1, [match])
    await owner.fetch("UPDATE betting.rounds SET seed = $1", bytes(32))
    assert await house.betting.check_draws(round) == (1, None)


# Settlement ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("matches", [2, 3, 4, 6, 7])
async def test_settlement_pays_each_match_once_whatever_the_chunks(
    house: Strongroom, people: People, monkeypatch: pytest.MonkeyPatch, matches: int
) -> None:
    monkeypatch.setattr(rounds, "CHUNK", 3)
    ann, *others = await people(1 + matches, funds=100)
    round = await new_round(house, fee_bps=1000)
    await bet(house, round, ann, "A", 10 * matches)
    for user in others:
        await bet(house, round, user, "B", 10)
    await end_round(house, round, "A")
    assert await balances(house, [ann]) == [(100 + 9 * matches, 0)]
    assert await balances(house, others) == [(90, 0)] * matches
    assert await status(house, round) == "SETTLED"
    await assert_clean(house)


async def test_a_settlement_that_is_asked_for_again_pays_nothing_more(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 10)
    await end_round(house, round, "A")
    before = await owner.fetchval("SELECT count(*) FROM ledger.entries")
    for chunk in (SettleMatches(round, 1, 1), SettleMatches(round, 1, 500)):
        await house.run(chunk)
    await house.executor.run([ticket(SettleMatches(round, 1, 1), None) for _ in range(4)])
    assert await owner.fetchval("SELECT count(*) FROM ledger.entries") == before
    await assert_clean(house)


async def test_chunks_that_overlap_in_one_group_pay_once(house: Strongroom, people: People) -> None:
    ann, *others = await people(6, funds=100)
    round = await new_round(house)
    await bet(house, round, ann, "A", 50)
    for user in others:
        await bet(house, round, user, "B", 10)
    await drained(house)
    await house.run(CloseRound(round))
    await drained(house)
    await house.run(RecordResult(round, "B"))
    chunks = [SettleMatches(round, 1, 3), SettleMatches(round, 2, 5), SettleMatches(round, 1, 5)]
    tickets = [ticket(chunk, None) for chunk in chunks]
    await house.executor.run(tickets)
    assert all(one.future.exception() is None for one in tickets)
    await drained(house)
    assert await balances(house, [ann, *others]) == [(50, 0)] + [(110, 0)] * 5
    await assert_clean(house)


async def test_a_message_about_a_round_that_is_not_there_stops_only_itself(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 10)
    await drained(house)
    await house.run(CloseRound(round))
    await drained(house)
    nowhere = uuid7()
    said = {"roundId": str(nowhere), "first": 1, "last": 1}
    lost = Event(id=uuid7(), type="betting.SettlementDue", key=nowhere, payload=said)
    async with house.database.transaction() as db:
        await house.transport.publish(db, [lost])
    await house.run(RecordResult(round, "A"))
    await drained(house)
    assert await balances(house, [ann, bob]) == [(110, 0), (90, 0)]


async def test_nothing_is_paid_while_payouts_are_paused(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 50)
    waiting = await bet(house, round, bob, "B", 60)
    await house.run(CloseRound(round))
    await drained(house)
    await house.run(PausePayouts("an alarm"))
    await house.run(RecordResult(round, "A"))
    for _ in range(3):
        await drained(house)
        await come_back(owner)
    assert await seen(house, ann, mine) == ("MATCHED", 50, 0, 0)
    assert await seen(house, bob, waiting) == ("MATCHED", 50, 10, 0)
    assert await status(house, round) == "CLOSED"
    assert await code_of(house.run(ResumePayouts("all is well"))) == "reconciliation_needed"
    await house.run(RecordReconciliation(await house.reconcile()))
    await house.run(ResumePayouts("all is well"))
    await come_back(owner)
    await drained(house)
    assert await seen(house, ann, mine) == ("SETTLED", 50, 0, 100)
    assert await balances(house, [ann, bob]) == [(150, 0), (50, 0)]
    await assert_clean(house)


async def test_a_correction_is_made_by_reversal_entries_alone(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    await bet(house, round, ann, "A", 50)
    await bet(house, round, bob, "B", 50)
    await end_round(house, round, "A")
    entries = await owner.fetch("SELECT * FROM ledger.entries ORDER BY 1, 2")
    await come_back(owner)
    await drained(house)
    assert await owner.fetch("SELECT * FROM ledger.entries ORDER BY 1, 2") == entries


# Reading and telling ------------------------------------------------------------------------------


async def test_bets_are_listed_newest_first_page_by_page(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    placed = [await bet(house, round, ann, "A", amount) for amount in range(1, 6)]
    await bet(house, round, bob, "B", 1)
    pages: list[list[BetSeen]] = []
    before = None
    while page := await house.betting.bets(ann, before, 2):
        pages.append(page)
        before = page[-1].bet_id
        await bet(house, round, ann, "A", 99)
    assert [one.bet_id for page in pages for one in page] == placed[::-1]
    assert [len(page) for page in pages] == [2, 2, 1]


async def test_rounds_are_listed_newest_first_page_by_page(house: Strongroom) -> None:
    made = [await new_round(house) for _ in range(5)]
    first = await house.betting.rounds(None, 3)
    second = await house.betting.rounds(first[-1].round_id, 3)
    assert [one.round_id for one in first + second] == made[::-1]


async def test_a_round_tells_its_steps_in_order(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 15)
    await end_round(house, round, "A")
    told = [row["type"].split(".")[1] for row in await owner.fetch(EVENTS, str(round))]
    order = ["RoundOpened", "BetPlaced", "RoundClosed", "ResultRecorded", "RoundSettled"]
    assert [told.index(step) for step in order] == sorted(told.index(step) for step in order)
    for once in ("MatchMade", "MatchSettled", "BetRefunded", "RoundSettled"):
        assert told.count(once) == 1, once


async def test_totals_say_how_far_everything_is(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    round = await new_round(house)
    await bet(house, round, ann, "A", 10)
    await bet(house, round, bob, "B", 15)
    await drained(house)
    assert dict(await house.betting.totals()) == {
        "bets": 2,
        "matches": 1,
        "paid": 0,
        "waiting": 1,
    }


async def test_the_same_bet_under_one_key_is_placed_once(
    houses: Houses, house: Strongroom, people: People
) -> None:
    [ann] = await people(1, funds=100)
    round = await new_round(house)
    other = await houses()
    calls: list[Any] = [
        one.run(PlaceBet(ann, round, "A", 10), key="k") for one in (house, other) for _ in range(5)
    ]
    ids = {(await call).bet_id for call in calls}
    assert len(ids) == 1
    assert await balances(house, [ann]) == [(90, 10)]
