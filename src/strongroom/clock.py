"""Time as the program passes it around: aware datetimes in UTC, and seconds that only go forward.

Rules about money use the database's clock; this one is for tokens, deadlines and measuring.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]

monotonic = time.monotonic


def now() -> datetime:
    """The time of this machine, in UTC."""
    return datetime.now(UTC)
