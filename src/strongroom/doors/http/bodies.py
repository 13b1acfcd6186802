"""Request bodies: read within a limit, decoded strictly, without surprises.

Beyond what msgspec refuses (types, unknown fields, floats for integers) a body may not name a
field twice: which of the two counts would be a matter of taste.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from litestar.types import Receive

from strongroom.doors.http.problems import BodyTooLarge, Malformed, UnsupportedMediaType
from strongroom.errors import Invalid

BODY_LIMIT = 64 * 1024
BULK_LIMIT = 4 * 1024 * 1024


class Body(msgspec.Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """What a route takes."""


class StepBody(Body):
    """A step without parameters: `{}`, or no body at all."""


async def read(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """The whole body; BodyTooLarge as soon as that is known."""
    length = headers.get(b"content-length")
    if length is not None and int(length) > limit:
        raise BodyTooLarge(f"The body may have {limit} bytes.")
    data, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            # What has come so far is no request, even where it could be read as one.
            raise Malformed("The body broke off.")
        data = data + message["body"] if data else message["body"]
        if len(data) > limit:
            raise BodyTooLarge(f"The body may have {limit} bytes.")
        more = message["more_body"]
    return data


def decode(raw: bytes, headers: dict[bytes, bytes], decoder: msgspec.json.Decoder[Any]) -> Any:
    """The body as the route's type. Malformed (400), UnsupportedMediaType (415), Invalid (422)."""
    media = headers.get(b"content-type", b"")
    if media != b"application/json" and not _is_json(media):
        raise UnsupportedMediaType()
    if b"content-encoding" in headers:
        raise UnsupportedMediaType()
    try:
        body = decoder.decode(raw)
    except msgspec.ValidationError as error:
        _refuse_duplicates(raw)
        said = str(error)
        message, _, where = said.partition(" - at `$")
        errors = [{"field": where.strip("`.") or "body", "message": message}]
        raise Invalid(f"The body does not fit: {said}.", errors) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed() from None
    # As many quotes as the canonical form has, and no escapes: then no name stands twice.
    if b"\\" in raw or raw.count(b'"') != msgspec.json.encode(body).count(b'"'):
        _refuse_duplicates(raw)
    return body


def _is_json(media: bytes) -> bool:
    name, _, parameters = media.partition(b";")
    charset = parameters.strip().lower()
    return name.strip().lower() == b"application/json" and charset in (b"", b"charset=utf-8")


def _refuse_duplicates(raw: bytes) -> None:
    def pairs(found: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in found]
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            errors = [{"field": twice[:100], "message": "stands there twice"}]
            raise Invalid("A field stands there twice.", errors)

    try:
        json.loads(raw, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        raise Malformed() from None
