"""Starting the embedded server from an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from strongroom.core.db.embedded import EmbeddedPostgres

AGAIN_S = 0.2
"""Between two words to a server that is not wanted any more."""


async def started(server: EmbeddedPostgres) -> None:
    """`server.start()` in a thread. Cancelled, it ends the server, also one that is not there yet
    or reads a long log, and sees the start end: nobody else may stop the server meanwhile."""
    thread = asyncio.ensure_future(asyncio.to_thread(server.start))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        while not thread.done():
            signal_server(server, signal.SIGINT)
            await asyncio.wait([thread], timeout=AGAIN_S)
        thread.exception()  # which tells nobody anything new
        await asyncio.to_thread(server.stop)
        raise


def signal_server(server: EmbeddedPostgres | None, number: signal.Signals) -> None:
    """Nothing when it does not run."""
    pid = server.pid if server else None
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
