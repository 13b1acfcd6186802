"""Scenarios as data: what is in `plans.toml`, or in a file of one's own of the same form."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from strongroom.errors import Invalid
from strongroom.lab.load.arrivals import Closed, Once, Shape, paced
from strongroom.lab.load.thresholds import Limit, limit_of
from strongroom.lab.scenarios import SCENARIOS

AMOUNT = 1_000
"""Of a bet."""

FUNDS = 1_000_000_000
"""In each wallet: a million bets of it."""

WARMUP_S = 2.0
"""Connections, plans of queries and caches are there after it."""

Expectation = Literal["exactly_funded", "never_oversold", "shelf_adds_up"]


class PlanUnfit(Invalid):
    """The plan of a load run does not fit."""


class NoSuchPlan(Invalid):
    """There is no scenario of this name."""


class Traffic(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One kind of request. `requests` names a scenario of `strongroom.lab.scenarios`, `options`
    are its own.

    `once`: `count` at the same instant, as many as there are users when not given. `paced`:
    `per_second`, one rate or several in equal steps (`smooth` goes in a line from each to the
    next), or `per_user`, so many a second of each user. `closed`: `count` in all, `together` of
    them under way at any time.
    """

    name: str
    requests: str
    shape: Literal["once", "paced", "closed"]
    per_second: list[float] = []
    per_user: float = 0.0
    smooth: bool = False
    count: int = 0
    together: int = 0
    options: dict[str, Any] = {}

    def arrivals(self, users: int, seconds: float) -> Shape:
        """The shape, for so many users and so long."""
        if self.shape == "once":
            return Once(self.count or users)
        if self.shape == "closed":
            return Closed(self.count or users, self.together or 1)
        rates = [self.per_user * users] if self.per_user else self.per_second
        return paced(rates, seconds, smooth=self.smooth)


class LoadPlan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A scenario. `says`: what it does, a sentence for people.

    `users` bring the load for `seconds` (0: until it is answered), after `warmup_s` that counts
    nowhere; a shape that is over in an instant is warmed by reads of wallets. `funds` are in each
    wallet; with `funded` instead what that many bets cost. Bets go to `rounds` rounds, each over
    `amount`. `seats` of one event and `stock` pieces of each of `products` products are there to
    be sold.

    Answers with a code in `refusals` are what the scenario provokes, and no failures. `expects`
    names what must hold afterwards beside the invariants: `exactly_funded` bets are accepted, a
    sale is `never_oversold`, the `shelf_adds_up`. Acknowledged bets are counted in any case.
    `thresholds`: see `strongroom load --help`. `connections` of each run (0: as many as users, 64
    at least).
    """

    says: str
    users: int
    seconds: float
    streams: list[Traffic]
    warmup_s: float = WARMUP_S
    connections: int = 0
    funds: int = FUNDS
    funded: int | None = None
    amount: int = AMOUNT
    rounds: int = 1
    seats: int = 0
    products: int = 0
    stock: int = 0
    refusals: list[str] = []
    expects: list[Expectation] = []
    thresholds: list[str] = []

    @property
    def limits(self) -> list[Limit]:
        return [limit_of(one) for one in self.thresholds]

    def does(self, requests: str) -> bool:
        """Whether any of its traffic is of this kind."""
        return any(one.requests == requests for one in self.streams)

    def check(self) -> None:
        """PlanUnfit says what does not fit."""
        for faulty, said in self._faults():
            if faulty:
                raise PlanUnfit(said)
        for one in self.limits:
            if one.stream and one.stream not in [stream.name for stream in self.streams]:
                raise PlanUnfit(f"The threshold {one.asked} is about no stream of this scenario.")

    def _faults(self) -> list[tuple[bool, str]]:
        names = [one.name for one in self.streams]
        found = [
            (not names, "A scenario needs at least one stream."),
            (len(names) != len(set(names)), "Two streams have the same name."),
            (not 1 <= self.users <= 100_000, "There are 1 to 100,000 users."),
            (not 0 <= self.seconds <= 86_400, "A run lasts a day at most."),
            (not 0 <= self.warmup_s <= 600, "A warm-up lasts ten minutes at most."),
            (not 0 <= self.connections <= 50_000, "There are at most 50,000 connections."),
            (not 1 <= self.rounds <= 100, "There are 1 to 100 rounds."),
            (self.does("reservations") and self.seats < 1, "Reservations need `seats`."),
            (
                self.does("orders") and min(self.products, self.stock) < 1,
                "Orders need `products` and a `stock` of each.",
            ),
            (self.does("transfers") and self.users < 2, "Transfers need two users."),
        ]
        for one in self.streams:
            rated = one.per_user > 0 or (bool(one.per_second) and min(one.per_second) > 0)
            rated &= one.per_user <= 10_000 and max(one.per_second, default=1) <= 1_000_000
            paced = one.shape == "paced"
            found += [
                (one.requests not in SERVED, f"`requests` is one of {', '.join(SERVED)}."),
                (paced and not rated, f"{one.name}: a rate above zero is needed."),
                (paced and self.seconds <= 0, "A rate needs `seconds` above zero."),
                (min(one.count, one.together) < 0, f"{one.name}: less than nothing is asked."),
            ]
        return found


SERVED = ("bets", "wallet-read", "transfers", "reservations", "orders")
"""Of `strongroom.lab.scenarios`, those whose options are made here."""

assert set(SERVED) <= SCENARIOS.keys()


def plans(file: Path | None = None) -> dict[str, LoadPlan]:
    """The scenarios by name, of this program or of a file; PlanUnfit says what is wrong."""
    shipped = resources.files(__package__).joinpath("plans.toml")
    try:
        told = file.read_bytes() if file else shipped.read_bytes()
        found = msgspec.toml.decode(told, type=dict[str, LoadPlan])
    except OSError as error:
        raise PlanUnfit(f"{file}: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanUnfit(f"{file}: {error}.") from error
    for name, one in found.items():
        try:
            one.check()
        except PlanUnfit as error:
            raise PlanUnfit(f"{name}: {error.detail}") from error
    return found


def _goes_by(field: str, plan: LoadPlan) -> bool:
    """Whether a number of the plan has an effect on it."""
    if field == "seconds":
        return any(one.shape == "paced" for one in plan.streams)
    needed = {"seats": "reservations", "stock": "orders", "products": "orders", "funded": "bets"}
    return field not in needed or plan.does(needed[field])


def plan_of(name: str, file: Path | None = None, **changes: Any) -> LoadPlan:
    """A scenario with some of its numbers changed (those that are not None): fields of the plan,
    `count` and `together` of its closed traffic, `per_second` of the first that is paced."""
    found = plans(file)
    if name not in found:
        raise NoSuchPlan(f"There is no scenario {name}. There are: {', '.join(sorted(found))}.")
    told = msgspec.to_builtins(found[name])
    for field, value in changes.items():
        if value is None:
            continue
        if field in ("count", "together"):
            fits = [one for one in told["streams"] if one["shape"] != "paced"]
        elif field == "per_second":
            fits = [one for one in told["streams"] if one["shape"] == "paced"][:1]
        else:
            fits = [told] if _goes_by(field, found[name]) else []
        if not fits:
            raise PlanUnfit(f"The scenario {name} has nothing to which `{field}` applies.")
        for one in fits:
            one[field] = value
            if field == "per_second":
                one["per_user"] = 0.0
    try:
        plan = msgspec.convert(told, LoadPlan, strict=False)
    except msgspec.ValidationError as error:
        raise PlanUnfit(str(error)) from error
    plan.check()
    return plan
