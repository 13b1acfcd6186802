"""`status` in every state an instance can be in, on real processes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from end_to_end._cli import STRONGROOM, Ended, cli, environment, scratch
from end_to_end._house import eventually
from end_to_end.test_up import READY_S, Up, arguments, born_of, running
from strongroom.core.audit.reconcile import sql as audit_sql
from strongroom.doors.cli.standing import quantile_ms

FINE, REFUSED, UNREACHABLE = 0, 1, 3

SHARED = audit_sql.share_switch.replace("$1", "'payouts'")
"""What a payment holds until it commits."""


@pytest.fixture(scope="module")
def instance() -> Iterator[Up]:
    with scratch() as folder, running(folder / "data", "--port", "0") as up:
        up.ready()
        yield up


def status(up: Up, *args: str) -> Ended:
    return cli("status", "--data-dir", str(up.folder), *args)


def told(up: Up) -> dict[str, Any]:
    found: dict[str, Any] = status(up, "--json").json
    return found


def test_an_instance_that_is_well_says_so(instance: Up) -> None:
    eventually(lambda: status(instance, "--json").code == FINE, "all is well", READY_S)
    found = told(instance)
    assert (found["ready"], found["answers"], found["wrong"]) == ("ready", True, [])
    assert {one["name"]: one["pid"] for one in found["processes"]} == {
        name: pid for name, pid in instance.children().items() if name != "postgres"
    }
    assert all(one["since"] for one in found["processes"])
    books = found["database"]
    assert books["server"]["connections"] > 0 and books["server"]["bytes"] > 1_000_000
    assert {one["queue"] for one in books["queues"]} > {"betting_match", "ticketing_mail"}
    shown = status(instance)
    assert shown.code == FINE
    assert shown.says("all is well", "api-1", "worker-1", "betting_match", "running", "never")


def test_what_is_paused_and_changed_is_shown_with_who_and_why(instance: Up) -> None:
    at = ("--data-dir", str(instance.folder))
    cli("queues", "pause", "betting_settle", "--reason", "a slow provider", *at)
    cli("limits", "set", "rate.orders", "3/minute", "--reason", "a flood", *at)
    shown = status(instance)
    assert shown.code == FINE  # meant by somebody, and no mismatch
    assert shown.says("a slow provider", "rate.orders", "3/minute", "a flood", "queue.pause")
    cli("queues", "resume", "betting_settle", "--reason", "over", *at)
    cli("limits", "unset", "rate.orders", "--reason", "over", *at)


def test_paused_payouts_are_something_wrong(instance: Up) -> None:
    at = ("--data-dir", str(instance.folder))
    cli("payouts", "pause", "--reason", "paid twice?", *at)
    shown = status(instance)
    assert shown.code == REFUSED
    assert shown.says("Payouts are paused by operator:cli: paid twice?")
    cli("reconcile", *at)
    cli("payouts", "resume", "--reason", "no", *at)
    shown = status(instance)
    assert (shown.code, shown.says("clean")) == (FINE, True)


def test_who_stops_while_paying_does_not_keep_payouts_from_being_paused(instance: Up) -> None:
    at = ("--data-dir", str(instance.folder))
    noted = json.loads((instance.folder / "instance.json").read_text())
    with psycopg.connect(noted["place"]["app"]) as payer:
        payer.execute(SHARED)
        paused = cli("payouts", "pause", "--reason", "paid twice?", *at)
        assert paused.code == FINE, paused.err
        with pytest.raises(psycopg.OperationalError):
            payer.execute("SELECT 1")
    assert cli("reconcile", *at).code == FINE
    assert cli("payouts", "resume", "--reason", "no", *at).code == FINE


def test_a_terminal_shows_it_live_until_it_is_interrupted(instance: Up) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*STRONGROOM, "status", "--data-dir", str(instance.folder)],
        env=environment(TERM="xterm", COLUMNS="160", LINES="60"),
        stdin=slave,
        stdout=slave,
        stderr=subprocess.DEVNULL,
    )
    os.close(slave)
    seen = b""
    end = time.monotonic() + READY_S
    # Drawn anew at least twice: each drawing begins at the top left.
    while seen.count(b"betting_match") < 3 and time.monotonic() < end:
        if select.select([master], [], [], 1.0)[0]:
            seen += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    while process.poll() is None and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                os.read(master, 65536)
            except OSError:
                break
    os.close(master)
    assert process.wait(READY_S) == FINE
    assert seen.count(b"betting_match") >= 3


def stopped(pid: int, on: bool) -> None:
    os.kill(pid, signal.SIGSTOP if on else signal.SIGCONT)


@pytest.mark.parametrize("name", ["worker-1", "api-1"])
def test_a_process_that_hangs_is_named(instance: Up, name: str) -> None:
    pid = instance.children()[name]
    stopped(pid, True)
    try:
        shown = status(instance)
        assert shown.code == REFUSED
        assert shown.says(f"{name} does not answer", "betting_match")
    finally:
        stopped(pid, False)
    eventually(lambda: instance.status() == 200, "it goes on", READY_S)


def test_a_database_that_hangs_leaves_the_processes_to_be_seen(instance: Up) -> None:
    pid = instance.children()["postgres"]
    family = [pid, *(child for child, _ in born_of(pid))]
    for one in family:
        stopped(one, True)
    try:
        found = status(instance, "--json")
        assert found.code == REFUSED
        assert found.json["database"] is None
        assert any("database does not answer" in one for one in found.json["wrong"])
        assert {one["name"] for one in found.json["processes"] if one["answers"]} >= {"worker-1"}
        assert found.json["ready"] != "ready"
    finally:
        for one in family:
            stopped(one, False)
    eventually(lambda: instance.status() == 200, "it goes on", READY_S)


def test_where_nothing_runs_nothing_answers(tmp_path: Path) -> None:
    ended = cli("status", "--data-dir", str(tmp_path / "nowhere"))
    assert ended.code == UNREACHABLE
    assert ended.says("Nothing answers", "strongroom up")
    assert not (tmp_path / "nowhere").exists()


def test_an_instance_that_was_killed_is_not_taken_for_a_running_one() -> None:
    with scratch() as folder, running(folder / "data", "--port", "0") as up:
        up.ready()
        children = up.children()
        up.end(signal.SIGKILL)
        orphan = children.pop("postgres")
        try:
            eventually(lambda: not any(map(arguments, children.values())), "all ended", READY_S)
            ended = status(up, "--json")
            assert (ended.code, ended.json["url"]) == (UNREACHABLE, None)
        finally:
            os.kill(orphan, signal.SIGQUIT)
            eventually(lambda: not arguments(orphan), "the database ended", READY_S)


def test_a_quantile_is_the_bound_that_so_many_stayed_below() -> None:
    buckets = {0.01: 90.0, 0.1: 96.0, 1.0: 100.0, float("inf"): 100.0}
    assert quantile_ms(buckets) == 100.0
    assert quantile_ms(buckets, 0.5) == 10.0
    assert quantile_ms({0.01: 0.0, float("inf"): 0.0}) is None
    assert quantile_ms({0.01: 1.0, float("inf"): 100.0}) == 10.0
