"""Days summed up, so that no report has to read all orders; and partitions made ahead.

A day is clean when it has rollups and nothing is noted against it in `orders.restated`; all other
days are read from their orders. Whoever places or changes an order notes its day in the same
transaction, and a day is summed up by a statement that begins after its notes were taken away. So
each change is either in the sums or still noted, and a report, being one snapshot of both, equals
the orders at every moment, however late the rolling is.
"""

from __future__ import annotations

from datetime import date

from strongroom.core.db import Database, Queries

sql = Queries(__package__, "reports.sql")

LOCK = (0x5352, 0x524F)
"""Held by who rolls: beside the leader's, which has the same first half."""

REST_S = 60.0
"""A day that changes all the time is rolled once in this time, and is live meanwhile."""

ROLLED_TOGETHER = 2
"""Days rolled in a row: some fifty milliseconds of the database each, of five thousand orders."""


async def roll_once(
    database: Database, limit: int = ROLLED_TOGETHER, *, rest_s: float = REST_S
) -> int:
    """Sums up at most `limit` days, each in a transaction of its own; how many. Fewer than `limit`
    means that there is nothing more to do for now.

    For the worker that leads; several at once do no harm. Today is never summed up. Whoever sums
    up and whoever takes away notes of days without sums exclude each other.
    """
    async with database.connection() as db, db.transaction():
        if not await db.fetchval(sql.hold_rollups, *LOCK):
            return 0
        await db.execute(sql.forget_unrolled)
    days = [row[0] for row in await database.fetch(sql.stale_days, limit, rest_s)]
    failures = []
    for done, day in enumerate(days):
        try:
            if not await roll_day(database, day):
                return done
        except Exception as error:
            # One day that cannot be summed up does not keep the others waiting.
            failures.append(error)
    if failures:
        raise ExceptionGroup("days that could not be summed up", failures)
    return len(days)


async def roll_day(database: Database, day: date) -> bool:
    """Sums up one day; False when somebody else is at it."""
    async with database.connection() as db, db.transaction():
        if not await db.fetchval(sql.hold_rollups, *LOCK):
            return False
        # Two statements: the second sees at least what the first has seen.
        await db.execute(sql.clear_day, day)
        await db.execute(sql.sum_day, day)
    return True


async def make_partitions(database: Database) -> int:
    """Makes the months of the coming year; how many tables that were, mostly none."""
    made: int = await database.fetchval(sql.make_partitions)
    return made


async def roll_up(database: Database) -> None:
    """Sums up all days that are stale, a few at a time."""
    while await roll_once(database) == ROLLED_TOGETHER:
        pass
