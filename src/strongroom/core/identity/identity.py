"""What the doors call: register, log in, prove who asks."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from strongroom.clock import Clock, now
from strongroom.core.db import Database, Record, Table
from strongroom.core.identity.attempts import PER_ADDRESS, Attempts
from strongroom.core.identity.particulars import NAME_LENGTH, address, checked
from strongroom.core.identity.passwords import Overloaded, Passwords
from strongroom.core.identity.principal import ROLES, Principal, Role, Unauthenticated
from strongroom.core.identity.revocations import Revocations, sql
from strongroom.core.identity.sessions import Sessions
from strongroom.core.identity.tokens import (
    KEY_PREFIX,
    LONGEST_S,
    TOKEN_LENGTH,
    AccessTokens,
    Tokens,
    digest,
    new_opaque,
)
from strongroom.core.ledger import open_accounts, stake, wallet
from strongroom.errors import Forbidden, Invalid, NotFound, Refused
from strongroom.ids import uuid7

CACHE_SIZE = 20_000
"""Tokens read before, about 15 MB; whoever falls out is only read again."""

KEY_CACHED_S = 300
"""An API key is looked up this often at least, whatever was heard about it."""

CREATED_TOGETHER = 10_000
"""One transaction of this size takes about a second, far from any timeout."""

USERS = Table(
    "identity.users", {"id": "uuid", "email": "text", "full_name": "text", "role": "text"}
)

LIBRARY = "library"
"""Who acted, where the caller does not say."""

WRONG = "The email address or the password is wrong."


class EmailTaken(Refused):
    """Somebody has registered with this email address already."""


class User(NamedTuple):
    """A user, as others may see them."""

    id: UUID
    email: str
    full_name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


class Identity:
    """Users, their sessions and API keys.

    Usable at once; between `open()` and `close()` it hears of revocations, and proves most tokens
    without the database.
    """

    def __init__(
        self,
        database: Database,
        *,
        token_secret: str,
        access_ttl_s: int,
        refresh_ttl_s: int,
        rate_limits: bool,
        failed_logins: str = PER_ADDRESS,
        clock: Clock = now,
    ) -> None:
        self._db, self._clock = database, clock
        self._passwords = Passwords()
        self._attempts = Attempts(limited=rate_limits, rate=failed_logins)
        self._access = AccessTokens(token_secret, clock)
        self._revocations = Revocations(database)
        self._sessions = Sessions(
            database,
            self._access,
            self._revocations,
            clock,
            access_ttl_s=access_ttl_s,
            refresh_ttl_s=refresh_ttl_s,
        )
        self._known: dict[str, tuple[Principal, datetime]] = {}

    async def open(self) -> Identity:
        """Begins to hear of revocations; DatabaseDown when they cannot be read."""
        try:
            await self._revocations.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        await self._revocations.stop()
        self._passwords.close()

    async def __aenter__(self) -> Identity:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # People ---------------------------------------------------------------------------------

    async def register(self, email: str, password: str, full_name: str) -> User:
        """A new user with empty accounts `wallet` and `stake`. Invalid names the fields that do
        not fit; EmailTaken; Overloaded."""
        email, full_name = checked(email, password, full_name)
        if await self.find_user(email):
            raise EmailTaken()  # without an expensive hash; the insert below decides
        encoded = await self._passwords.hash(password)
        user_id = uuid7()
        async with self._db.transaction() as db:
            row = await db.fetchrow(sql.add_user, user_id, email, full_name, encoded)
            if row:
                await open_accounts(db, [wallet(user_id), stake(user_id)])
        if not row:
            raise EmailTaken()
        return _user(row)

    async def user(self, user_id: UUID) -> User:
        """NotFound when there is none."""
        row = await self._db.fetchrow(sql.user, user_id)
        if row is None:
            raise NotFound()
        return _user(row)

    async def users(self, user_ids: list[UUID]) -> dict[UUID, User]:
        """Those that are there."""
        found = map(_user, await self._db.fetch(sql.users, user_ids))
        return {user.id: user for user in found}

    async def find_user(self, email: str) -> User | None:
        """By address, in any case."""
        found = address(email)
        row = await self._db.fetchrow(sql.find_user, found) if found else None
        return _user(row) if row else None

    async def disable(self, user_id: UUID, *, by: str = LIBRARY) -> None:
        """Ends the user's sessions and lets them log in no more; NotFound."""
        async with self._db.transaction() as db:
            await db.execute(sql.act_as, by)
            # First the user: a login under way then sees it, or its session is seen below.
            there = await db.fetchval(sql.disable_user, user_id)
            ended = await db.fetch(sql.revoke_sessions_of, user_id, "user disabled")
        for row in ended:
            self._revocations.add(row["id"])
        if there is None:
            raise NotFound()

    async def create_users(
        self, count: int, role: Role, *, by: str = LIBRARY
    ) -> list[tuple[UUID, str]]:
        """Users for trials, who cannot log in: (id, access token), the tokens valid for 12 hours.
        Committed in groups; the accounts are empty."""
        _check_role(role)
        made: list[tuple[UUID, str]] = []
        while len(made) < count:
            ids = [uuid7() for _ in range(min(count - len(made), CREATED_TOGETHER))]
            async with self._db.transaction() as db:
                await db.execute(sql.act_as, by)
                rows = [(id, f"user-{id}@demo.invalid", "Demo user", role) for id in ids]
                await USERS.append(db, rows)
                await open_accounts(db, [key(id) for id in ids for key in (wallet, stake)])
                tokens = await self._sessions.issue_many(db, ids, role, LONGEST_S)
            made += zip(ids, tokens, strict=True)
        return made

    # Sessions -------------------------------------------------------------------------------

    async def login(self, email: str, password: str, client: str) -> Tokens:
        """Tokens of a new session. `client` is the caller's network address. Unauthenticated
        whatever is wrong, TooManyAttempts, Overloaded."""
        found = address(email)
        with self._attempts.one(found or "", client) as attempt:
            row = await self._db.fetchrow(sql.credentials, found) if found else None
            encoded = row["password_hash"] if row else None
            # Without a row too: that must take as long.
            right = await self._passwords.matches(encoded, password)
            if not right or row is None or encoded is None or row["disabled_at"]:
                attempt.failed = True
                raise Unauthenticated(WRONG)
            attempt.succeeded = True
        await self._renew(row["id"], encoded, password)
        tokens = await self._sessions.open(row["id"], row["role"])
        if tokens is None:
            raise Unauthenticated(WRONG)
        return tokens

    async def _renew(self, user_id: UUID, encoded: str, password: str) -> None:
        """The one moment when a hash of other parameters can be replaced."""
        if self._passwords.outdated(encoded):
            with contextlib.suppress(Overloaded):  # the next login is as good
                renewed = await self._passwords.hash(password)
                await self._db.fetch(sql.rehash, user_id, encoded, renewed)

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for a refresh token, which works once. Unauthenticated: it is unknown,
        expired, revoked or was used before; in the last case the whole session is revoked."""
        return await self._sessions.refresh(refresh_token)

    async def logout(self, principal: Principal) -> None:
        """Ends the session at once, on every process."""
        if principal.session_id is None:
            raise Forbidden("An API key has no session; an operator revokes the key.")
        await self._sessions.revoke(principal.session_id, "logged out")

    async def issue(self, user_id: UUID, role: Role, ttl_s: int) -> str:
        """An access token without a refresh token, valid up to 12 hours; NotFound, also for a
        disabled user."""
        _check_role(role)
        if not 1 <= ttl_s <= LONGEST_S:
            raise Invalid(f"A token lives 1 to {LONGEST_S} seconds.")
        token = await self._sessions.issue(user_id, role, ttl_s)
        if token is None:
            raise NotFound()
        return token

    async def forget_used_once(self, limit: int = 10_000) -> int:
        """Chore: deletes used refresh tokens that have expired by now; how many."""
        return await self._sessions.forget_used_once(limit)

    # API keys -------------------------------------------------------------------------------

    async def create_api_key(self, name: str, role: Role, *, by: str = LIBRARY) -> tuple[UUID, str]:
        """The key's id, and its secret, which cannot be shown again."""
        _check_role(role)
        if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
            raise Invalid(f"A name has 1 to {NAME_LENGTH} printable characters.")
        key_id, secret = uuid7(), new_opaque(KEY_PREFIX)
        async with self._db.transaction() as db:
            await db.execute(sql.act_as, by)
            await db.execute(sql.add_key, key_id, name, role, digest(secret))
        return key_id, secret

    async def revoke_api_key(self, key_id: UUID, *, by: str = LIBRARY) -> None:
        """At once, on every process; once more does nothing. NotFound."""
        async with self._db.transaction() as db:
            await db.execute(sql.act_as, by)
            found = await db.fetch(sql.revoke_key, key_id)
        if not found:
            raise NotFound()
        self._revocations.add(key_id)

    # Proof ----------------------------------------------------------------------------------

    def authenticate_now(self, bearer: str) -> Principal | None:
        """Who asks, when that can be told without the database; None sends the caller to
        `authenticate`, which tells a bad token from one that is only unknown here."""
        if not self._revocations.current:
            return None
        known = self._known.get(bearer)
        if known is None:
            try:
                known = self._access.read(_token(bearer))
            except Unauthenticated:
                return None
            self._keep(bearer, *known)
        principal, until = known
        if until <= self._clock():
            del self._known[bearer]
            return None
        return None if principal.credential in self._revocations else principal

    async def authenticate(self, bearer: str) -> Principal:
        """Who asks; Unauthenticated. Takes the value of the `Authorization` header, or the token
        alone. Cannot be fooled by a process that hears nothing: then it asks the database."""
        principal = self.authenticate_now(bearer)
        if principal is not None:
            return principal
        token = _token(bearer)
        if token.startswith(KEY_PREFIX):
            return await self._api_key(bearer, token)
        principal, _ = self._access.read(token)
        if principal.session_id in self._revocations:
            raise Unauthenticated()
        if not self._revocations.current and not await self._sessions.stands(principal.session_id):
            raise Unauthenticated()
        return principal

    async def _api_key(self, bearer: str, secret: str) -> Principal:
        if len(secret) > TOKEN_LENGTH:
            raise Unauthenticated()
        row = await self._db.fetchrow(sql.find_key, digest(secret))
        if row is None or row["id"] in self._revocations:
            raise Unauthenticated()
        principal = Principal(row["id"], row["role"], None, row["id"])
        self._keep(bearer, principal, self._clock() + timedelta(seconds=KEY_CACHED_S))
        return principal

    def _keep(self, bearer: str, principal: Principal, until: datetime) -> None:
        if len(self._known) >= CACHE_SIZE:
            del self._known[next(iter(self._known))]
        self._known[bearer] = (principal, until)


def _token(bearer: str) -> str:
    """A token has no space, so the scheme in front of one cannot be part of it."""
    return bearer[7:] if bearer[:7].lower() == "bearer " else bearer


def _user(row: Record) -> User:
    return User(*row)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Invalid(f"The role {role!r} is none of {', '.join(ROLES)}.")
