"""Fixtures: a real Postgres for the whole run, a freshly migrated database for each test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import hypothesis
import pytest
import structlog

from playing import Houses, People, open_users
from serving import Clones, Server, shared_server
from strongroom.core.db import Database
from strongroom.main import Strongroom
from strongroom.settings import Settings

# A slow machine is no defect: what an example costs is measured by the whole run.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for processes that they have started."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all workers of a run share."""
    place = tmp_path_factory.getbasetemp()
    with shared_server(place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) as server:
        yield server


@pytest.fixture(scope="session")
def clones(server: Server) -> Iterator[Clones]:
    clones = Clones(server)
    yield clones
    clones.close()


@pytest.fixture
def database_url(server: Server, clones: Clones) -> Iterator[str]:
    """The owner's DSN of a migrated database that no other test has seen."""
    name = clones.take()
    yield server.at(name)
    clones.give_back(name)


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Database]:
    """The database as its owner, for what no role of the program may do."""
    async with Database(database_url, pool_size=3) as owner:
        yield owner


@pytest.fixture
async def houses(database_url: str, tmp_path: Path) -> AsyncIterator[Houses]:
    """Opens houses on the one database: each has what a process of its own would have."""
    async with contextlib.AsyncExitStack() as open_houses:

        async def open_house(**chosen: Any) -> Strongroom:
            settings = Settings(
                database_url=database_url, data_dir=tmp_path, rate_limits="off", **chosen
            )
            return await open_houses.enter_async_context(Strongroom(settings))

        yield open_house


@pytest.fixture
async def house(houses: Houses) -> Strongroom:
    """An open house on a database of its own."""
    return await houses()


@pytest.fixture
def people(house: Strongroom) -> People:
    """`await people(3, funds=100)`: the ids of users who hold that in their wallets."""

    async def people(count: int, funds: int = 1_000_000) -> list[UUID]:
        return await open_users(house, count, funds)

    return people


@pytest.fixture(autouse=True, scope="session")
def plain_log() -> None:
    """What is logged shows with a failing test, without colours."""
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
