"""Commands that exist for tests: one kind whose decision meets any fate, so that good and bad ones
share a group."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from strongroom.core.commands import Command, Reply, Work
from strongroom.core.ledger import wallet
from strongroom.errors import Busy, Invalid, NotFound, Refused


class Granted(Reply, frozen=True):
    """What a wish moved, and what is left of it."""

    transfer_id: UUID
    left: int

    @property
    def subject(self) -> UUID:
        return self.transfer_id


class NotToday(Refused):
    """Not today."""


class TooOdd(Invalid):
    """An odd wish."""


class Gone(NotFound):
    """It is gone."""


class Later(Busy):
    """Later."""


NO_SUCH_COLUMN = "SELECT no_such_column FROM ledger.accounts WHERE $1"
BELOW_THE_FLOOR = "UPDATE ledger.accounts SET balance = -1 WHERE owner_id = $1"
TAKES_A_NUMBER = "SELECT $1::bigint"
DIVIDES = "SELECT 1 / $1::bigint"

RAISED = {"refused": NotToday, "invalid": TooOdd, "not_found": Gone, "busy": Later}


@dataclass(frozen=True, slots=True)
class Wish(Command):
    """Moves an amount between two wallets, or meets its fate."""

    source: UUID
    target: UUID
    amount: int = 1
    fate: str = "fine"

    reply = Granted

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Wish]) -> None:
        users = {user for wish in batch for user in (wish.source, wish.target)}
        await work.books.lock(work.db, map(wallet, users))

    def decide(self, work: Work) -> Granted:
        if self.fate in RAISED:
            raise RAISED[self.fate]()
        if self.fate == "bug":
            raise ZeroDivisionError("a bug")
        source = work.books[wallet(self.source)]
        key = "always the same" if self.fate == "effect_twice" else f"WISH:{work.by}:{work.key}"
        if self.fate == "nul_in_text":
            key = "a\0b"
        if self.fate == "half_a_character":
            key = "\ud800"
        target = work.books[wallet(self.target)]
        id = work.books.move(work.new_id(), key, source, target, self.amount, by=work.by)
        work.emit("tests.Granted", id, Granted(id, source.balance))
        if self.fate == "bug_after_change":
            raise ZeroDivisionError("a bug after a change")
        if self.fate == "refused_after_change":
            raise NotToday()
        if self.fate == "below_the_floor":
            work.run_at_end(BELOW_THE_FLOOR, self.source)
        if self.fate == "unknown_column":
            work.run_at_end(NO_SUCH_COLUMN, True)
        if self.fate == "number_too_big":
            work.run_at_end(TAKES_A_NUMBER, 2**63)
        if self.fate == "divides_by_zero":
            work.run_at_end(DIVIDES, 0)
        if self.fate == "row_too_big":
            source.balance += 2**64
        return Granted(id, source.balance)


POISONS = (
    "bug",
    "bug_after_change",
    "refused_after_change",
    "below_the_floor",
    "unknown_column",
    "number_too_big",
    "divides_by_zero",
    "row_too_big",
    "nul_in_text",
    "half_a_character",
)
"""Fates that are nobody's refusal: bugs before and after a change, in Python and in SQL."""


class Meeting:
    """Where two wait for each other, once."""

    def __init__(self) -> None:
        self.there: set[int] = set()
        self.both = asyncio.Event()

    async def wait(self, who: int) -> None:
        self.there.add(who)
        if len(self.there) == 2:
            self.both.set()
        await self.both.wait()


@dataclass(frozen=True, slots=True)
class Crossed(Command):
    """Takes two locks, the second when another has taken it already: a deadlock on purpose."""

    first: int
    second: int

    reply = Granted
    meeting: ClassVar[Meeting]

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Crossed]) -> None:
        (command,) = batch
        await work.db.execute("SELECT pg_advisory_xact_lock($1)", command.first)
        await cls.meeting.wait(command.first)
        await work.db.execute("SELECT pg_advisory_xact_lock($1)", command.second)

    def decide(self, work: Work) -> Granted:
        return Granted(work.new_id(), 0)
