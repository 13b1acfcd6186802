"""The connection to Postgres is cut at COMMIT, before and after delivery (C4)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from playing import People
from proofs.conftest import Scale
from strongroom.apps.betting import CreateRound
from strongroom.core.db import Database
from strongroom.lab.arena import Person
from strongroom.lab.chaos.commit_cuts import NO_PATIENCE_S, WHENS, commit_cuts
from strongroom.lab.chaos.field import Field
from strongroom.lab.chaos.proxy import Backend, CommitCutter, Cut, When
from strongroom.lab.chaos.wishes import Fair, Wish
from strongroom.lab.trial import Trial
from strongroom.lab.wire import Address, Reply, Wire, request
from strongroom.main import Strongroom

CI_CUTS, PART_CUTS = 160, 400
"""With those over HTTP two hundred, and five hundred a part of a campaign: four make 2,000."""

CI_HTTP_CUTS, PART_HTTP_CUTS = 40, 100

GROUP = 48
"""Bets asked for at the same moment in every second cut over HTTP."""

STAKE = 10
FUNDS = 10**9


def test_each_wish_whose_commit_was_cut_off_has_its_effect_once(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    trial = asyncio.run(commit_cuts(scale.ask(CI_CUTS, PART_CUTS), scale.seed))
    held(trial)
    assert trial.faults == scale.ask(CI_CUTS, PART_CUTS)
    # The control: to the program all cuts looked alike, yet half of them had committed. Whoever
    # asks again without claiming the key doubles that half, who never asks loses the other.
    assert 0.4 < trial.what["committed when cut"] / trial.faults < 0.6
    for kind in ("bet", "transfer", "reservation", "booking", "order", "worker betting_match"):
        assert trial.what[f"cut {kind}"], f"invalid: no COMMIT of a {kind} was cut off"


class Room(NamedTuple):
    """A field whose API reaches its database through the cutter, a user and a round."""

    field: Field
    cutter: CommitCutter
    user: Person
    round_id: str

    @property
    def body(self) -> dict[str, Any]:
        return {"roundId": self.round_id, "side": "A", "amount": STAKE}

    def wire(self, number: int = 0) -> Wire:
        near = [Address("127.0.0.1", port) for port in self.field.ports]
        return Wire(near, random.Random(number))

    def wish(self, key: str) -> bytes:
        return request("POST", "/api/bets", self.user.token, key, self.body)

    async def bet(self, keys: list[str]) -> list[Reply]:
        """All at the same moment, each asked for until its outcome is known."""
        wires = [self.wire(number) for number in range(len(keys))]
        try:
            return await asyncio.gather(
                *(
                    wire.until_definite(self.wish(key))
                    for wire, key in zip(wires, keys, strict=True)
                )
            )
        finally:
            for wire in wires:
                wire.close()

    async def stored(self, keys: list[str]) -> int:
        """How many of the bets under way are in the database."""
        query = """SELECT count(*) FROM betting.bets b
            JOIN commands.answers a ON a.subject = b.id WHERE a.key = ANY($1)"""
        return int((await self.field.rows(query, keys))[0][0])

    async def bets(self) -> int:
        return int((await self.field.rows("SELECT count(*) FROM betting.bets"))[0][0])

    def look_for(self, keys: list[str]) -> None:
        self.cutter.look = lambda: self.stored(keys)


@contextlib.asynccontextmanager
async def open_room() -> AsyncIterator[Room]:
    async with (
        CommitCutter() as cutter,
        Field(apis=1, workers=0, dsn_through=cutter.through) as field,
    ):
        (user,) = await field.people(1, FUNDS)
        made = await field.house.run(CreateRound("Cut", "oracle"))
        yield Room(field, cutter, user, str(made.round_id))


async def cut_over_http(cuts: int, seed: int) -> Trial:
    """Bets over HTTP, alone and many at once, each cut once and asked for until it is definite."""
    violations: list[str] = []
    acknowledged: set[str] = set()
    outcomes: Counter[tuple[When, bool]] = Counter()
    unknown = 0
    async with open_room() as room:
        for number in range(cuts):
            when = WHENS[number % 2]
            keys = [uuid4().hex for _ in range(GROUP if number % 4 > 1 else 1)]
            made = len(room.cutter.cuts)
            room.look_for(keys)
            room.cutter.arm(when)
            replies = await room.bet(keys)
            unknown += len(keys)
            if [cut.when for cut in room.cutter.cuts[made:]] != [when]:
                violations.append(f"{room.cutter.cuts[made:]} instead of one cut {when}")
            if {reply.status for reply in replies} != {202}:
                violations.append(f"cut {when}: {replies}")
                continue
            acknowledged |= {reply.json["betId"] for reply in replies}
            if len(keys) == 1:
                outcomes[when, "idempotency-replayed" in replies[0].headers] += 1
            for again, first in zip(await room.bet(keys), replies, strict=True):
                if again.body != first.body or again.headers.get("idempotency-replayed") != "true":
                    violations.append(f"cut {when}: {first}, then {again}")
        # What had committed was found by its key; what had not was decided anew.
        if set(outcomes) != {("before", False), ("after", True)}:
            violations.append(f"keys were not what decided: {outcomes}")
        there = {str(row[0]) for row in await room.field.rows("SELECT id FROM betting.bets")}
        ((wallet,),) = await room.field.rows(
            "SELECT balance FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'wallet'",
            room.user.user_id,
        )
        if wallet != FUNDS - STAKE * len(there):
            violations.append(f"{wallet} is left of {FUNDS} after {len(there)} bets of {STAKE}")
        # Half of them had committed when their connection ended, of all or of none of a group.
        seen = Counter((cut.when, bool(cut.seen)) for cut in room.cutter.cuts)
        if seen != {("after", True): cuts // 2, ("before", False): cuts // 2}:
            violations.append(f"not half of the cuts had committed: {seen}")
        violations += await room.field.reconcile() + room.field.bugs()
    return Trial(
        row="C4",
        name="over-http",
        seed=seed,
        faults=len(room.cutter.cuts),
        acknowledged=len(acknowledged),
        lost=len(acknowledged - there),
        doubled=len(there - acknowledged),
        unknown=unknown,
        violations=violations,
        enough=cuts,
        what={f"cut {when}": sum(cut.when == when for cut in room.cutter.cuts) for when in WHENS},
    )


def test_each_bet_over_http_whose_commit_was_cut_off_happens_exactly_once(
    scale: Scale, held: Callable[[Trial], None]
) -> None:
    held(asyncio.run(cut_over_http(scale.ask(CI_HTTP_CUTS, PART_HTTP_CUTS), scale.seed)))


async def told_of(room: Room, when: When) -> tuple[int, str, str]:
    """What a caller is told whose COMMIT is cut off for good; then the key resolves it."""
    key, before = uuid4().hex, await room.bets()
    room.look_for([key])
    room.cutter.gone_after_cut = True
    room.cutter.arm(when)
    wire = room.wire()
    reply = await wire.ask(room.wish(key))
    assert int(reply.headers["retry-after"]) > 0
    assert room.cutter.cuts[-1] == Cut(when, int(when == "after"))
    room.cutter.gone_after_cut = room.cutter.away = False
    resolved = await asyncio.wait_for(wire.until_definite(room.wish(key)), 30)
    wire.close()
    assert resolved.status == 202
    assert ("idempotency-replayed" in resolved.headers) == (when == "after")
    assert (await room.stored([key]), await room.bets()) == (1, before + 1)
    return reply.status, reply.json["code"], reply.json["detail"]


async def test_an_outcome_that_cannot_be_had_now_is_unknown_until_its_key_resolves_it() -> None:
    """Whether it had committed or not: the caller is told the same."""
    async with open_room() as room:
        told = {await told_of(room, when) for when in WHENS}
    ((status, code, _),) = told
    assert (status, code) == (503, "outcome_unknown")


async def test_the_cutter_cuts_the_commit_that_it_was_armed_for_and_no_other(
    database_url: str,
) -> None:
    seen = []

    async def look() -> int:
        async with Database(database_url, pool_size=1) as beside:
            seen.append(await beside.fetchval("SELECT count(*) FROM cut"))
        return len(seen)

    cutter = CommitCutter(Backend.of(database_url), look=look)
    async with cutter, Database(cutter.through(database_url), pool_size=1) as db:
        await db.fetch("CREATE TABLE cut (number integer)")

        async def write(number: int) -> None:
            async with db.transaction() as connection:
                await connection.execute("INSERT INTO cut VALUES ($1)", number)

        cutter.arm("before", passing=1)
        await write(1)
        for number, when in ((2, None), (3, "after"), (5, None)):
            if when:
                cutter.arm(when)  # type: ignore[arg-type]
            with pytest.raises(Exception) if number < 5 else contextlib.nullcontext() as met:
                await write(number)
            seen.append(repr(met.value) if met else None)
        numbers = [row[0] for row in await db.fetch("SELECT number FROM cut ORDER BY 1")]
    assert numbers == [1, 3, 5], "what was cut before its delivery is not there, after it it is"
    assert [cut.when for cut in cutter.cuts] == ["before", "after"] and cutter.commits == 4
    assert (seen[0], seen[2]) == (1, 2), "the effect was there while the client still waited"
    assert seen[1] == seen[3] and seen[4] is None, "both kinds look alike to the client"


async def test_who_asks_anew_after_a_cut_doubles_and_who_never_asks_again_loses(
    house: Strongroom, people: People, database_url: str, tmp_path: Path
) -> None:
    """The control of the account: two careless callers, and it names what came of each."""
    async with (
        CommitCutter() as cutter,
        Strongroom(database_url=cutter.through(database_url), data_dir=tmp_path) as through,
    ):
        fair = Fair(through, await people(2), seed=1)
        await fair.open(house.database)
        for when in WHENS:
            (wish,) = await fair.wishes("deposit", 1)
            cutter.arm(when)
            (outcome,) = await fair.run([wish], NO_PATIENCE_S)
            assert outcome.error and outcome.error.code == "outcome_unknown"
            if when == "after":
                await fair.run([Wish(wish.kind, wish.command, wish.principal)])
            else:
                wish.effect = ("deposit", "believed")
                fair.acknowledged.append(wish)
        lost, doubled = await fair.account(house.database)
    assert lost == ["deposit believed"]
    assert len(doubled) == 1 and doubled[0].startswith("deposit ")
