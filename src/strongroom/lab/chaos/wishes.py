"""Wishes of all three applications as the library takes them: who wanted what under which key, what
was answered, and what the books say of it in the end.

A wish has an effect that the books show by name, `("bet", its id)`. Once every wish has a definite
answer the account is plain: what was acknowledged and is not there is lost; what is there and
nobody was told of happened once too often.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec

from strongroom.apps.betting import CancelBet, CreateRound, PlaceBet
from strongroom.apps.orders.orders import PlaceOrder, Recipient
from strongroom.apps.orders.products import CreateProduct, MoveStock
from strongroom.apps.orders.steps import TakeStep
from strongroom.apps.ticketing.events import AddTicketType, CreateEvent, PublishEvent
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReleaseReservation, ReserveSeats
from strongroom.apps.wallets import Deposit, Transfer, Withdraw
from strongroom.clock import monotonic, now
from strongroom.core.commands import Command, Outcome, Ticket
from strongroom.core.commands.command import OutcomeUnknown
from strongroom.core.db import Database, Queries
from strongroom.errors import Busy, StrongroomError
from strongroom.main import Strongroom

sql = Queries(__package__, "wishes.sql")

PLENTY = 10**9
"""Seats, pieces and money: what runs out is another trial's matter."""

HOLD_S = 86_400
"""Nothing lapses while a trial lasts."""

PATIENCE_S = 2.0
"""As an API's deadline of a write."""

GIVE_UP_S = 60.0
"""What has no definite answer by then stays unresolved, and the trial is none."""

REPLAYED_TOGETHER = 256

NOBODY = UUID(int=0)

Effect = tuple[str, str]


@dataclass(slots=True, eq=False)
class Wish:
    """A command under a key; once acknowledged, what was answered and what it must have done."""

    kind: str
    command: Command
    principal: str
    key: str = field(default_factory=lambda: uuid4().hex)
    answer: bytes | None = None
    refused: str | None = None
    effect: Effect | None = None

    def ticket(self, patience_s: float) -> Ticket:
        deadline = monotonic() + patience_s
        return Ticket(self.command, principal=self.principal, key=self.key, deadline=deadline)


@dataclass(frozen=True)
class Kind:
    """How a wish is made of what there is, by whom; `after` names the kind whose effect it takes,
    `answered` the id in its answer, where that is not the one that it took."""

    make: Callable[[Fair, random.Random, UUID, UUID], Command]
    after: str | None = None
    answered: str | None = None


KINDS: dict[str, Kind] = {
    "deposit": Kind(lambda _, c, user, __: Deposit(user, c.randint(1, 999)), None, "transferId"),
    "withdrawal": Kind(lambda _, c, user, __: Withdraw(user, c.randint(1, 9)), None, "transferId"),
    "transfer": Kind(
        lambda fair, c, user, __: Transfer(user, fair.other(c, user), c.randint(1, 99)),
        None,
        "transferId",
    ),
    # All on one side: what has found its counterpart could not be cancelled any more.
    "bet": Kind(lambda fair, c, user, _: PlaceBet(user, fair.round_id, "A", 10), None, "betId"),
    "cancel": Kind(lambda _, __, user, bet: CancelBet(user, bet), "bet"),
    "reservation": Kind(
        lambda fair, c, user, _: ReserveSeats(user, ((c.choice(fair.types), 1),), HOLD_S),
        None,
        "reservationId",
    ),
    "release": Kind(lambda _, __, user, seats: ReleaseReservation(user, seats), "reservation"),
    "booking": Kind(
        lambda _, c, user, seats: CompleteBooking(user, seats, c.choice(["CARD", "MOMO"])),
        "reservation",
        "orderId",
    ),
    "order": Kind(
        lambda fair, c, user, _: PlaceOrder(user, fair.recipient(c), fair.basket(c), HOLD_S),
        None,
        "orderId",
    ),
    "confirmation": Kind(lambda _, __, ___, order: TakeStep(order, "confirm"), "order"),
}


