"""First come, first served: the rule by which bets find each other. Pure, no database."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from strongroom.apps.betting.rows import Bet, Side

OTHER: dict[Side, Side] = {"A": "B", "B": "A"}


class Pairing(NamedTuple):
    """Two bets that meet for equal amounts: `taker` came later than `maker`."""

    taker: Bet
    maker: Bet
    amount: int


@dataclass(slots=True)
class Crowd:
    """The bets of one side that wait, earliest first. `more`: others wait behind those loaded."""

    bets: deque[Bet] = field(default_factory=deque)
    more: bool = False


@dataclass(slots=True)
class Meeting:
    """What a chunk of matching came to: the pairings in order, the number up to which every bet
    has met all earlier ones, and whether it stopped because a crowd was not loaded whole."""

    pairings: list[Pairing]
    upto: int
    short: bool


def meet(crowds: dict[Side, Crowd], incoming: list[Bet], upto: int) -> Meeting:
    """Lets each incoming bet, in order of number, take from the earliest bets of the other side
    that are another user's, until one of them is used up. Changes `matched` of the bets.

    A pure function of its arguments: replaying the accepted bets gives the same matches (B10).
    """
    pairings: list[Pairing] = []
    for bet in incoming:
        others = crowds[OTHER[bet.side]]
        if bet.open and not _take(bet, others, pairings):
            return Meeting(pairings, upto, short=True)
        upto = bet.number
        own = crowds[bet.side]
        if bet.open and not own.more:
            own.bets.append(bet)
    return Meeting(pairings, upto, short=False)


def _take(bet: Bet, others: Crowd, pairings: list[Pairing]) -> bool:
    """False when `bet` still wants and the rest of the crowd is not loaded."""
    passed: list[Bet] = []
    while bet.open and others.bets:
        maker = others.bets.popleft()
        if maker.user_id == bet.user_id:
            passed.append(maker)
            continue
        amount = min(bet.open, maker.open)
        bet.matched += amount
        maker.matched += amount
        pairings.append(Pairing(bet, maker, amount))
        if maker.open:
            others.bets.appendleft(maker)
    others.bets.extendleft(reversed(passed))
    return not (bet.open and others.more)
