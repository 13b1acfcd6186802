"""The kinds of fields that bodies are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

PRINTABLE = (
    r"^(?!\s*$)(?![=+@])[^<>\x00-\x1f"
    r"\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]*(?!\n)$"
)
"""Not only spaces, no control characters, no overrides of the reading direction, no tags, and no beginning that a
spreadsheet takes for a formula: it stays harmless wherever it is shown later."""

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE)]
Reference = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE)]
Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=PRINTABLE)]
ItemKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_\-:.]{1,255}(?!\n)$")]
Moment = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with a zone."""
