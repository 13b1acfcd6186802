"""Every command and every step of the worker as an act: the world before it, and how it is done.

An act is prepared once and then done again and again, each time on a copy of that world, by
whoever tries to break it in the middle. It is done with the same key each time; whether its effect
is there is told by the whole database (see `books.py`), so no act has to say what its effect is.
"""

from __future__ import annotations

from proofs import betting_acts, orders_acts, payment_acts, ticketing_acts, worker_acts
from proofs.acting import NOTED, Act, Doing

ROOMS = (betting_acts, ticketing_acts, payment_acts, orders_acts, worker_acts)

ACTS = {
    name: one
    for room in ROOMS
    for name, one in NOTED.items()
    if one.prepare.__module__ == room.__name__
}
"""By name, room by room."""

__all__ = ["ACTS", "Act", "Doing"]
