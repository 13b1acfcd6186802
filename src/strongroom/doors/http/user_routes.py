"""Registering, logging in and out, and who one is."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from strongroom.doors.http.bodies import Body
from strongroom.doors.http.routing import Call, Route, Routes


class User(msgspec.Struct, rename="camel"):
    """A user, as it sees itself."""

    user_id: UUID
    email: str
    full_name: str
    role: str


class TokenPair(msgspec.Struct, rename="camel"):
    """An access token for `expiresIn` seconds, and what renews it, once."""

    access_token: str
    refresh_token: str
    expires_in: int


class RegisterBody(Body):
    email: Annotated[str, Meta(max_length=254)]
    password: Annotated[str, Meta(max_length=1024)]
    full_name: Annotated[str, Meta(max_length=200)]


class LoginBody(Body):
    email: Annotated[str, Meta(max_length=254)]
    password: Annotated[str, Meta(max_length=1024)]


class RefreshBody(Body):
    refresh_token: Annotated[str, Meta(max_length=4096)]


class LogoutBody(Body):
    """`{}`, or no body at all."""


async def register(call: Call) -> User:
    body = call.body
    user = await call.house.identity.register(body.email, body.password, body.full_name)
    return User(user.id, user.email, user.full_name, user.role)


async def login(call: Call) -> TokenPair:
    body = call.body
    tokens = await call.house.identity.login(body.email, body.password, call.client)
    return TokenPair(tokens.access_token, tokens.refresh_token, tokens.expires_in)


async def refresh(call: Call) -> TokenPair:
    tokens = await call.house.identity.refresh(call.body.refresh_token)
    return TokenPair(tokens.access_token, tokens.refresh_token, tokens.expires_in)


async def logout(call: Call) -> None:
    await call.house.identity.logout(call.principal)


async def me(call: Call) -> User:
    user = await call.house.identity.user(call.user_id)
    return User(user.id, user.email, user.full_name, user.role)


USERS: Routes = [
    Route(
        "POST",
        "/api/auth/register",
        "anyone",
        201,
        "Opens a user and a wallet.",
        RegisterBody,
        User,
        read=register,
        problems=("email_taken", "overloaded"),
    ),
    Route(
        "POST",
        "/api/auth/login",
        "anyone",
        200,
        "Tokens for an address and a password.",
        LoginBody,
        TokenPair,
        read=login,
        problems=("unauthenticated", "too_many_attempts"),
    ),
    Route(
        "POST",
        "/api/auth/refresh",
        "anyone",
        200,
        "New tokens for a refresh token, once; using it twice ends the session.",
        RefreshBody,
        TokenPair,
        read=refresh,
        problems=("unauthenticated",),
    ),
    Route(
        "POST",
        "/api/auth/logout",
        "user",
        204,
        "Ends the session, at once and everywhere.",
        LogoutBody,
        None,
        read=logout,
        steps=True,
    ),
    Route("GET", "/api/users/me", "user", 200, "Who one is.", None, User, read=me),
]
