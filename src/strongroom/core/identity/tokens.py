"""Tokens: access tokens that prove themselves, and secrets that are known by their hash."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import jwt
import msgspec

from strongroom.clock import Clock
from strongroom.core.identity.principal import ROLES, Principal, Role, Unauthenticated
from strongroom.core.identity.secret import MIN_LENGTH

ALGORITHM = "HS256"
ISSUER = "strongroom"
AUDIENCE = "strongroom-api"
TYPE = "access"

LEEWAY_S = 5
"""What the clocks of two machines may differ by."""

LONGEST_S = 12 * 3600
"""No access token lives longer; who keeps revocations for this long forgets none that matters."""

TOKEN_LENGTH = 4096
"""Ours have some 500 characters; a longer text is refused before it is looked at."""

REFRESH_PREFIX = "rt_"
KEY_PREFIX = "sk_"
"""Prefixes let a scanner find a secret that was committed by mistake."""

OPAQUE_BYTES = 32

_CLAIMS = ["iss", "aud", "exp", "nbf", "iat", "jti", "sub", "sid", "role", "typ"]


class Tokens(msgspec.Struct, frozen=True, rename="camel"):
    """What a login gives; `expires_in` is the life of the access token in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int

    def __repr__(self) -> str:
        return f"Tokens(expires_in={self.expires_in})"


def new_opaque(prefix: str) -> str:
    """A secret without content, known to us by its digest alone."""
    return prefix + secrets.token_urlsafe(OPAQUE_BYTES)


def digest(opaque: str) -> bytes:
    """SHA-256: the secret has 256 random bits, there is nothing to slow down."""
    return hashlib.sha256(opaque.encode("utf8", "surrogatepass")).digest()


class AccessTokens:
    """Makes and reads JWTs (RFC 7519) of one algorithm, by the clock it is given."""

    def __init__(self, secret: str, clock: Clock) -> None:
        if len(secret) < MIN_LENGTH:
            raise ValueError(f"the token secret needs {MIN_LENGTH} characters or more")
        self._secret, self._clock = secret, clock
        self._jwt = jwt.PyJWT()

    def make(self, user_id: UUID, role: Role, session_id: UUID, ttl_s: int) -> str:
        assert 0 < ttl_s <= LONGEST_S
        now = int(self._clock().timestamp())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + ttl_s,
            "jti": secrets.token_urlsafe(12),
            "sub": str(user_id),
            "sid": str(session_id),
            "role": role,
            "typ": TYPE,
        }
        return self._jwt.encode(claims, self._secret, ALGORITHM)

    def read(self, token: str) -> tuple[Principal, datetime]:
        """Whom the token names, and until when it holds; Unauthenticated for every other text."""
        if len(token) > TOKEN_LENGTH or not token.isascii():
            raise Unauthenticated()
        try:
            claims = self._jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                options={
                    "require": _CLAIMS,
                    "strict_aud": True,
                    # Our clock, not the machine's: checked below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            return self._principal(claims), self._until(claims)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise Unauthenticated() from error

    def _principal(self, claims: dict[str, Any]) -> Principal:
        role = claims["role"]
        if claims["typ"] != TYPE or role not in ROLES or not isinstance(claims["jti"], str):
            raise Unauthenticated()
        return Principal(_id(claims["sub"]), cast(Role, role), _id(claims["sid"]))

    def _until(self, claims: dict[str, Any]) -> datetime:
        """When the token ends, leeway included."""
        issued, begins, ends = (claims[name] for name in ("iat", "nbf", "exp"))
        if not all(type(time) is int for time in (issued, begins, ends)):
            raise Unauthenticated()
        now = self._clock()
        soon, past = now.timestamp() + LEEWAY_S, now.timestamp() - LEEWAY_S
        if issued > soon or begins > soon or ends <= past or ends - issued > LONGEST_S:
            raise Unauthenticated()
        return datetime.fromtimestamp(ends, now.tzinfo) + timedelta(seconds=LEEWAY_S)


def _id(text: Any) -> UUID:
    """The one spelling that we write: UUID() takes many."""
    found = UUID(text) if isinstance(text, str) else None
    if found is None or str(found) != text:
        raise Unauthenticated()
    return found
