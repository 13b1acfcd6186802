"""Programs under measurement: started as real processes, awaited until ready, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from strongroom.clock import monotonic
from strongroom.errors import Busy, StrongroomError

READY_S = 60.0
"""A first start makes a database cluster and migrates it: seconds, on a slow disk many."""

LOOK_S = 0.05
LOOK_TIMEOUT_S = 2.0
STOP_S = 10.0
KILL_S = 5.0
TAIL_BYTES = 2000

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class ProgramEnded(StrongroomError):
    """The program ended before it was ready."""


class ProgramNotReady(Busy):
    """The program did not become ready in time."""


class Program:
    """One process and those it starts; what it prints goes to a file, so that it never blocks.

    Ready when `ready` (host, port) answers GET `ready_path` with 200; without it, at once. Leaving
    the context stops it: SIGTERM, 10 s of patience, then SIGKILL for its whole process group.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        ready: tuple[str, int] | None = None,
        ready_path: str = "/healthz",
        ready_s: float = READY_S,
        stop_s: float = STOP_S,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.command = list(command)
        self._ready, self._ready_path, self._ready_s = ready, ready_path, ready_s
        self._stop_s = stop_s
        self._environment = {**os.environ, **(environment or {})}
        self._folder = folder
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this object
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() first"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        assert self._process is not None, "start() first"
        return self._process.returncode

    async def start(self) -> None:
        """Returns when it is ready. Raises ProgramEnded or ProgramNotReady, then it is stopped."""
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=self._environment,
            cwd=self._folder,
            # A group of its own: a SIGKILL must not leave its workers behind.
            start_new_session=True,
        )
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self) -> None:
        if self._ready is None:
            return
        patience = monotonic() + self._ready_s
        while await status_of(*self._ready, self._ready_path) != 200:
            if self.exit_code is not None:
                raise ProgramEnded(f"Exit code {self.exit_code}: {self.printed()}")
            if monotonic() > patience:
                raise ProgramNotReady(f"Not ready in {self._ready_s:g} s: {self.printed()}")
            await asyncio.sleep(LOOK_S)

    async def stop(self) -> int:
        """Ends it and answers its exit code. Safe to call again."""
        process = self._process
        assert process is not None, "start() first"
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(process.wait(), self._stop_s)
        except TimeoutError:
            self.kill()
            return await asyncio.wait_for(process.wait(), KILL_S)

    def kill(self) -> None:
        """SIGKILL for its whole group, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def printed(self) -> str:
        """The end of what it printed."""
        size = os.fstat(self._output.fileno()).st_size
        start = max(0, size - TAIL_BYTES)
        return os.pread(self._output.fileno(), TAIL_BYTES, start).decode(errors="replace").strip()

    def rss_bytes(self) -> int:
        """Resident memory of it and its descendants; pages they share are counted for each."""
        return sum(rss_bytes(pid) for pid in family(self.pid))

    def cpu_s(self) -> float:
        """CPU seconds that it and its living descendants have used."""
        return sum(cpu_s(pid) for pid in family(self.pid))

    @contextlib.asynccontextmanager
    async def watch_memory(self, every_s: float = 1.0) -> AsyncIterator[list[int]]:
        """Samples `rss_bytes` while the context lasts; one at its start and one at its end."""
        samples = [self.rss_bytes()]

        async def sample() -> None:
            while True:
                await asyncio.sleep(every_s)
                samples.append(self.rss_bytes())

        task = asyncio.create_task(sample())
        try:
            yield samples
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            samples.append(self.rss_bytes())


async def status_of(host: str, port: int, path: str) -> int | None:
    """The status of one GET; None when nobody answers with HTTP."""
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                asked = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
                writer.write(asked.encode("ascii"))
                line = (await reader.readline()).split()
            finally:
                writer.close()
    except OSError:  # also TimeoutError
        return None
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else None


def family(pid: int) -> list[int]:
    """The process and its living descendants."""
    found = [pid]
    for member in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{member}/task"):
                children = Path(f"/proc/{member}/task/{thread}/children").read_text()
                found.extend(int(child) for child in children.split())
    return found


def rss_bytes(pid: int) -> int:
    """Resident memory of one process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def cpu_s(pid: int) -> float:
    """CPU seconds of one process, in user and kernel mode; 0 when it is gone."""
    try:
        # The second field is a name in brackets that may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
