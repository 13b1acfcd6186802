"""What is shown of orders: lists, search, single ones; of customers; of products and their stock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from strongroom import clock
from strongroom.apps.orders.asked import Asked
from strongroom.apps.orders.catalogue import LAST_ID, Catalogue
from strongroom.apps.orders.details import Details
from strongroom.apps.orders.numbers import number_of
from strongroom.apps.orders.rows import CustomerSeen, Shelf, pieces, unit
from strongroom.apps.orders.seen import (
    Buyer,
    Customers,
    OrderDetail,
    OrderListed,
    Orders,
    Payment,
    Stock,
    StockEntries,
    StockEntry,
    sql,
)
from strongroom.apps.orders.words import Words, words_of
from strongroom.core.db import Database, Record
from strongroom.core.guard import Cache
from strongroom.core.ledger import Statements
from strongroom.cursors import Cursors
from strongroom.errors import NotFound, invalid

SLACK = timedelta(minutes=10)
"""How far a process's clock, which an id is of, may be off the database's, which dates it. So much
is read in vain at the end of a range: of a day that would be thousands of orders."""

LOOKED_AT = 3_000
"""Of a search: so many of the newest are read before the index of words is asked. A frequent word
fills a page there; by the index it would be found in every tenth order there ever was."""

OF_ONE = 1_000_000
"""Orders of one user or customer are read, not searched."""

FEW = 500
"""So many orders of a status in a month are read sooner than words are found in the month."""

FIRST_ID = UUID(int=0)


class _Bounds(NamedTuple):
    """Between which ids, and which moments, orders are looked for; the ends excluded."""

    low: UUID
    high: UUID
    since: datetime
    until: datetime


class Reading:
    """The room's reads. Holds no lock; what it shows was committed."""

    def __init__(self, database: Database, cursors: Cursors, *, deadline_s: float) -> None:
        self._db, self._cursors = database, cursors
        self._statements = Statements(database)
        self.catalogue = Catalogue(database, cursors, deadline_s=deadline_s)
        self.details = Details(database, deadline_s=deadline_s)

    @property
    def caches(self) -> Mapping[str, Cache[Any]]:
        return {**self.catalogue.caches, **self.details.caches}

    # Orders ---------------------------------------------------------------------------------------

    async def order(self, named: str, user_id: UUID | None) -> OrderDetail:
        """An order by its id or its code, in any case; of `user_id` alone, unless that is None."""
        number = number_of(named)
        if number is not None:
            return await self.details.order(await self.details.named(number), user_id)
        return await self.details.order(_id(named), user_id)

    async def orders(self, asked: Asked, cursor: str | None, limit: int) -> Orders:
        """A page of orders, newest first; Invalid for a cursor of another list or question."""
        before = LAST_ID
        if cursor is not None:
            before = self._cursors.read(cursor, "orders", asked, UUID)
        rows = await self._listed(asked, before, limit)
        items = [_order_listed(row) for row in rows]
        more = items[-1].order_id if len(items) == limit else None
        return Orders(items, self._cursors.sign("orders", asked, more) if more else None)

    async def _listed(self, asked: Asked, before: UUID, limit: int) -> Sequence[Record]:
        bounds = _bounds(asked, before)
        if asked.words is None:
            return await self._near(asked, bounds, Words(()), limit)
        words = words_of(await self._db.fetchval(sql.plain, asked.words), codes=True)
        if words.is_empty:
            return []
        if words.number is not None:
            named = await self._db.fetchval(sql.order_named, words.number)
            if named is None or not bounds.low <= named < bounds.high:
                return []
            alone = bounds._replace(low=named, high=UUID(int=named.int + 1))
            return await self._near(asked, alone, words, limit)
        found = await self._near(asked, bounds, words, limit)
        if len(found) == limit or asked.user_id or asked.customer_id:
            return found
        if found:
            bounds = bounds._replace(high=found[-1]["id"])
        return [*found, *await self._far(asked, bounds, words, limit - len(found))]

    async def _near(
        self, asked: Asked, bounds: _Bounds, words: Words, limit: int
    ) -> Sequence[Record]:
        """Orders along the index of what they are of, from the newest on; words are compared."""
        one = asked.user_id or asked.customer_id or words.number
        look = limit if not words.patterns else OF_ONE if one else LOOKED_AT
        args: list[Any] = [*bounds, look, list(words.patterns), limit]
        if asked.customer_id:
            args += [asked.status, asked.user_id, asked.customer_id]
            return await self._db.fetch(sql.orders_of_customer, *args)
        if asked.user_id:
            return await self._db.fetch(sql.orders_of_user, *args, asked.status, asked.user_id)
        if asked.status:
            return await self._db.fetch(sql.orders_of_status, *args, asked.status)
        return await self._db.fetch(sql.orders_newest, *args)

    async def _far(
        self, asked: Asked, bounds: _Bounds, words: Words, limit: int
    ) -> Sequence[Record]:
        """Orders by the index of words, a month at a time from the newest on."""
        oldest = await self._db.fetchval(sql.oldest_order, bounds.low)
        if oldest is None or oldest >= bounds.high:
            return []
        months = _months(oldest, bounds.high)
        lows = [max(low, bounds.low) for low, _ in months]
        highs = [min(high, bounds.high) for _, high in months]
        args = [lows, highs, *words.indexed, list(words.patterns), bounds.since, bounds.until]
        if asked.status:
            query = sql.orders_found_of_status
            return await self._db.fetch(query, *args, limit, asked.status, FEW)
        return await self._db.fetch(sql.orders_found, *args, limit)

    # Customers ------------------------------------------------------------------------------------

    async def customer(self, customer_id: UUID) -> CustomerSeen:
        """A customer; NotFound."""
        row = await self._db.fetchrow(sql.customer_seen, customer_id)
        if row is None:
            raise NotFound()
        return _customer(row)

    async def customers(self, words: str | None, cursor: str | None, limit: int) -> Customers:
        """A page of customers, newest first; Invalid for a cursor of another list or question."""
        before = LAST_ID
        if cursor is not None:
            before = self._cursors.read(cursor, "customers", words, UUID)
        items = [_customer(row) for row in await self._customers(words, before, limit)]
        more = items[-1].customer_id if len(items) == limit else None
        return Customers(items, self._cursors.sign("customers", words, more) if more else None)

    async def customer_of_phone(self, phone: str) -> Customers:
        """The customer with this number in E.164, if there is one."""
        rows = await self._db.fetch(sql.customer_of_phone, phone)
        return Customers([_customer(row) for row in rows], None)

    async def _customers(self, words: str | None, before: UUID, limit: int) -> Sequence[Record]:
        if words is None:
            return await self._db.fetch(sql.customers_newest, before, limit, [], limit)
        asked = words_of(await self._db.fetchval(sql.plain, words))
        if asked.is_empty:
            return []
        patterns = list(asked.patterns)
        found = await self._db.fetch(sql.customers_newest, before, LOOKED_AT, patterns, limit)
        if len(found) == limit:
            return found
        before = found[-1]["id"] if found else before
        args = (before, patterns, limit - len(found), *asked.indexed)
        return [*found, *await self._db.fetch(sql.customers_found, *args)]

    # Stock ----------------------------------------------------------------------------------------

    async def stock(self, product_id: UUID, *, hidden: bool) -> Stock:
        """Where the pieces of a product are; products that are not on sale where `hidden`."""
        row = await self._db.fetchrow(sql.stock, product_id, unit(product_id))
        if row is None or not (row["active"] or hidden):
            raise NotFound()
        return Stock(row["available"], row["held"], row["sold"])

    async def stock_at(self, product_id: UUID, at: datetime, *, hidden: bool) -> Stock:
        """The same at a past time, by the database's clock; Invalid when it is none."""
        row = await self._db.fetchrow(sql.stock_at, product_id, unit(product_id), at)
        if row is None or not (row["active"] or hidden):
            raise NotFound()
        if not row["is_past"]:
            raise invalid("at", "has not come yet")
        return Stock(row["available"], row["held"], row["sold"], at)

    async def stock_entries(
        self, product_id: UUID, shelf: Shelf, after: int, limit: int, *, hidden: bool
    ) -> StockEntries:
        """Movements with seq > `after`, ascending; where `hidden`, also for whom they were."""
        active = await self._db.fetchval(sql.product_active, product_id)
        if active is None or not (active or hidden):
            raise NotFound()
        rows = await self._statements.entries(pieces(product_id, shelf), after, limit)
        items = [_entry(row, hidden) for row in rows]
        return StockEntries(items, str(items[-1].seq) if len(items) == limit else None)


