"""Reconciliation and statements as an operator asks for them."""

from __future__ import annotations

import csv
import subprocess
from functools import partial
from pathlib import Path

import psycopg
import pytest

from end_to_end._cli import STRONGROOM, Ended, cli, environment
from strongroom.doors.cli.flags import FINE, REFUSED, UNREACHABLE, USAGE


@pytest.fixture
def ask(database_url: str, tmp_path: Path) -> partial[Ended]:
    return partial(
        cli,
        env=environment(STRONGROOM_DATABASE_URL=database_url, STRONGROOM_DATA_DIR=str(tmp_path)),
    )


def test_a_first_run_is_full_and_seals_and_the_next_goes_on_there(ask: partial[Ended]) -> None:
    ask("users", "create", "--fund", "500")
    first = ask("reconcile")
    assert (first.code, first.says("Every invariant holds", "1 seal added")) == (FINE, True)
    told = ask("reconcile", "--incremental", "--json").json
    assert (told["mode"], told["head"], told["clean"]) == ("incremental", 1, True)
    assert len(told["headDigest"]) == 64 and "queues_balance" in told["left"]
    scoped = ask("reconcile", "--unit", "VND")
    assert scoped.says("All that a scoped run asks holds", "2 entries of 3 accounts")


def test_a_scope_that_is_none_is_refused(ask: partial[Ended]) -> None:
    assert ask("reconcile", "--account", "house/world/XXX").says("no_such_account")
    assert ask("reconcile", "--unit", "vnd").says("no_such_unit")
    assert ask("reconcile", "--unit", "VND", "--incremental").says("one_scope")


def test_a_day_is_stated_as_a_table_as_json_and_for_sheets(ask: partial[Ended]) -> None:
    assert ask("users", "create", "--fund", "500", "--json").code == FINE
    rows = list(csv.DictReader(ask("statement", "--csv").out.splitlines()))
    assert {row["what"]: row["balance"] for row in rows if row["purpose"] == "wallet"} == {
        "opening": "0", "DEPOSIT": "", "closing": "500"}  # fmt: skip
    told = ask("statement", "--json", "--account", "house/world/VND").json
    assert told["lines"][0]["closing"] == -500
    assert ask("statement").says("wallet", "opening", "DEPOSIT", "closing", "-500", "not over")
    assert ask("statement", "--day", "2000-01-01").says("Nothing was held on that day")


def test_what_cannot_be_recorded_pauses_payouts_all_the_same(
    ask: partial[Ended], database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("ALTER TABLE audit.reconciliations RENAME TO lost")
    # That a table is gone is a bug to the program, and it says so with a traceback.
    ended = subprocess.run(
        [*STRONGROOM, "reconcile"], env=ask.keywords["env"], capture_output=True, text=True
    )
    assert ended.returncode == REFUSED and "seals_chain" in ended.stdout
    assert ask("payouts", "status").code == REFUSED


def test_what_was_found_is_told_also_when_payouts_cannot_be_paused(
    ask: partial[Ended], database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as db:
        db.execute("ALTER TABLE ledger.entries DISABLE TRIGGER append_only")
        db.commit()
        db.execute("SELECT FROM audit.switches FOR UPDATE")
        ended = ask("reconcile")
    assert ended.code == UNREACHABLE
    assert ended.says("Violated", "payouts could not be paused", "overloaded")
    (evidence,) = (tmp_path / "evidence").iterdir()
    assert "append_only" in evidence.read_text()


def test_a_queue_that_is_none_is_refused_with_those_that_there_are(ask: partial[Ended]) -> None:
    for args in (["pause", "nowhere", "--reason", "x"], ["dead", "--queue", "nowhere"]):
        refused = ask("queues", *args)
        assert (refused.code, refused.says("not_found", "betting_match")) == (REFUSED, True)


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 501])
def test_a_reason_that_says_nothing_is_none(ask: partial[Ended], reason: str) -> None:
    assert ask("payouts", "pause", "--reason", reason).code == USAGE
    assert ask("payouts", "status").says("not paused")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--day", "some"],
        ["--day", ""],
        ["--day", "9999-12-31"],
        ["--zone", "Nowhere"],
        ["--csv", "--json"],
    ],
)
def test_what_cannot_be_stated_is_a_matter_of_usage(ask: partial[Ended], wrong: list[str]) -> None:
    assert ask("statement", *wrong).code == USAGE
