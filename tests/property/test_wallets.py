"""Random moves of money on the real ledger against a dict."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playing import balances, house_balances, open_users, ticket
from strongroom.apps.wallets import BatchItem, Deposit, Transfer, TransferBatch, Withdraw
from strongroom.core.commands import Command
from strongroom.main import Strongroom

USERS = 4

Move = tuple[int, int, int]
"""(source, target, amount); which of them count depends on the kind."""

moves = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 40)), max_size=12)
kinds = st.sampled_from(["deposit", "withdraw", "transfer", "independent", "atomic"])
groups = st.lists(st.tuples(kinds, moves), min_size=1, max_size=8)


class Purses:
    """What everybody has, as a list, and the code of every refusal."""

    def __init__(self) -> None:
        self.held = [50] * USERS

    def move(self, source: int, target: int, amount: int) -> str:
        if source == target:
            return "same_account"
        if self.held[source] < amount:
            return "insufficient_funds"
        self.held[source] -= amount
        self.held[target] += amount
        return "done"

    def deposit(self, who: int, amount: int) -> str:
        self.held[who] += amount
        return "done"

    def withdraw(self, who: int, amount: int) -> str:
        if self.held[who] < amount:
            return "insufficient_funds"
        self.held[who] -= amount
        return "done"

    def atomic(self, batch: list[Move]) -> list[str]:
        before = list(self.held)
        found = [self.move(*one) for one in batch]
        if set(found) <= {"done"}:
            return found
        self.held = before
        return ["batch_refused" if code == "done" else code for code in found]


async def in_one_group(house: Strongroom, commands: list[Command], name: str) -> list[str]:
    tickets = [ticket(command, f"{name}.{n}") for n, command in enumerate(commands)]
    if tickets:
        await house.executor.run(tickets)
    outcomes = [await one.future for one in tickets]
    return [o.refused or (o.error.code if o.error else "done") for o in outcomes]


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(plan=groups)
async def test_everybody_has_what_the_dict_says(
    house: Strongroom, plan: list[tuple[str, list[Move]]]
) -> None:
    users = await open_users(house, USERS, 50)
    outside = (await house_balances(house))["world"]
    purses = Purses()
    for number, (kind, batch) in enumerate(plan):
        name = f"{users[0]}.{number}"
        if kind == "deposit":
            expected = [purses.deposit(who, amount) for who, _, amount in batch]
            commands: list[Command] = [Deposit(users[who], amount) for who, _, amount in batch]
        elif kind == "withdraw":
            expected = [purses.withdraw(who, amount) for who, _, amount in batch]
            commands = [Withdraw(users[who], amount) for who, _, amount in batch]
        elif kind == "transfer":
            expected = [purses.move(*one) for one in batch]
            commands = [Transfer(users[a], users[b], amount) for a, b, amount in batch]
        else:
            items = tuple(
                BatchItem(f"{name}.{n}", users[a], users[b], amount)
                for n, (a, b, amount) in enumerate(batch)
            )
            done = await house.run(TransferBatch(kind, items))  # type: ignore[arg-type]
            found = ["done" if r.status == "posted" else r.code for r in done.results]
            atomic = kind == "atomic"
            assert found == (purses.atomic(batch) if atomic else [purses.move(*m) for m in batch])
            continue
        assert await in_one_group(house, commands, name) == expected
    assert await balances(house, users) == [(held, 0) for held in purses.held]
    came_in = sum(purses.held) - 50 * USERS
    assert outside - (await house_balances(house))["world"] == came_in


async def test_the_ledger_balances_after_hundreds_of_moves(house: Strongroom) -> None:
    users = await open_users(house, USERS, 50)
    commands: list[Command] = [
        Transfer(users[n % 4], users[(n + n // 7) % 4], 1 + n % 40) for n in range(300)
    ]
    await in_one_group(house, commands, "many")
    assert sum(held for held, _ in await balances(house, users)) == 200
    assert (await house.reconcile()).clean
