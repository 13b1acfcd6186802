"""Routes are data: method, path, body, answer, who may, and what to do.

A write turns its request into a command and waits for the group; a read asks and answers. Both go
through one door, which authenticates, decodes, admits, answers, and turns errors into problems.
The same table makes the OpenAPI document.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
import structlog
from litestar.types import ASGIApp, Receive, Scope, Send

from strongroom.clock import monotonic
from strongroom.core.commands import Command, Ticket
from strongroom.core.commands.command import Draining, OutcomeUnknown
from strongroom.core.commands.course import Entered, Tracing
from strongroom.core.commands.ticket import Origin
from strongroom.core.guard import network
from strongroom.core.identity import Principal, Unauthenticated
from strongroom.doors.http import bodies
from strongroom.doors.http.journal import Journal
from strongroom.doors.http.overflow import Overflow
from strongroom.doors.http.policies import DATA, completed
from strongroom.doors.http.problems import (
    PROBLEM,
    ExpectationFailed,
    HeadersTooLarge,
    IdempotencyKeyInvalid,
    IdempotencyKeyMissing,
    MethodNotAllowed,
    UnreadableRequest,
    problem,
)
from strongroom.doors.http.quotas import Headers, Limited, Quota
from strongroom.doors.http.seen import METHODS, Seen
from strongroom.errors import Busy, Forbidden, Invalid, NotFound, StrongroomError
from strongroom.ids import uuid7
from strongroom.main import Strongroom

log = structlog.get_logger(__name__)

KEY = re.compile(rb"[A-Za-z0-9_\-:.]{1,255}").fullmatch

MOST_HEADERS, HEADER_BYTES = 100, 32 * 1024
"""More than any browser or proxy sends."""

TRACEPARENT = b"traceparent"
"""Whose trace the caller's is, as W3C Trace Context has it."""

NO_METHOD = "_OTHER"
"""What a trace has for one that anybody else invents, as OpenTelemetry has it."""

ONCE = (b"authorization", b"content-type", b"content-length", b"host")
"""Said twice, one proxy goes by the first and another by the last."""

UUID_LENGTH = 36

Role = Literal["anyone", "public", "user", "operator"]
"""`public`: a token may be given, and then `call.principal` is set; it need not be."""

NOBODY = "anyone"
"""The principal of a command that is asked without a token."""


CUT_SHORT = "This process is stopping, and the outcome is not known. Retry with the same key."

STALLED_S = 30.0
"""Who reads nothing for so long gives up the place of a file to others."""


class OperatorOnly(Forbidden):
    """This needs the operator role."""


class UserOnly(Forbidden):
    """This needs a user's own token; an API key has no wallet and no bets."""


class Raw(NamedTuple):
    """What a read answers that is not JSON: a page, a picture, a table; what may be long comes in
    portions. `status` None takes the route's."""

    content_type: str
    body: bytes | AsyncIterator[bytes]
    headers: Sequence[tuple[bytes, bytes]] = ()
    status: int | None = None


async def answer(
    send: Send, status: int, headers: Headers, body: bytes | AsyncIterator[bytes]
) -> None:
    """Sends an answer; the first header is its content type, left out where there is none. One
    that comes in portions and breaks off is seen to be incomplete: its last part is missing."""
    if status == 204:
        headers = headers[1:]
    elif isinstance(body, bytes):
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if not isinstance(body, bytes):
        try:
            async for portion in body:
                try:
                    async with asyncio.timeout(STALLED_S):
                        await send(
                            {"type": "http.response.body", "body": portion, "more_body": True}
                        )
                except TimeoutError:
                    log.info("the caller stopped reading")
                    return
        finally:
            if isinstance(body, AsyncGenerator):
                await body.aclose()
        body = b""
    await send({"type": "http.response.body", "body": body, "more_body": False})


class NoSuchPath(NotFound):
    """There is no such path. The reference is at /schema."""


def _id(text: str) -> UUID:
    """An id as we write them, not in one of the other forms that UUID takes."""
    if len(text) != UUID_LENGTH:
        raise ValueError(text)
    return UUID(text)


