"""Guards that only a mutant had missed: what the database refuses whatever the code believes, and
what the code refuses before the database has to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from boxoffice import bought, new_event, reserve, tickets_of
from playing import (
    PATIENCE_S,
    WAITING,
    People,
    assert_clean,
    balances,
    bet,
    code_of,
    come_back,
    drained,
    new_round,
    seen,
)
from storefront import new_product, place, take
from strongroom.apps.betting import PlaceBet
from strongroom.apps.orders.steps import TakeStep
from strongroom.apps.ticketing.door import CheckIn
from strongroom.apps.ticketing.orders import CompleteBooking
from strongroom.core.db import Database, DatabaseDown
from strongroom.doors.http.bodies import Body, decode
from strongroom.doors.worker import worker_of
from strongroom.errors import Invalid
from strongroom.ids import uuid7
from strongroom.main import Strongroom
from strongroom.money import MAX_AMOUNT, Amount

# What the database refuses by itself --------------------------------------------------------------

MAY_WRITE = """
SELECT c.oid::regclass::text || ' ' || privilege
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname NOT IN ('information_schema', 'pg_catalog')
    AND CASE WHEN privilege IN ('INSERT', 'UPDATE')
        THEN has_any_column_privilege('strongroom_audit', c.oid, privilege)
        ELSE has_table_privilege('strongroom_audit', c.oid, privilege) END