class Fair:
    """A round, an event and a shop that are open, people with money, and all that was wished."""

    round_id: UUID = NOBODY

    def __init__(self, house: Strongroom, people: Sequence[UUID], seed: int) -> None:
        self.people, self.chance = list(people), random.Random(seed)
        self._house = house
        self.types: list[UUID] = []
        self.products: list[UUID] = []
        self.acknowledged: list[Wish] = []
        self.unknown = 0
        """Times that an outcome was not known at first."""
        self.unresolved: list[Wish] = []
        self._waiting: dict[str, list[tuple[UUID, UUID]]] = {kind: [] for kind in KINDS}
        self._before: Counter[Effect] = Counter()

    async def open(self, database: Database) -> None:
        """Opens all of it, and notes what lies in the books already."""
        run, begins = self._house.run, now() + timedelta(days=30)
        self.round_id = (await run(CreateRound("A fair", "oracle"))).round_id
        event = CreateEvent("A fair", "Hà Nội", begins, begins + timedelta(hours=3))
        event_id = (await run(event)).event_id
        for name, price in (("paid", 50_000), ("free", 0)):
            made = await run(AddTicketType(event_id, name, price, PLENTY))
            self.types.append(made.ticket_type_id)
        await run(PublishEvent(event_id))
        for number in range(4):
            made = await run(
                CreateProduct(f"FAIR-{uuid4().hex[:12]}", f"Thing {number}", 1000 + number)
            )
            self.products.append(made.product_id)
            await run(MoveStock(made.product_id, "receive", PLENTY, "for the fair"))
        self._before = await effects(database)

    def other(self, chance: random.Random, user: UUID) -> UUID:
        return chance.choice([one for one in self.people if one != user])

    def recipient(self, chance: random.Random) -> Recipient:
        return Recipient(f"+849{chance.randrange(10**8):08d}", "Trần Văn An", None, "1 Lê Lợi")

    def basket(self, chance: random.Random) -> tuple[tuple[UUID, int], ...]:
        some = chance.sample(self.products, chance.randint(1, 3))
        return tuple((product, chance.randint(1, 3)) for product in some)

    def wish(self, kind: str) -> Wish:
        """A new wish of this kind, or of the one that has to come before it."""
        how = KINDS[kind]
        user, subject = self.chance.choice(self.people), NOBODY
        if how.after:
            if not self._waiting[how.after]:
                return self.wish(how.after)
            user, subject = self._waiting[how.after].pop()
        wish = Wish(kind, how.make(self, self.chance, user, subject), f"user:{user}")
        if how.after:
            wish.effect = (kind, str(subject))
        return wish

    async def wishes(self, kind: str, count: int) -> list[Wish]:
        """So many wishes of one kind, after what has to come before."""
        after = KINDS[kind].after
        while after and len(self._waiting[after]) < count:
            await self.run([self.wish(after) for _ in range(count)])
        return [self.wish(kind) for _ in range(count)]

    async def run(self, wishes: Sequence[Wish], patience_s: float = GIVE_UP_S) -> list[Outcome]:
        """All of one kind, in one transaction; notes what was definite."""
        tickets = [wish.ticket(patience_s) for wish in wishes]
        await self._house.executor.run(tickets)
        outcomes = [await ticket.future for ticket in tickets]
        for wish, outcome in zip(wishes, outcomes, strict=True):
            self._note(wish, outcome)
        return outcomes

    async def ask(self, wish: Wish) -> None:
        """In its lane's next group; again with the same key until the outcome is definite."""
        patience = monotonic() + GIVE_UP_S
        in_doubt = False
        while True:
            try:
                outcome = await self._house.lanes.run(wish.ticket(PATIENCE_S))
            except StrongroomError as error:
                outcome = Outcome(error=error)
            self._note(wish, outcome)
            if wish.answer is not None:
                # A new key that has an answer: its COMMIT arrived, and the word of it did not.
                self.unknown += in_doubt or outcome.replayed
                return
            in_doubt = in_doubt or isinstance(outcome.error, OutcomeUnknown)
            if not isinstance(outcome.error, Busy):
                raise outcome.error or AssertionError("neither an answer nor an error")
            if monotonic() > patience:
                self.unresolved.append(wish)
                return
            await asyncio.sleep(self.chance.uniform(0.02, 0.1))

    def _note(self, wish: Wish, outcome: Outcome) -> None:
        if outcome.error:
            return
        wish.answer, wish.refused = outcome.body, outcome.refused
        self.acknowledged.append(wish)
        if outcome.refused:
            wish.effect = None
            return
        answered = KINDS[wish.kind].answered
        if answered:
            id = str(msgspec.json.decode(outcome.body)[answered])
            wish.effect = (wish.kind, id)
            user = UUID(wish.principal.removeprefix("user:"))
            self._waiting[wish.kind].append((user, UUID(id)))

    async def stored(self, database: Database, wishes: Iterable[Wish]) -> int:
        """How many of them have been decided, as the database says at this instant."""
        return int(await database.fetchval(sql.stored, [wish.key for wish in wishes]))

    async def missing(self, database: Database, wishes: Sequence[Wish]) -> list[Wish]:
        """Those that were acknowledged and done, and that the books do not show."""
        there = await effects(database)
        return [wish for wish in wishes if wish.effect and not there[wish.effect]]

    async def account(self, database: Database) -> tuple[list[str], list[str]]:
        """What is lost, and what happened once too often; complete when nothing is unresolved."""
        there = await effects(database)
        there.subtract(self._before)
        told = Counter(wish.effect for wish in self.acknowledged if wish.effect)
        lost = [" ".join(one) for one in (told - there).elements()]
        doubled = [" ".join(one) for one in (there - told).elements()]
        return lost, doubled

    async def replayed(self, wishes: Sequence[Wish]) -> list[str]:
        """Asks for everything again with the same keys; answers that were not the first's, byte
        for byte, each as a sentence."""
        wrong: list[str] = []
        for kind in KINDS:
            same = [wish for wish in wishes if wish.kind == kind]
            for start in range(0, len(same), REPLAYED_TOGETHER):
                group = same[start : start + REPLAYED_TOGETHER]
                tickets = [wish.ticket(GIVE_UP_S) for wish in group]
                await self._house.executor.run(tickets)
                for wish, ticket in zip(group, tickets, strict=True):
                    again = await ticket.future
                    if not again.replayed or again.body != wish.answer:
                        wrong.append(f"{kind} {wish.key}: {wish.answer!r}, then {again.body!r}")
        return wrong


async def effects(database: Database) -> Counter[Effect]:
    """What is in the books by now."""
    return Counter((row["kind"], str(row["id"])) for row in await database.fetch(sql.effects))
