"""When a reservation is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from strongroom.apps.ticketing.rows import Reservation

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
ID = UUID(int=1)


def test_a_reservation_is_dead_from_the_very_instant_its_time_is_over() -> None:
    held = Reservation(ID, ID, ID, "ACTIVE", 0, expires_at=NOON)
    assert held.alive(NOON - TICK)
    assert not held.alive(NOON)
    assert not held.alive(NOON + TICK)


def test_one_that_was_completed_is_not_alive_though_its_time_is_not_over() -> None:
    held = Reservation(ID, ID, ID, "COMPLETED", 0, expires_at=NOON)
    assert not held.alive(NOON - TICK)
