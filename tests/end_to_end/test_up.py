"""`up`: the instance's processes are killed one by one, and the whole of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from end_to_end._cli import BUG, STRONGROOM, cli, environment, scratch
from end_to_end._client import Client
from end_to_end._house import eventually
from strongroom.doors.cli.instance import answers
from strongroom.doors.cli.processes import Kept, Watch
from strongroom.doors.cli.reach import reached
from strongroom.lab.arena import free_port
from strongroom.settings import Settings

FINE, REFUSED = 0, 1

READY_S = 60.0
END_S = 40.0

ORDINARY = 2  # "bin": a user with a name that every system has, and nobody's login


class Up:
    """One `strongroom up`, from its line of JSON to its end."""

    def __init__(self, folder: Path, *args: str, prefix: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.said = folder.with_name(f"{folder.name}.said").open("w+b")
        self.process = subprocess.Popen(
            [*prefix, *STRONGROOM, "up", "--json", "--data-dir", str(folder), *args],
            env=environment(),
            cwd=folder.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.said,
        )
        self.told: dict[str, Any] = {}

    def ready(self) -> Up:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.words()
        self.told = json.loads(line)
        return self

    @property
    def port(self) -> int:
        return int(self.told["url"].rpartition(":")[2])

    def words(self) -> str:
        self.said.seek(0)
        return self.said.read().decode()

    def status(self, path: str = "/readyz") -> int | None:
        try:
            with Client(self.port, timeout=5) as client:
                return client.get(path).status
        except (OSError, http.client.HTTPException):  # also half an answer: it died meanwhile
            return None

    def files(self) -> list[str]:
        """What it has open."""
        found = []
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{self.process.pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found.append(str(file.readlink()))
        return found

    def children(self) -> dict[str, int]:
        """Process ids by name: api-1, worker-1, postgres."""
        found = {}
        for pid, words in born_of(self.process.pid):
            if "--name" in words:
                found[words[words.index("--name") + 1]] = pid
            elif words and words[0].endswith("postgres"):
                found["postgres"] = pid
        return found

    def token(self, fund: int = 0) -> str:
        made = cli("users", "create", "--json", "--fund", str(fund), "--data-dir", str(self.folder))
        return str(made.json["accessToken"])

    def balance(self, token: str) -> int:
        with Client(self.port) as client:
            return int(client.get("/api/wallets/me", token=token).json["balance"])

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(END_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.end()
        if self.process.stdout:
            self.process.stdout.close()
        self.said.close()


def arguments(pid: int) -> list[str]:
    """Of a living process; none of a dead one, whether or not somebody has asked how it ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def born_of(pid: int) -> list[tuple[int, list[str]]]:
    """The children of a process, each with its arguments; none of a dead one."""
    born: list[str] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                born += (task / "children").read_text().split()
    return [(int(one), arguments(int(one))) for one in born]


@contextlib.contextmanager
def running(folder: Path, *args: str, prefix: tuple[str, ...] = ()) -> Iterator[Up]:
    up = Up(folder, *args, prefix=prefix)
    try:
        yield up
    finally:
        up.close()


@pytest.fixture
def room() -> Iterator[Path]:
    with scratch() as folder:
        yield folder


@pytest.fixture(scope="module")
def instance() -> Iterator[Up]:
    """One instance for the tests that only kill its parts."""
    with scratch() as folder, running(folder / "data", "--port", "0") as up:
        yield up.ready()
        assert up.end() == FINE, up.words()
        assert not any(map(arguments, up.children().values()))
        assert not (up.folder / "instance.json").exists()


def test_a_ready_instance_is_found_by_other_commands(instance: Up) -> None:
    assert instance.status() == 200
    token = instance.token(fund=1_234)
    assert instance.balance(token) == 1_234
    assert cli("reconcile", "--data-dir", str(instance.folder)).code == FINE
    assert cli("doctor", "--data-dir", str(instance.folder)).code == FINE


