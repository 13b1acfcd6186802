"""How often one principal may ask: moving windows, counted in this process alone; several API
processes allow as many times the limit.

Only the notation comes from the library `limits`: its memory store sweeps all keys from a thread
every 10 ms, which at 10,000 callers costs more than the requests that are counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from math import ceil
from typing import NamedTuple

from limits import parse

from strongroom.clock import monotonic
from strongroom.errors import Busy

KEYS_KEPT = 100_000
"""Callers remembered a limit, some 50 MB. Beyond this the one that was quiet longest starts anew:
a flood from that many addresses is not stopped by counting each."""

NETWORK_BITS = 64
"""What one customer is given of IPv6 (RFC 6177): addresses inside it cost nothing to change."""


class Standing(NamedTuple):
    """Where a caller stands with one limit: what is left, and for how many seconds no more than
    that."""

    limit: str
    remaining: int
    reset_s: int


class RateLimited(Busy):
    """More was asked in a short time than one caller may. Try again later, with the same key."""

    def __init__(self, detail: str, standings: Sequence[Standing]) -> None:
        super().__init__(detail)
        self.standings = standings
        self.retry_after_s = max(one.reset_s for one in standings if not one.remaining)


class Window:
    """One limit, and when each caller was let through within its span."""

    __slots__ = ("_hits", "amount", "keys_kept", "name", "span_s")

    def __init__(self, name: str, rate: str, keys_kept: int) -> None:
        self.name, self.keys_kept = name, keys_kept
        self.change(rate)
        self._hits: OrderedDict[Hashable, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hits)

    def change(self, rate: str) -> None:
        found = parse(rate)
        self.amount, self.span_s = found.amount, found.get_expiry()

    def recent(self, who: Hashable, at: float) -> list[float]:
        """When the caller was let through, the oldest first."""
        hits = self._hits.get(who)
        if hits is None:
            return []
        gone = bisect_right(hits, at - self.span_s)
        if gone:
            del hits[:gone]
        return hits

    def add(self, who: Hashable, hits: list[float], at: float) -> None:
        """Counts one that is let through; `hits` is what `recent` answered."""
        if who in self._hits:
            self._hits.move_to_end(who)
        else:
            self._forget(at)
            self._hits[who] = hits
        hits.append(at)

    def _forget(self, at: float) -> None:
        """Room for a new caller. The first in the order was quiet longest: two that are over for
        each that comes keep as many as are active, without ever looking through all."""
        for _ in range(2):
            if self._hits:
                quiet = next(iter(self._hits))
                hits = self._hits[quiet]
                over = not hits or hits[-1] <= at - self.span_s
                if over or len(self._hits) >= self.keys_kept:
                    del self._hits[quiet]

    def standing(self, hits: list[float], at: float) -> Standing:
        # After a change to a lower rate more may have been let through than it allows.
        over = max(0, len(hits) - self.amount)
        reset_s = ceil(hits[over] + self.span_s - at) if hits else 0
        return Standing(self.name, max(0, self.amount - len(hits)), max(1, reset_s))


class RateLimits:
    """Limits by name, as `300/minute` or `5/5 minutes`. Wiped with the process."""

    def __init__(
        self,
        rates: Mapping[str, str],
        *,
        clock: Callable[[], float] = monotonic,
        keys_kept: int = KEYS_KEPT,
    ) -> None:
        self.windows = {name: Window(name, rate, keys_kept) for name, rate in rates.items()}
        self.changes = 0
        self._clock = clock

    def change(self, name: str, rate: str) -> None:
        """Another rate for the limit from now on. Who asked before is counted by it, too."""
        self.windows[name].change(rate)
        self.changes += 1

    def check(self, names: Sequence[str], who: Hashable, *, count: bool = True) -> list[Standing]:
        """Lets the caller through all limits of these names, or RateLimited. What is refused is
        not counted, nor anything without `count`: who waits as told is let through."""
        at = self._clock()
        windows = [self.windows[name] for name in names]
        recent = [window.recent(who, at) for window in windows]
        for window, hits in zip(windows, recent, strict=True):
            if len(hits) >= window.amount:
                raise RateLimited(
                    f"No more than {window.amount} requests in {window.span_s} s are answered "
                    f"(limit {window.name!r}). Try again later, with the same key.",
                    [one.standing(of, at) for one, of in zip(windows, recent, strict=True)],
                )
        if count:
            for window, hits in zip(windows, recent, strict=True):
                window.add(who, hits, at)
        return [one.standing(of, at) for one, of in zip(windows, recent, strict=True)]


def network(address: str) -> str:
    """Whom an address stands for: itself, or the network that its owner can choose from."""
    return _prefix(address) if ":" in address else address


@lru_cache(maxsize=10_000)
def _prefix(address: str) -> str:
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = found.ipv4_mapped
    return str(mapped or IPv6Network((found, NETWORK_BITS), strict=False))
