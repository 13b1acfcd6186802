"""What is asked of the orders: the filters of the list, of its search and of its export."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from strongroom.apps.orders.rows import OrderStatus


class Asked(NamedTuple):
    """Which orders: all that fit everything that is said here; nothing said, all there are.

    `words` as they were typed, each of which has to be found in the code, the phone or the name.
    `since` and `until` bound `created_at`, the end excluded.
    """

    user_id: UUID | None = None
    customer_id: UUID | None = None
    status: OrderStatus | None = None
    words: str | None = None
    since: datetime | None = None
    until: datetime | None = None
