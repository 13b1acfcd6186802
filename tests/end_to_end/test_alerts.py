"""The alerts: rules that Prometheus takes, each brought about and nearly, each with a name of ours.

`promtool` and `amtool` come with Debian's packages `prometheus` and `prometheus-alertmanager`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from end_to_end._cli import cli, scratch
from end_to_end._client import Client
from end_to_end._house import eventually
from end_to_end._prometheus import MONITORING, Prometheus, watching
from end_to_end.test_up import Up, running
from strongroom.core.db.places import place_of
from strongroom.doors.metrics import METRICS
from strongroom.doors.metrics.targets import NOTE
from strongroom.settings import Settings

ALERTS = (MONITORING / "alerts.yml").read_text("utf8")

OF_PROMETHEUS = {"strongroom"}
"""A word that looks like a metric of ours and is none: the name of the job."""

TOOL_S = 300.0

SEEN_S = 120.0
"""A Prometheus that looks every second sees a change within a few, also on a busy machine."""


def tool(name: str, *args: str) -> str:
    """What a tool says when all is well; its words when it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")
    ran = subprocess.run(
        [found, *args], cwd=MONITORING, capture_output=True, text=True, timeout=TOOL_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", ALERTS)


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    tool("promtool", "check", "rules", "alerts.yml")
    tool("promtool", "check", "config", "prometheus.yml")


def test_every_alert_is_raised_by_what_it_is_for_and_by_nothing_less() -> None:
    tool("promtool", "test", "rules", "alerts_test.yml")


def test_alertmanager_takes_its_configuration() -> None:
    tool("amtool", "check-config", "alertmanager.yml")


def test_every_alert_is_tested_both_ways() -> None:
    tested = (MONITORING / "alerts_test.yml").read_text("utf8")
    named = re.findall(r"- name: (\w+) (is raised|is not raised)\n", tested)
    both = {(alert, how) for alert in alerts() for how in ("is raised", "is not raised")}
    assert set(named) == both and len(alerts()) == len(set(alerts())) > 20


def test_every_alert_says_how_grave_it_is_and_what_to_read() -> None:
    for block in re.split(r"\n      - alert: ", ALERTS)[1:]:
        name = block.partition("\n")[0]
        assert re.search(r"labels: \{severity: (critical|warning)\}", block), name
        assert f"runbook_url: docs/operating/alerts/{kebab(name)}.md" in block, name
        for word in ("summary: ", "description: "):
            assert word in block, name


def test_rules_ask_only_for_metrics_that_there_are() -> None:
    asked = set(re.findall(r"\bstrongroom_\w+", ALERTS)) - OF_PROMETHEUS
    parts = {f"{name}{end}" for name in METRICS for end in ("_bucket", "_count", "_sum")}
    assert asked <= METRICS.keys() | parts
    recorded = set(re.findall(r"record: (\S+)", ALERTS))
    assert set(re.findall(r"strongroom:\w+:\w+", ALERTS)) == recorded


# Against what really runs ------------------------------------------------------------------------


class Watched(NamedTuple):
    """A running instance, an operator and a user of it, and the Prometheus that watches it."""

    up: Up
    operator: str
    user: str
    prometheus: Prometheus

    def fires(self, alert: str) -> None:
        eventually(lambda: self.prometheus.fires(alert), f"{alert} fires", SEEN_S)

    def ends(self, alert: str) -> None:
        over = f"{alert} is over"
        eventually(lambda: alert not in self.prometheus.alerts(), over, SEEN_S)

    def found(self) -> list[str]:
        """The invariants that do not hold, by a new reconciliation."""
        findings = self.post("/api/ops/reconciliations", {})["findings"]
        return [str(one["invariant"]) for one in findings]

    def owner(self) -> psycopg.Connection[Any]:
        """The database as its owner, who goes by no rule of ours."""
        return psycopg.connect(self.url(), autocommit=True)

    def url(self) -> str:
        return place_of(Settings(data_dir=self.up.folder)).owner

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """As the operator."""
        with Client(self.up.port, timeout=SEEN_S) as client:
            answer = client.post(path, body, self.operator)
            assert answer.status == 200, answer.body
            return answer.json


@contextlib.contextmanager
def watched(*, hasty: bool = False) -> Iterator[Watched]:
    with scratch() as folder:
        # A failed message is given up at once, and one client may ask for many.
        lines = ['rate_limits = "off"', "max_attempts = 1"]
        if not hasty:  # there an archive that begins would be one that stands
            lines.append(f'backup_dir = "{folder / "backups"}"')
        (folder / "strongroom.toml").write_text("\n".join(lines))
        with running(folder / "data", "--port", "0") as up:
            up.ready()
            note = up.folder / NOTE
            with watching(note, folder / "prometheus", hasty=hasty) as prometheus:
                operator, user = made(up, "--role", "operator"), made(up, "--fund", "1000")
                # What has risen has done so for who saw it before.
                both = "strongroom_refusals_total and on () strongroom_db_deadlocks_total"
                eventually(lambda: prometheus.has(both), "Prometheus has looked", SEEN_S)
                yield Watched(up, operator, user, prometheus)


def made(up: Up, *options: str) -> str:
    """A new user's token."""
    ran = cli("users", "create", "--json", *options, "--data-dir", str(up.folder))
    return str(ran.json["accessToken"])


# What is asked -----------------------------------------------------------------------------------

NOT_MET = {"overview: Firing now, {{alertname}}": "nothing is wrong"}
"""What has no data in a house in which all is well, with the reason."""

SELECTOR = re.compile(r"\b(?:strongroom[_:][\w:]+|up(?={))(?:{[^}]*})?")


def panels() -> dict[str, str]:
    """What the dashboards' panels ask, with windows that a test can wait for."""
    return {
        f"{file.stem}: {panel['title']}, {target['legendFormat']}": target["expr"].replace(
            "$__rate_interval", "1m"
        )
        for file in sorted(MONITORING.glob("dashboards/*.json"))
        for panel in json.loads(file.read_text("utf8"))["panels"]
        for target in panel.get("targets", ())
    }


@pytest.fixture(scope="module")
def used() -> Iterator[Watched]:
    """A house in which a little of everything was done, and nothing is wrong."""
    with watched() as found:
        folder = str(found.up.folder)
        load = ("load", "mixed", "--users", "10", "--seconds", "3", "--warmup", "0")
        assert cli(*load, "--data-dir", folder).says("invariants hold")
        assert found.found() == []
        yield found


def ask_reports(house: Watched) -> None:
    """What a load has none of: reports, and a path that there is not."""
    with Client(house.up.port) as client:
        for path, status in (("/api/reports/revenue?by=month", 200), ("/api/no-such-path", 404)):
            assert client.get(path, house.operator).status == status


def test_a_house_in_which_all_is_well_raises_nothing(used: Watched) -> None:
    prometheus = used.prometheus

    def evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in prometheus.rules())

    eventually(evaluated, "every expression was evaluated", SEEN_S)
    assert {rule["name"] for rule in prometheus.rules()} >= set(alerts())
    eventually(lambda: len(prometheus.value('up{job="strongroom"} == 1')) == 2, "both", SEEN_S)
    # The load itself may have been slow: how fast is for other tests to say.
    slow = {"LatencyHigh", "LatencyTail", "EventLoopStuck"}
    quiet = "nothing is raised"
    eventually(lambda: prometheus.alerts().keys() <= slow, quiet, SEEN_S)


