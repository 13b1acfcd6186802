"""What ticketing shows: found, listed, exact on every process, in pages, and to whom it belongs."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from playing import Houses, assert_clean, code_of, drained
from strongroom.apps.ticketing.catalogue import ALL, AVAILABILITY_S, Asked, place_of
from strongroom.apps.ticketing.codes import Verifier
from strongroom.apps.ticketing.door import CheckIn, OfflineScan, RecordScans
from strongroom.apps.ticketing.events import (
    AddTicketType,
    CancelEvent,
    CreateEvent,
    EditEvent,
    EditTicketType,
    EndEvent,
    PublishEvent,
)
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.apps.ticketing.reservations import ReserveSeats
from strongroom.apps.ticketing.rows import EventSeen
from strongroom.clock import monotonic
from strongroom.core.db import Database, DatabaseDown
from strongroom.ids import uuid7
from strongroom.main import Strongroom

SOON = datetime.now(UTC) + timedelta(days=30)


async def new_event(
    house: Strongroom,
    name: str = "Đêm nhạc Trịnh",
    *,
    location: str = "Nhà hát Lớn",
    at: datetime = SOON,
    seats: Sequence[int] = (10,),
    price: int = 500_000,
    publish: bool = True,
    **more: Any,
) -> EventSeen:
    event = await house.run(CreateEvent(name, location, at, at + timedelta(hours=3), **more))
    for number, quantity in enumerate(seats):
        await house.run(AddTicketType(event.event_id, f"hạng {number}", price, quantity))
    if publish:
        await house.run(PublishEvent(event.event_id))
    return await house.ticketing.catalogue.event(str(event.event_id))


async def names(house: Strongroom, **asked: Any) -> list[str]:
    page = await house.ticketing.catalogue.page(Asked(**asked))
    return [event.name for event in page.items]


async def buy(
    house: Strongroom, user: UUID, event: EventSeen, *quantities: int, owner: str = "Nguyễn Ái"
) -> Any:
    lines = [
        (type.ticket_type_id, quantity)
        for type, quantity in zip(event.ticket_types, quantities)
        if quantity
    ]
    held = await house.run(ReserveSeats(user, tuple(lines), 600))
    order = await house.run(CompleteBooking(user, held.reservation_id, "MOMO", owner))
    await drained(house)
    return order


# Search -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "Trịnh",
        "trinh",
        "TRỊNH",
        unicodedata.normalize("NFD", "Trịnh"),
        "dem nhac",
        "đêm nhạc",
        "nhac đem",
        "cong son",
        "ha noi",
        "Hà Nội nhạc",
        "trin",
        "hat lo",
    ],
)
async def test_vietnamese_is_found_with_and_without_diacritics(
    house: Strongroom, words: str
) -> None:
    for form in ("NFC", "NFD"):
        name, location = "Đêm nhạc Trịnh Công Sơn", "Nhà hát Lớn Hà Nội"
        await new_event(
            house,
            unicodedata.normalize(form, name),
            location=unicodedata.normalize(form, location),
            slug=f"trinh-{form.lower()}",
        )
    await new_event(house, "Rock Việt", location="Sài Gòn")
    assert len(await names(house, words=words)) == 2
    assert await names(house, words="sai gon") == ["Rock Việt"]


@pytest.mark.parametrize(
    "words",
    [
        "xyz",
        "!!!",
        "' & | ! :*",
        "\\",
        "a\\b'c",
        "((",
        "<->",
        "trinh xyz",
        "%",
        "*",
        "\u0301",
        "🎵",
    ],
)
async def test_a_question_without_an_answer_finds_nothing_and_breaks_nothing(
    house: Strongroom, words: str
) -> None:
    await new_event(house)
    assert await names(house, words=words) == []


async def test_a_name_is_a_better_match_than_a_description(house: Strongroom) -> None:
    await new_event(house, "Hội chợ", description="có nhạc sống", at=SOON - timedelta(days=2))
    await new_event(house, "Đêm nhạc", at=SOON)
    assert await names(house, words="nhac") == ["Đêm nhạc", "Hội chợ"]


# Lists ------------------------------------------------------------------------------------------


async def test_published_events_are_listed_the_next_ones_first(house: Strongroom) -> None:
    for day in (3, 1, 2):
        await new_event(house, f"ngày {day}", at=SOON + timedelta(days=day))
    await new_event(house, "nháp", publish=False)
    ended = await new_event(house, "xong", at=SOON)
    await house.run(EndEvent(ended.event_id))
    assert await names(house) == ["ngày 1", "ngày 2", "ngày 3"]
    assert await names(house, statuses=ALL) == ["nháp", "xong", "ngày 1", "ngày 2", "ngày 3"]
    assert await names(house, statuses=("ENDED",)) == ["xong"]
    since, until = SOON + timedelta(days=2), SOON + timedelta(days=3)
    assert await names(house, since=since) == ["ngày 2", "ngày 3"]
    assert await names(house, since=since, until=until) == ["ngày 2"]


@pytest.mark.parametrize("words", [None, "nhac"])
async def test_pages_neither_skip_nor_repeat_while_events_are_added(
    house: Strongroom, words: str | None
) -> None:
    """Twins at the same instant, other ranks, and newcomers between two pages."""
    wanted = []
    for number in range(7):
        at = SOON + timedelta(days=number // 3)
        said = "nhạc " * (number % 2) + "nhạc"
        wanted.append((await new_event(house, f"{said} {number}", at=at)).event_id)
    seen: list[UUID] = []
    cursor = None
    while True:
        after = place_of(cursor) if cursor else None
        page = await house.ticketing.catalogue.page(Asked(words=words, after=after, limit=2))
        seen += [event.event_id for event in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        await new_event(house, "nhạc mới", at=SOON - timedelta(days=1))
    assert sorted(one for one in seen if one in wanted) == sorted(wanted)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "cursor", ["", "x", "e30", "bnVsbA", "WzEsMiwzXQ", "ư", "=" * 10, "A" * 5_000, "W10"]
)
def test_a_cursor_that_is_none_of_ours_is_refused(cursor: str) -> None:
    with pytest.raises(Exception, match="cursor") as caught:
        place_of(cursor)
    assert getattr(caught.value, "code", "") == "invalid"


async def test_an_event_is_found_by_its_slug_and_by_its_id(house: Strongroom) -> None:
    made = await new_event(house, slug="dem-nhac-2030")
    catalogue = house.ticketing.catalogue
    assert await catalogue.event("dem-nhac-2030") == made
    assert await catalogue.event(str(made.event_id).upper()) == made
    for none in ("dem-nhac", str(uuid7()), "", "a" * 200, "\x00", "đêm"):
        assert await code_of(catalogue.event(none)) == "not_found"
    await house.run(CancelEvent(made.event_id))
    assert (await catalogue.event("dem-nhac-2030")).status == "CANCELLED"


# The cache --------------------------------------------------------------------------------------


async def test_a_change_is_seen_by_the_very_next_read_of_every_process(houses: Houses) -> None:
    one, other = await houses(), await houses()
    event = await new_event(one)
    named = str(event.event_id)
    for number in range(20):
        changed, asked = (one, other) if number % 2 else (other, one)
        await changed.run(EditEvent(event.event_id, name=f"tên {number}"))
        for house in (asked, changed):
            assert (await house.ticketing.catalogue.event(named)).name == f"tên {number}"
            assert await names(house) == [f"tên {number}"]
    (type,) = event.ticket_types
    await one.run(EditTicketType(event.event_id, type.ticket_type_id, quantity=3, price=7))
    (seen,) = (await other.ticketing.catalogue.event(named)).ticket_types
    assert (seen.quantity, seen.available, seen.price) == (3, 3, 7)
    await other.run(CancelEvent(event.event_id))
    assert await names(one) == []


async def test_readers_beside_a_writer_never_see_an_older_state_than_was_answered(
    houses: Houses,
) -> None:
    one, other = await houses(), await houses()
    event = await new_event(one)
    written, going = -1, True

    async def read() -> int:
        reads = 0
        while going:
            least = written
            seen = await other.ticketing.catalogue.event(event.slug)
            assert int(seen.description or -1) >= least
            reads += 1
        return reads

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for number in range(50):
        await one.run(EditEvent(event.event_id, description=str(number)))
        written = number
    going = False
    assert sum(await asyncio.gather(*readers)) > 50


async def test_what_was_read_once_is_not_read_again_under_its_version(house: Strongroom) -> None:
    await new_event(house)
    catalogue = house.ticketing.catalogue
    await names(house)
    before = catalogue.events.misses, catalogue.lists.misses, catalogue.pages.misses
    hits = catalogue.pages.hits
    await asyncio.gather(*(names(house) for _ in range(200)))
    assert (catalogue.events.misses, catalogue.lists.misses) == before[:2]
    assert catalogue.pages.misses - before[2] <= 1
    assert catalogue.pages.hits > hits


async def test_a_herd_loads_a_page_once(house: Strongroom) -> None:
    await new_event(house)
    catalogue = house.ticketing.catalogue
    before = catalogue.lists.misses, catalogue.pages.misses
    await asyncio.gather(*(names(house, limit=7) for _ in range(300)))
    assert (catalogue.lists.misses, catalogue.pages.misses) == (before[0] + 1, before[1] + 1)


async def test_availability_is_shown_with_its_time_and_is_a_second_old_at_most(
    house: Strongroom, owner: Database
) -> None:
    event = await new_event(house, seats=(10, 5))
    named = event.slug
    first = await house.ticketing.catalogue.event(named)
    assert [type.available for type in first.ticket_types] == [10, 5]
    lines = ((event.ticket_types[0].ticket_type_id, 4),)
    await house.run(ReserveSeats(uuid7(), lines, 600))
    reserved_at = await owner.fetchval("SELECT clock_timestamp()")
    began = monotonic()
    while True:
        seen = (await house.ticketing.catalogue.event(named)).ticket_types[0]
        took = monotonic() - began
        if seen.as_of > reserved_at:
            break
        assert took < AVAILABILITY_S + 0.5
        await asyncio.sleep(0.02)
    assert seen.available == 6


@pytest.fixture
def cut_off(database_url: str, tmp_path: Path) -> str:
    """The database's address over a link that can be taken away."""
    where = conninfo_to_dict(database_url)
    folder = str(where.get("host", ""))
    if not folder.startswith("/"):
        pytest.skip("the server is not reached through a socket file")
    port = where.get("port", 5432)
    socket = f".s.PGSQL.{port}"
    os.symlink(Path(folder) / socket, tmp_path / socket)
    query = {"host": str(tmp_path), "port": str(port)}
    url = make_url(database_url).set(host=None, port=None).update_query_dict(query)
    return url.render_as_string(hide_password=False)


