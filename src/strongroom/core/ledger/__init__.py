"""The ledger: whatever can be owed, held or run out, in double entry.

Promises: every transfer sums to zero; no account falls below its floor; entries are only ever
added, numbered without a gap, each with the balance after it; a transfer's key is unique for ever
(invariants L1 to L9). Does not know what a bet, a seat or a user is, and opens no transaction.
"""

from strongroom.core.ledger.books import (
    Account,
    AccountKey,
    Books,
    InsufficientFunds,
    Leg,
    clearing,
    fees,
    open_accounts,
    revenue,
    stake,
    wallet,
    world,
)
from strongroom.core.ledger.statements import Statements

__all__ = [
    "Account",
    "AccountKey",
    "Books",
    "InsufficientFunds",
    "Leg",
    "Statements",
    "clearing",
    "fees",
    "open_accounts",
    "revenue",
    "stake",
    "wallet",
    "world",
]
