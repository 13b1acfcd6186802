"""How the house stands by its database: asked when somebody scrapes, and not too often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import structlog
from prometheus_client.core import Metric

from strongroom.clock import monotonic
from strongroom.core.audit.reconcile import verdict
from strongroom.core.db import Connection, Database, DatabaseDown, Queries, Record
from strongroom.core.db.database import DatabaseBusy
from strongroom.doors.metrics.names import number, numbers

sql = Queries(__package__, "metrics.sql")

log = structlog.get_logger(__name__)

ASKED_AGAIN_S = 2.0
"""However many scrape, the database is asked no more often."""

ANSWER_S = 0.5
"""A scrape waits no longer for the database."""

GIVEN_UP_S = 10.0
"""What has no answer by then has none; meanwhile nobody asks again."""

TOLD_S = 60.0
"""How long the last look at the queues is told when a new one takes too long: it does so when they
are long, and that is when somebody wants to know."""


class Facts(NamedTuple):
    """One answer of the database, but for its queues."""

    connections: list[Record]
    standing: Record
    reconciliation: Record
    dead_letters: list[Record]


class Standing:
    """The last answers, and the question under way. Who is meant to archive and has never begun is
    told of like one that stopped."""

    def __init__(self, database: Database, *, archives: bool) -> None:
        self._db, self._archives = database, archives
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._facts: Facts | None = None
        self._queues: list[Record] = []
        self._looked_at = float("-inf")

    async def ask(self) -> None:
        """Returns when there is an answer, or when it would take too long."""
        if self._asking is None and monotonic() - self._asked_at >= ASKED_AGAIN_S:
            self._asked_at = monotonic()
            self._facts = None
            self._asking = asyncio.create_task(self._ask(), name="asking how the house stands")
            self._asking.add_done_callback(self._asked)
        if self._asking is not None:
            # Waited for, not cancelled: a connection whose server hangs takes long to give up.
            await asyncio.wait({self._asking}, timeout=ANSWER_S)

    def _asked(self, _: object) -> None:
        self._asking = None

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(GIVEN_UP_S), self._db.connection() as db:
                self._facts = await _facts(db)
                self._queues = await db.fetch(sql.queues)
                self._looked_at = monotonic()
        except (TimeoutError, DatabaseDown, DatabaseBusy) as error:
            log.info("not told how the house stands", error=repr(error))
        except Exception:
            log.exception("cannot be asked how the house stands")

    def metrics(self) -> Iterator[Metric]:
        """What was answered; without an answer only that there is none."""
        facts = self._facts
        yield number("strongroom_database_up", int(facts is not None))
        if facts is None:
            return
        yield numbers("strongroom_db_connections", [([s], n) for s, n in facts.connections])
        now = facts.standing
        yield number("strongroom_db_connections_max", now["connections_max"])
        yield number("strongroom_db_lock_waits", now["lock_waits"])
        yield number("strongroom_db_deadlocks_total", now["deadlocks"])
        if now["archiving"] is not None or self._archives:
            yield number("strongroom_archive_running", int(now["archiving"] is True))
        yield number("strongroom_payouts_paused", now["payouts_paused"])
        yield number("strongroom_reservations_held", now["reservations_held"])
        yield number("strongroom_event_tail_lag_seconds", now["event_tail_lag_s"])
        run = facts.reconciliation
        yield number("strongroom_reconciliation_mismatch", len(run["violated"]))
        yield number("strongroom_ledger_duplicates_detected", run["duplicates"])
        if run["age_s"] is not None:
            yield number("strongroom_reconciliation_age_seconds", run["age_s"])
        if monotonic() - self._looked_at < TOLD_S:
            yield from _queues(
                self._queues, {row["queue"]: row["letters"] for row in facts.dead_letters}
            )


async def _facts(db: Connection) -> Facts:
    (standing,) = await db.fetch(sql.standing)
    return Facts(
        await db.fetch(sql.connections),
        standing,
        await verdict(db),
        await db.fetch(sql.dead_letters),
    )


def _queues(rows: list[Record], dead: dict[str, int]) -> Iterator[Metric]:
    for name, column in (
        ("strongroom_queue_length", "waiting"),
        ("strongroom_queue_delayed", "delayed"),
        ("strongroom_queue_stalled", "stalled"),
        ("strongroom_queue_oldest_seconds", "oldest_s"),
        ("strongroom_queue_paused", "paused"),
    ):
        yield numbers(name, [([row["queue"]], row[column]) for row in rows])
    # Of those without any too: a series that is not there warns nobody.
    queues = dead.keys() | {row["queue"] for row in rows}
    yield numbers("strongroom_dead_letters", [([q], dead.get(q, 0)) for q in sorted(queues)])
