"""What an errand is: something to be done outside the database, between two transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, TypeVar

from strongroom.core.commands.command import Command


class Errand:
    """A call to somebody outside: a payment provider, a mail server. A frozen dataclass of ids.

    An event leads to it, or the clock; it is performed while no transaction is open, and leads to
    a command, or to nothing. It is performed at least once: whoever is called must take a second
    call with the same ids for the first one.
    """

    group_limit: ClassVar[int] = 500
    """How many are handed to their performer in one call."""

    timeout_s: ClassVar[float] = 30.0
    """One call takes at most this; shorter than the lease of the messages that lead here."""


E = TypeVar("E", bound=Errand)

Performed = Command | Exception | None
"""What an errand came to: a command, which commits with the end of its message; nothing more to
do; or a failure of this errand alone, which is tried again later."""

Performer = Callable[[Sequence[E]], Awaitable[Sequence[Performed]]]
"""Performs errands of one type; answers what each came to, in their order."""
