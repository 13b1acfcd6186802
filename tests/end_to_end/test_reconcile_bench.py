"""The bench of reconciliation runs, on ledgers as small as they can be: its books are sound, and it
reads what it says."""

from __future__ import annotations

from strongroom.lab.bench import measure
from strongroom.lab.benches.reconcile import Reconcile


class Small(Reconcile):
    settings = (2_000, 6_000)


async def test_an_incremental_run_reads_a_day_and_a_share_and_a_full_one_everything() -> None:
    report = await measure(Small())
    small, large = report.points
    assert [point.setting for point in report.points] == [2_000, 6_000]
    for point, accounts in ((small, 10), (large, 30)):
        some, all_of_it = point.figures["incremental"], point.figures["full"]
        assert some["new_entries"] == 2 * accounts
        assert some["entries_read_again"] < all_of_it["entries_read_again"]
        assert all_of_it["entries_read_again"] == all_of_it["sealed_entries"] >= point.setting
        assert some["seconds"] > 0 and all_of_it["seconds"] > 0
    assert not report.verdicts
