"""The page of benches is made from records alone: what they say stands there, nothing else does."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
import typer.testing

from load_runs import MACHINE
from strongroom.doors.cli.app import app
from strongroom.lab import page
from strongroom.lab.bench import Bench, Point, Report, Series, Turn, Verdict, measure, turns_of
from strongroom.lab.benches import BENCHES
from strongroom.lab.figures import Comparison, Figures
from strongroom.lab.svg import Bar, bars, lines

ROOT = Path(__file__).parents[2]

COMMAND = ["bench", "--results", "results", "--page", "docs/benchmarks.md"]

BEGAN = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)

PLAIN = Report(
    name="bets",
    claim="Bets | placed",
    figure="bets_per_s",
    better="higher",
    figures={"bets_per_s": 4_321.0, "p99_ms": 12.3},
    baseline={"bets_per_s": 432.1, "left": 7.0},
    comparison=Comparison((10.0, 9.0, 12.0)),
    pairs=[({"bets_per_s": 1.0}, {"bets_per_s": 1.0})] * 3,
    verdicts=[Verdict("p99 of a bet", 12.3, 10.0, "ms")],
    machine=MACHINE,
    seed=17,
    quick=False,
    seconds_a_turn=10.0,
    began_at=BEGAN,
    commit="0123456789abcdef0123456789abcdef01234567-dirty",
)

RATES = {"group commit": 900.0, "row lock": 300.0, "optimistic": 100.0}

SERIES = replace(
    PLAIN,
    name="hotness",
    verdicts=[],
    setting="people",
    points=[
        Point(
            people,
            {side: {"bets_per_s": rate / people, "p99_ms": 5.0} for side, rate in RATES.items()},
            {"row lock": (3.0, 2.9, 3.3), "optimistic": (9.0, 0.8, 12.0)},
        )
        for people in (10, 1)
    ],
)


def recorded(folder: Path, *reports: Report) -> Path:
    for report in reports:
        report.record(folder)
    return folder


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = page.records_of(recorded(tmp_path, PLAIN, SERIES))
    assert set(found) == {"bets", "hotness"}
    assert found["bets"].compared == PLAIN.comparison
    assert found["bets"].machine == MACHINE
    assert found["bets"].verdicts[0].kept is False
    assert found["hotness"].points == SERIES.points


def test_the_newest_full_record_counts_and_other_results_do_not(tmp_path: Path) -> None:
    day = timedelta(days=1)
    newer = replace(PLAIN, began_at=BEGAN + day, seed=18)
    quick = replace(PLAIN, began_at=BEGAN + 2 * day, seed=19, quick=True)
    recorded(tmp_path, newer, PLAIN, quick)
    (tmp_path / "campaign.json").write_text('{"name": "bets", "trials": 7}')
    (tmp_path / "torn.json").write_text('{"name": "be')
    assert page.records_of(tmp_path)["bets"].seed == 18


def test_a_bench_has_its_ratio_first_and_its_spread() -> None:
    text = page.page({"bets": as_record(PLAIN)}, BENCHES)
    assert "| [`bets`](#bets) | **10.0×** | 9.00× to 12.0× | 30% | Bets \\| placed |" in text
    assert "| bets_per_s | 4,321 | 432 |" in text
    assert "| left | – | 7 |" in text
    assert "| p99 of a bet | 12.3 | ≤ 10 | ms | **no** |" in text


def test_a_bench_names_its_machine_and_commit() -> None:
    text = page.page({"bets": as_record(PLAIN)}, BENCHES)
    assert "commit `0123456789`, with uncommitted changes; 2 cores of A processor" in text
    assert "load 0.07 before; seed 17, 3 pairs of 10 s a turn" in text


@pytest.mark.parametrize(
    ("ratios", "doubted"), [((0.98, 1.1, 1.2), True), ((1.1, 1.2, 1.3), False)]
)
def test_a_spread_across_one_is_called_no_difference(
    ratios: tuple[float, ...], doubted: bool
) -> None:
    record = as_record(replace(PLAIN, comparison=Comparison(ratios)))
    assert ("no difference can be told" in page.page({"bets": record}, BENCHES)) == doubted


def test_a_series_has_a_line_for_each_setting_against_each_rival() -> None:
    text = page.page({"hotness": as_record(SERIES)}, BENCHES)
    assert (
        "| people | against row lock | against optimistic | group commit | row lock | optimistic |"
        in text
    )
    assert (
        "| 1 | **3.00×** (2.90× to 3.30×) | **9.00×** (0.80× to 12.0×) | 900 | 300 | 100 |" in text
    )
    assert "| 10 | optimistic | 10 | 5 |" in text
    assert "![bets_per_s by people](benchmarks/hotness-bets_per_s.svg)" in text


def as_record(report: Report) -> page.Record:
    """By way of the file's own form."""
    told = msgspec.to_builtins(report) | {"ratios": report.comparison.ratios}
    for verdict, one in zip(report.verdicts, told["verdicts"], strict=True):
        one["kept"] = verdict.kept
    return msgspec.convert(told, page.Record, strict=False)


def test_every_bench_is_on_the_page_or_said_to_have_no_record() -> None:
    records = {"bets": as_record(PLAIN), "hotness": as_record(SERIES)}
    text, _, missing = page.page(records, BENCHES).partition("## No record yet")
    for name in BENCHES:
        assert (f"\n## {name}\n" in text) == (name in records)
        assert (f"| `{name}` |" in missing) == (name not in records)


def test_a_page_without_records_says_so() -> None:
    text = page.page({}, BENCHES)
    assert "Nothing has been recorded yet." in text
    assert all(f"| `{name}` |" in text for name in BENCHES)
    assert page.charts({}, BENCHES) == {}


