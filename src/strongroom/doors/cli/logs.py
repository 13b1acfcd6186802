"""Logs: one JSON object a line, those of libraries included."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Lines:
    """Where lines go: all of them to one stream, errors also to another."""

    def __init__(self, stream: TextIO, errors: TextIO | None) -> None:
        self._stream, self._errors = stream, errors

    def info(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = warning = msg = info

    def error(self, line: str) -> None:
        self.info(line)
        if self._errors is not None:
            self._errors.write(line + "\n")
            self._errors.flush()

    critical = exception = error


class _Handler(logging.Handler):
    """Hands the records of other libraries to the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def begin(level: str, *, process: str | None = None, to_file: bool = False) -> None:
    """From here on, logs are JSON lines: on stderr, or with `to_file` on stdout, which is a file
    then, and errors on stderr as well."""
    lines = Lines(sys.stdout, sys.stderr) if to_file else Lines(sys.stderr, None)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    if process:
        structlog.contextvars.bind_contextvars(process=process)
    logging.root.handlers = [_Handler()]
    # Other libraries' info is about themselves.
    logging.root.setLevel(max(LEVELS[level], logging.WARNING))
