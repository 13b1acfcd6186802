"""The rows of the shop's tables, ready to be copied: all but those of the ledger and the rollups."""

from __future__ import annotations

from uuid import UUID

import numpy as np

from strongroom.core.payments import Refund
from strongroom.lab.seeding.books import PURPOSES, WHO, WORLD, Books, code
from strongroom.lab.seeding.fates import (
    CALLED_OFF_LATE,
    CANCELLED,
    COD,
    CONFIRMED,
    DUE,
    LAPSES,
    METHODS,
    NEVER,
    PAID,
    REFUNDED,
    RETURNED,
    STATUSES,
    SUCCESS,
)
from strongroom.lab.seeding.packing import (
    Bytes,
    Numbers,
    Part,
    Text,
    Words,
    bigint,
    boolean,
    id_text,
    ids_at,
    integer,
    moment,
    packed,
    perhaps,
    same,
    solid,
    uuid,
)
from strongroom.lab.seeding.story import NONE, Story
from strongroom.lab.seeding.words import NOTES as NOTED

STATUS, PAYMENT_STATUS, METHOD = Words(STATUSES), Words(PAID), Words(METHODS)
NOTES = Words(NOTED)

WHY = Words(("unpaid", "Khách đổi ý", "Khách trả hàng", "paid"))
UNPAID, CHANGED_MIND, BROUGHT_BACK, PAID_FOR = range(4)
"""Why an order lapsed, was called off, came back, was confirmed."""

TAKEN, REFUSED, WAITS = range(3)
TRIED = Words(("SUCCESS", "FAILED", "PENDING"))
PLANS, STATES = Words(("success", "refused", "page")), Words(("paid", "refused", "waiting"))
"""What came of a payment: in its own words, and in the sandbox's."""


def products(story: Story, supplies: Numbers) -> bytes:
    """orders.products"""
    goods = story.products
    each = np.arange(len(goods))
    return packed(
        (
            uuid(goods.ids),
            Words(goods.skus).text(each),
            Words(goods.names).text(each),
            bigint(goods.prices),
            boolean(goods.active),
            bigint(goods.low_stock_at),
            integer(supplies),
            moment(np.full(len(goods), story.calendar.opened_us)),
        )
    )


def customers(story: Story, part: slice) -> bytes:
    """orders.customers"""
    people = story.customers
    each = np.arange(len(people))[part]
    return packed(
        (
            uuid(people.ids[part]),
            _phones(people.phones[part]),
            people.names.text(people.name[part]),
            Text(people.address(each)),
            same(WHO, len(each)),
            moment(people.since_us[part]),
        )
    )


def _phones(phones: Bytes) -> Text:
    return Text((solid(phones),))


def orders(story: Story, part: slice) -> bytes:
    """orders.orders"""
    people, fates, who = story.customers, story.fates, story.customer[part]
    numbers = np.arange(part.start, part.stop) + 1
    happened = fates.steps(part) != NEVER
    return packed(
        (
            uuid(story.ids[part]),
            code(numbers),
            uuid(people.ids[who]),
            people.names.text(people.name[who]),
            _phones(people.phones[who]),
            Text(people.address(who)),
            NOTES.text(story.note[part], null=story.note[part] == NONE),
            STATUS.text(story.status[part]),
            bigint(story.total[part]),
            METHOD.text(fates.method[part]),
            PAYMENT_STATUS.text(story.paid[part]),
            _payment_ids(story, part),
            integer(happened.sum(axis=1) + fates.failed[part]),
            moment(story.expires_us[part]),
            moment(story.created_us[part]),
        )
    )


def _payment_ids(story: Story, part: slice) -> Text:
    """Of what was paid in cash the order's own id; null where nothing was ever paid."""
    payment = story.payment[part]
    in_cash = (story.fates.method[part] == COD) & (story.fates.captured[part] != NEVER)
    ids = story.ids[part].copy()
    ids[payment != NONE] = story.payment_ids[payment[payment != NONE]]
    return perhaps(uuid(ids), (payment == NONE) & ~in_cash)


def lines(story: Story, part: slice) -> bytes:
    """orders.lines"""
    of_them = story.lines(part.start, part.stop)
    product = story.line_product[of_them]
    return packed(
        (
            uuid(story.ids[story.line_orders(part.start, part.stop)]),
            uuid(story.products.ids[product]),
            bigint(story.line_quantity[of_them]),
            bigint(story.products.prices[product]),
        )
    )


def history(story: Story, part: slice) -> bytes:
    """orders.history: the steps of each order, one after the other."""
    steps = story.fates.steps(part)
    happened = steps != NEVER
    place, step = np.nonzero(happened)
    order = place + part.start
    last = step == steps.shape[1] - 1
    destiny = story.fates.destiny[order]
    off = destiny <= CALLED_OFF_LATE
    status = np.where(last, np.where(off, CANCELLED, RETURNED), step)
    why = np.where(off, np.where(destiny == LAPSES, UNPAID, CHANGED_MIND), BROUGHT_BACK)
    why[~last] = PAID_FOR
    paid_for = (step == CONFIRMED) & (story.fates.method[order] != COD)
    return packed(
        (
            uuid(story.ids[order]),
            integer(np.cumsum(happened, axis=1)[place, step]),
            STATUS.text(status),
            moment(story.calendar.end(steps[place, step])),
            same(WHO, len(order)),
            WHY.text(why, null=~(last | paid_for)),
        )
    )


