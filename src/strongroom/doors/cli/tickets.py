"""`tickets`: what a scanner knows without a network or a database."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.doors.cli.flags import (
    FINE,
    REFUSED,
    AsJson,
    DataDir,
    say,
    settings_of,
    shown,
    tell,
)

if TYPE_CHECKING:
    from strongroom.apps.ticketing.codes import BadPass, Pass, Verifier

STDIN = "-"

UNSIGNED = "This is a ticket's code without its signature: the signature is in the QR."


def verify(
    passes: Annotated[
        list[str],
        typer.Argument(help="The texts of tickets' QRs; - reads lines from stdin.", metavar="QR…"),
    ],
    public_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Of whoever signed, as base64url, PEM, or a file with either; may be repeated."
            " Else the data folder's.",
            metavar="KEY",
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Verifies signed tickets offline: that they were sold, not that nobody has entered with them.
    Exit code 1 when one is not valid."""
    from strongroom.apps.ticketing.codes import BadPass, Verifier

    keys = [_key(one) for one in public_key or ()]
    verifier = Verifier(keys or [_own_key(data_dir)])
    found: list[tuple[str, Pass | BadPass]] = []
    for text in _texts(passes):
        answer = _answer(verifier, text)
        if as_json:
            tell(_described(text, answer))
        found.append((text, answer))
    if not found:
        raise typer.BadParameter("there is nothing to verify", param_hint="QR…")
    if not as_json:
        _show(found)
    bad = any(isinstance(answer, BadPass) for _, answer in found)
    raise typer.Exit(REFUSED if bad else FINE)


def public_key(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Prints the public key that tickets are verified with, as PEM; it is no secret."""
    from strongroom.apps.ticketing.codes import key_id, key_pem, key_text

    key = _own_key(data_dir)
    pem, text, id = key_pem(key), key_text(key), key_id(key).hex()
    if as_json:
        tell({"keyId": id, "publicKey": text, "pem": pem})
        return
    typer.echo(pem, nl=False)
    say(f"Key {id}, in one line: {text}")


def _own_key(data_dir: Path | None) -> bytes:
    """Never makes a key: one that signed no ticket verifies none."""
    from strongroom.apps.ticketing.codes import NoTicketKey, Signer, load_ticket_key, seed_of

    settings = settings_of(data_dir=data_dir)
    given = settings.ticket_key
    try:
        seed = load_ticket_key(settings.data_dir) if given is None else seed_of(given)
    except NoTicketKey as error:
        raise NoTicketKey(
            f"{error.detail} `strongroom up` makes it; or give --public-key, or --data-dir."
        ) from None
    return Signer(seed).public_key


def _key(text: str) -> bytes:
    """The key in a file of this name, else the one that the text is."""
    from strongroom.apps.ticketing.codes import BadKey, public_key_of

    try:
        path = Path(text)
        is_file = "\n" not in text and path.is_file()
        return public_key_of(path.read_text("utf8") if is_file else text)
    except (BadKey, OSError, ValueError) as error:
        said = error.detail if isinstance(error, BadKey) else "it cannot be read"
        raise typer.BadParameter(f"neither a key nor a file with one: {said}") from error


def _texts(given: Sequence[str]) -> Iterator[str]:
    for text in given:
        if text == STDIN:
            # As they come: with --json a scanner that types into a pipe is answered at once.
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield text


def _answer(verifier: Verifier, text: str) -> Pass | BadPass:
    from strongroom.apps.ticketing.codes import BadPass, MalformedPass, normalise

    try:
        return verifier.verify(text)
    except BadPass as error:
        return MalformedPass(UNSIGNED) if normalise(text) else error


def _described(text: str, answer: Pass | BadPass) -> dict[str, object]:
    from strongroom.apps.ticketing.codes import Pass

    if isinstance(answer, Pass):
        ids = {"eventId": answer.event_id, "ticketTypeId": answer.ticket_type_id}
        return {"valid": True, **ids, "ticketCode": answer.code}
    return {"valid": False, "code": answer.code, "detail": answer.detail, "text": text[:200]}


def _show(found: Sequence[tuple[str, Pass | BadPass]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from strongroom.apps.ticketing.codes import Pass

    valid = [answer for _, answer in found if isinstance(answer, Pass)]
    if valid:
        table = Table("code", "admits to", title="Valid", title_justify="left")
        for one in valid:
            # Below one another: whole ids beside one another need more than 80 columns.
            table.add_row(one.code, f"event {one.event_id}\ntype  {one.ticket_type_id}")
        shown.print(table)
    if len(valid) < len(found):
        table = Table("text", "why", title="Not valid", title_justify="left")
        for text, answer in found:
            if not isinstance(answer, Pass):
                table.add_row(Text(_start(text)), f"{answer.code}: {answer.detail}")
        shown.print(table)


def _start(text: str) -> str:
    """Enough to find it again, and nothing that steers a terminal."""
    printed = "".join(one if one.isprintable() else "?" for one in text)
    return printed if len(printed) <= 40 else f"{printed[:39]}…"
