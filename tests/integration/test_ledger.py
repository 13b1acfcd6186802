"""The ledger on a real Postgres: floors, limits, reversals, statements, and the past kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from playing import (
    Houses,
    People,
    balance,
    balances,
    bet,
    code_of,
    codes_of,
    end_round,
    house_balances,
    new_round,
    outcome_of,
    ticket,
)
from strongroom.apps.wallets import Deposit, ReverseTransfer, Transfer, Withdraw
from strongroom.apps.wallets.moves import NotReversible
from strongroom.core.db import Database
from strongroom.core.ledger import AccountKey, Books, fees, open_accounts, wallet, world
from strongroom.core.ledger.books import BalanceLimit, InsufficientFunds
from strongroom.errors import NotFound
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from strongroom.money import MAX_BALANCE

SUM = "SELECT sum(balance) FROM ledger.accounts"
TRANSFERS = "SELECT count(*) FROM ledger.transfers"


async def post(
    house: Strongroom, keys: Iterable[AccountKey], act: Callable[[Books], None]
) -> Books:
    """Locks, acts and writes in one transaction."""
    books = Books()
    async with house.database.transaction() as db:
        await books.lock(db, keys)
        act(books)
        await books.write(db)
    return books


def paying(
    source: AccountKey, target: AccountKey, amount: int, key: str = ""
) -> Callable[[Books], None]:
    def act(books: Books) -> None:
        id = uuid7()
        books.move(id, key or str(id), books[source], books[target], amount, by="tester")

    return act


# Floors and limits --------------------------------------------------------------------------------


async def test_an_account_can_be_emptied_and_not_overdrawn(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=10)
    keys = wallet(ann), wallet(bob)
    await post(house, keys, paying(*keys, 10))
    with pytest.raises(InsufficientFunds, match="The wallet holds 0; 1 are needed"):
        await post(house, keys, paying(*keys, 1))
    assert await balances(house, [ann, bob]) == [(0, 0), (20, 0)]


async def test_a_post_of_several_legs_is_refused_whole(house: Strongroom, people: People) -> None:
    ann, bob, cem = await people(3, funds=10)

    def act(books: Books) -> None:
        legs = [(books[wallet(ann)], -5), (books[wallet(bob)], -11), (books[wallet(cem)], 16)]
        books.post(uuid7(), "k", [(who, amount, "DEBIT") for who, amount in legs], by="tester")

    with pytest.raises(InsufficientFunds):
        await post(house, map(wallet, (ann, bob, cem)), act)
    assert await balances(house, [ann, bob, cem]) == [(10, 0)] * 3


async def test_what_does_not_fit_an_account_is_refused(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=0)
    key = wallet(ann)
    await post(house, [world(), key], paying(world(), key, MAX_BALANCE))
    with pytest.raises(BalanceLimit):
        await post(house, [world(), wallet(bob)], paying(world(), wallet(bob), 1))
    assert (await code_of(house.run(Deposit(ann, 1)))) == "balance_limit"
    assert await balance(house, ann) == MAX_BALANCE


async def test_the_house_and_the_world_have_no_floor(house: Strongroom, people: People) -> None:
    [ann] = await people(1, funds=0)
    await post(house, [fees(), wallet(ann)], paying(fees(), wallet(ann), 7))
    assert (await house_balances(house))["house:fees"] == -7


async def test_the_database_itself_refuses_a_balance_below_the_floor(
    people: People, owner: Database
) -> None:
    [ann] = await people(1, funds=10)
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.fetch(
            "UPDATE ledger.accounts SET balance = -1 WHERE owner_id = $1 AND purpose = 'wallet'",
            ann,
        )


async def test_an_account_that_was_never_opened_is_not_found(house: Strongroom) -> None:
    with pytest.raises(NotFound):
        await post(house, [wallet(uuid7())], paying(wallet(uuid7()), world(), 1))


async def test_a_key_moves_money_once_for_ever(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=10)
    keys = wallet(ann), wallet(bob)
    await post(house, keys, paying(*keys, 1, key="once"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await post(house, keys, paying(*keys, 1, key="once"))
    assert await balance(house, ann) == 9


async def test_opening_accounts_again_and_at_once_changes_nothing(
    house: Strongroom, people: People, owner: Database
) -> None:
    [ann] = await people(1, funds=10)
    [new] = [uuid7()]

    async def open_both(first: UUID, second: UUID) -> None:
        async with house.database.transaction() as db:
            await open_accounts(db, [wallet(first), wallet(second)])

    await asyncio.gather(*(open_both(*pair) for pair in [(ann, new), (new, ann)] * 5))
    assert await balances(house, [ann, new]) == [(10, 0), (0, 0)]
    assert (
        await owner.fetchval("SELECT count(*) FROM ledger.accounts WHERE owner_id = $1", new) == 1
    )


async def test_transfers_there_and_back_between_processes_neither_deadlock_nor_lose(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=1000)
    other = await houses()
    there = [house.run(Transfer(ann, bob, 7)) for _ in range(60)]
    back = [other.run(Transfer(bob, ann, 5)) for _ in range(60)]
    await asyncio.gather(*there, *back)
    assert await balances(house, [ann, bob]) == [(1000 - 120, 0), (1000 + 120, 0)]
    assert await owner.fetchval(SUM) == 0
    assert (await house.reconcile()).clean


# Deposits and withdrawals -------------------------------------------------------------------------


async def test_money_that_comes_in_and_goes_out_is_the_worlds(
    house: Strongroom, people: People
) -> None:
    [ann] = await people(1, funds=0)
    moved = await house.run(Deposit(ann, 100, "salary"), key="in", principal="op")
    assert (moved.balance, moved.seq) == (100, 1)
    moved = await house.run(Withdraw(ann, 30, "rent"), key="out", principal="op")
    assert (moved.balance, moved.seq) == (70, 2)
    assert await house_balances(house) == {"world": -70, "wallet": 70, "stake": 0}
    entries = await house.statements.entries(wallet(ann), 0, 10)
    seen = [(e["type"], e["amount"], e["reference"], e["idempotent_key"]) for e in entries]
    assert seen == [
        ("DEPOSIT", 100, "salary", "DEPOSIT:op:in"),
        ("WITHDRAWAL", -30, "rent", "WITHDRAWAL:op:out"),
    ]


@pytest.mark.parametrize("amount", [11, 10**15])
async def test_more_than_there_is_cannot_be_withdrawn(
    house: Strongroom, people: People, amount: int
) -> None:
    [ann] = await people(1, funds=10)
    assert await code_of(house.run(Withdraw(ann, amount))) == "insufficient_funds"
    assert await balance(house, ann) == 10


async def test_who_has_no_wallet_is_not_found(house: Strongroom, people: People) -> None:
    [ann] = await people(1)
    nobody = uuid7()
    commands = (
        Deposit(nobody, 1),
        Withdraw(nobody, 1),
        Transfer(ann, nobody, 1),
        Transfer(nobody, ann, 1),
    )
    assert await codes_of([house.run(command) for command in commands]) == ["not_found"] * 4
    assert await balance(house, ann) == 1_000_000


async def test_nobody_transfers_to_himself(house: Strongroom, people: People) -> None:
    [ann] = await people(1)
    assert await code_of(house.run(Transfer(ann, ann, 1))) == "same_account"


@pytest.mark.parametrize("command", [Deposit, Withdraw])
async def test_a_key_whose_answer_is_forgotten_still_moves_nothing_twice(
    house: Strongroom, people: People, owner: Database, command: type[Deposit] | type[Withdraw]
) -> None:
    [ann] = await people(1, funds=100)
    await house.run(command(ann, 10), key="k")
    before = await balance(house, ann)
    await owner.fetch("DELETE FROM commands.answers")
    assert await code_of(house.run(command(ann, 10), key="k")) == "already_done"
    assert await balance(house, ann) == before


async def test_neighbours_of_a_forgotten_key_are_served(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    await house.run(Transfer(ann, bob, 1), key="k0")
    await owner.fetch("DELETE FROM commands.answers")
    calls = [house.run(Transfer(ann, bob, 1), key=f"k{i}") for i in range(4)]
    assert await codes_of(calls) == ["already_done", None, None, None]
    assert await balance(house, bob) == 104


async def test_one_key_on_two_paths_is_two_requests(house: Strongroom, people: People) -> None:
    """A key is scoped by its path, so an operator may use it for one deposit to each user."""
    ann, bob = await people(2, funds=0)
    for user in (ann, bob):
        asked = ticket(Deposit(user, 5), "k", principal="op", path=f"/api/wallets/{user}/deposits")
        outcome = await outcome_of(house, asked)
        assert (outcome.refused, outcome.error) == (None, None)
    assert await balances(house, [ann, bob]) == [(5, 0), (5, 0)]


# Reversals ----------------------------------------------------------------------------------------


async def test_a_reversal_negates_exactly(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    moved = await house.run(Transfer(ann, bob, 40))
    back = await house.run(ReverseTransfer(moved.transfer_id, "typing error"))
    assert back.reverses == moved.transfer_id
    assert await balances(house, [ann, bob]) == [(100, 0), (100, 0)]
    legs = "SELECT account_id, amount FROM ledger.entries WHERE transfer_id = $1 ORDER BY 1"
    first = await owner.fetch(legs, moved.transfer_id)
    second = await owner.fetch(legs, back.transfer_id)
    assert [(r[0], -r[1]) for r in first] == [(r[0], r[1]) for r in second]


async def test_a_settlement_is_not_reversed_apart_from_its_round(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house, fee_bps=1000)
    await bet(house, round, ann, "A", 100)
    await bet(house, round, bob, "B", 100)
    await end_round(house, round, "A")
    assert await balances(house, [ann, bob]) == [(190, 0), (0, 0)]
    paid = await owner.fetchval("SELECT id FROM ledger.transfers WHERE key LIKE 'SETTLE:%'")
    refused = house.run(ReverseTransfer(paid, "wrong result"))
    assert await code_of(refused) == NotReversible.code
    assert await balances(house, [ann, bob]) == [(190, 0), (0, 0)]
    assert (await house_balances(house))["house:fees"] == 10


async def test_a_transfer_is_reversed_once(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    moved = await house.run(Transfer(ann, bob, 40))
    calls = [house.run(ReverseTransfer(moved.transfer_id, "oops")) for _ in range(5)]
    assert sorted(map(str, await codes_of(calls))) == ["None"] + ["already_reversed"] * 4
    assert await balance(house, ann) == 100


async def test_two_processes_that_reverse_at_once_do_it_once(
    houses: Houses, house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    other = await houses()
    for _ in range(5):
        moved = await house.run(Transfer(ann, bob, 40))
        calls = [one.run(ReverseTransfer(moved.transfer_id, "oops")) for one in (house, other)]
        assert set(await codes_of(calls)) == {None, "already_reversed"}
        assert await balance(house, ann) == 100


async def test_a_reversal_replays_under_its_key(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    moved = await house.run(Transfer(ann, bob, 40))
    both = [await house.run(ReverseTransfer(moved.transfer_id, "x"), key="k") for _ in range(2)]
    assert both[0] == both[1]


async def test_money_that_is_gone_cannot_be_reversed(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    moved = await house.run(Transfer(ann, bob, 40))
    await house.run(Withdraw(bob, 101))
    refused = house.run(ReverseTransfer(moved.transfer_id, "too late"))
    assert await code_of(refused) == "insufficient_funds"
    assert await balances(house, [ann, bob]) == [(60, 0), (39, 0)]


async def test_what_never_moved_cannot_be_reversed(house: Strongroom) -> None:
    assert await code_of(house.run(ReverseTransfer(uuid7(), "?"))) == "not_found"


async def test_a_reversal_can_itself_be_reversed_once(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    moved = await house.run(Transfer(ann, bob, 40))
    back = await house.run(ReverseTransfer(moved.transfer_id, "oops"))
    await house.run(ReverseTransfer(back.transfer_id, "it was right after all"))
    again = house.run(ReverseTransfer(back.transfer_id, "again"))
    assert await code_of(again) == "already_reversed"
    assert await balances(house, [ann, bob]) == [(60, 0), (140, 0)]


# Reading ------------------------------------------------------------------------------------------


async def test_a_statement_pages_forward_without_shifting(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=1000)
    for number in range(1, 7):
        await house.run(Transfer(ann, bob, number))
    after, pages = 0, []
    while page := await house.statements.entries(wallet(ann), after, 3):
        pages.append([(e["seq"], e["amount"], e["balance_after"]) for e in page])
        after = page[-1]["seq"]
        await house.run(Deposit(bob, 1))
    assert [len(page) for page in pages] == [3, 3, 1]
    flat = [entry for page in pages for entry in page]
    assert [seq for seq, _, _ in flat] == [1, 2, 3, 4, 5, 6, 7]
    assert [left for _, _, left in flat] == [1000, 999, 997, 994, 990, 985, 979]
    assert await house.statements.entries(wallet(uuid7()), 0, 3) == []


async def test_the_balance_of_a_past_moment_can_be_asked(
    house: Strongroom, people: People, owner: Database
) -> None:
    [ann] = await people(1, funds=0)
    moments = [await owner.fetchval("SELECT clock_timestamp()")]
    for amount in (100, 20, 3):
        await house.run(Deposit(ann, amount))
        moments.append(await owner.fetchval("SELECT clock_timestamp()"))
    found = [await house.statements.balance_at(wallet(ann), moment) for moment in moments]
    assert found == [0, 100, 120, 123]
    assert await house.statements.balance_at(wallet(uuid7()), datetime.now(UTC)) == 0


async def test_what_a_bet_holds_shows_as_locked(house: Strongroom, people: People) -> None:
    [ann] = await people(1, funds=100)
    await bet(house, await new_round(house), ann, "A", 30)
    shown = (await house.statements.wallets([ann, uuid7()]))[ann]
    assert (shown.balance, shown.locked, shown.unit, shown.seq) == (70, 30, "VND", 2)


async def test_the_trial_balance_sums_to_zero(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house, fee_bps=500)
    await bet(house, round, ann, "A", 100)
    await bet(house, round, bob, "B", 60)
    await end_round(house, round, "B")
    found = await house_balances(house)
    assert found == {"world": -200, "wallet": 197, "stake": 0, "house:fees": 3}


async def test_the_wallet_ledger_has_the_columns_of_the_specification(
    house: Strongroom, people: People, owner: Database
) -> None:
    [ann] = await people(1, funds=0)
    await house.run(Deposit(ann, 100, "salary"), key="in", principal="op")
    await house.run(Withdraw(ann, 30, "rent"), key="out", principal="op")
    rows = await owner.fetch("SELECT * FROM ledger.wallet_ledger ORDER BY created_at")
    assert list(rows[0].keys()) == [
        "user_id",
        "amount",
        "type",
        "reference_id",
        "idempotent_key",
        "balance_before",
        "balance_after",
        "created_at",
        "created_by",
    ]
    assert tuple(rows[1])[:7] == (ann, -30, "WITHDRAWAL", "rent", "WITHDRAWAL:op:out", 100, 70)
    assert rows[1]["created_by"] == "op"


# The past is kept ---------------------------------------------------------------------------------

GUARDED = ("ledger.entries", "ledger.transfers", "events.log")
CHANGES = {
    "ledger.entries": "amount = amount + 1",
    "ledger.transfers": "reference = 'x'",
    "events.log": "type = 'x'",
}


def attempts(table: str) -> list[str]:
    return [
        f"UPDATE {table} SET {CHANGES[table]}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table}",
    ]


async def refused_by(database: Database, statement: str) -> type[Exception] | None:
    try:
        await database.fetch(statement)
    except asyncpg.PostgresError as error:
        return type(error)
    return None


@pytest.mark.parametrize("table", GUARDED)
async def test_the_application_may_not_change_or_remove_what_happened(
    house: Strongroom, people: People, table: str
) -> None:
    await people(1)
    for statement in attempts(table):
        found = await refused_by(house.database, statement)
        assert found is asyncpg.InsufficientPrivilegeError, statement


@pytest.mark.parametrize("table", GUARDED)
async def test_not_even_the_owner_changes_or_removes_what_happened(
    people: People, owner: Database, table: str
) -> None:
    await people(1)
    for statement in attempts(table):
        found = await refused_by(owner, statement)
        assert found is asyncpg.RestrictViolationError, statement


@pytest.mark.parametrize("table", GUARDED)
async def test_a_replica_session_does_not_silence_the_guards(
    people: People, owner: Database, table: str
) -> None:
    await people(1)
    for statement in attempts(table)[:2]:
        with pytest.raises(asyncpg.RestrictViolationError):
            async with owner.transaction() as db:
                await db.execute("SET LOCAL session_replication_role = replica")
                await db.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE ledger.entries DISABLE TRIGGER append_only",
        "ALTER TABLE ledger.entries DISABLE TRIGGER ALL",
        "DROP TRIGGER append_only ON ledger.entries",
        "DROP FUNCTION ledger.refuse_change CASCADE",
        "DROP TABLE ledger.entries",
        "DROP INDEX ledger.transfers_key",
        "ALTER TABLE ledger.accounts DROP CONSTRAINT balance_not_below_floor",
        "SET session_replication_role = replica",
        "DELETE FROM ledger.accounts",
        "UPDATE ledger.accounts SET floor = -1000000",
        "CREATE TABLE ledger.mine (id int)",
        "CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE sql AS ''",
        "SELECT password_hash FROM identity.users; DROP TABLE identity.users",
        "DELETE FROM audit.reconciliations",
        "DELETE FROM audit.pauses",
    ],
)
async def test_the_application_cannot_take_the_guards_down(
    house: Strongroom, statement: str
) -> None:
    with pytest.raises(asyncpg.PostgresError) as refusal:
        async with house.database.transaction() as db:
            await db.execute(statement)
    assert isinstance(
        refusal.value, asyncpg.InsufficientPrivilegeError | asyncpg.InvalidFunctionDefinitionError
    )
