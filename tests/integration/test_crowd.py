"""A crowd at the door: all that arrives in one turn of the loop is not begun in that turn; and
nobody who waits is forgotten when the door closes, or hides behind those who do not listen."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, NamedTuple, cast

import psycopg
import pytest
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from playing import PATIENCE_S, new_round
from strongroom.apps.betting import PlaceBet
from strongroom.apps.wallets import Deposit
from strongroom.core.commands.admission import Admission
from strongroom.core.identity import Identity
from strongroom.doors.http.intake import AT_ONCE
from strongroom.doors.http.overflow import Overflow
from strongroom.doors.http.seen import Seen
from strongroom.doors.http.server import bound, configured
from strongroom.lab.wire import request
from strongroom.main import Strongroom

CROWD = 10 * AT_ONCE

PLENTY = 50 * 2**20
"""More than all buffers between a client and its connection hold, many times over."""


class Watched:
    """How many requests have begun, and how many had by each turn of the loop."""

    def __init__(self) -> None:
        self.begun = 0
        self.by_turn: list[int] = []

    async def turns(self) -> None:
        while True:
            self.by_turn.append(self.begun)
            await asyncio.sleep(0)

    @property
    def most(self) -> int:
        return max(later - earlier for earlier, later in pairwise(self.by_turn))


class Doorway(NamedTuple):
    """Where to knock, and who is at the door."""

    address: tuple[str, int]
    state: ServerState

    def close(self) -> None:
        """What a server does first when it is told to stop."""
        for connection in list(self.state.connections):
            connection.shutdown()


@asynccontextmanager
async def door(house: Strongroom, watched: Watched) -> AsyncIterator[Doorway]:
    """The API's own connections and application, in this loop."""
    house.settings.write_deadline_ms = 1000 * PATIENCE_S  # a slow machine turns nobody away
    config = configured(house)
    config.load()
    kind = config.http_protocol_class

    class Connection(cast("type[Any]", kind)):  # type: ignore[misc]
        def on_message_begin(self) -> None:
            watched.begun += 1
            super().on_message_begin()

    lifespan = LifespanOn(config)
    await lifespan.startup()
    state = ServerState()
    listening = bound("127.0.0.1", 0)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config=config, server_state=state, app_state={}),
        sock=listening,
        backlog=CROWD,
    )
    doorway = Doorway(listening.getsockname(), state)
    try:
        yield doorway
    finally:
        server.close()
        doorway.close()
        await server.wait_closed()
        await lifespan.shutdown()


async def until(holds: Callable[[], object]) -> None:
    """Turns the loop until it does."""
    while not holds():
        await asyncio.sleep(0)


async def answer(wire: socket.socket) -> int:
    """The status of the next answer, all of which is read."""
    return (await told(wire))[0]


async def told(wire: socket.socket) -> tuple[int, Any]:
    """The status of the next answer, and what it says."""
    loop, said = asyncio.get_running_loop(), b""
    while b"\r\n\r\n" not in said:
        piece = await loop.sock_recv(wire, 65536)
        assert piece, said
        said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += await loop.sock_recv(wire, 65536)
    return int(said[9:12]), json.loads(body)


async def knocking(count: int, doorway: Doorway, first: bytes) -> list[socket.socket]:
    """So many connections, over one of which it was learned whose path the first bet's is."""
    wires = [socket.create_connection(doorway.address) for _ in range(count)]
    for wire in wires:
        wire.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(wires[0], first)
    assert await answer(wires[0]) == 202
    return wires


def arrive(wires: list[socket.socket], wishes: list[bytes]) -> None:
    """One on each, all at once: the loop does not turn before the last is there."""
    for wire, wish in zip(wires, wishes, strict=True):
        wire.send(wish)


@pytest.fixture
async def bets(house: Strongroom) -> list[bytes]:
    """One more than the crowd, as they are sent."""
    identity: Identity = house.identity
    [(user_id, token)] = await identity.create_users(1, "user")
    await house.run(Deposit(user_id, 2 * CROWD))
    body = {"roundId": str(await new_round(house)), "side": "A", "amount": 1}
    return [
        request("POST", "/api/bets", token, f"bet-{number}", body) for number in range(CROWD + 1)
    ]


