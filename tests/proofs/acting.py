"""What an act is, and the ways to do one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NamedTuple

from playing import ticket
from strongroom.core.commands import Command, Outcome
from strongroom.core.db import Database
from strongroom.doors.worker import worker_of
from strongroom.doors.worker.worker import Worker
from strongroom.main import SUBSCRIBERS, Strongroom

KEY = "the-same-each-time"

BEGIN = datetime(2099, 1, 1, 20, tzinfo=UTC)
"""When what is prepared takes place."""

Doing = Callable[[Strongroom], Awaitable[Outcome | None]]
"""Does the act in a house; the outcome of a command that a caller waits for."""

Prepare = Callable[[Strongroom, Database], Awaitable[Doing]]


class Act(NamedTuple):
    """`covers`: the commands, errands, queues and chores that are done in it, all of them.
    `said_again`: it has no key, and is told again when it is asked for again: a provider's words,
    an edit to what is there already. All else happens once.
    `breaks`: the invariants that its world breaks, because something in it was made up."""

    name: str
    prepare: Prepare
    covers: frozenset[object]
    said_again: bool = False
    breaks: tuple[str, ...] = ()


NOTED: dict[str, Act] = {}


def act(
    *covers: object, said_again: bool = False, breaks: tuple[str, ...] = ()
) -> Callable[[Prepare], Prepare]:
    def note(prepare: Prepare) -> Prepare:
        name = prepare.__name__
        NOTED[name] = Act(name, prepare, frozenset(covers), said_again, breaks)
        return prepare

    return note


# Ways to do one -----------------------------------------------------------------------------------


def asked(command: Command) -> Doing:
    """By somebody who waits for the answer, with a key where the command takes one."""

    async def do(house: Strongroom) -> Outcome:
        key = None if command.idempotent else KEY
        return await house.lanes.run(ticket(command, key))

    return do


def worked(queue: str) -> Doing:
    """By a worker that finds messages in its queue."""

    async def do(house: Strongroom) -> None:
        await worker_of(house).work_once(queue)

    return do


def worked_through(queue: str) -> Doing:
    """By a worker that also works what follows in the same queue, as it would after a crash."""

    async def do(house: Strongroom) -> None:
        worker = worker_of(house)
        while await worker.work_once(queue):
            pass

    return do


def chore(number: int) -> Doing:
    """By the clock: one of the house's chores."""

    async def do(house: Strongroom) -> None:
        await Worker(
            house.database,
            house.executor,
            house.transport,
            SUBSCRIBERS,
            [house.chores[number]],
            performers=house.performers,
        ).chores_once()

    return do


def kept_up(work: Callable[[Strongroom], Awaitable[object]]) -> Doing:
    """By the worker that leads, now and then."""

    async def do(house: Strongroom) -> None:
        await work(house)

    return do


BETTING, TICKETING, ORDERS, QUERIES, DELIVERIES = (f"chore {n}" for n in range(5))
"""The house's chores, in their order."""