def _bounds(asked: Asked, before: UUID) -> _Bounds:
    """Nothing lies ahead of tomorrow: the months that are made for later are not opened."""
    since = asked.since or datetime.min.replace(tzinfo=UTC)
    until = asked.until or datetime.max.replace(tzinfo=UTC)
    low = _first_id(asked.since - SLACK) if asked.since else FIRST_ID
    newest = clock.now() if asked.until is None else min(asked.until, clock.now())
    return _Bounds(low, min(before, _first_id(newest + SLACK)), since, until)


def _first_id(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def _months(oldest: UUID, end: UUID) -> list[tuple[UUID, UUID]]:
    """Ids of the months from `oldest` to before `end`, in UTC as the partitions are, the newest
    first."""
    month = datetime.fromtimestamp((oldest.int >> 80) / 1000, UTC)
    month = month.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = []
    while (low := _first_id(month)) < end:
        month = (month + timedelta(days=32)).replace(day=1)
        found.append((low, _first_id(month)))
    return found[::-1]


def _id(named: str) -> UUID:
    """An id as we write them, not in one of the other forms that UUID takes."""
    try:
        found = UUID(named)
    except ValueError:
        raise NotFound() from None
    if str(found) != named.lower():
        raise NotFound()
    return found


def _order_listed(row: Record) -> OrderListed:
    return OrderListed(
        order_id=row["id"],
        code=row["code"],
        status=row["status"],
        total_amount=row["total_amount"],
        customer=Buyer(row["customer_id"], row["customer_name"], row["phone"]),
        payment=Payment(row["payment_method"], row["payment_status"]),
        created_at=row["created_at"],
    )


def _customer(row: Record) -> CustomerSeen:
    return CustomerSeen(
        customer_id=row["id"],
        name=row["name"],
        phone=row["phone"],
        email=row["email"],
        address=row["address"],
    )


def _entry(row: Record, hidden: bool) -> StockEntry:
    return StockEntry(
        seq=row["seq"],
        amount=row["amount"],
        balance_after=row["balance_after"],
        type=row["type"],
        reference=row["reference"] if hidden else None,
        idempotent_key=row["idempotent_key"] if hidden else None,
        created_by=row["created_by"] if hidden else None,
        created_at=row["created_at"],
    )
