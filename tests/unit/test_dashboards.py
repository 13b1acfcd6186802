"""The dashboards: what the description makes, whole, of metrics and alerts that there are."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from strongroom.doors.metrics import METRICS
from strongroom.doors.metrics.dashboards import (
    COLUMNS,
    LEAST,
    SCHEMA,
    alerts_in,
    described,
    files,
    made,
)

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "monitoring"
DASHBOARDS = sorted(MONITORING.glob("dashboards/*.json"))

RULES = (MONITORING / "alerts.yml").read_text("utf8")

JOB = "strongroom"
"""A word that looks like a metric of ours and is none."""

Spot = tuple[int, int]


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf8"))
    return found


def panels() -> list[Any]:
    return [
        pytest.param(panel, id=f"{file.stem}: {panel['title']}")
        for file in DASHBOARDS
        for panel in read(file)["panels"]
        if panel["type"] != "row"
    ]


def test_the_dashboards_are_what_the_description_makes() -> None:
    """Else: make dashboards"""
    assert {file.name: file.read_text("utf8") for file in DASHBOARDS} == files(MONITORING)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_one_that_grafana_reads(file: Path) -> None:
    board = read(file)
    assert board["schemaVersion"] == SCHEMA and board["uid"] == f"strongroom-{file.stem}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) > 5
    (source,) = (one for one in board["templating"]["list"] if one["type"] == "datasource")
    assert (source["name"], source["query"]) == ("datasource", "prometheus")


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_no_panel_lies_upon_another(file: Path) -> None:
    taken: Counter[Spot] = Counter()
    for panel in read(file)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS and min(at.values()) >= 0 and at["h"] and at["w"]
        for x in range(at["x"], at["x"] + at["w"]):
            taken.update((x, y) for y in range(at["y"], at["y"] + at["h"]))
    assert {spot: count for spot, count in taken.items() if count > 1} == {}


@pytest.mark.parametrize("panel", panels())
def test_a_panel_says_what_it_shows_and_where_to_read_on(panel: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Z].{20,}[^.]\.", panel["description"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["links"]
    for link in panel["links"]:
        assert re.fullmatch(r"\$\{runbooks\}/docs/operating/[\w/-]+\.md", link["url"])
    for target in [panel, *panel["targets"]]:
        assert target["datasource"]["uid"] == "${datasource}"
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


@pytest.mark.parametrize("panel", panels())
def test_a_panel_asks_for_metrics_that_there_are(panel: dict[str, Any]) -> None:
    parts = {f"{name}{end}" for name in METRICS for end in ("_bucket", "_count", "_sum")}
    labels = {label for one in METRICS.values() for label in one.labels}
    for expr in (target["expr"] for target in panel["targets"]):
        asked = set(re.findall(r"\bstrongroom_\w+", expr))
        assert asked <= METRICS.keys() | parts
        assert set(re.findall(r"\bstrongroom:\w+:\w+", expr)) <= set(
            re.findall(r"record: (\S+)", RULES)
        )
        assert asked or "strongroom:" in expr or "up{" in expr or "ALERTS" in expr
        for group in re.findall(r"\bby \(([^)]*)\)", expr):
            assert set(group.split(", ")) <= labels | {"le", "process"}


def test_pages_that_a_dashboard_leads_to_are_there() -> None:
    boards = described((MONITORING / "dashboards.toml").read_text("utf8"))
    assert [one.page for one in boards.values() if not (ROOT / one.page).is_file()] == []


def test_what_containers_are_told_to_read_is_there() -> None:
    told = [MONITORING / "compose.yml", *sorted(MONITORING.glob("grafana/*/*.yml"))]
    text = "".join(file.read_text("utf8") for file in told)
    named = set(re.findall(r"[ =]/monitoring/([\w./-]+)", text))
    assert {"prometheus.yml", "alertmanager.yml", "dashboards"} <= named
    assert [path for path in named if not (MONITORING / path).exists()] == []
    asked = re.search(r"scrape_interval: (\w+)", (MONITORING / "prometheus.yml").read_text("utf8"))
    assert asked and f"timeInterval: {asked[1]} " in text


def test_every_alert_has_a_panel_that_shows_what_it_is_about() -> None:
    boards = described((MONITORING / "dashboards.toml").read_text("utf8"))
    shown = {
        name
        for board in boards.values()
        for panel in board.panels
        for name in [*panel.alerts, *panel.see]
    }
    assert shown == set(alerts_in(RULES)) == set(re.findall(r"- alert: (\w+)", RULES))


DESCRIPTION = """
[one]
title = "One"
shows = "A thing."
page = "docs/operating/monitoring.md"
[[one.panels]]
title = "A thing"
shows = "How much of it there is."
unit = "s"
alerts = ["Some", "More"]
ask = [{ expr = "max(thing)", called = "thing" }]
"""


def rule(name: str, severity: str, expr: str) -> str:
    return (
        f"      - alert: {name}\n        expr: {expr}\n        for: 5m\n"
        f"        labels: {{severity: {severity}}}\n        annotations:\n          summary: s\n"
        f"          runbook_url: docs/operating/alerts/{name.lower()}.md\n"
    )


def steps(description: str, *rules: str) -> list[tuple[str, float | None]]:
    (board,) = described(description).values()
    (panel,) = made("one", board, alerts_in("\n".join(rules)))["panels"]
    found = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return [(step["color"], step["value"]) for step in found]


def test_colours_begin_where_the_rules_warn() -> None:
    some = rule("Some", "warning", "max(thing) > 26 * 3600")
    grave = rule("More", "critical", "max(thing) > 100000")
    assert steps(DESCRIPTION, some, grave) == [("green", None), ("orange", 93600), ("red", 100000)]


def test_nothing_at_all_is_green_and_an_absence_is_not() -> None:
    one = DESCRIPTION.replace('["Some", "More"]', '["Some"]')
    any_ = rule("Some", "warning", "max(thing) > 0")
    assert steps(one, any_) == [("green", None), ("orange", LEAST)]
    for gone in ("max(thing) == 0", "absent(thing == 1)"):
        assert steps(one, rule("Some", "critical", gone)) == [("red", None), ("green", 1)]


def test_a_panel_of_an_unknown_alert_or_with_a_word_too_many_is_not_made() -> None:
    (board,) = described(DESCRIPTION).values()
    with pytest.raises(KeyError):
        made("one", board, {})
    with pytest.raises(msgspec.ValidationError, match="colour"):
        described(DESCRIPTION + 'colour = "red"\n')
