"""What a scenario needs before the clock starts, and what it promises afterwards."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from strongroom.clock import monotonic, now
from strongroom.lab.load.arrivals import Paced, Stretch, warmed
from strongroom.lab.load.plans import LoadPlan, Traffic
from strongroom.lab.load.targets import Person, StepRefused, Target
from strongroom.lab.open_loop import Answered, OpenResult, Plan, Stream
from strongroom.lab.scenarios import Job

BATCH = 10_000
"""Items that a request of transfers takes."""

WARMERS = 16
WARM_PER_S = 100.0
QUIET_S = 0.3
"""Between the warm-up and the instant when all come: what it left behind is done."""

WARM_UP = "warm-up"

SEEN_S = 5.0
"""What is available on an event's page lags by a second."""

PRICE = 100_000


@dataclass
class Scene:
    """All that is there to be bet on and bought."""

    people: list[Person] = field(default_factory=list)
    warmers: list[Person] = field(default_factory=list)
    rounds: list[str] = field(default_factory=list)
    warm_round: str = ""
    slug: str = ""
    ticket_type: str = ""
    products: list[str] = field(default_factory=list)
    carts: list[list[tuple[str, int]]] = field(default_factory=list)


async def set_up(plan: LoadPlan, target: Target) -> Scene:
    """Users with money, and what they want; StepRefused."""
    scene = Scene(people=await target.people(plan.users))
    if not _comes_early(plan) and plan.warmup_s:
        scene.warmers = await target.people(min(WARMERS, plan.users))
    each = plan.funds if plan.funded is None else plan.funded * plan.amount
    await _fund(target, scene.people, each)
    await _fund(target, scene.warmers, plan.funds)
    if plan.does("bets"):
        scene.rounds = [await _round(target) for _ in range(plan.rounds)]
    if scene.warmers:
        scene.warm_round = await _round(target)
    if plan.does("reservations"):
        await _event(target, plan, scene)
    if plan.does("orders"):
        await _shelf(target, plan, scene)
    return scene


def _comes_early(plan: LoadPlan) -> bool:
    """Whether the traffic itself can come before the measured begin."""
    return all(one.shape == "paced" for one in plan.streams)


async def _fund(target: Target, people: Sequence[Person], each: int) -> None:
    """One deposit and a few batches, however many people: limits of rates hold for operators."""
    if not people or not each:
        return
    first, *others = people
    path = f"/api/wallets/{first.user_id}/deposits"
    await target.post(path, {"amount": each * len(people), "reference": "load"})
    prefix = secrets.token_hex(6)
    for start in range(0, len(others), BATCH):
        items = [
            {
                "key": f"{prefix}-{number}",
                "from": first.user_id,
                "to": one.user_id,
                "amount": each,
            }
            for number, one in enumerate(others[start : start + BATCH], start)
        ]
        told = await target.post("/api/transfers/batch", {"mode": "independent", "items": items})
        refused = [one for one in told["results"] if one["status"] != "posted"]
        if refused:
            raise StepRefused(f"{len(refused)} wallets could not be filled: {refused[0]}")


async def _round(target: Target) -> str:
    body = {"name": f"load {secrets.token_hex(3)}", "kind": "oracle", "feeBps": 0}
    return str((await target.post("/api/rounds", body))["roundId"])


async def _event(target: Target, plan: LoadPlan, scene: Scene) -> None:
    starts_at = now().replace(microsecond=0) + timedelta(days=30)
    ends_at = starts_at + timedelta(hours=3)
    body = {"name": f"Load {secrets.token_hex(3)}", "location": "Hà Nội"}
    times = {"startsAt": starts_at.isoformat(), "endsAt": ends_at.isoformat()}
    made = await target.post("/api/events", body | times)
    path = f"/api/events/{made['eventId']}"
    type = {"name": "Hạng phổ thông", "price": PRICE, "quantity": plan.seats}
    await target.post(f"{path}/ticket-types", type)
    event = await target.post(f"{path}/publish", {})
    scene.slug = event["slug"]
    scene.ticket_type = event["ticketTypes"][0]["ticketTypeId"]


