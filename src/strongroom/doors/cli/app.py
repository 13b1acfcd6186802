"""All commands by name."""

from __future__ import annotations

from collections.abc import Callable

import typer

from strongroom.doors.cli import (
    audit,
    backup,
    chaos,
    limits,
    load,
    load_report,
    orders,
    people,
    queues,
    serving,
    statement,
    status,
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
_add(app, "statement", statement.statement, "strongroom statement --day 2026-11-21 --unit VND")
_add(app, "doctor", upkeep.doctor, "strongroom doctor --data-dir .strongroom")
_add(
    app,
    "restore",
    backup.restore,
    "strongroom restore --from /backups --to-time 2026-11-21T14:00:00Z --data-dir restored",
)
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

copies = _group("backup", "Backups of the embedded database.", "strongroom backup make")
_add(copies, "make", backup.make, "strongroom backup make --to /backups")
_add(copies, "list", backup.list_backups, "strongroom backup list --from /backups")
_add(copies, "check", backup.check, "strongroom backup check --all")
_add(copies, "prune", backup.prune, "strongroom backup prune --keep 7")

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

_add(app, "status", status.status, "strongroom status --once")

waiting = _group("queues", "What waits for workers.", "strongroom queues list")
_add(waiting, "list", queues.list_queues, "strongroom queues list --json")
_add(waiting, "pause", queues.pause, "strongroom queues pause betting_settle --reason 'a look'")
_add(waiting, "resume", queues.resume, "strongroom queues resume betting_settle --reason done")
_add(waiting, "dead", queues.list_dead, "strongroom queues dead --queue ticketing_mail")
_add(waiting, "retry", queues.retry, "strongroom queues retry --error-like timeout")
_add(waiting, "discard", queues.discard, "strongroom queues discard --type ticketing.MailDue --yes")

bounds = _group("limits", "What can be changed at run time.", "strongroom limits list")
_add(bounds, "list", limits.list_limits, "strongroom limits list --json")
_add(
    bounds,
    "set",
    limits.set_limit,
    "strongroom limits set lane.PlaceBet.per_s 200 --reason 'the final'",
)
_add(bounds, "unset", limits.unset_limit, "strongroom limits unset rate.global --reason over")

payouts = _group("payouts", "The switch over payouts.", "strongroom payouts status")
_add(payouts, "status", limits.payouts, "strongroom payouts status --json")
_add(payouts, "pause", limits.pause_payouts, "strongroom payouts pause --reason 'paid twice?'")
_add(payouts, "resume", limits.resume_payouts, "strongroom payouts resume --reason checked")

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
