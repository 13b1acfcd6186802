"""Who lives through a history: clients that move money, read, repeat themselves and hang up, and
write down what they did and saw."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from strongroom.errors import Busy, Refused
from strongroom.lab.audit.history import Entry, History, Operation, Snapshot, violations
from strongroom.lab.wire import Address, Broken, Reply, Wire, request

FIRST = 1000
"""What each account begins with: transfers ask for up to half as much again, so that some are
refused."""

PAGE = 200
"""Entries of a statement at a time: the contract's most."""

LOOK_SHARE, TWIN_SHARE, HANG_UP_SHARE, REPEAT_SHARE, LEAVE_SHARE = 0.3, 0.15, 0.15, 0.1, 0.1
"""How often a client also reads all accounts, sends its request twice at once, hangs up first,
asks again after the answer, and goes to another process."""

ACCEPTED = 201
BROKE = (400, "insufficient_funds")


class NotAsExpected(Refused):
    """The house answered what the contract does not know."""


class CannotLeave(Refused):
    """Payouts are paused, so the audit could not take its money out again. Resume them first."""


class NoHouse(Busy):
    """Nobody answers there as a house would. See that the address is right, and that it is up."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be lived through: `operations` in all, by `clients` at once, among `accounts`."""

    addresses: list[Address]
    token: str
    operations: int = 1000
    clients: int = 16
    accounts: int = 6
    seed: int = 0


class Audited(msgspec.Struct, kw_only=True):
    """What came of it. `violations` are those of the history, `findings` those that the house's own
    reconciliation told."""

    accounts: int
    done: int
    refused: int
    snapshots: int
    hung_up: int
    repeated: int
    broken: int
    violations: list[str]
    findings: list[str]
    seconds: float

    @property
    def sound(self) -> bool:
        return not self.violations and not self.findings


class Account(msgspec.Struct, frozen=True):
    """A user that the audit registered itself."""

    user_id: str
    token: str


