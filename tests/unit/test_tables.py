"""Rows packed for COPY: what goes in comes out of a real table as it was."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.core.db import Database, Table

COLUMNS = {
    "n": "bigint",
    "i": "integer",
    "s": "smallint",
    "b": "boolean",
    "u": "uuid",
    "t": "text",
    "raw": "bytea",
    "j": "jsonb",
    "at": "timestamptz",
    "n2": "bigint?",
    "i2": "integer?",
    "b2": "boolean?",
    "u2": "uuid?",
}
TABLE = Table("public.packed", COLUMNS)
CREATE = "CREATE TABLE public.packed (place serial, {})".format(
    ", ".join(f"{name} {kind.rstrip('?')}" for name, kind in COLUMNS.items())
)
READ = f"SELECT {', '.join(COLUMNS)} FROM public.packed ORDER BY place".replace(" j,", " j::text,")

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ROW: dict[str, Any] = {
    "n": 1,
    "i": 1,
    "s": 1,
    "b": True,
    "u": UUID(int=1),
    "t": "text",
    "raw": b"raw",
    "j": b'{"a": 1}',
    "at": NOON,
    "n2": 1,
    "i2": 1,
    "b2": False,
    "u2": UUID(int=2),
}


def row(**changes: Any) -> tuple[Any, ...]:
    return tuple((ROW | changes).values())


async def stored(owner: Database, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    async with owner.transaction() as db:
        await db.execute(f"DROP TABLE IF EXISTS public.packed; {CREATE}")
        await TABLE.append(db, rows)
        return [tuple(found) for found in await db.fetch(READ)]


def as_read(packed: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.decode() if name == "j" and value is not None else value
        for name, value in zip(COLUMNS, packed, strict=True)
    )


EXTREMES: list[dict[str, Any]] = [
    {"n": 2**63 - 1, "i": 2**31 - 1, "s": 2**15 - 1, "u": UUID(int=2**128 - 1)},
    {"n": -(2**63), "i": -(2**31), "s": -(2**15), "u": UUID(int=0)},
    {"b": False, "b2": True, "n2": 0, "i2": 0, "u2": UUID(int=0)},
    {"t": None, "raw": None, "j": None, "at": None},
    {"n2": None, "i2": None, "b2": None, "u2": None},
    {"t": "", "raw": b""},
    {"t": "ngân hàng 🏦 \\N \\. \t\n\r\"'", "raw": bytes(range(256))},
    {"t": "\u202e\ufeff\u0000"[:2] + "é" * 10_000},
    {"j": '{"n": null, "t": "🏦"}'.encode(), "raw": b"\xff" * 100_000},
    {"at": datetime(1, 1, 1, tzinfo=UTC)},
    {"at": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
    {"at": datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
    {"at": datetime(2026, 7, 1, 12, 30, 15, 1, tzinfo=timezone(timedelta(hours=7)))},
]


async def test_extreme_values_come_back_as_they_went_in(owner: Database) -> None:
    rows = [row(**change) for change in EXTREMES]
    assert await stored(owner, rows) == [as_read(one) for one in rows]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.none() | st.binary(),
            st.none() | st.datetimes(timezones=st.just(UTC)),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.uuids(),
        ),
        max_size=5,
    )
)
async def test_whatever_goes_in_comes_back(owner: Database, rows: list[tuple[Any, ...]]) -> None:
    packed = [row(n=n, t=t, raw=raw, at=at, n2=n2, u2=u2) for n, t, raw, at, n2, u2 in rows]
    assert await stored(owner, packed) == [as_read(one) for one in packed]


async def test_no_rows_are_no_statement(owner: Database) -> None:
    async with owner.connection() as db:
        await Table("nowhere.at_all", {"n": "bigint"}).append(db, [])


async def test_columns_that_are_left_out_take_their_default(owner: Database) -> None:
    part = Table("public.packed", {"t": "text"})
    async with owner.transaction() as db:
        await db.execute(f"{CREATE}; ALTER TABLE public.packed ALTER n SET DEFAULT 7")
        await part.append(db, [("a",), ("b",)])
        found = await db.fetch("SELECT t, n, u FROM public.packed ORDER BY place")
    assert [tuple(one) for one in found] == [("a", 7, None), ("b", 7, None)]


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2**63},
        {"n": None},
        {"i": 2**31},
        {"s": -(2**15) - 1},
        {"n": 1.5},
        {"n": "1"},
        {"u": None},
        {"u": "not an id"},
        {"t": 5},
        {"t": "\ud800"},
        {"raw": "text"},
        {"j": {"not": "encoded"}},
        {"at": datetime(2026, 1, 1)},  # naive on purpose
        {"at": 5},
        {"n2": 2**63},
        {"u2": "x"},
    ],
)
def test_what_does_not_fit_its_column_is_never_packed(change: dict[str, Any]) -> None:
    with pytest.raises((struct.error, AttributeError, TypeError, ValueError)):
        TABLE.pack([row(**change)])


def test_a_row_too_short_or_too_long_is_never_packed() -> None:
    for wrong in (row()[:-1], (*row(), 1)):
        with pytest.raises(TypeError):
            TABLE.pack([wrong])


def test_a_type_nobody_knows_is_refused_at_once() -> None:
    with pytest.raises(KeyError):
        Table("public.x", {"n": "money"})


def test_neighbours_of_fixed_size_are_packed_in_one_piece() -> None:
    packed = Table("public.x", {"a": "bigint", "b": "integer"}).pack([(1, 2)])
    body = packed[19:-2]
    assert body == struct.pack(">hiqii", 2, 8, 1, 4, 2)
    assert packed[:11] == b"PGCOPY\n\xff\r\n\0" and packed[-2:] == b"\xff\xff"
