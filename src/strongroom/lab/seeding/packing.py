"""Arrays in, the rows of a binary COPY out: no row is ever a Python object.

A row is a line of bytes in a matrix: the number of its fields, then each field's length and value,
big-endian. Texts stand in it padded to their longest; what is padding is left out at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]

HEAD = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
TAIL = b"\xff\xff"

SECOND_US = 1_000_000
_TO_2000_US = 946_684_800 * SECOND_US
"""Postgres counts microseconds from the year 2000, everybody else from 1970."""

_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)
_DASHED = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])


@dataclass(frozen=True, slots=True)
class Part:
    """Pieces of text, one a row: `cells` padded on the right, `lengths` in bytes."""

    cells: Bytes
    lengths: Numbers


@dataclass(frozen=True, slots=True)
class Text:
    """A column of texts, each of its parts joined; null where `null` says so."""

    parts: tuple[Part, ...]
    null: npt.NDArray[np.bool_] | None = None


Column = Bytes | Text
"""Fields of one width with their lengths before them, or texts."""


class Words:
    """A list of texts that columns are chosen from."""

    def __init__(self, texts: Sequence[str]) -> None:
        raw = [text.encode() for text in texts]
        self.lengths = np.array([len(one) for one in raw], np.int32)
        widest = max(1, int(self.lengths.max()))
        joined = b"".join(one.ljust(widest, b"\0") for one in raw)
        self.cells = np.frombuffer(joined, np.uint8).reshape(-1, widest)

    def __len__(self) -> int:
        return len(self.lengths)

    def part(self, chosen: Numbers) -> Part:
        return Part(self.cells[chosen], self.lengths[chosen])

    def text(self, chosen: Numbers, null: npt.NDArray[np.bool_] | None = None) -> Text:
        return Text((self.part(chosen),), null)


def _field(values: Numbers, form: str) -> Bytes:
    """Numbers with their lengths before them."""
    values = np.asarray(values)
    width = np.dtype(form).itemsize
    rows = np.empty(len(values), [("length", ">i4"), ("value", form)])
    rows["length"], rows["value"] = width, values
    return rows.view(np.uint8).reshape(-1, 4 + width)


def bigint(values: Numbers) -> Bytes:
    return _field(values, ">i8")


def integer(values: Numbers) -> Bytes:
    return _field(values, ">i4")


def boolean(values: Numbers) -> Bytes:
    return _field(values, "?")


def moment(unix_us: Numbers) -> Bytes:
    """timestamptz."""
    return _field(unix_us - _TO_2000_US, ">i8")


def day(unix_days: Numbers) -> Bytes:
    """date."""
    return _field(unix_days - _TO_2000_US // (86_400 * SECOND_US), ">i4")


def uuid(ids: Bytes) -> Bytes:
    rows = np.empty((len(ids), 20), np.uint8)
    rows[:, :4], rows[:, 4:] = (0, 0, 0, 16), ids
    return rows


def perhaps(field: Bytes, null: npt.NDArray[np.bool_]) -> Text:
    """Fields of one width, null where `null` says so."""
    cells = field[:, 4:]
    return Text((Part(cells, np.full(len(cells), cells.shape[1])),), null)


def same(value: str, rows: int) -> Bytes:
    """One text in all rows."""
    raw = value.encode()
    field = np.frombuffer(len(raw).to_bytes(4, "big") + raw, np.uint8)
    return np.broadcast_to(field, (rows, len(field)))


def solid(cells: Bytes) -> Part:
    """Pieces of text that are all as long as the matrix is wide."""
    return Part(cells, np.full(len(cells), cells.shape[1]))


def id_text(ids: Bytes) -> Bytes:
    """UUIDs as they are written: 36 characters."""
    written = np.full((len(ids), 36), ord("-"), np.uint8)
    written[:, _DASHED] = _HEX[ids].view(np.uint8).reshape(-1, 32)
    return written


def digits(values: Numbers, width: int) -> Bytes:
    """Decimal digits, zeros before them."""
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return (np.asarray(values)[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def ids_at(unix_us: Numbers, noise: np.random.Generator) -> Bytes:
    """UUIDv7 of these moments: milliseconds, their fraction in 12 bits, then noise."""
    ms, rest = np.divmod(unix_us, 1000)
    ids = np.empty((len(unix_us), 16), np.uint8)
    ids[:, :6] = ms.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 2:]
    fraction = (0x7000 | rest * 4096 // 1000).astype(">u2")
    ids[:, 6:8] = fraction.view(np.uint8).reshape(-1, 2)
    ids[:, 8:] = np.frombuffer(noise.bytes(8 * len(ids)), np.uint8).reshape(-1, 8)
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80
    return ids


def _ended(rows: Bytes) -> bytes:
    return b"".join((HEAD, rows.data, TAIL))


def packed(columns: Iterable[Column]) -> bytes:
    """The rows in the binary form of COPY, its head and its end included."""
    columns = tuple(columns)
    count = _rows(columns[0])
    widths = [_width(one) for one in columns]
    rows = np.empty((count, 2 + sum(widths)), np.uint8)
    rows[:, 0], rows[:, 1] = 0, len(columns)
    at = 2
    padding: list[tuple[int, Part, npt.NDArray[np.bool_] | None]] = []
    for column, width in zip(columns, widths, strict=True):
        if isinstance(column, Text):
            lengths = np.sum([one.lengths for one in column.parts], axis=0)
            if column.null is not None:
                lengths = np.where(column.null, -1, lengths)
            rows[:, at : at + 4] = lengths.astype(">i4").view(np.uint8).reshape(-1, 4)
            inner = at + 4
            for part in column.parts:
                rows[:, inner : inner + part.cells.shape[1]] = part.cells
                padding.append((inner, part, column.null))
                inner += part.cells.shape[1]
        else:
            rows[:, at : at + width] = column
        at += width
    if not padding:
        return _ended(rows)
    kept = np.ones(rows.shape, np.bool_)
    for start, part, null in padding:
        lengths = part.lengths if null is None else np.where(null, 0, part.lengths)
        width = part.cells.shape[1]
        np.less(np.arange(width), lengths[:, None], out=kept[:, start : start + width])
    return _ended(rows[kept])


def _rows(column: Column) -> int:
    return len(column.parts[0].cells if isinstance(column, Text) else column)


def _width(column: Column) -> int:
    if isinstance(column, Text):
        return 4 + sum(int(one.cells.shape[1]) for one in column.parts)
    return int(column.shape[1])
