"""Order codes: SON000123, unique, ascending."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from strongroom.apps.orders.rows import CODES, sql
from strongroom.core.commands import Work

PREFIX = "SON"
DIGITS = 6


def code_of(number: int) -> str:
    """
    >>> code_of(123), code_of(1_234_567)
    ('SON000123', 'SON1234567')
    """
    return f"{PREFIX}{number:0{DIGITS}}"


def number_of(code: str) -> int | None:
    """The reverse, in any case; None for what is no code."""
    digits = code[len(PREFIX) :]
    plain = code[: len(PREFIX)].upper() == PREFIX and digits.isascii() and digits.isdigit()
    if not plain or len(digits) > 18 or code_of(int(digits)) != code.upper():
        return None
    return int(digits)


async def take_numbers(work: Work, wanted: int, *, gapless: bool) -> Iterator[int]:
    """At least `wanted` numbers, ascending.

    With gaps a group takes a block from a sequence: nobody waits, and what refused orders or a
    group that failed leave over is lost. Without, it holds the counter until it has committed.
    """
    if gapless:
        last = await work.db.fetchval(sql.hold_gapless)
        return iter(range(last + 1, last + 1 + wanted))
    taken = await work.db.fetch(sql.take_numbers, wanted)
    if taken and taken[0]["number"] <= taken[0]["gapless"]:
        await work.db.execute(sql.pass_gapless)
        taken = await work.db.fetch(sql.take_numbers, wanted)
    return iter([row["number"] for row in taken])


def give_number(work: Work, numbers: Iterator[int], order_id: UUID, *, gapless: bool) -> str:
    """The next code, which is the order's from now on."""
    number = next(numbers)
    work.append(CODES, (number, order_id))
    if gapless and not work.noted.get("gapless"):
        work.noted["gapless"] = True
        work.run_at_end(sql.update_gapless)
    return code_of(number)
