"""Wallets: money comes in, moves between users, goes out.

Every command is one ledger transfer under a key that is unique for ever. Withdrawals are payouts
and stand still while payouts are paused. Knows no bet, no seat and no HTTP.
"""

from strongroom.apps.wallets.batches import BatchItem, TransferBatch
from strongroom.apps.wallets.moves import Deposit, ReverseTransfer, Transfer, Withdraw

__all__ = ["BatchItem", "Deposit", "ReverseTransfer", "Transfer", "TransferBatch", "Withdraw"]