@pytest.mark.parametrize("name", ["worker-1", "api-1", "postgres"])
def test_what_is_killed_comes_back(instance: Up, name: str) -> None:
    token = instance.token(fund=99)
    before = instance.children()
    os.kill(before[name], signal.SIGKILL)

    def back() -> bool:
        now = instance.children()
        return now.get(name, before[name]) != before[name] and instance.status() == 200

    eventually(back, f"{name} is back", READY_S)
    assert instance.balance(token) == 99
    others = before.keys() - {name}
    after = instance.children()
    assert {one: after[one] for one in others} == {one: before[one] for one in others}
    assert BUG not in instance.words()


def test_children_log_json_lines_into_the_data_folder(instance: Up) -> None:
    logs = instance.folder / "logs"
    assert {"api-1.log", "worker-1.log"} <= {file.name for file in logs.iterdir()}
    for file in logs.iterdir():
        for line in file.read_text().splitlines():
            assert {"at", "level", "event", "process"} <= json.loads(line).keys()


def test_a_second_instance_on_the_same_folder_is_refused(instance: Up) -> None:
    found = cli("up", "--port", "0", "--data-dir", str(instance.folder))
    assert found.code == REFUSED
    assert found.says(instance.told["url"], "choose another --data-dir")


def test_two_instances_run_side_by_side(instance: Up, room: Path) -> None:
    with running(room / "other", "--port", "0", "--workers", "0") as other:
        other.ready()
        assert other.port != instance.port
        token = other.token(fund=5)
        assert other.balance(token) == 5
        with Client(instance.port) as client:
            assert client.get("/api/wallets/me", token=token).status == 401
        assert set(other.children()) == {"api-1", "postgres"}
        assert other.end(signal.SIGINT) == FINE


