"""What the roles of the program may do: this and nothing else, table by table.

`privileges.txt` lists it. To write it anew after a migration, and to read what has changed:

    python tests/integration/test_privileges.py > tests/integration/privileges.txt
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from strongroom.core.db import Database
from strongroom.main import Strongroom

APP, AUDIT = "strongroom_app", "strongroom_audit"

LISTED = Path(__file__).with_name("privileges.txt")

MAY = """
WITH role AS (SELECT rolname AS name
    FROM pg_roles WHERE rolname IN ('strongroom_app', 'strongroom_audit')),
relation AS (
    SELECT c.oid AS id, c.relkind AS kind,
        regexp_replace(c.oid::regclass::text, '^pgmq\\.([qa])_.*', 'pgmq.\\1_*') AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT c.relispartition
        AND n.nspname !~ '^(pg_|information_schema)'
),
granted AS (
    SELECT r.name AS role, t.name AS relation, privilege, CASE
        WHEN has_table_privilege(r.name, t.id, privilege) THEN ''
        ELSE (
            SELECT ' (' || string_agg(attname, ', ' ORDER BY attnum) || ')' FROM pg_attribute
            WHERE attrelid = t.id AND attnum > 0 AND NOT attisdropped
                AND CASE WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                    THEN has_column_privilege(r.name, t.id, attnum, privilege) END
        ) END AS columns
    FROM role r CROSS JOIN relation t CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE',
        'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
    WHERE t.kind <> 'S'
    UNION ALL
    SELECT r.name, t.name, privilege,
        CASE WHEN has_sequence_privilege(r.name, t.id, privilege) THEN '' END
    FROM role r CROSS JOIN relation t
    CROSS JOIN unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS privilege WHERE t.kind = 'S'
    UNION ALL
    SELECT r.name, 'schema ' || n.nspname, privilege,
        CASE WHEN has_schema_privilege(r.name, n.oid, privilege) THEN '' END
    FROM role r CROSS JOIN pg_namespace n CROSS JOIN unnest(ARRAY['USAGE', 'CREATE']) AS privilege
    WHERE n.nspname !~ '^(pg_|information_schema)'
    UNION ALL
    SELECT r.name, 'function ' || p.oid::regprocedure, 'EXECUTE as its owner',
        CASE WHEN has_function_privilege(r.name, p.oid, 'EXECUTE') THEN '' END
    FROM role r CROSS JOIN pg_proc p WHERE p.prosecdef
)
SELECT DISTINCT role || ' ' || relation || ': '
    || string_agg(DISTINCT privilege || columns, ', ' ORDER BY privilege || columns)
FROM granted WHERE columns IS NOT NULL GROUP BY role, relation ORDER BY 1
"""

ABOVE = """
SELECT rolname || ' is ' || above.what
FROM pg_roles CROSS JOIN LATERAL (VALUES
    (rolsuper, 'a superuser'), (rolcreatedb, 'a maker of databases'),
    (rolcreaterole, 'a maker of roles'), (rolreplication, 'a replica'),
    (rolbypassrls, 'above the policies of rows')
) AS above (holds, what)
WHERE rolname IN ('strongroom_app', 'strongroom_audit') AND above.holds
UNION ALL
SELECT r.rolname || ' is a member of ' || m.rolname
FROM pg_roles r JOIN pg_roles m ON m.oid <> r.oid AND pg_has_role(r.oid, m.oid, 'MEMBER')
WHERE r.rolname IN ('strongroom_app', 'strongroom_audit')
UNION ALL
SELECT r.rolname || ' owns ' || pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
WHERE d.deptype = 'o' AND r.rolname IN ('strongroom_app', 'strongroom_audit')
    AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

LENT = """
SELECT p.oid::regprocedure::text,
    coalesce((SELECT setting FROM unnest(p.proconfig) AS setting
        WHERE setting LIKE 'search_path=%'), 'no search_path'),
    has_function_privilege('public', p.oid, 'EXECUTE')
FROM pg_proc p WHERE p.prosecdef
"""


def may(dsn: str) -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as db:
        return [line for (line,) in db.execute(MAY)]


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as db:
        yield db


def test_each_role_may_do_what_is_listed_and_nothing_else(database_url: str) -> None:
    assert may(database_url) == LISTED.read_text("utf8").splitlines()


