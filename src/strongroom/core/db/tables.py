"""Appending rows: one binary COPY per table, packed in Python.

`INSERT … SELECT FROM unnest(…)` was measured beside it (see `docs/decisions`): for 8,000 ledger
entries COPY took half the time, and a third of the client's CPU, because the rows are packed by
one compiled expression instead of being encoded value by value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from asyncpg import Connection

Row = tuple[Any, ...]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_HEAD = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
_TAIL = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_LENGTH = struct.Struct(">i").pack


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    raw = value.encode()
    return _LENGTH(len(raw)) + raw


def _raw(value: bytes | None) -> bytes:
    return _NULL if value is None else _LENGTH(len(value)) + value


def _json(value: bytes | None) -> bytes:
    # The 1 is the version of jsonb's binary form.
    return _NULL if value is None else _LENGTH(len(value) + 1) + b"\x01" + value


def _maybe(form: str) -> Callable[[Any], bytes]:
    pack = struct.Struct(">i" + form).pack
    size = struct.calcsize(">" + form)
    return lambda value: _NULL if value is None else pack(size, value)


def _maybe_id(value: Any) -> bytes:
    return _NULL if value is None else b"\x00\x00\x00\x10" + value.bytes


def _time(value: datetime | None) -> bytes:
    if value is None:
        return _NULL
    delta = value - _EPOCH
    ticks = (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds
    return struct.pack(">iq", 8, ticks)


# Fixed columns: struct format, bytes, how the value is read. They share one struct call.
_FIXED = {
    "bigint": ("q", 8, "{}"),
    "integer": ("i", 4, "{}"),
    "smallint": ("h", 2, "{}"),
    "boolean": ("?", 1, "{}"),
    "uuid": ("16s", 16, "{}.bytes"),
}
_VARIABLE: dict[str, Callable[[Any], bytes]] = {
    "text": _text,
    "bytea": _raw,
    "jsonb": _json,
    "timestamptz": _time,
    "bigint?": _maybe("q"),
    "integer?": _maybe("i"),
    "boolean?": _maybe("?"),
    "uuid?": _maybe_id,
}


def _compile(types: list[str]) -> Callable[[Row], bytes]:
    """One expression that packs a row: neighbours of fixed size in one struct, others by name."""
    names: dict[str, Any] = {}
    parts: list[str] = []
    form, values = "h", [str(len(types))]

    def flush() -> None:
        nonlocal form, values
        if form:
            name = f"pack{len(parts)}"
            names[name] = struct.Struct(">" + form).pack
            parts.append(f"{name}({', '.join(values)})")
        form, values = "", []

    for i, kind in enumerate(types):
        if kind in _FIXED:
            code, size, read = _FIXED[kind]
            form += "i" + code
            values += [str(size), read.format(f"v{i}")]
        else:
            flush()
            names[f"write{i}"] = _VARIABLE[kind]
            parts.append(f"write{i}(v{i})")
    flush()
    arguments = ", ".join(f"v{i}" for i in range(len(types)))
    source = f"lambda {arguments}: {' + '.join(parts)}"
    function = eval(source, names)  # the text is built from the constants above alone
    return lambda row: function(*row)


async def copy_packed(db: Connection, name: str, columns: Iterable[str], packed: bytes) -> None:
    """Adds rows that are in the binary form of COPY already, in one statement."""
    schema, table = name.split(".")
    # As a buffer: bytes would be taken for a path, a file would be read by a thread.
    source: Any = memoryview(packed)
    await db.copy_to_table(
        table, schema_name=schema, columns=tuple(columns), source=source, format="binary"
    )


class Table:
    """A table that rows are appended to.

    Columns are given in order as name → type: bigint, integer, smallint, boolean, uuid; text (str),
    bytea (bytes), jsonb (encoded bytes), timestamptz (aware datetime), which may be None; and
    bigint?, integer?, boolean?, uuid?, which may be None too. Columns left out take their default.
    """

    def __init__(self, name: str, columns: dict[str, str]) -> None:
        self.name = name
        self.columns = tuple(columns)
        self._pack = _compile(list(columns.values()))

    def pack(self, rows: Iterable[Row]) -> bytes:
        """The rows in the binary form of COPY."""
        return b"".join([_HEAD, *map(self._pack, rows), _TAIL])

    async def append(self, db: Connection, rows: list[Row]) -> None:
        """Adds the rows in one statement; no rows, no statement."""
        if rows:
            await copy_packed(db, self.name, self.columns, self.pack(rows))
