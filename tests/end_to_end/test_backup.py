"""Backups: a real instance under load is copied, killed, lost, and made again of any moment."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from end_to_end._cli import STRONGROOM, Ended, cli, environment, scratch
from end_to_end._client import Client
from end_to_end._house import eventually
from end_to_end.test_up import Up, arguments, born_of, running
from strongroom.core.db.archive import SEGMENT_BYTES, SLOT, Segment, position_of
from strongroom.core.db.embedded import BACKUP, RESTORING
from strongroom.doors.cli.reach import reached
from strongroom.settings import Settings

FINE, REFUSED, USAGE = 0, 1, 2

READY_S = 60.0

LOAD_S = 1.5
"""Each part of the load; long enough for hundreds of deposits, also on a crowded machine."""

LOSS_S = 300.0
"""What a restore may lose; streaming loses a fraction of a second, and this is what was promised."""


@dataclass
class Deposits:
    """Deposits one after another, each remembered with when it was sent and when answered."""

    up: Up
    operator: str
    user: str
    done: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, name: str) -> None:
        count = 0
        with Client(self.up.port, timeout=10) as client:
            while not self.stopping.is_set():
                key, sent = f"{name}-{count}", datetime.now(UTC)
                count += 1
                try:
                    answer = self.deposit_at(client, key)
                except OSError:
                    self.unanswered.append(key)
                    return
                if answer.status == 201:
                    self.done.append((key, sent, datetime.now(UTC)))

    def deposit_at(self, client: Client, key: str) -> Any:
        path = f"/api/wallets/{self.user}/deposits"
        return client.post(path, {"amount": 1}, token=self.operator, key=key)


@contextlib.contextmanager
def deposits(up: Up, operator: str, user: str) -> Iterator[Deposits]:
    load = Deposits(up, operator, user)
    threads = [threading.Thread(target=load.run, args=(f"d{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join()


@dataclass
class Lost:
    """What is left of an instance that was killed under load: its backups, and what it had said."""

    room: Path
    moment: datetime
    killed: datetime
    load: Deposits

    @property
    def backups(self) -> Path:
        return self.room / "backups"

    def cli(self, *args: str, **env: str) -> Ended:
        return cli(*args, env=environment(**env), cwd=self.room)

    def restored(self, name: str, *how: str, **env: str) -> tuple[Path, Ended]:
        folder = self.room / name
        return folder, self.cli("restore", *how, "--data-dir", str(folder), "--json", **env)


def settings_in(room: Path) -> None:
    """For what is started in this folder."""
    lines = f'backup_dir = "{room / "backups"}"\nrate_limits = "off"\n'
    (room / "strongroom.toml").write_text(lines)


def person(up: Up, role: str) -> dict[str, Any]:
    made = cli("users", "create", "--role", role, "--json", "--data-dir", str(up.folder))
    return dict(made.json)


def kill_everything(up: Up) -> None:
    ours = [*up.children().values(), *archivers(up)]
    up.process.send_signal(signal.SIGKILL)
    for pid in ours:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    up.process.wait()
    eventually(lambda: not any(map(arguments, ours)), "all of it is dead", READY_S)


def archivers(up: Up) -> list[int]:
    return [
        pid
        for pid, words in born_of(up.process.pid)
        if words and words[0].endswith("pg_receivewal")
    ]


@pytest.fixture(scope="module")
def lost() -> Iterator[Lost]:
    """An instance that lives, is backed up, lives on, and is killed as a whole under load."""
    with scratch() as room:
        settings_in(room)
        with running(room / "data", "--port", "0") as up:
            up.ready()
            operator, user = person(up, "operator"), person(up, "user")
            with deposits(up, operator["accessToken"], user["userId"]) as load:
                made = cli("backup", "make", "--json", "--data-dir", str(up.folder), cwd=room)
                assert made.code == FINE, made.err
                time.sleep(LOAD_S)  # not for something to happen, but for load before and after
                moment = datetime.now(UTC)
                time.sleep(LOAD_S)
                killed = datetime.now(UTC)
                kill_everything(up)
        assert load.unanswered and len(load.done) > 30
        shutil.rmtree(room / "data" / "postgres")
        yield Lost(room, moment, killed, load)


def keys_in(folder: Path, user: str) -> set[str]:
    """The keys of a user's deposits, as the database has them."""

    async def ask() -> list[str]:
        settings = Settings(data_dir=folder, database_url=None)
        async with reached(settings, new=True) as place:
            with psycopg.connect(place.owner) as db:
                rows = db.execute(
                    "SELECT idempotent_key FROM ledger.wallet_ledger"
                    " WHERE user_id = %s AND type = 'DEPOSIT'",
                    [user],
                )
                return [str(row[0]).rpartition(":")[2] for row in rows]

    return set(asyncio.run(ask()))


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def test_a_restore_to_a_moment_has_what_was_acknowledged_before_it_and_nothing_after(
    lost: Lost,
) -> None:
    folder, ended = lost.restored("then", "--to-time", text(lost.moment))
    assert ended.code == FINE, ended.err
    facts = ended.json
    assert facts["clean"] and facts["reached"]
    assert datetime.fromisoformat(facts["newestCommit"]) <= lost.moment
    there = keys_in(folder, lost.load.user)
    before = {key for key, _, answered in lost.load.done if answered < lost.moment}
    after = {key for key, sent, _ in lost.load.done if sent > lost.moment}
    assert before and after
    assert before <= there
    assert not after & there


