"""Ids of traces: whose is it, and is it traced? Worked out from the id alone.

A trace has 128 bits, and so has a request's id, which every event carries as its correlation. The
last 56 bits of it are random (RFC 9562 of a UUIDv7, W3C Trace Context Level 2 of a caller's), and
so decide alike wherever they are looked at.
"""

from __future__ import annotations

import re
from uuid import UUID

RANDOM = (1 << 56) - 1

HALF = (1 << 64) - 1

SAMPLED = 1
"""The flag by which a caller says that it keeps its own part of the trace."""

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch


def picker(share: float) -> int:
    """What the random bits of a trace have to reach for it to be among this share of all."""
    return round((1 - share) * (RANDOM + 1))


def parent_of(traceparent: bytes) -> tuple[int, int] | None:
    """The trace and the span of the caller (W3C Trace Context, 3.2); None where the header is
    malformed, or says that the caller keeps nothing of it."""
    match = _PARENT(traceparent)
    if match is None:
        return None
    version, trace, span, flags = (int(part, 16) for part in match.groups()[:4])
    # Later versions may add parts, version 0 may not, and 255 is none.
    if version == 255 or (version == 0 and match[5] is not None):
        return None
    return (trace, span) if trace and span and flags & SAMPLED else None


def of_event(id: UUID) -> int:
    """The span of an event as it is written: who takes it knows its id, and so its span."""
    return id.int & HALF
