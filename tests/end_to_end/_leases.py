"""Leases of workers that were killed, ended before their time."""

from __future__ import annotations

from end_to_end._house import House


def end_leases_of_the_dead(house: House) -> None:
    """What a killed worker held comes again after its lease; here at once. That a living worker's
    message may come twice by this is no harm, or the test shall show it."""
    for (queue,) in house.rows("SELECT queue_name FROM pgmq.meta"):
        house.rows(f'UPDATE pgmq."q_{queue}" SET vt = now() RETURNING msg_id')
