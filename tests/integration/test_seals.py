"""Seals and incremental runs: what is new is asked, what is sealed is read again, and a change in
either is found."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from corruptions import SPOILED
from integration import test_invariants
from playing import Houses, People, bet, code_of, drained, new_round, somebody_waits
from serving import Clones, Server, copied
from serving import lived as lived_in
from strongroom.apps.betting import INVARIANTS
from strongroom.apps.wallets import Deposit, ReverseTransfer, Transfer, Withdraw
from strongroom.core.audit import (
    PausePayouts,
    RecordReconciliation,
    ResumePayouts,
    payouts_status,
    seals,
)
from strongroom.core.audit import ranges as reading
from strongroom.core.audit.reconcile import GUARDS, LEDGER, Mode, Reconciler, Report, Run, Scope
from strongroom.core.audit.seals import TURNS, Head, intervals, share_again
from strongroom.core.db import Database
from strongroom.doors.worker.upkeep import Upkeep
from strongroom.errors import Busy
from strongroom.main import MOST_LOOKS, Strongroom

ANYTIME = datetime(2026, 11, 21, 2, tzinfo=UTC)


async def looked(house: Strongroom, mode: Mode = "incremental", scope: Scope | None = None) -> Run:
    """A run as an operator's: recorded, and sealed when it was clean."""
    run = await house.look(mode, scope=scope)
    await house.run(RecordReconciliation(run.report))
    await house.seal(run)
    return run


def names(report: Report) -> set[str]:
    return {finding.invariant for finding in report.findings}


@pytest.fixture
async def lived(house: Strongroom, people: People) -> list[Any]:
    """Three users who bet, transfer and withdraw, all of it sealed."""
    users = await people(3, funds=100_000)
    round = await new_round(house)
    for number, user in enumerate(users):
        await bet(house, round, user, "AB"[number % 2], 500)
    moved = await house.run(Transfer(users[0], users[1], 10))
    await house.run(ReverseTransfer(moved.transfer_id, "a slip"))
    await house.run(Withdraw(users[2], 5))
    await drained(house)
    run = await looked(house, "full")
    assert run.report.findings == []
    return list(users)


async def test_the_first_run_seals_everything_and_the_next_reads_what_is_new(
    house: Strongroom, lived: list[Any]
) -> None:
    await house.run(Deposit(lived[0], 7))
    run = await looked(house)
    assert run.report.clean, run.report.findings
    seen = run.report.seen
    assert seen is not None
    assert run.report.mode == "incremental" and run.report.head == 1
    assert (seen.accounts, seen.entries) == (2, 2)
    assert seen.sealed_entries > 10
    again = (await looked(house)).report.seen
    assert again is not None and (again.entries, again.seals) == (0, 2)


# What a hand on the tables did --------------------------------------------------------------------

OF_THE_LEDGER = [
    name for name, (invariant, _) in SPOILED.items() if invariant in {*LEDGER.sql, *GUARDS.sql}
]

ASKED_OF_THE_WHOLE = {"a forked account", "a key used twice", "a second reversal"}
"""An index is dropped for these: the guard that misses it is what an incremental run names."""


@pytest.fixture(scope="module", params=["sealed", "new"])
def history(
    request: pytest.FixtureRequest,
    server: Server,
    clones: Clones,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, str]]:
    """All that test_invariants lives through, behind a seal or before one; only to be copied."""
    when: str = request.param

    async def live(dsn: str, _: Path) -> None:
        async with Database(dsn, role="strongroom_app") as database:
            house = test_invariants.House(database)
            if when == "new":
                await seal_all(house)
            await test_invariants.live(house)
            if when == "sealed":
                await seal_all(house)

    with lived_in(server, clones, tmp_path_factory.mktemp(when), live) as name:
        yield when, name


async def seal_all(house: test_invariants.House) -> None:
    run = await Reconciler(house.database, [INVARIANTS]).read()
    await house.ask(RecordReconciliation(run.report))
    for one in run.seals():
        await house.ask(one)