async def _shelf(target: Target, plan: LoadPlan, scene: Scene) -> None:
    prefix = secrets.token_hex(3).upper()
    for number in range(plan.products):
        body = {"sku": f"LOAD-{prefix}-{number}", "name": f"Áo dài {number}", "price": PRICE}
        id = str((await target.post("/api/products", body))["productId"])
        said = {"kind": "receive", "quantity": plan.stock, "reason": "load"}
        await target.post(f"/api/products/{id}/stock", said)
        scene.products.append(id)
    # Each product is in two carts, each cart has as many pieces: accepted orders tell how many.
    following = [*scene.products[1:], scene.products[0]]
    scene.carts = [
        [(a, 1), (b, 1)] if a != b else [(a, 2)]
        for a, b in zip(scene.products, following, strict=True)
    ]


CART = 2
"""Pieces in each cart."""


# What is sent ------------------------------------------------------------------------------------


def staged(plan: LoadPlan, scene: Scene, target: Target, seed: int) -> Plan:
    """What the generator is to carry out."""
    streams = []
    for one in plan.streams:
        shape = one.arrivals(plan.users, plan.seconds)
        if _comes_early(plan):
            shape = warmed(shape, plan.warmup_s)
        streams.append(Stream(one.name, 0.0, _job(plan, one, scene, target, seed), shape))
    if scene.warmers:
        streams.append(_warm_up(plan, scene, target, seed))
    return Plan(
        target.host,
        target.port,
        streams,
        duration_s=plan.seconds,
        warmup_s=plan.warmup_s,
        connections=connections_of(plan),
    )


def connections_of(plan: LoadPlan) -> int:
    """As many as there are users, unless the plan says how many."""
    together = max(one.together for one in plan.streams)
    return max(plan.connections or plan.users, together, 64)


def _job(plan: LoadPlan, one: Traffic, scene: Scene, target: Target, seed: int) -> Job:
    tokens = [person.token for person in scene.people]
    made: dict[str, Any] = {}
    if one.requests == "bets":
        made = {"round_ids": scene.rounds, "amount": plan.amount}
    elif one.requests == "transfers":
        made, tokens = {"user_ids": [one.user_id for one in scene.people]}, [target.operator]
    elif one.requests == "reservations":
        made = {"carts": [[(scene.ticket_type, 1)]]}
    elif one.requests == "orders":
        made = {"carts": scene.carts}
    return Job(
        target.host,
        target.port,
        one.requests,
        tokens,
        duration_s=plan.seconds,
        seed=seed,
        options=made | one.options,
    )


def _warm_up(plan: LoadPlan, scene: Scene, target: Target, seed: int) -> Stream:
    """Bets of others, on a round of their own, until shortly before the begin."""
    options = {"round_ids": [scene.warm_round], "amount": plan.amount}
    tokens = [one.token for one in scene.warmers]
    job = Job(target.host, target.port, "bets", tokens, duration_s=0, seed=seed, options=options)
    lasts_s = max(plan.warmup_s - QUIET_S, plan.warmup_s / 2)
    shape = Paced([Stretch(WARM_PER_S, WARM_PER_S, lasts_s)], at_s=-plan.warmup_s)
    return Stream(WARM_UP, 0.0, job, shape)


# What must hold ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Came:
    """Of one kind of request, the warm-up included: how many were sent, how many were done for
    certain, and of how many it is not known."""

    sent: int
    done: int
    unknown: int

    @property
    def most(self) -> int:
        return self.done + self.unknown

    def fits(self, found: int) -> bool:
        return self.done <= found <= self.most


def came_of(plan: LoadPlan, result: OpenResult, requests: str) -> Came:
    """All streams of this kind together."""
    names = [one.name for one in plan.streams if one.requests == requests]
    answers: list[Answered] = [result.streams[name] for name in names]
    statuses: list[tuple[int, int]] = []
    for one in answers:
        statuses += [*one.statuses.items(), *one.early.items(), (0, one.errors)]
    return Came(
        sent=sum(times for _, times in statuses),
        done=sum(times for status, times in statuses if 200 <= status < 300),
        # A 503 may be an outcome that nobody knows.
        unknown=sum(times for status, times in statuses if status == 0 or status >= 500),
    )


