"""The power of Postgres' disk is cut under load: what was acknowledged is there when it comes back.

    unshare --mount python -m strongroom.lab.chaos.power_cuts --cuts 5

Commands of all applications run in this process, as in an API whose database is another machine:
it lives on through each cut, meets the recovered server, and settles by their keys what was in
doubt. The controls are the same with a promise taken away, `synchronous_commit` or `fsync`: they
must lose, else no power was cut and the trial says nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
import structlog

from strongroom.clock import monotonic
from strongroom.core.db.embedded import EmbeddedError
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.field import Field
from strongroom.lab.chaos.power import Disk, NoPower, in_a_namespace, scratch, why_not
from strongroom.lab.chaos.wishes import KINDS, Fair, Wish
from strongroom.lab.programs import family
from strongroom.lab.trial import ENOUGH_ACKNOWLEDGED, Trial

Flaw = Literal["synchronous_commit", "fsync"]

FLAWS: tuple[Flaw, ...] = ("synchronous_commit", "fsync")
"""The settings that a control turns off: what is acknowledged is then not on the disk, yet."""

CUTS = 5
CLIENTS = 48
PEOPLE = 24
FUNDS = 10**9

ENOUGH = 400
"""Acknowledged between two cuts, at least."""

LONGEST_WAIT_S = 0.4
"""After that the cut comes at any moment of the load."""

BACK_S = 30.0
"""Recovery replays seconds of log; who is not back by then does not come back."""

LOOK_S = 0.005
STOP_S = 60.0

TOLD = 6000
"""Of what a process said that failed, from its first error on."""


class Load:
    """Clients that wish one thing after the other, each until its outcome is definite."""

    def __init__(self, fair: Fair) -> None:
        self.fair = fair
        self._over = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this lasts; then everything that was wished is settled."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client())
            try:
                yield
            finally:
                self._over = True

    async def _client(self) -> None:
        kinds = list(KINDS)
        while not self._over:
            await self.fair.ask(self.fair.wish(self.fair.chance.choice(kinds)))

    async def acknowledged(self, more: int, within_s: float = STOP_S) -> None:
        """Returns when so many more have been."""
        wanted, patience = len(self.fair.acknowledged) + more, monotonic() + within_s
        while len(self.fair.acknowledged) < wanted:
            assert monotonic() < patience, f"no {more} acknowledgements in {within_s:g} s"
            await asyncio.sleep(LOOK_S)


class PowerCuts:
    """The field whose Postgres lies on the disk, and what came of the cuts."""

    def __init__(self, field: Field, disk: Disk, seed: int) -> None:
        self.field, self.disk = field, disk
        self.chance = random.Random(seed)
        self.recovery_ms: list[float] = []
        self.lost: list[Wish] = []

    async def fair(self) -> Fair:
        """A new fair on the same books."""
        people = [one.user_id for one in await self.field.people(PEOPLE, FUNDS)]
        fair = Fair(self.field.house, people, self.chance.randrange(2**32))
        await fair.open(self.field.house.database)
        return fair

    async def cut(self, fair: Fair) -> list[Wish]:
        """The power goes; all of Postgres with it. What had been acknowledged by then."""
        pid = self.field.postgres.pid
        assert pid is not None, "Postgres does not run"
        # Held for this moment: who is forked after the look would live on, on a dead disk.
        os.kill(pid, signal.SIGSTOP)
        machine = family(pid)
        self.disk.cut()
        acknowledged = list(fair.acknowledged)
        for one in machine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        while self.field.postgres.poll() is None:
            await asyncio.sleep(LOOK_S)
        self.field.postgres.stop()  # lets go of the disk
        return acknowledged

    async def come_back(self) -> None:
        """The power is back; returns when Postgres has recovered."""
        await asyncio.to_thread(self.disk.restore)
        await asyncio.to_thread(self.field.postgres.start)

    async def cuts(self, count: int) -> Fair:
        """Cut after cut under one load, which goes on meanwhile."""
        fair = await self.fair()
        load = Load(fair)
        enough = max(ENOUGH, 1 + ENOUGH_ACKNOWLEDGED // count)
        async with load.running():
            for _ in range(count):
                await load.acknowledged(enough)
                await asyncio.sleep(self.chance.uniform(0, LONGEST_WAIT_S))
                acknowledged = await self.cut(fair)
                back_at = monotonic()
                await self.come_back()
                await load.acknowledged(1, BACK_S)
                self.recovery_ms.append((monotonic() - back_at) * 1000)
                self.lost += await fair.missing(self.field.house.database, acknowledged)
        return fair

    async def control(self, flaw: Flaw) -> tuple[int, int]:
        """The same with a setting turned off, once: how much was acknowledged, and how much of
        that is lost; all of it, where Postgres does not even recover."""
        settings = self.disk.place / "cluster" / "postgresql.auto.conf"
        # The background writer would keep what nobody promised, but for the last moment.
        settings.write_text(f"{flaw} = off\nwal_writer_delay = 10s\n")
        self._reload()
        fair = await self.fair()
        load = Load(fair)
        clients = asyncio.create_task(self._until_dark(load))
        await load.acknowledged(ENOUGH)
        await asyncio.sleep(self.chance.uniform(0, LONGEST_WAIT_S))
        acknowledged = await self.cut(fair)
        clients.cancel()
        await asyncio.gather(clients, return_exceptions=True)
        done = sum(wish.effect is not None for wish in acknowledged)
        try:
            await self.come_back()
            lost = len(await fair.missing(self.field.house.database, acknowledged))
        except EmbeddedError:
            return done, done
        settings.write_text("")
        self._reload()
        return done, lost

    def _reload(self) -> None:
        pid = self.field.postgres.pid
        assert pid is not None, "Postgres does not run"
        os.kill(pid, signal.SIGHUP)

    async def _until_dark(self, load: Load) -> None:
        async with load.running():
            await asyncio.Event().wait()


async def carry_out(cuts: int, flaws: list[Flaw], seed: int) -> Trial:
    """The trial itself, in a namespace whose mounts are its own."""
    began = monotonic()
    folder = scratch("strongroom-power-")
    try:
        with Disk(folder / "image", folder / "disk") as disk:
            cluster = folder / "field" / "postgres" / "cluster"
            cluster.parent.mkdir(parents=True)
            cluster.symlink_to(disk.place / "cluster")
            trial: Trial | None = None
            try:
                async with Field(apis=0, workers=0, folder=folder / "field") as field:
                    trial = await _trial(PowerCuts(field, disk, seed), cuts, flaws, began)
            except (AssertionError, EmbeddedError):
                # A control may leave a cluster that does not start again, not even to be stopped.
                if trial is None:
                    raise
            return trial
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _trial(done: PowerCuts, cuts: int, flaws: list[Flaw], began: float) -> Trial:
    fair = await done.cuts(cuts)
    database = done.field.house.database
    lost, doubled = await fair.account(database)
    again = await fair.replayed(fair.acknowledged)
    violations = [*again, *await done.field.reconcile()]
    what: dict[str, float] = {"replayed": len(fair.acknowledged)}
    believed = True
    for flaw in flaws:
        acknowledged, gone = await done.control(flaw)
        what |= {f"control {flaw}=off acknowledged": acknowledged, f"control {flaw}=off lost": gone}
        believed = believed and gone > 0
    return Trial(
        row="C6",
        name="power-cuts",
        seed=0,
        # A control that lost nothing: then no power was cut, and there was no trial.
        faults=cuts if believed else 0,
        acknowledged=len(fair.acknowledged),
        lost=max(len(lost), len(done.lost)),
        doubled=len(doubled),
        unknown=fair.unknown,
        unresolved=len(fair.unresolved),
        violations=violations,
        recovery_ms=done.recovery_ms,
        what=what,
        seconds=monotonic() - began,
    )


async def power_cuts(cuts: int, flaws: list[Flaw], seed: int) -> Trial:
    """So many cuts and a control for each flaw, in a process with a namespace of its own."""
    command = [sys.executable, "-m", __name__, "--cuts", str(cuts), "--seed", str(seed)]
    command += [f"--control={flaw}" for flaw in flaws]
    process = await asyncio.create_subprocess_exec(
        *in_a_namespace(command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        said, also = await process.communicate()
    finally:
        if process.returncode is None:
            # In order: its Postgres would keep the namespace, and the namespace its disk.
            process.send_signal(signal.SIGINT)
            await process.wait()
    told = also.decode(errors="replace")
    assert process.returncode == 0, told[max(0, told.find("Traceback")) :][:TOLD]
    return msgspec.json.decode(said, type=Trial)


@scenario(
    "power-cut",
    "The power of Postgres' disk is cut under load (root only): every acknowledged effect is there "
    "exactly once after recovery, and a control with synchronous_commit=off loses some.",
    takes=("faults",),
)
async def power_cut(wanted: Wanted, say: Say) -> Trial:
    """`wanted.faults` cuts and one control."""
    if reason := await asyncio.to_thread(why_not):
        raise NoPower(reason)
    count = wanted.faults or CUTS
    say(f"{count} cuts, then a control that must lose")
    return await power_cuts(count, ["synchronous_commit"], wanted.seed)


def main() -> None:
    """Prints the trial as JSON."""
    said = argparse.ArgumentParser(prog="python -m strongroom.lab.chaos.power_cuts")
    said.add_argument("--cuts", type=int, default=CUTS)
    said.add_argument("--control", action="append", choices=FLAWS, default=[])
    said.add_argument("--seed", type=int, default=1)
    asked = said.parse_args()
    # What is said in between goes to the error stream: the trial alone is the output.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    trial = asyncio.run(carry_out(asked.cuts, asked.control, asked.seed))
    trial.seed = asked.seed
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(trial), indent=2) + b"\n")


if __name__ == "__main__":
    main()
