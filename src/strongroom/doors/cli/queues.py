"""`queues`: what waits in each, pausing and resuming them, and their dead letters by filter."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from strongroom.doors.cli.flags import PRINCIPAL, AsJson, DataDir, say, settings_of, shown, tell
from strongroom.errors import Invalid

if TYPE_CHECKING:
    from strongroom.core.audit.queues import EndDeadLetters, QueueSeen, QueueStanding
    from strongroom.settings import Settings

MEASURED_S = 1.0
"""How long a queue is watched for how much is done a minute."""

LONGEST_REASON = 500
"""As over HTTP."""


def reason_given(text: str) -> str:
    """A reason that says something, as over HTTP; BadParameter."""
    if not text.strip() or not text.isprintable() or len(text) > LONGEST_REASON:
        raise typer.BadParameter(f"say why, in 1 to {LONGEST_REASON} printable characters.")
    return text


Why = Annotated[
    str,
    typer.Option("--reason", help="Why; kept with who did it and when.", callback=reason_given),
]
QueueName = Annotated[str, typer.Argument(help="The queue.", metavar="QUEUE")]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Of this queue only.")]
OfType = Annotated[str | None, typer.Option("--type", help="Of this type of event only.")]
Before = Annotated[
    datetime | None,
    typer.Option("--before", help="That died before this; in UTC without a zone of its own."),
]
ErrorLike = Annotated[
    str | None, typer.Option("--error-like", help="With these words in the error.")
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")]
Every = Annotated[bool, typer.Option("--all", help="All that fit, however many there are.")]


class FilterNeeded(Invalid):
    """Say which dead letters are meant, with a filter or with --all."""


class NotConfirmed(Invalid):
    """What is discarded is not done, ever. Say so with --yes."""


def list_queues(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Lists all queues: what waits, what a worker has, what died, what is done a minute."""
    found, done = asyncio.run(_watched(settings_of(data_dir=data_dir)))
    if as_json:
        import msgspec

        for one in found:
            tell({**msgspec.to_builtins(one), "donePerMinute": done[one.queue]})
        return
    shown.print(table_of(found, done))
    if any(one.paused for one in found):
        say("Paused queues wait until `strongroom queues resume QUEUE --reason …`.")


async def _watched(settings: Settings) -> tuple[list[QueueStanding], dict[str, int]]:
    from strongroom.clock import monotonic
    from strongroom.core.audit.queues import queue_standings
    from strongroom.doors.cli.reach import house_of

    async with house_of(settings) as house:
        before, began = await queue_standings(house.database), monotonic()
        await asyncio.sleep(MEASURED_S)
        after = await queue_standings(house.database)
        return after, per_minute(before, after, monotonic() - began)


def per_minute(
    before: list[QueueStanding], after: list[QueueStanding], seconds: float
) -> dict[str, int]:
    """How many messages of each queue were done a minute, between two looks."""
    done = {one.queue: one.done for one in before}
    return {one.queue: round((one.done - done.get(one.queue, 0)) * 60 / seconds) for one in after}


def table_of(found: list[QueueStanding], done: dict[str, int]) -> Any:
    """The queues as a table, those that are paused below it with who and why: a column for that
    would have no room in a terminal of 80."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("queue", no_wrap=True)
    for head in ("waiting", "delayed", "leased", "stalled", "oldest", "dead", "done/min"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in found:
        numbers = (one.waiting, one.delayed, one.leased, one.stalled)
        table.add_row(
            one.queue,
            *(f"{number:,}" for number in numbers),
            f"{one.oldest_s:,} s",
            f"[red]{one.dead:,}[/]" if one.dead else "0",
            f"{done[one.queue]:,}",
        )
    told = [
        Text(
            f"{one.queue} is paused since {when(one.since)}, by {one.by}: {one.reason}",
            style="yellow",
        )
        for one in found
        if one.paused
    ]
    return Group(table, *told)


def pause(queue: QueueName, reason: Why, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Pauses a queue: no worker receives from it, what waits is kept and not counted as tried."""
    _turn(queue, True, reason, settings_of(data_dir=data_dir), as_json)


