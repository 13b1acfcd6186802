"""The benches of orders run, on shops as small as they can be: what they measure is there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from end_to_end._cli import scratch
from strongroom.lab.bench import Bench, Shops, Turn
from strongroom.lab.benches.orders import Orders
from strongroom.lab.benches.orders_export import OrdersExport
from strongroom.lab.benches.orders_reads import PLACING, OrdersRead
from strongroom.lab.benches.reading_kinds import KINDS
from strongroom.lab.benches.shops import Shop
from strongroom.lab.figures import Figures

TURN = Turn(seconds=4.0, seed=1, quick=True)

SMALL = 4000


def measured(bench: Bench) -> tuple[Figures, Figures]:
    """One turn of each side."""

    async def story() -> tuple[Figures, Figures]:
        async with bench:
            return await bench.ours(TURN), await bench.baseline(TURN)

    return asyncio.run(story())


def test_the_order_bench_sells_out_on_both_sides_and_oversells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Orders, "people", 100)
    monkeypatch.setattr(Orders, "placed_quick", 1000)
    monkeypatch.setattr(Orders, "theirs_quick", 500)
    bench = Orders()
    ours, theirs = measured(bench)
    assert (ours["placed"], theirs["placed"]) == (1000, 500)
    assert ours["oversold"] == theirs["oversold"] == 0
    assert min(ours["orders_per_s"], theirs["orders_per_s"]) > 0
    assert len(bench.verdicts(ours, theirs)) == 2


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


def test_the_read_bench_asks_every_kind_of_both_shops_and_keeps_them(folder: Path) -> None:
    at, beside = folder / "large", folder / "small"
    bench = OrdersRead()
    bench.take(Shops(orders=SMALL, at=at, beside=beside))
    ours, tenth = measured(bench)
    for side, orders in ((ours, SMALL), (tenth, SMALL // 10)):
        assert side["orders"] >= orders
        assert side["failed"] == 0
        for kind in (*(one.name for one in KINDS if one.in_load), PLACING):
            assert side[f"{kind}: asked"] >= 1, kind
            assert side[f"{kind}: max_ms"] >= side[f"{kind}: p50_ms"] > 0
    assert ours["orders"] > tenth["orders"]
    assert {one.what for one in bench.verdicts(ours, tenth)}
    assert bench.details(ours, tenth).row_count == len(KINDS) + 1

    async def story() -> int:
        async with Shop(10**9, at, lambda _: None) as again:
            return again.orders

    # Filled before: nobody seeds a thousand million orders now.
    assert SMALL < asyncio.run(story()) < 10 * SMALL


def test_the_export_bench_counts_every_row_of_both_forms() -> None:
    bench = OrdersExport()
    bench.take(Shops(orders=SMALL))
    ours, tenth = measured(bench)
    whole = ours["orders"]
    assert ours["rows"] == pytest.approx(whole, rel=0.01)
    assert tenth["rows"] == pytest.approx(whole / 10, rel=0.05)
    for form in ("csv", "xlsx"):
        assert ours[f"{form}_rows_per_s"] > 0
        assert ours[f"{form}_memory_peak_mb"] >= ours[f"{form}_memory_before_mb"] > 10
    assert all(one.kept for one in bench.verdicts(ours, tenth))
