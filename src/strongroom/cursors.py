"""Cursors of lists: where a page ended, signed, so that nobody else makes one.

A cursor fits the list and the filters it was given for, and no other: a walk through a list stays
the walk that it began as. Not a library's tokens: those are longer, and take several spellings of
one signature.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TypeVar

import msgspec

from strongroom.errors import Invalid, invalid

P = TypeVar("P")

SEAL_BYTES = 16
"""Half of an HMAC-SHA256 (RFC 2104, 5): nobody guesses 128 bits at an API."""

LONGEST = 400
"""Ours have some sixty characters; a longer text is refused before it is looked at."""

PURPOSE = b"strongroom cursors"


class Cursors:
    """Makes cursors and reads them. Processes with the same secret read each other's."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), PURPOSE, hashlib.sha256)

    def sign(self, list: str, asked: object, place: object) -> str:
        """The cursor for going on behind `place`, in this list under what was asked."""
        said = msgspec.msgpack.encode(place)
        return _text(self._seal(list, asked, said) + said)

    def read(self, cursor: str, list: str, asked: object, type: type[P]) -> P:
        """Where to go on; Invalid for what is none of ours, or of another list or question."""
        try:
            if len(cursor) > LONGEST:
                raise ValueError("too long")
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise _foreign() from None
        seal, said = raw[:SEAL_BYTES], raw[SEAL_BYTES:]
        # Base64 has several spellings of the same bytes; a cursor has one.
        if not hmac.compare_digest(seal, self._seal(list, asked, said)) or _text(raw) != cursor:
            raise _foreign()
        return msgspec.msgpack.decode(said, type=type)

    def _seal(self, list: str, asked: object, said: bytes) -> bytes:
        sealed = msgspec.msgpack.encode((list, asked, said))
        return hmac.digest(self._key, sealed, hashlib.sha256)[:SEAL_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _foreign() -> Invalid:
    return invalid("cursor", "belongs to no such list; take it from nextCursor, change no filter")
