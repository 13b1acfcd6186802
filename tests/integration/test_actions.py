"""What operators did is on record: written with the act, by nobody's good will, for good."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
import pytest

from playing import People, code_of, ticket
from strongroom.apps.wallets import Deposit, ReverseTransfer
from strongroom.core.audit import PausePayouts, RecordReconciliation, ResumePayouts
from strongroom.core.audit.actions import Action, actions
from strongroom.core.audit.limits import SetLimit
from strongroom.core.audit.queues import EndDeadLetters, PauseQueue, ResumeQueue
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters
from strongroom.main import Strongroom

BURIED = """
INSERT INTO events.dead_letters (queue, event, error, attempts)
SELECT $1, jsonb_build_object('id', gen_random_uuid(), 'key', gen_random_uuid(), 'seq', n,
    'type', $2::text, 'payload', '{}'::jsonb), $3, 8
FROM generate_series(1, $4::integer) n
"""


async def done(house: Strongroom) -> list[tuple[str, str, str, str]]:
    """(by, action, subject, reason) of all that was done, the first first."""
    found = await actions(house.database, limit=1000)
    return [(one.by, one.action, one.subject, one.reason) for one in reversed(found)]


async def newest(house: Strongroom) -> Action:
    (found,) = await actions(house.database, limit=1)
    return found


def kept(raw: msgspec.Raw | None) -> Any:
    assert raw is not None
    return msgspec.json.decode(bytes(raw))


async def bury(owner: Database, queue: str, type: str, error: str, count: int) -> None:
    await owner.fetch(BURIED, queue, type, error, count)


async def test_pausing_and_resuming_payouts_is_on_record_with_who_and_why(
    house: Strongroom,
) -> None:
    await house.run(PausePayouts("a look"), principal="user:ann")
    await house.run(RecordReconciliation(await house.reconcile()), principal="user:bob")
    await house.run(ResumePayouts("looked"), principal="user:bob")
    found = await done(house)
    assert found[0] == ("user:ann", "payouts.pause", "payouts", "a look")
    assert [one[:2] for one in found[1:]] == [
        ("user:bob", "reconciliation.record"),
        ("user:bob", "payouts.resume"),
    ]
    last = await newest(house)
    assert (kept(last.before)["paused"], kept(last.after)["paused"]) == (True, False)


async def test_a_command_that_is_refused_leaves_no_action(house: Strongroom) -> None:
    await house.run(PausePayouts("a look"))
    before = await done(house)
    assert await code_of(house.run(ResumePayouts("too soon"))) == "reconciliation_needed"
    assert await code_of(house.run(PauseQueue("no_such_queue", "why"))) == "not_found"
    assert await code_of(house.run(SetLimit("no.such", 1, "why"))) == "not_found"
    assert await done(house) == before


async def test_what_changes_nothing_is_no_action(house: Strongroom) -> None:
    await house.run(PauseQueue("betting_match", "first"))
    await house.run(SetLimit("writes.deadline_ms", 900, "first"))
    before = await done(house)
    again = await house.run(PauseQueue("betting_match", "second"))
    same = await house.run(SetLimit("writes.deadline_ms", 900, "second"))
    assert (again.reason, same.reason) == ("first", "first")
    assert await done(house) == before


async def test_an_action_is_there_exactly_when_its_change_is(house: Strongroom) -> None:
    """Committed together: a transaction that is undone takes both with it."""
    turned = "UPDATE audit.switches SET paused = true, since = now(), by_whom = 'x', reason = 'y'"
    with pytest.raises(ZeroDivisionError):
        async with house.database.transaction() as db:
            await db.execute(turned)
            assert await db.fetchval("SELECT count(*) FROM audit.actions") == 1
            raise ZeroDivisionError
    assert await done(house) == []


async def test_queues_and_limits_are_on_record(house: Strongroom) -> None:
    await house.run(PauseQueue("betting_match", "slow"), principal="user:ann")
    await house.run(ResumeQueue("betting_match", "mended"), principal="user:ann")
    await house.run(SetLimit("rate.global", "10/minute", "a flood"), principal="user:bob")
    await house.run(SetLimit("rate.global", None, "over"), principal="user:bob")
    assert await done(house) == [
        ("user:ann", "queue.pause", "betting_match", "slow"),
        ("user:ann", "queue.resume", "betting_match", "mended"),
        ("user:bob", "limit.set", "rate.global", "a flood"),
        ("user:bob", "limit.unset", "rate.global", "over"),
    ]
    last = await newest(house)
    assert (kept(last.before)["value"], kept(last.after)["value"]) == ("10/minute", None)


async def test_dead_letters_that_are_ended_together_are_one_action_a_queue(
    house: Strongroom, owner: Database
) -> None:
    await bury(owner, "betting_match", "betting.BetPlaced", "boom", 3)
    await bury(owner, "betting_settle", "betting.SettlementDue", "boom", 2)
    await house.run(EndDeadLetters("retried", reason="mended"), principal="user:ann")
    assert await done(house) == [
        ("user:ann", "dead_letters.retry", "betting_match", "mended"),
        ("user:ann", "dead_letters.retry", "betting_settle", "mended"),
    ]
    assert kept((await newest(house)).after)["count"] == 2


async def test_one_dead_letter_is_on_record_too(house: Strongroom, owner: Database) -> None:
    await bury(owner, "betting_match", "betting.BetPlaced", "boom", 1)
    (row,) = await DeadLetters(house.database).list()
    await DeadLetters(house.database).end(row["id"], "discarded", by="operator:cli")
    assert await done(house) == [("operator:cli", "dead_letters.discard", "betting_match", "")]


async def test_a_reversal_is_on_record_with_its_reason(house: Strongroom, people: People) -> None:
    (ann,) = await people(1, funds=0)
    moved = await house.run(Deposit(ann, 500))
    await house.run(ReverseTransfer(moved.transfer_id, "paid twice"), principal="user:bob")
    assert await done(house) == [
        ("user:bob", "transfer.reverse", str(moved.transfer_id), "paid twice")
    ]
    assert await code_of(house.run(ReverseTransfer(moved.transfer_id, "again")))
    assert len(await done(house)) == 1


async def test_keys_and_operators_are_on_record_and_people_who_register_are_not(
    house: Strongroom,
) -> None:
    key_id, _ = await house.identity.create_api_key("till", "operator", by="operator:cli")
    await house.identity.revoke_api_key(key_id, by="operator:cli")
    await house.identity.revoke_api_key(key_id, by="operator:cli")
    [(ann, _)] = await house.identity.create_users(1, "operator", by="operator:cli")
    await house.identity.create_users(20, "user", by="operator:cli")
    await house.identity.register("eve@example.com", "correct horse battery", "Eve")
    await house.identity.disable(ann, by="user:bob")
    assert [one[:3] for one in await done(house)] == [
        ("operator:cli", "api_key.create", str(key_id)),
        ("operator:cli", "api_key.revoke", str(key_id)),
        ("operator:cli", "users.create", str(ann)),
        ("operator:cli", "users.create", "user"),
        ("user:bob", "user.disable", str(ann)),
    ]


async def test_who_works_on_the_tables_by_hand_is_on_record_by_login(
    house: Strongroom, owner: Database
) -> None:
    await house.run(PausePayouts("a look"), principal="user:ann")
    await owner.fetch("UPDATE audit.switches SET paused = false WHERE name = 'payouts'")
    await owner.fetch("DELETE FROM audit.switches WHERE name = 'payouts'")
    login = f"login:{await owner.fetchval('SELECT session_user')}"
    assert [one[:2] for one in await done(house)] == [
        ("user:ann", "payouts.pause"),
        (login, "payouts.resume"),
        (login, "payouts.remove"),
    ]


FORGED = {
    "written": "INSERT INTO audit.actions (by_whom, action, subject) VALUES ('x', 'y', 'z')",
    "changed": "UPDATE audit.actions SET by_whom = 'somebody else'",
    "removed": "DELETE FROM audit.actions",
    "emptied": "TRUNCATE audit.actions",
}


@pytest.fixture
async def something_done(house: Strongroom) -> Strongroom:
    await house.run(PausePayouts("a look"))
    return house


@pytest.mark.parametrize("statement", FORGED.values(), ids=FORGED)
async def test_the_application_cannot_forge_an_action(
    something_done: Strongroom, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await something_done.database.fetch(statement)


@pytest.mark.parametrize("statement", list(FORGED.values())[1:], ids=list(FORGED)[1:])
async def test_not_even_the_owner_changes_an_action(
    something_done: Strongroom, owner: Database, statement: str
) -> None:
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.fetch(statement)


async def test_actions_are_read_page_by_page_the_newest_first(house: Strongroom) -> None:
    for number in range(5):
        await house.run(SetLimit("writes.deadline_ms", 1000 + number, f"try {number}"))
    first = await actions(house.database, limit=3)
    rest = await actions(house.database, before=first[-1].id, limit=3)
    assert [one.reason for one in first + rest] == [f"try {n}" for n in (4, 3, 2, 1, 0)]


async def test_the_same_request_again_is_one_action(house: Strongroom) -> None:
    for _ in range(2):
        one = ticket(PauseQueue("betting_match", "slow"), "key-1")
        await house.executor.run([one])
        assert (await one.future).reply or (await one.future).replayed
    assert len(await done(house)) == 1