async def kept(plan: LoadPlan, scene: Scene, target: Target, result: OpenResult) -> dict[str, bool]:
    """What the scenario promises beyond the invariants: sentence → held."""
    return {sentence: held async for sentence, held in _checked(plan, scene, target, result)}


async def _checked(
    plan: LoadPlan, scene: Scene, target: Target, result: OpenResult
) -> AsyncIterator[tuple[str, bool]]:
    if plan.does("bets"):
        bets = came_of(plan, result, "bets")
        staked = 0
        for id in scene.rounds:
            one = await target.get(f"/api/rounds/{id}")
            staked += one["stakedA"] + one["stakedB"]
        there = staked // plan.amount
        yield (
            f"{bets.done:,} bets acknowledged{_perhaps(bets)}, {there:,} in the books",
            bets.fits(there) and staked % plan.amount == 0,
        )
    if "exactly_funded" in plan.expects and plan.funded is not None:
        yield await _exactly_funded(plan, scene, target, came_of(plan, result, "bets"))
    if "never_oversold" in plan.expects:
        yield await _never_oversold(plan, scene, target, came_of(plan, result, "reservations"))
    if "shelf_adds_up" in plan.expects:
        yield await _shelf_adds_up(plan, scene, target, came_of(plan, result, "orders"))


def _perhaps(came: Came) -> str:
    return f" and {came.unknown:,} unknown" if came.unknown else ""


async def _exactly_funded(
    plan: LoadPlan, scene: Scene, target: Target, bets: Came
) -> tuple[str, bool]:
    assert plan.funded is not None
    wanted = min(plan.funded * plan.users, bets.sent)
    left = 0
    for one in scene.people:
        left += (await target.get("/api/wallets/me", one.token))["balance"]
    spent = plan.funded * plan.users * plan.amount - left
    sentence = (
        f"{bets.sent:,} bets of which exactly {wanted:,} are accepted: {bets.done:,}"
        f"{_perhaps(bets)}, {left:,} left in the wallet"
    )
    return sentence, bets.fits(wanted) and spent == wanted * plan.amount


async def _never_oversold(
    plan: LoadPlan, scene: Scene, target: Target, seats: Came
) -> tuple[str, bool]:
    patience = monotonic() + SEEN_S
    while True:
        event = await target.get(f"/api/events/{scene.slug}")
        taken = plan.seats - int(event["ticketTypes"][0]["available"])
        if seats.fits(taken) or monotonic() > patience:
            break
        await asyncio.sleep(0.25)
    wanted = min(plan.seats, seats.sent)
    sentence = (
        f"{seats.sent:,} wanted one of {plan.seats:,} seats: {seats.done:,} have one"
        f"{_perhaps(seats)}, {taken:,} are taken, {max(0, seats.done - plan.seats):,} oversold"
    )
    # Who was told "sold out" while there was one left would be a fault as well.
    all_served = seats.most >= wanted or plan.seats > seats.sent
    return sentence, seats.done <= plan.seats and seats.fits(taken) and all_served


async def _shelf_adds_up(
    plan: LoadPlan, scene: Scene, target: Target, orders: Came
) -> tuple[str, bool]:
    gone, whole = 0, True
    for id in scene.products:
        stock = await target.get(f"/api/products/{id}/stock")
        gone += stock["held"] + stock["sold"]
        pieces = stock["available"] + stock["held"] + stock["sold"]
        whole &= pieces == plan.stock and min(stock["available"], stock["held"]) >= 0
    sentence = (
        f"{orders.done:,} orders of {CART} pieces accepted{_perhaps(orders)}, {gone:,} of "
        f"{plan.products * plan.stock:,} pieces are off the shelf"
    )
    return sentence, whole and gone % CART == 0 and orders.fits(gone // CART)