async def test_of_a_crowd_some_begin_in_each_turn_and_all_are_answered(
    house: Strongroom, bets: list[bytes]
) -> None:
    watched = Watched()
    async with door(house, watched) as here, asyncio.timeout(PATIENCE_S):
        wires = await knocking(CROWD, here, bets.pop())
        turning = asyncio.create_task(watched.turns())
        await asyncio.sleep(0)
        arrive(wires, bets)
        statuses = await asyncio.gather(*map(answer, wires))
        turning.cancel()
        for wire in wires:
            wire.close()
    assert set(statuses) == {202}
    assert watched.begun == 1 + CROWD
    assert 1 < watched.most <= AT_ONCE


async def test_who_waits_when_the_door_closes_is_answered_and_then_the_connection_ends(
    house: Strongroom, bets: list[bytes]
) -> None:
    watched, loop = Watched(), asyncio.get_running_loop()
    async with door(house, watched) as here, asyncio.timeout(PATIENCE_S):
        wires = await knocking(CROWD, here, bets.pop())
        arrive(wires, bets)
        await until(lambda: watched.begun > 1)
        assert watched.begun < CROWD, "most of them wait"
        here.close()
        assert set(await asyncio.gather(*map(answer, wires))) == {202}
        assert set(await asyncio.gather(*(loop.sock_recv(wire, 1) for wire in wires))) == {b""}


async def test_nobody_is_turned_away_for_those_who_came_later(
    house: Strongroom, bets: list[bytes]
) -> None:
    watched = Watched()
    async with door(house, watched) as here, asyncio.timeout(PATIENCE_S):
        wires = await knocking(CROWD, here, bets.pop())
        arrive(wires, bets)
        await until(lambda: watched.begun > 1)
        (intake,) = {connection.overflow.intake for connection in here.state.connections}
        intake._each_s = 1.0  # who came now would wait for minutes
        assert set(await asyncio.gather(*map(answer, wires))) == {202}
        for wire in wires:
            wire.close()


async def test_the_kill_switch_neither_waits_for_a_crowd_nor_is_turned_away_for_it(
    house: Strongroom, bets: list[bytes]
) -> None:
    [(_, token)] = await house.identity.create_users(1, "operator")
    reason, path = {"reason": "paid twice?"}, "/api/ops/payouts/pause"
    pauses = [request("POST", path, token, f"pause-{number}", reason) for number in range(2)]
    watched, loop = Watched(), asyncio.get_running_loop()
    async with door(house, watched) as here, asyncio.timeout(PATIENCE_S):
        *wires, switch = await knocking(CROWD + 1, here, bets.pop())
        await loop.sock_sendall(switch, pauses[0])
        assert await answer(switch) == 200
        arrive(wires, bets)
        await until(lambda: watched.begun > 2)
        (intake,) = {connection.overflow.intake for connection in here.state.connections}
        intake._each_s = 1.0
        await loop.sock_sendall(switch, pauses[1])
        assert await answer(switch) == 200
        assert set(await asyncio.gather(*map(answer, wires))) == {202}
        for wire in (*wires, switch):
            wire.close()


async def test_of_those_who_wait_some_have_said_all_and_some_are_gone(
    house: Strongroom, bets: list[bytes]
) -> None:
    watched, faults = Watched(), list[object]()
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: faults.append(context.get("exception"))
    )
    async with door(house, watched) as here, asyncio.timeout(PATIENCE_S):
        wires = await knocking(CROWD, here, bets.pop())
        arrive(wires, bets)
        for gone in wires[1::2]:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
        for quiet in wires[::2]:
            quiet.shutdown(socket.SHUT_WR)
        assert set(await asyncio.gather(*map(answer, wires[::2]))) == {202}
        await until(lambda: not here.state.connections)
    assert not any(faults), faults


