"""Transfers by the thousand: one command, one transaction, a result for each item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from strongroom.core.commands import Command, Reply, Work
from strongroom.core.commands.command import LookAgain
from strongroom.core.ledger import Account, AccountKey, InsufficientFunds, wallet
from strongroom.money import MAX_BALANCE


class BatchItem(msgspec.Struct, frozen=True):
    """One transfer of a batch; `key` is unique for its sender for ever."""

    key: str
    source: UUID
    target: UUID
    amount: int


class ItemResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of one item."""

    status: Literal["posted", "refused"]
    transfer_id: UUID | msgspec.UnsetType = UNSET
    code: str | msgspec.UnsetType = UNSET


class BatchResults(Reply, frozen=True):
    """The results, in the order of the items."""

    results: list[ItemResult]


class BatchPosted(Reply, frozen=True):
    """A batch of transfers was worked through."""

    batch_id: UUID
    posted: int
    refused: int


@dataclass(frozen=True, slots=True)
class TransferBatch(Command):
    """Transfers between wallets, each on its own (`independent`) or all or none (`atomic`).

    An item's code, when refused, is the first that applies of: idempotency_key_reused,
    same_account, not_found, insufficient_funds, balance_limit; in an atomic batch those without
    fault have batch_refused.
    """

    mode: Literal["independent", "atomic"]
    items: tuple[BatchItem, ...]

    reply = BatchResults
    group_limit = 4

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[TransferBatch]) -> None:
        users = {user for one in batch for item in one.items for user in (item.source, item.target)}
        await work.books.lock(work.db, map(wallet, users))
        used: dict[str, tuple[UUID, BatchItem | None]] = {}
        if work.lost_race:
            # Some item was posted before; which one is asked only then.
            keys = [
                f"TRANSFER:{by}:{item.key}"
                for (by, _), one in zip(work.asked, batch, strict=True)
                for item in one.items
            ]
            for key, posted in (await work.books.find_keys(work.db, keys)).items():
                used[key] = posted.id, _item_of(posted.legs)
        work.noted["used"] = used

    def decide(self, work: Work) -> BatchResults:
        results = self._faults(work) if self.mode == "atomic" else None
        if results is None:
            results = self._post(work)
        posted = sum(1 for result in results if result.status == "posted")
        id = work.new_id()
        work.emit("wallets.BatchPosted", id, BatchPosted(id, posted, len(results) - posted))
        return BatchResults(results)

    def _post(self, work: Work) -> list[ItemResult]:
        books, by, new_id = work.books, work.by, work.new_id
        used: dict[str, tuple[UUID, BatchItem | None]] = work.noted["used"]
        accounts: dict[UUID, Account | None] = {}
        results: list[ItemResult] = []
        for item in self.items:
            key = f"TRANSFER:{by}:{item.key}"
            before = used.get(key)
            if before is not None:
                results.append(_again(item, before))
                continue
            code, source, target = _check(work, accounts, item)
            if code and not work.lost_race:
                # Perhaps it was posted before, and stands in its own way now.
                raise LookAgain()
            if code or source is None or target is None:
                results.append(_refused(code or "not_found"))
                continue
            id = books.move(new_id(), key, source, target, item.amount, by=by)
            used[key] = id, item
            results.append(ItemResult("posted", id))
        return results

    def _faults(self, work: Work) -> list[ItemResult] | None:
        """Walks through the batch on copies of the balances; None when every item would pass."""
        used: dict[str, tuple[UUID, BatchItem | None]] = dict(work.noted["used"])
        balances: dict[UUID, int] = {}
        accounts: dict[UUID, Account | None] = {}
        results: list[ItemResult] = []
        clean = True
        for item in self.items:
            key = f"TRANSFER:{work.by}:{item.key}"
            before = used.get(key)
            if before is not None:
                again = _again(item, before)
                clean = clean and again.status == "posted"
                results.append(again if again.status == "refused" else _refused("batch_refused"))
                continue
            code, source, target = _check(work, accounts, item, balances)
            if code is None and source and target:
                balances[item.source] = balances.get(item.source, source.balance) - item.amount
                balances[item.target] = balances.get(item.target, target.balance) + item.amount
                used[key] = work.new_id(), item
            elif not work.lost_race:
                raise LookAgain()
            else:
                clean = False
            results.append(_refused(code or "batch_refused"))
        return None if clean else results


def _check(
    work: Work,
    accounts: dict[UUID, Account | None],
    item: BatchItem,
    balances: dict[UUID, int] | None = None,
) -> tuple[str | None, Account | None, Account | None]:
    """The code of what stands against an item, and its two accounts."""
    if item.source == item.target:
        return "same_account", None, None
    found: list[Account | None] = []
    for user in (item.source, item.target):
        if user not in accounts:
            accounts[user] = work.books.find(wallet(user))
        found.append(accounts[user])
    source, target = found
    if source is None or target is None:
        return "not_found", None, None
    held = source.balance if balances is None else balances.get(item.source, source.balance)
    there = target.balance if balances is None else balances.get(item.target, target.balance)
    if held < item.amount:
        return InsufficientFunds.code, None, None
    if there + item.amount > MAX_BALANCE:
        return "balance_limit", None, None
    return None, source, target


def _again(item: BatchItem, before: tuple[UUID, BatchItem | None]) -> ItemResult:
    """The same key again: the first result if it is the same transfer, else a refusal."""
    id, first = before
    same = first is not None and (first.source, first.target, first.amount) == (
        item.source,
        item.target,
        item.amount,
    )
    return ItemResult("posted", id) if same else _refused("idempotency_key_reused")


def _refused(code: str) -> ItemResult:
    return ItemResult("refused", code=code)


def _item_of(legs: dict[AccountKey, int]) -> BatchItem | None:
    """The item that a stored transfer came from; None when it was no plain transfer."""
    sides = sorted(legs.items(), key=lambda leg: leg[1])
    if len(sides) != 2 or any(key.purpose != "wallet" for key, _ in sides):
        return None
    (source, _), (target, amount) = sides
    return BatchItem("", source.owner_id, target.owner_id, amount)