@pytest.mark.parametrize("corruption", OF_THE_LEDGER)
async def test_what_a_hand_did_to_the_ledger_is_found_by_the_next_incremental_run(
    server: Server, history: tuple[str, str], corruption: str
) -> None:
    when, name = history
    invariant, statements = SPOILED[corruption]
    with copied(server, name) as dsn:
        async with Database(dsn, role="strongroom_audit") as database:
            reconciler = Reconciler(database, [INVARIANTS], reseal_days=0)
            assert (await reconciler.read("incremental")).report.findings == []
            test_invariants.spoil(dsn, statements)
            report = (await reconciler.read("incremental")).report
    assert report.mode == "incremental"
    found = names(report)
    assert found, corruption
    assert all("error" not in row for finding in report.findings for row in finding.rows)
    if when == "new" and corruption not in ASKED_OF_THE_WHOLE:
        assert invariant in found


HIDDEN = """
ALTER TABLE ledger.entries DISABLE TRIGGER append_only;
ALTER TABLE audit.sealed DISABLE TRIGGER append_only;
{}
ALTER TABLE ledger.entries ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit.sealed ENABLE ALWAYS TRIGGER append_only;
"""


def by_hand(owner: Database, statements: str) -> None:
    """Does what only the owner can, and leaves the guards as they were."""
    with psycopg.connect(owner.dsn, autocommit=True) as db:
        db.execute(HIDDEN.format(statements).encode())


BEYOND = (
    "INSERT INTO ledger.entries SELECT id, seq + 1, gen_random_uuid(), 5, balance + 5, 'CREDIT'"
    " FROM ledger.accounts WHERE purpose = 'wallet' ORDER BY id LIMIT 1;"
)


