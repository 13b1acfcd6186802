"""The house's style, executed: import directions, rooms with doors, sizes, names, where SQL is."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "strongroom"
TESTS = ROOT / "tests"

FILE_LINES, FUNCTION_LINES, LINE_LENGTH = 600, 70, 100

ROOMS = sorted(
    f"strongroom.{floor}.{room.parent.name}"
    for floor in ("core", "apps", "doors", "lab")
    for room in (SOURCES / floor).glob("*/__init__.py")
)

DOCSTRING_LINES = (3, 20)

SHORT = {
    "strongroom.core.guard": "one class with one promise",
    "strongroom.lab.benches": "a list of names for the command line",
}
"""Rooms whose docstring needs fewer lines, with the reason."""

MOST_NAMES = 10
"""Seven is the aim."""

WIDE = {
    "strongroom.core.commands": (12, "commands and errands, and what runs and carries them"),
    "strongroom.core.events": (13, "the log, its subscribers and a transport with its own seam"),
    "strongroom.core.ledger": (13, "accounts are named by functions, one a purpose"),
    "strongroom.core.payments": (12, "a payee asks, settles and refunds in its own transaction"),
}
"""Rooms with more public names, how many at most, and the reason."""

FORBIDDEN = {
    "util",
    "utils",
    "common",
    "helper",
    "helpers",
    "manager",
    "service",
    "base",
    "handler",
}

SQL = re.compile(
    r"\bSELECT\b|\bINSERT INTO\b|\bDELETE FROM\b|\bUPDATE\b[^\n]*\bSET\b|\bBEGIN\b|\bSET LOCAL\b"
)

MAY_HOLD_SQL = {
    "core/db/embedded.py": "SETUP makes the roles that migrations need, as the superuser",
    "core/db/database.py": "BEGIN ISOLATION LEVEL takes no parameter",
    "core/db/migrate.py": "runs before there is a schema, through another driver",
}
"""Files whose Python holds SQL, with the reason."""


def sources() -> list[Path]:
    return sorted(SOURCES.rglob("*.py"))


def files_of_tests() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


def named(file: Path) -> str:
    return file.relative_to(SOURCES if file.is_relative_to(SOURCES) else ROOT).as_posix()


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf8"), str(file))


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for one in ast.walk(node):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            yield one


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_imports_keep_to_the_floors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_only_core_db_knows_the_driver() -> None:
    faults = [
        named(file)
        for file in sources()
        if any(one.split(".")[0] == "asyncpg" for one in imported(file))
        and not named(file).startswith("core/db/")
    ]
    assert faults == []


def test_applications_know_no_door() -> None:
    faults = [
        (named(file), one)
        for file in sources()
        for one in imported(file)
        if named(file).startswith("apps/")
        and one.startswith(("strongroom.doors", "strongroom.main"))
    ]
    assert faults == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_promises(room: str) -> None:
    words = importlib.import_module(room).__doc__ or ""
    least, most = DOCSTRING_LINES
    assert (1 if room in SHORT else least) <= len(words.strip().splitlines()) <= most


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_few_public_names(room: str) -> None:
    names = getattr(importlib.import_module(room), "__all__", [])
    most, _ = WIDE.get(room, (MOST_NAMES, ""))
    assert len(names) <= most


def test_exceptions_are_about_rooms_that_need_them() -> None:
    assert SHORT.keys() | WIDE.keys() <= set(ROOMS)
    for room, (most, _) in WIDE.items():
        assert len(importlib.import_module(room).__all__) == most > MOST_NAMES
    for room in SHORT:
        words = importlib.import_module(room).__doc__ or ""
        assert len(words.strip().splitlines()) < DOCSTRING_LINES[0]


def test_no_file_is_too_long_to_read() -> None:
    lengths = {named(file): len(file.read_text("utf8").splitlines()) for file in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}


def test_no_function_is_too_long_to_see() -> None:
    faults = [
        (named(file), one.name)
        for file in [*sources(), *files_of_tests()]
        for one in functions(tree(file))
        if (one.end_lineno or 0) - one.lineno + 1 > FUNCTION_LINES
    ]
    assert faults == []


def test_no_line_of_sql_is_too_wide() -> None:
    """Ruff holds the lines of Python."""
    faults = {
        file.relative_to(SOURCES).as_posix(): wide
        for file in SOURCES.rglob("*.sql")
        if (wide := sum(len(line) > LINE_LENGTH for line in file.read_text("utf8").splitlines()))
    }
    assert faults == {}


def test_modules_are_named_by_nouns_that_say_something() -> None:
    faults = [named(file) for file in sources() if FORBIDDEN & set(file.stem.split("_"))]
    faults += [named(file) for file in sources() if FORBIDDEN & set(file.parent.name.split("_"))]
    assert faults == []


def strings_with_sql(node: ast.Module) -> Iterator[str]:
    said = {
        id(one.body[0].value)
        for one in ast.walk(node)
        if isinstance(one, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and one.body
        and isinstance(one.body[0], ast.Expr)
    }
    for one in ast.walk(node):
        fits = isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in said
        if fits and SQL.search(one.value):
            yield one.value


def test_sql_lies_in_its_own_files() -> None:
    found = {named(file): list(strings_with_sql(tree(file))) for file in sources()}
    assert {name for name, texts in found.items() if texts} == set(MAY_HOLD_SQL)


def test_sql_in_python_would_be_noticed() -> None:
    planted = '"""SELECT as a word."""\nquery = "SELECT 1"\nother = f"DELETE FROM {query}"\n'
    assert list(strings_with_sql(ast.parse(planted))) == ["SELECT 1", "DELETE FROM "]


def test_every_public_module_has_a_docstring() -> None:
    silent = [
        named(file)
        for file in sources()
        if not ast.get_docstring(tree(file)) and file.read_text("utf8").strip()
    ]
    assert silent == []


def test_every_test_is_named_by_a_sentence() -> None:
    faults = [
        (named(file), one.name)
        for file in files_of_tests()
        for one in functions(tree(file))
        if one.name.startswith("test_") and len(one.name.split("_")) < 4
    ]
    assert faults == []
