"""Identifiers: UUID version 7, so that new rows land at the right edge of every index."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Callable
from uuid import UUID, SafeUUID

NewId = Callable[[], UUID]
"""Where decisions get their ids from; a seeded one replays a run."""

HOUSE = UUID(int=0)
"""The owner of the house's own accounts."""

_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_RANDOM_B = (1 << 62) - 1

_NOISE_DRAWN = 512
"""Random numbers drawn from the system at a time: the call costs more than all else here."""

_VERSION_8 = (0x8 << 76) | (0b10 << 62)
_OWN_BITS = ~(0xF << 76) & ~(0b11 << 62)

_bare, _set, _unsafe = object.__new__, object.__setattr__, SafeUUID.unknown

_last = 0
_noise: list[int] = []


def _made(number: int) -> UUID:
    """What UUID(int=…) does, without its checks: several are made for every command."""
    made = _bare(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", _unsafe)
    return made


def _draw() -> None:
    drawn = struct.unpack(f"{_NOISE_DRAWN}Q", os.urandom(8 * _NOISE_DRAWN))
    _noise.extend([number & _RANDOM_B for number in drawn])


# A forked process must not give out its parent's numbers again.
os.register_at_fork(after_in_child=_noise.clear)


def uuid7() -> UUID:
    """A new UUIDv7 (RFC 9562, method 3): 48 bits of milliseconds, then a 12-bit fraction of the
    millisecond that never goes backwards within a process, then 62 random bits."""
    global _last
    tick = time.time_ns() * 4096 // 1_000_000
    if tick <= _last:
        tick = _last + 1
    _last = tick
    if not _noise:
        _draw()
    number = (tick >> 12) << 80 | (tick & 0xFFF) << 64 | _VERSION_AND_VARIANT | _noise.pop()
    return _made(number)


def digest_id(*parts: str) -> UUID:
    """A UUIDv8 from the SHA-256 of `parts`: the same parts give the same id on every machine."""
    text = "\x00".join(parts).encode()
    number = int.from_bytes(hashlib.sha256(text).digest()[:16])
    return _made(number & _OWN_BITS | _VERSION_8)