def test_the_archive_alone_brings_back_all_but_the_last_moments(lost: Lost) -> None:
    production = {"STRONGROOM_ENVIRONMENT": "production", "STRONGROOM_RATE_LIMITS": "on"}
    folder, ended = lost.restored("latest", "--latest", **production)
    assert ended.code == FINE, ended.err
    assert ended.json["clean"]
    checks = {one["name"]: one["found"] for one in ended.json["checks"]}
    assert "smtp_url" in (doubts := checks["settings to think about"])
    # There is one; and that the new folder has no backup of its own yet is no fault.
    assert "backup_dir" not in doubts and not checks.keys() & {"backup", "archived log"}
    there = keys_in(folder, lost.load.user)
    missing = [answered for key, _, answered in lost.load.done if key not in there]
    # Had the archive not gone on, all since the backup would be missing.
    assert len(there) > len(lost.load.done) / 2
    assert all(lost.killed - one < timedelta(seconds=LOSS_S) for one in missing)
    print(f"lost {len(missing)} of {len(lost.load.done)}; oldest {min(missing, default=None)}")


def test_a_restored_instance_goes_on_where_it_was_and_is_itself_archived(lost: Lost) -> None:
    room = Path(shutil.copytree(lost.backups, lost.room / "later" / "backups")).parent
    room.chmod(0o711)
    settings_in(room)
    how = ("--to-time", text(lost.moment), "--data-dir", "then")
    ended = cli("restore", *how, cwd=room)
    assert ended.code == FINE, ended.err
    assert ended.says("Every invariant holds", "The newest commit is of", "is not in it")
    there = keys_in(room / "then", lost.load.user)
    # Of those after the moment the earliest: the very last ones the archive may not have.
    after = sorted(sent for _, sent, _ in lost.load.done if sent > lost.moment)[:3]
    asked = [key for key, sent, _ in lost.load.done if sent < lost.moment][:3]
    asked += [key for key, sent, _ in lost.load.done if sent in after]
    with running(room / "then", "--port", "0") as up:
        up.ready()
        with Client(up.port) as client:
            # The operator's token still counts: its secret came back too.
            told = {
                key: lost.load.deposit_at(client, key).headers["Idempotency-Replayed"]
                for key in asked
            }
        assert {key for key, said in told.items() if said == "true"} == told.keys() & there
        assert cli("reconcile", "--data-dir", str(up.folder)).code == FINE
        kill_everything(up)
    # What it has become is the youngest story, and what it left is still told.
    for name, more in (("onward", ()), ("before", ("--timeline", "1"))):
        ended = cli("restore", "--latest", *more, "--data-dir", name, "--json", cwd=room)
        assert ended.code == FINE, ended.err
    assert keys_in(room / "onward", lost.load.user) == there | set(asked)
    assert set(asked) < keys_in(room / "before", lost.load.user)


