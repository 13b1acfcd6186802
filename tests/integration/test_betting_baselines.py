"""What the benches of contention compare takes the same bets: row locks and versions alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from playing import PATIENCE_S, codes_of, new_round, open_users
from strongroom.apps.betting import PlaceBet
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.lab.baselines import optimistic, row_at_a_time
from strongroom.lab.baselines.row_at_a_time import SpecifiedHouse
from strongroom.main import Strongroom

BOOKS = """
    SELECT a.purpose, a.balance, a.seq, count(e.seq), sum(e.amount),
        (SELECT count(*) FROM betting.bets WHERE user_id = $1)
    FROM ledger.accounts a JOIN ledger.entries e ON e.account_id = a.id
    WHERE a.owner_id = $1 GROUP BY a.id ORDER BY a.purpose DESC
"""
"""Asked directly: a baseline writes plainer types of entries than reconciliation wants to see."""

HOUSES = {"row lock": SpecifiedHouse, "optimistic": optimistic.OptimisticHouse}


@pytest.fixture(params=list(HOUSES))
async def baseline(
    request: pytest.FixtureRequest, owner: Database, database_url: str, tmp_path: Path
) -> AsyncIterator[Strongroom]:
    await owner.fetch(row_at_a_time.sql.allow_answering)
    options = {
        "database_url": database_url,
        "data_dir": tmp_path,
        "rate_limits": "off",
        "write_deadline_ms": PATIENCE_S * 1000,
    }
    async with HOUSES[request.param](**options) as house:
        yield house


async def test_fifty_bets_with_money_for_seven_are_seven_bets(
    house: Strongroom, baseline: Strongroom, owner: Database
) -> None:
    (user,) = await open_users(house, 1, 7_000)
    round_id = await new_round(house)
    codes = await codes_of(
        [baseline.run(PlaceBet(user, round_id, "A", 1_000), key=str(uuid7())) for _ in range(50)]
    )
    assert Counter(codes) == {None: 7, "insufficient_funds": 43}
    assert [tuple(row) for row in await owner.fetch(BOOKS, user)] == [
        ("wallet", 0, 8, 8, 0, 7),
        ("stake", 7_000, 7, 7, 7_000, 7),
    ]


async def test_the_same_key_at_once_is_one_bet(
    house: Strongroom, baseline: Strongroom, owner: Database
) -> None:
    (user,) = await open_users(house, 1, 100_000)
    round_id = await new_round(house)
    bet, key = PlaceBet(user, round_id, "A", 1_000), str(uuid7())
    assert await codes_of([baseline.run(bet, key=key) for _ in range(20)]) == [None] * 20
    assert [tuple(row) for row in await owner.fetch(BOOKS, user)] == [
        ("wallet", 99_000, 2, 2, 99_000, 1),
        ("stake", 1_000, 1, 1, 1_000, 1),
    ]
