"""Commands in groups on a real Postgres: keys, replays, refusals, poison, lost races."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from playing import (
    PATIENCE_S,
    WAITING,
    Houses,
    People,
    balance,
    code_of,
    outcome_of,
    somebody_waits,
    ticket,
)
from strongroom.clock import monotonic
from strongroom.core.commands import Outcome, Ticket
from strongroom.core.commands.command import IdempotencyKeyReused, RequestInProgress
from strongroom.core.db import Database
from strongroom.core.db.database import SETTINGS
from strongroom.errors import StoredRefusal
from strongroom.main import Strongroom
from wishes import POISONS, Crossed, Granted, Meeting, NotToday, Wish

TRANSFERS = "SELECT count(*) FROM ledger.transfers WHERE key LIKE $1"
ANSWERS = "SELECT count(*) FROM commands.answers WHERE command = 'Wish'"
CLAIM = "SELECT pg_advisory_lock($1)"
RELEASE = "SELECT pg_advisory_unlock($1)"
HOLD = "SELECT FROM ledger.accounts WHERE owner_id = $1 AND purpose = 'wallet' FOR UPDATE"


async def together(house: Strongroom, tickets: Sequence[Ticket]) -> list[Outcome]:
    """Runs the tickets in one group."""
    await house.executor.run(tickets)
    return [await one.future for one in tickets]


async def granted(owner: Database) -> int:
    found = await owner.fetchval(TRANSFERS, "WISH:%")
    return int(found)


def lock_of(one: Ticket) -> int:
    """The advisory lock that stands for a ticket's key, as the executor takes it."""
    assert one.id is not None
    return one.id.int >> 64 & 0x7FFF_FFFF_FFFF_FFFF ^ one.id.int & 0xFFFF_FFFF


# Replays ------------------------------------------------------------------------------------------


