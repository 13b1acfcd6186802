"""The screen of `status`: what is wrong first, then everything else in as few lines as it takes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strongroom.doors.cli.queues import table_of, when
from strongroom.doors.cli.standing import Books, Standing


def screen(found: Standing) -> RenderableType:
    """The whole of it."""
    return Group(*_parts(found))


def _parts(found: Standing) -> Iterator[RenderableType]:
    if not found.answers:
        yield Text(f"Nothing answers on {found.data_dir}.", style="bold red")
    for sentence in found.wrong:
        yield Text(f"✗ {sentence}", style="red")
    if not found.wrong:
        yield Text("✓ all is well", style="green")
    yield _overview(found)
    if found.processes:
        yield _processes(found)
    if found.database:
        zeros = {one.queue: 0 for one in found.database.queues}
        yield table_of(found.database.queues, zeros | found.done_per_minute)
        if found.database.limits:
            yield _limits(found.database)
        if found.database.actions:
            yield _actions(found.database)


def _overview(found: Standing) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    said = found.url or "no instance is noted there"
    instance = f"{said}, process {found.pid}" if found.pid else said
    grid.add_row("instance", escape(f"{instance}, {found.data_dir}"))
    if found.url is None:
        grid.add_row("ready", _coloured("not known: no `up` has noted its processes here", None))
    else:
        grid.add_row("ready", _coloured(found.ready, found.ready == "ready"))
    books = found.database
    if books is None:
        grid.add_row("database", _coloured("does not answer", False))
        return grid
    server, payouts, verdict = books.server, books.payouts, books.reconciliation
    grid.add_row(
        "database",
        f"{server.connections} of {server.most_connections} connections, "
        f"{server.lock_waits} waiting for locks, {server.bytes / 2**20:,.0f} MiB, "
        f"oldest transaction {server.oldest_transaction_s:g} s, up {_lasted(server.up_s)}",
    )
    paying = f"paused since {when(payouts.since)}"
    grid.add_row(
        "payouts", _coloured(paying if payouts.payouts_paused else "running",
                             not payouts.payouts_paused)
    )  # fmt: skip
    if verdict is None:
        grid.add_row("reconciled", _coloured("never", None))
    else:
        clean = "clean" if verdict.clean else f"found {', '.join(verdict.violated)}"
        told = clean
        if verdict.began_at:
            told = f"{when(verdict.began_at)}, {clean}, {verdict.duration_ms:,} ms"
        grid.add_row("reconciled", _coloured(told, verdict.clean))
    grid.add_row("held", f"{books.reservations_held:,} reservations, {books.seats_held:,} seats")
    return grid


def _coloured(text: str, fine: bool | None) -> Text:
    return Text(text, style={True: "green", False: "red", None: "yellow"}[fine])


def _lasted(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:
        return f"{days:.0f} d"
    return f"{hours:.0f} h" if hours >= 2 else f"{minutes:.0f} min"


def _processes(found: Standing) -> Table:
    table = Table("process", "pid", "since", box=SIMPLE, pad_edge=False)
    for head in ("requests/s", "429/s", "p95"):
        table.add_column(head, justify="right")
    for one in found.processes:
        if not one.answers:
            table.add_row(one.name, "", Text("does not answer", style="red"), "", "", "")
            continue
        since = when(one.since) if one.since else ""
        api = one.name.startswith("api")
        p95 = f"≤ {one.p95_ms:g} ms" if one.p95_ms is not None else ""
        rates = (f"{one.requests_per_s:g}", f"{one.too_many_per_s:g}") if api else ("", "")
        table.add_row(one.name, str(one.pid or ""), since, *rates, p95)
    return table


def _limits(books: Books) -> Table:
    table = Table("changed limit", "holds", "since", "by", "reason", box=SIMPLE, pad_edge=False)
    for one in books.limits:
        since = when(one.since) if one.since else ""
        value = str(one.value).lower() if isinstance(one.value, bool) else str(one.value)
        name, by, reason = map(escape, (one.name, one.by, one.reason))
        table.add_row(name, Text(value, style="yellow"), since, by, reason)
    return table


def _actions(books: Books) -> Table:
    """A line each: a reason may be a finding's first row, and there is one screen for all."""
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("last acts", no_wrap=True)
    for one in books.actions:
        told = f"{when(one.at)}  {one.by}  {one.action} {one.subject}"
        table.add_row(Text(f"{told}  {one.reason}" if one.reason else told))
    return table
