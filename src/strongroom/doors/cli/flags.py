"""What all commands share: their flags, their settings, how they speak and how they end."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import structlog
import typer
from rich.console import Console
from typer.core import TyperGroup

from strongroom.errors import Busy, Invalid, StrongroomError

if TYPE_CHECKING:
    from strongroom.settings import Settings

FINE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3

INTERRUPTED = 130
"""What shells know for a program that Ctrl-C ended."""

PRINCIPAL = "operator:cli"
"""Who asks, in `created_by`, when an operator used the command line."""

UNANSWERED = ("08", "28", "3D", "53", "57")
"""Classes of SQLSTATE by which a server turns one away before it has done anything."""

NO_SCHEMA = ("22023", "3F000", "42704", "42P01")
"""A role, a schema or a table that the first migration makes is not there."""

CONTRADICTED = "23"
"""A constraint stood in the way. Decisions never write what one forbids, unless the books that
they were made on are damaged."""

shown = Console()
aside = Console(stderr=True)


class BadSettings(Invalid):
    """A setting does not fit."""


def _note_json(context: typer.Context, value: bool) -> bool:
    context.meta["json"] = value  # one dict for the command and the group that ends it
    return value


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="STRONGROOM_DATA_DIR",
        help="Folder of the instance.",
        show_default=".strongroom",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON, for programs.", callback=_note_json)
]


UnusedDataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="STRONGROOM_DATA_DIR",
        help="Taken by every command; this one uses no instance.",
        show_default=".strongroom",
    ),
]


def settings_of(**flags: Any) -> Settings:
    """The settings under these flags, those that are None left out; BadSettings."""
    from pydantic import ValidationError

    from strongroom.doors.cli import logs
    from strongroom.settings import Settings, unknown_names

    logs.begin("warning")  # stdout is for results
    for name, nearest in unknown_names(os.environ):
        structlog.get_logger(__name__).warning("unknown setting", name=name, nearest=nearest)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        found = Settings(**given)
    except ValidationError as error:
        # Never with the value: it may be a secret.
        lines = [f"{_named(fault['loc'])}: {fault['msg']}." for fault in error.errors()]
        raise BadSettings("\n".join(lines)) from error
    except ValueError as error:
        raise BadSettings(f"strongroom.toml or the environment cannot be read: {error}.") from error
    return found.model_copy(update={"data_dir": found.data_dir.absolute()})


def _named(place: tuple[int | str, ...]) -> str:
    name = str(place[0]) if place else "settings"
    return f"{name} (STRONGROOM_{name.upper()}, or {name} in strongroom.toml)"


def tell(found: Any) -> None:
    """One line of JSON on stdout, whole."""
    line = msgspec.json.encode(found, enc_hook=str) + b"\n"
    sys.stdout.flush()
    while line:
        # Unbuffered (PYTHONUNBUFFERED), a write may end early and say how far it came.
        line = line[sys.stdout.buffer.write(line) :]
    sys.stdout.flush()


def say(text: str) -> None:
    """For people, on stderr; no markup is read from it."""
    aside.print(text, markup=False, highlight=False, soft_wrap=True)


class Commands(TyperGroup):
    """The group of all commands: turns what one raises into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except asyncio.CancelledError:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            found = ending(error)
            if found is None:
                raise
            exit_code, code, detail = found
            if ctx.meta.get("json"):
                sys.stderr.write(msgspec.json.encode({"code": code, "detail": detail}).decode())
                sys.stderr.write("\n")
            else:
                say(f"{code}: {detail}")
            raise typer.Exit(exit_code) from None


def ending(error: Exception) -> tuple[int, str, str] | None:
    """(exit code, code, what to say) of an expected error; None for a bug."""
    if isinstance(error, ExceptionGroup):
        # Ours first: it says what to do. A group of bugs alone stays a traceback.
        ours = error.subgroup(StrongroomError)
        found = [ending(one) for one in (ours or error).exceptions]
        return next((one for one in found if one), None)
    if isinstance(error, StrongroomError):
        return _exit_code(error), error.code, _sentence(error)
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
    if state[:2] in UNANSWERED:
        said = f"The database turns us away: {error}. Check STRONGROOM_DATABASE_URL."
        return UNREACHABLE, "database_refused", said
    if state in NO_SCHEMA:
        return REFUSED, "no_schema", f"{error}. Run `strongroom migrate`."
    if state.startswith(CONTRADICTED):
        said = f"The database holds what contradicts this: {error}. Run `strongroom reconcile`."
        return REFUSED, "books_contradict", said
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}. Mend it, or choose another --data-dir."
        return REFUSED, "file_error", said
    return None


def _exit_code(error: StrongroomError) -> int:
    if isinstance(error, Invalid):
        return USAGE
    return UNREACHABLE if isinstance(error, Busy) else REFUSED


def _sentence(error: StrongroomError) -> str:
    if error.code == "database_down":
        return "The database does not answer. See that it runs, and STRONGROOM_DATABASE_URL."
    faults = error.errors if isinstance(error, Invalid) else []
    return " ".join([error.detail, *(f"{one['field']}: {one['message']}." for one in faults)])
