"""All commands by name."""

from __future__ import annotations

from collections.abc import Callable

import typer

from strongroom.doors.cli import (
    audit,
    chaos,
    load,
    load_report,
    orders,
    people,
    serving,
    tickets,
    upkeep,
)
from strongroom.doors.cli.flags import Commands

app = typer.Typer(
    cls=Commands,
    help="Strongroom: a transactional core for things that run out.",
    epilog="Example: strongroom up",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _add(to: typer.Typer, name: str, command: Callable[..., None], example: str) -> None:
    to.command(name, epilog=f"Example: {example}")(command)


def _group(name: str, help: str, example: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True)
    app.add_typer(group, name=name, help=help, epilog=f"Example: {example}")
    return group


_add(app, "up", serving.up, "strongroom up --port 0 --workers 2")
_add(app, "demo", serving.demo, "strongroom demo --users 100 --keep")
_add(app, "serve", serving.serve, "strongroom serve --port 8001")
_add(app, "worker", serving.worker, "strongroom worker --data-dir .strongroom")
_add(app, "migrate", upkeep.migrate, "strongroom migrate --data-dir .strongroom")
_add(app, "reconcile", upkeep.reconcile, "strongroom reconcile --json")
_add(app, "doctor", upkeep.doctor, "strongroom doctor --data-dir .strongroom")
_add(app, "bench", upkeep.bench, "strongroom bench bets --quick")
_add(app, "audit", audit.audit, "strongroom audit --url http://127.0.0.1:8000 --token TOKEN")
_add(app, "load", load.load, "strongroom load burst --users 500")
_add(
    app,
    "load-report",
    load_report.load_report,
    "strongroom load-report run.json --html report.html",
)
_add(app, "chaos", chaos.chaos, "strongroom chaos kills --kills 20 --seed 7")
_add(app, "openapi", upkeep.openapi, "strongroom openapi > openapi.json")

users = _group("users", "Users for trials.", "strongroom users create --fund 1000000")
_add(
    users,
    "create",
    people.create_users,
    "strongroom users create --count 3 --fund 1000000 --role user --json",
)
keys = _group("api-keys", "Keys for other programs.", "strongroom api-keys create till-7")
_add(keys, "create", people.create_key, "strongroom api-keys create till-7 --role operator")
_add(keys, "revoke", people.revoke_key, "strongroom api-keys revoke KEY_ID")

dead = _group(
    "dead-letters",
    "Messages that were buried after their last attempt.",
    "strongroom dead-letters list",
)
_add(dead, "list", upkeep.list_dead, "strongroom dead-letters list --queue betting_match")
_add(dead, "retry", upkeep.retry_dead, "strongroom dead-letters retry 17 18")
_add(dead, "discard", upkeep.discard_dead, "strongroom dead-letters discard 17")

draws = _group("draws", "Provably fair draws.", "strongroom draws verify ROUND_ID")
_add(draws, "verify", upkeep.verify_draws, "strongroom draws verify ROUND_ID")

shop = _group("orders", "A shop to try things in.", "strongroom orders seed --orders 100000")
_add(shop, "seed", orders.seed, "strongroom orders seed --orders 100000")
scans = _group("tickets", "Signed tickets, offline.", "strongroom tickets verify QR")
_add(scans, "verify", tickets.verify, "strongroom tickets verify QR --public-key key.pem")
_add(scans, "public-key", tickets.public_key, "strongroom tickets public-key > key.pem")

transfers = _group(
    "transfers",
    "Corrections of the ledger.",
    "strongroom transfers reverse TRANSFER_ID --reason 'paid twice'",
)
_add(
    transfers,
    "reverse",
    upkeep.reverse_transfer,
    "strongroom transfers reverse TRANSFER_ID --reason 'paid twice'",
)
