"""What a command is: frozen values, a fetch for a whole batch, a pure decision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import msgspec

from strongroom.errors import Busy, Invalid

if TYPE_CHECKING:
    from strongroom.core.commands.work import Work


class Reply(msgspec.Struct, rename="camel", omit_defaults=False, frozen=True):
    """What a command answers; its JSON is stored with the key and replayed byte for byte."""


class Nothing(Reply, frozen=True):
    """An answer without content."""


class Command(ABC):
    """A wish to change something: a frozen dataclass, made of what the caller said.

    `fetch` locks and loads what a whole batch needs, accounts first, then rows, each sorted.
    `decide` is plain Python on what was loaded: it changes that in memory, or raises before it
    has changed anything. No await, no clock, no randomness, no SQL in a decision.
    """

    reply: ClassVar[type[Reply]]
    """The type `decide` returns."""

    group_limit: ClassVar[int | None] = None
    """How many of these commit together; None takes the setting."""

    idempotent: ClassVar[bool] = False
    """State alone makes a second run do nothing; such a command needs no stored answer."""

    @classmethod
    @abstractmethod
    async def fetch(cls, work: Work, batch: Sequence[Self]) -> None:
        """Locks and loads what the batch needs."""

    @abstractmethod
    def decide(self, work: Work) -> Reply:
        """Changes what was loaded, emits events and answers; or raises."""


class LookAgain(Exception):
    """A decision needs to know whether its keys moved something before: the group is run again,
    with `work.lost_race` set, before anything is written."""


class IdempotencyKeyReused(Invalid):
    """This key was used before with another body. A new request needs a new key."""


class RequestInProgress(Busy):
    """A request with this key is still being worked on. Ask again with the same key."""


class Overloaded(Busy):
    """More is asked than can be done in time. Try again shortly, with the same key."""


class Draining(Busy):
    """This process is stopping. Try again, with the same key."""


class OutcomeUnknown(Busy):
    """The connection broke at COMMIT and the outcome is not known. Retry with the same key:
    that resolves it."""
