"""All metrics by name: what they are called and labelled, and what they mean.

Nothing else is served, and the reference is made from this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from strongroom.tally import Tally

Told = Literal["API", "worker", "every process", "every process, of the database"]
"""Who tells it. What is of the database is the same whoever is asked: take the maximum."""


class Described(NamedTuple):
    """One metric: its type, what labels it has, what it means, who tells it, and an example of its
    labels' values."""

    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    told: Told
    example: tuple[str, ...] = ()


LANE = "betting.PlaceBet"
QUEUE = "betting_match"

_API: dict[str, Described] = {
    "strongroom_requests_total": Described(
        "counter",
        ("method", "path", "status"),
        "Requests answered, by the route's template. A path that no route has is (unknown), what "
        "could not be read as a request (no request).",
        "API",
        ("POST", "/api/bets", "202"),
    ),
    "strongroom_requests_failed_total": Described(
        "counter",
        ("method", "path"),
        "Requests answered by 5xx, or broken off in the midst of their answer.",
        "API",
        ("POST", "/api/bets"),
    ),
    "strongroom_refusals_total": Described(
        "counter",
        ("code",),
        "Problems answered, by code; bugs of ours are internal_error.",
        "API",
        ("insufficient_funds",),
    ),
    "strongroom_request_duration_seconds": Described(
        "histogram",
        ("kind",),
        "Time to answer a route: write, read, report (statistics and exports, until all of them "
        "is sent) or page (what is not JSON).",
        "API",
        ("write",),
    ),
    "strongroom_admission_rejected_total": Described(
        "counter",
        ("lane", "reason"),
        "Commands that did not get into a group: full (it would have waited too long), held (it "
        "needs a row that somebody holds), late (it has waited too long), limit (an operator "
        "closed or slowed the lane).",
        "API",
        (LANE, "full"),
    ),
    "strongroom_group_wait_seconds": Described(
        "histogram",
        ("lane",),
        "How long a command waited for its group to begin.",
        "API",
        (LANE,),
    ),
    "strongroom_cache_requests_total": Described(
        "counter",
        ("cache", "outcome"),
        "Questions to caches: hits, misses, joined (waited for somebody's load), stale (the "
        "database was down).",
        "API",
        ("orders", "hits"),
    ),
}

_WORKER: dict[str, Described] = {
    "strongroom_jobs_processed_total": Described(
        "counter", ("queue",), "Messages that came to their end.", "worker", (QUEUE,)
    ),
    "strongroom_jobs_failed_total": Described(
        "counter", ("queue",), "Attempts that failed; each comes again later.", "worker", (QUEUE,)
    ),
    "strongroom_job_duration_seconds": Described(
        "histogram",
        ("queue",),
        "From the lease of a message to its end, whole batches together.",
        "worker",
        (QUEUE,),
    ),
    "strongroom_dead_lettered_total": Described(
        "counter",
        ("queue",),
        "Messages buried after their last attempt.",
        "worker",
        (QUEUE,),
    ),
}

_EVERY: dict[str, Described] = {
    "strongroom_groups_total": Described(
        "counter", (), "Groups of commands committed.", "every process"
    ),
    "strongroom_commands_total": Described(
        "counter", (), "Commands committed in groups, replays included.", "every process"
    ),
    "strongroom_group_size": Described(
        "histogram", ("lane",), "Commands in a committed group.", "every process", (LANE,)
    ),
    "strongroom_group_duration_seconds": Described(
        "histogram",
        ("lane",),
        "From the opening of a group's transaction to the end of its COMMIT.",
        "every process",
        (LANE,),
    ),
    "strongroom_claim_replays_total": Described(
        "counter",
        (),
        "Commands answered by the stored answer of their key.",
        "every process",
    ),
    "strongroom_races_total": Described(
        "counter",
        (),
        "Transactions run again because they lost a race: deadlock, serialization, unique key.",
        "every process",
    ),
    "strongroom_connection_lost_total": Described(
        "counter",
        (),
        "Groups whose connection to the database was lost; run again.",
        "every process",
    ),
    "strongroom_held_rows": Described(
        "gauge",
        (),
        "Rows that somebody holds for unusually long, as this process knows.",
        "every process",
    ),
    "strongroom_ledger_entries_total": Described(
        "counter", (), "Ledger entries that this process has committed.", "every process"
    ),
    "strongroom_db_query_duration_seconds": Described(
        "histogram",
        ("room",),
        "Time of statements as the process waits for them, by the file that names the query; "
        "transactions stands for what opens and ends them.",
        "every process",
        ("ledger",),
    ),
    "strongroom_db_pool_in_use": Described(
        "gauge", ("pool",), "Connections of this process that work.", "every process", ("app",)
    ),
    "strongroom_db_pool_size": Described(
        "gauge", ("pool",), "Connections that this process may open.", "every process", ("app",)
    ),
    "strongroom_event_loop_lag_seconds": Described(
        "gauge",
        (),
        "How long the scrape waited for its turn in the process.",
        "every process",
    ),
    "strongroom_build_info": Described(
        "gauge",
        ("version", "service", "process"),
        "Always 1; what the process is.",
        "every process",
        ("0.1.0", "api", "api-1"),
    ),
    "strongroom_process_id": Described("gauge", (), "The process's number.", "every process"),
    "strongroom_process_start_time_seconds": Described(
        "gauge", (), "When the process began, since 1970.", "every process"
    ),
    "strongroom_process_cpu_seconds_total": Described(
        "counter", (), "Computing time of the process.", "every process"
    ),
    "strongroom_process_resident_memory_bytes": Described(
        "gauge", (), "Memory of the process.", "every process"
    ),
    "strongroom_process_virtual_memory_bytes": Described(
        "gauge", (), "Addresses that the process has asked for.", "every process"
    ),
    "strongroom_process_open_fds": Described(
        "gauge", (), "Files and connections that the process has open.", "every process"
    ),
    "strongroom_process_max_fds": Described(
        "gauge", (), "How many of them it may have.", "every process"
    ),
    "strongroom_database_up": Described(
        "gauge",
        (),
        "1 when the database answered this process within half a second; else all that is of the "
        "database is left out.",
        "every process",
    ),
}

