"""Placing orders under row locks, each request in a transaction of its own.

SELECT … FOR UPDATE of the stock rows, sorted, so that there is no deadlock; check; insert customer,
order, lines, history, and a code from a sequence; decrement; COMMIT. The tables are the house's, so
their indexes weigh the same; a pool of 20.

It does what a group does for its commands: the key is claimed and the answer stored, the event is
written, all before COMMIT. In its favour stock is a counter: no piece moves in double entry, and
nobody notes that the day's rollups are stale.

    python -m strongroom.lab.baselines.orders PORT DATA_DIR
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from strongroom.apps.orders.numbers import code_of
from strongroom.apps.orders.orders import NotForSale, PlaceOrder, Recipient, StockHeld
from strongroom.apps.orders.products import OutOfStock
from strongroom.apps.orders.rows import OrderPlaced
from strongroom.core.commands import Command, Reply, Ticket
from strongroom.core.db import Connection, Queries, Record
from strongroom.doors.http.server import bound, serve
from strongroom.errors import NotFound
from strongroom.ids import uuid7
from strongroom.lab.baselines.row_at_a_time import RowAtATime, SpecifiedHouse
from strongroom.main import Strongroom

sql = Queries(__package__, "orders.sql")


class RowLocked(RowAtATime):
    """Holds the stock of a cart from the check to COMMIT."""

    async def _act(self, db: Connection, ticket: Ticket, command: Command) -> Reply:
        if isinstance(command, PlaceOrder):
            return await self._order(db, command, ticket.principal)
        return await super()._act(db, ticket, command)

    async def _order(self, db: Connection, order: PlaceOrder, by: str) -> OrderPlaced:
        said = order.customer
        assert isinstance(said, Recipient) and order.method == "COD", "what the bench asks"
        wanted: Counter[UUID] = Counter()
        for product_id, quantity in order.lines:
            wanted[product_id] += quantity
        # Before stock is held: what need not wait for it does not make others wait.
        known = await db.fetchrow(sql.customer_of_phone, said.phone)
        stock = await db.fetch(sql.lock_stock, sorted(wanted))
        # All is checked before anything is written: a refusal commits, with its stored answer.
        check(stock, wanted)
        customer = known or await _made(db, said, by)
        id = uuid7()
        code = code_of(await db.fetchval(sql.add_code, id))
        total = sum(row["price"] * wanted[row["id"]] for row in stock)
        whom = customer["id"], said.name, said.phone
        where = order.address or said.address or customer["address"]
        paid = total, order.method, order.ttl_s
        await db.execute(sql.add_order, id, code, order.user_id, *whom, where, order.note, *paid)
        for row in stock:
            quantity = wanted[row["id"]]
            await db.execute(sql.add_line, id, row["id"], quantity, row["price"])
            await db.execute(sql.take_stock, row["account"], quantity)
        await db.execute(sql.add_history, id, by)
        lines = [(row["id"], wanted[row["id"]], row["price"]) for row in stock]
        held = StockHeld(id, code, customer["id"], total, lines)
        await db.execute(sql.add_event, id, uuid7(), msgspec.json.encode(held).decode())
        return OrderPlaced(id, code, "PENDING", total)


def check(stock: Sequence[Record], wanted: Counter[UUID]) -> None:
    """All that may refuse an order."""
    missing = wanted.keys() - {row["id"] for row in stock}
    if missing:
        raise NotFound(f"There is no product {min(missing)}.")
    for row in stock:
        if not row["active"]:
            raise NotForSale(f"{row['sku']} is not sold now.")
    for row in stock:
        if row["available"] < wanted[row["id"]]:
            raise OutOfStock(f"Of {row['sku']} {row['available']} are free.")


async def _made(db: Connection, said: Recipient, by: str) -> Record:
    """The customer of a new phone number; the other's, who was faster."""
    new = uuid7(), said.phone, said.name, said.email, said.address, by
    row = await db.fetchrow(sql.add_customer, *new)
    row = row or await db.fetchrow(sql.customer_of_phone, said.phone)
    assert row is not None, "what was in the way of one statement is there for the next"
    return row


class RowLockedHouse(SpecifiedHouse):
    """The house with row locks in the place of the groups."""

    async def __aenter__(self) -> Strongroom:
        await super().__aenter__()
        self.lanes = RowLocked(self)
        return self


if __name__ == "__main__":
    port, folder = sys.argv[1:]
    serve(RowLockedHouse(data_dir=Path(folder)), bound("127.0.0.1", int(port)))
