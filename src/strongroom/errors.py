"""Every error a caller may meet, by kind.

    StrongroomError
    ├── Invalid      does not fit: mend the request
    ├── NotFound     is not there, or is not yours
    ├── Forbidden    you may not
    ├── Refused      a rule said no: stored with the key and replayed
    └── Busy         not now, try again: never stored

No HTTP here: each door has one table from kind to its own language. Subclasses stand beside the
code that raises them; their docstring is the message, their name is the code. Anything else that
is raised is a bug.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar


class StrongroomError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "strongroom_error"

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or " ".join((inspect.getdoc(type(self)) or "").split())
        super().__init__(self.detail)


class Invalid(StrongroomError):
    """The request does not fit what this command takes."""

    def __init__(
        self, detail: str | None = None, errors: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(detail)
        self.errors = errors or []


class NotFound(StrongroomError):
    """There is no such thing, or it is not yours."""


class Forbidden(StrongroomError):
    """This needs another role."""


class Refused(StrongroomError):
    """A rule does not allow this."""

    def __init__(self, detail: str | None = None, facts: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.facts = facts or {}
        """What a program should know of the refusal; kept and replayed with it."""


class Busy(StrongroomError):
    """Not now. Try again, with the same key."""

    retry_after_s: int = 1


class StoredRefusal(Refused):
    """A refusal by a rule, as it is kept with its key."""

    def __init__(
        self,
        code: str,
        detail: str,
        request_id: str | None = None,
        *,
        facts: dict[str, Any] | None = None,
        replayed: bool = False,
    ) -> None:
        super().__init__(detail, facts)
        self.code = code  # type: ignore[misc]  # the code of the first answer, not of this class
        self.request_id, self.replayed = request_id, replayed


class WrongState(Refused):
    """That step was taken already, or its time has not come."""


def wrong_state(status: str) -> WrongState:
    return WrongState(f"The current state is {status}.")


def code_of(error: Exception) -> str:
    """The code that callers, logs and metrics know it by."""
    return error.code if isinstance(error, StrongroomError) else "internal_error"


def invalid(field: str, message: str) -> Invalid:
    """What is wrong with one field of a request."""
    return Invalid(f"{field} {message}.", [{"field": field, "message": message}])
