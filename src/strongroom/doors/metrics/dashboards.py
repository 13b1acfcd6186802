"""Grafana's dashboards, made from one short description of what is worth seeing.

    python -m strongroom.doors.metrics.dashboards monitoring

Where a panel shows what an alert is about, its limits and colours are those of the rule, read from
`alerts.yml`: they cannot say one thing on the wall and another at night. A test compares the files
with what this makes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

SCHEMA = 39
"""Grafana 11's; newer ones bring it up to theirs when they read it."""

COLUMNS = 24
"""Grafana's grid."""

HEIGHTS = {"number": 4, "line": 8, "table": 8}

LEAST = 0.001
"""Grafana colours from a limit on, a rule warns above it: nothing at all is no reason for red."""

COLOURS = {"warning": "orange", "critical": "red"}

SOURCE = {"type": "prometheus", "uid": "${datasource}"}

MADE = "Made by `make dashboards` from monitoring/dashboards.toml; changes belong there."

Unit = Literal[
    "short", "reqps", "ops", "s", "percentunit", "bytes", "bool_yes_no", "dateTimeFromNow"
]


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """A query, and what its series are called."""

    expr: str
    called: str


class Panel(msgspec.Struct, forbid_unknown_fields=True):
    """One picture. `alerts` gives it limits and links, `see` links alone; `row` opens a new row."""

    title: str
    shows: str
    unit: Unit
    ask: list[Question]
    kind: Literal["line", "number", "table"] = "line"
    width: int = 8
    row: str | None = None
    alerts: list[str] = []
    see: list[str] = []
    stacked: bool = False


class Dashboard(msgspec.Struct, forbid_unknown_fields=True):
    """One page of panels; `page` is what to read where no alert says more."""

    title: str
    shows: str
    page: str
    panels: list[Panel]


class Alert(NamedTuple):
    """What a rule says about how a value is coloured. A falling one warns at zero."""

    severity: str
    limit: float
    falling: bool
    page: str


LIMIT = re.compile(r"(?:>|==) (\d[\d.]*(?: \* \d[\d.]*)*)")

RULE = re.compile(
    r"- alert: (?P<name>\w+)\n\s+expr: (?P<expr>.*?)\n(?:\s+for: \w+\n)?"
    r"\s+labels: \{severity: (?P<severity>\w+)\}.*?runbook_url: (?P<page>\S+)",
    re.S,
)


def alerts_in(rules: str) -> dict[str, Alert]:
    """The rules of a file by name."""
    found = {}
    for rule in RULE.finditer(rules):
        expr = rule["expr"]
        said = LIMIT.search(expr)
        assert said, f"{rule['name']} compares with no number"
        limit = 1.0
        for factor in said[1].split(" * "):
            limit *= float(factor)
        falling = "absent(" in expr or said[0] == "== 0"
        found[rule["name"]] = Alert(rule["severity"], limit, falling, rule["page"])
    return found


def described(text: str) -> dict[str, Dashboard]:
    """The dashboards of a description by name; msgspec.ValidationError says what does not fit."""
    return msgspec.convert(tomllib.loads(text), dict[str, Dashboard])


def _steps(alerts: list[Alert]) -> list[dict[str, Any]]:
    """Where colours begin. Of alerts that all rise, or one that falls."""
    if any(alert.falling for alert in alerts):
        (only,) = alerts
        return [
            {"color": COLOURS[only.severity], "value": None},
            {"color": "green", "value": 1},
        ]
    rising = sorted((alert.limit or LEAST, COLOURS[alert.severity]) for alert in alerts)
    return [
        {"color": "green", "value": None},
        *({"color": colour, "value": round(limit, 9)} for limit, colour in rising),
    ]


