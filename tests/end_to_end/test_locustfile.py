"""The locustfile that ships: Locust itself, without a head, against a real house."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import strongroom
from end_to_end._house import House, eventually, new_house
from serving import Clones, Server

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None,
    reason="locust is not installed (pip install 'strongroom[locust]')",
)

LOCUSTFILE = Path(strongroom.__file__).parent / "lab" / "locust" / "locustfile.py"

TASKS = {
    "GET /api/wallets/me",
    "POST /api/bets",
    "POST /api/bets/{id}/cancel",
    "POST /api/bookings/complete/{id}",
    "POST /api/bookings/reserve",
    "POST /api/orders",
    "POST /api/transfers",
    "POST /api/wallets/{id}/deposits",
}

STAGE = "POST (setting the stage)"

OFTEN = {"GET /api/wallets/me", "POST /api/bets", "POST /api/wallets/{id}/deposits"}

EACH_ONCE = """
import sys
sys.path.insert(0, {folder!r})
import locustfile
from locustfile import Person

Person.abstract = True


class OneOfEach(Person):
    abstract = False
    done = False

    def each(self):
        if not self.done:
            self.done = True
            for play in dict.fromkeys(Person.tasks):
                play(self)

    tasks = [each]
"""
"""How often chance takes each task in a few seconds depends on the machine: here it is once."""

USERS, SECONDS, PATIENCE_S = 4, 3, 90


def run(
    house: House, operator: str, users: Path | None, pace_s: float, file: Path = LOCUSTFILE
) -> list[dict[str, object]]:
    """What Locust counted, by request; whoever is at a task when the time is up ends it."""
    command = [sys.executable, "-m", "locust", "-f", str(file), "--headless", "--json"]
    command += ["--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", f"{SECONDS}s"]
    command += ["--stop-timeout", str(PATIENCE_S // 2)]
    more = {"OPERATOR_TOKEN": operator, "PACE_S": str(pace_s)}
    if users is not None:
        more["USERS_FILE"] = str(users)
    ran = subprocess.run(
        [*command, "--host", f"http://127.0.0.1:{house.apis[0].port}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | more,
        cwd=house.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    found: list[dict[str, object]] = json.loads(ran.stdout)
    return found


def names_of(counted: list[dict[str, object]]) -> set[str]:
    return {f"{one['method']} {one['name']}" for one in counted}


def test_locust_plays_every_task_without_a_failure(
    server: Server, clones: Clones, tmp_path: Path
) -> None:
    with new_house(server, clones, tmp_path / "house") as house:
        house.start_api()
        house.start_worker()
        (operator,) = house.people(1, "operator")
        people = tmp_path / "users.jsonl"
        lines = [{"userId": str(one.id), "accessToken": one.token} for one in house.people(USERS)]
        people.write_text("\n".join(map(json.dumps, lines)) + "\n")
        counted = run(house, operator.token, people, 0.05)
        assert OFTEN < names_of(counted) <= TASKS | {STAGE}
        once = tmp_path / "once.py"
        once.write_text(EACH_ONCE.format(folder=str(LOCUSTFILE.parent)))
        each = run(house, operator.token, people, 0.05, once)
        assert names_of(each) == TASKS | {STAGE}
        assert [one for one in [*counted, *each] if one["num_failures"]] == []
        made = [
            int(str(one["num_requests"])) for one in [*counted, *each] if one["name"] == "/api/bets"
        ]
        ((bets,),) = house.rows("SELECT count(*) FROM betting.bets")
        assert bets == sum(made), "each answered bet is there once"
        eventually(house.drained, "the queues are empty", PATIENCE_S)
        house.assert_sound()


def test_nothing_of_the_program_imports_locust() -> None:
    """It would patch the whole process: sockets, threads, subprocesses."""
    code = "import sys; from strongroom.doors.cli import reference; reference.every_module()\n"
    code += "print([name for name in ('gevent', 'locust') if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"


def test_locust_says_why_it_cannot_begin(server: Server, clones: Clones, tmp_path: Path) -> None:
    with new_house(server, clones, tmp_path / "house") as house:
        house.start_api()
        with pytest.raises(AssertionError, match="Is OPERATOR_TOKEN right"):
            run(house, "nobody's", None, 1)
