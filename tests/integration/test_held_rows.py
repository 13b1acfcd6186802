"""A row that somebody holds: who needs it is told to come again, all others notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from boxoffice import new_event
from playing import (
    PATIENCE_S,
    Houses,
    People,
    assert_clean,
    balance,
    codes_of,
    new_round,
    somebody_waits,
    ticket,
)
from storefront import buyer, new_product
from strongroom.apps.betting import PlaceBet
from strongroom.apps.orders.orders import PlaceOrder
from strongroom.apps.ticketing.reservations import ReserveSeats
from strongroom.apps.wallets import Deposit
from strongroom.clock import monotonic
from strongroom.core.commands import Command, Nothing, Work
from strongroom.core.db import Database
from strongroom.core.ledger import open_accounts, wallet, world
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from wishes import Granted, Wish

HOLD_ROUND = "SELECT FROM betting.rounds WHERE id = $1 FOR UPDATE"
HOLD_WALLET = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'wallet' FOR UPDATE"
HOLD_STOCK = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'free' FOR UPDATE"
HOLD_EVENT = "SELECT FROM ticketing.events WHERE id = $1 FOR UPDATE"

AT_ONCE_S = 0.5
"""Less than anybody waits for a lock, more than a small group takes on a crowded machine."""


@asynccontextmanager
async def holding(owner: Database, query: str, id: UUID) -> AsyncIterator[None]:
    """Somebody outside holds a row."""
    async with owner.transaction() as db:
        await db.execute(query, id)
        yield


async def codes(house: Strongroom, *wishes: Command) -> list[str | None]:
    """What each is refused with; all go into the lanes at once."""
    return await asyncio.wait_for(codes_of([house.run(wish) for wish in wishes]), PATIENCE_S)


async def served(house: Strongroom, wish: Command) -> None:
    """Returns when such a wish is granted."""
    async with asyncio.timeout(PATIENCE_S):
        while (await codes(house, wish)) != [None]:
            await asyncio.sleep(0.01)


async def free_again(house: Strongroom) -> None:
    """Returns when the house knows of no held row."""
    async with asyncio.timeout(PATIENCE_S):
        while house.executor.held:
            await asyncio.sleep(0.01)


# Who needs it, and who does not -------------------------------------------------------------------


async def test_a_held_wallet_of_one_user_does_not_hold_up_the_others(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob, cem = await people(3)
    async with holding(owner, HOLD_WALLET, ann):
        first = await codes(house, Wish(ann, bob), Wish(cem, bob), Wish(bob, ann), Wish(bob, cem))
        assert first == ["row_held", None, "row_held", None]
        began = monotonic()
        again = await codes(house, Wish(ann, bob), Wish(cem, bob), Wish(bob, cem))
        assert again == ["row_held", None, None]
        assert monotonic() - began < AT_ONCE_S
    await free_again(house)
    await assert_clean(house)


async def test_a_held_round_does_not_hold_up_bets_on_another(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    hot, cold = await new_round(house), await new_round(house)
    bets = [PlaceBet(user, round, "A", 10) for user in (ann, bob) for round in (hot, cold)]
    async with holding(owner, HOLD_ROUND, hot):
        assert await codes(house, *bets) == ["row_held", None, "row_held", None]
        began = monotonic()
        assert await codes(house, *bets) == ["row_held", None, "row_held", None]
        assert monotonic() - began < AT_ONCE_S


async def test_a_held_event_does_not_hold_up_seats_of_another(
    house: Strongroom, owner: Database
) -> None:
    hot, cold = await new_event(house, 100, 100), await new_event(house, 100, name="Another")
    wishes = [
        ReserveSeats(uuid7(), ((type, 1),), 600)
        for type in (hot.types[0], cold.types[0], hot.types[1])
    ]
    async with holding(owner, HOLD_EVENT, hot.id):
        assert await codes(house, *wishes) == ["row_held", None, "row_held"]
        began = monotonic()
        assert await codes(house, *wishes) == ["row_held", None, "row_held"]
        assert monotonic() - began < AT_ONCE_S


async def test_held_seats_and_pieces_do_not_hold_up_others(
    house: Strongroom, owner: Database
) -> None:
    hot, cold = await new_product(house), await new_product(house)
    orders = [PlaceOrder(uuid7(), buyer(), ((product, 1),), 3600) for product in (hot, cold)]
    show = await new_event(house, 100, 100)
    seats = [ReserveSeats(uuid7(), ((type, 1),), 600) for type in show.types]
    async with holding(owner, HOLD_STOCK, hot), holding(owner, HOLD_STOCK, show.types[0]):
        assert await codes(house, *orders, *seats) == ["row_held", None, "row_held", None]
        assert await codes(house, *orders, *seats) == ["row_held", None, "row_held", None]
    await free_again(house)
    await assert_clean(house)


async def test_an_account_that_is_not_there_is_opened_though_another_is_held(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=0)
    async with holding(owner, HOLD_WALLET, ann):
        assert await codes(house, Deposit(ann, 5), Deposit(bob, 5)) == ["row_held", None]
    await served(house, Deposit(ann, 7))
    assert (await balance(house, ann), await balance(house, bob)) == (7, 5)


async def test_a_held_account_of_the_house_is_not_taken_for_one_to_be_opened(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    async with holding(owner, HOLD_WALLET.replace("'wallet'", "'world'"), world().owner_id):
        assert await codes(house, Deposit(ann, 5)) == ["row_held"]
        assert await codes(house, Deposit(bob, 5), Wish(ann, bob)) == ["row_held", None]


# Coming again -------------------------------------------------------------------------------------


async def test_a_row_that_comes_free_is_served_at_once_and_with_the_same_key(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    async with holding(owner, HOLD_WALLET, ann):
        first = ticket(Wish(ann, bob, 5), "k")
        assert (await house.lanes.run(first)).error is not None
    freed = monotonic()
    await free_again(house)
    assert monotonic() - freed < 1
    assert (await house.run(Wish(ann, bob, 5), key="k")).left == 1_000_000 - 5
    assert (await house.run(Wish(ann, bob, 5), key="k")).left == 1_000_000 - 5
    assert await balance(house, ann) == 1_000_000 - 5


async def test_two_houses_on_one_database_both_learn(
    houses: Houses, people: People, owner: Database
) -> None:
    # Who is second in line waits twice, longer than a write usually may.
    house, other = [await houses(write_deadline_ms=60_000) for _ in range(2)]
    ann, bob, cem, dan = await people(4)
    async with holding(owner, HOLD_WALLET, ann):
        both = await asyncio.gather(
            codes(house, Wish(ann, bob), Wish(bob, dan)),
            codes(other, Wish(ann, cem), Wish(cem, dan)),
        )
        assert both == [["row_held", None], ["row_held", None]]
        began = monotonic()
        assert await codes(other, Wish(ann, cem), Wish(cem, dan)) == ["row_held", None]
        assert monotonic() - began < AT_ONCE_S


async def test_a_batch_that_holds_for_longer_than_half_a_second_causes_no_refusal(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob, cem = await people(3)
    async with holding(owner, HOLD_WALLET, ann):
        waiting = asyncio.create_task(codes(house, Wish(ann, bob), Wish(cem, bob)))
        await somebody_waits(owner)
        await owner.fetchval("SELECT pg_sleep(0.6)")
    assert await waiting == [None, None]
    assert not house.executor.held


# Inside a group -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chain(Command):
    """Moves one đồng from the first user to each of the others in turn."""

    users: tuple[UUID, ...]

    reply = Nothing

    @classmethod
    async def fetch(cls, work: Work, batch: list[Chain]) -> None:  # type: ignore[override]
        await work.books.lock(work.db, {wallet(user) for one in batch for user in one.users})

    def decide(self, work: Work) -> Nothing:
        source = work.books[wallet(self.users[0])]
        for user in self.users[1:]:
            target = work.books[wallet(user)]
            key = f"{work.key}:{user}"
            id = work.books.move(work.new_id(), key, source, target, 1, by=work.by)
            work.emit("tests.Granted", id, Granted(id, source.balance))
        return Nothing()


async def test_neighbours_commit_though_one_met_the_row_after_a_change(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob, cem, dan = await people(4)
    async with holding(owner, HOLD_WALLET, ann):
        done = await codes(house, Chain((bob, cem, ann)), Chain((bob, dan)))
    assert done == ["row_held", None]
    assert await balance(house, bob) == 1_000_000 - 1
    await free_again(house)
    await assert_clean(house)


async def test_what_is_not_there_is_still_not_found_while_something_is_held(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    async with holding(owner, HOLD_WALLET, ann):
        assert await codes(house, Wish(ann, bob), Wish(uuid7(), bob)) == ["row_held", "not_found"]
        async with house.database.transaction() as db:
            await open_accounts(db, [wallet(ann)])