def take_away(folder: Path) -> None:
    for link in folder.glob(".s.PGSQL.*"):
        link.unlink()


async def test_while_the_database_is_away_browsing_goes_on_with_what_was_kept(
    cut_off: str, tmp_path: Path, owner: Database
) -> None:
    async with Strongroom(database_url=cut_off, data_dir=tmp_path / "data") as house:
        event = await new_event(house)
        unread = await new_event(house, "chưa ai hỏi", slug="chua-ai-hoi")
        kept = await house.ticketing.catalogue.event(event.slug)
        assert len(await names(house)) == 2
        take_away(tmp_path)
        await owner.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert await house.ticketing.catalogue.event(event.slug) == kept
        assert len(await names(house)) == 2
        with pytest.raises(DatabaseDown):
            await house.ticketing.catalogue.event(unread.slug)
        with pytest.raises(DatabaseDown):
            await house.ticketing.bookings(uuid7(), None, 10)


# Bookings ---------------------------------------------------------------------------------------


async def test_bookings_show_their_tickets_with_genuine_codes(house: Strongroom) -> None:
    event, user = await new_event(house, seats=(10, 10)), uuid7()
    order = await buy(house, user, event, 2, 1)
    (seen,) = await house.ticketing.bookings(user, None, 10)
    assert (seen.order_id, seen.status, seen.total_amount) == (order.order_id, "PAID", 1_500_000)
    assert (seen.payment.method, seen.payment.status) == ("MOMO", "SUCCESS")
    assert sorted(line.quantity for line in seen.items) == [1, 2]
    verifier = Verifier([house.signer.public_key])
    for ticket in seen.tickets:
        said = verifier.verify(ticket.qr)
        assert said == (event.event_id, ticket.ticket_type_id, ticket.code)
    assert len({ticket.code for ticket in seen.tickets}) == 3
    assert await house.ticketing.bookings(uuid7(), None, 10) == []


