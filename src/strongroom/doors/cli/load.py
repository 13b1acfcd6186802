"""`load`: the load generator, on an instance of its own or on one that runs."""

from __future__ import annotations

import asyncio
import importlib
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from strongroom.doors.cli.flags import FINE, REFUSED, AsJson, aside, say, settings_of, shown, tell
from strongroom.errors import Invalid

GENERATOR = 4
"""Nothing is wrong, and nothing was measured but the generator."""

HELP = """Sends load that comes when it is due, and checks the books afterwards.

Without a scenario they are listed. Latencies begin at the instant when a request was due, whether
or not it could be sent then. By default an instance is made for the run and removed after it;
--data-dir takes the one that runs on that folder, --url any that answers there.

Exit codes: 0 all is as it should be. 1 a threshold is broken, an invariant finds something, or
the scenario's promise is not kept. 2 usage. 3 not reachable. 4 nothing of these, but the generator
and not the server was the limit: the latencies say nothing about the server."""


class FlagsUnfit(Invalid):
    """These flags do not go together."""


Scenario = Annotated[str | None, typer.Argument(help="Its name; without one, they are listed.")]
Users = Annotated[int | None, typer.Option(min=1, help="How many users.")]
Seconds = Annotated[float | None, typer.Option(min=0, help="How long the load lasts.")]
Rate = Annotated[
    str | None, typer.Option(help="Requests a second: 500, or steps like 200,500,1000.")
]
Count = Annotated[int | None, typer.Option(min=1, help="Requests of `spam`, `burst`, `rush`.")]
Together = Annotated[int | None, typer.Option(min=1, help="Under way at any time, in `spam`.")]
Funded = Annotated[int | None, typer.Option(min=0, help="Bets that a wallet can pay, in `spam`.")]
Seats = Annotated[int | None, typer.Option(min=1, help="Seats of the event.")]
Stock = Annotated[int | None, typer.Option(min=1, help="Pieces of each product.")]
Warmup = Annotated[float | None, typer.Option("--warmup", min=0, help="Seconds before it counts.")]
Connections = Annotated[int | None, typer.Option(min=1, help="Connections; by default one a user.")]
Processes = Annotated[int, typer.Option(min=1, max=64, help="Processes of the generator.")]
Seed = Annotated[int, typer.Option(help="Of all that is drawn by chance.")]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="Scenarios of one's own, as TOML.")]
Thresholds = Annotated[
    list[str] | None,
    typer.Option("--threshold", help="Like 'p99_ms<=500' or 'bets.failed_share<=0.01'."),
]
Apis = Annotated[int, typer.Option(min=1, max=16, help="API processes of the own instance.")]
Workers = Annotated[int, typer.Option(min=1, max=16, help="Worker processes of it.")]
Url = Annotated[str | None, typer.Option(help="Instead of any other: the instance behind it.")]
Token = Annotated[str | None, typer.Option(help="An operator's, for --url.")]
Tokens = Annotated[
    Path | None,
    typer.Option(help="Users for --url: the lines of `strongroom users create --json`."),
]
Owned = Annotated[
    bool, typer.Option("--i-own-this-host", help="Allow a --url that is not this machine.")
]
LoadedDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="STRONGROOM_DATA_DIR",
        help="Instead of an own instance: the one that runs on this folder.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Keep the outcome here, as JSON.")]
Html = Annotated[Path | None, typer.Option(help="Write a report with charts here.")]


