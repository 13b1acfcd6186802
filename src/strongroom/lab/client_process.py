"""The load client in a process of its own, so that whoever measures shares no event loop with it.

    echo '{"host": "127.0.0.1", "port": 8000, "scenario": "wallet-read", "tokens": ["…"],
           "duration_s": 5}' | python -m strongroom.lab.client_process

A job comes as JSON on stdin, its result leaves as one line of JSON on stdout. Exit codes: 0 done,
1 the server's answers cannot be read, 2 the job does not fit, 3 nobody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from typing import TypeVar

import msgspec
import uvloop

from strongroom.errors import Busy, Invalid, NotFound, StrongroomError
from strongroom.lab.client import LoadResult, run
from strongroom.lab.scenarios import Job, JobUnfit, requests_of

T = TypeVar("T")

EXIT_CODES = ((NotFound, 2), (Invalid, 2), (Busy, 3))


class LoadFailed(StrongroomError):
    """The load process ended without a result."""


async def _carry_out(job: Job) -> LoadResult:
    requests = requests_of(job)
    # What was prepared lives until the end; a collection that walks it would look like latency.
    gc.collect()
    gc.freeze()
    return await run(
        (job.host, job.port),
        requests=requests,
        connections=job.connections,
        count=job.count,
        duration_s=job.duration_s,
        warmup_s=job.warmup_s,
        pipeline=job.pipeline,
        keep_bodies=job.keep_bodies,
    )


async def drive(job: Job) -> LoadResult:
    """Runs the job in a new process and waits for it; ends that process when cancelled."""
    return await in_process("strongroom.lab.client_process", job, LoadResult)


async def in_process(module: str, asked: msgspec.Struct, told: type[T]) -> T:
    """What a module of the lab, run in a process of its own, answers; LoadFailed says why not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate(msgspec.json.encode(asked))
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise LoadFailed(f"Exit code {process.returncode}: {err.decode().strip()[-2000:]}")
    return msgspec.json.decode(out, type=told)


def tell(told: object) -> None:
    """One line of JSON on stdout, whole. Where Python does not buffer its output a write may end
    early and nobody takes up the rest: it does so behind an event loop that used io_uring."""
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(told) + b"\n")


def main() -> int:
    try:
        try:
            job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
        except msgspec.DecodeError as error:
            raise JobUnfit(f"The job is not what is expected: {error}") from error
        result = uvloop.run(_carry_out(job))
    except StrongroomError as error:
        print(f"{error.code}: {error.detail}", file=sys.stderr)
        return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
    tell(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
