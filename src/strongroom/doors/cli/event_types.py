"""Every type of event, by whom it is emitted, and what it carries: for the reference."""

from __future__ import annotations

from strongroom.apps.betting.bets import BetPlaced, BetRefunded, RefundsDue
from strongroom.apps.betting.rounds import MatchesDue, RoundMoved
from strongroom.apps.betting.settlement import MatchingDue, MatchMade, MatchSettled, MatchUndone
from strongroom.apps.orders.customers import CustomerMoved
from strongroom.apps.orders.orders import PaymentAsked, StockHeld
from strongroom.apps.orders.products import ProductMoved, StockMoved
from strongroom.apps.orders.steps import (
    MoneyReturned,
    OrderCollected,
    OrderMoved,
    OrderPaymentFailed,
)
from strongroom.apps.ticketing.door import TicketCheckedIn
from strongroom.apps.ticketing.events import EventMoved, TicketTypeMoved
from strongroom.apps.ticketing.orders import (
    CancellationDue,
    MailDue,
    OrderCancelled,
    OrderPaid,
    OrderPlaced,
    PaymentFailed,
    PaymentRefunded,
)
from strongroom.apps.ticketing.reservations import SeatsReserved, SeatsReturned
from strongroom.apps.wallets.batches import BatchPosted
from strongroom.apps.wallets.moves import FundsMoved, Reversed
from strongroom.core.audit.limits import LimitSeen
from strongroom.core.audit.queues import QueueSeen
from strongroom.core.audit.seals import Sealed
from strongroom.core.audit.switches import PayoutsSeen, ReconciliationDone
from strongroom.core.commands import Reply
from strongroom.core.payments.callbacks import PaymentNotified
from strongroom.core.payments.charges import RefundDone
from strongroom.core.payments.requests import PaymentRequested, RefundRequested

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
    "ticketing.EventDrafted": (("CreateEvent",), EventMoved),
    "ticketing.EventEdited": (("EditEvent",), EventMoved),
    "ticketing.EventPublished": (("PublishEvent",), EventMoved),
    "ticketing.EventEnded": (("EndEvent", "EndWhenOver"), EventMoved),
    "ticketing.EventCancelled": (("CancelEvent",), EventMoved),
    "ticketing.TicketTypeAdded": (("AddTicketType",), TicketTypeMoved),
    "ticketing.TicketTypeEdited": (("EditTicketType",), TicketTypeMoved),
    "ticketing.SeatsReserved": (("ReserveSeats",), SeatsReserved),
    "ticketing.SeatsReturned": (
        ("ReleaseReservation", "ExpireReservations", "ReserveSeats", "CancelOrders"),
        SeatsReturned,
    ),
    "ticketing.OrderPlaced": (("CompleteBooking",), OrderPlaced),
    "ticketing.PaymentNotified": (("ReceiveCallback",), PaymentNotified),
    "ticketing.PaymentFailed": (("RecordPayment",), PaymentFailed),
    "ticketing.OrderPaid": (("RecordPayment", "CompleteBooking"), OrderPaid),
    "ticketing.PaymentRefunded": (("RecordPayment", "CancelOrders"), PaymentRefunded),
    "ticketing.OrderCancelled": (("CancelOrders",), OrderCancelled),
    "ticketing.CancellationDue": (("CancelOrders",), CancellationDue),
    "ticketing.MailDue": (("RecordPayment", "CompleteBooking", "CancelOrders"), MailDue),
    "ticketing.TicketCheckedIn": (("CheckIn", "RecordScans"), TicketCheckedIn),
    "orders.ProductCreated": (("CreateProduct",), ProductMoved),
    "orders.ProductEdited": (("EditProduct",), ProductMoved),
    "orders.StockMoved": (("MoveStock",), StockMoved),
    "orders.CustomerCreated": (("CreateCustomer", "PlaceOrder"), CustomerMoved),
    "orders.CustomerEdited": (("EditCustomer",), CustomerMoved),
    "orders.OrderPlaced": (("PlaceOrder",), StockHeld),
    "orders.PaymentAsked": (("PayOrder",), PaymentAsked),
    "orders.PaymentNotified": (("ReceiveCallback",), PaymentNotified),
    "orders.OrderPaid": (("RecordPayment", "TakeStep"), OrderCollected),
    "orders.PaymentFailed": (("RecordPayment",), OrderPaymentFailed),
    "orders.MoneyReturned": (("RecordPayment", "TakeStep"), MoneyReturned),
    "orders.OrderConfirmed": (("TakeStep", "RecordPayment"), OrderMoved),
    "orders.OrderShipped": (("TakeStep",), OrderMoved),
    "orders.OrderDelivered": (("TakeStep",), OrderMoved),
    "orders.OrderCancelled": (("TakeStep", "LapseOrders"), OrderMoved),
    "orders.OrderReturned": (("TakeStep",), OrderMoved),
    "payments.PaymentRequested": (("CompleteBooking", "PlaceOrder", "PayOrder"), PaymentRequested),
    "payments.RefundRequested": (
        ("RecordPayment", "CancelOrders", "TakeStep"),
        RefundRequested,
    ),
    "payments.RefundDone": (("RecordRefund",), RefundDone),
    "audit.PayoutsPaused": (("PausePayouts", "RecordReconciliation"), PayoutsSeen),
    "audit.PayoutsResumed": (("ResumePayouts",), PayoutsSeen),
    "audit.Reconciled": (("RecordReconciliation",), ReconciliationDone),
    "audit.QueuePaused": (("PauseQueue",), QueueSeen),
    "audit.QueueResumed": (("ResumeQueue",), QueueSeen),
    "audit.LimitChanged": (("SetLimit",), LimitSeen),
    "audit.Sealed": (("SealEntries",), Sealed),
}
