"""The API as one ASGI application: the routes' table, health, metrics, the reference."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request, Response, asgi
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from strongroom.core.db.schema import newest
from strongroom.doors.http import openapi
from strongroom.doors.http.betting_routes import BETTING
from strongroom.doors.http.money_routes import MONEY
from strongroom.doors.http.ops_routes import OPS
from strongroom.doors.http.orders_routes import ORDERS
from strongroom.doors.http.overflow import Overflow
from strongroom.doors.http.payment_routes import PAYMENTS
from strongroom.doors.http.policies import (
    DATA,
    OPENER,
    Header,
    completed,
    page_policy,
    style_of,
)
from strongroom.doors.http.problems import MethodNotAllowed, UnreadableRequest, problem
from strongroom.doors.http.routing import NoSuchPath, Routes, answer, table
from strongroom.doors.http.seen import Seen
from strongroom.doors.http.ticketing_routes import TICKETING
from strongroom.doors.http.user_routes import USERS
from strongroom.doors.metrics import Metrics
from strongroom.errors import StrongroomError
from strongroom.ids import uuid7
from strongroom.main import Strongroom

ROUTES: Routes = [*USERS, *MONEY, *BETTING, *TICKETING, *ORDERS, *PAYMENTS, *OPS]

log = structlog.get_logger(__name__)

IN_THE_TABLE = ("/api/", "/pay/")
"""Where paths of the table begin."""

READY_S = 0.25
"""A pool that cannot lend a connection within this is saturated or cut off."""


def application(house: Strongroom, seen: Seen, overflow: Overflow, metrics: Metrics) -> ASGIApp:
    """The ASGI application of a house, which opens and closes with its lifespan.

    The table stands before Litestar: passing through the framework's router and middleware cost a
    fifth of a request, and the table needs neither. All else goes to Litestar.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with house, metrics:
            yield

    api = table(house, seen, ROUTES, overflow)
    elsewhere = _elsewhere(seen)
    others = Litestar(
        route_handlers=_plain(house, metrics),
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: elsewhere, HTTPException: elsewhere},
    )

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(IN_THE_TABLE):
            await api(scope, receive, send)
        else:
            await others(scope, receive, send)

    return front


def _plain(house: Strongroom, told: Metrics) -> list[ASGIRouteHandler]:
    """What is asked without a token: health, metrics, the reference."""
    needed = newest()
    described = openapi.document(ROUTES)
    as_json = msgspec.json.encode(described)
    as_page = openapi.page(described)
    of_page = tuple(completed((page_policy(style_of(as_page)), OPENER)))

    async def healthz() -> tuple[int, bytes]:
        return 200, b'{"status":"ok"}'

    async def readyz() -> tuple[int, bytes]:
        stands = await house.readiness(READY_S, needed)
        return 200 if stands["status"] == "ready" else 503, msgspec.json.encode(stands)

    async def metrics() -> tuple[int, bytes]:
        return 200, await told.text()

    async def schema() -> tuple[int, bytes]:
        return 200, as_json

    async def reference() -> tuple[int, bytes]:
        return 200, as_page

    return [
        _page("/healthz", b"application/json", healthz),
        _page("/readyz", b"application/json", readyz),
        _page("/metrics", b"text/plain; version=0.0.4; charset=utf-8", metrics),
        _page("/schema/openapi.json", b"application/vnd.oai.openapi+json", schema),
        _page("/schema", b"text/html; charset=utf-8", reference, of_page),
    ]


def _page(
    path: str,
    media: bytes,
    show: Callable[[], Awaitable[tuple[int, bytes]]],
    policies: Sequence[Header] = DATA,
) -> ASGIRouteHandler:
    """A page that takes GET and nothing else."""

    async def through(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":  # type: ignore[typeddict-item]
            raise MethodNotAllowed()
        status, body = await show()
        headers = [(b"content-type", media), (b"x-request-id", str(uuid7()).encode()), *policies]
        await answer(send, status, headers, body)

    return asgi(path, is_mount=False, copy_scope=False)(through)


def _elsewhere(seen: Seen) -> Callable[[Request[Any, Any, Any], Exception], Response[bytes]]:
    """Errors outside the table: unknown paths, unreadable requests, bugs."""

    def answered(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        request_id = str(uuid7())
        status = getattr(error, "status_code", 500)
        if status == 404:
            error = NoSuchPath()
        elif 400 <= status < 500:
            error = UnreadableRequest()
        elif not isinstance(error, StrongroomError):
            log.error("bug", request_id=request_id, exc_info=error)
        code, body, more = problem(error, request_id)
        seen.request(request.method, None, code, 0.0, error)
        if isinstance(error, MethodNotAllowed):
            more.append((b"allow", b"GET"))
        headers = {name.decode(): value.decode() for name, value in (*DATA, *more)}
        return Response(
            body,
            status_code=code,
            media_type="application/problem+json",
            headers={**headers, "x-request-id": request_id},
        )

    return answered


__all__ = ["ROUTES", "application"]
