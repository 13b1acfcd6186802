"""Failed logins, counted in this process; several processes allow as many times the limit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from strongroom.errors import Busy

PER_ADDRESS = "5/5 minutes"
"""A person mistypes a few times; at this rate the 10,000 commonest passwords take a week."""

CLIENT_TIMES = 6
"""One password tried on many addresses; an office behind one address mistypes less than this."""

KEYS_KEPT = 10_000
"""The storage keeps a key for every address ever tried; beyond this the quiet ones go."""


class TooManyAttempts(Busy):
    """Too many logins have failed. Try again later."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class Attempt:
    """One login under way; whoever finds it wrong sets `failed`, or `succeeded`."""

    __slots__ = ("failed", "succeeded")

    def __init__(self) -> None:
        self.failed = self.succeeded = False


class Attempts:
    """Moving windows over failed logins, per (address, client) and per client."""

    def __init__(self, *, limited: bool, rate: str = PER_ADDRESS) -> None:
        found = parse(rate)
        kind, amount, multiples = type(found), found.amount, found.multiples
        self._per_address = kind(amount, multiples, namespace="address")
        self._per_client = kind(CLIENT_TIMES * amount, multiples, namespace="client")
        self._storage = MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage) if limited else None
        self._under_way: Counter[tuple[str, ...]] = Counter()

    @contextmanager
    def one(self, address: str, client: str) -> Iterator[Attempt]:
        """Counts the attempt when it failed. TooManyAttempts when the next failure would be one
        too many, those under way counted as failed: else all could begin before the first ends.
        """
        attempt = Attempt()
        if self._limiter is None:
            yield attempt
            return
        keys = ((self._per_client, (client,)), (self._per_address, (address, client)))
        for limit, key in keys:
            self._check(self._limiter, limit, key)
        for _, key in keys:
            self._under_way[key] += 1
        try:
            yield attempt
        finally:
            for limit, key in keys:
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]
                if attempt.failed:
                    self._limiter.hit(limit, *key)
                    self._forget_quiet()
            if attempt.succeeded:
                # Not for the client: an account of one's own must not buy more guesses at others.
                self._limiter.clear(self._per_address, address, client)

    def _forget_quiet(self) -> None:
        if len(self._storage.events) > KEYS_KEPT:
            for key in [key for key, hits in list(self._storage.events.items()) if not hits]:
                self._storage.clear(key)

    def _check(
        self, limiter: MovingWindowRateLimiter, limit: RateLimitItem, key: tuple[str, ...]
    ) -> None:
        window = limiter.get_window_stats(limit, *key)
        if window.remaining <= 0:
            raise TooManyAttempts(max(1, ceil(window.reset_time - time.time())))
        if window.remaining <= self._under_way[key]:
            raise TooManyAttempts(1)
