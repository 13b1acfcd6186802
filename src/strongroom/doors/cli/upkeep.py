"""`migrate`, `reconcile`, `dead-letters`, `draws`, `transfers`: an operator's work."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
import typer

from strongroom.doors.cli.flags import (
    FINE,
    PRINCIPAL,
    REFUSED,
    AsJson,
    DataDir,
    UnusedDataDir,
    aside,
    say,
    settings_of,
    shown,
    tell,
)
from strongroom.doors.cli.queues import reason_given
from strongroom.errors import Invalid, StrongroomError

if TYPE_CHECKING:
    from strongroom.core.audit import Report
    from strongroom.core.audit.reconcile import Mode
    from strongroom.core.db import Record
    from strongroom.settings import Settings


class NoSuchBench(Invalid):
    """There is no bench of this name."""


class OneScope(Invalid):
    """Choose one of --incremental, --unit and --account."""


class PageWithoutResults(Invalid):
    """A page is written from records: say with --results where they are."""


def migrate(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Brings the database to this program's schema, and binds the queues."""
    before, after = asyncio.run(_migrate(settings_of(data_dir=data_dir)))
    if as_json:
        tell({"before": before, "after": after})
    elif before == after:
        say(f"The schema is at {after} already.")
    else:
        say(f"The schema went from {before or 'nothing'} to {after}.")


async def _migrate(settings: Settings) -> tuple[str | None, str]:
    from strongroom.doors.cli.reach import reached
    from strongroom.main import prepare

    async with reached(settings, new=True, migrates=False) as place:
        return await prepare(place)


# Reconciliation -------------------------------------------------------------------------------


