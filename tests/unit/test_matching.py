"""The rule by which bets find each other, by example."""

from __future__ import annotations

from collections import deque
from uuid import UUID

from strongroom.apps.betting.matching import Crowd, Meeting, meet
from strongroom.apps.betting.rows import Bet, Side

ROUND = UUID(int=99)
ANN, BOB, CEM = 1, 2, 3


def a_bet(number: int, user: int, side: Side, amount: int, refunded: int = 0) -> Bet:
    return Bet(UUID(int=number), ROUND, number, UUID(int=user), side, amount, refunded=refunded)


def crowds(*waiting: Bet, more: str = "") -> dict[Side, Crowd]:
    sides: tuple[Side, Side] = ("A", "B")
    return {
        side: Crowd(deque(bet for bet in waiting if bet.side == side), more=side in more)
        for side in sides
    }


def pairs(meeting: Meeting) -> list[tuple[int, int, int]]:
    return [(pair.taker.number, pair.maker.number, pair.amount) for pair in meeting.pairings]


def test_nobody_waits_and_nobody_comes() -> None:
    assert meet(crowds(), [], 5) == Meeting([], 5, short=False)


def test_the_first_bet_only_waits() -> None:
    there = crowds()
    mine = a_bet(1, ANN, "A", 10)
    assert meet(there, [mine], 0) == Meeting([], 1, short=False)
    assert list(there["A"].bets) == [mine]


def test_equal_bets_use_each_other_up() -> None:
    one, two = a_bet(1, ANN, "A", 10), a_bet(2, BOB, "B", 10)
    assert pairs(meet(crowds(one), [two], 1)) == [(2, 1, 10)]
    assert (one.open, two.open) == (0, 0)


def test_a_larger_bet_takes_from_several_in_order() -> None:
    waiting = [a_bet(n, ANN, "A", 4) for n in (1, 2, 3)]
    assert pairs(meet(crowds(*waiting), [a_bet(4, BOB, "B", 10)], 3)) == [
        (4, 1, 4),
        (4, 2, 4),
        (4, 3, 2),
    ]
    assert [bet.open for bet in waiting] == [0, 0, 2]


def test_a_bet_partly_used_keeps_its_place() -> None:
    there = crowds(a_bet(1, ANN, "A", 10), a_bet(2, CEM, "A", 10))
    coming = [a_bet(3, BOB, "B", 4), a_bet(4, BOB, "B", 8)]
    assert pairs(meet(there, coming, 2)) == [(3, 1, 4), (4, 1, 6), (4, 2, 2)]


def test_new_bets_meet_each_other_too() -> None:
    coming = [a_bet(1, ANN, "A", 5), a_bet(2, BOB, "B", 7), a_bet(3, CEM, "A", 2)]
    assert pairs(meet(crowds(), coming, 0)) == [(2, 1, 5), (3, 2, 2)]


def test_ones_own_bets_are_passed_over_and_keep_their_place() -> None:
    own, other = a_bet(1, ANN, "A", 10), a_bet(2, BOB, "A", 10)
    there = crowds(own, other)
    assert pairs(meet(there, [a_bet(3, ANN, "B", 4)], 2)) == [(3, 2, 4)]
    assert [bet.number for bet in there["A"].bets] == [1, 2]
    assert pairs(meet(there, [a_bet(4, CEM, "B", 12)], 3)) == [(4, 1, 10), (4, 2, 2)]


def test_who_meets_only_himself_waits() -> None:
    there = crowds(*(a_bet(n, ANN, "A", 1) for n in range(1, 51)))
    mine = a_bet(51, ANN, "B", 5)
    meeting = meet(there, [mine], 50)
    assert (pairs(meeting), meeting.upto, meeting.short) == ([], 51, False)
    assert [bet.number for bet in there["A"].bets] == [*range(1, 51)]


def test_what_was_taken_back_meets_nobody() -> None:
    gone = a_bet(2, BOB, "B", 10, refunded=10)
    there = crowds(a_bet(1, ANN, "A", 10))
    meeting = meet(there, [gone], 1)
    assert (pairs(meeting), meeting.upto) == ([], 2)
    assert not there["B"].bets


def test_only_what_is_still_open_of_a_bet_is_matched() -> None:
    there = crowds(a_bet(1, ANN, "A", 10, refunded=7))
    assert pairs(meet(there, [a_bet(2, BOB, "B", 10)], 1)) == [(2, 1, 3)]


def test_it_stops_where_the_crowd_was_not_loaded_whole() -> None:
    there = crowds(a_bet(1, ANN, "A", 3), more="A")
    hungry, next_one = a_bet(5, BOB, "B", 10), a_bet(6, CEM, "B", 1)
    meeting = meet(there, [hungry, next_one], 4)
    assert (pairs(meeting), meeting.upto, meeting.short) == ([(5, 1, 3)], 4, True)
    assert hungry.open == 7


def test_it_goes_on_when_the_loaded_part_was_enough() -> None:
    there = crowds(a_bet(1, ANN, "A", 10), more="A")
    meeting = meet(there, [a_bet(5, BOB, "B", 10)], 4)
    assert (pairs(meeting), meeting.upto, meeting.short) == ([(5, 1, 10)], 5, False)


def test_who_comes_does_not_jump_before_those_not_loaded() -> None:
    there = crowds(a_bet(1, ANN, "A", 1), more="A")
    coming = [a_bet(5, CEM, "A", 9), a_bet(6, BOB, "B", 5)]
    meeting = meet(there, coming, 4)
    assert (pairs(meeting), meeting.upto, meeting.short) == ([(6, 1, 1)], 5, True)
