"""Load runs as one might be found, for the tests of their report."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec

from strongroom.lab.load.result import (
    Invariant,
    LoadRun,
    Sample,
    Second,
    StreamResult,
    Threshold,
)
from strongroom.lab.machine import Machine

MACHINE = Machine(
    cores=2,
    cpu="A processor of some kind at 2.60 GHz",
    memory_bytes=24 * 2**30,
    system="Linux 6.1",
    python="3.11.7",
    postgres="18.6",
    load_average=0.07,
)

SECONDS = 60


def a_stream(name: str, intended: int, slow: float = 1.0, **more: Any) -> StreamResult:
    refused = intended // 50
    curve = [
        (percent, round(slow * 3.1 * (100 / (100.0001 - percent)) ** 0.45, 3))
        for percent in (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100)
    ]
    found = StreamResult(
        name=name,
        intended=intended,
        statuses={202: intended - refused - 3, 400: refused - 4, 429: 4},
        codes={"insufficient_funds": refused - 4, "overloaded": 4},
        unanswered=3,
        p50_ms=4.217 * slow,
        p95_ms=11.93 * slow,
        p99_ms=24.61 * slow,
        p999_ms=71.4 * slow,
        max_ms=1_204.5 * slow,
        curve=curve,
    )
    return msgspec.structs.replace(found, **more)


def a_run(slow: float = 1.0, **more: Any) -> LoadRun:
    """A minute of two streams, in which nothing was wrong but a stall in the middle."""
    streams = [a_stream("bets", 30_000, slow), a_stream("wallet reads", 12_345, slow / 2)]
    intended = sum(one.intended for one in streams)
    answered = sum(sum(one.statuses.values()) for one in streams)
    stall = [math.exp(-((at - 31) ** 2) / 4) for at in range(SECONDS)]
    wave = [math.sin(at / 4) for at in range(SECONDS)]
    timeline = [
        Second(
            at_s=at,
            intended=intended // SECONDS,
            answered=int(intended / SECONDS * (1 - 0.6 * stall[at]) + 9 * wave[at]),
            failed=int(13 + 4 * wave[at] + 60 * stall[at]),
            p50_ms=round(slow * (4.2 + wave[at] / 2 + 40 * stall[at]), 3),
            p99_ms=round(slow * (24 + 5 * wave[at] + 900 * stall[at]), 3),
        )
        for at in range(SECONDS)
    ]
    samples = [
        Sample(
            at_s=at + 0.5,
            queued=int(slow * (60 + 30 * wave[at] + 2400 * stall[at])),
            connections=23,
            busy_connections=int(6 + 3 * wave[at] + 8 * stall[at]),
            server_cpu=round(1.1 + 0.2 * wave[at], 2),
            server_rss_bytes=int((310 + at / 4) * 2**20),
        )
        for at in range(SECONDS)
    ]
    run = LoadRun(
        scenario="sustained",
        says="500 users place a bet a second each, for a minute, and look at their wallets.",
        target="http://127.0.0.1:8000",
        began_at=datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC),
        seconds=60.0,
        warmup_s=5.0,
        seed=20_260_101,
        users=500,
        processes=2,
        connections=256,
        intended=intended,
        answered=answered,
        per_second=answered / 60,
        succeeded=sum(one.statuses[202] for one in streams),
        behind_p99_ms=1.72,
        generator_cpu=0.41,
        generator_limited=None,
        streams=streams,
        timeline=timeline,
        samples=samples,
        thresholds=[Threshold("p99_ms <= 500", 24.61 * slow, 24.61 * slow <= 500)],
        expected={"every accepted bet is there exactly once": True},
        invariants=[Invariant(name, []) for name in INVARIANTS],
        drained_s=1.4,
        machine=MACHINE,
        commit="c8753485d0c9f8e0a1b2c3d4e5f60718293a4b5c",
        settings={"rate": 705.75, "users": 500, "warmup_s": 5.0, "mode": "open loop"},
    )
    return msgspec.structs.replace(run, **more)


INVARIANTS = (
    "transfers_sum_to_zero",
    "entries_have_a_transfer",
    "units_sum_to_zero",
    "balances_equal_their_entries",
    "sequences_have_no_gap",
    "no_balance_below_its_floor",
    "answers_have_one_effect",
    "stakes_cover_open_bets",
    "matches_are_paid_once",
    "queues_hold_what_was_written",
)


def a_broken_run() -> LoadRun:
    """Slow, and something was lost; the generator could not keep up either."""
    run = a_run(25.0, scenario="ramp", generator_limited="it ran 340 ms behind its schedule")
    found = ["stakes_cover_open_bets: round 0198…, short by 1000"]
    run.invariants[7] = Invariant("stakes_cover_open_bets", found)
    run.expected["50 bets of which exactly 7 are accepted"] = False
    return run