"""

TWIN = {
    "a ticket of the same code": (
        "INSERT INTO ticketing.tickets (id, order_id, event_id, ticket_type_id, code)"
        " SELECT gen_random_uuid(), gen_random_uuid(), event_id, ticket_type_id, code"
        " FROM ticketing.tickets LIMIT 1"
    ),
    "an order of the same reservation": (
        "INSERT INTO ticketing.orders"
        " (id, reservation_id, user_id, event_id, total_amount, language, payment_id)"
        " SELECT gen_random_uuid(), reservation_id, user_id, event_id, total_amount, language,"
        " payment_id FROM ticketing.orders LIMIT 1"
    ),
    "a refund of the same payment": (
        "INSERT INTO payments.refunds (id, payment_id, amount, reason)"
        " SELECT gen_random_uuid(), id, 1, 'twice' FROM payments.payments, generate_series(1, 2)"
    ),
    "a reversal of the same transfer": (
        "INSERT INTO ledger.transfers (id, key, unit, reverses, created_by)"
        " SELECT gen_random_uuid(), 'X:' || n, 'VND', '00000000-0000-0000-0000-000000000001', 'x'"
        " FROM generate_series(1, 2) AS n"
    ),
    "mail with the tickets of the same order": (
        "INSERT INTO ticketing.mails (id, order_id, kind, amount)"
        " SELECT gen_random_uuid(), order_id, kind, amount FROM ticketing.mails LIMIT 1"
    ),
}


GUARDS = """
SELECT 'unique ' || replace(pg_get_indexdef(i.indexrelid), 'CREATE UNIQUE INDEX ', '')
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indisvalid AND n.nspname = ANY($1) AND NOT c.relispartition
UNION ALL
SELECT 'check ' || c.conrelid::regclass || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE c.contype IN ('c', 'f', 'x') AND n.nspname = ANY($1) AND NOT t.relispartition
UNION ALL
SELECT 'trigger ' || t.tgenabled::text || ' ' || replace(pg_get_triggerdef(t.oid), 'CREATE ', '')
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND n.nspname = ANY($1) AND NOT c.relispartition
"""

OURS = [
    "audit", "betting", "commands", "events", "identity", "ledger", "orders", "payments",
    "ticketing",
]  # fmt: skip

LISTED = Path(__file__).with_name("guards.txt")
"""What the schema forbids, a line each: one that goes missing has to go missing here as well."""


async def test_all_that_the_schema_forbids_is_listed_and_all_that_is_listed_is_forbidden(
    owner: Database,
) -> None:
    found = {" ".join(row[0].split()) for row in await owner.fetch(GUARDS, OURS)}
    assert found == set(LISTED.read_text("utf8").splitlines())


async def test_the_auditor_may_write_nothing(owner: Database) -> None:
    assert [row[0] for row in await owner.fetch(MAY_WRITE)] == []


@pytest.mark.parametrize("twin", TWIN)
async def test_the_database_refuses_a_second_of_what_there_is_once(
    house: Strongroom, owner: Database, twin: str
) -> None:
    show = await new_event(house, 5)
    await bought(house, (show.type, 1))
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.fetch(TWIN[twin])


# Who waits for a lock -----------------------------------------------------------------------------

HOLD = "SELECT FROM ticketing.reservations WHERE id = $1 FOR UPDATE"
END = "UPDATE ticketing.reservations SET status = 'EXPIRED', ended_at = now() WHERE id = $1"
ADMIT = "UPDATE ticketing.tickets SET status = 'CHECKED_IN', checked_in_at = now() WHERE code = $1"
CANCEL = "UPDATE orders.orders SET status = 'CANCELLED' WHERE id = $1"


async def waits_or_ends(owner: Database, task: asyncio.Task[Any]) -> None:
    """Returns when the task waits for a lock, or has not waited for any."""
    async with asyncio.timeout(PATIENCE_S):
        while not task.done() and not await owner.fetchval(WAITING):
            await asyncio.sleep(0)


async def test_whoever_completes_a_reservation_sees_how_it_ended_meanwhile(
    house: Strongroom, owner: Database
) -> None:
    show, ann = await new_event(house, 5), uuid7()
    held = await reserve(house, ann, (show.type, 1))
    async with owner.transaction() as sweep:
        await sweep.execute(END, held.reservation_id)
        completing = CompleteBooking(ann, held.reservation_id, "MOMO")
        task = asyncio.create_task(code_of(house.run(completing)))
        await waits_or_ends(owner, task)
    assert await task == "reservation_expired"


async def test_a_reservation_dies_while_somebody_waits_to_complete_it(
    house: Strongroom, owner: Database
) -> None:
    """By the clock when the lock was won, not by that of when the waiting began."""
    show, ann = await new_event(house, 5), uuid7()
    held = await reserve(house, ann, (show.type, 1))
    async with owner.transaction() as other:
        await other.execute(HOLD, held.reservation_id)
        completing = CompleteBooking(ann, held.reservation_id, "MOMO")
        task = asyncio.create_task(code_of(house.run(completing)))
        await waits_or_ends(owner, task)
        # Its end lies after the begin of the transaction that waits, and before its lock.
        await other.execute(
            "UPDATE ticketing.reservations SET expires_at = clock_timestamp() WHERE id = $1",
            held.reservation_id,
        )
    assert await task == "reservation_expired"


async def test_whoever_scans_a_ticket_sees_how_it_was_used_meanwhile(
    house: Strongroom, owner: Database
) -> None:
    show = await new_event(house, 5)
    one = await bought(house, (show.type, 1))
    (code,) = await tickets_of(house, one.order)
    async with owner.transaction() as gate:
        await gate.execute(ADMIT, code)
        task = asyncio.create_task(code_of(house.run(CheckIn(code))))
        await waits_or_ends(owner, task)
    assert await task == "already_checked_in"


async def test_whoever_ships_an_order_sees_how_it_was_cancelled_meanwhile(
    house: Strongroom, owner: Database
) -> None:
    product = await new_product(house, 5)
    placed = await place(house, (product, 1), method="COD")
    await take(house, placed.order_id, "confirm")
    async with owner.transaction() as other:
        await other.execute(CANCEL, placed.order_id)
        task = asyncio.create_task(code_of(house.run(TakeStep(placed.order_id, "ship"))))
        await waits_or_ends(owner, task)
    assert await task == "wrong_state"


# What commits together ----------------------------------------------------------------------------

BREAK_AT_COMMIT = """
CREATE FUNCTION audit.not_now() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit.not_now();
"""
MEND = "DROP TRIGGER at_commit ON {}"


async def execute(owner: Database, statements: str) -> None:
    async with owner.connection() as db:
        await db.execute(statements)


async def test_an_effect_that_could_not_commit_leaves_no_answer(
    house: Strongroom, people: People, owner: Database
) -> None:
    [ann] = await people(1, funds=100)
    round = await new_round(house)
    await execute(owner, BREAK_AT_COMMIT.format("betting.bets"))
    with pytest.raises(DatabaseDown):
        await house.run(PlaceBet(ann, round, "A", 60), key="k")
    await execute(owner, MEND.format("betting.bets"))
    placed = await house.run(PlaceBet(ann, round, "A", 60), key="k")
    assert placed.balance == 40
    assert await balances(house, [ann]) == [(40, 60)]
    await assert_clean(house)


async def test_a_message_whose_effect_could_not_commit_comes_again(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2, funds=100)
    round = await new_round(house)
    mine = await bet(house, round, ann, "A", 60)
    await bet(house, round, bob, "B", 60)
    await execute(owner, BREAK_AT_COMMIT.format("betting.matches"))
    assert await worker_of(house).work_once("betting_match")
    await execute(owner, MEND.format("betting.matches"))
    await come_back(owner)
    await drained(house)
    assert await seen(house, ann, mine) == ("MATCHED", 60, 0, 0)
    await assert_clean(house)


# What comes in ------------------------------------------------------------------------------------


class Wished(Body):
    """A body with one field."""

    amount: Amount


WISHED = msgspec.json.Decoder(Wished)
JSON = {b"content-type": b"application/json"}


@pytest.mark.parametrize(
    "raw",
    [b'{"amount":1,"amount":9}', b'{"amount":9,"amount":9}', b'{"\\u0061mount":1,"amount":9}'],
)
def test_a_body_that_names_a_field_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid, match="twice"):
        decode(raw, JSON, WISHED)


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1, 2**63])
def test_an_amount_outside_its_bounds_is_refused(amount: int) -> None:
    with pytest.raises(Invalid):
        decode(b'{"amount":%d}' % amount, JSON, WISHED)


@pytest.mark.parametrize("amount", [1, MAX_AMOUNT])
def test_an_amount_within_its_bounds_is_taken(amount: int) -> None:
    assert decode(b'{"amount":%d}' % amount, JSON, WISHED).amount == amount
