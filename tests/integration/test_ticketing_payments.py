"""Ticketing paid through the sandbox, whatever that does; and the mails that follow."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from boxoffice import (
    Bought,
    Show,
    bought,
    complete,
    earned,
    mails_of,
    new_event,
    order_now,
    ordered,
    payment_now,
    payment_of,
    people_named,
    reserve,
    seats_of,
    tell,
    tickets_of,
    time_out,
)
from playing import Houses, assert_clean, come_back, drained
from strongroom.apps.ticketing.events import CancelEvent
from strongroom.apps.ticketing.flow import SendMail
from strongroom.apps.ticketing.orders import RecordMail
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters
from strongroom.doors.worker import worker_of
from strongroom.ids import uuid7
from strongroom.main import Strongroom

MAIL = "ticketing_mail"


# The sandbox ---------------------------------------------------------------------------------------


async def asked(house: Strongroom, price: int, seats: int = 1) -> tuple[Show, Bought]:
    """Somebody's order, and what the sandbox did about it at once."""
    show = await new_event(house, seats, price=price)
    one = await ordered(house, (show.type, 1))
    await drained(house)
    return show, one


async def later(house: Strongroom, owner: Database) -> None:
    """The time of whatever the sandbox and we have put off has come."""
    for table, column in (
        ("payments.sandbox_charges", "due_at"),
        ("payments.payments", "next_query_at"),
    ):
        await owner.fetch(
            f"UPDATE {table} SET {column} = now() - interval '1 s' WHERE {column} IS NOT NULL"
        )
    await come_back(owner)
    await drained(house)


async def bank(owner: Database) -> tuple[int, int]:
    """What the bank has taken, and sent back."""
    sums = "SELECT sum(captured)::bigint, sum(refunded)::bigint FROM payments.sandbox_charges"
    taken, returned = (await owner.fetch(sums))[0]
    return taken or 0, returned or 0


async def called_off(house: Strongroom, owner: Database, show: Show) -> None:
    """Whatever has happened: the event is cancelled, and the bank keeps nothing of its money."""
    await assert_clean(house)
    await house.run(CancelEvent(show.id))
    await drained(house)
    taken, returned = await bank(owner)
    assert taken == returned
    assert await earned(house, show.id) == 0
    [(free, *taken_seats)] = await seats_of(house, show.types)
    assert free and taken_seats == [0, 0]
    await assert_clean(house)


@pytest.mark.parametrize(
    ("price", "put_off"),
    [(500_000, False), (54_002, True), (54_004, False), (54_005, False), (54_008, True)],
)
async def test_money_that_comes_at_once_slowly_twice_shuffled_or_silently_buys_once(
    house: Strongroom, owner: Database, price: int, put_off: bool
) -> None:
    show, one = await asked(house, price)
    assert (await order_now(house, one.order))[0] == ("PENDING" if put_off else "PAID")
    for _ in range(2):
        await later(house, owner)
        assert await order_now(house, one.order) == ("PAID", None)
    assert await payment_now(house, one.payment) == ("SUCCESS", price, 0)
    assert len(await tickets_of(house, one.order)) == 1
    assert await mails_of(house, one.order) == [("TICKETS", price)]
    assert await bank(owner) == (price, 0)
    await called_off(house, owner, show)


async def test_a_card_that_is_refused_leaves_the_seats_for_another_try(
    house: Strongroom, owner: Database
) -> None:
    show, one = await asked(house, 54_001)
    assert await payment_now(house, one.payment) == ("FAILED", None, 0)
    assert await order_now(house, one.order) == ("PENDING", None)
    await complete(house, one.user, one.reservation, "BANKING")
    await drained(house)
    assert await seats_of(house, show.types) == [(0, 1, 0)]
    await time_out(owner)
    await drained(house)
    assert await order_now(house, one.order) == ("TIMEOUT", None)
    await called_off(house, owner, show)


@pytest.mark.parametrize("taken", [False, True])
async def test_money_that_comes_after_the_time_takes_seats_again_or_goes_back(
    house: Strongroom, owner: Database, taken: bool
) -> None:
    show, one = await asked(house, 54_003)
    await time_out(owner)
    if taken:
        await reserve(house, uuid7(), (show.type, 1))
    await later(house, owner)
    expected = ("CANCELLED", "REFUNDED") if taken else ("PAID", "SEATS_AGAIN")
    assert await order_now(house, one.order) == expected
    assert await bank(owner) == (54_003, 54_003 if taken else 0)
    await called_off(house, owner, show)


@pytest.mark.parametrize(("price", "captured"), [(54_006, 55_006), (44_006, 43_006)])
async def test_a_wrong_amount_goes_back_to_the_bank_whole(
    house: Strongroom, owner: Database, price: int, captured: int
) -> None:
    show, one = await asked(house, price)
    await later(house, owner)
    assert await order_now(house, one.order) == ("PENDING", None)
    assert await payment_now(house, one.payment) == ("FAILED", captured, captured)
    assert await bank(owner) == (captured, captured)
    await called_off(house, owner, show)


async def test_a_forged_callback_pays_nothing(house: Strongroom, owner: Database) -> None:
    show, one = await asked(house, 54_007)
    await later(house, owner)
    assert await order_now(house, one.order) == ("PENDING", None)
    assert await payment_now(house, one.payment) == ("PENDING", None, 0)
    verdicts = await owner.fetch("SELECT DISTINCT verdict FROM payments.callbacks")
    assert [row[0] for row in verdicts] == ["forged"]
    await called_off(house, owner, show)


