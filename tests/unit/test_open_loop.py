"""The lab's load at a constant rate: what is planned is sent, and a wait begins with the plan."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
import pytest
import uvloop

from strongroom.lab.bench import Shops, TakesNoShops, Verdict
from strongroom.lab.benches import BENCHES
from strongroom.lab.benches.orders_reads import OrdersRead
from strongroom.lab.client import ServerUnreachable, UnreadableAnswer
from strongroom.lab.open_loop import OpenResult, Plan, Stream, carry_out, drive, quantiles
from strongroom.lab.scenarios import NEWCOMERS, Job, JobUnfit, requests_of

T = TypeVar("T")
Behave = Callable[[int, bytes, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def play(story: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(story)


@contextlib.asynccontextmanager
async def server(behave: Behave) -> AsyncIterator[tuple[str, int]]:
    """Numbers the requests, and lets `behave` answer each; a ConnectionError closes."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                seen += 1
                await behave(seen, request, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        host, port = listening.sockets[0].getsockname()[:2]
        yield host, port


def stream(address: tuple[str, int], name: str, per_second: float) -> Stream:
    paths = {"paths": [f"/{name}"]}
    return Stream(name, per_second, Job(*address, "reads", ["t"], duration_s=0, options=paths))


def load(behave: Behave, rates: dict[str, float], **how: Any) -> OpenResult:
    async def story() -> OpenResult:
        async with server(behave) as address:
            streams = [stream(address, name, rate) for name, rate in rates.items()]
            return await carry_out(Plan(*address, streams, **{"duration_s": 0.5, **how}))

    return play(story())


async def plain(_: int, __: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


def test_each_stream_comes_at_its_own_rate_and_counts_under_its_status() -> None:
    async def behave(_: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if b"/often" in request else OK.replace(b"200 OK", b"404 No"))

    result = load(behave, {"often": 200, "seldom": 20})
    often, seldom = result.streams["often"], result.streams["seldom"]
    assert often.count == pytest.approx(100, abs=1)
    assert seldom.count == pytest.approx(10, abs=1)
    assert (often.statuses, seldom.statuses) == ({200: often.count}, {404: seldom.count})
    assert (often.failed, seldom.failed) == (0, seldom.count)
    assert sum(result.behind_us.values()) == often.count + seldom.count


def test_whoever_had_to_wait_for_a_slow_answer_waited_from_the_planned_instant() -> None:
    """A closed loop would have asked once meanwhile, and found one slow answer."""

    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            asyncio.get_running_loop().call_later(0.3, writer.write, OK)
        else:
            writer.write(OK)

    result = load(behave, {"reads": 100}, connections=1)
    (waited,) = result.streams.values()
    late = sum(times for us, times in waited.counted_us.items() if us > 100_000)
    assert late >= 15
    assert result.most_waiting >= 15
    assert max(waited.counted_us) >= 290_000
    assert waited.count == pytest.approx(50, abs=1)
    assert waited.failed == 0


def test_what_comes_in_the_warm_up_counts_nowhere() -> None:
    asked = Counter[bytes]()

    async def behave(_: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        asked[request] += 1
        writer.write(OK)

    result = load(behave, {"reads": 100}, duration_s=0.2, warmup_s=0.3)
    assert result.streams["reads"].count == pytest.approx(20, abs=1)
    assert asked.total() == pytest.approx(50, abs=2)


def test_a_broken_connection_is_an_error_and_the_next_request_finds_another() -> None:
    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 5:
            raise ConnectionError
        writer.write(OK)

    result = load(behave, {"reads": 100}, connections=1)
    reads = result.streams["reads"]
    assert (reads.errors, reads.failed) == (1, 1)
    assert reads.count == pytest.approx(50, abs=1)
    assert reads.statuses == {200: reads.count - 1}


def test_what_is_never_answered_is_an_error_that_has_waited_until_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("strongroom.lab.open_loop.LAST_ANSWERS_S", 0.1)

    async def behave(number: int, _: bytes, writer: asyncio.StreamWriter) -> None:
        if number < 10:
            writer.write(OK)

    result = load(behave, {"reads": 100}, connections=1, duration_s=0.3)
    reads = result.streams["reads"]
    assert (reads.statuses, reads.errors) == ({200: 9}, reads.count - 9)
    assert reads.count == pytest.approx(30, abs=1)
    assert max(reads.counted_us) >= 250_000


def test_an_answer_in_pieces_is_one_answer() -> None:
    async def behave(_: int, __: bytes, writer: asyncio.StreamWriter) -> None:
        for place in range(len(OK)):
            writer.write(OK[place : place + 1])
            await asyncio.sleep(0)

    reads = load(behave, {"reads": 40}).streams["reads"]
    assert reads.statuses == {200: reads.count}


def test_an_answer_without_a_length_ends_the_run_with_what_is_wrong() -> None:
    async def behave(_: int, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    with pytest.raises(UnreadableAnswer, match="no content-length"):
        load(behave, {"reads": 40})


def test_nobody_listening_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.lab.open_loop.CONNECT_S", 0.1)
    address = ("127.0.0.1", 1)
    with pytest.raises(ServerUnreachable):
        play(carry_out(Plan(*address, [stream(address, "reads", 10)], duration_s=1)))


def test_a_plan_is_carried_out_by_a_process_of_its_own() -> None:
    async def story() -> OpenResult:
        async with server(plain) as address:
            return await drive(Plan(*address, [stream(address, "reads", 100)], duration_s=0.3))

    result = play(story())
    assert result.streams["reads"].statuses == {200: result.streams["reads"].count}
    assert 0 < result.client_cpu_share < 1
    assert result.behind_ms >= 0


def test_quantiles_are_those_of_what_was_counted() -> None:
    counted = {1000 * n: 1 for n in range(1, 101)}
    assert quantiles(counted, 50, 99, 100) == pytest.approx([50, 99, 100], rel=0.01)
    assert quantiles({}, 50, 100) == [0.0, 0.0]
    assert quantiles({0: 3}, 50) == [0.0]


# Orders ------------------------------------------------------------------------------------------


def body_of(request: bytes) -> dict[str, Any]:
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None and int(length[1]) == len(body)
    told: dict[str, Any] = msgspec.json.decode(body)
    return told


def test_orders_take_carts_in_turn_and_one_of_eight_is_for_somebody_new() -> None:
    known = [f"+8490000000{n}" for n in range(10)]
    options = {"carts": [[("a", 1)], [("b", 2), ("a", 1)], [("c", 1)]], "phones": known}
    job = Job("h", 1, "orders", ["one", "two"], count=1, seed=1, options=options)
    requests = requests_of(job)
    drawn = [next(requests) for _ in range(240)]
    bodies = [body_of(one) for one in drawn]
    assert Counter(body["items"][0]["productId"] for body in bodies) == dict.fromkeys("abc", 80)
    phones = [body["customer"]["phone"] for body in bodies]
    new = [phone for phone in phones if phone not in known]
    assert len(new) == len(set(new)) == 240 // NEWCOMERS
    assert all(re.fullmatch(r"\+849\d{8}", phone) for phone in phones)
    keys = {re.search(rb"Idempotency-Key: (\S+)", one)[1] for one in drawn}  # type: ignore[index]
    assert len(keys) == 240


def test_a_phone_number_of_another_length_is_refused_before_the_run() -> None:
    options = {"carts": [[("a", 1)]], "phones": ["+12025550123456"]}
    with pytest.raises(JobUnfit, match="phones"):
        requests_of(Job("h", 1, "orders", ["one"], count=1, options=options))


# Verdicts ----------------------------------------------------------------------------------------


def test_a_verdict_says_what_was_promised_and_whether_it_was_kept() -> None:
    assert Verdict("a list", 12.5, 200, "ms").line == "pass  a list: 12.5 ms, promised ≤ 200 ms"
    assert Verdict("a list", 201, 200, "ms").line.startswith("FAIL")
    assert Verdict("ratio", 4.9, 5, "times", at_least=True).line.startswith("FAIL")
    assert Verdict("ratio", 5, 5, "times", at_least=True).kept


def test_only_benches_of_filled_shops_take_shops() -> None:
    for name, bench in BENCHES.items():
        one = bench()
        one.take(Shops())
        if name in ("orders-read", "orders-export"):
            one.take(Shops(orders=10))
        else:
            with pytest.raises(TakesNoShops):
                one.take(Shops(orders=10))


def told_of_reads(ms: float, asked: float = 10) -> dict[str, float]:
    from strongroom.lab.benches.orders_reads import COLUMNS, PLACING
    from strongroom.lab.benches.reading_kinds import KINDS

    names = [*(one.name for one in KINDS), PLACING]
    figures = {f"{name}: {which}": ms for name in names for which in COLUMNS}
    figures |= {f"{name}: asked": asked for name in names}
    return figures | {"failed": 0.0, "generator_behind_p99_ms": 1.0, "orders": 1.0}


def failing(figures: dict[str, float], baseline: dict[str, float]) -> list[str]:
    return [one.what for one in OrdersRead().verdicts(figures, baseline) if not one.kept]


def test_reads_pass_when_all_are_quick_and_none_grows() -> None:
    assert failing(told_of_reads(10), told_of_reads(8)) == []


def test_reads_fail_by_what_is_slow_what_grew_what_failed_and_what_was_never_asked() -> None:
    slow = told_of_reads(10) | {"order by id: p99_ms": 51.0, "order placed: p99_ms": 501.0}
    assert failing(slow, told_of_reads(8)) == [
        "order by id, p99 under load",
        "order placed, p99 under load",
    ]
    grown = told_of_reads(10) | {"own orders: alone_p50_ms": 16.0}
    assert failing(grown, told_of_reads(10)) == ["own orders, alone, of a tenth"]
    unasked = told_of_reads(10) | {"statistics: asked": 0.0}
    assert failing(unasked, told_of_reads(10)) == ["statistics, p99 under load"]
    broken = told_of_reads(10) | {"failed": 1.0, "generator_behind_p99_ms": 11.0}
    assert failing(broken, told_of_reads(10)) == [
        "not answered with 2xx",
        "generator behind its plan, p99",
    ]
