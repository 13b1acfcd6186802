"""Errands on their way: handed to their performers in chunks, outside of any transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from strongroom.clock import monotonic
from strongroom.core.commands import Errand
from strongroom.core.commands.errand import Performed, Performer
from strongroom.errors import Busy

log = structlog.get_logger(__name__)

Performers = Mapping[type[Errand], Performer[Any]]


class NoTimeLeft(Busy):
    """What came before took as long as the lease of these messages; they come again."""

    retry_after_s = 0


def chunks(errands: Sequence[Errand]) -> list[list[Errand]]:
    """The errands by type, in chunks that their performers take in one call."""
    by_type: dict[type[Errand], list[Errand]] = {}
    for errand in errands:
        by_type.setdefault(type(errand), []).append(errand)
    return [
        same[start : start + kind.group_limit]
        for kind, same in by_type.items()
        for start in range(0, len(same), kind.group_limit)
    ]


async def perform(
    performers: Performers, chunk: Sequence[Errand], until: float = float("inf")
) -> list[Performed]:
    """One call of a performer; what each errand came to, in their order. A call that fails, or
    takes too long, or answers fewer than were asked, fails all of them. Never raises."""
    kind = type(chunk[0])
    left = until - monotonic()
    if left <= 0:
        return [NoTimeLeft() for _ in chunk]
    try:
        async with asyncio.timeout(min(kind.timeout_s, left)):
            found = list(await performers[kind](chunk))
        if len(found) != len(chunk):
            raise ValueError(f"{len(found)} answers to {len(chunk)} errands")
        return found
    except Exception as error:
        log.warning("errands failed", errand=kind.__name__, size=len(chunk), error=repr(error))
        return [error] * len(chunk)
