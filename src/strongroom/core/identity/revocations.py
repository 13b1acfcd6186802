"""What has been revoked, known to every process without asking.

Each process hears of revocations in the transaction that makes them. While it cannot hear, and
until it has read again what it may have missed, `current` is False and the database is asked.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from strongroom.clock import monotonic
from strongroom.core.db import Database, DatabaseDown, Queries
from strongroom.core.db.database import Listener
from strongroom.core.identity.tokens import LONGEST_S

sql = Queries(__package__, "identity.sql")

log = structlog.get_logger(__name__)

CHANNEL = "strongroom_revoked"

REMEMBERED_S = LONGEST_S + 3600
"""As long as an access token may live, and an hour for clocks that differ."""

RETRY_S = 0.25


class Revocations:
    """The ids of revoked sessions and API keys, as far back as a token of theirs may still live."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._heard_at: dict[UUID, float] = {}
        self._listener: Listener | None = None
        self._loaded = False
        self._breaks = 0
        self._loading: asyncio.Task[None] | None = None

    @property
    def current(self) -> bool:
        """All that is revoked is known here."""
        return self._loaded and self._listener is not None and self._listener.connected

    def __contains__(self, id: UUID | None) -> bool:
        return id in self._heard_at

    def add(self, id: UUID) -> None:
        """Known at once to the process that revokes. Forgets what has grown too old to matter."""
        now = monotonic()
        self._heard_at.pop(id, None)  # so that the order of the dict stays that of the times
        self._heard_at[id] = now
        while self._heard_at[oldest := next(iter(self._heard_at))] < now - REMEMBERED_S:
            del self._heard_at[oldest]

    async def start(self) -> None:
        """Hears first, then reads: what happens between the two is heard."""
        self._listener = await self._db.listen([CHANNEL], self._heard)
        await self._load(self._breaks)

    async def stop(self) -> None:
        self._loaded = False
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    def _heard(self, _channel: str, payload: str) -> None:
        if payload:
            try:
                self.add(UUID(payload))
            except ValueError:
                log.warning("not a revocation", payload=payload[:80])
            return
        self._loaded = False
        self._breaks += 1
        if self._loading is not None:
            self._loading.cancel()
        self._loading = asyncio.create_task(self._reload(self._breaks), name="revocations")

    async def _reload(self, breaks: int) -> None:
        while True:
            try:
                await self._load(breaks)
                return
            except DatabaseDown:
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("revocations not read")
                await asyncio.sleep(RETRY_S)

    async def _load(self, breaks: int) -> None:
        """Reads what was revoked; does not count when the connection broke meanwhile."""
        for row in await self._db.fetch(sql.revoked_lately, float(REMEMBERED_S)):
            self.add(row[0])
        self._loaded = self._loaded or breaks == self._breaks