def test_what_rules_and_panels_ask_has_data_where_something_is_done(used: Watched) -> None:
    asked = panels()
    for rule in used.prometheus.rules():
        used.prometheus.value(rule["query"])  # an alert's own comparison may come to nothing
        asked |= {one: one for one in SELECTOR.findall(rule["query"])}
    assert len(asked) > 100 and NOT_MET.keys() <= asked.keys()
    missing = set(asked)

    def found() -> bool:
        ask_reports(used)  # again and again: a rate is one of what came while somebody looked
        missing.difference_update({name for name in missing if used.prometheus.has(asked[name])})
        return missing <= NOT_MET.keys()

    with contextlib.suppress(AssertionError):
        eventually(found, "every question has an answer", SEEN_S)
    assert missing - NOT_MET.keys() == set()


# One by one --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hurt() -> Iterator[Watched]:
    """A house to which everything happens, one after the other; its Prometheus waits a second
    where the rules wait for minutes."""
    with watched(hasty=True) as found:
        yield found


@contextlib.contextmanager
def stopped(*processes: int) -> Iterator[None]:
    """They live and do nothing."""
    try:
        for one in processes:
            os.kill(one, signal.SIGSTOP)
        yield
    finally:
        for one in processes:
            os.kill(one, signal.SIGCONT)


