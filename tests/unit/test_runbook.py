"""Whoever is woken finds the page of the alert, in the same order each time, and types what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from strongroom.core.audit.limits import check, is_limit
from strongroom.core.audit.reconcile import CORE
from strongroom.doors.cli.reference import commands
from strongroom.doors.http.app import ROUTES
from strongroom.main import INVARIANTS, SUBSCRIBERS
from strongroom.settings import Settings

ROOT = Path(__file__).parents[2]
OPERATING = ROOT / "docs" / "operating"
ALERTS = OPERATING / "alerts"
RUNBOOK = OPERATING / "runbook.md"

PARTS = (
    "What it means",
    "What users notice",
    "Look",
    "Do",
    "Over when",
    "Why it may happen again",
)

TYPED = re.compile(r"(?:^|[ (`])strongroom((?: (?!strongroom)[^|;)>#`]*)?)")

PLACEHOLDERS = re.compile(r"\b(?:TRANSFER_ID|PID|NAME)\b")

OTHER_NAMES = {
    # what a bug is answered with
    "internal_error",
    # of log lines
    "request_id",
    "waited_ms",
    "connection_ms",
    "locking_ms",
    "statements_ms",
    "elsewhere_ms",
    # of Postgres
    "pg_wal",
    "max_connections",
    "postgres_admin",
}
"""Words with an underscore on the pages that are neither settings nor codes, queues, invariants."""


class Alert(NamedTuple):
    """One rule, as its file says."""

    name: str
    severity: str
    summary: str
    page: str
    expression: str


def alerts() -> list[Alert]:
    """Read by its shape: a YAML library is not among the dependencies."""
    text = (ROOT / "monitoring" / "alerts.yml").read_text("utf8")
    found = []
    for rule in re.split(r"\n +- alert: ", text)[1:]:
        said = dict(re.findall(r"^ +(summary|runbook_url): (.*)$", rule, re.M))
        severity = re.search(r"severity: (\w+)", rule)
        expression = re.search(r"expr:(.*?)\n        (?:for|labels):", rule, re.S)
        assert severity and expression, rule
        name = rule.partition("\n")[0]
        found.append(Alert(name, severity[1], said["summary"], said["runbook_url"], expression[1]))
    return found


ALL = alerts()
PAGES = sorted([*ALERTS.glob("*.md"), RUNBOOK, *(OPERATING / "drills").glob("*.md")])


def named(file: Path) -> str:
    return file.relative_to(OPERATING).as_posix()


def text_of(alert: Alert) -> str:
    return (ROOT / alert.page).read_text("utf8")


def test_the_rules_are_found() -> None:
    count = (ROOT / "monitoring" / "alerts.yml").read_text("utf8").count("- alert:")
    assert len(ALL) == count > 20


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = [ROOT / one.page for one in ALL]
    assert sorted(pages) == sorted(ALERTS.glob("*.md"))


@pytest.mark.parametrize("alert", ALL, ids=lambda one: one.name)
def test_a_page_has_its_parts_in_their_order(alert: Alert) -> None:
    text = text_of(alert)
    assert text.startswith(f"# {alert.name}\n\n")
    opening = text.split("\n\n")[1]
    assert opening.startswith("Critical." if alert.severity == "critical" else "A warning")
    assert tuple(re.findall(r"^## (.*)$", text, re.M)) == PARTS
    for part in re.split(r"^## .*$", text, flags=re.M)[1:]:
        assert len(part.split()) > 0


@pytest.mark.parametrize("alert", ALL, ids=lambda one: one.name)
def test_a_page_says_what_to_type_to_look(alert: Alert) -> None:
    look = text_of(alert).partition("## Look\n")[2].partition("\n## ")[0]
    assert "```sh\n" in look


@pytest.mark.parametrize("alert", ALL, ids=lambda one: one.name)
def test_a_page_names_what_its_alert_measures(alert: Alert) -> None:
    recorded = {"requests": "request", "request_seconds": "request", "slo_errors": "requests_f"}
    measured = set(re.findall(r"\bstrongroom_\w+?(?=_bucket|\b)", alert.expression))
    for kind in re.findall(r"\bstrongroom:(\w+):", alert.expression):
        measured.add(f"strongroom_{recorded.get(kind, kind)}")
    text = text_of(alert)
    if alert.name == "ReconciliationMissing" or not measured:
        return  # its metric is not there: that is the alert; and `up` is Prometheus' own
    assert any(one in text for one in measured), measured


def test_the_runbook_lists_every_alert_as_the_rules_have_it() -> None:
    text = RUNBOOK.read_text("utf8")
    rows = [
        f"| [{one.name}]({one.page.removeprefix('docs/operating/')}) |"
        f" {one.summary} | {one.severity} |"
        for one in ALL
    ]
    assert re.findall(r"^\| \[\w+\]\(alerts/.*$", text, re.M) == rows


def test_the_runbook_lists_every_drill() -> None:
    text = RUNBOOK.read_text("utf8")
    drills = {named(one) for one in (OPERATING / "drills").glob("*.md")}
    assert set(re.findall(r"\]\((drills/[^)#]+)\)", text)) == drills


# What is named and typed --------------------------------------------------------------------------


def fenced(text: str, language: str = "sh") -> Iterator[str]:
    for block in re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.M | re.S):
        yield from str(block).replace("\\\n", " ").splitlines()


def spans(text: str) -> list[str]:
    """What stands between backticks in the sentences."""
    said = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", said)


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_command_on_a_page_exists_with_its_options(file: Path) -> None:
    text = file.read_text("utf8")
    known: dict[str, Any] = dict(commands())
    lines = [*fenced(text), *(one for one in spans(text) if one.startswith("strongroom "))]
    for line in lines:
        for rest in TYPED.findall(re.sub(r"'[^']*'", "X", line)):
            words = rest.split()
            if not words:
                continue
            name = next(
                (one for n in (2, 1) if (one := f"strongroom {' '.join(words[:n])}") in known), ""
            )
            assert name, line
            options = {
                option for one in known[name].params for option in (*one.opts, *one.secondary_opts)
            }
            assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_limit_on_a_page_can_be_set(file: Path) -> None:
    for line in fenced(file.read_text("utf8")):
        said = re.search(r"strongroom limits (set|unset) (\S+)(?: (\S+))?", line)
        if said and said[1] == "set":
            word = said[3]
            value = {"true": True, "false": False}.get(word)
            check(said[2], value if value is not None else int(word) if word.isdigit() else word)
        elif said:
            assert is_limit(said[2]), line


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_metric_and_setting_on_a_page_exists(file: Path) -> None:
    text = file.read_text("utf8")
    metrics = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf8")
    for name in re.findall(r"\bstrongroom_[a-z_]+\b", text):
        assert f"| `{name}` |" in metrics or name in ("strongroom_app", "strongroom_owner",
            "strongroom_audit", "strongroom_backup"), name  # fmt: skip
    for name in re.findall(r"\bSTRONGROOM_([A-Z_]+)\b", text):
        assert name.lower() in Settings.model_fields, name


@pytest.mark.parametrize("file", sorted(ALERTS.glob("*.md")), ids=named)
def test_every_name_on_a_page_is_of_something(file: Path) -> None:
    known = {*Settings.model_fields, *OTHER_NAMES}
    errors = (ROOT / "docs" / "reference" / "errors.md").read_text("utf8")
    known |= set(re.findall(r"^\| `(\w+)` \|", errors, re.M))
    known |= {one.queue for one in SUBSCRIBERS}
    known |= {name for one in (*CORE, *INVARIANTS) for name in one.sql}
    for word in spans(file.read_text("utf8")):
        if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", word) and not word.startswith("strongroom_"):
            assert word in known, word


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_queue_that_is_typed_is_one(file: Path) -> None:
    queues = {one.queue for one in SUBSCRIBERS}
    for line in fenced(file.read_text("utf8")):
        for name in re.findall(r"queues (?:pause|resume) (\w+)|--queue (\w+)", line):
            assert PLACEHOLDERS.fullmatch("".join(name)) or "".join(name) in queues, line


@pytest.mark.parametrize("file", PAGES, ids=named)
def test_every_path_that_is_asked_for_is_served(file: Path) -> None:
    shapes = [re.sub(r"\{\w+\}", "[^/]+", one.path) for one in ROUTES]
    shapes += ["/healthz", "/readyz", "/metrics"]
    for line in fenced(file.read_text("utf8")):
        for path in re.findall(r"http://127\.0\.0\.1:8000(/[\w$/-]+)", line):
            assert any(re.fullmatch(shape, path) for shape in shapes), path
