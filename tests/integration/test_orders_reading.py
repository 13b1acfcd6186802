"""What the orders application shows: lists and search against their plain definitions, single
orders that are never older than what was answered, stock as it was."""

from __future__ import annotations

import asyncio
import random
import re
import unicodedata
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from past_orders import Shop, id_at, open_shop, place, placed
from playing import Houses, code_of
from storefront import new_product, take
from storefront import place as place_order
from strongroom.apps.orders import reading as reading_module
from strongroom.apps.orders.asked import Asked
from strongroom.apps.orders.catalogue import ProductsAsked
from strongroom.apps.orders.products import EditProduct
from strongroom.apps.orders.reading import Reading
from strongroom.apps.orders.seen import OrderListed, sql
from strongroom.core.db import Database, DatabaseDown
from strongroom.cursors import Cursors
from strongroom.ids import uuid7
from strongroom.main import Strongroom

NOW = datetime.now(UTC).replace(microsecond=0)
BOOKS = Cursors("k" * 32)


def reading_of(house: Strongroom) -> Reading:
    return Reading(house.database, BOOKS, deadline_s=5)


@pytest.fixture
def reading(house: Strongroom) -> Reading:
    return reading_of(house)


@pytest.fixture
async def shop(owner: Database) -> Shop:
    return await open_shop(owner, (NOW - timedelta(days=120)).date())


async def walk(
    reading: Reading,
    asked: Asked,
    limit: int = 3,
    between: Callable[[], Awaitable[Any]] | None = None,
) -> list[OrderListed]:
    """All pages of a list, one after the other."""
    found: list[OrderListed] = []
    cursor = None
    while True:
        page = await reading.orders(asked, cursor, limit)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
        if between is not None:
            await between()


async def codes(reading: Reading, words: str, **asked: Any) -> list[str]:
    return [one.code for one in await walk(reading, Asked(words=words, **asked))]


# Lists ------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """An order as the test knows it."""

    id: UUID
    name: str
    status: str
    customer: int
    user: UUID | None
    at: datetime


NAMES = ("Nguyễn Văn An", "Trần Thị Bình", "Nguyễn Thị Hoa", "Lê An")


async def fill(owner: Database, shop: Shop, count: int, users: list[UUID]) -> list[Row]:
    """Orders of four months, some of them by clocks that were minutes off."""
    rnd = random.Random(7)
    rows = []
    async with owner.transaction() as db:
        for number in range(count):
            row = Row(
                UUID(int=0),
                rnd.choice(NAMES),
                rnd.choice(("PENDING", "CONFIRMED", "DELIVERED", "CANCELLED")),
                rnd.randrange(4),
                rnd.choice([None, *users]),
                NOW - timedelta(minutes=rnd.randrange(100 * 24 * 60)),
            )
            apart = timedelta(minutes=rnd.choice((0, 0, -9, 9)))
            id = await place(
                db,
                shop,
                row.at,
                customer=row.customer,
                status=row.status,
                clocks_apart=apart,
                customer_name=row.name,
                code=f"SON{number:06}",
            )
            await db.execute("UPDATE orders.orders SET user_id = $2 WHERE id = $1", id, row.user)
            rows.append(row._replace(id=id))
    return rows


def plain_list(rows: list[Row], shop: Shop, asked: Asked) -> list[UUID]:
    """The list as one would make it by hand."""
    return sorted(
        (
            row.id
            for row in rows
            if asked.user_id in (None, row.user)
            and asked.customer_id in (None, shop.customers[row.customer])
            and asked.status in (None, row.status)
            and (asked.since is None or row.at >= asked.since)
            and (asked.until is None or row.at < asked.until)
            and all(word in row.name.lower() for word in (asked.words or "").lower().split())
        ),
        reverse=True,
    )