async def test_the_same_key_again_gives_the_first_answer_byte_for_byte(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    wish = Wish(ann, bob, 10)
    first = await outcome_of(house, ticket(wish, "k"))
    second = await outcome_of(house, ticket(wish, "k"))
    assert (first.replayed, second.replayed) == (False, True)
    assert first.body and second.body == first.body
    assert await granted(owner) == 1


async def test_another_process_replays_what_the_first_has_answered(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    first = await outcome_of(house, ticket(Wish(ann, bob, 10), "k"))
    second = await outcome_of(await houses(), ticket(Wish(ann, bob, 10), "k"))
    assert second.replayed and second.body == first.body
    assert await granted(owner) == 1


async def test_a_replay_comes_before_any_look_at_the_state(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=10)
    first = await outcome_of(house, ticket(Wish(ann, bob, 10), "k"))
    assert await balance(house, ann) == 0
    second = await outcome_of(house, ticket(Wish(ann, bob, 10), "k"))
    assert second.body == first.body


async def test_the_same_key_with_another_body_is_refused_and_moves_nothing(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    await outcome_of(house, ticket(Wish(ann, bob, 10), "k"))
    other = await outcome_of(house, ticket(Wish(ann, bob, 11), "k"))
    assert isinstance(other.error, IdempotencyKeyReused)
    assert await granted(owner) == 1


async def test_the_same_key_twice_in_a_group_has_one_effect(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    first, second = await together(house, [ticket(Wish(ann, bob), "k") for _ in range(2)])
    assert (first.replayed, second.replayed) == (False, True)
    assert first.body == second.body
    assert await granted(owner) == 1


async def test_the_same_key_with_another_body_in_a_group_is_refused(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    first, second = await together(
        house, [ticket(Wish(ann, bob, amount), "k") for amount in (10, 11)]
    )
    assert first.error is None
    assert isinstance(second.error, IdempotencyKeyReused)
    assert await granted(owner) == 1


async def test_a_key_belongs_to_its_principal(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    wish = Wish(ann, bob)
    mine, yours = await together(
        house, [ticket(wish, "k", principal="user:ann"), ticket(wish, "k", principal="user:bob")]
    )
    assert not mine.replayed and not yours.replayed
    assert mine.body != yours.body
    assert await granted(owner) == 2


async def test_an_answer_says_for_whom_and_for_what_it_was_given(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    done = await outcome_of(house, ticket(Wish(ann, bob), "k", principal="user:ann"))
    row = await owner.fetchrow("SELECT * FROM commands.answers WHERE command = 'Wish'")
    assert row is not None and isinstance(done.reply, Granted)
    assert (row["principal"], row["key"], row["refused"]) == ("user:ann", "k", None)
    assert row["subject"] == done.reply.transfer_id
    assert row["body"] == done.body


# Refusals -----------------------------------------------------------------------------------------


async def test_a_refusal_is_kept_and_replayed_with_the_request_that_met_it(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=0)
    request = uuid4()
    first = await outcome_of(house, ticket(Wish(ann, bob, 10), "k", request=request))
    assert first.refused == "insufficient_funds"
    [cem] = await people(1, funds=100)
    await outcome_of(house, ticket(Wish(cem, ann, 100), "money comes"))
    second = await outcome_of(house, ticket(Wish(ann, bob, 10), "k", request=uuid4()))
    assert second.replayed and second.body == first.body
    with pytest.raises(StoredRefusal) as refusal:
        second.check()
    assert refusal.value.code == "insufficient_funds"
    assert refusal.value.request_id == str(request)
    assert await balance(house, ann) == 100


@pytest.mark.parametrize("fate", ["invalid", "not_found", "busy"])
async def test_what_no_rule_refused_leaves_its_key_free(
    house: Strongroom, people: People, fate: str
) -> None:
    ann, bob = await people(2)
    first = await outcome_of(house, ticket(Wish(ann, bob, fate=fate), "k"))
    assert first.error is not None
    second = await outcome_of(house, ticket(Wish(ann, bob), "k"))
    assert second.error is None and not second.replayed


@pytest.mark.parametrize("fate", ["invalid", "not_found", "busy"])
async def test_a_key_left_free_serves_another_body_in_the_same_group(
    house: Strongroom, people: People, owner: Database, fate: str
) -> None:
    ann, bob = await people(2)
    first, second = await together(
        house, [ticket(Wish(ann, bob, fate=fate), "k"), ticket(Wish(ann, bob), "k")]
    )
    assert first.error is not None
    assert second.error is None
    assert await granted(owner) == 1


@pytest.mark.parametrize("fate", ["refused", "invalid", "not_found", "busy"])
async def test_a_refused_command_leaves_its_neighbours_alone(
    house: Strongroom, people: People, owner: Database, fate: str
) -> None:
    ann, bob = await people(2)
    wishes = [Wish(ann, bob), Wish(ann, bob, fate=fate), Wish(bob, ann)]
    before = house.executor.groups
    outcomes = await together(house, [ticket(w, f"k{i}") for i, w in enumerate(wishes)])
    assert house.executor.groups == before + 1
    assert [bool(o.error or o.refused) for o in outcomes] == [False, True, False]
    assert await granted(owner) == 2


async def test_who_lacks_funds_in_a_group_is_refused_and_the_others_paid(
    house: Strongroom, people: People
) -> None:
    ann, bob = await people(2, funds=10)
    wishes = [Wish(ann, bob, amount) for amount in (6, 6, 4)]
    outcomes = await together(house, [ticket(w, f"k{i}") for i, w in enumerate(wishes)])
    assert [o.refused for o in outcomes] == [None, "insufficient_funds", None]
    assert await balance(house, ann) == 0


# Poison -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", [*POISONS, "effect_twice"])
async def test_a_poisonous_command_fails_alone(
    house: Strongroom, people: People, owner: Database, fate: str
) -> None:
    ann, bob = await people(2)
    if fate == "effect_twice":
        await outcome_of(house, ticket(Wish(ann, bob, fate=fate), "the first time"))
    tickets = [ticket(Wish(ann, bob), f"k{i}") for i in range(6)]
    poison = ticket(Wish(ann, bob, 100, fate), "poison")
    await house.executor.run([*tickets[:3], poison, *tickets[3:]])
    assert all([(await one.future).reply for one in tickets])
    with pytest.raises(Exception) as error:
        (await poison.future).check()
    assert not isinstance(error.value, NotToday)
    assert await granted(owner) == 6
    assert await balance(house, bob) == 1_000_006 + (fate == "effect_twice")
    assert await owner.fetchval(ANSWERS) == 6 + (fate == "effect_twice")
    report = await house.reconcile()
    assert report.clean, report.findings


async def test_a_poisonous_command_leaves_its_key_free(house: Strongroom, people: People) -> None:
    ann, bob = await people(2)
    poison = ticket(Wish(ann, bob, fate="bug_after_change"), "k")
    await house.executor.run([poison])
    assert isinstance(poison.future.exception(), ZeroDivisionError)
    mended = await outcome_of(house, ticket(Wish(ann, bob), "k"))
    assert mended.reply and not mended.replayed


async def test_several_poisons_in_a_group_all_fail_alone(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    fates = ["fine", "bug", "divides_by_zero", "fine", "refused_after_change", "nul_in_text"] * 3
    tickets = [ticket(Wish(ann, bob, fate=fate), f"k{i}") for i, fate in enumerate(fates)]
    await house.executor.run(tickets)
    fine = [one.future.exception() is None for one in tickets]
    assert fine == [fate == "fine" for fate in fates]
    assert await granted(owner) == 6


async def test_a_twin_of_a_poisonous_command_meets_the_same_end(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    twins = [ticket(Wish(ann, bob, fate="bug"), "k") for _ in range(2)]
    await house.executor.run([*twins, ticket(Wish(ann, bob), "other")])
    assert all(isinstance(one.future.exception(), ZeroDivisionError) for one in twins)
    assert await granted(owner) == 1


# Between processes --------------------------------------------------------------------------------


async def test_the_same_key_in_two_processes_at_once_has_one_effect(
    houses: Houses, house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    other = await houses()
    for number in range(20):
        tickets = [
            ticket(Wish(ann, bob), f"k{number}", deadline=monotonic() + 10) for _ in range(2)
        ]
        await asyncio.gather(house.executor.run([tickets[0]]), other.executor.run([tickets[1]]))
        outcomes = [await one.future for one in tickets]
        assert sorted(outcome.replayed for outcome in outcomes) == [False, True]
        assert outcomes[0].body == outcomes[1].body
    assert await granted(owner) == 20


async def test_a_key_that_is_worked_on_elsewhere_is_in_progress_after_the_deadline(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    asked = ticket(Wish(ann, bob), "k", deadline=monotonic() + 0.1)
    async with owner.connection() as db:
        await db.execute(CLAIM, lock_of(asked))
        neighbour = ticket(Wish(ann, bob), "neighbour")
        await house.executor.run([asked, neighbour])
        assert neighbour.done
        assert isinstance((await asked.future).error, RequestInProgress)
        await db.execute(RELEASE, lock_of(asked))
    assert await granted(owner) == 1
    again = await outcome_of(house, ticket(Wish(ann, bob), "k"))
    assert again.reply and not again.replayed


async def test_a_key_that_comes_free_before_the_deadline_is_served(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    asked = ticket(Wish(ann, bob), "k", deadline=monotonic() + 10)
    async with owner.connection() as db:
        await db.execute(CLAIM, lock_of(asked))
        await house.executor.run([asked])
        assert not asked.done
        await db.execute(RELEASE, lock_of(asked))
    outcome = await asyncio.wait_for(asked.future, 10)
    assert outcome.reply and not outcome.replayed


async def test_a_deadlock_is_run_again(houses: Houses, owner: Database) -> None:
    await owner.fetch(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 20',"
        " current_database()); END $$"
    )
    one, other = await houses(), await houses()
    Crossed.meeting = Meeting()
    tickets = [ticket(Crossed(1, 2), "there"), ticket(Crossed(2, 1), "back")]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(one.executor.run([tickets[0]]), other.executor.run([tickets[1]]))
        assert all([(await crossed.future).reply for crossed in tickets])


async def test_a_connection_that_is_killed_midway_is_replaced_and_the_work_done_once(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    asked = ticket(Wish(ann, bob), "k")
    async with owner.transaction() as db:
        await db.execute(HOLD, ann)
        running = asyncio.create_task(house.executor.run([asked]))
        await somebody_waits(owner)
        await owner.fetch(WAITING.replace("count(*)", "pg_terminate_backend(pid)"))
    await running
    assert (await asked.future).reply
    assert await granted(owner) == 1


async def test_a_commit_that_broke_is_resolved_by_claiming_the_key_again(
    house: Strongroom, people: People, owner: Database
) -> None:
    ann, bob = await people(2)
    async with owner.transaction() as db:
        await db.execute(
            """CREATE SEQUENCE commands.commits;
            CREATE FUNCTION commands.die_once() RETURNS trigger SECURITY DEFINER
            LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('commands.commits') = 1 THEN
                    PERFORM pg_terminate_backend(pg_backend_pid());
                END IF;
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON commands.answers
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION commands.die_once()"""
        )
    outcome = await outcome_of(house, ticket(Wish(ann, bob), "k"))
    assert outcome.reply
    assert await owner.fetchval("SELECT last_value FROM commands.commits") == 2
    assert await granted(owner) == 1


async def test_a_row_that_another_holds_too_long_delays_only_those_who_need_it(
    houses: Houses, people: People, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob, cem = await people(3)
    monkeypatch.setitem(SETTINGS, "lock_timeout", "50")
    impatient = await houses()
    held, free = ticket(Wish(ann, bob), "held"), ticket(Wish(cem, bob), "free")
    async with owner.transaction() as db:
        await db.execute(HOLD, ann)
        await impatient.executor.run([held, free])
    assert (await free.future).reply
    assert (await code_of(_checked(held))) == "row_held"
    assert await granted(owner) == 1


async def _checked(one: Ticket) -> None:
    (await one.future).check()


# What a command must bring ------------------------------------------------------------------------


async def test_a_command_without_a_key_must_be_idempotent_by_itself() -> None:
    with pytest.raises(AssertionError, match="Wish needs a key"):
        ticket(Wish(UUID(int=1), UUID(int=2)), None)


async def test_the_fingerprint_is_of_what_was_said_and_of_the_command() -> None:
    wish = Wish(UUID(int=1), UUID(int=2), 5)
    same, other = ticket(wish, "k"), ticket(replace(wish, amount=6), "k2")
    assert same.fingerprint == ticket(replace(wish), "another").fingerprint
    assert same.fingerprint != other.fingerprint
    assert same.id == ticket(other.command, "k").id != other.id
