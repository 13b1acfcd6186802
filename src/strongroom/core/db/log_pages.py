"""What is in a file of the server's log: whose it is, and whether it ends where writing it ended.

A server that replays takes the first record that it cannot read for the end of the log, so a
changed byte would pass for the last moment that there is. Here the two are told apart. The layouts
are those of PostgreSQL's xlog_internal.h and xlogrecord.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from strongroom.core.db.embedded_config import MIB

SEGMENT_BYTES = 16 * MIB
"""What initdb chooses, and ours never says otherwise."""

PAGE_BYTES = 8192

LEAST_BYTES, MOST_BYTES = 24, 1020 * MIB
"""Of a record: its header alone, and XLogRecordMaxSize."""

CONTINUES = 0x0001
"""XLP_FIRST_IS_CONTRECORD: the page begins with the rest of a record."""


class Header(NamedTuple):
    """How each page begins; `rest` is how much of a record from before is still to come."""

    magic: int
    flags: int
    timeline: int
    position: int
    rest: int


HEADER = struct.Struct("=HHIQI4x")
FIRST_HEADER = struct.Struct("=HHIQI4xQII")
"""The first page of a file also says which cluster it is of, and how large files and pages are."""


def present(file: Path) -> Path:
    """A file of the archive, which may have been finished since it was found."""
    return file if file.exists() else file.with_suffix("")


def belongs(file: Path, number: int, system: str) -> bool:
    """Whether this is the `number`-th piece of the log of this cluster. One that was just begun
    says nothing yet."""
    with present(file).open("rb") as log:
        read = log.read(FIRST_HEADER.size)
    if len(read) < FIRST_HEADER.size:
        return False
    if not any(read):
        return bool(file.suffix)
    _, _, _, position, _, of, segment, page = FIRST_HEADER.unpack(read)
    return (position, str(of)) == (number * SEGMENT_BYTES, system) and (segment, page) == (
        SEGMENT_BYTES,
        PAGE_BYTES,
    )


def end_of(file: Path, number: int) -> int:
    """The position up to which the `number`-th piece is written; behind it are zeros."""
    return number * SEGMENT_BYTES + len(file.read_bytes().rstrip(b"\0"))


def goes_on(files: Mapping[int, Path], at: int, end: int) -> bool:
    """Whether there is more behind the position at which reading ended than the one record that was
    under way: then what ended it is damage. `files` are the pieces by number, none missing, and
    `end` is where the last of them ended when it was read: they may have grown."""
    begin = at + (_header_bytes(at) if at % PAGE_BYTES == 0 else 0)
    if begin + 4 > end:
        return False
    length = int.from_bytes(_read(files, begin, 4), "little")
    if not LEAST_BYTES <= length <= MOST_BYTES:
        return True
    page = begin - begin % PAGE_BYTES + PAGE_BYTES
    rest = length - (page - begin)
    while rest > 0 and page + HEADER.size <= end:
        header = Header(*HEADER.unpack(_read(files, page, HEADER.size)))
        if not header.flags & CONTINUES or header.rest != rest:
            return True
        rest -= PAGE_BYTES - _header_bytes(page)
        page += PAGE_BYTES
    return rest <= 0 and page + rest <= end  # all of it came, and yet it could not be read


def _header_bytes(page: int) -> int:
    return FIRST_HEADER.size if page % SEGMENT_BYTES == 0 else HEADER.size


def _read(files: Mapping[int, Path], at: int, count: int) -> bytes:
    number, offset = divmod(at, SEGMENT_BYTES)
    with present(files[number]).open("rb") as log:
        log.seek(offset)
        return log.read(count)
