"""A database as the program holds it: its connections, while it closes."""

from __future__ import annotations

import asyncio

from strongroom.core.db import Database

PATIENCE_S = 30.0


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
