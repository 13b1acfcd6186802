"""Passwords: argon2id, in threads, never more at once than the machine can take."""

from __future__ import annotations

import asyncio
import base64
import secrets
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from strongroom.errors import Busy

MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
"""The second of OWASP's equal choices for argon2id: 19 MiB, 2 passes, 1 lane."""

AT_ONCE = 2
"""Each takes a core and 19 MiB for some 20 ms."""

WAITING = 32
"""Behind these a caller would wait for about half a second: better told at once."""

T = TypeVar("T")


class Overloaded(Busy):
    """More passwords are being checked than can be in time. Try again shortly."""


class Passwords:
    """Hashes and checks passwords in threads of its own."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords")
        self._places = threading.BoundedSemaphore(AT_ONCE + WAITING)
        # Checked where there is no hash, so that an unknown address takes as long as a known one. No
        # password was hashed for it: that would take a third of the time in which a house is opened.
        self._nobody = (
            f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${_noise(16)}${_noise(32)}"
        )

    async def hash(self, password: str) -> str:
        """The encoded hash; Overloaded when too many wait."""
        return await self._run(lambda: self._hasher.hash(_bytes(password)))

    async def matches(self, encoded: str | None, password: str) -> bool:
        """Whether `password` is the one that was hashed; without a hash False, in the same time."""
        return await self._run(lambda: self._check(encoded, password))

    def outdated(self, encoded: str) -> bool:
        """The hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(encoded)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, encoded: str | None, password: str) -> bool:
        try:
            self._hasher.verify(encoded or self._nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False
        return encoded is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._places.acquire(blocking=False):
            raise Overloaded()
        try:
            future = self._threads.submit(work)
        except BaseException:
            self._places.release()
            raise
        # The place is free when the thread is, not when the caller gives up waiting.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)


def _noise(length: int) -> str:
    return base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()


def _bytes(password: str) -> bytes:
    """One form for what keyboards type in several (NIST SP 800-63B). Lone surrogates match none."""
    return unicodedata.normalize("NFKC", password).encode("utf8", "surrogatepass")
