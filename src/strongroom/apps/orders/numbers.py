"""Order codes: SON000123, unique, ascending."""

from __future__ import annotations

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


async def take_numbers(work: Work, wanted: int, *, gapless: bool) -> None:
    """Has at least `wanted` numbers ready for the group, ascending.

    With gaps a group takes a block from a sequence: nobody waits, and what refused orders or a
    group that failed leave over is lost. Without, it holds the counter until it has committed.
    """
    work.noted["gapless"] = gapless
    if gapless:
        last = await work.db.fetchval(sql.hold_gapless)
        work.noted["numbers"] = iter(range(last + 1, last + 1 + wanted))
        return
    taken = await work.db.fetch(sql.take_numbers, wanted)
    if taken and taken[0]["number"] <= taken[0]["gapless"]:
        await work.db.execute(sql.pass_gapless)
        taken = await work.db.fetch(sql.take_numbers, wanted)
    work.noted["numbers"] = iter([row["number"] for row in taken])


def give_number(work: Work, order_id: UUID) -> str:
    """The next code of the group, which is the order's from now on."""
    number = next(work.noted["numbers"])
    work.append(CODES, (number, order_id))
    if work.noted.pop("gapless", False):
        work.run_at_end(sql.update_gapless)
    return code_of(number)
