"""What a crowd asked for, word for word, and what it was told: the material of the accounting.

A request has one key for ever. It is acknowledged when a definite answer has come, done or refused;
it was unknown at first when a connection broke over it, when nothing came in time, or when the
answer itself said so; then it is asked again with the same key until the answer is definite.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from strongroom.clock import monotonic
from strongroom.lab.wire import GIVE_UP_S, Address, Broken, Reply, Wire, request

PAUSE_S = (0.02, 0.1)
"""Before the same is asked again, at least and at most."""

DONE = 300
"""Statuses below this say that it was done."""

SHARES = (0.5, 0.99, 1.0, 1.0)
"""How much of a request is sent by who hangs up over it."""


@dataclass
class Asked:
    """One request under one key. `effect` is what it asks for, in the words in which the books show
    it where it is done: see `accounting`."""

    kind: str
    said: bytes
    key: str | None = None
    effect: str = ""
    reply: Reply | None = None
    """The first definite answer; None while there is none."""
    unknown: bool = False
    """Its outcome was unknown at first."""
    tries: int = 0
    changed: list[Reply] = field(default_factory=list)
    """Later answers that differ from the first; there must be none."""
    done_anew: int = 0
    """Later answers that are no replays; there must be none."""

    @property
    def done(self) -> bool:
        return self.reply is not None and self.reply.status < DONE

    @property
    def refused(self) -> bool:
        return self.reply is not None and self.reply.status >= DONE

    @property
    def told(self) -> Any:
        """What the answer says."""
        assert self.reply is not None, "nobody has answered yet"
        return self.reply.json

    def heard(self, reply: Reply) -> None:
        """A definite answer; the first one counts, and later ones must be the same bytes."""
        if self.reply is None:
            self.reply = reply
        elif (reply.status, reply.body) != (self.reply.status, self.reply.body):
            self.changed.append(reply)


class Heard(NamedTuple):
    """That a process acknowledged something, when, and after how long a wait of its client."""

    at_s: float
    port: int
    ms: float


class Notes:
    """All that was asked in a run, in order, and when something was acknowledged."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.heard: list[Heard] = []
        self.acknowledged = 0
        self.twins = 0
        """Requests that were sent once more while they were under way."""
        self.repeats = 0
        """Requests that were sent once more after they had been answered."""
        self.hung_up = 0

    @property
    def unknown(self) -> int:
        """How many outcomes were unknown at first."""
        return sum(one.unknown for one in self.asked)

    @property
    def unresolved(self) -> int:
        """How many still are."""
        return sum(one.reply is None for one in self.asked)

    def recovered_ms(self, since_s: float, port: int | None = None) -> float | None:
        """From then until the next acknowledgement, by any process or by the one on this port."""
        for one in self.heard:
            if one.at_s >= since_s and port in (None, one.port):
                return (one.at_s - since_s) * 1000
        return None

    def p99_ms(self, since_s: float, until_s: float) -> float:
        """Of the waits that ended between the two instants; 0 when none did."""
        waits = sorted(one.ms for one in self.heard if since_s <= one.at_s < until_s)
        return waits[len(waits) * 99 // 100] if waits else 0.0


class Caller:
    """One client, with a connection to each API process; one request at a time."""

    def __init__(
        self,
        ports: Sequence[int],
        notes: Notes,
        chance: random.Random,
        *,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self.notes, self.chance = notes, chance
        self._give_up_s = give_up_s
        self._wires = {port: Wire([Address("127.0.0.1", port)], chance) for port in ports}

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()

    def wish(self, kind: str, path: str, token: str, body: Any, *, effect: str = "") -> Asked:
        """A new request, noted before it is sent: even one that nobody hears is accounted for."""
        key = UUID(int=self.chance.getrandbits(128)).hex
        return self.note(Asked(kind, request("POST", path, token, key, body), key, effect))

    def note(self, asked: Asked) -> Asked:
        self.notes.asked.append(asked)
        return asked

    async def ask(self, asked: Asked, *, port: int | None = None) -> Asked:
        """Asks until the answer is definite, whichever process gives it (first the one of
        `port`); what has no answer after a minute is given up and stays unresolved."""
        if await self._resolve(asked, port):
            self.notes.acknowledged += 1
        return asked

    async def again(self, asked: Asked, *, port: int | None = None) -> None:
        """Asks once more for what was acknowledged: the same bytes must come, as a replay."""
        assert asked.reply is not None, "nobody has answered yet"
        repeated = Asked(asked.kind, asked.said, asked.key)
        self.notes.repeats += 1
        if not await self._resolve(repeated, port):
            return
        assert repeated.reply is not None
        asked.heard(repeated.reply)
        if asked.key and repeated.reply.headers.get("idempotency-replayed") != "true":
            asked.done_anew += 1

    async def echo(self, asked: Asked, *, port: int | None = None) -> None:
        """The same once more while another caller asks for it: both must be told the same."""
        twin = Asked(asked.kind, asked.said, asked.key)
        self.notes.twins += 1
        if await self._resolve(twin, port) and twin.reply is not None:
            asked.heard(twin.reply)

    async def hang_up(self, asked: Asked) -> None:
        """Sends all or most of it and goes away: its outcome is unknown."""
        asked.tries += 1
        asked.unknown = True
        self.notes.hung_up += 1
        wire = self.chance.choice(list(self._wires.values()))
        await wire.hang_up(asked.said, self.chance.choice(SHARES))

    async def _resolve(self, asked: Asked, port: int | None) -> bool:
        began = monotonic()
        while (by := await self._once(asked, port)) is None:
            port = None
            if monotonic() > began + self._give_up_s:
                return False
            await asyncio.sleep(self.chance.uniform(*PAUSE_S))
        now = monotonic()
        self.notes.heard.append(Heard(now, by, (now - began) * 1000))
        return True

    async def _once(self, asked: Asked, port: int | None) -> int | None:
        """One try; the port that gave the definite answer."""
        chosen = self.chance.choice(list(self._wires)) if port is None else port
        asked.tries += 1
        try:
            reply = await self._wires[chosen].ask(asked.said)
        except Broken as broken:
            # Who could not even connect has said nothing.
            asked.unknown |= not isinstance(broken.__cause__, ConnectionRefusedError)
            return None
        if not reply.definite:
            asked.unknown |= reply.json["code"] == "outcome_unknown"
            return None
        asked.heard(reply)
        return chosen
