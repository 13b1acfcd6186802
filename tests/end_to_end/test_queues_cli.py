"""Queues, limits and payouts are turned while real processes work: by whom, how soon, and that
nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from end_to_end._cli import Ended, cli
from end_to_end._client import Client
from end_to_end._house import House, Person, eventually, new_house
from serving import Clones, Server

FINE, REFUSED, USAGE = 0, 1, 2

SOON_S = 1.0
"""What is promised of a switch."""

WATCHED_S = 2.0
"""How long it is watched that nothing moves."""

BETWEEN_BETS_S = 0.01
"""Of one of four: enough to keep the queues busy, little enough to be settled soon after."""

FUNDS = 100_000_000


@pytest.fixture
def busy(server: Server, clones: Clones, tmp_path: Path) -> Iterator[House]:
    """A house with two API processes and two workers."""
    with new_house(server, clones, tmp_path / "house") as house:
        house.start_api()
        house.start_api()
        house.start_worker()
        house.start_worker()
        yield house


def rich_people(house: House, count: int) -> list[Person]:
    people = house.people(count)
    (operator,) = house.people(1, "operator")
    with house.client() as client:
        for one in people:
            paid = {"amount": FUNDS}
            path = f"/api/wallets/{one.id}/deposits"
            assert client.post(path, paid, operator.token).status == 201
    return people


def operator_of(house: House) -> Person:
    (found,) = house.people(1, "operator")
    return found


@contextmanager
def betting(house: House) -> Iterator[None]:
    """Bets on a round that draws at once: matching and settlement never come to rest."""
    operator, people = operator_of(house), rich_people(house, 4)
    with house.client() as client:
        round_id = client.post(
            "/api/rounds", {"name": "busy", "kind": "coinflip"}, operator.token
        ).json["roundId"]
    over = threading.Event()

    def bet(number: int) -> None:
        said = {"roundId": round_id, "side": "AB"[number % 2], "amount": 10}
        with house.client(number % 2) as client:
            while not over.wait(BETWEEN_BETS_S):
                # A crowded machine may refuse; what it refuses is no bug.
                answer = client.post("/api/bets", said, people[number].token)
                assert answer.status in (202, 429, 503), answer.body

    threads = [threading.Thread(target=bet, args=(n,)) for n in range(len(people))]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in threads:
            one.join()


def done_in(house: House, queue: str) -> int:
    ((found,),) = house.rows(
        "SELECT coalesce(sum(messages), 0)::bigint FROM events.consumed WHERE queue = %s", queue
    )
    return int(found)


def waiting_in(house: House, queue: str) -> int:
    ((found,),) = house.rows("SELECT waiting FROM audit.queue_lengths() WHERE queue = %s", queue)
    return int(found)


def payouts(house: House) -> int:
    ((found,),) = house.rows("SELECT count(*) FROM ledger.entries WHERE type = 'PAYOUT'")
    return int(found)


def last_move_s(count: Any, watched_s: float = WATCHED_S) -> float:
    """How long after now the count moved for the last time; watches it all the while."""
    began = time.monotonic()
    last, moved = count(), 0.0
    while time.monotonic() < began + watched_s:
        found = count()
        if found != last:
            last, moved = found, time.monotonic() - began
    return moved


def run(house: House, *args: str) -> Ended:
    return cli(*args, env=house.env)


@pytest.mark.alone
@pytest.mark.parametrize("queue", ["betting_match", "betting_settle"])
def test_nothing_of_a_paused_queue_is_done_and_a_resume_loses_nothing(
    busy: House, queue: str
) -> None:
    with betting(busy):
        eventually(lambda: done_in(busy, queue) > 50, f"{queue} is busy", 60)
        paused = run(busy, "queues", "pause", queue, "--reason", "a look", "--json")
        assert (paused.code, paused.json["paused"], paused.json["by"]) == (
            FINE,
            True,
            "operator:cli",
        )
        last = last_move_s(lambda: done_in(busy, queue))
        assert last < SOON_S
        if queue == "betting_match":
            eventually(lambda: waiting_in(busy, queue) > 50, "bets wait")
        assert busy.rows(f"SELECT count(*) FROM pgmq.q_{queue} WHERE read_ct > 0") == [(0,)]
        resumed = run(busy, "queues", "resume", queue, "--reason", "looked", "--json")
        assert (resumed.code, resumed.json["paused"]) == (FINE, False)
        before = done_in(busy, queue)
        eventually(lambda: done_in(busy, queue) > before, f"{queue} goes on")
    eventually(busy.drained, "all is done", 60)
    busy.assert_sound()


@pytest.mark.alone
def test_no_payout_commits_once_a_pause_has_answered(busy: House) -> None:
    operator = operator_of(busy)
    with betting(busy), busy.client() as client:
        eventually(lambda: payouts(busy) > 50, "payouts are under way", 60)
        began = time.monotonic()
        answer = client.post("/api/ops/payouts/pause", {"reason": "twice?"}, operator.token)
        took = time.monotonic() - began
        assert answer.status == 200 and answer.json["payoutsPaused"]
        assert took < SOON_S
        assert last_move_s(lambda: payouts(busy)) == 0.0
        found = client.get("/api/ops/actions?limit=1", operator.token).json["items"]
        assert [(one["action"], one["by"], one["reason"]) for one in found] == [
            ("payouts.pause", str(operator.id), "twice?")
        ]
        report = client.post("/api/ops/reconciliations", {}, operator.token).json
        assert report["clean"], report
        answer = client.post("/api/ops/payouts/resume", {"reason": "no"}, operator.token)
        assert answer.status == 200, answer.body
        before = payouts(busy)
        eventually(lambda: payouts(busy) > before, "payouts go on")
    eventually(busy.drained, "all is done", 60)
    busy.assert_sound()


def test_a_limit_holds_on_every_process_within_a_second_and_after_a_restart(busy: House) -> None:
    operator, (ann,) = operator_of(busy), rich_people(busy, 1)
    with busy.client(0) as here, busy.client(1) as there:
        made = here.post("/api/rounds", {"name": "a", "kind": "oracle"}, operator.token)
        said = {"roundId": made.json["roundId"], "side": "A", "amount": 10}

        def refused(client: Client) -> bool:
            answer = client.post("/api/bets", said, ann.token)
            assert answer.status in (202, 429, 503), answer.body
            return answer.status == 503 and answer.problem == "lane_closed"

        path = "/api/ops/limits/lane.PlaceBet.open"
        closed = {"value": False, "reason": "the final"}
        answer = here.write("PUT", path, closed, operator.token)
        assert (answer.status, answer.json["value"]) == (200, False)
        eventually(lambda: refused(there), "the other process refuses", SOON_S)
        eventually(lambda: refused(here), "this process refuses", SOON_S)
        busy.apis[1].kill()
        busy.apis[1].start()
        busy.wait_ready(busy.apis[1])
        assert refused(there)
        listed = {
            one["name"]: one for one in here.get("/api/ops/limits", operator.token).json["items"]
        }
        assert listed["lane.PlaceBet.open"]["reason"] == "the final"
        assert not listed["writes.deadline_ms"]["changed"]
        assert here.write("DELETE", path, None, operator.token).status == 200
        eventually(lambda: not refused(there), "bets are taken again", SOON_S)


def test_every_change_by_the_command_line_is_on_record(busy: House) -> None:
    def done(*args: str) -> Any:
        ended = run(busy, *args, "--json")
        assert ended.code == FINE, ended.err
        return ended.json

    assert done("limits", "set", "rate.global", "7/minute", "--reason", "a")["value"] == "7/minute"
    assert done("limits", "unset", "rate.global", "--reason", "b")["value"] is None
    done("payouts", "pause", "--reason", "c")
    key = done("api-keys", "create", "till")["keyId"]
    assert busy.rows(
        "SELECT by_whom, action, subject, reason FROM audit.actions"
        " WHERE action <> 'users.create' ORDER BY id"
    ) == [
        ("operator:cli", "limit.set", "rate.global", "a"),
        ("operator:cli", "limit.unset", "rate.global", "b"),
        ("operator:cli", "payouts.pause", "payouts", "c"),
        ("operator:cli", "api_key.create", key, ""),
    ]
    assert run(busy, "payouts", "status").code == REFUSED
    refused = run(busy, "payouts", "resume", "--reason", "d", "--json")
    assert (refused.code, refused.says("reconciliation_needed")) == (REFUSED, True)


def test_operators_turn_queues_over_http_and_users_do_not(busy: House) -> None:
    operator, (ann,) = operator_of(busy), busy.people(1)
    path = "/api/ops/queues/ticketing_mail"
    with busy.client() as client:
        said = {"reason": "bounces"}
        assert client.post(f"{path}/pause", said, ann.token).problem == "operator_only"
        assert client.post(f"{path}/pause", {}, operator.token).status == 422
        assert client.post(f"{path}/pause", said, operator.token, key="").status == 400
        gone = client.post("/api/ops/queues/nowhere/pause", said, operator.token)
        assert (gone.status, gone.problem) == (404, "not_found")
        first = client.post(f"{path}/pause", said, operator.token, key="k1")
        again = client.post(f"{path}/pause", said, operator.token, key="k1")
        assert (first.status, first.body) == (200, again.body)
        assert again.headers["idempotency-replayed"] == "true"
        assert first.json["by"] == str(operator.id)
        seen = client.get("/api/ops/status", operator.token).json["queues"]
        assert [one["queue"] for one in seen if one["paused"]] == ["ticketing_mail"]
        seen = client.get("/api/ops/queues", operator.token).json["items"]
        assert [one["reason"] for one in seen if one["paused"]] == ["bounces"]
        assert client.get("/api/ops/queues", ann.token).status == 403
        resumed = client.post(f"{path}/resume", {"reason": "mended"}, operator.token)
        assert (resumed.status, resumed.json["paused"]) == (200, False)


def test_limits_and_dead_letters_over_http_take_what_fits_and_nothing_else(busy: House) -> None:
    operator, (ann,) = operator_of(busy), busy.people(1)
    run(busy, "queues", "pause", "betting_match", "--reason", "so that they stay")
    busy.rows(BURIED, 3)
    with busy.client() as client:
        for name, value, refused in [
            ("rate.global", 5, (422, "invalid")),
            ("nothing", True, (404, "not_found")),
            ("writes.deadline_ms", 1.5, (422, "invalid")),
            ("lane.PausePayouts.open", False, (404, "not_found")),
        ]:
            said = {"value": value, "reason": "why"}
            answer = client.write("PUT", f"/api/ops/limits/{name}", said, operator.token)
            assert (answer.status, answer.problem) == refused, name
        path = "/api/ops/limits/rate.global"
        said = {"value": "9/minute", "reason": "why"}
        assert client.write("PUT", path, said, ann.token).status == 403
        assert client.write("PUT", path, said, operator.token).json["value"] == "9/minute"
        gone = client.write("DELETE", f"{path}?reason=over", None, operator.token)
        assert (gone.status, gone.json["value"], gone.json["reason"]) == (200, None, "over")
        retry = "/api/ops/dead-letters/retry"
        assert client.post(retry, {"limit": 0}, operator.token).status == 422
        assert client.post(retry, {"queue": "a"}, operator.token).problem == "not_found"
        assert client.post(retry, {"queue": "a"}, ann.token).status == 403
        one = client.post(retry, {"errorLike": "boom 2"}, operator.token)
        assert (one.status, one.json["count"]) == (200, 1)
        two = client.post(retry, {"before": "2100-01-01T00:00:00Z"}, operator.token)
        assert (two.status, two.json["count"]) == (200, 2)
        seen = client.get("/api/ops/actions?limit=2", operator.token).json
        more = client.get(f"/api/ops/actions?cursor={seen['nextCursor']}", operator.token).json
        acts = [one["action"] for one in seen["items"] + more["items"]]
        assert acts[:4] == ["dead_letters.retry"] * 2 + ["limit.unset", "limit.set"]
        assert more["nextCursor"] is None
        assert client.get("/api/ops/actions?cursor=x", operator.token).status == 422


BURIED = """
INSERT INTO events.dead_letters (queue, event, error, attempts)
SELECT 'betting_match', '{"id": "00000000-0000-7000-8000-000000000001", "type": "tests.Odd",
    "key": "00000000-0000-7000-8000-000000000002", "seq": 1, "payload": {}}', 'boom ' || n, 8
