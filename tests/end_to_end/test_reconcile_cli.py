"""Reconciliation and statements as an operator asks for them."""

from __future__ import annotations

import csv
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

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


def test_what_a_full_run_found_stands_until_a_full_one_finds_nothing(
    ask: partial[Ended], database_url: str
) -> None:
    def stands() -> dict[str, Any]:
        found: dict[str, Any] = ask("status", "--json").json["database"]["reconciliation"]
        return found

    ask("users", "create", "--fund", "500")
    assert ask("reconcile", "--unit", "VND").code == FINE
    assert stands() is None
    assert ask("doctor").says("none yet")
    assert ask("reconcile").code == FINE
    whole = stands()["beganAt"]
    assert ask("reconcile", "--unit", "VND").code == FINE
    assert stands()["beganAt"] == whole
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("SELECT pgmq.send('betting_match', '{}')")
        assert ask("reconcile").code == REFUSED
        assert ask("reconcile", "--incremental").code == FINE
        assert ask("status").says("Reconciliation found: queues_balance")
        assert (stands()["clean"], stands()["violated"]) == (False, ["queues_balance"])
        examined = ask("doctor")
        assert (examined.code, examined.says("queues_balance is violated")) == (REFUSED, True)
        db.execute("SELECT pgmq.purge_queue('betting_match')")
    assert ask("reconcile").code == FINE
    assert (stands()["clean"], stands()["violated"]) == (True, [])
    assert ask("doctor").says("clean, 20")


def test_what_is_in_the_books_is_shown_as_it_is(ask: partial[Ended], database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("INSERT INTO events.queues (queue, pattern) VALUES ('betting_match', '[/x]')")
        db.execute(
            "INSERT INTO events.dead_letters (queue, event, error, attempts)"
            " VALUES ('betting_match', '{\"type\": \"[internal]\"}', '[/b]@example.org', 8)"
        )
    for letters in (ask("queues", "dead"), ask("dead-letters", "list")):
        assert letters.says("[internal]", "[/b]@example.org", "Mend the cause")
    found = ask("reconcile")
    assert found.code == REFUSED
    assert found.says("pattern [/x]", "Evidence:", "payouts are paused")
    assert ask("doctor").code == REFUSED


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
