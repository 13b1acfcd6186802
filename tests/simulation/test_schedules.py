"""Schedules that seeds make: each holds, and each comes out the same again."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from serving import Clones, Server
from strongroom.apps.betting.rows import ROUNDS
from strongroom.core.commands import Executor, Ticket
from strongroom.core.commands.ticket import ANSWERS
from strongroom.ids import uuid7
from strongroom.lab.replay import Ids, Performance, perform
from strongroom.main import Strongroom
from strongroom.settings import Settings

KEPT = tomllib.loads(Path(__file__).with_name("seeds.toml").read_text("utf8"))

FRESH = range(100, 112)
"""Seeds that are played for no reason but to be played."""

TWICE = range(77, 79)

LOCK = "FOR NO KEY UPDATE"

Replay = Callable[[int], Awaitable[Performance]]


@pytest.fixture
def replay(server: Server, clones: Clones, tmp_path: Path) -> Replay:
    """Plays a seed on a database of its own."""

    async def replay(seed: int) -> Performance:
        name = clones.take()
        settings = Settings(database_url=server.at(name), data_dir=tmp_path, rate_limits="off")
        async with AsyncExitStack() as opened:

            async def open_house(**more: Any) -> Strongroom:
                return await opened.enter_async_context(Strongroom(settings, **more))

            performance = await perform(seed, open_house, await open_house())
        clones.give_back(name)
        return performance

    return replay


def assert_held(performance: Performance) -> None:
    assert not performance.violations, "\n".join([*performance.trace, *performance.violations])


@pytest.mark.parametrize("seed", FRESH)
async def test_a_seed_finds_nothing_wrong(replay: Replay, seed: int) -> None:
    performance = await replay(seed)
    assert_held(performance)
    assert performance.answered > 10 and performance.deadlocks == 0


async def test_what_a_seed_has_found_once_it_finds_no_more(replay: Replay) -> None:
    for kept in KEPT["found"]:
        assert_held(await replay(kept["seed"]))


@pytest.mark.parametrize("seed", TWICE)
async def test_the_same_seed_runs_the_same_statements_and_stores_the_same(
    replay: Replay, seed: int
) -> None:
    first, second = await replay(seed), await replay(seed)
    assert first.trace == second.trace
    assert first.contents == second.contents
    assert sum(first.faults.values()) > 0


async def test_two_seeds_are_two_runs(replay: Replay) -> None:
    first, second = await replay(1), await replay(2)
    assert first.statements != second.statements
    assert first.contents != second.contents


async def test_ids_that_are_not_the_seeds_are_noticed(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await replay(TWICE[0])

    def not_the_seeds(ids: Ids) -> UUID:
        ids.made.add(made := uuid7())
        return made

    monkeypatch.setattr(Ids, "__call__", not_the_seeds)
    assert (await replay(TWICE[0])).contents != first.contents


def remove(guard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what keeps a seed from finding something."""

    async def forget(*_: object) -> None:
        """Nothing is stored."""

    async def take_all(_: Executor, __: Any, group: list[Ticket], ___: Any) -> list[Ticket]:
        return group

    match guard:
        case "the claim of keys":
            monkeypatch.setattr(Executor, "_claim", take_all)
        case "the lock on a round":
            assert LOCK in ROUNDS.lock
            monkeypatch.setattr(ROUNDS, "lock", ROUNDS.lock.replace(LOCK, ""))
        case "the stored answer":
            monkeypatch.setattr(ANSWERS, "append", forget)
        case _:
            raise AssertionError(f"nobody knows how to remove {guard}")


@pytest.mark.parametrize("kept", KEPT["planted"], ids=lambda kept: kept["guard"])
async def test_a_guard_that_is_removed_is_missed_by_a_kept_seed(
    replay: Replay, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any]
) -> None:
    remove(kept["guard"], monkeypatch)
    found = (await replay(kept["seed"])).violations
    assert any(kept["says"] in violation for violation in found)