@pytest.mark.parametrize(("looked_at", "few"), [(3_000, 2_000), (2, 2_000), (2, 2)])
async def test_every_combination_of_filters_lists_what_a_reader_would_pick_by_hand(
    reading: Reading,
    owner: Database,
    shop: Shop,
    looked_at: int,
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a short look at the newest, words come from their index month by month."""
    monkeypatch.setattr(reading_module, "LOOKED_AT", looked_at)
    monkeypatch.setattr(reading_module, "FEW", few)
    users = [uuid7(), uuid7()]
    rows = await fill(owner, shop, 250, users)
    rnd = random.Random(looked_at + few)
    for _ in range(60):
        moments = sorted(rnd.choice([row.at for row in rows]) for _ in range(2))
        asked = Asked(
            user_id=rnd.choice([None, None, users[0]]),
            customer_id=rnd.choice([None, None, shop.customers[1]]),
            status=rnd.choice([None, None, "PENDING", "DELIVERED"]),
            words=rnd.choice([None, "nguyễn", "guy", "thị hoa", "bình trần", "zzz"]),
            since=rnd.choice([None, moments[0]]),
            until=rnd.choice([None, moments[1]]),
        )
        found = [one.order_id for one in await walk(reading, asked, rnd.choice((7, 50)))]
        assert found == plain_list(rows, shop, asked), asked


@pytest.mark.parametrize("looked_at", [3_000, 2])
@pytest.mark.parametrize(
    "asked", [Asked(), Asked(status="PENDING"), Asked(words="nguyen"), Asked(words="an van")]
)
async def test_a_walk_repeats_and_skips_nothing_while_orders_are_placed(
    reading: Reading,
    owner: Database,
    shop: Shop,
    asked: Asked,
    looked_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading_module, "LOOKED_AT", looked_at)
    for number in range(11):
        await placed(owner, shop, NOW - timedelta(days=9 * number), customer_name="Nguyễn Văn An")
    before = [one.order_id for one in await walk(reading, asked)]
    assert len(before) == 11

    async def more() -> None:
        await placed(owner, shop, datetime.now(UTC), customer_name="Nguyễn Văn An")

    found = [one.order_id for one in await walk(reading, asked, 3, more)]
    assert found == before
    assert len(await walk(reading, asked)) > 11


async def test_a_list_says_what_its_orders_say(reading: Reading, house: Strongroom) -> None:
    user, product = uuid7(), await new_product(house)
    made = await place_order(house, (product, 2), user=user)
    [seen] = (await reading.orders(Asked(user_id=user), None, 50)).items
    assert (seen.order_id, seen.code, seen.status) == (made.order_id, made.code, "PENDING")
    assert (seen.total_amount, seen.payment.method) == (made.total_amount, "COD")
    assert (seen.customer.name, seen.customer.phone) == ("Nguyễn Thị 0", "+84900000000")
    assert (await reading.orders(Asked(user_id=uuid7()), None, 50)).items == []


@pytest.mark.parametrize(
    ("query", "more"),
    [
        (sql.orders_newest, ""),
        (sql.orders_of_status, ", 'PENDING'"),
        (sql.orders_of_user, f", NULL, '{UUID(int=1)}'"),
        (sql.orders_of_customer, f", NULL, NULL, '{UUID(int=1)}'"),
    ],
)
async def test_a_list_of_a_time_opens_the_partitions_of_that_time_alone(
    owner: Database, shop: Shop, query: str, more: str
) -> None:
    async with owner.connection() as db:
        await db.execute(f"PREPARE listed AS {query}")
        rows = await db.fetch(
            "EXPLAIN EXECUTE listed (orders.first_id('2026-09-03'), orders.first_id('2026-09-09'),"
            f" '2000-01-01', '2100-01-01', 50, '{{}}', 50{more})"
        )
    plan = "\n".join(row[0] for row in rows)
    assert set(re.findall(r"on (orders_\d{4}_\d\d)", plan)) <= {"orders_2026_09"}
    assert "Subplans Removed" in plan


async def test_a_search_opens_the_months_that_it_looks_in_alone(
    owner: Database, shop: Shop
) -> None:
    month = (NOW - timedelta(days=40)).replace(day=1, hour=0, minute=0, second=0)
    after = (month + timedelta(days=32)).replace(day=1)
    async with owner.connection() as db:
        await db.execute(f"PREPARE found AS {sql.orders_found}")
        rows = await db.fetch(
            f"EXPLAIN (ANALYZE) EXECUTE found (ARRAY[orders.first_id('{month}')],"
            f" ARRAY[orders.first_id('{after}')], '%nguyen%', '%', '%', '{{}}', '2000-01-01',"
            " '2100-01-01', 50)"
        )
    opened = [row[0] for row in rows if "never executed" not in row[0]]
    found = set(re.findall(r" on (orders_\d{4}_\d\d) ", "\n".join(opened)))
    assert found == {f"orders_{month:%Y_%m}"}
    assert "never executed" in "\n".join(row[0] for row in rows)


# Search -----------------------------------------------------------------------------------------


@pytest.fixture
async def known(owner: Database, shop: Shop) -> None:
    people = [
        ("SON000123", "Nguyễn Văn An", "+84912345678"),
        ("SON000124", "Trần Thị Lan Anh", "+84987654321"),
        ("SON1234567", "O'Brien 100% _x_ \\", "+12025550123"),
        ("SON000125", "Đỗ Đức", "+842438261234"),
    ]
    for number, (code, name, phone) in enumerate(people):
        at = NOW - timedelta(days=20 * number)
        id = await placed(owner, shop, at, code=code, customer_name=name, phone=phone)
        await owner.fetch("INSERT INTO orders.codes VALUES ($1, $2)", int(code[3:]), id)


@pytest.mark.parametrize("looked_at", [3_000, 0])
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("Nguyễn", "123"),
        ("nguyen", "123"),
        (unicodedata.normalize("NFD", "NGUYỄN văn"), "123"),
        ("guye", "123"),
        ("an nguyen", "123"),
        ("an", "123 124"),  # An and Anh, not Lan
        ("n", "123"),
        ("do duc", "125"),
        ("đỗ", "125"),
        ("lan tran", "124"),
        ("lan nguyen", ""),
        ("o'brien", "1234567"),
        ("100%", "1234567"),
        ("_x_", "1234567"),
        ("x%x", ""),
        ("tr_n", ""),
        ("' OR 1=1 --", ""),
        ("\\", ""),
        ("%", ""),
        ("% an", "123 124"),
        ("!!! ___", ""),
        ("🎵", ""),
        ("SON000123", "123"),
        ("son000123", "123"),
        ("son000123 an", "123"),
        ("son000123 tran", ""),
        ("son000123 son000124", ""),
        ("son999999", ""),
        ("son00012", "123 124 125"),
        ("000124", "124"),
        ("0912345678", "123"),
        ("+84912345678", "123"),
        ("84912345678", "123"),
        ("0912 345 678", "123"),
        ("+84 (0) 912.345.678 an", "123"),
        ("(0912) 345-678", "123"),
        ("0084 912 345 678", "123"),
        ("345678", "123"),
        ("+849", "123 124"),
        ("+1 (202) 555-0123", "1234567"),
        ("024 3826 1234", "125"),
    ],
)
async def test_orders_are_found_by_fragments_of_code_phone_and_name(
    reading: Reading,
    known: None,
    words: str,
    found: str,
    looked_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading_module, "LOOKED_AT", looked_at)
    assert await codes(reading, words) == [f"SON{int(one):06}" for one in found.split()]


async def test_a_search_among_ones_own_finds_no_others(reading: Reading, house: Strongroom) -> None:
    user, product = uuid7(), await new_product(house)
    mine = await place_order(house, (product, 1), user=user)
    other = await place_order(house, (product, 1))
    assert await codes(reading, "nguyen", user_id=user) == [mine.code]
    assert await codes(reading, other.code, user_id=user) == []
    assert await codes(reading, other.code) == [other.code]


# One order --------------------------------------------------------------------------------------


async def test_an_order_shows_its_lines_its_history_and_by_whom_to_operators(
    reading: Reading, house: Strongroom
) -> None:
    user, product = uuid7(), await new_product(house)
    made = await place_order(house, (product, 2), user=user)
    await take(house, made.order_id, "confirm", "cancel", reason="hết hàng")
    for named in (str(made.order_id), made.code, made.code.lower(), str(made.order_id).upper()):
        seen = await reading.order(named, None)
        assert [(one.status, one.reason) for one in seen.history] == [
            ("PENDING", None),
            ("CONFIRMED", "hết hàng"),
            ("CANCELLED", "hết hàng"),
        ]
        assert all(one.by for one in seen.history)
        assert [(line.product_id, line.quantity) for line in seen.items] == [(product, 2)]
        own = await reading.order(named, user)
        assert b'"by"' not in msgspec.json.encode(own) and len(own.history) == 3
        assert msgspec.structs.replace(seen, history=own.history) == own


async def test_a_foreign_order_answers_like_one_that_is_not_there(
    reading: Reading, house: Strongroom
) -> None:
    made = await place_order(house, (await new_product(house), 1), user=uuid7())
    for named in (str(made.order_id), made.code, str(uuid7()), "SON999999", "SON123", "x", ""):
        assert await code_of(reading.order(named, uuid7())) == "not_found"
    for form in (f"{{{made.order_id}}}", made.order_id.hex, f"urn:uuid:{made.order_id}"):
        assert await code_of(reading.order(form, None)) == "not_found"


async def test_an_order_is_read_in_one_statement_however_long_it_is(
    reading: Reading, house: Strongroom, owner: Database
) -> None:
    try:
        await owner.fetch("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        await owner.fetch("SELECT count(*) FROM pg_stat_statements")
    except Exception as error:
        pytest.skip(f"no pg_stat_statements: {error}")

    async def statements(read: Awaitable[Any]) -> int:
        await owner.fetch("SELECT pg_stat_statements_reset()")
        await read
        return int(
            await owner.fetchval(
                "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database"
                " d ON d.oid = s.dbid WHERE d.datname = current_database() AND query NOT LIKE"
                " '%pg_stat_statements%' AND query LIKE '%orders.%'"
            )
        )

    products = [await new_product(house) for _ in range(5)]
    made = [
        await place_order(house, *((one, 1) for one in products[:length])) for length in (1, 1, 5)
    ]
    await reading.order(str(made[0].order_id), None)  # the first of a connection asks for types
    for order in made[1:]:
        assert await statements(reading.order(str(order.order_id), None)) == 1
        assert await statements(reading.order(str(order.order_id), None)) == 1
    assert await statements(reading.orders(Asked(), None, 50)) == 1


async def test_a_step_on_another_process_is_seen_by_the_very_next_read(houses: Houses) -> None:
    one, other = await houses(), await houses()
    product = await new_product(one)
    made = await place_order(one, (product, 1))
    readings = [reading_of(one), reading_of(other)]
    named = str(made.order_id)
    for house, step in ((one, "confirm"), (other, "ship"), (one, "deliver"), (other, "return")):
        seen = await take(house, made.order_id, step)  # type: ignore[arg-type]
        for reading in readings:
            assert (await reading.order(named, None)).status == seen.status
            assert (await reading.order(made.code, None)).version == seen.version
    await other.run(EditProduct(product, name="Tên mới"))
    for reading in readings:
        assert [line.name for line in (await reading.order(named, None)).items] == ["Tên mới"]


async def test_readers_beside_a_writer_never_see_an_order_older_than_was_answered(
    houses: Houses,
) -> None:
    one, other = await houses(), await houses()
    product, reading = await new_product(one), reading_of(other)
    answered: dict[UUID, int] = {}
    going = True

    async def read() -> int:
        reads = 0
        while going:
            for order, least in list(answered.items()):
                assert (await reading.order(str(order), None)).version >= least
                reads += 1
            await asyncio.sleep(0)
        return reads

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for _ in range(5):
        made = await place_order(one, (product, 1))
        for step in ("confirm", "ship", "deliver"):
            seen = await take(one, made.order_id, step)  # type: ignore[arg-type]
            answered[made.order_id] = seen.version
    going = False
    assert sum(await asyncio.gather(*readers)) > 20
    assert reading.details.orders.hits > 0


async def test_what_is_kept_of_orders_and_products_is_shown_while_the_database_is_away(
    house: Strongroom, database_url: str
) -> None:
    product = await new_product(house, 7)
    made = await place_order(house, (product, 1))
    unread = await place_order(house, (product, 1))
    database = await Database(database_url, role="strongroom_app", pool_size=3).open()
    reading = Reading(database, BOOKS, deadline_s=5)
    kept = await reading.order(made.code, None)
    shown = await reading.catalogue.page(ProductsAsked(), None, 50)

    await database.close()
    away = Database("postgresql://nobody@127.0.0.1:1/none", pool_size=3)
    database._pool = (await away.open())._pool

    assert await reading.order(made.code, None) == kept
    assert await reading.catalogue.page(ProductsAsked(), None, 50) == shown
    assert (reading.details.orders.stale, reading.details.orders.misses) == (1, 1)
    with pytest.raises(DatabaseDown):
        await reading.order(str(unread.order_id), None)
    with pytest.raises(DatabaseDown):
        await reading.orders(Asked(), None, 50)
    await database.close()


def test_ids_of_moments_are_those_of_the_database() -> None:
    at = datetime(2026, 9, 3, 1, 2, 3, 456_000, tzinfo=UTC)
    assert reading_module._first_id(at).int >> 80 == id_at(at).int >> 80
