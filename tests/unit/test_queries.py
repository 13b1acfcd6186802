"""Named queries: what a file must look like, and what is said when it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.core.db import Queries
from strongroom.core.db.queries import loaded

GOOD = """-- name: first
-- Why the first is there.
SELECT 1;

-- name: second_one
-- Why the second
-- takes two lines.
SELECT a -- name: not a query
FROM b;
"""

Load = Callable[[str], Queries]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads a text as the queries of a package made for it."""
    room = tmp_path / "a_room"
    room.mkdir()
    (room / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(text: str) -> Queries:
        (room / "a_room.sql").write_text(text)
        return Queries("a_room", "a_room.sql")

    yield load
    loaded.pop("a_room/a_room.sql", None)
    sys.modules.pop("a_room", None)


def test_queries_are_read_by_name_with_their_reason(load: Load) -> None:
    sql = load(GOOD)
    assert sql.first == "SELECT 1"
    assert sql.second_one == "SELECT a -- name: not a query\nFROM b"
    assert sql.why["first"] == "Why the first is there."
    assert sql.why["second_one"] == "Why the second takes two lines."


def test_every_file_is_known_for_the_checks(load: Load) -> None:
    sql = load(GOOD)
    assert loaded["a_room/a_room.sql"] is sql


def test_a_name_that_is_not_there_is_named(load: Load) -> None:
    with pytest.raises(AttributeError, match="no query named third"):
        load(GOOD).third  # noqa: B018


def test_two_queries_of_one_name_are_refused(load: Load) -> None:
    twice = GOOD + GOOD
    with pytest.raises(ValueError, match=r"a_room/a_room\.sql: two queries named first"):
        load(twice)


def test_text_before_the_first_query_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="text before the first query"):
        load("SELECT 0;\n" + GOOD)


@pytest.mark.parametrize("text", ["", "SELECT 1;\n", "-- name: no_reason\nSELECT 1;\n"])
def test_a_file_without_a_proper_query_is_refused(load: Load, text: str) -> None:
    with pytest.raises(ValueError, match="a_room"):
        load(text)


def test_a_query_without_a_reason_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="no_reason"):
        load(GOOD + "\n-- name: no_reason\nSELECT 1;\n")


def test_a_badly_named_query_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="BadName"):
        load(GOOD + "\n-- name: BadName\n-- Why.\nSELECT 1;\n")
