"""Papers are made by a process of its own: a mail takes a core for some ten milliseconds, a PDF
for up to a second, and the process that asks has others to answer meanwhile."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import connection
from typing import ParamSpec, TypeVar

from strongroom.core.guard import Overloaded

P = ParamSpec("P")
R = TypeVar("R")

MOST_WAITING = 8
"""Who would wait longer than some seconds is told to come back."""

YIELDING = 10
"""Niceness: a thousand mails must not hold up a payment."""


def _begin() -> None:
    """Begins the process; it ends with the one that started it, however that ends."""
    os.nice(YIELDING)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()


class Press:
    """Makes one paper after the other; the process starts with the first."""

    def __init__(self) -> None:
        self._process: ProcessPoolExecutor | None = None
        self._waiting = 0

    def close(self) -> None:
        if self._process:
            self._process.shutdown(wait=False, cancel_futures=True)
            self._process = None

    async def make(self, paper: Callable[P, R], *args: P.args, **_: P.kwargs) -> R:
        """`paper(*args)`, made over there; Overloaded when too many wait, or it died over it."""
        if self._waiting >= MOST_WAITING:
            raise Overloaded()
        if self._process is None:
            self._process = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=_begin
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._process, paper, *args)
        except BrokenExecutor as error:
            self.close()
            raise Overloaded() from error
        finally:
            self._waiting -= 1
