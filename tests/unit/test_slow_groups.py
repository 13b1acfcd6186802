"""A group that takes too long explains itself in one line; one that does not says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from playing import PATIENCE_S, Houses, People, codes_of, new_round, somebody_waits
from strongroom.apps.betting import PlaceBet
from strongroom.core.db import Database
from strongroom.core.db.spent import name_of
from strongroom.doors.http import journal
from strongroom.doors.http.journal import Journal
from strongroom.errors import NotFound
from strongroom.ids import uuid7
from strongroom.settings import Settings

HOLD_ROUND = "SELECT FROM betting.rounds WHERE id = $1 FOR UPDATE"

HELD_S = 0.15
AMOUNT = 7_654_321


async def held_for(
    owner: Database, round: UUID, work: Callable[[], Awaitable[Any]], seconds: float = HELD_S
) -> Any:
    """Runs work that needs the round while somebody holds it, until it has waited so long."""
    async with owner.transaction() as db:
        await db.execute(HOLD_ROUND, round)
        running = asyncio.ensure_future(work())
        await somebody_waits(owner)
        await db.execute("SELECT pg_sleep($1)", seconds)
    return await asyncio.wait_for(running, PATIENCE_S)


def slow(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "slow group"]


async def test_a_slow_group_says_where_its_time_went(
    houses: Houses, people: People, owner: Database
) -> None:
    house = await houses(slow_group_ms=100)
    ann, bob = await people(2, funds=10 * AMOUNT)
    round = await new_round(house)
    with capture_logs() as lines:
        await held_for(
            owner,
            round,
            lambda: asyncio.gather(
                *(house.run(PlaceBet(user, round, "A", AMOUNT)) for user in (ann, bob))
            ),
        )
    (line,) = slow(lines)
    assert (line["log_level"], line["command"], line["size"]) == ("warning", "PlaceBet", 2)
    assert line["locking_ms"] >= HELD_S * 1000
    assert line["ms"] >= line["statements_ms"] >= line["locking_ms"]
    first, waited = next(iter(line["statements"].items()))
    assert first == "betting.lock_rounds" and waited["slowest_ms"] >= HELD_S * 1000
    assert {"BEGIN", "commands.claim", "COPY ledger.entries", "COMMIT"} <= set(line["statements"])
    assert (line["attempts"], line["entries"], line["events"]) == (1, 4, 2)
    said = str(line)
    assert not [one for one in (ann, bob, round, AMOUNT) if str(one) in said]


async def test_a_group_that_waited_in_vain_says_so(
    houses: Houses, people: People, owner: Database
) -> None:
    house = await houses(slow_group_ms=100)
    (ann,) = await people(1)
    round = await new_round(house)
    with capture_logs() as lines:
        wish = PlaceBet(ann, round, "A", 1000)
        told = await held_for(owner, round, lambda: codes_of([house.run(wish)]), seconds=2)
        assert told == ["row_held"]
    (line,) = slow(lines)
    assert (line["lock_waits"], line["left_out"], line["entries"]) == (1, 1, 0)
    assert line["attempts"] == 2


async def test_a_quick_group_says_nothing(houses: Houses, people: People) -> None:
    house = await houses(slow_group_ms=60_000)
    (ann,) = await people(1)
    round = await new_round(house)
    with capture_logs() as lines:
        await house.run(PlaceBet(ann, round, "A", 1000))
    assert slow(lines) == []


def test_a_statement_without_a_name_is_not_told() -> None:
    assert name_of("COMMIT") == "COMMIT"
    assert name_of("COPY ledger.entries") == "COPY ledger.entries"
    assert name_of("SELECT 'a password'") == "(unnamed)"
    assert name_of("SET ROLE ANN7") == "(unnamed)"


# Requests -----------------------------------------------------------------------------------------


def asked(name: str = "PlaceBet") -> Any:
    """As much of a call as the log looks at."""
    return SimpleNamespace(
        request_id=uuid7(),
        scope={"method": "POST"},
        principal=None,
        command=type(name, (), {}),
        replayed=False,
    )


def test_requests_that_fail_or_are_slow_are_logged_and_others_are_not() -> None:
    told = Journal(Settings(slow_request_ms=1000))
    with capture_logs() as lines:
        told.request(asked(), "/api/bets", 202, 0.9, None)
        told.request(asked(), "/api/bets", 404, 0.1, NotFound())
        told.request(asked(), "/api/bets", 202, 1.1, None)
        told.request(asked(), "/api/bets", 500, 0.1, ValueError("a secret"))
    assert [(line["event"], line["outcome"]) for line in lines] == [
        ("slow request", "done"),
        ("request failed", "internal_error"),
    ]
    assert "secret" not in str(lines)


def test_a_flood_of_failures_is_counted_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(journal, "monotonic", lambda: clock[0])
    told = Journal(Settings())
    with capture_logs() as lines:
        for _ in range(1000):
            told.request(asked(), "/api/bets", 503, 0.1, None)
        clock[0] += 1
        told.request(asked(), "/api/bets", 503, 0.1, None)
    assert len(lines) == journal.LINES_A_SECOND + 1
    assert lines[-1]["left_out"] == 1000 - journal.LINES_A_SECOND
