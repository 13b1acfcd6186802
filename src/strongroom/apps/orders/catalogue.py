"""Products as everybody sees them: found, listed, shown, and kept in the process.

What a product says is kept under the version of the catalogue, so a change is seen by whoever asks
after it was committed, on every process. What is available is read once a second for a page; it
is shown with its time and decides nothing. While the database is down what was kept is shown on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from strongroom.apps.orders.rows import ProductSeen
from strongroom.apps.orders.seen import Products, sql
from strongroom.apps.orders.words import words_of
from strongroom.core.db import Database
from strongroom.core.guard import Cache, Version
from strongroom.cursors import Cursors
from strongroom.errors import NotFound

KEPT_S = 300.0
"""How long what a product says lies unasked for."""

PAGES_KEPT_S = 10.0
"""How long what is available may be shown while the database is down."""

AVAILABILITY_S = 1.0
"""How old what is available may be otherwise."""

PRODUCTS_KEPT, LISTS_KEPT, PAGES_KEPT = 20_000, 1_000, 2_000
"""Some tens of megabytes; lists and pages share the products."""

LAST_ID = UUID(int=2**128 - 1)

PUBLIC = (True,)


class ProductsAsked(NamedTuple):
    """What is asked of the list: words in SKU and name, on sale or not."""

    words: str | None = None
    active: tuple[bool, ...] = PUBLIC


class Catalogue:
    """Lists of products, and single ones."""

    def __init__(self, database: Database, cursors: Cursors, *, deadline_s: float) -> None:
        self._db, self._cursors = database, cursors
        self.version = Version(self._read_version, deadline_s=deadline_s)
        self.products: Cache[dict[str, Any]] = Cache(size=PRODUCTS_KEPT, ttl_s=KEPT_S)
        self.lists: Cache[tuple[UUID, ...]] = Cache(size=LISTS_KEPT, ttl_s=KEPT_S)
        self.pages: Cache[list[ProductSeen]] = Cache(
            size=PAGES_KEPT, ttl_s=PAGES_KEPT_S, fresh_s=AVAILABILITY_S
        )

    @property
    def caches(self) -> Mapping[str, Cache[Any]]:
        return {"products": self.products, "product_lists": self.lists, "product_pages": self.pages}

    async def page(self, asked: ProductsAsked, cursor: str | None, limit: int) -> Products:
        """A page of products, newest first; Invalid for a cursor that is not of this list."""
        before = LAST_ID
        if cursor is not None:
            before = self._cursors.read(cursor, "products", asked, UUID)
        version = await self.version.now()
        key = f"{version}:{msgspec.json.encode((asked, before, limit)).decode()}"
        ids = await self.lists.get(key, partial(self._find, asked, before, limit))
        items = await self.pages.get(key, partial(self._shown, version, ids))
        more = self._cursors.sign("products", asked, ids[-1]) if len(ids) == limit else None
        return Products(items, more)

    async def product(self, product_id: UUID) -> ProductSeen:
        """A product, whether it is on sale or not; NotFound."""
        version = await self.version.now()
        shown = partial(self._shown, version, (product_id,))
        found = await self.pages.get(f"{version}:{product_id}", shown)
        if not found:
            raise NotFound()
        return found[0]

    async def _read_version(self) -> int:
        found: int = await self._db.fetchval(sql.catalogue_version)
        return found

    async def _find(self, asked: ProductsAsked, before: UUID, limit: int) -> tuple[UUID, ...]:
        args = [True in asked.active, False in asked.active, before, limit]
        if asked.words is None:
            rows = await self._db.fetch(sql.products_newest, *args)
        else:
            words = words_of(await self._db.fetchval(sql.plain, asked.words))
            if words.is_empty:
                return ()
            rows = await self._db.fetch(
                sql.products_found, *args, *words.indexed, list(words.patterns)
            )
        return tuple(row["id"] for row in rows)

    async def _shown(self, version: int, ids: Sequence[UUID]) -> list[ProductSeen]:
        """The products with what is available of them now."""
        said = await self.products.many({id: f"{version}:{id}" for id in ids}, self._read)
        rows = await self._db.fetch(sql.free_pieces, list(said)) if said else ()
        free = {row["product_id"]: row for row in rows}
        return [
            ProductSeen(**said[id], available=free[id]["available"], as_of=free[id]["as_of"])
            for id in ids
            if id in said
        ]

    async def _read(self, ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
        rows = await self._db.fetch(sql.products_seen, ids)
        return {row["product_id"]: dict(row) for row in rows}
