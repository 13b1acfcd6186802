"""Starting the embedded server from an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

from strongroom.core.db.embedded import EmbeddedPostgres

AGAIN_S = 0.2
"""Between two words to a server that is not wanted any more."""


async def started(server: EmbeddedPostgres) -> None:
    """`server.start()` in a thread. Cancelled, it ends the server, also one that is not there yet
    or reads a long log: in another thread, which comes to its end whoever is cancelled again."""
    over = threading.Event()

    def start() -> None:
        try:
            server.start()
        finally:
            over.set()

    def end() -> None:
        while not over.wait(AGAIN_S):
            signal_server(server, signal.SIGINT)
        server.stop()

    in_thread = asyncio.get_running_loop().run_in_executor
    starting = in_thread(None, start)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        ending = in_thread(None, end)
        await asyncio.shield(asyncio.gather(starting, ending, return_exceptions=True))
        raise


def signal_server(server: EmbeddedPostgres | None, number: signal.Signals) -> None:
    """Nothing when it does not run."""
    pid = server.pid if server else None
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