def read_wallets(house: Watched, times: int) -> None:
    """At once, each on a connection of its own."""

    def read(_: int) -> None:
        with contextlib.suppress(OSError), Client(house.up.port, timeout=20) as client:
            client.get("/api/wallets/me", house.user)

    with ThreadPoolExecutor(times) as crowd:
        list(crowd.map(read, range(times)))


@pytest.mark.alone
def test_a_queue_of_ten_thousand_messages_is_long_until_they_are_gone(hurt: Watched) -> None:
    with hurt.owner() as db:
        many = "array_fill('{}'::jsonb, ARRAY[10001])"
        db.execute(f"SELECT pgmq.send_batch('betting_match', {many}, 3600)")
        hurt.fires("QueueLong")
        db.execute("SELECT pgmq.purge_queue('betting_match')")
    hurt.ends("QueueLong")


@pytest.mark.alone
def test_who_waits_for_locks_is_counted_until_they_are_had(hurt: Watched) -> None:
    with contextlib.ExitStack() as all_of_them:
        for _ in range(12):
            one = all_of_them.enter_context(contextlib.closing(hurt.owner()))
            one.pgconn.send_query(b"SELECT pg_advisory_lock(1)")
        hurt.fires("LockWaits")
    hurt.ends("LockWaits")


@pytest.mark.alone
def test_deadlocks_are_told_though_the_server_breaks_them_up(hurt: Watched) -> None:
    lock = "SELECT pg_advisory_lock({})"
    with contextlib.ExitStack() as all_of_them:
        for pair in range(10, 24, 2):
            sessions = [all_of_them.enter_context(contextlib.closing(hurt.owner())) for _ in "ab"]
            for session, key in zip(sessions, (pair, pair + 1), strict=True):
                session.execute(lock.format(key))
            for session, key in zip(sessions, (pair + 1, pair), strict=True):
                session.pgconn.send_query(lock.format(key).encode())
        hurt.fires("Deadlocks")


MANY = 87
"""Of a server that allows a hundred, three of them to superusers alone: nine of ten."""

CLIENTS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


@pytest.mark.alone
def test_connections_that_do_nothing_are_used_all_the_same(hurt: Watched) -> None:
    with contextlib.ExitStack() as all_of_them:
        one = all_of_them.enter_context(contextlib.closing(hurt.owner()))
        ((there,),) = one.execute(CLIENTS).fetchall()
        for _ in range(there, MANY):
            all_of_them.enter_context(contextlib.closing(hurt.owner()))
        hurt.fires("ConnectionsNearlyUsed")
    hurt.ends("ConnectionsNearlyUsed")


@pytest.mark.alone
def test_a_bug_is_told_the_first_time_that_it_is_met(hurt: Watched) -> None:
    with hurt.owner() as db, Client(hurt.up.port) as client:
        db.execute("ALTER TABLE ledger.accounts RENAME COLUMN balance TO lost")
        try:
            assert client.get("/api/wallets/me", hurt.user).status == 500
        finally:
            db.execute("ALTER TABLE ledger.accounts RENAME COLUMN lost TO balance")
    hurt.fires("BugsAnswered")


@pytest.mark.alone
def test_a_queue_that_an_operator_paused_is_remembered(hurt: Watched) -> None:
    hurt.post("/api/ops/queues/ticketing_mail/pause", {"reason": "a drill"})
    hurt.fires("QueuePaused")
    hurt.post("/api/ops/queues/ticketing_mail/resume", {"reason": "the drill is over"})
    hurt.ends("QueuePaused")


@pytest.mark.alone
def test_a_worker_that_lives_and_does_nothing_is_missed(hurt: Watched) -> None:
    with stopped(hurt.up.children()["worker-1"]):
        hurt.fires("WorkerAbsent")
        hurt.fires("ProcessDown")
    hurt.ends("WorkerAbsent")


@pytest.mark.alone
def test_an_api_that_lives_and_does_nothing_is_missed(hurt: Watched) -> None:
    with stopped(hurt.up.children()["api-1"]):
        hurt.fires("ApiAbsent")
    hurt.ends("ApiAbsent")


