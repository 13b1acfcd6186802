"""`strongroom chaos` as somebody uses it: the list, a run, its exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from end_to_end._cli import STRONGROOM, Ended, cli, environment, scratch
from end_to_end._house import eventually
from strongroom.doors.cli.app import app
from strongroom.lab.chaos import catalogue
from strongroom.lab.chaos.catalogue import Say, Scenario, Wanted
from strongroom.lab.trial import Trial

FINE, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130
OURS = {"kills", "hang", "duplicates", "soak"}

RUN_S = 240.0
"""Six processes start and die on cores that other tests use as well."""


def chaos(*args: str) -> Ended:
    """A run, which takes longer than other commands."""
    done = subprocess.run(
        [*STRONGROOM, "chaos", *args],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def test_without_a_scenario_all_are_listed_with_what_must_hold() -> None:
    told = cli("chaos", "--json")
    assert told.code == FINE
    found = {one["name"]: one["holds"] for one in told.lines}
    assert found.keys() >= OURS
    assert all(len(holds.split()) > 7 for holds in found.values())
    assert cli("chaos").says(*found)


def test_a_scenario_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    told = cli("chaos", "earthquake")
    assert told.code == USAGE
    assert told.says("no_such_scenario", "kills")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("kills", "--seconds", "5"), "it takes --faults, --acknowledged"),
        (("soak", "--faults", "5"), "does not go by --faults"),
        (("hang", "--faults", "2"), "--faults 3 at least"),
    ],
)
def test_what_would_have_no_effect_is_refused_before_anything_starts(
    asked: tuple[str, ...], said: str
) -> None:
    told = cli("chaos", *asked)
    assert told.code == USAGE
    assert told.says(said)


def test_a_run_says_as_json_what_came_of_it() -> None:
    told = chaos("kills", "--kills", "3", "--seed", "7", "--json")
    assert told.code == FINE, told
    found = told.json
    assert found["held"] and not found["invalid"] and found["seed"] == 7
    assert (found["row"], found["faults"], found["bound"]) == ("C1", 3, 1.0)
    assert found["acknowledged"] >= 1_000 and not found["violations"]
    assert not (found["lost"] or found["doubled"] or found["unresolved"])


@pytest.mark.parametrize("scenario", ["duplicates", "hang"])
def test_a_run_ends_with_a_table_and_a_verdict(scenario: str) -> None:
    told = chaos(scenario, "--faults", "20")
    assert told.code == FINE, told
    words = ("faults", "acknowledged", "lost", "doubled", "unknown", "violations", "Held.")
    assert told.says(*words)
    assert re.search(r"below \d+\.\d+% of faults at 95 %", told.out)


TRIAL = Trial(row="C0", name="planted", seed=3, faults=9, acknowledged=2_000)


@pytest.mark.parametrize(
    ("planted", "code", "said"),
    [
        ({}, FINE, "Held."),
        ({"faults": 0}, REFUSED, "INVALID, which is not passed: no fault was delivered"),
        ({"acknowledged": 7}, REFUSED, "INVALID, which is not passed: only 7"),
        ({"unresolved": 1}, REFUSED, "INVALID, which is not passed: 1 outcomes"),
        ({"lost": 1}, REFUSED, "VIOLATED"),
        ({"doubled": 1}, REFUSED, "VIOLATED"),
        ({"violations": ["L3: money came from nowhere"]}, REFUSED, "money came from nowhere"),
    ],
)
def test_the_exit_code_is_that_of_what_came_of_it(
    planted: dict[str, Any], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(wanted: Wanted, say: Say) -> Trial:
        say(f"with seed {wanted.seed}")
        return msgspec.structs.replace(TRIAL, **planted)

    one = Scenario("planted", "What is planted is found.", run)
    monkeypatch.setattr(catalogue, "_registered", {"planted": one})
    ran = CliRunner().invoke(app, ["chaos", "planted", "--seed", "3"], env={"COLUMNS": "200"})
    assert ran.exit_code == code, ran.output
    assert said in " ".join(ran.output.split())


def test_a_run_that_is_told_to_end_leaves_nothing_behind() -> None:
    with scratch() as folder:
        running = subprocess.Popen(
            [*STRONGROOM, "chaos", "kills"],
            env=environment(TMPDIR=str(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(lambda: list(folder.glob("*/data/instance.json")), "it has begun", RUN_S)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=RUN_S)
        assert running.returncode == INTERRUPTED, said
        assert list(folder.iterdir()) == []
        assert str(folder) not in processes()


def processes() -> str:
    """The command lines of all processes there are."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)