class Witness:
    """The clients of one audit, and what they wrote down."""

    def __init__(self, plan: Audit, accounts: Sequence[Account]) -> None:
        self.plan, self.accounts = plan, list(accounts)
        self.operations: list[Operation] = []
        self.snapshots: list[Snapshot] = []
        self.hung_up = self.repeated = self.broken = 0

    @property
    def users(self) -> list[str]:
        return [account.user_id for account in self.accounts]

    async def live(self, step: Callable[[int], None] = lambda _: None) -> None:
        """Gives each account its first money, lets all clients do their share, and ends when the
        last has its last answer. `step` hears how many operations have ended."""
        plan = self.plan
        for account in self.accounts:
            await self.do(
                self._wire(0), random.Random(0), *self.deposit(account, FIRST), rude=False
            )
        shares = [plan.operations // plan.clients] * plan.clients
        shares[0] += plan.operations % plan.clients
        await asyncio.gather(
            *(self._client(number, share, step) for number, share in enumerate(shares))
        )

    async def history(self) -> History:
        """All that was seen, and the statements of the accounts as they are now."""
        return History(self.operations, self.snapshots, await self._statements())

    async def leave(self) -> None:
        """Takes out what is left in the accounts."""
        wire = self._wire(1)
        for account in self.accounts:
            path = "/api/wallets/me"
            left = (await wire.until_definite(request("GET", path, account.token))).json["balance"]
            if left:
                await self.do(wire, random.Random(0), *self.withdrawal(account, left), rude=False)
        wire.close()

    # Wishes -----------------------------------------------------------------------------------

    def deposit(self, account: Account, amount: int) -> tuple[Operation, bytes]:
        key, path = uuid4().hex, f"/api/wallets/{account.user_id}/deposits"
        said = request("POST", path, self.plan.token, key, {"amount": amount})
        return Operation(key, None, account.user_id, amount, 0.0), said

    def withdrawal(self, account: Account, amount: int) -> tuple[Operation, bytes]:
        key, path = uuid4().hex, "/api/wallets/me/withdrawals"
        said = request("POST", path, account.token, key, {"amount": amount})
        return Operation(key, account.user_id, None, amount, 0.0), said

    def transfer(self, giver: str, taker: str, amount: int) -> tuple[Operation, bytes]:
        key, body = uuid4().hex, {"from": giver, "to": taker, "amount": amount}
        said = request("POST", "/api/transfers", self.plan.token, key, body)
        return Operation(key, giver, taker, amount, 0.0), said

    def wish(self, chance: random.Random) -> tuple[Operation, bytes]:
        """Mostly a transfer, of an amount that is refused now and then."""
        kind = chance.random()
        if kind < 0.15:
            return self.deposit(chance.choice(self.accounts), chance.randint(1, 50))
        if kind < 0.25:
            return self.withdrawal(chance.choice(self.accounts), chance.randint(1, 50))
        giver, taker = chance.sample(self.users, 2)
        amount = chance.choice((chance.randint(1, 100), chance.randint(FIRST // 2, FIRST * 3 // 2)))
        return self.transfer(giver, taker, amount)

    # Doing ------------------------------------------------------------------------------------

    def _wire(self, number: int) -> Wire:
        return Wire(self.plan.addresses, random.Random(self.plan.seed * 1000 + number))

    async def _client(self, number: int, share: int, step: Callable[[int], None]) -> None:
        chance = random.Random(self.plan.seed * 1000 + number)
        wire = self._wire(number)
        for _ in range(share):
            await self.do(wire, chance, *self.wish(chance))
            step(1)
            if chance.random() < LOOK_SHARE:
                await self._look(wire)
            if chance.random() < LEAVE_SHARE:
                wire.close()
        wire.close()

    async def do(
        self,
        wire: Wire,
        chance: random.Random,
        operation: Operation,
        said: bytes,
        *,
        rude: bool = True,
    ) -> None:
        """Asks until the answer is definite, in whatever manner chance gives."""
        self.operations.append(operation)
        operation.began = time.monotonic()
        how = chance.random() if rude else 0.5
        if how < HANG_UP_SHARE:
            await wire.hang_up(said, chance.choice((0.3, 0.9, 1.0, 1.0)))
            self.hung_up += 1
        twins = [wire.until_definite(said)]
        twin = Wire(self.plan.addresses, chance)
        if how > 1 - TWIN_SHARE:
            twins.append(twin.until_definite(said))
            self.repeated += 1
        replies = await asyncio.gather(*twins)
        twin.close()
        operation.ended = time.monotonic()
        if rude and chance.random() < REPEAT_SHARE:
            replies.append(await wire.until_definite(said))
        for reply in replies:
            self._note(operation, reply)

    @staticmethod
    def _note(operation: Operation, reply: Reply) -> None:
        operation.answers.add(bytes([reply.status // 100]) + reply.body)
        operation.done = reply.status == ACCEPTED
        told = reply.json
        if not operation.done:
            if (reply.status, told.get("code")) != BROKE:
                raise NotAsExpected(f"{reply.status} {told}: is this an operator's token?")
        elif operation.giver and operation.taker:
            operation.seen = {
                operation.giver: told["fromBalance"],
                operation.taker: told["toBalance"],
            }
        else:
            operation.seen = {operation.giver or operation.taker or "": told["balance"]}

    async def _look(self, wire: Wire) -> None:
        said = request("POST", "/api/wallets/query", self.plan.token, body={"userIds": self.users})
        while True:
            began = time.monotonic()
            try:
                reply = await wire.ask(said)
            except Broken:
                self.broken += 1
                return
            ended = time.monotonic()
            if reply.status == 200:
                break
            reply = await wire.until_definite(said)
            if reply.status != 200:
                raise NotAsExpected(f"{reply.status} {reply.json}")
        read = {one["userId"]: (one["balance"], one["seq"]) for one in reply.json["items"]}
        self.snapshots.append(Snapshot(began, ended, read))

    async def _statements(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        wire = self._wire(2)
        for user in self.users:
            entries = found[user] = []
            after: str | None = "0"
            while after:
                path = f"/api/wallets/{user}/entries?limit={PAGE}&after={after}"
                page = (await wire.until_definite(request("GET", path, self.plan.token))).json
                entries += [
                    # Of the effect's key only the caller's own part: DEPOSIT:{principal}:{key}.
                    Entry(
                        one["seq"],
                        one["amount"],
                        one["balanceAfter"],
                        one["idempotentKey"].rpartition(":")[2],
                    )
                    for one in page["items"]
                ]
                after = page["nextCursor"]
        wire.close()
        return found


async def welcomed(plan: Audit) -> None:
    """NoHouse, NotAsExpected or CannotLeave, before anything is paid in."""
    for address in plan.addresses:
        wire = Wire([address], random.Random(plan.seed))
        try:
            reply = await wire.ask(request("GET", "/api/ops/status", plan.token))
            paused = reply.json.get("payoutsPaused")
        except (Broken, msgspec.DecodeError, AttributeError) as error:
            raise NoHouse(f"{address.host}:{address.port} is no house: {error}.") from error
        finally:
            wire.close()
        if reply.status != 200 or paused is None:
            raise NotAsExpected(f"{reply.status} {reply.json}: is this an operator's token?")
        if paused:
            raise CannotLeave()


async def opened(plan: Audit) -> list[Account]:
    """Registers the accounts, as anybody could, under names that nobody else has."""
    wire = Wire(plan.addresses, random.Random(plan.seed))
    accounts = []
    for number in range(plan.accounts):
        name = f"audit-{secrets.token_hex(8)}-{number}@audit.invalid"
        who = {"email": name, "password": secrets.token_urlsafe(24)}
        body = {**who, "fullName": "Audit"}
        made = await wire.until_definite(request("POST", "/api/auth/register", "", body=body))
        if made.status != ACCEPTED:
            raise NotAsExpected(f"Registering: {made.status} {made.json}")
        token = await wire.until_definite(request("POST", "/api/auth/login", "", body=who))
        accounts.append(Account(made.json["userId"], token.json["accessToken"]))
    wire.close()
    return accounts


async def _reconciled(plan: Audit) -> list[str]:
    wire = Wire(plan.addresses, random.Random(plan.seed))
    said = request("POST", "/api/ops/reconciliations", plan.token, uuid4().hex, {})
    reply = await wire.until_definite(said)
    wire.close()
    told: Any = reply.json
    if reply.status != 200:
        raise NotAsExpected(f"Reconciling: {reply.status} {told}")
    return [f"{one['invariant']}: {one['rows']}" for one in told["findings"]]


async def audit(plan: Audit, step: Callable[[int], None] = lambda _: None) -> Audited:
    """Lives through one history and judges it; Broken or StillUnknown when nobody answers."""
    began = time.monotonic()
    await welcomed(plan)
    witness = Witness(plan, await opened(plan))
    await witness.live(step)
    await witness.leave()
    found = violations(await witness.history())
    done = sum(operation.done for operation in witness.operations)
    return Audited(
        accounts=plan.accounts,
        done=done,
        refused=len(witness.operations) - done,
        snapshots=len(witness.snapshots),
        hung_up=witness.hung_up,
        repeated=witness.repeated,
        broken=witness.broken,
        violations=found,
        findings=await _reconciled(plan),
        seconds=time.monotonic() - began,
    )
