"""Errors in HTTP's language: one table from kind to status, RFC 9457 problem documents."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from strongroom.errors import (
    Busy,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    StoredRefusal,
    StrongroomError,
    code_of,
)

STATUS_OF_KIND: dict[type[StrongroomError], int] = {
    Invalid: 422,
    NotFound: 404,
    Forbidden: 403,
    Refused: 409,
    Busy: 503,
}

STATUS_OF_CODE = {
    "malformed": 400,
    "unreadable_request": 400,
    "idempotency_key_missing": 400,
    "idempotency_key_invalid": 400,
    "insufficient_funds": 400,
    "unauthenticated": 401,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "request_in_progress": 409,
    "body_too_large": 413,
    "url_too_long": 414,
    "unsupported_media_type": 415,
    "expectation_failed": 417,
    "headers_too_large": 431,
    "overloaded": 429,
    "too_many_attempts": 429,
    "rate_limited": 429,
}
"""Codes whose status differs from that of their kind."""


PROBLEM = b"application/problem+json"


class Malformed(Invalid):
    """The body is not JSON."""


class UnreadableRequest(Invalid):
    """This cannot be read as one request in HTTP/1.1."""


class RequestTimeout(Invalid):
    """The request took too long to come; a write did nothing, send it again with the same key."""


class UrlTooLong(Invalid):
    """The URL is longer than any of ours."""


class ExpectationFailed(Invalid):
    """Of what a request may expect, only 100-continue is known here."""


class IdempotencyKeyMissing(Invalid):
    """This needs an Idempotency-Key header: make one up, keep it, and send it with each retry."""


class IdempotencyKeyInvalid(Invalid):
    """An Idempotency-Key is 1 to 255 of A-Z a-z 0-9 _ - : and the dot, sent once."""


class BodyTooLarge(Invalid):
    """The body is larger than this route takes."""


class UnsupportedMediaType(Invalid):
    """Send application/json, in UTF-8, without a content encoding."""


class HeadersTooLarge(Invalid):
    """There are more headers, or longer ones, than any request needs."""


class MethodNotAllowed(Invalid):
    """This path does not take that method."""


class Problem(msgspec.Struct, rename="camel", omit_defaults=True):
    """The body of every error (RFC 9457). `code` is stable; `detail` is for people. Some refusals
    state facts beside these, as `firstScan` does with `already_checked_in`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: list[dict[str, str]] | msgspec.UnsetType = msgspec.UNSET


def status_of(error: StrongroomError) -> int:
    by_code = STATUS_OF_CODE.get(error.code)
    if by_code is not None:
        return by_code
    return next(status for kind, status in STATUS_OF_KIND.items() if isinstance(error, kind))


def status_of_code(code: str) -> int:
    """The status of an error that is known by its code alone; of a rule's refusal where there is
    no such error."""
    waiting: list[type[StrongroomError]] = [StrongroomError]
    while waiting:
        error = waiting.pop()
        if error.code == code:
            return STATUS_OF_CODE.get(code) or next(
                status for kind, status in STATUS_OF_KIND.items() if issubclass(error, kind)
            )
        waiting += error.__subclasses__()
    return STATUS_OF_KIND[Refused]


def problem(error: Exception, request_id: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """(status, body, further headers). What is no StrongroomError is a bug and says nothing."""
    if not isinstance(error, StrongroomError):
        return 500, _body(500, code_of(error), "Something went wrong here.", request_id), []
    status = status_of(error)
    headers: list[tuple[bytes, bytes]] = []
    errors: Any = msgspec.UNSET
    facts = error.facts if isinstance(error, Refused) else {}
    if isinstance(error, StoredRefusal):
        request_id = error.request_id or request_id
        if error.replayed:
            headers.append((b"idempotency-replayed", b"true"))
    if isinstance(error, Busy):
        headers.append((b"retry-after", str(error.retry_after_s).encode()))
    if isinstance(error, Invalid) and error.errors:
        errors = error.errors
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return status, _body(status, error.code, error.detail, request_id, errors, facts), headers


def _body(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    errors: Any = msgspec.UNSET,
    facts: dict[str, Any] | None = None,
) -> bytes:
    said = Problem(
        type=f"/schema#{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        request_id=request_id,
        errors=errors,
    )
    return msgspec.json.encode({**msgspec.to_builtins(said), **facts} if facts else said)
