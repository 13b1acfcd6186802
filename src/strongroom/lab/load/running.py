"""One load run from the first user to the last invariant."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.clock import monotonic, now
from strongroom.errors import Busy, Refused
from strongroom.lab.load.arrivals import said_of
from strongroom.lab.load.crew import added, carry_out, merged_spell
from strongroom.lab.load.plans import LoadPlan
from strongroom.lab.load.result import (
    LoadRun,
    Sample,
    Second,
    StreamResult,
    Threshold,
)
from strongroom.lab.load.stage import WARM_UP, kept, set_up, staged
from strongroom.lab.load.targets import Target
from strongroom.lab.load.thresholds import Limit, ThresholdUnfit, limit_of
from strongroom.lab.machine import commit, machine
from strongroom.lab.open_loop import (
    BEHIND_MS,
    Answered,
    OpenResult,
    Plan,
    Spell,
    quantiles,
)

SAMPLE_S = 1.0

DRAINED_S = 120.0
"""Queues that are not empty by then are said to be full; the invariants decide what that means."""

LOOK_S = 0.1

BEHIND_SHARE = 0.25
"""Of the p99 that was measured: lateness below that is not what made it."""

BUSY_SHARE = 0.9
"""Of a core: beyond it a process of the generator may have had no time for its arrivals."""

FRAGMENT_S = 0.5
"""The last second of a run is often a piece of one; shorter than this it looks like a collapse."""

CURVE = (0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 99.999, 100)
"""Percentiles of the latency plot: closer together towards the tail."""


class QueuesFull(Busy):
    """The queues of the target did not become empty before the run."""


@dataclass
class Seen:
    """What a screen may show while the run is under way."""

    name: str
    plan: LoadPlan
    step: str = "starting"
    target: str = ""
    began: float | None = None
    """The measured begin, by `time.perf_counter`."""
    spells: dict[int, list[Spell]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    answered: int = 0
    sample: Sample | None = None
    done: bool = False

    @property
    def elapsed_s(self) -> float | None:
        """Since the measured begin; None before it."""
        return None if self.began is None else time.perf_counter() - self.began

    @property
    def last(self) -> Spell:
        """The last second that all processes have told of."""
        return merged_spell(self.spells[max(self.spells)]) if self.spells else Spell()

    def hear(self, member: int, at: int, spell: Spell) -> None:
        """What one process did in one second."""
        self.spells.setdefault(at, []).append(spell)
        for old in [one for one in self.spells if one < at - 1]:
            del self.spells[old]
        self.answered += sum(spell.ended_us.values())
        for code, times in spell.failed.items():
            self.failed[code] = self.failed.get(code, 0) + times


@dataclass(frozen=True)
class Options:
    """How a plan is run."""

    processes: int = 1
    seed: int = 0
    asked: tuple[str, ...] = ()
    """Thresholds beside those of the plan."""

    def limits(self, plan: LoadPlan, *, measured: bool) -> list[Limit]:
        """All thresholds; one that was asked for replaces the plan's of the same figure.
        ThresholdUnfit for what cannot be `measured` there."""
        chosen = [limit_of(one) for one in self.asked]
        names = [one.name for one in plan.streams]
        for one in chosen:
            if one.stream and one.stream not in names:
                raise ThresholdUnfit(f"{one.asked}: there is no stream {one.stream}.")
            if not measured and one.figure.startswith(("connections", "server")):
                raise ThresholdUnfit(f"{one.asked}: that cannot be seen through a URL.")
        replaced = {(one.name, one.sign) for one in chosen}
        return [one for one in plan.limits if (one.name, one.sign) not in replaced] + chosen


class Run:
    """A plan on a target."""

    def __init__(self, seen: Seen, target: Target, options: Options) -> None:
        self._seen, self._plan, self._target = seen, seen.plan, target
        self._options = options
        self._limits = options.limits(seen.plan, measured=target.measured)
        self._samples: list[Sample] = []

    async def carry_out(self) -> LoadRun:
        """All of it."""
        seen, plan, target = self._seen, self._plan, self._target
        seen.target, seen.step = target.says, f"making {plan.users:,} users and what they want"
        scene = await set_up(plan, target)
        if await self._drained() is None:
            raise QueuesFull()
        facts, began_at = machine(await target.postgres()), now()
        todo = staged(plan, scene, target, self._options.seed)
        seen.step = "getting ready"
        result = await self._load(todo)
        seen.step = "waiting until the queues are empty"
        drained_s = await self._drained_s(result)
        seen.step = "checking what was acknowledged, and every invariant"
        expected = await kept(plan, scene, target, result)
        if drained_s is None:
            expected[f"the queues are empty within {DRAINED_S:g} s"] = False
        invariants = await target.invariants()
        seen.step, seen.done = "done", True
        streams = [_stream(name, one) for name, one in result.streams.items() if name != WARM_UP]
        whole = _whole(plan, result)
        figures = self._figures(result, whole, drained_s)
        intended = sum(one.intended for one in streams)
        return LoadRun(
            scenario=seen.name,
            says=plan.says,
            target=target.says,
            began_at=began_at,
            seconds=_seconds(plan, result),
            warmup_s=plan.warmup_s,
            seed=self._options.seed,
            users=plan.users,
            processes=self._options.processes,
            connections=todo.connections,
            intended=intended,
            answered=intended - sum(one.unanswered for one in streams),
            per_second=figures["per_second"],
            succeeded=round(figures["succeeded"]),
            behind_p99_ms=result.behind_ms,
            generator_cpu=result.client_cpu_share,
            generator_limited=limited_by(result, figures["p99_ms"]),
            streams=streams,
            timeline=timeline_of(result, _seconds(plan, result)),
            samples=self._samples,
            thresholds=self._stands(figures),
            expected=expected,
            invariants=invariants,
            drained_s=drained_s,
            machine=facts,
            commit=commit(),
            settings=self._settings(result.waited),
        )

    def _stands(self, figures: Mapping[str, float]) -> list[Threshold]:
        found = [limit.of(figures) for limit in self._limits]
        return [one for one in found if one is not None]

    def _settings(self, waited: int) -> dict[str, float | str]:
        plan = self._plan
        told: dict[str, float | str] = {
            "users": plan.users,
            "seconds": plan.seconds,
            "warmup_s": plan.warmup_s,
        }
        if waited:
            told["waited_for_a_connection"] = waited
        if self._target.allowed:
            told["max_connections"] = self._target.allowed
        for name in ("seats", "products", "stock", "funded"):
            value = getattr(plan, name)
            if value:
                told[name] = value
        for one in plan.streams:
            told[one.name] = said_of(one.arrivals(plan.users, plan.seconds))
        return told

    async def _load(self, todo: Plan) -> OpenResult:
        seen = self._seen

        def begun(at: float) -> None:
            seen.began, seen.step = at, "under load"

        sampling = asyncio.create_task(self._sample())
        try:
            return await carry_out(todo, self._options.processes, seen.hear, begun)
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            if seen.began is not None:
                await self._look()

    async def _sample(self) -> None:
        """At the measured begin, and each second from then on."""
        with contextlib.suppress(TimeoutError):
            await self._target.sample(0.0)  # CPU is counted from here on
        number = 0
        while True:
            began = self._seen.began
            due = LOOK_S if began is None else began + number * SAMPLE_S - time.perf_counter()
            if due > 0:
                await asyncio.sleep(due)
            elif began is not None:
                await self._look()
                number = int((time.perf_counter() - began) / SAMPLE_S) + 1

    async def _look(self) -> None:
        elapsed = self._seen.elapsed_s
        assert elapsed is not None
        sample = await self._target.sample(round(elapsed, 3))
        self._samples.append(sample)
        self._seen.sample = sample

    async def _drained_s(self, result: OpenResult) -> float | None:
        """From the last arrival on, at most: nobody looks before the last answer."""
        drained, began = await self._drained(), self._seen.began
        if drained is None or began is None:
            return None
        plan = self._plan
        closed = any(one.shape == "closed" for one in plan.streams)
        return max(0.0, drained - began - (result.took_s if closed else plan.seconds))

    async def _drained(self) -> float | None:
        """When the queues were empty, by `time.perf_counter`; None when they never were."""
        patience = monotonic() + DRAINED_S
        while monotonic() < patience:
            with contextlib.suppress(Refused, Busy):
                if await self._target.queued() == 0:
                    return time.perf_counter()
            await asyncio.sleep(LOOK_S)
        return None

    def _figures(
        self, result: OpenResult, whole: Answered, drained_s: float | None
    ) -> dict[str, float]:
        seconds = _seconds(self._plan, result)
        refusals = self._plan.refusals
        figures = _of(whole, refusals, seconds)
        for name, one in result.streams.items():
            told = _of(one, refusals, seconds)
            figures |= {f"{name}.{which}": value for which, value in told.items()}
        figures["behind_p99_ms"] = result.behind_ms
        if drained_s is not None:
            figures["drained_s"] = drained_s
        peaks: dict[str, list[int | None] | list[float | None]] = {
            "queued_peak": [one.queued for one in self._samples],
            "connections_peak": [one.connections for one in self._samples],
            "server_cpu_peak": [one.server_cpu for one in self._samples],
        }
        for name, values in peaks.items():
            known = [float(one) for one in values if one is not None]
            if known:
                figures[name] = max(known)
        if self._target.allowed and "connections_peak" in figures:
            figures["connections_share"] = figures["connections_peak"] / self._target.allowed
        return figures


def _whole(plan: LoadPlan, result: OpenResult) -> Answered:
    """All streams of the plan as one."""
    streams = [result.streams[one.name] for one in plan.streams]
    return Answered(
        counted_us=added(one.counted_us for one in streams),
        statuses=added(one.statuses for one in streams),
        errors=sum(one.errors for one in streams),
        codes=added(one.codes for one in streams),
    )


def _seconds(plan: LoadPlan, result: OpenResult) -> float:
    """Until the last answer, or the end of the plan when that is later."""
    return max(plan.seconds, result.took_s, 1e-3)


def _of(one: Answered, refusals: list[str], seconds: float) -> dict[str, float]:
    p50, p95, p99, p999, most = quantiles(one.counted_us, 50, 95, 99, 99.9, 100)
    failed = one.failed - sum(one.codes.get(code, 0) for code in refusals)
    count = one.count
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "p999_ms": p999,
        "max_ms": most,
        "failed": float(failed),
        "failed_share": failed / count if count else 0.0,
        "unanswered": float(one.errors),
        "succeeded": float(count - one.failed),
        "per_second": (count - one.errors) / seconds,
    }


def _stream(name: str, one: Answered) -> StreamResult:
    p50, p95, p99, p999, most = quantiles(one.counted_us, 50, 95, 99, 99.9, 100)
    curve = list(zip(map(float, CURVE), quantiles(one.counted_us, *CURVE), strict=True))
    return StreamResult(
        name=name,
        intended=one.count,
        statuses=dict(sorted(one.statuses.items())),
        codes=dict(sorted(one.codes.items())),
        unanswered=one.errors,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=most,
        curve=curve if one.count else [],
    )


def timeline_of(result: OpenResult, seconds: float) -> list[Second]:
    """Second by second, but for a last one of which the run saw only the beginning."""
    found: list[Second] = []
    for at, one in enumerate(result.seconds):
        if at and seconds - at < FRAGMENT_S:
            break
        ended, failed = sum(one.ended_us.values()), one.failed
        p50, p99 = quantiles(one.ended_us, 50, 99) if ended else (None, None)
        unanswered = failed.get("unanswered", 0)
        found.append(Second(at, one.intended, ended - unanswered, sum(failed.values()), p50, p99))
    return found


def limited_by(result: OpenResult, p99_ms: float) -> str | None:
    """Why the generator and not the server was the limit; None when it was not. That requests found
    no connection free is no reason: it is a slow server that keeps them all busy, and who waits
    for one waits on the clock."""
    behind_ms = result.behind_ms
    if behind_ms > BEHIND_MS and behind_ms > BEHIND_SHARE * p99_ms:
        return (
            f"it was {behind_ms:.0f} ms late (p99), beside latencies of {p99_ms:.0f} ms: give it "
            "more --processes, or a machine of its own"
        )
    if result.client_cpu_share > BUSY_SHARE:
        return f"a process of it used {result.client_cpu_share:.0%} of a core: more --processes"
    return None
