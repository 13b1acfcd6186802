"""What lists are asked: by whom, for which words, of which time."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from strongroom.doors.http.routing import Call
from strongroom.errors import invalid

T = TypeVar("T", bound=str)

LONGEST_QUESTION = 200
"""Of a search: as long as a name may be."""

YEARS = range(2000, 2200)
"""Nothing lies earlier or later, and ids of times are made without a care."""

MOMENT = Annotated[datetime, Meta(tz=True)]

DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII).fullmatch

VIETNAM = timezone(timedelta(hours=7))
"""There is no summer time there."""


def is_operator(call: Call) -> bool:
    return bool(call.principal) and call.principal.role == "operator"


def owner(call: Call) -> UUID | None:
    """Whose things are shown: one's own, an operator anybody's."""
    return None if is_operator(call) else call.user_id


def words(call: Call, name: str = "q") -> str | None:
    """What is searched for, in one of the spellings of the same letters."""
    found = unicodedata.normalize("NFC", call.query.get(name, "")).strip()
    if len(found) > LONGEST_QUESTION or not all(map(str.isprintable, found)):
        raise invalid(name, f"is up to {LONGEST_QUESTION} printable characters")
    return found or None


def one_of(call: Call, name: str, known: Sequence[T]) -> T | None:
    """One of these words, None where nothing is said."""
    text = call.query.get(name)
    for one in known:
        if one == text:
            return one
    if text is not None:
        raise invalid(name, f"is one of {', '.join(known)}")
    return None


def moment(call: Call, name: str) -> datetime | None:
    """A time in the query. A plus sign that was not encoded has come as a space."""
    text = call.query.get(name)
    if text is None:
        return None
    try:
        found = msgspec.convert(text.replace(" ", "+"), MOMENT)
    except msgspec.ValidationError:
        raise invalid(name, "is a time with a zone, as 2026-09-01T00:00:00Z") from None
    if found.year not in YEARS:
        raise invalid(name, "lies too far away")
    return found.astimezone(UTC)


def span(call: Call) -> tuple[datetime | None, datetime | None]:
    """`from` and `to`: times, of which the end is left out, or Vietnamese days, all of them
    meant as a whole."""
    since, until = _bound(call, "from", 0), _bound(call, "to", 1)
    if since is not None and until is not None and since >= until:
        raise invalid("to", "does not lie behind from")
    return since, until


def _bound(call: Call, name: str, days: int) -> datetime | None:
    text = call.query.get(name, "")
    if not DAY(text):
        return moment(call, name)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise invalid(name, "is no day of the calendar") from None
    if day.year not in YEARS:
        raise invalid(name, "lies too far away")
    return (datetime.combine(day, time(), VIETNAM) + timedelta(days=days)).astimezone(UTC)
