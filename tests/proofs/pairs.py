"""Pairs of operations that meet, each with all the ways in which they may end.

A pair is made anew for each schedule: `prepare` brings it about, `operations` are the two commands,
`end` is what is to be seen afterwards. `ends` lists every allowed end by the two answers (None is
done, else the code of a refusal), several as a set; the schedules must come to all of these
answers. Nobody is undone to begin again, since locks are taken in one order; who finds its key
being worked on does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar
from uuid import UUID

import boxoffice
import storefront
from playing import balances, bet, new_round, open_users, seen, status
from strongroom.apps.betting import CancelBet, CloseRound, PlaceBet, RecordResult, VoidRound
from strongroom.apps.betting.bets import RefundRound
from strongroom.apps.betting.settlement import MatchRound, SettleMatches
from strongroom.apps.orders.products import MoveStock
from strongroom.apps.orders.steps import TakeStep
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import CancelEvent
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import (
    ExpireReservations,
    ReleaseReservation,
    ReserveSeats,
)
from strongroom.apps.wallets import ReverseTransfer, Transfer, Withdraw
from strongroom.core.audit import PausePayouts, RecordReconciliation, Report, ResumePayouts
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom

Codes = tuple[str | None, str | None]

DONE: Codes = (None, None)


class Pair(ABC):
    """Two operations and what they meet in."""

    ends: ClassVar[dict[Codes, Any]]
    begins_again: ClassVar[bool] = False

    def __init__(self, house: Strongroom, owner: Database) -> None:
        self.house, self.owner = house, owner
        self.keys = str(uuid7()), str(uuid7())

    @abstractmethod
    async def prepare(self) -> None:
        """Brings about what the operations meet in."""

    async def before(self) -> None:
        """Brings about what has to stand just before the operations begin."""
        return

    @abstractmethod
    def operations(self) -> tuple[Command, Command]:
        """The two commands."""

    @abstractmethod
    async def end(self) -> Any:
        """What is to be seen afterwards."""


# Wallets ------------------------------------------------------------------------------------------


class TransfersBothWays(Pair):
    """Ann sends to Bob while Bob sends to Ann."""

    ends: ClassVar = {DONE: [(90, 0), (110, 0)]}

    async def prepare(self) -> None:
        self.users = await open_users(self.house, 2, 100)

    def operations(self) -> tuple[Command, Command]:
        ann, bob = self.users
        return Transfer(ann, bob, 30), Transfer(bob, ann, 20)

    async def end(self) -> Any:
        return await balances(self.house, self.users)


class TransferAndWithdrawal(TransfersBothWays):
    """A wallet holds enough for one of the two."""

    ends: ClassVar = {
        (None, "insufficient_funds"): [(30, 0), (170, 0)],
        ("insufficient_funds", None): [(30, 0), (100, 0)],
    }

    def operations(self) -> tuple[Command, Command]:
        ann, bob = self.users
        return Transfer(ann, bob, 70), Withdraw(ann, 70)


class SameKeyTwice(TransfersBothWays):
    """The same request comes in at two processes."""

    ends: ClassVar = {DONE: [(70, 0), (130, 0)]}
    begins_again = True

    async def prepare(self) -> None:
        await super().prepare()
        self.keys = self.keys[0], self.keys[0]

    def operations(self) -> tuple[Command, Command]:
        ann, bob = self.users
        return Transfer(ann, bob, 30), Transfer(ann, bob, 30)


class Reversals(TransfersBothWays):
    """A transfer is reversed by two operators."""

    ends: ClassVar = {
        (None, "already_reversed"): [(100, 0), (100, 0)],
        ("already_reversed", None): [(100, 0), (100, 0)],
    }

    async def prepare(self) -> None:
        await super().prepare()
        ann, bob = self.users
        self.transfer = (await self.house.run(Transfer(ann, bob, 30))).transfer_id

    def operations(self) -> tuple[Command, Command]:
        return ReverseTransfer(self.transfer, "wrong"), ReverseTransfer(self.transfer, "twice")


class WithdrawalAndPause(Pair):
    """Payouts are paused while one is under way."""

    ends: ClassVar = {DONE: [(70, 0)], ("payouts_paused", None): [(100, 0)]}

    async def prepare(self) -> None:
        self.users = await open_users(self.house, 1, 100)

    async def before(self) -> None:
        """Payouts go on after the schedule before; its verdict is given, not found, since a
        reconciliation takes longer than all the rest."""
        began = await self.owner.fetchval("SELECT clock_timestamp()")
        clean = Report(id=uuid7(), clean=True, findings=[], began_at=began, duration_ms=0)
        await self.house.run(RecordReconciliation(clean))
        await self.house.run(ResumePayouts("the next schedule"))

    def operations(self) -> tuple[Command, Command]:
        return Withdraw(self.users[0], 30), PausePayouts("a drill")

    async def end(self) -> Any:
        return await balances(self.house, self.users)


# Betting ------------------------------------------------------------------------------------------


class _Betting(Pair):
    """Ann and Bob, with 100 each, and a round."""

    round: UUID

    async def prepare(self) -> None:
        self.users = self.ann, self.bob = await open_users(self.house, 2, 100)
        self.round = await new_round(self.house)

    async def matched(self, over: int = 0) -> None:
        """60 of each have met; `over` of Ann's have not."""
        self.mine = await bet(self.house, self.round, self.ann, "A", 60 + over)
        self.yours = await bet(self.house, self.round, self.bob, "B", 60)
        await self.house.run(MatchRound(self.round))

    async def money(self) -> Any:
        return await balances(self.house, self.users)

    async def end(self) -> Any:
        return await self.money()


