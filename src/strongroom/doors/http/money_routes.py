"""Wallets and transfers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from strongroom.apps.wallets import BatchItem, Deposit, Transfer, TransferBatch, Withdraw
from strongroom.apps.wallets.batches import BatchResults
from strongroom.apps.wallets.moves import Moved, Transferred
from strongroom.core.ledger import wallet
from strongroom.core.ledger.statements import Balance
from strongroom.doors.http.bodies import BULK_LIMIT, Body
from strongroom.doors.http.fields import ItemKey, Reference
from strongroom.doors.http.routing import Call, Route, Routes
from strongroom.errors import Invalid, NotFound
from strongroom.money import MAX_AMOUNT, Amount


class Wallet(msgspec.Struct, rename="camel"):
    """A wallet; `locked` is what its stakes hold."""

    user_id: UUID
    currency: str
    balance: int
    locked: int
    seq: int
    as_of: datetime
    source: Literal["ledger", "projection"] = "ledger"
    stale: bool = False


class Wallets(msgspec.Struct, rename="camel"):
    """Several wallets in one snapshot."""

    items: list[Wallet]
    as_of: datetime


class Entry(msgspec.Struct, rename="camel"):
    """One line of a statement."""

    seq: int
    amount: int
    balance_after: int
    type: str
    reference: str | None
    idempotent_key: str
    created_by: str
    created_at: datetime


class Entries(msgspec.Struct, rename="camel"):
    """A page of a statement, ascending by seq."""

    items: list[Entry]
    next_cursor: str | None = None


class MoneyBody(Body):
    amount: Amount
    reference: Reference | None = None


class TransferBody(Body):
    source: UUID = msgspec.field(name="from")
    target: UUID = msgspec.field(name="to")
    amount: Amount
    reference: Reference | None = None


class ItemBody(Body):
    key: ItemKey
    source: UUID = msgspec.field(name="from")
    target: UUID = msgspec.field(name="to")
    amount: Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]


class BatchBody(Body):
    mode: Literal["independent", "atomic"]
    items: Annotated[list[ItemBody], Meta(min_length=1, max_length=10_000)]


class QueryBody(Body):
    user_ids: Annotated[list[UUID], Meta(min_length=1, max_length=100)]


def _wallet(balance: Balance) -> Wallet:
    return Wallet(
        balance.owner_id, balance.unit, balance.balance, balance.locked, balance.seq, balance.as_of
    )


async def _one(call: Call, user_id: UUID) -> Wallet:
    if call.query.get("consistency", "strong") not in ("strong", "eventual"):
        errors = [{"field": "consistency", "message": "strong or eventual"}]
        raise Invalid("consistency is strong or eventual.", errors)
    balance = await call.house.wallets.get(user_id)
    if balance is None:
        raise NotFound()
    return _wallet(balance)


async def my_wallet(call: Call) -> Wallet:
    return await _one(call, call.user_id)


async def any_wallet(call: Call) -> Wallet:
    return await _one(call, call.id("userId"))


async def _entries(call: Call, user_id: UUID) -> Entries:
    limit = call.number("limit", 50, 1, 200)
    after = call.number("after", call.number("cursor", 0, 0, 2**62), 0, 2**62)
    rows = await call.house.statements.entries(wallet(user_id), after, limit)
    if not rows and await call.house.wallets.get(user_id) is None:
        raise NotFound()
    items = [Entry(*row) for row in rows]
    return Entries(items, str(items[-1].seq) if len(items) == limit else None)


async def my_entries(call: Call) -> Entries:
    return await _entries(call, call.user_id)


async def any_entries(call: Call) -> Entries:
    return await _entries(call, call.id("userId"))


async def query_wallets(call: Call) -> Wallets:
    wanted: list[UUID] = call.body.user_ids
    found = await call.house.statements.wallets(list(set(wanted)))
    missing = [user for user in wanted if user not in found]
    if missing:
        raise NotFound(f"There is no wallet of {missing[0]}.")
    items = [_wallet(found[user]) for user in wanted]
    return Wallets(items, max(item.as_of for item in items))


def deposit(call: Call) -> Deposit:
    return Deposit(call.id("userId"), call.body.amount, call.body.reference)


def withdraw(call: Call) -> Withdraw:
    return Withdraw(call.user_id, call.body.amount, call.body.reference)


def transfer(call: Call) -> Transfer:
    body = call.body
    if body.source == body.target:
        errors = [{"field": "to", "message": "is the same as from"}]
        raise Invalid("A transfer needs two different users.", errors)
    return Transfer(body.source, body.target, body.amount, body.reference)


def transfer_batch(call: Call) -> TransferBatch:
    items = tuple(
        [BatchItem(item.key, item.source, item.target, item.amount) for item in call.body.items]
    )
    return TransferBatch(call.body.mode, items)


MONEY: Routes = [
    Route(
        "GET",
        "/api/wallets/me",
        "user",
        200,
        "One's own wallet.",
        None,
        Wallet,
        read=my_wallet,
        query=("consistency",),
    ),
    Route(
        "GET",
        "/api/wallets/me/entries",
        "user",
        200,
        "One's own statement, ascending by seq.",
        None,
        Entries,
        read=my_entries,
        query=("after", "limit", "cursor"),
    ),
    Route(
        "POST",
        "/api/wallets/me/withdrawals",
        "user",
        201,
        "Takes money out; a payout.",
        MoneyBody,
        Moved,
        command=withdraw,
        problems=("insufficient_funds", "payouts_paused"),
    ),
    Route(
        "POST",
        "/api/wallets/query",
        "operator",
        200,
        "Up to 100 wallets in one consistent snapshot.",
        QueryBody,
        Wallets,
        read=query_wallets,
    ),
    Route(
        "GET",
        "/api/wallets/{userId}",
        "operator",
        200,
        "A user's wallet.",
        None,
        Wallet,
        read=any_wallet,
        query=("consistency",),
    ),
    Route(
        "GET",
        "/api/wallets/{userId}/entries",
        "operator",
        200,
        "A user's statement, ascending by seq.",
        None,
        Entries,
        read=any_entries,
        query=("after", "limit", "cursor"),
    ),
    Route(
        "POST",
        "/api/wallets/{userId}/deposits",
        "operator",
        201,
        "Puts money into a user's wallet.",
        MoneyBody,
        Moved,
        command=deposit,
    ),
    Route(
        "POST",
        "/api/transfers",
        "operator",
        201,
        "Moves money from one user to another.",
        TransferBody,
        Transferred,
        command=transfer,
        problems=("insufficient_funds",),
    ),
    Route(
        "POST",
        "/api/transfers/batch",
        "operator",
        200,
        "Moves money between users by the thousand.",
        BatchBody,
        BatchResults,
        command=transfer_batch,
        limit=BULK_LIMIT,
    ),
]