@pytest.mark.alone
def test_a_process_that_may_open_few_more_files_is_named(hurt: Watched) -> None:
    api = hurt.up.children()["api-1"]
    before = resource.prlimit(api, resource.RLIMIT_NOFILE)
    files = len(list(Path(f"/proc/{api}/fd").iterdir()))
    resource.prlimit(api, resource.RLIMIT_NOFILE, (files * 10 // 9, before[1]))
    try:
        hurt.fires("FilesNearlyUsed")
    finally:
        resource.prlimit(api, resource.RLIMIT_NOFILE, before)
    hurt.ends("FilesNearlyUsed")


@pytest.mark.alone
def test_a_pause_of_payouts_is_told_until_an_operator_ends_it(hurt: Watched) -> None:
    hurt.post("/api/ops/payouts/pause", {"reason": "a drill"})
    hurt.fires("PayoutsPaused")
    assert hurt.found() == []
    hurt.post("/api/ops/payouts/resume", {"reason": "the drill is over"})
    hurt.ends("PayoutsPaused")


@pytest.mark.alone
def test_a_table_that_somebody_locks_makes_requests_slow(hurt: Watched) -> None:
    with hurt.owner() as db, ThreadPoolExecutor(1) as beside:
        with db.transaction():
            db.execute("LOCK TABLE ledger.accounts")
            reading = beside.submit(read_wallets, hurt, 8)
            db.execute("SELECT pg_sleep(2.5)")
        reading.result()
    hurt.fires("LatencyHigh")
    hurt.fires("LatencyTail")


SLOW_COMMIT = """
CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON ledger.transfers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.slow();
"""

COMMITTING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"


def withdraw(house: Watched) -> str:
    """The problem that the answer tells of."""
    with Client(house.up.port, timeout=SEEN_S) as client:
        return str(client.post("/api/wallets/me/withdrawals", {"amount": 1}, house.user).problem)


@pytest.mark.alone
def test_a_commit_of_which_nobody_knows_the_end_is_told_the_first_time(hurt: Watched) -> None:
    with contextlib.closing(hurt.owner()) as db, ThreadPoolExecutor(1) as beside:
        db.execute(SLOW_COMMIT)
        asked = beside.submit(withdraw, hurt)
        eventually(lambda: db.execute(COMMITTING).fetchall() == [(1,)], "it commits", SEEN_S)
        with stopped(hurt.up.process.pid):
            os.kill(hurt.up.children()["postgres"], signal.SIGKILL)
            assert asked.result() == "outcome_unknown"
            hurt.fires("OutcomeUnknown")
            hurt.fires("ConnectionsLost")
    eventually(lambda: hurt.up.status("/readyz") == 200, "the database is back", SEEN_S)
    with hurt.owner() as db:
        db.execute("DROP FUNCTION public.slow() CASCADE")


@pytest.mark.alone
def test_a_database_that_dies_while_nobody_looks_after_it_is_down(hurt: Watched) -> None:
    with stopped(hurt.up.process.pid):
        os.kill(hurt.up.children()["postgres"], signal.SIGKILL)
        read_wallets(hurt, 12)
        hurt.fires("DatabaseDown")
    hurt.fires("SloBurnsFast")
    hurt.ends("DatabaseDown")


@pytest.mark.alone
def test_a_message_that_nobody_can_do_is_a_dead_letter(hurt: Watched) -> None:
    """The last but one: a message that nobody wrote leaves the books unclean."""
    with hurt.owner() as db:
        db.execute("SELECT pgmq.send('betting_match', '{\"type\": \"Nothing\"}')")
        hurt.fires("DeadLetters")
        (dead,) = db.execute("SELECT count(*) FROM events.dead_letters").fetchall()
        assert dead == (1,)


PLANTED = """
ALTER TABLE ledger.entries DISABLE TRIGGER append_only;
UPDATE ledger.entries SET amount = amount + 1 WHERE (account_id, seq) =
    (SELECT account_id, seq FROM ledger.entries ORDER BY amount DESC LIMIT 1);
ALTER TABLE ledger.entries ENABLE ALWAYS TRIGGER append_only;
"""


@pytest.mark.alone
def test_a_changed_amount_is_told_once_somebody_has_looked(hurt: Watched) -> None:
    """The last one: an amount is not changed back."""
    with hurt.owner() as db:
        db.execute(PLANTED)
    assert not hurt.prometheus.fires("ReconciliationMismatch")
    assert "transfers_sum_to_zero" in hurt.found()
    hurt.fires("ReconciliationMismatch")
    hurt.fires("PayoutsPaused")
