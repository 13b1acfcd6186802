"""The ledger of the story: what moved in stock and money, in the order it happened, with the
balances that it left. One stretch of days after the other, so that memory does not grow.

Stock is received at the beginning of each stretch, as much as it will need: so no entry leaves an
account below zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from strongroom.lab.seeding.fates import (
    CALLED_OFF,
    CALLED_OFF_LATE,
    COD,
    LAPSES,
    NEVER,
    REFUSED_AT_DOOR,
    SENT_BACK,
)
from strongroom.lab.seeding.packing import (
    Bytes,
    Numbers,
    Part,
    Text,
    Words,
    bigint,
    digits,
    id_text,
    ids_at,
    moment,
    packed,
    same,
    solid,
    uuid,
)
from strongroom.lab.seeding.shop import Calendar
from strongroom.lab.seeding.story import Story

WHO = "import"
"""Who did it all, in `created_by` and `by_whom`."""

KINDS = (
    "SUPPLY", "HOLD", "EXPIRE", "RELEASE", "SALE", "RETURN", "PAYMENT", "PAYBACK", "ADJUST",
)  # fmt: skip
SUPPLY, HOLD, EXPIRE, RELEASE, SALE, RETURN, PAYMENT, PAYBACK, ADJUST = range(9)
"""What a transfer's key begins with. Within an hour they happen in this order."""

TYPES = Words(
    ("SUPPLY", "HOLD", "EXPIRY", "RELEASE", "SALE", "RETURN", "PAYMENT", "REFUND", "ADJUSTMENT")
)
PREFIXES = Words([f"{kind}:" for kind in KINDS])

WORLD, FREE, HELD, SOLD = range(4)
"""A product's accounts: product number p has those from 4p on. After all of them come the house's:
revenue, and the clearing accounts of the sandbox and of cash."""
PURPOSES = ("world", "free", "held", "sold")
HOUSE = ("revenue", "clearing:sandbox", "clearing:cod")
MOST_PRODUCTS = (NEVER - len(HOUSE)) // len(PURPOSES)

FROM = np.array([WORLD, FREE, HELD, HELD, HELD, SOLD, 0, 0, FREE])
TO = np.array([FREE, HELD, FREE, FREE, SOLD, FREE, 0, 0, WORLD])

REASONS = ("Nhập kho định kỳ", "Kiểm kê cuối kỳ")

STRETCH_HOURS = 14 * 24

TOGETHER = 200_000
"""Transfers that are packed at once, which takes some hundreds of megabytes."""

CUSHION = 0.25
"""Received beyond what a stretch will need, as a share of it."""

LOW, GONE = 0.06, 0.015
"""The shares of products that are low in stock, and that are sold out, in the end."""

PREFIX_OF_CODES = "SON"


def code(numbers: Numbers) -> Text:
    """Orders' codes: six digits, or as many as it takes."""
    widest = max(6, len(str(int(numbers.max(initial=0)))))
    cells = digits(numbers, widest)
    lengths = np.maximum(6, np.searchsorted(10 ** np.arange(1, widest), numbers, side="right") + 1)
    # Digits stand on the right; texts begin on the left.
    shift = widest - lengths
    if shift.any():
        place = np.minimum(np.arange(widest) + shift[:, None], widest - 1)
        cells = np.take_along_axis(cells, place, axis=1)
    begin = np.broadcast_to(np.frombuffer(PREFIX_OF_CODES.encode(), np.uint8), (len(numbers), 3))
    return Text((solid(begin), Part(cells, lengths)))


@dataclass(frozen=True, slots=True)
class Moves:
    """All that one kind of transfer did: when, and to which line, order or payment."""

    kind: int
    hour: npt.NDArray[np.uint16]
    subject: npt.NDArray[np.int32]

    def during(self, first: int, last: int) -> tuple[Numbers, Numbers]:
        begin, end = np.searchsorted(self.hour, (first, last))
        return self.hour[begin:end], self.subject[begin:end]


@dataclass(slots=True)
class Stretch:
    """Transfers in the order they happened. `subject` is a line of a stock movement, an order of
    a payment, a product of a receipt; `number` counts the receipts of a product."""

    kind: npt.NDArray[np.uint8]
    hour: npt.NDArray[np.uint16]
    subject: npt.NDArray[np.int32]
    amount: npt.NDArray[np.int64]
    number: npt.NDArray[np.int32]

    def part(self, of_it: slice) -> Stretch:
        return Stretch(
            self.kind[of_it],
            self.hour[of_it],
            self.subject[of_it],
            self.amount[of_it],
            self.number[of_it],
        )