def test_a_taken_port_is_named_and_nothing_is_started(room: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        found = cli("up", "--port", str(port), "--data-dir", str(room / "new" / "data"))
    assert found.code == REFUSED
    assert found.says(f"Port {port}", "--port 0")
    assert list(room.iterdir()) == []


def test_a_killed_up_leaves_no_process_behind_and_the_next_one_goes_on(room: Path) -> None:
    port = str(free_port())  # one that is still free when the next one wants it
    with running(room / "data", "--port", port, "--api-processes", "2") as up:
        token = up.ready().token(fund=77)
        children = up.children()
        assert set(children) == {"api-1", "api-2", "worker-1", "postgres"}
        up.end(signal.SIGKILL)
        ours = [pid for name, pid in children.items() if name != "postgres"]
        eventually(lambda: not any(map(arguments, ours)), "the children ended", END_S)
        with running(room / "data", "--port", port) as following:
            following.ready()
            assert following.balance(token) == 77
            assert not arguments(children["postgres"]), "the orphaned database was replaced"
            assert cli("reconcile", "--data-dir", str(room / "data")).code == FINE
            assert following.end() == FINE


def test_a_command_waits_for_an_instance_that_is_starting_and_then_uses_it(room: Path) -> None:
    data = room / "data"
    with running(data, "--port", "0") as up:
        eventually((data / "postgres").exists, "the folder is claimed", READY_S)
        up.process.send_signal(signal.SIGSTOP)  # a start that takes long
        create = ("users", "create", "--fund", "7", "--json", "--data-dir", str(data))
        with (
            (room / "said").open("w+b") as said,
            subprocess.Popen(
                [*STRONGROOM, *create], env=environment(), stdout=subprocess.PIPE, stderr=said
            ) as creating,
        ):
            words = f"An instance is starting on {data}".encode()
            eventually(lambda: words in (room / "said").read_bytes(), "it says so", READY_S)
            up.process.send_signal(signal.SIGCONT)
            made, _ = creating.communicate(timeout=READY_S)
        assert creating.returncode == FINE, (room / "said").read_text()
        assert up.ready().balance(json.loads(made)["accessToken"]) == 7
        assert up.end() == FINE


def test_an_instance_waits_for_a_command_that_has_started_the_database(room: Path) -> None:
    data = room / "data"

    lock = str(data / "postgres" / "supervisor.lock")

    async def begin(stack: contextlib.ExitStack) -> Up:
        async with reached(Settings(data_dir=data, database_url=None), new=True):
            up = stack.enter_context(running(data, "--port", "0"))
            await asyncio.to_thread(eventually, lambda: lock in up.files(), "it tries", READY_S)
            await asyncio.to_thread(eventually, lambda: lock not in up.files(), "in vain", READY_S)
            return up

    with contextlib.ExitStack() as stack:
        up = asyncio.run(begin(stack))
        assert up.ready().status() == 200
        assert up.end() == FINE


def test_the_end_may_be_asked_for_during_the_start(room: Path) -> None:
    with running(room / "data", "--port", "0") as up:
        cluster = room / "data" / "postgres" / "cluster"
        eventually(lambda: (cluster / "postmaster.pid").exists(), "the database starts", READY_S)
        assert up.end() == FINE, up.words()
        assert BUG not in up.words()
        assert not (cluster / "postmaster.pid").exists()


def test_a_command_starts_the_database_for_itself_and_stops_it_again(room: Path) -> None:
    folder = str(room / "data")
    first = cli("migrate", "--json", "--data-dir", folder)
    assert (first.code, first.json["before"]) == (FINE, None)
    again = cli("migrate", "--json", "--data-dir", folder)
    assert again.json == {"before": first.json["after"], "after": first.json["after"]}
    assert cli("reconcile", "--data-dir", folder).code == FINE
    assert not (room / "data" / "postgres" / "cluster" / "postmaster.pid").exists()
    assert not (room / "data" / "instance.json").exists()


TALKS = """
import http.server, socket, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
server = http.server.HTTPServer(("", 0), Page, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""


def test_a_process_that_lives_and_says_nothing_is_ended_and_started_again(room: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.set_inheritable(True)
    said: list[str] = []
    look = functools.partial(answers, *listening.getsockname(), 1.0)
    child = Kept(
        "talker",
        [sys.executable, "-c", TALKS, str(listening.fileno())],
        log=room / "talker.log",
        environment=os.environ,
        pass_fds=(listening.fileno(),),
        say=said.append,
        watch=Watch(look, every_s=0.1, misses=5),
    )

    async def hang() -> None:
        keeping = asyncio.create_task(child.keep())
        try:
            await asyncio.to_thread(eventually, lambda: asyncio.run(look()), "it talks", READY_S)
            before = child.pid
            assert before is not None
            os.kill(before, signal.SIGSTOP)
            await asyncio.to_thread(
                eventually, lambda: child.pid not in (None, before), "another one runs", READY_S
            )
            await asyncio.to_thread(eventually, lambda: asyncio.run(look()), "it talks", READY_S)
            assert not arguments(before)
        finally:
            child.stop()
            await keeping

    asyncio.run(hang())
    listening.close()
    assert said[0].startswith("talker hangs")
    assert said[1].startswith("talker ended (SIGKILL)")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_runs_all_of_it(room: Path) -> None:
    prefix = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups")
    # In a second process: the first may still be what root was allowed to start.
    look = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'strongroom', '--help'])"
    look = f"{look}.check_returncode()"
    tried = [*prefix, STRONGROOM[0], "-c", look]
    if (
        not shutil.which("setpriv")
        or subprocess.run(tried, env=environment(), capture_output=True).returncode
    ):
        pytest.skip("an ordinary user cannot run this Python")
    home = room / "home"
    home.mkdir()
    os.chown(home, ORDINARY, ORDINARY)
    with running(home / "data", "--port", "0", prefix=prefix) as up:
        up.ready()
        made = cli("users", "create", "--json", "--data-dir", str(up.folder), prefix=prefix)
        assert up.balance(made.json["accessToken"]) == 0
        assert (home / "data").stat().st_uid == ORDINARY
        assert (home / "data").stat().st_mode & 0o077 == 0
        assert up.end() == FINE
