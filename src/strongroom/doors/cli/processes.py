"""Processes that `up` keeps alive: each in its own session, started again whenever it ends, and
ended when it lives and says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from strongroom.clock import monotonic

PROGRAM = (sys.executable, "-P", "-m", "strongroom")
"""-P: a file of the working folder must not be taken for a module."""

RESOLVED = "STRONGROOM_RESOLVED"
"""The settings of `up` as its children get them: whatever the file says by then, all run alike."""

FIRST_PAUSE_S = 0.1
"""A process that was killed is back almost at once …"""

LONGEST_PAUSE_S = 5.0
"""… and one that cannot start is seen trying, without heating the machine."""

STEADY_S = 3.0
"""Whoever lived this long did start; its next pause is the first again."""

PATIENCE_S = 25.0
"""A process finishes within 20 s what it accepted; then it hangs."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a process that hangs is told from one that works: so many looks in a row were in vain.

    Three minutes, of which a third is waiting for answers: the alerts of a silent process fire
    before, so somebody hears of it; and who is merely starved has answered by then, and would be
    slower still if it began anew. Looks are counted and not time, which also passes while all of us
    are frozen.
    """

    answers: Callable[[], Awaitable[bool]]
    every_s: float = 20.0
    misses: int = 6


class Kept:
    """One program that runs until `stop()`. Its stdout is appended to `log`; its stderr is ours."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        pass_fds: Sequence[int],
        say: Callable[[str], None],
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch
        self.name, self._command, self._log = name, command, log
        self._environment, self._pass_fds, self._say = environment, pass_fds, say
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def keep(self) -> None:
        """Runs it, and again whenever it ends, until `stop()`."""
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = monotonic()
            code = await self._once()
            if self._stopping.is_set():
                return
            if monotonic() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            self._say(f"{self.name} ended ({how_it_ended(code)}); starting it in {pause_s:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _once(self) -> int:
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                env=self._environment,
                pass_fds=self._pass_fds,
                start_new_session=True,  # the terminal's Ctrl-C is for us; we stop it in order
            )
        if self._stopping.is_set():
            self.signal(signal.SIGTERM)
        watching = asyncio.create_task(self._look(self._watch)) if self._watch else None
        try:
            return await self._process.wait()
        finally:
            if watching is not None:
                watching.cancel()

    async def _look(self, watch: Watch) -> None:
        missed = 0
        while missed < watch.misses:
            await asyncio.sleep(watch.every_s)
            missed = 0 if await watch.answers() else missed + 1
        self._say(f"{self.name} hangs: {missed} times in a row it did not answer; ending it")
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Nothing when it does not run."""
        if self._process is not None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def stop(self) -> None:
        """Asks it to end, and starts it no more."""
        self._stopping.set()
        self.signal(signal.SIGTERM)


def how_it_ended(code: int | None) -> str:
    """An exit code in words."""
    if code is None or code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name


def rotate(log: Path) -> None:
    """The log before this one is kept, older ones are not."""
    with contextlib.suppress(FileNotFoundError):
        log.rename(log.with_name(f"{log.name}.1"))
    log.touch(mode=0o600)


def end_with_parent(read_end: int) -> None:
    """Ends this process in order when the last writer of the pipe is gone: when `up` died."""

    def wait() -> None:
        os.read(read_end, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
