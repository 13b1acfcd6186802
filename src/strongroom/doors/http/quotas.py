"""Rate limits in HTTP's language: whom a request counts for, and the headers that say what is left,
as in "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-11).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from strongroom.core.guard import RateLimited, RateLimits, Standing

Limited = Literal["global", "orders", "reports", "never"]
"""`orders` and `reports` count beside `global`. `never`: what must work when all else is refused."""

Headers = list[tuple[bytes, bytes]]


def names_of(limited: Limited) -> tuple[str, ...]:
    """The limits that a route counts against."""
    if limited == "never":
        return ()
    return ("global",) if limited == "global" else ("global", limited)


class Quota:
    """The limits of one route. With none of them it lets all through and says nothing."""

    __slots__ = ("_changes", "_limits", "_names", "_policy")

    def __init__(self, limits: RateLimits | None, limited: Limited) -> None:
        self._limits, self._names = limits, names_of(limited)
        self._changes = -1
        self._policy = (b"", b"")

    def take(self, who: Hashable, headers: Headers, *, count: bool = True) -> None:
        """Counts a request for the caller and adds the headers, also to a refusal; RateLimited.
        Without `count` it only refuses."""
        if self._limits is None or not self._names:
            return
        try:
            standings: Sequence[Standing] = self._limits.check(self._names, who, count=count)
        except RateLimited as error:
            self._say(error.standings, headers)
            raise
        if count:
            self._say(standings, headers)

    def _say(self, standings: Sequence[Standing], headers: Headers) -> None:
        said = ", ".join([f'"{name}";r={left};t={reset_s}' for name, left, reset_s in standings])
        assert self._limits is not None
        if self._changes != self._limits.changes:
            windows = [self._limits.windows[name] for name in self._names]
            policies = [f'"{one.name}";q={one.amount};w={one.span_s}' for one in windows]
            self._policy = (b"ratelimit-policy", ", ".join(policies).encode())
            self._changes = self._limits.changes
        headers.append(self._policy)
        headers.append((b"ratelimit", said.encode()))
