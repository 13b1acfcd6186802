"""PDFs are printed by a process of its own: each takes a core for a second, and the process that
asks has others to answer meanwhile."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

from strongroom.apps.ticketing.papers import Booking, pdf_tickets
from strongroom.apps.ticketing.post import _yield_to_others
from strongroom.core.guard import Overloaded

MOST_WAITING = 8
"""Who would wait longer than some seconds is told to come back."""


class Press:
    """Prints one PDF after the other; the process starts with the first."""

    def __init__(self) -> None:
        self._process: ProcessPoolExecutor | None = None
        self._waiting = 0

    def close(self) -> None:
        if self._process:
            self._process.shutdown(wait=False, cancel_futures=True)
            self._process = None

    async def pdf(self, booking: Booking) -> bytes:
        """The tickets as a PDF; PdfMissing, or Overloaded."""
        if self._waiting >= MOST_WAITING:
            raise Overloaded()
        if self._process is None:
            self._process = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=_yield_to_others
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._process, pdf_tickets, booking)
        except BrokenExecutor as error:
            self.close()
            raise Overloaded() from error
        finally:
            self._waiting -= 1
