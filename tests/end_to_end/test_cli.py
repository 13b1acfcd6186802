"""The commands: what they print, what they change, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from end_to_end._cli import STRONGROOM, Ended, cli, environment
from end_to_end._client import Client
from playing import bet, drained, new_round, open_users
from strongroom.apps.betting import CloseRound
from strongroom.apps.wallets import Transfer
from strongroom.core.audit import PausePayouts
from strongroom.core.commands.command import Overloaded
from strongroom.core.ledger import InsufficientFunds
from strongroom.doors.cli.app import app
from strongroom.doors.cli.flags import BadSettings, ending, settings_of
from strongroom.main import Strongroom
from strongroom.settings import Settings

FINE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3

EXIT_S = 30.0


class Place:
    """A migrated database, a data folder, and the environment that names both."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.database_url, self.folder = database_url, folder
        self.env = environment(
            STRONGROOM_DATABASE_URL=database_url, STRONGROOM_DATA_DIR=str(folder)
        )

    def cli(self, *args: str, **more: str) -> Ended:
        return cli(*args, env=self.env | more, cwd=self.folder)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as db:
            found = db.execute(query)  # type: ignore[call-overload]
            return found.fetchall() if found.description else []

    def settings(self) -> Settings:
        return Settings(database_url=self.database_url, data_dir=self.folder)


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    return Place(database_url, tmp_path)


