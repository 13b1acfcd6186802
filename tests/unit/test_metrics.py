"""Metrics as far as no database is needed: counts, names, labels without end, addresses."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from strongroom.core.db.queries import Queries
from strongroom.core.db.spent import Spent, label_of
from strongroom.doors.http.app import ROUTES
from strongroom.doors.http.problems import MethodNotAllowed
from strongroom.doors.http.routing import NoSuchPath
from strongroom.doors.http.seen import OTHER, UNKNOWN, Seen, kind_of
from strongroom.doors.http.server import bound
from strongroom.doors.metrics import METRICS, targets
from strongroom.doors.metrics.names import number, spreads
from strongroom.tally import SECONDS, Tally

LABEL = re.compile(r"[a-z][a-z_]*").fullmatch
ALWAYS = {("internal_error",): 0, ("outcome_unknown",): 0}
"""Codes that alerts ask for; they are there before they are met."""

IDS = {"id", "user", "user_id", "key", "email", "request_id", "client", "url", "pid"}


class Made(Collector):
    """A collector of metrics that are there already."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> tuple[Metric, ...]:
        return self._metrics


def text_of(*metrics: Metric) -> list[str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Made(*metrics))
    return generate_latest(registry).decode().splitlines()


def seen() -> Seen:
    found = Seen()
    found.learn(ROUTES)
    return found


def samples(found: Seen) -> dict[str, dict[tuple[str, ...], float]]:
    """The door's metrics: name, labels' values, value."""
    named: dict[str, dict[tuple[str, ...], float]] = {}
    text = "\n".join(text_of(*found.requests())) + "\n"
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            named.setdefault(one.name, {})[tuple(one.labels.values())] = one.value
    return named


def test_a_tally_counts_a_value_under_the_least_bound_that_is_not_below_it() -> None:
    tally = Tally((1, 2, 5))
    for value in (0.5, 1, 1.5, 5, 6):
        tally.add(value)
    assert tally.counts == [2, 1, 1, 1] and tally.count == 5 and tally.total == 14


def test_a_value_that_was_met_often_weighs_as_much() -> None:
    one, many = Tally(), Tally()
    one.add(0.2, times=3)
    for _ in range(3):
        many.add(0.2)
    assert one.counts == many.counts and one.total == pytest.approx(many.total)
    both = Tally.sum_of([one, many])
    assert both.count == 6 and both.total == pytest.approx(1.2)


def test_a_histogram_counts_upward_and_ends_with_all() -> None:
    tally = Tally()
    for value in (0.0001, 0.3, 0.7, 60):
        tally.add(value)
    said = text_of(spreads("strongroom_request_duration_seconds", [(["write"], tally)]))
    name = "strongroom_request_duration_seconds"
    assert f'{name}_bucket{{kind="write",le="0.5"}} 2.0' in said
    assert f'{name}_bucket{{kind="write",le="1.0"}} 3.0' in said
    assert f'{name}_bucket{{kind="write",le="+Inf"}} 4.0' in said
    assert f'{name}_count{{kind="write"}} 4.0' in said


def test_times_have_the_bounds_that_promises_are_made_about() -> None:
    assert {0.5, 1.0} <= set(SECONDS) and list(SECONDS) == sorted(SECONDS)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_named_and_described_as_prometheus_wants_it(name: str) -> None:
    one = METRICS[name]
    assert name.startswith("strongroom_")
    assert name.endswith("_total") == (one.type == "counter")
    assert one.meaning.endswith(".") and len(one.example) == len(one.labels)
    assert all(LABEL(label) for label in one.labels) and not IDS & set(one.labels)


def test_a_name_that_is_not_in_the_table_cannot_be_told() -> None:
    with pytest.raises(KeyError):
        number("strongroom_made_up_total", 1)