def resume(
    queue: QueueName, reason: Why, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Lets workers go on with a queue."""
    _turn(queue, False, reason, settings_of(data_dir=data_dir), as_json)


def _turn(queue: str, paused: bool, reason: str, settings: Settings, as_json: bool) -> None:
    async def turn() -> QueueSeen:
        from strongroom.core.audit.queues import PauseQueue, ResumeQueue
        from strongroom.doors.cli.reach import house_of

        command = PauseQueue(queue, reason) if paused else ResumeQueue(queue, reason)
        async with house_of(settings) as house:
            seen: QueueSeen = await house.run(command, principal=PRINCIPAL)
            return seen

    seen = asyncio.run(turn())
    if as_json:
        tell(seen)
    elif seen.paused:
        say(f"{queue} is paused since {when(seen.since)}, by {seen.by}: {seen.reason}")
    else:
        say(f"{queue} is not paused.")


def when(moment: datetime | None) -> str:
    """A moment for people, to the second, in UTC as everywhere."""
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "nobody knows when"


# Dead letters ---------------------------------------------------------------------------------


def list_dead(
    queue: OfQueue = None,
    type: OfType = None,
    before: Before = None,
    error_like: ErrorLike = None,
    limit: Limit = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Lists dead letters, oldest first: messages that were buried after their last attempt."""
    from strongroom.doors.cli.upkeep import show_dead

    rows = asyncio.run(
        _dead(settings_of(data_dir=data_dir), queue, type, utc(before), error_like, limit)
    )
    show_dead(rows, as_json)


async def _dead(
    settings: Settings,
    queue: str | None,
    type: str | None,
    before: datetime | None,
    error_like: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    from strongroom.core.audit.queues import require_queue
    from strongroom.core.events import DeadLetters
    from strongroom.doors.cli.reach import house_of
    from strongroom.doors.cli.upkeep import dead_as_told

    async with house_of(settings) as house:
        letters = DeadLetters(house.database)
        rows = await letters.list(queue, limit, type=type, before=before, error_like=error_like)
        if queue and not rows:
            await require_queue(house.database, queue)
        return dead_as_told(rows)


def retry(
    queue: OfQueue = None,
    type: OfType = None,
    before: Before = None,
    error_like: ErrorLike = None,
    limit: Limit = 1000,
    every: Every = False,
    reason: Annotated[str, typer.Option(help="Why; kept with the action.")] = "",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Sends dead letters to their queues again, oldest first, their attempts forgotten."""
    meant = _meant("retried", queue, type, utc(before), error_like, every, reason)
    _end(meant, limit, every, settings_of(data_dir=data_dir), as_json)


def discard(
    queue: OfQueue = None,
    type: OfType = None,
    before: Before = None,
    error_like: ErrorLike = None,
    limit: Limit = 1000,
    every: Every = False,
    reason: Annotated[str, typer.Option(help="Why; kept with the action.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="What is discarded is never done.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Gives dead letters up, oldest first; they stay on record."""
    if not yes:
        raise NotConfirmed()
    meant = _meant("discarded", queue, type, utc(before), error_like, every, reason)
    _end(meant, limit, every, settings_of(data_dir=data_dir), as_json)


def utc(moment: datetime | None) -> datetime | None:
    """A moment without a zone is meant in UTC, as all times are shown."""
    from datetime import UTC

    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _meant(
    ending: Literal["retried", "discarded"],
    queue: str | None,
    type: str | None,
    before: datetime | None,
    error_like: str | None,
    every: bool,
    reason: str,
) -> EndDeadLetters:
    from strongroom.core.audit.queues import EndDeadLetters

    if not (every or queue or type or before or error_like):
        raise FilterNeeded()
    return EndDeadLetters(ending, queue, type, before, error_like, reason=reason)


def _end(meant: EndDeadLetters, limit: int, every: bool, settings: Settings, as_json: bool) -> None:
    """In steps of a thousand, each of them one action."""

    async def end() -> int:
        from dataclasses import replace

        from strongroom.core.audit.queues import ENDED_TOGETHER
        from strongroom.doors.cli.reach import house_of

        ended = 0
        async with house_of(settings) as house:
            while every or ended < limit:
                most = ENDED_TOGETHER if every else min(ENDED_TOGETHER, limit - ended)
                done = await house.run(replace(meant, limit=most), principal=PRINCIPAL)
                ended += done.count
                if done.count < most:
                    break
        return ended

    ended = asyncio.run(end())
    if as_json:
        tell({"ending": meant.ending, "count": ended})
    else:
        say(f"{ended:,} dead letters are {meant.ending}.")
