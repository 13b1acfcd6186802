"""`demo`: everything on a scratch instance, under load and a kill -9, and the proof afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from strongroom.clock import monotonic
from strongroom.core.audit import RecordReconciliation, Report
from strongroom.core.events import depths
from strongroom.core.events.subscribers import LEASE_S
from strongroom.doors.cli.burst import Bettor, Burst, percentiles_ms
from strongroom.doors.cli.client import Answer, Connection
from strongroom.doors.cli.flags import FINE, PRINCIPAL, REFUSED, aside, say, shown, tell
from strongroom.doors.cli.instance import Instance, NotReady
from strongroom.doors.cli.people import fund_wallets
from strongroom.doors.cli.sale import Sale, proof_lines
from strongroom.doors.cli.shop import Shop, shop_lines
from strongroom.errors import Busy, StrongroomError
from strongroom.main import Strongroom
from strongroom.settings import Settings

FUNDS = 10_000_000
"""More than one user stakes in any demo, so that bets are refused for no other reason."""

FEE_BPS = 250
CONNECTIONS = 64
STORM_CONNECTIONS = 32
STORM = 1_000
SEED = 20_260_101

KILL_AT = 0.15
"""Of the burst: early, since what the dead worker held comes back when its lease ends."""

BUYERS_PER_USER = 1.5

LOOK_S = 0.25
LINE_S = 1.0

SETTLED_S = 120.0
"""A lease of 30 s, and a slow machine."""

PAGE = 200
RECONNECTS = 40
"""With the pause between them ten seconds: as long as a restart takes."""


class StepFailed(StrongroomError):
    """A step of the demo was refused."""


class NotSettled(Busy):
    """The rounds were not settled in time."""


@dataclass
class Seen:
    """What the screen shows; amounts in bets and matches, not in money."""

    step: str = "starting"
    users: int = 0
    bets: int = 0
    per_second: float = 0.0
    matches: int = 0
    paid: int = 0
    waiting: int = 0
    queued: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    replayed: int = 0
    happened: list[str] = field(default_factory=list)
    sale: Sale | None = None
    shop: Shop | None = None
    about: Sale | Shop | None = None

    def line(self) -> str:
        """For a log."""
        if self.about:
            return f"{self.step}: {self.about.line()}"
        if not self.bets:
            return f"{self.step} …"
        return (
            f"{self.step}: {self.bets} bets ({self.per_second:.0f}/s), {self.matches} matches, "
            f"{self.paid} settled, {self.queued} queued, {self.replayed} replayed, "
            f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"
        )

    def table(self) -> Table:
        """For a terminal."""
        table = Table.grid(padding=(0, 2))
        table.add_row("[bold]" + self.step, "")
        for name, value in (
            ("users", f"{self.users:,}"),
            ("bets placed", f"{self.bets:,}"),
            ("bets a second", f"{self.per_second:,.0f}"),
            ("matches", f"{self.matches:,}"),
            ("matches settled", f"{self.paid:,}"),
            ("bets waiting for a counterpart", f"{self.waiting:,}"),
            ("messages in queues", f"{self.queued:,}"),
            ("latency p50 / p99", f"{self.p50_ms:.1f} / {self.p99_ms:.1f} ms"),
            ("retries answered as before", f"{self.replayed:,}"),
            *(self.sale.rows() if self.sale else ()),
            *(self.shop.rows() if self.shop else ()),
        ):
            table.add_row(name, value)
        for line in self.happened[-4:]:
            table.add_row("[dim]" + escape(line), "")
        return table


class Demo:
    """One demo on one running instance."""

    def __init__(self, instance: Instance, house: Strongroom, seen: Seen, users: int) -> None:
        self._instance, self._house, self._seen, self._users = instance, house, seen, users
        self._api = Connection(*instance.address)
        self._operator = ""
        self._keys = 0
        self._rounds: dict[str, str] = {}
        self._bettors: list[Bettor] = []
        self.burst = Burst(instance.address, [], [], SEED)
        self.sale = Sale(house, instance.address, self.try_post, SEED)
        self.shop = Shop(house, instance.address, self.try_post, self.get, SEED)
        self.killed, self._killed_at = 0, -inf

    async def play(self, seconds: float, kill: bool) -> None:
        """From the first user to the last settled match."""
        seen = self._seen
        seen.step = "creating users"
        made = await self._house.identity.create_users(self._users, "user")
        await fund_wallets(self._house, [user_id for user_id, _ in made], FUNDS)
        ((_, self._operator),) = await self._house.identity.create_users(1, "operator")
        self._bettors = [Bettor(*one) for one in made]
        seen.users = len(made)
        for kind in ("oracle", "coinflip"):
            body = {"name": f"demo {kind}", "kind": kind, "feeBps": FEE_BPS}
            self._rounds[kind] = (await self._post("/api/rounds", body))["roundId"]
        address, rounds = self._instance.address, list(self._rounds.values())
        self.burst = Burst(address, self._bettors, rounds, SEED)
        seen.step = f"placing bets for {seconds:g} s"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.burst.run(CONNECTIONS, seconds))
            if kill:
                tasks.create_task(self._kill_worker(seconds * KILL_AT))
        seen.step = "retry storm: the same bets once more"
        await self.burst.storm(STORM_CONNECTIONS, STORM)
        seen.step, seen.sale = "tickets: all buyers come at once", self.sale
        seen.about = self.sale
        await self.sale.run(max(2, round(self._users * BUYERS_PER_USER)))
        seen.step, seen.shop = "a shop opens: everybody wants what is on the shelf", self.shop
        seen.about = self.shop
        await self.shop.run(self._users)
        seen.about = None
        seen.step = "closing, posting the result, settling"
        for round_id in rounds:
            await self._post(f"/api/rounds/{round_id}/close", {})
        await self._post(f"/api/rounds/{self._rounds['oracle']}/result", {"winner": "A"})
        await self._until_settled(rounds)

    async def _kill_worker(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        worker = next(one for one in self._instance.children if one.name.startswith("worker"))
        if worker.pid is not None:
            self._seen.happened.append(f"kill -9 {worker.pid} ({worker.name})")
            self.killed, self._killed_at = worker.pid, monotonic()
            worker.signal(signal.SIGKILL)

    async def _until_settled(self, rounds: Sequence[str]) -> None:
        patience = monotonic() + SETTLED_S
        for round_id in rounds:
            while (await self.get(f"/api/rounds/{round_id}"))["status"] != "SETTLED":
                left = self._killed_at + LEASE_S - monotonic()
                if left > 0:
                    self._seen.step = f"settling; what the killed worker held: in {left:.0f} s"
                if monotonic() > patience:
                    raise NotSettled(f"A round is not settled after {SETTLED_S:g} s.")
                await asyncio.sleep(LOOK_S)

    # Asking the API -------------------------------------------------------------------------

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = await self.try_post(path, body)
        if answer.status >= 300:
            raise StepFailed(f"POST {path}: {answer.status} {answer.body.decode()}")
        return answer.json()

    async def try_post(self, path: str, body: dict[str, Any]) -> Answer:
        """As the operator, under a new key; a refusal is an answer too."""
        self._keys += 1
        return await self._ask("POST", path, self._operator, msgspec.json.encode(body))

    async def _ask(self, method: str, path: str, token: str, body: bytes = b"") -> Answer:
        """Again with the same key when the connection breaks, as idle ones do after seconds."""
        for _ in range(RECONNECTS):
            try:
                return await self._api.ask(method, path, token, body, f"demo-{self._keys}")
            except OSError:
                await asyncio.sleep(LOOK_S)
        raise NotReady(f"The API does not answer {method} {path}.")

    async def get(self, path: str, token: str = "") -> Any:
        """As the operator, unless a token says otherwise."""
        answer = await self._ask("GET", path, token or self._operator)
        if answer.status != 200:
            raise StepFailed(f"GET {path}: {answer.status} {answer.body.decode()}")
        return answer.json()

    # Proving --------------------------------------------------------------------------------

    async def check_bets(self) -> dict[str, int]:
        """Every acknowledged bet against what the API shows to its owner."""
        there: dict[UUID, dict[str, Any]] = {}
        for bettor in self._bettors:
            cursor = ""
            while True:
                page = await self.get(f"/api/bets?limit={PAGE}{cursor}", bettor.token)
                there |= {UUID(bet["betId"]): bet for bet in page["items"]}
                if not page["nextCursor"]:
                    break
                cursor = f"&cursor={page['nextCursor']}"
        done = [bet for bet in there.values() if bet["status"] in ("SETTLED", "REFUNDED")]
        whole = [bet for bet in done if bet["amount"] == bet["matched"] + bet["refunded"]]
        accepted = self.burst.accepted.keys()
        return {
            "acknowledged": len(accepted),
            "missing": len(accepted - there.keys()),
            # One whose answer was lost for good may be there without having been acknowledged.
            "unasked": max(0, len(there.keys() - accepted) - self.burst.unresolved),
            "unfinished": len(there) - len(whole),
        }

    async def check_draws(self) -> tuple[int, int]:
        """(draws, wrong ones) of the coinflip round; all are wrong when the seed is."""
        count, wrong = await self._house.betting.check_draws(UUID(self._rounds["coinflip"]))
        return count, count if wrong is None else len(wrong)

    async def watch(self) -> None:
        """Keeps the figures fresh until cancelled."""
        seen, last, last_at = self._seen, 0, monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now, bets = monotonic(), len(self.burst.accepted)
            seen.per_second = (bets - last) / (now - last_at)
            last, last_at = bets, now
            await self.look()

    async def look(self) -> None:
        """Reads how far everything is."""
        seen, burst = self._seen, self.burst
        seen.bets, seen.replayed = len(burst.accepted), burst.replayed
        seen.p50_ms, seen.p99_ms = burst.recent_ms()
        row = await self._house.betting.totals()
        seen.matches, seen.paid, seen.waiting = row["matches"], row["paid"], row["waiting"]
        seen.queued = sum(one["waiting"] for one in await depths(self._house.database))
        for load in (seen.sale, seen.shop):
            if load:
                await load.look()


async def demo(settings: Settings, users: int, seconds: float, kill: bool, as_json: bool) -> int:
    """Plays it on this instance, shows it, and answers the exit code."""
    # Its mails go nowhere, nobody's hurry or patience spoils it, and its few people ask as often
    # as thousands would.
    here = {
        "smtp_url": None,
        "mail_dir": None,
        "reservation_ttl_s": 600,
        "order_payment_ttl_s": 86_400,
        "rate_limits": "off",
    }
    settings = settings.model_copy(update=here)
    seen = Seen(users=users)
    began = monotonic()
    instance = Instance(settings, seen.happened.append)
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    screen = asyncio.create_task(_show(seen))
    try:
        await instance.start()
        async with Strongroom(settings) as house:
            playing = Demo(instance, house, seen, users)
            watching = asyncio.create_task(playing.watch())
            try:
                await playing.play(seconds, kill)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            seen.step, seen.per_second = "mails with tickets, and a ticket at the door", 0.0
            seen.about = playing.sale
            tickets = await playing.sale.prove()
            seen.step, seen.about = "checking every invariant and every bet", None
            shop = await playing.shop.prove()
            await playing.look()
            names: list[str] = []
            report = await house.reconcile(lambda name, *_: names.append(name))
            await house.run(RecordReconciliation(report), principal=PRINCIPAL)
            proof = await _proof(playing, report, names, tickets, shop)
            proof |= {"users": users, "seconds": round(monotonic() - began, 1)}
        screen.cancel()
        await asyncio.gather(screen, return_exceptions=True)
    finally:
        screen.cancel()
        await instance.end()
    if as_json:
        tell(proof)
    else:
        _show_proof(proof)
    return FINE if proof["fine"] else REFUSED


async def _proof(
    playing: Demo,
    report: Report,
    names: list[str],
    tickets: dict[str, Any],
    shop: dict[str, Any],
) -> dict[str, Any]:
    violated = {finding.invariant: str(finding) for finding in report.findings}
    bets = await playing.check_bets()
    draws, wrong_draws = await playing.check_draws()
    balance = await playing.get("/api/ops/trial-balance")
    burst = playing.burst
    p50_ms, p99_ms = percentiles_ms(burst.all_ms)
    faults = bets["missing"] + bets["unasked"] + bets["unfinished"] + wrong_draws
    faults += burst.different + sum(map(abs, balance["totals"].values()))
    return {
        "fine": report.clean
        and not faults
        and bets["acknowledged"] > 0
        and tickets["fine"]
        and shop["fine"],
        **bets,
        "refused": burst.refused,
        "unresolved": burst.unresolved,
        "killedWorker": playing.killed,
        "replayed": burst.replayed,
        "replayedDifferently": burst.different,
        "draws": draws,
        "wrongDraws": wrong_draws,
        "p50Ms": round(p50_ms, 2),
        "p99Ms": round(p99_ms, 2),
        "ticketing": tickets,
        "shop": shop,
        "invariants": {name: violated.get(name, "holds") for name in names},
        "trialBalance": balance["totals"],
    }


# Showing ----------------------------------------------------------------------------------------


async def _show(seen: Seen) -> None:
    if not aside.is_terminal:
        told = 0
        while True:
            for line in seen.happened[told:]:
                say(line)
            told = len(seen.happened)
            say(seen.line())
            await asyncio.sleep(LINE_S)
    with Live(console=aside, get_renderable=seen.table, refresh_per_second=8):
        await asyncio.Event().wait()


def _show_proof(proof: dict[str, Any]) -> None:
    table = Table("", "invariant", box=None, title="Reconciliation", title_justify="left")
    for name, found in proof["invariants"].items():
        mark = "[green]✓[/]" if found == "holds" else "[red]✗[/]"
        table.add_row(mark, name if found == "holds" else escape(found))
    shown.print(table)

    def line(fine: bool, said: str) -> None:
        mark = " [green]✓[/] " if fine else " [red]✗[/] "
        shown.print(mark, said, sep="", highlight=False, soft_wrap=True)

    shown.print()
    missing, replayed = proof["missing"], proof["replayed"]
    line(
        not missing and not proof["unasked"],
        f"{proof['acknowledged']:,} bets were acknowledged; {missing} are missing, "
        f"{proof['unasked']} are there that nobody asked for",
    )
    line(not proof["unfinished"], f"{proof['unfinished']} bets are neither settled nor refunded")
    line(
        not proof["replayedDifferently"],
        f"{replayed:,} retries got their first answer, byte for byte; "
        f"{proof['replayedDifferently']} another",
    )
    line(not proof["wrongDraws"], f"{proof['draws']:,} draws computed again from the seed")
    totals = proof["trialBalance"]
    counted = [total for unit, total in totals.items() if ":" in unit]
    for unit, total in totals.items():
        if ":" not in unit:
            line(total == 0, f"the trial balance of {unit} sums to {total}")
    line(
        not any(counted),
        f"that of each of {len(counted)} kinds of seats and pieces to {sum(counted)}",
    )
    for fine, said in (*proof_lines(proof["ticketing"]), *shop_lines(proof["shop"])):
        line(fine, said)
    for name, place in proof["ticketing"].get("open", {}).items():
        shown.print(f"   {name:<8} {place}", markup=False, highlight=False, soft_wrap=True)
    shown.print(
        f"\n   {proof['users']} users, p50 {proof['p50Ms']} ms, p99 {proof['p99Ms']} ms, "
        f"{1 if proof['killedWorker'] else 0} workers killed with -9, "
        f"{proof['seconds']} s in all\n",
        highlight=False,
        soft_wrap=True,
    )


def scratch_folder() -> Path:
    """A new folder; root's is passable, since its database runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="strongroom-demo-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return folder


def remove(folder: Path) -> None:
    """A scratch folder and all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)