def test_what_nobody_has_a_route_for_is_one_value_each() -> None:
    found = seen()
    for n in range(500):
        found.request("GET", None, 404, 0.0, NoSuchPath())
        found.request(f"X{n}", "/api/bets", 405, 0.001, MethodNotAllowed())
    assert samples(found)["strongroom_requests_total"] == {
        ("GET", UNKNOWN, "404"): 500,
        (OTHER, "/api/bets", "405"): 500,
    }
    refused = samples(found)["strongroom_refusals_total"]
    assert refused == ALWAYS | {("no_such_path",): 500, ("method_not_allowed",): 500}


def test_only_what_a_route_answers_has_a_time() -> None:
    found = seen()
    found.request("GET", None, 404, 9.0, NoSuchPath())
    found.request("GET", "(no request)", 400, 9.0)
    found.request("POST", "/api/bets", 202, 0.3)
    found.request("GET", "/api/wallets/me", 200, 0.002)
    count = samples(found)["strongroom_request_duration_seconds_count"]
    assert count == {("write",): 1, ("read",): 1, ("report",): 0, ("page",): 0}


def test_an_answer_of_ours_that_failed_is_counted_as_a_bug_and_as_failed() -> None:
    found = seen()
    found.request("POST", "/api/bets", 500, 0.01, ZeroDivisionError())
    found.request("POST", "/api/bets", 202, 0.01)
    assert samples(found)["strongroom_refusals_total"] == ALWAYS | {("internal_error",): 1}
    failed = samples(found)["strongroom_requests_failed_total"]
    assert {where: n for where, n in failed.items() if n} == {("POST", "/api/bets"): 1}
    assert failed.keys() >= {(route.method, route.path) for route in ROUTES}


def test_every_route_is_of_a_kind() -> None:
    kinds = {f"{route.method} {route.path}": kind_of(route) for route in ROUTES}
    assert kinds["POST /api/bets"] == "write"
    assert kinds["POST /api/wallets/query"] == "read"
    assert kinds["GET /api/reports/revenue"] == "report"
    assert kinds["GET /api/events/{id}/attendees"] == "report"
    assert set(kinds.values()) == {"write", "read", "report", "page"}


# Statements ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("strongroom.core.events/events.sql", "events"),
        ("strongroom.apps.orders/reading.sql", "orders/reading"),
        ("strongroom.core.audit/ledger_invariants.sql", "audit/ledger_invariants"),
    ],
)
def test_a_file_of_queries_is_labelled_by_its_room(file: str, label: str) -> None:
    assert label_of(file) == label


def test_statements_that_no_file_names_are_one_room() -> None:
    spent = Spent()
    for n in range(100):
        spent.add(f"BEGIN {n}", 0.001)
    sql = Queries("strongroom.core.db", "db.sql")
    spent.add(sql.revision, 0.5)
    spent.appended("ledger", 0.01)
    counts = {room: tally.count for room, tally in spent.rooms.items()}
    assert counts == {"transactions": 100, "db": 1, "ledger": 1}


# Where they are found -----------------------------------------------------------------------------


def test_a_port_that_is_taken_is_passed_over() -> None:
    first = targets.listening_from("127.0.0.1", 0)
    port: int = first.getsockname()[1]
    with first, targets.listening_from("127.0.0.1", port) as second:
        assert second.getsockname()[1] > port


def test_an_address_that_is_not_ours_is_an_error_and_leaves_nothing_open() -> None:
    files = os.listdir("/proc/self/fd")
    for listen in (targets.listening_from, bound):
        with pytest.raises(OSError):
            listen("192.0.2.1", 0)
    assert os.listdir("/proc/self/fd") == files


def test_the_note_is_what_prometheus_reads(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        address = targets.address_of(one)
        targets.note(tmp_path, {"api-1": address, "worker-2": "127.0.0.1:9"})
    said: list[dict[str, Any]] = json.loads((tmp_path / targets.NOTE).read_text())
    assert said[0] == {"targets": [address], "labels": {"process": "api-1", "service": "api"}}
    assert said[1]["labels"] == {"process": "worker-2", "service": "worker"}
    targets.withdraw(tmp_path)
    assert not (tmp_path / targets.NOTE).exists()
    assert list((tmp_path / "prometheus").iterdir()) == []
