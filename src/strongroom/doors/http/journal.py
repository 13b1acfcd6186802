"""Requests in the log: who failed and who was slow, all of them where that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from strongroom.clock import monotonic
from strongroom.errors import code_of
from strongroom.settings import Settings

if TYPE_CHECKING:
    from strongroom.doors.http.routing import Call

log = structlog.get_logger(__name__)

LINES_A_SECOND = 20
"""While nobody can be served thousands fail a second: the first of them say why."""

FAILED = 500


class Journal:
    """One line for a request that failed or was slow, or for each. A line says who asked for what,
    by names alone, and what came of it; never a value, a path as it was asked for, or a token.

    Of a flood some lines each second are written, and the next one says how many were not.
    """

    def __init__(self, settings: Settings) -> None:
        self._all = settings.log_requests == "on"
        self._slow_s = settings.slow_request_ms / 1000
        self._second, self._lines, self._left_out = 0.0, 0, 0

    def request(
        self,
        call: Call,
        path: str,
        status: int,
        seconds: float,
        error: Exception | None,
    ) -> None:
        """Notes an answer; `path` is the route's template."""
        notable = status >= FAILED or seconds > self._slow_s
        if not notable and not self._all:
            return
        if not self._all and not self._may():
            self._left_out += 1
            return
        outcome = "replayed" if call.replayed else "done"
        if error is not None:
            outcome = code_of(error)
        more = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        (log.warning if notable else log.info)(
            "request failed" if status >= FAILED else "slow request" if notable else "request",
            request_id=str(call.request_id),
            trace_id=call.request_id.hex,
            method=str(call.scope["method"])[:10],  # type: ignore[typeddict-item]
            path=path,
            principal=call.principal.name if call.principal else None,
            command=call.command.__name__ if call.command else None,
            status=status,
            outcome=outcome,
            ms=round(seconds * 1000, 1),
            **more,
        )

    def _may(self) -> bool:
        now = monotonic()
        if now - self._second >= 1:
            self._second, self._lines = now, 0
        self._lines += 1
        return self._lines <= LINES_A_SECOND