def load(
    scenario: Scenario = None,
    users: Users = None,
    seconds: Seconds = None,
    rate: Rate = None,
    count: Count = None,
    together: Together = None,
    funded: Funded = None,
    seats: Seats = None,
    stock: Stock = None,
    warmup_s: Warmup = None,
    connections: Connections = None,
    processes: Processes = 1,
    seed: Seed = 20_260_101,
    plan: PlanFile = None,
    threshold: Thresholds = None,
    apis: Apis = 1,
    workers: Workers = 1,
    url: Url = None,
    token: Token = None,
    tokens: Tokens = None,
    owned: Owned = False,
    out: Out = None,
    html: Html = None,
    data_dir: LoadedDir = None,
    as_json: AsJson = False,
) -> None:
    """Sends load that comes when it is due, and checks the books afterwards."""
    # By name, and only here: no other part of the program loads the lab.
    plans = importlib.import_module("strongroom.lab.load.plans")
    if scenario is None:
        _list(plans.plans(plan), as_json)
        return
    changes = {
        "users": users,
        "seconds": seconds,
        "per_second": _rates(rate),
        "count": count,
        "together": together,
        "funded": funded,
        "seats": seats,
        "stock": stock,
        "warmup_s": warmup_s,
        "connections": connections,
    }
    chosen = plans.plan_of(scenario, plan, **changes)
    running = importlib.import_module("strongroom.lab.load.running")
    options = running.Options(processes, seed, tuple(threshold or ()))
    options.limits(chosen, measured=url is None)  # what does not fit is said before anything starts
    behind = Behind(url, token, tokens, owned)
    target = _target(data_dir, behind, apis, workers)
    import uvloop

    found = uvloop.run(_run(running.Seen(scenario, chosen), target, options))
    _keep(found, out, html)
    _show(found, as_json)
    if not found.held:
        raise typer.Exit(REFUSED)
    raise typer.Exit(GENERATOR if found.generator_limited else FINE)


load.__doc__ = HELP


class Behind(NamedTuple):
    """An instance behind a URL, and who may do what there."""

    url: str | None
    token: str | None
    tokens: Path | None
    owned: bool


def _target(data_dir: Path | None, behind: Behind, apis: int, workers: int) -> Any:
    """What is put under load; FlagsUnfit."""
    targets = importlib.import_module("strongroom.lab.load.targets")
    settings = settings_of(data_dir=data_dir)
    if behind.url is None:
        if behind.token is not None or behind.tokens is not None:
            raise FlagsUnfit("--token and --tokens are for --url.")
        return targets.near(settings) if data_dir else targets.own(settings, apis, workers)
    if behind.token is None:
        raise FlagsUnfit(
            "A --url needs --token: an operator's, who makes rounds and fills wallets. "
            "`strongroom users create --role operator` prints one."
        )
    return targets.far(behind.url, behind.token, behind.tokens, behind.owned)


def _show(found: Any, as_json: bool) -> None:
    if as_json:
        tell(found)
        return
    for table in importlib.import_module("strongroom.lab.load.screen").tables(found):
        shown.print(table)
        shown.print()


def _list(found: dict[str, Any], as_json: bool) -> None:
    for name, one in found.items():
        if as_json:
            tell({"name": name, **msgspec.to_builtins(one)})
        else:
            say(f"{name:<10} {one.says}")
    if not as_json:
        say("\nRun one: strongroom load burst --users 500")


def _rates(told: str | None) -> list[float] | None:
    """The steps of --rate; FlagsUnfit."""
    if told is None:
        return None
    try:
        return [float(one) for one in told.split(",")]
    except ValueError:
        raise FlagsUnfit("--rate is a number, or several like 200,500,1000.") from None


def _keep(found: Any, out: Path | None, html: Path | None) -> None:
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
        say(f"The outcome is kept in {out}.")
    if html:
        importlib.import_module("strongroom.lab.load.report").write_html([found], html)
        say(f"The report is {html}.")


async def _run(seen: Any, target: AbstractAsyncContextManager[Any], options: Any) -> Any:
    running = importlib.import_module("strongroom.lab.load.running")
    screen = importlib.import_module("strongroom.lab.load.screen")
    task = asyncio.current_task()
    assert task is not None
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, task.cancel)
    showing = asyncio.create_task(screen.show(seen, aside))
    try:
        async with target as reached:
            return await running.Run(seen, reached, options).carry_out()
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


__all__ = ["load"]
