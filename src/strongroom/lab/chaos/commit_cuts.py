"""Connections are cut at COMMIT, before its delivery and after it: each wish has its effect once.

Commands of all three applications, alone and in groups of many, and a worker's groups, which end
with the deletion of their messages. Half of the cuts meet a program that has time: it claims the
keys again by itself. The other half meet one whose deadline is over: it says that the outcome is
unknown, and whoever asked comes again with the same key.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
from collections import Counter
from pathlib import Path
from uuid import UUID

from strongroom.apps.betting import CloseRound, CreateRound, PlaceBet, RecordResult
from strongroom.apps.betting.rows import Side
from strongroom.clock import monotonic
from strongroom.core.db import DatabaseDown
from strongroom.doors.worker import Worker, worker_of
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.field import Field
from strongroom.lab.chaos.power import scratch
from strongroom.lab.chaos.proxy import CommitCutter, When
from strongroom.lab.chaos.wishes import GIVE_UP_S, KINDS, Fair, Wish, sql
from strongroom.lab.trial import Trial
from strongroom.main import SUBSCRIBERS, Strongroom

WHENS: tuple[When, ...] = ("before", "after")

CUTS = 200
PEOPLE = 12
FUNDS = 10**9

GROUP = 24
"""Commands that share a transaction in every second cut."""

BETS = 16
"""Bets of a round that the worker matches, pays and gives back."""

NO_PATIENCE_S = 0.0
"""The deadline is over when the connection breaks: nothing is claimed again."""

WORKERS_SHARE = 4
"""One of so many cuts meets a worker."""


ERRANDS = ("payments_charge", "payments_refund", "ticketing_mail")
"""They call somebody first and note what came of it: their first COMMIT is not their messages'."""


class CommitCuts:
    """The field, a house that reaches Postgres through the cutter, and what came of it."""

    def __init__(self, field: Field, house: Strongroom, cutter: CommitCutter, seed: int) -> None:
        self.field, self.house, self.cutter = field, house, cutter
        self.database = field.house.database
        self.fair = Fair(house, [], seed)
        self.violations: list[str] = []
        self.unknown = 0
        self.replayed: Counter[tuple[When, bool]] = Counter()
        self.seen: Counter[tuple[When, bool]] = Counter()
        """Whether the effect was there at the moment of a cut."""
        self.said: dict[When, Counter[str]] = {"before": Counter(), "after": Counter()}
        """What the impatient were told."""
        self.by_command: Counter[str] = Counter()
        self.by_queue: Counter[str] = Counter()

    async def open(self) -> None:
        people = await self.field.people(PEOPLE, FUNDS)
        self.fair.people = [one.user_id for one in people]
        await self.fair.open(self.database)

    async def cut_command(self, kind: str, count: int, when: When, *, patient: bool) -> None:
        """A group of one kind whose COMMIT is cut off, until all its outcomes are definite."""
        wishes = await self.fair.wishes(kind, count)
        kind = wishes[0].kind
        self._arm(when, wishes)
        made = len(self.cutter.cuts)
        outcomes = await self.fair.run(wishes, GIVE_UP_S if patient else NO_PATIENCE_S)
        self._check_cut(made, kind, when, count)
        if not patient:
            told = {
                f"{outcome.error.code}: {outcome.error.detail}" if outcome.error else "an answer"
                for outcome in outcomes
            }
            self.said[when].update(told)
            self.unknown += count
            outcomes = await self.fair.run(wishes)
        self.replayed.update((when, outcome.replayed) for outcome in outcomes)
        self.fair.unresolved += [wish for wish in wishes if wish.answer is None]
        if (stored := await self.fair.stored(self.database, wishes)) != count:
            self.violations.append(f"{kind}, cut {when}: {stored} answers for {count} keys")
        self.violations += await self.fair.replayed(wishes)
        self.by_command[kind] += 1

    def _arm(self, when: When, wishes: list[Wish]) -> None:
        self.cutter.look = lambda: self.fair.stored(self.database, wishes)
        self.cutter.arm(when)

    def _check_cut(self, made: int, what: str, when: When, count: int) -> None:
        """The control: just one cut, on the side that was asked for, of the whole group."""
        expected = (when, count if when == "after" else 0)
        cuts = self.cutter.cuts[made:]
        if [*map(tuple, cuts)] != [expected]:
            self.violations.append(f"{what}: {cuts} instead of one {expected}")
        self.seen.update((cut.when, bool(cut.seen)) for cut in cuts)

    async def cut_worker(self, worker: Worker, whens: itertools.cycle[When], wanted: int) -> None:
        """Rounds that are matched, paid and given back while the worker's COMMITs are cut off."""
        while sum(self.by_queue.values()) < wanted:
            await self._round()
            while await self.field.waiting():
                # A lease whose COMMIT was cut off is held by nobody who knows of it.
                await self.field.end_leases()
                for subscriber in SUBSCRIBERS:
                    await self._cut_batch(worker, subscriber.queue, next(whens), wanted)

    async def _cut_batch(self, worker: Worker, queue: str, when: When, wanted: int) -> None:
        waiting = await self._queued(queue)
        if not waiting:
            return
        made = len(self.cutter.cuts)
        if queue not in ERRANDS and sum(self.by_queue.values()) < wanted:
            self.cutter.look = lambda: self._queued(queue)
            self.cutter.arm(when, passing=1)  # the first COMMIT is that of the lease
        # As the worker's loop: what did not go through comes again.
        with contextlib.suppress(DatabaseDown):
            await worker.work_once(queue)
        self.cutter.disarm()
        for cut in self.cutter.cuts[made:]:
            self.by_queue[queue] += 1
            gone = int(str(cut.seen)) < waiting
            if gone != (when == "after"):
                self.violations.append(f"{queue}, cut {when}: {cut.seen} of {waiting} left")
            self.seen[when, gone] += 1

    async def _queued(self, queue: str) -> int:
        return int(await self.database.fetchval(sql.queued, queue))

    async def _round(self) -> None:
        """A round with bets on both sides and a rest on one, decided already."""
        run = self.field.house.run
        round_id: UUID = (await run(CreateRound("Cut", "oracle", fee_bps=100))).round_id
        sides: list[Side] = ["A", "B", "A"] * BETS
        bets = [
            PlaceBet(self.fair.people[number % PEOPLE], round_id, side, 7)
            for number, side in zip(range(BETS), sides, strict=False)
        ]
        await asyncio.gather(*map(run, bets))
        await run(CloseRound(round_id))
        await run(RecordResult(round_id, "A"))

    async def judge(self) -> None:
        """What must hold of the whole, once nothing is under way."""
        self.violations += await self.field.reconcile()
        # Of a few cuts all may lie on one side; what was not cut says nothing.
        if all(self.said.values()) and self.said["before"].keys() != self.said["after"].keys():
            self.violations.append(f"the cuts did not look alike: {self.said}")
        decided = {key for key, times in self.replayed.items() if times}
        if decided != {(when, when == "after") for when, _ in decided}:
            self.violations.append(f"keys were not what decided: {dict(self.replayed)}")


