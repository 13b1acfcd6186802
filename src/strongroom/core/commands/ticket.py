"""A command on its way: who asks, under which key, until when, and what came of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from strongroom.clock import monotonic
from strongroom.core.commands.command import Command, Reply
from strongroom.core.db import Table
from strongroom.errors import StoredRefusal, StrongroomError
from strongroom.ids import digest_id

ANSWERS = Table(
    "commands.answers",
    {
        "id": "uuid",
        "principal": "text",
        "command": "text",
        "key": "text",
        "fingerprint": "bytea",
        "refused": "text",
        "body": "bytea",
        "subject": "uuid?",
    },
)


Origin = tuple[int, int]
"""What a command came of, where that is traced: the ids of a trace and of a span in it."""


class Outcome:
    """What a command came to: a body, a refusal by a rule, or an error that is not kept."""

    __slots__ = ("body", "error", "refused", "replayed", "reply")

    def __init__(
        self,
        *,
        body: bytes = b"",
        refused: str | None = None,
        reply: Reply | None = None,
        error: StrongroomError | None = None,
        replayed: bool = False,
    ) -> None:
        self.body, self.refused, self.reply = body, refused, reply
        self.error, self.replayed = error, replayed

    @property
    def stored(self) -> bool:
        """Done or refused by a rule: kept with the key and answered again."""
        return self.error is None

    @property
    def final(self) -> bool:
        """Nothing is left to do: a message that led here may be deleted."""
        return self.error is None

    def check(self) -> None:
        """Raises what stands in the way of an answer."""
        if self.error:
            raise self.error
        if self.refused:
            said = msgspec.json.decode(self.body)
            raise StoredRefusal(
                self.refused,
                said["detail"],
                said["requestId"],
                facts=said.get("facts"),
                replayed=self.replayed,
            )


class Ticket:
    """One command waiting for its group.

    `principal` is who asks (`user:{id}`, `worker:{queue}` …); `key` with `path` scopes the
    idempotency key, None for a command that its own state makes idempotent. `body` is what was
    asked, where that is less than the command: a retry has to bring the same. `in_doubt`: a COMMIT
    was under way when its connection broke, and the key has not been claimed since. `since`: when
    it began to wait; `origins`: the spans that led to it, see `course`.
    """

    __slots__ = (
        "cause",
        "command",
        "deadline",
        "fingerprint",
        "future",
        "id",
        "in_doubt",
        "key",
        "origins",
        "principal",
        "request",
        "since",
    )

    def __init__(
        self,
        command: Command,
        *,
        principal: str,
        key: str | None,
        path: str = "",
        deadline: float = float("inf"),
        request: UUID | None = None,
        cause: UUID | None = None,
        body: bytes | None = None,
        origins: Sequence[Origin] = (),
    ) -> None:
        self.command, self.principal, self.key = command, principal, key
        self.deadline, self.request, self.cause = deadline, request, cause
        self.since, self.origins = monotonic(), origins
        self.in_doubt = False
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if key is None:
            assert command.idempotent, f"{self.name} needs a key"
            self.id, self.fingerprint = None, b""
        else:
            self.id = digest_id(principal, path or self.name, key)
            self.fingerprint = hashlib.sha256(
                self.name.encode() + b"\0" + (body or msgspec.json.encode(command))
            ).digest()

    @property
    def name(self) -> str:
        return type(self.command).__name__

    @property
    def done(self) -> bool:
        return self.future.done()

    def end(self, outcome: Outcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if isinstance(error, StrongroomError):
            self.end(Outcome(error=error))
        elif not self.future.done():
            self.future.set_exception(error)

    def answer_row(self, outcome: Outcome) -> tuple[Any, ...]:
        subject = getattr(outcome.reply, "subject", None)
        return (
            self.id,
            self.principal,
            self.name,
            self.key,
            self.fingerprint,
            outcome.refused,
            outcome.body,
            subject,
        )
