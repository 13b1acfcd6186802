"""Every named query is planned against the migrated schema, in the role that runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

import strongroom
from strongroom.core.audit.reconcile import CORE
from strongroom.core.db.queries import Queries, loaded
from strongroom.doors.cli.reference import every_module
from strongroom.lab.baselines.ticketing import sql as specified
from strongroom.main import INVARIANTS

SOURCES = Path(strongroom.__file__).parent

APP, AUDIT, OWNER = "strongroom_app", "strongroom_audit", None

ROLES: dict[str, str | None] = {
    "strongroom.core.events/events.sql:create_queue": OWNER,
    "strongroom.core.events/events.sql:bound": OWNER,
    "strongroom.core.events/events.sql:hold_log": OWNER,
    "strongroom.core.events/events.sql:bind_queue": OWNER,
    "strongroom.core.events/events.sql:grant_queues": OWNER,
    "strongroom.core.audit/audit.sql:begin_reading": AUDIT,
    "strongroom.doors.cli/doctor.sql": OWNER,
    "strongroom.lab.seeding/seeding.sql": OWNER,
    "strongroom.lab.benches/growth.sql": OWNER,
    "strongroom.lab.baselines/row_at_a_time.sql:allow_answering": OWNER,
    # The application's as well, but only where the line above has granted it.
    "strongroom.lab.baselines/row_at_a_time.sql:answer": OWNER,
    "strongroom.lab.baselines/ticketing.sql:create_tables": OWNER,
}
"""Who runs what, by file or by query; all else is the application's."""

RUN = {
    "strongroom.core.events/events.sql:hold_log": "LOCK",
    "strongroom.core.events/events.sql:lease_lightly": "SET",
    "strongroom.core.events/events.sql:grant_queues": "DO",
    "strongroom.lab.baselines/row_at_a_time.sql:allow_answering": "GRANT",
    "strongroom.lab.baselines/ticketing.sql:create_tables": "CREATE",
    "strongroom.lab.seeding/seeding.sql:hold_shop": "LOCK",
    "strongroom.lab.seeding/seeding.sql:clear_away": "DROP",
    "strongroom.lab.seeding/seeding.sql:make_room": "CREATE",
    "strongroom.lab.seeding/seeding.sql:make_month": "DO",
    "strongroom.lab.seeding/seeding.sql:index_month": "DO",
    "strongroom.lab.seeding/seeding.sql:attach_months": "DO",
    "strongroom.lab.seeding/seeding.sql:put_indexes_aside": "DO",
    "strongroom.lab.seeding/seeding.sql:put_indexes_back": "DO",
    "strongroom.lab.seeding/seeding.sql:analyse": "ANALYZE",
}
"""EXPLAIN takes no such statement: these are run."""

NEITHER = {
    "strongroom.lab.benches/growth.sql:settle_down": "VACUUM needs to stand outside a transaction",
}
"""Neither planned nor run here, with the reason."""

every_module()


class Named(NamedTuple):
    """A query with its file's key and the words that say why it is there."""

    file: str
    name: str
    query: str
    why: str

    @property
    def key(self) -> str:
        return f"{self.file}:{self.name}"


def is_invariants(queries: Queries) -> bool:
    return queries in CORE or queries in INVARIANTS


def all_queries() -> Iterator[Named]:
    for file, queries in loaded.items():
        for name, query in queries.sql.items():
            yield Named(file, name, query, queries.why[name])


QUERIES = list(all_queries())


def role_of(one: Named) -> str | None:
    if is_invariants(loaded[one.file]):
        return AUDIT
    return ROLES.get(one.key, ROLES.get(one.file, APP))


def tried(db: psycopg.Connection, role: str | None, statement: str) -> str | None:
    """What the server says against a statement, which leaves no trace."""
    db.execute(f"SET ROLE {role}" if role else "RESET ROLE")
    try:
        with db.transaction(force_rollback=True):
            # Without arguments: the simple protocol leaves $1 to the planner.
            db.execute(statement)
    except psycopg.Error as error:
        return str(error).strip()
    return None


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as db:
        # The lab makes the baselines' own tables, and no migration does.
        db.execute(specified.create_tables)
        yield db


def test_every_query_is_planned_by_the_role_that_runs_it(db: psycopg.Connection) -> None:
    faults = {
        one.key: said
        for one in QUERIES
        if one.key not in RUN | NEITHER
        and (said := tried(db, role_of(one), f"EXPLAIN (GENERIC_PLAN) {one.query}"))
    }
    assert faults == {}


def test_what_cannot_be_planned_is_run_instead(db: psycopg.Connection) -> None:
    assert {one.key for one in QUERIES} >= RUN.keys() | NEITHER.keys()
    faults = {
        one.key: said
        for one in QUERIES
        if one.key in RUN and (said := tried(db, role_of(one), one.query))
    }
    assert faults == {}


@pytest.mark.parametrize(
    ("role", "query", "said"),
    [
        (APP, "SELECT no_such_column FROM ledger.accounts", "does not exist"),
        (APP, "UPDATE ledger.entries SET amount = $1", "permission denied"),
        (AUDIT, "INSERT INTO audit.switches DEFAULT VALUES", "permission denied"),
    ],
)
def test_planning_finds_what_would_not_run(
    db: psycopg.Connection, role: str, query: str, said: str
) -> None:
    assert said in (tried(db, role, f"EXPLAIN (GENERIC_PLAN) {query}") or "")


def test_every_file_of_queries_is_loaded() -> None:
    files = {
        f"strongroom.{'.'.join(file.parent.relative_to(SOURCES).parts)}/{file.name}"
        for file in SOURCES.rglob("*.sql")
        if "migrations" not in file.parts
    }
    assert {file for file in loaded if file.startswith("strongroom.")} == files


def texts_that_see(package: str) -> str:
    """All Python that can name the queries of a package: its own, and what imports `sql` of it."""
    folder = SOURCES.joinpath(*package.split(".")[1:])
    imports = re.compile(
        rf"^from {re.escape(package)}(\.\w+)* import (\([^)]*\bsql\b|.*\bsql\b)", re.MULTILINE
    )
    texts = []
    for file in SOURCES.rglob("*.py"):
        text = file.read_text("utf8")
        if file.is_relative_to(folder) or imports.search(text):
            texts.append(text)
    return "\n".join(texts)


def test_no_query_lies_unused() -> None:
    unused = []
    for file, queries in loaded.items():
        if is_invariants(queries):
            continue  # asked as a whole
        text = texts_that_see(file.partition("/")[0])
        unused += [
            f"{file}:{name}" for name in queries.sql if not re.search(rf"\bsql\.{name}\b", text)
        ]
    assert not unused


def test_every_query_says_why_in_a_sentence() -> None:
    faults = [
        one.key
        for one in QUERIES
        if not re.fullmatch(r"[A-Z].*[.?]", one.why) or len(one.why.split()) < 2
    ]
    assert faults == []


def test_every_invariant_begins_with_its_id() -> None:
    faults = [
        one.key
        for one in QUERIES
        if is_invariants(loaded[one.file]) and not re.match(r"[A-Z]\d+: ", one.why)
    ]
    assert faults == []
