"""Connections and transactions: asyncpg lives here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import structlog

from strongroom.core.db.queries import Queries
from strongroom.core.db.spent import Spent, Trail, follow, timed
from strongroom.core.db.steps import Step, stepped
from strongroom.errors import Busy

sql = Queries(__package__, "db.sql")

Connection = asyncpg.Connection
Record = asyncpg.Record

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 5.0
"""A server that does not greet within this is down."""

SETTINGS = {
    # One plan a query, made once: all arrays and keys are parameters, no value changes the plan.
    "plan_cache_mode": "force_generic_plan",
    "timezone": "UTC",
    # Locks are held for milliseconds, by a batch of thousands for half a second; who waits longer
    # waits for something broken. Less than what a write may take, so that those who share a group
    # with who waits in vain can still be served; more than Postgres' deadlock_timeout of a second,
    # or a deadlock would look like a held row.
    "lock_timeout": "1200",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "30000",
    "jit": "off",
}

RETRYABLE = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.UniqueViolationError,
)
"""The transaction lost a race: run it again on what the winner left."""

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection says that died between two of its states
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    ConnectionError,
    OSError,
    TimeoutError,
)
"""The connection is gone; whether the last COMMIT arrived is unknown."""

LOCK_WAIT = asyncpg.LockNotAvailableError

TOO_SLOW = (
    LOCK_WAIT,
    asyncpg.QueryCanceledError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)
"""The server works, but not at this for now: a row stays held, a statement takes too long, a race
is lost again and again. Nothing has happened."""

UNWRITABLE = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
)
"""The server cannot write: it is a standby, its disk or memory is full, its disk is gone. Nothing
has happened."""


class DatabaseDown(Busy):
    """The database does not answer. Try again shortly, with the same key."""


class DatabaseBusy(Busy):
    """The database takes too long for this just now. Try again shortly."""


async def _as_it_is(_: Connection) -> None:
    """Nothing sets anything for longer than its transaction, so there is nothing to undo: this
    saves a round trip after each."""


def _is_closed(db: Any) -> bool:
    """Also what the pool has taken back, because the server ended it in the middle of a query."""
    try:
        return bool(db.is_closed())
    except asyncpg.InterfaceError:
        return True


def _end(db: Any) -> None:
    """Breaks a connection; one that the pool has taken back is broken already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        db.terminate()


