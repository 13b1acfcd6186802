"""What the rooms of a process have counted, as metrics. Read while others count: each mapping is
copied before it is gone through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client.core import Metric

from strongroom.core.commands import Command, Executor, Lanes
from strongroom.core.commands.lanes import Rejected
from strongroom.core.db import Database
from strongroom.core.guard import Cache
from strongroom.doors.metrics.names import number, numbers, spreads
from strongroom.tally import Tally

if TYPE_CHECKING:
    from strongroom.doors.worker.worker import Jobs

OUTCOMES = ("hits", "misses", "joined", "stale")
"""What becomes of a question to a cache; `stale` while the database is down."""


def lane_of(kind: type[Command]) -> str:
    """`betting.PlaceBet`: two rooms may have commands of the same name."""
    floor, _, rest = kind.__module__.removeprefix("strongroom.").partition(".")
    return f"{rest.partition('.')[0] or floor}.{kind.__name__}"


def groups(executor: Executor) -> Iterator[Metric]:
    yield number("strongroom_groups_total", executor.groups)
    yield number("strongroom_commands_total", executor.commands)
    kinds = list(executor.by_command.items())
    yield spreads("strongroom_group_size", [([lane_of(kind)], one.sizes) for kind, one in kinds])
    yield spreads(
        "strongroom_group_duration_seconds", [([lane_of(kind)], one.seconds) for kind, one in kinds]
    )
    yield number("strongroom_claim_replays_total", executor.replays)
    yield number("strongroom_races_total", executor.races)
    yield number("strongroom_connection_lost_total", executor.connections_lost)
    yield number("strongroom_held_rows", len(executor.held))
    yield number("strongroom_ledger_entries_total", executor.entries)


def admission(lanes: Lanes) -> Iterator[Metric]:
    found = [(lane_of(kind), lane) for kind, lane in lanes.by_command.items()]
    yield numbers(
        "strongroom_admission_rejected_total",
        [
            ([name, reason], lane.rejected[reason])
            for name, lane in found
            for reason in get_args(Rejected)
        ],
    )
    yield spreads("strongroom_group_wait_seconds", [([name], lane.waits) for name, lane in found])


def caches(found: Mapping[str, Cache[Any]]) -> Iterator[Metric]:
    yield numbers(
        "strongroom_cache_requests_total",
        [
            ([name, outcome], getattr(cache, outcome))
            for name, cache in found.items()
            for outcome in OUTCOMES
        ],
    )


def databases(pools: Mapping[str, Database]) -> Iterator[Metric]:
    rooms: dict[str, list[Tally]] = {}
    for pool in pools.values():
        for room, tally in list(pool.spent.rooms.items()):
            rooms.setdefault(room, []).append(tally)
    yield spreads(
        "strongroom_db_query_duration_seconds",
        [([room], Tally.sum_of(tallies)) for room, tallies in rooms.items()],
    )
    yield numbers("strongroom_db_pool_in_use", [([n], pool.in_use) for n, pool in pools.items()])
    yield numbers("strongroom_db_pool_size", [([n], pool.size) for n, pool in pools.items()])


def jobs(found: Mapping[str, Jobs]) -> Iterator[Metric]:
    queues = list(found.items())
    yield numbers("strongroom_jobs_processed_total", [([q], one.processed) for q, one in queues])
    yield numbers("strongroom_jobs_failed_total", [([q], one.failed) for q, one in queues])
    yield spreads("strongroom_job_duration_seconds", [([q], one.seconds) for q, one in queues])
    yield numbers("strongroom_dead_lettered_total", [([q], one.buried) for q, one in queues])
