"""The report of load runs: what its tables and its charts' data say is what the runs found."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.testing

from load_runs import INVARIANTS, a_broken_run, a_run, a_stream
from strongroom.doors.cli.app import app
from strongroom.lab.load import report
from strongroom.lab.load.charts import MOST_NINES
from strongroom.lab.load.result import LoadRun, Sample, Second, Threshold

TEMPLATES = Path(report.__file__).parent / "templates"


def text_of(page: str) -> str:
    """What a reader sees: without scripts, styles and tags."""
    page = re.sub(r"<(script|style|title)\b.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.S)
    assert found
    return {one["id"]: one for one in msgspec.json.decode(found[1])}


def recorded(run: LoadRun, path: Path) -> Path:
    path.write_bytes(msgspec.json.encode(run))
    return path


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = a_run()
    assert report.read_run(recorded(run, tmp_path / "run.json")) == run


@pytest.mark.parametrize("found", [b"", b"[]", b"{}", b'{"scenario": 7}', b"\xff"])
def test_what_is_no_run_is_refused_with_its_name(tmp_path: Path, found: bytes) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(found)
    with pytest.raises(report.UnreadableRun, match=r"other\.json holds no load run"):
        report.read_run(path)


def test_the_table_of_streams_holds_every_figure() -> None:
    text = text_of(report.page([a_run()]))
    assert "bets 30,000 29,997 29,397 603 4.22 11.9 24.6 71.4 1,204" in text
    assert "202 × 29,397 400 × 596 429 × 4 no answer × 3 insufficient_funds × 596" in text


def test_failed_is_all_that_was_due_and_had_no_success() -> None:
    run = a_run(streams=[a_stream("bets", 10, statuses={202: 5, 409: 2, 503: 1}, unanswered=2)])
    (stream,) = report.Shown(run, "A").streams
    assert (stream.answered, stream.succeeded, stream.failed) == (8, 5, 5)


def test_a_stream_without_an_answer_has_no_latency() -> None:
    silent = a_stream("bets", 3, statuses={}, codes={}, unanswered=3, curve=[])
    (stream,) = report.Shown(a_run(streams=[silent]), "A").streams
    assert stream.latencies == ["–"] * 5
    assert "no answer × 3" in text_of(report.page([a_run(streams=[silent])]))


# The verdict -------------------------------------------------------------------------------------


def test_a_run_that_held_says_how_much_was_asked() -> None:
    found = report.verdict(a_run())
    assert (found.word, found.line) == (
        "Held",
        "1 threshold, 1 expectation, 10 invariants: all hold.",
    )


def test_a_run_that_did_not_hold_names_what_broke_first_the_invariants() -> None:
    found = report.verdict(a_broken_run())
    assert found.word == "Not held"
    assert found.line == (
        "1 of 10 invariants violated: stakes_cover_open_bets. "
        "1 of 2 expectations not met: 50 bets of which exactly 7 are accepted. "
        "1 of 1 threshold missed: p99_ms <= 500 was 615. "
        "The generator was the limit: it ran 340 ms behind its schedule."
    )


def test_a_limited_generator_is_no_plain_success() -> None:
    found = report.verdict(a_run(generator_limited="a core was used up."))
    assert found.kind == "limited"
    assert found.line.endswith("The generator was the limit: a core was used up.")


def test_a_run_of_which_nothing_was_asked_does_not_boast() -> None:
    found = report.verdict(a_run(thresholds=[], expected={}, invariants=[]))
    assert found.line == "Nothing was asked of this run."


def test_every_invariant_is_listed_those_that_hold_folded_away() -> None:
    page = report.page([a_broken_run()])
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.S))
    for name in INVARIANTS:
        assert name in page
        assert (name in folded) == (name != "stakes_cover_open_bets")
    assert "short by 1000" in text_of(page)


# Comparison --------------------------------------------------------------------------------------


def test_runs_are_compared_by_ratios_to_the_first() -> None:
    lines = {line.what: line for line in report.comparison([a_run(), a_run(25.0), a_run(0.5)])}
    assert lines["bets: p99, ms"].ratios == pytest.approx([1.0, 25.0, 0.5])
    assert lines["bets: p99, ms"].texts == ["24.6", "615", "12.3"]
    assert lines["answers a second"].ratio_texts == ["1.00×"] * 3
    text = text_of(report.page([a_run(), a_run(25.0)]))
    assert "bets: p99, ms 24.6 615 25.00×" in text


def test_a_stream_that_one_run_lacks_has_no_ratio() -> None:
    other = a_run(streams=[a_stream("orders", 100)])
    lines = {line.what: line for line in report.comparison([a_run(), other])}
    assert lines["bets: max, ms"].texts == ["1,204", "–"]
    assert lines["orders: max, ms"].ratios == [None, None]


def test_nothing_is_divided_by_zero() -> None:
    none = a_run(per_second=0.0, drained_s=0.0)
    lines = {line.what: line for line in report.comparison([none, a_run()])}
    assert lines["answers a second"].ratios == [None, None]


@pytest.mark.parametrize("count", [0, 7])
def test_a_report_is_of_one_to_six_runs(count: int) -> None:
    with pytest.raises(report.RunsUnfit):
        report.page([a_run()] * count)


def test_six_runs_fit_into_one_report() -> None:
    page = report.page([a_run(scenario=f"number {n}") for n in range(6)])
    assert all(f"Run {letter}: number {n}" in page for n, letter in enumerate("ABCDEF"))


# Charts ------------------------------------------------------------------------------------------


def test_the_charts_carry_the_seconds_as_they_were() -> None:
    run = a_run()
    (table,) = data_of(report.page([run]))["rate"]["tables"]
    assert table == [
        [one.at_s for one in run.timeline],
        [one.intended for one in run.timeline],
        [one.answered for one in run.timeline],
        [one.failed for one in run.timeline],
    ]


def test_every_nine_of_a_percentile_has_the_same_width() -> None:
    curve = [(0.0, 1.0), (90, 2.0), (99, 3.0), (99.9, 4.0), (100, 9.0)]
    streams = [a_stream("bets", count, curve=curve) for count in (10**4, 10**9, 500)]
    many, most, few = data_of(report.page([a_run(streams=streams)]))["percentiles"]["tables"]
    assert many == [[0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0, 9.0]]
    assert most[0][-1] == MOST_NINES
    assert few == [[0.0, 1.0, 2.0, 2.699], [1.0, 2.0, 3.0, 9.0]], "the slowest of 500 is the last"


def test_a_last_second_that_was_cut_short_is_no_collapse() -> None:
    whole, cut = a_run(), a_run()
    cut.timeline.append(Second(60, 1, 1, 0, 5.0, 5.0))
    (drawn,) = data_of(report.page([cut]))["rate"]["tables"]
    assert drawn == data_of(report.page([whole]))["rate"]["tables"][0]
    ended = msgspec.structs.replace(cut, seconds=61.0)
    (drawn,) = data_of(report.page([ended]))["rate"]["tables"]
    assert drawn[1][-1] == 1


def test_thresholds_of_latency_are_lines_in_their_chart() -> None:
    asked = ["p99_ms <= 500", "failed_share <= 0.1", "bets.p50_ms <= 20", "per_second >= 100"]
    run = a_run(thresholds=[Threshold(one, 1.0, True) for one in asked])
    limits = data_of(report.page([run]))["latency"]["limits"]
    assert limits == [
        {"at": 500.0, "says": "p99_ms <= 500"},
        {"at": 20.0, "says": "bets.p50_ms <= 20"},
    ]


def test_what_a_threshold_met_is_told_in_its_own_unit() -> None:
    met = {"p99_ms <= 500": 24.61, "failed_share <= 0.01": 0.00042, "per_second >= 9": 12_345.6}
    asked = [Threshold(one, value, True) for one, value in met.items()]
    assert [report.measured(one) for one in asked] == ["24.6", "0.00042", "12,346"]


def test_what_was_not_sampled_is_said_and_not_drawn() -> None:
    nothing = Sample(0.5, None, None, None, 1.5, None)
    page = report.page([a_run(samples=[nothing])])
    assert {"queued", "connections", "memory"}.isdisjoint(data_of(page))
    assert data_of(page)["cpu"]["tables"] == [[[0.5], [1.5]]]
    assert text_of(page).count("Not sampled in this run.") == 3


def test_a_run_of_nothing_has_a_report_all_the_same() -> None:
    run = a_run(streams=[], timeline=[], samples=[], settings={}, commit=None, intended=0)
    page = report.page([run])
    assert data_of(page) == {}
    assert "outside a checkout" in page


# The file ----------------------------------------------------------------------------------------

EVIL = "</script><script>alert(1)</script>&\"'<!-- \u2028"


def test_names_cannot_leave_their_place() -> None:
    run = a_run(
        scenario=EVIL,
        says=EVIL,
        target=EVIL,
        commit=EVIL,
        generator_limited=EVIL,
        settings={EVIL: EVIL},
        streams=[a_stream(EVIL, 100, codes={EVIL: 2})],
        expected={EVIL: False},
        thresholds=[Threshold(EVIL, 1.0, False)],
    )
    run.invariants[0].name = EVIL
    run.invariants[1].findings.append(EVIL)
    page = report.page([run, run])
    assert "<script>alert" not in page and "alert(1)</script>" not in page
    assert page.count("<script") == page.count("</script>") == 3
    assert data_of(page)["percentiles"]["series"][0]["label"] == f"A: {EVIL}"


def test_the_file_asks_nobody_for_anything() -> None:
    page = report.page([a_run()])
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page


def test_the_library_goes_with_its_licence_and_version() -> None:
    page = report.page([a_run()])
    assert "The MIT License" in page and "Copyright (c) 2022 Leon Sorokin" in page
    assert "uPlot 1.6.32" in page and "uPlot (v1.6.32)" in page
    assert (TEMPLATES / "uPlot.LICENSE").read_text("utf8") in page


# The command -------------------------------------------------------------------------------------


def test_the_command_compares_and_writes(tmp_path: Path) -> None:
    one = recorded(a_run(), tmp_path / "one.json")
    two = recorded(a_broken_run(), tmp_path / "two.json")
    page = tmp_path / "made" / "report.html"
    ran = typer.testing.CliRunner().invoke(
        app, ["load-report", str(one), str(two), "--html", str(page), "--json"]
    )
    assert ran.exit_code == 0, ran.output
    told = msgspec.json.decode(ran.stdout)
    assert [run["held"] for run in told["runs"]] == [True, False]
    (p99,) = (one for one in told["figures"] if one["figure"] == "bets: p99, ms")
    assert p99["ratios"] == pytest.approx([1.0, 25.0])
    assert page.read_text("utf8") == report.page([a_run(), a_broken_run()])


def test_the_command_shows_a_table_without_json(tmp_path: Path) -> None:
    one = recorded(a_run(), tmp_path / "one.json")
    ran = typer.testing.CliRunner().invoke(app, ["load-report", str(one)])
    assert ran.exit_code == 0, ran.output
    assert "42,345" in ran.output and "A: Held." in ran.output


def test_the_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{}")
    ran = typer.testing.CliRunner().invoke(app, ["load-report", str(tmp_path / "odd.json")])
    assert ran.exit_code == 2
    assert "unreadable_run" in ran.output