def reconcile(
    incremental: Annotated[
        bool,
        typer.Option("--incremental", help="What is new since the last seal, and a share of old."),
    ] = False,
    unit: Annotated[
        str | None, typer.Option(help="Only the ledger of this unit, from the first entry.")
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(help="Only this account: its number, or OWNER/PURPOSE/UNIT (`house` too)."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Checks every invariant. A finding pauses payouts, and ends this with exit code 1.

    Only a full run that is clean lets paused payouts go on.
    """
    mode: Mode = "full"
    if unit or account:
        if incremental or (unit and account):
            raise OneScope()
        mode = "scoped"
    elif incremental:
        mode = "incremental"
    settings = settings_of(data_dir=data_dir)
    report, seals = asyncio.run(_reconcile(settings, mode, unit, account))
    if as_json:
        tell(report)
    else:
        _show(report, seals)
    raise typer.Exit(FINE if report.clean else REFUSED)


async def _reconcile(
    settings: Settings, mode: Mode, unit: str | None, account: str | None
) -> tuple[Report, int]:
    from rich.progress import Progress

    from strongroom.core.audit import RecordReconciliation
    from strongroom.core.audit.reconcile import Scope
    from strongroom.doors.cli.reach import house_of

    async with house_of(settings) as house:
        with Progress(console=aside, transient=True) as bar:
            task = bar.add_task("invariants")
            run = await house.look(
                mode,
                scope=Scope(unit, account) if mode == "scoped" else None,
                progress=lambda name, asked, total: bar.update(
                    task, completed=asked, total=total, description=name
                ),
            )
        paused = False
        try:
            await house.pause_if_wrong(run.report, PRINCIPAL)
            paused = True
            await house.run(RecordReconciliation(run.report), principal=PRINCIPAL)
        except Exception:
            if not run.report.clean:
                _show(run.report, 0, paused=paused)
            raise
        return run.report, await house.seal(run)


def _show(report: Report, seals: int, *, paused: bool = True) -> None:
    from rich.table import Table

    asked = "Every invariant" if report.mode == "full" else f"All that a {report.mode} run asks"
    if report.clean:
        say(f"{asked} holds ({report.duration_ms} ms). Report {report.id}.")
        _show_seen(report, seals)
        return
    table = Table("invariant", "first wrong entry", "found", title="Violated", title_justify="left")
    for finding in report.findings:
        first = "\n".join(f"{name} {value}" for name, value in finding.rows[0].items())
        table.add_row(f"{finding.invariant}\n{finding.why}", first, _found(len(finding.rows)))
    shown.print(table, markup=False)
    _show_seen(report, seals)
    if report.evidence:
        say(f"Evidence: {report.evidence}")
    standing = "payouts are paused" if paused else "payouts could not be paused"
    say(
        f"{len(report.findings)} invariants do not hold; {standing}. Report {report.id}.\n"
        "What the program did is repaired by new entries (`strongroom transfers reverse`), what was\n"
        "written past it by a restore. Then reconcile again, and resume."
    )


def _show_seen(report: Report, seals: int) -> None:
    """What was read, and what only a full run asks."""
    seen = report.seen
    if seen is None:
        return
    if report.mode == "scoped":
        say(f"Read from the first entry: {seen.entries:,} entries of {seen.accounts:,} accounts.")
    elif report.head or seals:
        since = f"seal {report.head}" if report.head else "the beginning"
        say(
            f"New since {since}: {seen.entries:,} entries of {seen.accounts:,} accounts. Sealed "
            f"before and read again: {seen.again_entries:,} of {seen.sealed_entries:,} entries."
        )
    if seals:
        say(f"{seals} seal{'s' if seals > 1 else ''} added.")
    if report.left:
        say(f"Left to a full run: {len(report.left)} invariants ({', '.join(report.left[:4])} …).")


def _found(rows: int) -> str:
    return "10 or more" if rows >= 10 else str(rows)


# Dead letters ---------------------------------------------------------------------------------


def list_dead(
    queue: Annotated[str | None, typer.Option(help="Of this queue only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Lists the messages that were buried after their last attempt, oldest first."""
    show_dead(asyncio.run(_dead(settings_of(data_dir=data_dir), queue, limit)), as_json)


def show_dead(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Dead letters as a table, or a line of JSON each."""
    if as_json:
        for row in rows:
            tell(row)
        return
    if not rows:
        say("No message lies in the dead letters.")
        return
    from rich.table import Table

    table = Table("id", "queue", "event", "attempts", "died", "error")
    for row in rows:
        texts = (row["id"], row["queue"], row["event"]["type"], row["attempts"], row["diedAt"])
        table.add_row(*map(str, texts), row["error"])
    shown.print(table, markup=False)
    say("Mend the cause, then `strongroom dead-letters retry ID`; or `discard ID`.")


async def _dead(settings: Settings, queue: str | None, limit: int) -> list[dict[str, Any]]:
    from strongroom.core.events import DeadLetters
    from strongroom.doors.cli.reach import house_of

    async with house_of(settings) as house:
        return dead_as_told(await DeadLetters(house.database).list(queue, limit))


def dead_as_told(rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Dead letters in the form of the doors."""
    return [
        {
            "id": row["id"],
            "queue": row["queue"],
            "event": msgspec.json.decode(row["event"]),
            "error": row["error"],
            "attempts": row["attempts"],
            "diedAt": row["died_at"],
        }
        for row in rows
    ]


Ids = Annotated[list[int], typer.Argument(help="The dead letters' ids.", metavar="ID…")]


def retry_dead(ids: Ids, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Sends buried messages to their queues again, their attempts forgotten."""
    _end_dead(ids, "retried", settings_of(data_dir=data_dir), as_json)


def discard_dead(ids: Ids, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Gives buried messages up; they stay on record."""
    _end_dead(ids, "discarded", settings_of(data_dir=data_dir), as_json)


def _end_dead(
    ids: Sequence[int],
    ending: Literal["retried", "discarded"],
    settings: Settings,
    as_json: bool,
) -> None:
    async def end() -> list[StrongroomError]:
        from strongroom.core.events import DeadLetters
        from strongroom.doors.cli.reach import house_of

        refused: list[StrongroomError] = []
        async with house_of(settings) as house:
            for id in ids:
                try:
                    await DeadLetters(house.database).end(id, ending, by=PRINCIPAL)
                except StrongroomError as error:
                    refused.append(error)
                    continue
                if as_json:
                    tell({"id": id, "ending": ending})
                else:
                    say(f"Dead letter {id} is {ending}.")
        return refused

    # The others are ended all the same; the first that was not is the answer.
    for error in asyncio.run(end()):
        raise error


# Proofs and repairs ---------------------------------------------------------------------------


def verify_draws(
    round_id: Annotated[UUID, typer.Argument(help="A settled coinflip round.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Computes every draw of a coinflip round again from its published seed."""

    async def check(settings: Settings) -> tuple[int, list[UUID] | None]:
        from strongroom.doors.cli.reach import house_of

        async with house_of(settings) as house:
            return await house.betting.check_draws(round_id)

    count, wrong = asyncio.run(check(settings_of(data_dir=data_dir)))
    fair = wrong == []
    if as_json:
        seed_fits = wrong is not None
        tell({"roundId": round_id, "draws": count, "seedFits": seed_fits, "wrong": wrong or []})
    elif wrong is None:
        say("The seed is not the one whose hash was published with the round.")
    elif wrong:
        say(f"{len(wrong)} of {count} draws are not what the seed gives, first {wrong[0]}.")
    else:
        say(f"The seed fits its hash, and all {count} draws are what it gives.")
    raise typer.Exit(FINE if fair else REFUSED)


def reverse_transfer(
    transfer_id: Annotated[UUID, typer.Argument(help="The transfer to negate.")],
    reason: Annotated[
        str, typer.Option(help="Why; kept as the reversal's reference.", callback=reason_given)
    ],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Negates a transfer exactly, once: the only way to correct what is written."""

    async def reverse(settings: Settings) -> Any:
        from strongroom.apps.wallets import ReverseTransfer
        from strongroom.doors.cli.reach import house_of

        async with house_of(settings) as house:
            return await house.run(ReverseTransfer(transfer_id, reason), principal=PRINCIPAL)

    done = asyncio.run(reverse(settings_of(data_dir=data_dir)))
    if as_json:
        tell(done)
    else:
        say(f"Transfer {transfer_id} is reversed by {done.transfer_id}.")


def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Looks at this machine, the data folder and the database, and says what to do."""
    from strongroom.doors.cli import doctor as examination

    raise typer.Exit(examination.doctor(settings_of(data_dir=data_dir), as_json))


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benches; without one, they are listed.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, one after another.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A shorter run, with more noise.")] = False,
    pairs: Annotated[int, typer.Option(min=3, max=99, help="Turns of each side.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Seed of the first pair.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder to record the outcome in.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Then write this page, from all records in --results.")
    ] = None,
    orders: Annotated[
        int | None, typer.Option(min=1, help="Orders of the shop that is filled.")
    ] = None,
    at: Annotated[
        Path | None, typer.Option(help="Data folder to fill, or filled before; it is kept.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="The same, for a tenth of the orders.")
    ] = None,
    data_dir: UnusedDataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measures Strongroom beside a baseline, in pairs, on a scratch instance of its own."""
    # By name, and only here: no other part of the program loads the lab.
    frame = importlib.import_module("strongroom.lab.bench")
    found = importlib.import_module("strongroom.lab.benches").BENCHES
    if page is not None and results is None:
        raise PageWithoutResults()
    names = sorted(found) if every else names or []
    if not names and page is None:
        for name, one in sorted(found.items()):
            tell({"name": name, "claim": one.claim}) if as_json else say(f"{name:<14} {one.claim}")
        return
    for name in names:
        if name not in found:
            raise NoSuchBench(f"There is no bench {name}. There are: {', '.join(sorted(found))}.")
    options = {"as_json": as_json, "quick": quick, "pairs": pairs, "results": results}
    given = options if seed is None else options | {"seed": seed}
    benches = [found[name]() for name in names]
    for one in benches:
        one.take(frame.Shops(orders=orders, at=at, beside=beside))
    for one in benches:
        asyncio.run(frame.show(one, **given))
    if page is not None and results is not None:
        written = importlib.import_module("strongroom.lab.page").write(page, results, found)
        say(f"{len(written)} files are written: {page} and its charts.")


def openapi(data_dir: UnusedDataDir = None, as_json: AsJson = False) -> None:
    """Prints the OpenAPI 3.1 document of the HTTP API."""
    from strongroom.doors.http import openapi as described
    from strongroom.doors.http.app import ROUTES

    document = msgspec.json.encode(described.document(ROUTES))
    typer.echo(document if as_json else msgspec.json.format(document, indent=2))
