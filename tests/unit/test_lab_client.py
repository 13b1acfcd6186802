"""The lab's load client, its processes and the frame of its benches, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import pytest
import uvloop

from strongroom.lab import arena, client
from strongroom.lab.arena import NoFreePort, free_port
from strongroom.lab.bench import Bench, Report, Turn, measure, show, turn_seconds
from strongroom.lab.client import (
    LoadResult,
    ServerUnreachable,
    UnreadableAnswer,
    request_bytes,
    request_parts,
    run,
)
from strongroom.lab.client_process import LoadFailed, drive
from strongroom.lab.figures import (
    Figures,
    NoSuchFigure,
    compare,
    growth,
    medians,
    percentiles,
    times_better,
)
from strongroom.lab.machine import machine
from strongroom.lab.programs import Program, ProgramEnded, family, rss_bytes, status_of
from strongroom.lab.scenarios import Job, JobUnfit, NoSuchScenario, requests_of

T = TypeVar("T")

UNREAD_S = 5.0
"""Longer than a load process takes for its requests: by then it says what came of them."""

Behave = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]

HELLO = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    status = 200 if scope["path"] == "/healthz" else 202
    length = (b"content-length", b"5")
    await send({"type": "http.response.start", "status": status, "headers": [length]})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def play(story: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(story)


def answer(status: int = 200, body: bytes = b"{}", headers: bytes = b"") -> bytes:
    length = b"content-length: %d\r\n" % len(body)
    return b"HTTP/1.1 %d Some Words\r\n%b%b\r\n%b" % (status, headers, length, body)


@contextlib.asynccontextmanager
async def server(behave: Behave) -> AsyncIterator[tuple[str, int]]:
    """Reads whole requests, numbers them, and lets `behave` answer each; a ConnectionError it
    raises closes the connection."""
    numbers = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", request)
                if length:
                    request += await reader.readexactly(int(length[1]))
                await behave(next(numbers), request, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        host, port = listening.sockets[0].getsockname()[:2]
        yield host, port


def numbered() -> Iterator[bytes]:
    before, after = request_parts("POST", "/x", {"Host": "here"}, b'{"a":1}', "Idempotency-Key")
    return (b"%bkey-%d%b" % (before, number, after) for number in itertools.count())


def load(behave: Behave, **how: Any) -> LoadResult:
    async def story() -> LoadResult:
        async with server(behave) as address:
            return await run(address, **{"requests": numbered(), "connections": 4, **how})

    return play(story())


async def plain(_: int, __: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(answer())


def test_a_prebuilt_request_is_what_http_says() -> None:
    assert request_bytes("GET", "/a", {"Host": "h"}) == b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    assert request_bytes("POST", "/a", {"Host": "h"}) == (
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    )


def test_parts_with_a_value_between_them_are_one_request() -> None:
    before, after = request_parts("POST", "/a", {"Host": "h"}, b"{}", "Key")
    assert before + b"7" + after == (
        b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nKey: 7\r\n\r\n{}"
    )


def test_every_answer_is_counted_under_its_status() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(429 if number % 10 == 0 else 400 if number % 10 < 3 else 202))

    result = load(behave, count=300)
    assert result.statuses == {202: 210, 400: 60, 429: 30}
    assert (result.count, result.errors, result.reconnects) == (300, 0, 0)
    assert result.per_second == pytest.approx(result.count / result.seconds)


def test_each_request_is_sent_once_and_whole() -> None:
    seen: list[bytes] = []

    async def behave(_: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(answer())

    load(behave, count=200, connections=16)
    assert sorted(seen) == sorted(itertools.islice(numbered(), 200))


def test_an_answer_may_come_byte_by_byte() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        for byte in answer(200, b"%d" % number):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

    result = load(behave, count=20, connections=2, keep_bodies=20)
    assert result.statuses == {200: 20}
    assert sorted(map(int, result.bodies)) == list(range(20))


def test_a_long_body_in_many_pieces_is_kept_whole() -> None:
    body = bytes(range(256)) * 8192

    async def behave(_: int, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, body))

    result = load(behave, count=6, keep_bodies=5)
    assert (result.count, result.bodies) == (6, [body] * 5)


def test_two_answers_in_one_piece_are_two() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number % 2:
            writer.write(answer(200, b"first") + answer(201, b"second"))

    result = load(behave, count=40, connections=1, pipeline=2, keep_bodies=2)
    assert result.statuses == {200: 20, 201: 20}
    assert result.bodies == [b"first", b"second"]


def test_the_second_answer_may_be_cut_inside_its_head() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number % 2:
            both = answer(200, b"first") + answer(201, b"second")
            cut = len(both) - 30 + number % 29
            writer.write(both[:cut])
            await asyncio.sleep(0)
            writer.write(both[cut:])

    result = load(behave, count=120, connections=1, pipeline=2)
    assert result.statuses == {200: 60, 201: 60}


def test_an_interim_answer_is_not_the_answer() -> None:
    async def behave(_: int, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + answer(200))

    assert load(behave, count=10).statuses == {200: 10}


def test_no_content_needs_no_length_and_names_may_be_of_any_case() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        empty = b"HTTP/1.1 204 No Content\r\n\r\n"
        writer.write(empty if number % 2 else b"HTTP/1.1 200 OK\r\nCONTENT-Length:2\r\n\r\n{}")

    assert load(behave, count=10).statuses == {200: 5, 204: 5}


def test_a_broken_connection_is_an_error_and_is_opened_again() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number % 10 == 0:
            raise ConnectionError
        writer.write(answer())

    result = load(behave, count=100)
    assert (result.count, result.errors) == (90, 10)
    # Connections that break when nothing is left to send are not opened again.
    assert 1 <= result.reconnects <= 10


def test_a_close_that_was_announced_is_no_error() -> None:
    async def behave(_: int, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, headers=b"Connection: close\r\n"))
        raise ConnectionError

    result = load(behave, count=50)
    assert (result.count, result.errors) == (50, 0)
    assert result.reconnects >= 46


@pytest.mark.parametrize(
    ("bytes_sent", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "chunked"),
        (b"HTTP/1.1 200 OK\r\ndate: today\r\n\r\n", "no content-length"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", "no HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20000, "no HTTP/1.1"),
        (answer() + answer(), "nobody asked"),
    ],
)
def test_what_cannot_be_read_ends_the_run_and_says_why(bytes_sent: bytes, words: str) -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes_sent if number == 5 else answer())

    with pytest.raises(UnreadableAnswer, match=words):
        load(behave, count=1000, connections=1, answer_timeout_s=0.5)


def test_an_error_of_the_scenario_ends_the_run() -> None:
    def failing() -> Iterator[bytes]:
        yield from itertools.islice(numbered(), 10)
        raise KeyError("the scenario's own")

    with pytest.raises(KeyError):
        load(plain, requests=failing(), count=100)


def test_the_run_ends_with_its_requests() -> None:
    assert load(plain, requests=itertools.islice(numbered(), 33), count=100).count == 33
    assert load(plain, requests=numbered().__next__, count=100).count == 100


def test_what_the_warm_up_sends_counts_nowhere() -> None:
    seen = []

    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(number)
        writer.write(answer())

    result = load(behave, count=100, warmup_s=0.02)
    assert (result.count, sum(result.statuses.values())) == (100, 100)
    assert len(seen) > 100


def test_a_run_by_duration_waits_for_its_last_answers() -> None:
    seen = []

    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(number)
        writer.write(answer())

    result = load(behave, duration_s=0.05)
    assert (result.count, result.errors) == (len(seen), 0)
    assert result.count > 0


def test_requests_that_a_hanging_server_keeps_are_errors() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number < 20:
            writer.write(answer())

    result = load(behave, count=1000, answer_timeout_s=0.05)
    assert (result.count, result.errors) == (20, 4)


def test_nobody_listening_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_S", 0.05)
    with pytest.raises(ServerUnreachable):
        play(run(("127.0.0.1", free_port()), requests=numbered(), count=1))


def test_an_answer_held_back_is_a_latency_at_least_as_long() -> None:
    held_ms: list[float] = []

    async def story() -> LoadResult:
        later = asyncio.Event()

        async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
            if number == 0:
                began = time.perf_counter()
                await later.wait()
                held_ms.append((time.perf_counter() - began) * 1000)
            elif number == 150:
                later.set()
            writer.write(answer())

        async with server(behave) as address:
            return await run(address, requests=numbered(), connections=2, count=200)

    result = play(story())
    assert result.max_ms >= held_ms[0] - 0.001
    assert result.p50_ms < held_ms[0]
    assert result.p50_ms <= result.p99_ms <= result.p999_ms


def test_percentiles_are_within_a_thousandth() -> None:
    at = percentiles(dict.fromkeys(range(1, 100001), 1))
    assert at.p50_ms == pytest.approx(50.0, rel=0.001)
    assert at.p99_ms == pytest.approx(99.0, rel=0.001)
    assert at.p999_ms == pytest.approx(99.9, rel=0.001)
    assert at.max_ms == 100.0


def test_percentiles_weigh_values_by_their_count_and_bear_the_absurd() -> None:
    at = percentiles({1000: 990, 500_000: 9, 10**12: 1})
    assert at.p50_ms == pytest.approx(1.0, rel=0.001)
    assert at.p999_ms == pytest.approx(500.0, rel=0.001)
    assert at.max_ms == 10**9
    assert percentiles({10**12: 1}).p50_ms == pytest.approx(3_600_000, rel=0.001)
    assert percentiles({}).p99_ms == 0


def job(scenario: str, **how: Any) -> Job:
    return Job(host="h", port=1, scenario=scenario, tokens=["t0", "t1", "t2"], count=1, **how)


def parsed(request: bytes) -> tuple[str, dict[str, str], Any]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers.get("Content-Length", 0)) == len(body)
    return first, headers, json.loads(body) if body else None


def test_bets_go_round_the_users_with_a_fresh_key_each() -> None:
    drawn = requests_of(job("bets", options={"round_id": "r", "amount": 7}))
    sent = [parsed(request) for request in itertools.islice(drawn, 300)]
    assert {first for first, _, _ in sent} == {"POST /api/bets HTTP/1.1"}
    assert len({headers["Idempotency-Key"] for _, headers, _ in sent}) == 300
    by_user = [(headers["Authorization"][-2:], body["side"]) for _, headers, body in sent[:4]]
    assert by_user == [("t0", "A"), ("t1", "B"), ("t2", "A"), ("t0", "A")]
    assert sent[0][2] == {"roundId": "r", "side": "A", "amount": 7}


def test_two_runs_never_share_a_key() -> None:
    options = {"round_id": "r"}
    one, other = (parsed(next(requests_of(job("bets", options=options)))) for _ in range(2))
    assert one[1]["Idempotency-Key"] != other[1]["Idempotency-Key"]


def test_wallet_reads_go_round_the_users() -> None:
    drawn = itertools.islice(requests_of(job("wallet-read")), 4)
    tokens = [parsed(request)[1]["Authorization"] for request in drawn]
    assert tokens == ["Bearer t0", "Bearer t1", "Bearer t2", "Bearer t0"]


def test_batches_of_transfers_have_fresh_keys_and_the_seeds_pairs() -> None:
    options = {"user_ids": ["u1", "u2", "u3"], "batch": 10}
    drawn = itertools.islice(requests_of(job("transfers", options=options, seed=5)), 40)
    sent = [parsed(request) for request in drawn]
    keys = [item["key"] for _, _, body in sent for item in body["items"]]
    assert len(set(keys)) == 400
    assert len({headers["Idempotency-Key"] for _, headers, _ in sent}) == 40
    assert all(item["from"] != item["to"] for _, _, body in sent for item in body["items"])
    again = parsed(next(requests_of(job("transfers", options=options, seed=5))))[2]["items"]
    assert [(i["from"], i["to"]) for i in again] == [
        (i["from"], i["to"]) for i in sent[0][2]["items"]
    ]


def test_a_job_that_does_not_fit_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(NoSuchScenario):
        requests_of(job("no-such"))
    with pytest.raises(JobUnfit, match="round_id"):
        requests_of(job("bets"))
    with pytest.raises(JobUnfit, match="user_ids"):
        requests_of(job("transfers", options={"user_ids": ["one"]}))
    with pytest.raises(JobUnfit, match="ends by"):
        requests_of(Job(host="h", port=1, scenario="wallet-read", tokens=["t"]))


def outgoing(folder: Path, first: int, last: int) -> Path:
    file = folder / "range"
    file.write_text(f"{first}\t{last}\n")
    return file


def test_a_free_port_is_never_one_of_outgoing_connections() -> None:
    first, last = map(int, arena.OUTGOING.read_text().split())
    found = {free_port() for _ in range(200)}
    assert not [port for port in found if first <= port <= last]
    assert len(found) > 100


def test_who_asks_a_free_port_in_vain_is_never_connected_to_itself() -> None:
    address = ("127.0.0.1", free_port())
    for _ in range(2000):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
    with socket.create_server(address) as listening:
        assert listening.getsockname() == address


def test_a_port_that_is_listened_on_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr(arena, "LOWEST_PORT", port)
    monkeypatch.setattr(arena, "OUTGOING", outgoing(tmp_path, port + 1, 65535))
    with socket.create_server(("127.0.0.1", port)), pytest.raises(NoFreePort):
        free_port()
    assert free_port() == port


@pytest.mark.parametrize(("first", "last", "lowest"), [(1024, 60_999, 61_000), (1, 65_535, 20_000)])
def test_where_outgoing_connections_take_all_below_a_port_is_taken_from_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, last: int, lowest: int
) -> None:
    monkeypatch.setattr(arena, "OUTGOING", outgoing(tmp_path, first, last))
    assert all(free_port() >= lowest for _ in range(50))


def hello(folder: Path, port: int) -> Program:
    (folder / "hello.py").write_text(HELLO)
    command = [sys.executable, "-m", "uvicorn", "hello:app", "--port", str(port)]
    return Program(command, ready=("127.0.0.1", port), folder=folder)


def test_a_process_of_its_own_loads_a_real_server(tmp_path: Path) -> None:
    async def story() -> tuple[LoadResult, int, float, list[int], int]:
        host, port = "127.0.0.1", free_port()
        program = hello(tmp_path, port)
        async with program, program.watch_memory() as samples:
            result = await drive(
                Job(host, port, "wallet-read", ["t"], count=2000, connections=32, keep_bodies=3)
            )
            assert await status_of(host, port, "/else") == 202
            rss, cpu = program.rss_bytes(), program.cpu_s()
        return result, rss, cpu, samples, await program.stop()

    result, rss, cpu, samples, exit_code = play(story())
    assert (result.statuses, result.errors) == ({202: 2000}, 0)
    assert result.bodies == [b"hello"] * 3
    assert result.client_cpu_s > 0
    assert rss > 2**20
    assert cpu > 0
    assert len(samples) >= 2
    assert growth(samples) > 0.5
    # uvicorn sends itself the signal again once it has stopped in order.
    assert exit_code in (0, -15)


def test_a_result_longer_than_a_pipe_arrives_whole_where_output_is_not_buffered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")

    port = free_port()
    job = Job("127.0.0.1", port, "wallet-read", ["t"], 20_000, connections=8, keep_bodies=20_000)

    def read_late() -> bytes:
        command = [sys.executable, "-m", "strongroom.lab.client_process"]
        with subprocess.Popen(command, stdin=-1, stdout=-1) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(msgspec.json.encode(job))
            process.stdin.close()
            # Whoever ends before it was read has left a part of the result unsaid.
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(UNREAD_S)
            return process.stdout.read()

    async def story() -> bytes:
        async with hello(tmp_path, port):
            return await asyncio.to_thread(read_late)

    found = msgspec.json.decode(play(story()), type=LoadResult)
    assert found.bodies == [b"hello"] * 20_000


def test_a_load_process_that_fails_says_why() -> None:
    with pytest.raises(LoadFailed, match=r"Exit code 2: no_such_scenario"):
        play(drive(job("no-such")))


def test_a_program_that_ends_before_it_is_ready_shows_what_it_printed() -> None:
    command = [sys.executable, "-c", "import sys; print('because of this'); sys.exit(7)"]
    program = Program(command, ready=("127.0.0.1", free_port()))
    with pytest.raises(ProgramEnded, match="Exit code 7: because of this"):
        play(program.start())


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    deaf = (
        "import signal, subprocess, sys, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "stay = 'import signal; signal.alarm(60); signal.pause()'\n"
        "child = subprocess.Popen([sys.executable, '-c', stay])\n"
        "pathlib.Path('up').write_text('')\n"
        "child.wait()\n"
    )

    async def story() -> tuple[int, list[int]]:
        program = Program([sys.executable, "-c", deaf], folder=tmp_path, stop_s=0.1)
        await program.start()
        while not (tmp_path / "up").exists():
            await asyncio.sleep(0)
        members = family(program.pid)
        exit_code = await program.stop()
        async with asyncio.timeout(10):
            while any(map(rss_bytes, members)):
                await asyncio.sleep(0)
        return exit_code, members

    exit_code, members = play(story())
    assert exit_code == -9
    assert len(members) == 2


class Counted(Bench):
    """Answers what the test wrote down, in the order it is asked."""

    name = "counted"
    claim = "Ours counts twice as fast."
    figure = "per_second"
    seconds = 8.0

    def __init__(self) -> None:
        self.asked: list[tuple[str, Turn]] = []
        self.open = False

    async def __aenter__(self) -> Self:
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    async def ours(self, turn: Turn) -> Figures:
        assert self.open
        self.asked.append(("ours", turn))
        return {"per_second": [200.0, 330.0, 240.0][turn.seed - 1], "p99_ms": 4.0}

    async def baseline(self, turn: Turn) -> Figures:
        assert self.open
        self.asked.append(("baseline", turn))
        return {"per_second": [100.0, 110.0, 120.0][turn.seed - 1]}


def measured() -> tuple[Counted, Report]:
    bench = Counted()
    return bench, play(measure(bench, seed=1))


def test_ours_and_the_baseline_take_turns_at_going_first() -> None:
    bench, _ = measured()
    assert [side for side, _ in bench.asked] == [
        *("ours", "baseline"),
        *("baseline", "ours"),
        *("ours", "baseline"),
    ]
    assert [turn.seed for _, turn in bench.asked] == [1, 1, 2, 2, 3, 3]
    assert not bench.open


def test_the_ratio_is_the_median_of_the_pairs_and_not_of_the_sides() -> None:
    _, report = measured()
    assert report.comparison.ratios == (2.0, 3.0, 2.0)
    assert report.comparison.ratio == 2.0
    assert (report.comparison.lowest, report.comparison.highest) == (2.0, 3.0)
    assert report.comparison.noise == 0.5
    assert report.figures == {"per_second": 240.0, "p99_ms": 4.0}
    assert report.baseline == {"per_second": 110.0}


def test_where_less_is_better_the_ratio_is_turned() -> None:
    assert times_better({"p99_ms": 2}, {"p99_ms": 8}, "p99_ms", "lower") == 4
    assert compare([({"x": 1.0}, {"x": 2.0})], "x").ratio == 0.5
    with pytest.raises(NoSuchFigure, match="p99_ms"):
        times_better({"p99_ms": 2}, {}, "p99_ms", "lower")


def test_medians_and_growth_forgive_one_odd_sample() -> None:
    assert medians([{"a": 1.0}, {"a": 100.0}, {"a": 2.0, "b": 5.0}]) == {"a": 2.0, "b": 5.0}
    assert growth([10, 10, 99, 10, 10, 10, 10, 10, 10, 1, 10, 10]) == 1.0
    assert growth([10, 20, 30, 40]) == 4.0
    assert growth([5]) == 1.0


def test_quick_halves_and_always_fits_its_budget() -> None:
    assert turn_seconds(Counted, 3, quick=False) == 8.0
    assert turn_seconds(Counted, 3, quick=True) == 4.0
    assert 2 * 20 * turn_seconds(Counted, 20, quick=True) <= 40


def test_json_is_one_line_with_four_members(capsys: pytest.CaptureFixture[str]) -> None:
    play(show(Counted(), as_json=True, seed=1))
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert json.loads(printed.out) == {
        "name": "counted",
        "figures": {"per_second": 240.0, "p99_ms": 4.0},
        "baseline": {"per_second": 110.0},
        "ratio": 2.0,
    }
    assert "Ours counts twice as fast." in printed.err


def test_without_json_the_table_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    play(show(Counted(), seed=1))
    assert "2.00 times better" in " ".join(capsys.readouterr().out.split())


def test_a_record_holds_all_that_is_needed_to_judge_it(tmp_path: Path) -> None:
    _, report = measured()
    path = report.record(tmp_path / "results")
    told = json.loads(path.read_bytes())
    assert re.fullmatch(r"counted-\d{8}T\d{6}Z\.json", path.name)
    assert told["ratios"] == [2.0, 3.0, 2.0]
    assert told["pairs"][1] == {
        "ours": {"per_second": 330.0, "p99_ms": 4.0},
        "baseline": {"per_second": 110.0},
    }
    assert {"name", "claim", "commit", "machine", "seed", "quick", "figures"} <= told.keys()
    assert told["noise"] == 0.5
    assert told["machine"]["cores"] == machine().cores >= 1
    assert told["machine"]["memory_bytes"] > 2**28