class BetAndCancel(_Betting):
    """A new bet needs the money that the cancellation of the old one gives back."""

    ends: ClassVar = {
        DONE: [(0, 100), (100, 0)],
        ("insufficient_funds", None): [(100, 0), (100, 0)],
    }

    async def prepare(self) -> None:
        await super().prepare()
        self.mine = await bet(self.house, self.round, self.ann, "A", 100)

    def operations(self) -> tuple[Command, Command]:
        return PlaceBet(self.ann, self.round, "A", 100), CancelBet(self.ann, self.mine)


class Bets(_Betting):
    """Two bets of one wallet that holds enough for one."""

    ends: ClassVar = {
        (None, "insufficient_funds"): [(40, 60), (100, 0)],
        ("insufficient_funds", None): [(40, 60), (100, 0)],
    }

    def operations(self) -> tuple[Command, Command]:
        return PlaceBet(self.ann, self.round, "A", 60), PlaceBet(self.ann, self.round, "B", 60)


class Cancels(_Betting):
    """A bet is cancelled twice."""

    ends: ClassVar = {
        (None, "wrong_state"): [(100, 0), (100, 0)],
        ("wrong_state", None): [(100, 0), (100, 0)],
    }

    async def prepare(self) -> None:
        await super().prepare()
        self.mine = await bet(self.house, self.round, self.ann, "A", 60)

    def operations(self) -> tuple[Command, Command]:
        return CancelBet(self.ann, self.mine), CancelBet(self.ann, self.mine)


class MatchAndClose(_Betting):
    """A round is closed while its bets are matched: what was accepted is matched all the same."""

    ends: ClassVar = {DONE: ("CLOSED", 60)}

    async def prepare(self) -> None:
        await super().prepare()
        await bet(self.house, self.round, self.ann, "A", 60)
        await bet(self.house, self.round, self.bob, "B", 80)

    def operations(self) -> tuple[Command, Command]:
        return MatchRound(self.round), CloseRound(self.round)

    async def end(self) -> Any:
        shown = await self.house.betting.round(self.round)
        return shown.status, shown.matched


class MatchAndCancel(_Betting):
    """A bet is cancelled while it is matched: matched or given back, whole."""

    ends: ClassVar = {
        DONE: (("REFUNDED", 0, 60, 0), [(100, 0), (40, 60)]),
        (None, "wrong_state"): (("MATCHED", 60, 0, 0), [(40, 60), (40, 60)]),
    }

    async def prepare(self) -> None:
        await super().prepare()
        self.mine = await bet(self.house, self.round, self.ann, "A", 60)
        await bet(self.house, self.round, self.bob, "B", 60)

    def operations(self) -> tuple[Command, Command]:
        return MatchRound(self.round), CancelBet(self.ann, self.mine)

    async def end(self) -> Any:
        return await seen(self.house, self.ann, self.mine), await self.money()


class Settlements(_Betting):
    """Two workers settle the same matches."""

    ends: ClassVar = {DONE: [(160, 0), (40, 0)]}

    async def prepare(self) -> None:
        await super().prepare()
        await self.matched()
        await self.house.run(CloseRound(self.round))
        await self.house.run(RecordResult(self.round, "A"))

    def operations(self) -> tuple[Command, Command]:
        return SettleMatches(self.round, 1, 1), SettleMatches(self.round, 1, 1)


class SettlementAndRefund(Settlements):
    """What was matched is paid while the rest is given back."""

    async def matched(self, over: int = 0) -> None:
        await super().matched(over=20)

    def operations(self) -> tuple[Command, Command]:
        return SettleMatches(self.round, 1, 1), RefundRound(self.round)


