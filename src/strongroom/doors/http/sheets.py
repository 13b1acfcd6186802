"""Tables as CSV (RFC 4180), for spreadsheets: safe to open, and in the right letters."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

MEDIA = "text/csv; charset=utf-8; header=present"

MARK = "\ufeff"
"""Without it spreadsheets take UTF-8 for the letters of Western Europe."""

# What a spreadsheet computes instead of showing it; spaces before do not stop it.
_FORMULA = re.compile(r"[\s\x00]*[=+\-@|\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def sheet(rows: Iterable[Sequence[object]], *, first: bool = False) -> bytes:
    """The rows as lines; the `first` portion of a file begins with the byte order mark."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\r\n").writerows([_cell(one) for one in row] for row in rows)
    return ((MARK if first else "") + lines.getvalue()).encode()


def _cell(value: object) -> object:
    """Texts of people never begin a formula; numbers are numbers."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return "" if value is None else value
