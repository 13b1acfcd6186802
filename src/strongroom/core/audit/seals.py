"""Seals: ranges of entries that a clean run has read and closed, chained by their digests.

The cursor is the account's own numbering. Accounts are written under their locks, so in one
snapshot an account's entries up to its seq are complete: no late commit can slip in behind.

    digest of a range    SHA-256 of its account and of each entry with its transfer, in order
    content of a seal    SHA-256 of its ranges: account, first, last, balance, digest; in order
    digest of a seal     SHA-256 of the digest before, the content and what else the seal says
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from strongroom.core.commands import Command, Reply, Work
from strongroom.core.db import Queries, Record
from strongroom.errors import Refused
from strongroom.ids import digest_id

sql = Queries(__package__, "seals.sql")

INVARIANTS = Queries(__package__, "seals_invariants.sql")
"""What holds of the seals among themselves."""

SEALED_TOGETHER = 20_000
"""Ranges to a seal: written in a fraction of a second, and the content fits anywhere."""

TURNS = 1 << 32
"""Positions of the reading again: the first four bytes of a digest."""

NOTHING_BEFORE = bytes(32)

SEALS_ID = digest_id("seals")
"""The key of the seals' events, which `seals_chain` reads under the same number."""

_RANGE = struct.Struct(">qqqq32s")
_COUNTS = struct.Struct(">qqqq")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class SealedMeanwhile(Refused):
    """Another run has sealed since this one read. Nothing is lost: the next one goes on there."""


class Head(NamedTuple):
    """The newest seal: what the next one follows. Before the first it is number 0."""

    number: int = 0
    digest: bytes = NOTHING_BEFORE
    turn: int = 0
    began_at: datetime | None = None


def head_of(row: Record | None) -> Head:
    return Head(*row) if row else Head()


class Draft(NamedTuple):
    """The ranges of a seal to be, packed as its content is made of."""

    packed: bytes
    ranges: int
    entries: int

    def rows(self) -> Iterator[tuple[int, int, int, int, bytes]]:
        """(account, first, last, balance, digest) of each range."""
        return _RANGE.iter_unpack(self.packed)


class Drafts:
    """Ranges as they are read, in the order of their accounts, cut into seals."""

    def __init__(self) -> None:
        self.done: list[Draft] = []
        self._packed: list[bytes] = []
        self._entries = 0

    def add(self, account_id: int, from_seq: int, to_seq: int, balance: int, digest: bytes) -> None:
        self._packed.append(_RANGE.pack(account_id, from_seq, to_seq, balance, digest))
        self._entries += to_seq - from_seq + 1
        if len(self._packed) == SEALED_TOGETHER:
            self._cut()

    def _cut(self) -> None:
        self.done.append(Draft(b"".join(self._packed), len(self._packed), self._entries))
        self._packed, self._entries = [], 0

    def finish(self) -> list[Draft]:
        """One at least: that nothing was new is sealed too, and with it how far was read again."""
        if self._packed or not self.done:
            self._cut()
        return self.done


class Sealed(Reply, frozen=True):
    """A seal was added, or had been by the same command before."""

    number: int
    ranges: int
    entries: int
    digest: str

    @property
    def subject(self) -> None:
        return None


@dataclass(frozen=True, eq=False)
class SealEntries(Command):
    """Adds a seal behind the head that its run has read. SealedMeanwhile when another is there.

    The ranges are no field: there may be thousands, and the number alone says which they are.
    """

    run_id: UUID
    began_at: datetime
    turn: int
    head: InitVar[Head]
    draft: InitVar[Draft]

    reply = Sealed
    idempotent = True
    group_limit = 1

    def __post_init__(self, head: Head, draft: Draft) -> None:
        self.__dict__["_head"] = head
        self.__dict__["_draft"] = draft

    def made(self) -> tuple[Head, bytes]:
        """The head that this seal is, and its content."""
        before: Head = self.__dict__["_head"]
        draft: Draft = self.__dict__["_draft"]
        content = hashlib.sha256(draft.packed).digest()
        number = before.number + 1
        said = (
            before.digest
            + content
            + _COUNTS.pack(number, draft.ranges, draft.entries, self.turn)
            + self.run_id.bytes
            + struct.pack(">q", _micros(self.began_at))
        )
        return Head(number, hashlib.sha256(said).digest(), self.turn, self.began_at), content

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[SealEntries]) -> None:
        work.noted["head"] = head_of(await work.db.fetchrow(sql.newest_seal))

    def decide(self, work: Work) -> Sealed:
        before: Head = self.__dict__["_head"]
        draft: Draft = self.__dict__["_draft"]
        found: Head = work.noted["head"]
        made, content = self.made()
        done = Sealed(made.number, draft.ranges, draft.entries, made.digest.hex())
        if found.digest == made.digest:
            return done  # the COMMIT had arrived
        if found.digest != before.digest:
            raise SealedMeanwhile()
        work.run_at_end(
            sql.add_seal,
            made.number,
            self.run_id,
            self.began_at,
            draft.ranges,
            draft.entries,
            self.turn,
            content,
            before.digest,
            made.digest,
        )
        if draft.ranges:
            columns = zip(*draft.rows(), strict=True)
            work.run_at_end(sql.add_ranges, made.number, *map(list, columns))
        work.emit("audit.Sealed", SEALS_ID, done)
        return done


def _micros(moment: datetime) -> int:
    delta = moment - _EPOCH
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def share_again(head: Head, now: datetime, reseal_days: int) -> tuple[int, int]:
    """(from, to) positions that a run reads again, `to` beyond TURNS when it begins anew: so much
    that each range comes up once in `reseal_days`, however often runs are and whichever were
    missed. With 0 days all of it, always."""
    if head.began_at is None:
        return 0, 0
    if reseal_days <= 1:
        return head.turn, head.turn + TURNS
    elapsed_s = (now - head.began_at).total_seconds()
    # A day less, since the run in which a range comes up again may be nearly a day late.
    around_s = (reseal_days - 1) * 86400
    return head.turn, head.turn + min(TURNS, round(TURNS * elapsed_s / around_s))


def intervals(begin: int, end: int) -> list[tuple[bytes, bytes]]:
    """The digests between two positions, as (after, until) bounds."""
    if end > TURNS:
        return [(_bound(begin), _LAST), (b"", _bound(end - TURNS))]
    return [(_bound(begin), _LAST if end == TURNS else _bound(end))] if end > begin else []


_LAST = b"\xff" * 33
"""Behind every digest."""


def _bound(position: int) -> bytes:
    return position.to_bytes(4) if position else b""
