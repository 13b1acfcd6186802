"""Migrations: Alembic runs plain SQL, forward only.

pgmq comes first, from its own package, as plain SQL functions: no extension has to be installed
on the server.
"""

from __future__ import annotations

from importlib import resources

import psycopg
import sqlalchemy
from alembic import command, op
from alembic.config import Config
from sqlalchemy.pool import NullPool

from strongroom.core.db.schema import MIGRATIONS, newest
from strongroom.errors import Refused

ONE_AT_A_TIME = 0x57524F4E47
"""The advisory lock under which one process migrates and the others wait."""


OLDEST = 160000
"""Older servers lack what the roles are made with."""


class ServerTooOld(Refused):
    """The server is older than Postgres 16."""


class SchemaTooNew(Refused):
    """The schema is that of a newer program."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def run_sql(file: str) -> None:
    """Runs one file of `migrations/sql` as it stands."""
    _driver(op.get_bind()).execute((MIGRATIONS / "sql" / file).read_bytes())


def run_pgmq_sql() -> None:
    """Installs pgmq's functions, unless the server has them already."""
    db = _driver(op.get_bind())
    if db.execute("SELECT to_regclass('pgmq.meta') IS NOT NULL").fetchone() == (True,):
        return
    db.execute(resources.files("pgmq.sql").joinpath("pgmq.sql").read_bytes())


def _driver(connection: sqlalchemy.Connection) -> psycopg.Connection[tuple[object, ...]]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def migrate(dsn: str) -> tuple[str | None, str]:
    """Brings the database of `dsn` to the newest revision; answers (before, after)."""
    url = sqlalchemy.engine.make_url(dsn).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            lock = sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)")
            connection.execute(lock, {"key": ONE_AT_A_TIME})
            version = connection.connection.driver_connection.info.server_version  # type: ignore[union-attr]
            if version < OLDEST:
                raise ServerTooOld(f"This server is Postgres {version // 10000}; 16 is needed.")
            before, needed = _revision(connection), newest()
            if before is not None and before > needed:
                raise SchemaTooNew(
                    f"The database has schema {before}, this program knows {needed}: "
                    "run the newer program."
                )
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            return before, needed
    finally:
        engine.dispose()


def _revision(connection: sqlalchemy.Connection) -> str | None:
    there = sqlalchemy.text("SELECT to_regclass('public.alembic_version') IS NOT NULL")
    if not connection.execute(there).scalar():
        return None
    found = connection.execute(sqlalchemy.text("SELECT version_num FROM public.alembic_version"))
    return found.scalar()
