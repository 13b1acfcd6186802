"""The same request comes twice: at once on two processes, and again later (I2)."""

from __future__ import annotations

import asyncio

from strongroom.clock import monotonic
from strongroom.lab.chaos.accounting import tried
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.crowd import Crowd, Manners
from strongroom.lab.chaos.field import Field
from strongroom.lab.trial import ENOUGH_ACKNOWLEDGED, Trial

DUPLICATES = 500
RUDE = Manners(twice=0.3, again=0.3)
LONGEST_S = 120.0
LOOK_S = 0.2


@scenario(
    "duplicates",
    "Requests come twice, at once on two processes and again later: each has one effect and, byte "
    "for byte, one answer.",
    takes=("faults", "acknowledged", "seconds"),
)
async def duplicates(wanted: Wanted, say: Say) -> Trial:
    count, enough = wanted.faults or DUPLICATES, wanted.acknowledged or ENOUGH_ACKNOWLEDGED
    say("starting: Postgres, two API processes, a worker")
    async with Field(apis=2, workers=1) as field:
        crowd = Crowd(field, seed=wanted.seed, manners=RUDE)
        await crowd.gather()
        began = monotonic()
        async with crowd.at_work() as notes:
            while notes.twins + notes.repeats < count or notes.acknowledged < enough:
                if monotonic() > began + (wanted.seconds or LONGEST_S):
                    break
                say(f"{notes.twins} at once, {notes.repeats} later")
                await asyncio.sleep(LOOK_S)
        seconds = monotonic() - began
        twins, repeats = notes.twins, notes.repeats
        say("replaying every answer, and looking at the books")
        return await tried(
            crowd,
            row="I2",
            name="duplicates",
            faults=twins + repeats,
            seconds=seconds,
            what={"at once": twins, "later": repeats},
            violations=[] if twins and repeats else ["one kind of duplicate was never sent"],
            enough=enough,
        )