class Call:
    """One request: who calls, the house, the path's and the query's parameters, the body."""

    __slots__ = (
        "body",
        "command",
        "headers",
        "house",
        "origins",
        "params",
        "principal",
        "query",
        "receive",
        "replayed",
        "request_id",
        "scope",
    )

    def __init__(
        self, house: Strongroom, scope: Scope, receive: Receive, params: dict[str, str]
    ) -> None:
        self.house, self.scope, self.receive, self.params = house, scope, receive, params
        self.request_id = uuid7()
        # Set for users and operators, for `public` where a token was given.
        self.principal: Principal = None  # type: ignore[assignment]
        # By name, the last of each where there may be several.
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query: dict[str, str] = {}
        self.body: Any = None
        # What it came to, for the log, and the span that tells of it.
        self.command: type[Command] | None = None
        self.replayed = False
        self.origins: Sequence[Origin] = ()

    def enter(self, tracing: Tracing) -> Entered:
        """Becomes part of a trace: the caller's, where it has one."""
        parent = self.headers.get(TRACEPARENT)
        if parent is not None and _names(self.scope).count(TRACEPARENT) > 1:
            parent = None  # which of them would it be?
        entered = tracing.enter(self.request_id, parent)
        self.request_id = entered.request
        if entered.origin is not None:
            self.origins = (entered.origin,)
        return entered

    @property
    def client(self) -> str:
        """The caller's address."""
        client = self.scope.get("client")
        return client[0] if client else "local"

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
            return _id(self.params[name])
        except ValueError:
            raise NotFound() from None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A number in the query, within its bounds."""
        text = self.query.get(name)
        if text is None:
            return default
        fits = text.isascii() and text.isdigit() and len(text) <= 20
        if not fits or not low <= int(text) <= high:
            errors = [{"field": name, "message": f"a number from {low} to {high}"}]
            raise Invalid(f"{name} must be a number from {low} to {high}.", errors)
        return int(text)

    def cursor(self) -> UUID | None:
        """Where the page before ended."""
        text = self.query.get("cursor")
        if text is None:
            return None
        try:
            return _id(text)
        except ValueError:
            errors = [{"field": "cursor", "message": "take it from nextCursor"}]
            raise Invalid("The cursor is not one of ours.", errors) from None


@dataclass(frozen=True)
class Route:
    """One row of the contract. Exactly one of `command` and `read` is set; a read may answer
    `Raw`. `body=bytes` takes whatever comes, as it is. `keyless`: an Idempotency-Key may be left
    out, because the command's own state makes it idempotent. `limited`: the rate limits it counts
    against."""

    method: str
    path: str
    role: Role
    status: int
    summary: str
    body: type[Any] | None
    answer: type[Any] | None
    command: Callable[[Call], Command | Coroutine[Any, Any, Command]] | None = None
    read: Callable[[Call], Awaitable[Any]] | None = None
    query: tuple[str, ...] = ()
    limit: int = bodies.BODY_LIMIT
    problems: tuple[str, ...] = ()
    steps: bool = False
    keyless: bool = False
    limited: Limited = "global"


Routes = list[Route]


def _names(scope: Scope) -> list[bytes]:
    return [name for name, _ in scope["headers"]]


def _check_headers(scope: Scope, found: dict[bytes, bytes]) -> None:
    """Raises what is wrong with them."""
    pairs = list(scope["headers"])
    taken = sum([len(name) + len(value) for name, value in pairs])
    if len(pairs) > MOST_HEADERS or taken > HEADER_BYTES:
        raise HeadersTooLarge()
    if len(found) < len(pairs):
        names = _names(scope)
        if names.count(b"idempotency-key") > 1:
            raise IdempotencyKeyInvalid()
        if any(names.count(name) > 1 for name in ONCE):
            raise UnreadableRequest("A header stands there twice that may stand there once.")
    if b"host" not in found and scope.get("http_version") == "1.1":
        raise UnreadableRequest("A request names its host.")
    if b"expect" in found and found[b"expect"].lower() != b"100-continue":
        raise ExpectationFailed()


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


def _cut_short(call: Call) -> Busy:
    """What is left to say when the process has waited for a request as long as it may: a command
    that was begun may be done all the same."""
    return OutcomeUnknown(CUT_SHORT) if call.command else Draining()


class Door:
    """One path: finds the method's route and lets the request through it."""

    def __init__(
        self,
        house: Strongroom,
        seen: Seen,
        journal: Journal,
        routes: list[Route],
        overflow: Overflow | None,
    ) -> None:
        self._path = routes[0].path
        self._house, self._overflow = house, overflow
        self._seen, self._journal = seen, journal
        self._learned: set[str] = set()
        self._routes = {route.method: route for route in routes}
        limits = house.rate_limits
        self._quotas = {route.method: Quota(limits, route.limited) for route in routes}
        self._strangers = Quota(limits, "global")
        self._allow = ", ".join(sorted(self._routes)).encode()
        self._decoders = {
            route.method: msgspec.json.Decoder(route.body)
            for route in routes
            if route.body and route.body is not bytes
        }

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, params: dict[str, str]
    ) -> None:
        began = monotonic()
        call = Call(self._house, scope, receive, params)
        tracing = self._house.executor.tracing
        entered = call.enter(tracing) if tracing is not None else None
        named = str(call.request_id)
        headers = [(b"content-type", b"application/json"), (b"x-request-id", named.encode())]
        method: str = scope["method"]  # type: ignore[typeddict-item]
        body: bytes | AsyncIterator[bytes]
        refused: Exception | None = None
        try:
            route = self._routes.get(method)
            if route is None:
                headers.append((b"allow", self._allow))
                raise MethodNotAllowed()
            await self._admit(route, call, headers)
            status = route.status
            if route.command is not None:
                body, replayed = await self._write(route, call)
                headers += DATA
                if replayed:
                    headers.append((b"idempotency-replayed", b"true"))
            else:
                read = await self._read(route, call)
                if isinstance(read, Raw):
                    body, status = read.body, read.status or status
                    headers[0] = (b"content-type", read.content_type.encode())
                    headers += completed(read.headers)
                else:
                    body = read
                    headers += DATA
        except (Exception, asyncio.CancelledError) as error:
            refused = self._refusal(call, error)
            status, body, more = problem(refused, named)
            headers[0] = (b"content-type", PROBLEM)
            headers += DATA
            headers += more
        if not isinstance(body, bytes):
            try:
                await answer(send, status, headers, body)
            except (Exception, asyncio.CancelledError) as error:
                # The rest is left out, and with it the end: the caller sees that something is
                # missing. It is counted as what it would have been, had nothing been sent.
                refused = self._refusal(call, error)
                status, _, _ = problem(refused, named)
        seconds = monotonic() - began
        self._seen.request(method, self._path, status, seconds, refused)
        self._journal.request(call, self._path, status, seconds, refused)
        if tracing is not None and entered is not None:
            known = method if method in METHODS else NO_METHOD
            tracing.answered(entered, known, self._path, status, began, refused)
        if isinstance(body, bytes):
            await answer(send, status, headers, body)

    def _refusal(self, call: Call, error: BaseException) -> Exception:
        """What a request came to that was not done; what is no refusal is logged."""
        refused = error if isinstance(error, Exception) else _cut_short(call)
        if not isinstance(refused, StrongroomError):
            request_id = str(call.request_id)
            log.error("bug", request_id=request_id, path=self._path, exc_info=refused)
        return refused

    async def _admit(self, route: Route, call: Call, headers: Headers) -> None:
        """Who it is, whether they may, how often, and what they ask; nothing of the body yet.
        Each counts for itself, who is not known for its address."""
        _check_headers(call.scope, call.headers)
        quota = self._quotas[route.method]
        offered = b"authorization" in call.headers
        if route.role != "anyone" and (offered or route.role != "public"):
            call.principal = await self._principal(route, call, headers)
            quota.take(call.principal.user_id, headers)
            if route.role == "operator" and call.principal.role != "operator":
                raise OperatorOnly()
        else:
            quota.take(network(call.client), headers)
        query: bytes = call.scope["query_string"]
        if query:
            call.query = _query(query, route.query)

    async def _principal(self, route: Route, call: Call, headers: Headers) -> Principal:
        identity = self._house.identity
        limited = route.limited != "never"
        try:
            scheme, _, token = call.headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not token:
                raise Unauthenticated()
            text = token.decode("latin-1")
            principal = identity.authenticate_now(text)
            if principal is None:
                if limited:  # whoever only guesses does not get as far as the database
                    self._strangers.take(network(call.client), headers, count=False)
                principal = await identity.authenticate(text)
            return principal
        except Unauthenticated:
            if limited:
                self._strangers.take(network(call.client), headers)
            raise

    async def _body(self, route: Route, call: Call) -> Any:
        if route.body is None:
            return None
        raw = await bodies.read(call.receive, call.headers, route.limit)
        if route.body is bytes:
            return raw
        if route.steps and not raw.strip():
            return route.body()
        return bodies.decode(raw, call.headers, self._decoders[route.method])

    async def _write(self, route: Route, call: Call) -> tuple[bytes, bool]:
        key = call.headers.get(b"idempotency-key")
        if key is None and not route.keyless:
            raise IdempotencyKeyMissing()
        if key is not None and not KEY(key):
            raise IdempotencyKeyInvalid()
        call.body = await self._body(route, call)
        assert route.command is not None
        asked = route.command(call)
        command: Command = (await asked) if isinstance(asked, CoroutineType) else asked  # type: ignore[assignment]
        if self._overflow and route.method not in self._learned:
            self._learned.add(route.method)
            if route.limited != "never":  # the kill switch does not queue behind a crowd
                self._overflow.learn(route.method, self._path, type(command))
        ticket = Ticket(
            command,
            principal=call.principal.name if call.principal else NOBODY,
            key=None if key is None else key.decode(),
            path=path_of(call.scope),
            deadline=monotonic() + self._house.settings.write_deadline_ms / 1000,
            request=call.request_id,
            # Neither a setting nor a header makes it another request.
            body=msgspec.json.encode(call.body),
            origins=call.origins,
        )
        call.command = type(command)
        outcome = await self._house.lanes.run(ticket)
        outcome.check()
        call.replayed = outcome.replayed
        return outcome.body, outcome.replayed

    async def _read(self, route: Route, call: Call) -> bytes | Raw:
        call.body = await self._body(route, call)
        assert route.read is not None
        answer = await route.read(call)
        if answer is None or isinstance(answer, Raw):
            return answer or b""
        return msgspec.json.encode(answer)