class SettlementAndPause(Settlements):
    """Payouts are paused while a match is paid."""

    ends: ClassVar = {
        DONE: [(160, 0), (40, 0)],
        ("payouts_paused", None): [(40, 60), (40, 60)],
    }
    before = WithdrawalAndPause.before

    def operations(self) -> tuple[Command, Command]:
        return SettleMatches(self.round, 1, 1), PausePayouts("a drill")


class CloseAndBet(_Betting):
    """A bet meets the close: it is in, or refused."""

    ends: ClassVar = {
        DONE: ("CLOSED", [(40, 60), (100, 0)]),
        (None, "round_closed"): ("CLOSED", [(100, 0), (100, 0)]),
    }

    def operations(self) -> tuple[Command, Command]:
        return CloseRound(self.round), PlaceBet(self.ann, self.round, "A", 60)

    async def end(self) -> Any:
        return await status(self.house, self.round), await self.money()


class ResultAndVoid(_Betting):
    """A round is called off while its result is posted: one of the two counts."""

    ends: ClassVar = {(None, "wrong_state"): "A", ("wrong_state", None): "VOID"}

    async def prepare(self) -> None:
        await super().prepare()
        await self.matched()
        await self.house.run(CloseRound(self.round))

    def operations(self) -> tuple[Command, Command]:
        return RecordResult(self.round, "A"), VoidRound(self.round)

    async def end(self) -> Any:
        return (await self.house.betting.round(self.round)).winner


# Ticketing ----------------------------------------------------------------------------------------


class _Ticketing(Pair):
    """An event with two seats; Ann holds them both, unless she does not."""

    async def prepare(self) -> None:
        self.show = await boxoffice.new_event(self.house, 2)
        self.one = await boxoffice.ordered(self.house, (self.show.type, 2))

    async def seats(self) -> tuple[int, int, int]:
        (found,) = await boxoffice.seats_of(self.house, [self.show.type])
        return found

    async def sold(self) -> Any:
        order = await boxoffice.order_now(self.house, self.one.order)
        tickets = await boxoffice.tickets_of(self.house, self.one.order)
        return order, await self.seats(), len(tickets)

    def paid(self) -> Command:
        return boxoffice.news(self.one.payment, self.one.amount)

    async def end(self) -> Any:
        return await self.sold()


class LastSeats(Pair):
    """Two buyers want the last two seats."""

    ends: ClassVar = {
        (None, "sold_out"): [(0, 2, 0)],
        ("sold_out", None): [(0, 2, 0)],
    }

    async def prepare(self) -> None:
        self.show = await boxoffice.new_event(self.house, 2)

    def operations(self) -> tuple[Command, Command]:
        wanted = ((self.show.type, 2),)
        return ReserveSeats(uuid7(), wanted, 600), ReserveSeats(uuid7(), wanted, 600)

    async def end(self) -> Any:
        return await boxoffice.seats_of(self.house, [self.show.type])


class PaymentAndExpiry(_Ticketing):
    """Money arrives as the seats are taken back: they are taken again."""

    ends: ClassVar = {DONE: (("PAID", "SEATS_AGAIN"), (0, 0, 2), 2)}

    async def prepare(self) -> None:
        await super().prepare()
        await boxoffice.time_out(self.owner, self.one.reservation)

    def operations(self) -> tuple[Command, Command]:
        return self.paid(), ExpireReservations((self.one.reservation,))


class PaymentAndRelease(_Ticketing):
    """Seats are given back while their money arrives: it goes back, or they are sold."""

    ends: ClassVar = {
        (None, "wrong_state"): (("PAID", None), (0, 0, 2), 2),
        DONE: (("CANCELLED", None), (2, 0, 0), 0),
    }

    def operations(self) -> tuple[Command, Command]:
        return self.paid(), ReleaseReservation(self.one.user, self.one.reservation)


class Payments(_Ticketing):
    """A provider tells the same twice."""

    ends: ClassVar = {DONE: (("PAID", None), (0, 0, 2), 2)}

    def operations(self) -> tuple[Command, Command]:
        return self.paid(), self.paid()


class Completions(_Ticketing):
    """A reservation is completed twice: one order, one payment."""

    ends: ClassVar = {
        (None, "wrong_state"): ((0, 2, 0), 1),
        ("wrong_state", None): ((0, 2, 0), 1),
    }

    async def prepare(self) -> None:
        self.show = await boxoffice.new_event(self.house, 2)
        self.user = uuid7()
        held = await boxoffice.reserve(self.house, self.user, (self.show.type, 2))
        self.reservation = held.reservation_id

    def operations(self) -> tuple[Command, Command]:
        wish = CompleteBooking(self.user, self.reservation, "MOMO")
        return wish, wish

    async def end(self) -> Any:
        query = """SELECT count(*) FROM ticketing.orders o JOIN payments.payments p
            ON p.order_id = o.id WHERE o.reservation_id = $1"""
        return await self.seats(), await self.owner.fetchval(query, self.reservation)