async def commit_cuts(cuts: int, seed: int) -> Trial:
    """So many cuts, half of them before delivery, a quarter of them of a worker's COMMITs."""
    # In memory, where there is room: what a disk keeps is not asked.
    folder = scratch("strongroom-cuts-")
    try:
        return await _carry_out(folder, cuts, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _carry_out(folder: Path, cuts: int, seed: int) -> Trial:
    began = monotonic()
    async with (
        CommitCutter() as cutter,
        Field(apis=0, workers=0, dsn_through=cutter.through, folder=folder) as field,
        Strongroom(data_dir=field.folder / "data", rate_limits="off") as house,
    ):
        trial = CommitCuts(field, house, cutter, seed)
        await trial.open()
        of_workers = cuts // WORKERS_SHARE
        ways = itertools.product((1, GROUP), (True, False), WHENS, KINDS)
        for (count, patient, when, kind), _ in zip(
            itertools.cycle(ways), range(cuts - of_workers), strict=False
        ):
            await trial.cut_command(kind, count, when, patient=patient)
        lost, doubled = await trial.fair.account(trial.database)
        whens: itertools.cycle[When] = itertools.cycle(WHENS)
        await trial.cut_worker(worker_of(house), whens, of_workers)
        await trial.judge()
    fair = trial.fair
    return Trial(
        row="C4",
        name="commit-cuts",
        seed=seed,
        faults=len(cutter.cuts),
        acknowledged=len(fair.acknowledged),
        lost=len(lost),
        doubled=len(doubled),
        unknown=trial.unknown,
        unresolved=len(fair.unresolved),
        violations=[*lost[:10], *doubled[:10], *trial.violations],
        what={
            **{f"cut {when}": float(sum(c.when == when for c in cutter.cuts)) for when in WHENS},
            **{f"cut {kind}": float(n) for kind, n in sorted(trial.by_command.items())},
            **{f"cut worker {queue}": float(n) for queue, n in sorted(trial.by_queue.items())},
            "committed when cut": float(trial.seen["after", True]),
        },
        seconds=monotonic() - began,
    )


@scenario(
    "commit-cut",
    "Connections to Postgres are cut at COMMIT, before its delivery and after it, for commands of "
    "all applications, alone and in groups, and for workers: every wish has its effect exactly "
    "once after a retry with its key, and all invariants hold.",
    takes=("faults",),
)
async def commit_cut(wanted: Wanted, say: Say) -> Trial:
    """`wanted.faults` cuts."""
    count = wanted.faults or CUTS
    say(f"{count} cuts, a quarter of them of a worker's COMMITs")
    return await commit_cuts(count, wanted.seed)
