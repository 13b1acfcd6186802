"""Payments: asked for once, kept as told, passed on when genuine, asked after when silent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest

from playing import Houses, assert_clean, somebody_waits
from shopping import PAYEE, Ask, SendBack
from strongroom.core.commands import Command, Errand, Ticket
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters
from strongroom.core.payments import Payment, Refund
from strongroom.core.payments.callbacks import CallbackKept
from strongroom.core.payments.flow import SUBSCRIBERS, CreateCharge, Payments, RefundPending
from strongroom.core.payments.provider import Answer, Created, Notice, Provider, Verdict
from strongroom.core.payments.sandbox import CARDS, SIGNATURE, AlreadyDecided, UnknownCard
from strongroom.doors.worker import Worker
from strongroom.ids import uuid7
from strongroom.main import Strongroom

SETTLE = """UPDATE payments.payments SET status = 'SUCCESS', settled_at = now() WHERE id = $1"""

DUE_NOW = """UPDATE payments.sandbox_charges SET due_at = now() - interval '1 s'
    WHERE due_at IS NOT NULL"""

ASK_NOW = "UPDATE payments.payments SET next_query_at = now() WHERE next_query_at IS NOT NULL"

NOTICES = """SELECT payload FROM events.log WHERE type = $1 AND payload->>'paymentId' = $2
    ORDER BY position"""

CALLBACKS = """SELECT kind::text, verdict FROM payments.callbacks
    WHERE provider = 'sandbox' ORDER BY id"""

CHARGE = "SELECT state::text, captured, plan, step FROM payments.sandbox_charges"

COME_BACK = "SELECT pgmq.set_vt('payments_charge', msg_id, 0) FROM pgmq.q_payments_charge"


class Shop:
    """Somebody who takes payments, with a worker for them."""

    def __init__(self, house: Strongroom, owner: Database) -> None:
        self.house, self.owner = house, owner
        self.payments = house.payments
        self.sandbox = house.payments.sandbox

    def worker(self, payments: Payments | None = None, **more: Any) -> Worker:
        house, payments = self.house, payments or self.payments
        return Worker(
            house.database,
            house.executor,
            house.transport,
            SUBSCRIBERS,
            payments.chores,
            performers=payments.performers,
            **more,
        )

    async def ask(self, amount: int, ttl_s: int = 600) -> UUID:
        return UUID(str((await self.house.run(Ask(amount, ttl_s))).payment_id))

    async def charged(self, amount: int, ttl_s: int = 600) -> UUID:
        """Asked for, and worked once."""
        id = await self.ask(amount, ttl_s)
        assert await self.worker().work_once("payments_charge") == 1
        return id

    async def play_out(self) -> None:
        """Lets everything that the bank has still planned happen now."""
        work = self.worker()
        for _ in range(5):
            await self.owner.fetch(DUE_NOW)
            await work.chores_once()

    async def notices(self, id: UUID) -> list[tuple[str, int]]:
        """What the shop was told of a payment, in order."""
        rows = await self.owner.fetch(NOTICES, f"{PAYEE}.PaymentNotified", str(id))
        said = [msgspec.json.decode(row["payload"]) for row in rows]
        return [(one["result"], one["amount"]) for one in said]

    async def callbacks(self) -> list[tuple[str, str]]:
        return [tuple(row) for row in await self.owner.fetch(CALLBACKS)]

    async def charge(self) -> tuple[str, int, str, int]:
        row = await self.owner.fetchrow(CHARGE)
        assert row is not None
        return tuple(row)

    async def tell(self, body: bytes, signature: str) -> CallbackKept:
        """A callback from outside."""
        command = self.payments.received("sandbox", ((SIGNATURE, signature),), body)
        reply = await self.house.run(command)
        assert isinstance(reply, CallbackKept)
        return reply


@pytest.fixture
async def shop(house: Strongroom, owner: Database) -> Shop:
    return Shop(house, owner)


# Asking for money -------------------------------------------------------------------------------


async def test_the_buyer_is_sent_to_our_own_page_before_any_provider_was_called(
    shop: Shop,
) -> None:
    asked = await shop.house.run(Ask(50_000))
    assert asked.redirect_url == f"/pay/{asked.payment_id}"
    payment = await shop.payments.payment(asked.payment_id)
    assert (payment.status, payment.provider, payment.captured) == ("PENDING", "sandbox", None)
    assert await shop.owner.fetchrow(CHARGE) is None


async def test_a_round_amount_is_paid_at_once_and_told_once(shop: Shop) -> None:
    id = await shop.charged(150_000)
    assert await shop.notices(id) == [("SUCCESS", 150_000)]
    assert await shop.callbacks() == [("callback", "genuine")]
    assert (await shop.charge())[:2] == ("paid", 150_000)
    await shop.play_out()
    assert len(await shop.callbacks()) == 1
    await assert_clean(shop.house)


async def test_many_payments_are_charged_and_told_in_one_group(shop: Shop) -> None:
    await asyncio.gather(*(shop.ask(10_000 * n) for n in range(1, 101)))
    before = shop.house.executor.groups
    assert await shop.worker().work_once("payments_charge") == 100
    assert shop.house.executor.groups == before + 1
    told = await shop.owner.fetchval(
        "SELECT count(DISTINCT payload->>'paymentId') FROM events.log WHERE type = $1",
        f"{PAYEE}.PaymentNotified",
    )
    assert told == 100


async def test_a_settled_payment_is_charged_no_more(shop: Shop) -> None:
    id = await shop.ask(10_000)
    await shop.owner.fetch(SETTLE, id)
    await shop.worker().work_once("payments_charge")
    assert await shop.owner.fetchrow(CHARGE) is None


# How the sandbox misbehaves ---------------------------------------------------------------------

PAID, OFTEN = ("callback", "genuine"), ("callback", "pending")

OUTCOMES = {
    # digits: callbacks at once, callbacks in the end, notices in the end, what the bank believes
    4001: (1, [PAID], [("FAILED", 0)], ("refused", 0)),
    4002: (0, [PAID], [("SUCCESS", 54_002)], ("paid", 54_002)),
    4003: (0, [PAID], [("SUCCESS", 54_003)], ("paid", 54_003)),
    4004: (1, [PAID] * 3, [("SUCCESS", 54_004)] * 3, ("paid", 54_004)),
    4005: (1, [PAID, PAID, OFTEN], [("SUCCESS", 54_005), ("FAILED", 0)], ("paid", 54_005)),
    4006: (1, [PAID], [("SUCCESS", 55_006)], ("paid", 55_006)),
    4007: (0, [("callback", "forged")], [], ("waiting", 0)),
    4008: (0, [], [], ("paid", 54_008)),
    4009: (0, [], [], ("waiting", 0)),
}


@pytest.mark.parametrize("digits", OUTCOMES)
async def test_the_last_digits_of_an_amount_choose_what_becomes_of_it(
    shop: Shop, digits: int
) -> None:
    at_once, in_the_end, notices, believed = OUTCOMES[digits]
    id = await shop.charged(50_000 + digits)
    assert len(await shop.callbacks()) == at_once
    await shop.play_out()
    assert await shop.callbacks() == in_the_end
    assert await shop.notices(id) == notices
    assert (await shop.charge())[:2] == believed
    await assert_clean(shop.house)


async def test_a_wrong_amount_is_too_little_or_too_much(shop: Shop) -> None:
    less, more = await shop.ask(24_006), await shop.ask(14_006)
    await shop.worker().work_once("payments_charge")
    assert await shop.notices(less) == [("SUCCESS", 23_006)]
    assert await shop.notices(more) == [("SUCCESS", 15_006)]


@pytest.mark.parametrize(("amount", "low", "high"), [(54_002, 4, 5), (54_003, 602, 603)])
async def test_slow_and_late_payments_keep_their_appointment(
    shop: Shop, amount: int, low: float, high: float
) -> None:
    await shop.charged(amount)
    query = "SELECT extract(epoch FROM due_at - now())::float FROM payments.sandbox_charges"
    assert low < await shop.owner.fetchval(query) <= high
    assert await shop.worker().chores_once() == 0


async def test_duplicates_come_word_for_word_and_as_another_delivery(shop: Shop) -> None:
    await shop.charged(54_004)
    await shop.play_out()
    bodies = await shop.owner.fetch("SELECT body FROM payments.callbacks ORDER BY id")
    first, again, other = (row["body"] for row in bodies)
    assert first == again != other


async def test_what_the_bank_has_planned_survives_a_restart(shop: Shop, houses: Houses) -> None:
    id = await shop.charged(54_002)
    later = Shop(await houses(), shop.owner)
    await later.play_out()
    assert await shop.notices(id) == [("SUCCESS", 54_002)]


# The page's part --------------------------------------------------------------------------------


@pytest.mark.parametrize("card", CARDS)
async def test_a_card_decides_what_waits_for_the_page(shop: Shop, card: str) -> None:
    id = await shop.charged(54_009)
    assert await shop.sandbox.waits(id)
    spaced = " ".join((card[:4], card[4:]))
    await shop.sandbox.decide(await shop.payments.payment(id), spaced)
    await shop.play_out()
    wanted = {
        "refused": [("FAILED", 0)],
        "duplicate": [("SUCCESS", 54_009)] * 3,
        "reordered": [("SUCCESS", 54_009), ("FAILED", 0)],
        "wrong_amount": [("SUCCESS", 55_009)],
        "forged": [],
        "silent": [],
    }
    assert await shop.notices(id) == wanted.get(CARDS[card], [("SUCCESS", 54_009)])


async def test_a_card_of_nobody_is_refused_and_a_decision_is_made_once(shop: Shop) -> None:
    id = await shop.charged(54_009)
    payment = await shop.payments.payment(id)
    with pytest.raises(UnknownCard):
        await shop.sandbox.decide(payment, "4111111111111111")
    await shop.sandbox.decide(payment, "9704000000004000")
    with pytest.raises(AlreadyDecided):
        await shop.sandbox.decide(payment, "9704000000004001")
    assert await shop.notices(id) == [("SUCCESS", 54_009)]


# Callbacks from outside -------------------------------------------------------------------------


def body_of(id: UUID, **more: Any) -> bytes:
    said = {"paymentId": id, "result": "SUCCESS", "amount": 54_009, "providerRef": "X", "number": 1}
    return msgspec.json.encode(said | more)


async def test_a_signed_callback_from_outside_is_passed_on_with_what_it_says(shop: Shop) -> None:
    id = await shop.charged(54_009)
    body = body_of(id)
    kept = await shop.tell(body, shop.sandbox.sign(body))
    assert kept.verdict == "genuine"
    row = await shop.owner.fetchrow(
        "SELECT * FROM payments.callbacks WHERE id = $1", kept.callback_id
    )
    assert row is not None
    assert (row["body"], row["payment_id"], row["kind"]) == (body, id, "callback")
    assert SIGNATURE in row["headers"]
    (event,) = await shop.owner.fetch(NOTICES, f"{PAYEE}.PaymentNotified", str(id))
    assert msgspec.json.decode(event["payload"]) == {
        "paymentId": str(id),
        "result": "SUCCESS",
        "amount": 54_009,
        "providerRef": "X",
        "callbackId": str(kept.callback_id),
    }


BAD = {
    "another signature": (b"{}", "0" * 64, "forged"),
    "no signature": (b"{}", "", "forged"),
    "a signature in other letters": (b"{}", "é", "forged"),
    "bytes that are no text": (b"\xff\xfe\x00", None, "malformed"),
    "no json": (b"paid, I swear", None, "malformed"),
    "nothing": (b"", None, "malformed"),
    "an unknown field": (b'{"paid":true}', None, "malformed"),
    "a long one": (b"[" * 60_000, None, "malformed"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_not_genuine_is_kept_and_told_to_nobody(shop: Shop, name: str) -> None:
    body, signature, verdict = BAD[name]
    signature = shop.sandbox.sign(body) if signature is None else signature
    kept = await shop.tell(body, signature)
    assert kept.verdict == verdict
    row = await shop.owner.fetchrow("SELECT body, payment_id FROM payments.callbacks")
    assert row is not None
    assert (row["body"], row["payment_id"]) == (body, None)
    told = "SELECT count(*) FROM events.log WHERE type LIKE '%PaymentNotified'"
    assert await shop.owner.fetchval(told) == 0


@pytest.mark.parametrize(
    "more",
    [{"amount": -1}, {"amount": 1.5}, {"amount": 10**16}, {"result": "MAYBE"}, {"extra": 1}],
)
async def test_a_signed_callback_that_does_not_fit_is_malformed(
    shop: Shop, more: dict[str, Any]
) -> None:
    body = body_of(uuid7(), **more)
    assert (await shop.tell(body, shop.sandbox.sign(body))).verdict == "malformed"


async def test_a_callback_about_a_payment_that_never_was_is_kept_as_unknown(shop: Shop) -> None:
    body = body_of(uuid7())
    assert (await shop.tell(body, shop.sandbox.sign(body))).verdict == "unknown"


async def test_a_provider_speaks_for_its_own_payments_alone(shop: Shop) -> None:
    id = await shop.charged(54_009)
    await shop.owner.fetch("UPDATE payments.payments SET provider = 'momo'")
    body = body_of(id)
    assert (await shop.tell(body, shop.sandbox.sign(body))).verdict == "unknown"
    assert await shop.notices(id) == []


async def test_the_same_callback_twice_is_kept_twice_and_told_twice(shop: Shop) -> None:
    id = await shop.charged(54_009)
    body = body_of(id)
    for _ in range(2):
        await shop.tell(body, shop.sandbox.sign(body))
    assert len(await shop.callbacks()) == len(await shop.notices(id)) == 2


@pytest.mark.parametrize("change", ["UPDATE payments.callbacks SET verdict = ''", "DELETE FROM"])
async def test_what_came_is_never_changed(shop: Shop, change: str) -> None:
    await shop.charged(10_000)
    change = change if " SET " in change else f"{change} payments.callbacks"
    with pytest.raises(Exception, match="permission denied"):
        await shop.house.database.fetch(change)
    with pytest.raises(Exception, match="append-only"):
        await shop.owner.fetch(change)


# Asking after -----------------------------------------------------------------------------------


async def test_a_silent_payment_is_found_by_asking(shop: Shop) -> None:
    id = await shop.charged(54_008)
    work = shop.worker()
    assert await work.chores_once() == 0
    await shop.owner.fetch(ASK_NOW)
    assert await work.chores_once() == 1
    assert await shop.callbacks() == [("query", "genuine")]
    assert await shop.notices(id) == [("SUCCESS", 54_008)]


@pytest.mark.parametrize(
    ("amount", "notices"),
    [(54_001, ("FAILED", 0)), (54_006, ("SUCCESS", 55_006)), (54_000, ("SUCCESS", 54_000))],
)
async def test_an_answer_says_the_same_as_the_callback(
    shop: Shop, amount: int, notices: tuple[str, int]
) -> None:
    id = await shop.charged(amount)
    await shop.owner.fetch(ASK_NOW)
    await shop.worker().chores_once()
    assert await shop.notices(id) == [notices, notices]


async def test_what_is_not_final_says_nothing_when_asked(shop: Shop) -> None:
    id = await shop.charged(54_009)
    await shop.owner.fetch(ASK_NOW)
    assert await shop.worker().chores_once() == 1
    assert (await shop.callbacks(), await shop.notices(id)) == ([], [])


async def asked_after(shop: Shop) -> float | None:
    """When the payment is asked for next, in seconds, once it was asked now."""
    await shop.owner.fetch(ASK_NOW)
    await shop.payments.queries_due()
    query = "SELECT extract(epoch FROM next_query_at - now())::float FROM payments.payments"
    found = await shop.owner.fetchval(query)
    return None if found is None else round(float(found))


async def test_questions_come_later_and_later_until_they_end(shop: Shop) -> None:
    await shop.ask(54_009)
    first = "SELECT extract(epoch FROM next_query_at - created_at)::float FROM payments.payments"
    assert await shop.owner.fetchval(first) == 2
    waits = [await asked_after(shop) for _ in range(10)]
    assert waits == [4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    shift = "UPDATE payments.payments SET expires_at = now() - make_interval(secs => $1)"
    await shop.owner.fetch(shift, 3_500)
    assert await asked_after(shop) == 300
    await shop.owner.fetch(shift, 3_700)
    assert await asked_after(shop) == 600
    await shop.owner.fetch(shift, 3_600 + 86_500)
    assert await asked_after(shop) is None
    assert await shop.payments.queries_due() == []


async def test_a_payment_is_asked_for_by_one_of_two_at_a_time(shop: Shop, houses: Houses) -> None:
    await asyncio.gather(*(shop.ask(54_009) for _ in range(20)))
    await shop.owner.fetch(ASK_NOW)
    other = (await houses()).payments
    found = await asyncio.gather(shop.payments.queries_due(), other.queries_due())
    assert len(found[0] + found[1]) == len(set(found[0] + found[1])) == 20


async def test_a_settled_payment_is_asked_for_no_more(shop: Shop) -> None:
    id = await shop.ask(54_009)
    await shop.owner.fetch(ASK_NOW)
    await shop.owner.fetch(SETTLE, id)
    assert await shop.payments.queries_due() == []


# Crashes ----------------------------------------------------------------------------------------


async def test_a_worker_killed_between_charge_and_callback_charges_once(
    shop: Shop, houses: Houses
) -> None:
    id = await shop.ask(10_000)
    dying = Shop(await houses(), shop.owner)
    async with shop.owner.transaction() as db:
        await db.execute("LOCK TABLE payments.callbacks IN EXCLUSIVE MODE")
        task = asyncio.create_task(dying.worker().work_once("payments_charge"))
        await somebody_waits(shop.owner)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await shop.charge())[0] == "paid"
    assert await shop.notices(id) == []
    await shop.owner.fetch(COME_BACK)
    await shop.worker().work_once("payments_charge")
    assert await shop.notices(id) == [("SUCCESS", 10_000)]
    assert await shop.owner.fetchval("SELECT count(*) FROM payments.sandbox_charges") == 1
    await assert_clean(shop.house)


async def test_asking_finds_what_a_dead_worker_has_charged(shop: Shop) -> None:
    id = await shop.ask(10_000)
    await shop.sandbox.create([await shop.payments.payment(id)])
    await shop.owner.fetch(ASK_NOW)
    await shop.worker().chores_once()
    assert await shop.notices(id) == [("SUCCESS", 10_000)]


@pytest.mark.parametrize("amount", [10_000, 54_001, 54_002, 54_008, 54_009])
async def test_a_charge_asked_for_twice_is_the_first_one_again(shop: Shop, amount: int) -> None:
    payment = await shop.payments.payment(await shop.ask(amount))
    first = await shop.sandbox.create([payment])
    before = await shop.charge()
    assert await shop.sandbox.create([payment]) == first
    assert await shop.charge() == before


async def test_a_charge_decided_on_the_page_is_not_made_anew(shop: Shop) -> None:
    id = await shop.charged(54_009)
    payment = await shop.payments.payment(id)
    await shop.sandbox.decide(payment, "9704000000004001")
    [answer] = await shop.sandbox.create([payment])
    assert isinstance(answer, Answer)
    assert answer.notice.result == "FAILED"


# Refunds ----------------------------------------------------------------------------------------


async def refund_row(shop: Shop) -> Any:
    return await shop.owner.fetchrow(
        "SELECT status::text, amount, provider_ref, done_at IS NOT NULL AS done FROM payments.refunds"
    )


async def test_a_refund_is_sent_once_and_said_to_be_done(shop: Shop) -> None:
    id = await shop.charged(10_000)
    await shop.house.run(SendBack(id, 10_000))
    await shop.house.run(SendBack(id, 10_000))
    assert tuple(await refund_row(shop)) == ("PENDING", 10_000, None, False)
    assert await shop.worker().work_once("payments_refund") == 1
    row = await refund_row(shop)
    assert (row["status"], row["done"]) == ("DONE", True)
    assert row["provider_ref"]
    done = "SELECT payload FROM events.log WHERE type = 'payments.RefundDone'"
    (event,) = await shop.owner.fetch(done)
    said = msgspec.json.decode(event["payload"])
    assert said["paymentId"] == str(id)
    assert (said["payee"], said["amount"]) == (PAYEE, 10_000)
    refunded = "SELECT refunded FROM payments.sandbox_charges"
    assert await shop.owner.fetchval(refunded) == 10_000
    await assert_clean(shop.house)


async def test_a_refund_sent_twice_moves_money_once(shop: Shop) -> None:
    id = await shop.charged(10_000)
    await shop.house.run(SendBack(id, 4_000))
    payment = await shop.payments.payment(id)
    refund = Refund(Refund.id_of(id), id, 4_000, "")
    first = await shop.sandbox.refund([(refund, payment)])
    assert await shop.sandbox.refund([(refund, payment)]) == first
    assert await shop.owner.fetchval("SELECT refunded FROM payments.sandbox_charges") == 4_000
    await shop.worker().work_once("payments_refund")
    assert tuple(await refund_row(shop))[:3] == ("DONE", 4_000, first[0])


@pytest.mark.parametrize(("amount", "back"), [(10_000, 10_001), (54_009, 54_009), (54_001, 1)])
async def test_what_was_not_taken_is_not_sent_back(shop: Shop, amount: int, back: int) -> None:
    id = await shop.charged(amount)
    await shop.house.run(SendBack(id, back))
    await shop.worker(max_attempts=1).work_once("payments_refund")
    assert (await refund_row(shop))["status"] == "PENDING"
    [letter] = await DeadLetters(shop.house.database).list()
    assert "RefundImpossible" in letter["error"]


# Other providers --------------------------------------------------------------------------------


class Wallet:
    """A provider with a page of its own, that fails for odd amounts in its own ways."""

    name = "sandbox"

    def __init__(self) -> None:
        self.refunds = 0

    async def create(self, batch: Sequence[Payment]) -> list[Created | Answer | Exception]:
        if any(payment.amount == 666 for payment in batch):
            raise ConnectionError("nobody there")
        return [
            ValueError("no") if payment.amount % 2 else Created("W-1", "https://wallet.test/1")
            for payment in batch
        ]

    def verify(self, headers: object, body: bytes) -> Notice | None:
        return None

    def acknowledge(self, verdict: Verdict) -> tuple[int, bytes]:
        return 204, b""

    async def query(self, batch: Sequence[Payment]) -> list[Answer | Exception | None]:
        return [None for _ in batch]

    async def refund(self, batch: Sequence[tuple[Refund, Payment]]) -> list[str | Exception]:
        self.refunds += 1
        return [RefundPending() if self.refunds == 1 else "back" for _ in batch]


def with_provider(shop: Shop, provider: Provider) -> Payments:
    return Payments(
        shop.house.database, shop.house.executor, sandbox_secret="s" * 32, providers=[provider]
    )


async def test_the_page_of_a_provider_is_kept_and_one_refused_charge_fails_alone(
    shop: Shop,
) -> None:
    good, bad = await shop.ask(10_000), await shop.ask(10_001)
    payments = with_provider(shop, Wallet())
    await shop.worker(payments, max_attempts=1).work_once("payments_charge")
    payment = await payments.payment(good)
    assert (payment.redirect_url, payment.provider_ref) == ("https://wallet.test/1", "W-1")
    assert payment.status == "PENDING"
    [letter] = await DeadLetters(shop.house.database).list()
    assert str(bad) in letter["event"] and "ValueError" in letter["error"]


async def test_a_provider_that_is_down_fails_its_own_payments_and_no_others(shop: Shop) -> None:
    lost, paid = await shop.ask(666), await shop.ask(10_000)
    await shop.owner.fetch("UPDATE payments.payments SET provider = 'down' WHERE id = $1", lost)
    down = Wallet()
    down.name = "down"
    payments = Payments(
        shop.house.database, shop.house.executor, sandbox_secret="s" * 32, providers=[down]
    )
    await shop.worker(payments, max_attempts=1).work_once("payments_charge")
    assert await shop.notices(paid) == [("SUCCESS", 10_000)]
    [letter] = await DeadLetters(shop.house.database).list()
    assert str(lost) in letter["event"] and "nobody there" in letter["error"]


async def test_a_refund_that_its_provider_thinks_about_is_asked_for_again(shop: Shop) -> None:
    id = await shop.charged(10_000)
    await shop.house.run(SendBack(id, 10_000))
    payments = with_provider(shop, Wallet())
    work = shop.worker(payments, max_attempts=1)
    await work.work_once("payments_refund")
    assert (await refund_row(shop))["status"] == "PENDING"
    await shop.owner.fetch(
        "SELECT pgmq.set_vt('payments_refund', msg_id, 0) FROM pgmq.q_payments_refund"
    )
    await work.work_once("payments_refund")
    assert (await refund_row(shop))["status"] == "DONE"
    assert await DeadLetters(shop.house.database).list() == []


async def test_a_charge_of_a_payment_that_is_not_there_fails_alone(shop: Shop) -> None:
    id = await shop.ask(10_000)
    errands: list[Errand] = [CreateCharge(uuid7()), CreateCharge(id)]
    missing, made = await shop.payments.performers[CreateCharge](errands)
    assert isinstance(missing, Exception)
    assert isinstance(made, Command)
    ticket = Ticket(made, principal="tester", key=None)
    await shop.house.executor.run([ticket])
    assert await shop.notices(id) == [("SUCCESS", 10_000)]
