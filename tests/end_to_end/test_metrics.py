"""Metrics of a running house: every process tells its own, all names are there, and they count
what was done, neither more nor by whom."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from end_to_end._cli import cli, scratch
from end_to_end._client import Client
from end_to_end._house import House, Process, eventually, new_house
from end_to_end.test_up import READY_S, Up, running
from serving import Clones, Server
from strongroom.core.db.places import place_of
from strongroom.doors.metrics import METRICS
from strongroom.doors.metrics.targets import NOTE
from strongroom.settings import Settings

SCRAPE_S = 10.0

BETS = 7

Labels = frozenset[tuple[str, str]]


class Scrape(NamedTuple):
    """One page: its families by type, and its values by name and labels."""

    types: dict[str, str]
    values: dict[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        """The value; 0 where there is no such series."""
        return self.values.get((name, frozenset(labels.items())), 0.0)

    def all(self, name: str) -> dict[Labels, float]:
        return {labels: value for (one, labels), value in self.values.items() if one == name}


def parsed(text: str) -> Scrape:
    types, values = {}, {}
    for family in text_string_to_metric_families(text):
        types[family.name + ("_total" if family.type == "counter" else "")] = family.type
        for one in family.samples:
            labels = frozenset(one.labels.items())
            assert (one.name, labels) not in values, f"{one.name} is there twice"
            values[one.name, labels] = one.value
    return Scrape(types, values)


def scraped(address: str) -> Scrape:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=SCRAPE_S) as page:
        return parsed(page.read().decode())


def targets(folder: Path) -> dict[str, str]:
    """The addresses in the note, by process."""
    said: list[dict[str, Any]] = json.loads((folder / NOTE).read_text())
    return {one["labels"]["process"]: one["targets"][0] for one in said}


class Played:
    """An instance on which a little of everything was done, counted by hand."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.operator = self._token("--role", "operator")
        self.one, self.other = (self._token("--fund", "100000") for _ in range(2))
        with Client(up.port) as client:
            self.round = {"roundId": self._round(client), "amount": 100}
            for n in range(BETS):
                token, side = ((self.one, "A"), (self.other, "B"))[n % 2]
                assert self.bet(client, token, side=side).status == 202
            key = uuid4().hex
            first, again = [self.bet(client, self.one, side="A", key=key) for _ in range(2)]
            assert again.headers["idempotency-replayed"] == "true" and first.body == again.body
            poor = self.bet(client, self.one, side="A", amount=10**9)
            assert (poor.status, poor.problem) == (400, "insufficient_funds")
            self.close(client)
            ran = client.post("/api/ops/reconciliations", {}, self.operator)
            assert ran.status == 200, ran.body

    def _token(self, *options: str) -> str:
        made = cli("users", "create", "--json", *options, "--data-dir", str(self.up.folder))
        return str(made.json["accessToken"])

    def _round(self, client: Client) -> str:
        made = client.post("/api/rounds", {"name": "one", "kind": "oracle"}, self.operator)
        assert made.status == 201, made.body
        return str(made.json["roundId"])

    def bet(self, client: Client, token: str, key: str | None = None, **more: Any) -> Any:
        return client.post("/api/bets", {**self.round, **more}, token, key)

    def close(self, client: Client) -> None:
        """Closed once; a bet after it, and closing it again, are conflicts."""
        path = f"/api/rounds/{self.round['roundId']}/close"
        assert client.post(path, {}, self.operator).status == 202
        late = self.bet(client, self.one, side="A")
        assert (late.status, late.problem) == (409, "round_closed")
        assert client.post(path, {}, self.operator).problem == "wrong_state"


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with scratch() as folder:
        archives = ("env", f"STRONGROOM_BACKUP_DIR={folder / 'backups'}")
        given = ("--port", "0", "--api-processes", "1")
        with running(folder / "data", *given, prefix=archives) as up:
            yield Played(up.ready())


def of(played: Played, process: str) -> Scrape:
    return scraped(targets(played.up.folder)[process])


