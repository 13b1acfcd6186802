"""The bench of what it costs to be watched: each side is watched as its name says, and no other."""

from __future__ import annotations

import pytest

from strongroom.lab.bench import Turn
from strongroom.lab.benches.observed import ALONE, SCRAPED, WATCHED, AlreadyTraced, Observed

TURN = Turn(seconds=2.0, seed=1, quick=True, setting=256)


async def test_each_side_is_watched_as_its_name_says() -> None:
    async with Observed() as bench:
        found = {name: await bench.side(name, TURN) for name in bench.rows}
        verdicts = bench.verdicts(found[WATCHED], found[ALONE])
    assert all(figures["bets_per_s"] > 0 for figures in found.values())
    assert all(figures["api_cpu_us_per_bet"] > 0 for figures in found.values())
    assert {name for name, one in found.items() if one["trace_bytes"]} == {WATCHED}
    assert {name for name, one in found.items() if one.get("scrapes")} == {WATCHED, SCRAPED}
    (kept,) = verdicts
    assert kept.measured == found[WATCHED]["bets_per_s"] / found[ALONE]["bets_per_s"]


async def test_it_is_not_measured_where_everything_is_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STRONGROOM_OTLP_URL", "http://127.0.0.1:9")
    with pytest.raises(AlreadyTraced):
        async with Observed():
            pass
