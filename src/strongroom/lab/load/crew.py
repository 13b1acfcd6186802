"""Several processes that carry one plan out together: each takes its share of every stream, all
begin at one agreed instant, and what they found is added up."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from strongroom.errors import Busy
from strongroom.lab.client_process import LoadFailed
from strongroom.lab.load.arrivals import part_of
from strongroom.lab.load.member import Begin, Told
from strongroom.lab.open_loop import Answered, OpenResult, Plan, Spell

K = TypeVar("K")

LEAD_S = 0.2
"""From the last that is ready to the begin of the warm-up: the word has reached everybody."""

LINE_BYTES = 256 * 2**20
"""The longest line of a member: its result."""

READY_S = 60.0
"""To start, to prepare the requests and to connect."""

MODULE = "strongroom.lab.load.member"


class CrewLate(Busy):
    """The load processes were not ready in time."""


Hear = Callable[[int, int, Spell], None]
"""Told by each member, each second: its number, the second, what happened in it."""


def shares_of(plan: Plan, shares: int) -> list[Plan]:
    """The plan as each of so many processes gets it: users and connections dealt in turn, so that
    together they are those of the plan, and each arrival is of one share."""
    found = []
    for share in range(shares):
        streams = [
            msgspec.structs.replace(
                one,
                job=msgspec.structs.replace(one.job, tokens=_dealt(one.job.tokens, share, shares)),
            )
            for one in plan.streams
        ]
        found.append(
            msgspec.structs.replace(
                plan,
                streams=streams,
                share=share,
                shares=shares,
                connections=max(1, part_of(plan.connections, share, shares)),
            )
        )
    return found


def _dealt(tokens: Sequence[str], share: int, shares: int) -> list[str]:
    return list(tokens[share::shares]) or list(tokens[:1])


async def carry_out(
    plan: Plan,
    processes: int,
    hear: Hear | None = None,
    begun: Callable[[float], None] | None = None,
) -> OpenResult:
    """Runs the plan in so many processes; ends them when cancelled. `begun` is told the measured
    begin, by `time.perf_counter`. LoadFailed, CrewLate."""
    members = [_Member(number, one, hear) for number, one in enumerate(shares_of(plan, processes))]
    try:
        for one in members:
            await one.start()
        async with asyncio.timeout(READY_S):
            await asyncio.gather(*(one.ready() for one in members))
        begin = time.perf_counter() + LEAD_S + plan.warmup_s
        if begun:
            begun(begin)
        for one in members:
            one.begin(begin)
        return merged(await asyncio.gather(*(one.result() for one in members)))
    except TimeoutError as error:
        raise CrewLate() from error
    finally:
        await asyncio.gather(*(one.end() for one in members))


class _Member:
    """One process."""

    def __init__(self, number: int, plan: Plan, hear: Hear | None) -> None:
        self._number, self._plan, self._hear = number, plan, hear
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            # The terminal's Ctrl-C is for us; we end it.
            start_new_session=True,
        )
        self._write(self._plan)

    def _write(self, told: msgspec.Struct) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(told) + b"\n")

    async def _heard(self) -> Told:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise LoadFailed(f"Load process {self._number + 1} ended without a result.")
        told = msgspec.json.decode(line, type=Told)
        if told.code:
            raise LoadFailed(f"{told.code}: {told.detail}")
        return told

    async def ready(self) -> None:
        while not (await self._heard()).ready:
            pass

    def begin(self, at: float) -> None:
        self._write(Begin(at))

    async def result(self) -> OpenResult:
        while True:
            told = await self._heard()
            if told.result is not None:
                return told.result
            if told.at is not None and told.spell is not None and self._hear:
                self._hear(self._number, told.at, told.spell)

    async def end(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()
        await self._process.wait()


def merged(results: Sequence[OpenResult]) -> OpenResult:
    """All of them as one; the busiest process tells how near to its limit the generator was."""
    names = dict.fromkeys(name for one in results for name in one.streams)
    return OpenResult(
        streams={name: _merged_answers([one.streams[name] for one in results]) for name in names},
        behind_us=added(one.behind_us for one in results),
        most_waiting=sum(one.most_waiting for one in results),
        client_cpu_share=max(one.client_cpu_share for one in results),
        waited=sum(one.waited for one in results),
        reconnects=sum(one.reconnects for one in results),
        took_s=max(one.took_s for one in results),
        seconds=merged_seconds([one.seconds for one in results]),
    )


def _merged_answers(parts: Sequence[Answered]) -> Answered:
    return Answered(
        counted_us=added(one.counted_us for one in parts),
        statuses=added(one.statuses for one in parts),
        errors=sum(one.errors for one in parts),
        codes=added(one.codes for one in parts),
        early=added(one.early for one in parts),
        bodies=[body for one in parts for body in one.bodies],
    )


def merged_seconds(parts: Sequence[Sequence[Spell]]) -> list[Spell]:
    """Second by second; who ended sooner adds nothing to the rest."""
    length = max((len(one) for one in parts), default=0)
    return [merged_spell([one[at] for one in parts if at < len(one)]) for at in range(length)]


def merged_spell(parts: Sequence[Spell]) -> Spell:
    return Spell(
        intended=sum(one.intended for one in parts),
        ended_us=added(one.ended_us for one in parts),
        failed=added(one.failed for one in parts),
    )


def added(counts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    """Counts added up by their names."""
    total: Counter[K] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
