"""The doctor: each thing that may be wrong is planted, and has to be named with what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from end_to_end._cli import Ended, cli
from end_to_end.test_cli import Place
from strongroom.core.db import Database
from strongroom.core.db.backup import NOTE
from strongroom.core.db.log_pages import SEGMENT_BYTES
from strongroom.core.db.schema import expected, found
from strongroom.doors.cli.checks import Check, of_backups, of_machine, of_settings
from strongroom.doors.cli.doctor import sql
from strongroom.settings import Settings

FINE, REFUSED = 0, 1

GUESSABLE = "secretsecretsecretsecretsecretsecret"


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Place:
    return Place(database_url, tmp_path)


def examined(place: Place, **more: str) -> tuple[Ended, dict[str, dict[str, str]]]:
    ended = place.cli("doctor", "--json", **more)
    return ended, {one["name"]: one for one in ended.json["checks"]}


async def test_the_list_of_the_schema_is_what_the_migrations_make(owner: Database) -> None:
    """Else: python -m strongroom.core.db.schema DSN, of a database just migrated."""
    there = await found(owner)
    assert sorted(there - expected()) == []
    assert sorted(expected() - there) == []


def test_a_database_as_it_should_be_has_nothing_wrong(place: Place) -> None:
    ended, checks = examined(place)
    assert ended.code == FINE, checks
    assert checks["tables, indexes, constraints, triggers, functions"]["found"] == "all there"
    assert {"dead rows", "size of indexes", "sequences", "age of transactions"} <= checks.keys()
    assert all(one["todo"] for one in checks.values() if one["state"] != "fine")


TAKEN = {
    "DROP INDEX ledger.transfers_key_key": "ledger.transfers",
    "ALTER TABLE ledger.accounts DROP CONSTRAINT balance_not_below_floor": "not_below_floor",
    "DROP TRIGGER append_only ON ledger.entries": "append_only",
    "ALTER TABLE ledger.entries DISABLE TRIGGER append_only": "append_only",
    "ALTER TABLE betting.bets DROP CONSTRAINT bets_amount_check": "bets_amount_check",
    "ALTER TABLE orders.lines DROP CONSTRAINT lines_quantity_check": "lines_quantity_check",
    "DROP TABLE ticketing.mails": "ticketing.mails",
    "DROP TABLE audit.reconciliations": "audit.reconciliations",
    "CREATE OR REPLACE FUNCTION audit.note_change() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NULL; END $$": "audit.note_change()",
}


@pytest.mark.parametrize("taken", TAKEN)
def test_what_was_taken_from_the_schema_is_named(place: Place, taken: str) -> None:
    drop = taken
    if taken.startswith("DROP INDEX"):
        [(name,)] = place.rows(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND NOT indisprimary"
            " AND indrelid = 'ledger.transfers'::regclass ORDER BY 1 LIMIT 1"
        )
        [(owned,)] = place.rows(
            f"SELECT count(*) FROM pg_constraint WHERE conindid = '{name}'::regclass"
        )
        short = name.rpartition(".")[2]
        drop = f"DROP INDEX {name}"
        if owned:
            drop = f"ALTER TABLE ledger.transfers DROP CONSTRAINT {short}"
    place.rows(drop)
    ended, checks = examined(place)
    assert ended.code == REFUSED
    missing = checks["tables, indexes, constraints, triggers, functions"]
    assert missing["state"] == "wrong"
    assert TAKEN[taken] in missing["found"]
    assert "restore a backup" in missing["todo"]


def test_a_setting_of_a_role_that_loses_data_is_named(place: Place) -> None:
    name = place.database_url.rpartition("/")[2].partition("?")[0]
    place.rows(f"ALTER ROLE strongroom_app IN DATABASE {name} SET synchronous_commit = off")
    ended, checks = examined(place)
    assert ended.code == REFUSED
    kept = checks["settings of roles and databases"]
    assert "synchronous_commit=off for strongroom_app" in kept["found"]
    assert "RESET" in kept["todo"]


def test_privileges_that_a_role_must_not_have_are_named(place: Place) -> None:
    place.rows("GRANT UPDATE (reason) ON audit.actions TO strongroom_app")
    place.rows("GRANT DELETE ON ticketing.tickets TO strongroom_audit")
    ended, checks = examined(place)
    assert ended.code == REFUSED
    assert checks["privileges"]["found"] == (
        "strongroom_app has UPDATE on audit.actions; strongroom_audit has DELETE on ticketing.tickets"
    )


def test_a_clock_behind_what_is_written_is_named(place: Place) -> None:
    place.rows(
        "INSERT INTO events.log (key, seq, id, type, payload, created_at) VALUES"
        " (gen_random_uuid(), 1, gen_random_uuid(), 'x', '{}', now() + interval '1 hour')"
    )
    ended, checks = examined(place)
    assert ended.code == REFUSED
    assert "behind the newest event" in checks["clock's past"]["found"]
    assert "time service" in checks["clock's past"]["todo"]


def test_an_index_that_is_not_valid_is_named(place: Place) -> None:
    place.rows(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ledger.entries_pkey'::regclass"
    )
    ended, checks = examined(place)
    assert ended.code == REFUSED
    assert "ledger.entries_pkey" in checks["indexes"]["found"]
    assert "REINDEX" in checks["indexes"]["todo"]


def test_a_sequence_near_its_end_is_named(place: Place) -> None:
    place.rows("CREATE SEQUENCE public.almost AS integer")
    place.rows("SELECT setval('public.almost', 2000000000)")
    ended, checks = examined(place)
    assert ended.code == REFUSED
    assert "public.almost: 93 %" in checks["sequences"]["found"]


def test_dead_rows_that_nobody_cleans_away_are_named(place: Place) -> None:
    place.rows("CREATE TABLE public.dead (n integer) WITH (autovacuum_enabled = off)")
    place.rows("INSERT INTO public.dead SELECT generate_series(1, 120000)")
    place.rows("UPDATE public.dead SET n = -n")
    place.rows("DELETE FROM public.dead WHERE n < 0")
    place.rows("SELECT pg_stat_force_next_flush()")
    _, checks = examined(place)
    assert checks["dead rows"]["state"] == "warning"
    assert "dead: " in checks["dead rows"]["found"]
    assert "VACUUM" in checks["dead rows"]["todo"]


async def test_a_transaction_that_stays_open_is_named(owner: Database, place: Place) -> None:
    with psycopg.connect(place.database_url, application_name="forgotten") as db:
        db.execute("SELECT 1")
        rows = await owner.fetch(sql.long_transactions, 0.0)
        assert any(row["who"].startswith("forgotten") for row in rows)
        _, checks = examined(place)
        assert checks["long transactions"]["found"] == "none"  # not for as long as that


def test_more_connections_than_the_server_has_are_named(place: Place) -> None:
    _, checks = examined(place, STRONGROOM_POOL_SIZE="200", STRONGROOM_API_PROCESSES="8")
    wanted = checks["connections of all processes"]
    assert wanted["state"] == "warning"
    assert "pool_size" in wanted["todo"]


def test_a_name_that_is_no_setting_is_named_with_the_one_that_is(place: Place) -> None:
    _, checks = examined(place, STRONGROOM_POOL_SISE="5")
    assert checks["names of settings"]["state"] == "warning"
    assert "meant: STRONGROOM_POOL_SIZE" in checks["names of settings"]["found"]


# The machine, without a database ----------------------------------------------------------------


def by_name(checks: object, name: str) -> Check:
    (one,) = (one for one in checks if one.name == name)  # type: ignore[attr-defined]
    return one


@pytest.mark.parametrize(
    ("chosen", "check", "says"),
    [
        ({"environment": "production", "rate_limits": "off"}, "settings", "rate_limits"),
        ({"token_secret": GUESSABLE}, "settings", "token_secret can be guessed"),
        ({"sandbox_secret": "a" * 40}, "settings", "sandbox_secret can be guessed"),
        ({"environment": "production", "workers": 0}, "settings", "workers = 0"),
        ({"host": "0.0.0.0"}, "settings to think about", "development"),
        ({"environment": "production"}, "settings to think about", "no backup_dir"),
        ({"environment": "production"}, "settings to think about", "no smtp_url"),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    tmp_path: Path, chosen: dict[str, object], check: str, says: str
) -> None:
    settings = Settings(**{"data_dir": tmp_path, "database_url": None, **chosen})
    one = by_name(of_settings(settings), check)
    assert one.state != "fine"
    assert says in one.found and one.todo


def test_usual_settings_give_no_cause_for_concern(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=None)
    assert {one.state for one in of_settings(settings)} == {"fine"}


def test_few_open_files_are_a_warning(tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -n 1000; exec "$@"', "sh")
    ended = cli("doctor", "--json", "--data-dir", str(tmp_path), prefix=limited)
    (few,) = (one for one in ended.json["checks"] if one["name"] == "open files")
    assert few["state"] == "warning"
    assert "ulimit -n" in few["todo"]


# Backups ----------------------------------------------------------------------------------------

NOTED = """{{"name": "{name}", "beganAt": "{at}", "endedAt": "{at}", "startLsn": "0/4000028",
"endLsn": "0/4000120", "timeline": 1, "system": "1", "schema": "0005", "program": "1",
"secrets": [], "bytes": 1, "durationMs": 1}}"""


def backup_in(folder: Path, at: datetime) -> Path:
    made = folder / "base" / f"{at:%Y%m%dT%H%M%S.%fZ}"
    made.mkdir(parents=True)
    (made / NOTE).write_text(NOTED.format(name=made.name, at=at.isoformat()))
    return folder


def backup_settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, database_url=None, backup_dir=tmp_path / "backups")


def segment_in(folder: Path, name: str) -> None:
    """One with all of its room, as each has before anything is written to it."""
    with (folder / "wal" / name).open("wb") as file:
        file.truncate(SEGMENT_BYTES)


def make_none(folder: Path) -> None:
    folder.mkdir()


def make_old(folder: Path) -> None:
    backup_in(folder, datetime.now(UTC) - timedelta(days=30))


def make_gap(folder: Path) -> None:
    backup_in(folder, datetime.now(UTC))
    (folder / "wal").mkdir()
    for name in ("000000010000000000000004", "000000010000000000000006.partial"):
        segment_in(folder, name)


@pytest.mark.parametrize(
    ("made", "check", "state", "says"),
    [
        (make_none, "backup", "wrong", "there is none"),
        (make_old, "backup", "warning", "30 days old"),
        (make_gap, "archived log", "wrong", "000000010000000000000005 is missing"),
        (make_old, "backup folder", "warning", "takes both"),
    ],
)
def test_a_backup_that_would_not_help_is_named(
    tmp_path: Path, made: Callable[[Path], None], check: str, state: str, says: str
) -> None:
    made(tmp_path / "backups")
    one = by_name(of_backups(backup_settings(tmp_path)), check)
    assert one.state == state
    assert says in one.found and one.todo


def test_a_backup_of_today_with_its_log_is_fine(tmp_path: Path) -> None:
    folder = backup_in(tmp_path / "backups", datetime.now(UTC))
    (folder / "wal").mkdir()
    for name in ("000000010000000000000004", "000000010000000000000005.partial"):
        segment_in(folder, name)
    checks = list(of_backups(backup_settings(tmp_path)))
    assert by_name(checks, "backup").state == "fine"
    assert by_name(checks, "archived log").state == "fine"


def test_the_machine_is_looked_at_without_a_database(tmp_path: Path) -> None:
    names = [one.name for one in of_machine(Settings(data_dir=tmp_path, database_url=None))]
    assert {"python", "time zones", "open files", "data folder", "free disk"} <= set(names)
