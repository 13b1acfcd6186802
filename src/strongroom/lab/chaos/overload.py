"""More than can be done: once, twice, five and ten times what a closed loop reaches, and one user
who asks for as much as all the others together."""

from __future__ import annotations

from contextlib import AsyncExitStack

from strongroom.clock import monotonic
from strongroom.lab.chaos.bettors import STRICT, Bettors, Bounds, judge
from strongroom.lab.chaos.catalogue import Say, Wanted, scenario
from strongroom.lab.chaos.field import Field
from strongroom.lab.chaos.slow import AWAY_MS, SlowApi
from strongroom.lab.chaos.throng import at_once_ms, good_per_s, p99_ms, refused
from strongroom.lab.trial import Trial

TIMES = (1, 2, 5, 10)

PEOPLE = 400

ASKED_S = 15.0

SETTLING_S = 0.5
"""From the first arrival until groups are as large as they become."""

SPAM_TIMES = 3
"""The spamming user's share of the capacity, beside half of it for all the others: far more than
can be done."""

MOST_SPAM_EFFECT = 1.2

LOOSE_SPAM_EFFECT = 5.0
"""Where others use the machine, a p99 says little."""


async def overload(
    seconds: float, seed: int, bounds: Bounds = STRICT, times: tuple[int, ...] = TIMES
) -> Trial:
    """Goodput at ten times the capacity against that at once the capacity. The database is away:
    see SMALL_GROUPS."""
    trial = Trial(row="C12", name="overload", seed=seed, faults=0, acknowledged=0)
    began = monotonic()
    async with AsyncExitStack() as stack:
        api = SlowApi(stack, seed, away_ms=AWAY_MS)
        field = await api.start()
        bettors = await Bettors.of(field, api.port, people=PEOPLE, rounds=1)
        capacity = await bettors.capacity(2)
        trial.what["capacity_per_s"] = capacity
        good: dict[int, float] = {}
        worst_ms = 0.0
        for many in times:
            name = f"{many}x"
            found = await bettors.throng([bettors.flow(name, many * capacity)], seconds)
            met = found.of(name)
            good[many] = good_per_s(met, found.began + SETTLING_S, found.began + seconds)
            trial.what |= {
                f"good_at_{name}_per_s": good[many],
                f"refused_at_{name}": float(len(refused(met))),
                f"behind_at_{name}_ms": found.behind_ms,
            }
            if many > 1:
                trial.faults += 1
                worst_ms = max(worst_ms, at_once_ms(met))
                if not refused(met):
                    trial.violations.append(f"nothing was refused at {name}: no overload")
        share = good[times[-1]] / good[times[0]]
        judge(trial, bounds, goodput=share, refusal_ms=worst_ms)
        await bettors.settle(trial)
    trial.seconds = monotonic() - began
    return trial


async def spam(seconds: float, seed: int, bounds: Bounds = STRICT) -> Trial:
    """One user asks for three times the capacity while all others together ask for a third of it.

    The limits of requests a user are on and as generous as they can be for the others; it is they
    that keep one user from taking everybody's places in the groups.
    """
    trial = Trial(row="C12", name="spam", seed=seed, faults=0, acknowledged=0)
    began = monotonic()
    # A limit above what each of the others asks for; theirs is a request every second or two.
    limited = {"rate_limits": "on", "rate_limit_global": "600/minute"}
    async with Field(apis=2, workers=1, settings=limited) as field:
        bettors = await Bettors.of(field, field.ports[0], people=PEOPLE, rounds=1)
        spammer, others = bettors.people[0], bettors.people[1:]
        rate = len(others) / 2
        alone = await bettors.throng([bettors.flow("alone", rate, 0, others)], seconds)
        flows = [
            bettors.flow("others", rate, 0, others),
            bettors.flow("spammer", SPAM_TIMES * rate, 0, [spammer]),
        ]
        beside = await bettors.throng(flows, seconds)
        spammed = beside.of("spammer")
        trial.faults += 1
        before, after = p99_ms(alone.of("alone")), p99_ms(beside.of("others"))
        turned_away = refused(alone.of("alone")) + refused(beside.of("others"))
        trial.what |= {
            "others_per_s": rate,
            "others_p99_alone_ms": before,
            "others_p99_beside_ms": after,
            "spam_effect": after / before,
            "spammer_good": float(sum(one.succeeded for one in spammed)),
            "spammer_refused": float(len(refused(spammed))),
            "others_refused": float(len(turned_away)),
        }
        judge(trial, bounds, goodput=None, refusal_ms=at_once_ms(spammed))
        most = MOST_SPAM_EFFECT if bounds is STRICT else LOOSE_SPAM_EFFECT
        if after > most * before:
            trial.violations.append(f"a spammer moved p99 from {before:.1f} to {after:.1f} ms")
        if turned_away:
            trial.violations.append(f"{len(turned_away)} of the others were refused")
        if not refused(spammed):
            trial.violations.append("the spammer was never refused")
        await bettors.settle(trial)
    trial.seconds = monotonic() - began
    return trial


@scenario(
    "overload", "Ten times the load gets as much done, and refusals are quick", takes=("seconds",)
)
async def _overload(wanted: Wanted, say: Say) -> Trial:
    say(f"up to {TIMES[-1]} times the capacity arrives")
    return await overload(wanted.seconds or ASKED_S, wanted.seed)
