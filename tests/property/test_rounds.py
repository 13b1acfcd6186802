"""Whole rounds on the real database against the same rounds on paper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive import PaperBet, PaperRound

from playing import assert_clean, balances, code_of, drained, house_balances, new_round, open_users
from strongroom.apps.betting import (
    CancelBet,
    CloseRound,
    PlaceBet,
    RecordResult,
    VoidRound,
    bets,
    commands_due,
    flow,
    rounds,
    settlement,
)
from strongroom.apps.betting.settlement import MatchRound
from strongroom.doors.worker import Worker
from strongroom.main import SUBSCRIBERS, Strongroom

USERS, FUNDS = 4, 60

Act = tuple[str, int, str, int]
"""(what, which user or bet, side, amount)."""

acts: st.SearchStrategy[Act] = st.tuples(
    st.sampled_from(["place"] * 6 + ["cancel", "cancel", "match", "time passes"]),
    st.integers(0, 30),
    st.sampled_from(["A", "B"]),
    st.integers(1, 30),
)
endings = st.sampled_from(["A", "B", "VOID", "called off", "closed and called off", "left open"])


@dataclass(frozen=True)
class Plan:
    """One round from its first bet to its end, and in which pieces it is worked."""

    acts: list[Act]
    ending: str
    fee_bps: int
    chunk: int
    page: int


plans = st.builds(
    Plan,
    st.lists(acts, max_size=25),
    endings,
    st.sampled_from([0, 1, 333, 1000]),
    st.sampled_from([1, 3, 500]),
    st.sampled_from([1, 2, 2000]),
)


def small_match(page: int, round_id: UUID, wanted: int | None = None) -> MatchRound:
    return MatchRound(round_id, wanted or page)


class Table:
    """A round on the database and the same on paper, taken through the same steps."""

    def __init__(self, house: Strongroom, users: list[UUID], round: UUID, fee_bps: int) -> None:
        self.house, self.users, self.round = house, users, round
        self.paper = PaperRound(dict.fromkeys(range(USERS), FUNDS), fee_bps)
        self.placed: list[tuple[UUID, PaperBet]] = []

    async def act(self, act: Act) -> None:
        what, which, side, amount = act
        if what == "place":
            await self.place(which % USERS, side, amount)
        elif what == "cancel" and self.placed:
            id, bet = self.placed[which % len(self.placed)]
            cancel = CancelBet(self.users[bet.user], id)
            assert await code_of(self.house.run(cancel)) == self.paper.cancel(bet)
        elif what == "match":
            await drained(self.house)
            self.paper.match()
        elif what == "time passes":
            await drained(self.house)
            self.paper.match()
            await drained(self.house, self.impatient())
            self.paper.give_back_all()

    async def place(self, user: int, side: str, amount: int) -> None:
        expected = self.paper.place(user, side, amount)
        command = PlaceBet(self.users[user], self.round, side, amount)  # type: ignore[arg-type]
        if expected:
            assert await code_of(self.house.run(command)) == expected
        else:
            answer = await self.house.run(command)
            assert answer.balance == self.paper.funds[user]
            self.placed.append((answer.bet_id, self.paper.bets[-1]))

    def impatient(self) -> Worker:
        """A worker for whom every open bet has waited too long."""
        house, chore = self.house, partial(commands_due, self.house.database, 0)
        return Worker(house.database, house.executor, house.transport, SUBSCRIBERS, [chore])

    async def end(self, ending: str) -> None:
        if ending != "left open" and ending != "called off":
            await self.house.run(CloseRound(self.round))
            self.paper.close()
        if ending in ("A", "B"):
            await self.house.run(RecordResult(self.round, ending))  # type: ignore[arg-type]
            self.paper.settle(ending)
        elif ending == "VOID":
            await self.house.run(RecordResult(self.round, "VOID"))
            self.paper.call_off()
        elif ending.endswith("called off"):
            await self.house.run(VoidRound(self.round))
            self.paper.call_off()
        await drained(self.house)
        if ending == "left open":
            self.paper.match()

    async def compare(self) -> None:
        paper = self.paper
        expected = [(paper.funds[user], paper.held(user)) for user in range(USERS)]
        assert await balances(self.house, self.users) == expected
        for id, bet in self.placed:
            shown = await self.house.betting.bet(self.users[bet.user], id)
            found = (shown.status, shown.matched, shown.refunded, shown.payout)
            assert found == (bet.status, bet.matched, bet.refunded, bet.payout)
        shown_round = await self.house.betting.round(self.round)
        assert shown_round.status == paper.status
        assert shown_round.matched == sum(amount for *_, amount in paper.matches)
        assert shown_round.staked_a == sum(b.amount for b in paper.bets if b.side == "A")


async def fees_of(house: Strongroom) -> int:
    return (await house_balances(house)).get("house:fees", 0)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(plan=plans)
async def test_a_round_ends_as_it_does_on_paper(house: Strongroom, plan: Plan) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "CHUNK", plan.chunk)
        patch.setattr(bets, "REFUND_CHUNK", plan.chunk)
        patch.setattr(settlement, "RESTING", plan.page)
        patch.setattr(settlement, "INCOMING", plan.page)
        patch.setattr(flow, "MatchRound", partial(small_match, plan.page))
        users = await open_users(house, USERS, FUNDS)
        before = await fees_of(house)
        table = Table(house, users, await new_round(house, fee_bps=plan.fee_bps), plan.fee_bps)
        for act in plan.acts:
            await table.act(act)
        await table.end(plan.ending)
        await table.compare()
        assert await fees_of(house) - before == table.paper.fees


async def test_the_books_of_all_rounds_balance(house: Strongroom) -> None:
    """The invariants, after rounds that ended in every way."""
    for number, ending in enumerate(["A", "B", "VOID", "called off", "left open"]):
        users = await open_users(house, USERS, FUNDS)
        table = Table(house, users, await new_round(house, fee_bps=333), 333)
        for n in range(20):
            kind = ["place", "place", "place", "cancel", "match"][n * 7 % 5]
            await table.act((kind, n * 3 + number, "AB"[n // 2 % 2], 1 + n * 11 % 17))
        await table.end(ending)
        await table.compare()
    await assert_clean(house)
