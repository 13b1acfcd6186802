"""Plans carried out by one process or several: what was due is sent once and counted once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
import uvloop

from strongroom.lab.client_process import LoadFailed
from strongroom.lab.load.arrivals import Closed, Once, Shape, paced
from strongroom.lab.load.crew import carry_out, merged, shares_of
from strongroom.lab.load.plans import plan_of
from strongroom.lab.load.running import Options, limited_by, timeline_of
from strongroom.lab.load.thresholds import ThresholdUnfit
from strongroom.lab.open_loop import (
    Answered,
    OpenResult,
    Plan,
    Spell,
    Stream,
    code_in,
    folded,
    quantiles,
)
from strongroom.lab.open_loop import carry_out as alone
from strongroom.lab.scenarios import Job

T = TypeVar("T")
Behave = Callable[[int, bytes], Awaitable[bytes]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
PROBLEM = b'{"type":"about:blank","status":409,"code":"sold_out","detail":"No more."}'
SOLD_OUT = b"HTTP/1.1 409 Conflict\r\ncontent-length: %d\r\n\r\n%b" % (len(PROBLEM), PROBLEM)


def play(story: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(story)


@contextlib.asynccontextmanager
async def server(behave: Behave) -> AsyncIterator[tuple[str, int]]:
    """Numbers the requests, and answers each with what `behave` makes of it."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                seen += 1
                writer.write(await behave(seen, request))
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        host, port = listening.sockets[0].getsockname()[:2]
        yield host, port


async def plain(_: int, __: bytes) -> bytes:
    return OK


def plan_for(address: tuple[str, int], shape: Shape, users: int = 10, **how: Any) -> Plan:
    tokens = [f"user-{n}" for n in range(users)]
    job = Job(*address, "reads", tokens, duration_s=0, options={"paths": ["/"]})
    return Plan(*address, [Stream("reads", 0, job, shape)], **{"duration_s": 1.0, **how})


def users_in(requests: Counter[bytes]) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for request, times in requests.items():
        found[request.partition(b"Bearer ")[2].partition(b"\r")[0]] += times
    return found


def test_a_crew_sends_what_one_process_would_and_each_arrival_counts_once() -> None:
    asked: Counter[bytes] = Counter()

    async def behave(_: int, request: bytes) -> bytes:
        asked[request] += 1
        return OK

    heard: list[tuple[int, int, int]] = []

    async def story() -> OpenResult:
        async with server(behave) as address:
            plan = plan_for(address, paced([300], 1.5), users=30, duration_s=1.5, warmup_s=0.2)
            return await carry_out(
                plan, 3, lambda member, at, spell: heard.append((member, at, spell.intended))
            )

    result = play(story())
    (reads,) = result.streams.values()
    assert reads.statuses == {200: 450}
    assert reads.count == sum(result.behind_us.values()) == asked.total() == 450
    assert users_in(asked) == {f"user-{n}".encode(): 15 for n in range(30)}
    assert [one.intended for one in result.seconds[:2]] == [300, 150]
    assert sum(sum(one.ended_us.values()) for one in result.seconds) == 450
    assert {member for member, _, _ in heard} == {0, 1, 2}
    assert {at for _, at, _ in heard} >= {0}


def test_a_burst_reaches_the_server_from_all_processes_at_one_instant() -> None:
    came: list[float] = []

    async def behave(_: int, __: bytes) -> bytes:
        came.append(time.perf_counter())
        return OK

    begun: list[float] = []

    async def story() -> OpenResult:
        async with server(behave) as address:
            plan = plan_for(address, Once(100), users=100, duration_s=0, connections=100)
            return await carry_out(plan, 2, begun=begun.append)

    result = play(story())
    assert result.streams["reads"].statuses == {200: 100}
    assert len(came) == 100
    assert min(came) >= begun[0]
    assert result.waited == 0
    assert result.seconds[0].intended == 100


def test_a_server_that_stalls_shows_in_all_that_were_due_meanwhile() -> None:
    """Of 300 requests due in three seconds a third fall into a pause of one second: the median of
    these waited half of it, though only as many as there are connections were under way."""
    release = asyncio.Event

    async def story() -> OpenResult:
        open_again, stalled = release(), False

        async def behave(number: int, _: bytes) -> bytes:
            nonlocal stalled
            if number == 100 and not stalled:
                stalled = True
                asyncio.get_running_loop().call_later(1.0, open_again.set)
            if stalled:
                await open_again.wait()
            return OK

        async with server(behave) as address:
            plan = plan_for(address, paced([100], 3), duration_s=3, connections=4)
            return await alone(plan)

    result = play(story())
    reads = result.streams["reads"]
    assert reads.statuses == {200: 300}
    late = sum(times for us, times in reads.counted_us.items() if us > 100_000)
    assert late >= 85
    p75, most = quantiles(reads.counted_us, 75, 100)
    assert p75 > 50
    assert most > 980
    assert result.waited >= 85
    assert limited_by(result, most) is None, "it was the server that stalled"


def test_the_closed_form_keeps_so_many_under_way_until_all_are_done() -> None:
    under_way, most = 0, 0

    async def behave(_: int, __: bytes) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return OK

    async def story() -> OpenResult:
        async with server(behave) as address:
            return await carry_out(plan_for(address, Closed(83, 10), duration_s=0), 2)

    result = play(story())
    assert result.streams["reads"].statuses == {200: 83}
    assert most == 10


