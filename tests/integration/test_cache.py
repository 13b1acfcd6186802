"""The cache: one load a key, nothing older than it may be, and versions that are never behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from playing import Houses
from strongroom.apps.ticketing.events import CreateEvent
from strongroom.core.db import Database, DatabaseDown
from strongroom.core.guard import Cache, Version

FOR_EVER_S = 1e6

SOON = datetime.now(UTC) + timedelta(days=30)
LATER = SOON + timedelta(hours=3)


class Source:
    """Something to load from: counts how often it was asked, and holds loads until it is let go."""

    def __init__(self) -> None:
        self.loads = 0
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None

    async def load(self) -> int:
        self.loads += 1
        number = self.loads
        await self.open.wait()
        if self.fault:
            raise self.fault
        return number


async def turns(count: int = 20) -> None:
    """Lets everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_value_is_loaded_once_and_then_kept() -> None:
    cache: Cache[int] = Cache(size=10, ttl_s=FOR_EVER_S)
    source = Source()
    assert [await cache.get("a", source.load) for _ in range(3)] == [1, 1, 1]
    assert (cache.hits, cache.misses) == (2, 1)
    assert await cache.get("b", source.load) == 2


async def test_all_who_ask_at_once_wait_for_one_load() -> None:
    cache: Cache[int] = Cache(size=10, ttl_s=FOR_EVER_S)
    source = Source()
    source.open.clear()
    asking = [asyncio.create_task(cache.get("a", source.load)) for _ in range(500)]
    await turns()
    source.open.set()
    assert await asyncio.gather(*asking) == [1] * 500
    assert (source.loads, cache.misses, cache.joined) == (1, 1, 499)


async def test_who_gives_up_does_not_take_the_load_from_the_others() -> None:
    cache: Cache[int] = Cache(size=10, ttl_s=FOR_EVER_S)
    source = Source()
    source.open.clear()
    first, second = (asyncio.create_task(cache.get("a", source.load)) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    source.open.set()
    assert await second == 1
    assert first.cancelled()


async def test_a_fault_comes_to_all_who_wait_and_is_not_kept() -> None:
    cache: Cache[int] = Cache(size=10, ttl_s=FOR_EVER_S)
    source = Source()
    source.fault = LookupError("gone")
    asking = [asyncio.create_task(cache.get("a", source.load)) for _ in range(3)]
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in found] == [LookupError] * 3
    source.fault = None
    assert await cache.get("a", source.load) == 2


async def test_what_is_not_fresh_is_loaded_anew() -> None:
    cache: Cache[int] = Cache(size=10, ttl_s=FOR_EVER_S, fresh_s=0)
    source = Source()
    assert [await cache.get("a", source.load) for _ in range(3)] == [1, 2, 3]


async def test_the_age_of_a_value_counts_from_before_it_was_read() -> None:
    cache: Cache[int] = Cache(size=10, ttl_s=0)
    source = Source()
    assert [await cache.get("a", source.load) for _ in range(2)] == [1, 2]


async def test_while_the_database_is_down_what_was_kept_is_answered() -> None:
    cache: Cache[int] = Cache(size=10, ttl_s=FOR_EVER_S, fresh_s=0)
    source = Source()
    assert await cache.get("a", source.load) == 1
    source.fault = DatabaseDown()
    assert await cache.get("a", source.load) == 1
    assert cache.stale == 1
    with pytest.raises(DatabaseDown):
        await cache.get("b", source.load)
    source.fault = LookupError("not there any more")
    with pytest.raises(LookupError):
        await cache.get("a", source.load)


async def test_the_least_recently_used_makes_room() -> None:
    cache: Cache[int] = Cache(size=2, ttl_s=FOR_EVER_S)
    source = Source()
    for key in ("a", "b", "a", "c"):
        await cache.get(key, source.load)
    assert [cache.peek(key) for key in "abc"] == [1, None, 3]


# Versions ---------------------------------------------------------------------------------------


async def test_who_asks_sees_a_version_that_was_read_after_they_asked() -> None:
    """A read that is under way already may have missed what was just committed."""
    source = Source()
    source.open.clear()
    version = Version(source.load, deadline_s=FOR_EVER_S)
    early = asyncio.create_task(version.now())
    await turns()
    late = [asyncio.create_task(version.now()) for _ in range(100)]
    await turns()
    source.open.set()
    assert (await early, await asyncio.gather(*late)) == (1, [2] * 100)
    assert source.loads == 2


async def test_while_the_database_is_down_the_last_version_stands() -> None:
    source = Source()
    version = Version(source.load, deadline_s=FOR_EVER_S)
    source.fault = DatabaseDown()
    with pytest.raises(DatabaseDown):
        await version.now()
    source.fault = None
    assert await version.now() == 2
    source.fault = DatabaseDown()
    assert await version.now() == 2


async def test_every_change_of_the_catalogue_raises_its_version_everywhere(
    houses: Houses, owner: Database
) -> None:
    one, other = await houses(), await houses()
    before = await other.ticketing.catalogue.version.now()
    await one.run(CreateEvent("Đêm nhạc", "Huế", SOON, LATER))
    assert await other.ticketing.catalogue.version.now() == before + 1
    assert await owner.fetchval("SELECT version FROM ticketing.catalogue") == before + 1
