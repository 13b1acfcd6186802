"""The orders that are played, and where the gates of a command stand."""

from __future__ import annotations

import pytest

from strongroom.core.commands.work import sql as commands
from strongroom.core.ledger.books import sql as ledger
from strongroom.lab.interleave import CommandRule, Rule, count_of_orders, orders


def test_six_and_six_turns_have_924_orders_each_of_them_once() -> None:
    found = list(orders())
    assert len(found) == len(set(found)) == count_of_orders() == 924
    assert all(order.count(0) == order.count(1) == 6 for order in found)


@pytest.mark.parametrize(("first", "second", "count"), [(1, 1, 2), (2, 3, 10), (0, 4, 1)])
def test_other_counts_of_turns_have_as_many_orders_as_they_may(
    first: int, second: int, count: int
) -> None:
    assert len(list(orders(first, second))) == count_of_orders(first, second) == count


def test_the_first_order_is_one_after_the_other() -> None:
    assert next(orders(2, 3)) == (0, 0, 1, 1, 1)
    assert list(orders(2, 3))[-1] == (1, 1, 1, 0, 0)


READ, LOCK, SHARE = "SELECT a", ledger.lock_accounts, "SELECT b FOR SHARE"
BEGIN, CLAIM, NOW, COPY, COMMIT = "BEGIN", commands.claim, commands.now, "COPY x.y", "COMMIT"


def gates(rule: Rule, *statements: str) -> list[int]:
    """Before which of the statements a gate stands."""
    return [
        number
        for number, statement in enumerate(statements)
        if rule.opens(statement, statement == BEGIN)
    ]


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((BEGIN, CLAIM, LOCK, SHARE, NOW, COPY, COPY, COMMIT), [0, 2, 3, 4, 5, 7]),
        ((BEGIN, READ, READ, LOCK, SHARE, READ, NOW, COPY, READ, COMMIT), [0, 1, 3, 4, 7, 9]),
        ((BEGIN, LOCK, SHARE, SHARE, READ, NOW, COPY, COMMIT), [0, 1, 2, 3, 6, 7]),
        ((BEGIN, CLAIM, SHARE, NOW, COPY, COMMIT), [0, 2, 3, 4, 5]),
        ((BEGIN, LOCK, "ROLLBACK", BEGIN, LOCK, SHARE, NOW, COPY, COMMIT), [0, 1, 3]),
    ],
)
def test_the_gates_of_a_command_stand_where_it_meets_others(
    statements: tuple[str, ...], expected: list[int]
) -> None:
    assert gates(CommandRule(), *statements) == expected


def test_plain_statements_have_a_gate_each() -> None:
    assert gates(Rule(), BEGIN, READ, LOCK, COMMIT) == [0, 1, 2, 3]
