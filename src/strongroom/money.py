"""Amounts: integers in minor units, never floats.

VND has no minor unit, so 100000 means 100.000 ₫; USD has two digits, so 10050 means $100.50.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

VND = "VND"

MAX_AMOUNT = 10**15
"""One transfer moves at most this; with 9,000 of them an account still fits 64 bits."""

MAX_BALANCE = 2**63 - 1
"""What a bigint column holds."""

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
"""An amount as it comes from outside: 1 to 10^15 minor units."""

MAX_FEE_BPS = 1000
"""Ten percent: the highest fee a round may take of the winnings."""

BPS = 10_000


def fee(winnings: int, fee_bps: int) -> int:
    """The house's part of `winnings` at `fee_bps` basis points, rounded down.

    >>> fee(9_999, 250)
    249
    """
    return winnings * fee_bps // BPS
