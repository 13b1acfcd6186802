"""What the migrated schema has that the program relies on: tables, indexes, constraints, triggers
and the functions that they call.

`schema.txt` lists it, a line each, and a test holds the list against the migrations; so what is
missing in a database, or not what it was, can be named without a second one to compare with.

    python -m strongroom.core.db.schema DSN      writes the list anew, from a database just migrated
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from strongroom.core.db.database import Database
from strongroom.core.db.queries import Queries

sql = Queries("strongroom.core.db", "schema.sql")

MIGRATIONS = Path(__file__).with_name("migrations")

LISTED = Path(__file__).with_name("schema.txt")

SCHEMAS = (
    "audit",
    "betting",
    "commands",
    "events",
    "identity",
    "ledger",
    "orders",
    "payments",
    "ticketing",
)


def newest() -> str:
    """The revision this program knows and needs. They are numbered in their order, so that nobody
    has to load Alembic, a quarter of a start, to know the last."""
    return max(file.stem for file in (MIGRATIONS / "versions").glob("*.py")).partition("_")[0]


def expected() -> set[str]:
    """The lines of a database with this program's schema."""
    return set(LISTED.read_text("utf8").splitlines())


async def found(database: Database) -> set[str]:
    """The lines of this database."""
    rows = await database.fetch(sql.guards, list(SCHEMAS))
    return {" ".join(row["line"].split()) for row in rows}


async def _write(dsn: str) -> None:
    async with Database(dsn, pool_size=1) as database:
        lines = sorted(await found(database))
    LISTED.write_text("".join(f"{line}\n" for line in lines), "utf8")


if __name__ == "__main__":
    asyncio.run(_write(sys.argv[1]))