async def test_who_hears_no_refusal_is_not_listened_to_either(
    house: Strongroom, bets: list[bytes]
) -> None:
    house.admission = Admission(clock=lambda: 0.0)
    async with door(house, Watched()) as here, asyncio.timeout(PATIENCE_S):
        house.admission.change(frozenset(), {"PlaceBet": 1})  # for ever, as no time passes
        (wire,) = await knocking(1, here, bets.pop())
        (connection,) = here.state.connections
        sent = quiet_turns = 0
        while sent < PLENTY and quiet_turns < 10_000:
            try:
                sent += wire.send(bets[0])
                quiet_turns = 0
            except BlockingIOError:
                quiet_turns += 1
                await asyncio.sleep(0)
        assert sent < PLENTY
        assert connection.transport.get_write_buffer_size() < 2**20
        wire.close()


async def test_who_has_not_said_all_when_time_is_up_is_told_that_the_process_stops(
    house: Strongroom, bets: list[bytes]
) -> None:
    async with door(house, Watched()) as here, asyncio.timeout(PATIENCE_S):
        (wire,) = await knocking(1, here, bets.pop())
        wire.send(bets[0][:-1])
        await until(lambda: here.state.tasks)
        for _ in range(10):  # it has begun to read
            await asyncio.sleep(0)
        for task in here.state.tasks:
            task.cancel()
        status, said = await told(wire)
        assert (status, said["code"]) == (503, "draining")
        wire.close()


async def test_whose_group_is_under_way_when_time_is_up_learns_that_nobody_knows(
    house: Strongroom, bets: list[bytes], database_url: str
) -> None:
    async with door(house, Watched()) as here, asyncio.timeout(PATIENCE_S):
        one, other = await knocking(2, here, bets.pop())
        async with await psycopg.AsyncConnection.connect(database_url) as db:
            await db.execute("LOCK TABLE betting.bets IN ACCESS EXCLUSIVE MODE")
            one.send(bets[0])
            await until(lambda: not house.lanes.by_command[PlaceBet].idle)
            for task in here.state.tasks:
                task.cancel()
            status, said = await told(one)
            assert (status, said["code"]) == (503, "outcome_unknown")
        await until(lambda: house.lanes.by_command[PlaceBet].idle)
        other.send(bets[0])
        assert await answer(other) == 202
        for wire in (one, other):
            wire.close()


FIRST = b"POST /api/bets HTTP/1.1\r\nHost: h\r\n"

PLAIN = {
    "nothing special": b"Content-Length: 2\r\n\r\n{}",
    "blanks around the length": b"content-length: \t2 \r\nConnection: Keep-Alive\r\n\r\n{}",
    "no body": b"X: y\r\nContent-Length:0\r\n\r\n",
}

ODD = {
    "two lengths": b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}",
    "two lengths, one signed": b"Content-Length: 2\r\nContent-Length: +60\r\n\r\n{}",
    "two lengths, one a list": b"Content-Length: 60, 2\r\nContent-Length: 2\r\n\r\n{}",
    "a length with zeros before it": b"Content-Length: 02\r\n\r\n{}",
    "a length that is none": b"Content-Length: \r\n\r\n",
    "two requests for who goes by line feeds": (
        b"X: y\nContent-Length: 0\n\nGET /healthz HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    ),
    "a header for who goes by carriage returns": b"X: y\rZ: 1\r\nContent-Length: 2\r\n\r\n{}",
    "chunks": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "a folded line": b"X: y\r\n z\r\nContent-Length: 2\r\n\r\n{}",
    "less than its length": b"Content-Length: 3\r\n\r\n{}",
    "more than its length": b"Content-Length: 1\r\n\r\n{}",
    "no length": b"\r\n",
    "no end": b"Content-Length: 0\r\n",
}


async def test_what_may_be_more_or_less_than_one_request_is_left_to_the_parser(
    house: Strongroom,
) -> None:
    overflow = Overflow(house, Seen())
    overflow.learn("POST", "/api/bets", PlaceBet)
    for what, rest in PLAIN.items():
        assert overflow.wish(FIRST + rest) == (b"POST", b"/api/bets"), what
    for what, rest in ODD.items():
        assert overflow.wish(FIRST + rest) is None, what
