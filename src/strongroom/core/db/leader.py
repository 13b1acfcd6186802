"""One leader among many processes: whoever holds an advisory lock, for as long as it lives."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from strongroom.clock import monotonic
from strongroom.core.db.database import CONNECT_TIMEOUT_S, LOST, Connection
from strongroom.core.db.queries import Queries

sql = Queries(__package__, "leader.sql")

log = structlog.get_logger(__name__)

ROOM = 0x5352
"""The first half of the lock's key: two halves are a space of their own, apart from the keys
that commands lock."""

FRESH_S = 0.5
"""How long an answer is good: shorter than a chore's second, so that a leader that died is
followed at the next."""

ANSWER_S = 1.0
"""A connection that does not answer within this is given up, and leadership with it."""

SETTINGS = {
    "application_name": "strongroom leader",
    # A machine that is gone without a word is noticed within seconds, not after two hours.
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
}


class Leader:
    """Stands for election on a connection of its own. Of all that ask with the same `matter` on
    one database, one leads.

    What a leader does has to bear a second one for a moment: whoever lost its connection notices
    at its next question only. Through a pool that hands out connections by transaction (PgBouncer)
    the lock would not hold: `dsn` leads to the server itself.
    """

    def __init__(self, dsn: str, matter: int = 1) -> None:
        self._dsn, self._matter = dsn, matter
        self._db: Connection | None = None
        self._leading = False
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def leads(self) -> bool:
        """Whether this process leads; stands for election when nobody does. Never raises."""
        async with self._asking:
            if monotonic() - self._asked > FRESH_S:
                led = self._leading
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        self._leading = await self._ask()
                except LOST:
                    self._drop()
                self._asked = monotonic()
                if led != self._leading:
                    log.info("leads" if self._leading else "follows", matter=self._matter)
            return self._leading

    async def _ask(self) -> bool:
        if self._db is None or self._db.is_closed():
            self._leading = False
            self._db = await asyncpg.connect(
                self._dsn, server_settings=SETTINGS, timeout=CONNECT_TIMEOUT_S
            )
        if self._leading:
            await self._db.fetchval(sql.still_there, timeout=ANSWER_S)
            return True
        return bool(await self._db.fetchval(sql.lead, ROOM, self._matter, timeout=ANSWER_S))

    def _drop(self) -> None:
        self._leading = False
        if self._db is not None:
            self._db.terminate()
            self._db = None

    async def close(self) -> None:
        """Steps down at once, so that the next one leads."""
        async with self._asking:
            db, self._db, self._leading = self._db, None, False
            self._asked = float("-inf")
            if db is not None and not db.is_closed():
                try:
                    await db.close(timeout=ANSWER_S)
                except LOST:
                    db.terminate()