class Database:
    """A pool of connections to one Postgres, under one role.

    Usable after `open()`. Commits are never timed out and never cancelled: a caller that gives up
    leaves the transaction to finish. A `step` stands between its statements: see `steps`. What
    they took is `spent`; not so with a step, which is for proofs.
    """

    def __init__(
        self,
        dsn: str,
        *,
        role: str | None = None,
        pool_size: int = 10,
        step: Step | None = None,
    ) -> None:
        self.dsn = dsn
        self.spent = Spent()
        self._class = stepped(step) if step else timed(self.spent)
        self._settings = SETTINGS | ({"role": role} if role else {})
        self._size = pool_size
        self._pool: asyncpg.Pool[Record] | None = None

    async def open(self) -> Database:
        """Connects; raises DatabaseDown when nobody answers."""
        try:
            self._pool = await asyncpg.create_pool(
                self.dsn,
                min_size=0,
                max_size=self._size,
                server_settings=self._settings,
                timeout=CONNECT_TIMEOUT_S,
                max_inactive_connection_lifetime=300,
                reset=_as_it_is,
                connection_class=self._class,
            )
        except LOST as error:
            raise DatabaseDown(f"The database does not answer: {error}") from error
        return self

    async def close(self) -> None:
        """Lets running transactions end, then disconnects."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TimeoutError:
                pool.terminate()

    async def __aenter__(self) -> Database:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pool(self) -> asyncpg.Pool[Record]:
        assert self._pool is not None, "Database.open() comes first"
        return self._pool

    @property
    def size(self) -> int:
        """How many connections there may be at once."""
        return self._size

    @property
    def in_use(self) -> int:
        """How many of them work for somebody just now."""
        pool = self._pool
        return pool.get_size() - pool.get_idle_size() if pool is not None else 0

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for reading, outside a transaction; DatabaseDown when there is none, and
        DatabaseBusy when it takes too long."""
        pool = self.pool  # who is at work when it is closed gives back to it as well
        try:
            db = await pool.acquire(timeout=CONNECT_TIMEOUT_S)
        except LOST as error:
            raise DatabaseDown() from error
        try:
            yield db  # type: ignore[misc]  # the pool's proxy behaves as the connection
        except TOO_SLOW as error:
            raise DatabaseBusy() from error
        except UNWRITABLE as error:
            raise DatabaseDown() from error
        except LOST as error:
            # Whatever state it is in, it does not go back to the pool.
            not_its_own = isinstance(error, OSError | TimeoutError) and not _is_closed(db)
            _end(db)
            if not_its_own:
                raise
            raise DatabaseDown() from error
        finally:
            with contextlib.suppress(*LOST):
                await pool.release(db)

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, isolation: str | None = None, trail: Trail | None = None
    ) -> AsyncIterator[Connection]:
        """One transaction; DatabaseDown when there is no connection or it was lost, and then the
        caller knows whether the COMMIT is in doubt: it is once the body has ended. Its statements
        are noted in `trail`, the first and the last included."""
        pool = self.pool  # who is at work when it is closed gives back to it as well
        try:
            db = await pool.acquire(timeout=CONNECT_TIMEOUT_S)
        except LOST as error:
            raise DatabaseDown() from error
        try:
            if trail is not None:
                follow(db, trail)
            await db.execute(f"BEGIN ISOLATION LEVEL {isolation}" if isolation else "BEGIN")
            try:
                yield db  # type: ignore[misc]
            except LOST:
                raise
            except BaseException:
                try:
                    if not db.is_closed():
                        await db.execute("ROLLBACK")
                except Exception:
                    _end(db)  # who comes next would find this transaction open
                raise
            await db.execute("COMMIT")
        except LOST as error:
            # Whatever state it is in, it does not go back to the pool.
            _end(db)
            raise DatabaseDown() from error
        finally:
            if trail is not None:
                follow(db, None)
            with contextlib.suppress(*LOST):
                await pool.release(db)

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        async with self.connection() as db:
            return await db.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        async with self.connection() as db:
            return await db.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        async with self.connection() as db:
            return await db.fetchval(query, *args)

    async def revision(self) -> str | None:
        """The schema's revision; None before the first migration."""
        try:
            found = await self.fetchval(sql.revision)
        except asyncpg.UndefinedTableError:
            return None
        return None if found is None else str(found)

    async def listen(self, channels: list[str], heard: Callable[[str, str], None]) -> Listener:
        """Hears NOTIFY on a connection of its own; `heard(channel, payload)` must not block."""
        listener = Listener(self.dsn, self._settings, channels, heard)
        await listener.start()
        return listener


class Listener:
    """A connection that only listens, and comes back by itself after a break.

    `connected` tells whether what was heard is complete; after each reconnect `heard("", "")`
    is called, so that the hearer reads again what it may have missed.
    """

    def __init__(
        self,
        dsn: str,
        settings: dict[str, str],
        channels: list[str],
        heard: Callable[[str, str], None],
    ) -> None:
        self._dsn, self._settings, self._channels, self._heard = dsn, settings, channels, heard
        self._db: Connection | None = None
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._db is not None and not self._db.is_closed()

    async def start(self) -> None:
        with contextlib.suppress(*LOST):
            await self._connect()
        self._task = asyncio.create_task(self._stay(), name="listener")

    async def _connect(self) -> None:
        db = await asyncpg.connect(
            self._dsn, server_settings=self._settings, timeout=CONNECT_TIMEOUT_S
        )
        self._gone.clear()
        db.add_termination_listener(lambda *_: self._gone.set())
        for channel in self._channels:
            await db.add_listener(channel, lambda _c, _p, name, load: self._heard(name, load))
        self._db = db

    async def _stay(self) -> None:
        while True:
            if self.connected:
                await self._gone.wait()
            try:
                await self._connect()
                self._heard("", "")
            except LOST:
                await asyncio.sleep(0.25)

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._db is not None:
            self._db.terminate()
