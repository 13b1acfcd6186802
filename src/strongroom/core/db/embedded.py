"""A PostgreSQL of our own: the programs of a wheel, run as a direct child in the data directory.

    with EmbeddedPostgres(data_dir / "postgres") as server:
        connect(server.dsn("strongroom_app"))

Promised: after `start()` the server accepts connections and has its roles and its database,
whatever happened before: a power cut, a kill -9 of the server or of its supervisor, an
initialisation that ended half-way. One folder has one supervisor. No process is signalled that was
not seen to be a postgres of this very cluster.

In the folder:
    supervisor.lock    held (flock) while a supervisor lives; its process id
    credentials.json   the roles' passwords, mode 0600; without it the cluster cannot be entered
    cluster            the data, or a symlink to it where the server cannot reach this folder
    ready              written last: the roles and the database are complete
    restoring          there until a restored cluster is whole: nobody else starts it
    run                the socket, or a symlink to its folder
    postgres.log       what the server says; postgres.log.1 is the one before

Not done: standbys, upgrades between major versions. Backups are `core.db.backup`.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from strongroom.core.db.embedded_config import (
    HBA,
    HBA_REPLICATION,
    MIB,
    AlreadyRunning,
    EmbeddedError,
    OtherMajorVersion,
    PortTaken,
    ServerFailed,
    binaries,
    cluster_place,
    connection_url,
    environment,
    has_name,
    major_version,
    reachable_binaries,
    reaches,
    server_user,
    serving,
    settings_text,
    sync_folder,
    write,
)

__all__ = [
    "AlreadyRunning",
    "EmbeddedError",
    "EmbeddedPostgres",
    "OtherMajorVersion",
    "PortTaken",
    "ServerFailed",
    "binaries",
]

DATABASE = "strongroom"
ADMIN = "postgres_admin"  # superuser: makes roles and extensions, serves nothing else
BACKUP = "strongroom_backup"  # copies the cluster and its log, reads no table
ROLES = ("strongroom_owner", "strongroom_app", "strongroom_audit", BACKUP)
RESTORING = "restoring"
DEFAULT_PORT = 5432  # without a listener it only names the socket file
SOCKET_PATH_BYTES = 107  # the kernel's sun_path, less its closing zero
LOG_LIMIT_BYTES = 10 * MIB  # weeks of quiet; two files of it bound what a crash loop can fill
TAIL_LINES = 15  # enough for a FATAL with its DETAIL and HINT and what led to it
POLL_S = 0.02  # much shorter than a start, much longer than a look takes
LOCK_S = 2  # a dead supervisor's lock ends sooner, a living one's never: see _take
INIT_TIMEOUT_S = 300  # initdb takes a second; a busy network disk took minutes
READY_TIMEOUT_S = 600  # replaying 4 GB of log on a slow disk; a server that gives up ends at once
FAST_S = 60  # the closing checkpoint may write all shared buffers
IMMEDIATE_S = 15  # postgres itself kills its children after 5 s
ORPHAN_S = 2  # a backend notices its postmaster's death at once unless it computes

# Run by psql as the superuser, in whatever state an earlier attempt left the server. Passwords come
# in as variables.
SETUP = """\
-- Passwords must not come to rest in the log or in the statistics of statements.
SET log_min_duration_statement = -1;
SET log_min_error_statement = panic;
SET pg_stat_statements.track_utility = off;
SELECT format('CREATE ROLE %I', name)
    FROM unnest(ARRAY['strongroom_owner', 'strongroom_app', 'strongroom_audit',
        'strongroom_backup']) AS name
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \\gexec
-- CREATEDB: tests clone databases from a migrated template.
ALTER ROLE strongroom_owner LOGIN CREATEDB PASSWORD :'strongroom_owner';
ALTER ROLE strongroom_app LOGIN PASSWORD :'strongroom_app';
ALTER ROLE strongroom_audit LOGIN PASSWORD :'strongroom_audit';
ALTER ROLE strongroom_backup LOGIN REPLICATION PASSWORD :'strongroom_backup';
-- Whoever migrates may also see what keeps the server busy; the application may not.
GRANT pg_monitor TO strongroom_owner;
-- Not a guard (a session can change it), but an audit that writes by mistake stops there.
ALTER ROLE strongroom_audit SET default_transaction_read_only = on;
SELECT 'CREATE DATABASE strongroom OWNER strongroom_owner'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'strongroom') \\gexec
\\connect strongroom
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS unaccent;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
"""


class EmbeddedPostgres:
    """The server of one folder. With a `port` it also listens on 127.0.0.1, else on a socket only.

    Not for several threads at once. `start` and `stop` block: a second for a first start, as long
    as recovery takes after a crash.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        recovery: Mapping[str, str] | None = None,
        ready_s: float = READY_TIMEOUT_S,
    ) -> None:
        self.folder = folder.resolve()  # the server walks to it by itself: no symlinks on the way
        self.port = DEFAULT_PORT if port is None else port
        self._listens = port is not None
        self._recovery, self._ready_s = recovery, ready_s  # of a restored cluster's first start
        self._user = server_user(self.folder)
        self._cluster = self.folder / "cluster"
        self._programs = Path()
        self._locks: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def socket_dir(self) -> Path:
        """The folder of the Unix socket. Known once started."""
        assert self._socket_dir is not None, "start() first"
        return self._socket_dir

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it does not run."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def cluster(self) -> Path:
        """Where the data is. Known once started."""
        return self._cluster

    @property
    def programs(self) -> Path:
        """The binaries that the server runs from. Known once started."""
        return self._programs

    def dsn(self, user: str, *, database: str = DATABASE) -> str:
        """A URL for asyncpg, psycopg and libpq, password included: do not log it."""
        return connection_url(
            {
                "user": user,
                "password": self._credentials()[user],
                "database": quote(database, safe=""),
                "host": quote(str(self.socket_dir), safe=""),
                "port": str(self.port),
            }
        )

    def login(self, user: str) -> dict[str, str]:
        """The same for libpq's programs, as their environment: an argument is for all to read."""
        return {
            "PGHOST": str(self.socket_dir),
            "PGPORT": str(self.port),
            "PGUSER": user,
            "PGPASSWORD": self._credentials()[user],
        }

    def poll(self) -> int | None:
        """The server's exit code, None while it runs or was never started. Does not wait."""
        return self._child.poll() if self._child is not None else None

    def start(self) -> None:
        """Returns when the server accepts connections and is complete. Does nothing while it runs.

        Raises AlreadyRunning, PortTaken, OtherMajorVersion or ServerFailed, and then nothing of
        ours is left running.
        """
        if self.pid is not None:
            return
        try:
            self._claim_folder()
            self._check_whole()
            self._cluster = cluster_place(self.folder, self._user)
            self._programs = reachable_binaries(self.folder, self._user)
            self._check_version()
            if not self._is_initialised():
                self._initialise()
            self._claim_cluster()
            self._end_leftovers()
            self._check_port()
            self._socket_dir = self._make_socket_dir()
            self._configure()
            self._launch()
            self._complete()
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError | subprocess.SubprocessError):
                raise ServerFailed(
                    what=f"could not be started: {error}",
                    then="see that its disk has room and is writable, and start again",
                ) from error
            raise

    def stop(self, *, fast_s: float = FAST_S) -> None:
        """Ends the server: open transactions are rolled back, a closing checkpoint is written.

        After `fast_s` seconds that is cut short, and the next start recovers from the log. May be
        called at any time, any number of times.
        """
        if self._child is not None and self._child.poll() is None:
            steps = ((signal.SIGINT, fast_s), (signal.SIGQUIT, IMMEDIATE_S), (signal.SIGKILL, None))
            for number, patience_s in steps:
                self._child.send_signal(number)
                try:
                    self._child.wait(patience_s)
                    break
                except subprocess.TimeoutExpired:
                    continue
        if self._socket_dir is not None:
            self._drop_far_sockets()
            self._socket_dir = None
        if self._locks:
            os.ftruncate(self._locks[0], 0)  # so that nobody is told a process that has gone
        while self._locks:
            os.close(self._locks.pop())

    def _claim_folder(self) -> None:
        if self._locks:  # ours already: the server died under us and is started again
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir()
                # Made by us, so ours to open: the server's user passes through, but cannot list.
                self.folder.chmod(0o711 if self._user.drops else 0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(self.folder / "supervisor.lock", flags, 0o600)
        except PermissionError as refused:
            raise ServerFailed(
                what=f"cannot use {self.folder}: {refused.strerror} ({refused.filename})",
                then="run as the user who owns it, or choose another --data-dir",
            ) from refused
        if not _take(lock):
            holder = os.read(lock, 32).decode().strip() or "unknown"
            os.close(lock)
            raise AlreadyRunning(folder=self.folder, pid=holder)
        self._locks.append(lock)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _claim_cluster(self) -> None:
        # A copied data directory copies the symlink too: two folders, two locks, one cluster.
        if len(self._locks) > 1:
            return
        lock = os.open(self._cluster, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not _take(lock):
            os.close(lock)
            raise AlreadyRunning(folder=self._cluster, pid=self._recorded_pid() or "unknown")
        self._locks.append(lock)

    def _check_whole(self) -> None:
        if self._recovery is None and (self.folder / RESTORING).exists():
            raise ServerFailed(
                what=f"does not start in {self.folder}: restoring into it did not finish",
                then=f"remove {self.folder.parent}, and restore again",
            )

    def _check_version(self) -> None:
        try:
            found = (self._cluster / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        needed = major_version(self._programs)
        if found != needed:
            raise OtherMajorVersion(cluster=self._cluster, found=found, needed=needed)

    def _is_initialised(self) -> bool:
        if (self._cluster / "PG_VERSION").exists():
            return bool(self._credentials())
        # An empty database in the place of a full one would look like a loss to everybody who asks
        # it.
        if (self.folder / "ready").exists() or (
            self._cluster.is_dir() and any(self._cluster.iterdir())
        ):
            raise ServerFailed(
                what=f"finds no database in {self._cluster}, where there was or should be one",
                then=f"restore it from a backup, or remove {self.folder} to begin empty",
            )
        return False

    def _initialise(self) -> None:
        """Makes the cluster beside its place and moves it there: half of one never has the name."""
        if not (self.folder / "credentials.json").exists():
            passwords = {role: secrets.token_urlsafe(32) for role in (ADMIN, *ROLES)}
            write(self.folder / "credentials.json", json.dumps(passwords, indent=2) + "\n")
        if not has_name(self._user.uid):
            raise ServerFailed(
                what=f"cannot be initialised by user {self._user.uid}, who has no name",
                then="add a line for that user to /etc/passwd, or run as another user",
            )
        beside = self._cluster.parent
        for unfinished in beside.glob(f"{self._cluster.name}.init-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f"{self._cluster.name}.init-", dir=beside))
        self._user.own(made)
        # The builtin provider sorts and folds the same on every system, for ever. The C library's
        # part (what is a letter: full-text and trigram search ask it) is UTF-8 where the system
        # knows that locale.
        attempt = self._initdb(made, "--locale=C.UTF-8")
        if attempt.returncode != 0 and "locale" in attempt.stderr:
            attempt = self._initdb(made, "--builtin-locale=C.UTF-8", "--locale=C")
        if attempt.returncode != 0:
            shutil.rmtree(made, ignore_errors=True)
            raise ServerFailed(
                what="could not initialise its data folder",
                then="see the reason below; disk space and permissions are the usual ones",
                tail=attempt.stderr,
            )
        write(made / "pg_hba.conf", HBA, self._user)
        main = made / "postgresql.conf"
        write(main, main.read_text() + "\ninclude 'strongroom.conf'\n", self._user)
        write(made / "strongroom.conf", "", self._user)  # rewritten before every start
        made.rename(self._cluster)
        sync_folder(beside)

    def _initdb(self, made: Path, *locale: str) -> subprocess.CompletedProcess[str]:
        # A file in memory: the password is never on a disk nor in the list of processes.
        secret = os.memfd_create("password")
        try:
            os.write(secret, self._credentials()[ADMIN].encode())
            command: list[str | Path] = [self._programs / "initdb", "-D", made, "-U", ADMIN]
            command += ["--data-checksums", "--encoding=UTF8", "--locale-provider=builtin", *locale]
            command += ["--auth-local=scram-sha-256", "--auth-host=scram-sha-256"]
            command += [f"--pwfile=/proc/self/fd/{secret}", "--no-instructions"]
            return self._user.run(command, timeout_s=INIT_TIMEOUT_S, pass_fds=(secret,))
        finally:
            os.close(secret)

    def _recorded_pid(self) -> int | None:
        try:
            # Negative for a single-user server.
            return abs(int((self._cluster / "postmaster.pid").read_text().splitlines()[0]))
        except (OSError, ValueError, IndexError):
            return None

    def _end_leftovers(self) -> None:
        """Ends what an earlier supervisor left: we hold the lock, nobody else looks after it."""
        recorded = self._recorded_pid()
        left = serving(self._cluster, self._user)
        if recorded in left:
            self._end(recorded, (signal.SIGINT, FAST_S), (signal.SIGQUIT, IMMEDIATE_S))
            left = serving(self._cluster, self._user)
        # Backends whose postmaster is gone. Never SIGINT: an orphaned checkpointer would take it
        # for an orderly shutdown, and the next server would not replay the log.
        for orphan in left:
            self._end(orphan, (None, ORPHAN_S), (signal.SIGQUIT, IMMEDIATE_S))
        # A recorded process that lives is none of ours: its id was given out again, and postgres
        # would refuse to start. The file of a dead one stays: from it postgres checks for itself
        # that no shared memory is still in use.
        if recorded is None or Path(f"/proc/{recorded}").exists():
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _end(self, pid: int, *steps: tuple[signal.Signals | None, float]) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            # The handle stays with one process, the number does not: looked at again, with the
            # handle held.
            if pid not in serving(self._cluster, self._user):
                return
            end = select.poll()
            end.register(handle, select.POLLIN)
            for number, patience_s in steps:
                if number is not None:
                    signal.pidfd_send_signal(handle, number)
                if end.poll(patience_s * 1000):
                    return
        except ProcessLookupError:
            return
        finally:
            os.close(handle)
        raise ServerFailed(
            what=f"cannot start: process {pid} still uses {self._cluster} and does not end",
            then=f"see what holds it (usually the disk), end process {pid}, and start again",
        )

    def _check_port(self) -> None:
        if not self._listens:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as postgres does itself
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as refused:
                raise PortTaken(port=self.port) from refused

    def _make_socket_dir(self) -> Path:
        near = self.folder / "run"
        self._drop_far_sockets()
        if _socket_fits(near, self.port) and reaches(self._user, self.folder):
            near.mkdir(mode=0o700, exist_ok=True)
            near.chmod(0o700)
            self._user.own(near)
            for stale in near.glob(".s.PGSQL.*"):  # of a dead server: live ones have been ended
                stale.unlink()
            return near
        if near.is_dir():
            shutil.rmtree(near)
        for temporary in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
            if not _socket_fits(temporary / "strongroom-run-________", self.port):
                continue
            if not os.access(temporary, os.W_OK) or not reaches(self._user, temporary):
                continue
            far = Path(tempfile.mkdtemp(prefix="strongroom-run-", dir=temporary))
            self._user.own(far)
            near.symlink_to(far)  # so that whoever comes after a crash finds it and clears it away
            return far
        raise ServerFailed(
            what="has no folder for its socket: each is too long, or closed to its user",
            then="choose a shorter --data-dir, or set TMPDIR to a short path",
        )

    def _drop_far_sockets(self) -> None:
        near = self.folder / "run"
        if not near.is_symlink():
            return
        far = near.readlink()
        if far.name.startswith("strongroom-run-") and far.is_dir():
            for file in far.glob(".s.PGSQL.*"):
                file.unlink()
            with contextlib.suppress(OSError):  # somebody put a file there: it is theirs
                far.rmdir()
        near.unlink()

    def _configure(self) -> None:
        text = settings_text(
            cluster=self._cluster,
            socket_dir=self.socket_dir,
            port=self.port,
            listens=self._listens,
            more=self._recovery,
        )
        write(self._cluster / "strongroom.conf", text, self._user)
        hba = self._cluster / "pg_hba.conf"
        if BACKUP not in (allowed := hba.read_text()):
            write(hba, allowed + HBA_REPLICATION, self._user)

    def _launch(self) -> None:
        log_file = self.folder / "postgres.log"
        if log_file.exists() and log_file.stat().st_size > LOG_LIMIT_BYTES:
            log_file.rename(self.folder / "postgres.log.1")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        log = os.open(log_file, flags, 0o600)
        try:
            self._log_start = os.fstat(log).st_size
            # In its cluster from its first instant: `serving` sees it even if we are killed now.
            command: list[str | Path] = [self._programs / "postgres", "-D", self._cluster]
            self._child = self._user.popen(command, self._cluster, log)
        finally:
            os.close(log)
        deadline = time.monotonic() + self._ready_s
        while not self._accepts():
            code = self._child.poll()
            if code is not None:
                tail = self._tail()
                if self._listens and "Address already in use" in tail:
                    raise PortTaken(port=self.port)
                raise self._failure(f"ended with code {code} while it started")
            if time.monotonic() > deadline:
                raise self._failure(f"did not accept connections within {self._ready_s:g} s")
            time.sleep(POLL_S)

    def _accepts(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # Line 8 is the state (LOCK_FILE_LINE_PM_STATUS in PostgreSQL's miscadmin.h), line 1 whose
        # it is.
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _complete(self) -> None:
        """Roles, database, extensions. The file `ready` names the script: a newer one is run."""
        digest = hashlib.sha256(SETUP.encode()).hexdigest() + "\n"
        ready = self.folder / "ready"
        if ready.exists() and ready.read_text() == digest:
            return
        passwords = self._credentials()
        if missing := [role for role in ROLES if role not in passwords]:  # made before they were
            passwords |= {role: secrets.token_urlsafe(32) for role in missing}
            write(self.folder / "credentials.json", json.dumps(passwords, indent=2) + "\n")
        variables = "".join(f"\\set {role} '{passwords[role]}'\n" for role in ROLES)
        command: list[str | Path] = [self._programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", self.socket_dir, "-p", str(self.port), "-U", ADMIN, "-d", "postgres"]
        done = subprocess.run(
            command,
            input=variables + SETUP,  # never as arguments: those are for everybody to read
            capture_output=True,
            text=True,
            errors="replace",
            env=environment(PGPASSWORD=passwords[ADMIN]),
            timeout=INIT_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise self._failure("could not create its roles and database", done.stderr)
        write(ready, digest)

    def _credentials(self) -> dict[str, str]:
        file = self.folder / "credentials.json"
        try:
            passwords: dict[str, str] = json.loads(file.read_text())
        except (OSError, ValueError) as unreadable:
            raise ServerFailed(
                what=f"cannot be entered: {file} with its passwords cannot be read ({unreadable})",
                then="put that file back from a backup, or run as the user who owns it",
            ) from unreadable
        return passwords

    def _failure(self, what: str, more: str = "") -> ServerFailed:
        return ServerFailed(
            what=what,
            then=f"see the reason below; all of it is in {self.folder / 'postgres.log'}",
            tail=more + self._tail(),
        )

    def _tail(self) -> str:
        with (self.folder / "postgres.log").open("rb") as log:
            # Only of this start: an older reason would mislead.
            log.seek(max(self._log_start, os.fstat(log.fileno()).st_size - 64 * 1024))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-TAIL_LINES:])


def _take(lock: int) -> bool:
    # A supervisor killed while it made a child leaves the lock with that child until it has become
    # another program, which closes it: milliseconds, more on a busy machine.
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        else:
            return True


def _socket_fits(folder: Path, port: int) -> bool:
    # Clients read a host with a comma as several hosts.
    path = folder / f".s.PGSQL.{port}"
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES and "," not in str(path)
