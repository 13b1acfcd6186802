"""What the door has seen: counts for the metrics, kept cheap enough for every request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client.core import Metric

from strongroom.core.guard import Cache
from strongroom.doors.metrics import Metrics, counted
from strongroom.doors.metrics.names import numbers, spreads
from strongroom.errors import code_of
from strongroom.main import Strongroom
from strongroom.tally import Tally

if TYPE_CHECKING:
    import socket

    from strongroom.doors.http.routing import Route

METHODS = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"})
"""What anybody else invents is counted as one."""

OTHER = "(other)"

UNKNOWN = "(unknown)"
"""A path that no route has; there is no end to them."""

Kind = Literal["write", "read", "report", "page"]
"""What a request is by what its answer takes: each has times of its own."""


def kind_of(route: Route) -> Kind:
    if route.command is not None:
        return "write"
    if "format" in route.query:  # what may be a file takes as long as its caller reads
        return "report"
    return "read" if route.answer is not None else "page"


class Seen:
    """Requests by method, path and status, their times by kind, problems by code; with them how
    often what was asked lay in a cache."""

    def __init__(self, caches: Mapping[str, Cache[Any]] | None = None) -> None:
        self._caches = caches or {}
        self._requests: Counter[tuple[str, str, int]] = Counter()
        # There from the start: a counter that is first seen at 1 has not risen for Prometheus.
        self._refusals: Counter[str] = Counter({"internal_error": 0, "outcome_unknown": 0})
        self._times: dict[Kind, Tally] = {
            kind: Tally() for kind in ("write", "read", "report", "page")
        }
        self._times_of: dict[tuple[str, str], Tally] = {}

    def learn(self, routes: Sequence[Route]) -> None:
        """The routes that there are: only what is answered by one of them has a time."""
        for route in routes:
            self._times_of[route.method, route.path] = self._times[kind_of(route)]

    def request(
        self,
        method: str,
        path: str | None,
        status: int,
        seconds: float,
        error: Exception | None = None,
    ) -> None:
        """Counts an answer. `path` is the route's template, None where there is no route; `error`
        is what the answer is a problem of."""
        named = UNKNOWN if path is None else path
        times = self._times_of.get((method, named))
        if times is not None:
            times.add(seconds)
        elif method not in METHODS:
            method = OTHER
        self._requests[method, named, status] += 1
        if error is not None:
            self._refusals[code_of(error)] += 1

    def requests(self) -> Iterator[Metric]:
        """What this door counts."""
        seen = list(self._requests.items())
        failed: Counter[tuple[str, str]] = Counter(dict.fromkeys(self._times_of, 0))
        for (method, path, status), count in seen:
            failed[method, path] += count if status >= 500 else 0
        yield numbers(
            "strongroom_requests_total",
            [((method, path, str(status)), count) for (method, path, status), count in seen],
        )
        yield numbers("strongroom_requests_failed_total", failed.items())
        codes = list(self._refusals.items())
        yield numbers("strongroom_refusals_total", [([code], count) for code, count in codes])
        yield spreads(
            "strongroom_request_duration_seconds",
            [([kind], one) for kind, one in self._times.items()],
        )
        yield from counted.caches(self._caches)


def metrics_of(
    house: Strongroom, seen: Seen, name: str, listening: socket.socket | None
) -> Metrics:
    """All that an API process tells."""
    return Metrics(
        house,
        "api",
        name,
        seen.requests,
        lambda: counted.admission(house.lanes),
        listening=listening,
    )
