"""Sessions: opened by a login, carried on by refresh tokens that work once, revoked for ever."""

from __future__ import annotations

import os
from datetime import timedelta
from uuid import UUID

import structlog

from strongroom.clock import Clock
from strongroom.core.db import Connection, Database, Table
from strongroom.core.identity.principal import Role, Unauthenticated
from strongroom.core.identity.revocations import Revocations, sql
from strongroom.core.identity.tokens import (
    OPAQUE_BYTES,
    REFRESH_PREFIX,
    TOKEN_LENGTH,
    AccessTokens,
    Tokens,
    digest,
    new_opaque,
)
from strongroom.ids import uuid7

log = structlog.get_logger(__name__)

SESSIONS = Table(
    "identity.sessions",
    {
        "id": "uuid",
        "user_id": "uuid",
        "refresh_hash": "bytea",
        "created_at": "timestamptz",
        "refreshed_at": "timestamptz",
        "expires_at": "timestamptz",
    },
)


class Sessions:
    """What identity.sessions holds; access and refresh tokens live by the clock of `access`."""

    def __init__(
        self,
        database: Database,
        access: AccessTokens,
        revocations: Revocations,
        clock: Clock,
        *,
        access_ttl_s: int,
        refresh_ttl_s: int,
    ) -> None:
        self._db, self._access, self._revocations = database, access, revocations
        self._clock, self._access_ttl_s, self._refresh_ttl_s = clock, access_ttl_s, refresh_ttl_s

    async def open(self, user_id: UUID, role: Role) -> Tokens | None:
        """A new session; None when there is no such user, or they are disabled."""
        refresh_token = new_opaque(REFRESH_PREFIX)
        session_id = await self._insert(user_id, digest(refresh_token), self._refresh_ttl_s)
        return self._tokens(user_id, role, session_id, refresh_token) if session_id else None

    async def issue(self, user_id: UUID, role: Role, ttl_s: int) -> str | None:
        """The access token of a session that cannot be refreshed; None as above."""
        session_id = await self._insert(user_id, os.urandom(OPAQUE_BYTES), ttl_s)
        return self._access.make(user_id, role, session_id, ttl_s) if session_id else None

    async def issue_many(
        self, db: Connection, user_ids: list[UUID], role: Role, ttl_s: int
    ) -> list[str]:
        """The same for users that the transaction of `db` has made, in their order."""
        now = self._clock()
        ends = now + timedelta(seconds=ttl_s)
        sessions = [
            (uuid7(), user_id, os.urandom(OPAQUE_BYTES), now, now, ends) for user_id in user_ids
        ]
        await SESSIONS.append(db, sessions)
        return [self._access.make(row[1], role, row[0], ttl_s) for row in sessions]

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for old. A token that was used before ends its session, for whoever holds
        the newer one too: one of the two has stolen it (RFC 9700, 4.14.2)."""
        if len(refresh_token) > TOKEN_LENGTH:
            raise Unauthenticated()
        old, fresh = digest(refresh_token), new_opaque(REFRESH_PREFIX)
        now = self._clock()
        ends = now + timedelta(seconds=self._refresh_ttl_s)
        reused = None
        async with self._db.transaction() as db:
            session = await db.fetchrow(sql.lock_session, old, now)
            if session:
                await db.execute(sql.rotate, session["id"], old, digest(fresh), now, ends)
            else:
                reused = await db.fetchrow(sql.revoke_reused, old)
        if reused:
            self._revocations.add(reused["id"])
            log.warning("refresh token used twice", session=str(reused["id"]))
        if not session:
            raise Unauthenticated()
        return self._tokens(session["user_id"], session["role"], session["id"], fresh)

    async def revoke(self, session_id: UUID, because: str) -> None:
        """At once here, and on every other process as fast as Postgres tells it."""
        await self._db.fetch(sql.revoke_session, session_id, because)
        self._revocations.add(session_id)

    async def stands(self, session_id: UUID | None) -> bool:
        """Whether it is there and not revoked, read from the database."""
        return bool(await self._db.fetchval(sql.session_stands, session_id))

    async def forget_used_once(self, limit: int) -> int:
        """Chore: deletes up to `limit` used refresh tokens that have expired; how many."""
        before = self._clock() - timedelta(seconds=self._refresh_ttl_s)
        return len(await self._db.fetch(sql.forget_used, before, limit))

    async def _insert(self, user_id: UUID, refresh_hash: bytes, ttl_s: int) -> UUID | None:
        now = self._clock()
        ends = now + timedelta(seconds=ttl_s)
        query = sql.open_session
        found: UUID | None = await self._db.fetchval(
            query, uuid7(), user_id, refresh_hash, now, ends
        )
        return found

    def _tokens(self, user_id: UUID, role: Role, session_id: UUID, refresh_token: str) -> Tokens:
        access = self._access.make(user_id, role, session_id, self._access_ttl_s)
        return Tokens(access, refresh_token, self._access_ttl_s)
