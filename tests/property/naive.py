"""Betting as one would write it on paper: quadratic, in memory, sharing nothing with the program."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class PaperBet:
    """A bet on paper."""

    number: int
    user: int
    side: str
    amount: int
    matched: int = 0
    refunded: int = 0
    payout: int = 0
    settled: bool = False

    @property
    def open(self) -> int:
        return self.amount - self.matched - self.refunded

    @property
    def status(self) -> str:
        if self.open:
            return "PENDING"
        if self.matched == 0:
            return "REFUNDED"
        return "SETTLED" if self.settled else "MATCHED"


@dataclass
class PaperRound:
    """A round on paper: wallets, bets, matches, and every rule in its plainest form."""

    funds: dict[int, int]
    fee_bps: int = 0
    bets: list[PaperBet] = field(default_factory=list)
    matches: list[tuple[PaperBet, PaperBet, int]] = field(default_factory=list)
    met: int = 0
    fees: int = 0
    status: str = "OPEN"

    def place(self, user: int, side: str, amount: int) -> str | None:
        if self.status != "OPEN":
            return "round_closed"
        if self.funds[user] < amount:
            return "insufficient_funds"
        self.funds[user] -= amount
        self.bets.append(PaperBet(len(self.bets) + 1, user, side, amount))
        return None

    def refund(self, bet: PaperBet) -> None:
        self.funds[bet.user] += bet.open
        bet.refunded += bet.open

    def cancel(self, bet: PaperBet) -> str | None:
        if self.status != "OPEN":
            return "round_closed"
        if not bet.open:
            return "wrong_state"
        self.refund(bet)
        return None

    def match(self) -> None:
        """Every bet that is new meets all earlier ones, the earliest first."""
        for new in self.bets[self.met :]:
            for earlier in self.bets[: new.number - 1]:
                amount = min(new.open, earlier.open)
                if amount and earlier.side != new.side and earlier.user != new.user:
                    new.matched += amount
                    earlier.matched += amount
                    self.matches.append((new, earlier, amount))
        self.met = len(self.bets)

    def give_back_all(self) -> None:
        for bet in self.bets:
            self.refund(bet)

    def close(self) -> None:
        self.status = "CLOSED"
        self.match()
        self.give_back_all()

    def call_off(self) -> None:
        self.status = "VOIDED"
        for bet in self.bets:
            bet.matched = 0
        self.matches = []
        self.give_back_all()

    def settle(self, winner: str) -> None:
        self.status = "SETTLED"
        for pair in self.matches:
            amount = pair[2]
            kept = amount * self.fee_bps // 10_000
            self.fees += kept
            for bet in pair[:2]:
                bet.settled = True
                if bet.side == winner:
                    bet.payout += 2 * amount - kept
                    self.funds[bet.user] += 2 * amount - kept

    def held(self, user: int) -> int:
        if self.status in ("SETTLED", "VOIDED"):
            return 0
        return sum(bet.amount - bet.refunded for bet in self.bets if bet.user == user)