def drained(played: Played) -> Scrape:
    """The worker's page once it has nothing left to do; asked for anew after 2 s at most."""

    def done() -> Scrape | None:
        page = of(played, "worker-1")
        lengths = page.all("strongroom_queue_length")
        return page if lengths and not any(lengths.values()) else None

    found: Scrape = eventually(done, "the queues are empty", READY_S)
    return found


def test_every_process_is_noted_and_tells_what_it_is(played: Played) -> None:
    noted = targets(played.up.folder)
    assert set(noted) == {"api-1", "worker-1"}
    children = played.up.children()
    for name, address in noted.items():
        page = scraped(address)
        service = name.partition("-")[0]
        (labels,) = page.all("strongroom_build_info")
        assert {("service", service), ("process", name)} < labels
        assert page.value("strongroom_process_id") == children[name]
        assert page.value("strongroom_process_resident_memory_bytes") > 10**7
        assert 0 <= page.value("strongroom_event_loop_lag_seconds") < SCRAPE_S


def test_every_name_in_the_reference_is_told_and_no_other(played: Played) -> None:
    drained(played)
    api, worker = of(played, "api-1"), of(played, "worker-1")
    of_worker = {name for name, one in METRICS.items() if one.told == "worker"}
    of_api = {name for name, one in METRICS.items() if one.told == "API"}
    assert set(api.types) == METRICS.keys() - of_worker
    assert set(worker.types) == METRICS.keys() - of_api
    for name, kind in (api.types | worker.types).items():
        assert METRICS[name].type == kind, name


def test_every_label_is_the_one_that_is_described(played: Played) -> None:
    for page in (of(played, "api-1"), of(played, "worker-1")):
        for name, labels in page.values:
            for end in ("_bucket", "_count", "_sum"):
                if name.endswith(end) and name.removesuffix(end) in METRICS:
                    name, labels = name.removesuffix(end), {x for x in labels if x[0] != "le"}
                    break
            assert tuple(sorted(label for label, _ in labels)) == tuple(
                sorted(METRICS[name].labels)
            ), name


def test_what_was_done_is_what_was_counted(played: Played) -> None:
    drained(played)
    page = of(played, "api-1")
    for status, count in (("202", BETS + 2), ("400", 1), ("409", 1)):
        asked = {"method": "POST", "path": "/api/bets", "status": status}
        assert page.value("strongroom_requests_total", **asked) == count, status
    for code in ("insufficient_funds", "round_closed", "wrong_state"):
        assert page.value("strongroom_refusals_total", code=code) == 1, code
    assert page.value("strongroom_claim_replays_total") == 1
    bets = page.value("strongroom_group_wait_seconds_count", lane="betting.PlaceBet")
    assert bets == BETS + 4
    assert page.value("strongroom_group_size_sum", lane="betting.PlaceBet") == BETS + 4
    # Only what moves is in the ledger: two entries a bet.
    assert page.value("strongroom_ledger_entries_total") == 2 * (BETS + 1)
    assert not any(page.all("strongroom_requests_failed_total").values())


def test_the_worker_counts_the_messages_that_it_ended(played: Played) -> None:
    page = drained(played)
    processed = page.all("strongroom_jobs_processed_total")
    assert processed[frozenset({("queue", "betting_match")})] >= BETS + 1
    assert not any(page.all("strongroom_jobs_failed_total").values())
    counted = page.all("strongroom_job_duration_seconds_count")
    assert counted == processed


def test_the_database_is_told_of_by_every_process(played: Played) -> None:
    drained(played)
    for page in (of(played, "api-1"), of(played, "worker-1")):
        assert page.value("strongroom_database_up") == 1
        assert page.value("strongroom_db_connections_max") > 10
        assert sum(page.all("strongroom_db_connections").values()) >= 3
        assert page.value("strongroom_payouts_paused") == 0
        assert page.value("strongroom_reconciliation_mismatch") == 0
        assert 0 < page.value("strongroom_reconciliation_age_seconds") < 3600
        assert page.all("strongroom_dead_letters").keys() == (
            page.all("strongroom_queue_length").keys()
        )
        assert page.value("strongroom_db_query_duration_seconds_count", room="transactions") > 1


