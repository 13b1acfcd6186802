"""What is read often and changes seldom, kept in this process and read once for all who ask.

A cache here is never invalidated from outside: the key names the version that a value was read
under. Whoever asks first learns which version stands now, so a change that was committed before
they asked is never missed, whichever process made it; what was kept under older versions is not
asked for again and makes room in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from cachetools import TLRUCache

from strongroom.clock import monotonic
from strongroom.core.db import DatabaseDown
from strongroom.core.guard.gather import Gather

K = TypeVar("K")
V = TypeVar("V")


class _Kept(NamedTuple, Generic[V]):
    """A value, and when it began to be read."""

    began: float
    value: V


class Cache(Generic[V]):
    """At most `size` values, the least recently used go first, for `ttl_s` seconds at most.

    A value is fresh for `fresh_s`, counted from before it was read; then the next one to ask reads
    it anew. One load a key at a time: who asks meanwhile waits for the same. While the database
    is down a value that is no longer fresh is answered rather than nothing.
    """

    def __init__(self, *, size: int, ttl_s: float, fresh_s: float | None = None) -> None:
        self._kept: TLRUCache[str, _Kept[V]] = TLRUCache(
            size, lambda _, kept, __: kept.began + ttl_s, timer=monotonic
        )
        self._fresh_s = ttl_s if fresh_s is None else fresh_s
        self._loads: dict[str, asyncio.Task[V]] = {}
        self.hits = self.misses = self.joined = self.stale = 0

    async def get(self, key: str, load: Callable[[], Awaitable[V]]) -> V:
        """The value; what `load` raises comes to all who wait for it, and is not kept."""
        kept = self._kept.get(key)
        if kept is not None and monotonic() - kept.began < self._fresh_s:
            self.hits += 1
            return kept.value
        task = self._loads.get(key)
        if task is None:
            self.misses += 1
            task = self._loads[key] = asyncio.create_task(self._load(key, load))
            task.add_done_callback(_looked_at)
        else:
            self.joined += 1
        try:
            # Whoever gives up leaves the load to the others.
            return await asyncio.shield(task)
        except DatabaseDown:
            if kept is None:
                raise
            self.stale += 1
            return kept.value

    async def many(
        self, keys: Mapping[K, str], load: Callable[[list[K]], Awaitable[Mapping[K, V]]]
    ) -> dict[K, V]:
        """The values of these keys, by what is called so; those that are not kept are loaded in
        one go. What is not there is left out."""
        found = {one: kept for one, key in keys.items() if (kept := self.peek(key)) is not None}
        missing = [one for one in keys if one not in found]
        self.hits += len(found)
        self.misses += len(missing)
        if missing:
            began = monotonic()
            for one, value in (await load(missing)).items():
                found[one] = value
                self.put(keys[one], value, began)
        return found

    def peek(self, key: str) -> V | None:
        """The value if it is kept, fresh or not."""
        kept = self._kept.get(key)
        return None if kept is None else kept.value

    def put(self, key: str, value: V, began: float) -> None:
        """Keeps what was read from `began` on."""
        self._kept[key] = _Kept(began, value)

    async def _load(self, key: str, load: Callable[[], Awaitable[V]]) -> V:
        began = monotonic()
        try:
            value = await load()
            self.put(key, value, began)
            return value
        finally:
            del self._loads[key]


def _looked_at(task: asyncio.Task[V]) -> None:
    """Whoever waited may be gone; then nobody else would look at the error."""
    if not task.cancelled():
        task.exception()


class Version:
    """A number that every change raises in its own transaction.

    `now()` sees every change that was committed before it was asked; those who ask together share
    a query. While the database is down it is the last one known: nothing newer can be told.
    """

    def __init__(self, read: Callable[[], Awaitable[int]], *, deadline_s: float) -> None:
        self._read = read
        self._asked: Gather[None, int] = Gather(self._once, deadline_s=deadline_s)
        self._last: int | None = None

    async def now(self) -> int:
        try:
            found = await self._asked.get(None)
        except DatabaseDown:
            if self._last is None:
                raise
            return self._last
        assert found is not None, "there is always a version"
        self._last = found
        return found

    async def _once(self, _: list[None]) -> Mapping[None, int]:
        return {None: await self._read()}
