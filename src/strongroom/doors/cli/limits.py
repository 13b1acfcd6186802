"""`limits` and `payouts`: what an operator changes while everything runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.doors.cli.flags import (
    FINE,
    PRINCIPAL,
    REFUSED,
    AsJson,
    DataDir,
    say,
    settings_of,
    shown,
    tell,
)
from strongroom.doors.cli.queues import Why, when

if TYPE_CHECKING:
    from strongroom.core.audit.limits import LimitSeen, Value
    from strongroom.core.audit.switches import PayoutsSeen
    from strongroom.core.commands import Command
    from strongroom.settings import Settings

LimitName = Annotated[str, typer.Argument(help="As `limits list` shows it.", metavar="NAME")]


def list_limits(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Lists the limits that can be changed at run time, and who changed which."""

    async def ask(settings: Settings) -> tuple[dict[str, Value], list[LimitSeen]]:
        from strongroom.core.audit.limits import changed_limits
        from strongroom.doors.cli.reach import house_of

        async with house_of(settings) as house:
            return house.configured_limits, await changed_limits(house.database)

    configured, changed = asyncio.run(ask(settings_of(data_dir=data_dir)))
    seen = {one.name: one for one in changed}
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "value": seen[name].value if name in seen else configured[name],
            "setting": configured.get(name),
            "changed": name in seen,
            "since": seen[name].since if name in seen else None,
            "by": seen[name].by if name in seen else None,
            "reason": seen[name].reason if name in seen else None,
        }
        for name in sorted({*configured, *seen})
    ]
    if as_json:
        for row in rows:
            tell(row)
        return
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table("limit", "holds", "setting", "changed", box=SIMPLE, pad_edge=False)
    for row in rows:
        who = f"{when(row['since'])}, {row['by']}: {row['reason']}" if row["changed"] else ""
        holds = Text(_text(row["value"]), style="yellow" if row["changed"] else "")
        table.add_row(row["name"], holds, _text(row["setting"]), who)
    shown.print(table, markup=False)
    lane = "strongroom limits set lane.PlaceBet"
    say(f"Lanes: `{lane}.open false --reason …`, or `{lane}.per_s 100 --reason …`.")


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def set_limit(
    name: LimitName,
    value: Annotated[str, typer.Argument(help="A number, true, false, or 300/minute.")],
    reason: Why,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Changes a limit on every process within a second; a restart does not put it back."""
    _change(name, _value(value), reason, settings_of(data_dir=data_dir), as_json)


def unset_limit(
    name: LimitName, reason: Why, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Puts a limit back to its setting."""
    _change(name, None, reason, settings_of(data_dir=data_dir), as_json)


def _value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    # No limit has more digits, and Python refuses to read thousands of them.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def _change(name: str, value: Value | None, reason: str, settings: Settings, as_json: bool) -> None:
    from strongroom.core.audit.limits import SetLimit

    seen = asyncio.run(_run(SetLimit(name, value, reason), settings))
    if as_json:
        tell(seen)
    elif seen.value is None:
        say(f"{name} is as the setting says.")
    else:
        say(f"{name} is {_text(seen.value)}, by {seen.by}: {seen.reason}")


async def _run(command: Command, settings: Settings) -> Any:
    from strongroom.doors.cli.reach import house_of

    async with house_of(settings) as house:
        return await house.run(command, principal=PRINCIPAL)


# Payouts --------------------------------------------------------------------------------------


def pause_payouts(reason: Why, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Stops settlements and withdrawals: once this has answered, no payout commits."""
    from strongroom.core.audit import PausePayouts

    seen = asyncio.run(_run(PausePayouts(reason), settings_of(data_dir=data_dir)))
    _tell_payouts(seen, as_json)


def resume_payouts(reason: Why, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Lets payouts go on; refused without a clean reconciliation that was begun after the pause."""
    from strongroom.core.audit import ResumePayouts

    seen = asyncio.run(_run(ResumePayouts(reason), settings_of(data_dir=data_dir)))
    _tell_payouts(seen, as_json)


def payouts(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Says whether payouts are paused; exit code 1 when they are."""

    async def ask(settings: Settings) -> PayoutsSeen:
        from strongroom.core.audit import payouts_status
        from strongroom.doors.cli.reach import house_of

        async with house_of(settings) as house:
            return await payouts_status(house.database)

    seen = asyncio.run(ask(settings_of(data_dir=data_dir)))
    _tell_payouts(seen, as_json)
    raise typer.Exit(REFUSED if seen.payouts_paused else FINE)


def _tell_payouts(seen: PayoutsSeen, as_json: bool) -> None:
    if as_json:
        tell(seen)
    elif seen.payouts_paused:
        since = when(seen.since)
        say(f"Payouts are paused since {since}, by {seen.by or 'nobody known'}: {seen.reason}")
        say("Resume with `strongroom reconcile`, then `strongroom payouts resume --reason …`.")
    else:
        say("Payouts are not paused.")