def test_a_folder_that_is_there_is_never_restored_over(lost: Lost) -> None:
    (lost.room / "taken").mkdir()
    (lost.room / "taken" / "precious").touch()
    _, ended = lost.restored("taken", "--latest")
    assert ended.code == REFUSED
    assert json.loads(ended.err)["code"] == "folder_taken"
    assert [one.name for one in (lost.room / "taken").iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        (("--to-time", "2000-01-01T00:00:00Z"), REFUSED, "the oldest is of"),
        (("--to-time", "2026-11-21 14:00"), USAGE, "with its zone"),
        (("--to-time", "2999-01-01T00:00:00Z"), USAGE, "has passed"),
        ((), USAGE, "either --latest or --to-time"),
        (("--latest", "--from", "nowhere"), REFUSED, "is it the folder of"),
    ],
)
def test_what_cannot_be_restored_is_said_before_anything_is_made(
    lost: Lost, how: tuple[str, ...], code: int, says: str
) -> None:
    ended = lost.cli("restore", *how, "--data-dir", str(lost.room / "never"))
    assert ended.code == code
    assert ended.says(says)
    assert not (lost.room / "never").exists()


def test_a_backup_is_for_its_owner_alone_and_says_what_it_is(lost: Lost) -> None:
    first = lost.cli("backup", "list", "--json").lines[0]
    assert {"credentials.json", "token_secret", "ticket_key"} <= set(first["secrets"])
    assert first["schema"] and first["endLsn"] > first["startLsn"]
    open_to_others = [
        path
        for path in lost.backups.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 63
    ]
    assert not open_to_others


def copied(lost: Lost, name: str) -> Path:
    return Path(shutil.copytree(lost.backups, lost.room / name))


def test_a_changed_byte_in_a_backup_is_found(lost: Lost) -> None:
    backups = copied(lost, "spoiled")
    cluster = sorted((backups / "base").iterdir())[0] / "cluster"
    file = cluster / "global" / "pg_control"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    ended = lost.cli("backup", "check", "--all", "--from", str(backups), "--json")
    assert ended.code == REFUSED
    assert "pg_control" in ended.lines[0]["found"]


def one_backup(backups: Path) -> Path:
    return sorted((backups / "base").glob("[0-9]*"))[0]


def changed(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "at", "says"),
    [
        ("secrets/credentials.json", 30, "secrets/credentials.json is not what it was"),
        ("secrets/ticket_key", 0, "secrets/ticket_key is not what it was"),
        ("backup.json", 0, "what it says of itself cannot be read"),
        ("cluster/PG_VERSION", 0, "PG_VERSION"),
    ],
)
def test_nothing_is_made_of_a_backup_with_one_changed_byte(
    lost: Lost, name: str, at: int, says: str
) -> None:
    backups = copied(lost, f"changed-{Path(name).name}")
    for other in sorted((backups / "base").glob("[0-9]*"))[1:]:
        shutil.rmtree(other)
    changed(one_backup(backups) / name, at)
    found = lost.cli("backup", "check", "--from", str(backups))
    assert found.code == REFUSED
    assert found.says(says)
    ended = lost.cli("restore", "--latest", "--from", str(backups), "--data-dir", "of-it")
    assert ended.code == REFUSED
    assert not (lost.room / "of-it").exists()


def test_a_note_that_says_something_else_than_its_copy_is_found(lost: Lost) -> None:
    backups = copied(lost, "untrue")
    note = one_backup(backups) / "backup.json"
    said = json.loads(note.read_text())
    note.write_text(json.dumps(said | {"startLsn": "0/28"}))
    ended = lost.cli("backup", "check", "--all", "--from", str(backups))
    assert ended.code == REFUSED
    assert ended.says("backup.json does not fit")


