"""Orders in full, kept in the process for a while and never shown when they have changed.

What is kept of an order is true under its version and that of the catalogue, which are asked for
by key, together with all who ask at the time: a fifth of the work of reading it. Where nothing is
kept it is read at once, in one statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import replace

from strongroom.apps.orders.rows import OrderLine, Recipient, payment_seen
from strongroom.apps.orders.seen import OrderDetail, OrderStep, sql
from strongroom.clock import monotonic
from strongroom.core.db import Database, DatabaseDown, Record
from strongroom.core.guard import Cache, Gather
from strongroom.errors import NotFound

KEPT_S = 30.0
"""How long an order is kept, and so how old it may be while the database is down."""

ORDERS_KEPT, CODES_KEPT = 10_000, 50_000
"""Some 30 MB, and some 10."""

CODES_KEPT_S = 86_400.0
"""A code never changes its order."""


class _Standing(NamedTuple):
    """Under what an order is true."""

    version: int
    catalogue: int


class _Kept(NamedTuple):
    standing: _Standing
    user_id: UUID | None
    order: OrderDetail


class Details:
    """Orders by id and by code."""

    def __init__(self, database: Database, *, deadline_s: float) -> None:
        self._db = database
        self._standing: Gather[UUID, _Standing] = Gather(self._stand, deadline_s=deadline_s)
        self.orders: Cache[_Kept] = Cache(size=ORDERS_KEPT, ttl_s=KEPT_S)
        self.codes: Cache[UUID] = Cache(size=CODES_KEPT, ttl_s=CODES_KEPT_S)

    @property
    def caches(self) -> Mapping[str, Cache[Any]]:
        return {"orders": self.orders, "order_codes": self.codes}

    async def named(self, number: int) -> UUID:
        """The order with this number; NotFound."""
        return await self.codes.get(str(number), lambda: self._name(number))

    async def order(self, order_id: UUID, user_id: UUID | None) -> OrderDetail:
        """An order; of `user_id` alone, and without who took its steps, unless that is None."""
        kept = await self._current(order_id)
        if user_id is None:
            return kept.order
        if kept.user_id != user_id:
            raise NotFound()
        return replace(kept.order, history=[replace(x, by=UNSET) for x in kept.order.history])

    async def _current(self, order_id: UUID) -> _Kept:
        cache, key = self.orders, str(order_id)
        kept = cache.peek(key)
        if kept is not None:
            try:
                standing = await self._standing.get(order_id)
            except DatabaseDown:
                cache.stale += 1
                return kept
            if standing == kept.standing:
                cache.hits += 1
                return kept
        cache.misses += 1
        began = monotonic()
        row = await self._db.fetchrow(sql.order_seen, order_id)
        if row is None:
            raise NotFound()
        standing = _Standing(row["version"], row["catalogue"])
        found = _Kept(standing, row["user_id"], _detail(row))
        cache.put(key, found, began)
        return found

    async def _stand(self, ids: list[UUID]) -> dict[UUID, _Standing]:
        rows = await self._db.fetch(sql.orders_standing, ids)
        return {row["id"]: _Standing(row["version"], row["catalogue"]) for row in rows}

    async def _name(self, number: int) -> UUID:
        found: UUID | None = await self._db.fetchval(sql.order_named, number)
        if found is None:
            raise NotFound()
        return found


def _detail(row: Record) -> OrderDetail:
    lines = [
        OrderLine(product_id, sku, name, quantity, price, quantity * price)
        for product_id, sku, name, quantity, price in row["lines"]
    ]
    history = [OrderStep(status, at, why, by) for status, at, by, why in row["history"]]
    return OrderDetail(
        order_id=row["id"],
        code=row["code"],
        status=row["status"],
        total_amount=row["total_amount"],
        customer=Recipient(row["customer_id"], row["customer_name"], row["phone"], row["address"]),
        items=lines,
        payment=payment_seen(
            row["payment_method"], row["payment_status"], row["id"], row["payment_id"]
        ),
        note=row["note"],
        version=row["version"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        history=history,
    )
