"""Routes are data: method, path, body, answer, who may, and what to do.

A write turns its request into a command and waits for the group; a read asks and answers. Both go
through one door, which authenticates, decodes, admits, answers, and turns errors into problems.
The same table makes the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
import structlog
from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from strongroom.clock import monotonic
from strongroom.core.commands import Command, Ticket
from strongroom.core.identity import Principal, Unauthenticated
from strongroom.doors.http import bodies
from strongroom.doors.http.problems import (
    IdempotencyKeyInvalid,
    IdempotencyKeyMissing,
    MethodNotAllowed,
    problem,
)
from strongroom.errors import Forbidden, Invalid, NotFound, StrongroomError
from strongroom.ids import uuid7

if TYPE_CHECKING:
    from strongroom.main import Strongroom

log = structlog.get_logger(__name__)

KEY = re.compile(rb"[A-Za-z0-9_\-:.]{1,255}").fullmatch

Role = Literal["anyone", "user", "operator"]


class OperatorOnly(Forbidden):
    """This needs the operator role."""


class UserOnly(Forbidden):
    """This needs a user's own token; an API key has no wallet and no bets."""


class Call:
    """One request: who calls, the house, the path's and the query's parameters, the body."""

    __slots__ = ("body", "client", "house", "params", "principal", "query", "request_id")

    def __init__(self, house: Strongroom, request_id: UUID) -> None:
        self.house, self.request_id = house, request_id
        self.principal: Principal = None  # type: ignore[assignment]  # set for all but `anyone`
        self.params: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self.body: Any = None
        self.client = ""

    @property
    def user_id(self) -> UUID:
        """The calling user."""
        user_id = self.principal.user_id
        if user_id is None:
            raise UserOnly()
        return user_id

    def id(self, name: str) -> UUID:
        """An id in the path; one that is malformed is simply not there."""
        try:
            return UUID(self.params[name])
        except ValueError:
            raise NotFound() from None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A number in the query, within its bounds."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            errors = [{"field": name, "message": f"a number from {low} to {high}"}]
            raise Invalid(f"{name} must be a number from {low} to {high}.", errors)
        return int(text)

    def cursor(self) -> UUID | None:
        """Where the page before ended."""
        text = self.query.get("cursor")
        if text is None:
            return None
        try:
            return UUID(text)
        except ValueError:
            errors = [{"field": "cursor", "message": "take it from nextCursor"}]
            raise Invalid("The cursor is not one of ours.", errors) from None


@dataclass(frozen=True)
class Route:
    """One row of the contract. Exactly one of `command` and `read` is set."""

    method: str
    path: str
    role: Role
    status: int
    summary: str
    body: type[Any] | None
    answer: type[Any] | None
    command: Callable[[Call], Command | Awaitable[Command]] | None = None
    read: Callable[[Call], Awaitable[Any]] | None = None
    query: tuple[str, ...] = ()
    limit: int = bodies.BODY_LIMIT
    problems: tuple[str, ...] = ()
    steps: bool = False


Routes = list[Route]


def _headers(scope: Scope) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name == b"idempotency-key" and name in found:
            raise IdempotencyKeyInvalid()
        found[name] = value
    return found


