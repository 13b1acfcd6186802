"""Single moves of money: deposit, withdrawal, transfer, reversal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from strongroom.core.audit import require_payouts
from strongroom.core.commands import Command, Reply, Work
from strongroom.core.ledger import AccountKey, wallet, world
from strongroom.core.ledger.books import Posted
from strongroom.errors import Invalid, NotFound, Refused


class AlreadyDone(Refused):
    """This key has moved money before. A new request needs a new key."""


class SameAccount(Invalid):
    """A transfer needs two different accounts."""


class NotReversible(Refused):
    """Only deposits, withdrawals and transfers can be reversed; a bet's money follows its round."""


class AlreadyReversed(Refused):
    """This transfer has been reversed before."""


class Moved(Reply, frozen=True):
    """Money came in or went out; the wallet as it stands after."""

    transfer_id: UUID
    balance: int
    seq: int

    @property
    def subject(self) -> UUID:
        return self.transfer_id


class Transferred(Reply, frozen=True):
    """Money moved between two users."""

    transfer_id: UUID
    from_balance: int
    to_balance: int

    @property
    def subject(self) -> UUID:
        return self.transfer_id


class FundsMoved(Reply, frozen=True):
    """A deposit, a withdrawal or a transfer happened."""

    transfer_id: UUID
    user_id: UUID
    amount: int
    to_user_id: UUID | None = None


class Reversed(Reply, frozen=True):
    """The transfer that negates another."""

    transfer_id: UUID
    reverses: UUID

    @property
    def subject(self) -> UUID:
        return self.transfer_id


async def note_used(work: Work, keys: list[str]) -> None:
    """A key that moved money before its stored answer was forgotten must not move it again."""
    work.noted["used"] = await work.books.find_keys(work.db, keys)


def keys_of(work: Work, prefix: str) -> list[str]:
    return [f"{prefix}:{by}:{key}" for by, key in work.asked]


def unused(work: Work, key: str) -> str:
    if key in work.noted["used"]:
        raise AlreadyDone()
    return key


@dataclass(frozen=True, slots=True)
class Deposit(Command):
    """Money comes in: world → the user's wallet."""

    user_id: UUID
    amount: int
    reference: str | None = None

    reply = Moved

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Deposit]) -> None:
        await work.books.lock(work.db, [world(), *(wallet(move.user_id) for move in batch)])
        keys = keys_of(work, "DEPOSIT")
        longer = [f"{key}:{one.user_id}" for key, one in zip(keys, batch, strict=True)]
        await note_used(work, keys + longer)

    def decide(self, work: Work) -> Moved:
        target = work.books[wallet(self.user_id)]
        id = work.books.move(
            work.new_id(),
            self._transfer_key(work),
            work.books[world()],
            target,
            self.amount,
            ("DEBIT", "DEPOSIT"),
            by=work.by,
            reference=self.reference,
        )
        said = FundsMoved(id, self.user_id, self.amount)
        work.emit("wallets.FundsDeposited", self.user_id, said)
        return Moved(id, target.balance, target.seq)

    def _transfer_key(self, work: Work) -> str:
        """The wallet is part of the path and so of a key's scope: where another user's deposit
        has the key, this one's is longer by the user."""
        key = f"DEPOSIT:{work.by}:{work.key}"
        there = work.noted["used"].get(key)
        if there and wallet(self.user_id) not in there.legs:
            key = f"{key}:{self.user_id}"
        key = unused(work, key)
        work.noted["used"][key] = Posted(self.user_id, {wallet(self.user_id): self.amount})
        return key


@dataclass(frozen=True, slots=True)
class Withdraw(Command):
    """Money goes out: the user's wallet → world. A payout: stands still while they are paused."""

    user_id: UUID
    amount: int
    reference: str | None = None

    reply = Moved

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Withdraw]) -> None:
        await work.books.lock(work.db, [world(), *(wallet(move.user_id) for move in batch)])
        await require_payouts(work)
        await note_used(work, keys_of(work, "WITHDRAWAL"))

    def decide(self, work: Work) -> Moved:
        source = work.books[wallet(self.user_id)]
        id = work.books.move(
            work.new_id(),
            unused(work, f"WITHDRAWAL:{work.by}:{work.key}"),
            source,
            work.books[world()],
            self.amount,
            ("WITHDRAWAL", "CREDIT"),
            by=work.by,
            reference=self.reference,
        )
        said = FundsMoved(id, self.user_id, self.amount)
        work.emit("wallets.FundsWithdrawn", self.user_id, said)
        return Moved(id, source.balance, source.seq)


@dataclass(frozen=True, slots=True)
class Transfer(Command):
    """Money moves from one user's wallet to another's."""

    source: UUID
    target: UUID
    amount: int
    reference: str | None = None

    reply = Transferred

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[Transfer]) -> None:
        users = {user for move in batch for user in (move.source, move.target)}
        await work.books.lock(work.db, map(wallet, users))
        await note_used(work, keys_of(work, "TRANSFER"))

    def decide(self, work: Work) -> Transferred:
        if self.source == self.target:
            raise SameAccount()
        source, target = work.books[wallet(self.source)], work.books[wallet(self.target)]
        id = work.books.move(
            work.new_id(),
            unused(work, f"TRANSFER:{work.by}:{work.key}"),
            source,
            target,
            self.amount,
            by=work.by,
            reference=self.reference,
        )
        said = FundsMoved(id, self.source, self.amount, self.target)
        work.emit("wallets.FundsTransferred", self.source, said)
        return Transferred(id, source.balance, target.balance)


@dataclass(frozen=True, slots=True)
class ReverseTransfer(Command):
    """Negates a transfer exactly, once: the only way to correct what is written.

    Refuses with InsufficientFunds when the money is no longer there.
    """

    transfer_id: UUID
    reason: str

    reply = Reversed
    group_limit = 1

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[ReverseTransfer]) -> None:
        (command,) = batch
        legs = await work.books.legs_of(work.db, command.transfer_id)
        await work.books.lock(work.db, [key for key, _ in legs])
        # Under the accounts' locks: a reversal that came first is seen now.
        key = f"REVERSAL:{command.transfer_id}"
        work.noted["reversed"] = await work.books.find_keys(work.db, [key])
        work.noted["legs"] = legs

    def decide(self, work: Work) -> Reversed:
        legs: list[tuple[AccountKey, int]] = work.noted["legs"]
        if not legs:
            raise NotFound()
        if any(key.purpose not in ("wallet", "world") for key, _ in legs):
            raise NotReversible()
        if work.noted["reversed"]:
            raise AlreadyReversed()
        id = work.books.post(
            work.new_id(),
            f"REVERSAL:{self.transfer_id}",
            [(work.books[key], -amount, "REVERSAL") for key, amount in legs],
            by=work.by,
            reference=self.reason,
            reverses=self.transfer_id,
        )
        work.emit("wallets.TransferReversed", id, Reversed(id, self.transfer_id))
        return Reversed(id, self.transfer_id)