@dataclass(frozen=True, slots=True)
class Written:
    """A stretch of the ledger, ready to be copied."""

    transfers: bytes
    entries: bytes
    rows: int


@dataclass(slots=True)
class House:
    """The house's own account as it was found: other rooms use it too."""

    id: int
    balance: int
    seq: int


@dataclass(slots=True)
class Books:
    """Walks through the story. `accounts` are the ids that the accounts will have; the house's
    go on from where they are."""

    story: Story
    accounts: npt.NDArray[np.int64]
    house: list[House]
    seed: int
    balances: npt.NDArray[np.int64] = field(init=False)
    seqs: npt.NDArray[np.int64] = field(init=False)
    supplies: npt.NDArray[np.int32] = field(init=False)
    transfers_by_hour: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        goods = len(self.story.products)
        assert goods <= MOST_PRODUCTS and self.story.calendar.last < NEVER
        assert len(self.accounts) == goods * len(PURPOSES) + len(HOUSE)
        stock = [0] * (goods * len(PURPOSES))
        self.balances = np.array([*stock, *(one.balance for one in self.house)])
        self.seqs = np.array([*stock, *(one.seq for one in self.house)])
        self.supplies = np.zeros(goods, np.int32)
        self.transfers_by_hour = np.zeros(self.story.calendar.hours, np.int64)

    def walk(self) -> Iterator[Written]:
        """The whole ledger; afterwards `balances` and `seqs` are those of the accounts."""
        noise = np.random.default_rng([self.seed, 10])
        moves, calendar = self._moves(), self.story.calendar
        wanted = self._wanted(noise)
        writing = _Writing(self)
        for first in range(0, calendar.hours, STRETCH_HOURS):
            last = min(first + STRETCH_HOURS, calendar.hours)
            stretch = self._stretch(moves, first, last)
            stretch = self._supplied(stretch, first, wanted, final=last == calendar.hours)
            self.transfers_by_hour += np.bincount(stretch.hour, minlength=calendar.hours)
            for begin in range(0, len(stretch.kind), TOGETHER):
                yield writing.write(stretch.part(slice(begin, begin + TOGETHER)), noise)

    def _moves(self) -> list[Moves]:
        """By kind, each in the order of its hours; within an hour kinds follow one another."""
        story, fates = self.story, self.story.fates
        destiny, line_order = fates.destiny, story.line_orders()
        lapsed = np.where(destiny == LAPSES, fates.ended, NEVER)
        off = np.where((destiny == CALLED_OFF) | (destiny == CALLED_OFF_LATE), fates.ended, NEVER)
        back = (destiny == REFUSED_AT_DOOR) | (destiny == SENT_BACK)
        returned = np.where(back, fates.ended, NEVER)
        of_lines = (
            (HOLD, fates.placed),
            (EXPIRE, lapsed),
            (RELEASE, off),
            (SALE, fates.shipped),
            (RETURN, returned),
        )
        found = [_moves(kind, hours[line_order]) for kind, hours in of_lines]
        return [*found, _moves(PAYMENT, fates.captured), _moves(PAYBACK, fates.refunded)]

    def _wanted(self, noise: np.random.Generator) -> npt.NDArray[np.int64]:
        """What shall be free of each product in the end at most; -1 for plenty."""
        goods, drawn = self.story.products, noise.random(len(self.story.products))
        low = (goods.low_stock_at * noise.random(len(goods))).astype(np.int64) + 1
        return np.where(drawn < GONE, 0, np.where(drawn < GONE + LOW, low, -1))

    def _stretch(self, moves: list[Moves], first: int, last: int) -> Stretch:
        story = self.story
        pieces = [one.during(first, last) for one in moves]
        kind = np.repeat(
            np.array([one.kind for one in moves], np.uint8), [len(hour) for hour, _ in pieces]
        )
        hour = np.concatenate([hour for hour, _ in pieces])
        order = np.argsort(hour, kind="stable")
        kind, hour = kind[order], hour[order]
        subject = np.concatenate([subject for _, subject in pieces])[order]
        money = (kind == PAYMENT) | (kind == PAYBACK)
        amount = np.empty(len(kind), np.int64)
        amount[money] = story.total[subject[money]]
        amount[~money] = story.line_quantity[subject[~money]]
        return Stretch(kind, hour, subject, amount, np.zeros(len(kind), np.int32))

    def _supplied(
        self, stretch: Stretch, first: int, wanted: npt.NDArray[np.int64], *, final: bool
    ) -> Stretch:
        """With receipts before it, and after the final one with adjustments. Of what shall be
        short in the end no more is ever received than is needed."""
        goods = self.story.products
        lowest, net = self._of_free(stretch)
        free = self.balances[FREE : len(goods) * len(PURPOSES) : len(PURPOSES)]
        short = np.maximum(-lowest - free, 0)
        if final:
            short = np.maximum(short, wanted - free - net)
        lot = np.where(lowest < -200, 100, np.where(lowest < -20, 10, 5))
        cushioned = -lowest - free + goods.low_stock_at * 2 + (-lowest * CUSHION).astype(np.int64)
        plenty = np.maximum(-(-cushioned // lot) * lot, 0)
        received = np.where(wanted < 0, plenty, short)
        supplied = self._with(stretch, SUPPLY, first, received, before=True)
        if not final:
            return supplied
        left = free + received + net
        lost = np.where(wanted < 0, 0, np.maximum(left - wanted, 0))
        return self._with(supplied, ADJUST, self.story.calendar.last, lost, before=False)

    def _of_free(self, stretch: Stretch) -> tuple[Numbers, Numbers]:
        """How far the stretch takes each product's free stock down at its worst, and in all."""
        goods = len(self.story.products)
        sign = (TO == FREE).astype(np.int64) - (FROM == FREE)
        sign[[PAYMENT, PAYBACK]] = 0
        change = sign[stretch.kind]
        moving = np.flatnonzero(change)
        product = self.story.line_product[stretch.subject[moving]]
        order = np.argsort(product, kind="stable")
        product, moving = product[order], moving[order]
        change = change[moving] * stretch.amount[moving]
        lowest, net = np.zeros(goods, np.int64), np.zeros(goods, np.int64)
        if len(moving):
            begins = np.flatnonzero(np.diff(product, prepend=np.uint16(NEVER)))
            running = np.cumsum(change)
            before = running[begins] - change[begins]
            lowest[product[begins]] = np.minimum(np.minimum.reduceat(running, begins) - before, 0)
            net[product[begins]] = np.add.reduceat(change, begins)
        return lowest, net

    def _with(
        self, stretch: Stretch, kind: int, hour: int, amounts: Numbers, *, before: bool
    ) -> Stretch:
        product = np.flatnonzero(amounts).astype(np.int32)
        self.supplies[product] += 1
        more = Stretch(
            np.full(len(product), kind, np.uint8),
            np.full(len(product), hour, np.uint16),
            product,
            amounts[product].astype(np.int64),
            self.supplies[product],
        )
        both = (more, stretch) if before else (stretch, more)
        return Stretch(
            *(
                np.concatenate([getattr(one, name) for one in both])
                for name in ("kind", "hour", "subject", "amount", "number")
            )
        )


def _moves(kind: int, hours: Numbers) -> Moves:
    happened = np.flatnonzero(hours != NEVER)
    hour = hours[happened].astype(np.uint16)
    order = np.argsort(hour, kind="stable")
    return Moves(kind, hour[order], happened[order].astype(np.int32))


class _Writing:
    """Turns transfers into rows, and keeps the accounts."""

    def __init__(self, books: Books) -> None:
        self._books, self._story = books, books.story
        self._line_orders = books.story.line_orders()
        products = [bytes(one).decode() for one in id_text(books.story.products.ids)]
        self._goods = len(products)
        self._units = Words([*(f"PIECE:{one}" for one in products), "VND"])
        # Behind the key's id: the product of a line, nothing of a payment, else a count.
        stretches = -(-self._story.calendar.hours // STRETCH_HOURS)
        counts = (f":{n}" for n in range(stretches + 2))
        self._tails = Words([*(f":{one}" for one in products), "", *counts])
        self._reasons = Words(REASONS)

    def write(self, stretch: Stretch, noise: np.random.Generator) -> Written:
        story, calendar = self._story, self._story.calendar
        kind, subject = stretch.kind, stretch.subject
        money = (kind == PAYMENT) | (kind == PAYBACK)
        stock = (kind == SUPPLY) | (kind == ADJUST)
        of_line = ~(money | stock)
        order = np.zeros(len(kind), np.int64)
        order[of_line] = self._line_orders[subject[of_line]]
        order[money] = subject[money]
        product = np.full(len(kind), self._goods)
        product[of_line] = story.line_product[subject[of_line]]
        product[stock] = subject[stock]
        ids = ids_at(_spread(stretch.hour, calendar), noise)
        tails = np.where(stock, self._goods + 1 + stretch.number, product)
        transfers = packed(
            (
                uuid(ids),
                Text(
                    (
                        PREFIXES.part(kind),
                        solid(id_text(self._named(order, product, money, stock))),
                        self._tails.part(tails),
                    )
                ),
                self._units.text(product),
                self._references(kind, order, stock),
                same(WHO, len(kind)),
                moment(calendar.end(stretch.hour)),
            )
        )
        return Written(transfers, self._entries(stretch, ids, order, product, money), len(kind))

    def _named(self, order: Numbers, product: Numbers, money: Numbers, stock: Numbers) -> Bytes:
        """Whose id the key holds: the product's, the payment's, or the order's."""
        story = self._story
        found = story.ids[order]
        found[stock] = story.products.ids[product[stock]]
        payment = story.payment[order[money]]
        paid = np.flatnonzero(money)[payment >= 0]
        found[paid] = story.payment_ids[payment[payment >= 0]]
        return found

    def _references(self, kind: Numbers, order: Numbers, stock: Numbers) -> Text:
        codes = code(order + 1)
        why = self._reasons.part((kind == ADJUST).astype(np.int64))
        parts = [Part(one.cells, np.where(stock, 0, one.lengths)) for one in codes.parts]
        return Text((*parts, Part(why.cells, np.where(stock, why.lengths, 0))))

    def _entries(
        self, stretch: Stretch, ids: Bytes, order: Numbers, product: Numbers, money: Numbers
    ) -> bytes:
        """Two a transfer, in the order of their accounts: the longest index grows in few places."""
        books, kind = self._books, stretch.kind
        revenue = self._goods * len(PURPOSES)
        clearing = revenue + 1 + (self._story.fates.method[order] == COD)
        source = product * len(PURPOSES) + FROM[kind]
        target = product * len(PURPOSES) + TO[kind]
        back = kind == PAYBACK
        source[money] = np.where(back, revenue, clearing)[money]
        target[money] = np.where(back, clearing, revenue)[money]
        account = np.stack((source, target), axis=1).ravel().astype(np.uint16)
        amount = np.stack((-stretch.amount, stretch.amount), axis=1).ravel()
        by_account = np.argsort(account, kind="stable")
        account, amount = account[by_account], amount[by_account]
        begins = np.flatnonzero(np.diff(account, prepend=np.uint16(NEVER)))
        counts = np.diff(begins, append=len(account))
        moved = account[begins]
        running = np.cumsum(amount)
        before = running[begins] - amount[begins]
        after = running + np.repeat(books.balances[moved] - before, counts)
        seq = np.arange(1, len(account) + 1) + np.repeat(books.seqs[moved] - begins, counts)
        ends = begins + counts - 1
        books.balances[moved], books.seqs[moved] = after[ends], seq[ends]
        transfer = by_account // 2
        return packed(
            (
                bigint(books.accounts[account]),
                bigint(seq),
                uuid(ids[transfer]),
                bigint(amount),
                bigint(after),
                TYPES.text(kind[transfer]),
            )
        )


def _spread(hours: Numbers, calendar: Calendar) -> Numbers:
    """Moments within these hours, which ascend, as the moments do: so do the ids made of them."""
    begins = np.flatnonzero(np.diff(hours, prepend=np.uint16(NEVER)))
    counts = np.diff(begins, append=len(hours))
    place = np.arange(len(hours)) - np.repeat(begins, counts)
    start, end = calendar.begin(hours), calendar.end(hours)
    return np.asarray(start + place * (end - start) // np.repeat(counts, counts))