_DATABASE: dict[str, Described] = {
    "strongroom_queue_length": Described(
        "gauge",
        ("queue",),
        "Messages in the queue, counted to a hundred thousand.",
        "every process, of the database",
        (QUEUE,),
    ),
    "strongroom_queue_delayed": Described(
        "gauge",
        ("queue",),
        "Messages that were sent to be read later.",
        "every process, of the database",
        (QUEUE,),
    ),
    "strongroom_queue_stalled": Described(
        "gauge",
        ("queue",),
        "Messages that were read and not ended: their attempt failed, or their worker died.",
        "every process, of the database",
        (QUEUE,),
    ),
    "strongroom_queue_oldest_seconds": Described(
        "gauge",
        ("queue",),
        "Age of the oldest message.",
        "every process, of the database",
        (QUEUE,),
    ),
    "strongroom_dead_letters": Described(
        "gauge",
        ("queue",),
        "Dead letters that wait for somebody.",
        "every process, of the database",
        (QUEUE,),
    ),
    "strongroom_db_connections": Described(
        "gauge",
        ("state",),
        "Client connections to the server; of other logins than the auditor's, who asks, it says "
        "only that they are there: unknown.",
        "every process, of the database",
        ("active",),
    ),
    "strongroom_db_connections_max": Described(
        "gauge",
        (),
        "Connections that the server allows to who is no superuser.",
        "every process, of the database",
    ),
    "strongroom_db_lock_waits": Described(
        "gauge",
        (),
        "Locks that sessions of this database wait for just now.",
        "every process, of the database",
    ),
    "strongroom_db_deadlocks_total": Described(
        "counter",
        (),
        "Deadlocks that the server has broken up in this database.",
        "every process, of the database",
    ),
    "strongroom_ledger_duplicates_detected": Described(
        "gauge",
        (),
        "What the newest full reconciliation, or one since, found to be there twice: transfer "
        "keys, payments of a match, refunds, reversals, holds.",
        "every process, of the database",
    ),
    "strongroom_reconciliation_mismatch": Described(
        "gauge",
        (),
        "Invariants that did not hold in the newest full reconciliation, or in one since.",
        "every process, of the database",
    ),
    "strongroom_reconciliation_age_seconds": Described(
        "gauge",
        (),
        "Since the newest reconciliation of all accounts began; left out before the first.",
        "every process, of the database",
    ),
    "strongroom_archive_running": Described(
        "gauge",
        (),
        "1 while somebody takes the server's log to the backups; left out where nobody is meant "
        "to.",
        "every process, of the database",
    ),
    "strongroom_payouts_paused": Described(
        "gauge",
        (),
        "1 while payouts are paused, or the switch cannot be found.",
        "every process, of the database",
    ),
    "strongroom_reservations_held": Described(
        "gauge",
        (),
        "Reservations of seats that are neither over nor ordered.",
        "every process, of the database",
    ),
    "strongroom_event_tail_lag_seconds": Described(
        "gauge",
        (),
        "Age of the oldest event that readers of the log may not read yet, because an older "
        "transaction still runs.",
        "every process, of the database",
    ),
    "strongroom_queue_paused": Described(
        "gauge",
        ("queue",),
        "1 while an operator keeps the workers from reading the queue.",
        "every process, of the database",
        (QUEUE,),
    ),
}

METRICS: dict[str, Described] = {**_API, **_WORKER, **_EVERY, **_DATABASE}


def numbers(name: str, values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """A counter or gauge with these values by their labels."""
    described = METRICS[name]
    assert described.type != "histogram", name
    make = CounterMetricFamily if described.type == "counter" else GaugeMetricFamily
    found = make(name, described.meaning, labels=described.labels)
    for labels, value in values:
        found.add_metric(labels, value)
    return found


def number(name: str, value: float) -> Metric:
    """The same for one that has no labels."""
    return numbers(name, [((), value)])


def spreads(name: str, tallies: Iterable[tuple[Sequence[str], Tally]]) -> Metric:
    """A histogram with these tallies by their labels."""
    described = METRICS[name]
    assert described.type == "histogram", name
    found = HistogramMetricFamily(name, described.meaning, labels=described.labels)
    for labels, tally in tallies:
        total, buckets = 0, []
        # The counts first: what is added meanwhile may be missing in the sum, never the reverse.
        for bound, count in zip([*map(str, tally.bounds), "+Inf"], list(tally.counts)):
            total += count
            buckets.append((bound, float(total)))
        found.add_metric(labels, buckets, tally.total)
    return found
