"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from strongroom.errors import Forbidden

Role = Literal["user", "operator"]

ROLES = ("user", "operator")


class Unauthenticated(Forbidden):
    """This needs a valid token: there is none, or it is unknown, expired or revoked."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a user in a session, or an API key, which is its own owner.

    For a key `user_id` is the key's id and `session_id` is None.
    """

    user_id: UUID
    role: Role
    session_id: UUID | None
    api_key_id: UUID | None = None

    @property
    def name(self) -> str:
        """The principal of idempotency keys and `created_by`."""
        return f"key:{self.api_key_id}" if self.api_key_id else str(self.user_id)

    @property
    def credential(self) -> UUID | None:
        """What a revocation names: the session, or the key."""
        return self.session_id or self.api_key_id
