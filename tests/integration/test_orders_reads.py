"""What the orders application shows of products, stock and customers, and what over HTTP to whom."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from past_orders import Shop, open_shop, placed
from playing import Houses, code_of
from storefront import new_product, take
from storefront import place as place_order
from strongroom.apps.orders import reading as reading_module
from strongroom.apps.orders.catalogue import AVAILABILITY_S, ProductsAsked
from strongroom.apps.orders.customers import CreateCustomer
from strongroom.apps.orders.products import EditProduct, MoveStock
from strongroom.apps.orders.reading import Reading
from strongroom.apps.orders.rows import pieces
from strongroom.clock import monotonic
from strongroom.core.db import Database
from strongroom.core.ledger import AccountKey
from strongroom.doors.http.orders_reads import ORDERS_READS
from strongroom.doors.http.routing import table
from strongroom.doors.http.seen import Seen
from strongroom.ids import uuid7
from strongroom.main import Strongroom

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def reading(house: Strongroom) -> Reading:
    return house.orders


@pytest.fixture
async def shop(owner: Database) -> Shop:
    return await open_shop(owner, (NOW - timedelta(days=120)).date())


# Products ---------------------------------------------------------------------------------------


async def named(reading: Reading, words: str | None = None, **asked: Any) -> list[str]:
    page = await reading.catalogue.page(ProductsAsked(words, **asked), None, 50)
    return [one.sku for one in page.items]


async def test_products_are_found_by_fragments_of_sku_and_name(
    reading: Reading, house: Strongroom
) -> None:
    await new_product(house, sku="AO-01")
    await new_product(house, sku="MU-7", active=False)
    for words in ("ao-01", "AO", "Áo", "ao dai", "dài áo", "o-01", "AI"):
        assert await named(reading, words) == (["AO-01"] if words != "AI" else [])
    assert await named(reading, "dai", active=(True, False)) == ["MU-7", "AO-01"]
    assert await named(reading, active=(False,)) == ["MU-7"]
    for words in ("%", "_", "zzz", "' --", "ao zzz"):
        assert await named(reading, words) == []


async def test_a_walk_through_products_goes_on_while_some_are_added(
    reading: Reading, house: Strongroom
) -> None:
    before = [await new_product(house, 0) for _ in range(7)][::-1]
    found, cursor = [], None
    while True:
        page = await reading.catalogue.page(ProductsAsked(), cursor, 3)
        found += [one.product_id for one in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        await new_product(house, 0)
    assert found == before
    cursor = (await reading.catalogue.page(ProductsAsked(), None, 3)).next_cursor
    foreign = reading.catalogue.page(ProductsAsked("ao"), cursor, 3)
    assert await code_of(foreign) == "invalid"


async def test_a_change_of_a_product_is_seen_by_the_very_next_read_of_every_process(
    houses: Houses,
) -> None:
    one, other = await houses(), await houses()
    readings = [one.orders, other.orders]
    product = await new_product(one)
    for number, house in enumerate((one, other, one, other)):
        await house.run(EditProduct(product, name=f"tên {number}"))
        for reading in readings:
            assert (await reading.catalogue.product(product)).name == f"tên {number}"
            [seen] = (await reading.catalogue.page(ProductsAsked(), None, 50)).items
            assert seen.name == f"tên {number}"
    await other.run(EditProduct(product, active=False))
    assert await named(readings[0]) == []
    assert await code_of(readings[0].catalogue.product(uuid7())) == "not_found"


async def test_what_is_available_is_a_second_old_at_most_and_read_once_for_all(
    reading: Reading, house: Strongroom
) -> None:
    product = await new_product(house, 10)
    assert (await reading.catalogue.product(product)).available == 10
    await house.run(MoveStock(product, "adjust", -4, "broken"))
    moved, began = await house.database.fetchval("SELECT clock_timestamp()"), monotonic()
    while (seen := await reading.catalogue.product(product)).as_of < moved:
        assert monotonic() - began < AVAILABILITY_S + 0.5
        await asyncio.sleep(0.02)
    assert seen.available == 6
    pages = reading.catalogue.pages
    before = pages.misses
    await asyncio.gather(*(named(reading) for _ in range(200)))
    assert pages.misses - before <= 2 and pages.hits + pages.joined > 150


# Stock ------------------------------------------------------------------------------------------


async def test_stock_is_shown_as_it_is_and_as_it_was(reading: Reading, house: Strongroom) -> None:
    born = await house.database.fetchval("SELECT clock_timestamp()")
    product = await new_product(house, 10)
    made = await place_order(house, (product, 3))
    held = await house.database.fetchval("SELECT clock_timestamp()")
    await take(house, made.order_id, "confirm", "ship")

    now = await reading.stock(product, hidden=False)
    then = await reading.stock_at(product, held, hidden=False)

    assert (now.available, now.held, now.sold) == (7, 0, 3)
    assert (then.available, then.held, then.sold, then.at) == (7, 3, 0, held)
    before = await reading.stock_at(product, born, hidden=False)
    assert (before.available, before.held, before.sold) == (0, 0, 0)
    assert b'"at"' not in msgspec.json.encode(now)
    ahead = held + timedelta(hours=1)
    assert await code_of(reading.stock_at(product, ahead, hidden=True)) == "invalid"


async def test_movements_tell_operators_alone_for_whom_they_were(
    reading: Reading, house: Strongroom
) -> None:
    product = await new_product(house, 10)
    made = await place_order(house, (product, 3))
    seen = await reading.stock_entries(product, "free", 0, 50, hidden=False)
    assert [(one.type, one.amount, one.balance_after) for one in seen.items] == [
        ("SUPPLY", 10, 10),
        ("HOLD", -3, 7),
    ]
    for one in seen.items:
        assert (one.reference, one.idempotent_key, one.created_by) == (None, None, None)
    [entry] = (await reading.stock_entries(product, "held", 0, 50, hidden=True)).items
    assert (entry.reference, entry.amount) == (made.code, 3)
    assert entry.created_by and entry.idempotent_key
    first = await reading.stock_entries(product, "free", 0, 1, hidden=False)
    rest = await reading.stock_entries(product, "free", int(first.next_cursor or 0), 1, hidden=True)
    assert [one.seq for one in first.items + rest.items] == [1, 2]


async def test_stock_of_what_is_not_on_sale_is_for_operators(
    reading: Reading, house: Strongroom
) -> None:
    product, at = await new_product(house, 1, active=False), NOW
    for id, hidden, said in ((product, False, "not_found"), (uuid7(), True, "not_found")):
        assert await code_of(reading.stock(id, hidden=hidden)) == said
        assert await code_of(reading.stock_at(id, at, hidden=hidden)) == said
        assert await code_of(reading.stock_entries(id, "free", 0, 9, hidden=hidden)) == said
    assert (await reading.stock(product, hidden=True)).available == 1


async def dated(owner: Database, key: AccountKey, moments: list[datetime]) -> None:
    """Entries of one account that were dated so, in this order; each balance is its own seq."""
    await owner.fetch(
        "WITH account AS (INSERT INTO ledger.accounts (owner_id, purpose, unit, balance, seq)"
        " VALUES ($1, $2, $3, $4, $4) RETURNING id), moved AS ("
        " INSERT INTO ledger.transfers (id, key, unit, created_by, created_at)"
        " SELECT ('01900000-0000-7000-8000-' || substr($1::text, 25, 4) || lpad(to_hex(n), 8, '0'))"
        " ::uuid, $1::text || n, $3, 'test', at"
        " FROM unnest($5::timestamptz[]) WITH ORDINALITY AS t (at, n) RETURNING id, key)"
        " INSERT INTO ledger.entries SELECT account.id, n, moved.id, 1, n, 'SUPPLY'"
        " FROM account, moved, LATERAL (SELECT substr(moved.key, 37)::bigint AS n) s",
        *key,
        len(moments),
        moments,
    )


async def test_the_past_is_found_among_entries_whose_dates_are_only_nearly_in_order(
    house: Strongroom, owner: Database
) -> None:
    """Against the definition: the sum of what was moved until then."""
    rnd = random.Random(11)
    for size, apart_s, late_s in ((0, 1, 0), (1, 1, 0), (2, 9, 9), (90, 1, 119), (300, 20, 60)):
        began, moments = NOW - timedelta(days=1), []
        for number in range(size):
            locked = began + timedelta(seconds=number * apart_s)
            moments.append(locked - timedelta(seconds=rnd.uniform(0, late_s)))
        key = pieces(uuid7(), "free")
        await dated(owner, key, moments)
        asked = [began - timedelta(days=1), NOW, *moments[:: max(1, size // 20)]]
        asked += [
            rnd.choice(moments or [NOW]) + timedelta(seconds=rnd.uniform(-200, 200))
            for _ in range(60)
        ]
        for at in asked:
            plain = sum(made <= at for made in moments)
            assert await house.statements.balance_at(key, at) == plain, (size, at)


async def test_the_past_of_an_account_is_found_by_halving(owner: Database) -> None:
    """Thousands of entries back, and few of them are looked at."""
    key, size = pieces(uuid7(), "sold"), 20_000
    await dated(owner, key, [NOW - timedelta(minutes=size - n) for n in range(size)])
    await owner.fetch("ANALYZE ledger.entries, ledger.transfers, ledger.accounts")
    rows = await owner.fetch(
        "EXPLAIN (ANALYZE, BUFFERS) SELECT ledger.balance_at(id, $2) FROM ledger.accounts"
        " WHERE owner_id = $1",
        key.owner_id,
        NOW - timedelta(minutes=size - 7),
    )
    touched = re.search(r"shared hit=(\d+)", "\n".join(row[0] for row in rows))
    assert touched and int(touched[1]) < 2_000


# Customers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("looked_at", [3_000, 1])
async def test_customers_are_found_by_name_and_number_in_pages(
    reading: Reading, house: Strongroom, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "LOOKED_AT", looked_at)
    made = [
        await house.run(CreateCustomer(f"+8491234567{number}", f"Trần Đức {number}"))
        for number in range(5)
    ]
    ids = [one.customer_id for one in made][::-1]
    for words, expected in (
        (None, ids),
        ("tran duc", ids),
        ("Đức", ids),
        ("0912 345 673", ids[1:2]),
        ("zzz", []),
        ("%", []),
    ):
        found, cursor = [], None
        while True:
            page = await reading.customers(words, cursor, 2)
            found += [one.customer_id for one in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == expected, words
    [one] = (await reading.customer_of_phone("+84912345673")).items
    assert one == await reading.customer(ids[1]) == made[3]
    assert await code_of(reading.customer(uuid7())) == "not_found"


# Over HTTP --------------------------------------------------------------------------------------


class Desk:
    """One caller's view, through the routes' table."""

    def __init__(self, house: Strongroom, token: str | None) -> None:
        self._token = token
        self._through: Any = table(house, Seen(), ORDERS_READS)

    async def ask(self, path: str) -> tuple[int, Any]:
        sent: list[Any] = []
        bare, _, query = path.partition("?")
        offered = [(b"authorization", f"Bearer {self._token}".encode())] if self._token else []
        scope = {
            "type": "http",
            "method": "GET",
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "headers": offered,
            "client": ("127.0.0.1", 1),
        }

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._through(scope, receive, send)
        return sent[0]["status"], msgspec.json.decode(sent[1]["body"])


class Desks(NamedTuple):
    """What a stranger, a user and an operator see."""

    stranger: Desk
    user: Desk
    operator: Desk
    user_id: UUID


@pytest.fixture
async def desks(house: Strongroom) -> Desks:
    [(user_id, user)] = await house.identity.create_users(1, "user")
    [(_, operator)] = await house.identity.create_users(1, "operator")
    return Desks(Desk(house, None), Desk(house, user), Desk(house, operator), user_id)


async def test_every_read_is_for_those_whom_it_is_for(desks: Desks, house: Strongroom) -> None:
    product = await new_product(house, 5)
    hidden = await new_product(house, 5, active=False)
    mine = await place_order(house, (product, 1), user=desks.user_id)
    other = await place_order(house, (product, 1))
    customer = (await house.orders.order(mine.code, None)).customer.customer_id
    for path, *expected in (
        ("/api/products", 200, 200, 200),
        (f"/api/products/{product}", 200, 200, 200),
        (f"/api/products/{hidden}", 404, 404, 200),
        ("/api/products?active=false", 403, 403, 200),
        (f"/api/products/{product}/stock", 401, 200, 200),
        (f"/api/products/{hidden}/stock", 401, 404, 200),
        (f"/api/products/{product}/stock/entries?account=held", 401, 200, 200),
        ("/api/orders", 401, 200, 200),
        (f"/api/orders/{mine.order_id}", 401, 200, 200),
        (f"/api/orders/{mine.code.lower()}", 401, 200, 200),
        (f"/api/orders/{other.code}", 401, 404, 200),
        (f"/api/orders/{other.order_id}", 401, 404, 200),
        ("/api/customers", 401, 403, 200),
        (f"/api/customers/{customer}", 401, 403, 200),
        (f"/api/customers/{customer}/orders", 401, 403, 200),
    ):
        for desk, status in zip((desks.stranger, desks.user, desks.operator), expected):
            if status is not None:
                assert (await desk.ask(path))[0] == status, (path, status)
    _, own = await desks.user.ask("/api/orders")
    _, all_orders = await desks.operator.ask("/api/orders")
    assert ([x["code"] for x in own["items"]], len(all_orders["items"])) == ([mine.code], 2)
    _, seen = await desks.user.ask(f"/api/orders/{mine.code}")
    assert [set(step) for step in seen["history"]] == [{"status", "at", "reason"}]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/orders?status=LOST", "status"),
        ("/api/orders?from=yesterday", "from"),
        ("/api/orders?to=2026-02-30", "to"),
        ("/api/orders?from=2026-09-02&to=2026-08-31", "to"),
        ("/api/orders?from=0001-01-01T00:00:00Z", "from"),
        ("/api/orders?cursor=AAAA", "cursor"),
        ("/api/orders?limit=0", "limit"),
        ("/api/orders?q=%00", "q"),
        ("/api/products?active=maybe", "active"),
        ("/api/products?cursor=x", "cursor"),
        ("/api/products/{id}/stock?at=2026-01-01", "at"),
        ("/api/products/{id}/stock?at=2199-01-01T00:00:00Z", "at"),
        ("/api/products/{id}/stock/entries?account=lost", "account"),
        ("/api/customers?cursor=x", "cursor"),
        ("/api/customers?phone=12", "phone"),
        ("/api/customers?phone=0912345678&q=an", "phone"),
    ],
)
async def test_a_question_that_cannot_be_meant_says_what_is_wrong_with_it(
    desks: Desks, house: Strongroom, path: str, field: str
) -> None:
    id = await new_product(house, 1)
    status, said = await desks.operator.ask(path.replace("{id}", str(id)))
    assert (status, [one["field"] for one in said["errors"]]) == (422, [field])


async def test_a_cursor_is_of_its_caller_and_of_its_filters(
    desks: Desks, house: Strongroom
) -> None:
    product = await new_product(house, 9)
    for _ in range(3):
        await place_order(house, (product, 1), user=desks.user_id)
    _, page = await desks.user.ask("/api/orders?limit=2&status=PENDING")
    cursor = page["nextCursor"]
    status, rest = await desks.user.ask(f"/api/orders?limit=1&status=PENDING&cursor={cursor}")
    assert (status, len(rest["items"])) == (200, 1)
    assert {x["orderId"] for x in rest["items"]}.isdisjoint(x["orderId"] for x in page["items"])
    for desk, query in (
        (desks.user, "status=CONFIRMED"),
        (desks.user, "limit=2"),
        (desks.operator, "status=PENDING"),
    ):
        assert (await desk.ask(f"/api/orders?{query}&cursor={cursor}"))[0] == 422


async def test_days_are_vietnamese_and_meant_as_a_whole(
    desks: Desks, owner: Database, shop: Shop
) -> None:
    day = (NOW - timedelta(days=30)).date()
    for hour, code in ((16, "SON000001"), (17, "SON000002"), (40, "SON000003"), (41, "SON000004")):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        await placed(owner, shop, midnight + timedelta(hours=hour), code=code)
    local = date.fromordinal(day.toordinal() + 1)
    _, said = await desks.operator.ask(f"/api/orders?from={local}&to={local}")
    assert [one["code"] for one in said["items"]] == ["SON000003", "SON000002"]


async def test_how_often_caches_were_asked_stands_among_the_metrics(
    house: Strongroom, reading: Reading
) -> None:
    made = await place_order(house, (await new_product(house), 1))
    for _ in range(3):
        await reading.order(str(made.order_id), None)
    caches = {**reading.caches, **house.ticketing.catalogue.caches}
    told = {
        (one.name, *one.labels.values()): one.value
        for metric in Seen(caches).requests()
        for one in metric.samples
    }
    for cache, outcome, times in (
        ("orders", "hits", 2),
        ("orders", "misses", 1),
        ("orders", "stale", 0),
        ("events", "joined", 0),
        ("product_pages", "hits", 0),
    ):
        assert told["strongroom_cache_requests_total", cache, outcome] == times