def test_the_list_says_what_matters_most() -> None:
    """The list is made by a program: here is what a person would look for in it."""
    listed = LISTED.read_text("utf8").splitlines()
    of = {tuple(line.split(": ", 1)[0].split(" ", 1)): line.split(": ", 1)[1] for line in listed}
    for past in ("ledger.entries", "ledger.transfers", "events.log", "orders.history"):
        assert of[APP, past] == "INSERT, SELECT"
    assert of[APP, "ledger.accounts"] == "INSERT, SELECT, UPDATE (balance, seq)"
    assert "password_hash" not in of[AUDIT, "identity.users"]
    assert not any(word in line for line in listed for word in ("TRUNCATE", "TRIGGER", "CREATE"))
    for line in listed:
        if line.startswith(AUDIT) and " schema " not in line:
            assert {one.split(" (")[0] for one in line.split(": ", 1)[1].split(", ")} & {
                "INSERT", "UPDATE", "DELETE"
            } == set()  # fmt: skip


def test_no_role_of_ours_is_above_the_others_or_owns_anything(db: psycopg.Connection) -> None:
    assert [line for (line,) in db.execute(ABOVE)] == []


def test_what_runs_in_the_owners_name_looks_nothing_up_in_the_callers_schemas(
    db: psycopg.Connection,
) -> None:
    found = db.execute(LENT).fetchall()
    assert "orders.make_partitions(date,date)" in {name for name, _, _ in found}
    for name, path, by_anybody in found:
        assert path == "search_path=pg_catalog, pg_temp", name
        assert not by_anybody, name


SEIZE = """
SET ROLE strongroom_app;
CREATE FUNCTION pg_temp.seize(day pg_catalog.date) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('test.seized_as', current_user, false);
    RETURN true;
END $$;
CREATE DOMAIN pg_temp.date AS pg_catalog.date CHECK (pg_temp.seize(VALUE));
SELECT orders.make_partitions(pg_catalog.now()::pg_catalog.date, pg_catalog.now()::pg_catalog.date);
RESET ROLE;
"""

SEIZED_AS = "SELECT nullif(current_setting('test.seized_as', true), '')"


@pytest.mark.parametrize("path", ["pg_catalog, pg_temp", "pg_catalog"])
def test_a_type_of_the_callers_own_does_not_run_in_the_owners_name(
    db: psycopg.Connection, path: str
) -> None:
    db.execute(f"ALTER FUNCTION orders.make_partitions SET search_path = {path}")
    db.execute(SEIZE)
    [(seized_as,)] = db.execute(SEIZED_AS)
    [(owner,)] = db.execute("SELECT current_user")
    # The control: with the path as it was before, the caller had the owner's rights.
    assert seized_as == (None if "pg_temp" in path else owner)


DENIED = [
    "UPDATE ledger.entries SET amount = 1",
    "DELETE FROM ledger.entries",
    "TRUNCATE ledger.entries",
    "ALTER TABLE ledger.entries DISABLE TRIGGER append_only",
    "DROP TRIGGER append_only ON ledger.entries",
    "ALTER TABLE ledger.accounts DROP CONSTRAINT balance_not_below_floor",
    "UPDATE ledger.accounts SET floor = NULL",
    "UPDATE ledger.accounts SET owner_id = gen_random_uuid()",
    "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NEW; END $$",
    "UPDATE orders.history SET status = 'PENDING'",
    "DELETE FROM payments.callbacks",
    "DELETE FROM events.log",
    "DELETE FROM identity.users",
    "DELETE FROM audit.reconciliations",
    "UPDATE audit.reconciliations SET clean = true",
    "SET session_replication_role = replica",
    "SET ROLE pg_read_all_data",
    "CREATE TABLE public.mine (id int)",
    "CREATE TABLE ledger.mine (id int)",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/strongroom-test'",
    "SELECT pg_read_file('/etc/passwd')",
    "ALTER ROLE strongroom_app SUPERUSER",
    "CREATE ROLE mine",
    "SELECT * FROM pg_authid",
]


