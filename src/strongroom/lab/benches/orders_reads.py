"""Reading from a shop of five million orders while people order; beside it, one of a tenth."""

from __future__ import annotations

import math
import random
from contextlib import AsyncExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Self

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from strongroom.lab.bench import Bench, Shops, Turn, Verdict, number
from strongroom.lab.benches.reading_kinds import (
    KINDS,
    PAGE,
    PLACE_MS,
    REPORT_MS,
    Asks,
    Kind,
    Sample,
    drawn,
)
from strongroom.lab.benches.shops import Shop
from strongroom.lab.client import run
from strongroom.lab.figures import Figures
from strongroom.lab.open_loop import BEHIND_MS, Answered, Plan, Stream, drive, quantiles
from strongroom.lab.scenarios import Job, requests_of

ORDERS_PER_S = 100
GROWN = 1.5
"""Times as much as in a shop of a tenth, at most, for what is read by key or by page."""

PLACING = "order placed"

ASKED = 3000
"""Paths of a kind under load at most: more than are asked for twice."""

ALONE = 200
"""Requests of a kind, one at a time."""

ALONE_WARMUP = 10

CURSORS = 100
"""Pages of a list whose ends are asked for again."""

LOADED_SHARE, ALONE_SHARE = 0.55, 0.4
"""Of a turn: under load; one request at a time."""

WARMUP_S = 3.0
"""Twice: at full speed, then at the rates that are measured."""

WARM_CONNECTIONS = 20
"""Twice as many as the server has to its database."""

QUICK_SHARE = 0.2
"""A quick run asks so much less often: it may run beside other things."""

LEAST = 2

ORDERS, ORDERS_QUICK = 5_000_000, 20_000
TENTH = 10

COLUMNS = (
    "asked",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "max_ms",
    "failed",
    "alone_p50_ms",
    "alone_p99_ms",
)
HEADINGS = (
    *("asked", "p50", "p95", "p99", "max", "failed", "alone p50", "p99"),
    *("a tenth: p50", "p99", "× p50", "× p99"),
)


