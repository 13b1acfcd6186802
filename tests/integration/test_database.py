"""A database as the program holds it: its connections while it closes, and its schema."""

from __future__ import annotations

import asyncio

import pytest
from alembic.script import ScriptDirectory

from playing import PATIENCE_S
from strongroom.core.db import Database, schema
from strongroom.core.db.migrate import ONE_AT_A_TIME, SchemaTooNew
from strongroom.core.db.places import Place
from strongroom.main import prepare


async def test_who_is_at_work_while_it_closes_comes_to_the_end(database_url: str) -> None:
    database = await Database(database_url).open()
    async with database.transaction() as db:
        await db.execute("CREATE TABLE public.done ()")
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0)
        await db.execute("SELECT FROM public.done")
    async with asyncio.timeout(PATIENCE_S):
        await closing
    async with Database(database_url) as again:
        assert await again.fetchval("SELECT to_regclass('public.done') IS NOT NULL")


# The schema ---------------------------------------------------------------------------------------


async def test_the_newest_revision_is_alembic_s_and_that_of_a_migrated_database(
    owner: Database,
) -> None:
    head = ScriptDirectory(str(schema.MIGRATIONS)).get_current_head()
    assert schema.newest() == head == await owner.revision()


async def test_a_database_that_is_up_to_date_is_not_migrated(
    owner: Database, database_url: str
) -> None:
    """Nor would it have to be waited for: whoever starts meanwhile holds the migrations' lock."""
    place = Place(database_url, database_url, database_url, own_logins=False)
    async with owner.transaction() as db:
        await db.fetch("SELECT pg_advisory_xact_lock($1)", ONE_AT_A_TIME)
        async with asyncio.timeout(PATIENCE_S):
            assert await prepare(place) == (schema.newest(), schema.newest())


async def test_a_schema_of_a_newer_program_is_left_alone(
    owner: Database, database_url: str
) -> None:
    await owner.fetch("UPDATE public.alembic_version SET version_num = '9999'")
    place = Place(database_url, database_url, database_url, own_logins=False)
    with pytest.raises(SchemaTooNew, match=f"9999, this program knows {schema.newest()}"):
        await prepare(place)
    assert await owner.revision() == "9999"
