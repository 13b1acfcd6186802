"""`strongroom load` as a person runs it: against an instance of its own, and against one that
runs, by folder and by URL."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from end_to_end._cli import STRONGROOM, cli, environment, scratch
from strongroom.lab.load.result import LoadRun
from strongroom.lab.load.running import FRAGMENT_S

FINE, REFUSED, USAGE, GENERATOR = 0, 1, 2, 4

# Whether a machine that others use is quick is not asked here: latencies may be anything.
PATIENT = (
    *("--threshold", "p50_ms<=60000", "--threshold", "p95_ms<=60000"),
    *("--threshold", "p99_ms<=60000", "--warmup", "0.5"),
)


# Nor is anything refused because others keep it waiting.
UNHURRIED = {"STRONGROOM_WRITE_DEADLINE_MS": "30000", "STRONGROOM_READ_DEADLINE_MS": "30000"}


class Running(NamedTuple):
    """One `strongroom up`."""

    folder: Path
    url: str


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with scratch() as room:
        folder = room / "data"
        up = subprocess.Popen(
            [*STRONGROOM, "up", "--json", "--port", "0", "--data-dir", str(folder)],
            env=environment(STRONGROOM_RATE_LIMITS="off", **UNHURRIED),
            cwd=room,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert up.stdout
            yield Running(folder, json.loads(up.stdout.readline())["url"])
        finally:
            up.terminate()
            up.wait(60)
            if up.stdout:
                up.stdout.close()


def load(*args: str, expect: tuple[int, ...] = (FINE, GENERATOR)) -> LoadRun:
    """The run that a command prints; a generator that others slow down is no fault here."""
    ended = cli("load", *args, "--json", env=environment(**UNHURRIED))
    assert ended.code in expect, ended.err + ended.out[-2000:]
    run: LoadRun = msgspec.convert(ended.json, LoadRun, strict=False)
    whole = sum(one.intended for one in run.streams)
    assert run.intended == whole
    # What came in a last piece of a second is in no second.
    assert run.seconds % 1 < FRAGMENT_S or whole == sum(one.intended for one in run.timeline)
    assert run.timeline[-1].at_s + FRAGMENT_S <= max(run.seconds, 1)
    for one in run.streams:
        assert one.intended == sum(one.statuses.values()) + one.unanswered
    assert len(run.invariants) >= 1
    return run


def on(instance: Running, *args: str, **how: Any) -> LoadRun:
    return load(*args, "--data-dir", str(instance.folder), **how)


def test_a_burst_on_an_instance_of_its_own_is_counted_and_kept(tmp_path: Path) -> None:
    out, html = tmp_path / "run.json", tmp_path / "run.html"
    keep = ("--out", str(out), "--html", str(html), "--processes", "2")
    run = load("burst", "--users", "60", *keep, *PATIENT)
    (bets,) = run.streams
    assert bets.statuses == {202: 60}
    assert run.expected == {"60 bets acknowledged, 60 in the books": True}
    assert len(run.invariants) > 50
    assert not any(one.findings for one in run.invariants)
    assert run.processes == 2
    assert run.drained_s is not None
    assert run.machine.postgres
    assert run.machine.postgres.startswith("18.")
    last = run.samples[-1]
    assert last.connections
    assert last.server_rss_bytes
    assert [one.kept for one in run.thresholds].count(False) == 0
    assert msgspec.json.decode(out.read_bytes(), type=LoadRun, strict=False) == run
    assert "burst" in html.read_text("utf8")


def test_who_spams_gets_as_many_bets_as_there_is_money_for(running: Running) -> None:
    run = on(running, "spam", "--count", "30", "--together", "30", "--funded", "4", *PATIENT)
    (bets,) = run.streams
    assert bets.statuses == {202: 4, 400: 26}
    assert bets.codes == {"insufficient_funds": 26}
    sentence = "30 bets of which exactly 4 are accepted: 4, 0 left in the wallet"
    assert run.expected[sentence]
    assert run.held


def test_a_rush_sells_each_seat_once_and_no_more(running: Running) -> None:
    run = on(running, "rush", "--users", "90", "--seats", "25", *PATIENT)
    (reservations,) = run.streams
    assert reservations.statuses == {201: 25, 409: 65}
    assert reservations.codes == {"sold_out": 65}
    sentence = "90 wanted one of 25 seats: 25 have one, 25 are taken, 0 oversold"
    assert run.expected == {sentence: True}


def test_all_applications_together_are_counted_each_by_its_own_books(running: Running) -> None:
    run = on(running, "mixed", "--users", "40", "--seconds", "2", *PATIENT)
    assert {one.name: one.intended for one in run.streams} == {
        "bets": 200,
        "wallets": 300,
        "transfers": 20,
        "reservations": 60,
        "orders": 60,
    }
    assert len(run.expected) == 3
    assert run.held
    assert len(run.timeline) >= 2


def test_a_broken_threshold_is_told_by_the_exit_code(running: Running) -> None:
    args = ("burst", "--users", "5", "--threshold", "p50_ms<=0", "--threshold", "succeeded>=5")
    run = on(running, *args, "--warmup", "0.2", expect=(REFUSED,))
    assert {one.asked: one.kept for one in run.thresholds}["p50_ms <= 0"] is False
    assert {one.asked: one.kept for one in run.thresholds}["succeeded >= 5"] is True
    assert all(run.expected.values())


@pytest.fixture(scope="module")
def operator(running: Running) -> str:
    at = ("--data-dir", str(running.folder))
    return str(cli("users", "create", "--role", "operator", "--json", *at).json["accessToken"])


def test_a_running_instance_is_loaded_by_its_url_alone(running: Running, operator: str) -> None:
    by_url = ("--url", running.url, "--token", operator)
    run = load("sustained", "--users", "4", "--seconds", "2", *by_url, *PATIENT)
    (bets,) = run.streams
    assert bets.statuses == {202: 8}
    assert run.held
    assert run.target == running.url
    assert run.samples[-1].queued is not None
    assert run.samples[-1].connections is None


def test_users_of_a_file_are_taken_for_a_url(
    running: Running, operator: str, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    count = ("--count", "25", "--json", "--data-dir", str(running.folder))
    file.write_text(cli("users", "create", *count).out)
    by_url = ("--url", running.url, "--token", operator, "--tokens", str(file))
    run = load("spam", "--count", "9", "--funded", "2", *by_url, *PATIENT)
    assert run.streams[0].statuses == {202: 2, 400: 7}
    assert all(run.expected.values())


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("brust",), USAGE, "There are: burst, crowd"),
        (("burst", "--url", "http://192.0.2.1", "--token", "t"), REFUSED, "--i-own-this-host"),
        (("burst", "--url", "http://127.0.0.1:1"), USAGE, "needs --token"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    args: tuple[str, ...], code: int, said: str
) -> None:
    ended = cli("load", *args)
    assert (ended.code, ended.says(said)) == (code, True), ended


def test_scenarios_are_listed_for_people_and_programs() -> None:
    listed = cli("load", "--json")
    assert {one["name"] for one in listed.lines} >= {"burst", "sustained", "ramp", "spam", "rush"}
    assert all(one["says"] for one in listed.lines)