class OrdersRead(Bench):
    """Each kind of read one at a time on the quiet server; then 1,000 of all kinds but reports, and
    100 orders, a second on one API process and one worker, at constant rates whatever comes back. Ours is the
    large shop, the baseline one with a tenth of the orders."""

    name = "orders-read"
    claim = "Reads of a shop while orders come in, against a shop of a tenth"
    figure = "one_of_each_ms"
    better = "lower"
    seconds = 36.0

    def __init__(self) -> None:
        self.shops = Shops()
        self._large: Shop | None = None

    def take(self, shops: Shops) -> None:
        self.shops = shops

    async def __aenter__(self) -> Self:
        self.stack = AsyncExitStack()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def ours(self, turn: Turn) -> Figures:
        await self._open(turn)
        return await self._measure(self.large, turn)

    async def baseline(self, turn: Turn) -> Figures:
        await self._open(turn)
        return await self._measure(self.small, turn)

    async def _open(self, turn: Turn) -> None:
        """Both shops, before the first turn: how many orders they have depends on it."""
        if self._large is not None:
            return
        orders = self.shops.orders or (ORDERS_QUICK if turn.quick else ORDERS)
        self.small = await self._shop("the small shop", max(1, orders // TENTH), self.shops.beside)
        self.large = await self._shop("the large shop", orders, self.shops.at)
        self._large, self.dsn = self.large, self.large.house.place.app

    async def _shop(self, name: str, orders: int, folder: Path | None) -> Shop:
        def say(words: str) -> None:
            self.say(f"{name}: {words}")

        return await self.stack.enter_async_context(Shop(orders, folder, say))

    async def _measure(self, shop: Shop, turn: Turn) -> Figures:
        dice = random.Random(turn.seed)
        # First: what a load leaves to be done would be in the way.
        alone = await self._alone(shop, dice, turn.seconds * ALONE_SHARE)
        plan = await self._plan(shop, dice, turn)
        await self._warm(plan)
        memory, spent = shop.api.rss_bytes(), shop.spent_s()
        loaded = await drive(plan)
        figures: dict[str, float] = {
            "one_of_each_ms": sum(alone[one.name][0] for one in KINDS if one.steady),
            "orders": float(shop.orders),
            "reads_per_s": sum(self._rate(one, turn) for one in KINDS if one.in_load),
            "orders_per_s": self._rate(None, turn),
            "failed": float(sum(one.failed for one in loaded.streams.values())),
            "generator_behind_p99_ms": loaded.behind_ms,
            "generator_cpu_share": loaded.client_cpu_share,
            "most_waiting": float(loaded.most_waiting),
            "memory_growth_mb": (shop.api.rss_bytes() - memory) / 1e6,
        }
        for name, after_s in shop.spent_s().items():
            used_s = after_s - spent[name]
            figures[f"{name}_cpu_share"] = used_s / (plan.warmup_s + plan.duration_s)
        for name, answered in loaded.streams.items():
            figures |= {f"{name}: {which}": told for which, told in _told(answered).items()}
        for name, (p50_ms, p99_ms) in alone.items():
            figures |= {f"{name}: alone_p50_ms": p50_ms, f"{name}: alone_p99_ms": p99_ms}
        return figures

    @staticmethod
    def _rate(kind: Kind | None, turn: Turn) -> float:
        """Of a kind of reads a second, or of orders. What is asked seldom is asked at least twice."""
        per_second = kind.per_second if kind else ORDERS_PER_S
        scarce = LEAST / (turn.seconds * LOADED_SHARE)
        return max(per_second * (QUICK_SHARE if turn.quick else 1), scarce)

    async def _plan(self, shop: Shop, dice: random.Random, turn: Turn) -> Plan:
        """All kinds together, and orders, at their rates."""
        sample = await self._sample(shop, dice, ASKED)
        streams = [
            Stream(
                one.name,
                self._rate(one, turn),
                self._reads(shop, one.asks, drawn(one.paths(sample), dice, ASKED)),
            )
            for one in KINDS
            if one.in_load
        ]
        carts = [[(str(id), quantity) for id, quantity in cart] for cart in shop.carts(dice)]
        phones = [one.phone for one in sample.orders]
        tokens = [user.token for user in shop.users]
        options = {"carts": carts, "phones": phones}
        place = self._job(shop, "orders", tokens, options, seed=turn.seed)
        streams.append(Stream(PLACING, self._rate(None, turn), place))
        return Plan(
            "127.0.0.1",
            shop.port,
            streams,
            duration_s=turn.seconds * LOADED_SHARE,
            warmup_s=min(WARMUP_S, turn.seconds / 4),
        )

    @staticmethod
    async def _warm(plan: Plan) -> None:
        """All kinds on all of the server's connections, as fast as they go: a connection plans each
        query once, for every month there is, and a constant rate would only pile up behind that."""
        sources = cycle([requests_of(stream.job) for stream in plan.streams])
        await run(
            (plan.host, plan.port),
            requests=(next(source) for source in sources),
            connections=WARM_CONNECTIONS,
            duration_s=plan.warmup_s,
        )

    async def _alone(
        self, shop: Shop, dice: random.Random, seconds: float
    ) -> dict[str, tuple[float, float]]:
        """Median and 99th percentile of each kind, one at a time: on two cores the tail under
        load is that of the load, these are the request's own."""
        sample = await self._sample(shop, dice, ALONE_WARMUP + ALONE)
        found = {}
        for kind in KINDS:
            # Never what was asked for a moment ago, where there is enough else.
            paths = drawn(kind.paths(sample), dice, ALONE_WARMUP + ALONE)
            job = partial(self._reads, shop, kind.asks)
            warm, each = (
                requests_of(job(paths[:ALONE_WARMUP])),
                requests_of(job(paths[ALONE_WARMUP:])),
            )
            address, longest = ("127.0.0.1", shop.port), seconds / len(KINDS)
            await run(address, requests=warm, connections=1, count=ALONE_WARMUP, duration_s=longest)
            result = await run(
                address, requests=each, connections=1, count=ALONE, duration_s=longest
            )
            assert set(result.statuses) == {200}, f"{kind.name}: {result.statuses}"
            found[kind.name] = result.p50_ms, result.p99_ms
        return found

    def _reads(self, shop: Shop, asks: Asks, paths: list[str]) -> Job:
        people = shop.users if asks == "users" else [shop.operator]
        return self._job(shop, "reads", [one.token for one in people], {"paths": paths})

    @staticmethod
    def _job(
        shop: Shop, scenario: str, tokens: list[str], options: dict[str, object], seed: int = 0
    ) -> Job:
        # A stream ends with its plan.
        return Job(
            "127.0.0.1", shop.port, scenario, tokens, duration_s=0, seed=seed, options=options
        )

    async def _sample(self, shop: Shop, dice: random.Random, count: int) -> Sample:
        return Sample(
            orders=await shop.some_orders(dice, count),
            products=dice.sample(shop.products, len(shop.products)),
            order_cursors=await self._cursors(shop, "/api/orders"),
            product_cursors=await self._cursors(shop, "/api/products"),
        )

    async def _cursors(self, shop: Shop, path: str) -> list[str]:
        """Where the pages of a list end."""
        found: list[str] = []
        asks: Asks = "operator" if path == "/api/orders" else "users"
        while len(found) < CURSORS:
            asked = f"{path}?limit={PAGE}" + (f"&cursor={found[-1]}" if found else "")
            result = await run(
                ("127.0.0.1", shop.port),
                requests=requests_of(self._reads(shop, asks, [asked])),
                connections=1,
                count=1,
                keep_bodies=1,
            )
            assert set(result.statuses) == {200}, f"{asked}: {result.statuses}"
            cursor = msgspec.json.decode(result.bodies[0])["nextCursor"]
            if cursor is None:
                break
            found.append(cursor)
        assert found, f"a shop of one page of {path} tells nothing"
        return found

    def verdicts(self, figures: Figures, baseline: Figures) -> list[Verdict]:
        promised = [(one.name, one.promised_ms) for one in KINDS if one.in_load]
        found = [
            Verdict(f"{name}, p99 under load", _p99_ms(name, figures), most_ms, "ms")
            for name, most_ms in [*promised, (PLACING, PLACE_MS)]
        ]
        found += [
            Verdict(f"{one.name}, p99 alone", figures[f"{one.name}: alone_p99_ms"], REPORT_MS, "ms")
            for one in KINDS
            if not one.in_load
        ]
        found += [
            Verdict(
                f"{one.name}, alone, of a tenth", _grown(one, figures, baseline), GROWN, "times"
            )
            for one in KINDS
            if one.steady
        ]
        behind = max(side["generator_behind_p99_ms"] for side in (figures, baseline))
        return [
            *found,
            Verdict("not answered with 2xx", figures["failed"] + baseline["failed"], 0, ""),
            Verdict("generator behind its plan, p99", behind, BEHIND_MS, "ms"),
        ]

    def details(self, figures: Figures, baseline: Figures) -> Table:
        orders = f"{figures['orders']:,.0f} orders, beside {baseline['orders']:,.0f}"
        table = Table(
            title=f"ms with {orders}: under load, and alone on the quiet server",
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("kind", no_wrap=True)
        for name in HEADINGS:
            table.add_column(name, justify="right", no_wrap=True)
        for kind in [*(one.name for one in KINDS), PLACING]:
            ours = [figures.get(f"{kind}: {which}") for which in COLUMNS]
            tenth = [baseline.get(f"{kind}: {which}") for which in COLUMNS[-2:]]
            grown = [_ratio(a, b) for a, b in zip(ours[-2:], tenth, strict=True)]
            table.add_row(kind, *map(number, [*ours, *tenth, *grown]))
        return table


def _told(answered: Answered) -> dict[str, float]:
    p50_ms, p95_ms, p99_ms, max_ms = quantiles(answered.counted_us, 50, 95, 99, 100)
    return {
        "asked": float(answered.count),
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "p99_ms": p99_ms,
        "max_ms": max_ms,
        "failed": float(answered.failed),
    }


def _p99_ms(name: str, figures: Figures) -> float:
    """What was never asked was not answered in time."""
    return figures[f"{name}: p99_ms"] if figures[f"{name}: asked"] else math.inf


def _grown(kind: Kind, figures: Figures, baseline: Figures) -> float:
    which = f"{kind.name}: alone_p50_ms"
    return figures[which] / baseline[which]


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None