@contextlib.contextmanager
def serving(place: Place) -> Iterator[int]:
    """An API process; its port. It ends with 0 on SIGTERM."""
    process = subprocess.Popen(
        [*STRONGROOM, "serve", "--port", "0", "--json"],
        env=place.env,
        cwd=place.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        told = json.loads(process.stdout.readline())
        assert told["pid"] == process.pid
        yield int(told["url"].rpartition(":")[2])
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_S) == FINE
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def names_of(command: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, one in command.commands.items():
        if hasattr(one, "commands"):
            yield from names_of(one, (*before, name))
        else:
            yield (*before, name)


COMMANDS = sorted(names_of(get_command(app)))


def command_of(names: tuple[str, ...]) -> Any:
    found: Any = get_command(app)
    for name in names:
        found = found.commands[name]
    return found


# Help, flags, exit codes


def test_the_commands_that_were_promised_are_there() -> None:
    wanted = {"up", "demo", "serve", "worker", "migrate", "reconcile", "doctor", "openapi", "bench"}
    assert wanted <= {names[0] for names in COMMANDS}
    assert ("users", "create") in COMMANDS
    assert {("dead-letters", one) for one in ("list", "retry", "discard")} <= set(COMMANDS)


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(names: tuple[str, ...]) -> None:
    command = command_of(names)
    assert command.help
    assert command.epilog.startswith(f"Example: strongroom {' '.join(names)}")
    flags = {flag for param in command.params for flag in param.opts}
    assert {"--json", "--data-dir"} <= flags


@pytest.mark.parametrize("group", ["", *sorted({names[0] for names in COMMANDS if len(names) > 1})])
def test_help_about_several_commands_ends_with_an_example_of_one(group: str) -> None:
    ran = CliRunner().invoke(app, [*group.split(), "--help"])
    assert ran.exit_code == FINE
    example = " ".join(ran.output.partition("Example:")[2].split())
    assert example.startswith(f"strongroom {group}".strip())
    assert tuple(example.split()[1:3]) in COMMANDS or tuple(example.split()[1:2]) in COMMANDS


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_every_flag_of_an_example_exists(names: tuple[str, ...]) -> None:
    command = command_of(names)
    flags = {flag for param in command.params for flag in param.opts}
    assert {word for word in command.epilog.split() if word.startswith("--")} <= flags


def test_help_is_printed_without_loading_the_house() -> None:
    found = cli("reconcile", "--help")
    assert found.code == FINE
    assert found.says("Example: strongroom reconcile --json")
    look = "import sys, strongroom.doors.cli.app; print('strongroom.main' in sys.modules)"
    done = subprocess.run(
        [STRONGROOM[0], "-c", look], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_what_is_no_command_or_no_value_is_a_usage_error() -> None:
    assert cli("nonsense").code == USAGE
    assert cli("users", "create", "--count", "many").code == USAGE


def test_a_setting_that_does_not_fit_is_a_usage_error_and_names_itself(tmp_path: Path) -> None:
    env = environment(STRONGROOM_POOL_SIZE="7000", STRONGROOM_TOKEN_SECRET="too-short")
    found = cli("migrate", env=env, cwd=tmp_path)
    assert found.code == USAGE
    assert found.says("STRONGROOM_POOL_SIZE", "STRONGROOM_TOKEN_SECRET")
    assert "too-short" not in found.err


def test_a_torn_settings_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "strongroom.toml").write_text("port = ")
    found = cli("migrate", cwd=tmp_path)
    assert found.code == USAGE
    assert found.says("strongroom.toml")


def test_flags_override_the_environment_which_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strongroom.toml").write_text("port = 1\nworkers = 11\npool_size = 21\n")
    monkeypatch.setenv("STRONGROOM_PORT", "2")
    monkeypatch.setenv("STRONGROOM_WORKERS", "12")
    found = settings_of(port=3, workers=None)
    assert (found.port, found.workers, found.pool_size) == (3, 12, 21)
    with pytest.raises(BadSettings):
        settings_of(port=70_000)


@pytest.mark.parametrize(
    "command",
    ["serve", "worker", "reconcile", "doctor", "users create", "api-keys create x"],
)
def test_without_an_instance_it_says_how_to_start_one(command: str, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    found = cli(*command.split(), "--data-dir", str(nowhere))
    assert found.code == UNREACHABLE
    assert found.says(f"strongroom up --data-dir {nowhere}")
    assert not nowhere.exists()


def test_a_database_that_nobody_serves_is_not_reachable(tmp_path: Path) -> None:
    env = environment(STRONGROOM_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    found = cli("reconcile", "--json", "--data-dir", str(tmp_path), env=env)
    assert found.code == UNREACHABLE
    assert json.loads(found.err)["code"] == "database_down"


def test_a_database_without_schema_says_migrate(place: Place, tmp_path: Path) -> None:
    place.rows("UPDATE public.alembic_version SET version_num = '0001'")
    found = place.cli("reconcile")
    assert found.code == REFUSED
    assert found.says("strongroom migrate")


def test_what_is_a_bug_stays_a_traceback() -> None:
    assert ending(AssertionError("a bug")) is None
    assert ending(ExceptionGroup("tasks", [AssertionError("a bug"), KeyError("another")])) is None


def test_of_errors_that_came_together_the_first_that_is_ours_is_told() -> None:
    inner = ExceptionGroup("inner", [ValueError("a bug"), InsufficientFunds(), Overloaded()])
    found = ending(ExceptionGroup("outer", [KeyError("another"), inner]))
    assert found == (REFUSED, "insufficient_funds", InsufficientFunds().detail)


def test_funding_on_damaged_books_says_to_reconcile(place: Place) -> None:
    place.cli("users", "create", "--fund", "9")
    place.rows("UPDATE ledger.accounts SET seq = 0 WHERE purpose = 'world'")
    create = [*STRONGROOM, "users", "create", "--count", "3", "--fund", "5"]
    done = subprocess.run(create, env=place.env, cwd=place.folder, capture_output=True, text=True)
    words = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == REFUSED
    assert words[0].startswith("books_contradict: ")
    assert "`strongroom reconcile`" in " ".join(words)
    assert "Traceback" not in " ".join(words)


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_that_is(place: Place) -> None:
    found = place.cli(
        "dead-letters",
        "list",
        STRONGROOM_POOLSIZE="7",
        strongroom_workrs="2",
        strongroom_pool_size="7",
        STRONGROOM_TEST_DATABASE_URL="none",
        STRONGROOM_TOKEN="an operator's",
        STRONGROOM_CAMPAIGN="/a/folder",
        STRONGROOM_PART="3",
    )
    assert found.code == FINE
    warned = [json.loads(line) for line in found.err.splitlines() if line.startswith("{")]
    assert [(one["level"], one["name"], one["nearest"]) for one in warned] == [
        ("warning", "STRONGROOM_POOLSIZE", "STRONGROOM_POOL_SIZE"),
        ("warning", "strongroom_workrs", "STRONGROOM_WORKERS"),
    ]


# Users and keys


def test_created_users_hold_their_funds_and_their_tokens_work_over_http(place: Place) -> None:
    users = place.cli("users", "create", "--count", "3", "--fund", "700", "--json").lines
    assert [set(one) for one in users] == [{"userId", "accessToken"}] * 3
    (operator,) = place.cli("users", "create", "--role", "operator", "--json").lines
    with serving(place) as port, Client(port) as client:
        for one in users:
            found = client.get("/api/wallets/me", token=one["accessToken"]).json
            assert (found["userId"], found["balance"]) == (one["userId"], 700)
        answer = client.get("/api/ops/trial-balance", token=operator["accessToken"])
        balances = {line["purpose"]: line["balance"] for line in answer.json["items"]}
        assert (balances["wallet"], balances["world"]) == (2100, -2100)
        denied = client.get("/api/ops/trial-balance", token=users[0]["accessToken"])
        assert denied.status == 403


def test_more_users_than_one_group_are_all_funded(place: Place) -> None:
    users = place.cli("users", "create", "--count", "1203", "--fund", "5", "--json").lines
    assert len({one["userId"] for one in users}) == 1203
    found = place.rows(
        "SELECT count(*) FROM ledger.accounts WHERE purpose = 'wallet' AND balance = 5 AND seq = 1"
    )
    assert found == [(1203,)]
    clean = place.cli("reconcile")
    assert (clean.code, clean.says("Every invariant holds")) == (FINE, True)


def test_users_are_not_created_in_production(place: Place) -> None:
    found = place.cli("users", "create", STRONGROOM_ENVIRONMENT="production")
    assert found.code == REFUSED
    assert found.says("not_in_production")
    assert place.rows("SELECT count(*) FROM identity.users") == [(0,)]


def test_an_api_key_works_until_it_is_revoked(place: Place) -> None:
    key = place.cli("api-keys", "create", "till-7", "--role", "operator", "--json").json
    with serving(place) as port, Client(port) as client:
        assert client.get("/api/ops/status", token=key["secret"]).status == 200
        assert place.cli("api-keys", "revoke", key["keyId"]).code == FINE
        assert client.get("/api/ops/status", token=key["secret"]).status == 401


# Reconciliation, doctor


def test_a_changed_amount_is_found_named_and_pauses_payouts(place: Place) -> None:
    place.cli("users", "create", "--count", "2", "--fund", "900")
    place.rows("ALTER TABLE ledger.entries DISABLE TRIGGER USER")
    place.rows("UPDATE ledger.entries SET amount = 901 WHERE amount = 900 AND seq = 1")
    found = place.cli("reconcile")
    assert found.code == REFUSED
    assert found.says("transfers_sum_to_zero", "first wrong entry", "payouts are paused")
    assert place.rows("SELECT paused FROM audit.switches") == [(True,)]
    report = place.cli("reconcile", "--json")
    assert (report.code, report.json["clean"]) == (REFUSED, False)
    assert report.json["findings"][0]["rows"]


def test_the_doctor_finds_what_makes_a_commit_forgettable(place: Place) -> None:
    name = place.database_url.rpartition("/")[2].partition("?")[0]
    before = {one["name"]: one for one in place.cli("doctor", "--json").json["checks"]}
    kept = before["settings of roles and databases"]
    assert (kept["state"], before["privileges"]["state"]) == ("fine", "fine")
    place.rows(f"ALTER DATABASE {name} SET synchronous_commit = off")
    place.rows("GRANT UPDATE (amount) ON ledger.entries TO strongroom_app")
    found = place.cli("doctor", "--json")
    checks = {one["name"]: one for one in found.json["checks"]}
    assert found.code == REFUSED
    assert "synchronous_commit=off" in checks["settings of roles and databases"]["found"]
    assert "strongroom_app has UPDATE on ledger.entries" in checks["privileges"]["found"]
    assert checks["schema"]["state"] == "fine"


def doctored(place: Place, name: str) -> dict[str, str]:
    checks = place.cli("doctor", "--json").json["checks"]
    (found,) = (one for one in checks if one["name"] == name)
    return dict(found)


def test_the_doctor_says_that_payouts_are_paused_and_why(place: Place) -> None:
    assert doctored(place, "payouts")["state"] == "fine"

    async def pause(house: Strongroom) -> None:
        await house.run(PausePayouts("a strange transfer"), principal="operator:eve")

    inside(place, pause)
    found = doctored(place, "payouts")
    assert found["state"] == "warning"
    assert "a strange transfer" in found["found"]
    assert "operator:eve" in found["found"]
    assert "`strongroom payouts resume --reason" in found["todo"]
    # It is a state that somebody chose, and no defect.
    assert place.cli("doctor").code == FINE


def test_the_doctor_says_what_the_last_reconciliation_found(place: Place) -> None:
    assert doctored(place, "reconciliation")["found"] == "none yet"
    place.cli("users", "create", "--fund", "900")
    assert place.cli("reconcile").code == FINE
    assert doctored(place, "reconciliation")["state"] == "fine"
    place.rows("ALTER TABLE ledger.entries DISABLE TRIGGER USER")
    place.rows("UPDATE ledger.entries SET amount = 901 WHERE amount = 900 AND seq = 1")
    assert place.cli("reconcile").code == REFUSED
    found = doctored(place, "reconciliation")
    assert found["state"] == "wrong"
    assert "transfers_sum_to_zero is violated" in found["found"]
    assert "strongroom reconcile" in found["todo"]
    assert doctored(place, "payouts")["state"] == "warning"
    place.rows("UPDATE ledger.entries SET amount = 900 WHERE amount = 901 AND seq = 1")
    for trigger in ("append_only", "not_emptied"):
        place.rows(f"ALTER TABLE ledger.entries ENABLE ALWAYS TRIGGER {trigger}")
    assert place.cli("reconcile").code == FINE
    assert doctored(place, "reconciliation")["state"] == "fine"


def test_the_doctor_sees_a_secret_that_others_may_read(place: Place) -> None:
    secret = place.folder / "token_secret"
    secret.write_text("x" * 40)
    secret.chmod(0o644)
    found = place.cli("doctor")
    assert found.code == REFUSED
    assert found.says(f"chmod 600 {secret}")


# An operator's work


def inside(place: Place, do: Any) -> Any:
    async def doing() -> Any:
        async with Strongroom(place.settings()) as house:
            return await do(house)

    return asyncio.run(doing())


def test_a_dead_letter_is_listed_and_retried_once(place: Place) -> None:
    event = json.dumps({"id": str(uuid4()), "type": "betting.RoundClosed", "key": str(uuid4())})
    for _ in range(2):
        place.rows(
            "INSERT INTO events.dead_letters (queue, event, error, attempts) "
            f"VALUES ('betting_match', '{event}', 'it was poison', 8)"
        )
    first, second = (one["id"] for one in place.cli("dead-letters", "list", "--json").lines)
    assert place.cli("dead-letters", "retry", str(first)).code == FINE
    assert place.rows("SELECT count(*) FROM pgmq.q_betting_match") == [(1,)]
    again = place.cli("dead-letters", "retry", str(first), str(second), "--json")
    assert (again.code, again.json["id"]) == (REFUSED, second)
    assert place.cli("dead-letters", "discard", str(second)).code == REFUSED
    assert place.cli("dead-letters", "list", "--json").out == ""


def test_draws_are_verified_and_a_bent_one_is_found(place: Place) -> None:
    async def play(house: Strongroom) -> UUID:
        one, two = await open_users(house, 2, 10_000)
        round = await new_round(house, "coinflip")
        await bet(house, round, one, "A", 5_000)
        await bet(house, round, two, "B", 5_000)
        await house.run(CloseRound(round))
        await drained(house)
        return round

    round = inside(place, play)
    found = place.cli("draws", "verify", str(round), "--json")
    assert (found.code, found.json["draws"], found.json["wrong"]) == (FINE, 1, [])
    place.rows(
        "UPDATE betting.matches SET winner = CASE winner WHEN 'A' THEN 'B' ELSE 'A' END"
        "::betting.outcome"
    )
    assert place.cli("draws", "verify", str(round)).code == REFUSED


def test_a_transfer_is_reversed_once(place: Place) -> None:
    async def move(house: Strongroom) -> tuple[UUID, UUID]:
        one, two = await open_users(house, 2, 1_000)
        made = await house.run(Transfer(one, two, 400))
        return two, made.transfer_id

    user, transfer = inside(place, move)
    done = place.cli("transfers", "reverse", str(transfer), "--reason", "paid twice", "--json")
    assert (done.code, done.json["reverses"]) == (FINE, str(transfer))
    again = place.cli("transfers", "reverse", str(transfer), "--reason", "paid twice")
    assert (again.code, again.says("already_reversed")) == (REFUSED, True)
    found = place.rows(
        f"SELECT balance FROM ledger.accounts WHERE owner_id = '{user}' AND purpose = 'wallet'"
    )
    assert found == [(1_000,)]


def test_the_openapi_document_is_printed_without_a_database(tmp_path: Path) -> None:
    found = cli("openapi", "--json", "--data-dir", "nowhere", cwd=tmp_path)
    assert found.json["openapi"].startswith("3.1")
    assert "/api/bets" in found.json["paths"]


LONG = 2_000_000
TELLS_MUCH = f"""
import os, signal
from strongroom.doors.cli.flags import tell
signal.signal(signal.SIGALRM, lambda *_: os.write(2, b"."))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
tell("x" * {LONG})
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_long_answer_in_json_is_told_whole_though_its_writing_is_interrupted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TELLS_MUCH],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        select.select([process.stdout], [], [])
        process.stderr.read(3)  # by now the pipe is full, and a signal has ended a write early
        told = process.stdout.read()
    assert process.returncode == 0
    assert json.loads(told) == "x" * LONG


def test_benches_are_found_by_name() -> None:
    listed = cli("bench", "--data-dir", "nowhere")
    assert (listed.code, listed.says("bets")) == (FINE, True)
    unknown = cli("bench", "nonsense")
    assert (unknown.code, unknown.says("bets")) == (USAGE, True)
