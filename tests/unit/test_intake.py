"""The queue in front of the door: in order, some in each turn, and others in between."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from strongroom.doors.http.intake import Intake


async def turn() -> None:
    await asyncio.sleep(0)


async def test_who_comes_alone_is_let_in_at_once() -> None:
    intake, let_in = Intake(at_once=2), list[int]()
    for number in range(10):
        assert intake.put(partial(let_in.append, number))
        await turn()
    assert let_in == list(range(10)) and intake.wait_s == 0


async def test_a_crowd_is_let_in_in_its_order_some_in_each_turn() -> None:
    intake, let_in = Intake(at_once=2), list[int]()
    at_once = [intake.put(partial(let_in.append, number)) for number in range(7)]
    assert at_once == [True, True, False, False, False, False, False]
    seen = []
    for _ in range(4):
        seen.append(list(let_in))
        await turn()
    assert seen == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], list(range(7))]


async def test_who_comes_later_does_not_overtake() -> None:
    intake, let_in = Intake(at_once=2), list[int]()
    for number in range(4):
        intake.put(partial(let_in.append, number))
    await turn()
    assert not intake.put(partial(let_in.append, 4))
    await turn()
    await turn()
    assert let_in == [0, 1, 2, 3, 4]


async def test_others_have_their_turn_between() -> None:
    intake, happened = Intake(at_once=1), list[str]()
    for number in range(3):
        intake.put(partial(happened.append, f"let in {number}"))

    async def statement() -> None:
        for number in range(3):
            happened.append(f"statement {number}")
            await turn()

    await statement()
    await turn()
    assert happened.index("statement 1") < happened.index("let in 2")


async def test_how_long_the_queue_stands_for_is_known_from_its_turns() -> None:
    intake = Intake(at_once=1)
    for _ in range(30):
        intake.put(lambda: None)
    waits = []
    while True:
        waits.append(intake.wait_s)
        await turn()
        if len(waits) > 1 and waits[-1] == 0:
            break
    assert waits[0] == 0, "nothing is known before the first turn"
    assert max(waits) > 0
    assert waits.index(max(waits)) < len(waits) - 1


async def test_when_all_have_been_let_in_the_loop_is_left_alone() -> None:
    intake = Intake(at_once=1)
    for _ in range(3):
        intake.put(lambda: None)
    for _ in range(10):
        await turn()
    assert not intake._turning
    assert intake.put(lambda: None)


async def test_one_that_fails_does_not_hold_up_those_behind_it() -> None:
    intake, let_in, faults = Intake(at_once=2), list[int](), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))

    def fail() -> None:
        raise RuntimeError("the connection is in no state to be let in")

    for number in range(3):
        intake.put(partial(let_in.append, number))
    intake.put(fail)
    for number in range(4, 9):
        intake.put(partial(let_in.append, number))
    for _ in range(10):
        await turn()
    assert let_in == [0, 1, 2, 4, 5, 6, 7, 8] and len(faults) == 1
