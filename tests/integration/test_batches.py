"""Transfers by the thousand: each on its own, or all or none; keys unique for ever."""

from __future__ import annotations

import asyncio
from typing import Literal
from uuid import UUID

import pytest

from playing import Houses, People, balances, codes_of, ticket
from strongroom.apps.wallets import BatchItem, Transfer, TransferBatch
from strongroom.core.db import Database
from strongroom.core.ledger import Books, fees, wallet
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from strongroom.money import MAX_BALANCE

Mode = Literal["independent", "atomic"]
MODES: list[Mode] = ["independent", "atomic"]

OK = "posted"
POSTED = "SELECT count(*) FROM ledger.transfers WHERE key LIKE 'TRANSFER:%'"


def item(key: str, source: UUID, target: UUID, amount: int) -> BatchItem:
    return BatchItem(key, source, target, amount)


async def run(
    house: Strongroom, mode: Mode, *items: BatchItem, key: str | None = None
) -> list[str]:
    """Each item's code, or "posted", in order."""
    done = await house.run(TransferBatch(mode, items), key=key)
    for result in done.results:
        assert (result.status == "posted") == isinstance(result.transfer_id, UUID)
        assert (result.status == "refused") == isinstance(result.code, str)
    return [result.code if result.status == "refused" else OK for result in done.results]


async def fill(house: Strongroom, user: UUID, amount: int) -> None:
    """Gives a user the house's money: the world's account has room for the others' alone."""
    books = Books()
    async with house.database.transaction() as db:
        await books.lock(db, [fees(), wallet(user)])
        id = uuid7()
        books.move(id, str(id), books[fees()], books[wallet(user)], amount, by="tester")
        await books.write(db)


@pytest.mark.parametrize("mode", MODES)
async def test_a_batch_without_fault_is_posted_in_order(
    house: Strongroom, people: People, mode: Mode, owner: Database
) -> None:
    ann, bob, cem = await people(3, funds=100)
    items = [item("1", ann, bob, 100), item("2", bob, cem, 200), item("3", cem, ann, 300)]
    assert await run(house, mode, *items) == [OK, OK, OK]
    assert await balances(house, [ann, bob, cem]) == [(300, 0), (0, 0), (0, 0)]
    keys = await owner.fetch(
        "SELECT key FROM ledger.transfers WHERE key LIKE 'TRANSFER:%' ORDER BY 1"
    )
    assert [row["key"] for row in keys] == [f"TRANSFER:library:{n}" for n in (1, 2, 3)]


async def test_independent_items_fail_alone_each_with_its_code(
    house: Strongroom, people: People
) -> None:
    ann, bob, rich = await people(3, funds=100)
    await fill(house, rich, MAX_BALANCE - 100)
    assert await run(
        house,
        "independent",
        item("0", ann, bob, 30),
        item("0", ann, bob, 31),
        item("2", ann, ann, 5),
        item("3", ann, uuid7(), 5),
        item("4", uuid7(), ann, 5),
        item("5", ann, bob, 71),
        item("6", ann, rich, 1),
        item("7", ann, bob, 70),
    ) == [
        OK,
        "idempotency_key_reused",
        "same_account",
        "not_found",
        "not_found",
        "insufficient_funds",
        "balance_limit",
        OK,
    ]
    assert await balances(house, [ann, bob]) == [(0, 0), (200, 0)]


async def test_one_refusal_refuses_an_atomic_batch_and_the_innocent_say_so(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob, rich = await people(3, funds=100)
    await fill(house, rich, MAX_BALANCE - 100)
    assert await run(
        house,
        "atomic",
        item("0", ann, bob, 30),
        item("0", ann, bob, 31),
        item("2", ann, ann, 5),
        item("3", ann, uuid7(), 5),
        item("5", ann, bob, 71),
        item("6", ann, rich, 1),
        item("7", ann, bob, 70),
    ) == [
        "batch_refused",
        "idempotency_key_reused",
        "same_account",
        "not_found",
        "insufficient_funds",
        "balance_limit",
        "batch_refused",
    ]
    assert await balances(house, [ann, bob]) == [(100, 0), (100, 0)]
    assert await owner.fetchval(POSTED) == 0


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda ann, bob: item("k", bob, bob, 1), "same_account"),
        (lambda ann, bob: item("k", bob, UUID(int=7), 1), "not_found"),
        (lambda ann, bob: item("k", bob, ann, 1000), "insufficient_funds"),
        (lambda ann, bob: item("first", ann, bob, 2), "idempotency_key_reused"),
    ],
)
async def test_any_single_fault_refuses_an_atomic_batch(
    house: Strongroom, people: People, make: object, code: str
) -> None:
    ann, bob = await people(2, funds=100)
    faulty = make(ann, bob)  # type: ignore[operator]
    found = await run(house, "atomic", item("first", ann, bob, 1), faulty, item("z", bob, ann, 1))
    assert found == ["batch_refused", code, "batch_refused"]
    assert await balances(house, [ann, bob]) == [(100, 0), (100, 0)]


