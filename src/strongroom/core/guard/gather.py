"""Reads by key that gather while one is under way: the same natural batching as commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from strongroom.clock import monotonic
from strongroom.errors import Busy

K = TypeVar("K")
V = TypeVar("V")


class Overloaded(Busy):
    """More is read than can be answered in time. Try again shortly."""


class Gather(Generic[K, V]):
    """Turns many single reads into few with many keys. A read sees everything that was committed
    before it was asked: it joins only a batch that has not begun."""

    def __init__(
        self,
        load: Callable[[list[K]], Awaitable[Mapping[K, V]]],
        *,
        deadline_s: float,
        limit: int = 500,
    ) -> None:
        self._load, self._limit, self._deadline_s = load, limit, deadline_s
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._batch_s = 0.0

    async def get(self, key: K) -> V | None:
        """The value, None when there is none; Overloaded when it would come too late."""
        future = self._waiting.get(key)
        if future is None:
            batches = len(self._waiting) // self._limit + 1
            if batches * self._batch_s > self._deadline_s:
                raise Overloaded()
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._run())
        return await asyncio.shield(future)

    async def _run(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[: self._limit]
            batch = {key: self._waiting.pop(key) for key in keys}
            began = monotonic()
            try:
                found = await self._load(keys)
            except Exception as error:
                for future in batch.values():
                    if not future.done():
                        future.set_exception(error)
                        future.exception()  # whoever waited may be gone
            else:
                for key, future in batch.items():
                    if not future.done():
                        future.set_result(found.get(key))
            self._batch_s += 0.2 * (monotonic() - began - self._batch_s)
        self._task = None