class ReleaseAndExpiry(Completions):
    """What is given back and taken back at once is free once."""

    ends: ClassVar = {("reservation_expired", None): (2, 0, 0)}

    async def prepare(self) -> None:
        await super().prepare()
        await boxoffice.time_out(self.owner, self.reservation)

    def operations(self) -> tuple[Command, Command]:
        release = ReleaseReservation(self.user, self.reservation)
        return release, ExpireReservations((self.reservation,))

    async def end(self) -> Any:
        return await self.seats()


class EventOffAndPayment(_Ticketing):
    """An event is called off while a payment arrives: sold before it, or the money goes back."""

    ends: ClassVar = {DONE: {("PAID", 0), ("PENDING", 1_000_000)}}

    def operations(self) -> tuple[Command, Command]:
        return CancelEvent(self.show.id), self.paid()

    async def end(self) -> Any:
        order, _ = await boxoffice.order_now(self.house, self.one.order)
        _, _, back = await boxoffice.payment_now(self.house, self.one.payment)
        return order, back


class Scans(_Ticketing):
    """A ticket is shown at two gates."""

    ends: ClassVar = {
        (None, "already_checked_in"): ["ADMITTED", "ALREADY_CHECKED_IN"],
        ("already_checked_in", None): ["ADMITTED", "ALREADY_CHECKED_IN"],
    }

    async def prepare(self) -> None:
        await super().prepare()
        await boxoffice.tell(self.house, self.one)
        self.code = next(iter(await boxoffice.tickets_of(self.house, self.one.order)))

    def operations(self) -> tuple[Command, Command]:
        return CheckIn(self.code, "north"), CheckIn(self.code, "south")

    async def end(self) -> Any:
        query = "SELECT result::text FROM ticketing.scans WHERE code = $1 ORDER BY 1"
        return [row[0] for row in await self.owner.fetch(query, self.code)]


# Orders -------------------------------------------------------------------------------------------


class LastPiece(Pair):
    """Two buyers want the last piece."""

    ends: ClassVar = {(None, "out_of_stock"): (0, 1, 0), ("out_of_stock", None): (0, 1, 0)}
    pieces: ClassVar[int] = 1

    async def prepare(self) -> None:
        self.product = await storefront.new_product(self.house, self.pieces)
        self.buyers = [storefront.buyer(uuid7().int % 10**8) for _ in range(2)]

    def wish(self, number: int) -> Command:
        lines = ((self.product, 1),)
        return storefront.PlaceOrder(uuid7(), self.buyers[number], lines, 3600)

    def operations(self) -> tuple[Command, Command]:
        return self.wish(0), self.wish(1)

    async def end(self) -> Any:
        return await storefront.stock(self.house, self.product)


class StockAndOrder(LastPiece):
    """The last piece is found broken while it is ordered."""

    ends: ClassVar = {(None, "out_of_stock"): (0, 0, 0), ("out_of_stock", None): (0, 1, 0)}

    def operations(self) -> tuple[Command, Command]:
        return MoveStock(self.product, "adjust", -1, "broken"), self.wish(0)


class ShipmentAndCancel(LastPiece):
    """An order is shipped or cancelled."""

    ends: ClassVar = {
        (None, "wrong_state"): ((0, 0, 1), "SHIPPED"),
        ("wrong_state", None): ((1, 0, 0), "CANCELLED"),
    }

    async def prepare(self) -> None:
        await super().prepare()
        placed = await storefront.place(self.house, (self.product, 1), customer=self.buyers[0])
        self.order = placed.order_id
        await storefront.take(self.house, self.order, "confirm")

    def operations(self) -> tuple[Command, Command]:
        return TakeStep(self.order, "ship"), TakeStep(self.order, "cancel")

    async def end(self) -> Any:
        return await super().end(), (await storefront.status(self.house, self.order))[0]


PAIRS: tuple[type[Pair], ...] = (
    MatchAndCancel,
    TransfersBothWays,
    LastSeats,
    CloseAndBet,
    PaymentAndRelease,
    BetAndCancel,
    Bets,
    Cancels,
    MatchAndClose,
    Settlements,
    SettlementAndRefund,
    SettlementAndPause,
    ResultAndVoid,
    WithdrawalAndPause,
    TransferAndWithdrawal,
    SameKeyTwice,
    Reversals,
    PaymentAndExpiry,
    Payments,
    Completions,
    ReleaseAndExpiry,
    EventOffAndPayment,
    Scans,
    LastPiece,
    StockAndOrder,
    ShipmentAndCancel,
)
"""The first three are CI's; a campaign plays one a part."""