def test_the_page_in_the_documentation_is_what_the_records_make() -> None:
    """Else: strongroom bench --results results --page docs/benchmarks.md"""
    records = page.records_of(ROOT / "results")
    assert (ROOT / "docs" / "benchmarks.md").read_text("utf8") == page.page(records, BENCHES)
    drawn = {
        file.name: file.read_text("utf8") for file in (ROOT / "docs" / "benchmarks").glob("*.svg")
    }
    assert drawn == page.charts(records, BENCHES)


def test_the_command_writes_the_page_and_takes_old_charts_away(tmp_path: Path) -> None:
    results = recorded(tmp_path / "results", PLAIN, SERIES)
    target = tmp_path / "benchmarks.md"
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "gone.svg").write_text("old")
    ran = typer.testing.CliRunner().invoke(
        app, ["bench", "--results", str(results), "--page", str(target)]
    )
    assert ran.exit_code == 0, ran.output
    text = target.read_text("utf8")
    pictures = re.findall(r"!\[[^]]*\]\(benchmarks/([^)]+)\)", text)
    assert {file.name for file in (tmp_path / "benchmarks").iterdir()} == set(pictures)


def test_a_page_needs_to_know_where_its_records_are(tmp_path: Path) -> None:
    ran = typer.testing.CliRunner().invoke(app, ["bench", "--page", str(tmp_path / "page.md")])
    assert ran.exit_code == 2
    assert "page_without_results" in ran.output


# Charts ------------------------------------------------------------------------------------------


def shapes(picture: str, kind: str) -> list[dict[str, str]]:
    """The elements of a kind; fails on what is no XML."""
    tree = ElementTree.fromstring(picture)
    return [one.attrib for one in tree.iter(f"{{http://www.w3.org/2000/svg}}{kind}")]


def test_every_chart_is_a_picture_that_asks_nobody() -> None:
    records = {"bets": as_record(PLAIN), "hotness": as_record(SERIES)}
    drawn = page.charts(records, BENCHES)
    assert set(drawn) == {"ratios.svg", "hotness-bets_per_s.svg", "hotness-p99_ms.svg"}
    for picture in drawn.values():
        shapes(picture, "line")
        assert set(re.findall(r"https?://[^\s\"']+", picture)) == {"http://www.w3.org/2000/svg"}
        assert "prefers-color-scheme: dark" in picture and "<title" in picture


def test_twice_and_half_have_bars_of_the_same_length() -> None:
    shown = [Bar("up", 2.0, 1.9, 2.1, "2×"), Bar("down", 0.5, 0.4, 0.6, "0.5×")]
    _, up, down = shapes(bars("A", "B", shown), "rect")
    assert float(up["width"]) == pytest.approx(float(down["width"]), abs=0.2)
    assert float(down["x"]) + float(down["width"]) == pytest.approx(float(up["x"]), abs=0.2)


def test_lines_rise_with_their_values() -> None:
    drawn = lines("A", "B", ["1", "2", "3"], {"one": [1, 2, 3], "two": [3, 2, 1]}, str)
    one, two = (
        [float(point.split(",")[1]) for point in line["points"].split()]
        for line in shapes(drawn, "polyline")
    )
    assert one[0] > one[1] > one[2] and one == two[::-1]


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, 1.0], [0.001, 90_000.0], [7.0], [0.0, 5.0]])
def test_odd_values_are_drawn_within_the_picture(values: list[float]) -> None:
    picture = lines("<A&B>", "C", list("xy")[: len(values)], {"line": values}, str)
    height = float(ElementTree.fromstring(picture).attrib["height"])
    for circle in shapes(picture, "circle"):
        assert 0 < float(circle["cy"]) < height and 0 < float(circle["cx"]) < 760


# Series ------------------------------------------------------------------------------------------


class Counting(Series):
    """Whose figures are known beforehand."""

    name = "counting"
    claim = "Three sides at two settings"
    figure = "done_per_s"
    setting = "things"
    settings = (1, 2)
    rows = ("ours", "slow", "slower")

    def __init__(self) -> None:
        self.asked: list[tuple[int | None, str, int]] = []

    async def side(self, name: str, turn: Turn) -> Figures:
        assert turn.setting is not None
        self.asked.append((turn.setting, name, turn.seed))
        rate = {"ours": 12.0, "slow": 6.0, "slower": 3.0}[name]
        return {"done_per_s": rate * (turn.setting if name == "ours" else 1)}


async def test_a_series_asks_all_sides_by_turns_at_each_setting() -> None:
    bench = Counting()
    report = await measure(bench, seed=1)
    there, back = ["ours", "slow", "slower"], ["slower", "slow", "ours"]
    order = [(name, seed) for seed, names in ((1, there), (2, back), (3, there)) for name in names]
    assert bench.asked == [(setting, *one) for setting in (1, 2) for one in order]
    assert len(bench.asked) == turns_of(Counting, 3) == 18
    assert [point.ratios for point in report.points] == [
        {"slow": (2.0, 2.0, 2.0), "slower": (4.0, 4.0, 4.0)},
        {"slow": (4.0, 4.0, 4.0), "slower": (8.0, 8.0, 8.0)},
    ]
    assert report.comparison.ratio == 4.0, "of the last setting, against the second row"
    assert report.table().row_count == 2


def test_the_benches_of_contention_say_what_they_compare() -> None:
    found: dict[str, Any] = {name: BENCHES[name] for name in ("concurrency", "hotness", "size")}
    for bench in found.values():
        assert issubclass(bench, Bench) and bench().sides[0] == bench.rows[0]
    assert found["concurrency"].settings == (1, 4, 16, 64, 256)
    assert set(found["hotness"].settings) == {1, 10, 100, 1000}
    assert found["size"].settings == (10_000, 100_000, 1_000_000)
