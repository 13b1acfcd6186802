"""Provably fair draws: the seed's hash is published before, the seed after.

One bit of HMAC-SHA256(seed, matchId) decides: A wins when the lowest bit of the last byte is 0.
The matchId is not known when the hash is published, so neither side can choose it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from uuid import UUID

from strongroom.apps.betting.rows import Side


def seed_hash(seed: bytes) -> bytes:
    return hashlib.sha256(seed).digest()


def draw(seed: bytes, match_id: UUID) -> Side:
    """The winner of a match.

    >>> draw(bytes(32), UUID("00000000-0000-7000-8000-000000000001"))
    'B'
    """
    digest = hmac.digest(seed, str(match_id).encode(), "sha256")
    return "B" if digest[-1] & 1 else "A"


def wrong_draws(
    seed: bytes, published: bytes, draws: Iterable[tuple[UUID, Side]]
) -> list[UUID] | None:
    """The matches whose winner the seed does not give; None when the seed is not the one whose
    hash was published."""
    if seed_hash(seed) != published:
        return None
    return [match_id for match_id, winner in draws if draw(seed, match_id) != winner]
