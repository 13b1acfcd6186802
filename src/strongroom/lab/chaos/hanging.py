"""Clients that hang: they connect and say nothing, say half of what they want, never listen to the
answers, or go away once they have spoken."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

from strongroom.clock import monotonic
from strongroom.lab.chaos.accounting import tried
from strongroom.lab.chaos.catalogue import Say, Wanted, WantedUnfit, scenario
from strongroom.lab.chaos.crowd import Crowd, Manners
from strongroom.lab.chaos.field import Field
from strongroom.lab.trial import ENOUGH_ACKNOWLEDGED, Trial
from strongroom.lab.wire import request

HANGS = 90
PAUSE_S = 0.1
"""Between two clients that hang, on average."""

PER_SECOND = 120.0
RUDE = Manners(hang_up=0.1)
KINDS = ("silent", "half", "deaf")

WITHOUT_LISTENING = 400
"""Questions of one who never listens: their answers are more than any socket's buffers hold."""

SMALL_BUFFER_BYTES = 4096
SEND_S = 0.5
"""Who does not listen is not listened to either: its later questions wait for ever."""

PATIENCE_MS = 5_000.0
"""Nobody who behaves waits so long, on a machine however busy, unless for one who hangs."""

SPARE_FILES = 20
LONGEST_S = 120.0
AWAY_S = 10.0
LOOK_S = 0.05


class Hangers:
    """Clients that hang, on sockets that nobody reads."""

    def __init__(self, field: Field, *, seed: int) -> None:
        self._field, self._chance = field, random.Random(seed)
        self._sockets: list[socket.socket] = []
        self.hung: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.since_s: list[float] = []

    @property
    def count(self) -> int:
        return sum(self.hung.values())

    async def come(self, kind: str) -> None:
        """One more that hangs, after a while."""
        await asyncio.sleep(self._chance.expovariate(1 / PAUSE_S))
        loop = asyncio.get_running_loop()
        one = socket.socket()
        self._sockets.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        one.setblocking(False)
        await loop.sock_connect(one, ("127.0.0.1", self._chance.choice(self._field.ports)))
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(SEND_S):
                await loop.sock_sendall(one, self._words(kind))
        self.hung[kind] += 1
        self.since_s.append(monotonic())

    def _words(self, kind: str) -> bytes:
        token = self._field.operator.token
        if kind == "silent":
            return b""
        if kind == "half":
            body = {"name": "Never said to its end", "kind": "oracle"}
            said = request("POST", "/api/rounds", token, f"half-{self.count}", body)
            return said[: self._chance.randrange(1, len(said))]
        return request("GET", "/api/rounds?limit=200", token) * WITHOUT_LISTENING

    def leave(self) -> None:
        """All of them go away."""
        while self._sockets:
            self._sockets.pop().close()


@scenario(
    "hang",
    "Clients connect and say nothing, say half a request, never read their answers, or hang up "
    "after sending: nobody else waits for them, what was sent is done once or not at all, and "
    "nothing of them stays open.",
    takes=("faults", "acknowledged"),
)
async def hang(wanted: Wanted, say: Say) -> Trial:
    count, enough = wanted.faults or HANGS, wanted.acknowledged or ENOUGH_ACKNOWLEDGED
    if count < len(KINDS):
        raise WantedUnfit(f"Clients hang in {len(KINDS)} ways: --faults {len(KINDS)} at least.")
    say("starting: Postgres, two API processes, a worker")
    async with Field(apis=2, workers=1) as field:
        crowd = Crowd(field, seed=wanted.seed, per_second=PER_SECOND, manners=RUDE)
        hangers = Hangers(field, seed=wanted.seed)
        await crowd.gather()
        began = monotonic()
        async with crowd.at_work() as notes:
            await crowd.acknowledge(min(100, enough), LONGEST_S)
            before = _open_files(field)
            try:
                while hangers.count < count:
                    await hangers.come(KINDS[hangers.count % len(KINDS)])
                    say(f"{hangers.count} hang, {notes.acknowledged} acknowledged")
                await crowd.acknowledge(enough, LONGEST_S)
            finally:
                hangers.leave()
            left_open = await _left_open(field, before)
        seconds = monotonic() - began
        say("replaying every answer, and looking at the books")
        waits = [notes.recovered_ms(at_s) for at_s in hangers.since_s]
        recovered = [one for one in waits if one is not None]
        slow = [one for one in recovered if one > PATIENCE_MS]
        return await tried(
            crowd,
            row="hang",
            name="hang",
            faults=hangers.count + notes.hung_up,
            seconds=seconds,
            recovery_ms=recovered,
            what={**hangers.hung, "hung up": notes.hung_up},
            violations=left_open + [f"all waited {one:.0f} ms after somebody hung" for one in slow],
            enough=enough,
        )


def _open_files(field: Field) -> int:
    """Of the API processes, sockets among them."""
    return sum(one.open_files() for one in field.apis)


async def _left_open(field: Field, before: int) -> list[str]:
    """What the processes keep of clients that have gone; a little comes and goes by itself."""
    patience = monotonic() + AWAY_S
    while (now := _open_files(field)) > before + SPARE_FILES:
        if monotonic() > patience:
            return [f"{now} files are open, {before} were before anybody hung"]
        await asyncio.sleep(LOOK_S)
    return []
