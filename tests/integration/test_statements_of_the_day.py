"""The statement of a day: opening and movements come to the closing, and today's closing is the
trial balance."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from playing import People, bet, drained, end_round, new_round
from strongroom.apps.wallets import Deposit, Transfer, Withdraw
from strongroom.core.audit.accounts import NoSuchAccount, NoSuchUnit
from strongroom.core.audit.daybook import Daybook, DayStatement
from strongroom.core.db import Database
from strongroom.main import Strongroom

ZONE = ZoneInfo("UTC")

Held = dict[tuple[str, str], int]


def balanced(found: DayStatement) -> None:
    for line in found.lines:
        assert line.opening + line.moved == line.closing, line
    assert sum(line.opening for line in found.lines) == 0
    assert sum(line.moved for line in found.lines) == 0


def opening(found: DayStatement) -> Held:
    return {(line.unit, line.purpose): line.opening for line in found.lines if line.opening}


def closing(found: DayStatement) -> Held:
    return {(line.unit, line.purpose): line.closing for line in found.lines if line.closing}


async def days_ago(owner: Database, days: int) -> None:
    """Makes all that has happened so far happen so much earlier."""
    await owner.fetch("ALTER TABLE ledger.transfers DISABLE TRIGGER append_only")
    await owner.fetch(
        "UPDATE ledger.transfers SET created_at = created_at - make_interval(days => $1)", days
    )
    await owner.fetch("ALTER TABLE ledger.transfers ENABLE ALWAYS TRIGGER append_only")


@pytest.fixture
async def today(house: Strongroom) -> date:
    now: datetime = await house.database.fetchval("SELECT now()")
    return now.astimezone(UTC).date()


@pytest.fixture
async def three_days(house: Strongroom, people: People, owner: Database) -> list[date]:
    """Money comes in, is bet two days later, and is paid and taken out today."""
    users = await people(3, funds=10_000)
    await days_ago(owner, 2)
    round = await new_round(house, fee_bps=500)
    for number, user in enumerate(users):
        await bet(house, round, user, "AB"[number % 2], 700)
    await drained(house)
    await days_ago(owner, 1)
    await end_round(house, round, "A")
    await house.run(Transfer(users[0], users[1], 11))
    await house.run(Withdraw(users[2], 13))
    now: datetime = await house.database.fetchval("SELECT now()")
    return [now.astimezone(UTC).date() - timedelta(days=days) for days in (3, 1, 0)]


async def test_opening_and_movements_come_to_the_closing_of_every_day(
    house: Strongroom, three_days: list[date]
) -> None:
    book = Daybook(house.audit)
    found = [await book.day(day, ZONE) for day in three_days]
    for one in found:
        balanced(one)
    assert opening(found[0]) == {}
    assert opening(found[1]) == closing(found[0])
    assert opening(found[2]) == closing(found[1])
    assert closing(found[0]) == {("VND", "wallet"): 30_000, ("VND", "world"): -30_000}
    assert [one.type for line in found[1].lines for one in line.movements] == ["STAKE", "DEBIT"]


async def test_the_closing_of_today_is_the_trial_balance(
    house: Strongroom, three_days: list[date]
) -> None:
    found = await Daybook(house.audit).day(three_days[-1], ZONE)
    rows = await house.statements.trial_balance()
    trial = {(row["unit"], row["purpose"]): row["balance"] for row in rows if row["balance"]}
    assert closing(found) == trial
    assert found.as_of is not None and found.as_of < found.end


async def test_a_day_in_which_nothing_moved_closes_as_it_opened(
    house: Strongroom, three_days: list[date]
) -> None:
    found = await Daybook(house.audit).day(three_days[0] + timedelta(days=1), ZONE)
    assert [line.movements for line in found.lines] == [[], []]
    assert opening(found) == closing(found) != {}


async def test_an_account_has_a_statement_of_its_own(
    house: Strongroom, three_days: list[date]
) -> None:
    (row,) = await house.audit.fetch(
        "SELECT id, owner_id, balance FROM ledger.accounts WHERE purpose = 'wallet'"
        " ORDER BY id LIMIT 1"
    )
    book = Daybook(house.audit)
    for name in (str(row["id"]), f"{row['owner_id']}/wallet/VND"):
        days = [await book.day(day, ZONE, account=name) for day in three_days]
        for one in days:
            (line,) = one.lines
            assert line.opening + line.moved == line.closing
        assert [one.lines[0].opening for one in days] == [0, 10_000, 9_300]
        assert days[-1].lines[0].closing == row["balance"]
        assert {one.type for one in days[-1].lines[0].movements} >= {"PAYOUT", "DEBIT"}


async def test_the_house_is_named_by_its_name_and_a_stranger_is_refused(
    house: Strongroom, three_days: list[date]
) -> None:
    book = Daybook(house.audit)
    (world,) = (await book.day(three_days[-1], ZONE, account="house/world/VND")).lines
    assert world.closing == -30_000 + 13
    for name in ("0", "nobody", "house/world/XXX", "9" * 30):
        with pytest.raises(NoSuchAccount):
            await book.day(three_days[-1], ZONE, account=name)


async def test_a_unit_is_shown_alone_when_it_is_asked_for(
    house: Strongroom, today: date, people: People
) -> None:
    (user,) = await people(1)
    await house.run(Deposit(user, 5))
    book = Daybook(house.audit)
    with pytest.raises(NoSuchUnit):
        await book.day(today, ZONE, unit="USD")
    shown = await book.day(today, ZONE, unit="VND")
    assert {line.unit for line in shown.lines} == {"VND"}
    balanced(shown)


async def test_a_day_begins_where_its_zone_says(house: Strongroom, three_days: list[date]) -> None:
    found = await Daybook(house.audit).day(three_days[0], ZoneInfo("Asia/Ho_Chi_Minh"))
    assert found.end - found.begin == timedelta(days=1)
    assert found.begin.astimezone(UTC).hour == 17
    balanced(found)