def _query(text: bytes, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise Invalid("The query cannot be read.") from None
    for name, value in pairs:
        if name in found or name not in known:
            what = "stands there twice" if name in found else "is not known here"
            errors = [{"field": name[:100], "message": what}]
            raise Invalid(f"The query parameter {name[:100]!r} {what}.", errors)
        found[name] = value
    return found


class Door:
    """One path: finds the method's route and lets the request through it."""

    def __init__(self, house: Strongroom, routes: list[Route]) -> None:
        self._house = house
        self._routes = {route.method: route for route in routes}
        self._allow = ", ".join(sorted(self._routes)).encode()
        self._decoders = {
            route.method: msgspec.json.Decoder(route.body) for route in routes if route.body
        }

    def as_handler(self, path: str) -> ASGIRouteHandler:
        async def through(scope: Scope, receive: Receive, send: Send) -> None:
            await self(scope, receive, send)

        return asgi(path, is_mount=False, copy_scope=False)(through)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid7()
        named = str(request_id)
        headers = [(b"content-type", b"application/json"), (b"x-request-id", named.encode())]
        began = monotonic()
        method: str = scope["method"]  # type: ignore[typeddict-item]
        path = scope["path_template"]
        try:
            route = self._routes.get(method)
            if route is None:
                headers.append((b"allow", self._allow))
                raise MethodNotAllowed()
            status = route.status
            if route.command is not None:
                body, replayed = await self._write(route, scope, receive, request_id)
                if replayed:
                    headers.append((b"idempotency-replayed", b"true"))
            else:
                body = await self._read(route, scope, receive, request_id)
        except Exception as error:
            if not isinstance(error, StrongroomError):
                log.error("bug", request_id=named, path=scope["path"], exc_info=error)
            status, body, more = problem(error, named)
            headers[0] = (b"content-type", b"application/problem+json")
            headers += more
        self._house.seen.request(method, path, status, monotonic() - began)
        if status == 204:
            headers = headers[1:]
        else:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _call(
        self, route: Route, scope: Scope, receive: Receive, request_id: UUID
    ) -> tuple[Call, dict[bytes, bytes]]:
        call = Call(self._house, request_id)
        headers = _headers(scope)
        if route.role != "anyone":
            call.principal = await self._principal(headers)
            if route.role == "operator" and call.principal.role != "operator":
                raise OperatorOnly()
        else:
            client = scope.get("client")
            call.client = client[0] if client else "local"
        call.params = scope["path_params"]
        if scope["query_string"]:
            call.query = _query(scope["query_string"], route.query)
        return call, headers

    async def _principal(self, headers: dict[bytes, bytes]) -> Principal:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Unauthenticated()
        text = token.decode("latin-1")
        identity = self._house.identity
        return identity.authenticate_now(text) or await identity.authenticate(text)

    async def _body(self, route: Route, receive: Receive, headers: dict[bytes, bytes]) -> Any:
        if route.body is None:
            return None
        raw = await bodies.read(receive, headers, route.limit)
        if route.steps and not raw.strip():
            return route.body()
        return bodies.decode(raw, headers, self._decoders[route.method])

    async def _write(
        self, route: Route, scope: Scope, receive: Receive, request_id: UUID
    ) -> tuple[bytes, bool]:
        call, headers = await self._call(route, scope, receive, request_id)
        key = headers.get(b"idempotency-key")
        if key is None:
            raise IdempotencyKeyMissing()
        if not KEY(key):
            raise IdempotencyKeyInvalid()
        call.body = await self._body(route, receive, headers)
        assert route.command is not None
        command = route.command(call)
        ticket = Ticket(
            command if isinstance(command, Command) else await command,
            principal=call.principal.name,
            key=key.decode(),
            path=scope["path"],
            deadline=monotonic() + self._house.settings.write_deadline_ms / 1000,
            request=request_id,
        )
        outcome = await self._house.lanes.run(ticket)
        outcome.check()
        return outcome.body, outcome.replayed

    async def _read(self, route: Route, scope: Scope, receive: Receive, request_id: UUID) -> bytes:
        call, headers = await self._call(route, scope, receive, request_id)
        call.body = await self._body(route, receive, headers)
        assert route.read is not None
        answer = await route.read(call)
        return b"" if answer is None else msgspec.json.encode(answer)


def doors(house: Strongroom, routes: Routes) -> list[ASGIRouteHandler]:
    """One handler for each path of the table."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    found = []
    for path, at in by_path.items():
        litestar_path = re.sub(r"\{(\w+)\}", r"{\1:str}", path)
        found.append(Door(house, at).as_handler(litestar_path))
    return found
