"""Acts of wallets and of betting."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from playing import bet, drained, new_round, open_users
from proofs.acting import (
    BEGIN,
    BETTING,
    Doing,
    act,
    asked,
    chore,
    worked,
    worked_through,
)
from strongroom.apps.betting import (
    CancelBet,
    CloseRound,
    CreateRound,
    PlaceBet,
    RecordResult,
    VoidRound,
    bets,
    rounds,
    settlement,
)
from strongroom.apps.wallets import (
    BatchItem,
    Deposit,
    ReverseTransfer,
    Transfer,
    TransferBatch,
    Withdraw,
)
from strongroom.core.audit import PausePayouts
from strongroom.core.db import Database
from strongroom.doors.worker import worker_of
from strongroom.main import Strongroom

# Wallets ------------------------------------------------------------------------------------------


@act(Deposit)
async def deposit(house: Strongroom, owner: Database) -> Doing:
    [ann] = await open_users(house, 1, 1000)
    return asked(Deposit(ann, 500, "by bank"))


@act(Withdraw)
async def withdraw(house: Strongroom, owner: Database) -> Doing:
    [ann] = await open_users(house, 1, 1000)
    return asked(Withdraw(ann, 300))


@act(Withdraw)
async def withdraw_too_much(house: Strongroom, owner: Database) -> Doing:
    """A refusal by a rule is kept and replayed as well."""
    [ann] = await open_users(house, 1, 1000)
    return asked(Withdraw(ann, 3000))


@act(Transfer)
async def transfer(house: Strongroom, owner: Database) -> Doing:
    ann, bob = await open_users(house, 2, 1000)
    return asked(Transfer(ann, bob, 300))


@act(ReverseTransfer)
async def reverse(house: Strongroom, owner: Database) -> Doing:
    ann, bob = await open_users(house, 2, 1000)
    done = await house.run(Transfer(ann, bob, 300))
    return asked(ReverseTransfer(done.transfer_id, "a slip"))


@act(TransferBatch)
async def transfer_batch(house: Strongroom, owner: Database) -> Doing:
    ann, bob, cho = await open_users(house, 3, 1000)
    items = (
        BatchItem("a", ann, bob, 700),
        BatchItem("b", bob, cho, 1700),
        BatchItem("c", ann, cho, 700),
    )
    return asked(TransferBatch("independent", items))


@act(TransferBatch)
async def transfer_batch_whole(house: Strongroom, owner: Database) -> Doing:
    ann, bob = await open_users(house, 2, 1000)
    items = (BatchItem("a", ann, bob, 700), BatchItem("b", bob, ann, 1700))
    return asked(TransferBatch("atomic", items))


# Betting ------------------------------------------------------------------------------------------


async def table(house: Strongroom, **more: Any) -> tuple[UUID, list[UUID]]:
    """A round with three bets, two of which can meet in part; nobody has worked yet."""
    users = await open_users(house, 3, 1000)
    round = await new_round(house, fee_bps=250, **more)
    for user, side, amount in zip(users, "ABA", (400, 600, 300), strict=True):
        await bet(house, round, user, side, amount)
    return round, users


@act(CreateRound)
async def create_round(house: Strongroom, owner: Database) -> Doing:
    return asked(CreateRound("the final", "coinflip", BEGIN, 250))


@act(PlaceBet)
async def place_bet(house: Strongroom, owner: Database) -> Doing:
    [ann] = await open_users(house, 1, 1000)
    return asked(PlaceBet(ann, await new_round(house), "A", 400))


@act(CancelBet)
async def cancel_bet(house: Strongroom, owner: Database) -> Doing:
    """What is matched stays, what is open goes back."""
    round, users = await table(house)
    await drained(house)
    late = await bet(house, round, users[2], "A", 100)
    return asked(CancelBet(users[2], late))


@act(CloseRound)
async def close_round(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    return asked(CloseRound(round))


@act(BETTING, CloseRound)
async def close_on_time(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    past = "UPDATE betting.rounds SET closes_at = now() - interval '1 s' WHERE id = $1"
    await owner.fetch(past, round)
    return chore(0)


@act(RecordResult)
async def record_result(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await drained(house)
    return asked(RecordResult(round, "A"))


@act(RecordResult)
async def record_void(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await drained(house)
    return asked(RecordResult(round, "VOID"))


@act(VoidRound)
async def void_round(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await drained(house)
    return asked(VoidRound(round))


@act("betting_match", settlement.MatchRound)
async def match(house: Strongroom, owner: Database) -> Doing:
    await table(house)
    return worked("betting_match")


@act("betting_match", settlement.MatchRound)
async def match_the_last(house: Strongroom, owner: Database) -> Doing:
    """After the close, with a result known: what follows is refunds and payments."""
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await house.run(RecordResult(round, "B"))
    return worked("betting_match")


async def decided(house: Strongroom, winner: str = "A") -> UUID:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await drained(house)
    await house.run(RecordResult(round, winner))  # type: ignore[arg-type]
    return round


@act("betting_settle", settlement.SettleMatches, rounds.FinishRound)
async def settle(house: Strongroom, owner: Database) -> Doing:
    await decided(house)
    return worked_through("betting_settle")


@act("betting_settle", settlement.SettleMatches, rounds.FinishRound)
async def settle_in_two_chunks(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await drained(house)
    ann, bob = await open_users(house, 2, 1000)
    for user, side in ((ann, "A"), (bob, "B")):
        await bet(house, round, user, side, 500)
    await drained(house)
    await house.run(CloseRound(round))
    await drained(house)
    chunk, rounds.CHUNK = rounds.CHUNK, 1
    await house.run(RecordResult(round, "B"))
    rounds.CHUNK = chunk
    return worked_through("betting_settle")


@act("betting_settle", settlement.SettleMatches, rounds.FinishRound)
async def settle_while_paused(house: Strongroom, owner: Database) -> Doing:
    """The messages start over, and nothing is paid."""
    await decided(house)
    await house.run(PausePayouts("a drill"))
    return worked("betting_settle")


@act("betting_settle", rounds.FinishRound)
async def finish_round(house: Strongroom, owner: Database) -> Doing:
    await decided(house)
    await worker_of(house).work_once("betting_settle")
    return worked("betting_settle")


@act("betting_settle", settlement.UndoMatches)
async def undo(house: Strongroom, owner: Database) -> Doing:
    await decided(house, "VOID")
    return worked("betting_settle")


@act("betting_refund", bets.RefundRound)
async def refund_the_rest(house: Strongroom, owner: Database) -> Doing:
    round, _ = await table(house)
    await house.run(CloseRound(round))
    await worker_of(house).work_once("betting_match")
    return worked("betting_refund")


@act("betting_refund", bets.RefundRound)
async def refund_a_void(house: Strongroom, owner: Database) -> Doing:
    await decided(house, "VOID")
    await worker_of(house).work_once("betting_settle")
    return worked("betting_refund")


@act(BETTING, bets.RefundRound)
async def refund_who_waited(house: Strongroom, owner: Database) -> Doing:
    await table(house)
    await drained(house)
    await owner.fetch("UPDATE betting.bets SET created_at = created_at - interval '1 hour'")
    return chore(0)