def test_a_changed_byte_in_the_log_is_not_taken_for_its_end(lost: Lost) -> None:
    backups = copied(lost, "misread")
    last = max((backups / "wal").glob("0*"))
    changed(last, len(last.read_bytes().rstrip(b"\0")) // 2)
    found = lost.cli("backup", "check", "--from", str(backups))
    assert found.code == REFUSED
    assert found.says("The archived log is damaged")
    folder, ended = lost.restored("until-it", "--latest", "--from", str(backups))
    assert ended.code == REFUSED
    assert "The log is damaged at" in ended.json["damage"]
    assert ended.json["clean"]
    assert keys_in(folder, lost.load.user) < {key for key, _, _ in lost.load.done}


def test_a_log_of_another_database_is_not_taken_for_ours(lost: Lost) -> None:
    backups = copied(lost, "mixed")
    for file in (backups / "wal").glob("0*"):
        content = bytearray(file.read_bytes())
        content[24:32] = b"stranger"  # where the first page says of which cluster it is
        file.write_bytes(content)
    found = lost.cli("backup", "check", "--from", str(backups))
    assert found.code == REFUSED
    assert found.says("is not what it was")
    _, ended = lost.restored("without-it", "--latest", "--from", str(backups))
    assert ended.code == REFUSED
    assert "is not of this log" in ended.json["damage"]


def test_a_restore_that_was_killed_leaves_nothing_that_starts(lost: Lost) -> None:
    folder = lost.room / "half"
    words = [*STRONGROOM, "restore", "--latest", "--data-dir", str(folder)]
    marked = folder / "postgres" / RESTORING
    with subprocess.Popen(words, cwd=lost.room, env=environment(), stderr=subprocess.PIPE) as one:
        while not marked.exists() and one.poll() is None:
            pass  # the marker is there from the first file on
        one.kill()
    assert marked.exists()
    ended = lost.cli("up", "--port", "0", "--data-dir", str(folder))
    assert ended.code != FINE
    assert ended.says("did not finish", "restore again")
    again = lost.cli("restore", "--latest", "--data-dir", str(folder))
    assert again.code == REFUSED
    assert again.says("a restore that did not finish", "remove it")


def test_one_backup_is_made_at_a_time(lost: Lost) -> None:
    room = lost.room / "twice"
    room.mkdir()
    room.chmod(0o711)
    assert cli("migrate", "--data-dir", str(room / "data")).code == FINE
    make = ("backup", "make", "--to", "copies", "--data-dir", str(room / "data"))
    assert cli(*make, cwd=room).code == FINE
    other = room / "copies" / "base" / ".making-by-another"
    other.mkdir()
    with (room / "copies" / "base" / "make.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = cli(*make, cwd=room)
        assert ended.code == REFUSED
        assert ended.says("Another backup is being made")
        assert other.exists()
    assert cli(*make, cwd=room).code == FINE
    assert not other.exists(), "it was killed, and what it left is removed"


def test_a_missing_piece_of_the_log_is_named(lost: Lost) -> None:
    backups = copied(lost, "gappy")
    start = position_of(lost.cli("backup", "list", "--json").lines[0]["startLsn"])
    first = Segment(1, start // SEGMENT_BYTES)
    archived = sorted(backups.glob("wal*"))[0]
    for number in (2, 3):
        (archived / Segment(1, first.number + number).name).touch()
    (archived / Segment(1, first.number + 1).name).unlink(missing_ok=True)
    missing = Segment(1, first.number + 1).name
    (archived / f"{missing}.partial").unlink(missing_ok=True)
    ended = lost.cli("backup", "check", "--all", "--from", str(backups))
    assert ended.code == REFUSED
    assert ended.says("breaks off before", missing, "Make another backup")


def test_an_archiver_that_dies_is_back_and_nothing_is_missing(lost: Lost) -> None:
    room = lost.room / "other"
    room.mkdir()
    room.chmod(0o711)
    settings_in(room)
    with running(room / "data", "--port", "0", "--workers", "0") as up:
        up.ready()
        eventually(lambda: archivers(up), "it archives", READY_S)
        cli("backup", "make", "--data-dir", str(up.folder), cwd=room)
        (before,) = archivers(up)
        # While the disk of the backups is away, nothing is begun in its place.
        (room / "backups").rename(room / "away")
        os.kill(before, signal.SIGKILL)
        person(up, "user")
        eventually(lambda: "the archive of the log ended" in up.words(), "it says so", READY_S)
        eventually(lambda: archivers(up) not in ([], [before]), "it tries again", READY_S)
        assert not (room / "backups").exists()
        (room / "away").rename(room / "backups")
        eventually(lambda: archivers(up) not in ([], [before]), "it archives again", READY_S)
        up.end(signal.SIGKILL)
        eventually(lambda: not any(map(arguments, [before])), "it ended", READY_S)
    # Without backups the server keeps nothing for them.
    (room / "strongroom.toml").unlink()
    with running(room / "data", "--port", "0", "--workers", "0") as up:
        up.ready()
        assert not (room / "data" / "postgres" / "cluster" / "pg_replslot" / SLOT).exists()
        assert up.end() == FINE
    ended = cli("restore", "--from", "backups", "--latest", "--data-dir", "r", "--json", cwd=room)
    assert ended.code == FINE, ended.err
    again = cli("backup", "prune", "--keep", "1", "--from", "backups", "--json", cwd=room)
    assert (again.code, again.json["removed"]) == (FINE, [])


def test_old_backups_and_the_log_that_only_they_needed_are_removed(lost: Lost) -> None:
    backups = copied(lost, "many")
    names = [one["name"] for one in lost.cli("backup", "list", "--json").lines]
    if len(names) == 1:  # run alone: another one of the same moment
        copy = shutil.copytree(backups / "base" / names[0], backups / "base" / f"9{names[0]}")
        names.append(copy.name)
        said = json.loads((copy / "backup.json").read_text())
        (copy / "backup.json").write_text(json.dumps(said | {"name": copy.name}))
    ended = lost.cli("backup", "prune", "--keep", "1", "--from", str(backups), "--json")
    assert ended.code == FINE, ended.err
    assert ended.json["removed"] == names[:-1]
    assert [one.name for one in (backups / "base").glob("[!m]*")] == names[-1:]


def admin(up: Up) -> psycopg.Connection[Any]:
    """As who may do anything to the server."""
    folder = up.folder / "postgres"
    password = json.loads((folder / "credentials.json").read_text())["postgres_admin"]
    where = {"host": str((folder / "run").resolve()), "port": "5432", "dbname": "strongroom"}
    return psycopg.connect(user="postgres_admin", password=password, autocommit=True, **where)


def test_an_archive_goes_on_whatever_became_of_its_last_file_or_begins_anew() -> None:
    with scratch() as room:
        settings_in(room)
        data, log = room / "data", room / "backups" / "wal"
        with running(data, "--port", "0", "--workers", "0") as up:
            up.ready()
            assert cli("backup", "make", "--data-dir", str(data), cwd=room).code == FINE
            assert up.end() == FINE
        # As a full disk or a kill -9 leaves a file that was just begun.
        (begun,) = log.glob("*.partial")
        os.truncate(begun, SEGMENT_BYTES // 2)
        with running(data, "--port", "0", "--workers", "0") as up:
            up.ready()
            whole = log / begun.stem
            with admin(up) as db:
                db.execute("SELECT pg_switch_wal()")
            eventually(whole.exists, "it goes on", READY_S)
            assert cli("backup", "check", cwd=room).code == FINE
            assert up.end() == FINE
        # Nobody archives for a while, and the server lets go of what it has kept.
        (room / "strongroom.toml").unlink()
        with running(data, "--port", "0", "--workers", "0") as up, admin(up.ready()) as db:
            for _ in range(3):
                db.execute("SELECT pg_switch_wal()")
                db.execute("CHECKPOINT")
            db.close()
            assert up.end() == FINE
        settings_in(room)
        with running(data, "--port", "0", "--workers", "0") as up:
            up.ready()
            eventually(lambda: "begins anew" in up.words(), "it says so", READY_S)
            eventually(lambda: list(log.glob("*.partial")), "it archives", READY_S)
            with admin(up) as db:
                db.execute("SELECT pg_switch_wal()")
            eventually(lambda: list(log.glob(f"{'[0-9A-F]' * 24}")), "a whole one", READY_S)
            assert cli("backup", "check", cwd=room).says("the log breaks off before")
            assert up.end() == FINE


def test_what_a_restore_left_may_go_on_and_then_it_is_asked_which_is_wanted() -> None:
    with scratch() as room:
        settings_in(room)
        data = room / "data"
        with running(data, "--port", "0", "--workers", "0") as up:
            up.ready()
            assert cli("backup", "make", "--data-dir", str(data), cwd=room).code == FINE
            assert up.end() == FINE
        assert cli("restore", "--latest", "--data-dir", "drill", cwd=room).code == FINE
        with running(room / "drill", "--port", "0", "--workers", "0") as up:
            up.ready()
            log = room / "backups" / "wal"
            eventually(lambda: list(log.glob("00000002*.partial")), "it archives", READY_S)
            assert up.end() == FINE
        # It was a drill: the one of before goes on, and so does its archive, without a gap.
        with running(data, "--port", "0", "--workers", "0") as up:
            up.ready()
            token = up.token(fund=7)
            eventually(lambda: list(log.glob("00000001*.partial")), "it archives", READY_S)
            assert cli("backup", "make", "--data-dir", str(data), cwd=room).code == FINE
            assert cli("backup", "check", "--all", cwd=room).code == FINE
            assert up.end() == FINE
        assert len(cli("backup", "list", "--json", cwd=room).lines) == 2
        ended = cli("restore", "--latest", "--data-dir", "which", cwd=room)
        assert ended.code == USAGE
        assert ended.says("--timeline 2 or --timeline 1")
        how = ("--latest", "--timeline", "1", "--data-dir", "which", "--json")
        ended = cli("restore", *how, cwd=room)
        assert ended.code == FINE, ended.err
        with running(room / "which", "--port", "0", "--workers", "0") as up:
            assert up.ready().balance(token) == 7
            assert up.end() == FINE


def test_a_folder_of_backups_that_cannot_be_used_keeps_nobody_from_starting() -> None:
    with scratch() as room:
        settings_in(room)
        (room / "backups").touch()  # where a disk should be
        with running(room / "data", "--port", "0", "--workers", "0") as up:
            up.ready()
            assert up.status() == 200
            eventually(lambda: "nothing is archived" in up.words(), "it says so", READY_S)
            assert not archived(room)
            (room / "backups").unlink()
            eventually(lambda: archivers(up), "it archives", READY_S)
            eventually(lambda: archived(room), "its standing says so", READY_S)
            # One that hangs does not keep the instance from ending.
            for one in archivers(up):
                os.kill(one, signal.SIGSTOP)
            assert up.end() == FINE


def archived(room: Path) -> bool:
    """As `status` has it, which calls it wrong where nobody archives."""
    shown = cli("status", "--once", "--json", "--data-dir", str(room / "data"), cwd=room).json
    said: bool = shown["database"]["server"]["archived"]
    assert any("Nobody archives" in one for one in shown["wrong"]) is not said
    return said


def test_an_installation_from_before_there_were_backups_is_brought_up_to_them() -> None:
    with scratch() as room:
        data = room / "data"
        assert cli("migrate", "--data-dir", str(data)).code == FINE
        folder = data / "postgres"
        passwords = json.loads((folder / "credentials.json").read_text())
        # As it was: no such role has a password, no line lets it in, another script completed it.
        older = {role: word for role, word in passwords.items() if role != BACKUP}
        (folder / "credentials.json").write_text(json.dumps(older))
        (folder / "ready").unlink()
        hba = folder / "cluster" / "pg_hba.conf"
        hba.write_text(hba.read_text().partition("# Base backups")[0])
        ended = cli("backup", "make", "--to", "copies", "--data-dir", str(data), cwd=room)
        assert ended.code == FINE, ended.err
        now = json.loads((folder / "credentials.json").read_text())
        assert now.keys() == passwords.keys() and now[BACKUP] != passwords[BACKUP]
        # Without an archive it is restored to its own moment.
        how = ("--from", "copies", "--latest", "--data-dir", "new", "--json")
        ended = cli("restore", *how, cwd=room)
        assert ended.code == FINE, ended.err
        assert ended.json["segments"] == 0 and ended.json["clean"]


def test_a_database_of_ones_own_is_left_to_its_own_means(tmp_path: Path) -> None:
    env = environment(STRONGROOM_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    for command in (("backup", "make", "--to", str(tmp_path)), ("restore", "--latest")):
        ended = cli(*command, "--data-dir", str(tmp_path / "new"), env=env)
        assert ended.code == REFUSED
        assert ended.says("not_embedded", "by its own means")
