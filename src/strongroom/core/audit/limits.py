"""Limits that an operator changes while everything runs: what they are called, who changed them,
and how each process takes them on."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import structlog

from strongroom.core.commands import Command, Reply, Work
from strongroom.core.db import Database, Queries, Record
from strongroom.core.db.database import Listener
from strongroom.errors import NotFound, StrongroomError, invalid
from strongroom.ids import digest_id
from strongroom.settings import RATE

sql = Queries(__package__, "switches.sql")

log = structlog.get_logger(__name__)

CHANNEL = "strongroom_limits"

POLL_S = 1.0
"""A change is heard at once; this finds the one that was not heard."""

Value = str | int | bool

RATES = ("rate.global", "rate.orders", "rate.reports")

DEADLINE = "writes.deadline_ms"
SHORTEST_MS, LONGEST_MS = 50, 60_000
"""As the setting has it; beyond a minute no client waits."""

MOST_PER_S = 1_000_000

LANE = re.compile(r"lane\.([A-Z][A-Za-z]+)\.(open|per_s)").fullmatch


class LimitSeen(Reply, frozen=True):
    """A limit that was changed; `value` null means that the setting counts again."""

    name: str
    value: Value | None
    since: datetime | None
    by: str
    reason: str


def lane_names() -> Iterator[str]:
    """The commands whose lanes may be limited. What the core itself does may not: the switches,
    reconciliations, callbacks of payments."""
    waiting: list[type[Command]] = [Command]  # type: ignore[type-abstract]  # none is made
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind is not Command and not kind.__module__.startswith("strongroom.core."):
            yield kind.__name__


def no_such(name: str) -> NotFound:
    known = ", ".join((*RATES, DEADLINE))
    return NotFound(
        f"There is no limit {name[:100]!r}, but {known}, lane.COMMAND.open, lane.COMMAND.per_s."
    )


def check(name: str, value: Value) -> None:
    """Invalid when the value does not fit its limit, NotFound when there is none."""
    lane = LANE(name)
    if name in RATES:
        if not isinstance(value, str) or not RATE(value):
            raise invalid("value", "is written like 300/minute or 5/5 minutes")
    elif name == DEADLINE:
        _whole(value, SHORTEST_MS, LONGEST_MS)
    elif lane is None or lane[1] not in lane_names():
        raise no_such(name)
    elif lane[2] == "per_s":
        _whole(value, 1, MOST_PER_S)
    elif not isinstance(value, bool):
        raise invalid("value", "is true or false")


def fits(name: str, value: Value) -> bool:
    """Whether this program has such a limit, and it may be this: what another release or somebody's
    hand has left in the table may not."""
    try:
        check(name, value)
    except StrongroomError:
        return False
    return True


def is_limit(name: str) -> bool:
    lane = LANE(name)
    return name in (*RATES, DEADLINE) or (lane is not None and lane[1] in lane_names())


def _whole(value: Value, least: int, most: int) -> None:
    # True is an int to Python.
    if type(value) is not int or not least <= value <= most:
        raise invalid("value", f"is a whole number from {least} to {most}")


def _seen(row: Record) -> LimitSeen:
    value = None if row["value"] is None else msgspec.json.decode(row["value"])  # see fits
    return LimitSeen(row["name"], value, row["since"], row["by_whom"], row["reason"])


@dataclass(frozen=True, slots=True)
class SetLimit(Command):
    """Changes a limit on every process, until it is changed again; None puts the setting back.
    NotFound, and Invalid when the value does not fit it."""

    name: str
    value: Value | None
    reason: str

    reply = LimitSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[SetLimit]) -> None:
        await work.db.execute(sql.hold_controls)
        names = sorted({command.name for command in batch})
        rows = await work.db.fetch(sql.read_limits, names)
        work.noted["limits"] = {row["name"]: _seen(row) for row in rows}

    def decide(self, work: Work) -> LimitSeen:
        seen: dict[str, LimitSeen] = work.noted["limits"]
        if self.value is not None:
            check(self.name, self.value)
        elif self.name not in seen and not is_limit(self.name):
            # One that was changed can be put back, also when its command is no longer there.
            raise no_such(self.name)
        before = seen.get(self.name) or LimitSeen(self.name, None, None, "", "")
        if (type(before.value), before.value) == (type(self.value), self.value):
            return before
        now = LimitSeen(self.name, self.value, work.now, work.by, self.reason)
        value = None if self.value is None else msgspec.json.encode(self.value).decode()
        work.run_at_end(sql.set_limit, self.name, value, work.now, work.by, self.reason)
        work.emit("audit.LimitChanged", digest_id("limit", self.name), now)
        seen[self.name] = now
        return now


async def changed_limits(database: Database) -> list[LimitSeen]:
    """What operators changed and did not put back, by name."""
    return [_seen(row) for row in await database.fetch(sql.limits)]


Adopt = Callable[[Mapping[str, Value]], None]


class Limits:
    """Keeps a process to the limits as they stand. One that cannot read keeps what it knew."""

    def __init__(self, database: Database, adopt: Adopt) -> None:
        self._db, self._adopt = database, adopt
        self._known: dict[str, Value] = {}
        self._wake = asyncio.Event()
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads before anything is served, then stays informed."""
        self._listener = await self._db.listen([CHANNEL], lambda _channel, _: self._wake.set())
        await self.look_once()
        self._task = asyncio.create_task(self._forever(), name="limits")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._listener is not None:
            await self._listener.stop()

    async def _forever(self) -> None:
        while True:
            # Not wait_for, which before Python 3.12 loses a cancellation that comes as it is woken.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            self._wake.clear()
            await self.look_once()

    async def look_once(self) -> bool:
        """Takes on what has changed; whether it could be read."""
        try:
            found = await changed_limits(self._db)
        except Exception as error:
            log.warning("limits not read", error=repr(error))
            return False
        known = {one.name: one.value for one in found if one.value is not None}
        if known != self._known:
            fit = {name: value for name, value in known.items() if fits(name, value)}
            log.info("limits changed", limits=fit, unfit=sorted(known.keys() - fit))
            self._known = known
            self._adopt(fit)
        return True
