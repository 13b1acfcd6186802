"""Events, ticket types and reservations, rule by rule."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from boxoffice import (
    PRICE,
    Show,
    bought,
    complete,
    free,
    new_event,
    order_now,
    ordered,
    reserve,
    seats_of,
    swept,
    tell,
    tickets_of,
    time_out,
)
from playing import Houses, assert_clean, code_of, codes_of, drained, outcome_of, ticket
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.events import (
    MOST_SEATS,
    MOST_TICKET_TYPES,
    AddTicketType,
    CancelEvent,
    CreateEvent,
    EditEvent,
    EditTicketType,
    EndEvent,
    PublishEvent,
    slug_of,
)
from strongroom.apps.ticketing.flow import commands_due
from strongroom.apps.ticketing.reservations import (
    MOST_RESERVED,
    ReleaseReservation,
    ReserveSeats,
)
from strongroom.clock import now
from strongroom.core.commands import Command
from strongroom.core.db import Database
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from strongroom.money import MAX_AMOUNT

SOON = now() + timedelta(days=30)
HOUR = timedelta(hours=1)

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def draft(name: str = "Đêm nhạc Trịnh", slug: str | None = None, **more: Any) -> CreateEvent:
    begin = more.pop("starts_at", SOON)
    return CreateEvent(name, "Huế", begin, more.pop("ends_at", begin + HOUR), slug, **more)


async def in_state(house: Strongroom, status: str) -> Show:
    """An event that has come so far."""
    show = await new_event(house, 5, publish=status != "DRAFT")
    steps: dict[str, Command] = {"CANCELLED": CancelEvent(show.id), "ENDED": EndEvent(show.id)}
    if status in steps:
        await house.run(steps[status])
    return show


# The life of an event ------------------------------------------------------------------------------

STEPS: dict[str, tuple[Callable[[Show], Command], set[str]]] = {
    "publish": (lambda show: PublishEvent(show.id), {"DRAFT"}),
    "cancel": (lambda show: CancelEvent(show.id), {"DRAFT", "PUBLISHED"}),
    "end": (lambda show: EndEvent(show.id), {"PUBLISHED"}),
    "edit": (lambda show: EditEvent(show.id, name="Khác"), {"DRAFT", "PUBLISHED"}),
    "add a ticket type": (
        lambda show: AddTicketType(show.id, "VIP", PRICE, 1),
        {"DRAFT", "PUBLISHED"},
    ),
    "edit a ticket type": (
        lambda show: EditTicketType(show.id, show.type, name="VIP"),
        {"DRAFT", "PUBLISHED"},
    ),
}
"""By name: the command, and the states in which it is allowed."""


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_is_taken_in_its_states_alone(house: Strongroom, step: str) -> None:
    command, allowed = STEPS[step]
    for status in ("DRAFT", "PUBLISHED", "ENDED", "CANCELLED"):
        show = await in_state(house, status)
        expected = None if status in allowed else "wrong_state"
        assert await code_of(house.run(command(show))) == expected, status
    await assert_clean(house)


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_of_an_event_that_is_not_there_is_not_found(
    house: Strongroom, step: str
) -> None:
    nowhere = Show(uuid7(), [uuid7()])
    assert await code_of(house.run(STEPS[step][0](nowhere))) == "not_found"
    await assert_clean(house)


async def test_an_event_without_ticket_types_is_not_published(house: Strongroom) -> None:
    show = await new_event(house, publish=False)
    assert await code_of(house.run(PublishEvent(show.id))) == "no_ticket_types"
    await house.run(AddTicketType(show.id, "VIP", PRICE, 1))
    assert (await house.run(PublishEvent(show.id))).status == "PUBLISHED"


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [
        (SOON, SOON),
        (SOON + HOUR, SOON),
        (SOON - timedelta(days=90), SOON - timedelta(days=80)),
        (SOON, datetime.max.replace(tzinfo=SOON.tzinfo)),
    ],
)
async def test_times_that_do_not_fit_are_refused(
    house: Strongroom, starts_at: datetime, ends_at: datetime
) -> None:
    wrong = draft(starts_at=starts_at, ends_at=ends_at)
    assert await code_of(house.run(wrong)) == "invalid"
    show = await new_event(house, 1)
    edit = EditEvent(show.id, starts_at=starts_at, ends_at=ends_at)
    assert await code_of(house.run(edit)) == "invalid"


async def test_an_event_that_is_over_is_not_published_any_more(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 1, publish=False)
    await owner.fetch(
        "UPDATE ticketing.events SET starts_at = now() - interval '2 h', ends_at = now()"
    )
    assert await code_of(house.run(PublishEvent(show.id))) == "invalid"


async def test_an_edit_changes_what_is_given_and_nothing_else(house: Strongroom) -> None:
    show = await new_event(house, 1)
    before = await house.run(EditEvent(show.id))
    after = await house.run(EditEvent(show.id, banner_url="https://example.com/a.png"))
    assert after.banner_url == "https://example.com/a.png"
    assert (after.name, after.slug, after.starts_at, after.ticket_types[0].ticket_type_id) == (
        before.name, before.slug, before.starts_at, show.type,
    )  # fmt: skip
    assert (await house.run(EditEvent(show.id, banner_url=None))).banner_url is None


async def test_an_event_ends_by_itself_sells_nothing_more_and_keeps_its_promises(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 5)
    waiting, paid = await ordered(house, (show.type, 1)), await bought(house, (show.type, 1))
    await owner.fetch(
        "UPDATE ticketing.events SET starts_at = now() - interval '2 h', ends_at = now()"
    )
    for command in await commands_due(house.database):
        await house.run(command)
    assert await code_of(reserve(house, uuid7(), (show.type, 1))) == "not_on_sale"
    assert await commands_due(house.database) == []
    await tell(house, waiting)
    for one in (waiting, paid):
        assert await order_now(house, one.order) == ("PAID", None)
        [code] = await tickets_of(house, one.order)
        assert (await house.run(CheckIn(code))).status == "CHECKED_IN"
    await assert_clean(house)


# Slugs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Đêm nhạc Trịnh, Hà Nội", "dem-nhac-trinh-ha-noi"),
        ("ĐÊM NHẠC", "dem-nhac"),
        ("Lễ hội Ánh sáng – Thủ Đức 2026!", "le-hoi-anh-sang-thu-duc-2026"),
        ("  --Ưu đãi--  ", "uu-dai"),
        ("東京", ""),
        ("a" * 79 + " " + "b" * 9, "a" * 79),
    ],
)
async def test_a_slug_is_the_name_in_plain_letters(house: Strongroom, name: str, slug: str) -> None:
    assert slug_of(name) == slug
    made = await house.run(draft(name))
    assert made.slug == slug or (slug == "" and re.fullmatch(r"event-[0-9a-f]{6}", made.slug))
    again = await house.run(draft(name))
    assert again.slug != made.slug
    assert again.slug.startswith(slug or "event-")
    assert SLUG.fullmatch(made.slug) and SLUG.fullmatch(again.slug)


async def test_a_slug_names_one_event_for_ever(house: Strongroom) -> None:
    taken = await house.run(draft(slug="trinh"))
    await house.run(CancelEvent(taken.event_id))
    assert await code_of(house.run(draft(slug="trinh"))) == "slug_taken"
    other = await house.run(draft(slug="son"))
    assert await code_of(house.run(EditEvent(other.event_id, slug="trinh"))) == "slug_taken"
    assert (await house.run(EditEvent(other.event_id, slug="son"))).slug == "son"
    assert (await house.run(EditEvent(other.event_id, slug="khac"))).slug == "khac"
    assert (await house.run(draft(slug="son"))).slug == "son"


async def test_a_slug_is_never_taken_for_the_id_of_another_event(house: Strongroom) -> None:
    first = await house.run(draft())
    for form in (str(first.event_id), first.event_id.hex):
        named = await house.run(draft(form))
        assert named.slug == f"event-{form}"
        assert await code_of(house.run(draft(slug=form))) == "invalid"
        assert await code_of(house.run(EditEvent(named.event_id, slug=form))) == "invalid"
        assert (await house.ticketing.catalogue.event(form)).event_id == first.event_id


async def test_two_events_of_one_group_do_not_share_a_slug(house: Strongroom) -> None:
    named = [ticket(draft(), f"named-{n}") for n in range(2)]
    chosen = [ticket(draft("Khác", "trinh"), f"chosen-{n}") for n in range(2)]
    await house.executor.run([*named, *chosen])
    outcomes = [await one.future for one in (*named, *chosen)]
    assert [one.refused for one in outcomes] == [None, None, None, "slug_taken"]
    slugs = {one.reply.slug for one in outcomes[:3]}  # type: ignore[union-attr]
    assert len(slugs) == 3 and {"dem-nhac-trinh", "trinh"} < slugs


async def test_two_edits_of_one_group_do_not_share_a_slug(house: Strongroom) -> None:
    shows = [await new_event(house, 1) for _ in range(2)]
    edits = [ticket(EditEvent(show.id, slug="trinh"), None) for show in shows]
    await house.executor.run(edits)
    assert [(await one.future).refused for one in edits] == [None, "slug_taken"]


async def test_two_houses_do_not_give_one_slug_twice(houses: Houses, house: Strongroom) -> None:
    pair = (house, await houses())
    for n in range(5):
        calls = [one.run(draft(slug=f"trinh-{n}")) for one in pair]
        assert set(await codes_of(calls)) == {None, "slug_taken"}
        made = await asyncio.gather(*(one.run(draft(f"Đêm {n}")) for one in pair))
        assert len({one.slug for one in made}) == 2


# Ticket types --------------------------------------------------------------------------------------


async def edit(house: Strongroom, show: Show, **what: Any) -> Any:
    return await house.run(EditTicketType(show.id, show.type, **what))


async def test_a_quantity_goes_up_and_down_but_never_below_what_is_taken(
    house: Strongroom,
) -> None:
    show = await new_event(house, 5)
    await bought(house, (show.type, 2))
    await reserve(house, uuid7(), (show.type, 1))
    assert (await edit(house, show, quantity=9)).available == 6
    assert await code_of(edit(house, show, quantity=2)) == "seats_taken"
    assert (await edit(house, show, quantity=3)).available == 0
    assert (await edit(house, show, quantity=3)).quantity == 3
    assert await seats_of(house, show.types) == [(0, 1, 2)]
    assert await code_of(reserve(house, uuid7(), (show.type, 1))) == "sold_out"
    await edit(house, show, quantity=4)
    await reserve(house, uuid7(), (show.type, 1))
    await assert_clean(house)


async def test_seats_that_are_taken_away_are_not_sold_meanwhile(
    houses: Houses, house: Strongroom
) -> None:
    other = await houses()
    show = await new_event(house, 20)
    lower = [edit(other, show, quantity=n) for n in range(15, 4, -1)]
    buyers = [reserve(house, uuid7(), (show.type, 1)) for _ in range(20)]
    codes = await codes_of([call for pair in zip(lower, buyers, strict=False) for call in pair])
    assert set(codes) <= {None, "seats_taken", "sold_out"}
    await codes_of(buyers[len(lower) :])
    [(left, held, sold)] = await seats_of(house, show.types)
    assert left + held + sold == (await house.run(EditEvent(show.id))).ticket_types[0].quantity
    await assert_clean(house)


async def test_a_ticket_type_is_edited_through_its_own_event(house: Strongroom) -> None:
    show, stranger = await new_event(house, 1), await new_event(house, 1)
    wrong = EditTicketType(stranger.id, show.type, price=1)
    assert await code_of(house.run(wrong)) == "not_found"
    assert (await edit(house, show)).price == PRICE


async def test_an_event_has_a_hundred_ticket_types_at_most(house: Strongroom) -> None:
    show = await new_event(house, publish=False)
    codes = await codes_of(
        [
            house.run(AddTicketType(show.id, f"hạng {n}", PRICE, n % 3))
            for n in range(MOST_TICKET_TYPES + 2)
        ]
    )
    assert codes.count(None) == MOST_TICKET_TYPES
    assert set(codes) == {None, "too_many_ticket_types"}
    await assert_clean(house)


async def test_an_event_that_is_over_sells_nothing_before_the_clock_has_ended_it(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 9)
    await owner.fetch(
        "UPDATE ticketing.events SET starts_at = now() - interval '2 h', ends_at = clock_timestamp()"
    )
    assert await code_of(reserve(house, uuid7(), (show.type, 1))) == "not_on_sale"
    await drained(house)
    assert await owner.fetchval("SELECT status::text FROM ticketing.events") == "ENDED"


async def test_a_sale_window_opens_and_closes_on_the_second(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 5)
    call = (house, uuid7(), (show.type, 1))
    await edit(house, show, sale_starts_at=now() + HOUR)
    assert await code_of(reserve(*call)) == "not_on_sale"
    await edit(house, show, sale_starts_at=now() - HOUR, sale_ends_at=now() + HOUR)
    assert await code_of(reserve(*call)) is None
    await owner.fetch("UPDATE ticketing.ticket_types SET sale_ends_at = clock_timestamp()")
    assert await code_of(reserve(*call)) == "not_on_sale"
    assert await code_of(edit(house, show, sale_starts_at=now() + HOUR)) == "invalid"
    await edit(house, show, sale_starts_at=None, sale_ends_at=None)
    assert await code_of(reserve(*call)) is None
    wrong = AddTicketType(show.id, "VIP", PRICE, 1, SOON, SOON)
    assert await code_of(house.run(wrong)) == "invalid"


async def test_one_type_that_is_not_on_sale_holds_up_the_whole_cart(house: Strongroom) -> None:
    show = await new_event(house, 5, 5)
    late = EditTicketType(show.id, show.types[1], sale_starts_at=now() + HOUR)
    await house.run(late)
    cart = [(type, 1) for type in show.types]
    assert await code_of(reserve(house, uuid7(), *cart)) == "not_on_sale"
    assert await free(house, show.types) == [5, 5]


# Reserving -----------------------------------------------------------------------------------------


async def test_seats_are_held_all_or_none(house: Strongroom) -> None:
    show = await new_event(house, 5, 2)
    first, second = show.types
    assert await code_of(reserve(house, uuid7(), (first, 2), (second, 3))) == "sold_out"
    assert await free(house, show.types) == [5, 2]
    held = await reserve(house, uuid7(), (first, 2), (second, 2))
    assert held.total_amount == 4 * PRICE
    assert await seats_of(house, show.types) == [(3, 2, 0), (0, 2, 0)]
    await assert_clean(house)


async def test_the_same_ticket_type_on_two_lines_is_added_up(house: Strongroom) -> None:
    show = await new_event(house, 5, per_user_limit=4)
    type = show.type
    assert await code_of(reserve(house, uuid7(), (type, 3), (type, 2))) == "per_user_limit"
    held = await reserve(house, uuid7(), (type, 1), (type, 3))
    assert [(one.ticket_type_id, one.quantity) for one in held.items] == [(type, 4)]
    assert await code_of(reserve(house, uuid7(), (type, 1), (type, 1))) == "sold_out"
    assert await seats_of(house, show.types) == [(1, 4, 0)]
    await assert_clean(house)


async def test_a_cart_is_of_one_event(house: Strongroom) -> None:
    show, other = await new_event(house, 5), await new_event(house, 5)
    assert await code_of(reserve(house, uuid7(), (show.type, 1), (other.type, 1))) == "invalid"
    assert await free(house, [show.type, other.type]) == [5, 5]


async def test_what_is_not_published_cannot_be_seen_and_what_is_over_cannot_be_bought(
    house: Strongroom,
) -> None:
    expected = {"DRAFT": "not_found", "ENDED": "not_on_sale", "CANCELLED": "not_on_sale"}
    for status, code in expected.items():
        show = await in_state(house, status)
        assert await code_of(reserve(house, uuid7(), (show.type, 1))) == code
    show = await new_event(house, 1)
    assert await code_of(reserve(house, uuid7(), (show.type, 1), (uuid7(), 1))) == "not_found"
    await assert_clean(house)


async def test_a_reservation_has_a_size_and_a_sum_that_a_payment_can_carry(
    house: Strongroom,
) -> None:
    show = await new_event(house, MOST_RESERVED + 1)
    assert await code_of(reserve(house, uuid7(), (show.type, MOST_RESERVED + 1))) == (
        "too_many_seats"
    )
    await reserve(house, uuid7(), (show.type, MOST_RESERVED))
    dear = await new_event(house, 2, price=MAX_AMOUNT)
    assert await code_of(reserve(house, uuid7(), (dear.type, 2))) == "invalid"
    await reserve(house, uuid7(), (dear.type, 1))
    vast = await new_event(house, MOST_SEATS)
    assert await code_of(reserve(house, uuid7(), (vast.type, MOST_SEATS + 1))) == "sold_out"
    await assert_clean(house)


async def test_the_answer_says_until_when_by_the_databases_clock(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 5)
    before = await owner.fetchval("SELECT clock_timestamp()")
    held = await reserve(house, uuid7(), (show.type, 1), ttl_s=90)
    after = await owner.fetchval("SELECT clock_timestamp()")
    span = timedelta(seconds=90)
    assert before + span <= held.expires_at <= after + span
    stored = await owner.fetchval("SELECT expires_at FROM ticketing.reservations")
    assert stored == held.expires_at


async def test_the_same_key_holds_once_and_answers_twice(house: Strongroom) -> None:
    show = await new_event(house, 5)
    wish = ReserveSeats(uuid7(), ((show.type, 2),), 600)
    first = await outcome_of(house, ticket(wish, "key"))
    second = await outcome_of(house, ticket(wish, "key"))
    assert second.replayed and first.body == second.body
    both = [ticket(wish, "other") for _ in range(2)]
    await house.executor.run(both)
    bodies = {(await one.future).body for one in both}
    assert len(bodies) == 1 and first.body not in bodies
    assert await seats_of(house, show.types) == [(1, 4, 0)]
    await assert_clean(house)


async def test_a_changed_price_and_limit_hold_for_what_comes_later(house: Strongroom) -> None:
    show = await new_event(house, 9, per_user_limit=3)
    ann, bob = uuid7(), uuid7()
    held = await reserve(house, ann, (show.type, 3))
    await edit(house, show, price=2 * PRICE, per_user_limit=1)
    order = await complete(house, ann, held.reservation_id)
    assert order.total_amount == 3 * PRICE
    assert await code_of(reserve(house, bob, (show.type, 2))) == "per_user_limit"
    assert (await reserve(house, bob, (show.type, 1))).total_amount == 2 * PRICE
    await assert_clean(house)


# Limits of one user --------------------------------------------------------------------------------


async def test_a_user_has_no_more_seats_than_the_limit_held_and_sold_together(
    house: Strongroom,
) -> None:
    show = await new_event(house, 20, per_user_limit=4)
    ann = uuid7()
    await bought(house, (show.type, 2), user=ann)
    await reserve(house, ann, (show.type, 1))
    assert await code_of(reserve(house, ann, (show.type, 2))) == "per_user_limit"
    assert await code_of(reserve(house, ann, (show.type, 1))) is None
    assert await code_of(reserve(house, ann, (show.type, 1))) == "per_user_limit"
    assert await code_of(reserve(house, uuid7(), (show.type, 4))) is None
    await assert_clean(house)


async def test_what_expired_or_was_released_does_not_count_against_the_limit(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 20, per_user_limit=2)
    ann = uuid7()
    for ended in ("expired, unseen", "swept", "released"):
        held = await reserve(house, ann, (show.type, 2))
        assert await code_of(reserve(house, ann, (show.type, 1))) == "per_user_limit", ended
        if ended == "released":
            await house.run(ReleaseReservation(ann, held.reservation_id))
        else:
            await time_out(owner, held.reservation_id)
        if ended == "swept":
            await swept(house, held.reservation_id)
    await bought(house, (show.type, 2), user=ann)
    assert await code_of(reserve(house, ann, (show.type, 1))) == "per_user_limit"
    await assert_clean(house)


async def test_a_limit_holds_over_two_houses_at_once(houses: Houses, house: Strongroom) -> None:
    pair = (house, await houses())
    show = await new_event(house, 500, 500, per_user_limit=3)
    users = [uuid7() for _ in range(8)]
    calls = [
        pair[n % 2].run(ReserveSeats(user, ((type, 1),), 600))
        for n in range(8)
        for user in users
        for type in show.types
    ]
    codes = await codes_of(calls)
    assert codes.count(None) == 3 * len(users) * len(show.types)
    assert set(codes) == {None, "per_user_limit"}
    await assert_clean(house)


async def test_a_limit_holds_within_one_group(house: Strongroom) -> None:
    show = await new_event(house, 9, per_user_limit=3)
    ann = uuid7()
    wishes = [ticket(ReserveSeats(ann, ((show.type, 2),), 600), f"key-{n}") for n in range(3)]
    await house.executor.run(wishes)
    refused = [(await one.future).refused for one in wishes]
    assert refused == [None, "per_user_limit", "per_user_limit"]
    await assert_clean(house)


async def test_already_reserved_where_that_is_the_rule(
    houses: Houses, house: Strongroom, owner: Database
) -> None:
    pair = (house, await houses())
    show, other = await new_event(house, 9, 9), await new_event(house, 9)
    ann = uuid7()

    async def both(one_per_event: bool = True) -> list[str | None]:
        """Another ticket type of the same event, from another house, at the same time."""
        return await codes_of(
            [
                one.run(ReserveSeats(ann, ((type, 1),), 600, one_per_event))
                for one, type in zip(pair, show.types, strict=True)
            ]
        )

    assert set(await both()) == {None, "already_reserved"}
    assert set(await both()) == {"already_reserved"}
    assert await both(one_per_event=False) == [None, None]
    await reserve(house, ann, (other.type, 1), one_per_event=True)
    await reserve(house, uuid7(), (show.types[0], 1), one_per_event=True)
    await time_out(owner)
    assert set(await both()) == {None, "already_reserved"}
    await assert_clean(house)


async def test_already_reserved_within_one_group(house: Strongroom) -> None:
    show = await new_event(house, 9, 9)
    ann = uuid7()
    wishes = [
        ticket(ReserveSeats(ann, ((type, 1),), 600, one_per_event=True), str(type))
        for type in show.types
    ]
    await house.executor.run(wishes)
    refused = [(await one.future).refused for one in wishes]
    assert refused == [None, "already_reserved"]


# Giving back ---------------------------------------------------------------------------------------


async def test_seats_are_released_once_and_by_their_holder_alone(
    houses: Houses, house: Strongroom
) -> None:
    pair = (house, await houses())
    show = await new_event(house, 5, 5)
    ann = uuid7()
    held = (await reserve(house, ann, *((type, 2) for type in show.types))).reservation_id
    assert await code_of(house.run(ReleaseReservation(uuid7(), held))) == "not_found"
    assert await code_of(house.run(ReleaseReservation(ann, uuid7()))) == "not_found"
    calls = [pair[n % 2].run(ReleaseReservation(ann, held)) for n in range(6)]
    codes = await codes_of(calls)
    assert codes.count(None) == 1 and set(codes) == {None, "wrong_state"}
    assert await free(house, show.types) == [5, 5]
    await assert_clean(house)


async def test_what_is_dead_or_sold_cannot_be_released(house: Strongroom, owner: Database) -> None:
    show = await new_event(house, 5)
    held, sold = await ordered(house, (show.type, 1)), await bought(house, (show.type, 1))
    await time_out(owner, held.reservation)
    expected = {held: "reservation_expired", sold: "wrong_state"}
    for one, code in expected.items():
        release = ReleaseReservation(one.user, one.reservation)
        assert await code_of(house.run(release)) == code
    await swept(house, held.reservation)
    release = ReleaseReservation(held.user, held.reservation)
    assert await code_of(house.run(release)) == "reservation_expired"
    assert await seats_of(house, show.types) == [(4, 0, 1)]
    await assert_clean(house)
