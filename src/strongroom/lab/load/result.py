"""What a load run found: the form of its JSON, which reports read and runs are compared by."""

from __future__ import annotations

from datetime import datetime

import msgspec

from strongroom.lab.machine import Machine


class Second(msgspec.Struct):
    """What happened in one second of a run, `at_s` after its (measured) begin. Latencies are from
    the intended start, in ms, of those answered in this second; None when nobody was."""

    at_s: int
    intended: int
    answered: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


class Sample(msgspec.Struct):
    """The system under load at one instant; None where it cannot be asked."""

    at_s: float
    queued: int | None
    """Messages that wait in all queues."""
    connections: int | None
    """Of the database, as opened by anybody."""
    busy_connections: int | None
    server_cpu: float | None
    """Cores that the system's processes use (API, workers, Postgres)."""
    server_rss_bytes: int | None


class StreamResult(msgspec.Struct):
    """One kind of request over the whole run. `intended` were due; each of them counts once, in
    `statuses` or in `unanswered` (connection broken, or no answer in time). `codes` are those of
    problem documents ("insufficient_funds"), of all that were no success."""

    name: str
    intended: int
    statuses: dict[int, int]
    codes: dict[str, int]
    unanswered: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    curve: list[tuple[float, float]] = []
    """Percentile (0 to 100) → ms, for the latency plot by percentile."""


class Threshold(msgspec.Struct):
    """A figure and what was asked of it, as `p99_ms <= 500`."""

    asked: str
    measured: float
    kept: bool


class Invariant(msgspec.Struct):
    """One invariant after the run; `findings` are sentences, empty when it holds."""

    name: str
    findings: list[str]


class LoadRun(msgspec.Struct):
    """The whole. `generator_limited` says that the generator and not the server was the limit, and
    why: then the latencies are no statement about the server. `expected` tells what the scenario
    promises beyond the invariants, as `50 bets of which exactly 7 are accepted`: sentence → held.
    """

    scenario: str
    says: str
    target: str
    began_at: datetime
    seconds: float
    warmup_s: float
    seed: int
    users: int
    processes: int
    connections: int
    intended: int
    answered: int
    per_second: float
    succeeded: int
    behind_p99_ms: float
    generator_cpu: float
    generator_limited: str | None
    streams: list[StreamResult]
    timeline: list[Second]
    samples: list[Sample]
    thresholds: list[Threshold]
    expected: dict[str, bool]
    invariants: list[Invariant]
    drained_s: float | None
    """From the last arrival until the queues were empty; None when they were not waited for."""
    machine: Machine
    commit: str | None
    settings: dict[str, float | str]
    """The scenario's numbers as they were run."""

    @property
    def held(self) -> bool:
        """All thresholds, expectations and invariants."""
        return (
            all(one.kept for one in self.thresholds)
            and all(self.expected.values())
            and not any(one.findings for one in self.invariants)
        )