async def test_the_fault_that_is_named_is_the_first_that_applies(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    nobody = uuid7()
    assert await run(
        house,
        "independent",
        item("1", ann, bob, 1),
        item("1", ann, ann, 10**15),
        item("2", nobody, nobody, 10**15),
        item("3", nobody, ann, 10**15),
    ) == [OK, "idempotency_key_reused", "same_account", "not_found"]


@pytest.mark.parametrize("mode", MODES)
async def test_money_that_comes_in_earlier_in_a_batch_can_be_spent_later_in_it(
    house: Strongroom, people: People, mode: Mode
) -> None:
    ann, bob, cem = await people(3, funds=0)
    await fill(house, ann, 10)
    chain = [item("1", ann, bob, 10), item("2", bob, cem, 10), item("3", cem, ann, 10)]
    assert await run(house, mode, *chain) == [OK] * 3
    assert await balances(house, [ann, bob, cem]) == [(10, 0), (0, 0), (0, 0)]


@pytest.mark.parametrize("mode", MODES)
async def test_money_spent_earlier_in_a_batch_is_gone_later_in_it(
    house: Strongroom, people: People, mode: Mode
) -> None:
    ann, bob = await people(2, funds=10)
    found = await run(house, mode, *(item(str(n), ann, bob, 6) for n in range(2)))
    want = {
        "independent": [OK, "insufficient_funds"],
        "atomic": ["batch_refused", "insufficient_funds"],
    }
    assert found == want[mode]
    assert (await balances(house, [ann]))[0][0] == {"independent": 4, "atomic": 10}[mode]


@pytest.mark.parametrize("mode", MODES)
async def test_the_same_item_twice_in_a_batch_moves_once(
    house: Strongroom, people: People, mode: Mode
) -> None:
    ann, bob = await people(2, funds=100)
    twice = item("k", ann, bob, 30)
    done = await house.run(TransferBatch(mode, (twice, item("other", ann, bob, 1), twice)))
    first, _, second = done.results
    assert first.transfer_id == second.transfer_id
    assert await balances(house, [ann, bob]) == [(69, 0), (131, 0)]


@pytest.mark.parametrize("mode", MODES)
async def test_an_item_posted_by_an_earlier_batch_answers_with_its_transfer(
    house: Strongroom, people: People, mode: Mode
) -> None:
    ann, bob = await people(2, funds=100)
    first = await house.run(TransferBatch("independent", (item("k", ann, bob, 30),)))
    again = await house.run(
        TransferBatch(mode, (item("new", ann, bob, 1), item("k", ann, bob, 30)))
    )
    assert [result.status for result in again.results] == [OK, OK]
    assert again.results[1].transfer_id == first.results[0].transfer_id
    assert await balances(house, [ann, bob]) == [(69, 0), (131, 0)]


@pytest.mark.parametrize(
    "change", [{"amount": 31}, {"source": "bob"}, {"target": "cem"}], ids=lambda c: next(iter(c))
)
@pytest.mark.parametrize("mode", MODES)
async def test_an_item_key_with_another_transfer_is_refused(
    house: Strongroom, people: People, mode: Mode, change: dict[str, object]
) -> None:
    ann, bob, cem = await people(3, funds=100)
    await run(house, "independent", item("k", ann, bob, 30))
    source = cem if "source" in change else ann
    target = cem if "target" in change else bob
    amount = 31 if "amount" in change else 30
    found = await run(house, mode, item("k", source, target, amount), item("n", ann, bob, 1))
    assert found == ["idempotency_key_reused", OK if mode == "independent" else "batch_refused"]


@pytest.mark.parametrize("mode", MODES)
async def test_an_item_posted_before_is_known_though_its_money_is_gone(
    house: Strongroom, people: People, mode: Mode
) -> None:
    ann, bob = await people(2, funds=30)
    posted = item("k", ann, bob, 30)
    assert await run(house, "independent", posted) == [OK]
    assert await run(house, mode, posted) == [OK]
    assert await run(house, mode, item("n", bob, ann, 1), posted) == [OK, OK]
    assert await balances(house, [ann, bob]) == [(1, 0), (59, 0)]


@pytest.mark.parametrize("mode", MODES)
async def test_an_item_posted_before_is_known_though_its_receiver_is_full(
    house: Strongroom, people: People, mode: Mode
) -> None:
    ann, bob = await people(2, funds=60)
    posted = item("k", ann, bob, 30)
    assert await run(house, "independent", posted) == [OK]
    await fill(house, bob, MAX_BALANCE - 90 - 10)
    assert await run(house, mode, posted) == [OK]


@pytest.mark.parametrize("mode", MODES)
async def test_a_used_item_key_is_named_before_any_other_fault(
    house: Strongroom, people: People, mode: Mode
) -> None:
    ann, bob = await people(2, funds=60)
    assert await run(house, "independent", item("k", ann, bob, 30)) == [OK]
    for faulty in (item("k", ann, ann, 30), item("k", uuid7(), ann, 30), item("k", ann, bob, 99)):
        assert await run(house, mode, faulty) == ["idempotency_key_reused"]


async def test_an_item_that_was_refused_may_come_again(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=10)
    late = item("k", ann, bob, 30)
    assert await run(house, "independent", late) == ["insufficient_funds"]
    await fill(house, ann, 100)
    assert await run(house, "independent", late) == [OK]


async def test_items_of_an_atomic_batch_that_was_refused_may_come_again(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=10)
    good, bad = item("g", ann, bob, 1), item("b", ann, bob, 10)
    assert await run(house, "atomic", good, bad) == ["batch_refused", "insufficient_funds"]
    await fill(house, ann, 100)
    assert await run(house, "atomic", good, bad) == [OK, OK]


async def test_an_item_key_belongs_to_who_sends_it(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    batch = TransferBatch("independent", (item("k", ann, bob, 30),))
    tickets = [ticket(batch, "b", principal=who) for who in ("user:op", "user:other")]
    await house.executor.run(tickets)
    assert all([(await one.future).stored for one in tickets])
    assert await balances(house, [ann, bob]) == [(40, 0), (160, 0)]


async def test_a_single_transfer_and_an_item_share_their_keys(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=100)
    moved = await house.run(Transfer(ann, bob, 30), key="k")
    done = await house.run(TransferBatch("independent", (item("k", ann, bob, 30),)))
    assert done.results[0].transfer_id == moved.transfer_id
    assert await codes_of([house.run(Transfer(ann, bob, 5), key="item")]) == [None]
    assert await balances(house, [ann, bob]) == [(65, 0), (135, 0)]


async def test_the_same_items_in_batches_of_one_group_move_once(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=1000)
    items = tuple(item(str(n), ann, bob, 1) for n in range(10))
    batches = [TransferBatch("independent", items[n:] + items[:n]) for n in range(4)]
    before = house.executor.groups
    done = await asyncio.gather(*(house.run(batch) for batch in batches))
    assert house.executor.groups == before + 1
    assert {r.status for one in done for r in one.results} == {OK}
    assert len({r.transfer_id for one in done for r in one.results}) == 10
    assert await balances(house, [ann]) == [(990, 0)]


@pytest.mark.parametrize("mode", MODES)
async def test_two_processes_that_send_the_same_items_at_once_move_once(
    houses: Houses, house: Strongroom, people: People, mode: Mode, owner: Database
) -> None:
    users = await people(4, funds=1000)
    other = await houses()
    for turn in range(5):
        items = [item(f"{turn}.{n}", users[n % 4], users[(n + 1) % 4], 1) for n in range(40)]
        batches = TransferBatch(mode, tuple(items)), TransferBatch(mode, tuple(items[::-1]))
        mine, yours = await asyncio.gather(house.run(batches[0]), other.run(batches[1]))
        there = {r.transfer_id for r in mine.results}
        assert there == {r.transfer_id for r in yours.results} and len(there) == 40
    assert await owner.fetchval(POSTED) == 200
    assert (await house.reconcile()).clean


async def test_a_batch_replays_under_its_own_key(house: Strongroom, people: People) -> None:
    ann, bob = await people(2, funds=100)
    batch = TransferBatch("independent", (item("k", ann, bob, 30), item("k2", ann, bob, 300)))
    first, second = [await house.run(batch, key="b") for _ in range(2)]
    assert first == second
    assert await balances(house, [ann]) == [(70, 0)]


async def test_ten_thousand_transfers_commit_together(house: Strongroom, people: People) -> None:
    users = await people(100, funds=10_000)
    items = [
        item(str(n), users[n % 100], users[(n * 7 + 1) % 100], 1 + n % 5) for n in range(10_000)
    ]
    before = house.executor.groups
    found = await run(house, "atomic", *(i for i in items if i.source != i.target))
    assert set(found) == {OK}
    assert house.executor.groups == before + 1
    assert (await house.reconcile()).clean


async def test_an_empty_batch_moves_nothing(house: Strongroom) -> None:
    for mode in MODES:
        assert await run(house, mode) == []
