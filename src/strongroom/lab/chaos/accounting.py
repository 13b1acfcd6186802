"""What was acknowledged, held against the books (L10, I2).

Both sides are put in the same words. An acknowledged wish names the effect that it must have; the
books name every effect that there is. Then the account is a difference of two heaps: what was
acknowledged and is not there is lost; what is there and was not acknowledged is doubled, or the
trace of a refusal, or nobody's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from strongroom.core.db import Queries
from strongroom.lab.chaos.asking import Asked
from strongroom.lab.chaos.crowd import REPLAYERS, Crowd
from strongroom.lab.chaos.field import LAB, Field
from strongroom.lab.trial import ENOUGH_ACKNOWLEDGED, Trial

sql = Queries(__package__, "books.sql")

AT_ONCE = 16
DRAINED_S = 90.0
"""What was begun is finished within this: among it mails, which take a worker longest."""

SHOWN = 200

SENSIBLE: dict[str, set[int | str]] = {
    "setup": {200, 201},
    "bet": {202, "round_closed", "insufficient_funds"},
    "cancel bet": {202, "wrong_state", "round_closed"},
    "transfer": {201, "insufficient_funds"},
    "withdrawal": {201, "insufficient_funds"},
    "deposit": {201},
    "round": {201},
    "close": {202},
    "void": {202},
    "result": {202, "round_kind"},
    "reserve": {201, "sold_out"},
    "release": {200},
    "complete": {201},
    "callback": {200},
    "order": {201, "out_of_stock"},
    "stock": {201},
    "pay": {200, "wrong_state"},
    **{
        step: {200, "wrong_state", "not_paid"}
        for step in ("confirm", "ship", "deliver", "return", "cancel")
    },
}
"""Statuses and codes that an answer may have, by what was asked."""

MADE = {
    "bet": "betId",
    "transfer": "transferId",
    "deposit": "transferId",
    "withdrawal": "transferId",
    "round": "roundId",
    "reserve": "reservationId",
    "release": "reservationId",
    "complete": "orderId",
    "order": "orderId",
}
"""Where an answer names what was made."""

STEPS = {
    "confirm": "CONFIRMED",
    "ship": "SHIPPED",
    "deliver": "DELIVERED",
    "return": "RETURNED",
    "cancel": "CANCELLED",
}

MOVES = ("transfer", "deposit", "withdrawal")

ENDED = ("SETTLED", "VOIDED")


class Effect(NamedTuple):
    """One effect: its kind, its name in the books, and what was asked for."""

    kind: str
    id: str
    said: str


@dataclass
class Books:
    """What there is. Of `effects` each has exactly one wish. Of `facts` there may be more, or
    others may have brought them about: who was told of one finds it. `faults` are wrong by
    themselves."""

    effects: list[Effect] = field(default_factory=list)
    facts: set[tuple[str, str]] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


@dataclass
class Account:
    """What came of the comparison, all in sentences; `wrong` is what is neither of the others."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def said_by(asked: Asked) -> tuple[str, str] | None:
    """The kind of effect that a wish asks for exactly once, and its words; None for other wishes."""
    if asked.kind in MOVES:
        return asked.kind, f"{asked.key}|{asked.effect}"
    if asked.kind in STEPS:
        return "step", f"{asked.effect}|{STEPS[asked.kind]}"
    return (asked.kind, asked.effect) if asked.kind in MADE else None


def effect_of(asked: Asked) -> Effect | None:
    """The effect that the answer to a done wish names."""
    words = said_by(asked)
    if words is None:
        return None
    kind, said = words
    if kind == "step":
        return Effect(kind, asked.told["orderId"], said)
    id = asked.told[MADE[kind]]
    if kind == "order":
        id = f"{id}|{asked.told['code']}|{asked.told['totalAmount']}"
    return Effect(kind, id, said)


def account(asked: Sequence[Asked], books: Books) -> Account:
    """Holds every wish against the books, and the books against every wish."""
    found = Account(wrong=list(books.faults))
    done = [one for one in asked if one.done]
    expected = Counter(effect for one in done if (effect := effect_of(one)))
    there = Counter(books.effects)
    for effect, times in (expected - there).items():
        found.lost.append(f"acknowledged and not there{_times(times)}: {effect}")
    _name_the_rest(there - expected, asked, found)
    for one in done:
        if one.kind in FACTS and (one.kind, one.effect) not in books.facts:
            found.lost.append(f"acknowledged and not there: {one.kind} of {one.effect}")
    for product, words in _pieces(asked).items():
        if ("pieces", words) not in books.facts:
            found.wrong.append(f"pieces of {product} are not as many as were delivered: {words}")
    for one in asked:
        found.wrong += _unlike(one)
    return found


FACTS = ("cancel bet", "close", "void", "result", "callback")
"""Wishes that bring about a state, which others may bring about as well."""


def _times(times: int) -> str:
    return "" if times == 1 else f", {times} times"


def _name_the_rest(rest: Counter[Effect], asked: Iterable[Asked], found: Account) -> None:
    """What is there without its acknowledgement; that of a wish whose outcome stayed unknown may
    be there once."""
    done = {said_by(one) for one in asked if one.done}
    refused = {said_by(one): one for one in asked if one.refused}
    open_wishes = Counter(said_by(one) for one in asked if one.reply is None)
    for effect, times in rest.items():
        words = (effect.kind, effect.said)
        excused = min(times, open_wishes[words])
        open_wishes[words] -= excused
        if excused == times:
            continue
        if words in done:
            found.doubled.append(f"acknowledged once, and there once more: {effect}")
        elif words in refused:
            reply = refused[words].reply
            found.wrong.append(f"refused, and there nevertheless: {effect}, {reply}"[: SHOWN * 3])
        else:
            found.wrong.append(f"there, and nobody was told of it: {effect}")


