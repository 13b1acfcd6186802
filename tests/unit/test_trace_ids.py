"""Whose trace it is, and whether it is traced: by the rules of W3C Trace Context."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from strongroom.core.events import Event
from strongroom.doors.traces.ids import RANDOM, of_event, parent_of, picker
from strongroom.ids import uuid7

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("text", [f"00-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-03-more"])
def test_a_caller_that_keeps_its_part_is_joined(text: str) -> None:
    assert parent_of(text.encode()) == (int(TRACE, 16), int(SPAN, 16))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}-00",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-0x",
    ],
)
def test_what_is_no_parent_is_passed_over(text: str) -> None:
    assert parent_of(text.encode()) is None


def test_a_share_of_our_own_ids_is_traced() -> None:
    ids = [uuid7().int & RANDOM for _ in range(20_000)]
    for share in (0.0, 0.05, 0.5, 1.0):
        picked = sum(one >= picker(share) for one in ids) / len(ids)
        assert picked == pytest.approx(share, abs=0.02)
    assert not any(one >= picker(0.0) for one in ids)


def test_whoever_takes_an_event_knows_its_span() -> None:
    event = Event(uuid7(), "betting.BetPlaced", uuid4(), None)
    assert of_event(UUID(str(event.id))) == of_event(event.id) > 0
