"""What becomes of an order, hour by hour: confirmed, shipped, brought, called off, sent back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strongroom.lab.seeding.packing import Numbers
from strongroom.lab.seeding.shop import DAY_HOURS, DAY_US, HOUR_US, Calendar

STATUSES = ("PENDING", "CONFIRMED", "SHIPPED", "DELIVERED", "CANCELLED", "RETURNED")
PENDING, CONFIRMED, SHIPPED, DELIVERED, CANCELLED, RETURNED = range(6)

PAID = ("PENDING", "SUCCESS", "FAILED", "REFUNDED", "VOID")
DUE, SUCCESS, FAILED, REFUNDED, VOID = range(5)

METHODS = ("COD", "MOMO", "ZALOPAY", "BANKING", "CARD")
COD = 0
METHOD_SHARES = (0.7, 0.12, 0.06, 0.08, 0.04)

LAPSES, CALLED_OFF, CALLED_OFF_LATE, REFUSED_AT_DOOR, SENT_BACK, KEPT = range(6)
DESTINIES = (0.03, 0.04, 0.033, 0.014, 0.018, 0.865)
"""Of the orders that are old enough for an end."""

NEVER = 65_535
"""The hour of what has not happened."""

FAILED_SHARE = 0.15
"""Of those that still wait for a payment, these have tried once."""

Hours = npt.NDArray[np.uint16]


def drawn(shares: Sequence[float], count: int, noise: np.random.Generator) -> Numbers:
    """Places in `shares`, as often as these say."""
    edges = np.cumsum(shares)[:-1]
    return np.searchsorted(edges, noise.random(count), side="right").astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Fates:
    """Of every order: the hours of its steps, NEVER for what has not happened until now."""

    placed: Hours
    confirmed: Hours
    shipped: Hours
    delivered: Hours
    ended: Hours
    """When it lapsed, was called off or came back: which of them, its destiny says."""
    destiny: npt.NDArray[np.uint8]
    method: npt.NDArray[np.uint8]
    failed: npt.NDArray[np.bool_]
    """Whether a payment was tried in vain, and none has succeeded yet."""

    @property
    def captured(self) -> Hours:
        """When the money came: before the goods, or in cash with them."""
        return np.where(self.method == COD, self.delivered, self.confirmed)

    @property
    def refunded(self) -> Hours:
        return np.where(self.captured != NEVER, self.ended, NEVER).astype(np.uint16)

    def status(self) -> npt.NDArray[np.uint8]:
        found = np.zeros(len(self.placed), np.uint8)
        for status, hour in (
            (CONFIRMED, self.confirmed),
            (SHIPPED, self.shipped),
            (DELIVERED, self.delivered),
            (RETURNED, self.ended),
        ):
            found[hour != NEVER] = status
        found[(found == RETURNED) & (self.destiny <= CALLED_OFF_LATE)] = CANCELLED
        return found

    def paid(self) -> npt.NDArray[np.uint8]:
        captured, over = self.captured != NEVER, self.ended != NEVER
        found = np.where(captured, np.where(over, REFUNDED, SUCCESS), np.where(over, VOID, DUE))
        found[self.failed] = FAILED
        return found.astype(np.uint8)

    def steps(self, part: slice) -> Numbers:
        """The hours of all steps of a part of the orders, one order a row."""
        hours = (self.placed, self.confirmed, self.shipped, self.delivered, self.ended)
        return np.stack([one[part] for one in hours], axis=1)


def fates(
    created_us: npt.NDArray[np.int64], calendar: Calendar, noise: np.random.Generator
) -> Fates:
    """Draws them. Nothing is known of what comes after now: an order of yesterday is on its way."""
    count = len(created_us)
    method = drawn(METHOD_SHARES, count, noise)
    destiny = drawn(DESTINIES, count, noise)
    placed = ((created_us - calendar.first_us) // HOUR_US).astype(np.int64)

    def later(mean: float, most: int, least: int = 0) -> Numbers:
        return least + np.minimum(noise.exponential(mean, count), most - least).astype(np.int64)

    # Money comes within the hour, or in the next; who pays in cash is called up.
    asked = np.where(method == COD, later(4, 20), later(0.4, 2))
    confirmed = np.where(destiny > CALLED_OFF, placed + asked, NEVER)
    shipped = np.where(destiny > CALLED_OFF_LATE, confirmed + later(14, 60, 3), NEVER)
    way = later(40, 150, 12)
    delivered = np.where(destiny > REFUSED_AT_DOOR, shipped + way, NEVER)
    lapsed = placed + DAY_HOURS
    # The hour of the end has to be over, or its import would precede the end.
    lapsed += calendar.end(lapsed) < created_us + DAY_US
    ended = np.select(
        [destiny == one for one in range(KEPT)],
        [
            lapsed,
            placed + later(3, 20),
            confirmed + later(2, 3),
            shipped + way + later(20, 60, 12),
            delivered + later(72, 400, 24),
        ],
        NEVER,
    )

    def known(hour: Numbers) -> Hours:
        return np.where(hour > calendar.last, NEVER, hour).astype(np.uint16)

    waits = (method != COD) & (known(confirmed) == NEVER) & (known(ended) == NEVER)
    return Fates(
        placed=known(placed),
        confirmed=known(confirmed),
        shipped=known(shipped),
        delivered=known(delivered),
        ended=known(ended),
        destiny=destiny,
        method=method,
        failed=waits & (noise.random(count) < FAILED_SHARE),
    )
