"""What a seed may ask for: commands of all applications, about a world small enough to collide in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Literal, NamedTuple
from uuid import UUID

from strongroom.apps.betting import (
    CancelBet,
    CloseRound,
    CreateRound,
    PlaceBet,
    RecordResult,
    VoidRound,
)
from strongroom.apps.betting.bets import RefundRound
from strongroom.apps.betting.rounds import FinishRound
from strongroom.apps.betting.settlement import MatchRound, SettleMatches, UndoMatches
from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.apps.orders.products import CreateProduct, MoveStock
from strongroom.apps.orders.steps import LapseOrders, TakeStep
from strongroom.apps.orders.steps import RecordPayment as RecordOrderPayment
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import AddTicketType, CancelEvent, CreateEvent, PublishEvent
from strongroom.apps.ticketing.orders import CancelOrders, CompleteBooking, RecordPayment
from strongroom.apps.ticketing.reservations import (
    ExpireReservations,
    ReleaseReservation,
    ReserveSeats,
)
from strongroom.apps.wallets import Deposit, ReverseTransfer, Transfer, Withdraw
from strongroom.core.commands import Command
from strongroom.core.db import Queries
from strongroom.core.ledger import (
    clearing,
    fees,
    open_accounts,
    revenue,
    stake,
    wallet,
    world,
)
from strongroom.main import Strongroom

sql = Queries(__package__, "replay.sql")

FUNDS, SEATS, PIECES = 100, 4, 3
"""Little of everything, so that it runs out."""

STEPS: tuple[Literal["confirm", "ship", "deliver", "cancel", "return"], ...] = (
    "confirm",
    "ship",
    "deliver",
    "cancel",
    "return",
)


@dataclass(frozen=True)
class Asked:
    """A command under its key: asked again, it is the same request."""

    command: Command
    key: str | None

    @property
    def name(self) -> str:
        return f"{type(self.command).__name__} {self.key or ''}".strip()


class Subject(NamedTuple):
    """Something that a command can be about."""

    kind: str
    id: UUID
    whose: UUID | None
    code: str | None
    amount: int


class Repertoire:
    """Draws commands about what is there. `made` are the ids of this run: whatever else the
    database holds is none of its business."""

    def __init__(
        self, chance: Random, made: set[UUID], new_id: Callable[[], UUID], at: datetime
    ) -> None:
        self._chance, self._made, self._new_id, self._at = chance, made, new_id, at
        self._asked: list[list[Asked]] = []
        self._subjects: dict[str, list[Subject]] = {}
        self.users: list[UUID] = []
        self.types: list[UUID] = []
        self.products: list[UUID] = []
        self.phones: list[str] = []

    async def furnish(self, house: Strongroom) -> None:
        """The world before anything happens, made one by one."""
        self.users = [self._new_id() for _ in range(3)]
        self.phones = [f"+849{self._chance.randrange(10**8):08}" for _ in range(3)]
        theirs = [key(user) for user in self.users for key in (wallet, stake)]
        # The house's own open when they are first needed: then the first seed would be another.
        ours = [world(), fees(), revenue(), clearing("sandbox")]
        async with house.database.transaction() as db:
            await open_accounts(db, theirs + ours)

        async def run(command: Command) -> Any:
            return await house.run(command, key=self._new_id().hex)

        for user in self.users:
            await run(Deposit(user, FUNDS))
        await run(CreateRound("a round", "oracle", fee_bps=250))
        await run(CreateRound("a coin", "coinflip"))
        begin = self._at + timedelta(days=20)
        slug = f"e-{self._new_id().hex[-12:]}"
        made = await run(
            CreateEvent("Đêm nhạc", "Nhà hát", begin, begin + timedelta(hours=3), slug)
        )
        event: UUID = made.event_id
        for price in (14_009, 0):
            type = await run(AddTicketType(event, f"at {price}", price, SEATS))
            self.types.append(type.ticket_type_id)
        await run(PublishEvent(event))
        for number in range(2):
            product = await run(CreateProduct(f"SKU-{self._new_id().hex[-12:]}", "Áo dài", 14_009))
            self.products.append(product.product_id)
            await run(MoveStock(product.product_id, "receive", PIECES + number, "delivery"))

    async def draw(self, house: Strongroom) -> list[Asked]:
        """A group of commands of one type; now and then one that was asked before."""
        chance = self._chance
        if self._asked and chance.random() < 0.15:
            return chance.choice(self._asked)
        rows = await house.audit.fetch(sql.subjects)
        self._subjects = defaultdict(list)
        for row in rows:
            if row["id"] in self._made:
                self._subjects[row["kind"]].append(Subject(*row))
        while True:
            kind = chance.choice(KINDS)
            drawn = [kind(self) for _ in range(chance.choice((1, 1, 2, 3)))]
            wishes = [wish for wish in drawn if wish is not None]
            if wishes:
                break
        group = [
            Asked(wish, None if wish.idempotent else self._new_id().hex[-8:])
            for wish in wishes[: wishes[0].group_limit]
        ]
        self._asked.append(group)
        return group

    # What may be drawn ----------------------------------------------------------------------

    @property
    def user(self) -> UUID:
        return self._chance.choice(self.users)

    @property
    def two_users(self) -> tuple[UUID, UUID]:
        one, other = self._chance.sample(self.users, 2)
        return one, other

    @property
    def amount(self) -> int:
        return self._chance.choice((10, 30, 60, 100))

    def one(self, kind: str) -> Subject | None:
        found = self._subjects[kind]
        return self._chance.choice(found) if found else None

    def about(self, kind: str, make: Callable[[Subject], Command]) -> Command | None:
        """A command about one of these; None while there is none."""
        found = self.one(kind)
        return make(found) if found else None

    def rarely(self, kind: str, make: Callable[[Subject], Command]) -> Command | None:
        """What ends things, and leaves less to happen."""
        return self.about(kind, make) if self._chance.random() < 0.3 else None

    def choose(self, *options: Any) -> Any:
        return self._chance.choice(options)


Kind = Callable[[Repertoire], "Command | None"]


def _told(of: Subject, seed: Repertoire) -> tuple[Any, ...]:
    """What a provider says of a payment: mostly that it went well."""
    result = seed.choose("SUCCESS", "SUCCESS", "SUCCESS", "FAILED")
    return of.id, result, of.amount if result == "SUCCESS" else 0, f"ref-{of.id}"


def _chunk(of: Subject) -> tuple[UUID, int, int]:
    """The matches that an event says are due."""
    first, last = map(int, (of.code or "").split(":"))
    return of.id, first, last


def _order(seed: Repertoire) -> Command:
    phone = seed.choose(*seed.phones)
    lines = tuple((product, seed.choose(1, 2)) for product in seed.products[: seed.choose(1, 2)])
    return PlaceOrder(
        seed.user, Recipient(phone, "Thị Bưởi"), lines, 3600, seed.choose("COD", "MOMO")
    )


def _seats(seed: Repertoire) -> Command:
    lines = tuple((type, seed.choose(1, 2)) for type in seed.types[: seed.choose(1, 2)])
    return ReserveSeats(seed.user, lines, 600)


KINDS: Sequence[Kind] = (
    lambda seed: Transfer(*seed.two_users, seed.amount),
    lambda seed: Transfer(*seed.two_users, seed.amount),
    lambda seed: Withdraw(seed.user, seed.amount),
    lambda seed: Deposit(seed.user, seed.amount),
    lambda seed: seed.about("transfer", lambda it: ReverseTransfer(it.id, "wrong")),
    lambda seed: seed.about(
        "round", lambda it: PlaceBet(seed.user, it.id, seed.choose("A", "B"), seed.amount)
    ),
    lambda seed: seed.about(
        "round", lambda it: PlaceBet(seed.user, it.id, seed.choose("A", "B"), seed.amount)
    ),
    lambda seed: seed.about("bet", lambda it: CancelBet(it.whose or seed.user, it.id)),
    lambda seed: seed.about("round", lambda it: MatchRound(it.id)),
    lambda seed: seed.about("round", lambda it: MatchRound(it.id)),
    lambda seed: seed.rarely("round", lambda it: CloseRound(it.id)),
    lambda seed: seed.about("round", lambda it: RecordResult(it.id, seed.choose("A", "B", "VOID"))),
    lambda seed: seed.rarely("round", lambda it: VoidRound(it.id)),
    lambda seed: seed.about("betting.SettlementDue", lambda it: SettleMatches(*_chunk(it))),
    lambda seed: seed.about("betting.SettlementDue", lambda it: SettleMatches(*_chunk(it))),
    lambda seed: seed.about("betting.UndoDue", lambda it: UndoMatches(*_chunk(it))),
    lambda seed: seed.about("betting.UndoDue", lambda it: UndoMatches(*_chunk(it))),
    lambda seed: seed.about("round", lambda it: RefundRound(it.id)),
    lambda seed: seed.about("round", lambda it: FinishRound(it.id)),
    _seats,
    _seats,
    lambda seed: seed.about(
        "reservation", lambda it: CompleteBooking(it.whose or seed.user, it.id, "MOMO")
    ),
    lambda seed: seed.about(
        "reservation", lambda it: CompleteBooking(it.whose or seed.user, it.id, "MOMO")
    ),
    lambda seed: seed.about(
        "reservation", lambda it: ReleaseReservation(it.whose or seed.user, it.id)
    ),
    lambda seed: seed.about("reservation", lambda it: ExpireReservations((it.id,))),
    lambda seed: seed.about("ticketing", lambda it: RecordPayment(*_told(it, seed))),
    lambda seed: seed.about("ticketing", lambda it: RecordPayment(*_told(it, seed))),
    lambda seed: seed.about("ticket", lambda it: CheckIn(it.code or "", seed.choose("N", "S"))),
    lambda seed: seed.rarely("event", lambda it: CancelEvent(it.id)),
    lambda seed: seed.rarely("event", lambda it: CancelOrders(it.id)),
    _order,
    _order,
    lambda seed: seed.about("order", lambda it: TakeStep(it.id, seed.choose(*STEPS))),
    lambda seed: seed.about("order", lambda it: TakeStep(it.id, seed.choose(*STEPS))),
    lambda seed: seed.about("order", lambda it: LapseOrders((it.id,))),
    lambda seed: seed.about("orders", lambda it: RecordOrderPayment(*_told(it, seed))),
    lambda seed: MoveStock(
        seed.choose(*seed.products), "adjust", seed.choose(-2, -1, 1), "counted again"
    ),
)
"""Twice what more should happen of."""