@pytest.mark.parametrize("role", [APP, AUDIT])
@pytest.mark.parametrize("statement", DENIED)
def test_the_program_is_denied_what_it_does_not_need(
    database_url: str, role: str, statement: str
) -> None:
    # As the program logs in: a session that only plays the role could leave it again.
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(f"SET SESSION AUTHORIZATION {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(statement)


# What not even the owner does ---------------------------------------------------------------------

GUARDED = [
    "ledger.entries", "ledger.transfers", "events.log", "payments.callbacks", "orders.history",
    "orders.codes", "audit.seals", "audit.sealed", "audit.actions",
]  # fmt: skip


def months(db: psycopg.Connection) -> list[str]:
    query = "SELECT inhrelid::regclass::text FROM pg_inherits"
    return [name for (name,) in db.execute(f"{query} WHERE inhparent = 'orders.history'::regclass")]


def empties(db: psycopg.Connection, table: str) -> bool:
    try:
        db.execute(f"TRUNCATE {table} CASCADE")
    except psycopg.errors.RestrictViolation:
        return False
    return True


def test_nobody_empties_what_is_only_added_to(db: psycopg.Connection) -> None:
    db.execute("SET session_replication_role = replica")  # which skips ordinary triggers
    assert len(months(db)) > 12
    assert [name for name in [*GUARDED, *months(db)] if empties(db, name)] == []


def test_nobody_changes_what_is_only_added_to_not_even_by_the_months_own_name(
    db: psycopg.Connection,
) -> None:
    db.execute("SET session_replication_role = replica")
    db.execute(
        "INSERT INTO orders.history (order_id, version, status, by_whom)"
        " VALUES (orders.first_id(now()), 1, 'PENDING', 'test')"
    )
    [(month,)] = db.execute("SELECT tableoid::regclass::text FROM orders.history")
    assert month in months(db)
    for name in ("orders.history", month):
        for harm in (f"UPDATE {name} SET status = 'SHIPPED'", f"DELETE FROM {name}"):
            with pytest.raises(psycopg.errors.RestrictViolation):
                db.execute(harm)


def test_new_months_are_guarded_and_so_is_one_that_came_another_way(
    db: psycopg.Connection,
) -> None:
    before = set(months(db))
    year = "(now() + interval '3 years')::date"
    db.execute(f"SELECT orders.make_partitions({year}, {year})")
    (made,) = set(months(db)) - before
    assert not empties(db, made)
    db.execute(f"DROP TRIGGER not_emptied ON {made}")
    assert empties(db, made)
    db.execute(f"SELECT orders.make_partitions({year}, {year})")
    assert not empties(db, made)


@pytest.mark.parametrize("table", GUARDED)
@pytest.mark.parametrize(
    ("harm", "invariant"),
    [
        ("ALTER TABLE {} DISABLE TRIGGER append_only", "append_only_triggers_stand"),
        ("DROP TRIGGER not_emptied ON {}", "append_only_triggers_stand"),
        ("GRANT DELETE ON {} TO strongroom_app", "the_past_cannot_be_changed"),
    ],
)
async def test_a_guard_that_is_gone_is_found(
    house: Strongroom, db: psycopg.Connection, table: str, harm: str, invariant: str
) -> None:
    assert (await house.reconcile()).clean
    db.execute(harm.format(table))
    found = (await house.reconcile()).findings
    assert [finding.invariant for finding in found] == [invariant]
    assert {row["table"].partition("_2")[0] for row in found[0].rows} == {table}


async def test_a_month_with_another_guard_is_found(
    house: Strongroom, db: psycopg.Connection
) -> None:
    month = months(db)[3]
    db.execute(f"ALTER TABLE {month} DISABLE TRIGGER append_only")
    [finding] = (await house.reconcile()).findings
    assert finding.invariant == "append_only_triggers_stand"
    [row] = finding.rows
    assert row["table"] == month
    db.execute(row["repair"])
    assert (await house.reconcile()).clean


async def _print() -> None:
    """Of a server of its own, migrated as an installation is."""
    from strongroom.core.db.embedded import ADMIN, EmbeddedPostgres
    from strongroom.core.db.places import Place
    from strongroom.main import prepare

    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder) / "pg") as postgres:
        url: Any = postgres.dsn(ADMIN, database="postgres")
        await prepare(Place(url, url, url, own_logins=False))
        async with Database(url, pool_size=3):
            print("\n".join(may(url)))


if __name__ == "__main__":
    asyncio.run(_print())