async def test_a_buyer_who_decides_on_the_page_after_a_release_gets_the_money_back(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 3, price=14_009)
    now, after = [await ordered(house, (show.type, 1)) for _ in range(2)]
    await drained(house)
    await time_out(owner, after.reservation)
    await reserve(house, uuid7(), (show.type, 2))
    for one in (now, after):
        payment = await house.payments.payment(await payment_of(house, one.order))
        await house.payments.sandbox.decide(payment, "9704 0000 0000 4000")
    await drained(house)
    assert await order_now(house, now.order) == ("PAID", None)
    assert await order_now(house, after.order) == ("CANCELLED", "REFUNDED")
    assert await bank(owner) == (2 * 14_009, 14_009)
    await called_off(house, owner, show)


# Mails ---------------------------------------------------------------------------------------------


def folder(house: Strongroom) -> Path:
    return house.settings.mail_dir or house.settings.data_dir / "mail"


def lying(house: Strongroom) -> dict[str, int]:
    """The mails in the folder, each with the inode of its file."""
    return {path.name: path.stat().st_ino for path in folder(house).iterdir()}


async def unsent(owner: Database) -> int:
    return int(await owner.fetchval("SELECT count(*) FROM ticketing.mails WHERE sent_at IS NULL"))


async def mail_ids(owner: Database) -> list[UUID]:
    return [row[0] for row in await owner.fetch("SELECT id FROM ticketing.mails ORDER BY id")]


async def test_each_paid_order_has_one_mail_though_its_sender_dies_in_between(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 9)
    users = await people_named(owner, 2)
    orders = [await bought(house, (show.type, 2), user=user) for user in users]
    [first, second] = await mail_ids(owner)
    # Sent, and then killed before that was recorded.
    assert await house.post.send([SendMail(first)]) == [RecordMail(first)]
    before = lying(house)
    assert before.keys() == {f"{first}.eml"}
    assert await unsent(owner) == 2
    worker = worker_of(house)
    for _ in range(2):
        await worker.work_once(MAIL)
        await come_back(owner)
    after = lying(house)
    assert after.keys() == {f"{first}.eml", f"{second}.eml"}
    assert before.items() <= after.items(), "the first file was written again"
    assert await unsent(owner) == 0
    assert await house.post.send([SendMail(first)]) == [None]
    for mail, one in zip((first, second), orders, strict=True):
        text = (folder(house) / f"{mail}.eml").read_text()
        assert f"{one.user}@example.com" in text
    await assert_clean(house)


async def test_a_mailer_that_fails_is_tried_again_and_a_mail_that_is_refused_is_buried(
    houses: Houses, owner: Database, tmp_path: Path
) -> None:
    place = tmp_path / "letters"
    place.write_text("in the way of the folder")
    house = await houses(mail_dir=place, max_attempts=2)
    show = await new_event(house, 9)
    good, gone = await people_named(owner, 2)
    await owner.fetch("UPDATE identity.users SET email = 'bưởi@example.com' WHERE id = $1", gone)
    for user in (good, gone, uuid7()):
        await bought(house, (show.type, 1), user=user)
    worker, letters = worker_of(house), DeadLetters(house.database)
    for _ in range(4):
        await worker.work_once(MAIL)
        await come_back(owner)
    assert await unsent(owner) == 3
    buried = [row["error"] for row in await letters.list()]
    assert len(buried) == 2, "the one with a bad address, and the one of nobody"
    place.unlink()
    await come_back(owner)
    await worker.work_once(MAIL)
    assert await unsent(owner) == 2
    assert len(lying(house)) == 1
    assert (await house.reconcile()).clean


async def test_a_mail_that_no_server_took_for_a_day_is_buried(
    houses: Houses, owner: Database, tmp_path: Path
) -> None:
    place = tmp_path / "letters"
    place.write_text("in the way of the folder")
    house = await houses(mail_dir=place, max_attempts=1)
    show = await new_event(house, 9)
    [user] = await people_named(owner, 1)
    await bought(house, (show.type, 1), user=user)
    await owner.fetch("UPDATE ticketing.mails SET created_at = now() - interval '25 hours'")
    await worker_of(house).work_once(MAIL)
    [letter] = await DeadLetters(house.database).list()
    assert "cannot be written" in letter["error"]
    assert (await house.reconcile()).clean


async def test_everybody_who_paid_for_an_event_that_is_called_off_is_told(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 9)
    paid, waiting = await people_named(owner, 2)
    await bought(house, (show.type, 1), user=paid)
    late = await ordered(house, (show.type, 1), user=waiting)
    await house.run(CancelEvent(show.id))
    await tell(house, late)
    worker = worker_of(house)
    for queue in ("ticketing_cancel", MAIL, MAIL):
        await worker.work_once(queue)
    kinds = await owner.fetch(
        "SELECT kind, count(*), count(sent_at) FROM ticketing.mails GROUP BY 1 ORDER BY 1"
    )
    # Tickets that are good for nothing any more are not sent after the cancellation.
    sent = [("CANCELLED", 2, 2), ("REFUNDED", 1, 1), ("TICKETS", 1, 0)]
    assert [tuple(row) for row in kinds] == sent
    assert len(lying(house)) == 3
