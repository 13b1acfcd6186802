"""Where lines of the log go, and what becomes of those that cannot be written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys

from strongroom.doors.cli.logs import Lines


def test_a_line_that_cannot_be_written_is_lost_and_its_writer_goes_on() -> None:
    with open("/dev/full", "w") as full, open(os.devnull, "w") as errors:
        lines = Lines(full, errors)
        lines.info("one")
        lines.error("two")
    gone = open(os.devnull, "w")  # noqa: SIM115
    gone.close()
    Lines(gone, None).info("three")


def test_after_a_line_that_broke_off_the_next_one_stands_alone() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with open(reads, "rb", buffering=0) as reader, open(writes, "w") as pipe:
        lines = Lines(pipe, None)
        lines.info("x" * 10_000_000)
        os.set_blocking(reads, False)
        with contextlib.suppress(BlockingIOError):
            while reader.read(1 << 20):
                pass
        lines.info("whole")
        lines.info("and again")
        assert reader.read(100) == b"\nwhole\nand again\n"


def test_a_stream_that_is_no_file_takes_lines_as_well() -> None:
    told = io.StringIO()
    Lines(told, None).info("là")
    assert told.getvalue() == "là\n"


FAILING = """
import logging, threading
import structlog
from strongroom.doors.cli import logs

logs.begin("info", process="api-7")
log = structlog.get_logger()
try:
    try:
        raise ValueError("does not fit\\nDETAIL:  Failing row contains (a hash,\\n a code).\\nHINT: no")
    except ValueError as error:
        raise RuntimeError("said above") from error
except RuntimeError:
    log.exception("bug")
thread = threading.Thread(target=logging.getLogger("elsewhere").warning, args=("%s told", "it"))
thread.start()
thread.join()
"""


def test_lines_say_who_wrote_them_and_nothing_of_a_row_that_did_not_fit() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FAILING], capture_output=True, text=True, check=True
    )
    bug, elsewhere = map(json.loads, ran.stderr.splitlines())
    assert "does not fit" in bug["exception"] and "said above" in bug["exception"]
    assert "a hash" not in ran.stderr and "a code" not in ran.stderr
    assert (bug["event"], bug["process"]) == ("bug", "api-7")
    assert (elsewhere["event"], elsewhere["process"]) == ("it told", "api-7")
