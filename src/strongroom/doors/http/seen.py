"""What the door has seen: counts for /metrics, kept cheap enough for every request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from strongroom.core.commands import Executor
from strongroom.core.guard import Cache

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

OUTCOMES = ("hits", "misses", "joined", "stale")
"""What becomes of a question to a cache; `stale` while the database is down."""


class Seen(Collector):
    """Requests by method, path and status, their times, the groups that came of them, and how
    often what was asked lay in a cache."""

    def __init__(self, executor: Executor, caches: Mapping[str, Cache[Any]] | None = None) -> None:
        self._executor, self._caches = executor, caches or {}
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._seconds = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        self._requests[method, path, status] += 1
        self._seconds += seconds
        for i, bound in enumerate(BUCKETS_S):
            if seconds <= bound:
                self._buckets[i] += 1
                return
        self._buckets[-1] += 1

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus reads them."""
        requests = CounterMetricFamily(
            "strongroom_requests", "Requests answered.", labels=["method", "path", "status"]
        )
        for (method, path, status), count in self._requests.items():
            requests.add_metric([method, path, str(status)], count)
        yield requests
        times = HistogramMetricFamily("strongroom_request_duration_seconds", "Time to answer.")
        total, buckets = 0, []
        for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], self._buckets, strict=True):
            total += count
            buckets.append((bound, float(total)))
        times.add_metric([], buckets, self._seconds)
        yield times
        groups = CounterMetricFamily("strongroom_groups", "Groups committed.")
        groups.add_metric([], self._executor.groups)
        yield groups
        commands = CounterMetricFamily("strongroom_commands", "Commands committed in groups.")
        commands.add_metric([], self._executor.commands)
        yield commands
        kept = CounterMetricFamily(
            "strongroom_cache_requests", "Questions to caches.", labels=["cache", "outcome"]
        )
        for name, cache in self._caches.items():
            for outcome in OUTCOMES:
                kept.add_metric([name, outcome], getattr(cache, outcome))
        yield kept

    def text(self) -> bytes:
        return generate_latest(self._registry)
