"""Logs: one JSON object a line, those of libraries included."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_ROWS = re.compile(
    r"\n[ |]*DETAIL:  .*?(?=\n[ |]*\n[ |]*(?:The above exception|During handling)|\Z)", re.DOTALL
)
"""What Postgres adds to an error: the row that did not fit, with all that is in it."""


class Place:
    """A stream that lines are written to. One that cannot be written, as on a full disk, is lost,
    and whoever wrote it goes on: no bet fails for its log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._torn = stream, False

    def write(self, line: str) -> None:
        said = f"{line}\n".encode(errors="backslashreplace")
        try:
            # Past the stream's buffer: what it cannot write it keeps, and tries again for ever.
            written = os.write(self._stream.fileno(), b"\n" + said if self._torn else said)
            self._torn = written < len(said)
        except io.UnsupportedOperation:  # no file of the system's
            self._stream.write(f"{line}\n")
        except (OSError, ValueError):
            return


class Lines:
    """Where lines go: all of them to one stream, errors also to another."""

    def __init__(self, stream: TextIO, errors: TextIO | None) -> None:
        self._all = Place(stream)
        self._errors = None if errors is None else Place(errors)

    def info(self, line: str) -> None:
        self._all.write(line)

    debug = warning = msg = info

    def error(self, line: str) -> None:
        self._all.write(line)
        if self._errors is not None:
            self._errors.write(line)

    critical = exception = error


class _Handler(logging.Handler):
    """Hands the records of other libraries to the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def _of(process: str | None) -> Processor:
    """Says of each line who wrote it, whichever thread it comes from."""

    def say(_: object, __: str, line: EventDict) -> EventDict:
        return {**line, "process": process} if process else line

    return say


def _without_rows(_: object, __: str, line: EventDict) -> EventDict:
    if "exception" in line:
        line["exception"] = _ROWS.sub("", line["exception"])
    return line


def keep_aside() -> None:
    """For a command that serves nobody: its warnings go to stderr, because stdout is for results.
    Whoever has said before where logs go is left alone."""
    if not structlog.is_configured():
        begin("warning")


def begin(level: str, *, process: str | None = None, to_file: bool = False) -> None:
    """From here on, logs are JSON lines: on stderr, or with `to_file` on stdout, which is a file
    then, and errors on stderr as well."""
    lines = Lines(sys.stdout, sys.stderr) if to_file else Lines(sys.stderr, None)
    structlog.configure(
        processors=[
            _of(process),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            _without_rows,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.root.handlers = [_Handler()]
    # Other libraries' info is about themselves.
    logging.root.setLevel(max(LEVELS[level], logging.WARNING))