FROM generate_series(1, %s) n RETURNING id
"""


def test_dead_letters_are_listed_retried_and_discarded_by_filter(busy: House) -> None:
    run(busy, "queues", "pause", "betting_match", "--reason", "so that they stay")
    busy.rows(BURIED, 1_203)
    listed = run(busy, "queues", "dead", "--error-like", "BOOM 120", "--json").lines
    assert [one["error"] for one in listed] == [f"boom {n}" for n in (120, 1200, 1201, 1202, 1203)]
    assert run(busy, "queues", "retry").code == USAGE
    assert run(busy, "queues", "discard", "--all").code == USAGE
    some = run(busy, "queues", "retry", "--queue", "betting_match", "--limit", "3", "--json")
    assert some.json == {"ending": "retried", "count": 3}
    rest = run(busy, "queues", "retry", "--all", "--json")
    assert rest.json["count"] == 1_200
    assert waiting_in(busy, "betting_match") == 1_203
    busy.rows(BURIED, 2)
    ended = run(busy, "queues", "discard", "--type", "tests.Odd", "--yes", "--json")
    assert ended.json == {"ending": "discarded", "count": 2}
    (found,) = (
        one
        for one in run(busy, "queues", "list", "--json").lines
        if one["queue"] == "betting_match"
    )
    assert (found["waiting"], found["dead"], found["paused"]) == (1_203, 0, True)