def _pieces(asked: Iterable[Asked]) -> dict[str, str]:
    """What was delivered of each product; of none where a delivery's outcome is unknown."""
    delivered: Counter[str] = Counter()
    unknown = set()
    for one in asked:
        if one.kind == "stock":
            product, _, quantity = one.effect.partition("|")
            delivered[product] += int(quantity) if one.done else 0
            if one.reply is None:
                unknown.add(product)
    return {one: f"{one}|{n}" for one, n in delivered.items() if one not in unknown}


def _unlike(asked: Asked) -> list[str]:
    """What is wrong with the answers to one wish."""
    if asked.reply is None:
        return []
    name = f"{asked.kind} {asked.key}"
    answer = asked.reply.status if asked.done else asked.told.get("code")
    faults = []
    if answer not in SENSIBLE[asked.kind]:
        faults.append(f"{name} was answered {asked.reply.status} {asked.reply.body[:SHOWN]!r}")
    faults += [
        f"{name} was answered {asked.reply.status} {asked.reply.body[:SHOWN]!r} first, then "
        f"{other.status} {other.body[:SHOWN]!r}"
        for other in asked.changed
    ]
    if asked.done_anew:
        faults.append(f"{name} was answered again, and not as a replay")
    return faults


async def books_of(field: Field, products: Sequence[str]) -> Books:
    """What there is, by the database."""
    books = Books()

    async def effects(kind: str, query: str, *args: object) -> None:
        for row in await field.rows(query, *args):
            books.effects.append(Effect(row.get("kind") or kind, row["id"], row["said"]))

    await effects("bet", sql.bets)
    await effects("move", sql.moves, LAB)
    await effects("complete", sql.bookings)
    await effects("order", sql.orders)
    await effects("step", sql.steps)
    for row in await field.rows(sql.reservations):
        books.effects.append(Effect("reserve", row["id"], row["said"]))
        if row["status"] == "RELEASED":
            books.effects.append(Effect("release", row["id"], row["id"]))
    for row in await field.rows(sql.rounds):
        id = row["id"]
        books.effects.append(Effect("round", id, row["said"]))
        if row["status"] not in ENDED:
            books.faults.append(f"round {id} is {row['status']} in the end")
        over = {("close", id), ("result", f"{id}|{row['winner']}")}
        books.facts |= over | ({("void", id)} if row["status"] == "VOIDED" else set())
    staked = (await field.rows(sql.staked))[0][0]
    if staked:
        books.faults.append(f"{staked} is still at stake in the end")
    books.facts |= {("cancel bet", row["id"]) for row in await field.rows(sql.returned)}
    books.facts |= {("callback", row["id"]) for row in await field.rows(sql.paid)}
    books.facts |= {("pieces", row["said"]) for row in await field.rows(sql.pieces, products)}
    return books


async def replay(crowd: Crowd) -> None:
    """Asks once more for everything that was acknowledged."""
    known = [one for one in crowd.notes.asked if one.reply is not None]

    async def replayer(number: int) -> None:
        caller = crowd.caller(REPLAYERS + number)
        for one in known[number::AT_ONCE]:
            await caller.again(one)
        caller.close()

    await asyncio.gather(*map(replayer, range(AT_ONCE)))


def _done(asked: Iterable[Asked]) -> Counter[str]:
    """How often each kind of wish was done, the most frequent first."""
    return Counter(dict(Counter(one.kind for one in asked if one.done).most_common()))


async def tried(
    crowd: Crowd,
    *,
    row: str,
    name: str,
    faults: int,
    seconds: float,
    recovery_ms: Sequence[float] = (),
    what: dict[str, float] | None = None,
    violations: Sequence[str] = (),
    excused: Sequence[str] = (),
    enough: int = ENOUGH_ACKNOWLEDGED,
) -> Trial:
    """The whole account of a run that is over: replays, drained queues, invariants, books, logs.
    All processes must be up again. Lines of logs with `excused` words are no violations."""
    field, notes = crowd.field, crowd.notes
    acknowledged = notes.acknowledged
    await replay(crowd)
    await field.end_leases()
    wrong = [] if await field.drained(DRAINED_S) else [f"not drained within {DRAINED_S:g} s"]
    wrong += [f"an {one.kind} process ended by itself" for one in field.members if not one.alive]
    wrong += await field.reconcile()
    found = account(notes.asked, await books_of(field, crowd.products))
    wrong += [*found.lost, *found.doubled, *found.wrong, *field.bugs(excused=excused), *violations]
    return Trial(
        row=row,
        name=name,
        seed=crowd.seed,
        faults=faults,
        acknowledged=acknowledged,
        lost=len(found.lost),
        doubled=len(found.doubled),
        unknown=notes.unknown,
        unresolved=notes.unresolved,
        violations=wrong,
        recovery_ms=[round(one, 1) for one in recovery_ms],
        what={
            **(what or {}),
            "asked": len(notes.asked),
            "refused": sum(one.refused for one in notes.asked),
            **{f"done: {kind}": times for kind, times in _done(notes.asked).items()},
        },
        seconds=round(seconds, 1),
        enough=enough,
    )
