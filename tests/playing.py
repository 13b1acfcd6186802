"""What tests do again and again: people with money, rounds with bets, queues worked empty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from strongroom.apps.betting import CloseRound, CreateRound, PlaceBet, RecordResult
from strongroom.apps.wallets import Deposit
from strongroom.core.commands import Command, Outcome, Ticket
from strongroom.core.db import Database
from strongroom.core.events import DeadLetters
from strongroom.core.ledger import open_accounts, stake, wallet
from strongroom.doors.worker import Worker, worker_of
from strongroom.errors import StrongroomError
from strongroom.ids import uuid7
from strongroom.main import SUBSCRIBERS, Strongroom

PATIENCE_S = 30
"""What has not happened by then does not happen."""

WAITING = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
"""Of this database alone: other tests, whose sessions wait as well, share the server."""

Houses = Callable[..., Awaitable[Strongroom]]


class People(Protocol):
    """Opens users with funded wallets."""

    async def __call__(self, count: int, funds: int = ...) -> list[UUID]: ...


async def open_users(house: Strongroom, count: int, funds: int) -> list[UUID]:
    users = [uuid7() for _ in range(count)]
    async with house.database.transaction() as db:
        await open_accounts(db, [key(user) for user in users for key in (wallet, stake)])
    if funds:
        await asyncio.gather(*(house.run(Deposit(user, funds)) for user in users))
    return users


async def somebody_waits(owner: Database, sessions: int = 1) -> None:
    """Returns as soon as so many sessions of this database wait for a lock."""
    async with asyncio.timeout(PATIENCE_S):
        while await owner.fetchval(WAITING) < sessions:
            await asyncio.sleep(0)


async def drained(house: Strongroom, worker: Worker | None = None) -> int:
    """Works all queues and chores until nothing is left; how many messages there were."""
    worker = worker or worker_of(house)
    count = 0
    for _ in range(1000):
        chores = await worker.chores_once()
        worked = [await worker.work_once(subscriber.queue) for subscriber in SUBSCRIBERS]
        if not chores and not any(worked):
            return count
        count += sum(worked)
    raise AssertionError("the queues never ran empty")


async def new_round(house: Strongroom, kind: str = "oracle", fee_bps: int = 0) -> UUID:
    made = await house.run(CreateRound("a round", kind, fee_bps=fee_bps))  # type: ignore[arg-type]
    return UUID(str(made.round_id))


async def bet(house: Strongroom, round: UUID, user: UUID, side: str, amount: int) -> UUID:
    made = await house.run(PlaceBet(user, round, side, amount))  # type: ignore[arg-type]
    return UUID(str(made.bet_id))


async def end_round(house: Strongroom, round: UUID, winner: str) -> None:
    """Closes, posts the result, and works until all is paid."""
    await house.run(CloseRound(round))
    await house.run(RecordResult(round, winner))  # type: ignore[arg-type]
    await drained(house)


async def code_of(call: Awaitable[Any]) -> str | None:
    """The code that a call is refused with; None when it is done."""
    try:
        await call
    except StrongroomError as error:
        return error.code
    return None


async def codes_of(calls: Sequence[Awaitable[Any]]) -> list[str | None]:
    return list(await asyncio.gather(*map(code_of, calls)))


def ticket(command: Command, key: str | None, **more: Any) -> Ticket:
    return Ticket(command, principal=more.pop("principal", "tester"), key=key, **more)


async def outcome_of(house: Strongroom, one: Ticket) -> Outcome:
    """Runs one ticket in a group of its own, past the lanes."""
    await house.executor.run([one])
    return await asyncio.wait_for(one.future, PATIENCE_S)


async def balance(house: Strongroom, user: UUID) -> int:
    return (await house.statements.wallets([user]))[user].balance


async def balances(house: Strongroom, users: Sequence[UUID]) -> list[tuple[int, int]]:
    """(wallet, stake) of each."""
    found = await house.statements.wallets(list(users))
    return [(found[user].balance, found[user].locked) for user in users]


async def house_balances(house: Strongroom) -> dict[str, int]:
    """The house's own accounts, by purpose."""
    rows = await house.statements.trial_balance()
    return {row["purpose"]: row["balance"] for row in rows}


async def come_back(owner: Database) -> None:
    """Ends all leases and delays, so that what was put off comes now."""
    for subscriber in SUBSCRIBERS:
        queue = subscriber.queue
        await owner.fetch(f"SELECT pgmq.set_vt('{queue}', msg_id, 0) FROM pgmq.q_{queue}")


async def assert_clean(house: Strongroom) -> None:
    """All invariants hold, and nothing lies in the dead letters."""
    report = await house.reconcile()
    assert report.clean, "\n".join(map(str, report.findings))
    assert await DeadLetters(house.database).list() == []


async def seen(house: Strongroom, user: UUID, bet_id: UUID) -> tuple[str, int, int, int]:
    """(status, matched, refunded, payout) of a bet."""
    shown = await house.betting.bet(user, bet_id)
    return shown.status, shown.matched, shown.refunded, shown.payout


async def status(house: Strongroom, round: UUID) -> str:
    return (await house.betting.round(round)).status
