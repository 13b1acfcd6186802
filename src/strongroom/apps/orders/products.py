"""Products and their stock: what may be ordered, and how much of it there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from msgspec import UNSET, UnsetType

from strongroom.apps.orders.rows import (
    PRODUCTS,
    Product,
    ProductSeen,
    StockSeen,
    outside,
    pieces,
    sql,
)
from strongroom.core.commands import Command, Reply, Work
from strongroom.core.ledger import AccountKey, open_accounts
from strongroom.errors import NotFound, Refused, invalid

MOST_PIECES = 1_000_000_000
"""Received or adjusted at once: beyond any shop, and sums stay far within 64 bits."""

LOW_STOCK_AT = 10
"""So few are worth a warning, where a product says nothing else."""


class SkuTaken(Refused):
    """Another product has this SKU."""


class OutOfStock(Refused):
    """Not that many pieces are free."""


class ProductMoved(Reply, frozen=True):
    """A product was added or edited."""

    product_id: UUID
    sku: str


class StockMoved(Reply, frozen=True):
    """Pieces came, or were found to be more or fewer."""

    product_id: UUID
    kind: Literal["receive", "adjust"]
    quantity: int
    reason: str
    available: int


def shelves(product_id: UUID) -> list[AccountKey]:
    """All accounts of a product's pieces."""
    id = product_id
    return [pieces(id, "free"), pieces(id, "held"), pieces(id, "sold"), outside(id)]


def _seen(work: Work, product: Product) -> ProductSeen:
    return ProductSeen(
        product_id=product.id,
        sku=product.sku,
        name=product.name,
        price=product.price,
        active=product.active,
        available=work.books[pieces(product.id, "free")].balance,
        as_of=work.now,
        low_stock_at=product.low_stock_at,
    )


def _changed(work: Work, product: Product, what: str) -> ProductSeen:
    work.run_at_end(sql.catalogue_changed)
    work.emit(f"orders.{what}", product.id, ProductMoved(product.id, product.sku))
    return _seen(work, product)


@dataclass(frozen=True, slots=True)
class CreateProduct(Command):
    """Adds a product, with nothing in stock. Refuses with SkuTaken."""

    sku: str
    name: str
    price: int
    active: bool = True
    low_stock_at: int = LOW_STOCK_AT

    reply = ProductSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[CreateProduct]) -> None:
        wanted = sorted({new.sku for new in batch})
        work.noted["skus"] = {row[0] for row in await work.db.fetch(sql.skus_taken, wanted)}
        # Exactly one product comes of each SKU that is new: its accounts are opened with it.
        fresh = set(wanted) - work.noted["skus"]
        work.noted["ids"] = ids = [work.new_id() for _ in fresh]
        if not ids:
            return
        keys = [key for id in ids for key in shelves(id)]
        await open_accounts(work.db, keys)
        await work.books.lock(work.db, keys)

    def decide(self, work: Work) -> ProductSeen:
        if self.sku in work.noted["skus"]:
            raise SkuTaken()
        work.noted["skus"].add(self.sku)
        id = work.noted["ids"].pop()
        product = Product(id, self.sku, self.name, self.price, self.active, self.low_stock_at)
        work.add(PRODUCTS, product)
        return _changed(work, product, "ProductCreated")


async def _hold(work: Work, ids: Iterable[UUID]) -> None:
    """Locks products by their accounts, and reads them."""
    # The world's account of a product opens when it is asked for: not for what is none.
    known = [row["id"] for row in await work.db.fetch(sql.read_products, sorted(set(ids)))]
    await work.books.lock(work.db, [key for id in known for key in shelves(id)])
    await work.see(PRODUCTS, sql.read_products, known)


@dataclass(frozen=True, slots=True)
class EditProduct(Command):
    """Changes what is given. Orders that are placed keep their prices. Refuses with SkuTaken."""

    product_id: UUID
    sku: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    price: int | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    low_stock_at: int | UnsetType = UNSET

    reply = ProductSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[EditProduct]) -> None:
        await _hold(work, (edit.product_id for edit in batch))
        wanted = sorted({edit.sku for edit in batch if isinstance(edit.sku, str)})
        work.noted["skus"] = {row[0] for row in await work.db.fetch(sql.skus_taken, wanted)}

    def decide(self, work: Work) -> ProductSeen:
        product = work.get(PRODUCTS, self.product_id)
        if self.sku is not UNSET and self.sku != product.sku:
            if self.sku in work.noted["skus"]:
                raise SkuTaken()
            work.noted["skus"].add(self.sku)
            product.sku = self.sku
        if self.name is not UNSET:
            product.name = self.name
        if self.price is not UNSET:
            product.price = self.price
        if self.active is not UNSET:
            product.active = self.active
        if self.low_stock_at is not UNSET:
            product.low_stock_at = self.low_stock_at
        work.change(PRODUCTS, product)
        return _changed(work, product, "ProductEdited")


@dataclass(frozen=True, slots=True)
class MoveStock(Command):
    """Receives pieces, or corrects how many there are by a signed quantity. Only free pieces can
    be taken away: refuses with OutOfStock."""

    product_id: UUID
    kind: Literal["receive", "adjust"]
    quantity: int
    reason: str

    reply = StockSeen

    @classmethod
    async def fetch(cls, work: Work, batch: Sequence[MoveStock]) -> None:
        await _hold(work, (move.product_id for move in batch))

    def decide(self, work: Work) -> StockSeen:
        product = work.get(PRODUCTS, self.product_id)
        if self.quantity == 0 or (self.kind == "receive" and self.quantity < 0):
            raise invalid("quantity", "is 1 or more; to adjust, also below 0")
        free, beyond = work.books[pieces(product.id, "free")], work.books[outside(product.id)]
        if free.balance + self.quantity < 0:
            raise OutOfStock(f"Of {product.sku} {free.balance} pieces are free to take away.")
        product.supplies += 1
        work.change(PRODUCTS, product)
        key, type = ("SUPPLY", "SUPPLY") if self.kind == "receive" else ("ADJUST", "ADJUSTMENT")
        source, target = (beyond, free) if self.quantity > 0 else (free, beyond)
        work.books.move(
            work.new_id(),
            f"{key}:{product.id}:{product.supplies}",
            source,
            target,
            abs(self.quantity),
            (type, type),  # type: ignore[arg-type]
            by=work.by,
            reference=self.reason,
        )
        moved = StockMoved(product.id, self.kind, self.quantity, self.reason, free.balance)
        work.emit("orders.StockMoved", product.id, moved)
        return _stock(work, product.id)


def _stock(work: Work, id: UUID) -> StockSeen:
    free = work.books[pieces(id, "free")]
    held, sold = work.books[pieces(id, "held")], work.books[pieces(id, "sold")]
    return StockSeen(free.balance, held.balance, sold.balance, free.seq)


def check_there(work: Work, ids: Iterable[UUID]) -> list[Product]:
    """The products; NotFound says which of them is none."""
    found = []
    for id in ids:
        product = work.find(PRODUCTS, id)
        if product is None:
            raise NotFound(f"There is no product {id}.")
        found.append(product)
    return found
