"""The stock of a past moment, where many had moved it at once."""

from __future__ import annotations

import asyncio

from playing import Houses
from storefront import new_product, place, take
from strongroom.apps.orders.rows import pieces
from strongroom.core.db import Database
from strongroom.main import Strongroom

RECEIVED = 1_000
BUYERS = 16
ORDERS_EACH = 6


async def test_at_every_past_moment_all_pieces_are_somewhere(
    houses: Houses, owner: Database
) -> None:
    """Transactions of two houses overlap: by their numbers, entries are not in the order of their
    times, and each account would be off by others."""
    shops = [await houses(), await houses()]
    shirt = await new_product(shops[0], RECEIVED)

    async def buy(shop: Strongroom) -> None:
        for _ in range(ORDERS_EACH):
            placed = await place(shop, (shirt, 1))
            await take(shop, placed.order_id, "confirm", "ship")

    await asyncio.gather(*(buy(shops[number % 2]) for number in range(BUYERS)))

    moments = await owner.fetch(
        "SELECT DISTINCT created_at FROM ledger.transfers WHERE unit = $1",
        pieces(shirt, "free").unit,
    )
    assert len(moments) > BUYERS
    for (moment,) in moments:
        found = [
            await shops[0].statements.balance_at(pieces(shirt, shelf), moment)
            for shelf in ("free", "held", "sold")
        ]
        assert sum(found) == RECEIVED, moment
