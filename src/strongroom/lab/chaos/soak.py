"""A part of the load it could take, for a long time: nothing may grow (C24)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from strongroom.clock import monotonic
from strongroom.core.db import Queries
from strongroom.lab.chaos.accounting import tried
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.crowd import Crowd
from strongroom.lab.chaos.field import Field
from strongroom.lab.trial import Trial

sql = Queries(__package__, "soak.sql")

SECONDS = 60.0
SHARE = 0.3
"""Of what it can take; more would measure the machine."""

FULL_S = 4.0
"""How long it is asked as fast as it answers, to know what it can take. Pools and caches are full
after that, so that what grows later is what leaks."""

LOOKS = 30
"""In each run, however long: ten a third."""

ENOUGH = 200

MIB = 2**20


class Limit(NamedTuple):
    """How much more the last third of a run may have than the first: so many times, and so much."""

    times: float
    more: float


LIMITS = {
    # A process that has just begun still meets requests that it has not met before.
    "memory MiB": Limit(1.1, 40),
    "connections": Limit(1.0, 4),
    # Below the tables' thresholds nobody vacuums.
    "dead tuples": Limit(1.5, 30_000),
    # Other programs on the machine have their moments.
    "p99 ms": Limit(3.0, 200),
}


def grown(series: Mapping[str, Sequence[float]]) -> list[str]:
    """What grew, each as a sentence: medians of the last third beside those of the first."""
    found = []
    for name, values in series.items():
        third = max(1, len(values) // 3)
        first, last = median(values[:third]), median(values[-third:])
        times, more = LIMITS[name]
        if last > first * times + more:
            found.append(f"{name} grew from {first:g} to {last:g}, over {len(values)} looks")
    return found


@scenario(
    "soak",
    "A third of the load it could take, for --seconds: memory, connections, dead tuples and p99 "
    "are at the end what they were at the beginning.",
    takes=("acknowledged", "seconds"),
)
async def soak(wanted: Wanted, say: Say) -> Trial:
    lasting = wanted.seconds or SECONDS
    say("starting: Postgres, two API processes, a worker")
    async with Field(apis=2, workers=1) as field:
        crowd = Crowd(field, seed=wanted.seed)
        await crowd.gather()
        began = monotonic()
        async with crowd.at_work() as notes:
            await asyncio.sleep(FULL_S)
            rate = notes.acknowledged / FULL_S * SHARE
        crowd.pace(rate)
        series: dict[str, list[float]] = {name: [] for name in LIMITS}
        async with crowd.at_work() as notes:
            for number in range(LOOKS):
                since = monotonic()
                await asyncio.sleep(lasting / LOOKS)
                await _look(field, series)
                series["p99 ms"].append(round(notes.p99_ms(since, monotonic())))
                say(f"{number + 1} of {LOOKS} looks, at {rate:.0f} requests a second")
        what = {f"{name}, {when}": values[place] for name, values in series.items()
                for when, place in (("first", 0), ("last", -1))}  # fmt: skip
        seconds = monotonic() - began
        return await tried(
            crowd,
            row="C24",
            name="soak",
            faults=LOOKS,
            seconds=seconds,
            what={"per second": round(rate, 1), **what},
            violations=grown(series),
            enough=wanted.acknowledged or ENOUGH,
        )


async def _look(field: Field, series: dict[str, list[float]]) -> None:
    (row,) = await field.rows(sql.look)
    series["memory MiB"].append(round(sum(one.rss_bytes() for one in field.members) / MIB))
    series["connections"].append(row["connections"])
    series["dead tuples"].append(row["dead_tuples"])