def codes(story: Story, part: slice) -> bytes:
    """orders.codes"""
    return packed((bigint(np.arange(part.start, part.stop) + 1), uuid(story.ids[part])))


def payments(story: Story, part: slice) -> bytes:
    """payments.payments: of all orders that are not paid in cash."""
    order, ids = story.payer[part], story.payment_ids[part]
    fates, total = story.fates, story.total[order]
    outcome = _outcomes(story, order)
    waits, captured = outcome == WAITS, outcome == TAKEN
    settled = np.where(captured, fates.captured[order], fates.ended[order])
    settled = np.where(fates.failed[order] | waits, fates.placed[order], settled)
    return packed(
        (
            uuid(ids),
            same("orders", len(ids)),
            uuid(story.ids[order]),
            uuid(story.customers.ids[story.customer[order]]),
            METHOD.text(fates.method[order]),
            same("sandbox", len(ids)),
            bigint(total),
            moment(story.expires_us[order]),
            TRIED.text(outcome),
            Text((_prefix("SBX-", len(ids)), solid(id_text(ids))), waits),
            Words(("refused",)).text(np.zeros(len(ids), np.int64), null=outcome != REFUSED),
            perhaps(bigint(total), ~captured),
            moment(story.created_us[order]),
            perhaps(moment(story.calendar.end(settled)), waits),
        )
    )


def _outcomes(story: Story, order: Numbers) -> Numbers:
    """What came of the payments of these orders. Who has not paid when the order is off has been
    refused by then."""
    paid = story.paid[order]
    return np.select([(paid == SUCCESS) | (paid == REFUNDED), paid == DUE], [TAKEN, WAITS], REFUSED)


def _prefix(text: str, count: int) -> Part:
    cells = np.frombuffer(text.encode(), np.uint8)
    return solid(np.broadcast_to(cells, (count, len(cells))))


def refunds(story: Story) -> bytes:
    """payments.refunds: all of them, sent."""
    payment = np.flatnonzero(story.paid[story.payer] == REFUNDED)
    order = story.payer[payment]
    ids = _refund_ids(story, payment)
    at = moment(story.calendar.end(story.fates.ended[order]))
    return packed(
        (
            uuid(ids),
            uuid(story.payment_ids[payment]),
            bigint(story.total[order]),
            Words(("cancelled", "returned")).text(
                (story.status[order] == RETURNED).astype(np.int64)
            ),
            same("DONE", len(ids)),
            Text((_prefix("SBR-", len(ids)), solid(id_text(ids)))),
            at,
            at,
        )
    )


def _refund_ids(story: Story, payment: Numbers) -> Bytes:
    """Made from the payments', as every refund's id is."""
    made = b"".join(
        Refund.id_of(UUID(bytes=one.tobytes())).bytes for one in story.payment_ids[payment]
    )
    return np.frombuffer(made, np.uint8).reshape(-1, 16)


def charges(story: Story, part: slice) -> bytes:
    """payments.sandbox_charges: the bank knows what it took, or it could not give it back. Who has
    not paid yet is expected on its page."""
    order, ids = story.payer[part], story.payment_ids[part]
    total, outcome = story.total[order], _outcomes(story, order)
    back = story.paid[order] == REFUNDED
    refunds = ids.copy()
    refunds[back] = _refund_ids(story, np.arange(part.start, part.stop)[back])
    return packed(
        (
            uuid(ids),
            bigint(total),
            PLANS.text(outcome),
            STATES.text(outcome),
            bigint(np.where(outcome == TAKEN, total, 0)),
            integer(outcome != WAITS),
            moment(story.expires_us[order]),
            perhaps(uuid(refunds), ~back),
            bigint(np.where(back, total, 0)),
            moment(story.created_us[order]),
        )
    )


def accounts(books: Books) -> bytes:
    """ledger.accounts of the products, as the ledger has left them."""
    goods = books.story.products
    stock = len(goods) * len(PURPOSES)
    product, purpose = np.divmod(np.arange(stock), len(PURPOSES))
    world = purpose == WORLD
    owner = goods.ids[product]
    owner[world] = 0  # the house's
    units = Words([f"PIECE:{bytes(one).decode()}" for one in id_text(goods.ids)])
    return packed(
        (
            bigint(books.accounts[:stock]),
            uuid(owner),
            Words(PURPOSES).text(purpose),
            units.text(product),
            perhaps(bigint(np.zeros(stock)), world),
            bigint(books.balances[:stock]),
            bigint(books.seqs[:stock]),
            moment(np.full(stock, books.story.calendar.opened_us)),
        )
    )


def events(books: Books, noise: np.random.Generator) -> bytes:
    """events.log: one event for each hour in which anything happened."""
    story, calendar = books.story, books.story.calendar
    placed = np.bincount(story.fates.placed, minlength=calendar.hours)
    hours = np.flatnonzero(books.transfers_by_hour)
    at = calendar.end(hours)
    moved = books.transfers_by_hour[hours]
    told = [
        f'\x01{{"orders":{orders},"transfers":{transfers}}}'
        for orders, transfers in zip(placed[hours], moved, strict=True)
    ]
    return packed(
        (
            uuid(ids_at(at, noise)),
            bigint(np.ones(len(hours))),
            uuid(ids_at(at, noise)),
            same("orders.HourImported", len(hours)),
            Words(told).text(np.arange(len(hours))),
            moment(at),
        )
    )