async def test_an_entry_that_its_account_does_not_count_is_found(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    by_hand(owner, BEYOND)
    assert names((await looked(house)).report) >= {
        "accounts_equal_their_entries",
        "transfers_have_their_entries",
        "transfers_sum_to_zero",
    }


async def test_a_changed_past_is_found_though_its_digest_was_made_anew(
    houses: Houses, lived: list[Any], owner: Database
) -> None:
    """Whoever knows how a digest is made can write it; the seal over it still tells."""
    by_hand(
        owner,
        "UPDATE ledger.entries SET type = 'DEBIT' WHERE type = 'WITHDRAWAL';"
        "UPDATE audit.sealed SET digest = sha256(digest) WHERE from_seq = 1;",
    )
    found = names((await looked(await houses(reseal_days=0))).report)
    assert found >= {"seals_keep_their_ranges", "sealed_entries_stand", "entries_fit_their_keys"}


async def test_the_last_sealed_entry_is_missed_before_its_turn_comes(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    by_hand(
        owner,
        "DELETE FROM ledger.entries e USING ledger.accounts a"
        " WHERE a.purpose = 'world' AND (e.account_id, e.seq) = (a.id, a.seq);",
    )
    report = (await looked(house)).report
    (finding,) = [one for one in report.findings if one.invariant == "accounts_equal_their_entries"]
    assert finding.rows[0]["expectedSeq"] == finding.rows[0]["foundSeq"] - 1


async def test_a_word_that_nothing_contradicts_is_sealed_all_the_same(
    houses: Houses, lived: list[Any], owner: Database
) -> None:
    with psycopg.connect(owner.dsn, autocommit=True) as db:
        db.execute("ALTER TABLE ledger.transfers DISABLE TRIGGER append_only")
        db.execute("UPDATE ledger.transfers SET reference = 'rent' WHERE key LIKE 'WITHDRAWAL:%'")
        db.execute("ALTER TABLE ledger.transfers ENABLE ALWAYS TRIGGER append_only")
    assert names((await looked(await houses(reseal_days=0))).report) == {"sealed_entries_stand"}


async def test_the_newest_seal_cannot_be_taken_away_unnoticed(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    await house.run(Deposit(lived[0], 1))
    await looked(house)  # has seen the first seal, and made the second
    with psycopg.connect(owner.dsn, autocommit=True) as db:
        for table in ("seals", "sealed"):
            db.execute(f"ALTER TABLE audit.{table} DISABLE TRIGGER append_only".encode())
        db.execute("DELETE FROM audit.sealed WHERE seal > 1")
        db.execute("DELETE FROM audit.seals WHERE number > 1")
        for table in ("seals", "sealed"):
            db.execute(f"ALTER TABLE audit.{table} ENABLE ALWAYS TRIGGER append_only".encode())
    assert names((await looked(house)).report) == {"seals_chain"}


MADE_ANEW = """
ALTER TABLE audit.seals DISABLE TRIGGER append_only;
UPDATE audit.seals SET turn = {}, digest = sha256(previous || content || int8send(number)
    || int8send(ranges) || int8send(entries) || int8send({}) || uuid_send(reconciliation_id)
    || timestamptz_send(began_at));
ALTER TABLE audit.seals ENABLE ALWAYS TRIGGER append_only;
"""


async def test_a_chain_made_anew_is_found_and_leaves_nothing_behind_once_it_is_put_back(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    was = await owner.fetchval("SELECT turn FROM audit.seals")
    with psycopg.connect(owner.dsn, autocommit=True) as db:
        db.execute(MADE_ANEW.format(was + 1, was + 1).encode())
        assert (await looked(house, "scoped", Scope(unit="VND"))).report.clean
        modes: tuple[Mode, ...] = ("incremental", "full")
        for mode in modes:
            assert names((await looked(house, mode)).report) == {"seals_chain"}
        db.execute(MADE_ANEW.format(was, was).encode())
    assert (await looked(house, "full")).report.findings == []


@pytest.mark.parametrize("table", ["seals", "sealed"])
@pytest.mark.parametrize("act", ["UPDATE {} SET digest = digest", "DELETE FROM {}"])
async def test_nobody_changes_what_is_sealed(
    house: Strongroom, lived: list[Any], owner: Database, table: str, act: str
) -> None:
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.fetch(act.format(f"audit.{table}"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await house.database.fetch(act.format(f"audit.{table}"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await house.audit.fetch(f"INSERT INTO audit.{table} DEFAULT VALUES")


# Sealing ------------------------------------------------------------------------------------------


async def test_of_two_runs_that_read_the_same_one_seals(
    house: Strongroom, lived: list[Any]
) -> None:
    await house.run(Deposit(lived[0], 1))
    one, other = await house.look("incremental"), await house.look("incremental")
    assert await house.seal(one) == 1
    assert await house.seal(other) == 0
    # As after a COMMIT that nobody heard of.
    assert await house.seal(one) == 1
    assert await house.database.fetchval("SELECT count(*) FROM audit.seals") == 2
    assert (await looked(house, "full")).report.clean


async def test_two_runs_that_seal_at_once_leave_one_chain(
    houses: Houses, house: Strongroom, lived: list[Any]
) -> None:
    other = await houses()
    await house.run(Deposit(lived[0], 1))
    runs = [await one.look("incremental") for one in (house, other)]
    made = await asyncio.gather(house.seal(runs[0]), other.seal(runs[1]))
    assert sorted(made) == [0, 1]
    assert (await looked(house, "full")).report.clean


async def test_what_was_found_is_not_sealed(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    by_hand(owner, BEYOND)
    run = await looked(house)
    assert run.seals() == [] and not run.report.clean
    assert await house.database.fetchval("SELECT count(*) FROM audit.seals") == 1


async def test_long_accounts_are_sealed_in_ranges_and_many_ranges_in_seals(
    houses: Houses, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANGE", 3), ("PORTION", 5), ("PORTION_RANGES", 2), ("PAGE", 2)):
        monkeypatch.setattr(reading, name, value)
    monkeypatch.setattr(seals, "SEALED_TOGETHER", 4)
    house = await houses(reseal_days=0)
    users = await people(4, funds=1000)
    for turn in range(3):
        for user in users:
            await house.run(Deposit(user, 1))
        run = await looked(house, "incremental" if turn else "full")
        assert run.report.findings == []
    assert await house.database.fetchval("SELECT max(to_seq - from_seq + 1) FROM audit.sealed") == 3
    assert await house.database.fetchval("SELECT max(number) FROM audit.seals") > 4
    entries = await house.database.fetchval("SELECT count(*) FROM ledger.entries")
    again = (await looked(house)).report.seen
    assert again is not None
    assert again.again_entries == again.sealed_entries == entries


async def test_every_sealed_range_comes_up_once_in_a_turn(
    house: Strongroom, lived: list[Any]
) -> None:
    parts = [TURNS * part // 7 for part in range(8)]
    bounds = [one for begin, end in pairwise(parts) for one in intervals(begin, end)]
    rows = await house.database.fetch("SELECT digest FROM audit.sealed")
    for row in rows:
        assert sum(after < row["digest"] <= until for after, until in bounds) == 1


@pytest.mark.parametrize("days", [1, 2, 7, 30])
def test_whatever_is_sealed_is_read_again_in_time(days: int) -> None:
    """However the runs lie, up to a day apart: no position waits longer than so many days."""
    dice = random.Random(days)
    positions = [0, 1, TURNS // 3, TURNS - 1]
    head, seen = Head(1, b"", TURNS // 2, ANYTIME), dict.fromkeys(positions, ANYTIME)
    for _ in range(300):
        now = (head.began_at or ANYTIME) + timedelta(hours=dice.uniform(1, 24))
        begin, end = share_again(head, now, days)
        assert begin <= end <= begin + TURNS
        for one in positions:
            if begin <= one < end or begin <= one + TURNS < end:
                assert now - seen[one] <= timedelta(days=days)
                seen[one] = now
        head = Head(head.number + 1, b"", end % TURNS, now)
    assert all((head.began_at or ANYTIME) - one <= timedelta(days=days) for one in seen.values())


# Who may go on ------------------------------------------------------------------------------------


async def test_only_a_full_run_lets_payouts_go_on(house: Strongroom, lived: list[Any]) -> None:
    await house.run(PausePayouts("a doubt"))
    await looked(house)
    assert await code_of(house.run(ResumePayouts("too soon"))) == "reconciliation_needed"
    await looked(house, "scoped", Scope(unit="VND"))
    assert await code_of(house.run(ResumePayouts("too little"))) == "reconciliation_needed"
    await looked(house, "full")
    assert not (await house.run(ResumePayouts("all of it holds"))).payouts_paused


async def test_a_clean_full_run_does_not_hide_what_a_later_one_found(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    await house.run(PausePayouts("a doubt"))
    await looked(house, "full")
    by_hand(owner, BEYOND)
    account = await owner.fetchval("SELECT min(id) FROM ledger.accounts WHERE purpose = 'wallet'")
    run = await looked(house, "scoped", Scope(account=str(account)))
    assert not run.report.clean
    assert await code_of(house.run(ResumePayouts("hopeful"))) == "reconciliation_needed"


async def test_a_scoped_run_reads_one_account_and_names_its_first_wrong_entry(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    rows = await owner.fetch("SELECT id FROM ledger.accounts WHERE purpose = 'wallet' ORDER BY id")
    first, second = [row["id"] for row in rows[:2]]
    by_hand(
        owner,
        "UPDATE ledger.entries SET balance_after = balance_after + 1"
        f" WHERE account_id = {first} AND seq IN (2, 3);",
    )
    report = (await looked(house, "scoped", Scope(account=str(first)))).report
    (finding,) = [one for one in report.findings if one.invariant == "entries_chain"]
    assert (finding.rows[0]["accountId"], finding.rows[0]["seq"]) == (first, 2)
    assert finding.why.startswith("L5: ")
    assert (await payouts_status(house.database)).payouts_paused
    assert (await looked(house, "scoped", Scope(account=str(second)))).report.clean
    assert not (await looked(house, "scoped", Scope(unit="VND"))).report.clean


async def test_a_unit_that_nobody_counts_in_is_not_taken_for_clean(
    house: Strongroom, lived: list[Any]
) -> None:
    assert await code_of(looked(house, "scoped", Scope(unit="vnd"))) == "no_such_unit"


async def test_a_report_says_what_was_asked_and_what_is_left(
    house: Strongroom, lived: list[Any]
) -> None:
    full = (await house.look("full")).report
    some = (await house.look("incremental")).report
    assert full.left == [] and len(full.asked) == len(set(full.asked))
    assert set(some.asked) | set(some.left) == set(full.asked)
    assert {"entries_chain", "sealed_entries_stand", "seals_chain"} <= set(some.asked)
    assert {"bets_hold_their_stake", "queues_balance"} <= set(some.left)


async def test_without_a_seal_an_incremental_run_is_a_full_one(house: Strongroom) -> None:
    run = await looked(house)
    assert run.report.mode == "full"
    assert (await looked(house)).report.mode == "incremental"


# Evidence -----------------------------------------------------------------------------------------


def evidence_of(report: Report) -> dict[str, Any]:
    path = Path(report.evidence or "")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    told: dict[str, Any] = json.loads(path.read_text())
    return told


async def test_what_was_found_is_kept_in_a_file(
    house: Strongroom, lived: list[Any], owner: Database, tmp_path: Path
) -> None:
    assert (await house.look("full")).report.evidence is None
    by_hand(owner, "UPDATE ledger.entries SET amount = amount + 1 WHERE type = 'WITHDRAWAL';")
    report = await house.reconcile()
    assert report.evidence == str(tmp_path / "evidence" / f"{report.id}.json")
    told = evidence_of(report)
    assert told["report"]["findings"][0]["rows"]
    assert told["report"]["head"] == 1 and len(told["report"]["headDigest"]) == 64
    assert {"database", "postgres", "snapshot", "schema", "program"} <= told.keys()
    (chain,) = [one for one in told["around"] if one["invariant"] == "entries_chain"]
    assert chain["entries"][0]["seq"] == 1
    assert chain["transfer"][0]["key"].startswith("WITHDRAWAL:")


async def test_a_folder_that_cannot_be_written_hides_no_finding(
    house: Strongroom, lived: list[Any], owner: Database, tmp_path: Path
) -> None:
    (tmp_path / "evidence").write_text("in the way")
    by_hand(owner, BEYOND)
    report = await house.reconcile()
    assert report.findings and report.evidence is None


async def test_one_run_is_made_at_a_time_and_limits_are_read_meanwhile(
    house: Strongroom, owner: Database
) -> None:
    async with owner.transaction() as db:
        await db.execute("LOCK TABLE ledger.entries")
        runs = [asyncio.create_task(house.look()) for _ in range(MOST_LOOKS)]
        await somebody_waits(owner)
        assert await code_of(house.look()) == "reconciliations_under_way"
        assert await house.limits.look_once()
        assert house.audit.pool.get_size() - house.audit.pool.get_idle_size() == 1
    assert all(run.report.clean for run in await asyncio.gather(*runs))
    assert (await house.look()).report.clean


# By the clock -------------------------------------------------------------------------------------

MONDAY = datetime(2036, 3, 3, tzinfo=UTC)
"""Not the day before a weekly or a yearly run. The database's clock is behind: a run never counts
as made since."""


async def modes(house: Strongroom) -> list[str]:
    rows = await house.database.fetch("SELECT mode FROM audit.reconciliations ORDER BY began_at")
    return [row["mode"] for row in rows]


async def test_the_daily_run_is_full_while_that_is_cheap_and_incremental_after(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    clock = [MONDAY]
    upkeep = Upkeep(house, lambda: clock[0])
    clock[0] += timedelta(days=1)
    await upkeep.once()
    await owner.fetch("UPDATE audit.reconciliations SET duration_ms = 60000 WHERE mode = 'full'")
    clock[0] += timedelta(days=1)
    await upkeep.once()
    assert (await modes(house))[:1] == ["full"] and (await modes(house))[-1] == "incremental"
    assert await house.database.fetchval("SELECT count(*) FROM audit.seals") >= 3


async def test_the_weekly_run_is_full_whatever_it_takes(
    houses: Houses, lived: list[Any], owner: Database
) -> None:
    house = await houses(reconcile_at="0 0 1 1 *", reconcile_full_at="0 3 * * *")
    await owner.fetch("UPDATE audit.reconciliations SET duration_ms = 10000000")
    clock = [MONDAY]
    upkeep = Upkeep(house, lambda: clock[0])
    clock[0] += timedelta(days=1)
    await upkeep.once()
    await upkeep.once()
    assert await modes(house) == ["full", "full"]


async def test_a_run_that_cannot_be_recorded_pauses_payouts_and_is_made_again(
    houses: Houses, lived: list[Any], owner: Database
) -> None:
    house = await houses(reconcile_at="0 2 * * *", reconcile_full_at="0 0 1 1 *")
    clock = [MONDAY]
    upkeep, before = Upkeep(house, lambda: clock[0]), await modes(house)
    by_hand(owner, BEYOND)
    await owner.fetch("ALTER TABLE audit.reconciliations RENAME COLUMN findings TO lost")
    clock[0] += timedelta(days=1)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await upkeep.once()
    seen = await payouts_status(house.database)
    assert seen.payouts_paused and seen.by == "worker:upkeep"
    await owner.fetch("ALTER TABLE audit.reconciliations RENAME COLUMN lost TO findings")
    await upkeep.once()
    assert await modes(house) == before
    clock[0] += timedelta(minutes=15)
    await upkeep.once()
    assert len(await modes(house)) == len(before) + 1


async def test_payouts_that_could_not_be_paused_are_when_it_is_asked_again(
    houses: Houses, lived: list[Any], owner: Database
) -> None:
    house = await houses(reconcile_at="0 2 * * *", reconcile_full_at="0 0 1 1 *")
    clock = [MONDAY]
    upkeep = Upkeep(house, lambda: clock[0])
    by_hand(owner, BEYOND)
    clock[0] += timedelta(days=1)
    async with owner.transaction() as db:
        await db.fetch("SELECT FROM audit.switches FOR UPDATE")
        with pytest.raises(Busy):
            await upkeep.once()
    assert not (await payouts_status(house.database)).payouts_paused
    await upkeep.once()
    assert (await payouts_status(house.database)).payouts_paused


# What is asked ------------------------------------------------------------------------------------


def kinds_of(query: str) -> str:
    return query.partition("(VALUES")[2].partition("), kinds AS")[0]


def test_new_entries_are_asked_for_the_same_kinds_of_transfers_as_all() -> None:
    assert kinds_of(seals.sql.odd_entries) == kinds_of(LEDGER.entries_fit_their_keys) != ""


async def test_a_transfer_that_commits_behind_the_seal_is_asked_by_the_next_run(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    """Begun before the seal and committed after it, without an entry that would show it."""
    async with owner.transaction() as late:
        await late.execute(
            "INSERT INTO ledger.transfers (id, key, unit, created_by)"
            " VALUES (gen_random_uuid(), 'FREE:1', 'VND', 'hand')"
        )
        assert (await looked(house)).report.clean
    assert names((await looked(house)).report) == {"transfers_have_their_entries"}


async def test_accounts_are_compared_though_nothing_was_written(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    """An account that has not moved since its seal must be exactly what it was."""
    await owner.fetch(
        "UPDATE ledger.accounts SET balance = balance + CASE purpose WHEN 'world' THEN -3 ELSE 3 END"
        " WHERE purpose = 'world' OR id ="
        " (SELECT min(id) FROM ledger.accounts WHERE purpose = 'wallet')"
    )
    report = (await looked(house)).report
    assert names(report) == {"accounts_equal_their_entries"}
    assert [row["found"] - row["expected"] for row in report.findings[0].rows] in ([3, -3], [-3, 3])


async def test_seals_that_cannot_be_read_are_no_reason_to_fall_silent(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    await owner.fetch("ALTER TABLE audit.seals RENAME TO lost")
    found = (await house.look("incremental")).report
    assert found.mode == "full"
    assert {"seals_chain", "seals_keep_their_ranges"} <= names(found)


async def test_an_index_that_ranges_are_read_by_is_missed(
    house: Strongroom, lived: list[Any], owner: Database
) -> None:
    await owner.fetch("DROP INDEX ledger.entries_transfer")
    assert names((await looked(house)).report) == {"sealed_entries_stand"}
