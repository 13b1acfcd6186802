"""The rule of matching against its naive form, whole and in chunks of any size."""

from __future__ import annotations

from collections import deque
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from naive import PaperBet, PaperRound

from strongroom.apps.betting.matching import Crowd, meet
from strongroom.apps.betting.rows import Bet, Side

ROUND = UUID(int=1)

Wish = tuple[int, Side, int, int]
"""(user, side, amount, how much of it was refunded before)."""

sides: st.SearchStrategy[Side] = st.sampled_from(["A", "B"])
wishes: st.SearchStrategy[list[Wish]] = st.lists(
    st.tuples(st.integers(0, 3), sides, st.integers(1, 20), st.integers(0, 20)), max_size=40
)
Pair = tuple[int, int, int]


def bets_of(plan: list[Wish]) -> list[Bet]:
    return [
        Bet(
            UUID(int=number),
            ROUND,
            number,
            UUID(int=user),
            side,
            amount,
            refunded=min(refunded, amount) if refunded > 15 else 0,
        )
        for number, (user, side, amount, refunded) in enumerate(plan, 1)
    ]


def on_paper(bets: list[Bet]) -> tuple[list[Pair], list[int]]:
    """(taker, maker, amount) of each match, and what is left open, by the naive rule."""
    paper = PaperRound(funds={})
    paper.bets = [
        PaperBet(b.number, b.user_id.int, b.side, b.amount, refunded=b.refunded) for b in bets
    ]
    paper.match()
    pairs = [(new.number, earlier.number, amount) for new, earlier, amount in paper.matches]
    return pairs, [bet.open for bet in paper.bets]


def matched(bets: list[Bet], page: int, incoming: int) -> list[Pair]:
    """Matches like the worker: a page of those who wait, a chunk of those who come, again and
    again; a larger page when it led nowhere."""
    pairs: list[Pair] = []
    upto, wanted = 0, page
    for _ in range(1000):
        crowds: dict[Side, Crowd] = {}
        for side in ("A", "B"):
            waiting = [b for b in bets if b.number <= upto and b.side == side and b.open]
            crowds[side] = Crowd(deque(waiting[:wanted]), more=len(waiting[:wanted]) == wanted)
        coming = [b for b in bets if b.number > upto][:incoming]
        meeting = meet(crowds, coming, upto)
        pairs += [(p.taker.number, p.maker.number, p.amount) for p in meeting.pairings]
        stuck = meeting.short and not meeting.pairings and meeting.upto == upto
        upto, wanted = meeting.upto, wanted * 2 if stuck else page
        if not meeting.short and len(coming) < incoming:
            return pairs
    raise AssertionError("matching came to no end")


@given(wishes)
def test_bets_meet_as_the_naive_rule_says(plan: list[Wish]) -> None:
    bets = bets_of(plan)
    pairs, left = on_paper(bets)
    assert matched(bets, page=1000, incoming=1000) == pairs
    assert [bet.open for bet in bets] == left


@given(wishes, st.integers(1, 6), st.integers(1, 6))
def test_chunks_of_any_size_come_to_the_same_matches(
    plan: list[Wish], page: int, incoming: int
) -> None:
    bets = bets_of(plan)
    pairs, left = on_paper(bets)
    assert matched(bets, page, incoming) == pairs
    assert [bet.open for bet in bets] == left


@given(wishes)
def test_nothing_matchable_is_left_and_nobody_meets_himself(plan: list[Wish]) -> None:
    bets = bets_of(plan)
    pairs = matched(bets, page=3, incoming=4)
    by_number = {bet.number: bet for bet in bets}
    for taker, maker, amount in pairs:
        one, other = by_number[taker], by_number[maker]
        assert one.side != other.side and one.user_id != other.user_id
        assert taker > maker and amount > 0
    still = [bet for bet in bets if bet.open]
    assert not any(a.side != b.side and a.user_id != b.user_id for a in still for b in still)
    assert all(bet.matched + bet.refunded <= bet.amount for bet in bets)