def path_of(scope: Scope) -> str:
    """The path as it was asked for, byte for byte: it scopes the idempotency key."""
    return scope["raw_path"].decode("latin-1").partition("?")[0]


def table(
    house: Strongroom, seen: Seen, routes: Routes, overflow: Overflow | None = None
) -> ASGIApp:
    """All paths of the table as one application: literal ones by name, the others by shape.
    `overflow` learns from it whose commands come from where."""
    seen.learn(routes)
    journal = Journal(house.settings)
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    literal: dict[str, Door] = {}
    shaped: list[tuple[re.Pattern[str], Door]] = []
    for path, at in by_path.items():
        door = Door(house, seen, journal, at, overflow)
        if "{" in path:
            shaped.append((re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), door))
        else:
            literal[path] = door

    async def through(scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        door = literal.get(path)
        if door is not None:
            await door(scope, receive, send, {})
            return
        for pattern, door in shaped:
            match = pattern.fullmatch(path)
            if match:
                await door(scope, receive, send, match.groupdict())
                return
        nowhere, request_id = NoSuchPath(), str(uuid7())
        status, body, _ = problem(nowhere, request_id)
        seen.request(scope["method"], None, status, 0.0, nowhere)  # type: ignore[typeddict-item]
        headers = [(b"content-type", PROBLEM), (b"x-request-id", request_id.encode()), *DATA]
        await answer(send, status, headers, body)

    return through