def test_codes_of_problems_are_counted_and_bodies_of_successes_kept() -> None:
    async def behave(number: int, _: bytes) -> bytes:
        return SOLD_OUT if number % 2 else OK

    async def story() -> OpenResult:
        async with server(behave) as address:
            plan = plan_for(address, Once(40), users=40, duration_s=0, connections=40)
            kept = [Stream(one.name, 0, one.job, one.shape, keep=3) for one in plan.streams]
            return await alone(Plan(*address, kept, 0, connections=40))

    result = play(story())
    reads = result.streams["reads"]
    assert reads.statuses == {200: 20, 409: 20}
    assert reads.codes == {"sold_out": 20}
    assert reads.failed == 20
    assert reads.bodies == [b"{}"] * 3
    assert sum(one.failed.get("sold_out", 0) for one in result.seconds) == 20


def test_what_a_warm_up_did_is_known_though_it_counts_nowhere() -> None:
    async def behave(_: int, __: bytes) -> bytes:
        return OK

    async def story() -> OpenResult:
        async with server(behave) as address:
            options = {"paths": ["/"]}
            job = Job(*address, "reads", ["t"], duration_s=0, options=options)
            plan = Plan(*address, [Stream("reads", 100, job)], duration_s=0.3, warmup_s=0.4)
            return await alone(plan)

    reads = play(story()).streams["reads"]
    assert (reads.early, reads.statuses) == ({200: 40}, {200: 30})


def test_what_ends_a_member_ends_the_run_with_its_words() -> None:
    async def behave(_: int, __: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

    async def story() -> None:
        async with server(behave) as address:
            await carry_out(plan_for(address, Once(4), duration_s=0), 2)

    with pytest.raises(LoadFailed, match="no content-length"):
        play(story())


def test_shares_have_all_users_and_all_connections_between_them() -> None:
    plan = plan_for(("h", 1), Once(10), users=10, connections=7)
    shares = shares_of(plan, 3)
    tokens = [token for one in shares for token in one.streams[0].job.tokens]
    assert sorted(tokens) == sorted(plan.streams[0].job.tokens)
    assert [one.connections for one in shares] == [3, 2, 2]
    (alone_one,) = shares_of(plan_for(("h", 1), Once(10), users=1), 3)[2].streams
    assert alone_one.job.tokens == ["user-0"]


def test_merged_results_add_up() -> None:
    def part(us: int, times: int) -> OpenResult:
        answered = Answered({us: times}, {200: times}, 1, {"x": 2}, {200: 3}, [b"a"])
        return OpenResult(
            streams={"s": answered},
            behind_us={us: times},
            most_waiting=2,
            client_cpu_share=us / 100,
            waited=5,
            took_s=us,
            seconds=[Spell(times, {us: times}, {"x": 1})] * us,
        )

    whole = merged([part(1, 10), part(2, 20), part(1, 5)])
    stream = whole.streams["s"]
    assert stream.counted_us == {1: 15, 2: 20}
    assert (stream.statuses, stream.errors, stream.codes) == ({200: 35}, 3, {"x": 6})
    assert (stream.early, stream.bodies) == ({200: 9}, [b"a"] * 3)
    assert (whole.took_s, whole.waited, whole.client_cpu_share) == (2, 15, 0.02)
    assert [one.intended for one in whole.seconds] == [35, 20]
    assert whole.seconds[0].ended_us == {1: 15, 2: 20}


def test_buckets_lose_no_count_and_a_thousandth_of_the_value() -> None:
    counted = {us: us % 7 + 1 for us in (0, 1, 2047, 2048, 2049, 4095, 99_999, 12_345_678)}
    found = folded(counted)
    assert sum(found.values()) == sum(counted.values())
    assert {0, 1, 2047, 2048} <= set(found)
    for value in counted:
        assert any(0 <= value - one <= value / 1000 for one in found)


def test_a_code_is_read_from_a_problem_and_from_nothing_else() -> None:
    assert code_in(SOLD_OUT) == "sold_out"
    assert code_in(OK) == ""


def measured(behind_ms: float = 1.0, cpu: float = 0.1, waited: int = 0) -> OpenResult:
    behind = {round(behind_ms * 1000): 100}
    return OpenResult({}, behind, 0, cpu, waited)


@pytest.mark.parametrize(("seconds", "told"), [(8.02, 8), (8.49, 8), (8.51, 9), (9.0, 9), (0.2, 1)])
def test_a_last_piece_of_a_second_is_in_the_totals_and_not_in_the_timeline(
    seconds: float, told: int
) -> None:
    spells = [Spell(100, {1000: 100}) for _ in range(int(seconds))]
    last = [Spell(1, {1000: 1})] if seconds % 1 else []
    result = OpenResult({}, {}, 0, 0.1, took_s=seconds, seconds=[*spells, *last])
    assert [one.at_s for one in timeline_of(result, seconds)] == list(range(told))


def test_a_generator_says_when_it_was_the_limit() -> None:
    assert limited_by(measured(waited=100), 100) is None
    assert "late" in (limited_by(measured(behind_ms=50), 100) or "")
    assert limited_by(measured(behind_ms=50), 1000) is None
    assert "of a core" in (limited_by(measured(cpu=0.95), 100) or "")


def test_a_threshold_that_was_asked_for_replaces_the_scenarios_own() -> None:
    plan = plan_of("sustained")
    found = Options(asked=("p99_ms<=9", "bets.p50_ms<=3")).limits(plan, measured=True)
    assert [one.asked for one in found if one.figure == "p99_ms"] == ["p99_ms <= 9"]
    assert len(found) == len(plan.limits) + 1
    with pytest.raises(ThresholdUnfit, match="through a URL"):
        Options(asked=("connections_peak<=9",)).limits(plan, measured=False)
    with pytest.raises(ThresholdUnfit, match="no stream"):
        Options(asked=("orders.p50_ms<=9",)).limits(plan, measured=True)