def _looks(panel: Panel, warns: bool) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Grafana's type, its options, and what is drawn how."""
    if panel.kind == "table":
        return "table", {"showHeader": True, "cellHeight": "sm"}, {"align": "auto"}
    if panel.kind == "number":
        options = {
            "colorMode": "background" if warns else "value",
            "graphMode": "none",
            "justifyMode": "center",
            "textMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
        return "stat", options, {}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 20 if panel.stacked else 0,
        "showPoints": "never",
        # A process that was away is a gap, not a line from before it to after it.
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if warns else "off"},
    }
    return "timeseries", options, custom


def _panel(panel: Panel, page: str, alerts: dict[str, Alert]) -> dict[str, Any]:
    own = [alerts[name] for name in panel.alerts]
    kind, options, custom = _looks(panel, bool(own))
    links = {name: alerts[name].page for name in [*panel.alerts, *panel.see]} or {"Read on": page}
    colours = "thresholds" if panel.kind == "number" else "palette-classic"
    instant = panel.kind == "table"
    return {
        "type": kind,
        "title": panel.title,
        "description": panel.shows,
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "color": {"mode": colours},
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": _steps(own)},
            },
            "overrides": [],
        },
        "options": options,
        "links": [
            {"title": name, "url": f"${{runbooks}}/{path}", "targetBlank": True}
            for name, path in links.items()
        ],
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": question.expr,
                "legendFormat": question.called,
                "instant": instant,
                "range": not instant,
                "format": "table" if instant else "time_series",
            }
            for place, question in enumerate(panel.ask)
        ],
    }


def _placed(board: Dashboard, alerts: dict[str, Alert]) -> Iterator[dict[str, Any]]:
    """The panels from left to right, line after line."""
    x = y = high = number = 0
    for panel in board.panels:
        if panel.row is not None or x + panel.width > COLUMNS:
            x, y, high = 0, y + high, 0
        if panel.row is not None:
            number += 1
            yield {
                "id": number,
                "type": "row",
                "title": panel.row,
                "collapsed": False,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
                "panels": [],
            }
            y += 1
        number += 1
        tall = HEIGHTS[panel.kind]
        where = {"h": tall, "w": panel.width, "x": x, "y": y}
        yield {"id": number, "gridPos": where, **_panel(panel, board.page, alerts)}
        x, high = x + panel.width, max(high, tall)


def _variables() -> list[dict[str, Any]]:
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "hide": 0,
        },
        {
            "name": "runbooks",
            "label": "Runbooks below",
            "type": "textbox",
            "query": "http://127.0.0.1:8001",
            "current": {"text": "http://127.0.0.1:8001", "value": "http://127.0.0.1:8001"},
            "hide": 0,
        },
    ]


def made(name: str, board: Dashboard, alerts: dict[str, Alert]) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    fires = {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{process}}{{queue}}{{lane}}",
        "step": "15s",
    }
    others = {
        "title": "Strongroom",
        "type": "dashboards",
        "tags": ["strongroom"],
        "asDropdown": True,
        "keepTime": True,
        "includeVars": True,
    }
    return {
        "uid": f"strongroom-{name}",
        "title": board.title,
        "description": f"{board.shows} {MADE}",
        "tags": ["strongroom"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": [fires]},
        "links": [others],
        "templating": {"list": _variables()},
        "panels": list(_placed(board, alerts)),
    }


def files(folder: Path) -> dict[str, str]:
    """What belongs into `dashboards/` below the folder of the description, by name."""
    boards = described((folder / "dashboards.toml").read_text("utf8"))
    alerts = alerts_in((folder / "alerts.yml").read_text("utf8"))
    return {
        f"{name}.json": json.dumps(made(name, board, alerts), indent=1, ensure_ascii=False) + "\n"
        for name, board in boards.items()
    }


def main() -> None:
    (folder,) = map(Path, sys.argv[1:])
    (folder / "dashboards").mkdir(exist_ok=True)
    for name, text in files(folder).items():
        (folder / "dashboards" / name).write_text(text, "utf8")


if __name__ == "__main__":
    main()
