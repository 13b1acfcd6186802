"""Acts of audit and upkeep, and of messages that fail."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from boxoffice import new_event, older, people_named, reserve
from playing import open_users
from proofs.acting import (
    Doing,
    Prepare,
    act,
    asked,
    kept_up,
    worked,
)
from strongroom.apps.ticketing import forget_reservations, reservations
from strongroom.core.audit import PausePayouts, RecordReconciliation, ResumePayouts
from strongroom.core.audit.limits import SetLimit
from strongroom.core.audit.queues import EndDeadLetters, PauseQueue, ResumeQueue
from strongroom.core.audit.reconcile import Finding, Report
from strongroom.core.audit.seals import SealEntries
from strongroom.core.commands.work import forget_answers
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters
from strongroom.doors.worker import worker_of
from strongroom.doors.worker.upkeep import Upkeep
from strongroom.errors import NotFound
from strongroom.ids import uuid7
from strongroom.main import Strongroom

# Audit and upkeep ---------------------------------------------------------------------------------


def report(*findings: Finding) -> Report:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Report(uuid7(), not findings, list(findings), at, 1)


@act(PausePayouts)
async def pause(house: Strongroom, owner: Database) -> Doing:
    return asked(PausePayouts("a drill"))


@act(ResumePayouts)
async def resume(house: Strongroom, owner: Database) -> Doing:
    await house.run(PausePayouts("a drill"))
    await house.run(RecordReconciliation(await house.reconcile()))
    return asked(ResumePayouts("the drill is over"))


@act(RecordReconciliation)
async def record_a_finding(house: Strongroom, owner: Database) -> Doing:
    """The report and the pause are one."""
    found = report(Finding("entries_sum_to_zero", "they must", [{"transfer": 1}]))
    return asked(RecordReconciliation(found))


@act(SetLimit)
async def set_a_limit(house: Strongroom, owner: Database) -> Doing:
    return asked(SetLimit("lane.PlaceBet.per_s", 100, "a flood"))


@act(SetLimit)
async def put_a_limit_back(house: Strongroom, owner: Database) -> Doing:
    await house.run(SetLimit("lane.PlaceBet.per_s", 100, "a flood"))
    return asked(SetLimit("lane.PlaceBet.per_s", None, "it is over"))


@act(PauseQueue)
async def pause_a_queue(house: Strongroom, owner: Database) -> Doing:
    return asked(PauseQueue("betting_match", "a look"))


@act(ResumeQueue)
async def resume_a_queue(house: Strongroom, owner: Database) -> Doing:
    await house.run(PauseQueue("betting_match", "a look"))
    return asked(ResumeQueue("betting_match", "looked"))


@act(SealEntries)
async def seal_what_was_read(house: Strongroom, owner: Database) -> Doing:
    await open_users(house, 3, 1000)
    (seal,) = (await house.look()).seals()
    return asked(seal)


@act(RecordReconciliation, PausePayouts)
async def reconcile(house: Strongroom, owner: Database) -> Doing:
    due = datetime(2026, 1, 1, 2, tzinfo=UTC)
    return kept_up(lambda house: Upkeep(house).reconcile(due))


@act("forget_answers", breaks=("effects_have_one_answer",))
async def forget_old_answers(house: Strongroom, owner: Database) -> Doing:
    await open_users(house, 3, 1000)
    await owner.fetch("UPDATE commands.answers SET created_at = now() - interval '90 days'")
    days = house.settings.key_retention_days
    return kept_up(lambda house: forget_answers(house.database, days, 100))


@act("forget_used_once")
async def forget_used_tokens(house: Strongroom, owner: Database) -> Doing:
    [user] = await people_named(owner, 1)
    await owner.fetch(
        "WITH s AS (INSERT INTO identity.sessions (id, user_id, refresh_hash, expires_at)"
        " VALUES ($1, $2, '\\x01', now() - interval '1 day') RETURNING id)"
        " INSERT INTO identity.used_refresh_tokens (refresh_hash, session_id, used_at)"
        " SELECT '\\x02', id, now() - interval '90 days' FROM s",
        uuid7(),
        user,
    )
    return kept_up(lambda house: house.identity.forget_used_once(100))


@act("forget_reservations")
async def forget_old_reservations(house: Strongroom, owner: Database) -> Doing:
    show = await new_event(house, 3)
    user = uuid7()
    held = await reserve(house, user, (show.type, 3))
    await house.run(reservations.ReleaseReservation(user, held.reservation_id))
    await older(owner, 90)
    await owner.fetch("UPDATE ticketing.reservations SET ended_at = now() - interval '90 days'")
    return kept_up(lambda house: forget_reservations(house.database, 100))


# Messages that fail -------------------------------------------------------------------------------


MADE_UP = ("queues_balance", "dead_letters_were_written")
"""Of a message that no event became."""


@act("bury", breaks=MADE_UP)
async def bury_what_is_unreadable(house: Strongroom, owner: Database) -> Doing:
    await owner.fetch("""SELECT pgmq.send('betting_match', '{"no": "event"}')""")
    return worked("betting_match")


@act("bury", breaks=MADE_UP)
async def bury_what_always_fails(house: Strongroom, owner: Database) -> Doing:
    """The last attempt of a message that no worker can react to."""
    await fails(owner, attempts=50)
    return worked("betting_match")


@act("postpone", breaks=MADE_UP)
async def postpone_what_fails(house: Strongroom, owner: Database) -> Doing:
    await fails(owner, attempts=0)
    return worked("betting_match")


async def fails(owner: Database, attempts: int) -> None:
    """A message of an event that says nothing of its round."""
    id = uuid7()
    await owner.fetch(
        "SELECT pgmq.send('betting_match', jsonb_build_object('id', $1::uuid, 'type',"
        " 'betting.BetPlaced', 'key', $1::uuid, 'seq', 1, 'payload', '{}'::jsonb))",
        id,
    )
    await owner.fetch("UPDATE pgmq.q_betting_match SET read_ct = $1", attempts)


def ended(ending: Any) -> Prepare:
    async def prepare(house: Strongroom, owner: Database) -> Doing:
        await bury_what_always_fails(house, owner)
        await worker_of(house).work_once("betting_match")
        [row] = await DeadLetters(house.database).list()

        async def do(house: Strongroom) -> None:
            # Who asks again is told that it was done.
            with contextlib.suppress(NotFound):
                await DeadLetters(house.database).end(row["id"], ending)

        return do

    prepare.__name__ = f"dead_letter_{ending}"
    return prepare


def ended_together(ending: Any) -> Prepare:
    async def prepare(house: Strongroom, owner: Database) -> Doing:
        for _ in range(3):
            await bury_what_always_fails(house, owner)
            await worker_of(house).work_once("betting_match")
        return asked(EndDeadLetters(ending, queue="betting_match", limit=2, reason="mended"))

    prepare.__name__ = f"dead_letters_{ending}"
    return prepare


for ending in ("retried", "discarded"):
    act("dead letters", breaks=MADE_UP)(ended(ending))
    act(EndDeadLetters, breaks=MADE_UP)(ended_together(ending))