def test_connections_of_other_logins_are_counted_too(played: Played) -> None:
    owner = place_of(Settings(data_dir=played.up.folder)).owner
    with contextlib.ExitStack() as all_of_them:
        for _ in range(5):
            one = all_of_them.enter_context(psycopg.connect(owner, autocommit=True))
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename <> 'strongroom_audit'"
        ((others,),) = one.execute(f"{query} AND backend_type = 'client backend'").fetchall()
        assert others > 5

        def counted() -> bool:
            found = of(played, "api-1").value("strongroom_db_connections", state="unknown")
            return found >= others - 1  # the pools may have let one go meanwhile

        eventually(counted, "the connections are counted", SCRAPE_S)


def test_nothing_that_callers_make_up_becomes_a_series(played: Played) -> None:
    def stir(times: int) -> None:
        with Client(played.up.port) as client:
            for _ in range(times):
                assert client.get(f"/api/{uuid4()}/{uuid4().hex}").status == 404
                assert client.get(f"/{uuid4()}").status == 404
                assert client.get(f"/api/bets/{uuid4()}", played.one).status == 404
                assert client.send(f"X{uuid4().hex[:8].upper()}", "/api/bets", []).status in METHOD

    stir(1)
    before = of(played, "api-1")
    stir(100)
    after = of(played, "api-1")
    assert after.values.keys() - before.values.keys() == set()
    unknown = {"method": "GET", "path": "(unknown)", "status": "404"}
    grown = [page.value("strongroom_requests_total", **unknown) for page in (before, after)]
    assert grown[1] - grown[0] == 200


METHOD = (400, 405)
"""A method that nobody knows is none to the parser, or not one of the path."""


def test_the_port_of_the_api_tells_the_same(played: Played) -> None:
    with Client(played.up.port) as client:
        page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert parsed(page.body.decode()).types == of(played, "api-1").types


def test_a_process_is_found_where_it_was_until_its_instance_ends() -> None:
    given = ("--port", "0", "--api-processes", "1")
    with scratch() as folder, running(folder / "data", *given) as up:
        up.ready()
        before, pid = targets(up.folder), up.children()["worker-1"]
        os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            with contextlib.suppress(OSError):
                found = scraped(before["worker-1"]).value("strongroom_process_id")
                return found not in (0, pid)
            return False

        eventually(back, "the worker tells its metrics again", READY_S)
        assert targets(up.folder) == before
        assert up.end() == 0, up.words()
        assert not (up.folder / NOTE).exists()


# A database that does not answer ----------------------------------------------------------------


@pytest.fixture
def house(server: Server, clones: Clones, tmp_path: Path) -> Iterator[House]:
    with new_house(server, clones, tmp_path / "house") as house:
        yield house


def test_a_database_that_stalls_is_left_out_and_holds_no_scrape_up(house: House) -> None:
    api = house.start_api()
    with Client(api.port) as client, psycopg.connect(house.database_url) as db:
        assert up_of(client) == 1
        db.execute("LOCK TABLE audit.switches IN ACCESS EXCLUSIVE MODE")
        page = eventually(lambda: stalled(client), "the stall is told")
        assert "strongroom_payouts_paused" not in page.types
        assert page.value("strongroom_db_pool_size", pool="app") == 10
        db.rollback()
        eventually(lambda: up_of(client) == 1, "the database is told to be back", READY_S)
    assert isinstance(api, Process) and not api.bugs()


def up_of(client: Client) -> float:
    return parsed(client.get("/metrics").body.decode()).value("strongroom_database_up")


def stalled(client: Client) -> Scrape | None:
    page = parsed(client.get("/metrics").body.decode())
    return None if page.value("strongroom_database_up") else page