async def test_many_tickets_are_signed_beside_the_event_loop(house: Strongroom) -> None:
    event, user = await new_event(house, seats=(200,)), uuid7()
    await buy(house, user, event, 200)
    (seen,) = await house.ticketing.bookings(user, None, 10)
    assert len(seen.tickets) == 200


async def test_bookings_come_newest_first_in_pages(house: Strongroom) -> None:
    event, user = await new_event(house), uuid7()
    made = [(await buy(house, user, event, 1)).order_id for _ in range(3)]
    first = await house.ticketing.bookings(user, None, 2)
    rest = await house.ticketing.bookings(user, first[-1].order_id, 2)
    assert [one.order_id for one in first + rest] == made[::-1]


async def test_a_page_of_bookings_takes_as_many_queries_as_one(
    house: Strongroom, owner: Database
) -> None:
    event, user = await new_event(house, seats=(50,)), uuid7()

    async def queries() -> int:
        await owner.fetch("SELECT pg_stat_statements_reset()")
        await house.ticketing.bookings(user, None, 50)
        return int(
            await owner.fetchval(
                "SELECT sum(calls)::bigint FROM pg_stat_statements s JOIN pg_database d"
                " ON d.oid = s.dbid WHERE d.datname = current_database()"
            )
        )

    try:
        await owner.fetch("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        await owner.fetch("SELECT count(*) FROM pg_stat_statements")
    except Exception as error:
        pytest.skip(f"no pg_stat_statements: {error}")
    await buy(house, user, event, 1)
    await queries()  # the first of a connection asks for more
    one = await queries()
    for _ in range(5):
        await buy(house, user, event, 1)
    assert await queries() == one


async def test_a_reservation_is_over_the_instant_its_time_is(
    house: Strongroom, owner: Database
) -> None:
    event, user = await new_event(house), uuid7()
    lines = ((event.ticket_types[0].ticket_type_id, 2),)
    held = await house.run(ReserveSeats(user, lines, 600))
    order = await house.run(CompleteBooking(user, held.reservation_id, "CARD"))
    seen = await house.ticketing.reservation(user, held.reservation_id)
    assert seen == held
    (booking,) = await house.ticketing.bookings(user, None, 1)
    assert booking.status == "PENDING" and isinstance(booking.payment.redirect_url, str)
    await owner.fetch("UPDATE ticketing.reservations SET expires_at = clock_timestamp()")
    seen = await house.ticketing.reservation(user, held.reservation_id)
    assert seen.status == "EXPIRED"
    shown = await house.ticketing.order(order.order_id, user)
    assert shown.status == "TIMEOUT" and not isinstance(shown.payment.redirect_url, str)
    assert (await house.ticketing.bookings(user, None, 1))[0].status == "TIMEOUT"


async def test_what_is_foreign_is_answered_like_what_is_missing(house: Strongroom) -> None:
    event, user = await new_event(house), uuid7()
    order = await buy(house, user, event, 1)
    reading = house.ticketing
    shown = await reading.order(order.order_id, user)
    (ticket,) = shown.tickets
    assert await reading.order(order.order_id, None) == shown
    for who in (uuid7(), user):
        missing = who == user
        asked = uuid7() if missing else order.order_id
        assert await code_of(reading.order(asked, who)) == "not_found"
        asked = uuid7() if missing else shown.reservation_id
        assert await code_of(reading.reservation(who, asked)) == "not_found"
        code = "00000-00000-000000-00000-00000" if missing else ticket.code
        assert await code_of(reading.paper(code, who)) == "not_found"


# Reports ----------------------------------------------------------------------------------------


async def test_sales_agree_with_rows_and_with_the_organisers_account(house: Strongroom) -> None:
    event = await new_event(house, seats=(10, 20), price=100_000)
    one, other = uuid7(), uuid7()
    await buy(house, one, event, 3, 1)
    await buy(house, other, event, 0, 2)
    (booking,) = await house.ticketing.bookings(one, None, 1)
    await house.run(CheckIn(booking.tickets[0].code, "A"))
    types = [type.ticket_type_id for type in event.ticket_types]
    await house.run(ReserveSeats(uuid7(), ((types[1], 4),), 600))
    sales = await house.ticketing.reports.sales(event.event_id)
    rows = {item.ticket_type_id: item for item in sales.items}
    assert [(rows[id].free, rows[id].held, rows[id].sold) for id in types] == [
        (7, 0, 3),
        (13, 4, 3),
    ]
    assert [rows[id].revenue for id in types] == [300_000, 300_000]
    totals = sales.totals
    assert (totals.quantity, totals.checked_in, totals.revenue) == (30, 1, 600_000)
    assert (sales.earned, sales.agrees, sales.refunds.amount) == (600_000, True, 0)
    assert [(day.orders, day.seats, day.revenue) for day in sales.days] == [(2, 6, 600_000)]
    await house.run(CancelEvent(event.event_id))
    await drained(house)
    sales = await house.ticketing.reports.sales(event.event_id)
    assert (sales.totals.free, sales.totals.sold, sales.totals.revenue) == (30, 0, 0)
    assert (sales.refunds.payments, sales.refunds.amount) == (2, 600_000)
    assert (sales.earned, sales.agrees, sales.days) == (0, True, [])
    await assert_clean(house)


async def test_an_event_without_sales_has_a_report_of_zeros(house: Strongroom) -> None:
    event = await new_event(house, seats=(), publish=False)
    sales = await house.ticketing.reports.sales(event.event_id)
    assert (sales.items, sales.totals.quantity, sales.earned, sales.agrees) == ([], 0, 0, True)


async def test_attendees_are_listed_in_pages_and_all_at_once(house: Strongroom) -> None:
    event, user = await new_event(house), uuid7()
    await buy(house, user, event, 3, owner="Trần Thị B")
    reports = house.ticketing.reports
    first = await reports.attendees(event.event_id, None, 2)
    rest = await reports.attendees(event.event_id, first[-1].ticket_id, 2)
    all_of_them = [one async for page in reports.all_attendees(event.event_id) for one in page]
    assert first + rest == all_of_them and len(all_of_them) == 3
    assert {one.owner_name for one in all_of_them} == {"Trần Thị B"}


async def test_who_came_in_twice_is_reported_with_gates_and_times(house: Strongroom) -> None:
    event, user = await new_event(house, seats=(10,)), uuid7()
    await buy(house, user, event, 4)
    (booking,) = await house.ticketing.bookings(user, None, 1)
    codes = [ticket.code for ticket in booking.tickets]
    now = datetime.now(UTC)
    await house.run(CheckIn(codes[0], "A"))
    await house.run(CheckIn(codes[1], "A"))
    assert await code_of(house.run(CheckIn(codes[1], "B"))) == "already_checked_in"
    scans = (
        OfflineScan("s0", codes[0], now - timedelta(hours=1), "C"),
        OfflineScan("s2a", codes[2], now - timedelta(minutes=2), "C"),
        OfflineScan("s2b", codes[2], now - timedelta(minutes=1), "D"),
        OfflineScan("s3", codes[3], now, "D"),
        OfflineScan("f", codes[3], now, "D", forged=True),
    )
    await house.run(RecordScans(scans))
    reports = house.ticketing.reports
    found = await reports.double_entries(event.event_id, None, 10)
    gates = {one.code: [entry.gate for entry in one.entries] for one in found}
    assert gates == {codes[0]: ["C", "A"], codes[2]: ["C", "D"]}
    paged = await reports.double_entries(event.event_id, None, 1)
    paged += await reports.double_entries(event.event_id, paged[-1].ticket_id, 1)
    assert paged == found


async def test_reports_of_an_event_that_is_not_there_are_not_there(house: Strongroom) -> None:
    reports = house.ticketing.reports
    for call in (
        reports.sales(uuid7()),
        reports.attendees(uuid7(), None, 5),
        reports.double_entries(uuid7(), None, 5),
    ):
        assert await code_of(call) == "not_found"
