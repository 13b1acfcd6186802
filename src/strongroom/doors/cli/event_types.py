"""Every type of event, by whom it is emitted, and what it carries: for the reference."""

from __future__ import annotations

from strongroom.apps.betting.bets import BetPlaced, BetRefunded, RefundsDue
from strongroom.apps.betting.rounds import MatchesDue, RoundMoved
from strongroom.apps.betting.settlement import MatchingDue, MatchMade, MatchSettled, MatchUndone
from strongroom.apps.wallets.batches import BatchPosted
from strongroom.apps.wallets.moves import FundsMoved, Reversed
from strongroom.core.audit.switches import PayoutsSeen, ReconciliationDone
from strongroom.core.commands import Reply

EVENTS: dict[str, tuple[tuple[str, ...], type[Reply]]] = {
    "wallets.FundsDeposited": (("Deposit",), FundsMoved),
    "wallets.FundsWithdrawn": (("Withdraw",), FundsMoved),
    "wallets.FundsTransferred": (("Transfer",), FundsMoved),
    "wallets.TransferReversed": (("ReverseTransfer",), Reversed),
    "wallets.BatchPosted": (("TransferBatch",), BatchPosted),
    "betting.RoundOpened": (("CreateRound",), RoundMoved),
    "betting.BetPlaced": (("PlaceBet",), BetPlaced),
    "betting.RoundClosed": (("CloseRound", "VoidRound"), RoundMoved),
    "betting.MatchingDue": (("MatchRound",), MatchingDue),
    "betting.MatchMade": (("MatchRound",), MatchMade),
    "betting.RoundMatched": (("MatchRound",), RoundMoved),
    "betting.ResultRecorded": (("RecordResult",), RoundMoved),
    "betting.SettlementDue": (("RecordResult", "MatchRound"), MatchesDue),
    "betting.MatchSettled": (("SettleMatches",), MatchSettled),
    "betting.MatchesSettled": (("SettleMatches",), RoundMoved),
    "betting.RoundCalledOff": (("VoidRound", "RecordResult"), RoundMoved),
    "betting.UndoDue": (("VoidRound", "RecordResult"), MatchesDue),
    "betting.MatchUndone": (("UndoMatches",), MatchUndone),
    "betting.MatchesUndone": (("UndoMatches",), RoundMoved),
    "betting.BetRefunded": (("CancelBet", "RefundRound"), BetRefunded),
    "betting.RefundsDue": (("RefundRound",), RefundsDue),
    "betting.RoundDrained": (("RefundRound",), RefundsDue),
    "betting.RoundSettled": (("FinishRound",), RoundMoved),
    "betting.RoundVoided": (("FinishRound",), RoundMoved),
    "audit.PayoutsPaused": (("PausePayouts", "RecordReconciliation"), PayoutsSeen),
    "audit.PayoutsResumed": (("ResumePayouts",), PayoutsSeen),
    "audit.Reconciled": (("RecordReconciliation",), ReconciliationDone),
}
